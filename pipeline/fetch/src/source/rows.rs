//! Collects the rows of readers into Arrow columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringArray, StringBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Rows that a reader returns at a time. Large enough that the cost per batch does not matter,
/// small enough that its memory does not matter either.
pub(super) const ROWS_PER_BATCH: usize = 1024;

/// Bytes of text after which a batch is returned. A single long row may exceed it.
const BYTES_PER_BATCH: usize = 64 << 20;

/// Positions of the leading columns of a part; the extra columns follow.
pub(crate) mod column {
    /// URL of the image. Utf8.
    pub(crate) const URL: usize = 0;
    /// Caption of the image. Utf8.
    pub(crate) const CAPTION: usize = 1;
    /// The reason why the row could not be read. Utf8.
    pub(crate) const PROBLEM: usize = 2;
    /// Absolute path of the local file that holds the image; null if it is downloaded by its URL.
    /// Utf8.
    pub(crate) const FILE: usize = 3;
    /// Offset of the image in that file, bytes, or its row number in a Parquet file; null without a
    /// file. Int64.
    pub(crate) const OFFSET: usize = 4;
    /// Length of the image in that file, bytes; null without a file and for Parquet. Int64.
    pub(crate) const LENGTH: usize = 5;
    /// The first extra column.
    pub(crate) const FIRST_EXTRA: usize = 6;
}

/// Returns the leading columns of every batch; see [`column`].
pub(super) fn leading_fields() -> [Field; column::FIRST_EXTRA] {
    let [url, caption, problem, file] =
        ["url", "caption", "problem", "file"].map(|name| Field::new(name, DataType::Utf8, true));
    let [offset, length] = ["offset", "length"].map(|name| Field::new(name, DataType::Int64, true));
    [url, caption, problem, file, offset, length]
}

/// Returns the columns [`column::FILE`], [`column::OFFSET`] and [`column::LENGTH`] of rows whose
/// images are downloaded.
pub(super) fn no_places(count: usize) -> [ArrayRef; 3] {
    [DataType::Utf8, DataType::Int64, DataType::Int64].map(|data_type| new_null_array(&data_type, count))
}

/// The place of an existing image.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute path of the file.
    pub(super) file: String,
    /// Offset of the first byte in the file.
    pub(super) offset: u64,
    /// Length, bytes.
    pub(super) length: u64,
    /// The name of the image relative to the source.
    pub(super) name: String,
}

/// Rows of one file, as returned by its reader.
pub(super) struct Batch {
    /// The leading columns, then the file's extra columns.
    pub(super) rows: RecordBatch,
    /// Number of the image in its row of the file, from 0; every 0 begins a row of the file.
    pub(super) image_index: Vec<i64>,
    /// Names of the images relative to the source, if they are local.
    pub(super) names: Option<StringArray>,
}

/// A builder of rows.
pub(super) struct Rows {
    schema: SchemaRef,
    url: StringBuilder,
    caption: StringBuilder,
    problem: StringBuilder,
    file: StringBuilder,
    offset: Int64Builder,
    length: Int64Builder,
    name: StringBuilder,
    pub(super) extras: Vec<ExtraBuilder>,
    image_index: Vec<i64>,
}

/// A builder of one extra column.
pub(super) enum ExtraBuilder {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
}

impl ExtraBuilder {
    /// Returns whether columns of this type can be built. Other types exist only in Parquet.
    pub(super) fn makes(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Boolean | DataType::Int64 | DataType::Float64 | DataType::Utf8)
    }

    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => ExtraBuilder::Boolean(BooleanBuilder::new()),
            DataType::Int64 => ExtraBuilder::Integer(Int64Builder::new()),
            DataType::Float64 => ExtraBuilder::Float(Float64Builder::new()),
            _ => ExtraBuilder::Text(StringBuilder::new()),
        }
    }

    pub(super) fn append_null(&mut self) {
        match self {
            ExtraBuilder::Boolean(builder) => builder.append_null(),
            ExtraBuilder::Integer(builder) => builder.append_null(),
            ExtraBuilder::Float(builder) => builder.append_null(),
            ExtraBuilder::Text(builder) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            ExtraBuilder::Boolean(builder) => Arc::new(builder.finish()),
            ExtraBuilder::Integer(builder) => Arc::new(builder.finish()),
            ExtraBuilder::Float(builder) => Arc::new(builder.finish()),
            ExtraBuilder::Text(builder) => Arc::new(builder.finish()),
        }
    }
}

