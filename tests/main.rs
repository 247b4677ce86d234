//! The tests of the program as users run it: the built binary, real files, a web server that
//! misbehaves, and the readers of other projects.
//!
//! Environment variables switch on what not every machine has. `LYNXDATA_SHARED` names the folder
//! of the large real data, `LYNXDATA_PYTHON` a Python with the packages of
//! `tests/python/requirements.txt` and `LYNXDATA_ENERGON_PYTHON` one with `megatron-energon`; a
//! test that needs one of them says SKIPPED and passes where it is unset, and fails where it is set
//! but something is missing. `LYNXDATA_TEST_SEED` replaces the seed of the moments at which runs
//! are killed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "these lints spare tests, but not the functions that tests share"
)]

/// Conversations are audited, packed and rendered.
mod audit;
/// Inputs that went wrong for people who do this job.
mod cases;
mod check;
/// Exit codes, machine-readable output and messages: what scripts rely on.
mod cli;
/// The same recipe gives the same bytes, however many threads there are.
mod determinism;
/// What AGENTS.md and the first page of the README tell people and agents to type, and what they
/// say of it.
mod documents;
/// Lists become pools: formats, growth, retries, kills, imports, counters.
mod download;
/// Answers of models are scored, judged and asked for.
mod evaluation;
/// Formats of conversations, read by the libraries that they are meant for.
mod exports;
/// All stages from a list to the report; the counts of all tables add up.
mod flow;
/// Wordings and texts from a language model: rules, costs, reruns.
mod generation;
/// Annotated datasets by one command; tasks, wordings and rules of one's own.
mod instruct;
/// pyarrow, datasets, webdataset and DuckDB read what was written and see the same pairs.
mod interop;
/// Layouts of folders and archives: those of others are read, and ours by others.
mod layouts;
/// What not every machine has: the large real data and a Python with packages.
mod machine;
/// Pictures of tasks: in archives, in rows, missing, brought from elsewhere, and videos.
mod media;
/// Mixtures of tasks.
mod mixture;
/// Lists in a store, runs that are mirrored in one.
mod object_store;
/// A killed or interrupted run is completed by running it again, to the same bytes.
mod resume;
/// The recipes that several tests run, and finished runs that they share.
mod runs;
/// Lines as they are typed into a shell, and a web for them.
mod shell;
/// Help, plans, states and errors as they are on the screen, beside those that were reviewed.
mod snapshots;
/// Starting the binary, reading its tables, running Python.
mod support;
/// What a user is told: another list, stages that are out of date, outcomes that are empty, files
/// that are damaged.
mod told;
/// The two stages of training a model, devices.
mod train;
/// A web server that is as rude as the web.
mod web;
/// Wordings, dialogs, negatives, benchmarks, and how varied a set is.
mod wordings;
