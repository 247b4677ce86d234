//! Tests that the same rows are read in every encoding and dialect, and that bad cells change no
//! other row.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

type Row = (String, String);

const CAPTIONS: [&str; 7] = [
    "a cat",
    "ein \"großer\" Hund, 5\" hoch",
    "one; two | three",
    "日本語 😀",
    "tabs\tinside",
    "two\n\nlines",
    "\"quoted\"",
];

fn rows(captions: impl IntoIterator<Item = impl Into<String>>) -> Vec<Row> {
    let row = |(number, caption): (usize, _)| (format!("http://a.example/{number}.jpg"), Into::<String>::into(caption));
    captions.into_iter().enumerate().map(row).collect()
}

/// Returns the `url` and `caption` of the good rows of a list, and the problems of the others.
fn read_bytes(name: &str, bytes: &[u8]) -> (RecordBatch, Vec<Option<Row>>) {
    let folder = folder(&[(name, bytes)]);
    let source = Source::open(&captioned(name, "url", "caption"), folder.path())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let parts = read_all(&source, 100_000);
    assert_eq!(parts.len(), 1, "{name}");
    let batch = parts[0].rows.clone();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let rows = texts(&batch, "url").into_iter().zip(texts(&batch, "caption")).zip(texts(&batch, "problem"));
    let rows = rows.map(|((url, caption), problem)| problem.is_none().then(|| (text(url), text(caption)))).collect();
    (batch, rows)
}

fn good(rows: &[Row]) -> Vec<Option<Row>> {
    rows.iter().cloned().map(Some).collect()
}

