//! Lists that may not fit into memory: records in a temporary file, and a sort that spills to such
//! files.
//!
//! A file has no name, so the system removes it when it is closed, however the process ends.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The memory that a list may take, and the folder of the temporary files for what exceeds it.
#[derive(Debug, Clone)]
pub struct Memory {
    bytes: u64,
    folder: PathBuf,
}

impl Memory {
    /// Returns so many bytes of memory. What exceeds them is written to files in `folder`, which is
    /// created when it is needed.
    pub fn limited(bytes: u64, folder: PathBuf) -> Memory {
        Memory { bytes, folder }
    }

    /// Returns memory without a limit, for lists that are known to be small.
    pub fn unlimited() -> Memory {
        Memory { bytes: u64::MAX, folder: std::env::temp_dir() }
    }

    /// Returns one of so many equal shares.
    #[must_use]
    pub fn share(&self, shares: u64) -> Memory {
        Memory { bytes: self.bytes / shares, folder: self.folder.clone() }
    }

    /// Returns how many records of so many bytes fit.
    pub fn room(&self, record_bytes: u64) -> u64 {
        self.bytes / record_bytes
    }
}

/// Writes a [`TemporaryList`].
pub struct TemporaryWriter<R> {
    file: BufWriter<File>,
    folder: PathBuf,
    records: u64,
    buffer: Vec<u8>,
    of: PhantomData<R>,
}

impl<R: Serialize> TemporaryWriter<R> {
    /// Creates the file.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn create(memory: &Memory) -> Result<Self> {
        let folder = memory.folder.clone();
        fs::create_dir_all(&folder).map_err(|source| Error::io("create", &folder, source))?;
        let file = tempfile::tempfile_in(&folder).map_err(|source| cannot_write(&folder, source))?;
        Ok(Self { file: BufWriter::new(file), folder, records: 0, buffer: Vec::new(), of: PhantomData })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn push(&mut self, record: &R) -> Result<()> {
        self.buffer.clear();
        let written = postcard::to_io(record, &mut self.buffer).map_err(io::Error::other).and_then(|bytes| {
            let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            self.file.write_all(&length.to_le_bytes())?;
            self.file.write_all(bytes)
        });
        self.records += 1;
        written.map_err(|source| cannot_write(&self.folder, source))
    }

    /// Ends the list.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn finish(self) -> Result<TemporaryList<R>> {
        let Self { file, folder, records, .. } = self;
        let file = file.into_inner().map_err(|error| cannot_write(&folder, error.into_error()))?;
        Ok(TemporaryList { file, folder, records, of: PhantomData })
    }
}

fn cannot_write(folder: &Path, source: io::Error) -> Error {
    Error::io("write a temporary file in", folder, source)
}

/// A list in a temporary file.
pub struct TemporaryList<R> {
    file: File,
    folder: PathBuf,
    records: u64,
    of: PhantomData<R>,
}

impl<R: DeserializeOwned> TemporaryList<R> {
    /// Reads the list from the first record. The file is removed after the last one.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn into_records(self) -> Result<TemporaryRecords<R>> {
        let Self { mut file, folder, records: left, .. } = self;
        file.rewind().map_err(|source| cannot_read(&folder, source))?;
        Ok(TemporaryRecords { file: BufReader::new(file), folder, left, buffer: Vec::new(), of: PhantomData })
    }
}

/// The records of a [`TemporaryList`], in the order in which they were written.
pub struct TemporaryRecords<R> {
    file: BufReader<File>,
    folder: PathBuf,
    left: u64,
    buffer: Vec<u8>,
    of: PhantomData<R>,
}

impl<R: DeserializeOwned> TemporaryRecords<R> {
    fn read(&mut self) -> io::Result<R> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        self.buffer.resize(u32::from_le_bytes(length) as usize, 0);
        self.file.read_exact(&mut self.buffer)?;
        postcard::from_bytes(&self.buffer).map_err(io::Error::other)
    }
}

fn cannot_read(folder: &Path, source: io::Error) -> Error {
    Error::io("read a temporary file in", folder, source)
}

impl<R: DeserializeOwned> Iterator for TemporaryRecords<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.read().map_err(|source| cannot_read(&self.folder, source)))
    }
}

