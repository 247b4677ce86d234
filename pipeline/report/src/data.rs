//! The content of the report as plain data: `report.json` has the same numbers as the page.
//!
//! Every floating-point number must be finite, because JSON has no others; values that may be
//! missing are `Option`s.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lynxdata_check::metrics::{METRICS, VISUAL_GAIN};
use lynxdata_check::outcome::Gate;
use lynxdata_check::{Gear, Metric, Values};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything that a report shows. Empty lists and `None` leave out their section.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReportData {
    /// Name of the run, the heading of the page.
    pub title: String,
    /// Path of the recipe as the user gave it.
    pub recipe_path: String,
    /// The whole recipe, overrides applied.
    pub recipe_toml: String,
    /// Version of lynxdata that made the run.
    pub lynxdata_version: String,
    /// The steps from input rows to kept pairs, in the order in which data flows.
    pub funnel: Vec<FunnelStep>,
    /// One distribution per signal, in the order of the signal table.
    pub signals: Vec<SignalHistogram>,
    /// One entry per selection of the recipe.
    pub selections: Vec<SelectionSummary>,
    /// Kept pairs that have duplicates, shown here or not.
    pub duplicate_clusters: u64,
    /// Clusters that are shown with images of the kept pair and its duplicates.
    pub duplicates: Vec<DuplicateCluster>,
    /// Examples of kept pairs.
    pub kept_samples: Vec<Sample>,
    /// Examples of rejected pairs with the reasons.
    pub rejected_samples: Vec<Sample>,
    /// The instruction set, if the recipe builds one.
    pub instruct: Option<InstructSummary>,
    /// The check, if the recipe asks for one.
    pub check: Option<CheckSummary>,
}

/// One step of the funnel.
///
/// `rows` must equal the `rows` of the step before minus the sum of `losses`; the page computes and
/// shows the rows that are unaccounted for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FunnelStep {
    /// Short name, such as `downloaded`.
    pub name: String,
    /// One sentence that describes the step.
    pub description: String,
    /// Rows that are left after the step.
    pub rows: u64,
    /// A remark about this run, or empty.
    pub note: String,
    /// The reasons for the missing rows. Each lost row counts once, under the first reason that
    /// applies.
    pub losses: Vec<Loss>,
}

/// Rows that one step lost for one reason.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Loss {
    /// The status, rule or kind of duplicate, as the tables spell it.
    pub reason: String,
    /// Rows lost for this reason.
    pub rows: u64,
    /// The meaning of the reason, in words.
    pub explanation: String,
}

/// The distribution of the values of one signal, over all pairs and over the kept ones.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SignalHistogram {
    /// The signal, as the table's column is named.
    pub name: String,
    /// Its definition.
    pub description: String,
    /// Unit of the values, or empty.
    pub unit: String,
    /// The division of the axis.
    pub scale: Scale,
    /// Bars of a numeric signal in rising order; empty for a text signal.
    pub bins: Vec<Bin>,
    /// Bars of a text signal in falling order; empty for a numeric signal.
    pub categories: Vec<Category>,
    /// Pairs without a value.
    pub missing: u64,
    /// Bounds that the rules set on this signal.
    pub thresholds: Vec<Threshold>,
}

/// The division of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Equal steps add the same amount.
    #[default]
    Linear,
    /// Equal steps multiply by the same factor.
    Log,
}

/// One bar of a histogram. It holds its lower edge, and its upper edge only if it is the last bar
/// with one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower edge in the signal's unit; `None`: everything below `to`.
    pub from: Option<f64>,
    /// Upper edge in the signal's unit; `None`: everything from `from` on.
    pub to: Option<f64>,
    /// Pairs of the pool in this bin.
    pub all: u64,
    /// Kept pairs in it.
    pub kept: u64,
}

/// One value of a text signal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Category {
    /// The value, such as a language code.
    pub name: String,
    /// Pairs of the pool with this value.
    pub all: u64,
    /// Kept pairs with it.
    pub kept: u64,
}

/// A bound that a rule sets on a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The bound, in the signal's unit.
    pub value: f64,
    /// Name of the rule.
    pub rule: String,
    /// The rule's SQL predicate.
    pub predicate: String,
}

/// The pairs that one selection kept, and the rules that rejected the rest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SelectionSummary {
    /// Name of the selection in the recipe.
    pub name: String,
    /// Rows that the rules judged.
    pub rows_in: u64,
    /// Rows that passed every rule.
    pub kept: u64,
    /// The rules in the recipe's order. Rules overlap, so their rows may add up to more than were
    /// rejected.
    pub rejected_by: Vec<Rejection>,
}

