//! Circular imports among the top-level modules of a crate: `a` imports `b`, which imports `a`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

/// The modules that each module imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Returns the circles among the modules of the crate whose source is in a folder, each as `a -> b
/// -> a`. Tests are not checked; they may import anything.
pub(super) fn circles(source: &Path) -> Result<Vec<String>> {
    let mut imports = Imports::new();
    let mut root = String::new();
    for entry in std::fs::read_dir(source)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if ["lib", "main", "tests"].contains(&name.as_str()) {
            if name != "tests" {
                root = std::fs::read_to_string(&path)?;
            }
            continue;
        }
        let mut text = String::new();
        read_below(&path, &mut text)?;
        imports.entry(name).or_default().extend(mentioned(&text));
    }
    let exported = exported(&root);
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for (module, mentioned) in &mut imports {
        let of_modules = mentioned.iter().filter_map(|name| {
            let name = exported.get(name).unwrap_or(name);
            (modules.contains(name) && name != module).then(|| name.clone())
        });
        *mentioned = of_modules.collect();
    }
    Ok(circles_in(&imports))
}

/// Appends the text of a file, or of all files below a folder, without their tests.
fn read_below(path: &Path, text: &mut String) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            read_below(&entry?.path(), text)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
        let whole = std::fs::read_to_string(path)?;
        let tests = ["#[cfg(test)]\nmod tests", "#[cfg(test)]\npub(crate) mod tests"];
        let end = tests.iter().filter_map(|start| whole.find(start)).min().unwrap_or(whole.len());
        let code = &whole[..end];
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        text.extend(code.flat_map(|line| [line, "\n"]));
    }
    Ok(())
}

/// Returns the names that follow `crate::`, also those in braces.
fn mentioned(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (place, found) in text.match_indices("crate::") {
        // `pub(in crate::…)` and `$crate::` are the same names.
        let rest = &text[place + found.len()..];
        match rest.strip_prefix('{') {
            None => names.extend(identifier(rest)),
            Some(list) => names.extend(first_names(list)),
        }
    }
    names
}

/// Returns the first name of each element of a list in braces, which may contain lists.
fn first_names(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (place, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.extend(identifier(list[start..place].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(identifier(list[start..place].trim_start()));
                start = place + 1;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Returns the module of every name that the root of a crate re-exports: `use a::{B, C};`.
fn exported(root: &str) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for statement in root.split(';') {
        let Some((_, path)) = statement.rsplit_once("use ") else { continue };
        let Some((module, names)) = path.split_once("::") else { continue };
        // The last name of each path, as in `{Alpha, inner::Beta}`.
        for name in names.trim().trim_matches(['{', '}']).split(',') {
            let name = name.rsplit("::").next().unwrap_or(name).trim();
            exported.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    exported
}

/// Returns one circular path for every module that reaches itself; each circle is listed once.
fn circles_in(imports: &Imports) -> Vec<String> {
    let mut circles = Vec::new();
    let mut told: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
    for start in imports.keys() {
        let Some(way) = way_back(imports, start) else { continue };
        if told.insert(way.iter().copied().collect()) {
            circles.push(way.join(" -> "));
        }
    }
    circles
}

/// Returns the shortest path from a module back to itself.
fn way_back<'a>(imports: &'a Imports, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways: Vec<Vec<&str>> = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way[way.len() - 1];
            for next in imports.get(last).into_iter().flatten() {
                let way: Vec<&str> = way.iter().copied().chain([next.as_str()]).collect();
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.as_str()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn circles_are_found_through_braces_folders_and_names_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                ("lib.rs", "mod a; mod b; mod c; mod d;\npub use a::{Alpha, inner::Beta};\npub use d::Delta;\n"),
                ("a.rs", "use crate::{b::Name, c::{One, Two}};\n"),
                ("b/mod.rs", "//! See crate::a.\nuse std::fmt;\n"),
                ("b/deep.rs", "use crate::Alpha;\n"),
                ("c.rs", "use crate::d::Delta;\n"),
                ("d.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::c::One;\n}\n"),
            ],
        );
        assert_eq!(circles(folder.path()).unwrap(), ["a -> b -> a"]);
    }
}
