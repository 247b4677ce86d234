//! The model against golden values of the reference implementation; see `fixtures/SOURCES.tsv`.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use safetensors::SafeTensors;

use super::*;
use crate::loss::{nats, weighted_nats};
use crate::optimizer::{AdamW, AdamWConfig};

const GOLDEN: &[u8] = include_bytes!("../../fixtures/parity_prefix.safetensors");
const BATCH: usize = 2;
const TOKENS: usize = 16;
const VOCABULARY: usize = 50;

/// The shape of the model in the golden file.
fn config() -> ModelConfig {
    ModelConfig {
        sight: Sight::Pixels,
        image_size: 16,
        patch: 8,
        vit_dim: 24,
        vit_depth: 2,
        vit_heads: 3,
        vit_mlp_ratio: 4,
        latents: 4,
        resampler_depth: 2,
        resampler_heads: 2,
        resampler_head_dim: 8,
        resampler_mlp_ratio: 4,
        decoder_dim: 32,
        decoder_depth: 3,
        decoder_heads: 4,
        decoder_mlp_dim: 40,
        adapter_every: 2,
        embedding_deviation: 0.02,
        head_deviation: 0.02,
        rope_base: 10_000.0,
        ..Default::default()
    }
}

fn golden() -> SafeTensors<'static> {
    SafeTensors::deserialize(GOLDEN).unwrap()
}

fn floats(name: &str) -> Vec<f32> {
    let file = golden();
    let (bytes, _) = file.tensor(name).unwrap().data().as_chunks::<4>();
    bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn integers(name: &str) -> Vec<i64> {
    let file = golden();
    let (bytes, _) = file.tensor(name).unwrap().data().as_chunks::<8>();
    bytes.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

/// The name in the reference, which has the release's names, of a weight here.
fn reference_name(path: &str) -> String {
    let mut name = path.replace("llm.lm_head", "LLM.lm_head").replace("llm.", "LLM.model.");
    for (ours, theirs) in [
        ("embed_tokens", "embed_tokens.weight"),
        ("patch_embed", "patch_embed.proj"),
        (".fc", ".mlp.fc"),
        ("adapter.norm", "adapter.adapter_norm_before"),
        ("adapter.down", "adapter.adapter_down"),
        ("adapter.up", "adapter.adapter_up"),
        ("mlp.gate", "mlp.gate_proj"),
        ("mlp.up", "mlp.up_proj"),
        ("mlp.down", "mlp.down_proj"),
        (".norm_media", ".0.norm_media"),
        (".norm_latents", ".0.norm_latents"),
        (".to_", ".0.to_"),
        (".ff_norm", ".1.0"),
        (".ff_in", ".1.1"),
        (".ff_out", ".1.3"),
    ] {
        name = name.replace(ours, theirs);
    }
    name
}

/// A tensor of the file in the layout here: PyTorch's linear weights are `[outputs, inputs]`, ours the other way round.
fn in_our_layout(prefix: &str, path: &str, shape: &[usize]) -> Vec<f32> {
    let values = floats(&format!("{prefix}.{}", reference_name(path)));
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{path}");
    let is_linear = shape.len() == 2 && path.ends_with("weight");
    if !is_linear {
        return values;
    }
    let [inputs, outputs] = [shape[0], shape[1]];
    (0..inputs * outputs).map(|i| values[(i % outputs) * inputs + i / outputs]).collect()
}

/// Puts the golden weights into a model.
struct Load(Vec<String>, usize);

impl ModuleMapper for Load {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.0.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.0.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.1 += 1;
        let (shape, device) = (param.val().dims(), param.val().device());
        let values = in_our_layout("w", &self.0.join("."), &shape);
        let training = device.is_autodiff();
        param.map(|_| Tensor::from_data(TensorData::new(values, shape), &device).set_require_grad(training))
    }
}

/// Compares a model's gradients with the golden ones.
struct Compare<'a>(Vec<String>, &'a Gradients, usize);

