//! `lynxdata`: curate image–text pairs, build instruction data, and check by training that the data
//! is good.
//!
//! This crate is thin: arguments, exit codes, logging and messages. `commands` has one file per
//! subcommand. The work itself is in `lynxdata-run` and the crates below it.

mod commands;
mod exit;
mod host;
mod interrupt;
mod limits;
mod logging;
mod metrics;
mod paths;
mod progress;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lynxdata_run::stages;

use crate::exit::Failure;

/// With glibc's allocator, threads that make many small texts wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Curate image–text pairs, build instruction data, and check by training that the data is good.
#[derive(Parser)]
#[command(name = "lynxdata", version, propagate_version = true, max_term_width = 110, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Format of log lines on standard error
    #[arg(long, global = true, value_enum, default_value_t = logging::Format::Text)]
    log_format: logging::Format,

    /// Log more (-v) or much more (-vv); LYNXDATA_LOG sets a tracing filter and overrides these
    /// flags
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Log only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lynxdata quickstart                       run the whole pipeline on bundled images
  lynxdata recipe new recipe.toml           write a recipe to edit
  lynxdata run recipe.toml --dry-run        show what would be done and what is already done
  lynxdata run recipe.toml                  run all stages; run it again to resume if interrupted
  lynxdata status my-run                    show rows and parts of every stage
  lynxdata verify my-run                    check that its files are unchanged

Exit codes: 0 success, 1 failure or empty result, 2 wrong usage or invalid recipe, 3 finished, but
too many rows failed, a task lost too many records, or some records would break a training run or
match a benchmark, 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    Quickstart(commands::quickstart::Arguments),
    Run(commands::run::Arguments),
    Status(commands::status::Arguments),
    Verify(commands::verify::Arguments),
    Download(Box<commands::download::Arguments>),
    /// Measure signals of every pair of the pool, such as sharpness, language and hashes
    #[command(after_help = "\
Examples:
  lynxdata signals recipe.toml
  lynxdata signals recipe.toml --dry-run       show which parts are already measured")]
    Signals(commands::run::StageArguments),
    /// Find pairs that are duplicates: the same URL, the same bytes or similar images
    #[command(after_help = "\
Examples:
  lynxdata dedup recipe.toml
  lynxdata dedup recipe.toml --set dedup.phash_distance=2")]
    Dedup(commands::run::StageArguments),
    /// Select pairs by rules and duplicates, and record why the others are rejected
    #[command(after_help = "\
Examples:
  lynxdata select recipe.toml
  lynxdata select recipe.toml --set 'select.clean.rules.wide=width >= 200'
  lynxdata status run                           show how many pairs each rule rejects")]
    Select(commands::run::StageArguments),
    /// Write a selection as Parquet and WebDataset shards
    #[command(after_help = "\
Examples:
  lynxdata shards recipe.toml
  lynxdata shards recipe.toml --set shards.rows_per_shard=1000")]
    Shards(commands::run::StageArguments),
    Instruct(commands::instruct::Arguments),
    Check(Box<commands::check::Arguments>),
    Train(Box<commands::train::Arguments>),
    Finding(commands::finding::Arguments),
    /// Write the HTML report
    #[command(after_help = "\
Examples:
  lynxdata report recipe.toml
  lynxdata report recipe.toml --set report.samples=60")]
    Report(commands::run::StageArguments),
    Eval(Box<commands::eval::Arguments>),
    Audit(commands::audit::Arguments),
    Pack(commands::pack::Arguments),
    Render(commands::render::Arguments),
    Decontaminate(commands::decontaminate::Arguments),
    Recipe(commands::recipe::Arguments),
    Hash(commands::hash::Arguments),
    Tasks(commands::tasks::Arguments),
    Hydrate(commands::hydrate::Arguments),
    Mixture(commands::mixture::Arguments),
    Prompts(commands::prompts::Arguments),
    Generate(Box<commands::generate::Arguments>),
    Doctor(commands::doctor::Arguments),
    Version(commands::version::Arguments),
    Completions(commands::completions::Arguments),
}

fn main() -> ExitCode {
    limits::allow_open_files();
    let arguments = Arguments::parse_from(spelled_our_way(std::env::args_os()));
    let result = logging::start(arguments.log_format, arguments.verbose, arguments.quiet)
        .and_then(|()| interrupt::watch().map_err(Failure::Failed))
        .and_then(|()| dispatch(arguments.command));
    interrupt::give_way();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Failed(error)) if is_broken_pipe(&error) => ExitCode::from(exit::DONE),
        Err(Failure::Usage(error)) => fail(&error, exit::USAGE),
        Err(Failure::Failed(error)) => fail(&error, exit::FAILED),
    }
}

