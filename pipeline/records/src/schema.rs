//! The columns of the pool, the download log, the clusters and the selections, and the metadata by
//! which Hugging Face `datasets` recognises images.
//!
//! Every column is one constant, from which the schemas of its tables are made and by which it is
//! read:
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use arrow::array::{Int64Array, RecordBatch};
//! use lynxdata_records::schema::{UID, WIDTH};
//!
//! let widths = Arc::new(Int64Array::from(vec![640])) as arrow::array::ArrayRef;
//! let batch = RecordBatch::try_from_iter([(WIDTH.name, widths)])?;
//! let path = Path::new("pool.parquet"); // for messages
//! assert_eq!(WIDTH.of(&batch, path)?.value(0), 640);
//! let error = UID.of(&batch, path).unwrap_err().to_string();
//! assert!(error.contains("pool.parquet") && error.contains("uid"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::any::type_name;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, GenericByteArray, Int64Array, ListArray, PrimitiveArray, RecordBatch,
    StringArray, StructArray,
};
use arrow::datatypes::{ArrowPrimitiveType, ByteArrayType, DataType, Field, Fields, Schema, SchemaRef};
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// The schema metadata key that `datasets` reads. It must be in the *Arrow* schema: the key in the
/// Parquet metadata alone is ignored if an Arrow schema is stored too, and parquet-rs always stores
/// one (seen with datasets 5.2.0 and pyarrow 26).
pub const HUGGING_FACE_KEY: &str = "huggingface";

/// A column: its name, and the type of the Arrow array that holds its values.
#[derive(Debug)]
pub struct Column<'a, A> {
    /// The name of the column.
    pub name: &'a str,
    array: PhantomData<A>,
}

impl<'a, A: Array + 'static> Column<'a, A> {
    /// Returns the column of this name. Also for columns that are no constants: extra columns of a
    /// source, and signals.
    pub const fn named(name: &'a str) -> Column<'a, A> {
        Column { name, array: PhantomData }
    }

    /// Returns the values in a batch. `path` is only used in the message.
    ///
    /// # Errors
    /// If the batch lacks the column, or it has another type.
    pub fn of<'b>(&self, batch: &'b RecordBatch, path: &Path) -> Result<&'b A> {
        self.find(batch).ok_or_else(|| Error::Column {
            path: path.to_owned(),
            column: self.name.to_owned(),
            expected: type_name::<A>(),
        })
    }

    /// Returns the values in a batch; `None` if it lacks the column, or it has another type.
    pub fn find<'b>(&self, batch: &'b RecordBatch) -> Option<&'b A> {
        batch.column_by_name(self.name).and_then(downcast)
    }

    /// Returns the values of a field of structs, such as [`IMAGE_BYTES`]; `None` if they lack it,
    /// or it has another type.
    pub fn within<'b>(&self, structs: &'b StructArray) -> Option<&'b A> {
        structs.column_by_name(self.name).and_then(downcast)
    }
}

fn downcast<A: 'static>(values: &ArrayRef) -> Option<&A> {
    values.as_any().downcast_ref()
}

impl<A: Written> Column<'_, A> {
    /// Returns the nullable field of the column.
    pub fn field(&self) -> Field {
        Field::new(self.name, A::written_type(), true)
    }
}

/// An array that the tables of a run have, with the type that it has there. The structs of these
/// tables are images, and the lists are lists of texts.
pub trait Written: Array + 'static {
    /// Returns the type.
    fn written_type() -> DataType;
}

impl<T: ByteArrayType> Written for GenericByteArray<T> {
    fn written_type() -> DataType {
        T::DATA_TYPE
    }
}

impl<T: ArrowPrimitiveType> Written for PrimitiveArray<T> {
    fn written_type() -> DataType {
        T::DATA_TYPE
    }
}

impl Written for BooleanArray {
    fn written_type() -> DataType {
        DataType::Boolean
    }
}

impl Written for StructArray {
    fn written_type() -> DataType {
        image_type()
    }
}

impl Written for ListArray {
    fn written_type() -> DataType {
        text_list_type()
    }
}

/// The key of a pair, 32 hexadecimal digits; a column of every table.
pub const UID: Column<StringArray> = Column::named("uid");
/// The address of the image of a pair, as in the source.
pub const URL: Column<StringArray> = Column::named("url");
/// The text of a pair in the source.
pub const CAPTION: Column<StringArray> = Column::named("caption");
/// The stored image of a pair, and its name.
pub const IMAGE: Column<StructArray> = Column::named("image");
/// The bytes of an image; a field of [`IMAGE`].
pub const IMAGE_BYTES: Column<BinaryArray> = Column::named("bytes");
/// The name of an image; a field of [`IMAGE`].
pub const IMAGE_PATH: Column<StringArray> = Column::named("path");
/// Width of the stored image, pixels.
pub const WIDTH: Column<Int64Array> = Column::named("width");
/// Height of the stored image, pixels.
pub const HEIGHT: Column<Int64Array> = Column::named("height");
/// Width of the image as served, pixels, before orientation.
pub const ORIGINAL_WIDTH: Column<Int64Array> = Column::named("original_width");
/// Height of the image as served, pixels, before orientation.
pub const ORIGINAL_HEIGHT: Column<Int64Array> = Column::named("original_height");
/// Format of the stored image: jpeg, png, webp, gif, bmp or tiff.
pub const FORMAT: Column<StringArray> = Column::named("format");
/// Size of the stored image, bytes.
pub const BYTES: Column<Int64Array> = Column::named("bytes");
/// SHA-256 of the bytes of the image as served, hexadecimal.
pub const SHA256: Column<StringArray> = Column::named("sha256");

