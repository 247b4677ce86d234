//! Prints what a training step of a compact Lynx with a pretrained, frozen decoder costs.
//!
//! `cargo run -p lynxdata-burn-model --example pretrained FILE [BATCH]`, where FILE is what
//! `weights::Pretrained` opens, such as SmolLM2-135M-Instruct.Q4_1.gguf. One thread, images of
//! 256 features as 8 vision tokens, 24 text tokens, an adapter after every second layer, no
//! optimizer.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};
use lynxdata_burn_model::model::Layout;
use lynxdata_burn_model::weights::{self, Pretrained};
use lynxdata_burn_model::{ModelConfig, Part, freeze};

/// Result of a function that runs on another thread.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const FEATURES: usize = 256;
const TOKENS: usize = 24;
const STEPS: usize = 3;

/// Returns the user and system time of the process in seconds, from Linux's process table, whose
/// ticks are 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the name in parentheses; the name may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Returns the peak memory of the process, in GB.
fn peak_gigabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) * 1024.0 / 1e9
}

fn main() -> Result<()> {
    let file = std::env::args().nth(1).ok_or("usage: pretrained FILE [BATCH]")?;
    let batch = std::env::args().nth(2).map_or(Ok(8), |argument| argument.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| steps(&file, batch))
}

fn steps(file: &str, batch: usize) -> Result<()> {
    let device = Device::flex().autodiff();
    let begun = cpu_seconds();
    let pretrained = Pretrained::open(file.as_ref())?;
    let vocabulary = pretrained.vocabulary().ok_or("the file has no decoder")?;
    let tokenizer = pretrained.tokenizer()?;
    let mut config = ModelConfig::default();
    pretrained.configure(Part::Decoder, &mut config)?;
    let opened = cpu_seconds();
    let parts = [(&pretrained, Part::Decoder)];
    let (model, reports) = weights::build(&parts, &config, vocabulary, FEATURES, 0, &device)?;
    let model = freeze(model, &|part| part == Part::Decoder);
    println!(
        "{} of {} weights are pretrained, {} tensors not used, {} tokens",
        reports[0].numbers,
        model.num_params(),
        reports[0].unused.len(),
        tokenizer.map_or(0, |tokenizer| tokenizer.vocabulary())
    );
    println!("opened in {:.2} CPU-s, built and loaded in {:.2} CPU-s", opened - begun, cpu_seconds() - opened);

    let plain = device.clone().inner();
    let layout = Layout::causal(&config, config.prefix_tokens() + TOKENS, &plain);
    let count = batch * TOKENS;
    let number = |place: usize| (place * 7919 % vocabulary) as i64;
    let ids = (0..count).map(number).collect::<Vec<i64>>();
    let targets = (1..=count).map(number).collect::<Vec<i64>>();
    for step in 1..=STEPS {
        let begun = (Instant::now(), cpu_seconds());
        let pictures = Tensor::<3>::ones([batch, 1, FEATURES], &plain);
        let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids.clone(), [batch, TOKENS]), &plain);
        let targets: Tensor<2, Int> = Tensor::from_data(TensorData::new(targets.clone(), [count, 1]), &plain);
        let logits = model.logits(&model.vision_tokens(pictures), ids, &layout).reshape([count, vocabulary]);
        let loss = log_softmax(logits, 1).gather(1, targets).mean().neg();
        let forward = cpu_seconds() - begun.1;
        let gradients = loss.backward();
        drop(gradients);
        println!(
            "step {step} of {batch} x {TOKENS} tokens: {:.2} s, {:.2} CPU-s, of them {forward:.2} forward",
            begun.0.elapsed().as_secs_f64(),
            cpu_seconds() - begun.1,
        );
    }
    println!("peak memory: {:.2} GB", peak_gigabytes());
    Ok(())
}