/// The rows that one rule rejected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rejection {
    /// Name of the rule.
    pub rule: String,
    /// Its SQL predicate.
    pub predicate: String,
    /// Rows that fail it.
    pub rows: u64,
    /// Rows that fail only this rule: they would be kept without it.
    pub rows_only_this_rule: u64,
}

/// A kept pair and its duplicates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DuplicateCluster {
    /// The kind of match in words, such as `pHash within 6 bits`.
    pub kind: String,
    /// The kept pair and its duplicates, shown here or not.
    pub size: u64,
    /// The pairs that are shown, the kept one first.
    pub members: Vec<Thumbnail>,
    /// A warning that this many duplicates are improbable, or empty.
    pub warning: String,
}

/// A pair, small enough to show.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Key of the pair.
    pub uid: String,
    /// Its text, whole.
    pub caption: String,
    /// URL of the image.
    pub url: String,
    /// The image as [`data_uri`] makes it, or empty if there is none. Only raster images are shown.
    pub image_data_uri: String,
    /// Width of the pool's image in pixels, 0 if there is none.
    pub width: u32,
    /// Height of the pool's image in pixels, 0 if there is none.
    pub height: u32,
    /// Whether the pair was kept.
    pub kept: bool,
    /// A remark, such as a hash distance, or empty.
    pub note: String,
}

/// An example pair with the reasons for which it was rejected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// The pair.
    #[serde(flatten)]
    pub thumbnail: Thumbnail,
    /// Every rule or status that rejected it; empty for a kept pair.
    pub reasons: Vec<String>,
}

/// The instruction set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InstructSummary {
    /// The tasks, in the recipe's order.
    pub tasks: Vec<TaskSummary>,
    /// The wordings and how often each was used.
    pub templates: Vec<TemplateUse>,
    /// The diversity of all instructions and answers.
    pub diversity: DiversitySummary,
    /// The positions of right options, if any question has options.
    pub right_options: Option<PositionSummary>,
    /// Examples.
    pub samples: Vec<ConversationSample>,
}

/// The diversity of instructions and answers; `lynxdata_datasets::Diversity` says how it is
/// measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DiversitySummary {
    /// Entropy of the shares of wordings, in bits.
    pub entropy_bits: f64,
    /// Different words / all words of the instructions, 0 to 1 (distinct-1 of Li et al., arXiv
    /// 1510.03055).
    pub distinct_1: f64,
    /// Different word pairs / all word pairs, 0 to 1 (distinct-2, same source).
    pub distinct_2: f64,
    /// Mean BLEU-4 of an instruction against others, 0 to 1 (self-BLEU, arXiv 1802.01886).
    pub self_bleu: Option<f64>,
    /// Share of instructions that repeat an earlier one word for word, 0 to 1.
    pub repeated: f64,
    /// Median number of words of answers.
    pub answer_p50: u64,
    /// Number of words that 90 % of the answers do not exceed.
    pub answer_p90: u64,
    /// Number of words of the longest answer.
    pub answer_max: u64,
}

/// The positions of right options.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PositionSummary {
    /// Number of times that the right option is the first, the second, …
    pub counts: Vec<u64>,
    /// Chi-square against equally likely positions.
    pub chi_square: f64,
    /// Its degrees of freedom.
    pub freedom: u64,
    /// Probability of at least this chi-square if positions are equally likely; `None` if there are
    /// too few questions.
    pub p: Option<f64>,
}

/// The share of one task in the instruction set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Name of the task.
    pub name: String,
    /// The group that mixtures use.
    pub group: String,
    /// Licence of its annotations, as stated by the authors.
    pub licence: String,
    /// Conversations made from it.
    pub conversations: u64,
    /// Wordings that were used at least once.
    pub templates_used: u64,
    /// All wordings of its banks, used or not.
    pub templates_total: u64,
    /// The diversity of its instructions and answers.
    #[serde(default)]
    pub diversity: DiversitySummary,
    /// Records, rows and elements of lists that were left out, by reason.
    #[serde(default)]
    pub left_out: BTreeMap<String, u64>,
}

/// One wording.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TemplateUse {
    /// Bank that holds it.
    pub bank: String,
    /// Its id in the bank.
    pub id: String,
    /// The wording with its slots.
    pub text: String,
    /// Conversations that use it.
    pub uses: u64,
}