/// Number of the row in the source, from 0.
pub const ROW: Column<Int64Array> = Column::named("row");
/// Host of the URL; null if it has none.
pub const HOST: Column<StringArray> = Column::named("host");
/// The one outcome of the row: the name of a [`Status`](crate::Status).
pub const STATUS: Column<StringArray> = Column::named("status");
/// HTTP status of the last answer, if there was one.
pub const HTTP_STATUS: Column<Int64Array> = Column::named("http_status");
/// Number of requests that were started, without redirects.
pub const ATTEMPTS: Column<Int64Array> = Column::named("attempts");
/// Milliseconds from the first request to the end, with pauses between attempts, without waits for
/// a permit or a rate limit; null without a request.
pub const ELAPSED_MS: Column<Int64Array> = Column::named("elapsed_ms");
/// Size of the body that arrived whole; null if none did.
pub const BODY_BYTES: Column<Int64Array> = Column::named("body_bytes");
/// The message of the network or the decoder.
pub const DETAIL: Column<StringArray> = Column::named("detail");

/// Key of the first pair of the connected component of a pair; its own if it is alone. A check
/// holds out whole components.
pub const CLUSTER: Column<StringArray> = Column::named("cluster");
/// Number of pairs in the component.
pub const CLUSTER_SIZE: Column<Int64Array> = Column::named("cluster_size");
/// Which comparisons matched this pair with another: url, exact, phash.
pub const MATCHED_BY: Column<ListArray> = Column::named("matched_by");

/// Whether the pair is in the selection.
pub const KEPT: Column<BooleanArray> = Column::named("kept");
/// Every rule that rejected the pair, in the order of the rules; empty if kept.
pub const REJECTED_BY: Column<ListArray> = Column::named("rejected_by");
/// Key of the pair that is kept instead, if this one is a duplicate.
pub const DUPLICATE_OF: Column<StringArray> = Column::named("duplicate_of");
/// What makes it a duplicate of that pair: exact, url or phash.
pub const DUPLICATE_BY: Column<StringArray> = Column::named("duplicate_by");
/// Bits in which the pHash values of the two differ; null if they were not compared.
pub const DUPLICATE_DISTANCE: Column<Int64Array> = Column::named("duplicate_distance");

/// A table of the run folder.
#[derive(Debug, Clone)]
pub struct Table {
    /// The folder in the run folder that holds its parts.
    pub name: &'static str,
    /// Its columns in order.
    pub columns: Vec<Field>,
}

/// Returns the type of an image. `datasets` reads exactly this struct, with nullable fields of
/// these types, as an `Image`.
pub fn image_type() -> DataType {
    DataType::Struct(Fields::from(vec![IMAGE_BYTES.field(), IMAGE_PATH.field()]))
}

/// Returns a nullable list of texts.
pub fn text_list_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

/// Returns the table of all pairs that were downloaded. Extra columns of the source follow these
/// columns.
pub fn pool() -> Table {
    Table {
        name: "pool",
        columns: vec![
            UID.field(),
            URL.field(),
            CAPTION.field(),
            IMAGE.field(),
            WIDTH.field(),
            HEIGHT.field(),
            ORIGINAL_WIDTH.field(),
            ORIGINAL_HEIGHT.field(),
            FORMAT.field(),
            BYTES.field(),
            SHA256.field(),
        ],
    }
}

/// Returns the table of the outcome of every row of the source.
pub fn download_log() -> Table {
    Table {
        name: "download-log",
        columns: vec![
            UID.field(),
            ROW.field(),
            URL.field(),
            HOST.field(),
            STATUS.field(),
            HTTP_STATUS.field(),
            ATTEMPTS.field(),
            ELAPSED_MS.field(),
            BODY_BYTES.field(),
            DETAIL.field(),
        ],
    }
}

/// Returns the table of the pairs of the pool with their clusters of duplicates.
pub fn clusters() -> Table {
    Table { name: "clusters", columns: vec![UID.field(), CLUSTER.field(), CLUSTER_SIZE.field(), MATCHED_BY.field()] }
}

