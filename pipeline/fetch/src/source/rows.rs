//! Collecting rows of text formats into Arrow columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringArray, StringBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Rows that a text reader hands over at a time; large enough to make per-batch costs vanish, small
/// enough to make memory vanish too.
pub(super) const ROWS_PER_BATCH: usize = 1024;

/// Memory that the texts of a batch may take before it is handed over, bytes; a single long row may
/// go beyond.
const BYTES_PER_BATCH: usize = 64 << 20;

/// Positions of the columns with which the rows of a part begin; the extra columns follow.
pub(crate) mod column {
    /// URL of the picture. Utf8.
    pub(crate) const URL: usize = 0;
    /// Its text. Utf8.
    pub(crate) const CAPTION: usize = 1;
    /// The reason why the row could not be read. Utf8.
    pub(crate) const PROBLEM: usize = 2;
    /// Absolute path of the local file that holds the picture; null where it is to be fetched by
    /// its URL. Utf8.
    pub(crate) const FILE: usize = 3;
    /// Place of its first byte in that file; null without one. Int64.
    pub(crate) const OFFSET: usize = 4;
    /// Length of the picture in that file, bytes; null without one. Int64.
    pub(crate) const LENGTH: usize = 5;
    /// The first extra column.
    pub(crate) const FIRST_EXTRA: usize = 6;
}

/// Returns the columns of [`column`], with which every batch of every reader begins.
pub(super) fn leading_fields() -> [Field; column::FIRST_EXTRA] {
    let [url, caption, problem, file] =
        ["url", "caption", "problem", "file"].map(|name| Field::new(name, DataType::Utf8, true));
    let [offset, length] = ["offset", "length"].map(|name| Field::new(name, DataType::Int64, true));
    [url, caption, problem, file, offset, length]
}

/// Returns the columns [`column::FILE`], [`column::OFFSET`] and [`column::LENGTH`] of rows whose
/// pictures are to be fetched.
pub(super) fn no_places(count: usize) -> [ArrayRef; 3] {
    [DataType::Utf8, DataType::Int64, DataType::Int64].map(|data_type| new_null_array(&data_type, count))
}

/// The place of a picture that need not be fetched.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute path of the file.
    pub(super) file: String,
    /// Place of the first byte in the file.
    pub(super) offset: u64,
    /// Length, bytes.
    pub(super) length: u64,
    /// The name of the picture below the source.
    pub(super) name: String,
}

/// Rows of one file, as its reader hands them over.
pub(super) struct Batch {
    /// The leading columns, then the file's extra columns.
    pub(super) rows: RecordBatch,
    /// Number of the picture in its row of the file, from 0; every 0 begins a row of the file.
    pub(super) image_index: Vec<i64>,
    /// Names of the pictures below the source, if they are local.
    pub(super) names: Option<StringArray>,
}

/// Rows in the making.
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

/// One extra column in the making.
pub(super) enum ExtraBuilder {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
}

impl ExtraBuilder {
    /// Returns whether columns of this type are made here; the others are those of Parquet alone.
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
    /// Begins without rows; `extras` are of the types Boolean, Int64, Float64 or Utf8.
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

    /// Begins a good row, the only one of its row in the file; the caller then appends one value to
    /// every column of `extras`.
    pub(super) fn begin_row(&mut self, url: Option<&str>, caption: Option<&str>) {
        self.begin_picture(url, caption, 0, None);
    }

    /// Begins the good row of one of several pictures; the caller then appends one value to every
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

    /// Adds the row of one of several pictures that could not be read.
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

    /// Takes the rows collected so far; `None` if there are none.
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
