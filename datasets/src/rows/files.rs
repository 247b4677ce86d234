//! Which files a table names.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::rows::table::Table;

/// A native file of a table.
#[derive(Debug, Clone)]
pub(crate) struct NativeFile {
    /// From the root folder on, with `/`: the provenance that records carry.
    pub(crate) name: Arc<str>,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// What stands for the names in braces: rows get it as fields with an underscore before them.
    pub(crate) parts: Vec<(String, String)>,
}

/// `{name}`, `**` or `*` in a pattern.
static PLACEHOLDER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{([a-z][a-z0-9_]*)\}|\*").expect("the tests compile it"));

/// Returns the names in braces of a pattern, but for `{split}`.
///
/// # Errors
/// If braces hold no name, a name stands twice, or `**` is not a whole component.
pub(crate) fn part_names(pattern: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    let mut bare = pattern.to_owned();
    for found in PLACEHOLDER.captures_iter(pattern) {
        let Some(name) = found.get(1) else { continue };
        bare = bare.replace(&found[0], "");
        if name.as_str() == "split" {
            continue;
        }
        if names.iter().any(|other| other == name.as_str()) {
            return Err(format!("`{{{}}}` stands twice", name.as_str()));
        }
        names.push(name.as_str().to_owned());
    }
    if bare.contains(['{', '}']) {
        return Err("braces must hold a name of a-z, 0-9 and _".to_owned());
    }
    if pattern.split('/').any(|part| part.contains("**") && part != "**") {
        return Err("`**` stands for whole folders, as in `a/**/b.json`".to_owned());
    }
    Ok(names)
}

/// Returns the files of a table for a split, in the order of their names. `{split}` in the pattern
/// is replaced. `*` stands for any part of a name, `**` for any folders or none, and another name
/// in braces for a part of a name that rows carry. A file may have `.gz` behind its name.
pub(crate) fn files(root: &Path, table: &Table, split: &str) -> io::Result<Vec<NativeFile>> {
    let pattern = table.file.replace("{split}", split);
    let components: Vec<&str> = pattern.split('/').collect();
    let mut found = Vec::new();
    walk(root, "", &components, &[], &mut found)?;
    found.sort_by(|first, second| first.name.cmp(&second.name));
    found.dedup_by(|second, first| second.name == first.name);
    // Where a file lies packed beside itself, it is read once.
    let names: Vec<Arc<str>> = found.iter().map(|file| file.name.clone()).collect();
    found.retain(|file| !file.name.strip_suffix(".gz").is_some_and(|plain| names.iter().any(|name| **name == *plain)));
    Ok(found)
}

fn walk(
    folder: &Path,
    name: &str,
    components: &[&str],
    parts: &[(String, String)],
    found: &mut Vec<NativeFile>,
) -> io::Result<()> {
    let Some((component, rest)) = components.split_first() else { return Ok(()) };
    let joined = |last: &str| if name.is_empty() { last.to_owned() } else { format!("{name}/{last}") };
    let is_last = rest.is_empty();
    if *component == "**" {
        walk(folder, name, rest, parts, found)?;
        for (last, path) in entries(folder)? {
            if path.is_dir() {
                walk(&path, &joined(&last), components, parts, found)?;
            }
        }
        return Ok(());
    }
    if !PLACEHOLDER.is_match(component) {
        let names = if is_last {
            vec![(*component).to_owned(), format!("{component}.gz")]
        } else {
            vec![(*component).to_owned()]
        };
        for last in names {
            let path = folder.join(&last);
            if path.try_exists()? {
                if !is_last {
                    return walk(&path, &joined(&last), rest, parts, found);
                }
                found.push(NativeFile { name: joined(&last).into(), path, parts: parts.to_vec() });
            }
        }
        return Ok(());
    }
    let regex = component_regex(component);
    for (last, path) in entries(folder)? {
        let plain = if is_last { last.strip_suffix(".gz").unwrap_or(&last) } else { &last };
        let Some(captures) = regex.captures(plain) else { continue };
        let mut parts = parts.to_vec();
        for part in regex.capture_names().flatten() {
            parts.push((part.to_owned(), captures[part].to_owned()));
        }
        if is_last {
            found.push(NativeFile { name: joined(&last).into(), path, parts });
        } else if path.is_dir() {
            walk(&path, &joined(&last), rest, &parts, found)?;
        }
    }
    Ok(())
}

/// Returns what a component of a pattern matches.
fn component_regex(component: &str) -> Regex {
    let mut pattern = "^".to_owned();
    let mut end = 0;
    for found in PLACEHOLDER.captures_iter(component) {
        let whole = found.get(0).expect("group 0 is the match");
        pattern.push_str(&regex::escape(&component[end..whole.start()]));
        match found.get(1) {
            Some(name) => pattern.push_str(&format!("(?P<{}>.+)", name.as_str())),
            None => pattern.push_str(".*"),
        }
        end = whole.end();
    }
    pattern.push_str(&regex::escape(&component[end..]));
    pattern.push('$');
    Regex::new(&pattern).expect("names and escaped texts are a regular expression")
}

/// Returns the entries of a folder, none if it is not there.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(fault) if matches!(fault.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str) -> Vec<(String, Vec<(String, String)>)> {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "data/auto/01/dataset.csv",
            "data/auto/02/dataset.csv.gz",
            "data/book/x.csv",
            "train_1.json",
            "train_1.json.gz",
            "train_2.json",
            "data/dataset.csv",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let table: Table = toml::from_str(&format!("file = \"{pattern}\"")).unwrap();
        let files = files(folder.path(), &table, "train").unwrap();
        files.into_iter().map(|file| (file.name.to_string(), file.parts)).collect()
    }

    #[test]
    fn patterns_name_files_of_many_folders_and_their_parts() {
        let names = |pattern: &str| found(pattern).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("{split}_*.json"), ["train_1.json", "train_2.json"]);
        assert_eq!(names("{split}_1.json"), ["train_1.json"]);
        let all = ["data/auto/01/dataset.csv", "data/auto/02/dataset.csv.gz", "data/dataset.csv"];
        assert_eq!(names("data/**/dataset.csv"), all);
        assert_eq!(names("nowhere/**/dataset.csv"), [""; 0]);
        let part = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parts: Vec<_> = found("data/{site}/{page}/dataset.csv").into_iter().map(|(_, parts)| parts).collect();
        let of_page = |page: &str| vec![part("site", "auto"), part("page", page)];
        assert_eq!(parts, [of_page("01"), of_page("02")]);
        assert_eq!(found("train_{number}.json")[1].1, [part("number", "2")]);
    }

    #[test]
    fn faulty_patterns_are_told() {
        assert_eq!(part_names("{split}/{a}_{b}.json").unwrap(), ["a", "b"]);
        for (pattern, expected) in [("{a}/{a}", "stands twice"), ("{A}.json", "braces"), ("a**/b", "whole folders")] {
            assert!(part_names(pattern).unwrap_err().contains(expected), "{pattern}");
        }
    }
}
