//! `lynxdata doctor`: checks that the devices of this machine compute correctly.

use anyhow::Context as _;
use clap::Args;
use lynxdata_burn_model::doctor::{Finding, examine};
use lynxdata_burn_model::{DeviceName, Precision, backends, devices};
use serde::Serialize;

use super::{columns, print, print_json};
use lynxdata_run::Host as _;

use crate::exit::{DONE, FAILED, Failure};
use crate::host::Terminal;

/// Check for each device whether training on it computes correct numbers
///
/// A small model of each fusion (prefix and cross-attention) must reproduce PyTorch's outputs,
/// gradients and losses of four steps of AdamW. Three steps of the compact Lynx must end with
/// finite losses. Both are checked in 32-bit floats, and with wider tolerances in each 16-bit
/// precision that the device supports. Each device is examined in a separate process, because a
/// driver may crash it. A training refuses a device that fails in the precision of the training.
/// The exit code is 1 if a device fails in any precision.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata doctor                         every device of this build but software renderers
  lynxdata doctor --device cuda:0
  lynxdata doctor --device wgpu:software:0
  lynxdata doctor --json | jq '.devices[] | select(.pass | not)'")]
pub(crate) struct Arguments {
    /// Only this device: auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N, where KIND is discrete,
    /// integrated, virtual or software
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Examine in this process
    #[arg(long, hide = true, requires = "device")]
    here: bool,
}

/// One device of the output. Its own numbers are those of 32-bit floats.
#[derive(Serialize)]
struct Entry {
    name: DeviceName,
    backend: &'static str,
    kind: &'static str,
    pass: bool,
    /// Maximum difference of the outputs from those of PyTorch.
    max_abs_diff: Option<f32>,
    /// Maximum difference of a gradient, relative to the largest number in its tensor.
    max_gradient_diff: Option<f32>,
    /// Maximum difference of the losses of four steps.
    max_loss_diff: Option<f32>,
    step_ms: Option<f64>,
    /// The numbers of every precision that the device supports.
    precisions: Vec<Numbers>,
    /// The reason why there are no numbers.
    error: Option<String>,
}

/// The result in one precision.
#[derive(Serialize)]
struct Numbers {
    precision: Precision,
    pass: bool,
    max_abs_diff: f32,
    max_gradient_diff: f32,
    max_loss_diff: f32,
    step_ms: f64,
}

impl Entry {
    fn passes(&self) -> bool {
        self.pass && self.precisions.iter().all(|numbers| numbers.pass)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if let (Some(device), true) = (&arguments.device, arguments.here) {
        print_json(&examine(device).context("the examination failed")?)?;
        return Ok(DONE);
    }
    let chosen = match &arguments.device {
        Some(device) => {
            vec![device.resolve().map_err(|error| Failure::Usage(error.into()))?]
        }
        None => devices().into_iter().filter(|device| device.is_gpu() || *device == DeviceName::Cpu).collect(),
    };
    let entries: Vec<Entry> = chosen.into_iter().map(entry).collect();
    if arguments.json {
        print_json(&serde_json::json!({"backends": backends(), "devices": entries}))?;
    } else {
        print(&table(&entries))?;
        for entry in &entries {
            if let Some(error) = &entry.error {
                print(&format!("{}: {error}\n", entry.name))?;
            }
        }
    }
    Ok(if entries.iter().all(Entry::passes) { DONE } else { FAILED })
}

fn entry(name: DeviceName) -> Entry {
    let (backend, kind) = (name.backend(), name.kind());
    let (findings, error) = match Terminal.examine(&name) {
        Ok(examination) => (examination.findings, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let full = findings.iter().find(|finding| finding.precision == Precision::F32);
    let numbers = |finding: &Finding| Numbers {
        precision: finding.precision,
        pass: finding.pass,
        max_abs_diff: finding.found.forward,
        max_gradient_diff: finding.found.gradients,
        max_loss_diff: finding.found.losses,
        step_ms: finding.step_ms,
    };
    Entry {
        name,
        backend,
        kind,
        pass: full.is_some_and(|finding| finding.pass),
        max_abs_diff: full.map(|finding| finding.found.forward),
        max_gradient_diff: full.map(|finding| finding.found.gradients),
        max_loss_diff: full.map(|finding| finding.found.losses),
        step_ms: full.map(|finding| finding.step_ms),
        precisions: findings.iter().map(numbers).collect(),
        error,
    }
}

fn table(entries: &[Entry]) -> String {
    let header = [
        "device",
        "backend",
        "kind",
        "precision",
        "result",
        "outputs off by",
        "gradients off by",
        "losses off by",
        "ms a step",
    ];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for entry in entries {
        let device = || vec![entry.name.to_string(), entry.backend.to_owned(), entry.kind.to_owned()];
        if entry.precisions.is_empty() {
            rows.push(device().into_iter().chain(["–", "fail", "–", "–", "–", "–"].map(str::to_owned)).collect());
        }
        for numbers in &entry.precisions {
            let differences = [numbers.max_abs_diff, numbers.max_gradient_diff, numbers.max_loss_diff];
            let mut row = device();
            row.push(numbers.precision.to_string());
            row.push(if numbers.pass { "pass" } else { "fail" }.to_owned());
            row.extend(differences.map(|difference| format!("{difference:.1e}")));
            row.push(format!("{:.1}", numbers.step_ms));
            rows.push(row);
        }
    }
    columns(&header, &rows, &[5, 6, 7, 8])
}
