//! A packing as a table: the sequence of every record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lynxdata_records::parquet::Writer;

use crate::audit::{Checked, Settings, checked};
use crate::error::{Error, Result};
use crate::pack::{Packing, Placed, first_fit_decreasing};

/// The number of rows in a record batch.
const BATCH: usize = 65_536;

/// A record of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    file: Arc<str>,
    row: u64,
    id: Option<Box<str>>,
    tokens: u64,
}

/// A plan: the pack of every record.
#[derive(Clone, Debug)]
pub struct Plan {
    entries: Vec<Entry>,
    capacity: u64,
    packing: Packing,
    left_out: Vec<Checked>,
}

impl Plan {
    /// Counts the tokens of all records of a file or folder and packs the records into sequences of
    /// `capacity` tokens.
    ///
    /// # Errors
    /// The errors of [`checked`].
    pub fn make(path: &Path, settings: &Settings, capacity: u64) -> Result<Plan> {
        let (mut entries, mut left_out) = (Vec::new(), Vec::new());
        checked(path, settings, &mut |record| {
            if record.breaks_training() || !record.is_counted() {
                left_out.push(record);
            } else {
                let tokens = record.length();
                entries.push(Entry { file: record.file, row: record.row, id: record.id.map(Into::into), tokens });
            }
            Ok(())
        })?;
        let lengths: Vec<u64> = entries.iter().map(|entry| entry.tokens).collect();
        let packing = first_fit_decreasing(&lengths, capacity);
        Ok(Plan { entries, capacity, packing, left_out })
    }

    /// Returns the packing.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// Returns the filled share of all packs, from 0 to 1; `None` without packs.
    pub fn fill_rate(&self) -> Option<f64> {
        self.packing.fill_rate(self.capacity)
    }

    /// Returns the records that are in no pack because they would break a training run or their
    /// tokens are unknown.
    pub fn left_out(&self) -> &[Checked] {
        &self.left_out
    }

    /// Returns the file, row, id and tokens of the records that are longer than a pack.
    pub fn too_long(&self) -> impl Iterator<Item = (&str, u64, Option<&str>, u64)> {
        self.packing.too_long.iter().map(|&record| {
            let entry = &self.entries[record];
            (&*entry.file, entry.row, entry.id.as_deref(), entry.tokens)
        })
    }

    /// Writes the plan as Parquet with the columns `pack`, `position`, `id`, `file`, `row` and
    /// `tokens`. The file appears only when it is complete.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let schema = schema();
        let mut aside = path.as_os_str().to_owned();
        aside.push(".tmp");
        let aside = PathBuf::from(aside);
        let mut writer = Writer::create(&aside, &schema)?;
        for placed in self.packing.placed.chunks(BATCH) {
            writer.write(&self.batch(&schema, placed)?)?;
        }
        writer.finish()?;
        std::fs::rename(&aside, path).map_err(|source| Error::Io { action: "write", path: path.to_owned(), source })
    }

    fn batch(&self, schema: &SchemaRef, placed: &[Placed]) -> Result<RecordBatch> {
        let entries = || placed.iter().map(|placed| &self.entries[placed.record]);
        Ok(RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(UInt32Array::from_iter_values(placed.iter().map(|placed| placed.pack))),
                Arc::new(UInt32Array::from_iter_values(placed.iter().map(|placed| placed.position))),
                Arc::new(entries().map(|entry| entry.id.as_deref()).collect::<StringArray>()),
                Arc::new(StringArray::from_iter_values(entries().map(|entry| &entry.file))),
                Arc::new(UInt64Array::from_iter_values(entries().map(|entry| entry.row))),
                Arc::new(UInt64Array::from_iter_values(entries().map(|entry| entry.tokens))),
            ],
        )?)
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str, kind: DataType, nullable: bool| Field::new(name, kind, nullable);
    Arc::new(Schema::new(vec![
        field("pack", DataType::UInt32, false),
        field("position", DataType::UInt32, false),
        field("id", DataType::Utf8, true),
        field("file", DataType::Utf8, false),
        field("row", DataType::UInt64, false),
        field("tokens", DataType::UInt64, false),
    ]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use arrow::array::AsArray;
    use arrow::datatypes::{UInt32Type, UInt64Type};
    use serde_json::json;

    use super::*;
    use crate::picture::Sizes;
    use crate::visual::Model;

    #[test]
    fn the_table_has_every_record_that_fits_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("own.jsonl");
        let talk = json!([{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "x"}]);
        let record = |id: usize, pictures: usize| {
            let marks = json!([{"from": "human", "value": "<image>".repeat(pictures)}, {"from": "gpt", "value": "x"}]);
            let names = vec!["a.jpg"; pictures];
            let sides = vec![9; pictures];
            json!({"id": id, "image": names, "width": sides, "height": sides, "conversations": marks}).to_string()
        };
        let mut lines: Vec<String> =
            [1, 3, 2, 9, 1].into_iter().enumerate().map(|(id, count)| record(id, count)).collect();
        lines.push(json!({"id": "missing", "image": "nowhere.jpg", "conversations": talk}).to_string());
        fs::write(&data, lines.join("\n")).unwrap();
        let model = Model::parse("fixed,tokens=10").unwrap();
        let settings = Settings {
            model: &model,
            tokenizer: None,
            template: None,
            images: None,
            of_run: None,
            sizes: Sizes::FromRecords,
            max_length: None,
        };
        let plan = Plan::make(&data, &settings, 40).unwrap();
        assert_eq!((plan.packing().packs, plan.fill_rate()), (2, Some(70.0 / 80.0)));
        assert_eq!(
            plan.too_long().map(|(_, row, id, tokens)| (row, id, tokens)).collect::<Vec<_>>(),
            [(3, Some("3"), 90)]
        );
        assert_eq!(plan.left_out().iter().map(|record| record.id.as_deref()).collect::<Vec<_>>(), [Some("missing")]);

        let out = folder.path().join("plan.parquet");
        plan.write(&out).unwrap();
        let batches: Vec<RecordBatch> =
            lynxdata_records::parquet::read(&out, None).unwrap().map(|batch| batch.unwrap()).collect();
        let mut used: BTreeMap<u32, u64> = BTreeMap::new();
        let mut ids = Vec::new();
        for batch in &batches {
            let (packs, tokens) =
                (batch.column(0).as_primitive::<UInt32Type>(), batch.column(5).as_primitive::<UInt64Type>());
            for row in 0..batch.num_rows() {
                *used.entry(packs.value(row)).or_default() += tokens.value(row);
                ids.push(batch.column(2).as_string::<i32>().value(row).to_owned());
            }
        }
        assert_eq!(used, BTreeMap::from([(0, 40), (1, 30)]));
        assert_eq!(ids, ["1", "0", "2", "4"]);
        let again = folder.path().join("again.parquet");
        Plan::make(&data, &settings, 40).unwrap().write(&again).unwrap();
        assert_eq!(fs::read(out).unwrap(), fs::read(again).unwrap());
    }
}
