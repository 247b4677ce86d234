//! Writes a run folder whose pool has generated pairs, to measure the stages after the download on:
//! `cargo run -p lynxdata-run --example generated_pool -- FOLDER PAIRS [BYTES [ONE_DUPLICATE_OF
//! [ONE_PLACEHOLDER_OF]]]`, with images of so many bytes, 1 by default, one duplicate of so many
//! pairs, 20 by default (0 makes one chain of all pairs), and the same image in one of so many
//! pairs, none by default. See benches/select and benches/shards.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::datatypes::DataType;
use lynxdata_engine::signals;
use lynxdata_filters::{GROUPS, SignalType, Value, hash_hex};
use lynxdata_records::{NewPart, parquet, schema};
use lynxdata_run::pool::{SIGNALS, signal_part};
use lynxdata_run::stages::download::Download;
use lynxdata_run::stages::signals::Signals;
use lynxdata_run::{Context, Silent, recipe};

/// Pairs of a part.
const PART: u64 = 100_000;

/// Pairs that are written together: their images must fit into one array.
const BATCH: u64 = 10_000;

/// The usage, for errors.
const USAGE: &str = "usage: generated_pool FOLDER PAIRS [BYTES [ONE_DUPLICATE_OF [ONE_PLACEHOLDER_OF]]]";

/// Keeps one pair of ten for shards.
const RECIPE_OF_SHARDS: &str = r#"
output = "run"

[source]
path = "pairs.csv"
caption = "caption"

[select.tenth]
deduplicate = false

[select.tenth.rules]
large = "width >= 920"

[shards]
selection = "tenth"
"#;

const RECIPE: &str = r#"
output = "run"

[source]
path = "pairs.csv"
caption = "caption"

[select.clean.rules]
large = "width >= 400"
wordy = "caption_words >= 5"
flat = "entropy >= 3"
"#;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context(USAGE)?);
    let pairs: u64 = arguments.next().context(USAGE)?.parse()?;
    let bytes: usize = arguments.next().map_or(Ok(1), |bytes| bytes.parse())?;
    // One pair of so many shares its bytes, its URL or nearly its hash with an earlier one.
    let one_of: u64 = arguments.next().map_or(Ok(20), |pairs| pairs.parse())?;
    let one_placeholder_of: Option<u64> = arguments.next().map(|pairs| pairs.parse()).transpose()?;
    let original = |row, kind| match one_placeholder_of {
        Some(pairs) if kind > 0 && mixed(row).is_multiple_of(pairs) => 0,
        _ => original(row, kind, one_of),
    };
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("pairs.csv"), "url,caption\nhttp://localhost/a.jpg,a\n")?;
    std::fs::write(folder.join("recipe.toml"), RECIPE)?;
    std::fs::write(folder.join("shards.toml"), RECIPE_OF_SHARDS)?;
    let loaded = recipe::load(&folder.join("recipe.toml"), &[])?;
    let context = Context::new(loaded, lynxdata_engine::session::local(), Arc::new(Silent))?;
    let (mut of_download, mut of_signals) = (Vec::new(), Vec::new());
    for (number, first) in (0..pairs).step_by(PART as usize).enumerate() {
        let (name, rows) = (format!("{number:05}"), first..(first + PART).min(pairs));
        let uids = uids(rows.clone());
        let mut part = NewPart::new("download", &name, name.clone());
        let path = context.run.stage_file(&mut part, &format!("pool/part-{name}.parquet"))?;
        let mut writer = parquet::Writer::create(&path, &schema::pool().schema())?;
        for first in rows.clone().step_by(BATCH as usize) {
            writer.write(&pool(first..(first + BATCH).min(rows.end), bytes, &original)?)?;
        }
        writer.finish()?;
        let log = download_log(&uids)?;
        let path = context.run.stage_clock_file(&mut part, &format!("download-log/part-{name}.parquet"))?;
        parquet::write(&path, &log.schema(), [&log])?;
        (part.rows_in, part.rows_out) = (rows.end - rows.start, rows.end - rows.start);
        part.counts.insert("ok".to_owned(), part.rows_in);
        context.commit(part)?;
        of_download.push(name.clone());
        for group in GROUPS {
            let mut part = NewPart::new("signals", &signal_part(group.name, &name), name.clone());
            let of_row = |row| {
                let original = &original;
                group.signals.iter().map(move |signal| value(signal.name, signal.signal_type, row, original))
            };
            let values: Vec<Value> = rows.clone().flat_map(of_row).collect();
            let batch = signals::table(group, uids.clone(), &values);
            let path = context.run.stage_file(&mut part, &format!("{SIGNALS}/{}/part-{name}.parquet", group.name))?;
            parquet::write(&path, &batch.schema(), [&batch])?;
            (part.rows_in, part.rows_out) = (rows.end - rows.start, rows.end - rows.start);
            part.counts.insert("measured".to_owned(), part.rows_in);
            of_signals.push(part.name().to_owned());
            context.commit(part)?;
        }
    }
    context.complete(&Download, of_download)?;
    context.complete(&Signals, of_signals)
}

