//! Golden values of the reference implementation; see `fixtures/SOURCES.tsv`.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::SafeTensors;

use crate::loss::weighted_nats;
use crate::model::{Fusion, Layout, Lynx, ModelConfig, Sight};
use crate::optimizer::{AdamW, AdamWConfig};
use crate::precision::Precision;

const BATCH: usize = 2;
const TOKENS: usize = 16;
pub(super) const VOCABULARY: usize = 50;

/// Parts of weight names: ours, then the one in the file. Replaced in this order.
const NAMES: [(&str, &str); 20] = [
    ("llm.lm_head", "LLM.lm_head"),
    ("llm.", "LLM.model."),
    ("embed_tokens", "embed_tokens.weight"),
    ("patch_embed", "patch_embed.proj"),
    (".fc", ".mlp.fc"),
    ("adapter.norm", "adapter.adapter_norm_before"),
    ("adapter.down", "adapter.adapter_down"),
    ("adapter.up", "adapter.adapter_up"),
    ("mlp.gate", "mlp.gate_proj"),
    ("mlp.up", "mlp.up_proj"),
    ("mlp.down", "mlp.down_proj"),
    ("cross_attention.ff_norm", "xattn.ff.0"),
    ("cross_attention.ff_in", "xattn.ff.1"),
    ("cross_attention.ff_out", "xattn.ff.3"),
    ("cross_attention.", "xattn."),
    (".norm_media", ".0.norm_media"),
    (".norm_latents", ".0.norm_latents"),
    (".ff_norm", ".1.0"),
    (".ff_in", ".1.1"),
    (".ff_out", ".1.3"),
];

/// One golden file: a small model of one fusion, a batch, and the results of the reference.
pub(crate) struct Golden {
    fusion: Fusion,
    file: SafeTensors<'static>,
}

impl Golden {
    /// Opens the file of a fusion.
    pub(crate) fn of(fusion: Fusion) -> Self {
        let bytes: &'static [u8] = match fusion {
            Fusion::Prefix => include_bytes!("../../fixtures/parity_prefix.safetensors"),
            Fusion::CrossAttention => include_bytes!("../../fixtures/parity_cross_attention.safetensors"),
        };
        Self { fusion, file: SafeTensors::deserialize(bytes).expect("the file in this program is whole") }
    }

    /// Returns the shape of the model in the file.
    pub(crate) fn config(&self) -> ModelConfig {
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
            embedding_deviation: 0.02,
            head_deviation: 0.02,
            fusion: self.fusion,
            ..Default::default()
        }
    }

    /// Returns the model with the weights of the file.
    pub(crate) fn model(&self, device: &Device) -> Lynx {
        let model = Lynx::new(&self.config(), VOCABULARY, 0, 0, device).expect("the shape in the file works");
        let mut load = Load { golden: self, path: Vec::new(), loaded: 0 };
        let model = model.map(&mut load);
        let in_file = self.file.names().iter().filter(|name| name.starts_with("w.")).count();
        assert_eq!(load.loaded, in_file, "weights of the model and of the file");
        model
    }

    /// Returns the numbers of an array.
    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        let (bytes, _) = self.bytes(name).as_chunks::<4>();
        bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        let (bytes, _) = self.bytes(name).as_chunks::<8>();
        bytes.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.file.tensor(name).expect("the file has the model's names").data()
    }

    /// Returns an array in the layout here: PyTorch's linear weights are `[outputs, inputs]`, ours
    /// are `[inputs, outputs]`.
    fn in_our_layout(&self, kind: &str, path: &str, shape: &[usize]) -> Vec<f32> {
        let mut name = path.to_owned();
        for (ours, theirs) in NAMES {
            name = name.replace(ours, theirs);
        }
        if name.starts_with("bridge.") {
            name = name.replace(".to_", ".0.to_");
        }
        let values = self.floats(&format!("{kind}.{name}"));
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{path}");
        let is_linear = shape.len() == 2 && path.ends_with("weight");
        if !is_linear {
            return values;
        }
        let [inputs, outputs] = [shape[0], shape[1]];
        (0..inputs * outputs).map(|i| values[(i % outputs) * inputs + i / outputs]).collect()
    }

    /// Returns the images as patches.
    pub(crate) fn patches(&self, device: &Device) -> Tensor<3> {
        let images = TensorData::new(self.floats("in.image"), [BATCH, 3, 16, 16]);
        let images: Tensor<4> = Tensor::from_data(images, device);
        images.reshape([BATCH, 3, 2, 8, 2, 8]).permute([0, 2, 4, 1, 3, 5]).reshape([BATCH, 4, 3 * 64])
    }

    /// Returns the texts `[B, T]`.
    pub(crate) fn ids(&self, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.integers("in.ids"), [BATCH, TOKENS]), device)
    }

    /// Returns which tokens are not padding, those of the prefix included.
    pub(crate) fn real(&self) -> Vec<Vec<bool>> {
        let mask = self.integers("in.mask");
        let prefix = std::iter::repeat_n(true, self.config().prefix_tokens());
        let rows = mask.chunks(TOKENS);
        rows.map(|row| prefix.clone().chain(row.iter().map(|entry| *entry == 1)).collect()).collect()
    }

    /// Returns a layout in which padding takes positions, as in the reference's training.
    pub(crate) fn counted_layout(&self, device: &Device) -> Layout {
        let real = self.real();
        Layout::new(&self.config(), &[(0..real[0].len()).collect()], &real, device)
    }

    /// Returns a layout in which padding takes no positions, as in the reference's generation.
    fn skipping_layout(&self, device: &Device) -> Layout {
        let positions = self.real().into_iter().map(|row| {
            let mut next = 0;
            let standing = row.iter().map(|is_real| {
                next += usize::from(*is_real);
                if *is_real { next - 1 } else { 1 }
            });
            standing.collect()
        });
        Layout::new(&self.config(), &positions.collect::<Vec<_>>(), &self.real(), device)
    }

    /// Returns where the labels are, in the flattened grid, and what they are.
    fn places_and_targets(&self, device: &Device) -> (Tensor<1, Int>, Tensor<1, Int>) {
        let labels = self.integers("in.labels");
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

    /// Returns the training loss and the objective to differentiate for it.
    pub(crate) fn loss(&self, model: &Lynx, precision: Precision, device: &Device) -> (f32, Tensor<1>) {
        let model = precision.rounded(model);
        let plain = device.clone().inner();
        let (places, targets) = self.places_and_targets(&plain);
        let weights = Tensor::ones([targets.dims()[0]], &plain).div_scalar(targets.dims()[0] as f32);
        let vision = model.vision_tokens(self.patches(&plain));
        let logits = model.logits_at(&vision, self.ids(&plain), &self.counted_layout(&plain), places);
        let (loss, objective) = weighted_nats(logits, targets, weights);
        (loss.into_scalar::<f32>(), objective)
    }

    /// Returns the largest difference of the outputs of vision encoder, resampler and decoder.
    pub(crate) fn forward_difference(&self, precision: Precision, device: &Device) -> f32 {
        let model = precision.rounded(&self.model(device));
        let image = model.vision_encoder().expect("it sees pixels").forward(self.patches(device));
        let vision = model.resampler().expect("it sees pixels").forward(&image);
        let mut off = furthest(&values(image), &self.floats("out.vit"));
        off = off.max(furthest(&values(vision.clone()), &self.floats("out.bridge")));
        let prefix = self.config().prefix_tokens();
        for (layout, name) in
            [(self.counted_layout(device), "out.logits_arange"), (self.skipping_layout(device), "out.logits_cumsum")]
        {
            let logits = values(model.logits(&vision, self.ids(device), &layout));
            let golden = self.floats(name);
            let rows = self.real();
            let real = rows.iter().flat_map(|row| &row[prefix..]);
            // Padding rows are not compared: the reference lets them see themselves, which no loss
            // depends on.
            for (token, _) in real.enumerate().filter(|(_, is_real)| **is_real) {
                let row = token * VOCABULARY..(token + 1) * VOCABULARY;
                off = off.max(furthest(&logits[row.clone()], &golden[row]));
            }
        }
        off
    }

    /// Returns the largest difference of any gradient, relative to the largest number in its
    /// tensor, and the name of that weight. `device` is one with gradients.
    pub(crate) fn gradient_difference(&self, precision: Precision, device: &Device) -> (f32, String) {
        let model = self.model(device);
        let (_, objective) = self.loss(&model, precision, device);
        let gradients = precision.gradients(&model, objective);
        let mut compare =
            Compare { golden: self, path: Vec::new(), gradients: gradients.into_iter(), worst: (0.0, String::new()) };
        model.visit(&mut compare);
        compare.worst
    }

    /// Returns the largest difference of the losses before each of four steps of clipped AdamW.
    /// `device` is one with gradients.
    pub(crate) fn loss_difference(&self, precision: Precision, device: &Device) -> f32 {
        let mut model = self.model(device);
        let config = AdamWConfig {
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.05,
            decay_matrices_alone: false,
            max_gradient_norm: 1.0,
        };
        let mut optimizer = AdamW::new(config);
        let mut off = 0.0_f32;
        for golden in self.floats("out.losses_adamw") {
            let (loss, objective) = self.loss(&model, precision, device);
            off = worse(off, (loss - golden).abs());
            let gradients = precision.gradients(&model, objective);
            model = optimizer.step(model, gradients, &|_| 1e-3);
        }
        off
    }
}

