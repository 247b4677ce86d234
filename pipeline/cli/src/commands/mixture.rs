//! `lynxdata mixture`: the shares of tasks in an instruction set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use lynxdata_datasets::Catalogue;
use lynxdata_datasets::mixture::{Group, assign, preset, presets, quotas};
use lynxdata_prompts::Banks;
use lynxdata_records::{Manifest, PartEntry, RunFolder};
use lynxdata_run::recipe;
use lynxdata_run::stage::Stage as _;
use lynxdata_run::stages::instruct::{Instruct, parts_of, taken};
use serde::Serialize;
use serde_json::json;

use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, Failure};
use crate::paths::path_parser;

/// Show published mixtures of tasks, and what a mixture would draw
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata mixture list
  lynxdata mixture plan --preset lynx-finetune
  lynxdata mixture plan recipe.toml --preset lynx-finetune --total 100000")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Lists the published mixtures
    #[command(after_help = "\
Examples:
  lynxdata mixture list
  lynxdata mixture list --json")]
    List {
        /// As one JSON list
        #[arg(long)]
        json: bool,
    },
    /// Tells what a mixture draws of each task, and how often it repeats
    ///
    /// Without a recipe, the shares of a published mixture by its published sizes. With a recipe of
    /// which `instruct` is done, what it would draw of the conversations that are there, and what
    /// of the preset is missing.
    #[command(after_help = "\
Examples:
  lynxdata mixture plan --preset lynx-pretrain --json
  lynxdata mixture plan recipe.toml
  lynxdata mixture plan recipe.toml --preset lynx-finetune --total 100000")]
    Plan {
        /// A recipe with [instruct]
        #[arg(value_parser = path_parser(), required_unless_present = "preset")]
        recipe: Option<PathBuf>,

        /// A published mixture instead of that of the recipe
        #[arg(long, value_name = "NAME")]
        preset: Option<String>,

        /// Conversations of the whole set
        #[arg(long, value_name = "N", requires = "recipe")]
        total: Option<u64>,

        /// As one JSON list
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.action {
        Action::List { json } => list(*json),
        Action::Plan { recipe: None, preset, json, .. } => published(preset.as_deref().unwrap_or_default(), *json),
        Action::Plan { recipe: Some(recipe), preset, total, json } => planned(recipe, preset.as_deref(), *total, *json),
    }
}

fn usage(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Usage(error.into())
}

fn list(as_json: bool) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    for name in presets() {
        let mixture = preset(name).map_err(usage)?;
        rows.push((name, mixture));
    }
    if as_json {
        let rows = rows.iter().map(|(name, mixture)| {
            json!({"name": name, "description": mixture.description, "source": mixture.source, "groups": mixture.groups.len()})
        });
        print_json(&rows.collect::<Vec<_>>())?;
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, mixture)| {
            vec![name.to_owned(), mixture.groups.len().to_string(), mixture.description, mixture.source]
        })
        .collect();
    print(&columns(&["mixture", "groups", "description", "source"], &rows, &[1]))?;
    Ok(DONE)
}

/// One task of a published mixture.
#[derive(Serialize)]
struct Share {
    task: String,
    paper_row: Option<u32>,
    size: Option<u64>,
    ratio_percent: f64,
}

