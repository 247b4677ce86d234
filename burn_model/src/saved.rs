//! A trained model in a folder: weights, sizes and tokenizer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::model::{Lynx, ModelConfig};
use crate::tokenizer::Tokenizer;
use crate::weights::positions;

/// The file of weights: safetensors, each weight under its path in the model.
pub const WEIGHTS: &str = "model.safetensors";

/// The file of sizes.
pub const CONFIG: &str = "config.json";

/// The file of the tokenizer, as Hugging Face's tokenizers reads it.
pub const TOKENIZER: &str = "tokenizer.json";

/// A model with everything needed to use it.
#[derive(Debug)]
pub struct SavedModel {
    /// Its sizes.
    pub config: ModelConfig,
    /// The tokenizer of its texts.
    pub tokenizer: Tokenizer,
    /// Numbers per image, if it sees features.
    pub features: usize,
    /// Its weights.
    pub lynx: Lynx,
}

/// The content of the file of sizes.
#[derive(Serialize, Deserialize)]
struct Sizes {
    features: usize,
    model: ModelConfig,
    /// Facts that are not in a `tokenizer.json`; absent in models of earlier versions.
    tokens: Option<Tokens>,
}

/// Tokens with a meaning for the model.
#[derive(Serialize, Deserialize)]
struct Tokens {
    begin: u32,
    end: u32,
    /// Number of tokens of the model; some pretrained ones have more than their tokenizer.
    vocabulary: usize,
}

impl SavedModel {
    /// Writes the model's three files into a folder, which is created if it does not exist.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let mut all = Weights::default();
        self.lynx.visit(&mut all);
        let views = all.found.iter().map(|(name, (shape, bytes))| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("four bytes per number of the shape");
            (name, view)
        });
        let weights = safetensors::serialize(views, None).expect("names are unique and tensors whole");
        let Self { tokenizer, features, .. } = self;
        let (begin, end, vocabulary) = (tokenizer.begin(), tokenizer.end(), tokenizer.vocabulary());
        let tokens = Some(Tokens { begin, end, vocabulary });
        let sizes = Sizes { features: *features, model: self.config.clone(), tokens };
        let sizes = serde_json::to_string_pretty(&sizes).expect("numbers are valid JSON");
        let files = [(WEIGHTS, weights), (CONFIG, sizes.into_bytes()), (TOKENIZER, self.tokenizer.to_json()?.into())];
        for (name, content) in files {
            let (path, aside) = (folder.join(name), folder.join(format!("{name}.tmp")));
            fs::write(&aside, content).map_err(failed(&aside))?;
            fs::rename(&aside, &path).map_err(failed(&path))?;
        }
        Ok(())
    }

    /// Reads a model that [`SavedModel::write`] has written.
    pub fn read(folder: &Path, device: &DeviceName) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| Error::File { path, source })
        };
        let sizes = sizes(folder)?;
        let json = text(TOKENIZER)?;
        let tokenizer = match sizes.tokens {
            Some(Tokens { begin, end, vocabulary }) => Tokenizer::pretrained(&json, begin, end, vocabulary)?,
            None => Tokenizer::from_json(&json)?,
        };
        let device = device.open()?;
        let lynx = Lynx::new(&sizes.model, tokenizer.vocabulary(), sizes.features, 0, &device)?;
        let lynx = load(lynx, &sizes.model, &folder.join(WEIGHTS))?;
        Ok(Self { config: sizes.model, tokenizer, features: sizes.features, lynx })
    }
}

/// Returns the sizes of the model in a folder.
///
/// # Errors
///
/// If the folder has no readable `config.json` of [`SavedModel::write`].
pub fn config(folder: &Path) -> Result<ModelConfig> {
    Ok(sizes(folder)?.model)
}

fn sizes(folder: &Path) -> Result<Sizes> {
    let path = folder.join(CONFIG);
    let text = fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|error| Error::Pretrained { path, reason: error.to_string() })
}

/// Puts the weights of a file into a model of the same shape, but perhaps for another `image_size`:
/// position embeddings are interpolated.
///
/// # Errors
///
/// [`Error::Pretrained`] if a weight is missing, has another shape, or is one that the model does
/// not have.
pub(crate) fn load(model: Lynx, config: &ModelConfig, path: &Path) -> Result<Lynx> {
    let content = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let damaged = |reason: String| Error::Pretrained { path: path.to_owned(), reason };
    let tensors = SafeTensors::deserialize(&content).map_err(|error| damaged(error.to_string()))?;
    let class = usize::from(config.vit_class_token);
    let mut put = Put { tensors: &tensors, class, path: Vec::new(), taken: 0, wrong: None };
    let model = model.map(&mut put);
    if let Some(reason) = put.wrong {
        return Err(damaged(reason));
    }
    if put.taken < tensors.len() {
        return Err(damaged(format!("it has {} weights, but the model has {}", tensors.len(), put.taken)));
    }
    Ok(model)
}

/// Weights by path, each with its shape and little-endian bytes.
#[derive(Default)]
struct Weights {
    path: Vec<String>,
    found: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let weight = param.val();
        let shape = weight.dims().to_vec();
        let numbers = weight.try_to_vec_as::<f32>().expect("weights are 32-bit floats on the host");
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.found.insert(self.path.join("."), (shape, bytes));
    }
}

struct Put<'a> {
    tensors: &'a SafeTensors<'a>,
    /// Rows of position embeddings before those of patches.
    class: usize,
    path: Vec<String>,
    taken: usize,
    /// The fault of the first weight that cannot be used.
    wrong: Option<String>,
}

impl ModuleMapper for Put<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let (shape, device) = (param.val().dims(), param.val().device());
        let found = self.tensors.tensor(&name).ok().filter(|view| view.dtype() == Dtype::F32);
        let Some(view) = found else {
            self.wrong.get_or_insert(format!("{name} is missing, or not stored as F32"));
            return param;
        };
        let (numbers, _) = view.data().as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let numbers = match (view.shape(), shape.as_slice()) {
            (theirs, ours) if theirs == ours => Some(numbers),
            ([1, _, theirs], [1, tokens, ours]) if name.ends_with("pos_embed") && theirs == ours => {
                positions::resized(&numbers, *ours, self.class, *tokens).map(|(resized, _)| resized)
            }
            _ => None,
        };
        let Some(numbers) = numbers else {
            self.wrong.get_or_insert(format!("{name} has the shape {:?}, but the model needs {shape:?}", view.shape()));
            return param;
        };
        self.taken += 1;
        param.map(|old| {
            Tensor::from_data(TensorData::new(numbers, shape), &device).set_require_grad(old.is_require_grad())
        })
    }
}
