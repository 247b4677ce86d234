//! Compares help, plans, states and errors with reviewed snapshots.
//!
//! `tests/snapshots` has a file for each. Varying parts are masked: the folder, the version, times,
//! addresses. After an intended change, run these tests with `LYNXDATA_REWRITE=1`, read the
//! difference and commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::runs::{bundled_pictures, write_small};
use crate::support::{Output, Running, command, files, repository};

/// Set this variable to rewrite the snapshots instead of comparing.
const REWRITE: &str = "LYNXDATA_REWRITE";

fn snapshots() -> PathBuf {
    repository().join("tests/snapshots")
}

/// Compares a text with the snapshot of this name, or writes it.
#[track_caller]
fn compare(name: &str, text: &str) {
    let path = snapshots().join(name);
    // Lines end without spaces and a file ends with one line end, as Git and editors expect.
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let text = format!("{}\n", lines.join("\n").trim_end());
    if std::env::var_os(REWRITE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = reviewed.lines().zip(text.lines()).position(|(reviewed, now)| reviewed != now);
    let line = differs.unwrap_or_else(|| reviewed.lines().count().min(text.lines().count()));
    assert!(
        reviewed == text,
        "{} differs from line {} on; if that is intended, run this test with {REWRITE}=1 and commit\n-- reviewed\n{}\n-- now\n{}",
        path.display(),
        line + 1,
        reviewed.lines().nth(line).unwrap_or_default(),
        text.lines().nth(line).unwrap_or_default()
    );
}

/// Runs `lynxdata` with a width of 100 columns, independent of the terminal of the tests.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = command(folder, arguments);
    command.env_remove("COLUMNS");
    Running::start(command).finish()
}

/// Returns a command line with its output and exit code.
fn shown(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let quoted = arguments
        .iter()
        .map(|argument| if argument.contains(' ') { format!(" '{argument}'") } else { format!(" {argument}") });
    let code = output.code.unwrap();
    let text = format!("$ lynxdata{}\n{}{}[exit {code}]\n\n", quoted.collect::<String>(), output.stdout, output.stderr);
    masked(&text, folder)
}

/// Replaces parts that differ from run to run with placeholders.
fn masked(text: &str, folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap();
    let text = text.replace(folder.to_str().unwrap(), "[FOLDER]").replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    let lines = text.lines().map(|line| {
        let words = line
            .split(' ')
            .map(|word| if word.starts_with("seconds=") { "seconds=[TIME]".to_owned() } else { without_port(word) });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.map(|line| line + "\n").collect()
}

/// Masks the port of an address of the loopback interface.
fn without_port(word: &str) -> String {
    let Some((before, after)) = word.split_once("127.0.0.1:") else { return word.to_owned() };
    format!("{before}127.0.0.1:[PORT]{}", after.trim_start_matches(|letter: char| letter.is_ascii_digit()))
}

/// Returns the commands that a help text lists, without `help`.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // The names begin in the third column; wrapped descriptions are indented further.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Returns the names of all commands and subcommands, as the help lists them: `["tasks"]`,
/// `["tasks", "list"]`, ….
pub(crate) fn commands() -> Vec<Vec<&'static str>> {
    fn below(command: &[&'static str], found: &mut Vec<Vec<&'static str>>) {
        let help = run(&repository(), &[&["help"], command].concat()).ended_with(0).stdout;
        for name in listed(&help) {
            let own = [command, &[&*name.leak()]].concat();
            found.push(own.clone());
            below(&own, found);
        }
    }
    let mut found = Vec::new();
    below(&[], &mut found);
    assert!(found.len() > 30, "{found:?}");
    found
}

#[test]
fn help_is_as_it_was_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    compare("help.txt", &shown(folder.path(), &["help"]));
    let mut expected = BTreeSet::from(["help.txt".to_owned()]);
    for command in commands() {
        let name = format!("help/{}.txt", command.join("-"));
        compare(&name, &shown(folder.path(), &[&["help"], &command[..]].concat()));
        expected.insert(name);
    }
    let there = files(&snapshots()).into_iter().filter(|name| name.starts_with("help"));
    assert_eq!(there.collect::<BTreeSet<_>>(), expected, "remove the snapshots of removed commands");
}

#[test]
fn plans_and_states_are_as_they_were_reviewed() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    write_small(folder, &web);
    let recipe = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    let (recipe, _) = recipe.split_once("[check]").unwrap();
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    compare("plan-of-nothing.txt", &shown(folder, &["run", "recipe.toml", "--dry-run"]));
    run(folder, &["download", "recipe.toml", "--quiet"]).ended_with(0);
    compare("plan-after-download.txt", &shown(folder, &["run", "recipe.toml", "--dry-run"]));
    run(folder, &["run", "recipe.toml", "--quiet"]).ended_with(0);
    let stricter = ["run", "recipe.toml", "--dry-run", "--set", "select.clean.rules.not_tiny=width >= 90"];
    compare("plan-with-another-rule.txt", &shown(folder, &stricter));
    compare("status.txt", &without_measures(&shown(folder, &["status", "run"])));
}