impl ModuleVisitor for Compare<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.0.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.0.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.2 += 1;
        let path = self.0.join(".");
        let gradient = param.val().grad(self.1).unwrap_or_else(|| panic!("{path} has no gradient"));
        let golden = in_our_layout("g", &path, &gradient.dims());
        let largest = golden.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let off = furthest(&values(gradient), &golden);
        assert!(off <= 1e-4 * largest + 1e-9, "{path}: off by {off}, largest golden value {largest}");
    }
}

fn model(device: &Device) -> Lynx {
    let model = Lynx::new(&config(), VOCABULARY, 0, 0, device).unwrap();
    let mut load = Load(Vec::new(), 0);
    let model = model.map(&mut load);
    let in_file = golden().names().iter().filter(|name| name.starts_with("w.")).count();
    assert_eq!(load.1, in_file, "weights of the model and of the file");
    model
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn furthest(got: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(got.len(), golden.len());
    got.iter().zip(golden).map(|(got, golden)| (got - golden).abs()).fold(0.0, f32::max)
}

/// The golden images as patches.
fn patches(device: &Device) -> Tensor<3> {
    let images: Tensor<4> = Tensor::from_data(TensorData::new(floats("in.image"), [BATCH, 3, 16, 16]), device);
    images.reshape([BATCH, 3, 2, 8, 2, 8]).permute([0, 2, 4, 1, 3, 5]).reshape([BATCH, 4, 3 * 64])
}

fn ids(device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(integers("in.ids"), [BATCH, TOKENS]), device)
}

/// Which tokens are no padding, the four vision tokens included.
fn real() -> Vec<Vec<bool>> {
    let mask = integers("in.mask");
    let rows = mask.chunks(TOKENS);
    rows.map(|row| [true; 4].into_iter().chain(row.iter().map(|entry| *entry == 1)).collect()).collect()
}

/// Padding takes positions, as in the reference's training.
fn counted_layout(device: &Device) -> Layout {
    Layout::new(&config(), &[(0..4 + TOKENS).collect()], &real(), device)
}

/// Padding takes no positions, as in the reference's generation.
fn skipping_layout(device: &Device) -> Layout {
    let positions = real().into_iter().map(|row| {
        let mut next = 0;
        let standing = row.iter().map(|is_real| {
            next += usize::from(*is_real);
            if *is_real { next - 1 } else { 1 }
        });
        standing.collect()
    });
    Layout::new(&config(), &positions.collect::<Vec<_>>(), &real(), device)
}

/// Where the golden labels are, in the flattened grid, and what they are.
fn places_and_targets(device: &Device) -> (Tensor<1, Int>, Tensor<1, Int>) {
    let labels = integers("in.labels");
    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for row in 0..BATCH {
        for column in 1..TOKENS {
            let label = labels[row * TOKENS + column];
            if label != -100 {
                places.push((row * TOKENS + column - 1) as i64);
                targets.push(label);
            }
        }
    }
    (Tensor::from_data(places.as_slice(), device), Tensor::from_data(targets.as_slice(), device))
}

/// The training loss and what to differentiate for it.
fn loss(model: &Lynx, device: &Device) -> (f32, Tensor<1>) {
    let plain = device.clone().inner();
    let (places, targets) = places_and_targets(&plain);
    let weights = Tensor::ones([targets.dims()[0]], &plain).div_scalar(targets.dims()[0] as f32);
    let vision = model.vision_tokens(patches(&plain));
    let logits = model.logits_at(vision, ids(&plain), &counted_layout(&plain), places);
    weighted_nats(logits, targets, weights)
}

#[test]
fn vision_encoder_and_resampler_equal_the_reference() {
    let device = Device::flex();
    let model = model(&device);
    let image = model.vision_encoder().unwrap().forward(patches(&device));
    assert!(furthest(&values(image.clone()), &floats("out.vit")) < 1e-5);
    let tokens = model.resampler().unwrap().forward(&image);
    assert!(furthest(&values(tokens), &floats("out.bridge")) < 1e-5);
}