/// A record that a [`Sorter`] sorts by its order.
pub trait Sortable: Ord + Serialize + DeserializeOwned {
    /// Returns the bytes that it takes on the heap.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Returns the bytes that a text takes on the heap, with those of the allocator.
pub fn text_bytes(text: &str) -> usize {
    text.len() + 16
}

/// Minimum number of records in memory. A smaller limit of memory is raised to this.
const LEAST_RECORDS: usize = 64;

/// Number of files at which they are merged into one: a process may open only 256 on some systems.
const MOST_FILES: usize = 32;

/// A list that is to be sorted. Records that do not fit into memory are sorted and written to a
/// temporary file. In the end the files are merged.
pub struct Sorter<R> {
    memory: Memory,
    records: Vec<R>,
    /// Bytes of the records on the heap.
    heap_bytes: u64,
    /// Sorted lists.
    spilled: Vec<TemporaryList<R>>,
}

impl<R: Sortable> Sorter<R> {
    /// Returns an empty list.
    pub fn new(memory: Memory) -> Self {
        Sorter { memory, records: Vec::new(), heap_bytes: 0, spilled: Vec::new() }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// If a temporary file cannot be written.
    pub fn push(&mut self, record: R) -> Result<()> {
        let (records, capacity) = (self.records.len(), self.records.capacity());
        let room = (self.memory.bytes.saturating_sub(self.heap_bytes) / size_of::<R>() as u64) as usize;
        // A larger array is a copy of the present one, so for a moment both have to fit.
        let is_full = records >= room || (records == capacity && capacity > room / 2);
        if is_full && records >= LEAST_RECORDS {
            self.spill()?;
        } else if records == capacity {
            self.records.reserve_exact(capacity.clamp(LEAST_RECORDS, room.saturating_sub(capacity).max(LEAST_RECORDS)));
        }
        self.heap_bytes += record.heap_bytes() as u64;
        self.records.push(record);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.records.sort_unstable();
        let mut writer = TemporaryWriter::create(&self.memory)?;
        for record in self.records.drain(..) {
            writer.push(&record)?;
        }
        self.heap_bytes = 0;
        self.spilled.push(writer.finish()?);
        if self.spilled.len() == MOST_FILES {
            let mut writer = TemporaryWriter::create(&self.memory)?;
            for record in SortedRecords::merge(Vec::new(), std::mem::take(&mut self.spilled))? {
                writer.push(&record?)?;
            }
            self.spilled.push(writer.finish()?);
        }
        Ok(())
    }

    /// Returns the records in order.
    ///
    /// # Errors
    /// If a temporary file cannot be read.
    pub fn sorted(mut self) -> Result<SortedRecords<R>> {
        self.records.sort_unstable();
        SortedRecords::merge(self.records, self.spilled)
    }
}

/// The records of a [`Sorter`] in order.
pub struct SortedRecords<R> {
    lists: Vec<SortedList<R>>,
    /// The first record of each list that has one left.
    heads: BinaryHeap<Head<R>>,
}

enum SortedList<R> {
    InMemory(std::vec::IntoIter<R>),
    InFile(TemporaryRecords<R>),
}

/// The first record of a list. The greatest is the one with the least record, as [`BinaryHeap`]
/// returns the greatest.
struct Head<R> {
    record: R,
    list: usize,
}

impl<R: Sortable> SortedRecords<R> {
    fn merge(in_memory: Vec<R>, in_files: Vec<TemporaryList<R>>) -> Result<Self> {
        let mut lists = vec![SortedList::InMemory(in_memory.into_iter())];
        for list in in_files {
            lists.push(SortedList::InFile(list.into_records()?));
        }
        let mut heads = BinaryHeap::new();
        for (number, list) in lists.iter_mut().enumerate() {
            if let Some(record) = list.next() {
                heads.push(Head { record: record?, list: number });
            }
        }
        Ok(SortedRecords { lists, heads })
    }

