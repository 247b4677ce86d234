//! Rows of a folder of classes: one row per file.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;

use super::{Emit, Source};

/// Reads a folder in which every class has a folder with its files. Rows have the fields `class`,
/// the path of the class folder from the table's folder, and `path`, the path of the file from the
/// root folder. Rows are in the order of their paths. Files whose names begin with a dot are
/// skipped.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let folder = source.on_disk()?;
    if !folder.is_dir() {
        return Err("is not a folder of class folders".to_owned());
    }
    below(folder, &source.file.name, "", &mut 0, emit).map(|_| ())
}

fn below(folder: &Path, name: &str, class: &str, number: &mut u64, emit: &mut Emit) -> Result<ControlFlow<()>, String> {
    let failed = |fault: std::io::Error| format!("{name}: {fault}");
    let mut entries = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(last) = entry.file_name().into_string() else { continue };
        if last.starts_with('.') {
            continue;
        }
        let path = format!("{name}/{last}");
        let flow = if entry.path().is_dir() {
            let class = if class.is_empty() { last } else { format!("{class}/{last}") };
            below(&entry.path(), &path, &class, number, emit)?
        } else if class.is_empty() {
            // A file next to the class folders, such as a list or a readme.
            continue;
        } else {
            *number += 1;
            emit(*number - 1, Ok(json!({ "class": class, "path": path }).into()))
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn every_file_of_a_class_is_a_row() {
        let root = tempfile::tempdir().unwrap();
        for name in ["val/n02/b.jpg", "val/n01/a.jpg", "val/deep/er/c.jpg", "val/list.txt", "val/n01/.hidden"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let found = rows(root.path(), "file = \"{split}\"\nformat = \"folders\"", Shape::List).unwrap();
        let row = |number, class: &str, path: &str| ("val".to_owned(), number, json!({ "class": class, "path": path }));
        let expected =
            [row(0, "deep/er", "val/deep/er/c.jpg"), row(1, "n01", "val/n01/a.jpg"), row(2, "n02", "val/n02/b.jpg")];
        assert_eq!(found, expected);
    }
}
