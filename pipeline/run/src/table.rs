//! Reads the tables of committed parts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use arrow::array::{BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use lynxdata_records::schema::{IMAGE, IMAGE_BYTES};
use lynxdata_records::{FileEntry, PartEntry, RunFolder, parquet};

/// Returns the file of a part in a folder of the run, such as `pool`, after checking its digest.
///
/// # Errors
/// If the part has no such file, or the file is damaged.
pub(crate) fn file(run: &RunFolder, part: &PartEntry, folder: &str) -> Result<PathBuf> {
    Ok(run.intact(entry(part, folder)?)?)
}

/// Returns a file like [`file`], without checking its digest. For callers that read a few narrow
/// columns of the pool: checking the digest would read all images, which takes many times as long.
pub(crate) fn file_for_columns(run: &RunFolder, part: &PartEntry, folder: &str) -> Result<PathBuf> {
    file_below(run.root(), part, folder)
}

/// Returns a file like [`file_for_columns`], of a run that this process has not opened.
pub fn file_below(root: &Path, part: &PartEntry, folder: &str) -> Result<PathBuf> {
    Ok(root.join(&entry(part, folder)?.path))
}

fn entry<'a>(part: &'a PartEntry, folder: &str) -> Result<&'a FileEntry> {
    let prefix = format!("{folder}/");
    let entry = part.files.iter().find(|file| file.path.starts_with(&prefix));
    entry.with_context(|| format!("part {} of stage {} has no file in {folder}/", part.part, part.stage))
}

/// Reads all rows of a file in one batch; all columns or the named ones. Not for columns of images,
/// where one batch may not hold a whole part: see [`batches`].
pub fn read(path: &Path, columns: Option<&[&str]>) -> Result<RecordBatch> {
    let batches = batches(path, columns)?.collect::<Result<Vec<_>>>()?;
    arrow::compute::concat_batches(&schema(path, columns)?, &batches)
        .with_context(|| format!("cannot join the rows of {}", path.display()))
}

/// Reads a file batch by batch; all columns or the named ones.
pub(crate) fn batches(
    path: &Path,
    columns: Option<&[&str]>,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let schema = schema(path, columns)?;
    Ok(parquet::read(path, columns)?
        .map(move |batch| Ok(RecordBatch::try_new(schema.clone(), batch?.columns().to_vec())?)))
}

/// Reads some rows of a file, given in ascending order, batch by batch; all columns or the named
/// ones.
pub(crate) fn batches_at(
    path: &Path,
    columns: Option<&[&str]>,
    rows: &[u32],
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let schema = schema(path, columns)?;
    Ok(parquet::read_rows(path, columns, rows)?
        .map(move |batch| Ok(RecordBatch::try_new(schema.clone(), batch?.columns().to_vec())?)))
}

/// Returns the schema of a file, or of some of its columns. The schemas of its batches do not have
/// the metadata by which `datasets` recognises images.
pub(crate) fn schema(path: &Path, columns: Option<&[&str]>) -> Result<SchemaRef> {
    let whole = parquet::schema(path)?;
    let Some(columns) = columns else { return Ok(whole) };
    let fields = whole.fields().iter().filter(|field| columns.contains(&field.name().as_str()));
    Ok(Schema::new(fields.cloned().collect::<Vec<_>>()).into())
}

/// Returns the image bytes of the column [`IMAGE`].
pub(crate) fn pictures<'a>(batch: &'a RecordBatch, path: &Path) -> Result<&'a BinaryArray> {
    let image = IMAGE.of(batch, path)?;
    IMAGE_BYTES.within(image).with_context(|| format!("{}: column {} has no bytes", path.display(), IMAGE.name))
}

/// Checks that two tables of one part have the same pairs in the same order.
pub(crate) fn same_pairs(left: &StringArray, right: &StringArray, path: &Path) -> Result<()> {
    if left != right {
        bail!("the rows of {} do not match those of the pool; remove the run folder and run again", path.display());
    }
    Ok(())
}