/// Returns the larger of two differences; one that is not a number is the largest.
fn worse(one: f32, other: f32) -> f32 {
    if one.is_nan() || other.is_nan() { f32::INFINITY } else { one.max(other) }
}

/// Numbers of a tensor, read from its device.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("the model computes in 32-bit floats")
}

/// Returns the largest difference between two lists of the same length.
pub(crate) fn furthest(got: &[f32], golden: &[f32]) -> f32 {
    assert_eq!(got.len(), golden.len());
    got.iter().zip(golden).map(|(got, golden)| (got - golden).abs()).fold(0.0, worse)
}

/// Puts the golden weights into a model.
struct Load<'a> {
    golden: &'a Golden,
    path: Vec<String>,
    loaded: usize,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.loaded += 1;
        let (shape, device) = (param.val().dims(), param.val().device());
        let values = self.golden.in_our_layout("w", &self.path.join("."), &shape);
        let training = device.is_autodiff();
        param.map(|_| Tensor::from_data(TensorData::new(values, shape), &device).set_require_grad(training))
    }
}

/// Compares a model's gradients with the golden ones.
struct Compare<'a> {
    golden: &'a Golden,
    path: Vec<String>,
    gradients: std::vec::IntoIter<Option<Tensor<1>>>,
    worst: (f32, String),
}

impl ModuleVisitor for Compare<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let off = match self.gradients.next().flatten() {
            Some(gradient) => {
                let golden = self.golden.in_our_layout("g", &path, &param.val().dims());
                let largest = golden.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                // Differences below 1e-9 are rounding and do not count.
                (furthest(&values(gradient), &golden) - 1e-9).max(0.0) / largest.max(f32::MIN_POSITIVE)
            }
            None => f32::INFINITY,
        };
        if worse(self.worst.0, off) > self.worst.0 {
            self.worst = (worse(self.worst.0, off), path);
        }
    }
}
