//! The place of a row in a file, for messages.

use std::fmt;
use std::sync::Arc;

/// The place of a row in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) position: Position,
}

/// The position of a row, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Line(usize),
    Entry(usize),
    Key(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            Position::Line(number) => write!(formatter, "{}, line {number}", self.file),
            Position::Entry(number) => write!(formatter, "{}, entry {number} of the list", self.file),
            Position::Key(key) => write!(formatter, "{}, key {key}", self.file),
        }
    }
}