fn published(name: &str, as_json: bool) -> Result<u8, Failure> {
    let mixture = preset(name).map_err(usage)?;
    let catalogue = Catalogue::shipped(&Banks::shipped().map_err(usage)?).map_err(usage)?;
    let share = |(task, share): (&str, f64)| Share {
        task: task.to_owned(),
        paper_row: catalogue.get(task).ok().and_then(|task| task.paper_row).map(u32::from),
        size: mixture.sizes.get(task).copied(),
        // As table 9 of the paper prints them.
        ratio_percent: (share * 100_000.0).round() / 1000.0,
    };
    let shares: Vec<Share> = mixture.shares().into_iter().map(share).collect();
    if shares.is_empty() {
        let error = anyhow!("mixture {name} is over groups of the catalogue; give a recipe, whose tasks it shares out");
        return Err(Failure::Usage(error));
    }
    if as_json {
        print_json(&shares)?;
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = shares
        .into_iter()
        .map(|share| {
            vec![
                share.task,
                share.paper_row.map_or_else(|| "–".to_owned(), |row| row.to_string()),
                share.size.map_or_else(|| "–".to_owned(), grouped),
                format!("{:.3}", share.ratio_percent),
            ]
        })
        .collect();
    print(&columns(&["task", "row of table 9", "size", "%"], &rows, &[1, 2, 3]))?;
    Ok(DONE)
}

fn planned(path: &Path, preset_name: Option<&str>, total: Option<u64>, as_json: bool) -> Result<u8, Failure> {
    let loaded = recipe::load(path, &[]).map_err(Failure::Usage)?;
    let instruct = loaded.recipe.instruct.as_ref().with_context(|| format!("{} has no [instruct]", path.display()));
    let instruct = instruct.map_err(Failure::Usage)?;
    let own = instruct.mixture.as_ref();
    let name = preset_name.map(str::to_owned).or_else(|| own.and_then(|own| own.preset.clone()));
    let groups: Vec<Group> = match (&name, own) {
        (Some(name), _) => preset(name).map_err(usage)?.groups,
        (None, Some(own)) => own.groups().map_err(usage)?,
        (None, None) => {
            return Err(Failure::Usage(anyhow!("{} has no [instruct.mixture]; --preset names one", path.display())));
        }
    };
    let folder = loaded.run_folder();
    let manifest = if RunFolder::is_at(&folder) { Manifest::read(&folder)? } else { Manifest::default() };
    let (mut sizes, mut missing): (BTreeMap<String, u64>, Vec<String>) = Default::default();
    let parts: Vec<PartEntry> = manifest.parts(Instruct.name()).cloned().collect();
    let (catalogue, _) = loaded.tasks().map_err(Failure::Usage)?;
    for source in taken(instruct, catalogue).map_err(Failure::Usage)? {
        let parts = parts_of(source, &parts);
        if parts.is_empty() {
            let (folder, path) = (folder.display(), path.display());
            let fault = anyhow!(
                "{folder} has no conversations of {} yet\nhint: run `lynxdata instruct {path}` first",
                source.name
            );
            return Err(Failure::Failed(fault));
        }
        *sizes.entry(source.name.clone()).or_default() += parts.iter().map(|part| part.rows_out).sum::<u64>();
    }
    let mut of_catalogue = BTreeMap::new();
    for task in sizes.keys() {
        of_catalogue.insert(task.clone(), catalogue.get(task).map_err(usage)?.group.clone());
    }
    let empty: Vec<String> = sizes.iter().filter(|(_, size)| **size == 0).map(|(task, _)| task.clone()).collect();
    of_catalogue.retain(|task, _| sizes[task] > 0);
    let (filled, left) = assign(&groups, &of_catalogue).map_err(usage)?;
    let there: BTreeSet<&String> = sizes.keys().collect();
    missing.extend(groups.iter().flat_map(|group| &group.tasks).filter(|task| !there.contains(task)).cloned());
    let of_groups: u64 = filled.iter().flat_map(|group| &group.tasks).map(|task| sizes[task]).sum();
    let total = total.or_else(|| own.and_then(|own| own.total)).unwrap_or(of_groups);
    let quotas = quotas(&filled, &sizes, total).map_err(usage)?;
    let drawn: u64 = quotas.values().map(|quota| quota.records).sum();
    if as_json {
        let rows = quotas.iter().map(|(task, quota)| {
            json!({
                "task": task,
                "group": quota.group,
                "size": sizes[task],
                "records": quota.records,
                "epochs": quota.records as f64 / sizes[task].max(1) as f64,
                "ratio_percent": quota.records as f64 / drawn.max(1) as f64 * 100.0,
            })
        });
        print_json(&rows.collect::<Vec<_>>())?;
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = quotas
        .iter()
        .map(|(task, quota)| {
            vec![
                task.clone(),
                quota.group.clone(),
                grouped(sizes[task]),
                grouped(quota.records),
                format!("{:.2}", quota.records as f64 / sizes[task].max(1) as f64),
                format!("{:.3}", quota.records as f64 / drawn.max(1) as f64 * 100.0),
            ]
        })
        .collect();
    print(&columns(&["task", "group", "there", "drawn", "times", "%"], &rows, &[2, 3, 4, 5]))?;
    if drawn < total {
        print(&format!("{} of {} conversations: most_epochs allows no more\n", grouped(drawn), grouped(total)))?;
    }
    for (what, tasks) in [
        ("in no group, and left out", &left),
        ("of the mixture, but not in the recipe", &missing),
        ("without a conversation", &empty),
    ] {
        if !tasks.is_empty() {
            print(&format!("{what}: {}\n", tasks.join(", ")))?;
        }
    }
    Ok(DONE)
}
