//! Parquet files with columns of images.

use std::collections::HashMap;

use arrow::array::{BinaryArray, BinaryViewArray, LargeBinaryArray, StructArray};
use lynxdata_records::schema::{self, HUGGING_FACE_KEY};

use super::folders::images;
use super::pictures::{extra_texts, pictures, tree};
use super::*;

fn column_of(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn names(source: &Source) -> Vec<String> {
    source.schema_of_extra_columns().fields().iter().map(|field| field.name().clone()).collect()
}

/// What `datasets` stores about columns.
fn features(kinds: &[(&str, &str)]) -> HashMap<String, String> {
    let features: serde_json::Map<_, _> =
        kinds.iter().map(|(name, kind)| ((*name).to_owned(), serde_json::json!({"_type": kind}))).collect();
    let info = serde_json::json!({"info": {"features": features}});
    [(HUGGING_FACE_KEY.to_owned(), info.to_string())].into()
}

fn write_with_features(path: &Path, columns: Vec<(&str, ArrayRef)>, kinds: &[(&str, &str)]) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(features(kinds)));
    let batch = batch.with_schema(schema.clone()).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn pictures_in_cells_are_read_with_and_without_urls() {
    let folder = tree(&[("sub/in.jpg", b"in a file")]);
    let cells = images(&[
        (Some(b"one"), Some("1.jpg")),
        (None, Some("sub/in.jpg")),
        (None, Some("/etc/hostname")),
        (None, None),
        (Some(b""), None),
        (Some(b"six"), None),
    ]);
    let urls = column_of(&["u1", "u2", "u3", "u4", "u5", "u6"]);
    let captions = column_of(&["a", "b", "c", " ", "e", "f"]);
    let path = folder.path().join("a.parquet");
    write_parquet(
        &path,
        vec![("image", cells.clone()), ("caption", captions.clone()), ("url", urls), ("uid", column_of(&["x"; 6]))],
    );
    write_parquet(&folder.path().join("b.parquet"), vec![("text", captions), ("image", cells)]);
    for (name, url, rows_per_part) in
        [("a.parquet", Some("u1"), 100), ("b.parquet", None, 100), ("a.parquet", Some("u1"), 6)]
    {
        let source = Source::open(&SourceConfig::new(name, "url"), folder.path()).unwrap();
        assert_eq!(names(&source), if url.is_some() { vec!["source_uid", "file"] } else { vec!["file"] });
        let parts = read_all(&source, rows_per_part);
        let rows = &parts[0].rows;
        assert_eq!(pictures(rows), ["one", "-", "-", "-", "", "six"]);
        assert_eq!(texts(rows, "url")[0], url);
        assert_eq!(texts(rows, "caption"), [Some("a"), Some("b"), Some("c"), None, Some("e"), Some("f")]);
        assert_eq!(extra_texts(rows, "file")[5], Some(format!("{name}/5").as_str()));
        let spilled = tempfile::tempdir().unwrap();
        let embedded = Embedded::read(rows, None, spilled.path()).unwrap();
        let path = folder.path().canonicalize().unwrap().join("sub/in.jpg");
        assert_eq!(embedded.of(1), EmbeddedPicture::File { path, length: 9 });
        assert!(matches!(embedded.of(2), EmbeddedPicture::Nowhere(reason) if reason.contains("/etc/hostname")));
        assert!(matches!(embedded.of(3), EmbeddedPicture::Nowhere(reason) if reason.contains("neither bytes nor")));
    }
    // Rows are found again in parts of any size, and in some rows of a part.
    let source = Source::open(&SourceConfig::new("a.parquet", "url"), folder.path()).unwrap();
    let small: Vec<String> = read_all(&source, 1).iter().flat_map(|part| pictures(&part.rows)).collect();
    assert_eq!(small, ["one", "-", "-", "-", "", "six"]);
    let chosen = read_all(&source, 10)[0].choose(vec![0, 4, 5]).unwrap();
    assert_eq!(pictures(&chosen.rows), ["one", "", "six"]);
}

