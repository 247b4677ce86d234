//! Distributions of the values of every signal, over all pairs and over the kept ones.

use anyhow::Result;
use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use lynxdata_engine::select::Rule;
use lynxdata_filters::{GROUPS, Signal, SignalType};
use lynxdata_records::schema::{Column, KEPT, UID};
use lynxdata_report::data::{SignalHistogram, Threshold};
use lynxdata_report::histogram::{Bars, Texts, Values};
use lynxdata_report::threshold;

use crate::pool::{Pool, PoolPart};
use crate::stage::Context;
use crate::stages::select::{self, Select};
use crate::table;

/// Counts the values of every signal in two passes over its tables: the first finds the ranges of
/// the axes, the second fills the bars.
pub(super) fn histograms(
    context: &Context,
    pool: &Pool,
    selection: &str,
    rules: &[Rule],
) -> Result<Vec<SignalHistogram>> {
    let groups = GROUPS.iter().filter(|group| !group.identifies);
    let signals: Vec<&Signal> = groups.flat_map(|group| group.signals).collect();
    let numeric: Vec<&Signal> =
        signals.iter().copied().filter(|signal| signal.signal_type != SignalType::Text).collect();
    let mut values: Vec<Values> = numeric.iter().map(|_| Values::default()).collect();
    for part in &pool.parts {
        let rows = Measured::read(context, part, &numeric)?;
        for (signal, values) in numeric.iter().zip(&mut values) {
            rows.for_each_number(signal, |_, value| values.add(value))?;
        }
    }
    let mut values = values.into_iter();
    let mut counted: Vec<Counted> = signals
        .iter()
        .map(|signal| match signal.signal_type {
            SignalType::Text => Counted::Texts(Texts::default(), empty(signal, rules)),
            SignalType::Integer | SignalType::Float => {
                Counted::Bars(values.next().expect("every number has values").bars(empty(signal, rules)))
            }
        })
        .collect();
    let selections = context.upstream(&Select)?;
    for (part, file) in pool.parts.iter().zip(select::files(&selections, selection, pool)?) {
        let rows = Measured::read(context, part, &signals)?;
        let path = context.run.intact(file)?;
        let decided = table::read(&path, Some(&[UID.name, KEPT.name]))?;
        table::same_pairs(UID.of(&rows.rows, &path)?, UID.of(&decided, &path)?, &path)?;
        let kept = KEPT.of(&decided, &path)?;
        for (signal, counted) in signals.iter().zip(&mut counted) {
            match counted {
                Counted::Bars(bars) => rows.for_each_number(signal, |row, value| bars.add(value, kept.value(row)))?,
                Counted::Texts(texts, _) => {
                    rows.for_each_text(signal, |row, value| texts.add(value, kept.value(row)))?;
                }
            }
        }
    }
    Ok(counted.into_iter().map(Counted::finish).collect())
}

/// A histogram that is being filled.
enum Counted {
    Bars(Bars),
    Texts(Texts, SignalHistogram),
}

impl Counted {
    fn finish(self) -> SignalHistogram {
        match self {
            Counted::Bars(bars) => bars.finish(),
            Counted::Texts(texts, empty) => texts.finish(empty),
        }
    }
}

/// Returns the empty histogram of a signal, with the thresholds that rules set on it.
fn empty(signal: &Signal, rules: &[Rule]) -> SignalHistogram {
    let thresholds = rules.iter().flat_map(|rule| {
        let values = threshold::thresholds_in(&rule.predicate, signal.name).into_iter();
        values.map(|value| Threshold { value, rule: rule.name.clone(), predicate: rule.predicate.clone() })
    });
    SignalHistogram {
        name: signal.name.to_owned(),
        description: signal.description.to_owned(),
        unit: signal.unit.to_owned(),
        thresholds: thresholds.collect(),
        ..SignalHistogram::default()
    }
}

/// Signals of one part of the pool.
struct Measured {
    rows: RecordBatch,
    path: std::path::PathBuf,
}

impl Measured {
    fn read(context: &Context, part: &PoolPart, signals: &[&Signal]) -> Result<Measured> {
        let names: Vec<&str> = signals.iter().map(|signal| signal.name).collect();
        Ok(Measured { rows: part.signals(&context.run, Some(&names))?, path: part.path(&context.run)? })
    }

    fn for_each_number(&self, signal: &Signal, mut each: impl FnMut(usize, Option<f64>)) -> Result<()> {
        if signal.signal_type == SignalType::Integer {
            let column = Column::<Int64Array>::named(signal.name).of(&self.rows, &self.path)?;
            column.iter().enumerate().for_each(|(row, value)| each(row, value.map(|value| value as f64)));
        } else {
            let column = Column::<Float64Array>::named(signal.name).of(&self.rows, &self.path)?;
            column.iter().enumerate().for_each(|(row, value)| each(row, value));
        }
        Ok(())
    }

    fn for_each_text(&self, signal: &Signal, mut each: impl FnMut(usize, Option<&str>)) -> Result<()> {
        let column = Column::<StringArray>::named(signal.name).of(&self.rows, &self.path)?;
        column.iter().enumerate().for_each(|(row, value)| each(row, value));
        Ok(())
    }
}