/// Returns a list as Python's `csv.writer` writes it.
fn delimited(rows: &[Row], separator: char, end: &str) -> String {
    let cell = |text: &str| {
        if text.contains([separator, '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let mut list = format!("url{separator}caption{end}");
    for (url, caption) in rows {
        write!(list, "{}{separator}{}{end}", cell(url), cell(caption)).unwrap();
    }
    list
}

/// Returns a list as Spark writes it.
fn spark(rows: &[Row], separator: char) -> String {
    let mut list = format!("url{separator}caption\n");
    for (url, caption) in rows {
        writeln!(list, "{url}{separator}\"{}\"", caption.replace('\\', "\\\\").replace('"', "\\\"")).unwrap();
    }
    list
}

fn jsonl(rows: &[Row], end: &str) -> String {
    let line = |(url, caption): &Row| serde_json::json!({"url": url, "caption": caption}).to_string() + end;
    rows.iter().map(line).collect()
}

fn encoded(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let units = || "\u{feff}".encode_utf16().chain(text.encode_utf16());
    vec![
        ("utf-8", text.as_bytes().to_vec()),
        ("utf-8-sig", format!("\u{feff}{text}").into_bytes()),
        ("utf-16le", units().flat_map(u16::to_le_bytes).collect()),
        ("utf-16be", units().flat_map(u16::to_be_bytes).collect()),
    ]
}

#[test]
fn every_text_list_has_the_same_rows_in_whatever_encoding_it_is() {
    let rows = rows(CAPTIONS);
    let lists = |end: &str| {
        let urls: String = rows.iter().flat_map(|(url, _)| [url, end]).collect();
        let array = format!("[{}]", jsonl(&rows, &format!(",{end}")).trim_end_matches([',', '\r', '\n']));
        let pretty =
            format!(" [{end}  {}]{end}", jsonl(&rows, &format!(",{end}  ")).trim_end_matches([',', ' ', '\r', '\n']));
        [
            ("comma.csv", delimited(&rows, ',', end)),
            ("semicolon.csv", delimited(&rows, ';', end)),
            ("tab.csv", delimited(&rows, '\t', end)),
            ("bar.csv", delimited(&rows, '|', end)),
            ("told.csv", format!("sep=#{end}{}", delimited(&rows, '#', end))),
            ("tab.tsv", delimited(&rows, '\t', end)),
            ("lines.jsonl", jsonl(&rows, end)),
            (
                "long.jsonl",
                jsonl(&rows, end).replace("{\"", &format!("{{{end}  \"")).replace("\"}", &format!("\"{end}}}")),
            ),
            ("array.jsonl", array),
            ("array.json", pretty),
            ("urls.txt", urls),
        ]
    };
    for end in ["\n", "\r\n", "\r"] {
        for (name, list) in lists(end) {
            for (encoding, bytes) in encoded(&list) {
                let compressed = [
                    (name.to_owned(), bytes.clone()),
                    (format!("{name}.gz"), gz(&bytes)),
                    (format!("{name}.ZST"), zstd::encode_all(&bytes[..], 1).unwrap()),
                ];
                for (file, bytes) in compressed {
                    let place = format!("{file} in {encoding} with {end:?}");
                    let folder = folder(&[(&file, &bytes)]);
                    let is_txt = name == "urls.txt";
                    let caption = (!is_txt).then(|| "caption".to_owned());
                    let config = SourceConfig { caption, ..SourceConfig::new(&*file, "url") };
                    let batch = read(&config, &folder);
                    let urls: Vec<_> = rows.iter().map(|(url, _)| Some(url.as_str())).collect();
                    assert_eq!(texts(&batch, "url"), urls, "{place}");
                    assert_eq!(texts(&batch, "problem"), vec![None; rows.len()], "{place}");
                    if !is_txt {
                        assert_eq!(texts(&batch, "caption"), CAPTIONS.map(Some), "{place}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn lists_of_python_and_excel_are_read_as_they_were_written(
        captions in proptest::collection::vec("[a-z\",;|\t\\\\\né][a-z\",;|\t\\\\\n é]{0,6}[a-z\",;|é]", 1..8),
        separator in prop::sample::select(vec![',', ';', '\t', '|']),
        end in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        // A quote behind a backslash may be one that the backslash escapes.
        let captions: Vec<String> = captions.iter().map(|caption| caption.replace("\\\"", "\\")).collect();
        let rows = rows(captions);
        let list = delimited(&rows, separator, end);
        prop_assert_eq!(read_bytes("a.csv", list.as_bytes()).1, good(&rows));
        let list = delimited(&rows, '\t', end);
        prop_assert_eq!(read_bytes("a.tsv", list.as_bytes()).1, good(&rows));
    }

    #[test]
    fn lists_of_spark_are_read_as_they_were_written(
        captions in proptest::collection::vec("[a-z\",;|\té][a-z\",;|\t\n é]{0,6}[a-z\",;|é]", 1..8),
        separator in prop::sample::select(vec![',', ';']),
    ) {
        let rows = rows(captions);
        prop_assert_eq!(read_bytes("a.csv", spark(&rows, separator).as_bytes()).1, good(&rows));
        prop_assert_eq!(read_bytes("a.tsv", spark(&rows, '\t').as_bytes()).1, good(&rows));
    }

    #[test]
    fn no_text_list_makes_a_reader_fail_by_a_panic_or_lose_a_line_of_json(
        bytes in proptest::collection::vec(prop::sample::select(b"{}[]\",:\\\r\n\tu10eN\xff\xfe\0".to_vec()), 0..60),
        format in prop::sample::select(vec![SourceFormat::Csv, SourceFormat::Tsv, SourceFormat::Jsonl, SourceFormat::Txt]),
    ) {
        let folder = folder(&[("a", &bytes)]);
        let config = SourceConfig { format, header: false, ..SourceConfig::new("a", if format == SourceFormat::Jsonl { "url" } else { "0" }) };
        if let Ok(source) = Source::open(&config, folder.path()) {
            let _rows_or_an_error = source.parts(7).collect::<Result<Vec<_>>>();
        }
    }
}

/// Number of good rows before the bad one.
const BEFORE: usize = 3;

/// The name of a list, how a row is written with its score, bad rows, and what stands around all.
type Format<'a> = (&'a str, &'a dyn Fn(&Row, &str) -> Vec<u8>, &'a [&'a [u8]], &'a [u8], &'a [u8]);

#[test]
fn one_bad_cell_changes_no_other_row() {
    let rows = rows(["one", "two, \"three\"", "four", "five \"six\"", "\"seven\"", "eight"]);
    let scores: Vec<String> = (0..rows.len()).map(|number| format!("0.{number}")).collect();
    let csv = |(url, caption): &Row, score: &str| {
        format!("{url},\"{}\",{score}\n", caption.replace('"', "\"\"")).into_bytes()
    };
    let tsv = |(url, caption): &Row, score: &str| format!("{url}\t{caption}\t{score}\n").into_bytes();
    let json = |(url, caption): &Row, score: &str| {
        format!("{{\"url\": \"{url}\", \"caption\": {}, \"score\": {score}}}\n", serde_json::json!(caption))
            .into_bytes()
    };
    let element = |row: &Row, score: &str| [&json(row, score)[..], b","].concat();
    let in_csv: &[&[u8]] = &[
        b"http://b.example/x.jpg\n",
        b"http://b.example/x.jpg,a,b,c,d\n",
        b"http://b.example/x.jpg,\xff,0.5\n",
        b"http://b.example/x.jpg,\"not closed,0.5\n",
        b"http://b.example/x.jpg,\"a \\\"b\\\" c\",0.5\n",
        b"http://b.example/x.jpg,\"a \\\"b\\\" c,0.5\n",
        b"http://b.example/x.jpg,\"a\" and b,0.5\n",
        b"http://b.example/x.jpg,\"two\nlines\",0.5\n",
        b"http://b.example/x.jpg,\"two\nlines\",\n",
        b"http://b.example/x.jpg,one \"inch,0.5\n",
        b"http://b.example/x.jpg,zero \0,0.5\n",
        b"http://b.example/x.jpg,return\rinside,0.5\n",
        b"http://b.example/x.jpg,a,no number\n",
        b"http://b.example/x.jpg,a,\n",
        b"http://b.example/x.jpg,a,NaN\n",
        b"http://b.example/x.jpg,a,12345678901234567890123\n",
        b"http://b.example/x.jpg,a,007\n",
        b",,\n",
        b"\",\",\n",
        b"  \n",
        b"sep=;\n",
        b"url,caption,score\n",
        b"//b.example/x.jpg,a,0.5\n",
    ];
    let in_tsv: Vec<Vec<u8>> = in_csv
        .iter()
        .map(|bad| bad.iter().map(|byte| if *byte == b',' { b'\t' } else { *byte }).collect())
        .chain([&b"http://b.example/x.jpg\t\"\t0.5\n"[..], b"\"http://b.example/x.jpg\ta\t0.5\n"].map(<[u8]>::to_vec))
        .collect();
    let in_json: &[&[u8]] = &[
        b"{\"url\": \"http://b.example/x.jpg\", \"caption\": tru}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"caption\": \"\xff\"}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"caption\": NaN, \"score\": NaN}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"score\": -Infinity}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"score\": 1e999}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"score\": 123456789012345678901234567890}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"score\": \"no number\"}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"score\": true}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"score\": [1]}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"caption\": \"\\ud83d\"}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"caption\": \"not closed}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"caption\": {\"a\": 1}}\n",
        b"{\"url\": \"http://b.example/x.jpg\", \"caption\": [\"a\", \"b\"]}\n",
        b"{\"url\": [], \"caption\": 1, \"caption\": 2}\n",
        b"{\"url\": null}\n",
        b"{\"url\": {}}\n",
        b"{}\n",
        b"[1]\n",
        b"null\n",
        b"\"text\"\n",
    ];
    let bad_lines: Vec<&[u8]> = in_tsv.iter().map(Vec::as_slice).collect();
    let formats: [Format; 4] = [
        ("a.csv", &csv, in_csv, b"url,caption,score\n", b""),
        ("a.tsv", &tsv, &bad_lines, b"url\tcaption\tscore\n", b""),
        ("a.jsonl", &json, in_json, b"", b""),
        ("a.json", &element, in_json, b"[{}\n,", b"{}\n]\n"),
    ];
    for (name, write, bad_rows, start, end) in formats {
        let lines: Vec<Vec<u8>> = rows.iter().zip(&scores).map(|(row, score)| write(row, score)).collect();
        let list = |bad: &[u8]| {
            let comma: &[u8] = if name == "a.json" && !bad.is_empty() { b"," } else { b"" };
            [start, &lines[..BEFORE].concat(), bad, comma, &lines[BEFORE..].concat(), end].concat()
        };
        let kept = |batch: &RecordBatch| -> Vec<String> {
            let columns = ["url", "caption", "problem", "score"]
                .map(|name| arrow::compute::cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap());
            let cell =
                |column: &ArrayRef, row: usize| column.as_string::<i32>().iter().nth(row).flatten().map(str::to_owned);
            (0..batch.num_rows())
                .map(|row| format!("{:?}", columns.each_ref().map(|column| cell(column, row))))
                .collect()
        };
        let without = kept(&read_bytes(name, &list(b"")).0);
        let before = BEFORE + usize::from(name == "a.json");
        for bad in bad_rows {
            let place = format!("{} in {name}", String::from_utf8_lossy(bad));
            let with = kept(&read_bytes(name, &list(bad)).0);
            assert!(with.len() >= without.len(), "{place}");
            assert_eq!(with[..before], without[..before], "{place}");
            let after = without.len() - before;
            assert_eq!(with[with.len() - after..], without[before..], "{place}");
        }
    }
}

#[test]
fn separators_are_told_or_found() {
    for (list, config) in [
        ("link;text\nu;a\n", captioned("a.csv", "link", "text")),
        ("\"link\"|\"text\"\nu|a\n", captioned("a.csv", "link", "text")),
        ("text;link\na;u\n", captioned("a.csv", "1", "0")),
        ("sep=:\nlink:text\nu:a\n", captioned("a.csv", "link", "text")),
        ("\"sep=;\"\r\nlink;text\r\nu;a\r\n", captioned("a.csv", "link", "text")),
        ("SEP=,\nlink,text\nu,a\n", captioned("a.csv", "link", "text")),
        ("link,te;xt,text\nu,x,a\n", captioned("a.csv", "link", "text")),
    ] {
        let folder = folder(&[("a.csv", list.as_bytes())]);
        let rows = read(&config, &folder);
        assert_eq!((texts(&rows, "url"), texts(&rows, "caption")), (vec![Some("u")], vec![Some("a")]), "{list}");
    }
    let lists = folder(&[("a.csv", b"link;text\nu;a\n")]);
    let message = error(&captioned("a.csv", "links", "text"), &lists);
    assert!(message.contains("did you mean \"link\"?; it has \"link\", \"text\""), "{message}");
}

#[test]
fn columns_of_numbers_are_numbers_and_nothing_else_is() {
    let list = "url,caption,score,n,id,phone,sha256,mixed,empty,big,word\n\
        u,1,0.5,1,007,+49301,11,1,,9223372036854775808,NA\n\
        u,2,,-2,42,30,12,NaN,,1,NaN\n\
        u,3,N/A,3,1,31,13,x,,2,yes\n";
    for (name, list) in [("a.csv", list.to_owned()), ("a.tsv", list.replace(',', "\t"))] {
        let folder = folder(&[(name, list.as_bytes())]);
        let rows = read(&captioned(name, "url", "caption"), &folder);
        let floats = rows.column_by_name("score").unwrap().as_primitive::<Float64Type>();
        assert_eq!(floats.iter().collect::<Vec<_>>(), [Some(0.5), None, None], "{name}");
        assert_eq!(integers(&rows, "n"), [1, -2, 3].map(Some), "{name}");
        assert_eq!(texts(&rows, "caption"), ["1", "2", "3"].map(Some), "{name}");
        for (column, expected) in [
            ("id", ["007", "42", "1"]),
            ("phone", ["+49301", "30", "31"]),
            ("source_sha256", ["11", "12", "13"]),
            ("mixed", ["1", "NaN", "x"]),
            ("big", ["9223372036854775808", "1", "2"]),
            ("word", ["NA", "NaN", "yes"]),
        ] {
            assert_eq!(texts(&rows, column), expected.map(Some), "{column} of {name}");
        }
        assert_eq!(texts(&rows, "empty"), [None; 3], "{name}");
    }
}

#[test]
fn files_that_differ_a_little_have_the_wider_type() {
    let folder = folder(&[
        ("a.csv", b"url,score,n,late,flag\nu,1,1,,true\n"),
        ("b.jsonl", b"{\"url\": \"u\", \"score\": 0.5, \"n\": 9007199254740993, \"late\": null, \"flag\": true}\n"),
    ]);
    let url = || -> ArrayRef { Arc::new(StringArray::from(vec!["u"])) };
    let wide: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![(1_i64 << 53) + 1]));
    let float: ArrayRef = Arc::new(Float64Array::from(vec![0.25]));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]));
    let write = |name: &str, columns| write_parquet(&folder.path().join(name), columns);
    write("c.parquet", vec![("url", url()), ("score", int32(2)), ("n", int32(3)), ("late", list)]);
    write("d.parquet", vec![("url", url()), ("score", float.clone()), ("id", wide)]);
    write("e.parquet", vec![("url", url()), ("id", float.clone()), ("late_score", float)]);
    let null: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    write("f.parquet", vec![("url", url()), ("late_score", null)]);
    let rows = read(&SourceConfig::new(".", "url"), &folder);
    let floats = rows.column_by_name("score").unwrap().as_primitive::<Float64Type>();
    assert_eq!(floats.iter().collect::<Vec<_>>(), [Some(1.0), Some(0.5), Some(2.0), Some(0.25), None, None]);
    assert_eq!(integers(&rows, "n"), [Some(1), Some((1 << 53) + 1), Some(3), None, None, None]);
    assert_eq!(texts(&rows, "flag"), [Some("true"), Some("true"), None, None, None, None]);
    assert_eq!(rows.column_by_name("late_score").unwrap().data_type(), &DataType::Float64);
    let ids = [None, None, None, Some("9007199254740993"), Some("0.25"), None];
    assert_eq!(texts(&rows, "id"), ids, "no digit is lost");
    let lists = rows.column_by_name("late").unwrap();
    assert_eq!((lists.data_type().to_string().as_str(), lists.null_count()), ("List(Int32)", 5));
}

#[test]
fn columns_of_one_name_are_all_there_in_every_format() {
    let folder = folder(&[("a.csv", b"url,v,v,url\nu,1,2,w\n"), ("b.tsv", b"url\tv\tv\turl\nu\t1\t2\tw\n")]);
    let fields: Vec<Field> = ["url", "v", "v", "url"]
        .into_iter()
        .zip([DataType::Utf8, DataType::Int64, DataType::Int64, DataType::Utf8])
        .map(|(name, data_type)| Field::new(name, data_type, true))
        .collect();
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let number = |number: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![number])) };
    let batch =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![text("u"), number(1), number(2), text("w")]).unwrap();
    let file = std::fs::File::create(folder.path().join("c.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for name in ["a.csv", "b.tsv", "c.parquet"] {
        let rows = read(&SourceConfig::new(name, "url"), &folder);
        assert_eq!((texts(&rows, "url"), texts(&rows, "url_")), (vec![Some("u")], vec![Some("w")]), "{name}");
        assert_eq!((integers(&rows, "v"), integers(&rows, "v_")), (vec![Some(1)], vec![Some(2)]), "{name}");
    }
}

#[test]
fn maps_have_texts_as_keys() {
    use arrow::array::{Int32Builder, MapBuilder, StringBuilder};
    let folder = folder(&[]);
    let mut maps = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    maps.keys().append_value(7);
    maps.values().append_value("seven");
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    let url: ArrayRef = Arc::new(StringArray::from(vec!["u", "v"]));
    write_parquet(&folder.path().join("a.parquet"), vec![("url", url), ("map", Arc::new(maps.finish()))]);
    let rows = read(&SourceConfig::new("a.parquet", "url"), &folder);
    let maps = rows.column_by_name("map").unwrap().as_map();
    assert_eq!(maps.keys().as_string::<i32>().value(0), "7");
    assert_eq!((maps.value_length(0), maps.is_null(1)), (1, true));
}

#[test]
fn what_is_no_list_is_named_whatever_its_format_is() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    for name in ["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.parquet", "a.tar", "a.csv.gz", "a.csv.bz2", "a"] {
        for (bytes, expected) in [(&pointer[..], "git lfs pull"), (b"BZh91AY&SY\x01", "bzip2"), (b"PK\x03\x04", "zip")]
        {
            let folder = folder(&[(name, bytes)]);
            let failed = Source::open(&SourceConfig::new(name, "url"), folder.path()).unwrap_err();
            let message = format!("{failed}: {}", std::error::Error::source(&failed).unwrap());
            assert!(message.contains(expected) && message.contains(name), "{message}");
        }
    }
}

