use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::image_data::tests::golden;

impl Signal {
    /// Measures a pair with the function that the signal must have.
    pub(crate) fn value(&self, pair: &Sample<'_>) -> Value {
        self.measure(pair).unwrap()
    }
}

/// Measures all signals that are measured pair by pair, in the order of [`signals`].
pub(crate) fn measure_all(pair: &Sample<'_>) -> Vec<Value> {
    let mut values = Vec::new();
    for group in GROUPS.iter().filter(|group| group.is_by_pair()) {
        group.load().unwrap().measure(std::slice::from_ref(pair), &mut values).unwrap();
    }
    values
}

#[test]
fn folder_and_list_agree() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/signals")).unwrap();
    let files: BTreeSet<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "mod.rs" && name != "tests.rs")
        .map(|name| name.strip_suffix(".rs").unwrap_or(&name).to_owned())
        .collect();
    // A model has one file for all of its signals.
    let names = |group: &'static Group| -> Vec<&'static str> {
        let is_model = group.signals.iter().all(|signal| signal.function.is_none());
        if is_model { vec![group.name] } else { group.signals.iter().map(|signal| signal.name).collect() }
    };
    let list: BTreeSet<String> = GROUPS.iter().flat_map(names).map(str::to_owned).collect();
    assert_eq!(files, list);
    let all: BTreeSet<&str> = signals().map(|signal| signal.name).collect();
    assert_eq!(all.len(), signals().count(), "a name is used twice");
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
    let signals: Vec<&Signal> =
        GROUPS.iter().filter(|group| group.is_by_pair()).flat_map(|group| group.signals).collect();
    if values.len() != signals.len() {
        return Err(format!("{} values", values.len()));
    }
    for (signal, value) in signals.into_iter().zip(values) {
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

/// A made-up model: a score of the caption by its weights. It also tells which of its batches a
/// pair came in, and how many pairs that had, which a genuine signal must not depend on.
#[derive(Debug)]
struct Model {
    weights: Vec<usize>,
    batches: AtomicUsize,
}

impl Measurer for Model {
    fn measure(&self, pairs: &[Sample<'_>], values: &mut Vec<Value>) -> Result<(), MeasureError> {
        let batch = self.batches.fetch_add(1, Ordering::Relaxed);
        let captions: Vec<&[u8]> = pairs.iter().map(|pair| pair.caption.unwrap_or_default().as_bytes()).collect();
        // Models compute on all pairs at once, so their inputs get the same length.
        let length = captions.iter().map(|caption| caption.len()).max().ok_or("a batch without pairs")?;
        if length > self.weights.len() {
            return Err("a caption is too long for the weights".into());
        }
        let mut scores = vec![0; pairs.len()];
        for (place, weight) in self.weights[..length].iter().enumerate() {
            for (score, caption) in scores.iter_mut().zip(&captions) {
                *score += weight * caption.get(place).map_or(0, |byte| usize::from(*byte));
            }
        }
        for (score, pair) in scores.into_iter().zip(pairs) {
            values.extend([pair.caption.map(|_| score).into(), batch.into(), pairs.len().into()]);
        }
        Ok(())
    }
}

const fn of_model(name: &'static str) -> Signal {
    Signal {
        name,
        description: "A number that a made-up model gives.",
        unit: "none",
        range: (None, None),
        needs: Needs::Text,
        signal_type: SignalType::Integer,
        source: "this test",
        function: None,
    }
}

const MODEL: Group = Group {
    name: "model",
    version: 1,
    identifies: false,
    signals: &[of_model("score"), of_model("of_batch"), of_model("pairs_of_batch")],
    batch: 3,
    measurer: |_signals| Ok(Box::new(Model { weights: vec![1, 10, 100], batches: AtomicUsize::new(0) })),
};

#[test]
fn a_model_is_loaded_once_and_measures_batches() {
    let captions = [Some("\u{1}"), Some(""), Some("\u{1}\u{2}"), None, Some("\u{3}\u{2}\u{1}"), Some("\u{4}"), None];
    let pairs = captions.map(|caption| Sample::new(caption, None));
    let model = const { &MODEL }.load().unwrap();
    let mut values = vec![Value::Text("before".to_owned())];
    model.measure(&pairs, &mut values).unwrap();
    model.measure(&pairs[..2], &mut values).unwrap();
    let row = |score: Option<usize>, batch: usize, pairs: usize| [score.into(), batch.into(), pairs.into()];
    let expected = [
        row(Some(1), 0, 3),
        row(Some(0), 0, 3),
        row(Some(21), 0, 3),
        row(None, 1, 3),
        row(Some(123), 1, 3),
        row(Some(4), 1, 3),
        row(None, 2, 1),
        row(Some(1), 3, 2),
        row(Some(0), 3, 2),
    ];
    assert_eq!(values[1..], expected.concat());
    assert!(!model.group().is_by_pair());
}

static LOST: Group = Group { measurer: |_signals| Err("the weights are lost".into()), ..MODEL };
static WITHOUT_FUNCTION: Group = Group { measurer: functions, ..MODEL };
static WITH_ONE_SIGNAL: Group = Group { signals: &[of_model("score")], ..MODEL };

#[test]
fn a_model_that_fails_is_an_error_and_no_value() {
    assert_eq!(LOST.load().unwrap_err().to_string(), "the weights are lost");
    assert!(WITHOUT_FUNCTION.load().unwrap_err().to_string().contains("score has no function"));

    let error = |group: &'static Group, caption: &str| {
        let pair = Sample::new(Some(caption), None);
        group.load().unwrap().measure(&[pair], &mut Vec::new()).unwrap_err().to_string()
    };
    assert_eq!(error(&MODEL, "abcd"), "a caption is too long for the weights");
    let too_many = error(&WITH_ONE_SIGNAL, "abc");
    assert!(too_many.contains("at value 3 instead of 1"), "{too_many}");
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
