//! Plain text: one URL per line.

use std::path::{Path, PathBuf};

use super::ReadRows;
use super::lines::Lines;
use super::rows::{Batch, Rows};
use crate::{Error, Result};

pub(super) struct TxtRows {
    path: PathBuf,
    lines: Lines,
    rows: Rows,
}

impl TxtRows {
    pub(super) fn open(path: &Path) -> Result<TxtRows> {
        let lines = Lines::open(path).map_err(|source| Error::read(path, source))?;
        Ok(TxtRows { path: path.to_owned(), lines, rows: Rows::new(&[]) })
    }
}

impl ReadRows for TxtRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            match self.lines.next().map_err(|source| Error::read(&self.path, source))? {
                None => break,
                Some(line) => match line.text {
                    Ok(url) => self.rows.begin_row(Some(url.trim()), None),
                    Err(problem) => self.rows.push_problem(&problem),
                },
            }
        }
        Ok(self.rows.take())
    }
}
