//! `lynxdata mixture`: shows the shares of tasks in an instruction set.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use lynxdata_datasets::Catalogue;
use lynxdata_datasets::mixture::{TokenTotal, preset, presets};
use lynxdata_prompts::Banks;
use lynxdata_run::recipe;
use lynxdata_run::stages::mixture::{self, Drawn};
use serde::Serialize;
use serde_json::json;

use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, Failure};
use crate::paths::{input_parser, path_parser};

/// Show published mixtures of tasks, and what a mixture draws
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
    /// List the published mixtures
    #[command(after_help = "\
Examples:
  lynxdata mixture list
  lynxdata mixture list --json")]
    List {
        /// Print one JSON list
        #[arg(long)]
        json: bool,
    },
    /// Show how many conversations a mixture draws from each task, and how often it repeats them
    ///
    /// Without a recipe, prints the shares and sizes of a published mixture. With a recipe whose
    /// `instruct` is done, prints what the mixture would draw from its conversations, and which
    /// tasks of the preset are missing.
    #[command(after_help = "\
Examples:
  lynxdata mixture plan --preset lynx-pretrain --json
  lynxdata mixture plan recipe.toml
  lynxdata mixture plan recipe.toml --preset lynx-finetune --total 100000
  lynxdata mixture plan recipe.toml --tokens 50M --tokenizer tokenizer.json")]
    Plan {
        /// A recipe with [instruct]
        #[arg(value_parser = path_parser(), required_unless_present = "preset")]
        recipe: Option<PathBuf>,

        /// A published mixture, instead of the one of the recipe
        #[arg(long, value_name = "NAME")]
        preset: Option<String>,

        /// Number of conversations of the whole set
        #[arg(long, value_name = "N", requires = "recipe")]
        total: Option<u64>,

        /// Number of text tokens of the whole set instead, for example 50M
        #[arg(long, value_name = "N", requires = "recipe", conflicts_with = "total")]
        tokens: Option<TokenTotal>,

        /// The tokenizer.json that counts tokens; token counts are then printed for each task
        #[arg(long, value_name = "FILE", requires = "recipe", value_parser = input_parser())]
        tokenizer: Option<PathBuf>,

        /// Print one JSON list
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.action {
        Action::List { json } => list(*json),
        Action::Plan { recipe: None, preset, json, .. } => published(preset.as_deref().unwrap_or_default(), *json),
        Action::Plan { recipe: Some(recipe), preset, total, tokens, tokenizer, json } => {
            planned(recipe, preset.as_deref(), *total, *tokens, tokenizer.as_deref(), *json)
        }
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
        // Rounded as in table 9 of the paper.
        ratio_percent: (share * 100_000.0).round() / 1000.0,
    };
    let shares: Vec<Share> = mixture.shares().into_iter().map(share).collect();
    if shares.is_empty() {
        let error = anyhow!(
            "mixture {name} has groups of the catalogue instead of tasks; name a recipe, whose tasks are put into these groups"
        );
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

fn planned(
    path: &Path,
    preset_name: Option<&str>,
    total: Option<u64>,
    tokens: Option<TokenTotal>,
    tokenizer: Option<&Path>,
    as_json: bool,
) -> Result<u8, Failure> {
    let loaded = recipe::load(path, &[]).map_err(Failure::Usage)?;
    let instruct = loaded.recipe.instruct.as_ref().with_context(|| format!("{} has no [instruct]", path.display()));
    let instruct = instruct.map_err(Failure::Usage)?;
    let mut mixture = instruct.mixture.clone().unwrap_or_default();
    if let Some(name) = preset_name {
        (mixture.preset, mixture.groups) = (Some(name.to_owned()), Vec::new());
    }
    if total.is_some() || tokens.is_some() {
        (mixture.total, mixture.tokens) = (total, tokens);
    }
    if let Some(tokenizer) = tokenizer {
        mixture.tokenizer = Some(std::path::absolute(tokenizer).map_err(usage)?);
    }
    if instruct.mixture.is_none() && preset_name.is_none() {
        return Err(Failure::Usage(anyhow!(
            "{} has no [instruct.mixture]; name a mixture by --preset",
            path.display()
        )));
    }
    let groups = mixture.groups().map_err(Failure::Usage)?;
    if mixture.tokens.is_some() && mixture.tokenizer.is_none() {
        return Err(Failure::Usage(anyhow!("counting tokens needs a tokenizer: --tokenizer FILE")));
    }
    let draw = mixture::planned(&loaded, instruct, &mixture)?;
    let drawn = draw.drawn();
    let is_by_tokens = mixture.tokens.is_some();
    let share = |own: &Drawn| match (is_by_tokens, own.drawn.tokens, drawn.tokens) {
        (true, Some(own), Some(all)) => own as f64 / all.max(1) as f64,
        _ => own.drawn.records as f64 / drawn.records.max(1) as f64,
    };
    let epochs = |own: &Drawn| own.drawn.records as f64 / own.there.records.max(1) as f64;
    if as_json {
        let rows = draw.tasks.iter().map(|(task, own)| {
            json!({
                "task": task,
                "group": own.group,
                "size": own.there.records,
                "records": own.drawn.records,
                "tokens_there": own.there.tokens,
                "tokens": own.drawn.tokens,
                "epochs": epochs(own),
                "ratio_percent": share(own) * 100.0,
            })
        });
        print_json(&rows.collect::<Vec<_>>())?;
        return Ok(DONE);
    }
    let mut heads = vec!["task", "group", "available", "drawn", "times", "%"];
    if drawn.tokens.is_some() {
        heads.extend(["tokens available", "tokens drawn"]);
    }
    let row = |(task, own): (&String, &Drawn)| {
        let mut row = vec![
            task.clone(),
            own.group.clone(),
            grouped(own.there.records),
            grouped(own.drawn.records),
            format!("{:.2}", epochs(own)),
            format!("{:.3}", share(own) * 100.0),
        ];
        row.extend([own.there.tokens, own.drawn.tokens].into_iter().flatten().map(grouped));
        row
    };
    let rows: Vec<Vec<String>> = draw.tasks.iter().map(row).collect();
    print(&columns(&heads, &rows, &[2, 3, 4, 5, 6, 7]))?;
    let tokens = drawn.tokens.map_or_else(String::new, |tokens| format!(" with {} tokens of text", grouped(tokens)));
    print(&format!("{} conversations{tokens}\n", grouped(drawn.records)))?;
    if let Some(shortage) = draw.shortage(&mixture) {
        print(&format!("{shortage}\n"))?;
    }
    let of_recipe: BTreeSet<&str> = instruct.tasks.iter().map(|task| task.name.as_str()).collect();
    let named = groups.iter().flat_map(|group| &group.tasks).map(String::as_str);
    let missing: Vec<&str> = named.filter(|task| !of_recipe.contains(task)).collect();
    let left: Vec<&str> = draw.in_no_group.iter().map(String::as_str).collect();
    let is_empty = |task: &&str| !draw.tasks.contains_key(*task) && !left.contains(task);
    let empty: Vec<&str> = of_recipe.iter().copied().filter(|task| is_empty(task)).collect();
    for (what, tasks) in [
        ("in no group, so left out", &left),
        ("of the mixture, but not in the recipe", &missing),
        ("without conversations", &empty),
    ] {
        if !tasks.is_empty() {
            print(&format!("{what}: {}\n", tasks.join(", ")))?;
        }
    }
    Ok(DONE)
}
