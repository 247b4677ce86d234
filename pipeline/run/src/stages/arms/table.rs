//! The table of an arm: a file in the run folder, written and read a few hundred rows at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use lynxdata_check::Turn;
use lynxdata_check::features::SIDE;
use lynxdata_engine::dedup::{Candidate, Key};
use lynxdata_filters::hash::phash;
use lynxdata_filters::{ImageData, Sample, Value, hash_hex, parse_hash_hex};
use lynxdata_picture::{decode_file_and_rgb, decode_rgb, square_of};
use lynxdata_records::schema::{Column, UID};
use lynxdata_records::{NewPart, PartEntry, parquet};
use rayon::prelude::*;

use super::READ;
use crate::pool::{ENTROPY, PHASH};
use crate::stage::Context;
use crate::table as parts;

/// Number of rows whose images are in memory at the same time.
const BATCH: usize = 256;

/// Maximum number of pixels of an image from a folder of conversations; pools have their own
/// limits.
const MAX_PIXELS: u64 = 100_000_000;

/// The arms that have a pair, and whether it may be held out.
#[derive(Clone, Copy)]
pub(super) struct Membership {
    /// Bit i for arm i.
    pub(super) arms: u32,
    pub(super) may_be_held_out: bool,
}

/// The form in which the images of a table are kept.
#[derive(Clone, Copy)]
pub(super) struct Squares {
    /// Side of the squares in pixels.
    pub(super) side: usize,
    /// Frames per video; 0 if there are no videos.
    pub(super) frames: usize,
}

impl Squares {
    /// The form for a check, from which features are computed.
    pub(super) const OF_CHECK: Self = Self { side: SIDE, frames: 0 };
}

/// A pair before its image is decoded.
pub(super) struct RawPair {
    /// A key that does not depend on the place of the pair; with `None`, the key is made from image
    /// and text.
    pub(super) uid: Option<String>,
    pub(super) membership: Membership,
    pub(super) turns: Vec<Turn>,
    /// The image file, or the files of the frames of a video in order.
    pub(super) pictures: Vec<Vec<u8>>,
}

/// A pair as it is written and read.
pub(super) struct Row {
    pub(super) uid: String,
    pub(super) membership: Membership,
    pub(super) turns: Vec<Turn>,
    /// A square in RGB, or the squares of the frames of a video.
    pub(super) pixels: Vec<u8>,
    pub(super) digest: String,
    pub(super) phash: Option<u64>,
    pub(super) entropy: Option<f64>,
}

impl Row {
    /// Returns the data that distinguishes its image from others; a check prefers no pair.
    pub(super) fn candidate(&self) -> Candidate {
        Candidate {
            url: None,
            bytes: (!self.digest.is_empty()).then(|| Key::of_text(&self.digest)),
            phash: self.phash,
            entropy: self.entropy,
            original_pixels: 0,
            caption_characters: 0,
        }
    }
}

/// The arms that have the pair, one bit for each.
const ARMS: Column<Int64Array> = Column::named("arms");
const MAY_BE_HELD_OUT: Column<BooleanArray> = Column::named("may_be_held_out");
/// Its texts, as JSON.
const TURNS: Column<StringArray> = Column::named("turns");
const PIXELS: Column<BinaryArray> = Column::named("pixels");
const DIGEST: Column<StringArray> = Column::named("digest");

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        UID.field().with_nullable(false),
        ARMS.field().with_nullable(false),
        MAY_BE_HELD_OUT.field().with_nullable(false),
        TURNS.field().with_nullable(false),
        PIXELS.field().with_nullable(false),
        DIGEST.field().with_nullable(false),
        PHASH.field(),
        ENTROPY.field(),
    ]))
}

/// Writes the table of a part.
pub(super) struct Writer {
    /// The form in which images are kept.
    pub(super) squares: Squares,
    /// The temporary file, until it is committed.
    pub(super) path: PathBuf,
    file: parquet::Writer,
    waiting: Vec<RawPair>,
    rows: u64,
    left_out: BTreeMap<&'static str, u64>,
}

impl Writer {
    /// Creates the table `part` in a folder of the run folder.
    pub(super) fn create(
        context: &Context,
        new: &mut NewPart,
        (folder, part): (&str, &str),
        squares: Squares,
    ) -> Result<Writer> {
        let path = context.run.stage_file(new, &format!("{folder}/{part}.parquet"))?;
        Ok(Writer {
            squares,
            file: parquet::Writer::create(&path, &schema())?,
            path,
            waiting: Vec::new(),
            rows: 0,
            left_out: BTreeMap::new(),
        })
    }

    /// Counts pairs that are left out.
    pub(super) fn leave_out(&mut self, reason: &'static str, pairs: u64) {
        *self.left_out.entry(reason).or_default() += pairs;
    }