#[test]
fn every_type_of_bytes_may_hold_pictures() {
    let bytes: Vec<&[u8]> = vec![b"one", b"two"];
    let plain: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from(bytes.clone())),
        Arc::new(LargeBinaryArray::from(bytes.clone())),
        Arc::new(BinaryViewArray::from(bytes)),
    ];
    let folder = folder(&[]);
    let path = folder.path().join("a.parquet");
    let read = || pictures(&read(&SourceConfig::new("a.parquet", "url"), &folder));
    for array in plain {
        write_parquet(&path, vec![("jpg", array.clone()), ("n", column_of(&["1", "2"]))]);
        assert_eq!(read(), ["one", "two"], "told by its name");
        write_with_features(&path, vec![("scan", array.clone())], &[("scan", "Image")]);
        assert_eq!(read(), ["one", "two"], "told by its feature");
        let field = Arc::new(Field::new("bytes", array.data_type().clone(), true));
        let image = StructArray::new(vec![field].into(), vec![array.clone()], None);
        write_parquet(&path, vec![("picture", Arc::new(image))]);
        assert_eq!(read(), ["one", "two"], "a struct without paths");
        write_parquet(&path, vec![("embedding", array)]);
        assert!(error(&SourceConfig::new("a.parquet", "url"), &folder).contains("no column \"url\""));
    }
    write_with_features(&path, vec![("sound", images(&[(Some(b"x"), None)]))], &[("sound", "Audio")]);
    assert!(error(&SourceConfig::new("a.parquet", "url"), &folder).contains("no column \"url\""));
}

#[test]
fn one_of_several_columns_of_pictures_is_read_and_the_others_are_told() {
    let folder = folder(&[]);
    let path = folder.path().join("a.parquet");
    let column = |bytes: &'static [u8]| images(&[(Some(bytes), None)]);
    write_parquet(
        &path,
        vec![
            ("mask", column(b"mask")),
            ("image", column(b"image")),
            ("edited", column(b"edited")),
            ("id", column_of(&["7"])),
        ],
    );
    let config =
        |image: Option<&str>| SourceConfig { image: image.map(str::to_owned), ..SourceConfig::new("a.parquet", "url") };
    let part = |image| read_all(&Source::open(&config(image), folder.path()).unwrap(), 10).remove(0);
    let spilled = tempfile::tempdir().unwrap();
    let length =
        |part: &SourcePart| match Embedded::read(&part.rows, part.image.as_deref(), spilled.path()).unwrap().of(0) {
            EmbeddedPicture::Here { length, .. } => length,
            other => panic!("{other:?}"),
        };
    assert_eq!([length(&part(None)), length(&part(Some("edited"))), length(&part(Some("mask")))], [5, 6, 4]);
    assert_ne!(part(None).fingerprint(), part(Some("mask")).fingerprint(), "other pictures are another part");
    let source = Source::open(&config(None), folder.path()).unwrap();
    assert_eq!(names(&source), ["id", "file"]);
    assert!(source.left_out().unwrap().contains("further columns of images: 2, such as \"mask of a.parquet\""));
    assert!(error(&config(Some("")), &folder).contains("no column \"url\""), "to be fetched they need URLs");
    assert!(error(&config(Some("imgae")), &folder).contains("no column \"imgae\" for `image`, did you mean \"image\""));
    assert!(error(&config(Some("id")), &folder).contains("column \"id\" of"));
}

#[test]
fn lists_of_pictures_are_told() {
    let folder = folder(&[]);
    let cells = images(&[(Some(b"one"), None), (Some(b"two"), None)]);
    let item = Arc::new(Field::new_list_field(cells.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([2]);
    let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, cells, None));
    write_parquet(&folder.path().join("a.parquet"), vec![("images", lists), ("id", column_of(&["7"]))]);
    let message = error(&SourceConfig::new("a.parquet", "url"), &folder);
    assert!(message.contains("columns of lists of images: 1, such as \"images of a.parquet\""), "{message}");
    let config = SourceConfig { image: Some("images".to_owned()), ..SourceConfig::new("a.parquet", "url") };
    assert!(error(&config, &folder).contains("structs of bytes and path, not lists"));
    let source = Source::open(&SourceConfig::new("a.parquet", "id"), folder.path()).unwrap();
    assert_eq!(names(&source), Vec::<String>::new(), "they are not carried");
}

