//! Pairs as samples of the `webdataset` package: an image, its caption and its other columns under
//! one key.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use lynxdata_picture::Encode;

use crate::table;
use lynxdata_records::schema::{CAPTION, FORMAT, IMAGE, UID};

/// The members of a sample: extension and bytes.
pub(crate) type Members<'a> = [(&'a str, &'a [u8])];

/// The extension of the image of a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Naming {
    /// The suffix of its own format.
    OwnFormat,
    /// The same suffix for all images, whatever their formats are. `datasets` opens an archive only
    /// if all samples have the same extensions, and open_clip does not know `gif`; both detect the
    /// format from the bytes. img2dataset does the same.
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

/// Passes the key and the members of every pair to `write`: the image, `json`, `txt`. `path` is
/// only for messages.
pub(crate) fn for_each(
    pairs: &RecordBatch,
    naming: Naming,
    path: &Path,
    mut write: impl FnMut(&str, &Members) -> Result<()>,
) -> Result<()> {
    let uids = UID.of(pairs, path)?;
    let captions = CAPTION.of(pairs, path)?;
    let formats = FORMAT.of(pairs, path)?;
    let pictures = table::pictures(pairs, path)?;
    for (row, metadata) in metadata_lines(pairs)?.iter().enumerate() {
        let caption = if captions.is_valid(row) { captions.value(row) } else { "" };
        let picture = (naming.extension(formats.value(row)), pictures.value(row));
        write(uids.value(row), &[picture, ("json", metadata.as_bytes()), ("txt", caption.as_bytes())])?;
    }
    Ok(())
}

/// Returns the file name of the image of every pair: key and extension.
pub(crate) fn picture_names(pairs: &RecordBatch, naming: Naming, path: &Path) -> Result<Vec<String>> {
    let (uids, formats) = (UID.of(pairs, path)?, FORMAT.of(pairs, path)?);
    let name = |row: usize| format!("{}.{}", uids.value(row), naming.extension(formats.value(row)));
    Ok((0..pairs.num_rows()).map(name).collect())
}

/// Returns the columns of every row except the image, as one JSON object per row. Nulls are
/// written, so that all samples have the same keys.
fn metadata_lines(rows: &RecordBatch) -> Result<Vec<String>> {
    let indices: Vec<usize> =
        (0..rows.num_columns()).filter(|index| rows.schema().field(*index).name() != IMAGE.name).collect();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&with_text_keys(&rows.project(&indices)?)?)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).context("JSON is UTF-8")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Converts the keys of maps to texts, because JSON allows no other keys.
fn with_text_keys(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(|values| cast(values, &text_keys(values.data_type())));
    let columns = columns.collect::<Result<Vec<_>, _>>().context("keys of a map cannot be written as JSON")?;
    let schema = rows.schema();
    let fields = schema.fields().iter().zip(&columns);
    let fields = fields.map(|(field, values)| field.as_ref().clone().with_data_type(values.data_type().clone()));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn text_keys(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(text_keys(field.data_type())));
    match data_type {
        DataType::List(item) => DataType::List(inner(item)),
        DataType::LargeList(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(inner(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, is_sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let [key, value] = [&fields[0], &fields[1]];
                let key = Arc::new(key.as_ref().clone().with_data_type(DataType::Utf8));
                let fields = DataType::Struct([key, inner(value)].into_iter().collect());
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(fields)), *is_sorted)
            }
            _ => unreachable!("the entries of a map are structs of a key and a value (Arrow columnar format)"),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Builder, MapBuilder, StringBuilder};

    use super::*;

    #[test]
    fn keys_of_maps_are_texts_in_json() {
        let mut maps = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
        maps.keys().append_value(7);
        maps.values().append_value("seven");
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        let rows = RecordBatch::try_from_iter([("names", Arc::new(maps.finish()) as ArrayRef)]).unwrap();
        assert_eq!(metadata_lines(&rows).unwrap(), ["{\"names\":{\"7\":\"seven\"}}", "{\"names\":null}"]);
    }
}
