use std::collections::BTreeSet;
use std::io::Write;

use ::parquet::arrow::ArrowWriter;
use arrow::array::{
    Array, AsArray, DictionaryArray, Float64Array, Int32Array, LargeStringArray, ListArray, NullArray, StringArray,
    StringViewArray,
};
use arrow::datatypes::{Field, Float64Type, Int32Type, Int64Type};
use tempfile::TempDir;

use super::*;

mod dialects;
mod embedded;
mod folders;
mod objects;
mod pictures;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn captioned(path: &str, url: &str, caption: &str) -> SourceConfig {
    SourceConfig { caption: Some(caption.to_owned()), ..SourceConfig::new(path, url) }
}

fn read_all(source: &Source, rows_per_part: usize) -> Vec<SourcePart> {
    source.parts(rows_per_part).collect::<Result<_>>().unwrap()
}

/// Returns all rows as one table. The source must have a single part.
fn read(config: &SourceConfig, folder: &TempDir) -> RecordBatch {
    let mut parts = read_all(&Source::open(config, folder.path()).unwrap(), 10_000);
    assert_eq!(parts.len(), 1);
    parts.remove(0).rows
}

fn texts<'a>(rows: &'a RecordBatch, column: &str) -> Vec<Option<&'a str>> {
    rows.column_by_name(column).unwrap_or_else(|| panic!("no column {column}")).as_string::<i32>().iter().collect()
}

fn error(config: &SourceConfig, folder: &TempDir) -> String {
    match Source::open(config, folder.path()) {
        Err(error) => error.to_string(),
        Ok(source) => source.parts(10).find_map(Result::err).unwrap().to_string(),
    }
}

#[test]
fn csv_with_quotes_line_ends_and_compression() {
    let text = b"\xef\xbb\xbfid,url,alt\r\n7,http://a.example/1.jpg,\"a \"\"cat\"\",\nasleep\"\r\n\r\n8,http://a.example/2.jpg,\r\n9,,dog\r\n";
    let zst = zstd::encode_all(&text[..], 1).unwrap();
    let folder = folder(&[("a.csv", text), ("a.csv.gz", &gz(text)), ("a.csv.zst", &zst)]);
    for name in ["a.csv", "a.csv.gz", "a.csv.zst"] {
        let rows = read(&captioned(name, "url", "alt"), &folder);
        assert_eq!(
            texts(&rows, "url"),
            [Some("http://a.example/1.jpg"), Some("http://a.example/2.jpg"), None],
            "{name}"
        );
        assert_eq!(texts(&rows, "caption"), [Some("a \"cat\",\nasleep"), None, Some("dog")]);
        assert_eq!(integers(&rows, "id"), [Some(7), Some(8), Some(9)]);
        assert_eq!(texts(&rows, "problem"), [None, None, None]);
    }
}

#[test]
fn csv_and_tsv_without_header_take_numbers_as_columns() {
    let folder = folder(&[
        ("a.csv", b"a cat,http://a.example/1.jpg,3\na dog,http://a.example/2.jpg,4\n"),
        ("a.tsv", b"\" a \"cat\"\thttp://a.example/1.jpg\t3\na dog\thttp://a.example/2.jpg\t4\n"),
    ]);
    for (name, caption) in [("a.csv", "a cat"), ("a.tsv", "\" a \"cat\"")] {
        let config = SourceConfig { header: false, ..captioned(name, "1", "0") };
        let rows = read(&config, &folder);
        assert_eq!(texts(&rows, "url"), [Some("http://a.example/1.jpg"), Some("http://a.example/2.jpg")]);
        assert_eq!(texts(&rows, "caption"), [Some(caption), Some("a dog")]);
        assert_eq!(integers(&rows, "column_2"), [Some(3), Some(4)]);
        let by_name = SourceConfig { header: false, ..captioned(name, "column_1", "column_0") };
        assert_eq!(read(&by_name, &folder), rows);
    }
}

#[test]
fn tsv_with_header() {
    let folder = folder(&[(
        "a.tsv",
        b"caption\turl\nsay \"hi\"\thttp://a.example/1.jpg\n\"quoted\ttab\"\thttp://a.example/2.jpg\n",
    )]);
    let rows = read(&captioned("a.tsv", "url", "caption"), &folder);
    assert_eq!(texts(&rows, "caption"), [Some("say \"hi\""), Some("quoted\ttab")]);
}