/// Returns a status without parts that depend on the clock or on the lengths of addresses: the
/// columns of tables from that of bytes on, and all tables of latencies and sizes.
fn without_measures(status: &str) -> String {
    const MEASURES: &[&str] = &["a download took", "milliseconds", "bytes of a body", "host "];
    let tables = status.split("\n\n").filter(|table| !MEASURES.iter().any(|start| table.starts_with(start)));
    let tables = tables.map(|table| {
        let before = table.lines().find_map(|line| line.split_once("    bytes")).map(|(before, _)| before.trim_end());
        let width = before.map_or(usize::MAX, |before| before.chars().count());
        let lines = table.lines().map(|line| {
            let width = if line.starts_with("$ ") { usize::MAX } else { width };
            line.chars().take(width).collect::<String>()
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    tables.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn errors_are_as_they_were_reviewed() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    write_small(folder, &web);
    std::fs::write(folder.join("photo.txt"), "not a run").unwrap();
    let lines: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["status"],
        &["run", "recipe.toml", "--frobnicate"],
        &["run", "nowhere/recipe.toml"],
        &["run", "recipe.toml", "--set", "download.sizes=99"],
        &["run", "recipe.toml", "--set", "download.size=big"],
        &["run", "recipe.toml", "--set", "source.path=pears.tsv"],
        &["run", "recipe.toml", "--set", "source.caption=captoin"],
        &["run", "recipe.toml", "--set", "select.clean.preset=lynx-claen"],
        &["run", "recipe.toml", "--set", "select.clean.rules.wide=widht >= 200"],
        &["run", "recipe.toml", "--set", "shards.selection=claen"],
        &["signals", "recipe.toml"],
        &["status", "nowhere"],
        &["status", "."],
        &["verify", "."],
        &["hash", "photo.txt"],
        &["tasks", "show", "vqav3"],
        &["tasks", "check", "vqav2", "."],
        &["check", "--a", "nowhere", "--b", "recipe.toml", "--quick"],
        &["eval", "--metric", "accuracy", "--predictions", "a.jsonl", "--references", "b.jsonl"],
        &["audit", "photo.txt", "--model", "qwen2"],
        &["train", "--data", "nowhere", "--out", "model"],
    ];
    let texts: String = lines.iter().map(|line| shown(folder, line)).collect();
    compare("errors.txt", &texts);
}

#[test]
fn masks_hide_what_differs_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let text = format!("at {}/run: http://127.0.0.1:4711/a.png seconds=0.3 rows=4711\n", path.display());
    let hidden = "at [FOLDER]/run: http://127.0.0.1:[PORT]/a.png seconds=[TIME] rows=4711\n";
    assert_eq!(masked(&text, folder.path()), hidden);
}
