//! Headers of safetensors files (github.com/huggingface/safetensors), one file or shards with an
//! index.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::tensors::{Encoding, Stored, Tensors, refused};
use crate::error::{Error, Result};

/// Maximum bytes of a header, as in the format's own library.
const MAX_HEADER: u64 = 100_000_000;

/// The name of a model in one file, and of the index of one in shards.
const ONE_FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Finds all tensors of a folder: of `model.safetensors`, or of the shards that its index names.
pub(super) fn folder(folder: &Path) -> Result<Tensors> {
    let mut tensors = Tensors::default();
    let one = folder.join(ONE_FILE);
    if one.is_file() {
        add_file(&one, &mut tensors)?;
        return Ok(tensors);
    }
    let path = folder.join(INDEX);
    let content = std::fs::read(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let index: Index = serde_json::from_slice(&content)
        .map_err(|error| Error::Pretrained { path: path.clone(), reason: error.to_string() })?;
    let mut shards: Vec<&String> = index.weight_map.values().collect();
    shards.sort();
    shards.dedup();
    for shard in shards {
        if shard.contains(['/', '\\']) {
            let reason = format!("the shard {shard:?} is not a name of a file in its folder");
            return Err(Error::Pretrained { path, reason });
        }
        add_file(&folder.join(shard), &mut tensors)?;
    }
    if let Some(name) = index.weight_map.keys().find(|name| tensors.get(name).is_none()) {
        return Err(refused(&path, name, "it is in none of the shards".to_owned()));
    }
    Ok(tensors)
}

#[derive(Deserialize)]
struct Index {
    /// The shard of every tensor.
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// First byte and the one after the last, from the end of the header.
    data_offsets: [u64; 2],
}

/// Adds the tensors of one file.
fn add_file(path: &Path, tensors: &mut Tensors) -> Result<()> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let damaged = |reason: String| Error::Pretrained { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(failed)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > file_bytes - 8 {
        return Err(damaged(format!("its header of {length} bytes does not fit the file of {file_bytes} bytes")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(failed)?;
    let entries: BTreeMap<String, Value> =
        serde_json::from_slice(&header).map_err(|error| damaged(format!("its header: {error}")))?;
    let file: Arc<Path> = path.into();
    for (name, entry) in entries.into_iter().filter(|(name, _)| name != "__metadata__") {
        let entry: Entry = serde_json::from_value(entry).map_err(|error| refused(path, &name, error.to_string()))?;
        let encoding = match entry.dtype.as_str() {
            "F32" => Encoding::F32,
            "F16" => Encoding::F16,
            "BF16" => Encoding::Bf16,
            other => Encoding::Other(other.to_owned()),
        };
        let [begin, end] = entry.data_offsets;
        let Some(offset) = begin.checked_add(8 + length) else {
            return Err(refused(path, &name, format!("it begins at {begin}")));
        };
        let stored = Stored { file: Arc::clone(&file), encoding, shape: entry.shape, offset };
        if stored.bytes().is_some_and(|bytes| begin.checked_add(bytes) != Some(end)) {
            return Err(refused(
                path,
                &name,
                format!("bytes {begin} to {end} do not match the shape {:?}", stored.shape),
            ));
        }
        tensors.add(name, stored, file_bytes)?;
    }
    Ok(())
}