impl Rows {
    /// Returns a builder without rows; `extras` have the types Boolean, Int64, Float64 or Utf8.
    pub(super) fn new(extras: &[Field]) -> Rows {
        let fields: Vec<Field> = leading_fields().into_iter().chain(extras.iter().cloned()).collect();
        Rows {
            schema: Arc::new(Schema::new(fields)),
            url: StringBuilder::new(),
            caption: StringBuilder::new(),
            problem: StringBuilder::new(),
            file: StringBuilder::new(),
            offset: Int64Builder::new(),
            length: Int64Builder::new(),
            name: StringBuilder::new(),
            extras: extras.iter().map(|field| ExtraBuilder::new(field.data_type())).collect(),
            image_index: Vec::new(),
        }
    }

    /// Begins a good row for a row of the file with a single image. The caller then appends one
    /// value to every column of `extras`.
    pub(super) fn begin_row(&mut self, url: Option<&str>, caption: Option<&str>) {
        self.begin_picture(url, caption, 0, None);
    }

    /// Begins a good row for one of several images. The caller then appends one value to every
    /// column of `extras`.
    pub(super) fn begin_picture(
        &mut self,
        url: Option<&str>,
        caption: Option<&str>,
        image_index: usize,
        place: Option<&Place>,
    ) {
        self.url.append_option(url);
        self.caption.append_option(caption);
        self.problem.append_null();
        self.push_place(place);
        self.image_index.push(image_index as i64);
    }

    fn push_place(&mut self, place: Option<&Place>) {
        self.file.append_option(place.map(|place| &place.file));
        self.offset.append_option(place.map(|place| place.offset as i64));
        self.length.append_option(place.map(|place| place.length as i64));
        self.name.append_option(place.map(|place| &place.name));
    }

    /// Adds a row that could not be read.
    pub(super) fn push_problem(&mut self, problem: &str) {
        self.push_picture_problem(problem, 0);
    }

    /// Adds a row that could not be read, for one of several images.
    pub(super) fn push_picture_problem(&mut self, problem: &str, image_index: usize) {
        self.url.append_null();
        self.caption.append_null();
        self.problem.append_value(problem);
        self.push_place(None);
        for extra in &mut self.extras {
            extra.append_null();
        }
        self.image_index.push(image_index as i64);
    }

    pub(super) fn is_full(&self) -> bool {
        let bytes = || {
            let texts = self.extras.iter().map(|extra| match extra {
                ExtraBuilder::Text(builder) => builder.values_slice().len(),
                _ => 0,
            });
            texts.sum::<usize>() + self.url.values_slice().len() + self.caption.values_slice().len()
        };
        self.image_index.len() >= ROWS_PER_BATCH || bytes() >= BYTES_PER_BATCH
    }

    /// Takes the collected rows; `None` if there are none.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.image_index.is_empty() {
            return None;
        }
        let image_index = std::mem::take(&mut self.image_index);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.url.finish()),
            Arc::new(self.caption.finish()),
            Arc::new(self.problem.finish()),
            Arc::new(self.file.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.length.finish()),
        ];
        columns.extend(self.extras.iter_mut().map(ExtraBuilder::finish));
        let rows = RecordBatch::try_new(self.schema.clone(), columns).expect("every row appends to every column");
        let names = Some(self.name.finish());
        Some(Batch { rows, image_index, names })
    }
}