/// Returns the arguments of `lynxdata download` with the underscores in flag names, as img2dataset
/// writes them, replaced by hyphens. Flags of the whole program may come before the command.
fn spelled_our_way(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let mut place = 1;
    while let Some(flag) = arguments.get(place).and_then(|own| own.to_str()).filter(|own| own.starts_with('-')) {
        place += if flag == "--log-format" { 2 } else { 1 };
    }
    if arguments.get(place).is_none_or(|command| command != "download") {
        return arguments;
    }
    for argument in arguments.iter_mut().skip(place + 1) {
        let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else { continue };
        let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
        *argument = (name.replace('_', "-") + value).into();
    }
    arguments
}

fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Quickstart(arguments) => commands::quickstart::run(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Download(arguments) => commands::download::run(&arguments),
        Command::Signals(arguments) => commands::run::run_stage(&arguments, &stages::signals::Signals),
        Command::Dedup(arguments) => commands::run::run_stage(&arguments, &stages::dedup::Dedup),
        Command::Select(arguments) => commands::run::run_stage(&arguments, &stages::select::Select),
        Command::Shards(arguments) => commands::run::run_stage(&arguments, &stages::shards::Shards),
        Command::Instruct(arguments) => commands::instruct::run(&arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
        Command::Report(arguments) => commands::run::run_stage(&arguments, &stages::report::Report),
        Command::Eval(arguments) => commands::eval::run(&arguments),
        Command::Audit(arguments) => commands::audit::run(&arguments),
        Command::Pack(arguments) => commands::pack::run(&arguments),
        Command::Render(arguments) => commands::render::run(&arguments),
        Command::Decontaminate(arguments) => commands::decontaminate::run(&arguments),
        Command::Recipe(arguments) => commands::recipe::run(&arguments),
        Command::Hash(arguments) => commands::hash::run(&arguments),
        Command::Tasks(arguments) => commands::tasks::run(&arguments),
        Command::Hydrate(arguments) => commands::hydrate::run(&arguments),
        Command::Mixture(arguments) => commands::mixture::run(&arguments),
        Command::Prompts(arguments) => commands::prompts::run(&arguments),
        Command::Generate(arguments) => commands::generate::run(&arguments),
        Command::Train(arguments) => commands::train::run(&arguments),
        Command::Finding(arguments) => commands::finding::run(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
        Command::Version(arguments) => commands::version::run(&arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments),
    }
}

/// Returns whether the reader of our output has closed it, as `head` does, which is not a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Prints an error with its causes.
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Errors of other crates often repeat their source in their own message, and their types
        // do not tell which of them do. So the texts are compared.
        if !text.contains(cause.trim_end()) {
            text.push_str(&format!("  because: {}\n", cause.trim_end().replace('\n', "\n  ")));
        }
    }
    // If standard error is closed, nobody can read the message.
    std::io::stderr().write_all(text.as_bytes()).unwrap_or_default();
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_of_downloads_may_have_underscores_but_values_keep_theirs() {
        let ours = |arguments: &[&str]| {
            let arguments = arguments.iter().map(OsString::from);
            spelled_our_way(arguments).into_iter().map(|text| text.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(
            ours(&["lynxdata", "download", "--url_list=my_list.csv", "--url_col", "my_url", "--set", "a.b_c=1"]),
            ["lynxdata", "download", "--url-list=my_list.csv", "--url-col", "my_url", "--set", "a.b_c=1"]
        );
        assert_eq!(ours(&["lynxdata", "run", "--log_format"]), ["lynxdata", "run", "--log_format"]);
        assert_eq!(
            ours(&["lynxdata", "--quiet", "--log-format", "json", "-v", "download", "--url_list", "a_b"]),
            ["lynxdata", "--quiet", "--log-format", "json", "-v", "download", "--url-list", "a_b"]
        );
    }

    /// Width of a terminal on which no line of the examples wraps.
    const COLUMNS: usize = 100;

    /// Returns the commands and subcommands whose help has no example that begins with their name,
    /// or has a line that wraps.
    fn without_example(command: &clap::Command, path: &str) -> Vec<String> {
        let commands = command.get_subcommands().flat_map(|command| {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let has_example = help.starts_with("Examples:\n") && help.contains(&format!("\n  {path}"));
            let is_narrow = help.lines().all(|line| line.chars().count() <= COLUMNS);
            let itself = (!has_example || !is_narrow).then(|| path.clone());
            itself.into_iter().chain(without_example(command, &path))
        });
        commands.collect()
    }

    #[test]
    fn every_command_and_subcommand_has_examples() {
        use clap::CommandFactory;
        let nothing: [&str; 0] = [];
        assert_eq!(without_example(&Arguments::command(), "lynxdata"), nothing);
    }

    #[test]
    fn every_stage_has_a_command_or_belongs_to_one() {
        use clap::CommandFactory;
        let command = Arguments::command();
        for stage in stages::STAGES {
            let name = stage.command();
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }
}
