//! Sources of existing images.

use std::fs;

use ::tar::{Builder, EntryType, Header};

use super::left_out::Kind;
use super::*;

/// A folder with these files, whose names may have folders.
pub(super) fn tree(files: &[(&str, &[u8])]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn extra<'a>(rows: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    let schema = rows.schema();
    let position = schema.fields()[column::FIRST_EXTRA..].iter().position(|field| field.name() == name);
    rows.column(column::FIRST_EXTRA + position.unwrap_or_else(|| panic!("no extra column {name}")))
}

pub(super) fn extra_texts<'a>(rows: &'a RecordBatch, name: &str) -> Vec<Option<&'a str>> {
    extra(rows, name).as_string::<i32>().iter().collect()
}

fn extra_names(source: &Source) -> Vec<String> {
    source.schema_of_extra_columns().fields().iter().map(|field| field.name().clone()).collect()
}

/// Returns the images of all rows, read from the places that the rows name; `-` for rows without a
/// place.
pub(super) fn pictures(rows: &RecordBatch) -> Vec<String> {
    let spilled = tempfile::tempdir().unwrap();
    let embedded = Embedded::read(rows, None, spilled.path()).unwrap();
    let files = rows.column(column::FILE).as_string::<i32>();
    let [offsets, lengths] =
        [column::OFFSET, column::LENGTH].map(|position| rows.column(position).as_primitive::<Int64Type>());
    let read = |row: usize| {
        if files.is_null(row) {
            assert!(offsets.is_null(row) && lengths.is_null(row));
            return "-".to_owned();
        }
        if lengths.is_null(row) {
            let EmbeddedPicture::Here { offset, length } = embedded.of(row) else { return "-".to_owned() };
            let mut bytes = vec![0; length as usize];
            crate::spill::read_at(&embedded.file().unwrap(), &mut bytes, offset).unwrap();
            return String::from_utf8(bytes).unwrap();
        }
        let (file, offset, length) = (Path::new(files.value(row)), offsets.value(row), lengths.value(row));
        assert!(file.is_absolute());
        String::from_utf8(read_picture(file, offset as u64, length as u64, 1000).unwrap()).unwrap()
    };
    (0..rows.num_rows()).map(read).collect()
}

fn as_format(path: &str, format: SourceFormat) -> SourceConfig {
    SourceConfig { format, ..SourceConfig::new(path, "url") }
}

