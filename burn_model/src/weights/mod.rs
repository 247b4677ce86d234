//! Pretrained weights: decoders of the LLaMA family, and ViTs.
//!
//! | | read from | kinds |
//! |-|-|-|
//! | decoder | a folder of Hugging Face, or GGUF | LLaMA, Vicuna, SmolLM2, Qwen2 |
//! | vision encoder | a folder of Hugging Face | CLIP, SigLIP, EVA-ViT-g as in BLIP-2 and Lynx |
//!
//! ```no_run
//! use burn::tensor::Device;
//! use lynxdata_burn_model::weights::{self, Pretrained};
//! use lynxdata_burn_model::{ModelConfig, Part};
//!
//! let pretrained = Pretrained::open("SmolLM2-135M-Instruct.Q4_1.gguf".as_ref())?;
//! let mut config = ModelConfig::default();
//! pretrained.configure(Part::Decoder, &mut config)?;
//! let vocabulary = pretrained.vocabulary().expect("it has a decoder");
//! let parts = [(&pretrained, Part::Decoder)];
//! let (model, reports) = weights::build(&parts, &config, vocabulary, 256, 1, &Device::flex())?;
//! assert!(reports[0].unused.is_empty());
//! # Ok::<(), lynxdata_burn_model::Error>(())
//! ```
//!
//! Features that our model does not support are refused: scaled rotary positions, sliding windows,
//! heads of another width, other activations. Adapters, cross-attention, low-rank changes,
//! resampler and projection keep their own weights.

mod config;
mod gguf;
mod names;
pub(crate) mod positions;
mod safetensors;
mod tensors;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use self::config::Described;
use self::names::{Change, LAYOUTS, Layout};
use self::tensors::{Numbers, Tensors, refused};
use crate::error::{Error, Result};
use crate::model::{Lynx, ModelConfig};
use crate::part::Part;
use crate::tokenizer::Tokenizer;

/// A pretrained model in files. Its weights stay there until they are loaded.
#[derive(Clone, Debug)]
pub struct Pretrained {
    /// The file that describes it: a `config.json` or a GGUF file.
    path: PathBuf,
    tensors: Tensors,
    parts: Vec<Found>,
    /// The tokenizer as Hugging Face's `tokenizer.json`.
    tokenizer: Option<String>,
}

/// A part that a file has.
#[derive(Clone, Debug)]
struct Found {
    described: Described,
    layout: &'static Layout,
    /// Prefix of all names.
    prefix: &'static str,
}

/// The tensors of a file that were used and that were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// Weights of the model that were loaded, counted as tensors.
    pub tensors: usize,
    /// The same counted as numbers.
    pub numbers: usize,
    /// Tensors of the file that the part does not have, by their names in the file: of other parts,
    /// of layers beyond the depth of the model, heads of other tasks, buffers.
    pub unused: Vec<String>,
    /// The sides of the grids of patches, in the file and in the model, if the position embeddings
    /// were interpolated.
    pub interpolated: Option<(usize, usize)>,
}

/// Builds a model and loads the pretrained parts into it. The other weights are drawn from `seed`,
/// as in [`Lynx::new`]. Returns a report for each pretrained part, in their order.
pub fn build(
    parts: &[(&Pretrained, Part)],
    config: &ModelConfig,
    vocabulary: usize,
    features: usize,
    seed: u64,
    device: &Device,
) -> Result<(Lynx, Vec<LoadReport>)> {
    let mut model = Lynx::undrawn(config, vocabulary, features, seed, device)?;
    let mut reports = Vec::with_capacity(parts.len());
    for (pretrained, part) in parts {
        let (loaded, report) = pretrained.load_into(model, *part)?;
        model = loaded;
        reports.push(report);
    }
    Ok((model.draw(), reports))
}