#[test]
fn arrays_that_are_cut_off_say_so_and_what_follows_one_is_read() {
    for (array, problems) in [
        (r#"[{"url": "u"}, {"url": "v"}"#, [None, None, Some("without a closing bracket")].as_slice()),
        (
            r#"[{"url": "u"}, {"url": "v"#,
            &[None, Some("element in line 1 is not JSON"), Some("without a closing bracket")],
        ),
        ("[{\"url\": \"u\"}]\n{\"url\": \"v\"}\n", &[None, None]),
        (
            "[\"x\"]\n{\"url\": \"u\"}\n{\"url\": tru}\n{\"url\": \"v\"}\n",
            &[Some("not an object"), None, Some("in line 3 is not JSON"), None],
        ),
        ("{\n\"url\": \"u\"}\n]", &[None, Some("in line 3 is not JSON")]),
        ("[{\"url\": \"u\"}]\n[{\"url\": \"v\"}]\n", &[None, None]),
        (
            "[{\"url\": \"u\"},, 7, null,\n\"x\"]",
            &[None, Some("not an object"), Some("not an object"), Some("in line 2")],
        ),
    ] {
        let folder = folder(&[("a.jsonl", array.as_bytes())]);
        let rows = read(&SourceConfig::new("a.jsonl", "url"), &folder);
        let found = texts(&rows, "problem");
        assert_eq!(found.len(), problems.len(), "{array}: {found:?}");
        for (found, expected) in found.iter().zip(problems) {
            assert_eq!(found.is_some(), expected.is_some(), "{array}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{array}: {found:?}");
        }
    }
    let empty = folder(&[("a.json", b"[]\n")]);
    assert!(read_all(&Source::open(&SourceConfig::new("a.json", "url"), empty.path()).unwrap(), 10).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_read_once_and_is_a_list_like_any_other() {
    let folder = folder(&[("a.csv", b"url,n\nu,1\nv,2\n")]);
    let pipe = folder.path().join("pipe.csv");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (from, to) = (folder.path().join("a.csv"), pipe.clone());
    let writer = std::thread::spawn(move || std::fs::copy(from, to).unwrap());
    let open = |name| Source::open(&SourceConfig::new(name, "url"), folder.path()).unwrap();
    let prints = |source: &Source| read_all(source, 1).iter().map(SourcePart::fingerprint).collect::<Vec<_>>();
    let source = open("pipe.csv");
    writer.join().unwrap();
    let file = prints(&open("a.csv"));
    assert_eq!(file.len(), 2);
    assert_eq!(prints(&source), file);
    assert_eq!(prints(&open("pipe.csv")), file, "the next stage opens it again");
    let archive = SourceConfig { format: SourceFormat::WebDataset, ..SourceConfig::new("pipe.csv", "url") };
    let message = error(&archive, &folder);
    assert!(message.contains("pipe.csv as a pipe") && message.contains("write it to a file"), "{message}");
    let message = error(&captioned("pipe.csv", "url", "text"), &folder);
    assert!(message.contains("pipe.csv has no column \"text\""), "{message}");
}

#[test]
fn a_file_without_names_of_columns_is_not_read_as_one_with_them() {
    let folder = folder(&[("a.tsv", b"a cat\thttp://a.example/1.jpg\nb dog\thttp://a.example/2.jpg\n")]);
    let config = SourceConfig { caption: Some("0".to_owned()), ..SourceConfig::new("a.tsv", "1") };
    let message = error(&config, &folder);
    assert!(message.contains("http://a.example/1.jpg") && message.contains("header"), "{message}");
    let rows = read(&SourceConfig { header: false, ..config }, &folder);
    assert_eq!(rows.num_rows(), 2);
}

#[test]
fn a_quoted_first_field_of_tsv_may_go_over_several_lines() {
    for (text, expected) in [
        (
            "caption\turl\n\"multi\nline\"\thttp://a.example/1.jpg\nplain\thttp://a.example/2.jpg\n",
            ["multi\nline", "plain"],
        ),
        // Quotation marks that quote nothing, one at the end of the next row's first field.
        ("caption\turl\n\"open\thttp://a.example/1.jpg\nsize 19\"\thttp://a.example/2.jpg\n", ["\"open", "size 19\""]),
    ] {
        let folder = folder(&[("a.tsv", text.as_bytes())]);
        let rows = read(&captioned("a.tsv", "url", "caption"), &folder);
        assert_eq!(texts(&rows, "caption"), expected.map(Some), "{text}");
    }
}

#[test]
fn an_empty_field_is_missing_and_a_folder_of_json_can_be_told() {
    let folder = folder(&[("a.csv", b"url,tag\nhttp://a.example/1.jpg,\nhttp://a.example/2.jpg,x\n")]);
    assert_eq!(texts(&read(&SourceConfig::new("a.csv", "url"), &folder), "tag"), [None, Some("x")]);
    let folder = self::folder(&[
        ("a.json", b"[null, [1], {\"url\": \"http://a.example/1.jpg\"}]"),
        ("b.json", b"[{\"url\": \"http://a.example/2.jpg\"}]"),
    ]);
    let config = SourceConfig { format: SourceFormat::Jsonl, ..SourceConfig::new(".", "url") };
    let rows = read(&config, &folder);
    assert_eq!(rows.column(column::PROBLEM).null_count(), 2, "two of four elements are objects");
    assert_eq!(rows.num_rows(), 4);
}
