//! Tests layouts of folders: every file is read or reported, and a run folder inside changes
//! nothing.

use std::collections::BTreeSet;

use arrow::array::{BinaryArray, StructArray};
use lynxdata_records::{RunFolder, schema};

use super::left_out::Kind;
use super::pictures::{self, pictures, tar, tree};
use super::*;

/// A folder, and the images or URLs of its rows with their captions.
struct Layout {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    caption: Option<&'static str>,
    rows: Vec<(&'static str, Option<&'static str>)>,
}

/// A Parquet file with a column of URLs.
fn parquet_of_urls(urls: &[&str]) -> Vec<u8> {
    parquet_of(vec![("url", Arc::new(StringArray::from(urls.to_vec())))])
}

fn parquet_of(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, columns);
    std::fs::read(path).unwrap()
}

/// Cells as `datasets` writes those of an `Image` column.
pub(super) fn images(cells: &[(Option<&[u8]>, Option<&str>)]) -> ArrayRef {
    let DataType::Struct(fields) = schema::image_type() else { unreachable!("an image is a struct") };
    let bytes: ArrayRef = Arc::new(BinaryArray::from(cells.iter().map(|(bytes, _)| *bytes).collect::<Vec<_>>()));
    let paths: ArrayRef = Arc::new(cells.iter().map(|(_, path)| *path).collect::<StringArray>());
    Arc::new(StructArray::new(fields, vec![bytes, paths], None))
}

