//! Stage `report`: the tables of the run as one HTML page, and the same numbers as `report.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use arrow::array::{Array, Float64Array, Int64Array, ListArray, StringArray};
use lynxdata_check::outcome::Metric;
use lynxdata_check::statistics::Difference;
use lynxdata_check::{CheckOutcome, Fit, FitResult, Gear, Version};
use lynxdata_engine::select::{DUPLICATE, Rule};
use lynxdata_filters::{GROUPS, Signal, SignalType};
use lynxdata_picture::{Check, Encode, PictureSettings, Resize, prepare};
use lynxdata_records::{NewPart, PartEntry, Status, fingerprint, parquet, schema};

use super::dedup::pool_of;
use super::{check, instruct, select, shards, stages_of, train};
use crate::pool::{Place, Pool, PoolPart};
use crate::recipe::Recipe;
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};
use crate::stages::select::Select;
use crate::stages::shards::Shards;
use crate::table;
use lynxdata_report::data::{
    Arm, CheckSummary, Comparison, DuplicateCluster, FunnelStep, Loss, Rejection, ReportData, Run, Sample,
    SelectionSummary, SignalHistogram, Threshold, Thumbnail, data_uri,
};
use lynxdata_report::{histogram, render, threshold, unaccounted_rows};

/// Raise it when the same tables give another page.
const FORMAT_VERSION: &str = "2";

/// Shorter side of the pictures in the page, pixels.
const THUMBNAIL_SIDE: u32 = 112;

/// JPEG quality of the pictures in the page.
const THUMBNAIL_QUALITY: u8 = 78;

/// Members of a cluster that are shown.
const MEMBERS_SHOWN: usize = 6;

/// Where the page lies in the run folder.
pub const PAGE: &str = "report.html";

/// Writes the report.
pub struct Report;

impl Stage for Report {
    fn name(&self) -> &'static str {
        "report"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_none() || recipe.has_pool_table()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(settings_text(recipe))
    }

    fn format_version(&self) -> &'static str {
        FORMAT_VERSION
    }

    fn reads(&self, recipe: &Recipe) -> Vec<&'static dyn Stage> {
        stages_of(recipe).filter(|stage| stage.name() != self.name()).collect()
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let sentence = format!("report: {}", context.run.root().join(PAGE).display());
        Ok(StageOutcome { sentences: vec![sentence], is_bad: false })
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let mut inputs = vec!["report".to_owned(), FORMAT_VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned()];
        inputs.push(settings_text(context.recipe()));
        inputs.push(context.loaded.text.clone());
        for stage in self.reads(context.recipe()) {
            inputs.extend(context.upstream(stage)?.iter().map(PartEntry::digest));
        }
        let make = Box::new(move |new: &mut NewPart| {
            let data = gather(context)?;
            for (name, text) in [(PAGE, render(&data)?), ("report.json", serde_json::to_string_pretty(&data)?)] {
                let path = context.run.stage_file(new, name)?;
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        });
        let print = fingerprint(inputs.iter().map(String::as_str));
        Ok(Box::new(std::iter::once(Ok(Planned::new("page".to_owned(), print, make)))))
    }
}

fn gather(context: &Context) -> Result<ReportData> {
    let recipe = context.recipe();
    // The name alone: where the folder lies must not change the page.
    let recipe_path = context.loaded.path.file_name().map_or_else(String::new, |name| name.display().to_string());
    let mut data = ReportData {
        title: if recipe.name.is_empty() { recipe_path.clone() } else { recipe.name.clone() },
        recipe_path,
        recipe_toml: context.loaded.text.clone(),
        lynxdata_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ReportData::default()
    };
    if recipe.source.is_some() {
        let pool = pool_of(context)?;
        data.funnel = download_steps(context, &pool)?;
        if let Some(main) = recipe.main_selection() {
            let decisions = Decisions::read(context, &pool, main)?;
            data.funnel.extend(selection_steps(context, main, &decisions)?);
            let unaccounted = unaccounted_rows(&data.funnel);
            ensure!(
                unaccounted == 0,
                "{unaccounted} rows are missing from the funnel; this is a bug, please report it"
            );
            data.signals = signal_histograms(context, &pool, main, &decisions)?;
            for name in recipe.select.keys() {
                data.selections.push(selection_summary(context, &pool, name)?);
            }
            let mut gallery = Gallery::new(context, &pool);
            (data.kept_samples, data.rejected_samples) = samples(context, &mut gallery, &decisions)?;
            (data.duplicate_clusters, data.duplicates) = duplicates(context, &mut gallery, &decisions)?;
        }
    }
    if recipe.instruct.is_some() {
        data.instruct = Some(instruct::summary(context)?);
    }
    if recipe.check.is_some() {
        data.check = Some(check_summary(context)?);
    }
    Ok(data)
}

