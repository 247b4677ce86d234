//! `lynxdata status`: shows the content of a run folder.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use lynxdata_run::stage::Stage as _;
use lynxdata_run::stages::select::Select;
use lynxdata_run::status::{Bucket, DownloadStatus, FailedRow, Quantiles, State, Status, failed_rows, status};

use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, Failure};
use crate::paths::input_parser;

/// Show the stages of a run, the outcomes of its rows, the numbers of rejected pairs, and the
/// verdict
///
/// A stage is out of date if its inputs, or its settings in the recipe of the run, have changed
/// since it was made.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata status run
  lynxdata status run --json | jq .download.by_status
  lynxdata status run --failed > failed.tsv         list every row that is not in the pool, and why
  lynxdata status s3://bucket/run")]
pub(crate) struct Arguments {
    /// The run folder, or its URL in an object store
    #[arg(value_parser = input_parser())]
    run: PathBuf,

    /// Print one JSON object; with --failed, one per row
    #[arg(long)]
    json: bool,

    /// List the rows of the source that failed instead, separated by tabs: row number, key, URL,
    /// status, retry class, HTTP status, attempts, milliseconds, detail
    #[arg(long)]
    failed: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.failed {
        list_failed(&arguments.run, arguments.json)?;
        return Ok(DONE);
    }
    let status = status(&arguments.run)?;
    if arguments.json {
        print_json(&status)?;
    } else {
        print(&text(&status))?;
    }
    Ok(DONE)
}

fn in_words(state: State) -> &'static str {
    match state {
        State::Complete => "complete",
        State::NotStarted => "not started",
        State::Unfinished => "unfinished",
        State::OutOfDate => "out of date",
        State::NotInRecipe => "not in the recipe",
    }
}

fn text(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status
        .stages
        .iter()
        .map(|stage| {
            vec![
                stage.name.clone(),
                in_words(stage.state).to_owned(),
                grouped(stage.rows_in),
                grouped(stage.rows_out),
                grouped(stage.parts),
                grouped(stage.bytes),
                format!("{:.1}", stage.seconds),
            ]
        })
        .collect();
    let header = ["stage", "state", "rows in", "rows out", "parts", "bytes", "seconds"];
    let mut text = columns(&header, &rows, &[2, 3, 4, 5, 6]);
    if status.stages.iter().any(|stage| stage.state == State::OutOfDate) {
        text.push_str(
            "\nout of date: its inputs or settings have changed since it was made; `lynxdata run` makes it again\n",
        );
    }
    let state_of = |name: &str| status.stages.iter().find(|stage| stage.name == name).map(|stage| stage.state);
    let remark = |state: Option<State>| match state {
        None | Some(State::Complete) => String::new(),
        Some(state) => format!(" ({})", in_words(state)),
    };
    let counts = |title: &str, counts: &BTreeMap<String, u64>| {
        let rows: Vec<Vec<String>> = counts.iter().map(|(name, rows)| vec![name.clone(), grouped(*rows)]).collect();
        format!("\n{}", columns(&[title, "rows"], &rows, &[1]))
    };
    text.push_str(&download_text(&status.download));
    for (name, selection) in &status.selections {
        let remark = remark(state_of(Select.name()));
        text.push_str(&format!("\nselection {name}{remark}: {} kept\n", grouped(selection.kept)));
        if !selection.rejected_by.is_empty() {
            text.push_str(counts("rejected by", &selection.rejected_by).trim_start());
        }
    }
    for (task, reasons) in status.instruct.iter().filter(|(_, reasons)| !reasons.is_empty()) {
        text.push_str(&counts(&format!("left out of {task}"), reasons));
    }
    if let Some(sentence) = status.verdict.as_ref().and_then(|verdict| verdict["sentence"].as_str()) {
        let of = if status.verdict_is_current { "" } else { " of earlier arms (out of date)" };
        text.push_str(&format!("\nverdict{of}: {sentence}\n"));
    }
    text
}

