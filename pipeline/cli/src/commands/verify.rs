//! `lynxdata verify`: checks that the files of a run are unchanged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lynxdata_run::verify::{Verified, remove_damaged, verify};

use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, FAILED, Failure};
use crate::paths::input_parser;

/// Compare every file of a run with the digest in its manifest
///
/// Reads all files on all cores. Lists each missing or damaged file with the stage that made it.
/// Also lists files that no stage made but that are in a folder of the run, because readers of the
/// folder would take them for data of the run.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata verify run
  lynxdata verify run --json | jq -r '.faults[].path'
  lynxdata verify run --remove; lynxdata run recipe.toml   make damaged parts again

Exit codes: 0 every file is unchanged, 1 some are missing, damaged or foreign.")]
pub(crate) struct Arguments {
    /// The run folder
    #[arg(value_parser = input_parser())]
    run: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Remove the damaged files, so that the next run makes their parts again; parts of a download
    /// are fetched again
    #[arg(long)]
    remove: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let root = &arguments.run;
    let mut verified = verify(root)?;
    if arguments.remove {
        remove_damaged(root, &mut verified)?;
    }
    if arguments.json {
        print_json(&verified)?;
    } else {
        print(&text(root, &verified))?;
    }
    Ok(if verified.faults.is_empty() { DONE } else { FAILED })
}

fn text(root: &Path, verified: &Verified) -> String {
    let Verified { files, bytes, faults, others, removed } = verified;
    let mut text = String::new();
    if !faults.is_empty() {
        let cell = |text: &Option<String>| text.clone().unwrap_or_default();
        let rows: Vec<Vec<String>> = faults
            .iter()
            .map(|fault| vec![fault.path.clone(), fault.fault.name().to_owned(), cell(&fault.stage), cell(&fault.part)])
            .collect();
        text.push_str(&columns(&["file", "fault", "stage", "part"], &rows, &[]));
        text.push('\n');
    }
    if !others.is_empty() {
        text.push_str(&format!(
            "files that no stage made, hidden or outside the folders of the run: {}\n",
            others.join(", ")
        ));
    }
    let (files, bytes) = (grouped(*files), grouped(*bytes));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for fault in faults {
        *counts.entry(fault.fault.name()).or_default() += 1;
    }
    if counts.is_empty() {
        text.push_str(&format!("{files} files with {bytes} bytes: all are unchanged\n"));
        return text;
    }
    let counted: Vec<String> = counts.iter().map(|(fault, files)| format!("{} {fault}", grouped(*files))).collect();
    text.push_str(&format!("{files} files with {bytes} bytes were committed: {}\n", counted.join(", ")));
    let again = "the command that made the run then makes their parts again, and fetches parts of a download again";
    let run = root.display();
    match (counts.contains_key("damaged"), removed) {
        (true, false) => {
            text.push_str(&format!("hint: `lynxdata verify {run} --remove` removes the damaged files; {again}\n"));
        }
        (true, true) => text.push_str(&format!("removed the damaged files; {again}\n")),
        (false, _) if counts.contains_key("missing") => {
            text.push_str("hint: the command that made the run makes parts with missing files again\n");
        }
        (false, _) => {}
    }
    if counts.contains_key("foreign") {
        text.push_str("hint: no stage made the foreign files; remove them, or readers take them for data of the run\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lynxdata_run::verify::{Fault, FileFault};

    #[test]
    fn the_hint_says_how_to_make_damaged_files_again() {
        let path = "pool/part-00001.parquet".to_owned();
        let fault = FileFault { path, fault: Fault::Damaged, stage: None, part: None };
        let verified = Verified { files: 1, bytes: 8, faults: vec![fault], others: Vec::new(), removed: false };
        let told = text(Path::new("run"), &verified);
        assert!(told.contains("`lynxdata verify run --remove`"), "{told}");
        assert!(!text(Path::new("run"), &Verified { removed: true, ..verified }).contains("--remove"), "{told}");
    }
}