fn download_steps(context: &Context, pool: &Pool) -> Result<Vec<FunnelStep>> {
    let mut by_status: BTreeMap<Status, u64> = BTreeMap::new();
    for PoolPart { pairs: part, .. } in &pool.parts {
        let path = table::file(&context.run, part, schema::download_log().name)?;
        let log = table::read(&path, Some(&["status"]))?;
        for status in table::texts(&log, "status", &path)?.iter().flatten() {
            *by_status.entry(status.parse()?).or_default() += 1;
        }
    }
    let rows = by_status.values().sum();
    let downloaded = by_status.remove(&Status::Ok).unwrap_or(0);
    let mut losses: Vec<Loss> = by_status
        .iter()
        .map(|(status, rows)| Loss {
            reason: status.name().to_owned(),
            rows: *rows,
            explanation: status.description().to_owned(),
        })
        .collect();
    losses.sort_by_key(|loss| std::cmp::Reverse(loss.rows));
    let step = |name: &str, description: &str, rows, losses| FunnelStep {
        name: name.to_owned(),
        description: description.to_owned(),
        rows,
        note: String::new(),
        losses,
    };
    Ok(vec![
        step("source", "rows of the source", rows, Vec::new()),
        step("downloaded", "pictures that were fetched, decoded and stored", downloaded, losses),
    ])
}

/// What the main selection decided on every pair, part by part.
struct Decisions {
    parts: Vec<Vec<Decision>>,
}

struct Decision {
    uid: String,
    rejected_by: Vec<String>,
    /// The kept pair that it is a duplicate of.
    duplicate: Option<DuplicateOf>,
}

struct DuplicateOf {
    uid: String,
    by: String,
    distance: Option<i64>,
}

impl Decisions {
    fn read(context: &Context, pool: &Pool, selection: &str) -> Result<Decisions> {
        let mut parts = Vec::new();
        for file in select::files(&context.upstream(&Select)?, selection, pool)? {
            let path = context.run.intact(file)?;
            let rows = table::read(&path, None)?;
            let uids = table::texts(&rows, "uid", &path)?;
            let rejected_by: &ListArray = parquet::typed_column(&rows, "rejected_by", &path)?;
            let duplicate_of = table::texts(&rows, "duplicate_of", &path)?;
            let duplicate_by = table::texts(&rows, "duplicate_by", &path)?;
            let distances = table::integers(&rows, "duplicate_distance", &path)?;
            let duplicate = |row| {
                duplicate_of.is_valid(row).then(|| DuplicateOf {
                    uid: duplicate_of.value(row).to_owned(),
                    by: duplicate_by.value(row).to_owned(),
                    distance: distances.is_valid(row).then(|| distances.value(row)),
                })
            };
            let decision = |row| Decision {
                uid: uids.value(row).to_owned(),
                rejected_by: table::text_list(rejected_by, row),
                duplicate: duplicate(row),
            };
            parts.push((0..rows.num_rows()).map(decision).collect());
        }
        Ok(Decisions { parts })
    }

    fn all(&self) -> impl Iterator<Item = &Decision> {
        self.parts.iter().flatten()
    }

    fn places(&self) -> impl Iterator<Item = (Place, &Decision)> {
        let of_part = |(part, rows): (u32, &'_ Vec<Decision>)| -> Vec<Place> {
            (0..rows.len()).map(|row| Place { part, row: row as u32 }).collect()
        };
        (0..).zip(&self.parts).flat_map(of_part).zip(self.all())
    }

    fn at(&self, place: Place) -> &Decision {
        &self.parts[place.part as usize][place.row as usize]
    }
}

fn rules_of(context: &Context, selection: &str) -> Result<Vec<Rule>> {
    context.recipe().select[selection].rules()
}

