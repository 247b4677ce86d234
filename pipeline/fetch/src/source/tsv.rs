//! Tab-separated values. Captions in the wild hold quotation marks that quote nothing, so a row is always one line, and quotes are taken as quotes only
//! where that makes the row come out right.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::csv::push_fields;
use super::lines::Lines;
use super::rows::{Batch, Rows};
use super::{Columns, ReadRows};
use crate::{Error, Result};

/// The fields of the first row.
pub(super) fn first_row(path: &Path) -> Result<Option<Vec<String>>> {
    let mut lines = Lines::tabbed(path).map_err(|source| Error::read(path, source))?;
    let Some(line) = lines.next().map_err(|source| Error::read(path, source))? else { return Ok(None) };
    match line.text {
        Ok(text) => Ok(Some(text.split('\t').map(|field| unquoted(field).into_owned()).collect())),
        Err(reason) => Err(Error::Format { path: path.to_owned(), format: "tsv", reason }),
    }
}

pub(super) struct TsvRows {
    path: PathBuf,
    lines: Lines,
    columns: Columns,
    skip_header: bool,
    rows: Rows,
}

impl TsvRows {
    pub(super) fn open(path: &Path, columns: Columns, header: bool) -> Result<TsvRows> {
        let lines = Lines::tabbed(path).map_err(|source| Error::read(path, source))?;
        let rows = Rows::new(&columns.extra_fields());
        Ok(TsvRows { path: path.to_owned(), lines, columns, skip_header: header, rows })
    }
}

impl ReadRows for TsvRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            let Some(line) = self.lines.next().map_err(|source| Error::read(&self.path, source))? else { break };
            if std::mem::take(&mut self.skip_header) {
                continue;
            }
            let fields = line.text.and_then(|text| {
                let fields = split(text, self.columns.count);
                let (found, wanted) = (fields.len(), self.columns.count);
                if found == wanted {
                    Ok(fields)
                } else {
                    Err(format!("line {} has {found} fields instead of {wanted}", line.number))
                }
            });
            match fields {
                Ok(fields) => push_fields(&mut self.rows, &self.columns, &fields),
                Err(problem) => self.rows.push_problem(&problem),
            }
        }
        Ok(self.rows.take())
    }
}

/// Splits at tabs; if that gives too many fields, tries again with tabs inside quotes as part of a field.
fn split(line: &str, count: usize) -> Vec<Cow<'_, str>> {
    let plain: Vec<&str> = line.split('\t').collect();
    if plain.len() > count {
        let quoted = split_outside_quotes(line);
        if quoted.len() == count {
            return quoted.into_iter().map(unquoted).collect();
        }
    }
    plain.into_iter().map(unquoted).collect()
}

fn split_outside_quotes(line: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (position, byte) in line.bytes().enumerate() {
        match byte {
            b'"' => inside = inside || position == start,
            b'\t' if !inside || line[start..position].ends_with('"') && closes(&line[start..position]) => {
                fields.push(&line[start..position]);
                (start, inside) = (position + 1, false);
            }
            _ => {}
        }
    }
    fields.push(&line[start..]);
    fields
}

/// Whether a field that begins with a quote is closed by its last character: quotes inside are doubled, so all together are even in number.
fn closes(field: &str) -> bool {
    field.len() > 1 && field.matches('"').count().is_multiple_of(2)
}

/// A field without its quotes, if it is properly quoted; else as it is.
fn unquoted(field: &str) -> Cow<'_, str> {
    let Some(inside) = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(field);
    };
    if !inside.contains('"') {
        return Cow::Borrowed(inside);
    }
    if inside.replace("\"\"", "").contains('"') {
        return Cow::Borrowed(field);
    }
    Cow::Owned(inside.replace("\"\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_removed_only_where_they_quote() {
        for (field, expected) in [
            ("plain", "plain"),
            ("\"quoted\"", "quoted"),
            ("\"he said \"\"hi\"\"\"", "he said \"hi\""),
            ("\"a\" and \"b\"", "\"a\" and \"b\""),
            ("12\" pizza", "12\" pizza"),
            ("\" unfinished", "\" unfinished"),
            ("\"\"", ""),
            ("\"", "\""),
        ] {
            assert_eq!(unquoted(field), expected);
        }
    }

    #[test]
    fn tabs_inside_quotes_are_kept_if_the_row_is_right_then() {
        assert_eq!(split("u\t\"a\tb\"", 2), ["u", "a\tb"]);
        assert_eq!(split("\"a\tb\"\tu", 2), ["a\tb", "u"]);
        assert_eq!(split("\" a\tu", 2), ["\" a", "u"], "a stray quote swallows nothing");
        assert_eq!(split("\"a\tb\tu", 2).len(), 3, "too many fields stay too many");
        assert_eq!(split("a\tb\t", 3), ["a", "b", ""]);
    }
}
