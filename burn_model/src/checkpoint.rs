//! Checkpoints: one safetensors file with the weights, the optimiser's moments, the
//! sums of weights for their mean, and the losses so far.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::average::Average;
use crate::error::{Error, Result};
use crate::optimizer::{AdamW, Moments};

/// The metadata key of [`Head`].
const HEAD: &str = "lynxdata";

/// The header of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Head {
    /// Fingerprint of everything that determines the run.
    fingerprint: String,
    /// Steps taken.
    steps: usize,
    /// Digest of all arrays; checkpoints of earlier versions have none.
    #[serde(default)]
    digest: Option<String>,
}

/// Writes the state after `losses.len()` steps to a temporary file and renames it over the old one,
/// so that a process killed at any moment leaves a complete checkpoint.
pub(crate) fn write<M: Module>(
    path: &Path,
    fingerprint: &str,
    model: &M,
    optimizer: &AdamW,
    average: &Average,
    losses: &[f32],
) -> Result<()> {
    let mut arrays = Arrays::default();
    model.visit(&mut arrays);
    for (name, moments) in &optimizer.moments {
        arrays.add("first", name, &moments.first);
        arrays.add("second", name, &moments.second);
    }
    for (name, sum) in &average.sums {
        arrays.add("sum", name, sum);
    }
    arrays.all.insert("losses".to_owned(), (vec![losses.len()], bytes_of(losses)));
    let digest = digest(arrays.all.iter().map(|(name, (shape, bytes))| (name.as_str(), shape.as_slice(), &bytes[..])));
    let head = Head { fingerprint: fingerprint.to_owned(), steps: losses.len(), digest: Some(digest) };
    let head = serde_json::to_string(&head).expect("a struct of strings and numbers is valid JSON");
    let views = arrays.all.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("bytes are four per number of the shape");
        (name, view)
    });
    let content = safetensors::serialize(views, Some(HashMap::from([(HEAD.to_owned(), head)])))
        .expect("names are unique and tensors whole");
    let aside = path.with_extension("tmp");
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(&content)?;
        file.sync_all()
    });
    written.map_err(|source| Error::File { path: aside.clone(), source })?;
    fs::rename(&aside, path).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Reads a checkpoint into a model, an optimiser and a mean of weights; returns the model and the
/// losses so far, none if there is no file.
///
/// A file of another run is an error, so that no run continues from the weights of another.
pub(crate) fn read<M: Module>(
    path: &Path,
    fingerprint: &str,
    model: M,
    optimizer: &mut AdamW,
    average: &mut Average,
    device: &Device,
) -> Result<(M, Vec<f32>)> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok((model, Vec::new())),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
    };
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let (_, metadata) = SafeTensors::read_metadata(&content).map_err(|error| damaged(error.to_string()))?;
    let head = metadata.metadata().as_ref().and_then(|entries| entries.get(HEAD));
    let head = head.ok_or_else(|| damaged(format!("it has no {HEAD} entry")))?;
    let head: Head = serde_json::from_str(head).map_err(|error| damaged(error.to_string()))?;
    if head.fingerprint != fingerprint {
        return Err(Error::OtherRun { path: path.to_owned() });
    }
    let tensors = SafeTensors::deserialize(&content).map_err(|error| damaged(error.to_string()))?;
    let arrays: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    let found = digest(arrays.iter().map(|(name, array)| (name.as_str(), array.shape(), array.data())));
    if head.digest.is_some_and(|written| written != found) {
        return Err(damaged("its arrays are not those that were written".to_owned()));
    }
    let mut loaded = Loaded { tensors: &tensors, path: Vec::new(), names: Vec::new(), missing: None };
    let model = model.map(&mut loaded);
    if let Some(name) = loaded.missing {
        return Err(damaged(format!("{name} is missing or has another shape")));
    }
    let numbers = |name: String| numbers(&tensors, &name).ok_or_else(|| damaged(format!("{name} is missing")));
    for (name, is_trained) in loaded.names {
        let flat = |numbers: Vec<f32>| {
            let count = numbers.len();
            Tensor::from_data(TensorData::new(numbers, [count]), device)
        };
        if is_trained && average.has_begun(head.steps) {
            average.sums.insert(name.clone(), flat(numbers(format!("sum/{name}"))?));
        }
        // A frozen weight, or one that no loss depends on, has no moments.
        let moments = ["first", "second"].map(|kind| format!("{kind}/{name}"));
        if moments.iter().all(|name| tensors.tensor(name).is_err()) {
            continue;
        }
        let [first, second] = moments.map(|name| numbers(name).map(flat));
        let (first, second) = (first?, second?);
        optimizer.moments.insert(name, Moments { first, second });
    }
    optimizer.steps = head.steps;
    let losses = numbers("losses".to_owned())?;
    if losses.len() == head.steps {
        Ok((model, losses))
    } else {
        Err(damaged("its list of losses is incomplete".to_owned()))
    }
}

/// Returns the digest of arrays, each with its name, its shape and its bytes, in the order of their
/// names.
fn digest<'a>(arrays: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>) -> String {
    let mut hasher = lynxdata_hash::hash([]);
    for (name, shape, bytes) in arrays {
        lynxdata_hash::add(&mut hasher, name.as_bytes());
        lynxdata_hash::add(&mut hasher, format!("{shape:?}").as_bytes());
        lynxdata_hash::add(&mut hasher, bytes);
    }
    lynxdata_hash::hex(&hasher)
}

/// Arrays by name, sorted, each with its shape and little-endian bytes.
#[derive(Default)]
struct Arrays {
    path: Vec<String>,
    all: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Arrays {
    fn add<const D: usize>(&mut self, kind: &str, name: &str, tensor: &Tensor<D>) {
        let shape = tensor.dims().to_vec();
        let numbers = tensor.try_to_vec_as::<f32>().expect("weights and moments are 32-bit floats on the host");
        self.all.insert(format!("{kind}/{name}"), (shape, bytes_of(&numbers)));
    }
}

impl ModuleVisitor for Arrays {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        self.add("weight", &name, &param.val().inner());
    }
}

/// Puts a file's weights into a model.
struct Loaded<'a> {
    tensors: &'a SafeTensors<'a>,
    path: Vec<String>,
    /// Names, and whether the weight is trained.
    names: Vec<(String, bool)>,
    missing: Option<String>,
}

impl ModuleMapper for Loaded<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let key = format!("weight/{name}");
        let shape = param.val().dims();
        let same_shape = self.tensors.tensor(&key).is_ok_and(|view| view.shape() == shape);
        let Some(numbers) = numbers(self.tensors, &key).filter(|_| same_shape) else {
            self.missing.get_or_insert(key);
            return param;
        };
        self.names.push((name, param.val().is_require_grad()));
        let device = param.val().device();
        param.map(|old| {
            Tensor::from_data(TensorData::new(numbers, shape), &device).set_require_grad(old.is_require_grad())
        })
    }
}

fn numbers(tensors: &SafeTensors, name: &str) -> Option<Vec<f32>> {
    let view = tensors.tensor(name).ok().filter(|view| view.dtype() == Dtype::F32)?;
    let (numbers, _) = view.data().as_chunks::<4>();
    Some(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn bytes_of(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
