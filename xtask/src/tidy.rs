//! The invariants of ARCHITECTURE.md that a machine can check: which crate may import which, that
//! every folder is where the table says, and that the modules of a crate do not import each other
//! in circles. It also checks that the recipes of CONTRIBUTING.md are true, that columns of tables
//! are named by constants, and that comments and prose have at most 100 columns, also comments in
//! TOML, YAML, Python and shell files.

mod circles;
mod columns;
mod literals;
mod recipes;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// A row of the table of folders: a crate, its folder, and the workspace crates that it imports.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    name: String,
    folder: String,
    imports: BTreeSet<String>,
}

/// External crates and the only members that may depend on them. All other members therefore build
/// and test in seconds.
const FENCED: &[(&str, &[&str])] = &[
    ("datafusion", &["lynxdata-engine"]),
    ("ballista", &["lynxdata-engine"]),
    ("burn", &["lynxdata-burn-model"]),
    ("tokio", &["lynxdata-fetch", "lynxdata-engine", "lynxdata-generation", "lynxdata-run", "lynxdata"]),
    ("hyper-rustls", &["lynxdata-fetch"]),
    ("reqwest", &["lynxdata-generation"]),
    ("anyhow", &["lynxdata-run", "lynxdata", "xtask"]),
];

/// Packages whose library has another name.
const LIBRARIES: &[(&str, &str)] = &[("md-5", "md5"), ("rustls-webpki", "webpki")];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for a normal one.
    #[serde(default)]
    kind: Option<String>,
}

/// Checks the workspace in the current folder.
pub(crate) fn run() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
    let root = Path::new(&metadata.workspace_root);
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("cannot read ARCHITECTURE.md")?;
    let members = members(&page);
    if members.is_empty() {
        bail!("ARCHITECTURE.md has no table of folders and crates");
    }
    let mut faults = faults(&members, &metadata);
    faults.extend(unused(&metadata)?);
    for member in &members {
        let source = root.join(&member.folder).join("src");
        let found = circles::circles(&source).with_context(|| format!("cannot read {}", source.display()))?;
        faults.extend(found.into_iter().map(|circle| format!("{}: modules import in a circle: {circle}", member.name)));
    }
    faults.extend(recipes::faults(root)?);
    faults.extend(columns::faults(root)?);
    faults.extend(literals::faults(root)?);
    if !faults.is_empty() {
        bail!("the workspace is not tidy:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

/// Returns the dependencies that no code of their crate names. The tests of the program are in the
/// folder `tests`.
fn unused(metadata: &Metadata) -> Result<Vec<String>> {
    let root = Path::new(&metadata.workspace_root);
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let folder = Path::new(&package.manifest_path).parent().context("a manifest is in a folder")?;
        let mut code = String::new();
        for part in ["src", "tests", "examples", "benches"].map(|part| folder.join(part)) {
            read_code(&part, &mut code)?;
        }
        code += &std::fs::read_to_string(folder.join("build.rs")).unwrap_or_default();
        if package.name == "lynxdata" {
            read_code(&root.join("tests"), &mut code)?;
        }
        for dependency in &package.dependencies {
            let library = LIBRARIES.iter().find(|(package, _)| *package == dependency.name);
            let name = library.map_or_else(|| dependency.name.replace('-', "_"), |(_, name)| (*name).to_owned());
            if !code.contains(&format!("{name}::")) && !code.contains(&format!("use {name}")) {
                faults.push(format!("{} depends on {}, but no code names it", package.name, dependency.name));
            }
        }
    }
    Ok(faults)
}

/// Appends the Rust files below a folder, if there is such a folder.
fn read_code(folder: &Path, code: &mut String) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            read_code(&path, code)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *code += &std::fs::read_to_string(&path)?;
        }
    }
    Ok(())
}

/// Reads the rows of the table that name a folder and a crate, such as
/// ``| `check`, `lynxdata-check` | … | none |``.
fn members(page: &str) -> Vec<Member> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [names, _, imports] = cells[..] else { return None };
        let names: Vec<&str> = names.split(", ").filter_map(|name| name.strip_prefix('`')?.strip_suffix('`')).collect();
        let [folder, name] = names[..] else { return None };
        let imports = imports.split(", ").filter(|import| *import != "none");
        Some(Member {
            name: name.to_owned(),
            folder: folder.to_owned(),
            imports: imports.map(|import| format!("lynxdata-{}", import.replace('_', "-"))).collect(),
        })
    });
    rows.collect()
}

