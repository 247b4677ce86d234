//! The report of a run: one HTML file that opens offline, without scripts and requests.
//!
//! [`data`] defines the content, [`histogram`] and [`threshold`] prepare the signals and
//! [`mod@check`] the check, [`chart`] draws, and `assets/report.html.j2` is the page, with
//! `assets/report_card.html.j2` for one pair. Captions, URLs and names come from strangers, so the
//! template escapes everything, only http(s) addresses become links, and the content security
//! policy of the page forbids scripts and requests.

use std::cmp::Reverse;

use lynxdata_check::Metric;
use lynxdata_check::metrics::Column;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, State, UndefinedBehavior, Value, context};
use serde::Serialize;

mod chart;
pub mod check;
pub mod data;
pub mod histogram;
mod number;
#[cfg(test)]
mod tests;
pub mod threshold;

pub use number::count;

use data::{Arm, CheckSummary, FunnelStep, InstructSummary, ReportData, Run, columns};

/// Name of the page's template.
const PAGE: &str = "report.html";
/// Name of the template of one pair.
const CARD: &str = "report_card.html";

/// Maximum length of a text in characters. A longer text is cut, and all of it is shown after a
/// click.
const SHOWN_CHARACTERS: usize = 220;

/// Maximum number of reasons that the summary names.
const NAMED_LOSSES: usize = 3;

/// Writes the report as one HTML page. The same data give the same bytes.
///
/// # Errors
///
/// Only if the template does not match the data types.
pub fn render(data: &ReportData) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("count", number::count);
    environment.add_filter("measure", number::measure);
    environment.add_filter("difference", number::difference);
    environment.add_filter("percent", number::percent);
    environment.add_filter("probability", number::probability);
    environment.add_filter("edge", number::edge);
    environment.add_filter("web_address", |url: &str| web_address(url).map(str::to_owned));
    environment.add_filter("picture", |uri: &str| picture(uri).map(str::to_owned));
    environment.add_filter("is_long", |text: &str| text.chars().count() > SHOWN_CHARACTERS);
    environment.add_filter("characters", |text: &str| text.chars().count());
    environment.add_filter("shortened", shortened);
    environment.add_function("card", card);
    for (name, source) in
        [(PAGE, include_str!("../assets/report.html.j2")), (CARD, include_str!("../assets/report_card.html.j2"))]
    {
        environment.add_template(name, source)?;
    }

    let signal_charts: Vec<Value> = data.signals.iter().map(|signal| drawn(chart::signal(signal))).collect();
    let page = context! {
        data => Serde(data),
        summary => Serde(summary(data)),
        ledger => Serde(ledger(&data.funnel)),
        funnel_charts => both_widths(|width| chart::funnel(&data.funnel, width)),
        signal_charts => signal_charts,
        instruct => data.instruct.as_ref().map(instruct_totals),
        check => data.check.as_ref().map(check_view),
    };
    let template = environment.get_template(PAGE).expect("the template was just added");
    template.render(page)
}

/// Draws one pair as a card; the template calls it. `say_fate` says whether the card has words for
/// whether the pair was kept.
fn card(state: &State, pair: Value, reasons: Value, say_fate: bool) -> Result<Value, minijinja::Error> {
    let card = state.env().get_template(CARD)?;
    card.render(context! { pair, reasons, say_fate }).map(Value::from_safe_string)
}

/// Marks a chart as safe, so that it is not escaped again.
fn drawn(svg: String) -> Value {
    Value::from_safe_string(svg)
}

fn both_widths(draw: impl Fn(f64) -> String) -> Value {
    context! { wide => drawn(draw(chart::WIDE)), narrow => drawn(draw(chart::NARROW)) }
}

/// The first sentences of the page.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    /// Input rows.
    rows_in: u64,
    /// Rows left after the last step.
    rows_out: u64,
    /// The most frequent reasons for a loss, over all steps.
    main_losses: Vec<data::Loss>,
    /// All losses.
    lost: u64,
}

fn summary(data: &ReportData) -> Option<Summary> {
    let (first, last) = (data.funnel.first()?, data.funnel.last()?);
    let mut losses: Vec<data::Loss> = data.funnel.iter().flat_map(|step| &step.losses).cloned().collect();
    let lost = losses.iter().map(|loss| loss.rows).sum();
    losses.retain(|loss| loss.rows > 0);
    losses.sort_by_key(|loss| Reverse(loss.rows)); // stable: equal ones stay in order of the data's flow
    losses.truncate(NAMED_LOSSES);
    Some(Summary { rows_in: first.rows, rows_out: last.rows, main_losses: losses, lost })
}

