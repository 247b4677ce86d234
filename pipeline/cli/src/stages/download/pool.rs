//! The files of a part of the pool: Parquet, or a tar file or a folder of pictures with their other columns as Parquet beside it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder, RecordBatch, StructArray};
use arrow::compute::interleave_record_batch;
use lynxdata_fetch::{PAIRS_CHUNK_BYTES, PoolFormat};
use lynxdata_records::{MeasuredFile, NewPart, PartEntry, RunFolder, parquet, schema, webdataset};

use crate::stages::{samples, table};

/// Where tar files lie: they are shards, since nothing follows that reads them.
const WEBDATASET_FOLDER: &str = "shards/webdataset";
/// Where folders of pictures lie.
const FILES_FOLDER: &str = "shards/files";

/// Writes the pairs of one part.
pub(super) struct PoolWriter {
    path: PathBuf,
    /// Made with the first rows, which bring the schema.
    table: Option<parquet::Writer>,
    pictures: Pictures,
    rows: u64,
}

/// Where the bytes of pictures go.
enum Pictures {
    /// Into the table.
    Table,
    Tar(PathBuf, Box<webdataset::Writer<MeasuredFile>>),
    Folder(PathBuf),
}

impl PoolWriter {
    /// Begins the files of a part, whose number is `index`.
    pub(super) fn create(
        run: &RunFolder,
        new: &mut NewPart,
        format: PoolFormat,
        name: &str,
        index: u32,
    ) -> Result<PoolWriter> {
        let path = run.stage_file(new, &format!("{}/part-{name}.parquet", schema::pool().name))?;
        let pictures = match format {
            PoolFormat::Parquet => Pictures::Table,
            PoolFormat::Webdataset => {
                let path = run.stage_file(new, &format!("{WEBDATASET_FOLDER}/{index:06}.tar"))?;
                let file = MeasuredFile::create(&path)?;
                Pictures::Tar(path, Box::new(webdataset::Writer::new(file)))
            }
            PoolFormat::Files => {
                let path = run.stage_file(new, &format!("{FILES_FOLDER}/{index:05}"))?;
                std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
                Pictures::Folder(path)
            }
        };
        Ok(PoolWriter { path, table: None, pictures, rows: 0 })
    }

    pub(super) fn write(&mut self, pairs: &RecordBatch) -> Result<()> {
        self.rows += pairs.num_rows() as u64;
        let bare = match &mut self.pictures {
            Pictures::Table => None,
            Pictures::Tar(path, tar) => {
                samples::for_each(pairs, path, |uid, members| Ok(tar.append(uid, members)?))?;
                Some(with_pictures(pairs, Arc::new(BinaryArray::new_null(pairs.num_rows())))?)
            }
            Pictures::Folder(folder) => {
                samples::for_each(pairs, folder, |uid, members| write_files(folder, uid, members))?;
                Some(with_pictures(pairs, Arc::new(BinaryArray::new_null(pairs.num_rows())))?)
            }
        };
        let pairs = bare.as_ref().unwrap_or(pairs);
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert(parquet::Writer::create(&self.path, &pairs.schema())?),
        };
        Ok(table.write(pairs)?)
    }

    /// Writes rows of batches as they would have been written as they came: a batch and a row in it for each.
    pub(super) fn write_rows(&mut self, batches: &[&RecordBatch], rows: &[(usize, usize)]) -> Result<()> {
        let sizes =
            batches.iter().map(|batch| table::integers(batch, "bytes", &self.path)).collect::<Result<Vec<_>>>()?;
        let (mut begin, mut size) = (0, 0);
        for (index, (batch, row)) in rows.iter().enumerate() {
            let bytes = sizes[*batch].value(*row) as usize;
            if index > begin && size + bytes > PAIRS_CHUNK_BYTES {
                self.write(&interleave_record_batch(batches, &rows[begin..index])?)?;
                (begin, size) = (index, 0);
            }
            size += bytes;
        }
        self.write(&interleave_record_batch(batches, &rows[begin..])?)
    }

    /// Ends the files of the part and counts its pairs.
    pub(super) fn finish(self, new: &mut NewPart) -> Result<()> {
        let table = self.table.context("a part hands over its pairs even if there are none")?;
        new.set_measured(&self.path, table.finish()?);
        if let Pictures::Tar(path, tar) = self.pictures {
            new.set_measured(&path, tar.finish()?.finish()?);
        }
        new.rows_out = self.rows;
        Ok(())
    }
}

/// The pairs with other picture bytes.
fn with_pictures(pairs: &RecordBatch, bytes: ArrayRef) -> Result<RecordBatch> {
    let index = pairs.schema().index_of("image")?;
    let image: &StructArray =
        pairs.column(index).as_any().downcast_ref().context("column image of the pool is no struct")?;
    let path = image.column_by_name("path").context("column image of the pool has no path")?;
    let mut columns = pairs.columns().to_vec();
    columns[index] = Arc::new(StructArray::new(image.fields().clone(), vec![bytes, path.clone()], None));
    Ok(RecordBatch::try_new(pairs.schema(), columns)?)
}

fn write_files(folder: &Path, uid: &str, members: &[(&str, &[u8])]) -> Result<()> {
    for (extension, bytes) in members {
        let path = folder.join(format!("{uid}.{extension}"));
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The pairs of a committed part in batches, with their pictures wherever these lie.
pub(super) fn read(run: &RunFolder, entry: &PartEntry) -> Result<Vec<RecordBatch>> {
    let path = table::file(run, entry, schema::pool().name)?;
    let pairs = table::batches(&path, None)?;
    if let Ok(tar) = table::file(run, entry, WEBDATASET_FOLDER) {
        let cannot_read = || format!("cannot read {}", tar.display());
        let mut archive = tar::Archive::new(File::open(&tar).with_context(cannot_read)?);
        let mut entries = archive.entries().with_context(cannot_read)?;
        let with_pictures_of_tar = |pairs: Result<RecordBatch>| {
            let pairs = pairs?;
            with_pictures(&pairs, Arc::new(read_tar(&tar, &mut entries, &pairs)?))
        };
        return pairs.map(with_pictures_of_tar).collect();
    }
    if let Ok(folder) = table::file(run, entry, FILES_FOLDER) {
        let with_pictures_of_files = |pairs: Result<RecordBatch>| {
            let pairs = pairs?;
            let mut bytes = BinaryBuilder::new();
            for name in samples::picture_names(&pairs, &path)? {
                let file = folder.join(name);
                bytes.append_value(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
            }
            with_pictures(&pairs, Arc::new(bytes.finish()))
        };
        return pairs.map(with_pictures_of_files).collect();
    }
    pairs.collect()
}

/// The pictures of these pairs in a tar file of ours, in which they have the order of the table.
fn read_tar(path: &Path, entries: &mut tar::Entries<'_, File>, pairs: &RecordBatch) -> Result<BinaryArray> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut bytes = BinaryBuilder::new();
    for name in samples::picture_names(pairs, path)? {
        let mut found = false;
        for entry in entries.by_ref() {
            let mut entry = entry.with_context(cannot_read)?;
            if entry.path_bytes() == name.as_bytes() {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).with_context(cannot_read)?;
                bytes.append_value(content);
                found = true;
                break;
            }
        }
        ensure!(found, "{} has no member {name}; remove the run folder and run again", path.display());
    }
    Ok(bytes.finish())
}
