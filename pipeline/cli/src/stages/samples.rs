//! Pairs as samples of the `webdataset` package: a picture, its caption and its other columns under one key.

use std::path::Path;

use anyhow::{Context as _, Result};
use arrow::array::{Array, RecordBatch};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use lynxdata_picture::Encode;

use super::table;

/// The members of a sample: extension and bytes.
pub(crate) type Members<'a> = [(&'a str, &'a [u8])];

/// The extension of a picture's member.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Naming {
    /// That of its own format.
    OwnFormat,
    /// One for all pictures, whatever their formats are. `datasets` opens an archive only if all
    /// samples have the same extensions, and open_clip knows no `gif`; both tell the format from
    /// the bytes. img2dataset names its pictures so too.
    OneForAll(Encode),
}

impl Naming {
    fn extension(self, format: &str) -> &str {
        match (self, format) {
            (Naming::OneForAll(encode), _) => encode.extension(),
            (Naming::OwnFormat, "jpeg") => "jpg",
            (Naming::OwnFormat, other) => other,
        }
    }
}

/// Hands over the key and the members of every pair: the picture, `json`, `txt`. `path` is for messages alone.
pub(crate) fn for_each(
    pairs: &RecordBatch,
    naming: Naming,
    path: &Path,
    mut write: impl FnMut(&str, &Members) -> Result<()>,
) -> Result<()> {
    let uids = table::texts(pairs, "uid", path)?;
    let captions = table::texts(pairs, "caption", path)?;
    let formats = table::texts(pairs, "format", path)?;
    let pictures = table::pictures(pairs, path)?;
    for (row, metadata) in metadata_lines(pairs)?.iter().enumerate() {
        let caption = if captions.is_valid(row) { captions.value(row) } else { "" };
        let picture = (naming.extension(formats.value(row)), pictures.value(row));
        write(uids.value(row), &[picture, ("json", metadata.as_bytes()), ("txt", caption.as_bytes())])?;
    }
    Ok(())
}

/// The name of every pair's picture: key and extension.
pub(crate) fn picture_names(pairs: &RecordBatch, naming: Naming, path: &Path) -> Result<Vec<String>> {
    let (uids, formats) = (table::texts(pairs, "uid", path)?, table::texts(pairs, "format", path)?);
    let name = |row: usize| format!("{}.{}", uids.value(row), naming.extension(formats.value(row)));
    Ok((0..pairs.num_rows()).map(name).collect())
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
