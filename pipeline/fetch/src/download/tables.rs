//! The tables of a part, assembled in the order of its rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, Int64Array, Int64Builder, RecordBatch, StringArray,
    StringBuilder, StructArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type};
use lynxdata_picture::{Picture, is_usable};
use lynxdata_records::{schema, uid};
use url::Url;

use super::{Outcome, Stored};
use crate::budget::Share;
use crate::source::column;
use crate::spill::{Place, Waiting};
use crate::{Error, SourcePart, address};

/// Number of bytes of images that are passed to the caller at a time: a page of Parquet. It is
/// small because several parts are downloaded at once.
pub const PAIRS_CHUNK_BYTES: usize = 1 << 20;

/// Receives pairs, and for each its measurement: `None` if there is none, or if it panicked.
pub type OnPairs<'a, Measured, E> = dyn FnMut(RecordBatch, Vec<Option<Measured>>) -> Result<(), E> + Send + 'a;

/// Collects the outcomes of the rows of a part and passes pairs to the caller in order.
pub(super) struct Assembly<'a, Measured> {
    part: &'a SourcePart,
    uids: Vec<String>,
    shown_urls: ArrayRef,
    /// Outcomes of the rows; `None` until a row has ended.
    outcomes: Vec<Option<Outcome<Measured>>>,
    /// Places of the images of rows that were not passed on yet.
    places: Vec<Option<Place>>,
    waiting: Waiting,
    /// The first row that was not passed on yet or has not ended.
    next: usize,
    pairs: Pairs,
    /// Measurements of `pairs`.
    measured: Vec<Option<Measured>>,
}

impl<'a, Measured> Assembly<'a, Measured> {
    pub(super) fn new(part: &'a SourcePart, waiting: Waiting) -> Assembly<'a, Measured> {
        let texts = |column: usize| part.rows.column(column).as_string::<i32>();
        let (urls, captions) = (texts(column::URL), texts(column::CAPTION));
        let text = |column: &'a StringArray, row: usize| if column.is_valid(row) { column.value(row) } else { "" };
        let count = part.rows.num_rows();
        let uids = (0..count).map(|row| uid(part.row_number(row), text(urls, row), text(captions, row)));
        let shown_urls: StringArray = urls.iter().map(|url| url.map(address::without_userinfo)).collect();
        Assembly {
            part,
            uids: uids.collect(),
            shown_urls: Arc::new(shown_urls),
            outcomes: (0..count).map(|_| None).collect(),
            places: (0..count).map(|_| None).collect(),
            waiting,
            next: 0,
            pairs: Pairs::default(),
            measured: Vec::new(),
        }
    }

    /// Stores the outcome of a row.
    pub(super) fn end(&mut self, row: usize, mut outcome: Outcome<Measured>) -> Result<(), Error> {
        if let Some(stored) = &mut outcome.stored {
            self.places[row] = Some(self.waiting.put(std::mem::take(&mut stored.picture.bytes))?);
            stored.share = Share::default();
        }
        self.outcomes[row] = Some(outcome);
        Ok(())
    }

    /// Passes on rows up to the first one that has not ended.
    pub(super) fn advance<E: From<Error>>(&mut self, on_pairs: &mut OnPairs<'_, Measured, E>) -> Result<(), E> {
        while let Some(Some(outcome)) = self.outcomes.get_mut(self.next) {
            if let (Some(stored), Some(place)) = (outcome.stored.take(), self.places[self.next].take()) {
                let bytes = self.waiting.take(place)?;
                if !self.pairs.has_room_for(bytes.len()) {
                    self.pass_on(on_pairs)?;
                }
                self.pairs.push(self.next, &self.uids[self.next], &stored, &bytes);
                self.measured.push(stored.measured);
            }
            self.next += 1;
        }
        Ok(())
    }

    fn pass_on<E>(&mut self, on_pairs: &mut OnPairs<'_, Measured, E>) -> Result<(), E> {
        on_pairs(self.pairs.take(self.part, &self.shown_urls), std::mem::take(&mut self.measured))
    }

    /// Returns the rows without an outcome.
    pub(super) fn rows_without_outcome(&self) -> Vec<usize> {
        (0..self.outcomes.len()).filter(|row| self.outcomes[*row].is_none()).collect()
    }

    /// Passes on the last rows. Returns the outcomes of all rows, with the columns of
    /// [`schema::download_log`].
    pub(super) fn finish<E: From<Error>>(mut self, on_pairs: &mut OnPairs<'_, Measured, E>) -> Result<RecordBatch, E> {
        self.advance(on_pairs)?;
        // Also called without pairs, so that the caller sees the schema of every part.
        self.pass_on(on_pairs)?;
        let outcomes: Vec<Outcome<Measured>> = self.outcomes.into_iter().flatten().collect();
        assert_eq!(outcomes.len(), self.uids.len(), "every row has ended");
        let integers = |value: &dyn Fn(&Outcome<Measured>) -> Option<i64>| -> ArrayRef {
            Arc::new(outcomes.iter().map(value).collect::<Int64Array>())
        };
        let rows = Int64Array::from_iter_values((0..outcomes.len()).map(|row| self.part.row_number(row) as i64));
        let hosts: StringArray = self.shown_urls.as_string::<i32>().iter().map(|url| host(url?)).collect();
        let log: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(&self.uids)),
            Arc::new(rows),
            self.shown_urls,
            Arc::new(hosts),
            Arc::new(StringArray::from_iter_values(outcomes.iter().map(|outcome| outcome.status.name()))),
            integers(&|outcome| outcome.http_status.map(i64::from)),
            integers(&|outcome| Some(i64::from(outcome.attempts))),
            integers(&|outcome| outcome.elapsed.map(|elapsed| elapsed.as_millis() as i64)),
            integers(&|outcome| outcome.body_bytes.map(|bytes| bytes as i64)),
            Arc::new(outcomes.iter().map(|outcome| outcome.detail.as_deref()).collect::<StringArray>()),
        ];
        let log = RecordBatch::try_new(schema::download_log().schema(), log);
        Ok(log.expect("the columns are those of the schema"))
    }
}

