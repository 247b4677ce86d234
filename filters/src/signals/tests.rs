use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::image_data::tests::golden;

#[test]
fn folder_and_list_agree() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/signals")).unwrap();
    let files: BTreeSet<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "mod.rs" && name != "tests.rs")
        .map(|name| name.strip_suffix(".rs").unwrap_or(&name).to_owned())
        .collect();
    let list: BTreeSet<String> = signals().map(|signal| signal.name.to_owned()).collect();
    assert_eq!(files, list);
    assert_eq!(list.len(), signals().count(), "a name is used twice");
}

#[test]
fn names_are_snake_case_and_found_by_name() {
    for signal in signals() {
        let name = signal.name;
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(super::signal(name).map(|signal| signal.name), Some(name));
    }
    assert!(super::signal("no_such_signal").is_none());
}

#[test]
fn every_signal_is_documented() {
    for signal in signals() {
        let name = signal.name;
        assert!(signal.description.ends_with('.') && signal.description.len() > 30, "{name}");
        assert!(!signal.description.contains("  "), "{name}: line breaks left runs of spaces");
        assert!(!signal.unit.is_empty() && !signal.source.is_empty(), "{name}");
        let (low, high) = signal.range;
        assert!(low.zip(high).is_none_or(|(low, high)| low < high), "{name}");
        assert_eq!(signal.signal_type == SignalType::Text, (low, high) == (None, None), "{name}");
    }
}

#[test]
fn cheap_signals_come_first() {
    assert!(signals().is_sorted_by_key(|signal| signal.needs));
}

/// Type and range of every value, as declared; `Missing` is allowed everywhere.
fn check_values(values: &[Value]) -> Result<(), String> {
    if values.len() != signals().count() {
        return Err(format!("{} values", values.len()));
    }
    for (signal, value) in signals().zip(values) {
        let number = match (signal.signal_type, value) {
            (_, Value::Missing) | (SignalType::Text, Value::Text(_)) => continue,
            (SignalType::Integer, Value::Integer(integer)) => *integer as f64,
            (SignalType::Float, Value::Float(float)) => *float,
            (declared, value) => return Err(format!("{}: {value:?} is not of type {declared:?}", signal.name)),
        };
        let (low, high) = signal.range;
        let inside = low.is_none_or(|low| low <= number) && high.is_none_or(|high| number <= high);
        if !inside || !number.is_finite() {
            return Err(format!("{}: {number} is outside of {low:?} to {high:?}", signal.name));
        }
    }
    Ok(())
}

#[test]
fn every_value_of_the_fixtures_has_its_type_and_lies_in_its_range() {
    for row in golden() {
        let picture = row.decode();
        let values = measure_all(&Sample::new(Some(&row.file), Some(&picture)));
        check_values(&values).unwrap_or_else(|problem| panic!("{}: {problem}", row.file));
        assert!(!values.contains(&Value::Missing), "{}: {values:?}", row.file);
    }
}

#[test]
fn an_empty_pair_misses_everything() {
    assert!(measure_all(&Sample::new(None, None)).iter().all(|value| *value == Value::Missing));
}

proptest! {
    #[test]
    fn any_caption_gives_values_in_range(caption in "\\PC{0,60}|[a-z@:/.<> ]{0,60}|(?s).{0,40}") {
        let values = measure_all(&Sample::new(Some(&caption), None));
        prop_assert_eq!(check_values(&values), Ok(()));
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in 0usize..6) {
        let magics: [&[u8]; 6] =
            [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\x00\x00\x00WEBPVP8L", b"GIF89a", b"BM"];
        // The message about a decoder that panicked says "gave up".
        let error = lynxdata_picture::decode_file(&[magics[magic], &bytes].concat(), 1_000_000).err();
        prop_assert!(error.is_none_or(|error| !error.to_string().contains("gave up")));
    }
}
