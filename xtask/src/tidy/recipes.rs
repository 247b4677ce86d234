//! Checks the recipes of CONTRIBUTING.md: the files that they name must exist, contain the named
//! items, and be all the files that an addition touches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// An example of a recipe: something that was added, by texts that occur in the files that its
/// addition touched.
struct Example {
    /// The beginning of the paragraph of the recipe.
    recipe: &'static str,
    /// Texts in Rust files outside of tests, each of which belongs only to this addition.
    texts: &'static [&'static str],
}

const EXAMPLES: &[Example] = &[
    Example { recipe: "A signal.", texts: &["repeated_words"] },
    Example {
        recipe: "An export of conversations.",
        texts: &["//! LLaVA's JSON", "mod llava;", "&llava::FORMAT", "\"conversations\", \"llava\""],
    },
    Example {
        recipe: "A metric of the check.",
        texts: &["//! Held-out loss", "mod held_out_loss;", "HELD_OUT_LOSS", " Losses {", "Seen::Scores {"],
    },
    Example {
        recipe: "A stage.",
        texts: &["//! Stage `shards`", "mod shards;", "&shards::Shards,", "pub shards:", "Shards(commands"],
    },
    Example { recipe: "A source format.", texts: &["SourceFormat::Txt", "mod txt;", "struct TxtRows"] },
    Example {
        recipe: "A subcommand.",
        texts: &["//! `lynxdata version`", "mod version;", "Version(commands", "commands::version::"],
    },
];

/// A recipe: a paragraph that begins with the added thing, in bold.
#[derive(Debug)]
struct Recipe<'a> {
    title: &'a str,
    /// Paths in it; a word in capitals, such as NAME, stands for any word.
    paths: Vec<&'a str>,
    /// Names and the files that they should be in.
    names: Vec<(&'a str, &'a str)>,
}

/// Returns the faults of the recipes of the repository in a folder.
pub(super) fn faults(root: &Path) -> Result<Vec<String>> {
    let page = std::fs::read_to_string(root.join("CONTRIBUTING.md")).context("cannot read CONTRIBUTING.md")?;
    let recipes = recipes(&page);
    let mut faults = Vec::new();
    for recipe in &recipes {
        let missing = recipe.paths.iter().filter(|path| !root.join(fixed(path)).exists());
        faults.extend(missing.map(|path| format!("CONTRIBUTING.md, {}: there is no {path}", recipe.title)));
        for (name, path) in &recipe.names {
            let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
            if !text.contains(name) {
                faults.push(format!("CONTRIBUTING.md, {}: there is no {name} in {path}", recipe.title));
            }
        }
    }
    let sources = sources(root)?;
    for example in EXAMPLES {
        match recipes.iter().find(|recipe| recipe.title == example.recipe) {
            Some(recipe) => faults.extend(faults_of_example(example, recipe, &sources)),
            None => faults.push(format!("CONTRIBUTING.md has no recipe that begins with {:?}", example.recipe)),
        }
    }
    Ok(faults)
}

/// Returns the recipes of the page.
fn recipes(page: &str) -> Vec<Recipe<'_>> {
    let paragraphs = page.split("\n\n").filter_map(|paragraph| paragraph.strip_prefix("**")?.split_once("**"));
    let recipes = paragraphs.map(|(title, text)| {
        // Every second piece is between backticks.
        let pieces: Vec<&str> = text.split('`').collect();
        let quoted: Vec<(usize, &str)> = pieces.iter().copied().enumerate().skip(1).step_by(2).collect();
        let names = quoted.windows(2).filter_map(|pair| {
            let [(place, name), (_, path)] = pair else { return None };
            let between = pieces[place + 1].trim();
            (is_path(path) && is_name(name) && ["in", "of"].contains(&between)).then_some((*name, *path))
        });
        Recipe {
            title,
            names: names.collect(),
            paths: quoted.into_iter().map(|(_, text)| text).filter(|text| is_path(text)).collect(),
        }
    });
    recipes.collect()
}

fn is_path(text: &str) -> bool {
    text.contains('/') && !text.contains(' ')
}

