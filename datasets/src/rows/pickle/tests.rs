//! Pickles that Python wrote (`make.py`), and some that Python would never write.

use std::fs;
use std::path::Path;

use super::super::tests::rows as rows_of;
use super::*;

fn files() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rows/pickle/files")
}

fn read(name: &str, more: &str, shape: Shape) -> Result<Vec<Value>, String> {
    let toml = format!("file = \"{name}\"\n{more}");
    let found = rows_of(&files(), &toml, shape).map_err(|error| error.to_string())?;
    Ok(found.into_iter().map(|(.., row)| row).collect())
}

#[test]
fn all_protocols_say_the_same_values() {
    let expected = json!({
        "none": null,
        "bools": [true, false],
        "ints": [0, 255, 65535, -1, 2_147_483_648_i64, -1_099_511_627_776_i64, i64::MAX, u64::MAX,
            "1267650600228229401496703205376"],
        "floats": [0.5, -1e300],
        "text": "é 中\n\\u",
        "bytes": "\u{ff}\u{0}",
        "tuple": [1, [2], []],
        "set": [7],
        "ordered": {"b": 1, "a": 2},
        "default": {"k": [1]},
        "3": [["x"], ["x"]],
        "array": [[1, 2, 3], [4, 5, 6]],
        "fortran": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        "texts": ["ab", "c"],
        "raw": ["ab", "c"],
        "half": [0.5, -2.0],
        "flags": [true, false],
        "objects": [{"a": 1}, null],
        "scalar": 1.5,
        "long": -3,
    });
    for protocol in 0..6 {
        let found = read(&format!("values_{protocol}.pkl"), "", Shape::Whole).unwrap();
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&found[0][key], value, "protocol {protocol}: {key}");
        }
        assert_eq!(found[0].as_object().unwrap().len(), expected.as_object().unwrap().len());
    }
}

#[test]
fn rows_are_found_as_in_json() {
    let found = read("list.p", "", Shape::List).unwrap();
    assert_eq!(found[0], json!({"ref_id": 1, "sentences": [{"raw": "the dog"}]}));
    let found = read("columns.pkl", "", Shape::Columns).unwrap();
    assert_eq!(found[1], json!({"batch_label": "one", "labels": 9, "data": [3, 4, 5]}));
    let found = read("columns.pkl", "at = \"labels\"", Shape::List).unwrap();
    assert_eq!(found, [json!({"_value": 6}), json!({"_value": 9})]);
    let found = read("columns.pkl", "", Shape::Map).unwrap();
    assert_eq!(found[0], json!({"_value": "one", "_key": "batch_label"}));
}

#[test]
fn faults_say_what_is_wrong_and_code_is_never_run() {
    let fault = |name: &str, more: &str, shape| read(name, more, shape).unwrap_err();
    assert!(fault("evil.pkl", "", Shape::List).contains("`builtins.print` is refused"));
    assert!(fault("loop.pkl", "", Shape::List).contains("are nested too deep"));
    assert!(fault("list.p", "at = \"refs\"", Shape::List).contains("there is no `refs` in a list"));
    assert!(fault("columns.pkl", "at = \"label\"", Shape::List).contains("only batch_label, labels, data"));
    assert!(fault("columns.pkl", "", Shape::List).contains("contains a dictionary and not a list of rows"));
}

#[test]
fn no_bytes_make_it_panic() {
    let outcome = |bytes: &[u8]| {
        let loaded = load(bytes)?;
        let mut json = Converter { left: bytes.len() * VALUES_PER_BYTE };
        json.value(&loaded.value, 0)
    };
    for protocol in [0, 2, 5] {
        let sound = fs::read(files().join(format!("values_{protocol}.pkl"))).unwrap();
        for end in (0..sound.len()).step_by(7) {
            assert!(outcome(&sound[..end]).is_err(), "cut at {end}");
        }
        for place in (0..sound.len()).step_by(3) {
            for byte in [0, b'.', b'b', b'R', b'h', 0xFF] {
                let mut changed = sound.clone();
                changed[place] = byte;
                let _ = outcome(&changed);
            }
        }
    }
    // A million nested lists, and thirty lists that each contain the previous one ten times.
    let deep = [vec![b']'; 1_000_000], vec![b'a'; 999_999], b".".to_vec()].concat();
    assert!(outcome(&deep).unwrap_err().contains("too deep"));
    let mut bomb = b"]q\x00".to_vec();
    for _ in 0..30 {
        bomb.extend([b"](".to_vec(), b"h\x00".repeat(10), b"eq\x00".to_vec()].concat());
    }
    bomb.push(b'.');
    assert!(outcome(&bomb).unwrap_err().contains("more values than its size allows"));
}