#[test]
fn txt_has_one_url_a_line() {
    let folder = folder(&[("a.txt", b"http://a.example/1.jpg\n\n  http://a.example/2.jpg \r\nhttp://a.example/3.jpg")]);
    let rows = read(&SourceConfig::new("a.txt", "url"), &folder);
    let expected = ["http://a.example/1.jpg", "http://a.example/2.jpg", "http://a.example/3.jpg"].map(Some);
    assert_eq!(texts(&rows, "url"), expected);
    assert!(error(&captioned("a.txt", "url", "alt"), &folder).contains("no column \"alt\" for `caption`"));
}

#[test]
fn jsonl_types_hold_every_value_of_all_files() {
    let first =
        br#"{"url": "http://a.example/1.jpg", "score": 1, "n": 1, "mixed": 1, "flag": true, "tags": ["a", {"b": 1}]}
{"url": "http://a.example/2.jpg", "alt": "a \u00e4", "n": -2, "flag": null}
"#;
    let second = br#"{"alt": 3, "url": "http://a.example/3.jpg", "score": 0.5, "mixed": "one", "late": "x"}
"#;
    let folder = folder(&[("a.jsonl", first), ("b.ndjson.gz", &gz(second))]);
    let rows = read(&captioned(".", "url", "alt"), &folder);
    assert_eq!(texts(&rows, "caption"), [None, Some("a ä"), Some("3")]);
    let floats = rows.column_by_name("score").unwrap().as_primitive::<Float64Type>();
    assert_eq!(floats.iter().collect::<Vec<_>>(), [Some(1.0), None, Some(0.5)]);
    let integers = rows.column_by_name("n").unwrap().as_primitive::<Int64Type>();
    assert_eq!(integers.iter().collect::<Vec<_>>(), [Some(1), Some(-2), None]);
    let booleans = rows.column_by_name("flag").unwrap().as_boolean();
    assert_eq!(booleans.iter().collect::<Vec<_>>(), [Some(true), None, None]);
    assert_eq!(texts(&rows, "mixed"), [Some("1"), None, Some("one")]);
    assert_eq!(texts(&rows, "tags"), [Some(r#"["a",{"b":1}]"#), None, None]);
    assert_eq!(texts(&rows, "late"), [None, None, Some("x")]);
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_keeps_types_but_has_one_kind_of_text() {
    let folder = folder(&[]);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    write_parquet(
        &folder.path().join("a.parquet"),
        vec![
            ("URL", Arc::new(LargeStringArray::from(vec![Some("http://a.example/1.jpg"), None]))),
            ("TEXT", Arc::new(StringViewArray::from(vec![Some("a cat"), Some(" ")]))),
            ("lang", Arc::new(["en", "de"].into_iter().collect::<DictionaryArray<Int32Type>>())),
            ("similarity", Arc::new(Float64Array::from(vec![0.25, 0.5]))),
            ("size", Arc::new(Int32Array::from(vec![1, 2]))),
            ("boxes", Arc::new(list)),
            ("width", Arc::new(Int32Array::from(vec![640, 480]))),
            ("source_width", Arc::new(Int32Array::from(vec![1, 1]))),
        ],
    );
    let config = captioned("a.parquet", "URL", "TEXT");
    let source = Source::open(&config, folder.path()).unwrap();
    let extras: Vec<String> = source
        .schema_of_extra_columns()
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    assert_eq!(
        extras,
        [
            "lang Utf8",
            "similarity Float64",
            "size Int32",
            "boxes List(Int32)",
            "source_width Int32",
            "source_source_width Int32"
        ]
    );
    let renamed = [("width", "source_width"), ("source_width", "source_source_width")];
    assert_eq!(source.renamed_columns(), renamed.map(|(name, pool_name)| (name.to_owned(), pool_name.to_owned())));
    let rows = read(&config, &folder);
    assert_eq!(texts(&rows, "url"), [Some("http://a.example/1.jpg"), None]);
    assert_eq!(texts(&rows, "caption"), [Some("a cat"), None]);
    assert_eq!(texts(&rows, "lang"), [Some("en"), Some("de")]);
    assert!(error(&SourceConfig::new("a.parquet", "size"), &folder).contains("is Int32, but `url` needs text"));
}

#[test]
fn malformed_rows_stay_rows() {
    let folder = folder(&[
        ("a.csv", b"url,alt\nhttp://a.example/1.jpg,cat\nhttp://a.example/2.jpg\nhttp://a.example/3.jpg,c\xff\nhttp://a.example/4.jpg,dog\n"),
        ("b.tsv", b"url\talt\nhttp://a.example/1.jpg\tcat\nx\ty\tz\nhttp://a.example/3.jpg\tc\xff\nhttp://a.example/4.jpg\tdog\n"),
        (
            "c.jsonl",
            b"{\"url\": \"http://a.example/1.jpg\", \"alt\": \"cat\"}\n{\"url\": \n[1]\n{\"url\": \"http://a.example/4.jpg\", \"alt\": \"dog\"}\n",
        ),
        ("d.txt", b"http://a.example/1.jpg\nhttp://\xff\nhttp://a.example/\xfe\nhttp://a.example/4.jpg\n"),
        ("e.csv", b"url,alt\nhttp://a.example/1.jpg,\"never closed\nhttp://a.example/2.jpg,cat\n"),
    ]);
    let problems = |name: &str| {
        let caption = (name != "d.txt").then(|| "alt".to_owned());
        let rows = read(&SourceConfig { caption, ..SourceConfig::new(name, "url") }, &folder);
        let problems =
            texts(&rows, "problem").into_iter().map(|problem| problem.map(str::to_owned)).collect::<Vec<_>>();
        for (url, problem) in texts(&rows, "url").iter().zip(&problems) {
            assert_ne!(url.is_some(), problem.is_some());
        }
        problems
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        problems("a.csv"),
        [
            None,
            some("the row in line 3 has 1 fields instead of 2"),
            some("field 1 of the row in line 4 is not UTF-8"),
            None
        ]
    );
    assert_eq!(
        problems("b.tsv"),
        [None, some("line 3 has 3 fields instead of 2"), some("line 4 is not UTF-8 from byte 25"), None]
    );
    assert_eq!(
        problems("c.jsonl"),
        [None, some("line 2, column 7: EOF while parsing a value"), some("line 3 is JSON but not an object"), None]
    );
    assert_eq!(problems("d.txt").iter().filter(|problem| problem.is_some()).count(), 2);
    // By RFC 4180, the quote includes the rest, and the row still has the right number of fields.
    let message = error(&captioned("e.csv", "url", "alt"), &folder);
    assert!(message.contains("e.csv") && message.contains("line 2 is not closed"), "{message}");
}

#[test]
fn quotes_at_the_end_of_a_csv_file_are_closed_ones() {
    let ends: [(&[u8], Option<&str>); 5] = [
        (b"\"a cat\"", Some("a cat")),
        (b"\"a cat\"\n", Some("a cat")),
        (b"\"a \"\"cat\"\"\"\r\n\r\n", Some("a \"cat\"")),
        (b"\"a cat\n\"", Some("a cat\n")),
        (b"a 5\" cat", Some("a 5\" cat")),
    ];
    for (end, caption) in ends {
        let folder = folder(&[("a.csv", &[b"url,alt\nhttp://a.example/1.jpg,", end].concat())]);
        assert_eq!(texts(&read(&captioned("a.csv", "url", "alt"), &folder), "caption"), [caption]);
    }
    let folder = folder(&[("a.csv", b"url")]);
    assert!(read_all(&Source::open(&SourceConfig::new("a.csv", "url"), folder.path()).unwrap(), 10).is_empty());
}

#[test]
fn a_line_of_tabs_is_a_row_and_a_blank_line_is_none() {
    let folder = folder(&[
        ("a.tsv", b"url\talt\nhttp://a.example/1.jpg\tcat\n\t\n \r\n\n"),
        ("b.txt", b"\t\nhttp://a.example/1.jpg\n"),
    ]);
    let rows = read(&captioned("a.tsv", "url", "alt"), &folder);
    assert_eq!(texts(&rows, "url"), [Some("http://a.example/1.jpg"), None]);
    assert_eq!(texts(&rows, "problem"), [None, None]);
    assert_eq!(read(&SourceConfig::new("b.txt", "url"), &folder).num_rows(), 1);
}

#[test]
fn columns_of_nulls_alone_have_the_type_of_the_other_files() {
    let folder = folder(&[]);
    let url = |number: u32| -> ArrayRef { Arc::new(StringArray::from(vec![format!("http://a.example/{number}.jpg")])) };
    let nulls = || -> ArrayRef { Arc::new(NullArray::new(1)) };
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    let captions: ArrayRef = Arc::new(StringArray::from(vec!["cat"]));
    write_parquet(
        &folder.path().join("a.parquet"),
        vec![("url", url(1)), ("alt", nulls()), ("n", nulls()), ("never", nulls())],
    );
    write_parquet(
        &folder.path().join("b.parquet"),
        vec![("url", url(2)), ("alt", captions), ("n", numbers), ("never", nulls())],
    );
    write_parquet(&folder.path().join("c.parquet"), vec![("url", nulls()), ("alt", nulls()), ("n", nulls())]);
    let rows = read(&captioned(".", "url", "alt"), &folder);
    assert_eq!(texts(&rows, "url"), [Some("http://a.example/1.jpg"), Some("http://a.example/2.jpg"), None]);
    assert_eq!(texts(&rows, "caption"), [None, Some("cat"), None]);
    assert_eq!(texts(&rows, "problem"), [None; 3]);
    assert_eq!(
        rows.column_by_name("n").unwrap().as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
        [None, Some(7), None]
    );
    assert_eq!(texts(&rows, "never"), [None; 3]);
}

#[test]
fn an_endless_row_neither_fills_the_memory_nor_hides() {
    let long = vec![b'x'; lines::MAX_ROW_BYTES + 100];
    let jsonl = [&long[..], b"\n{\"url\": \"http://a.example/2.jpg\"}\n"].concat();
    let csv = [b"url\nhttp://a.example/1.jpg\n\"", &long[..], &long[..], b"\n"].concat();
    let folder = folder(&[("a.jsonl", &jsonl), ("a.csv", &csv)]);
    let rows = read(&SourceConfig::new("a.jsonl", "url"), &folder);
    assert_eq!(texts(&rows, "problem"), [Some("line 1 is longer than 16777216 bytes"), None]);
    let message = error(&SourceConfig::new("a.csv", "url"), &folder);
    assert!(message.contains("begins in line 3") && message.contains("quote"), "{message}");
}

#[test]
fn errors_name_the_file_and_what_to_do() {
    let folder = folder(&[
        ("a.csv", b"link,Caption,id\nhttp://a.example/1.jpg,cat,1\n"),
        ("b.data", b"x"),
        ("c.txt.gz", b"this is no gzip"),
        ("d.parquet", b"this is no Parquet"),
        ("e.jsonl", b"{\"link\": \"http://a.example/1.jpg\"}\n"),
    ]);
    for (config, expected) in [
        (
            captioned("a.csv", "links", "Caption"),
            "no column \"links\" for `url`, did you mean \"link\"?; it has \"link\", \"Caption\", \"id\"",
        ),
        (captioned("a.csv", "link", "caption"), "did you mean \"Caption\"?"),
        (captioned("a.csv", "link", "zzz"), "no column \"zzz\" for `caption`; it has"),
        (captioned("a.csv", "link", "3"), "no column \"3\""),
        (SourceConfig::new("b.data", "url"), "cannot tell the format of"),
        (SourceConfig::new("c.txt.gz", "url"), "c.txt.gz"),
        (SourceConfig::new("d.parquet", "url"), "d.parquet as parquet"),
        (SourceConfig::new("e.jsonl", "url"), "e.jsonl has no column \"url\""),
        (SourceConfig::new("missing.csv", "url"), "missing.csv"),
        (
            SourceConfig { format: SourceFormat::Tsv, ..SourceConfig::new(".", "url") },
            "expected names that end in .tsv",
        ),
    ] {
        let message = error(&config, &folder);
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
}

#[test]
fn parts_cross_the_borders_of_files() {
    let rows = |range: std::ops::Range<usize>| {
        let lines: Vec<String> = range.map(|i| format!("http://a.example/{i}.jpg,{i}")).collect();
        format!("url,id\n{}\n", lines.join("\n"))
    };
    // 2,500 rows, so that a part is longer than a reader's batch too.
    let folder = folder(&[
        ("b.csv", rows(1100..1103).as_bytes()),
        ("a.csv", rows(0..1100).as_bytes()),
        ("c.csv", b"id,url,more\n"),
        ("d.csv", rows(1103..2500).as_bytes()),
        ("notes.md", b"not a source"),
    ]);
    let source = Source::open(&SourceConfig::new(".", "url"), folder.path()).unwrap();
    for rows_per_part in [1, 7, 1024, 1100, 1101, 2500, 10_000] {
        let parts = read_all(&source, rows_per_part);
        assert_eq!(parts.len(), 2500_usize.div_ceil(rows_per_part));
        let mut next = 0;
        for (index, part) in parts.iter().enumerate() {
            assert_eq!((part.index as usize, part.first_row as usize), (index, index * rows_per_part));
            for id in integers(&part.rows, "id") {
                assert_eq!(id, Some(next));
                next += 1;
            }
        }
        assert_eq!(next, 2500);
    }
}

#[test]
fn a_list_of_files_keeps_its_order_and_types_must_agree() {
    let folder = folder(&[("a.txt", b"http://a.example/1.jpg\n"), ("b.txt", b"http://a.example/2.jpg\n")]);
    let path = OneOrMany::Many(vec!["b.txt".into(), "a.txt".into(), "b.txt".into()]);
    let rows = read(&SourceConfig { path, ..SourceConfig::new("", "url") }, &folder);
    assert_eq!(
        texts(&rows, "url"),
        ["http://a.example/2.jpg", "http://a.example/1.jpg", "http://a.example/2.jpg"].map(Some)
    );
    std::fs::write(folder.path().join("c.csv"), "url,id\nhttp://a.example/3.jpg,3\n").unwrap();
    std::fs::write(folder.path().join("d.jsonl"), "{\"url\": \"http://a.example/4.jpg\", \"id\": 4}\n").unwrap();
    assert_eq!(integers(&read(&SourceConfig::new(".", "url"), &folder), "id"), [None, None, Some(3), Some(4)]);
    for (name, ids) in [("e.parquet", text_lists(&[Some(&[])], &list_forms()[0])), ("f.parquet", int32(5))] {
        let url: ArrayRef = Arc::new(StringArray::from(vec!["http://a.example/5.jpg"]));
        write_parquet(&folder.path().join(name), vec![("url", url), ("id", ids)]);
    }
    let message = error(&SourceConfig::new(".", "url"), &folder);
    assert!(message.contains("column \"id\" is Int64 in") && message.contains("but List(Utf8) in"), "{message}");
}

#[test]
fn the_fingerprint_is_of_the_content_alone() {
    let text = "url,id\nhttp://a.example/1.jpg,1\nhttp://a.example/2.jpg,2\nhttp://a.example/3.jpg,3\n";
    let whole = folder(&[("a.csv", text.as_bytes())]);
    let split = folder(&[
        ("a.csv", b"url,id\nhttp://a.example/1.jpg,1\n"),
        ("b.csv", b"id,url\n2,http://a.example/2.jpg\n3,http://a.example/3.jpg\n"),
    ]);
    let changed = folder(&[("a.csv", text.replace(",3", ",4").as_bytes())]);
    let renamed = folder(&[("a.csv", text.replace("id", "ID").as_bytes())]);
    let prints = |folder: &TempDir| {
        let source = Source::open(&SourceConfig::new(".", "url"), folder.path()).unwrap();
        read_all(&source, 2).iter().map(SourcePart::fingerprint).collect::<Vec<_>>()
    };
    assert_eq!(prints(&whole), prints(&split));
    assert_eq!(prints(&whole)[0], prints(&changed)[0]);
    assert_ne!(prints(&whole)[1], prints(&changed)[1]);
    assert_ne!(prints(&whole)[0], prints(&renamed)[0]);

    let print = |values: &ArrayRef| {
        let mut hasher = blake3::Hasher::new();
        fingerprint::of(&RecordBatch::try_from_iter_with_nullable([("a", values.clone(), true)]).unwrap(), &mut hasher);
        hasher.finalize()
    };
    let long: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("ab"), None, Some("c")]));
    let fresh: ArrayRef = Arc::new(StringArray::from(vec![Some("ab"), None, Some("c")]));
    assert_eq!(print(&long.slice(1, 3)), print(&fresh), "offsets into a buffer do not matter");
    let other: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("bc")]));
    assert_ne!(print(&fresh), print(&other));
}