    /// Adds a pair.
    pub(super) fn add(&mut self, pair: RawPair) -> Result<()> {
        self.waiting.push(pair);
        if self.waiting.len() >= BATCH { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let pairs = std::mem::take(&mut self.waiting);
        let count = pairs.len();
        let side = self.squares.side;
        let rows: Vec<Row> = pairs.into_par_iter().filter_map(|pair| row(pair, side)).collect();
        self.rows += rows.len() as u64;
        self.leave_out("unreadable_pictures", (count - rows.len()) as u64);
        let turns: Vec<String> = rows
            .iter()
            .map(|row| serde_json::to_string(&row.turns).context("texts are valid JSON"))
            .collect::<Result<_>>()?;
        let hashes = rows.iter().map(|row| row.phash.map(hash_hex));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.uid))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(row.membership.arms)))),
            Arc::new(BooleanArray::from(rows.iter().map(|row| row.membership.may_be_held_out).collect::<Vec<_>>())),
            Arc::new(StringArray::from(turns)),
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| &row.pixels))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.digest))),
            Arc::new(hashes.collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.entropy).collect::<Float64Array>()),
        ];
        Ok(self.file.write(&RecordBatch::try_new(schema(), columns)?)?)
    }

    /// Writes the remaining rows, and fills in the rows of the part.
    pub(super) fn finish(mut self, new: &mut NewPart) -> Result<()> {
        self.write()?;
        (new.rows_in, new.rows_out) = (self.rows + self.left_out.values().sum::<u64>(), self.rows);
        new.counts.insert(READ.to_owned(), self.rows);
        for (reason, pairs) in self.left_out.into_iter().filter(|(_, pairs)| *pairs > 0) {
            tracing::warn!(arm = new.name(), pairs, "left out: {}", reason.replace('_', " "));
            new.counts.insert(reason.to_owned(), pairs);
        }
        self.file.finish()?;
        Ok(())
    }
}

/// Decodes the image, or the frames of a video, whose hashes are those of its first frame; returns
/// `None` if one cannot be decoded.
fn row(pair: RawPair, side: usize) -> Option<Row> {
    let (first, others) = pair.pictures.split_first()?;
    // The hashes are computed from the pixels as the file has them, as in the pool; the features
    // use sRGB.
    let (pixels, rgb) = decode_file_and_rgb(first, MAX_PIXELS).ok()?;
    let mut squares = square_of(&rgb, side as u32);
    for frame in others {
        squares.extend(square_of(&decode_rgb(frame, MAX_PIXELS).ok()?, side as u32));
    }
    let image = ImageData::from_decoded(first.len(), pixels);
    let entropy = match lynxdata_filters::ENTROPY.measure(&Sample::new(None, image.as_ref())) {
        Some(Value::Float(entropy)) => Some(entropy),
        _ => None,
    };
    let mut digest = blake3::Hasher::new();
    pair.pictures.iter().for_each(|picture| {
        digest.update(picture);
    });
    let digest = digest.finalize().to_hex()[..32].to_owned();
    let uid = pair.uid.unwrap_or_else(|| {
        let text = serde_json::to_string(&pair.turns).unwrap_or_default();
        lynxdata_records::fingerprint(["pair", &digest, &text])[..32].to_owned()
    });
    Some(Row {
        uid,
        membership: pair.membership,
        turns: pair.turns,
        pixels: squares,
        digest,
        phash: image.as_ref().map(|image| phash(image.luma())),
        entropy,
    })
}

/// Reads the table of a part, batch by batch.
pub(super) fn read(
    context: &Context,
    folder: &str,
    part: &PartEntry,
    mut take: impl FnMut(Vec<Row>) -> Result<()>,
) -> Result<()> {
    let path = parts::file(&context.run, part, folder)?;
    for batch in parts::batches(&path, None)? {
        take(rows(&batch?, &path)?)?;
    }
    Ok(())
}

fn rows(batch: &RecordBatch, path: &Path) -> Result<Vec<Row>> {
    let (uids, turns) = (UID.of(batch, path)?, TURNS.of(batch, path)?);
    let (arms, may) = (ARMS.of(batch, path)?, MAY_BE_HELD_OUT.of(batch, path)?);
    let (pixels, digests) = (PIXELS.of(batch, path)?, DIGEST.of(batch, path)?);
    let (hashes, entropies) = (PHASH.of(batch, path)?, ENTROPY.of(batch, path)?);
    (0..batch.num_rows())
        .map(|row| {
            Ok(Row {
                uid: uids.value(row).to_owned(),
                membership: Membership { arms: arms.value(row) as u32, may_be_held_out: may.value(row) },
                turns: serde_json::from_str(turns.value(row))
                    .with_context(|| format!("{}: the text of pair {}", path.display(), uids.value(row)))?,
                pixels: pixels.value(row).to_vec(),
                digest: digests.value(row).to_owned(),
                phash: hashes.is_valid(row).then(|| parse_hash_hex(hashes.value(row))).flatten(),
                entropy: entropies.is_valid(row).then(|| entropies.value(row)),
            })
        })
        .collect()
}