fn host(url: &str) -> Option<String> {
    Url::parse(url.trim()).ok()?.host_str().map(str::to_owned)
}

/// Pairs that are ready to be passed on.
#[derive(Default)]
struct Pairs {
    /// Rows of the part.
    rows: Vec<u32>,
    uid: StringBuilder,
    content: BinaryBuilder,
    /// Bytes in `content`.
    size: usize,
    path: StringBuilder,
    format: StringBuilder,
    sha256: StringBuilder,
    width: Int64Builder,
    height: Int64Builder,
    original_width: Int64Builder,
    original_height: Int64Builder,
    bytes: Int64Builder,
}

impl Pairs {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.rows.is_empty() || self.size + bytes <= PAIRS_CHUNK_BYTES
    }

    fn push<Measured>(&mut self, row: usize, uid: &str, stored: &Stored<Measured>, bytes: &[u8]) {
        if self.rows.is_empty() {
            self.content = BinaryBuilder::with_capacity(64, PAIRS_CHUNK_BYTES); // so that the buffer is not reallocated as it grows
        }
        let Picture { bytes: _, format, width, height, original_width, original_height } = &stored.picture;
        self.rows.push(row as u32);
        self.uid.append_value(uid);
        self.content.append_value(bytes);
        self.size += bytes.len();
        self.path.append_value(format!("{uid}.{}", format.extension()));
        self.format.append_value(format.name());
        self.sha256.append_value(&stored.sha256);
        self.width.append_value(i64::from(*width));
        self.height.append_value(i64::from(*height));
        self.original_width.append_value(i64::from(*original_width));
        self.original_height.append_value(i64::from(*original_height));
        self.bytes.append_value(bytes.len() as i64);
    }

    /// Returns the pairs so far as rows of the pool.
    fn take(&mut self, part: &SourcePart, shown_urls: &ArrayRef) -> RecordBatch {
        let mut own = std::mem::take(self);
        let rows = UInt32Array::from(own.rows);
        let of_rows = |column: &dyn Array| take(column, &rows, None).expect("the rows are rows of the part");
        let DataType::Struct(image_fields) = schema::image_type() else { unreachable!("an image is a struct") };
        let image: Vec<ArrayRef> = vec![Arc::new(own.content.finish()), Arc::new(own.path.finish())];
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(own.uid.finish()),
            of_rows(shown_urls),
            of_rows(part.rows.column(column::CAPTION)),
            Arc::new(StructArray::new(image_fields, image, None)),
            Arc::new(own.width.finish()),
            Arc::new(own.height.finish()),
            Arc::new(own.original_width.finish()),
            Arc::new(own.original_height.finish()),
            Arc::new(own.format.finish()),
            Arc::new(own.bytes.finish()),
            Arc::new(own.sha256.finish()),
        ];
        columns.extend(part.rows.columns()[column::FIRST_EXTRA..].iter().map(|column| of_rows(column)));
        let source_schema = part.rows.schema();
        let extra_fields: Vec<&Field> =
            source_schema.fields()[column::FIRST_EXTRA..].iter().map(AsRef::as_ref).collect();
        RecordBatch::try_new(schema::pool().schema_with(extra_fields), columns)
            .expect("the columns are those of the schema")
    }
}