fn selection_steps(context: &Context, selection: &str, decisions: &Decisions) -> Result<Vec<FunnelStep>> {
    let rules = rules_of(context, selection)?;
    let mut first_reason: BTreeMap<&str, u64> = BTreeMap::new();
    for decision in decisions.all() {
        if let Some(reason) = decision.rejected_by.first() {
            *first_reason.entry(reason).or_default() += 1;
        }
    }
    let rows = decisions.all().count() as u64;
    let duplicates = first_reason.remove(DUPLICATE).unwrap_or(0);
    let rejected: u64 = first_reason.values().sum();
    let losses = rules
        .iter()
        .filter_map(|rule| {
            let rows = *first_reason.get(rule.name.as_str())?;
            Some(Loss { reason: rule.name.clone(), rows, explanation: format!("does not pass {}", rule.predicate) })
        })
        .collect();
    let mut steps = vec![FunnelStep {
        name: "passed the rules".to_owned(),
        description: format!("pairs that pass every rule of selection {selection}"),
        rows: rows - rejected,
        note: "(a pair that several rules reject counts under the first of them)".to_owned(),
        losses,
    }];
    if context.recipe().select[selection].deduplicate {
        steps.push(FunnelStep {
            name: "unique".to_owned(),
            description: "pairs that are no duplicates of a kept pair".to_owned(),
            rows: rows - rejected - duplicates,
            note: String::new(),
            losses: (duplicates > 0)
                .then(|| Loss {
                    reason: DUPLICATE.to_owned(),
                    rows: duplicates,
                    explanation: "duplicates of a pair that was kept".to_owned(),
                })
                .into_iter()
                .collect(),
        });
    }
    if let Some(config) = &context.recipe().shards {
        let format = config.formats.first().copied();
        let written = context.upstream(&Shards)?;
        let written =
            written.iter().filter(|part| format.is_some_and(|format| part.part.starts_with(shards::folder(format))));
        steps.push(FunnelStep {
            name: "in shards".to_owned(),
            description: format!("pairs of selection {} in the final shards", config.selection),
            rows: written.map(|part| part.rows_out).sum(),
            note: String::new(),
            losses: Vec::new(),
        });
    }
    Ok(steps)
}

fn selection_summary(context: &Context, pool: &Pool, name: &str) -> Result<SelectionSummary> {
    let selections = context.upstream(&Select)?;
    let files = select::files(&selections, name, pool)?.iter();
    let files = files.map(|file| context.run.intact(file)).collect::<lynxdata_records::Result<Vec<_>>>()?;
    let counted = select::count_rejections(files.into_iter())?;
    let rows_of = |counts: &BTreeMap<String, u64>, rule: &str| counts.get(rule).copied().unwrap_or(0);
    let mut rules: Vec<(String, String)> =
        rules_of(context, name)?.into_iter().map(|rule| (rule.name, rule.predicate)).collect();
    if context.recipe().select[name].deduplicate {
        rules.push((DUPLICATE.to_owned(), "it is a duplicate of a kept pair, which `duplicate_of` names".to_owned()));
    }
    let rejected_by = rules
        .into_iter()
        .map(|(rule, predicate)| Rejection {
            rows: rows_of(&counted.by_rule, &rule),
            rows_only_this_rule: rows_of(&counted.by_rule_alone, &rule),
            rule,
            predicate,
        })
        .collect();
    Ok(SelectionSummary { name: name.to_owned(), rows_in: counted.rows, kept: counted.kept, rejected_by })
}

fn signal_histograms(
    context: &Context,
    pool: &Pool,
    selection: &str,
    decisions: &Decisions,
) -> Result<Vec<SignalHistogram>> {
    let rules = rules_of(context, selection)?;
    let kept: Vec<bool> = decisions.all().map(|decision| decision.rejected_by.is_empty()).collect();
    // Perceptual hashes are names, not quantities: their distribution says nothing.
    GROUPS
        .iter()
        .filter(|group| group.name != "hashes")
        .flat_map(|group| group.signals)
        .map(|signal| {
            let thresholds = rules
                .iter()
                .flat_map(|rule| {
                    let values = threshold::thresholds_in(&rule.predicate, signal.name);
                    values.into_iter().map(|value| Threshold {
                        value,
                        rule: rule.name.clone(),
                        predicate: rule.predicate.clone(),
                    })
                })
                .collect();
            let empty = SignalHistogram {
                name: signal.name.to_owned(),
                description: signal.description.to_owned(),
                unit: signal.unit.to_owned(),
                thresholds,
                ..SignalHistogram::default()
            };
            with_values(context, pool, signal, empty, &kept)
        })
        .collect()
}