fn is_name(text: &str) -> bool {
    text.chars().all(|character| character.is_alphanumeric() || character == '_')
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// Returns the part of a path before a word in capitals, such as NAME.
fn fixed(path: &str) -> PathBuf {
    path.split('/').take_while(|part| !stands_for_any(part)).collect()
}

fn stands_for_any(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default();
    stem.len() > 1
        && stem.chars().all(|character| character.is_ascii_uppercase())
        && !["README", "AGENTS", "SOURCES"].contains(&stem)
}

/// Returns whether a path with placeholders matches a file.
fn is_meant(file: &str, path: &str) -> bool {
    let (file, path): (Vec<&str>, Vec<&str>) = (file.split('/').collect(), path.split('/').collect());
    file.len() == path.len() && file.iter().zip(&path).all(|(file, path)| file == path || stands_for_any(path))
}

/// Compares the files that contain the texts of an example with those that its recipe names.
fn faults_of_example(example: &Example, recipe: &Recipe<'_>, sources: &[(String, String)]) -> Vec<String> {
    let title = recipe.title;
    let has_text = |text: &str| example.texts.iter().any(|own| text.contains(own));
    let touched: BTreeSet<&str> =
        sources.iter().filter(|(_, text)| has_text(text)).map(|(path, _)| path.as_str()).collect();
    let lost = example.texts.iter().filter(|own| !sources.iter().any(|(_, text)| text.contains(**own)));
    let lost = lost.map(|own| format!("CONTRIBUTING.md, {title}: its example {own:?} is gone; choose another one"));
    let untold = touched.iter().filter(|file| !recipe.paths.iter().any(|path| is_meant(file, path)));
    let untold =
        untold.map(|file| format!("CONTRIBUTING.md, {title}: it does not name {file}, which its example touched"));
    let of_code = recipe.paths.iter().filter(|path| is_rust(path) && !path.ends_with("tests.rs"));
    let needless = of_code.filter(|path| !touched.iter().any(|file| is_meant(file, path)));
    let needless = needless.map(|path| format!("CONTRIBUTING.md, {title}: its example did not touch {path}"));
    lost.chain(untold).chain(needless).collect()
}

/// Returns paths and texts of all Rust files of the crates, without tests.
fn sources(root: &Path) -> Result<Vec<(String, String)>> {
    let (mut folders, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_left_out = name.starts_with('.') || ["target", "tests", "tests.rs", "xtask"].contains(&name);
            if is_left_out {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if is_rust(name) {
                let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let below = path.strip_prefix(root).expect("it was found below the root");
                let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
                found.push((below.to_string_lossy().into_owned(), text[..end].to_owned()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Adding things

**A signal.** One file, `signals/NAME.rs`, a line of
`GROUPS` in `signals/mod.rs`; `LYNXDATA_REWRITE=1 cargo test` writes `golden/parts.json`.

Not a recipe: `nowhere/at_all.rs`.
";

    const EXAMPLE: Example = Example { recipe: "A signal.", texts: &["sharpness"] };

    fn faults_with(files: &[&str]) -> Vec<String> {
        let recipes = recipes(PAGE);
        let sources: Vec<(String, String)> =
            files.iter().map(|path| ((*path).to_owned(), "mod sharpness;".to_owned())).collect();
        faults_of_example(&EXAMPLE, &recipes[0], &sources)
    }

    #[test]
    fn a_recipe_has_the_paths_and_names_between_backticks() {
        let recipes = recipes(PAGE);
        assert_eq!(recipes.len(), 1);
        assert_eq!(recipes[0].paths, ["signals/NAME.rs", "signals/mod.rs", "golden/parts.json"]);
        assert_eq!(recipes[0].names, [("GROUPS", "signals/mod.rs")]);
    }

    #[test]
    fn an_example_touches_the_files_of_its_recipe_exactly() {
        let both = ["signals/sharpness.rs", "signals/mod.rs"];
        assert!(faults_with(&both).is_empty());
        assert!(faults_with(&[both[0]])[0].contains("did not touch signals/mod.rs"));
        assert!(faults_with(&[both[0], both[1], "report/chart.rs"])[0].contains("does not name report/chart.rs"));
        assert_eq!(faults_with(&[]).len(), 3, "it is gone, and touched neither file");
    }

    #[test]
    fn files_and_names_that_are_not_there_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("CONTRIBUTING.md"), PAGE).unwrap();
        std::fs::create_dir(folder.path().join("signals")).unwrap();
        std::fs::write(folder.path().join("signals/mod.rs"), "").unwrap();
        let found = faults(folder.path()).unwrap();
        let about = |text: &str| found.iter().any(|fault| fault.contains(text));
        assert!(about("there is no golden/parts.json") && about("there is no GROUPS in signals/mod.rs"), "{found:?}");
        assert!(!about("there is no signals/") && !about("nowhere"), "{found:?}");
        assert!(about("no recipe that begins with \"A stage.\""), "{found:?}");
    }
}
