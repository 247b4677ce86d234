//! Circular imports among the modules of a crate that have the same parent: `a` imports `b`, which
//! imports `a`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

/// The modules that each module imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The names of a module and of its parents, from the root of the crate: `["source", "files"]`.
type ModulePath = Vec<String>;

/// Returns the circles among the modules of the crate whose source is in a folder, each as `a -> b
/// -> a`. Tests are not checked; they may import anything.
pub(super) fn circles(source: &Path) -> Result<Vec<String>> {
    let mut texts = BTreeMap::new();
    read_below(source, &ModulePath::new(), &mut texts)?;
    // Names that a module re-exports stand for the modules that they come from.
    let exported: BTreeMap<&ModulePath, BTreeMap<String, String>> =
        texts.iter().map(|(module, text)| (module, exported(text))).collect();
    let mut circles = Vec::new();
    for parent in texts.keys() {
        let is_child = |module: &ModulePath| module.len() > parent.len() && module.starts_with(parent);
        let mut imports = Imports::new();
        for (module, text) in texts.iter().filter(|(module, _)| is_child(module)) {
            let own = &module[parent.len()];
            let imported = mentioned(text, module).into_iter().filter(is_child).filter_map(|path| {
                let name = &path[parent.len()];
                let name = exported[parent].get(name).unwrap_or(name);
                let is_module = texts.contains_key(&[parent.as_slice(), std::slice::from_ref(name)].concat());
                (is_module && name != own).then(|| name.clone())
            });
            imports.entry(own.clone()).or_default().extend(imported);
        }
        let within = parent.join("::") + if parent.is_empty() { "" } else { "::" };
        circles.extend(circles_in(&imports).into_iter().map(|circle| within.clone() + &circle));
    }
    Ok(circles)
}

/// Reads the files below a folder, without their tests, by the modules that they are.
fn read_below(folder: &Path, parent: &ModulePath, texts: &mut BTreeMap<ModulePath, String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let mut module = parent.clone();
        if !["lib", "main", "mod"].contains(&name) {
            module.push(name.to_owned());
        }
        if path.is_dir() {
            read_below(&path, &module, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let text = std::fs::read_to_string(&path)?;
            texts.entry(module).or_default().push_str(&without_tests(&text));
        }
    }
    Ok(())
}

/// Removes comments, and the tests at the end of a file.
pub(super) fn without_tests(text: &str) -> String {
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(crate) mod tests {"];
    let end = tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len());
    let code = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect()
}

/// Returns the paths from the root of the crate that a text of a module mentions: those that begin
/// with `crate`, `self` or `super`.
fn mentioned(text: &str, module: &ModulePath) -> Vec<ModulePath> {
    let mut paths = Vec::new();
    let is_of_name = |character: char| character.is_alphanumeric() || character == '_';
    for (start, found) in ["crate::", "self::", "super::"].iter().flat_map(|found| text.match_indices(found)) {
        // `pub(in crate::…)` and `$crate::` are the same names; the end of another path is not.
        if text[..start].ends_with(|before: char| is_of_name(before) || before == ':') {
            continue;
        }
        let (mut base, mut rest) = match found {
            "crate::" => (ModulePath::new(), &text[start + found.len()..]),
            "self::" => (module.clone(), &text[start + found.len()..]),
            _ => (module.clone(), &text[start..]),
        };
        while let Some(behind) = rest.strip_prefix("super::") {
            (rest, _) = (behind, base.pop());
        }
        paths_of(rest, &base, &mut paths);
    }
    paths
}

/// Appends the paths of the tree of names that a text begins with, such as `a::{b, c::D}`, below a
/// module. Returns the text after it.
fn paths_of<'a>(text: &'a str, base: &ModulePath, paths: &mut Vec<ModulePath>) -> &'a str {
    let Some(mut rest) = text.strip_prefix('{') else {
        let Some(name) = identifier(text) else { return text };
        let path = [base.as_slice(), std::slice::from_ref(&name)].concat();
        let rest = &text[name.len()..];
        return match rest.strip_prefix("::") {
            Some(behind) if behind.starts_with('{') || identifier(behind).is_some() => paths_of(behind, &path, paths),
            _ => {
                paths.push(path);
                rest
            }
        };
    };
    loop {
        rest = paths_of(rest.trim_start(), base, paths);
        // What stands between the names of a list: `as other`, white space.
        let Some(mark) = rest.find([',', '}']) else { return "" };
        let is_last = rest[mark..].starts_with('}');
        rest = &rest[mark + 1..];
        if is_last {
            return rest;
        }
    }
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Returns the module of every name that a module re-exports from one below it: `use a::{B, C};`.
fn exported(text: &str) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for statement in text.split(';') {
        let Some((before, path)) = statement.rsplit_once("use ") else { continue };
        if !before.trim_end().ends_with("pub") && !before.trim_end().ends_with(')') {
            continue;
        }
        let mut paths = Vec::new();
        paths_of(path.strip_prefix("self::").unwrap_or(path), &ModulePath::new(), &mut paths);
        for path in paths {
            if let [module, .., name] = path.as_slice() {
                exported.insert(name.clone(), module.clone());
            }
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

    #[test]
    fn circles_are_found_below_the_root_and_through_super() {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            &[
                ("lib.rs", "mod a; mod b;\n"),
                ("a.rs", "mod deep;\nmod other;\npub(crate) use deep::Deep;\nuse super::b::{self, One};\n"),
                ("a/deep.rs", "use super::other::Other as Another;\n"),
                ("a/other.rs", "fn f(deep: super::Deep) {}\n"),
                ("b.rs", "fn one() {}\n"),
                ("b/deep.rs", "use super::super::a;\nuse super::one;\n"),
            ],
        );
        assert_eq!(circles(folder.path()).unwrap(), ["a -> b -> a", "a::deep -> other -> deep"]);
    }
}
