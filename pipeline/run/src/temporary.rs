//! Temporary tables on disk, for what does not fit into memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use lynxdata_records::RunFolder;

/// Batches in a file without a name, which the system removes when it is closed.
pub(crate) struct TemporaryBatches {
    writer: StreamWriter<BufWriter<File>>,
}

/// The batches of a file, in the order in which they were written.
pub(crate) struct BatchesRead {
    reader: StreamReader<BufReader<File>>,
}

const CANNOT_WRITE: &str = "cannot write a temporary file in the run folder";

impl TemporaryBatches {
    /// Creates a file in the run folder.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(crate) fn create(run: &RunFolder, schema: &Schema) -> Result<Self> {
        let folder = run.temporary_folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let file = tempfile::tempfile_in(&folder).context(CANNOT_WRITE)?;
        Ok(Self { writer: StreamWriter::try_new(BufWriter::new(file), schema).context(CANNOT_WRITE)? })
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// If the disk is full.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).context(CANNOT_WRITE)
    }

    /// Reads the batches from the first one.
    ///
    /// # Errors
    /// If the disk is full or cannot be read.
    pub(crate) fn read(mut self) -> Result<BatchesRead> {
        self.writer.finish().context(CANNOT_WRITE)?;
        let mut file = self.writer.into_inner().context(CANNOT_WRITE)?.into_inner().context(CANNOT_WRITE)?;
        file.rewind().context(CANNOT_WRITE)?;
        Ok(BatchesRead { reader: StreamReader::try_new(BufReader::new(file), None)? })
    }
}

impl Iterator for BatchesRead {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.reader.next()?.context("cannot read a temporary file of the run folder"))
    }
}