/// Returns the boxes of a row, given as a list of lists of four numbers or as its JSON text; none
/// if the cell is empty.
///
/// # Errors
/// If the cell has another form, or if a box covers no part of the image (coordinates from 0 to 1).
/// Such a box is an error because its author wanted something to be blurred.
pub(super) fn boxes(column: &dyn Array, row: usize) -> Result<Vec<[f32; 4]>, String> {
    let boxes = numbers_of_boxes(column, row)?;
    match boxes.iter().find(|area| !is_usable(area)) {
        Some(area) => {
            Err(format!("have {area:?}, which covers no part of an image; coordinates must be fractions from 0 to 1"))
        }
        None => Ok(boxes),
    }
}

fn numbers_of_boxes(column: &dyn Array, row: usize) -> Result<Vec<[f32; 4]>, String> {
    if column.is_null(row) {
        return Ok(Vec::new());
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        let text = texts.value(row);
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        return serde_json::from_str(text).map_err(|error| format!("are not a list of lists of four numbers: {error}"));
    }
    let Some(boxes) = list_item(column, row) else {
        return Err(format!("are {}, not a list of lists of four numbers", column.data_type()));
    };
    (0..boxes.len())
        .map(|index| {
            let numbers = list_item(&boxes, index).and_then(|numbers| numbers_of(&numbers)).unwrap_or_default();
            <[f32; 4]>::try_from(numbers.as_slice())
                .map_err(|_| format!("do not have four numbers in box number {index} (from 0) of the list"))
        })
        .collect()
}

fn list_item(column: &dyn Array, row: usize) -> Option<ArrayRef> {
    let valid = column.is_valid(row);
    let list = column.as_list_opt::<i32>().map(|lists| lists.value(row));
    let list = list.or_else(|| column.as_list_opt::<i64>().map(|lists| lists.value(row)));
    let list = list.or_else(|| column.as_fixed_size_list_opt().map(|lists| lists.value(row)));
    list.filter(|_| valid)
}

fn numbers_of(numbers: &dyn Array) -> Option<Vec<f32>> {
    fn all<T: ArrowPrimitiveType>(numbers: &dyn Array, to_f32: impl Fn(T::Native) -> f32) -> Option<Vec<f32>> {
        let numbers = numbers.as_primitive_opt::<T>()?;
        numbers.iter().map(|number| number.map(&to_f32)).collect()
    }
    all::<Float32Type>(numbers, |number| number)
        .or_else(|| all::<Float64Type>(numbers, |number| number as f32))
        .or_else(|| all::<Int64Type>(numbers, |number| number as f32))
}

#[cfg(test)]
mod tests {
    use arrow::array::{FixedSizeListBuilder, Float64Builder, ListBuilder};

    use super::*;

    #[test]
    fn boxes_are_lists_or_their_json() {
        let mut lists = ListBuilder::new(FixedSizeListBuilder::new(Float64Builder::new(), 4));
        for numbers in [[0.0, 0.25, 0.5, 1.0], [0.5, 0.5, 0.75, 0.75]] {
            lists.values().values().append_slice(&numbers);
            lists.values().append(true);
        }
        lists.append(true);
        lists.append(true);
        lists.append(false);
        let lists = lists.finish();
        let two = vec![[0.0, 0.25, 0.5, 1.0], [0.5, 0.5, 0.75, 0.75]];
        assert_eq!([0, 1, 2].map(|row| boxes(&lists, row)), [Ok(two.clone()), Ok(vec![]), Ok(vec![])]);

        let texts = StringArray::from(vec![
            Some("[[0, 0.25, 0.5, 1], [0.5, 0.5, 0.75, 0.75]]"),
            Some("[]"),
            None,
            Some("[[1, 2, 3]]"),
            Some("left"),
            Some(" "),
            Some("[[100, 100, 200, 200]]"),
            Some("[[0.1, 0.1, 0.2, 0.2], [0.5, 0.2, 0.4, 0.3]]"),
        ]);
        assert_eq!([0, 1, 2].map(|row| boxes(&texts, row)), [Ok(two), Ok(vec![]), Ok(vec![])]);
        assert!(boxes(&texts, 3).is_err() && boxes(&texts, 4).is_err());
        assert_eq!(boxes(&texts, 5), Ok(vec![]));
        for row in [6, 7] {
            assert!(boxes(&texts, row).unwrap_err().contains("no part of an image"), "row {row}");
        }
        assert!(boxes(&Int64Array::from(vec![1]), 0).unwrap_err().contains("Int64"));
        let mut short = ListBuilder::new(ListBuilder::new(Int64Builder::new()));
        short.values().append_value([Some(1), Some(2)]);
        short.append(true);
        assert!(boxes(&short.finish(), 0).unwrap_err().contains("number 0"));
    }
}
