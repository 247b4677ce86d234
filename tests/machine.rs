//! What not every machine has: the large real data and a Python with packages. Tests of several
//! crates read this file.
//!
//! A test that lacks one of them ends without doing anything and says SKIPPED, which `.ci/run`
//! counts. Where a variable is set and what it names is missing, the test fails.

#![allow(dead_code, reason = "a crate that needs one of them needs not the other")]

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

/// Writes a video with ffmpeg, from a source of its filters; returns whether the program is there.
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

/// Returns the value of an environment variable; if it is unset, says that the test does nothing.
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
    // Not by `eprintln!`, whose lines the test runner keeps to itself where a test passes. If
    // standard error is gone there is nobody to tell.
    std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
}
