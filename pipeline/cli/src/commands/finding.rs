//! `lynxdata finding`: tests the findings of Lynx's paper on a compact model, with error bars.

use clap::Args;
use lynxdata_burn_model::DeviceName;
use lynxdata_run::finding::{Test, test};

use super::{print, print_json};
use crate::exit::{DONE, Failure};
use crate::host::Terminal;

/// Test a finding of Lynx's paper on a compact model, with its interval beside the paper's
///
/// Trains both sides on rendered drawings with exact captions. Each replicate has another seed and
/// draws the training and held-out drawings again, with replacement; the interval comes from these
/// draws. The metric is the visual gain: how many bits per byte of held-out text the right image
/// saves compared with wrong images. What a model with half a million weights finds on drawings
/// need not hold for one with eight billion on photographs, and what the paper found in one
/// training per side may be chance: three of these four differences are within its own noise. Both
/// results are printed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata finding prefix-vs-cross-attention
  lynxdata finding clean-vs-noisy --replicates 12 --json
  lynxdata finding prompts
  lynxdata finding resolution --set steps=4000")]
pub(crate) struct Arguments {
    /// The finding: prefix-vs-cross-attention, clean-vs-noisy, prompts or resolution
    name: String,

    /// Number of replicates; each draws the data again and has its own training seed
    #[arg(long, value_name = "N", default_value_t = 8)]
    replicates: usize,

    /// Number of drawings, of which a fifth is held out
    #[arg(long, value_name = "N", default_value_t = 4000)]
    drawings: usize,

    /// Seed of the drawings and of all draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// The device to train on: auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceName::Auto)]
    device: DeviceName,

    /// Override a setting of the training, as in --set steps=400; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let request = Test {
        finding: arguments.name.clone(),
        replicates: arguments.replicates,
        drawings: arguments.drawings,
        seed: arguments.seed,
        device: arguments.device.clone(),
        sets: arguments.sets.clone(),
    };
    let tested = test(&request, &Terminal)?;
    if arguments.json {
        print_json(&tested)?;
    } else {
        print(&format!("{}\n", tested.sentence))?;
    }
    Ok(DONE)
}
