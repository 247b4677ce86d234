//! Scores of model answers, by the definitions of the official scripts.
//!
//! In the order in which data flows:
//!
//! * [`input`]: predictions and references from the text of files, joined by their ids;
//! * [`metrics`]: one file for each metric, with the source and version of its definition;
//! * [`mod@score`]: figures for all questions and for each category, with 95 % intervals;
//! * [`interval`]: the bootstrap over images for these intervals;
//! * [`judge`]: a language model as judge: prompt, reply, agreement with people;
//! * [`ptb`]: tokens of captions as in coco-caption.
//!
//! Nothing here reads files or asks a server. Golden values of all metrics were computed by the
//! official implementations; `fixtures/SOURCES.tsv` names the versions.
//!
//! ```
//! use lynxdata_evaluation::input::{Source, join, read_predictions, read_references};
//! use lynxdata_evaluation::{Variant, metric, score};
//!
//! let references = r#"{"id": 1, "question": "How many dogs?", "answers": ["2"]}"#;
//! let predictions = r#"{"id": 1, "answer": "2."}"#;
//! let references = read_references(&[Source { name: "references.jsonl", text: references }])?;
//! let predictions = read_predictions(Source { name: "predictions.jsonl", text: predictions }, &references.key)?;
//! let joined = join(&references.rows, &predictions)?;
//! let scores = score(metric("exact_match").unwrap(), &joined.items, Variant::Official, 0)?;
//! assert_eq!(scores.groups[0].figures[0].value, Some(100.0));
//! # Ok::<(), lynxdata_evaluation::Error>(())
//! ```

mod error;
pub mod input;
pub mod interval;
pub mod judge;
pub mod metrics;
pub mod place;
pub mod ptb;
mod python;
pub mod score;

pub use error::{Error, Result};
pub use metrics::{METRICS, Metric, Variant, metric};
pub use score::{Scores, score};