#[test]
fn scores_equal_the_reference_where_padding_takes_positions_and_where_not() {
    let device = Device::flex();
    let model = model(&device);
    for (layout, name) in
        [(counted_layout(&device), "out.logits_arange"), (skipping_layout(&device), "out.logits_cumsum")]
    {
        let logits = values(model.logits(model.vision_tokens(patches(&device)), ids(&device), &layout));
        let golden = floats(name);
        // Padding rows are not compared: the reference lets them see themselves, which no loss depends on.
        for (token, is_real) in real().iter().flat_map(|row| &row[4..]).enumerate().filter(|(_, is_real)| **is_real) {
            let row = token * VOCABULARY..(token + 1) * VOCABULARY;
            assert!(furthest(&logits[row.clone()], &golden[row]) < 1e-5, "{name} {token} {is_real}");
        }
    }
}

#[test]
fn loss_and_gradients_equal_the_reference() {
    let device = Device::flex().autodiff();
    let model = model(&device);
    let (loss, objective) = loss(&model, &device);
    assert!((loss - floats("out.loss")[0]).abs() < 1e-5, "{loss}");
    let gradients = objective.backward();
    let mut compare = Compare(Vec::new(), &gradients, 0);
    model.visit(&mut compare);
    assert!(compare.2 > 50);
}

#[test]
fn evaluation_without_gradients_gives_the_same_loss() {
    let device = Device::flex();
    let model = model(&device.clone().autodiff()).valid();
    let (places, targets) = places_and_targets(&device);
    let logits = model.logits_at(model.vision_tokens(patches(&device)), ids(&device), &counted_layout(&device), places);
    let mean = nats(logits, targets).mean().into_scalar::<f32>();
    assert!((mean - floats("out.loss")[0]).abs() < 1e-5, "{mean}");
}

#[test]
fn four_steps_of_clipped_adamw_equal_the_reference() {
    let device = Device::flex().autodiff();
    let mut model = model(&device);
    let config = AdamWConfig { beta_1: 0.9, beta_2: 0.95, epsilon: 1e-8, weight_decay: 0.05, max_gradient_norm: 1.0 };
    let mut optimizer = AdamW::new(config);
    for golden in floats("out.losses_adamw") {
        let (loss, objective) = loss(&model, &device);
        assert!((loss - golden).abs() < 1e-4, "{loss} {golden}");
        model = optimizer.step(model, objective.backward(), 1e-3);
    }
}

#[test]
fn a_causal_layout_equals_one_with_padding_at_the_end() {
    let device = Device::flex();
    let model = model(&device);
    let config = config();
    let mut real = vec![vec![true; 4 + TOKENS]; BATCH];
    real[1][15..].fill(false);
    let positions = vec![(0..4 + TOKENS).collect::<Vec<_>>(); BATCH];
    let vision = model.vision_tokens(patches(&device));
    let padded = model.logits(vision.clone(), ids(&device), &Layout::new(&config, &positions, &real, &device));
    let causal = model.logits(vision, ids(&device), &Layout::causal(&config, 4 + TOKENS, &device));
    // The second sequence has 15 - 4 real text tokens.
    let compared = (TOKENS + 11) * VOCABULARY;
    assert!(furthest(&values(padded)[..compared], &values(causal)[..compared]) < 1e-6);
}

#[test]
fn a_seed_determines_the_weights() {
    struct Sum(Vec<f32>);
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(values(param.val()));
        }
    }
    let weights = |seed| {
        let mut all = Sum(Vec::new());
        Lynx::new(&config(), VOCABULARY, 0, seed, &Device::flex()).unwrap().visit(&mut all);
        all.0
    };
    let first = weights(1);
    assert_eq!(first, weights(1));
    assert_ne!(first, weights(2));
    // Written down so that another process or machine is held to the same weights.
    let sum: f64 = first.iter().map(|weight| f64::from(weight.abs())).sum();
    assert!((sum - 2_962.420_06).abs() < 1e-3, "{sum}");
}

#[test]
fn the_default_shape_has_the_documented_number_of_weights() {
    let weights = |sight| {
        let config = ModelConfig { sight, ..Default::default() };
        Lynx::new(&config, 1024, 256, 0, &Device::flex()).unwrap().num_params()
    };
    assert_eq!(weights(Sight::Pixels), 620_785);
    assert_eq!(weights(Sight::Features), 514_609);
}
