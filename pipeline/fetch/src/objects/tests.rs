use std::fs;

use object_store::memory::InMemory;
use tempfile::TempDir;

use super::*;

fn location(store: Arc<dyn ObjectStore>, path: &str) -> Location {
    Location {
        store,
        scheme: ObjectStoreScheme::Memory,
        path: StorePath::from(path),
        url: format!("memory:///{path}"),
        secrets: Vec::new(),
    }
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// More than two chunks, no two of which are alike.
fn long() -> Vec<u8> {
    (0..2 * CHUNK_BYTES as u32 / 4 + 1000).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn files_go_to_a_store_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    for store in [Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, local(&folder)] {
        let place = location(store, "some/place");
        for (name, bytes) in [("b.bin", &long()[..]), ("a.bin", b"short"), ("empty", b"")] {
            let object = place.put(&file(&folder, name, bytes), name).await.unwrap();
            assert_eq!((object.name.as_str(), object.bytes), (name, bytes.len() as u64));
            let copy = folder.path().join("copy");
            place.get(&object, &copy).await.unwrap();
            assert!(fs::read(&copy).unwrap() == bytes, "{name}");
            assert_eq!(fs::metadata(&copy).unwrap().modified().unwrap(), object.modified.unwrap());
        }
        let names: Vec<String> = place.list().await.unwrap().into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["a.bin", "b.bin", "empty"]);
        assert_eq!(place.head().await.unwrap(), None, "the beginning of names is no object");
        let above = location(place.store.clone(), "some");
        assert_eq!(above.list().await.unwrap(), [], "only one component more is listed");
        let below: Vec<String> = above.list_below().await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(below, ["place/a.bin", "place/b.bin", "place/empty"]);
        let one = location(place.store.clone(), "some/place/a.bin");
        assert_eq!(one.head().await.unwrap().unwrap().bytes, 5);
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
}

fn local(folder: &TempDir) -> Arc<dyn ObjectStore> {
    let root = folder.path().join("store");
    fs::create_dir(&root).unwrap();
    Arc::new(object_store::local::LocalFileSystem::new_with_prefix(root).unwrap())
}

/// A web server that does not support ranges: it always sends the whole file.
async fn start_plain_server(bytes: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            if request.starts_with(b"GET") {
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    format!("http://{address}/long.parquet")
}

#[tokio::test]
async fn long_files_of_servers_without_ranges_are_copied() {
    let place = Location::open(&start_plain_server(long()).await, &Settings::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let object = place.head().await.unwrap().unwrap();
    place.get(&object, &copy).await.unwrap();
    assert!(std::fs::read(&copy).unwrap() == long());
}

#[tokio::test]
async fn an_object_that_is_changed_meanwhile_leaves_no_copy() {
    let folder = tempfile::tempdir().unwrap();
    let place = location(Arc::new(InMemory::new()), "place");
    let object = place.put(&file(&folder, "a", b"before"), "a").await.unwrap();
    for after in [&b"after!"[..], b"of another length", &long()] {
        place.put(&file(&folder, "a", after), "a").await.unwrap();
        let error = place.get(&object, &folder.path().join("copy")).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot copy memory:///place/a: ") && error.contains("changed meanwhile"), "{error}");
        assert!(!folder.path().join("copy").exists());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left but the original");
}

#[tokio::test]
async fn of_two_who_replace_an_object_one_learns_of_the_other() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let [one, other] = [(); 2].map(|()| location(store.clone(), "place/manifest"));
    let first = one.replace(b"first", None).await.unwrap().unwrap();
    assert_eq!(one.read(&first).await.unwrap(), b"first");
    assert_eq!(other.replace(b"second", None).await.unwrap(), None, "it did not know of the first");
    let seen = other.head().await.unwrap();
    let second = other.replace(b"second", seen.as_ref()).await.unwrap().unwrap();
    assert_eq!(one.replace(b"third", Some(&first)).await.unwrap(), None, "the second came in between");
    assert_eq!(other.read(&other.head().await.unwrap().unwrap()).await.unwrap(), b"second");
    other.replace(b"fourth", Some(&second)).await.unwrap().unwrap();
    // A request that was carried out although its answer was lost is sent again.
    let again = other.replace(b"fourth", Some(&second)).await.unwrap().unwrap();
    assert_eq!(other.read(&again).await.unwrap(), b"fourth");
    // If versions cannot be compared, the last write wins.
    let folder = tempfile::tempdir().unwrap();
    let file = location(local(&folder), "manifest");
    let before = file.replace(b"first", None).await.unwrap();
    file.replace(b"second", before.as_ref()).await.unwrap().unwrap();
    assert_eq!(file.read(&file.head().await.unwrap().unwrap()).await.unwrap(), b"second");
}

#[tokio::test]
async fn copies_are_made_once_until_the_object_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("cache"), Settings::default());
    let place = location(Arc::new(InMemory::new()), "place");
    let put = async |bytes: &[u8]| place.put(&file(&folder, "list.csv.gz", bytes), "list.csv.gz").await.unwrap();
    let first = put(b"one").await;
    let copy = cache.copies(&place, std::slice::from_ref(&first)).await.unwrap().remove(0);
    assert_eq!(fs::read(&copy).unwrap(), b"one");
    assert!(copy.to_str().unwrap().ends_with(".csv.gz"));
    fs::write(&copy, b"two").unwrap();
    cache.copies(&place, std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(fs::read(&copy).unwrap(), b"two", "what is there is not fetched again");
    fs::write(&copy, b"tw").unwrap();
    cache.copies(&place, std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(fs::read(&copy).unwrap(), b"one", "unless it is not whole");
    let second = put(b"six").await;
    let other = cache.copies(&place, std::slice::from_ref(&second)).await.unwrap().remove(0);
    assert_ne!(copy, other);
    assert_eq!(fs::read(&other).unwrap(), b"six");
    let untold = Object { tag: None, modified: None, ..second };
    let third = cache.copies(&place, std::slice::from_ref(&untold)).await.unwrap().remove(0);
    fs::write(&third, b"old").unwrap();
    cache.copies(&place, std::slice::from_ref(&untold)).await.unwrap();
    assert_eq!(fs::read(&third).unwrap(), b"six", "what may have changed unnoticed is fetched every time");
}

#[test]
fn what_a_killed_process_left_of_a_copy_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, age) in [(".a.csv.7.part", 2), (".b.csv.8.part", 0), ("c.csv", 2), (".d.part.csv", 2)] {
        let modified = SystemTime::now() - ABANDONED * age;
        std::fs::File::create(folder.path().join(name)).unwrap().set_modified(modified).unwrap();
    }
    remove_abandoned(folder.path());
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".b.csv.8.part", ".d.part.csv", "c.csv"]);
}

