//! This program as the host of runs: it shows progress bars or log lines, removes unfinished files
//! on Ctrl-C, and examines devices in a separate process.

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
        let program = std::env::current_exe().context("cannot find the path of this program")?;
        let output = Command::new(program)
            .args(["--quiet", "doctor", "--here", "--device", &device.to_string()])
            .stdin(Stdio::null())
            .output()
            .context("cannot start the process that examines the device")?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let last = told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed no error");
            return Err(anyhow!("{last}").context(format!("the examination of {device} ended with {}", output.status)));
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the examination of {device} returned no valid result"))
    }
}

/// Returns whether progress bars are shown: only on a terminal, and not if `CI`, `NO_COLOR` or
/// `LYNXDATA_NO_PROGRESS` is set.
fn shows_bars() -> bool {
    let unwanted = ["CI", "NO_COLOR", "LYNXDATA_NO_PROGRESS"].iter().any(|name| std::env::var_os(name).is_some());
    io::stderr().is_terminal() && !unwanted
}