fn with_values(
    context: &Context,
    pool: &Pool,
    signal: &Signal,
    empty: SignalHistogram,
    kept: &[bool],
) -> Result<SignalHistogram> {
    let mut numbers: Vec<Option<f64>> = Vec::with_capacity(kept.len());
    let mut texts: Vec<Option<String>> = Vec::new();
    for part in &pool.parts {
        let (path, rows) = (part.path(&context.run)?, part.signals(&context.run, Some(&[signal.name]))?);
        match signal.signal_type {
            SignalType::Integer => {
                let column: &Int64Array = parquet::typed_column(&rows, signal.name, &path)?;
                numbers.extend(column.iter().map(|value| value.map(|value| value as f64)));
            }
            SignalType::Float => {
                let column: &Float64Array = parquet::typed_column(&rows, signal.name, &path)?;
                numbers.extend(column.iter());
            }
            SignalType::Text => {
                let column: &StringArray = parquet::typed_column(&rows, signal.name, &path)?;
                texts.extend(column.iter().map(|value| value.map(str::to_owned)));
            }
        }
    }
    let kept = kept.iter().copied();
    Ok(if signal.signal_type == SignalType::Text {
        histogram::with_texts(empty, texts.iter().map(Option::as_deref).zip(kept))
    } else {
        histogram::with_numbers(empty, numbers.into_iter().zip(kept))
    })
}

/// Reads pairs of the pool for showing, one part at a time.
struct Gallery<'a> {
    context: &'a Context,
    pool: &'a Pool,
}

impl<'a> Gallery<'a> {
    fn new(context: &'a Context, pool: &'a Pool) -> Self {
        Gallery { context, pool }
    }

    /// The pairs at these places, in the order of the places.
    fn thumbnails(&mut self, places: &[Place]) -> Result<Vec<Thumbnail>> {
        let mut found: BTreeMap<Place, Thumbnail> = BTreeMap::new();
        let in_order: BTreeSet<Place> = places.iter().copied().collect();
        let in_order: Vec<Place> = in_order.into_iter().collect();
        let columns = ["uid", "url", "caption", "image", "width", "height"];
        let path = Path::new(schema::pool().name);
        self.pool.for_each_at(&self.context.run, &in_order, Some(&columns), &mut |here, rows| {
            let (uids, urls) = (table::texts(rows, "uid", path)?, table::texts(rows, "url", path)?);
            let captions = table::texts(rows, "caption", path)?;
            let widths = table::integers(rows, "width", path)?;
            let heights = table::integers(rows, "height", path)?;
            let pictures = table::pictures(rows, path)?;
            for (row, place) in here.iter().enumerate() {
                let thumbnail = Thumbnail {
                    uid: uids.value(row).to_owned(),
                    caption: captions.value(row).to_owned(),
                    url: urls.value(row).to_owned(),
                    image_data_uri: small_picture(pictures.value(row)),
                    width: widths.value(row) as u32,
                    height: heights.value(row) as u32,
                    kept: true,
                    note: String::new(),
                };
                found.insert(*place, thumbnail);
            }
            Ok(())
        })?;
        Ok(places.iter().map(|place| found[place].clone()).collect())
    }
}

/// A picture small enough for the page; one that does not decode is left out, the pair is shown without it.
fn small_picture(bytes: &[u8]) -> String {
    let settings = PictureSettings {
        resize: Resize::Shorter,
        size: THUMBNAIL_SIDE,
        only_if_larger: true,
        encode: Encode::Jpeg,
        quality: THUMBNAIL_QUALITY,
        max_pixels: 100_000_000,
        check: Check::Pixels,
    };
    prepare(bytes.to_vec(), &settings, &[])
        .map_or_else(|_| String::new(), |picture| data_uri("image/jpeg", &picture.bytes))
}