fn layouts() -> Vec<Layout> {
    let text = |text: &str| text.as_bytes().to_vec();
    let layout = |name, files: &[(&'static str, &str)], rows: &[(&'static str, Option<&'static str>)]| Layout {
        name,
        files: files.iter().map(|(name, content)| (*name, text(content))).collect(),
        caption: None,
        rows: rows.to_vec(),
    };
    let with_captions = |layout: Layout| Layout { caption: Some("caption"), ..layout };
    let urls = |number: usize| parquet_of_urls(&["http://a.example/1.jpg", "http://a.example/2.jpg"][..number]);
    let and = |mut layout: Layout, files: Vec<(&'static str, Vec<u8>)>| {
        layout.files.extend(files);
        layout
    };
    vec![
        layout(
            "a camera",
            &[
                ("A.JPG", "a"),
                ("A.TXT", "a dog"),
                ("B.JPG", "b"),
                ("b.Txt", "\u{feff}a cat\r\n"),
                ("._A.JPG", "x"),
                (".DS_Store", "x"),
                ("Thumbs.db", "x"),
                ("IMG.HEIC", "x"),
                ("README.TXT", "x"),
                ("stray.txt", "x"),
                ("A.xmp", "x"),
                ("stray.json", "{}"),
                ("__MACOSX/A.JPG", "x"),
                ("film.mp4", "x"),
            ],
            &[("a", Some("a dog")), ("b", Some("a cat"))],
        ),
        layout(
            "names and suffixes",
            &[
                ("1.jpg", "1"),
                ("1.jpg.txt", "one"),
                ("1.jpg.json", "{\"a\": NaN}"),
                ("2.jfif", "2"),
                ("3.JPE", "3"),
                ("4.apng", "4"),
                ("5.dib", "5"),
                ("5.caption", "five"),
                ("6.v2.webp", "6"),
                ("6.v2.txt", "six"),
                ("7.TiFf", "7"),
                ("8.avif", "8"),
                ("classes.txt", "cat\ndog\n"),
                ("9.jxl", "9"),
            ],
            &[
                ("1", Some("one")),
                ("2", None),
                ("3", None),
                ("4", None),
                ("5", Some("five")),
                ("6", Some("six")),
                ("7", None),
                ("8", None),
            ],
        ),
        layout(
            "pictures in sub-folders and a text above",
            &[("a/1.jpg", "1"), ("a/1.txt", "one"), ("notes.txt", "x\n")],
            &[("1", Some("one"))],
        ),
        layout(
            "pictures in sub-folders alone",
            &[("a/1.jpg", "1"), ("a/1.txt", "one"), ("b/c/2.jpg", "2"), ("b/LICENSE", "x"), ("notes.md", "x")],
            &[("1", Some("one")), ("2", None)],
        ),
        with_captions(layout(
            "lists",
            &[
                ("a.csv", "url,caption\nhttp://a.example/1.jpg,one\n"),
                ("._a.csv", "x"),
                ("README.md", "x"),
                ("LICENSE-MIT", "x"),
                ("license.txt", "x"),
                ("notes.txt", "x"),
                ("pictures/1.jpg", "x"),
                ("b.tsv", "url\tcaption\nhttp://a.example/2.jpg\ttwo\n"),
                ("urls.txt", "http://a.example/9.jpg\n"),
                ("x.tar.gz", "x"),
                ("dataset_infos.json", "{}"),
                ("y.tgz", "x"),
            ],
            &[("http://a.example/1.jpg", Some("one")), ("http://a.example/2.jpg", Some("two"))],
        )),
        layout(
            "text files alone",
            &[("a.txt", "http://a.example/1.jpg\n"), ("b.TXT", "http://a.example/2.jpg\n"), ("readme_first.txt", "x")],
            &[("http://a.example/1.jpg", None), ("http://a.example/2.jpg", None)],
        ),
        layout(
            "a list beside pictures",
            &[("1.jpg", "1"), ("1.txt", "one"), ("urls.txt", "\nhttp://a.example/1.jpg\n"), ("labels.txt", "cat\n")],
            &[("http://a.example/1.jpg", None)],
        ),
        and(
            layout(
                "Parquet and other files",
                &[("README.txt", "See the paper.\n"), ("notes.txt", "x\n"), ("SHA256SUMS", "x"), ("CITATION.cff", "x")],
                &[("http://a.example/1.jpg", None), ("http://a.example/2.jpg", None)],
            ),
            vec![("part-0.parquet", urls(2))],
        ),
        and(
            layout(
                "archives",
                &[("00000_stats.json", "{}"), ("y.zip", "x"), ("one.jpg", "x"), ("COPYING", "x"), ("b/c.txt", "x")],
                &[("1", Some("one"))],
            ),
            vec![("x.tar", tar(&[("1.jpg", b"1"), ("1.txt", b"one")]))],
        ),
        and(
            layout("what img2dataset writes", &[("00000_stats.json", "{}")], &[("http://a.example/1.jpg", None)]),
            vec![("00000.tar", tar(&[("1.jpg", b"1")])), ("00000.parquet", urls(1))],
        ),
        and(
            layout(
                "a dataset of Hugging Face",
                &[("README.md", "---\n"), (".gitattributes", "x"), ("data/notes.txt", "x")],
                &[("1", Some("one")), ("2", Some("two"))],
            ),
            vec![
                ("data/test-00000-of-00001.parquet", one_image(b"1", "one")),
                ("data/train-00000-of-00001.parquet", one_image(b"2", "two")),
            ],
        ),
        layout(
            "an imagefolder",
            &[
                ("README.md", "---\n"),
                (
                    "train/metadata.jsonl",
                    "{\"file_name\": \"1.jpg\", \"text\": \"one\"}\n{\"file_name\": \"sub/2.jpg\", \"text\": \"two\"}\n",
                ),
                ("train/1.jpg", "1"),
                ("train/sub/2.jpg", "2"),
                ("train/3.jpg", "3"),
                ("train/1.txt", "no"),
                ("train/metadata.csv", "file_name,text\n1.jpg,again\n"),
                ("val/metadata.csv", "file_name,caption\n4.jpg,four\n"),
                ("val/4.jpg", "4"),
                ("more/5.jpg", "5"),
                ("more/5.txt", "five"),
                ("more/metadata.parquet", "damaged"),
            ],
            &[("4", Some("four")), ("5", Some("five"))],
        ),
        layout(
            "an imagefolder with its metadata above",
            &[
                ("metadata.csv", "file_name,label,text\ntrain/1.jpg,3,one\n./train/2.jpg,4,two\ntrain/gone.jpg,5,\n"),
                ("train/1.jpg", "1"),
                ("train/2.jpg", "2"),
            ],
            &[("1", Some("one")), ("2", Some("two")), ("-", None)],
        ),
    ]
}

fn one_image(bytes: &[u8], caption: &str) -> Vec<u8> {
    let captions: ArrayRef = Arc::new(StringArray::from(vec![caption]));
    parquet_of(vec![("image", images(&[(Some(bytes), None)])), ("caption", captions)])
}

/// Images or URLs with their captions, the values of extra columns, and how much is left out.
type Seen = (Vec<(String, Option<String>)>, String, u64);

impl Layout {
    fn without(&self, left_out: &str) -> TempDir {
        let files = self.files.iter().filter(|(name, _)| *name != left_out);
        tree(&files.map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>())
    }

    fn seen(&self, folder: &TempDir) -> Result<Seen> {
        let config = SourceConfig { caption: self.caption.map(str::to_owned), ..SourceConfig::new(".", "url") };
        let source = Source::open(&config, folder.path())?;
        let mut rows = Vec::new();
        let mut extras = String::new();
        for part in source.parts(1000) {
            let part = part?;
            let urls = part.rows.column(column::URL).as_string::<i32>();
            let captions = part.rows.column(column::CAPTION).as_string::<i32>();
            let pictures = pictures(&part.rows).into_iter().enumerate().map(|(row, picture)| {
                if picture == "-" && urls.is_valid(row) { urls.value(row).to_owned() } else { picture }
            });
            rows.extend(pictures.zip(captions.iter().map(|caption| caption.map(str::to_owned))));
            for position in column::FIRST_EXTRA..part.rows.num_columns() {
                extras += &format!("{:?}", part.rows.column(position));
            }
        }
        Ok((rows, extras, source.left_out.total()))
    }
}

#[test]
fn every_file_of_a_source_folder_is_read_or_told() {
    for layout in layouts() {
        let all = layout.seen(&layout.without("")).unwrap_or_else(|error| panic!("{}: {error}", layout.name));
        let expected: BTreeSet<_> = layout.rows.iter().map(|(row, caption)| (*row, *caption)).collect();
        let found: BTreeSet<_> = all.0.iter().map(|(row, caption)| (row.as_str(), caption.as_deref())).collect();
        assert!(found.is_superset(&expected), "{}: {found:?}", layout.name);
        for (file, _) in &layout.files {
            // Without a file that is read, the rows differ; without a file that is reported, the
            // report is shorter.
            let is_noticed = match layout.seen(&layout.without(file)) {
                Err(_) => true,
                Ok(less) => less != all,
            };
            assert!(is_noticed, "{}: {file} is passed over in silence", layout.name);
        }
    }
}

#[test]
fn a_run_folder_inside_a_source_changes_nothing() {
    for layout in layouts() {
        let folder = layout.without("");
        let before = layout.seen(&folder).unwrap();
        let root = folder.path().join("out");
        drop(RunFolder::open(&root).unwrap());
        for name in ["shards/files/00000/1.jpg", "pool/part-00000.parquet", "a.csv", "shards/webdataset/000000.tar"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        let after = layout.seen(&folder).unwrap();
        assert_eq!((&before.0, &before.1, before.2 + 1), (&after.0, &after.1, after.2), "{}", layout.name);
    }
    let folder = tree(&[]);
    drop(RunFolder::open(&folder.path().join("run")).unwrap());
    let message = error(&SourceConfig::new("run", "url"), &folder);
    assert!(message.contains("it is a run folder of lynxdata; name what is to be read in it"), "{message}");
}

#[test]
fn what_is_not_read_is_told_with_the_reason() {
    let message = error(&SourceConfig::new(".", "url"), &tree(&[("x.TAR.GZ", b"x"), ("README", b"x")]));
    assert!(message.contains("x.TAR.GZ") && message.contains("are not read; decompress it first"), "{message}");
    let message = error(&SourceConfig::new(".", "url"), &tree(&[("b/.hidden", b"x"), ("README", b"x")]));
    for part in [
        "holds no source file",
        "documents: 1, such as \"README\"",
        "hidden files and folders, and those of file managers: 1, such as \"b/.hidden\"",
    ] {
        assert!(message.contains(part), "{message}\nlacks {part}");
    }
}

#[test]
fn a_list_without_urls_beside_pictures_says_how_to_read_these() {
    let folder = tree(&[("1.jpg", b"1"), ("labels.csv", b"name,label\n1.jpg,cat\n")]);
    let message = error(&SourceConfig::new(".", "url"), &folder);
    assert!(
        message.contains("labels.csv has no column \"url\"") && message.contains("--input-format folder"),
        "{message}"
    );
    let rows = read(&SourceConfig { format: SourceFormat::Folder, ..SourceConfig::new(".", "url") }, &folder);
    assert_eq!(pictures(&rows), ["1"]);
}

#[test]
fn rows_of_several_paths_say_which_they_are_from() {
    let folder = tree(&[
        ("a.csv", b"url,source_path\nhttp://a.example/1.jpg,mine\n"),
        ("b.csv", b"url\nhttp://a.example/2.jpg\n"),
        ("c/1.jpg", b"1"),
    ]);
    let path = OneOrMany::Many(["a.csv", "./b.csv", "c"].map(PathBuf::from).to_vec());
    let rows = read(&SourceConfig { path, ..SourceConfig::new("", "url") }, &folder);
    assert_eq!(texts(&rows, "source_path"), ["a.csv", "./b.csv", "c"].map(Some));
    assert_eq!(texts(&rows, "source_source_path"), [Some("mine"), None, None]);
    let rows = read(&SourceConfig::new("a.csv", "url"), &folder);
    assert_eq!(texts(&rows, "source_path"), [Some("mine")]);
}

#[test]
fn metadata_names_pictures_below_its_folder_alone() {
    let folder = tree(&[
        ("secret.jpg", b"secret"),
        (
            "pool/metadata.jsonl",
            br#"{"file_name": "../secret.jpg", "url": "http://a.example/1.jpg", "text": "a"}
{"file_name": "/etc/hostname"}
{"file_name": "file://x.jpg"}
{"file_name": "sub\\1.jpg", "score": 0.5, "url": "http://a.example/2.jpg", "text": "b", "caption": "c"}
{"file_name": null, "url": "http://a.example/3.jpg"}
not JSON
{"file_name": "sub"}
"#,
        ),
        ("pool/sub/1.jpg", b"one"),
    ]);
    let rows = read(&SourceConfig::new("pool", "url"), &folder);
    assert_eq!(pictures(&rows), ["-", "-", "-", "one", "-", "-", "-"]);
    let problems = texts(&rows, "problem");
    for (row, expected) in
        [(0, "not a path below"), (1, "not a path below"), (2, "not a path below"), (6, "not a regular")]
    {
        assert!(problems[row].unwrap().contains(expected), "{problems:?}");
    }
    assert!(problems[3].is_none() && problems[4].is_none() && problems[5].is_some(), "{problems:?}");
    assert_eq!(texts(&rows, "caption"), [None, None, None, Some("c"), None, None, None]);
    let urls = [None, None, None, Some("http://a.example/2.jpg"), Some("http://a.example/3.jpg"), None, None];
    assert_eq!(texts(&rows, "url"), urls);
    assert_eq!(pictures::extra_texts(&rows, "file")[3], Some("sub/1.jpg"));
    assert_eq!(pictures::extra_texts(&rows, "file_name")[3], Some("sub\\1.jpg"));
}

#[test]
fn a_column_of_a_metadata_file_may_be_chosen() {
    let folder = tree(&[
        ("metadata.csv", b"input_file_name,output_file_name,text\n1.jpg,2.jpg,brighter\n"),
        ("1.jpg", b"1"),
        ("2.jpg", b"2"),
    ]);
    let read_as = |image: Option<&str>| {
        let config = SourceConfig { image: image.map(str::to_owned), ..SourceConfig::new(".", "url") };
        let source = Source::open(&config, folder.path()).unwrap();
        assert_eq!(source.left_out.count(Kind::OtherColumn), 1);
        pictures(&read(&config, &folder))
    };
    assert_eq!([read_as(None), read_as(Some("output")), read_as(Some("output_file_name"))], [["1"], ["2"], ["2"]]);
    let config = SourceConfig { image: Some("outptu".to_owned()), ..SourceConfig::new(".", "url") };
    assert!(error(&config, &folder).contains("has no column \"outptu\" for `image`"));
}

#[test]
fn a_list_of_files_is_read_where_it_is_named() {
    let folder = tree(&[
        ("in/train.csv", b"file_name,caption\n1.jpg,one\n"),
        ("in/train.tsv", b"file_name\tcaption\n1.jpg\tone\n"),
        ("in/train.jsonl", br#"{"image_file_name": "1.jpg", "caption": "one"}"#),
        ("in/names.csv", b"picture,caption\n1.jpg,one\n"),
        ("in/urls.csv", b"file_name,url,caption\n1.jpg,http://a.example/1.jpg,one\n"),
        ("in/1.jpg", b"1"),
    ]);
    let config = |path: &str| SourceConfig::new(format!("in/{path}"), "url");
    for path in ["train.csv", "train.tsv", "train.jsonl"] {
        let rows = read(&config(path), &folder);
        assert_eq!((pictures(&rows), texts(&rows, "caption")), (vec!["1".to_owned()], vec![Some("one")]), "{path}");
        assert_eq!(pictures::extra_texts(&rows, "file"), [Some("1.jpg")]);
    }
    let columns = |caption: &str| -> Vec<(&str, ArrayRef)> {
        vec![
            ("file_name", Arc::new(StringArray::from(vec!["1.jpg"]))),
            ("text", Arc::new(StringArray::from(vec![caption]))),
        ]
    };
    write_parquet(&folder.path().join("in/train.parquet"), columns("named"));
    assert_eq!(texts(&read(&config("train.parquet"), &folder), "caption"), [Some("named")]);
    let with_cells = [columns("inside"), vec![("image", images(&[(Some(b"cell"), None)]))]].concat();
    write_parquet(&folder.path().join("in/cells.parquet"), with_cells);
    assert_eq!(pictures(&read(&config("cells.parquet"), &folder)), ["cell"], "pictures inside go first");
    let named = SourceConfig { image: Some("picture".to_owned()), ..config("names.csv") };
    assert_eq!(pictures(&read(&named, &folder)), ["1"]);
    assert!(error(&config("names.csv"), &folder).contains("has no column \"url\""));
    assert_eq!(pictures(&read(&config("urls.csv"), &folder)), ["-"], "URLs are fetched");
}