    /// Returns the next record if it is wanted, and otherwise leaves it.
    pub fn next_if(&mut self, is_wanted: impl FnOnce(&R) -> bool) -> Option<Result<R>> {
        if is_wanted(&self.heads.peek()?.record) { self.next() } else { None }
    }
}

impl<R: Sortable> Iterator for SortedRecords<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut head = self.heads.peek_mut()?;
        match self.lists[head.list].next() {
            Some(Ok(next)) => Some(Ok(std::mem::replace(&mut head.record, next))),
            Some(Err(error)) => {
                PeekMut::pop(head);
                Some(Err(error))
            }
            None => Some(Ok(PeekMut::pop(head).record)),
        }
    }
}

impl<R: DeserializeOwned> Iterator for SortedList<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            SortedList::InMemory(records) => records.next().map(Ok),
            SortedList::InFile(records) => records.next(),
        }
    }
}

impl<R: Ord> Ord for Head<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.record.cmp(&self.record)
    }
}

impl<R: Ord> PartialOrd for Head<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Ord> PartialEq for Head<R> {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl<R: Ord> Eq for Head<R> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Named {
        number: u32,
        name: Option<Box<str>>,
    }

    impl Sortable for Named {
        fn heap_bytes(&self) -> usize {
            self.name.as_deref().map_or(0, text_bytes)
        }
    }

    fn named() -> impl Strategy<Value = Named> {
        (0..50_u32, proptest::option::of("[a-zäöü]{0,9}"))
            .prop_map(|(number, name)| Named { number, name: name.map(Into::into) })
    }

    proptest! {
        #[test]
        fn records_are_sorted_with_any_memory(records in proptest::collection::vec(named(), 0..1000), bytes in 0..60_000_u64) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(Memory::limited(bytes, folder.path().join("new")));
            for record in &records {
                sorter.push(record.clone()).unwrap();
            }
            let sorted: Vec<Named> = sorter.sorted().unwrap().map(Result::unwrap).collect();
            let mut expected = records;
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn many_files_are_merged_into_few() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(Memory::limited(0, folder.path().to_owned()));
        let records = (LEAST_RECORDS * (MOST_FILES * 2 + 10)) as u32;
        for number in 0..records {
            sorter.push(Named { number: number.wrapping_mul(2_654_435_761) % records, name: None }).unwrap();
            assert!(sorter.spilled.len() < MOST_FILES);
        }
        assert!(sorter.spilled.len() > 1);
        let sorted: Vec<u32> = sorter.sorted().unwrap().map(|record| record.unwrap().number).collect();
        assert_eq!(sorted.len(), records as usize);
        assert!(sorted.is_sorted());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the files have no names");
    }

    #[test]
    fn records_take_no_more_memory_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = 100_000;
        let mut sorter = Sorter::new(Memory::limited(bytes, folder.path().to_owned()));
        for number in 0..20_000 {
            let before = sorter.records.capacity();
            sorter.push(Named { number, name: Some("a name of 20 bytes..".into()) }).unwrap();
            let (records, capacity) = (sorter.records.len(), sorter.records.capacity());
            // When the array became larger, the records were there twice.
            let used = if capacity > before { 2 * before } else { records } * size_of::<Named>();
            assert!(used as u64 + sorter.heap_bytes <= bytes + 100, "{records} records, {capacity} places");
        }
        assert!(sorter.spilled.len() > 1);
    }

    #[test]
    fn what_fits_into_memory_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let unused = folder.path().join("unused");
        let mut sorter = Sorter::new(Memory::limited(1_000_000, unused.clone()));
        for number in 0..1000 {
            sorter.push(Named { number, name: None }).unwrap();
        }
        assert_eq!(sorter.sorted().unwrap().count(), 1000);
        assert!(!unused.exists());
    }

    #[test]
    fn records_of_any_length_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = TemporaryWriter::create(&Memory::limited(0, folder.path().to_owned())).unwrap();
        let texts = vec![vec![1_u64, u64::MAX], vec![], vec![7; 10_000]];
        for text in &texts {
            writer.push(text).unwrap();
        }
        let list = writer.finish().unwrap();
        assert_eq!(list.into_records().unwrap().map(Result::unwrap).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = TemporaryWriter::<u8>::create(&Memory::limited(0, file.clone())).err().unwrap();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