impl Pretrained {
    /// Opens a folder of Hugging Face with `config.json`, `model.safetensors` or its shards, and
    /// optionally `tokenizer.json` and `preprocessor_config.json`; or a GGUF file.
    ///
    /// Reads descriptions only. Fails if a file is damaged, is of an unknown kind, or has settings
    /// that the model does not support or that contradict its tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let is_folder = path.is_dir();
        let described_by = if is_folder { path.join("config.json") } else { path.to_owned() };
        let failed = |reason: String| Error::Pretrained { path: described_by.clone(), reason };
        let (parts, tensors, tokenizer) = if is_folder {
            let config = json_file(&described_by)?.ok_or_else(|| failed("there is no such file".to_owned()))?;
            let mut parts = Described::parts(&config).map_err(failed)?;
            if let Some(preprocessor) = json_file(&path.join("preprocessor_config.json"))? {
                for key in ["image_mean", "image_std"] {
                    for part in &mut parts {
                        part.add(key, preprocessor.get(key).cloned().unwrap_or(Value::Null));
                    }
                }
            }
            (parts, safetensors::folder(path)?, text_file(&path.join("tokenizer.json"))?)
        } else {
            let (metadata, tensors) = gguf::file(path)?;
            let config = config::of_gguf(&metadata, &tensors).map_err(failed)?;
            let parts = Described::parts(&config).map_err(failed)?;
            (parts, tensors, metadata.tokenizer().map_err(failed)?)
        };
        let parts = parts.into_iter().map(|described| Found::new(described, &tensors, !is_folder).map_err(failed));
        let parts = parts.collect::<Result<Vec<Found>>>()?;
        let pretrained = Self { path: described_by, tensors, parts, tokenizer };
        for part in &pretrained.parts {
            let mut config = ModelConfig::default();
            pretrained.configure(part.described.kind.part, &mut config)?;
            pretrained.check(part, &config)?;
        }
        Ok(pretrained)
    }

    /// Returns the file that describes it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the files have a part.
    pub fn has(&self, part: Part) -> bool {
        self.found(part).is_ok()
    }

    /// Sets the fields of `config` that a part determines: all sizes of a decoder, or of a vision
    /// encoder with the colours' mean and deviation.
    ///
    /// A vision encoder gets the depth and the norms that make the features of LLaVA (CLIP: the
    /// last layer but one), PaliGemma (SigLIP: the last layer and its norm) and Lynx (EVA: the last
    /// layer but one). A smaller depth, and another `image_size`, may be set afterwards.
    pub fn configure(&self, part: Part, config: &mut ModelConfig) -> Result<()> {
        let found = self.found(part)?;
        let tied = self.tensors.get(&found.name("llm.lm_head.weight")).is_none();
        found.described.put_into(config, tied).map_err(|reason| self.failed(reason))
    }

    /// Returns the number of tokens that the decoder scores.
    pub fn vocabulary(&self) -> Option<usize> {
        let found = self.found(Part::Decoder).ok()?;
        self.tensors.get(&found.name("llm.embed_tokens"))?.shape.first().copied()
    }

    /// Reads the tokenizer, with the begin and end tokens of the decoder; `None` if there is none.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        let (Some(json), Some(vocabulary)) = (&self.tokenizer, self.vocabulary()) else { return Ok(None) };
        let (begin, end) = self.found(Part::Decoder)?.described.begin_and_end();
        let end = end.ok_or_else(|| self.failed("the token that ends a text, eos_token_id, is missing".to_owned()))?;
        // A model without a begin token, such as Qwen2, is trained on texts that follow an end
        // token.
        Tokenizer::pretrained(json, begin.unwrap_or(end), end, vocabulary).map(Some)
    }

    /// Loads the weights of a part into a model of the shape that [`Self::configure`] gave.
    ///
    /// All weights of the part are replaced; otherwise there is an error that names a tensor.
    /// Position embeddings of another `image_size` are interpolated. Weights that needed gradients
    /// before still need them.
    pub fn load_into(&self, model: Lynx, part: Part) -> Result<(Lynx, LoadReport)> {
        if part == Part::Vision && model.vision_encoder().is_none() {
            let reason = "weights of a vision encoder are for a model that sees pixels".to_owned();
            return Err(Error::Setting { setting: "sight", value: "features".to_owned(), reason });
        }
        let found = self.found(part)?;
        let mut config = ModelConfig::default();
        self.configure(part, &mut config)?;
        let mut load = Load {
            pretrained: self,
            found,
            head: config.decoder_dim / config.decoder_heads,
            class: usize::from(config.vit_class_token),
            path: Vec::new(),
            used: BTreeSet::new(),
            tensors: 0,
            numbers: 0,
            interpolated: None,
            error: None,
        };
        let model = model.map(&mut load);
        let Load { used, tensors, numbers, interpolated, error, .. } = load;
        if let Some(error) = error {
            return Err(error);
        }
        let unused = self.tensors.names().filter(|name| !used.contains(*name)).cloned().collect();
        Ok((model, LoadReport { tensors, numbers, unused, interpolated }))
    }

    /// Returns the tensors of the file that a part of a model with these sizes does not have, see
    /// [`LoadReport::unused`]. Reads no weights.
    pub fn unused(&self, part: Part, config: &ModelConfig) -> Result<Vec<String>> {
        // Weights that are not drawn take no memory, and those of other sizes have the same names.
        let model = Lynx::undrawn(config, 1, 1, 0, &Device::flex())?;
        let mut used = Used { found: self.found(part)?, path: Vec::new(), names: BTreeSet::new() };
        model.visit(&mut used);
        Ok(self.tensors.names().filter(|name| !used.names.contains(*name)).cloned().collect())
    }

    fn found(&self, part: Part) -> Result<&Found> {
        let found = self.parts.iter().find(|found| found.described.kind.part == part);
        found.ok_or_else(|| self.failed(format!("it has no {part:?} part")))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Pretrained { path: self.path.clone(), reason }
    }

    /// Compares the described sizes with the tensors, before a model is built of them.
    fn check(&self, part: &Found, config: &ModelConfig) -> Result<()> {
        let last = part.described.layers().map_err(|reason| self.failed(reason))?.wrapping_sub(1);
        let expected = match part.described.kind.part {
            Part::Decoder => [
                ("llm.embed_tokens".to_owned(), vec![self.vocabulary().unwrap_or(0), config.decoder_dim]),
                (format!("llm.layers.{last}.input_layernorm.weight"), vec![config.decoder_dim]),
                (format!("llm.layers.{last}.mlp.gate.weight"), vec![config.decoder_mlp_dim, config.decoder_dim]),
            ],
            _ => [
                ("vision_encoder.patch_embed.weight".to_owned(), vec![config.vit_dim, 3, config.patch, config.patch]),
                (format!("vision_encoder.blocks.{last}.norm1.weight"), vec![config.vit_dim]),
                (format!("vision_encoder.blocks.{last}.fc1.weight"), vec![config.vit_hidden(), config.vit_dim]),
            ],
        };
        for (path, shape) in expected {
            let name = part.name(&path);
            let Some(stored) = self.tensors.get(&name) else {
                return Err(refused(&self.path, &name, "it is missing".to_owned()));
            };
            if stored.bytes().is_none() {
                let reason = format!("its encoding {:?} is not supported", stored.encoding);
                return Err(refused(&stored.file, &name, reason));
            }
            if stored.shape != shape {
                let reason = format!("its shape is {:?}, but {shape:?} by the description", stored.shape);
                return Err(refused(&stored.file, &name, reason));
            }
        }
        if part.described.kind.part == Part::Vision && config.image_size > config.patch.saturating_mul(MAX_GRID) {
            return Err(
                self.failed(format!("image_size is {}, more than {MAX_GRID} patches a side", config.image_size))
            );
        }
        config.validate()
    }
}

