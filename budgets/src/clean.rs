//! Writes copies of files of conversations without some of their records.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use lynxdata_records::parquet;

use crate::error::{Error, Result};
use crate::read::{files, name_below, values};

/// The numbers of records that were written and left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The number of records that were written.
    pub kept: u64,
    /// The number of records that were left out.
    pub dropped: u64,
}

/// Writes a copy of a file or a folder of conversations to `out` without some records. `dropped`
/// has their rows, from 0, by the names of their files below `data`. Elements of JSON are copied
/// byte for byte, except for the white space between them. Rows and columns of Parquet are
/// unchanged.
///
/// # Errors
/// If a file cannot be read or written, or `out` is `data`.
pub fn write_clean(data: &Path, out: &Path, dropped: &BTreeMap<String, BTreeSet<u64>>) -> Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    let none = BTreeSet::new();
    for file in files(data)? {
        let name = name_below(data, &file);
        let target = if file == data { out.to_owned() } else { out.join(&*name) };
        if fs::canonicalize(&target).is_ok_and(|target| fs::canonicalize(&file).is_ok_and(|file| file == target)) {
            let source = std::io::Error::other("it would be written over itself; give another output path");
            return Err(Error::Io { action: "write", path: target, source });
        }
        let failed = |source| Error::Io { action: "write", path: target.clone(), source };
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut aside = target.as_os_str().to_owned();
        aside.push(".tmp");
        let aside = PathBuf::from(aside);
        let rows = dropped.get(&*name).unwrap_or(&none);
        let own = match values(&file)? {
            Some(mut values) => {
                let mut own = Cleaned::default();
                let mut writer = BufWriter::new(File::create(&aside).map_err(failed)?);
                let read = |source| Error::Io { action: "read", path: file.clone(), source };
                while let Some((row, bytes)) = values.next().map_err(read)? {
                    if rows.contains(&row) {
                        own.dropped += 1;
                        continue;
                    }
                    // Beside a comma without a value there is no record.
                    if bytes.trim_ascii().is_empty() {
                        continue;
                    }
                    let between: &[u8] = match (values.is_list(), own.kept) {
                        (true, 0) => b"[\n",
                        (true, _) => b",\n",
                        (false, 0) => b"",
                        (false, _) => b"\n",
                    };
                    writer.write_all(between).and_then(|()| writer.write_all(bytes.trim_ascii())).map_err(failed)?;
                    own.kept += 1;
                }
                let end: &[u8] = match (values.is_list(), own.kept) {
                    (true, 0) => b"[]\n",
                    (true, _) => b"\n]\n",
                    (false, 0) => b"",
                    (false, _) => b"\n",
                };
                writer.write_all(end).and_then(|()| writer.flush()).map_err(failed)?;
                own
            }
            None => rows_without(&file, &aside, rows)?,
        };
        fs::rename(&aside, &target).map_err(failed)?;
        cleaned = Cleaned { kept: cleaned.kept + own.kept, dropped: cleaned.dropped + own.dropped };
    }
    Ok(cleaned)
}

fn rows_without(file: &Path, target: &Path, dropped: &BTreeSet<u64>) -> Result<Cleaned> {
    let mut own = Cleaned::default();
    let mut writer = parquet::Writer::create_with_repeated_pictures(target, &parquet::schema(file)?)?;
    for batch in parquet::read(file, None)? {
        let batch = batch?;
        let first = own.kept + own.dropped;
        let is_kept: BooleanArray =
            (first..first + batch.num_rows() as u64).map(|row| Some(!dropped.contains(&row))).collect();
        let kept = filter_record_batch(&batch, &is_kept)?;
        own.kept += kept.num_rows() as u64;
        own.dropped += (batch.num_rows() - kept.num_rows()) as u64;
        writer.write(&kept)?;
    }
    writer.finish()?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};

    use super::*;

    fn dropped(name: &str, rows: &[u64]) -> BTreeMap<String, BTreeSet<u64>> {
        BTreeMap::from([(name.to_owned(), rows.iter().copied().collect())])
    }

    #[test]
    fn lists_lines_and_tables_lose_these_records_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("data")).unwrap();
        fs::write(path("data/list.json"), "[{\"a\": 1}, {\"b\":\n 2},{\"c\": 3} ]").unwrap();
        fs::write(path("data/lines.jsonl"), "{\"a\": 1}\n\n{\"b\": 2}\n{\"c\": 3}").unwrap();
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        parquet::write(&path("data/rows.parquet"), &batch.schema(), [&batch]).unwrap();
        let mut without = dropped("list.json", &[1]);
        without.extend(dropped("lines.jsonl", &[2]));
        without.extend(dropped("rows.parquet", &[0, 2]));
        let cleaned = write_clean(&path("data"), &path("out"), &without).unwrap();
        assert_eq!(cleaned, Cleaned { kept: 5, dropped: 4 });
        assert_eq!(fs::read_to_string(path("out/list.json")).unwrap(), "[\n{\"a\": 1},\n{\"c\": 3}\n]\n");
        assert_eq!(fs::read_to_string(path("out/lines.jsonl")).unwrap(), "{\"a\": 1}\n{\"c\": 3}\n");
        let rows: Vec<RecordBatch> =
            parquet::read(&path("out/rows.parquet"), None).unwrap().map(|batch| batch.unwrap()).collect();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        // A file that was given directly has its own name in reports.
        let list = path("data/list.json");
        let all = write_clean(&list, &path("empty.json"), &dropped(&list.to_string_lossy(), &[0, 1, 2])).unwrap();
        assert_eq!((all.kept, fs::read_to_string(path("empty.json")).unwrap()), (0, "[]\n".to_owned()));
        let told = write_clean(&path("data"), &path("data"), &without).unwrap_err();
        assert!(std::error::Error::source(&told).unwrap().to_string().contains("over itself"), "{told}");
    }
}
