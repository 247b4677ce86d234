//! One file per subcommand.

pub(crate) mod audit;
mod calibrate;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod decontaminate;
pub(crate) mod doctor;
pub(crate) mod download;
pub(crate) mod eval;
pub(crate) mod finding;
pub(crate) mod generate;
pub(crate) mod hash;
pub(crate) mod hydrate;
mod img2dataset;
pub(crate) mod instruct;
mod language_model;
pub(crate) mod mixture;
pub(crate) mod pack;
pub(crate) mod prompts;
pub(crate) mod quickstart;
pub(crate) mod recipe;
pub(crate) mod render;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod tasks;
pub(crate) mod train;
pub(crate) mod verify;
pub(crate) mod version;

use std::io::Write;

use anyhow::Context as _;
pub(crate) use lynxdata_report::count as grouped;
use lynxdata_run::recipe::text_of;
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::exit::Failure;

/// Writes text to standard output, which carries only data.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).context("cannot write to standard output")?;
    Ok(())
}

/// Writes a value as one line of JSON.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(value).context("cannot write JSON")?;
    text.push('\n');
    print(&text)
}

/// Returns rows as aligned columns. The columns in `right` are right-aligned.
fn columns(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].width()).chain([header[column].width()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let padding = " ".repeat(widths[column] - cell.width());
                if right.contains(&column) { format!("{padding}{cell}") } else { format!("{cell}{padding}") }
            })
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    std::iter::once(line(&header)).chain(rows.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "10".to_owned()], vec!["long".to_owned(), "7".to_owned()]];
        assert_eq!(columns(&["name", "n"], &rows, &[1]), "name   n\na     10\nlong   7\n");
    }
}
