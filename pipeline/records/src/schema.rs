//! The columns of the pool, the download log, the clusters and the selections, and the metadata by
//! which Hugging Face `datasets` recognises images.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde_json::{Map, Value, json};

/// The schema metadata key that `datasets` reads. It must be in the *Arrow* schema: the key in the
/// Parquet metadata alone is ignored if an Arrow schema is stored too, and parquet-rs always stores
/// one (seen with datasets 5.2.0 and pyarrow 26).
pub const HUGGING_FACE_KEY: &str = "huggingface";

/// The key of a pair, 32 hexadecimal digits; a column of every table.
pub const UID: &str = "uid";

/// The column of the address of a pair.
pub const URL: &str = "url";

/// The column of the text of a pair.
pub const CAPTION: &str = "caption";

/// The column of the image of a pair.
pub const IMAGE: &str = "image";

/// The column of the SHA-256 of an image as it was served.
pub const SHA256: &str = "sha256";

/// A column and its description.
#[derive(Debug, Clone)]
pub struct Column {
    /// Name, type and nullability.
    pub field: Field,
    /// Its content, with the unit.
    pub description: &'static str,
}

/// A table of the run folder.
#[derive(Debug, Clone)]
pub struct Table {
    /// The folder in the run folder that holds its parts.
    pub name: &'static str,
    /// The meaning of one row.
    pub description: &'static str,
    /// Its columns in order.
    pub columns: Vec<Column>,
}

fn column(name: &str, data_type: DataType, nullable: bool, description: &'static str) -> Column {
    Column { field: Field::new(name, data_type, nullable), description }
}

/// Returns the type of an image. `datasets` reads exactly this struct, with nullable fields of
/// these types, as an `Image`.
pub fn image_type() -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]))
}

/// Returns a nullable list of texts.
pub fn text_list_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

/// Describes the table of all pairs that were downloaded. Extra columns of the source follow these
/// columns.
pub fn pool() -> Table {
    Table {
        name: "pool",
        description: "one downloaded pair",
        columns: vec![
            column(UID, DataType::Utf8, true, "key of the pair, 32 hexadecimal digits"),
            column(URL, DataType::Utf8, true, "the address of the image"),
            column(CAPTION, DataType::Utf8, true, "its text in the source"),
            column(IMAGE, image_type(), true, "the stored image and its name"),
            column("width", DataType::Int64, true, "of the stored image, pixels"),
            column("height", DataType::Int64, true, "of the stored image, pixels"),
            column("original_width", DataType::Int64, true, "as served, pixels, before orientation"),
            column("original_height", DataType::Int64, true, "as served, pixels, before orientation"),
            column("format", DataType::Utf8, true, "of the stored image: jpeg, png, webp, gif, bmp or tiff"),
            column("bytes", DataType::Int64, true, "size of the stored image, bytes"),
            column(SHA256, DataType::Utf8, true, "SHA-256 of the bytes as served, hexadecimal"),
        ],
    }
}

/// Describes the table of the status of every row of the source.
pub fn download_log() -> Table {
    Table {
        name: "download-log",
        description: "one row of the source and its outcome",
        columns: vec![
            column(UID, DataType::Utf8, true, "key of the pair"),
            column("row", DataType::Int64, true, "number of the row in the source, from 0"),
            column(URL, DataType::Utf8, true, "as in the source"),
            column("host", DataType::Utf8, true, "of the URL; null if it has none"),
            column("status", DataType::Utf8, true, "the one outcome of the row"),
            column("http_status", DataType::Int64, true, "of the last answer, if there was one"),
            column("attempts", DataType::Int64, true, "requests that were started, without redirects"),
            column(
                "elapsed_ms",
                DataType::Int64,
                true,
                "from the first request to the end, with pauses between attempts, without waits for a permit or a rate limit; null without a request",
            ),
            column("body_bytes", DataType::Int64, true, "size of the body that arrived whole; null if none did"),
            column("detail", DataType::Utf8, true, "the message of the network or the decoder"),
        ],
    }
}

/// Describes the table of clusters of duplicate pairs.
pub fn clusters() -> Table {
    Table {
        name: "clusters",
        description: "one pair of the pool and its cluster of duplicates",
        columns: vec![
            column(UID, DataType::Utf8, true, "key of the pair"),
            column(
                "cluster",
                DataType::Utf8,
                true,
                "uid of the first pair of its connected component; its own if it is alone. A check holds out whole components",
            ),
            column("cluster_size", DataType::Int64, true, "pairs in the component"),
            column(
                "matched_by",
                text_list_type(),
                true,
                "which comparisons matched this pair with another: url, exact, phash",
            ),
        ],
    }
}

/// Describes the table of a selection: for every pair of the pool, kept or not, and why not.
pub fn selection() -> Table {
    Table {
        name: "selection",
        description: "one pair of the pool and the decision on it",
        columns: vec![
            column(UID, DataType::Utf8, true, "key of the pair"),
            column("kept", DataType::Boolean, true, "whether the pair is in the selection"),
            column(
                "rejected_by",
                text_list_type(),
                true,
                "every rule that rejected it, in the order of the rules; empty if kept",
            ),
            column("duplicate_of", DataType::Utf8, true, "uid of the pair that is kept instead, if it is a duplicate"),
            column("duplicate_by", DataType::Utf8, true, "what makes it a duplicate of that pair: exact, url or phash"),
            column(
                "duplicate_distance",
                DataType::Int64,
                true,
                "bits in which the pHash values of the two differ; null if they were not compared",
            ),
        ],
    }
}

impl Table {
    /// Returns the Arrow schema of the table's own columns followed by the `extra` ones, with the
    /// Hugging Face features of all of them.
    pub fn schema_with<'a>(&self, extra: impl IntoIterator<Item = &'a Field>) -> SchemaRef {
        let own = self.columns.iter().map(|column| column.field.clone());
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
