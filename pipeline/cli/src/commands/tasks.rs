//! `lynxdata tasks`: the catalogue of annotated datasets.

use clap::{Args, Subcommand};
use lynxdata_datasets::Catalogue;
use serde_json::json;

use super::{columns, print, print_json};
use crate::exit::{DONE, Failure};

/// Show the annotated datasets that `instruct` reads
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata tasks list
  lynxdata tasks list --json | jq -r '.[] | [.name, .licence] | @tsv'")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Lists the tasks
    List {
        /// As one JSON list
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let Action::List { json } = arguments.action;
    let catalogue = Catalogue::shipped().map_err(anyhow::Error::from)?;
    if json {
        let tasks: Vec<_> = catalogue
            .tasks()
            .map(|task| {
                json!({"name": task.name, "family": task.family.name(), "licence": task.licence, "source": task.source})
            })
            .collect();
        print_json(&tasks)?;
    } else {
        let rows: Vec<Vec<String>> = catalogue
            .tasks()
            .map(|task| {
                vec![task.name.clone(), task.family.name().to_owned(), task.licence.clone(), task.source.clone()]
            })
            .collect();
        print(&columns(&["task", "family", "licence", "source"], &rows, &[]))?;
    }
    Ok(DONE)
}
