//! The rows that failed: for people who look for the reason, and for scripts that process them.

use std::path::Path;

use anyhow::Result;
use arrow::array::{Array, Int64Array, StringArray};
use lynxdata_records::schema::{ATTEMPTS, DETAIL, ELAPSED_MS, HTTP_STATUS, ROW, STATUS, UID, URL};
use lynxdata_records::{PartEntry, Status, schema};
use serde::Serialize;

use crate::table;

/// A row of the source that is not in the pool.
#[derive(Debug, Serialize)]
pub struct FailedRow<'a> {
    /// Number of the row in the source, from 0.
    pub row: Option<i64>,
    /// The key of the pair.
    pub uid: Option<&'a str>,
    /// The URL as in the source.
    pub url: Option<&'a str>,
    /// The name of the status.
    pub status: &'static str,
    /// The class that `download --retry-failed` takes.
    pub retry_class: &'static str,
    /// The HTTP status of the last answer.
    pub http_status: Option<i64>,
    /// Requests that were started, without redirects.
    pub attempts: Option<i64>,
    /// Milliseconds from the first request to the end.
    pub elapsed_ms: Option<i64>,
    /// The message of the network or the decoder.
    pub detail: Option<&'a str>,
}

/// Calls `on_row` for every failed row of a part of the download.
pub(super) fn list_part(
    root: &Path,
    part: &PartEntry,
    on_row: &mut dyn FnMut(&FailedRow<'_>) -> Result<()>,
) -> Result<()> {
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
        on_row(&FailedRow {
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
