//! The rows that failed: for people who look for the reason, and for scripts that process them.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use arrow::array::{Array, Int64Array, StringArray};
use lynxdata_records::schema::{ATTEMPTS, DETAIL, ELAPSED_MS, HTTP_STATUS, ROW, STATUS, UID, URL};
use lynxdata_records::{Manifest, PartEntry, Status, schema};
use serde::Serialize;

use lynxdata_run::stage::Stage as _;
use lynxdata_run::stages::download::Download;
use lynxdata_run::table;

/// A row of the source that is not in the pool.
#[derive(Serialize)]
struct Failed<'a> {
    row: Option<i64>,
    uid: Option<&'a str>,
    url: Option<&'a str>,
    status: &'static str,
    retry_class: &'static str,
    http_status: Option<i64>,
    attempts: Option<i64>,
    elapsed_ms: Option<i64>,
    detail: Option<&'a str>,
}

const HEADER: &str = "row\tuid\turl\tstatus\tretry_class\thttp_status\tattempts\telapsed_ms\tdetail\n";

/// Writes the failed rows to standard output, part by part: as JSON lines, or as a header and
/// tab-separated lines.
pub(super) fn list(root: &Path, json: bool) -> Result<()> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    let cannot_write = "cannot write to standard output";
    if !json {
        output.write_all(HEADER.as_bytes()).context(cannot_write)?;
    }
    for part in Manifest::read(root)?.parts(Download.name()) {
        list_part(root, part, &mut |failed| {
            let line = if json { serde_json::to_string(failed)? } else { failed.tabbed() };
            writeln!(output, "{line}").context(cannot_write)
        })?;
    }
    output.flush().context(cannot_write)
}

fn list_part(root: &Path, part: &PartEntry, on_row: &mut dyn FnMut(&Failed<'_>) -> Result<()>) -> Result<()> {
    let path = table::file_below(root, part, schema::download_log().name)?;
    let log = table::read(&path, None)?;
    let (rows, uids, urls) = (ROW.of(&log, &path)?, UID.of(&log, &path)?, URL.of(&log, &path)?);
    let (statuses, codes) = (STATUS.of(&log, &path)?, HTTP_STATUS.of(&log, &path)?);
    let (attempts, elapsed) = (ATTEMPTS.of(&log, &path)?, ELAPSED_MS.of(&log, &path)?);
    let details = DETAIL.of(&log, &path)?;
    for row in 0..log.num_rows() {
        let status: Status = statuses.value(row).parse()?;
        if status == Status::Ok {
            continue;
        }
        on_row(&Failed {
            row: integer(rows, row),
            uid: text(uids, row),
            url: text(urls, row),
            status: status.name(),
            retry_class: status.retry_class().name(),
            http_status: integer(codes, row),
            attempts: integer(attempts, row),
            elapsed_ms: integer(elapsed, row),
            detail: text(details, row),
        })?;
    }
    Ok(())
}

fn text(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn integer(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

impl Failed<'_> {
    /// Returns the fields separated by tabs, empty where there is no value. Tabs and line breaks
    /// within texts become spaces.
    fn tabbed(&self) -> String {
        let number = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
        // Sources come from strangers: no text may end the line or control the terminal.
        let text = |text: Option<&str>| text.unwrap_or_default().replace(char::is_control, " ");
        [
            number(self.row),
            text(self.uid),
            text(self.url),
            self.status.to_owned(),
            self.retry_class.to_owned(),
            number(self.http_status),
            number(self.attempts),
            number(self.elapsed_ms),
            text(self.detail),
        ]
        .join("\t")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_fields_of_the_header_whatever_is_in_them() {
        let failed = Failed {
            row: Some(7),
            uid: Some("key"),
            url: Some("http://x/a\tb\n\u{1b}]c"),
            status: Status::Timeout.name(),
            retry_class: Status::Timeout.retry_class().name(),
            http_status: None,
            attempts: Some(3),
            elapsed_ms: Some(30_000),
            detail: Some("two\r\nlines"),
        };
        assert_eq!(failed.tabbed(), "7\tkey\thttp://x/a b  ]c\ttimeout\tnetwork\t\t3\t30000\ttwo  lines");
        let names: Vec<&str> = HEADER.trim_end().split('\t').collect();
        let json = serde_json::to_value(&failed).unwrap();
        assert_eq!(names, json.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>());
    }
}