/// Kept and rejected pairs to show, chosen by a hash of seed and key. Every reason is shown before any is shown twice.
fn samples(context: &Context, gallery: &mut Gallery, decisions: &Decisions) -> Result<(Vec<Sample>, Vec<Sample>)> {
    let seed = context.recipe().seed.to_string();
    let most = context.recipe().report.samples;
    let with_hash = |(place, decision): (Place, &Decision)| (fingerprint(["sample", &seed, &decision.uid]), place);
    let mut order: Vec<(String, Place)> = decisions.places().map(with_hash).collect();
    order.sort_unstable();
    let decision = |place: &Place| decisions.at(*place);
    let (kept, rejected): (Vec<_>, Vec<_>) =
        order.into_iter().map(|(_, place)| place).partition(|place| decision(place).rejected_by.is_empty());
    let mut shown_for: BTreeMap<&str, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, usize, Place)> = Vec::new();
    for (position, place) in rejected.iter().enumerate() {
        let times = shown_for.entry(&decision(place).rejected_by[0]).or_default();
        turns.push((*times, position, *place));
        *times += 1;
    }
    turns.sort_unstable();
    let mut show = |places: Vec<Place>| -> Result<Vec<Sample>> {
        let thumbnails = gallery.thumbnails(&places)?;
        Ok(thumbnails
            .into_iter()
            .zip(&places)
            .map(|(thumbnail, place)| {
                let reasons = decision(place).rejected_by.clone();
                Sample { thumbnail: Thumbnail { kept: reasons.is_empty(), ..thumbnail }, reasons }
            })
            .collect())
    };
    let kept = show(kept.into_iter().take(most).collect())?;
    let rejected = show(turns.into_iter().take(most).map(|(_, _, place)| place).collect())?;
    Ok((kept, rejected))
}

/// The number of kept pairs that stand for others too, and some of them with their duplicates, those with
/// most duplicates first.
fn duplicates(context: &Context, gallery: &mut Gallery, decisions: &Decisions) -> Result<(u64, Vec<DuplicateCluster>)> {
    let mut stars: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
    for (place, decision) in decisions.places() {
        if let Some(duplicate) = &decision.duplicate {
            stars.entry(&duplicate.uid).or_default().push(place);
        }
    }
    let kept = decisions.places().filter(|(_, decision)| stars.contains_key(decision.uid.as_str()));
    let place_of: BTreeMap<&str, Place> = kept.map(|(place, decision)| (decision.uid.as_str(), place)).collect();
    let duplicate = |place: &Place| decisions.at(*place).duplicate.as_ref();
    let kinds = |members: &[Place]| -> BTreeSet<String> {
        members.iter().filter_map(|place| Some(duplicate(place)?.by.clone())).collect()
    };
    let passed = decisions.all().filter(|decision| passes_rules(decision)).count() as u64;
    let count = stars.len() as u64;
    let mut largest: Vec<(&str, &Vec<Place>)> = stars.iter().map(|(kept, members)| (*kept, members)).collect();
    largest.sort_by_key(|(kept, members)| (std::cmp::Reverse(members.len()), *kept));
    // One of each kind of match first: the largest alone would often all be of one kind.
    let mut kinds_shown: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        largest.into_iter().partition(|(_, members)| kinds_shown.insert(kinds(members)));
    chosen.extend(others);
    chosen.truncate(context.recipe().report.clusters);
    let mut shown = Vec::new();
    for (kept, members) in chosen {
        let kept = *place_of.get(kept).with_context(|| format!("no pair has the key {kept} that duplicates name"))?;
        let places: Vec<_> = std::iter::once(kept).chain(members.iter().copied()).take(MEMBERS_SHOWN).collect();
        let kind = kinds(members).iter().map(|by| match_in_words(by, context)).collect::<Vec<_>>().join(", ");
        let thumbnails = gallery.thumbnails(&places)?.into_iter().zip(&places);
        let members_shown = thumbnails.map(|(thumbnail, place)| {
            let note = match duplicate(place) {
                None => String::new(),
                Some(DuplicateOf { distance: Some(bits), .. }) => format!("pHash differs in {bits} bits"),
                Some(duplicate) => match_in_words(&duplicate.by, context),
            };
            Thumbnail { kept: duplicate(place).is_none(), note, ..thumbnail }
        });
        let warning = if select::is_improbable(members.len() as u64, passed) {
            format!("{} of {passed} pairs that pass the rules: more than are likely to show one picture", members.len())
        } else {
            String::new()
        };
        shown.push(DuplicateCluster {
            kind,
            size: members.len() as u64 + 1,
            members: members_shown.collect(),
            warning,
        });
    }
    Ok((count, shown))
}

