//! The tests of the program as users run it: the built binary, real files, a misbehaving web
//! server, and the readers of other projects.
//!
//! Environment variables enable tests with resources that not every machine has. `LYNXDATA_SHARED`
//! names the folder of the large real data, `LYNXDATA_PYTHON` a Python with the packages of
//! `tests/python/requirements.txt`, `LYNXDATA_ENERGON_PYTHON` one with `megatron-energon`, and
//! `LYNXDATA_SMOLLM2` a file of weights, see `machine.rs`. A test that needs one of them prints
//! SKIPPED and passes if it is unset. It fails if the variable is set but something is missing.
//! `LYNXDATA_TEST_SEED` replaces the seed of the moments at which runs are
//! killed.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "these lints exempt tests, but not the functions that tests share"
)]

/// Conversations are audited, packed and rendered.
mod audit;
/// Inputs that caused trouble for data engineers.
mod cases;
mod check;
/// Exit codes, machine-readable output and messages: what scripts rely on.
mod cli;
/// The same recipe gives the same bytes, however many threads there are.
mod determinism;
/// The commands in AGENTS.md and on the first page of the README, and the statements about them.
mod documents;
/// Downloads of lists to pools: formats, growth, retries, kills, imports, counters.
mod download;
/// Answers of models are generated, scored and judged.
mod evaluation;
/// Formats of conversations, read by the libraries that they are meant for.
mod exports;
/// All stages from a list to the report; the counts of all tables add up.
mod flow;
/// Wordings and texts from a language model: rules, costs, reruns.
mod generation;
/// Annotated datasets by one command; your own tasks, wordings and rules.
mod instruct;
/// pyarrow, datasets, webdataset and DuckDB read the same pairs that were written.
mod interop;
/// Layouts of folders and archives: those of other libraries are read, and they read ours.
mod layouts;
/// A program other than this one runs a recipe by the library.
mod library;
/// Resources that not every machine has: the large real data and a Python with packages.
mod machine;
/// Images of tasks: in archives, in rows, missing, copied from elsewhere, and videos.
mod media;
/// Mixtures of tasks.
mod mixture;
/// Lists in a store, runs that are mirrored in one.
mod object_store;
/// A killed or interrupted run is completed by running it again, to the same bytes.
mod resume;
/// The recipes that several tests run, and finished runs that they share.
mod runs;
/// Shell command lines, and a web server for them.
mod shell;
/// Help, plans, states and errors, compared with reviewed snapshots.
mod snapshots;
/// Starting the binary, reading its tables, running Python.
mod support;
/// Messages to users: another list, out-of-date stages, empty outcomes, damaged files.
mod told;
/// The two stages of training a model, devices.
mod train;
/// A web server that misbehaves as the real web does.
mod web;
/// Wordings, dialogs, negatives, benchmarks, and the diversity of a set.
mod wordings;
