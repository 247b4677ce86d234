//! Paths of the command line.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use lynxdata_run::home::expanded;

/// Reads a path; a leading `~` is the home folder of the user.
pub(crate) fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| expanded(&path).map_err(|error| error.to_string()))
}