/// Whether no rule rejected a pair; it may be a duplicate.
fn passes_rules(decision: &Decision) -> bool {
    decision.rejected_by.is_empty() || decision.duplicate.is_some()
}

fn match_in_words(by: &str, context: &Context) -> String {
    match by {
        "exact" => "the same bytes".to_owned(),
        "url" => "the same URL".to_owned(),
        "phash" => format!("pHash within {} bits", context.recipe().dedup.phash_distance),
        other => other.to_owned(),
    }
}

fn check_summary(context: &Context) -> Result<CheckSummary> {
    let outcome: CheckOutcome = check::verdict(context)?;
    let gear = outcome.protocol.gear;
    let fits = if gear == Gear::Lynx { train::results(context, &train::Train)? } else { Vec::new() };
    let finite = |value: &f64| value.is_finite().then_some(*value);
    let arms = outcome.arms.iter().enumerate().map(|(place, arm)| {
        let curve = |replicate: usize| {
            let of_run =
                |fit: &&FitResult| fit.fit == Fit { version: Version::Arm { arm: place }, replicate, setting: 0 };
            let training = fits.iter().find(of_run).and_then(|fit| fit.training.as_ref());
            let points = training.map(|training| training.losses.as_slice()).unwrap_or_default().iter();
            points.map(|(step, loss)| (*step as u64, *loss)).collect()
        };
        let run = |(replicate, gain): (usize, &f64)| Run {
            replicate: replicate as u64,
            curve: curve(replicate),
            held_out: arm.held_out_loss.get(replicate).and_then(finite),
            visual_gain: finite(gain),
        };
        let runs = arm.visual_gain.iter().enumerate().map(run).collect();
        Arm { name: arm.name.clone(), pairs: arm.pairs as u64, runs }
    });
    let arms: Vec<Arm> = arms.collect();
    let other = if outcome.metric == Metric::VisualGain { Metric::HeldOutLoss } else { Metric::VisualGain };
    let row = |metric: Metric, name: &str, [first, second]: [&str; 2], difference: Option<&Difference>| {
        let difference = difference?;
        let [ci_low, ci_high] = difference.interval?;
        Some(Comparison {
            metric: name.to_owned(),
            unit: metric.unit(gear).to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
            lower_is_better: !metric.higher_is_better(),
            mean_difference: difference.mean,
            ci_low,
            ci_high,
            p: difference.p?,
            n: difference.replicates as u64,
        })
    };
    let comparisons = outcome.comparisons.iter().flat_map(|compared| {
        let arms = [compared.first.as_str(), compared.second.as_str()];
        let decisive = row(outcome.metric, outcome.metric.name(), arms, compared.difference.as_ref());
        decisive.into_iter().chain(row(other, other.name(), arms, compared.other_metric.as_ref()))
    });
    let comparisons = comparisons.collect();
    let first = outcome.first();
    let controls = outcome.controls.iter().flat_map(|controls| {
        let halves = row(outcome.metric, "halves", [&controls.arm, "its other half"], controls.halves.as_ref());
        let wrong = controls.wrong_texts.iter().filter_map(|control| {
            let name = format!("{} % wrong texts", control.percent);
            row(outcome.metric, &name, [&controls.arm, "itself with them"], Some(&control.fall))
        });
        halves.into_iter().chain(wrong).collect::<Vec<_>>()
    });
    let controls = controls.collect();
    let weights = fits.iter().find_map(|fit| Some(fit.training.as_ref()?.weights as u64));
    let method = match gear {
        Gear::Quick => {
            "A probe predicts the words of a text from frozen features of its picture, by ridge regression.".to_owned()
        }
        Gear::Lynx => format!(
            "A compact Lynx of {} weights is trained on every arm in every replicate.",
            lynxdata_report::count(weights.unwrap_or(0))
        ),
    };
    let sentences: Vec<&str> = outcome.comparisons.iter().map(|compared| compared.sentence.as_str()).collect();
    Ok(CheckSummary {
        metric: outcome.metric.name().to_owned(),
        arms,
        comparisons,
        verdict_word: match first.verdict.winner() {
            Some(arm) => format!("{arm} is better"),
            None => first.verdict.name().to_owned(),
        },
        verdict_sentence: sentences.join(" "),
        method,
        gain_unit: Metric::VisualGain.unit(gear).to_owned(),
        controls,
        gates: first.gates.clone(),
        notes: outcome.notes.clone(),
    })
}
