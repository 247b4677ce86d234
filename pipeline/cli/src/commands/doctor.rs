//! `lynxdata doctor`: whether the devices of this machine compute what they should.

use anyhow::Context as _;
use clap::Args;
use lynxdata_burn_model::doctor::examine;
use lynxdata_burn_model::{DeviceName, backends, devices};
use serde::Serialize;

use super::{columns, print, print_json};
use lynxdata_run::Host as _;

use crate::exit::{DONE, FAILED, Failure};
use crate::host::Terminal;

/// Tell for each device whether training on it gives right numbers
///
/// A small model of each fusion (prefix and cross-attention) must have the outputs, the gradients
/// and the losses of four steps of AdamW that PyTorch has, and three steps of the compact Lynx must
/// end with losses that are numbers. Each device is examined in a process of its own, since drivers
/// may end it. A check refuses a device that fails. The exit code is 1 if one fails.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata doctor                         every device of this build that is no software
  lynxdata doctor --device cuda:0
  lynxdata doctor --device wgpu:software:0
  lynxdata doctor --json | jq '.devices[] | select(.pass | not)'")]
pub(crate) struct Arguments {
    /// One device: auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N, with KIND one of discrete,
    /// integrated, virtual, software
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,

    /// As one JSON object
    #[arg(long)]
    json: bool,

    /// Examines in this process
    #[arg(long, hide = true, requires = "device")]
    here: bool,
}

/// One device in the answer.
#[derive(Serialize)]
struct Entry {
    name: DeviceName,
    backend: &'static str,
    kind: &'static str,
    pass: bool,
    /// The largest difference of the outputs from PyTorch's.
    max_abs_diff: Option<f32>,
    /// The largest difference of a gradient, relative to the largest number in its tensor.
    max_gradient_diff: Option<f32>,
    /// The largest difference of the losses of four steps.
    max_loss_diff: Option<f32>,
    step_ms: Option<f64>,
    /// The reason why there are no numbers.
    error: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if let (Some(device), true) = (&arguments.device, arguments.here) {
        print_json(&examine(device).context("the examination broke off")?)?;
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
    Ok(if entries.iter().all(|entry| entry.pass) { DONE } else { FAILED })
}

fn entry(name: DeviceName) -> Entry {
    let (backend, kind) = (name.backend(), name.kind());
    match Terminal.examine(&name) {
        Ok(found) => Entry {
            name,
            backend,
            kind,
            pass: found.pass,
            max_abs_diff: Some(found.found.forward),
            max_gradient_diff: Some(found.found.gradients),
            max_loss_diff: Some(found.found.losses),
            step_ms: Some(found.step_ms),
            error: None,
        },
        Err(error) => Entry {
            name,
            backend,
            kind,
            pass: false,
            max_abs_diff: None,
            max_gradient_diff: None,
            max_loss_diff: None,
            step_ms: None,
            error: Some(format!("{error:#}")),
        },
    }
}

fn table(entries: &[Entry]) -> String {
    let header =
        ["device", "backend", "kind", "result", "outputs off by", "gradients off by", "losses off by", "ms a step"];
    let number = |value: Option<f32>| value.map_or("–".to_owned(), |value| format!("{value:.1e}"));
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.name.to_string(),
                entry.backend.to_owned(),
                entry.kind.to_owned(),
                if entry.pass { "pass" } else { "fail" }.to_owned(),
                number(entry.max_abs_diff),
                number(entry.max_gradient_diff),
                number(entry.max_loss_diff),
                entry.step_ms.map_or("–".to_owned(), |ms| format!("{ms:.1}")),
            ]
        })
        .collect();
    columns(&header, &rows, &[4, 5, 6, 7])
}