#[test]
fn the_settings_read_one_path_or_many() {
    let one: SourceConfig = serde_json::from_str(r#"{"path": "a.csv"}"#).unwrap();
    assert_eq!(one, SourceConfig::new("a.csv", "url"));
    let many: SourceConfig = serde_json::from_str(
        r#"{"path": ["a.csv", "b"], "format": "csv", "url": "0", "caption": "1", "header": false}"#,
    )
    .unwrap();
    assert_eq!(many.path.as_slice().len(), 2);
    assert!(
        serde_json::from_str::<SourceConfig>(r#"{"path": "a", "url_col": "x"}"#).is_err(),
        "unknown keys are refused"
    );
    assert!(serde_json::from_str::<SourceConfig>("{}").is_err(), "the path must be given");
}

fn int32(value: i32) -> ArrayRef {
    Arc::new(Int32Array::from(vec![value]))
}

fn integers(rows: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    rows.column_by_name(column)
        .unwrap_or_else(|| panic!("no column {column}"))
        .as_primitive::<Int64Type>()
        .iter()
        .collect()
}

/// Lists of texts in the given form.
fn text_lists(lists: &[Option<&[Option<&str>]>], form: &DataType) -> ArrayRef {
    let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for list in lists {
        if let Some(items) = list {
            items.iter().for_each(|item| builder.values().append_option(*item));
        }
        builder.append(list.is_some());
    }
    arrow::compute::cast(&builder.finish(), form).unwrap()
}

fn list_forms() -> [DataType; 3] {
    let item = |data_type| Arc::new(Field::new_list_field(data_type, true));
    [
        DataType::List(item(DataType::Utf8)),
        DataType::LargeList(item(DataType::Utf8View)),
        DataType::LargeList(item(DataType::Binary)),
    ]
}

#[test]
fn every_url_of_a_list_is_a_row() {
    let (a, b, c) = (Some("http://a.example/1.jpg"), Some("http://a.example/2.jpg"), Some("http://a.example/3.jpg"));
    let urls: &[Option<&[_]>] = &[Some(&[a, b]), Some(&[]), None, Some(&[None, c, Some(" ")]), Some(&[a])];
    let jsonl = br#"{"urls": ["http://a.example/1.jpg", "http://a.example/2.jpg"], "alt": "one", "id": 1}
{"urls": [], "alt": "two", "id": 2}
{"urls": null, "alt": "three", "id": 3}
{"urls": [null, "http://a.example/3.jpg", " "], "alt": null, "id": 4}
{"urls": ["http://a.example/1.jpg"], "alt": "five", "id": 5}
"#;
    let folder = folder(&[("a.jsonl", jsonl)]);
    let mut names = vec!["a.jsonl".to_owned()];
    for (index, form) in list_forms().iter().enumerate() {
        names.push(format!("{index}.parquet"));
        let alt = StringArray::from(vec![Some("one"), Some("two"), Some("three"), None, Some("five")]);
        write_parquet(
            &folder.path().join(&names[index + 1]),
            vec![
                ("urls", text_lists(urls, form)),
                ("alt", Arc::new(alt)),
                ("id", Arc::new(arrow::array::Int64Array::from(vec![1, 2, 3, 4, 5]))),
            ],
        );
    }
    for name in &names {
        let rows = read(&captioned(name, "urls", "alt"), &folder);
        assert_eq!(texts(&rows, "url"), [a, b, None, None, None, c, None, a], "{name}");
        let captions =
            ["one", "one", "two", "three", "-", "-", "-", "five"].map(|text| Some(text).filter(|text| *text != "-"));
        assert_eq!(texts(&rows, "caption"), captions, "{name}");
        assert_eq!(integers(&rows, "id"), [1, 1, 2, 3, 4, 4, 4, 5].map(Some), "{name}");
        assert_eq!(integers(&rows, "source_row"), [0, 0, 1, 2, 3, 3, 3, 4].map(Some), "{name}");
        assert_eq!(integers(&rows, "image_index"), [0, 1, 0, 0, 0, 1, 2, 0].map(Some), "{name}");
        assert_eq!(rows.column_by_name("problem").unwrap().null_count(), 8, "{name}");
    }
    let prints: BTreeSet<String> = names
        .iter()
        .flat_map(|name| read_all(&Source::open(&captioned(name, "urls", "alt"), folder.path()).unwrap(), 100))
        .map(|part| part.fingerprint())
        .collect();
    assert_eq!(prints.len(), 1, "the form of a list does not matter");
}

#[test]
fn captions_in_a_list_go_with_the_urls() {
    let jsonl = br#"{"url": ["http://a.example/1.jpg", "http://a.example/2.jpg"], "alt": ["one", null]}
{"url": ["http://a.example/1.jpg", "http://a.example/2.jpg"], "alt": ["one"]}
{"url": null, "alt": ["one"]}
{"url": [], "alt": []}
{"url": ["http://a.example/3.jpg"], "alt": null}
"#;
    let scalars = b"{\"url\": \"http://a.example/4.jpg\", \"alt\": [\"one\"]}\n{\"url\": \"http://a.example/4.jpg\", \"alt\": [\"one\", \"two\"]}\n";
    let folder = folder(&[("a.jsonl", &[&jsonl[..], scalars].concat()), ("b.jsonl", scalars)]);
    let (one, two, url) = (Some("one"), Some("http://a.example/2.jpg"), Some("http://a.example/1.jpg"));
    write_parquet(
        &folder.path().join("c.parquet"),
        vec![
            (
                "url",
                text_lists(&[Some(&[url, two]), Some(&[url, two]), None, Some(&[]), Some(&[url])], &list_forms()[0]),
            ),
            ("alt", text_lists(&[Some(&[one, None]), Some(&[one]), Some(&[one]), Some(&[]), None], &list_forms()[2])),
        ],
    );
    for (name, line) in [("a.jsonl", true), ("c.parquet", false)] {
        let rows = read(&captioned(name, "url", "alt"), &folder);
        let problem = |number: usize, captions: usize, urls: usize| {
            let row = if line { format!("line {number}") } else { "the row".to_owned() };
            Some(format!("{row} has {captions} captions for {urls} URLs"))
        };
        let expected = [None, None, problem(2, 1, 2), problem(2, 1, 2), problem(3, 1, 0), None, None];
        let problems: Vec<_> = texts(&rows, "problem").into_iter().map(|text| text.map(str::to_owned)).collect();
        assert_eq!(problems[..7], expected, "{name}");
        assert_eq!(texts(&rows, "caption")[..7], [one, None, None, None, None, None, None], "{name}");
        assert_eq!(texts(&rows, "url")[2..5], [None, None, None], "{name}");
        assert_eq!(integers(&rows, "source_row")[..7], [0, 0, 1, 1, 2, 3, 4].map(Some), "{name}");
    }
    let rows = read(&captioned("a.jsonl", "url", "alt"), &folder);
    assert_eq!(texts(&rows, "caption")[7..], [one, None], "among lists, a single URL is a list of one");
    assert_eq!(texts(&rows, "problem")[8], Some("line 7 has 2 captions for 1 URLs"));
    let rows = read(&captioned("b.jsonl", "url", "alt"), &folder);
    assert_eq!(texts(&rows, "caption"), [one, one], "of several captions of one picture, the first");
    assert_eq!(texts(&rows, "alt"), [Some("[\"one\"]"), Some("[\"one\",\"two\"]")], "none is lost");
    assert!(rows.column_by_name("source_row").is_none());
}

#[test]
fn of_several_captions_of_one_picture_the_first_that_is_one_counts_in_every_format() {
    let folder = folder(&[]);
    write_parquet(
        &folder.path().join("a.parquet"),
        vec![
            ("url", Arc::new(StringArray::from(vec!["http://a.example/1.jpg"]))),
            ("alt", text_lists(&[Some(&[Some("one")])], &list_forms()[0])),
            ("sizes", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]))),
        ],
    );
    let (one, two) = (Some("one"), Some("two"));
    let lists: &[Option<&[_]>] = &[Some(&[one, two]), Some(&[None, Some(" "), two]), Some(&[]), None];
    let urls = || -> ArrayRef { Arc::new(StringArray::from(vec!["u"; 4])) };
    let jsonl = br#"{"url": "u", "alt": ["one", "two"]}
{"url": "u", "alt": [null, " ", "two"]}
{"url": "u", "alt": []}
{"url": "u", "alt": null}
"#;
    let mut names = vec!["b.jsonl".to_owned()];
    std::fs::write(folder.path().join("b.jsonl"), jsonl).unwrap();
    for (index, form) in list_forms().iter().enumerate() {
        names.push(format!("c{index}.parquet"));
        write_parquet(&folder.path().join(&names[index + 1]), vec![("url", urls()), ("alt", text_lists(lists, form))]);
    }
    for name in names {
        let rows = read(&captioned(&name, "url", "alt"), &folder);
        assert_eq!(texts(&rows, "caption"), [one, two, None, None], "{name}");
        assert_eq!(texts(&rows, "problem"), [None; 4], "{name}");
        assert_eq!(rows.column_by_name("alt").unwrap().null_count(), 1, "{name} carries all captions");
    }
    assert_eq!(texts(&read(&captioned("a.parquet", "url", "sizes"), &folder), "caption"), [Some("1")]);
    let nested = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
    let structs: ArrayRef = Arc::new(arrow::array::StructArray::from(vec![(
        Arc::new(Field::new("a", nested.data_type().clone(), true)),
        Arc::new(nested) as ArrayRef,
    )]));
    let url: ArrayRef = Arc::new(StringArray::from(vec!["u"]));
    write_parquet(&folder.path().join("d.parquet"), vec![("url", url), ("alt", structs)]);
    let message = error(&captioned("d.parquet", "url", "alt"), &folder);
    assert!(message.contains("but `caption` needs text"), "{message}");
    let message = error(&SourceConfig::new("a.parquet", "sizes"), &folder);
    assert!(message.contains("is List(Int32), but `url` needs text"), "{message}");
}