/// The log of rows that all succeeded.
fn download_log(uids: &ArrayRef) -> Result<RecordBatch> {
    let schema = schema::download_log().schema();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "uid" => Arc::clone(uids),
        "status" => Arc::new(StringArray::from_iter_values(std::iter::repeat_n("ok", uids.len()))),
        _ => new_null_array(field.data_type(), uids.len()),
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).context("the columns are those of the schema")
}

/// Mixes the bits of a number: the finaliser of splitmix64.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The pair that a pair is a copy of, in its URL, bytes or hash by `kind`; itself for most. In a
/// chain, each pair has the URL of one neighbour and the bytes of the other.
fn original(row: u64, kind: u64, one_of: u64) -> u64 {
    if one_of == 0 {
        return if kind < 2 { row.saturating_sub((row + kind) % 2) } else { row };
    }
    let hash = mixed(row + 1);
    if hash.is_multiple_of(one_of) && hash / one_of % 3 == kind && row > 0 { mixed(hash) % row } else { row }
}

fn uids(rows: Range<u64>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.map(|row| format!("{row:020}"))))
}

fn pool(rows: Range<u64>, bytes: usize, original: &dyn Fn(u64, u64) -> u64) -> Result<RecordBatch> {
    let uids = uids(rows.clone());
    let texts =
        |text: &dyn Fn(u64) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.clone().map(text))) };
    let numbers =
        |number: &dyn Fn(u64) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.clone().map(number))) };
    let DataType::Struct(fields) = schema::image_type() else { unreachable!("an image is a struct") };
    let pictures = BinaryArray::from_iter_values(rows.clone().map(|row| vec![row as u8; bytes]));
    let image = StructArray::new(fields, vec![Arc::new(pictures), uids.clone()], None);
    let side = |row: u64| 200 + (mixed(row) % 800) as i64;
    let columns: Vec<ArrayRef> = vec![
        uids.clone(),
        texts(&|row| format!("http://host{}.example/pictures/{}.jpg", original(row, 0) % 997, original(row, 0))),
        texts(&|row| format!("a caption of some words about picture number {row}")),
        Arc::new(image),
        numbers(&side),
        numbers(&side),
        numbers(&side),
        numbers(&side),
        texts(&|_| "jpeg".to_owned()),
        numbers(&|_| 1),
        texts(&|row| {
            let bytes = original(row, 1);
            let [a, b, c, d] = std::array::from_fn(|word| mixed(bytes * 4 + word as u64));
            format!("{a:016x}{b:016x}{c:016x}{d:016x}")
        }),
    ];
    RecordBatch::try_new(schema::pool().schema(), columns).context("the columns are those of the schema")
}

fn value(name: &str, signal_type: SignalType, row: u64, original: &dyn Fn(u64, u64) -> u64) -> Value {
    match (name, signal_type) {
        ("phash", _) => Value::Text(hash_hex(mixed(original(row, 2) + 7) ^ u64::from(original(row, 2) != row))),
        (_, SignalType::Text) => Value::Text(if name == "language" { "en".to_owned() } else { hash_hex(mixed(row)) }),
        ("entropy", _) => Value::Float(2.0 + (mixed(row) % 600) as f64 / 100.0),
        ("caption_words", _) => Value::Integer((mixed(row) % 12) as i64),
        ("width" | "height", _) => Value::Integer(200 + (mixed(row) % 800) as i64),
        (_, SignalType::Integer) => Value::Integer((mixed(row) % 100) as i64),
        (_, SignalType::Float) => Value::Float((mixed(row) % 1000) as f64 / 1000.0),
    }
}
