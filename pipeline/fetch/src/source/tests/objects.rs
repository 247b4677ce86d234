//! Sources in object stores.

use super::*;
use crate::objects::tests::S3;
use crate::objects::{Cache, Location, wait_for};

fn put(server: &S3, files: &[(&str, &[u8])]) {
    let folder = folder(&[("file", b"")]);
    let path = folder.path().join("file");
    for (name, bytes) in files {
        std::fs::write(&path, bytes).unwrap();
        let place = Location::open("s3://bucket/", &server.settings()).unwrap();
        wait_for(async { place.put(&path, name).await }).unwrap();
    }
}

fn open(server: &S3, config: &SourceConfig, folder: &TempDir) -> Result<Source> {
    let cache = Cache::new(folder.path().join("cache"), server.settings());
    Source::open_cached(config, folder.path(), &cache)
}

fn copies(folder: &TempDir) -> usize {
    std::fs::read_dir(folder.path().join("cache")).unwrap().count()
}

#[test]
fn lists_and_archives_of_an_s3_bucket_are_read_by_copies() {
    let Some(server) = S3::start() else { return };
    put(
        &server,
        &[
            ("lists/b.csv", b"url,alt\nhttp://a.example/2.jpg,two\n"),
            ("lists/a.csv.gz", &gz(b"url,alt\nhttp://a.example/1.jpg,one\n")),
            ("lists/deeper/c.csv", b"url,alt\nhttp://a.example/3.jpg,three\n"),
            ("lists/notes.md", b"no list"),
            ("shards/0.tar", &pictures::tar(&[("a.jpg", b"picture"), ("a.txt", b"a cat")])),
        ],
    );
    let folder = folder(&[("local.txt", b"http://a.example/0.jpg\n")]);
    let read = |path: &str| {
        let source = open(&server, &captioned(path, "url", "alt"), &folder).unwrap();
        read_all(&source, 100).remove(0)
    };
    let rows = read("s3://bucket/lists").rows;
    assert_eq!(texts(&rows, "url"), ["http://a.example/1.jpg", "http://a.example/2.jpg"].map(Some));
    assert_eq!(copies(&folder), 2);
    let before = read("s3://bucket/lists/").fingerprint();
    assert_eq!(copies(&folder), 2, "nothing is copied twice");
    put(&server, &[("lists/b.csv", b"url,alt\nhttp://a.example/2.jpg,new\n")]);
    let after = read("s3://bucket/lists/");
    assert_eq!(texts(&after.rows, "caption"), [Some("one"), Some("new")]);
    assert_ne!(before, after.fingerprint());

    // The same server as a plain web server.
    let path = format!("{}/bucket/lists/b.csv", server.endpoint);
    assert_eq!(texts(&read(&path).rows, "caption"), [Some("new")]);

    let config = SourceConfig { caption: None, ..SourceConfig::new("s3://bucket/shards/0.tar", "url") };
    let part = read_all(&open(&server, &config, &folder).unwrap(), 10).remove(0);
    assert_eq!(pictures::pictures(&part.rows), ["picture"]);
    assert_eq!(texts(&part.rows, "caption"), [Some("a cat")]);
    assert_eq!(pictures::extra_texts(&part.rows, "file"), [Some("0.tar/a.jpg")]);
    let other = tempfile::tempdir().unwrap();
    let again = read_all(&open(&server, &config, &other).unwrap(), 10).remove(0);
    assert_eq!(part.fingerprint(), again.fingerprint(), "another copy of the same object is the same picture");
}

#[test]
fn errors_of_objects_name_the_url_and_what_to_do() {
    let Some(server) = S3::start() else { return };
    put(
        &server,
        &[("data/captions.csv", b"link,alt\nx,y\n"), ("data/broken.parquet", b"no parquet"), ("data/pool/a.jpg", b"a")],
    );
    let folder = folder(&[]);
    let as_folder = SourceConfig { format: SourceFormat::Folder, ..SourceConfig::new("s3://bucket/data/pool/", "url") };
    for (config, expected) in [
        (
            SourceConfig::new("s3://bucket/data/caption.csv", "url"),
            "cannot read s3://bucket/data/caption.csv: nothing is there; did you mean \"captions.csv\" there?",
        ),
        (
            SourceConfig::new("s3://bucket/daat/", "url"),
            "cannot read s3://bucket/daat/: nothing is there; did you mean \"data\" there?",
        ),
        (
            SourceConfig::new("s3://bucket/data/captions.csv", "url"),
            "s3://bucket/data/captions.csv has no column \"url\" for `url`",
        ),
        (
            SourceConfig::new("s3://bucket/data/broken.parquet", "url"),
            "cannot read s3://bucket/data/broken.parquet as parquet",
        ),
        (
            SourceConfig::new(format!("{}/bucket/lists/", server.endpoint), "url"),
            "/bucket/lists/: a web server does not tell what it has; name each file",
        ),
        (SourceConfig::new("s3://bucket/data/pool/", "url"), "s3://bucket/data/pool/ holds no source file"),
        (
            SourceConfig::new("s3://bucket/data/pool/a.jpg", "url"),
            "cannot tell the format of s3://bucket/data/pool/a.jpg",
        ),
        (as_folder, "single images of an object store are not read"),
        (
            SourceConfig::new(format!("{}/bucket/none.csv", server.endpoint), "url"),
            "/bucket/none.csv: nothing is there",
        ),
    ] {
        let message = open(&server, &config, &folder).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}\nlacks {expected}");
        assert!(!message.contains("of-tests"), "{message}");
    }
    let message = error(&SourceConfig::new("s3://bucket/data/captions.csv", "url"), &folder);
    assert!(message.starts_with("`source.path` has the URL of an object store, but no folder"), "{message}");
}