/// Maximum number of patches on a side of an image; published encoders have up to 64.
const MAX_GRID: usize = 256;

impl Found {
    /// Finds the table for the names in a file.
    fn new(described: Described, tensors: &Tensors, gguf: bool) -> std::result::Result<Self, String> {
        let kind = described.kind.name;
        let layouts = LAYOUTS.iter().filter(|layout| layout.gguf == gguf && layout.kinds.contains(&kind));
        let places = layouts.flat_map(|layout| layout.prefixes.iter().map(move |prefix| (layout, *prefix)));
        let mut signs = Vec::new();
        for (layout, prefix) in places {
            let sign = format!("{prefix}{}", layout.sign());
            if tensors.get(&sign).is_some() {
                return Ok(Self { described, layout, prefix });
            }
            signs.push(sign);
        }
        Err(format!("a model of kind {kind} must have one of the tensors {}", signs.join(", ")))
    }

    /// Returns the name in the file of the weight with a path; empty if there is none.
    fn name(&self, path: &str) -> String {
        self.layout.name(path).map_or_else(String::new, |name| format!("{}{name}", self.prefix))
    }
}

fn text_file(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path: path.to_owned(), source }),
    }
}

fn json_file(path: &Path) -> Result<Option<Value>> {
    let Some(text) = text_file(path)? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|error| Error::Pretrained { path: path.to_owned(), reason: error.to_string() })
}

/// Collects the names that the weights of a part have in the file.
struct Used<'a> {
    found: &'a Found,
    path: Vec<String>,
    names: BTreeSet<String>,
}

impl ModuleVisitor for Used<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        if Part::of(&path) == self.found.layout.part {
            self.names.insert(self.found.name(&path));
        }
    }
}