/// Returns the table of a selection: for every pair of the pool, kept or not, and why not.
pub fn selection() -> Table {
    Table {
        name: "selection",
        columns: vec![
            UID.field(),
            KEPT.field(),
            REJECTED_BY.field(),
            DUPLICATE_OF.field(),
            DUPLICATE_BY.field(),
            DUPLICATE_DISTANCE.field(),
        ],
    }
}

impl Table {
    /// Returns the Arrow schema of the table's own columns followed by the `extra` ones, with the
    /// Hugging Face features of all of them.
    pub fn schema_with<'a>(&self, extra: impl IntoIterator<Item = &'a Field>) -> SchemaRef {
        let own = self.columns.iter().cloned();
        let fields: Vec<Field> = own.chain(extra.into_iter().cloned()).collect();
        Arc::new(with_hugging_face_features(Schema::new(fields)))
    }

    /// Returns the Arrow schema of the table's own columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema_with([])
    }
}

/// Adds the `huggingface` metadata that says which columns hold images, so that `datasets` decodes
/// them.
///
/// Other columns are left out. `datasets` derives their features from the Arrow types, under names
/// that fit its own version (`Features.from_arrow_schema`, seen with 5.2.0).
pub fn with_hugging_face_features(schema: Schema) -> Schema {
    let features: Map<String, Value> = schema
        .fields()
        .iter()
        .filter_map(|field| Some((field.name().clone(), picture_feature(field.data_type())?)))
        .collect();
    let mut metadata = schema.metadata().clone();
    metadata.insert(HUGGING_FACE_KEY.to_owned(), json!({"info": {"features": features}}).to_string());
    schema.with_metadata(metadata)
}

/// Returns the `datasets` feature of an image or a (nested) list of images; `None` for any other
/// type.
fn picture_feature(data_type: &DataType) -> Option<Value> {
    match data_type {
        _ if *data_type == image_type() => Some(json!({"_type": "Image"})),
        DataType::List(item) => Some(json!({"feature": picture_feature(item.data_type())?, "_type": "List"})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files are a contract with their readers, whatever the constants are called.
    #[test]
    fn tables_have_their_columns() {
        let described = |table: &Table| {
            let described = table.columns.iter().map(|field| {
                assert!(field.is_nullable(), "{field}");
                let name = field.name();
                match field.data_type() {
                    DataType::Int64 => format!("{name} integer"),
                    DataType::Utf8 => format!("{name} text"),
                    DataType::Boolean => format!("{name} boolean"),
                    other if *other == text_list_type() => format!("{name} texts"),
                    other if *other == image_type() => format!("{name} image"),
                    other => format!("{name} {other}"),
                }
            });
            format!("{}: {}", table.name, described.collect::<Vec<_>>().join(", "))
        };
        assert_eq!(
            [pool(), download_log(), clusters(), selection()].each_ref().map(described),
            [
                "pool: uid text, url text, caption text, image image, width integer, height integer, \
                 original_width integer, original_height integer, format text, bytes integer, sha256 text",
                "download-log: uid text, row integer, url text, host text, status text, http_status integer, \
                 attempts integer, elapsed_ms integer, body_bytes integer, detail text",
                "clusters: uid text, cluster text, cluster_size integer, matched_by texts",
                "selection: uid text, kept boolean, rejected_by texts, duplicate_of text, duplicate_by text, \
                 duplicate_distance integer",
            ]
        );
        let DataType::Struct(image) = image_type() else { panic!("an image is a struct") };
        let image: Vec<_> = image.iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
        assert_eq!(image, [("bytes", DataType::Binary), ("path", DataType::Utf8)]);
    }

    #[test]
    fn a_column_is_read_only_with_its_type() {
        let widths = Arc::new(Int64Array::from(vec![640])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("width", widths)]).unwrap();
        let path = Path::new("pool/part-00000.parquet");
        assert_eq!(WIDTH.of(&batch, path).unwrap().values(), &[640]);
        for (found, name) in [
            (Column::<StringArray>::named("width").of(&batch, path), "width"), // of another type
            (URL.of(&batch, path), "url"),                                     // not there
        ] {
            let wanted = format!("{} has no column {name} of type {}", path.display(), type_name::<StringArray>());
            assert_eq!(found.unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn the_pool_tells_hugging_face_which_column_is_a_picture() {
        let extra = Field::new("similarity", DataType::Float64, true);
        let schema = pool().schema_with([&extra]);
        let features: Value = serde_json::from_str(&schema.metadata()[HUGGING_FACE_KEY]).unwrap();
        assert_eq!(features["info"]["features"]["image"], json!({"_type": "Image"}));
        assert_eq!(features["info"]["features"].as_object().unwrap().len(), 1, "the others are told by their types");
    }

    #[test]
    fn lists_of_pictures_are_pictures_too() {
        assert_eq!(picture_feature(&text_list_type()), None);
        let pictures = DataType::List(Arc::new(Field::new("item", image_type(), true)));
        assert_eq!(picture_feature(&pictures), Some(json!({"feature": {"_type": "Image"}, "_type": "List"})));
    }
}