/// Returns the tables of statuses, latencies, sizes and hosts.
fn download_text(download: &DownloadStatus) -> String {
    let quantiles = |quantiles: Option<Quantiles>| {
        let values = quantiles.map(|Quantiles { p50, p90, p99, max }| [p50, p90, p99, max]);
        values.map_or_else(|| vec![String::new(); 4], |values| values.map(|value| grouped(value as u64)).to_vec())
    };
    let mut text = String::new();
    let rows: Vec<Vec<String>> = download
        .statuses
        .iter()
        .map(|status| {
            let named = [status.status, status.retry_class].map(str::to_owned).to_vec();
            [named, [status.rows, status.bytes].map(grouped).to_vec(), quantiles(status.latency_ms)].concat()
        })
        .collect();
    if !rows.is_empty() {
        let header = ["download status", "retry", "rows", "bytes", "p50 ms", "p90", "p99", "max"];
        text.push_str(&format!("\n{}", columns(&header, &rows, &[2, 3, 4, 5, 6, 7])));
    }
    let measured = [("milliseconds", download.latency_ms), ("bytes of a body", download.body_bytes)];
    let rows: Vec<Vec<String>> = measured
        .into_iter()
        .filter(|(_, values)| values.is_some())
        .map(|(name, values)| [vec![name.to_owned()], quantiles(values)].concat())
        .collect();
    if !rows.is_empty() {
        text.push_str(&format!(
            "\n{}",
            columns(&["a download took", "p50", "p90", "p99", "max"], &rows, &[1, 2, 3, 4])
        ));
    }
    let histograms =
        [("milliseconds", &download.latency_ms_histogram), ("bytes of a body", &download.body_bytes_histogram)];
    for (unit, buckets) in histograms {
        text.push_str(&histogram_text(unit, buckets));
    }
    let rows: Vec<Vec<String>> = download
        .hosts
        .iter()
        .map(|host| {
            let ok = host.by_status.get(lynxdata_records::Status::Ok.name()).copied().unwrap_or_default();
            let numbers = [host.rows, ok, host.bytes].map(grouped).to_vec();
            [vec![host.host.clone()], numbers, quantiles(host.latency_ms)].concat()
        })
        .collect();
    if !rows.is_empty() {
        let header = ["host", "rows", "ok", "bytes", "p50 ms", "p90", "p99", "max"];
        text.push_str(&format!("\n{}", columns(&header, &rows, &[1, 2, 3, 4, 5, 6, 7])));
    }
    text
}

/// Returns the buckets with bars, or nothing if there are no values. Leaves out empty buckets at
/// both ends.
fn histogram_text(unit: &str, buckets: &[Bucket]) -> String {
    const LONGEST_BAR: u64 = 40;
    let is_filled = |bucket: &Bucket| bucket.rows > 0;
    let (Some(first), Some(last)) = (buckets.iter().position(is_filled), buckets.iter().rposition(is_filled)) else {
        return String::new();
    };
    let most = buckets.iter().map(|bucket| bucket.rows).max().unwrap_or(1);
    let rows: Vec<Vec<String>> = buckets[first..=last]
        .iter()
        .map(|bucket| {
            let bar = "#".repeat((bucket.rows * LONGEST_BAR).div_ceil(most) as usize);
            vec![bucket.up_to.map_or("more".to_owned(), |up_to| grouped(up_to as u64)), grouped(bucket.rows), bar]
        })
        .collect();
    format!("\n{}", columns(&[&format!("{unit} up to"), "rows", ""], &rows, &[0, 1]))
}

const HEADER: &str = "row\tuid\turl\tstatus\tretry_class\thttp_status\tattempts\telapsed_ms\tdetail\n";

/// Writes the failed rows to standard output, part by part: as JSON lines, or as a header and
/// tab-separated lines.
fn list_failed(run: &Path, json: bool) -> anyhow::Result<()> {
    let mut output = BufWriter::new(std::io::stdout().lock());
    let cannot_write = "cannot write to standard output";
    if !json {
        output.write_all(HEADER.as_bytes()).context(cannot_write)?;
    }
    failed_rows(run, &mut |failed| {
        let line = if json { serde_json::to_string(failed)? } else { tabbed(failed) };
        writeln!(output, "{line}").context(cannot_write)
    })?;
    output.flush().context(cannot_write)
}

/// Returns the fields of a row separated by tabs, empty where there is no value. Tabs and line
/// breaks within texts become spaces.
fn tabbed(failed: &FailedRow<'_>) -> String {
    let number = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    // Sources come from strangers: no text may end the line or control the terminal.
    let text = |text: Option<&str>| text.unwrap_or_default().replace(char::is_control, " ");
    [
        number(failed.row),
        text(failed.uid),
        text(failed.url),
        failed.status.to_owned(),
        failed.retry_class.to_owned(),
        number(failed.http_status),
        number(failed.attempts),
        number(failed.elapsed_ms),
        text(failed.detail),
    ]
    .join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lynxdata_records::Status;

    #[test]
    fn a_histogram_has_bars_from_its_first_filled_bucket_to_its_last() {
        let buckets = |rows: [u64; 4]| -> Vec<Bucket> {
            let bounds = [Some(1000), Some(10_000), Some(30_000), None];
            bounds.into_iter().zip(rows).map(|(up_to, rows)| Bucket { up_to, rows }).collect()
        };
        let text = histogram_text("bytes", &buckets([0, 1, 0, 2]));
        assert_eq!(text.lines().filter(|line| line.contains('#')).count(), 2, "{text}");
        assert!(text.contains("10,000") && text.contains("more") && !text.contains("1,000"), "{text}");
        assert_eq!(histogram_text("bytes", &buckets([0; 4])), "");
    }

    #[test]
    fn lines_have_the_fields_of_the_header_whatever_is_in_them() {
        let failed = FailedRow {
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
        assert_eq!(tabbed(&failed), "7\tkey\thttp://x/a b  ]c\ttimeout\tnetwork\t\t3\t30000\ttwo  lines");
        let names: Vec<&str> = HEADER.trim_end().split('\t').collect();
        let json = serde_json::to_value(&failed).unwrap();
        assert_eq!(names, json.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>());
    }
}
