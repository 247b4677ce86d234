//! The invariants of ARCHITECTURE.md that a machine can check: which crate may import which, and that every folder is where the map says.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// A crate of the workspace: its folder, the crates of ours that it may import, and outside crates that must not come near it.
struct Member {
    name: &'static str,
    folder: &'static str,
    imports: &'static [&'static str],
}

const MEMBERS: &[Member] = &[
    Member { name: "lynxdata-records", folder: "pipeline/records", imports: &[] },
    Member { name: "lynxdata-picture", folder: "pipeline/picture", imports: &[] },
    Member { name: "lynxdata-fetch", folder: "pipeline/fetch", imports: &["lynxdata-records", "lynxdata-picture"] },
    Member { name: "lynxdata-filters", folder: "filters", imports: &["lynxdata-picture"] },
    Member { name: "lynxdata-prompts", folder: "prompts", imports: &[] },
    Member { name: "lynxdata-datasets", folder: "datasets", imports: &["lynxdata-records", "lynxdata-prompts"] },
    Member { name: "lynxdata-check", folder: "check", imports: &[] },
    Member { name: "lynxdata-evaluation", folder: "evaluation", imports: &[] },
    Member {
        name: "lynxdata-budgets",
        folder: "budgets",
        imports: &["lynxdata-records", "lynxdata-picture", "lynxdata-filters"],
    },
    Member { name: "lynxdata-burn-model", folder: "burn_model", imports: &[] },
    Member { name: "lynxdata-engine", folder: "pipeline/engine", imports: &["lynxdata-records", "lynxdata-filters"] },
    Member {
        name: "lynxdata",
        folder: "pipeline/cli",
        imports: &[
            "lynxdata-records",
            "lynxdata-picture",
            "lynxdata-fetch",
            "lynxdata-filters",
            "lynxdata-prompts",
            "lynxdata-datasets",
            "lynxdata-check",
            "lynxdata-evaluation",
            "lynxdata-budgets",
            "lynxdata-burn-model",
            "lynxdata-engine",
        ],
    },
    Member { name: "xtask", folder: "xtask", imports: &[] },
];

/// Outside crates and the only members that may depend on them. A member that is not listed may not, so it builds and tests in seconds.
const FENCED: &[(&str, &[&str])] = &[
    ("datafusion", &["lynxdata-engine"]),
    ("ballista", &["lynxdata-engine"]),
    ("burn", &["lynxdata-burn-model"]),
    ("tokio", &["lynxdata-fetch", "lynxdata-engine", "lynxdata"]),
    ("hyper-rustls", &["lynxdata-fetch", "lynxdata"]),
    ("anyhow", &["lynxdata", "xtask"]),
];

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
    let faults = faults(&metadata);
    if !faults.is_empty() {
        bail!("the workspace is not tidy:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn faults(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    let ours: BTreeSet<&str> = MEMBERS.iter().map(|member| member.name).collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(member) = MEMBERS.iter().find(|member| member.name == name) else {
            faults.push(format!("{name} is not in the map of xtask/src/tidy.rs"));
            continue;
        };
        let expected = format!("{}/{}/Cargo.toml", metadata.workspace_root, member.folder);
        if package.manifest_path != expected {
            faults.push(format!("{name} lies in {}, not in {}", package.manifest_path, member.folder));
        }
        for dependency in &package.dependencies {
            let imported = dependency.name.as_str();
            if ours.contains(imported) && !member.imports.contains(&imported) {
                faults.push(format!("{name} imports {imported}"));
            }
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
    for member in MEMBERS {
        if !metadata.packages.iter().any(|package| package.name == member.name) {
            faults.push(format!("{} is in the map but not in the workspace", member.name));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(change: impl Fn(&mut Package)) -> Metadata {
        let package = |member: &Member| Package {
            name: member.name.to_owned(),
            manifest_path: format!("/repository/{}/Cargo.toml", member.folder),
            dependencies: Vec::new(),
        };
        let mut packages: Vec<Package> = MEMBERS.iter().map(package).collect();
        packages.iter_mut().for_each(change);
        Metadata { packages, workspace_root: "/repository".to_owned() }
    }

    fn import(into: &str, imported: &str) -> Vec<String> {
        faults(&workspace(|package| {
            if package.name == into {
                package.dependencies.push(Dependency { name: imported.to_owned() });
            }
        }))
    }

    #[test]
    fn imports_against_the_flow_are_faults() {
        assert!(faults(&workspace(|_| {})).is_empty());
        assert!(import("lynxdata-engine", "lynxdata-filters").is_empty());
        assert_eq!(import("lynxdata-filters", "lynxdata-engine"), ["lynxdata-filters imports lynxdata-engine"]);
    }

    #[test]
    fn heavy_crates_stay_behind_their_fence() {
        assert!(import("lynxdata-engine", "datafusion-expr").is_empty());
        for (into, imported) in [("lynxdata", "datafusion"), ("lynxdata-records", "tokio"), ("lynxdata", "burn")] {
            assert_eq!(import(into, imported).len(), 1, "{into} and {imported}");
        }
    }

    #[test]
    fn a_crate_in_another_folder_is_a_fault() {
        let moved = workspace(|package| {
            if package.name == "lynxdata-prompts" {
                package.manifest_path = "/repository/words/Cargo.toml".to_owned();
            }
        });
        assert_eq!(faults(&moved).len(), 1);
    }
}
