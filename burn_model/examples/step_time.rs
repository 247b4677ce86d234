//! Prints what one training step of the default check costs: wall time and CPU time.
//!
//! `cargo run -p lynxdata-burn-model --example step_time [STEPS [features|pixels [DEVICE [TOKENS_PER_STEP]]]]`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use lynxdata_burn_model::{
    DeviceName, Example, ModelConfig, Pictures, RunSpec, Sight, TokenizerConfig, TrainConfig, run, train_tokenizer,
};

/// Features per picture, the most that a check computes.
const FEATURES: usize = 256;

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
    let sight = match std::env::args().nth(2).as_deref() {
        Some("pixels") => Sight::Pixels,
        None | Some("features") => Sight::Features,
        Some(other) => return Err(format!("{other} is neither features nor pixels").into()),
    };
    let device: DeviceName = std::env::args().nth(3).map_or(Ok(DeviceName::Cpu), |argument| argument.parse())?;
    let model = ModelConfig { sight, ..Default::default() };
    let usual = TrainConfig::default().tokens_per_step;
    let tokens_per_step = std::env::args().nth(4).map_or(Ok(usual), |argument| argument.parse())?;
    let train = TrainConfig { steps, tokens_per_step, ..Default::default() };
    let words = ["a", "small", "red", "dog", "runs", "over", "green", "grass", "near", "the", "old", "house", "today"];
    let example = |i: u32| {
        let seed = i as usize;
        let caption: Vec<&str> =
            (0..4 + seed % 9).map(|word| words[(seed * 7 + word * word + seed / 13) % words.len()]).collect();
        Example::caption(i, caption.join(" "))
    };
    let examples: Vec<Example> = (0..1024).map(example).collect();
    let number = |picture: usize, place: usize| (place * 31 + picture * 97) % 251;
    let pictures = match sight {
        Sight::Pixels => {
            let picture = |i| (0..model.pixel_bytes()).map(|place| number(i, place) as u8).collect();
            Pictures::Pixels((0..1024).map(picture).collect())
        }
        Sight::Features => {
            let values =
                (0..1024 * FEATURES).map(|place| number(place / FEATURES, place % FEATURES) as f32 / 125.0 - 1.0);
            Pictures::Features { width: FEATURES, values: values.collect() }
        }
    };
    let texts: Vec<String> = examples.iter().map(Example::text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (arm, held_out) = examples.split_at(768);
    // Made-up words fill 1,024 tokens too seldom to matter for time, so the vocabulary is as large as it gets.
    let tokenizer = train_tokenizer(&texts, &TokenizerConfig::default())?;
    let spec = RunSpec {
        model: &model,
        train: &train,
        tokenizer: &tokenizer,
        pictures: &pictures,
        arm,
        copies: &[1; 768],
        held_out,
        seed: 0,
        pretrained: &[],
        start: None,
        checkpoint: None,
        device: &device,
    };
    let start = cpu_seconds();
    let mut stamps = Vec::with_capacity(steps);
    let result = run(&spec, &mut |_step, _loss| stamps.push((Instant::now(), cpu_seconds())))?;
    let end = (Instant::now(), cpu_seconds());
    // The first steps touch memory for the first time.
    let (first, last) = (stamps.get(4).ok_or("six steps at least are needed")?, stamps[stamps.len() - 1]);
    let counted = (stamps.len() - 5) as f64;
    let mut walls: Vec<f64> = stamps[4..].windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64() * 1e3).collect();
    walls.sort_by(f64::total_cmp);
    println!(
        "{device}: {} weights, {} tokens, {} loss tokens a step",
        result.weights,
        tokenizer.vocabulary(),
        train.tokens_per_step
    );
    println!("step: {:.1} ms median, {:.1} ms least", walls[walls.len() / 2], walls[0]);
    println!("step: {:.4} CPU-s", (last.1 - first.1) / counted);
    println!("evaluation of {} examples: {:.2} CPU-s", result.held_out.len(), end.1 - last.1);
    println!("run: {:.2} CPU-s", end.1 - start);
    println!("{:.1} loss tokens per example", result.loss_tokens as f64 / result.samples_seen as f64);
    Ok(())
}
