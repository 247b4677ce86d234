//! This program as the host of runs: bars or log lines, unfinished files removed on Ctrl-C, devices
//! examined in a process of their own.

use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use lynxdata_burn_model::DeviceName;
use lynxdata_burn_model::doctor::Examination;
use lynxdata_records::RunFolder;
use lynxdata_run::{Host, StageProgress};

use crate::interrupt;
use crate::progress::StageBar;

/// The terminal or the log of this process.
pub(crate) struct Terminal;

impl Host for Terminal {
    fn opened(&self, run: &Arc<RunFolder>) {
        interrupt::clean_up_in(run);
    }

    fn stage(&self, name: &'static str, parts: Option<u64>) -> Arc<dyn StageProgress> {
        Arc::new(StageBar::new(name, parts, shows_bars()))
    }

    fn examine(&self, device: &DeviceName) -> Result<Examination> {
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let output = Command::new(program)
            .args(["--quiet", "doctor", "--here", "--device", &device.to_string()])
            .stdin(Stdio::null())
            .output()
            .context("cannot start a process for the examination")?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(anyhow!("{last}").context(format!("the examination of {device} ended with {}", output.status)));
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("the examination of {device} has no result"))
    }
}

/// Returns whether somebody watches a terminal. `CI` and `NO_COLOR` are set where nobody watches or
/// wants control characters.
fn shows_bars() -> bool {
    let unwanted = ["CI", "NO_COLOR", "LYNXDATA_NO_PROGRESS"].iter().any(|name| std::env::var_os(name).is_some());
    io::stderr().is_terminal() && !unwanted
}
