//! Pairs as samples of the `webdataset` package: a picture, its caption and its other columns under one key.

use std::path::Path;

use anyhow::{Context as _, Result};
use arrow::array::{Array, RecordBatch, StringArray};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

use super::table;

/// The members of a sample: extension and bytes.
pub(crate) type Members<'a> = [(&'a str, &'a [u8])];

/// Hands over the key and the members of every pair: the picture, `json`, `txt`. `path` is for messages alone.
pub(crate) fn for_each(
    pairs: &RecordBatch,
    path: &Path,
    mut write: impl FnMut(&str, &Members) -> Result<()>,
) -> Result<()> {
    let uids = table::texts(pairs, "uid", path)?;
    let captions = table::texts(pairs, "caption", path)?;
    let formats = table::texts(pairs, "format", path)?;
    let pictures = table::pictures(pairs, path)?;
    for (row, metadata) in metadata_lines(pairs)?.iter().enumerate() {
        let caption = if captions.is_valid(row) { captions.value(row) } else { "" };
        let picture = (extension(formats, row), pictures.value(row));
        write(uids.value(row), &[picture, ("json", metadata.as_bytes()), ("txt", caption.as_bytes())])?;
    }
    Ok(())
}

/// The name of every pair's picture: key and extension.
pub(crate) fn picture_names(pairs: &RecordBatch, path: &Path) -> Result<Vec<String>> {
    let (uids, formats) = (table::texts(pairs, "uid", path)?, table::texts(pairs, "format", path)?);
    Ok((0..pairs.num_rows()).map(|row| format!("{}.{}", uids.value(row), extension(formats, row))).collect())
}

/// The extension by which WebDataset readers find a decoder.
fn extension(formats: &StringArray, row: usize) -> &str {
    match formats.value(row) {
        "jpeg" => "jpg",
        other => other,
    }
}

/// Every row's columns but the picture, as one JSON object a row; nulls are written, so that all samples have the same keys.
fn metadata_lines(rows: &RecordBatch) -> Result<Vec<String>> {
    let indices: Vec<usize> =
        (0..rows.num_columns()).filter(|index| rows.schema().field(*index).name() != "image").collect();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&rows.project(&indices)?)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).context("JSON is UTF-8")?;
    Ok(text.lines().map(str::to_owned).collect())
}