#[test]
fn a_file_that_is_damaged_or_gone_is_a_problem_of_its_rows() {
    let folder = folder(&[]);
    let path = folder.path().join("a.parquet");
    write_parquet(&path, vec![("image", images(&[(Some(b"one"), None), (Some(b"two"), None)]))]);
    let rows = read(&SourceConfig::new("a.parquet", "url"), &folder);
    let spilled = tempfile::tempdir().unwrap();
    let problem = |row: usize| match Embedded::read(&rows, None, spilled.path()).unwrap().of(row) {
        EmbeddedPicture::Problem(reason) => reason,
        other => panic!("{other:?}"),
    };
    write_parquet(&path, vec![("image", images(&[(Some(b"one"), None)]))]);
    assert!(problem(1).contains("fewer rows"), "{}", problem(1));
    std::fs::remove_file(&path).unwrap();
    assert!([problem(0), problem(1)].iter().all(|reason| reason.contains("No such file")), "{}", problem(0));
}

/// Our own shards have names of columns that the pool needs.
#[test]
fn the_schema_of_a_pool_is_a_source() {
    let folder = folder(&[]);
    let columns = schema::pool().columns.into_iter().map(|column| {
        let array: ArrayRef = match column.data_type() {
            DataType::Struct(_) => images(&[(Some(b"one"), Some("x.jpg"))]),
            DataType::Int64 => Arc::new(Int64Array::from(vec![1])),
            _ => column_of(&["a"]),
        };
        (column.name().clone(), array)
    });
    let columns: Vec<(String, ArrayRef)> = columns.collect();
    let columns = columns.iter().map(|(name, array)| (name.as_str(), array.clone())).collect();
    write_parquet(&folder.path().join("part-00000.parquet"), columns);
    let source = Source::open(&SourceConfig::new(".", "url"), folder.path()).unwrap();
    let rows = read_all(&source, 10).remove(0).rows;
    assert_eq!(
        (pictures(&rows), texts(&rows, "url"), texts(&rows, "caption")),
        (vec!["one".to_owned()], vec![Some("a")], vec![Some("a")])
    );
    assert!(names(&source).iter().all(|name| name == "file" || name.starts_with("source_")), "{:?}", names(&source));
}

#[test]
fn captions_in_a_list_are_those_of_the_named_column_and_nan_is_none() {
    let folder = folder(&[]);
    let list = |values: &[&str]| {
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, values.len() - 2]);
        Arc::new(ListArray::new(item, offsets, column_of(values), None)) as ArrayRef
    };
    write_parquet(
        &folder.path().join("a.parquet"),
        vec![
            ("unread", images(&[(Some(b"no"), None), (Some(b"no"), None)])),
            ("image", images(&[(Some(b"one"), None), (Some(b"two"), None)])),
            ("ids", list(&["0", "1", "2", "3"])),
            ("caption", list(&["", "Two men.", "A dog.", "A brown dog."])),
            ("name", column_of(&["1.jpg", "2.jpg"])),
        ],
    );
    let rows = read(&super::captioned("a.parquet", "url", "caption"), &folder);
    let captions: Vec<_> = rows.column(column::CAPTION).as_string::<i32>().iter().collect();
    assert_eq!(captions, [Some("Two men."), Some("A dog.")]);
    let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![f64::NAN, 1.5]));
    write_parquet(
        &folder.path().join("b.parquet"),
        vec![("url", column_of(&["http://a.example/1.jpg", "http://a.example/2.jpg"])), ("caption", floats)],
    );
    let rows = read(&super::captioned("b.parquet", "url", "caption"), &folder);
    let captions: Vec<_> = rows.column(column::CAPTION).as_string::<i32>().iter().collect();
    assert_eq!(captions, [None, Some("1.5")]);
    assert_eq!(rows.column(column::PROBLEM).null_count(), 2, "a caption that is missing is no problem");
}