#[test]
fn suffixes_of_copies_are_ordinary() {
    for (name, expected) in [
        ("list.parquet", ".parquet"),
        ("a.b.csv.gz", ".csv.gz"),
        ("list", ""),
        (".csv", ".csv"),
        ("a.über.csv", ".csv"),
        ("a./x.tar", ".tar"),
        ("", ""),
        ("a.", ""),
    ] {
        assert_eq!(suffixes(name), expected, "{name}");
    }
}

#[test]
fn urls_are_told_from_paths() {
    for (path, expected) in [
        ("s3://bucket/a.csv", true),
        ("S3://bucket/a.csv", true),
        ("https://host/a.csv", true),
        ("gs://bucket", true),
        ("az://container/a", true),
        ("folder/s3:/a.csv", false),
        ("/s3/a.csv", false),
        ("a.csv", false),
        ("C:/a.csv", false),
        ("file:///a.csv", false),
    ] {
        assert_eq!(is_url(Path::new(path)), expected, "{path}");
    }
}

#[test]
fn credentials_are_in_no_message() {
    let settings =
        [("AWS_SECRET_ACCESS_KEY", "s3cr3t/key"), ("AWS_ACCESS_KEY_ID", "AKIAXYZ"), ("AWS_REGION", "eu-west-1")];
    let settings: Vec<_> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    for (url, expected) in [
        ("https://user:pass-word@host/a.csv", "https://host/a.csv"),
        ("s3://bucket/a.csv", "s3://bucket/a.csv"),
        ("az://container@account/a", "az://container@account/a"),
    ] {
        let location = Location::open(url, &Settings(settings.clone()));
        // An Azure URL may lack its account's key; no matter here.
        let text = format!("{location:?}");
        assert!(!text.contains("pass-word") && !text.contains("s3cr3t") && !text.contains("AKIA"), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    let message =
        Location::open("https://host/a.csv?X-Amz-Signature=abcdef", &Settings::default()).unwrap_err().to_string();
    assert!(
        message.contains("cannot open https://host/a.csv: the URL has a query") && !message.contains("abcdef"),
        "{message}"
    );

    let secrets = secrets(&Url::parse("https://u:pass-word@host/").unwrap(), &settings);
    let told = "GET https://host/a?sig=abc failed: <?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code>\
                <Message>no such key</Message><AWSAccessKeyId>AKIAXYZ</AWSAccessKeyId></Error>";
    assert_eq!(redacted(told, &secrets), "GET https://host/a?… failed: InvalidAccessKeyId: no such key");
    assert_eq!(redacted("key AKIAXYZ, pass-word, eu-west-1", &secrets), "key …, …, eu-west-1");
}

#[tokio::test]
async fn a_missing_object_is_told_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let place = location(store.clone(), "data");
    place.put(&file(&folder, "a", b"a"), "captions.parquet").await.unwrap();
    let message = location(store.clone(), "data/caption.parquet").missing().await.to_string();
    assert_eq!(
        message,
        "cannot read memory:///data/caption.parquet: nothing is there; did you mean \"captions.parquet\" there?"
    );
    let message = location(store, "data/zebra").missing().await.to_string();
    assert!(message.ends_with("nothing is there; check the bucket and the name"), "{message}");
}

#[test]
fn waiting_works_within_a_runtime_and_without() {
    let wait = || wait_for(async { Ok(tokio::task::spawn(async { 7 }).await.unwrap()) }).unwrap();
    assert_eq!(wait(), 7);
    tokio::runtime::Runtime::new().unwrap().block_on(async { assert_eq!(wait(), 7) });
}

/// An S3 server on loopback, from the Python package `moto`; `None` without a Python.
pub(crate) struct S3 {
    child: std::process::Child,
    pub(crate) endpoint: String,
}

impl S3 {
    pub(crate) fn start() -> Option<S3> {
        use std::io::BufRead;
        use std::process::{Command, Stdio};
        let python = crate::machine::python()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/serve_s3.py");
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut endpoint = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        assert!(endpoint.starts_with("http://127.0.0.1:"), "the S3 server did not start: {endpoint:?}");
        Some(S3 { child, endpoint: endpoint.trim().to_owned() })
    }

    pub(crate) fn settings(&self) -> Settings {
        let settings = [
            ("AWS_ENDPOINT", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "a-key-of-tests"),
            ("AWS_SECRET_ACCESS_KEY", "a-secret-of-tests"),
            ("AWS_REGION", "us-east-1"),
        ];
        Settings(settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // it ends with its standard input
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn an_s3_server_takes_and_gives_objects() {
    let Some(server) = S3::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = Location::open("s3://bucket/some/place", &server.settings()).unwrap();
    for (name, bytes) in [("long.bin", &long()[..]), ("a ü.bin", b"short")] {
        let object = place.put(&file(&folder, "original", bytes), name).await.unwrap();
        assert_eq!((object.name.as_str(), object.bytes), (name, bytes.len() as u64));
        let copy = folder.path().join("copy");
        place.get(&object, &copy).await.unwrap();
        assert!(fs::read(&copy).unwrap() == bytes, "{name}");
    }
    let listed: Vec<_> = place.list().await.unwrap().into_iter().map(|object| (object.name, object.bytes)).collect();
    assert_eq!(listed, [("a ü.bin".to_owned(), 5), ("long.bin".to_owned(), long().len() as u64)]);
    let head = async |url: &str| Location::open(url, &server.settings()).unwrap().head().await;
    assert_eq!(head("s3://bucket/some/place/long.bin").await.unwrap().unwrap().url, "s3://bucket/some/place/long.bin");
    assert_eq!(head("s3://bucket/some/place").await.unwrap(), None);
    assert_eq!(head("s3://no-such-bucket/a").await.unwrap(), None);
    let error = Location::open("s3://no-such-bucket/a", &server.settings()).unwrap().list().await.unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("cannot list s3://no-such-bucket/a: "), "{message}");
    assert!(message.contains("NoSuchBucket") && !message.contains("of-tests"), "{message}");
}