/// One conversation, small enough to show.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ConversationSample {
    /// Task that it comes from.
    pub task: String,
    /// Its images.
    pub images: Vec<Thumbnail>,
    /// Its messages, in order.
    pub messages: Vec<Message>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Message {
    /// The speaker: `user`, `assistant` or `system`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// The outcome of training on each arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckSummary {
    /// The metric that decides the verdict.
    pub metric: String,
    /// The data choices that were compared.
    pub arms: Vec<Arm>,
    /// Paired comparisons, the verdict's metric first.
    pub comparisons: Vec<Comparison>,
    /// The verdict in a word or two, such as `inconclusive`.
    pub verdict_word: String,
    /// The verdict in a sentence.
    pub verdict_sentence: String,
    /// The method, in a sentence.
    pub method: String,
    /// The gear; `report.json` has it as the unit of the visual gain.
    #[serde(rename = "gain_unit", serialize_with = "write_gear", deserialize_with = "read_gear")]
    pub gear: Gear,
    /// Controls: the best arm against itself with wrong texts, and its halves against each other.
    pub controls: Vec<Comparison>,
    /// The conditions of a verdict.
    pub gates: Vec<Gate>,
    /// Facts that limit the verdict.
    pub notes: Vec<String>,
    /// The metrics that were measured; not in `report.json`, because every run has their keys.
    #[serde(skip, default = "all_metrics")]
    pub metrics: Vec<&'static Metric>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn write_gear<S: Serializer>(gear: &Gear, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str((VISUAL_GAIN.unit)(*gear))
}

fn read_gear<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Gear, D::Error> {
    let unit = String::deserialize(deserializer)?;
    let gear = [Gear::Quick, Gear::Lynx].into_iter().find(|gear| (VISUAL_GAIN.unit)(*gear) == unit);
    gear.ok_or_else(|| D::Error::custom(format!("no gear has the visual gain in {unit:?}")))
}

fn all_metrics() -> Vec<&'static Metric> {
    METRICS.to_vec()
}

/// Returns metrics in the order of their columns: what every gear has comes last.
pub(crate) fn columns(metrics: &[&'static Metric]) -> impl Iterator<Item = &'static Metric> {
    metrics.iter().rev().copied()
}

/// One data choice of a check.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Arm {
    /// Name of the arm.
    pub name: String,
    /// Pairs that it trains on.
    pub pairs: u64,
    /// Its replicates.
    pub runs: Vec<Run>,
}

/// One training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Number of its replicate.
    pub replicate: u64,
    /// Step and training loss, by rising step. The curve of a run that diverged ends at its last
    /// finite loss.
    pub curve: Vec<(u64, f64)>,
    /// The metrics on held-out pairs; `None` if the run diverged or its gear does not have one.
    #[serde(flatten, serialize_with = "write_values", deserialize_with = "read_values")]
    pub values: Values<Metric, Option<f64>>,
}

fn write_values<S: Serializer>(values: &Values<Metric, Option<f64>>, serializer: S) -> Result<S::Ok, S::Error> {
    values.write(|metric| metric.column.key, serializer)
}

fn read_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Values<Metric, Option<f64>>, D::Error> {
    Values::read(columns(METRICS), |metric| metric.column.key, std::convert::identity, deserializer)
}

/// A paired comparison of two arms on one metric.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// The metric, in words.
    pub metric: String,
    /// Unit of the difference, or empty.
    pub unit: String,
    /// Arm that the difference is taken from.
    pub first: String,
    /// Arm that is subtracted.
    pub second: String,
    /// Whether a lower value is better, as for a loss.
    pub lower_is_better: bool,
    /// Mean over replicates of `first` minus `second`.
    pub mean_difference: f64,
    /// Lower end of the interval of the difference.
    pub ci_low: f64,
    /// Upper end of it.
    pub ci_high: f64,
    /// Confidence of the interval, from 0 to 1.
    pub confidence: f64,
    /// p-value of "no difference".
    pub p: f64,
    /// Whether p and the confidence are adjusted for the number of comparisons; `None` if there is
    /// nothing to adjust for.
    pub is_adjusted: Option<bool>,
    /// Replicates.
    pub n: u64,
}

/// Returns an image file as a `data:` URI, so that the page needs no other file. `media_type` is
/// its type, such as `image/jpeg`.
pub fn data_uri(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
}
