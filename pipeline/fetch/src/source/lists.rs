//! Expands columns of lists: a row with several images becomes several rows, a limited number at a
//! time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeListArray, StringArray, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::rows::ROWS_PER_BATCH;

/// Returns the type of the items of a list type; `None` for other types.
pub(super) fn item_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}

/// A column of texts, or of bytes that should be UTF-8 texts.
struct Texts {
    raw: ArrayRef,
    texts: StringArray,
}

impl Texts {
    fn new(raw: ArrayRef) -> Result<Texts, ArrowError> {
        let texts = cast(&raw, &DataType::Utf8)?.as_string::<i32>().clone();
        Ok(Texts { raw, texts })
    }

    /// Returns the text; `None` if it is null or blank.
    fn get(&self, position: usize) -> Result<Option<&str>, NotUtf8> {
        if self.texts.is_valid(position) {
            return Ok(Some(self.texts.value(position)).filter(|text| !text.trim().is_empty()));
        }
        // Casting bytes to text turns bytes that are not UTF-8 into null.
        if self.raw.is_valid(position) { Err(NotUtf8) } else { Ok(None) }
    }
}

struct NotUtf8;

/// A column of lists of texts.
struct TextLists {
    lists: LargeListArray,
    items: Texts,
}

impl TextLists {
    /// Reads a column; `data_type` is a list type as in [`item_type`].
    fn new(column: &ArrayRef, data_type: &DataType) -> Result<TextLists, ArrowError> {
        let item = item_type(data_type).unwrap_or(&DataType::Utf8).clone();
        let list_type = DataType::LargeList(Arc::new(Field::new_list_field(item, true)));
        let lists = cast(&cast(column, data_type)?, &list_type)?.as_list::<i64>().clone();
        let items = Texts::new(lists.values().clone())?;
        Ok(TextLists { lists, items })
    }

    /// Returns the range of the items of a row; it is empty for a null list.
    fn range(&self, row: usize) -> Range<usize> {
        if self.lists.is_null(row) {
            return 0..0;
        }
        let offsets = self.lists.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }
}

/// Returns the first text of every list that is not blank. Texts that are not UTF-8 are skipped.
pub(super) fn first_texts(column: &ArrayRef, data_type: &DataType) -> Result<StringArray, ArrowError> {
    let lists = TextLists::new(column, data_type)?;
    let first = |row| lists.range(row).find_map(|position| lists.items.get(position).ok().flatten());
    Ok((0..lists.lists.len()).map(first).collect())
}

enum Captions {
    None,
    OneForAll(Texts),
    OneForEach(TextLists),
}

/// A batch whose URL column holds lists, and how far it has been expanded.
pub(super) struct Expansion {
    urls: TextLists,
    captions: Captions,
    extras: Vec<ArrayRef>,
    /// The next image: its row and its position in the row.
    row: usize,
    picture: usize,
}

/// A column and the type that it has in the pool.
pub(super) type Typed<'a> = (&'a ArrayRef, &'a DataType);

/// Rows with one image each.
#[derive(Default)]
pub(super) struct Expanded {
    pub(super) urls: Vec<Option<String>>,
    pub(super) captions: Vec<Option<String>>,
    pub(super) problems: Vec<Option<String>>,
    pub(super) extras: Vec<ArrayRef>,
    pub(super) image_index: Vec<i64>,
}

impl Expansion {
    pub(super) fn new(url: Typed, caption: Option<Typed>, extras: Vec<ArrayRef>) -> Result<Expansion, ArrowError> {
        let captions = match caption {
            None => Captions::None,
            Some((column, data_type)) if item_type(data_type).is_some() => {
                Captions::OneForEach(TextLists::new(column, data_type)?)
            }
            Some((column, data_type)) => Captions::OneForAll(Texts::new(cast(column, data_type)?)?),
        };
        Ok(Expansion { urls: TextLists::new(url.0, url.1)?, captions, extras, row: 0, picture: 0 })
    }

    /// Returns at most [`ROWS_PER_BATCH`] further rows; `None` at the end.
    pub(super) fn next_rows(&mut self) -> Result<Option<Expanded>, ArrowError> {
        let mut expanded = Expanded::default();
        let mut rows = Vec::new();
        while self.row < self.urls.lists.len() && rows.len() < ROWS_PER_BATCH {
            rows.push(self.row as u64);
            expanded.image_index.push(self.picture as i64);
            let (url, caption, problem) = match self.texts() {
                Ok((url, caption)) => (url.map(str::to_owned), caption.map(str::to_owned), None),
                Err(problem) => (None, None, Some(problem)),
            };
            expanded.urls.push(url);
            expanded.captions.push(caption);
            expanded.problems.push(problem);
            self.picture += 1;
            if self.picture >= self.urls.range(self.row).len() {
                (self.row, self.picture) = (self.row + 1, 0);
            }
        }
        let rows = UInt64Array::from(rows);
        expanded.extras = self.extras.iter().map(|extra| take(extra, &rows, None)).collect::<Result<_, _>>()?;
        Ok((!rows.is_empty()).then_some(expanded))
    }

    /// Returns URL and caption of the next image, or their problem.
    fn texts(&self) -> Result<(Option<&str>, Option<&str>), String> {
        let urls = self.urls.range(self.row);
        let url = match urls.clone().nth(self.picture) {
            Some(position) => self.urls.items.get(position).map_err(|NotUtf8| "a URL of the list is not UTF-8")?,
            None => None,
        };
        let not_utf8 = |NotUtf8| "a caption is not UTF-8";
        let caption = match &self.captions {
            Captions::None => None,
            Captions::OneForAll(captions) => captions.get(self.row).map_err(not_utf8)?,
            Captions::OneForEach(captions) if captions.lists.is_null(self.row) => None,
            Captions::OneForEach(captions) => {
                let range = captions.range(self.row);
                if range.len() != urls.len() {
                    return Err(format!("the row has {} captions for {} URLs", range.len(), urls.len()));
                }
                match range.clone().nth(self.picture) {
                    Some(position) => captions.items.get(position).map_err(not_utf8)?,
                    None => None,
                }
            }
        };
        Ok((url, caption))
    }
}