/// Puts weights into a model.
struct Load<'a> {
    pretrained: &'a Pretrained,
    found: &'a Found,
    /// Width of a head of the decoder.
    head: usize,
    /// Rows of position embeddings before those of patches.
    class: usize,
    path: Vec<String>,
    used: BTreeSet<String>,
    tensors: usize,
    numbers: usize,
    interpolated: Option<(usize, usize)>,
    /// The first error; weights after it are not loaded.
    error: Option<Error>,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        if self.error.is_some() || Part::of(&path) != self.found.layout.part {
            return param;
        }
        // Reading shape and device does not draw the initial weights, see `model::initial`.
        let (id, shape, device) = (param.id, param.lazy_shape(), param.lazy_device());
        match self.weight(&path, &shape) {
            Ok(values) => {
                self.tensors += 1;
                self.numbers += values.len();
                param.transform_for_load(Tensor::from_data(TensorData::new(values, shape), &device), id)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

impl Load<'_> {
    /// Returns the numbers of the weight with a path and a shape.
    fn weight(&mut self, path: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let described_by = &self.pretrained.path;
        let Some((row, _)) = self.found.layout.row(path) else {
            let reason = format!("models of kind {} have no such weight", self.found.described.kind.name);
            return Err(refused(described_by, path, reason));
        };
        let name = self.found.name(path);
        let Some(numbers) = self.pretrained.tensors.read(&name)? else {
            return Err(refused(described_by, &name, "it is missing".to_owned()));
        };
        let found = numbers.shape.clone();
        let Some(values) = self.changed(numbers, row.2, shape) else {
            let reason = format!("its shape {found:?} does not fit {path} of shape {shape:?}");
            return Err(refused(described_by, &name, reason));
        };
        self.used.insert(name);
        Ok(values)
    }

    /// Returns the numbers in our layout; `None` if they do not have the shape for it.
    fn changed(&mut self, numbers: Numbers, change: Change, shape: &[usize]) -> Option<Vec<f32>> {
        let without_ones = |shape: &[usize]| shape.iter().copied().filter(|axis| *axis != 1).collect::<Vec<usize>>();
        let Numbers { shape: theirs, values } = numbers;
        match change {
            Change::Keep => (without_ones(&theirs) == without_ones(shape)).then_some(values),
            Change::Transpose => {
                let [inputs, outputs] = shape.try_into().ok()?;
                let fits = theirs.len() >= 2 && theirs[0] == outputs && theirs[1..].iter().product::<usize>() == inputs;
                fits.then(|| transposed(&values, inputs))
            }
            Change::Third(third) => {
                let [inputs, outputs]: [usize; 2] = shape.try_into().ok()?;
                let rows = third * outputs * inputs..(third + 1) * outputs * inputs;
                (theirs == [3 * outputs, inputs]).then(|| transposed(&values[rows], inputs))
            }
            Change::Interleaved => {
                let [inputs, outputs]: [usize; 2] = shape.try_into().ok()?;
                let fits = theirs == [outputs, inputs] && outputs.is_multiple_of(self.head);
                fits.then(|| transposed(&in_halves(&values, inputs, self.head), inputs))
            }
            Change::Positions => {
                let [_, tokens, width]: [usize; 3] = shape.try_into().ok()?;
                let theirs = theirs.strip_prefix(&[1]).unwrap_or(&theirs);
                let [rows, _] = <[usize; 2]>::try_from(theirs).ok().filter(|theirs| theirs[1] == width)?;
                if rows == tokens {
                    return Some(values);
                }
                let (resized, [from, to]) = positions::resized(&values, width, self.class, tokens)?;
                self.interpolated = Some((from, to));
                Some(resized)
            }
        }
    }
}

/// Turns `[outputs, inputs]` into `[inputs, outputs]`.
fn transposed(values: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = values.len() / inputs.max(1);
    let mut all = Vec::with_capacity(values.len());
    for input in 0..inputs {
        all.extend((0..outputs).map(|output| values[output * inputs + input]));
    }
    all
}

/// Reorders the rows of each head: from pairs, one row of each half, to the two halves one after
/// the other.
fn in_halves(values: &[f32], inputs: usize, head: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(values.len());
    for rows in values.chunks_exact(head * inputs) {
        for half in 0..2 {
            for pair in 0..head / 2 {
                let row = 2 * pair + half;
                all.extend_from_slice(&rows[row * inputs..(row + 1) * inputs]);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
