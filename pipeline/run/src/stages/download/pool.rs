//! The files of a part of the pool: Parquet, or a tar file or folder of images with their other
//! columns as Parquet beside it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{ArrayRef, BinaryArray, BinaryBuilder, RecordBatch, StructArray};
use arrow::compute::concat_batches;
use lynxdata_fetch::{DownloadConfig, PAIRS_CHUNK_BYTES, PoolFormat};
use lynxdata_picture::Encode;
use lynxdata_records::schema::{BYTES, IMAGE, IMAGE_PATH};
use lynxdata_records::{MeasuredFile, NewPart, PartEntry, RunFolder, parquet, schema, webdataset};

use crate::stages::samples::{self, Naming};
use crate::table;

/// Folder of tar files. They are final shards, because no later stage reads them.
const WEBDATASET_FOLDER: &str = "shards/webdataset";
/// Folder of the folders of images.
const FILES_FOLDER: &str = "shards/files";

/// Writes the pairs of one part.
pub(super) struct PoolWriter {
    path: PathBuf,
    /// Created with the first rows, which have the schema.
    table: Option<parquet::Writer>,
    pictures: Pictures,
    rows: u64,
    /// Pairs that were pushed, and the size of their images in bytes.
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
}

/// The destination of the bytes of images.
enum Pictures {
    /// Into the table.
    Table,
    Tar(PathBuf, Box<webdataset::Writer<MeasuredFile>>, Naming),
    Folder(PathBuf),
}

impl PoolWriter {
    /// Creates the files of a part with number `index`.
    pub(super) fn create(
        run: &RunFolder,
        new: &mut NewPart,
        config: &DownloadConfig,
        name: &str,
        index: u32,
    ) -> Result<PoolWriter> {
        let path = run.stage_file(new, &format!("{}/part-{name}.parquet", schema::pool().name))?;
        let pictures = match config.format {
            PoolFormat::Parquet => Pictures::Table,
            PoolFormat::Webdataset => {
                let path = run.stage_file(new, &format!("{WEBDATASET_FOLDER}/{index:06}.tar"))?;
                let file = MeasuredFile::create(&path)?;
                let tar = Box::new(webdataset::Writer::new(file));
                Pictures::Tar(path, tar, Naming::OneForAll(config.encode))
            }
            PoolFormat::Files => {
                let path = run.stage_file(new, &format!("{FILES_FOLDER}/{index:05}"))?;
                std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
                Pictures::Folder(path)
            }
        };
        Ok(PoolWriter { path, table: None, pictures, rows: 0, pending: Vec::new(), pending_bytes: 0 })
    }

    pub(super) fn write(&mut self, pairs: &RecordBatch) -> Result<()> {
        self.rows += pairs.num_rows() as u64;
        let bare = match &mut self.pictures {
            Pictures::Table => None,
            Pictures::Tar(path, tar, naming) => {
                samples::for_each(pairs, *naming, path, |uid, members| Ok(tar.append(uid, members)?))?;
                Some(with_pictures(pairs, Arc::new(BinaryArray::new_null(pairs.num_rows())))?)
            }
            Pictures::Folder(folder) => {
                samples::for_each(pairs, Naming::OwnFormat, folder, |uid, members| write_files(folder, uid, members))?;
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

    /// Writes a single pair. Pairs are grouped as if they had been written when they arrived.
    pub(super) fn push(&mut self, pair: RecordBatch) -> Result<()> {
        let bytes = BYTES.of(&pair, &self.path)?.value(0) as usize;
        if self.pending_bytes + bytes > PAIRS_CHUNK_BYTES {
            self.flush()?;
        }
        self.pending_bytes += bytes;
        self.pending.push(pair);
        Ok(())
    }

    /// Writes the pairs that were pushed.
    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.pending.first() else { return Ok(()) };
        let pairs = concat_batches(&first.schema(), &self.pending)?;
        (self.pending, self.pending_bytes) = (Vec::new(), 0);
        self.write(&pairs)
    }

    /// Finishes the files of the part and counts its pairs.
    pub(super) fn finish(mut self, new: &mut NewPart) -> Result<()> {
        self.flush()?;
        let table = self.table.context("a part passes on its pairs even if there are none")?;
        new.set_measured(&self.path, table.finish()?);
        if let Pictures::Tar(path, tar, _) = self.pictures {
            new.set_measured(&path, tar.finish()?.finish()?);
        }
        new.rows_out = self.rows;
        Ok(())
    }
}

/// Returns the pairs with other image bytes.
fn with_pictures(pairs: &RecordBatch, bytes: ArrayRef) -> Result<RecordBatch> {
    let index = pairs.schema().index_of(IMAGE.name)?;
    let image = IMAGE.of(pairs, Path::new(schema::pool().name))?;
    let path = IMAGE_PATH.within(image).context("column image of the pool has no path")?;
    let mut columns = pairs.columns().to_vec();
    columns[index] = Arc::new(StructArray::new(image.fields().clone(), vec![bytes, Arc::new(path.clone())], None));
    Ok(RecordBatch::try_new(pairs.schema(), columns)?)
}

fn write_files(folder: &Path, uid: &str, members: &[(&str, &[u8])]) -> Result<()> {
    for (extension, bytes) in members {
        let path = folder.join(format!("{uid}.{extension}"));
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Passes the pairs of a committed part to `each` one by one, with their images wherever these are
/// stored. Only a few pairs are in memory at a time.
pub(super) fn for_each_pair(
    run: &RunFolder,
    encode: Encode,
    entry: &PartEntry,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let path = table::file(run, entry, schema::pool().name)?;
    let mut hand_over = |pairs: RecordBatch| (0..pairs.num_rows()).try_for_each(|row| each(pairs.slice(row, 1)));
    let has = |folder: &str| entry.paths().any(|path| Path::new(path).starts_with(folder));
    if has(WEBDATASET_FOLDER) {
        let tar = table::file(run, entry, WEBDATASET_FOLDER)?;
        let cannot_read = || format!("cannot read {}", tar.display());
        let mut archive = tar::Archive::new(File::open(&tar).with_context(cannot_read)?);
        let mut entries = archive.entries().with_context(cannot_read)?;
        for pairs in table::batches(&path, None)? {
            let pairs = pairs?;
            hand_over(with_pictures(&pairs, Arc::new(read_tar(&tar, &mut entries, &pairs, encode)?))?)?;
        }
    } else if has(FILES_FOLDER) {
        let folder = table::file(run, entry, FILES_FOLDER)?;
        for pairs in table::batches(&path, None)? {
            let pairs = pairs?;
            let mut bytes = BinaryBuilder::new();
            for name in samples::picture_names(&pairs, Naming::OwnFormat, &path)? {
                let file = folder.join(name);
                bytes.append_value(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
            }
            hand_over(with_pictures(&pairs, Arc::new(bytes.finish()))?)?;
        }
    } else {
        for pairs in table::batches(&path, None)? {
            hand_over(pairs?)?;
        }
    }
    Ok(())
}

/// Returns the images of these pairs from a tar file of the pool, which has the order of the table.
fn read_tar(
    path: &Path,
    entries: &mut tar::Entries<'_, File>,
    pairs: &RecordBatch,
    encode: Encode,
) -> Result<BinaryArray> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut bytes = BinaryBuilder::new();
    for name in samples::picture_names(pairs, Naming::OneForAll(encode), path)? {
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
