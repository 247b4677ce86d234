//! Prints what one training step of the default check costs: wall time and CPU time.
//!
//! `cargo run -p lynxdata-burn-model --example step_time [STEPS [CAPTION_TOKENS]]`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use lynxdata_burn_model::{ModelConfig, Pair, RunSpec, TokenizerConfig, TrainConfig, run, train_tokenizer};
/// User and system time of the process, from Linux's process table, in its ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the name in parentheses; the name may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steps = std::env::args().nth(1).map_or(Ok(40), |argument| argument.parse())?;
    let model = ModelConfig::default();
    let tokens = std::env::args().nth(2).map_or(Ok(24), |argument| argument.parse())?;
    let train = TrainConfig { steps, max_caption_tokens: tokens, ..Default::default() };
    let words = ["a", "small", "red", "dog", "runs", "over", "green", "grass", "near", "the", "old", "house", "today"];
    let pair = |i: usize| {
        let caption: Vec<&str> =
            (0..8 + i % 9).map(|word| words[(i * 7 + word * word + i / 13) % words.len()]).collect();
        let pixels = (0..model.pixel_bytes()).map(|byte| ((byte * 31 + i * 97) % 251) as u8).collect();
        Pair { pixels, caption: caption.join(" ") }
    };
    let pairs: Vec<Pair> = (0..1024).map(pair).collect();
    let texts: Vec<&str> = pairs.iter().map(|pair| pair.caption.as_str()).collect();
    let (arm, held_out) = pairs.split_at(768);
    // Made-up words fill 1,024 tokens too seldom to matter for time, so the vocabulary is as large as it gets.
    let tokenizer = train_tokenizer(&texts, &TokenizerConfig::default())?;
    let spec =
        RunSpec { model: &model, train: &train, tokenizer: &tokenizer, arm, held_out, seed: 0, checkpoint: None };
    let mut stamps = Vec::with_capacity(steps);
    let result = run(&spec, &mut |_step, _loss| stamps.push((Instant::now(), cpu_seconds())))?;
    let end = (Instant::now(), cpu_seconds());
    // The first steps touch memory for the first time.
    let (first, last) = (stamps.get(4).ok_or("six steps at least are needed")?, stamps[stamps.len() - 1]);
    let counted = (stamps.len() - 5) as f64;
    let mut walls: Vec<f64> = stamps[4..].windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64() * 1e3).collect();
    walls.sort_by(f64::total_cmp);
    println!("{} weights, {} tokens, batch {}", result.weights, tokenizer.vocabulary(), train.batch);
    println!("step: {:.1} ms median, {:.1} ms least", walls[walls.len() / 2], walls[0]);
    println!("step: {:.4} CPU-s", (last.1 - first.1) / counted);
    println!("evaluation of {} pairs: {:.2} CPU-s", result.held_out_pairs, end.1 - last.1);
    println!("{:.1} target tokens per pair", result.tokens_seen as f64 / result.samples_seen as f64);
    Ok(())
}
