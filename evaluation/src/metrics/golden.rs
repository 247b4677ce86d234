//! Golden values: inputs with the results of the official implementations, see
//! `fixtures/SOURCES.tsv`.

use serde_json::Value;

use super::{Counted, Metric, Variant};
use crate::input::{Item, Reference, Source, read_references};

/// The rows of a fixture, and its last row, which has the figures of all rows.
pub(crate) struct Golden {
    pub(crate) references: Vec<Reference>,
    pub(crate) rows: Vec<Value>,
    pub(crate) all: Option<Value>,
}

pub(crate) fn golden(file: &str) -> Golden {
    let text = std::fs::read_to_string(format!("{}/fixtures/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all = rows.pop_if(|row| row["id"] == "all");
    let kept: Vec<String> = rows.iter().map(Value::to_string).collect();
    let kept = kept.join("\n");
    let references = read_references(&[Source { name: file, text: &kept }]).unwrap().rows;
    Golden { references, rows, all }
}

impl Golden {
    pub(crate) fn items(&self) -> Vec<Item<'_>> {
        let items = self.references.iter().zip(&self.rows);
        items.map(|(reference, row)| Item { reference, prediction: row["prediction"].as_str() }).collect()
    }

    pub(crate) fn count(&self, metric: &Metric) -> Counted {
        (metric.count)(&self.items(), Variant::Official).unwrap()
    }

    /// Fails unless the first figure of every question is that of the fixture.
    pub(crate) fn assert_each(&self, metric: &Metric, expected: impl Fn(&Value) -> f64) {
        let counted = self.count(metric);
        let mut different = Vec::new();
        for (row, counts) in self.rows.iter().zip(&counted.rows) {
            let (found, expected) = ((metric.compute)(counts)[0], expected(row));
            if (found - expected).abs() > 1e-7 {
                different.push(format!("{row}: {found} instead of {expected}"));
            }
        }
        assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    }

    /// Returns the figures of all questions together.
    pub(crate) fn figures(&self, metric: &Metric) -> Vec<f64> {
        let counted = self.count(metric);
        let mut total = vec![0.0; counted.rows[0].len()];
        for row in &counted.rows {
            crate::interval::add(&mut total, row);
        }
        (metric.compute)(&total)
    }
}

#[track_caller]
pub(crate) fn assert_close(found: f64, expected: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() < 1e-7, "{found} instead of {expected}");
}
