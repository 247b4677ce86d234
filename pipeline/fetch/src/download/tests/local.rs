//! Tests of existing images.

use arrow::array::{BinaryArray, StructArray};
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;

use super::*;
use crate::{Source, SourceConfig};

#[tokio::test]
async fn pictures_in_parquet_are_read_and_where_a_cell_has_none_its_url_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = fixture("plain.jpg");
    let server = Server::start([("a.jpg", ok(&jpeg))]).await;
    std::fs::write(folder.path().join("in.jpg"), &jpeg).unwrap();
    let DataType::Struct(fields) = schema::image_type() else { unreachable!("an image is a struct") };
    let cells: Vec<(Option<&[u8]>, Option<&str>)> = vec![
        (Some(&jpeg), Some("x.jpg")),
        (None, Some("in.jpg")),
        (None, Some("gone.jpg")),
        (None, None),
        (Some(b"<html>"), None),
        (None, Some("../in.jpg")),
    ];
    let bytes: ArrayRef = Arc::new(cells.iter().map(|(bytes, _)| *bytes).collect::<BinaryArray>());
    let paths: ArrayRef = Arc::new(cells.iter().map(|(_, path)| *path).collect::<StringArray>());
    let image: ArrayRef = Arc::new(StructArray::new(fields, vec![bytes, paths], None));
    // Digests of images that were resized afterwards, so they cannot be compared.
    let digests: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), Some("ab"), None, None, None, None]));
    let url = server.url("a.jpg");
    let urls: ArrayRef =
        Arc::new(StringArray::from(vec![Some(url.as_str()), None, Some(&url), None, Some(&url), None]));
    let batch = RecordBatch::try_from_iter([("image", image), ("sha256", digests), ("url", urls)]).unwrap();
    let file = std::fs::File::create(folder.path().join("a.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let source = Source::open(&SourceConfig::new("a.parquet", "url"), folder.path()).unwrap();
    let part = source.parts(10).next().unwrap().unwrap();
    let Downloaded { pool, log } = download(&downloader_with(&config()), &part, &|_| {}).await;
    assert_eq!(texts(&log, "status"), ["ok", "ok", "ok", "unreadable_file", "not_an_image", "unreadable_file"]);
    assert_eq!(integers(&log, "attempts"), [0, 0, 1, 0, 0, 0].map(Some));
    assert_eq!(texts(&pool, "file"), ["a.parquet/0", "a.parquet/1", "a.parquet/2"]);
    let again = part.choose(vec![0, 4]).unwrap();
    assert_eq!(
        texts(&download(&downloader_with(&config()), &again, &|_| {}).await.log, "status"),
        ["ok", "not_an_image"]
    );
    let small = DownloadConfig { max_bytes: 100, ..config() };
    assert_eq!(texts(&download(&downloader_with(&small), &part, &|_| {}).await.log, "status")[0], "too_large");
}
