//! Checks that stages and commands name the columns of tables by constants
//! (`pipeline/records/src/schema.rs`), which also have the types, and not by texts.

use std::path::Path;

use anyhow::Result;

use super::circles::without_tests;

/// The folders with the code that reads the tables of a run.
const FOLDERS: &[&str] = &["pipeline/engine/src", "pipeline/run/src", "pipeline/cli/src"];

/// The beginnings of calls whose next argument, or first item of a list, is the name of a column.
const CALLS: &[&str] =
    &["column_by_name(", "column_with_name(", "index_of(", "columns(&context.run, &[", "Some(&[", "::named("];

/// Returns the places where a column is named by a text.
pub(super) fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for folder in FOLDERS {
        add_faults(root, &root.join(folder), &mut faults)?;
    }
    faults.sort();
    Ok(faults)
}

fn add_faults(root: &Path, folder: &Path, faults: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue; // tests check the names that are written
        }
        if path.is_dir() {
            add_faults(root, &path, faults)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let shown = path.strip_prefix(root).unwrap_or(&path).display();
            let found = named_by_texts(&std::fs::read_to_string(&path)?);
            faults.extend(found.into_iter().map(|line| format!("{shown} names a column by a text: {line}")));
        }
    }
    Ok(())
}

/// Returns the lines that name a column by a text, without those that define a constant.
fn named_by_texts(text: &str) -> Vec<String> {
    let code = without_tests(text);
    let mut found = Vec::new();
    for (start, call) in CALLS.iter().flat_map(|call| code.match_indices(call)) {
        let line = code[..start].rfind('\n').map_or(0, |end| end + 1);
        let line = code[line..].lines().next().unwrap_or_default().trim();
        if code[start + call.len()..].trim_start().starts_with('"') && !line.contains("const ") {
            found.push(line.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_and_constants_and_tests_are_not() {
        let code = r#"
            pub(super) const ARMS: Column<Int64Array> = Column::named("arms");
            let rows = table::read(&path, Some(&[UID.name, ARMS.name]))?;
            let texts = Column::<StringArray>::named(column).of(&rows, &path)?;
            // table::read(&path, Some(&["uid"]))
            let rows = table::read(&path, Some(&["kept"]))?;
            let values = batch.column_by_name(
                "width",
            );
            let values = Column::<Int64Array>::named("height").of(&rows, &path)?;
        "#;
        let code = code.to_owned() + "\n#[cfg(test)]\nmod tests {\n    let rows = batch.column_by_name(\"url\");\n}\n";
        let found = named_by_texts(&code);
        assert_eq!(found.len(), 3, "{found:?}");
        for (found, wanted) in found.iter().zip(["batch.column_by_name(", "Some(&[\"kept\"])", "named(\"height\")"]) {
            assert!(found.contains(wanted), "{found}");
        }
    }
}
