//! Paths and names of a recipe, and hints about wrong ones.

use std::path::{Path, PathBuf};

use lynxdata_records::nearest;

/// A path of a recipe, with its key.
pub(super) type NamedPath<'a> = (&'static str, &'a mut PathBuf);

/// Returns a hint with the nearest file name in the same folder, or nothing.
pub(super) fn neighbour(path: &Path) -> String {
    let find = || {
        let names =
            std::fs::read_dir(path.parent()?).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names: Vec<String> = names.collect();
        nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str)).map(str::to_owned)
    };
    find().map_or_else(String::new, |name| format!("\nhint: did you mean {name:?}?"))
}

pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