#[test]
fn lists_of_fixed_size_and_what_is_not_utf8() {
    let folder = folder(&[]);
    let item = Arc::new(Field::new_list_field(DataType::Binary, true));
    let items: Vec<Option<&[u8]>> =
        vec![Some(b"http://a.example/1.jpg"), Some(b"\xff"), None, Some(b"http://a.example/2.jpg")];
    let items = Arc::new(arrow::array::BinaryArray::from(items));
    let lists = arrow::array::FixedSizeListArray::new(item, 2, items, None);
    write_parquet(&folder.path().join("a.parquet"), vec![("url", Arc::new(lists))]);
    let rows = read(&SourceConfig::new("a.parquet", "url"), &folder);
    let (first, last) = (Some("http://a.example/1.jpg"), Some("http://a.example/2.jpg"));
    assert_eq!(texts(&rows, "url"), [first, None, None, last]);
    assert_eq!(texts(&rows, "problem"), [None, Some("a URL of the list is not UTF-8"), None, None]);
    assert_eq!(integers(&rows, "image_index"), [0, 1, 0, 1].map(Some));
}

#[test]
fn parts_cut_through_lists_and_count_rows_over_all_files() {
    // 3,000 images in one row are more than a batch.
    let long: Vec<String> = (0..3000).map(|index| format!("\"http://a.example/{index}.jpg\"")).collect();
    let jsonl = format!("{{\"url\": [{}], \"source_row\": 7}}\n{{\"url\": [\"x\", \"y\"]}}\n", long.join(","));
    let folder = folder(&[
        ("a.csv", b"url,image_index\nu,1\nv,2\n"),
        ("b.jsonl", jsonl.as_bytes()),
        ("c.txt", b"http://a.example/w\n"),
    ]);
    let source = Source::open(&SourceConfig::new(".", "url"), folder.path()).unwrap();
    let extras = source.schema_of_extra_columns();
    let names: Vec<&str> = extras.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["source_image_index", "source_source_row", "source_row", "image_index"]);
    let expected: Vec<(i64, i64)> =
        [(0, 0), (1, 0)].into_iter().chain((0..3000).map(|index| (2, index))).chain([(3, 0), (3, 1), (4, 0)]).collect();
    for rows_per_part in [1, 100, 1024, 1025, 10_000] {
        let parts = read_all(&source, rows_per_part);
        assert_eq!(parts.len(), expected.len().div_ceil(rows_per_part));
        let mut found = Vec::new();
        for part in &parts {
            assert_eq!(part.first_row as usize, found.len());
            let (rows, indices) = (integers(&part.rows, "source_row"), integers(&part.rows, "image_index"));
            found.extend(rows.into_iter().zip(indices).map(|(row, index)| (row.unwrap(), index.unwrap())));
        }
        assert_eq!(found, expected);
    }
}