/// Returns a tar archive with these members. Long names are in GNU's form.
pub(super) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Returns a header with its padded content. Names and types may be invalid.
fn member(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [kind];
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = [&header.as_bytes()[..], content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The end of an archive.
const END: [u8; 1024] = [0; 1024];

#[test]
fn a_folder_of_pictures_has_its_captions_and_columns_beside_them() {
    let folder = tree(&[
        ("pool/b.jpg", b"b"),
        ("pool/a/z.PNG", b"az"),
        ("pool/a/z.txt", b" a zebra\n"),
        ("pool/a/z.json", br#"{"score": 1, "url": "http://a.example/z.png", "file": "z", "tags": ["x"]}"#),
        ("pool/a.jpeg", b"a"),
        ("pool/a.caption", b"an ant"),
        ("pool/a.json", br#"{"score": 0.5, "caption": "an ant"}"#),
        ("pool/c.x.webp", b"c"),
        ("pool/c.x.json", br#"{"caption": "a cow", "width": 7}"#),
        ("pool/d.tiff", b"d"),
        ("pool/d.json", br#"["no object"]"#),
        ("pool/.hidden.jpg", b"h"),
        ("pool/notes.md", b"no picture"),
        ("pool/alone.json", br#"{"never": 1}"#),
    ]);
    for format in [SourceFormat::Auto, SourceFormat::Folder] {
        let config = as_format("pool", format);
        let rows = read(&config, &folder);
        assert_eq!(extra_texts(&rows, "file"), ["a/z.PNG", "a.jpeg", "b.jpg", "c.x.webp", "d.tiff"].map(Some));
        assert_eq!(pictures(&rows), ["az", "a", "b", "c", "d"]);
        assert_eq!(texts(&rows, "caption"), [Some("a zebra"), Some("an ant"), None, Some("a cow"), None]);
        assert_eq!(texts(&rows, "url"), [Some("http://a.example/z.png"), None, None, None, None]);
        let scores: Vec<_> = extra(&rows, "score").as_primitive::<Float64Type>().iter().collect();
        assert_eq!(scores, [Some(1.0), Some(0.5), None, None, None]);
        assert_eq!(extra_texts(&rows, "tags")[0], Some(r#"["x"]"#));
        assert_eq!(rows.column(column::PROBLEM).null_count(), 5);
        let source = Source::open(&config, folder.path()).unwrap();
        assert_eq!(extra_names(&source), ["score", "source_file", "tags", "source_width", "file"]);
    }
}

#[test]
fn a_named_key_is_the_caption_and_the_text_file_stands_in() {
    let folder = tree(&[
        ("a.jpg", b"a"),
        ("a.txt", b"text a"),
        ("a.json", br#"{"caption": "other a", "long": "a long caption"}"#),
        ("b.jpg", b"b"),
        ("b.txt", b"text b"),
        ("c.jpg", b"c"),
    ]);
    let captions = |caption: &str| {
        let rows = read(&SourceConfig { format: SourceFormat::Folder, ..captioned(".", "url", caption) }, &folder);
        texts(&rows, "caption").into_iter().map(|text| text.unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(captions("long"), ["a long caption", "text b", "-"]);
    assert_eq!(captions("txt"), ["text a", "text b", "-"]);
    let rows = read(&as_format(".", SourceFormat::Folder), &folder);
    assert_eq!(texts(&rows, "caption"), [Some("text a"), Some("text b"), None]);
    assert_eq!(extra_texts(&rows, "source_caption")[0], Some("other a"), "a second caption is carried");
    let config = SourceConfig { format: SourceFormat::Folder, ..captioned(".", "url", "lnog") };
    let message = error(&config, &folder);
    assert!(message.contains("no column \"lnog\" for `caption`, did you mean \"long\"?"), "{message}");
    let message = error(&SourceConfig { format: SourceFormat::Folder, ..SourceConfig::new(".", "link") }, &folder);
    assert!(message.contains("no column \"link\" for `url`"), "{message}");
}

#[test]
fn what_cannot_be_read_beside_a_picture_is_a_problem_of_its_row() {
    let long = vec![b' '; lines::MAX_ROW_BYTES + 1];
    let folder = tree(&[
        ("a.jpg", b"a"),
        ("a.txt", b"\xff"),
        ("b.jpg", b"b"),
        ("b.json", b"{\"x\": "),
        ("c.jpg", b"c"),
        ("c.txt", &long),
        ("d.jpg", b"d"),
    ]);
    let rows = read(&as_format(".", SourceFormat::Folder), &folder);
    let problems = texts(&rows, "problem");
    assert_eq!(problems[0], Some("\"a.txt\" is not UTF-8"));
    assert!(problems[1].unwrap().starts_with("\"b.json\" is not JSON: EOF"), "{problems:?}");
    assert_eq!(problems[2], Some("\"c.txt\" is longer than 16777216 bytes"));
    assert_eq!(pictures(&rows), ["-", "-", "-", "d"]);
}

#[cfg(unix)]
#[test]
fn symbolic_links_are_followed_as_far_as_they_are_safe() {
    use std::os::unix::fs::symlink;
    let folder = tree(&[
        ("outside/secret.jpg", b"secret"),
        ("outside/deep/c.jpg", b"deep"),
        ("pool/b.jpg", b"b"),
        ("pool/sub/own.jpg", b"own"),
        ("blobs/1", b"blob"),
        ("outside/b.txt", b"secret"),
    ]);
    let link = |target: &str, name: &str| symlink(folder.path().join(target), folder.path().join(name)).unwrap();
    link("outside/secret.jpg", "pool/a.jpg");
    link("outside", "pool/inner");
    link("outside/b.txt", "pool/b.txt");
    link("blobs/1", "pool/c.jpg");
    link("pool/sub/own.jpg", "pool/d.jpg");
    link("pool/sub", "pool/again");
    link("pool", "outside/around");
    link("nowhere", "pool/e.jpg");
    let out = "is a symbolic link out of the folder, which is not followed; `follow_links` in [source] \
               (--set source.follow_links=true) follows it";
    let config = as_format("pool", SourceFormat::Folder);
    let source = Source::open(&config, folder.path()).unwrap();
    assert_eq!(source.left_out.count(Kind::Link), 2, "{:?}", source.left_out());
    let rows = read(&config, &folder);
    let problems: Vec<String> = texts(&rows, "problem").into_iter().flatten().map(str::to_owned).collect();
    let nowhere = "\"e.jpg\" is a symbolic link that leads nowhere".to_owned();
    assert_eq!(problems, [format!("\"a.jpg\" {out}"), format!("\"b.txt\" {out}"), nowhere.clone()]);
    assert_eq!(pictures(&rows), ["-", "-", "blob", "own", "-", "own"]);

    let all = SourceConfig { follow_links: true, ..config };
    let rows = read(&all, &folder);
    assert_eq!(texts(&rows, "problem").into_iter().flatten().collect::<Vec<_>>(), [nowhere]);
    assert_eq!(pictures(&rows), ["secret", "b", "blob", "own", "-", "deep", "secret", "own"]);
    assert_eq!(texts(&rows, "caption")[1], Some("secret"));
}

/// The layout of the cache of `huggingface_hub`.
#[cfg(unix)]
#[test]
fn links_of_a_cache_are_followed() {
    let folder = tree(&[("repo/blobs/1", b"one"), ("repo/blobs/2", b"a cat"), ("repo/snapshots/abc/train/x", b"")]);
    let train = folder.path().join("repo/snapshots/abc/train");
    std::os::unix::fs::symlink("../../../blobs/1", train.join("1.jpg")).unwrap();
    std::os::unix::fs::symlink("../../../blobs/2", train.join("1.txt")).unwrap();
    for path in ["repo/snapshots/abc", "repo/snapshots/abc/train"] {
        let rows = read(&SourceConfig::new(path, "url"), &folder);
        assert_eq!((pictures(&rows), texts(&rows, "caption")), (vec!["one".to_owned()], vec![Some("a cat")]));
    }
}

#[test]
fn lists_go_before_archives_and_archives_before_pictures() {
    let folder = tree(&[
        ("mixed/a.csv", b"url\nhttp://a.example/1.jpg\n"),
        ("mixed/a.tar", &tar(&[("a.jpg", b"a")])),
        ("mixed/a.jpg", b"a"),
        ("shards/a.tar", &tar(&[("a.jpg", b"a")])),
        ("shards/b.jpg", b"a"),
        ("flat/a.jpg", b"a"),
        ("flat/a.txt", b"a cat"),
        ("none/a.md", b""),
    ]);
    let rows = read(&SourceConfig::new("mixed", "url"), &folder);
    assert_eq!(texts(&rows, "url"), [Some("http://a.example/1.jpg")]);
    assert_eq!(rows.num_columns(), column::FIRST_EXTRA);
    let rows = read(&as_format("mixed", SourceFormat::WebDataset), &folder);
    assert_eq!(extra_texts(&rows, "file"), [Some("a.tar/a.jpg")]);
    let rows = read(&SourceConfig::new("shards", "url"), &folder);
    assert_eq!(extra_texts(&rows, "file"), [Some("a.tar/a.jpg")]);
    let rows = read(&SourceConfig::new("flat", "url"), &folder);
    assert_eq!(texts(&rows, "caption"), [Some("a cat")], "a text beside a picture is its caption, not a list");
    for format in [SourceFormat::Auto, SourceFormat::Folder, SourceFormat::WebDataset] {
        let message = error(&as_format("none", format), &folder);
        assert!(message.contains("none holds no source file; expected names that end in ."), "{message}");
    }
    assert!(error(&as_format("flat/a.jpg", SourceFormat::Folder), &folder).contains("it is a file"));
    let message = error(&SourceConfig::new("flat/a.jpg", "url"), &folder);
    assert!(message.contains("cannot tell the format"), "{message}");
}

#[test]
fn samples_of_an_archive_are_rows() {
    let first = tar(&[
        ("0001.json", br#"{"caption": "one", "url": "http://a.example/1.jpg", "key": "0001", "n": 1}"#),
        ("0001.jpg", b"first"),
        ("0001.txt", b"one"),
        ("dir/0002.PNG", b"second picture"),
        ("dir/0002.json", br#"{"n": 2.5, "late": true, "caption": "two"}"#),
        ("dir/0002.cls", b"7"),
        ("0003.txt", b"no picture"),
        ("__meta__", b"x"),
        ("._0004.jpg", b"a file of macOS"),
        ("0004.jpg", b""),
    ]);
    let second = tar(&[("0001.webp", b"again")]);
    let folder = folder(&[("a.tar", &first), ("b.tar", &second)]);
    let rows = read(&SourceConfig::new(".", "url"), &folder);
    assert_eq!(
        extra_texts(&rows, "file"),
        ["a.tar/0001.jpg", "a.tar/dir/0002.PNG", "a.tar/0004.jpg", "b.tar/0001.webp"].map(Some)
    );
    assert_eq!(pictures(&rows), ["first", "second picture", "", "again"]);
    assert_eq!(texts(&rows, "caption"), [Some("one"), Some("two"), None, None]);
    assert_eq!(texts(&rows, "url"), [Some("http://a.example/1.jpg"), None, None, None]);
    let numbers: Vec<_> = extra(&rows, "n").as_primitive::<Float64Type>().iter().collect();
    assert_eq!(numbers, [Some(1.0), Some(2.5), None, None]);
    let source = Source::open(&SourceConfig::new(".", "url"), folder.path()).unwrap();
    assert_eq!(extra_names(&source), ["key", "n", "late", "file"]);
}

#[test]
fn several_pictures_of_a_sample_are_several_rows() {
    let archive = tar(&[
        ("a.0.jpg", b"a0"),
        ("a.1.jpg", b"a1"),
        ("a.json", br#"{"id": 1, "caption": "both"}"#),
        ("b.jpg", b"b"),
        ("b.jpg", b"again"),
        ("a.jpg", b"another sample"),
    ]);
    let folder = folder(&[("a.tar", &archive)]);
    let rows = read(&SourceConfig::new("a.tar", "url"), &folder);
    assert_eq!(pictures(&rows), ["a0", "a1", "-", "b", "another sample"]);
    assert_eq!(texts(&rows, "caption"), [Some("both"), Some("both"), None, None, None]);
    assert_eq!(integers(&rows, "source_row"), [0, 0, 1, 2, 3].map(Some));
    assert_eq!(integers(&rows, "image_index"), [0, 1, 0, 0, 0].map(Some));
    assert_eq!(integers(&rows, "id"), [Some(1), Some(1), None, None, None]);
    assert!(texts(&rows, "problem")[2].unwrap().contains("\"b.jpg\" of the archive is there twice"));
}

#[test]
fn a_json_file_that_is_no_object_is_reported() {
    let files: &[(&str, &[u8])] =
        &[("p/1.jpg", b"1"), ("p/1.json", b"[\"a dog\"]"), ("p/2.jpg", b"2"), ("p/2.json", b"{}")];
    for (path, folder) in [("p", tree(files)), ("a.tar", folder(&[("a.tar", &tar(files))]))] {
        let source = Source::open(&SourceConfig::new(path, "url"), folder.path()).unwrap();
        assert_eq!((source.left_out.count(Kind::ValuesNotObject), source.left_out.total()), (1, 1), "{path}");
    }
}

#[test]
fn texts_belong_to_pictures_up_to_their_last_suffix() {
    let captions = |members: &[(&str, &[u8])], image: Option<&str>| {
        let folder = folder(&[("a.tar", &tar(members))]);
        let config = SourceConfig { image: image.map(str::to_owned), ..SourceConfig::new("a.tar", "url") };
        let source = Source::open(&config, folder.path()).unwrap();
        let rows = read(&config, &folder);
        let captions = texts(&rows, "caption").into_iter().map(|text| text.unwrap_or("-").to_owned());
        let seen: Vec<(String, String)> = pictures(&rows).into_iter().zip(captions).collect();
        (seen, extra_names(&source).contains(&"image_index".to_owned()), source.left_out)
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(picture, caption)| ((*picture).to_owned(), (*caption).to_owned())).collect()
    };
    // Dots in names, as version numbers and dates have them.
    let (seen, has_several, left_out) = captions(
        &[
            ("v1.5/photo 2.0.jpg", b"photo"),
            ("v1.5/photo 2.0.txt", b"a dog"),
            ("2024.05.01.jpg", b"first"),
            ("2024.05.01.txt", b"a cat"),
            ("2024.05.02.jpg", b"second"),
            ("2024.05.02.json", br#"{"caption": "a cow"}"#),
            ("img.v2.png", b"third"),
            ("img.v2.png.txt", b"a pig"),
        ],
        None,
    );
    assert_eq!(seen, pairs(&[("photo", "a dog"), ("first", "a cat"), ("second", "a cow"), ("third", "a pig")]));
    assert!(!has_several && left_out.is_empty(), "they are samples of their own: {left_out}");
    // Masks and the like.
    let masked: &[(&str, &[u8])] = &[
        ("0.jpg", b"0"),
        ("0.seg.png", b"mask"),
        ("0.depth.png", b"depth"),
        ("0.txt", b"a dog"),
        ("0.seg.txt", b"x"),
        ("0.cls", b"7"),
        ("1.seg.png", b"mask"),
        ("1.jpg", b"1"),
        ("1.json", br#"{"caption": "a cat"}"#),
        ("1.depth.png", b"depth"),
    ];
    let (seen, _, left_out) = captions(masked, None);
    assert_eq!(seen, pairs(&[("0", "a dog"), ("mask", "x"), ("1", "a cat")]));
    assert_eq!((left_out.count(Kind::Companion), left_out.count(Kind::OtherMember)), (3, 1));
    let (seen, has_several, left_out) = captions(masked, Some("depth.png"));
    assert_eq!(seen, pairs(&[("depth", "a dog"), ("depth", "a cat")]));
    assert!(!has_several && left_out.count(Kind::Companion) == 4, "{left_out}");
    // Several images of a sample, with texts of their own and one for all.
    let (seen, has_several, left_out) = captions(
        &[
            ("a.jpg", b"a"),
            ("a.1.jpg", b"a1"),
            ("a.1.txt", b"own"),
            ("a.txt", b"all"),
            ("a.2.jpg", b"a2"),
            ("b.x.txt", b"b"),
        ],
        None,
    );
    assert_eq!(seen, pairs(&[("a", "all"), ("a1", "own"), ("a2", "all")]));
    assert!(has_several && left_out.count(Kind::SampleWithoutPicture) == 1, "{left_out}");
}

#[test]
fn every_member_of_an_archive_is_read_or_told() {
    let members: Vec<(&str, &[u8])> = vec![
        ("0.jpg", b"0"),
        ("0.txt", b"a dog"),
        ("0.json", b"{\"a\": 1}"),
        ("0.seg.png", b"mask"),
        ("0.cls", b"7"),
        ("1.jfif", b"1"),
        ("1.v2.txt", b"x"),
        ("2.txt", b"alone"),
        ("._3.jpg", b"x"),
        ("__meta__", b"x"),
        ("none", b"x"),
        ("4.1.JPG", b"4"),
        ("4.1.caption", b"four"),
    ];
    let seen = |members: &[(&str, &[u8])]| {
        let folder = folder(&[("a.tar", &tar(members))]);
        let source = Source::open(&SourceConfig::new("a.tar", "url"), folder.path()).unwrap();
        let rows = read_all(&source, 100).remove(0).rows;
        (
            pictures(&rows),
            format!("{:?}", rows.columns()[column::FIRST_EXTRA..].to_vec()),
            format!("{:?}", texts(&rows, "caption")),
            source.left_out.total(),
        )
    };
    let all = seen(&members);
    for index in 0..members.len() {
        let mut less = members.clone();
        let (name, _) = less.remove(index);
        assert_ne!(seen(&less), all, "{name} is passed over in silence");
    }
}

#[test]
fn what_python_and_notepad_write_is_read() {
    let utf_16 =
        |text: &str| [&[0xff, 0xfe][..], &text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()].concat();
    let json: &[(&str, Vec<u8>)] = &[
        ("NaN", b"{\"caption\": \"one\", \"n\": NaN}".to_vec()),
        ("infinities", b"{\"caption\": \"one\", \"n\": -Infinity, \"m\": [Infinity]}".to_vec()),
        ("half an emoji", b"{\"caption\": \"one\", \"m\": \"\\ud83d\"}".to_vec()),
        ("beyond floats", b"{\"caption\": \"one\", \"n\": 1e999}".to_vec()),
        ("a mark", [b"\xef\xbb\xbf", &br#"{"caption": "one"}"#[..]].concat()),
        ("UTF-16", utf_16(r#"{"caption": "one"}"#)),
        ("Latin-1", b"{\"caption\": \"one\", \"m\": \"\xe9\"}".to_vec()),
    ];
    for (name, json) in json {
        let folder = tree(&[
            ("a.tar", &tar(&[("1.jpg", b"1"), ("1.json", json), ("2.jpg", b"2"), ("2.json", b"{\"n\": 0.5}")])),
            ("pool/1.jpg", b"1"),
            ("pool/1.json", json),
        ]);
        for path in ["a.tar", "pool"] {
            let rows = read(&SourceConfig::new(path, "url"), &folder);
            assert_eq!(texts(&rows, "caption")[0], Some("one"), "{name}: {:?}", texts(&rows, "problem"));
        }
    }
    let folder =
        tree(&[("1.jpg", b"1"), ("1.txt", &utf_16("a d\u{f6}g\r\n")), ("2.jpg", b"2"), ("2.txt", b"\xfe\xff\0a\0b")]);
    assert_eq!(texts(&read(&SourceConfig::new(".", "url"), &folder), "caption"), [Some("a d\u{f6}g"), Some("ab")]);
}

#[test]
fn members_that_must_not_be_read_are_refused_one_by_one() {
    let long = [&[b'n'; 5000][..], b".jpg"].concat();
    let pax = |record: &str| {
        let length = (1..100).find(|length: &usize| format!("{length} {record}\n").len() == *length).unwrap();
        format!("{length} {record}\n").into_bytes()
    };
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (member(b'0', b"/etc/a.jpg", b"x"), "has an absolute name"),
        (member(b'0', b"C:/a.jpg", b"x"), "has an absolute name"),
        (member(b'0', b"a/../../b.jpg", b"x"), "has a name with `..`"),
        (member(b'0', b"a\\..\\b.jpg", b"x"), "has a name with `..`"),
        (member(b'0', b"\xff.jpg", b"x"), "has a name that is not UTF-8"),
        (member(b'0', b"", b"x"), "has no name"),
        (member(b'1', b"a.jpg", b""), "is a hard link, which is not followed"),
        (member(b'2', b"b.jpg", b""), "is a symbolic link, which is not followed"),
        (member(b'3', b"c.jpg", b""), "is a device"),
        (member(b'4', b"d.jpg", b""), "is a device"),
        (member(b'6', b"e.jpg", b""), "is a named pipe"),
        (member(b'S', b"f.jpg", b"x"), "is a sparse file, which is not read"),
        (member(b'D', b"g.jpg", b"x"), "is of the unknown type 'D'"),
        ([member(b'L', b"././@LongLink", &long), member(b'0', b"n", b"x")].concat(), "has a name of 5004 bytes"),
        ([member(b'x', b"p", &pax("path=/abs.jpg")), member(b'0', b"n.jpg", b"x")].concat(), "has an absolute name"),
        ([member(b'x', b"p", &pax("GNU.sparse.major=1")), member(b'0', b"n.jpg", b"x")].concat(), "is a sparse file"),
        ([member(b'x', b"p", b"nonsense"), member(b'0', b"n.jpg", b"x")].concat(), "its pax header is malformed"),
        (
            [member(b'x', b"p", &vec![b'x'; 1 << 21]), member(b'0', b"n.jpg", b"x")].concat(),
            "its pax header has 2097152 bytes",
        ),
    ];
    let mut archive = Vec::new();
    for (index, (bytes, _)) in cases.iter().enumerate() {
        archive.extend(bytes);
        archive.extend(member(b'0', format!("good{index}.jpg").as_bytes(), b"good"));
    }
    archive.extend(END);
    let folder = folder(&[("a.tar", &archive)]);
    let rows = read(&SourceConfig::new("a.tar", "url"), &folder);
    // A refused member comes before the sample around it, because a sample is complete only when
    // the next one begins.
    let problems: Vec<&str> = texts(&rows, "problem").into_iter().flatten().collect();
    assert_eq!(problems.len(), cases.len());
    for ((_, expected), problem) in cases.iter().zip(problems) {
        assert!(problem.contains(expected), "{problem}\nlacks {expected}");
        assert!(problem.len() < 300, "{problem}");
    }
    assert_eq!(
        pictures(&rows).into_iter().filter(|picture| picture != "-").collect::<Vec<_>>(),
        vec!["good"; cases.len()]
    );
}

#[test]
fn long_names_of_gnu_and_pax_are_read() {
    let long = format!("{}/{}.jpg", "folder".repeat(20), "name".repeat(30));
    let umlaut = "ä/ö.jpg";
    let record = format!("{} path={umlaut}\n", "00 path=\n".len() + umlaut.len());
    let archive = tar(&[(&long, b"gnu")]);
    let archive = &archive[..archive.len() - END.len()];
    let pax = [
        member(b'g', b"global", b"15 comment=abc\n"),
        member(b'x', b"PaxHeader", record.as_bytes()),
        member(b'0', b"short.jpg", b"pax"),
        member(b'5', b"folder/", b""),
        member(0, b"old.jpg", b"old"),
        END.to_vec(),
        vec![0; 8192],
    ];
    let folder = folder(&[("a.tar", &[archive, &pax.concat()].concat())]);
    let rows = read(&SourceConfig::new("a.tar", "url"), &folder);
    let names = [format!("a.tar/{long}"), format!("a.tar/{umlaut}"), "a.tar/old.jpg".to_owned()];
    assert_eq!(extra_texts(&rows, "file"), names.each_ref().map(|name| Some(name.as_str())));
    assert_eq!(pictures(&rows), ["gnu", "pax", "old"]);
}

#[test]
fn an_archive_that_is_cut_off_or_damaged_keeps_the_rows_before() {
    let whole = tar(&[("a.jpg", &[b'a'; 700]), ("b.jpg", &[b'b'; 700]), ("c.jpg", b"c")]);
    let second = 512 + 1024; // header and padded content of the first member
    let mut damaged = whole.clone();
    damaged[second] ^= 1;
    let mut huge = whole.clone();
    {
        let mut header = Header::from_byte_slice(&huge[second..second + 512]).clone();
        header.as_old_mut().size.copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        header.set_cksum();
        huge[second..second + 512].copy_from_slice(header.as_bytes());
    }
    let twice = [&whole[..], &whole[..]].concat();
    let cases: Vec<(&str, &[u8], usize, &str)> = vec![
        ("inside a picture", &whole[..second + 600], 1, "cut off at byte 2136 inside \"b.jpg\""),
        ("inside a header", &whole[..second + 100], 1, "cut off at byte 1636, without an end mark"),
        ("between members", &whole[..second], 1, "cut off at byte 1536, without an end mark"),
        ("without end", &whole[..whole.len() - 1024], 3, "without an end mark"),
        ("empty", b"", 0, "cut off at byte 0, without an end mark"),
        ("damaged header", &damaged, 1, "damaged at byte 1536, where a header is missing"),
        ("huge size", &huge, 1, "damaged at byte 1536: a size is too large"),
        ("concatenated", &twice, 3, "has data after its end mark"),
        ("no tar", &[b'x'; 2000], 0, "damaged at byte 0"),
    ];
    for (name, bytes, good, expected) in cases {
        let folder = folder(&[("a.tar", bytes)]);
        let rows = read(&SourceConfig::new("a.tar", "url"), &folder);
        assert_eq!(rows.num_rows(), good + 1, "{name}");
        let problems = texts(&rows, "problem");
        assert!(problems[..good].iter().all(Option::is_none), "{name}: {problems:?}");
        assert!(problems[good].unwrap().contains(expected), "{name}: {problems:?}");
        assert_eq!(pictures(&rows).iter().filter(|picture| *picture != "-").count(), good);
    }
    let folder = folder(&[("a.tar", &gz(&whole)), ("b.tar.gz", &gz(&whole))]);
    let message = error(&SourceConfig::new("a.tar", "url"), &folder);
    assert!(message.contains("it is compressed, but images are read by their offsets"), "{message}");
    let message = error(&SourceConfig::new("b.tar.gz", "url"), &folder);
    assert!(message.contains("compressed archives are not read; decompress it first"), "{message}");
}

#[test]
fn the_fingerprint_of_pictures_covers_place_and_state_but_not_where_the_source_is() {
    let members: &[(&str, &[u8])] = &[("a.jpg", b"a"), ("b.jpg", b"b")];
    let archive = tar(members);
    let (here, there) = (folder(&[("a.tar", &archive)]), folder(&[("a.tar", &archive)]));
    let set_time = |folder: &TempDir, name: &str, seconds: u64| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        fs::File::options().write(true).open(folder.path().join(name)).unwrap().set_modified(time).unwrap();
    };
    let print = |folder: &TempDir, path: &str| {
        let parts = read_all(&Source::open(&SourceConfig::new(path, "url"), folder.path()).unwrap(), 10);
        parts[0].fingerprint()
    };
    set_time(&here, "a.tar", 100);
    set_time(&there, "a.tar", 100);
    let first = print(&here, "a.tar");
    assert_eq!(first, print(&there, "a.tar"));
    assert_eq!(first, print(&there, "."));
    set_time(&there, "a.tar", 101);
    assert_ne!(first, print(&there, "a.tar"));
    fs::rename(here.path().join("a.tar"), here.path().join("b.tar")).unwrap();
    assert_ne!(first, print(&here, "b.tar"));

    let pool = folder(members);
    for (name, _) in members {
        set_time(&pool, name, 100);
    }
    let before = print(&pool, ".");
    set_time(&pool, "b.jpg", 101);
    assert_ne!(before, print(&pool, "."));
    set_time(&pool, "b.jpg", 100);
    assert_eq!(before, print(&pool, "."));
    fs::write(pool.path().join("b.jpg"), b"longer").unwrap();
    set_time(&pool, "b.jpg", 100);
    assert_ne!(before, print(&pool, "."));
}

#[test]
fn a_picture_is_read_only_within_its_limits() {
    let folder = folder(&[("a.bin", b"0123456789")]);
    let path = folder.path().join("a.bin");
    assert_eq!(read_picture(&path, 2, 3, 3).unwrap(), b"234");
    assert_eq!(read_picture(&path, 10, 0, 3).unwrap(), b"");
    for (offset, length, limit, kind) in [
        (0, 4, 3, std::io::ErrorKind::FileTooLarge),
        (8, 3, 3, std::io::ErrorKind::UnexpectedEof),
        (u64::MAX, 3, 3, std::io::ErrorKind::UnexpectedEof),
    ] {
        assert_eq!(read_picture(&path, offset, length, limit).unwrap_err().kind(), kind);
    }
    assert_eq!(read_picture(folder.path(), 0, 0, 3).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(read_picture(&folder.path().join("b"), 0, 0, 3).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn local_pictures_and_lists_may_stand_in_one_source() {
    let folder = tree(&[
        ("a.csv", b"url,file\nhttp://a.example/1.jpg,x\n"),
        ("b.tar", &tar(&[("a.0.jpg", b"a0"), ("a.1.jpg", b"a1")])),
        ("c/d.jpg", b"d"),
    ]);
    let path = OneOrMany::Many(vec!["a.csv".into(), "b.tar".into(), "c".into()]);
    let rows = read(&SourceConfig { path, ..SourceConfig::new("", "url") }, &folder);
    assert_eq!(pictures(&rows), ["-", "a0", "a1", "d"]);
    assert_eq!(extra_texts(&rows, "file"), [None, Some("b.tar/a.0.jpg"), Some("b.tar/a.1.jpg"), Some("d.jpg")]);
    assert_eq!(extra_texts(&rows, "source_file"), [Some("x"), None, None, None]);
    assert_eq!(integers(&rows, "source_row"), [0, 1, 1, 2].map(Some));
}

#[test]
fn what_img2dataset_writes_is_imported() {
    // The layout and the JSON are those of img2dataset 1.47.0 with `--output_format files` and
    // `webdataset`.
    let json = |caption: &str| {
        format!(
            "{{\n    \"score\": 0.5,\n    \"caption\": \"{caption}\",\n    \"url\": \"http://a.example/{caption}.jpg\",\n    \"key\": \"00000000\",\n    \"status\": \"success\",\n    \"error_message\": null,\n    \"width\": 256,\n    \"exif\": \"{{}}\",\n    \"sha256\": \"ff\"\n}}"
        )
    };
    let members: Vec<(String, Vec<u8>)> = ["one", "two"]
        .iter()
        .enumerate()
        .flat_map(|(index, caption)| {
            let name = |suffix: &str| format!("00000000{index}.{suffix}");
            [
                (name("jpg"), format!("picture {caption}").into_bytes()),
                (name("json"), json(caption).into_bytes()),
                (name("txt"), caption.as_bytes().to_vec()),
            ]
        })
        .collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let folder = tree(&[
        ("tars/00000.tar", &tar(&members)),
        ("tars/00000_stats.json", b"{}"),
        ("files/00000_stats.json", b"{}"),
    ]);
    fs::create_dir(folder.path().join("files/00000")).unwrap();
    for (name, bytes) in &members {
        fs::write(folder.path().join("files/00000").join(name), bytes).unwrap();
    }
    for top in ["files", "tars"] {
        let urls: ArrayRef = Arc::new(StringArray::from(vec!["http://a.example/one.jpg"]));
        write_parquet(&folder.path().join(top).join("00000.parquet"), vec![("url", urls)]);
        let rows = read(&SourceConfig::new(top, "url"), &folder);
        assert_eq!(pictures(&rows), ["-"], "`auto` reads the list that is there too");
    }
    for (top, format, names) in [
        ("files", SourceFormat::Folder, ["00000/000000000.jpg", "00000/000000001.jpg"]),
        ("tars", SourceFormat::WebDataset, ["00000.tar/000000000.jpg", "00000.tar/000000001.jpg"]),
    ] {
        let source = Source::open(&as_format(top, format), folder.path()).unwrap();
        let columns = ["score", "key", "status", "error_message", "source_width", "exif", "source_sha256", "file"];
        assert_eq!(extra_names(&source), columns);
        let rows = read_all(&source, 10).remove(0).rows;
        assert_eq!(pictures(&rows), ["picture one", "picture two"]);
        assert_eq!(texts(&rows, "caption"), [Some("one"), Some("two")]);
        assert_eq!(texts(&rows, "url"), [Some("http://a.example/one.jpg"), Some("http://a.example/two.jpg")]);
        assert_eq!(extra_texts(&rows, "file"), names.map(Some));
    }
}
