//! Prints what training steps cost: seconds and user CPU seconds per step, as a line of JSON per
//! round.
//!
//! `cargo run -p lynxdata-burn-model --example step_time -- SHAPE MODE STEPS [DEVICE [BATCH
//! [PRECISION]]]`
//!
//! SHAPE is `tiny` or `middle`; `benches/model/` has PyTorch models of the same sizes. MODE is
//! `full` or `frozen`, which trains resampler and adapters only. After three warm-up steps, the
//! program takes STEPS steps for each line on standard input.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use lynxdata_burn_model::loss::weighted_nats;
use lynxdata_burn_model::model::{Layout, Lynx, ModelConfig, Sight};
use lynxdata_burn_model::optimizer::{AdamW, AdamWConfig};
use lynxdata_burn_model::{DeviceName, Part, Precision, freeze};

/// Steps before the first that is measured.
const WARM_UP: usize = 3;

/// The model and the batch of a step.
struct Shape {
    model: ModelConfig,
    vocabulary: usize,
    batch: usize,
    /// Text tokens of each example.
    tokens: usize,
}

impl Shape {
    fn named(name: &str) -> Option<Self> {
        let tiny = ModelConfig { sight: Sight::Pixels, decoder_depth: 3, ..Default::default() };
        match name {
            "tiny" => Some(Self { model: tiny, vocabulary: 64, batch: 32, tokens: 16 }),
            "middle" => {
                let model = ModelConfig {
                    image_size: 64,
                    patch: 8,
                    vit_dim: 192,
                    vit_depth: 6,
                    vit_heads: 3,
                    latents: 32,
                    resampler_depth: 3,
                    resampler_heads: 4,
                    resampler_head_dim: 64,
                    decoder_dim: 256,
                    decoder_depth: 6,
                    decoder_heads: 4,
                    decoder_mlp_dim: 688,
                    ..tiny
                };
                Some(Self { model, vocabulary: 4096, batch: 16, tokens: 64 })
            }
            _ => None,
        }
    }
}

/// Returns pseudo-random numbers between -1 and 1.
fn numbers<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|place| ((place * 7919) % 2003) as f32 / 1001.0 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Returns the user time of the process in seconds, from Linux's process table, whose ticks are 10
/// ms.
fn user_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the name in parentheses; the name may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.into_iter().nth(11).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default() / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, mode, steps, rest @ ..] = &arguments[..] else {
        return Err("usage: step_time tiny|middle full|frozen STEPS [DEVICE [BATCH [PRECISION]]]".into());
    };
    let mut shape = Shape::named(shape).ok_or("the shape is tiny or middle")?;
    let steps: usize = steps.parse()?;
    let name: DeviceName = rest.first().map_or(Ok(DeviceName::Cpu), |name| name.parse())?;
    if let Some(batch) = rest.get(1) {
        shape.batch = batch.parse()?;
    }
    let precision = rest.get(2).map_or("f32", String::as_str);
    let precision = Precision::ALL.into_iter().find(|own| own.name() == precision);
    let precision = precision.ok_or("the precision is f32, bf16 or f16")?;
    let plain = name.open()?;
    let device = plain.clone().autodiff();

    let Shape { model: config, vocabulary, batch, tokens } = &shape;
    let mut model = Lynx::new(config, *vocabulary, 0, 0, &device)?;
    if mode == "frozen" {
        model = freeze(model, &|part| !matches!(part, Part::Bridge | Part::Adapters));
    }
    let pictures = numbers([*batch, config.patches(), config.patch_values()], &plain);
    let ids: Vec<i64> = (0..batch * tokens).map(|place| (3 + place * 31 % (vocabulary - 3)) as i64).collect();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [*batch, *tokens]), &plain);
    let layout = Layout::causal(config, config.latents + tokens, &plain);
    // As in the PyTorch model, all text tokens are scored. The first three eighths of a text and
    // the token after its end are not targets.
    let places: Vec<i64> = (0..(batch * tokens) as i64).collect();
    let places: Tensor<1, Int> = Tensor::from_data(TensorData::new(places, [batch * tokens]), &plain);
    let targets = ids.clone().reshape([batch * tokens]).roll_dim(-1, 0);
    let learned = tokens * 3 / 8 - 1..tokens - 1;
    let weight = 1.0 / (batch * learned.len()) as f32;
    let weights = (0..batch * tokens).map(|place| if learned.contains(&(place % tokens)) { weight } else { 0.0 });
    let weights = Tensor::from_data(TensorData::new(weights.collect(), [batch * tokens]), &plain);

    let mut optimizer = AdamW::new(AdamWConfig {
        beta_1: 0.9,
        beta_2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.05,
        decay_matrices_alone: false,
        max_gradient_norm: 1.0,
    });
    let mut step = |model: Lynx| {
        let copy = precision.rounded(&model);
        let vision = copy.vision_tokens(pictures.clone());
        let logits = copy.logits_at(&vision, ids.clone(), &layout, places.clone());
        let (loss, objective) = weighted_nats(logits, targets.clone(), weights.clone());
        let gradients = precision.gradients(&model, objective);
        (optimizer.step(model, gradients, &|_| 1e-3), loss)
    };
    for _ in 0..WARM_UP {
        model = step(model).0;
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        line?;
        let (begin, user) = (Instant::now(), user_seconds());
        let mut losses = Vec::with_capacity(steps);
        for _ in 0..steps {
            let (moved, loss) = step(model);
            model = moved;
            losses.push(loss);
        }
        // Reading the loss waits for all steps.
        let last = losses.pop().ok_or("STEPS must be at least 1")?.into_scalar::<f32>();
        let [wall, user] = [begin.elapsed().as_secs_f64(), user_seconds() - user].map(|all| all / steps as f64);
        println!("{{\"seconds\": {wall}, \"user_seconds\": {user}, \"loss\": {last}}}");
    }
    Ok(())
}