/// One step of the funnel, with the check that its numbers add up.
#[derive(Debug, PartialEq, Serialize)]
struct LedgerStep {
    /// Rows of the step before, none for the first.
    before: Option<u64>,
    /// Sum of the step's losses.
    lost: u64,
    /// Rows of the step before minus losses minus rows: 0 unless something is wrong.
    unaccounted: i64,
}

fn ledger(funnel: &[FunnelStep]) -> Vec<LedgerStep> {
    let mut before = None;
    let mut steps = Vec::with_capacity(funnel.len());
    for step in funnel {
        let lost = step.losses.iter().map(|loss| loss.rows).sum();
        // The first step starts from what it lost and what it kept, so nothing can be missing.
        let expected = before.unwrap_or(step.rows + lost) as i64 - lost as i64;
        steps.push(LedgerStep { before, lost, unaccounted: expected - step.rows as i64 });
        before = Some(step.rows);
    }
    steps
}

/// Returns the number of rows that the losses of the funnel do not explain, summed over its steps
/// as absolute values; 0 in a correct report.
pub fn unaccounted_rows(funnel: &[FunnelStep]) -> u64 {
    ledger(funnel).iter().map(|step| step.unaccounted.unsigned_abs()).sum()
}

fn instruct_totals(instruct: &InstructSummary) -> Value {
    let most_uses = instruct.templates.iter().map(|template| template.uses).max().unwrap_or(0);
    let mut banks: Vec<&str> = Vec::new();
    for template in &instruct.templates {
        if !banks.contains(&template.bank.as_str()) {
            banks.push(&template.bank);
        }
    }
    context! {
        conversations => instruct.tasks.iter().map(|task| task.conversations).sum::<u64>(),
        wordings => instruct.templates.len(),
        wordings_used => instruct.templates.iter().filter(|template| template.uses > 0).count(),
        most_uses => most_uses,
        banks => Serde(banks),
    }
}

fn check_view(check: &CheckSummary) -> Value {
    let value = |run: &Run, metric: &Metric| run.values.get(metric).copied().flatten();
    let has_value =
        |metric: &Metric| check.arms.iter().flat_map(|arm| &arm.runs).any(|run| value(run, metric).is_some());
    // A metric of every gear is shown even if all runs diverged.
    let shown: Vec<&Metric> =
        columns(&check.metrics).filter(|metric| !metric.needs_language_model || has_value(metric)).collect();
    let of_column = |metric: &&Metric| {
        let Column { key, title, unit, meaning } = metric.column;
        context! { key, title, words => metric.words, unit => unit(check.gear), meaning }
    };
    let mean = |arm: &Arm, metric: &Metric| {
        let known: Vec<f64> = arm.runs.iter().filter_map(|run| value(run, metric)).collect();
        if known.is_empty() { None } else { Some(known.iter().sum::<f64>() / known.len() as f64) }
    };
    let means = |arm: &Arm| shown.iter().map(|metric| mean(arm, metric)).collect::<Vec<Option<f64>>>();
    context! {
        columns => shown.iter().map(of_column).collect::<Vec<Value>>(),
        means => check.arms.iter().map(means).collect::<Vec<_>>(),
        curves => both_widths(|width| chart::training_curves(&check.arms, width)),
        steps_per_point => chart::steps_per_point(&check.arms),
        differences => both_widths(|width| chart::differences(&check.comparisons, width)),
    }
}

/// Returns the address if a link to it is harmless: http and https, but not for example
/// `javascript:`.
fn web_address(url: &str) -> Option<&str> {
    let scheme = url.split_once("://")?.0;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(url)
}

/// Returns the `data:` URI if it holds a raster image.
fn picture(uri: &str) -> Option<&str> {
    let kinds = ["jpeg", "png", "webp", "gif", "bmp"];
    let kind = uri.strip_prefix("data:image/")?.split_once(";base64,")?.0;
    kinds.contains(&kind).then_some(uri)
}

/// Returns the start of a text.
fn shortened(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARACTERS).collect();
    start.trim_end().to_owned() + "…"
}
