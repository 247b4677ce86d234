//! Reading the tables of committed parts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Schema, SchemaRef};
use lynxdata_records::{FileEntry, PartEntry, RunFolder, parquet};

/// Returns the file of a part that lies in a folder of the run, such as `pool`, after comparing its
/// content with its digest.
///
/// # Errors
/// If the part has no such file, or it is damaged.
pub(crate) fn file(run: &RunFolder, part: &PartEntry, folder: &str) -> Result<PathBuf> {
    Ok(run.intact(entry(part, folder)?)?)
}

/// Returns a file as [`file`] does, for those who read a few narrow columns of the pool: comparing
/// the digest would read all pictures, which takes many times as long.
pub(crate) fn file_for_columns(run: &RunFolder, part: &PartEntry, folder: &str) -> Result<PathBuf> {
    file_below(run.root(), part, folder)
}

/// Returns a file as [`file_for_columns`] does, of a run that this process does not hold.
pub fn file_below(root: &Path, part: &PartEntry, folder: &str) -> Result<PathBuf> {
    Ok(root.join(&entry(part, folder)?.path))
}

fn entry<'a>(part: &'a PartEntry, folder: &str) -> Result<&'a FileEntry> {
    let prefix = format!("{folder}/");
    let entry = part.files.iter().find(|file| file.path.starts_with(&prefix));
    entry.with_context(|| format!("part {} of stage {} has no file in {folder}/", part.part, part.stage))
}

/// Reads all rows of a file in one batch; all columns or those named. Not for those with pictures,
/// of which a batch may not hold a whole part: see [`batches`].
pub fn read(path: &Path, columns: Option<&[&str]>) -> Result<RecordBatch> {
    let batches = batches(path, columns)?.collect::<Result<Vec<_>>>()?;
    arrow::compute::concat_batches(&schema(path, columns)?, &batches)
        .with_context(|| format!("cannot join the rows of {}", path.display()))
}

/// Reads a file batch by batch; all columns or those named.
pub(crate) fn batches(
    path: &Path,
    columns: Option<&[&str]>,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let schema = schema(path, columns)?;
    Ok(parquet::read(path, columns)?
        .map(move |batch| Ok(RecordBatch::try_new(schema.clone(), batch?.columns().to_vec())?)))
}

/// Reads some rows of a file, which are ascending, batch by batch; all columns or those named.
pub(crate) fn batches_at(
    path: &Path,
    columns: Option<&[&str]>,
    rows: &[u32],
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let schema = schema(path, columns)?;
    Ok(parquet::read_rows(path, columns, rows)?
        .map(move |batch| Ok(RecordBatch::try_new(schema.clone(), batch?.columns().to_vec())?)))
}

/// Returns the schema of a file, or of columns of it. That of its batches lacks the metadata by
/// which `datasets` recognises pictures.
pub(crate) fn schema(path: &Path, columns: Option<&[&str]>) -> Result<SchemaRef> {
    let whole = parquet::schema(path)?;
    let Some(columns) = columns else { return Ok(whole) };
    let fields = whole.fields().iter().filter(|field| columns.contains(&field.name().as_str()));
    Ok(Schema::new(fields.cloned().collect::<Vec<_>>()).into())
}

/// Returns a text column.
pub fn texts<'a>(batch: &'a RecordBatch, name: &str, path: &Path) -> Result<&'a StringArray> {
    Ok(parquet::typed_column(batch, name, path)?)
}

/// Returns a column of whole numbers.
pub fn integers<'a>(batch: &'a RecordBatch, name: &str, path: &Path) -> Result<&'a Int64Array> {
    Ok(parquet::typed_column(batch, name, path)?)
}

/// Returns the picture bytes of the `image` column.
pub(crate) fn pictures<'a>(batch: &'a RecordBatch, path: &Path) -> Result<&'a BinaryArray> {
    let image: &StructArray = parquet::typed_column(batch, "image", path)?;
    image
        .column_by_name("bytes")
        .and_then(|bytes| bytes.as_any().downcast_ref())
        .with_context(|| format!("{}: column image has no bytes", path.display()))
}

/// Refuses two tables of one part whose rows are not the same pairs in the same order.
pub(crate) fn same_pairs(left: &StringArray, right: &StringArray, path: &Path) -> Result<()> {
    if left != right {
        bail!("the rows of {} are not those of the pool; remove the run folder and run again", path.display());
    }
    Ok(())
}