/// Columns and fingerprints equal those of the first released reader, except for columns of numbers
/// in CSV, which were texts then, and for lists of captions. If they change, every complete run is
/// downloaded again.
#[test]
fn runs_from_before_lists_and_pictures_are_resumed() {
    type Case<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [&'a str]);
    let folder = folder(&[
        ("a.csv", b"id,url,alt,file,length\n7,http://a.example/1.jpg,a cat,x,1\n8,,dog,y,2\n9,http://a.example/3.jpg\n"),
        ("b.jsonl", b"{\"url\": \"http://a.example/1.jpg\", \"alt\": [\"a\", 1], \"n\": 1, \"image_index\": 4}\n{\"alt\": \"b\", \"source_row\": \"x\"}\n[]\n"),
        ("c.txt", b"http://a.example/1.jpg\nhttp://a.example/2.jpg\n"),
    ]);
    write_parquet(
        &folder.path().join("d.parquet"),
        vec![
            ("url", Arc::new(StringArray::from(vec![Some("http://a.example/1.jpg"), None]))),
            ("alt", Arc::new(StringViewArray::from(vec![Some("a cat"), Some(" ")]))),
            ("boxes", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
            ("offset", Arc::new(Int32Array::from(vec![640, 480]))),
        ],
    );
    let cases: [Case; 4] = [
        (
            "a.csv",
            Some("alt"),
            &["id", "file", "length"],
            &[
                "756aede1f7c906c39e623e11621e51708fe445a2670612324b6de8b033e00282",
                "e274ae7990cfed687a08ed1ef4dc08c8d84e9bb73bd6354ed9f2b08b98b54538",
            ],
        ),
        (
            "b.jsonl",
            Some("alt"),
            &["alt", "n", "image_index", "source_row"],
            &[
                "07ef3799590ad4fd46a0817cda93dd733541b4a232fe0064f6e52cbc996a0db1",
                "043b369d09727b7728bb940f53b8772c7402367687f0f7cd0c1834449fe13dd7",
            ],
        ),
        ("c.txt", None, &[], &["801684bd924b1ac2e9b5aea37f934569ccc1e0b482dca6a70b9762a4c86d1656"]),
        (
            "d.parquet",
            Some("alt"),
            &["boxes", "offset"],
            &["e715bbda1488173cb3a4017fa24b57852aacf965474040156bbdb0e699577edb"],
        ),
    ];
    for (name, caption, columns, fingerprints) in cases {
        let config = SourceConfig { caption: caption.map(str::to_owned), ..SourceConfig::new(name, "url") };
        let source = Source::open(&config, folder.path()).unwrap();
        let extras = source.schema_of_extra_columns();
        assert!(extras.fields().iter().map(|field| field.name()).eq(columns), "{name}");
        let found: Vec<String> = read_all(&source, 2).iter().map(SourcePart::fingerprint).collect();
        assert_eq!(found, fingerprints, "{name}");
    }
}
