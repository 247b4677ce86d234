//! Whether a device computes what the reference implementation computes.
//!
//! Drivers and backends of GPUs have bugs that give wrong numbers without an error (burn#5079,
//! #4366), so a device is examined before it trains, in every precision that it supports. For a
//! small model of each fusion, the outputs, the gradients and the losses of four steps of AdamW are
//! compared with those of PyTorch in 32-bit floats. Three steps of the compact Lynx must have
//! finite losses.

mod golden;

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub(crate) use golden::Golden;
#[cfg(test)]
pub(crate) use golden::{furthest, values};

use crate::data::{Example, Pictures};
use crate::device::DeviceName;
use crate::error::Result;
use crate::model::{Fusion, ModelConfig};
use crate::precision::Precision;
use crate::run::{RunSpec, run};
use crate::tokenizer::{TokenizerConfig, train_tokenizer};
use crate::train::TrainConfig;

/// The maximum allowed, or found, differences between a device and the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Difference of outputs, absolute; they are about 1.
    pub forward: f32,
    /// Difference of gradients, relative to the largest number in their tensor.
    pub gradients: f32,
    /// Difference of the losses before each of four steps, nats per token.
    pub losses: f32,
}

impl Tolerance {
    /// Returns the tolerance of a device in a precision.
    ///
    /// The tolerances of bf16 are about three times the differences found on the processor. Those
    /// of f16, whose mantissa has three bits more, are a fifth of those of bf16. They also hold for
    /// 32-bit floats on CUDA, whose matrix products have mantissas of 10 bits (TF32), as f16 has.
    /// Gradients have the widest tolerance: the gradient of a gate is one number, a sum of many
    /// that nearly cancel.
    pub fn of(device: &DeviceName, precision: Precision) -> Self {
        match (precision, device) {
            (Precision::F16, _) | (Precision::F32, DeviceName::Cuda(_)) => {
                Self { forward: 4e-3, gradients: 1e-1, losses: 4e-4 }
            }
            (Precision::F32, _) => Self { forward: 1e-5, gradients: 1e-4, losses: 1e-4 },
            (Precision::Bf16, _) => Self { forward: 2e-2, gradients: 5e-1, losses: 2e-3 },
        }
    }
}

/// The result of the examination of one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examination {
    /// The device.
    pub device: DeviceName,
    /// Results in every precision that it supports, 32 bits first.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Returns what was found in a precision; `None` if the device does not support it.
    pub fn of(&self, precision: Precision) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.precision == precision)
    }
}

/// The result in one precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The precision.
    pub precision: Precision,
    /// Whether all differences are within the tolerance and all losses are numbers.
    pub pass: bool,
    /// The allowed differences.
    pub tolerance: Tolerance,
    /// The maximum differences over both fusions, in the units of the tolerance.
    pub found: Tolerance,
    /// The weight whose gradient has the largest difference.
    pub furthest_gradient: String,
    /// Nats per token of three steps of the compact Lynx.
    pub step_losses: Vec<f64>,
    /// Duration of the third step in milliseconds. The first two also compile kernels.
    pub step_ms: f64,
}

/// Examines a device. A driver may crash the process, so call this in a separate process.
///
/// # Errors
///
/// [`crate::Error::NoDevice`] if the device is not available. Wrong numbers are not an error:
/// `pass` is false then.
pub fn examine(device: &DeviceName) -> Result<Examination> {
    let name = device.resolve()?;
    let supported = Precision::supported_by(&name.open()?);
    let findings = supported.into_iter().map(|precision| examine_in(precision, &name));
    Ok(Examination { findings: findings.collect::<Result<_>>()?, device: name })
}

fn examine_in(precision: Precision, name: &DeviceName) -> Result<Finding> {
    let plain = name.open()?;
    let training = plain.clone().autodiff();
    let tolerance = Tolerance::of(name, precision);
    let mut found = Tolerance { forward: 0.0, gradients: 0.0, losses: 0.0 };
    let mut furthest_gradient = String::new();
    for fusion in [Fusion::Prefix, Fusion::CrossAttention] {
        let golden = Golden::of(fusion);
        found.forward = found.forward.max(golden.forward_difference(precision, &plain));
        let (gradients, weight) = golden.gradient_difference(precision, &training);
        if gradients > found.gradients || furthest_gradient.is_empty() {
            (found.gradients, furthest_gradient) = (gradients, weight);
        }
        found.losses = found.losses.max(golden.loss_difference(precision, &training));
    }
    let (step_losses, step_ms) = three_steps(precision, name)?;
    let pass = found.forward <= tolerance.forward
        && found.gradients <= tolerance.gradients
        && found.losses <= tolerance.losses
        && step_losses.iter().all(|loss| loss.is_finite());
    Ok(Finding { precision, pass, tolerance, found, furthest_gradient, step_losses, step_ms })
}

/// Returns the losses of three steps of the default model on made-up pairs, and the milliseconds of
/// the third.
fn three_steps(precision: Precision, device: &DeviceName) -> Result<(Vec<f64>, f64)> {
    const PAIRS: usize = 32;
    let words = ["red", "green", "blue", "round", "square"];
    let text = |pair: usize| format!("a {} {} thing", words[pair % 3], words[3 + pair % 2]);
    let texts: Vec<String> = (0..PAIRS).map(text).collect();
    let examples: Vec<Example> = (0..).zip(&texts).map(|(picture, text)| Example::caption(picture, text)).collect();
    let width = 8;
    let values = (0..PAIRS * width).map(|place| ((place * 7 + place / width) % 5) as f32 - 2.0).collect();
    let train = TrainConfig { steps: 3, log_every: 1, precision, ..Default::default() };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (mut losses, mut ends) = (Vec::new(), Vec::new());
    let spec = RunSpec {
        model: &ModelConfig::default(),
        train: &train,
        tokenizer: &train_tokenizer(&texts, &TokenizerConfig::default())?,
        pictures: &Pictures::Features { width, values },
        arm: &examples[..PAIRS - 2],
        copies: &[1; PAIRS - 2],
        held_out: &examples[PAIRS - 2..],
        seed: 1,
        pretrained: &[],
        start: None,
        checkpoint: None,
        device,
    };
    run(&spec, &mut |_, loss| {
        losses.push(loss);
        ends.push(Instant::now());
    })?;
    let step_ms = ends[ends.len() - 1].duration_since(ends[ends.len() - 2]).as_secs_f64() * 1e3;
    Ok((losses, step_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processor, and the device that `LYNXDATA_DEVICE` names: with the feature `wgpu` also a
    /// software GPU, see `.ci/wgpu`.
    #[test]
    fn devices_compute_what_the_reference_computes() {
        let named = std::env::var("LYNXDATA_DEVICE").map(|name| name.parse().unwrap());
        for device in [DeviceName::Cpu].into_iter().chain(named) {
            let examination = examine(&device).unwrap();
            assert_eq!(examination.findings[0].precision, Precision::F32);
            for found in &examination.findings {
                assert!(found.pass, "{found:#?}");
                assert!(found.step_losses[2] < found.step_losses[0], "{found:#?}");
            }
        }
    }
}