fn faults(members: &[Member], metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(member) = members.iter().find(|member| member.name == name) else {
            faults.push(format!("{name} is not in the table of ARCHITECTURE.md; add a row"));
            continue;
        };
        let expected = format!("{}/{}/Cargo.toml", metadata.workspace_root, member.folder);
        if package.manifest_path != expected {
            faults.push(format!(
                "{name} is in {}, not in {} as ARCHITECTURE.md says",
                package.manifest_path, member.folder
            ));
        }
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
        let imported: BTreeSet<&str> = normal.map(|dependency| dependency.name.as_str()).collect();
        for import in imported.iter().filter(|import| members.iter().any(|member| member.name == **import)) {
            if !member.imports.contains(*import) {
                faults.push(format!("{name} imports {import}, which ARCHITECTURE.md does not say"));
            }
        }
        for import in &member.imports {
            if !imported.contains(import.as_str()) {
                faults.push(format!("{name} does not import {import}, as ARCHITECTURE.md says"));
            }
        }
        for dependency in &package.dependencies {
            let imported = dependency.name.as_str();
            let fence =
                FENCED.iter().find(|(outside, _)| imported == *outside || imported.starts_with(&format!("{outside}-")));
            if let Some((outside, allowed)) = fence
                && !allowed.contains(&name)
            {
                faults
                    .push(format!("{name} depends on {imported}; only {} may depend on {outside}", allowed.join(", ")));
            }
        }
    }
    for member in members {
        if !metadata.packages.iter().any(|package| package.name == member.name) {
            faults.push(format!("{} is in the table of ARCHITECTURE.md but not in the workspace", member.name));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
| folder, crate | owns | imports of ours |
|---|---|---|
| `signals`, `lynxdata-signals` | signals | none |
| `pipeline/engine`, `lynxdata-engine` | rules | signals |
| `docs` | pages for users | – |
";

    fn workspace() -> Metadata {
        let package = |name: &str, folder: &str, imports: &[&str]| Package {
            name: name.to_owned(),
            manifest_path: format!("/repository/{folder}/Cargo.toml"),
            dependencies: imports.iter().map(|name| Dependency { name: (*name).to_owned(), kind: None }).collect(),
        };
        Metadata {
            packages: vec![
                package("lynxdata-signals", "signals", &[]),
                package("lynxdata-engine", "pipeline/engine", &["lynxdata-signals"]),
            ],
            workspace_root: "/repository".to_owned(),
        }
    }

    fn faults_after(change: impl Fn(&mut Vec<Package>)) -> Vec<String> {
        let mut metadata = workspace();
        change(&mut metadata.packages);
        faults(&members(PAGE), &metadata)
    }

    fn dependency(name: &str) -> Dependency {
        Dependency { name: name.to_owned(), kind: None }
    }

    #[test]
    fn imports_are_those_of_the_table_exactly() {
        assert!(faults_after(|_| ()).is_empty());
        assert_eq!(
            faults_after(|packages| packages[0].dependencies.push(dependency("lynxdata-engine"))),
            ["lynxdata-signals imports lynxdata-engine, which ARCHITECTURE.md does not say"]
        );
        assert_eq!(
            faults_after(|packages| packages[1].dependencies.clear()),
            ["lynxdata-engine does not import lynxdata-signals, as ARCHITECTURE.md says"]
        );
    }

    #[test]
    fn heavy_crates_stay_behind_their_fence() {
        assert!(faults_after(|packages| packages[1].dependencies.push(dependency("datafusion-expr"))).is_empty());
        for outside in ["datafusion", "tokio", "burn", "anyhow"] {
            let found = faults_after(|packages| packages[0].dependencies.push(dependency(outside)));
            assert_eq!(found.len(), 1, "{outside}");
        }
    }

    #[test]
    fn a_crate_in_another_folder_or_in_none_is_a_fault() {
        let moved = |packages: &mut Vec<Package>| {
            packages[0].manifest_path = "/repository/words/Cargo.toml".to_owned();
        };
        assert_eq!(faults_after(moved).len(), 1);
        assert_eq!(faults_after(|packages| drop(packages.pop())).len(), 1);
    }
}
