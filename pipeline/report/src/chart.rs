//! Charts as inline SVG. Colours come from the style sheet of the page, so that they fit light
//! mode, dark mode and print.
//!
//! Each chart is drawn for a given width in CSS pixels. The page has a wide and a narrow drawing
//! where one would not be readable at both sizes.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write as _};

use super::data::{Arm, Bin, Category, Comparison, FunnelStep, Scale, SignalHistogram};
use super::histogram::round_step;
use super::number::{count, difference, edge, percent, probability, tick};

/// Width of a chart that spans the page, in CSS pixels.
pub(crate) const WIDE: f64 = 720.0;
/// Width of a chart on a phone and in a grid of small charts, in CSS pixels.
pub(crate) const NARROW: f64 = 340.0;

/// Maximum number of points of a training curve; longer curves are averaged over equal stretches.
const MOST_CURVE_POINTS: usize = 160;
/// Number of colours for arms that the style sheet defines.
const ARM_COLOURS: usize = 4;

/// Draws the steps of the funnel as bars: what is left, what the step lost, and what was lost
/// before.
pub(crate) fn funnel(steps: &[FunnelStep], width: f64) -> String {
    const ROW: f64 = 46.0;
    const BAR: f64 = 14.0;
    let Some(first) = steps.first() else {
        return String::new();
    };
    let most = steps.iter().map(|step| step.rows).max().unwrap_or(0).max(1) as f64;
    let label = steps.iter().map(|step| format!("{} {}", step.name, count(step.rows))).collect::<Vec<_>>().join(", ");
    let mut svg = open(width, ROW * steps.len() as f64, &format!("Rows left after each step: {label}."));
    for (place, step) in steps.iter().enumerate() {
        let top = ROW * place as f64;
        let numbers = format!("{}  ({})", count(step.rows), percent(step.rows, first.rows));
        let room = width - text_width(&numbers, 13.0) - 16.0;
        text(&mut svg, 0.0, top + 15.0, "start", "strong", &fit(&step.name, 14.0, room));
        text(&mut svg, width, top + 15.0, "end", "number", &numbers);
        rect(&mut svg, [0.0, top + 23.0, width, BAR], "track", "");
        let mut end = width * step.rows as f64 / most;
        let kept = format!("{}: {} left", step.name, count(step.rows));
        rect(&mut svg, [0.0, top + 23.0, end, BAR], "kept", &kept);
        for (shade, loss) in step.losses.iter().filter(|loss| loss.rows > 0).enumerate() {
            let length = width * loss.rows as f64 / most;
            let class = if shade % 2 == 0 { "lost" } else { "lost lighter" };
            let lost = format!("{}: {} lost to {}", step.name, count(loss.rows), loss.reason);
            rect(&mut svg, [end, top + 23.0, length, BAR], class, &lost);
            end += length;
        }
    }
    close(svg)
}

/// Draws the distribution of a signal over all pairs and over the kept ones, with the rules' bounds
/// as lines.
pub(crate) fn signal(signal: &SignalHistogram) -> String {
    if !signal.bins.is_empty() {
        histogram(signal)
    } else if signal.categories.is_empty() {
        String::new()
    } else {
        categories(&signal.name, &signal.categories)
    }
}

/// The places of values on the horizontal axis of a histogram.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    left: f64,
    right: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let (low, high, value) = match self.scale {
            Scale::Linear => (self.low, self.high, value),
            Scale::Log => (self.low.log10(), self.high.log10(), value.log10()),
        };
        self.left + (self.right - self.left) * (value - low) / (high - low)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => ticks(self.low, self.high, 5.0),
            Scale::Log => {
                let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
                let every = (last - first) / 6 + 1;
                (first..=last)
                    .step_by(every as usize)
                    .map(|power| {
                        let value = 10_f64.powi(power);
                        let label =
                            if (-3..7).contains(&power) { tick(value, value) } else { format!("10{}", raised(power)) };
                        (value, label)
                    })
                    .collect()
            }
        }
    }
}

fn histogram(signal: &SignalHistogram) -> String {
    const WIDTH: f64 = NARROW;
    const LEFT: f64 = 38.0;
    const PLOT_HEIGHT: f64 = 120.0;
    const OPEN_BAR: f64 = 20.0;
    const GAP: f64 = 7.0;
    const LABEL_ROW: f64 = 14.0;

    let bounds = grouped_bounds(signal);
    let closed: Vec<(f64, f64)> = signal.bins.iter().filter_map(|bin| bin.from.zip(bin.to)).collect();
    let (Some(&(low, _)), Some(&(_, high))) = (closed.first(), closed.last()) else {
        return String::new();
    };
    let has_below = signal.bins.iter().any(|bin| bin.from.is_none());
    let has_above = signal.bins.iter().any(|bin| bin.to.is_none());
    let axis = Axis {
        scale: signal.scale,
        low,
        high,
        left: LEFT + if has_below { OPEN_BAR + GAP } else { 0.0 },
        right: WIDTH - 4.0 - if has_above { OPEN_BAR + GAP } else { 0.0 },
    };
    let top = 8.0 + LABEL_ROW * bounds.len() as f64;
    let bottom = top + PLOT_HEIGHT;
    let most = signal.bins.iter().map(|bin| bin.all).max().unwrap_or(0).max(1);
    let height_of = |rows: u64| PLOT_HEIGHT * rows as f64 / most as f64;
    let across = |bin: &Bin| match (bin.from, bin.to) {
        (Some(from), Some(to)) => (axis.place(from), axis.place(to)),
        (None, _) => (LEFT, LEFT + OPEN_BAR),
        (_, None) => (axis.right + GAP, axis.right + GAP + OPEN_BAR),
    };

    let mut svg = open(WIDTH, bottom + 22.0, &histogram_label(signal, &bounds));
    for (value, label) in ticks(0.0, most as f64, 3.0) {
        if value.fract() == 0.0 {
            let y = bottom - PLOT_HEIGHT * value / most as f64;
            line(&mut svg, [LEFT, y, WIDTH - 4.0, y], "grid");
            text(&mut svg, LEFT - 6.0, y + 4.0, "end", "tick", &label);
        }
    }
    for bin in &signal.bins {
        let (left, right) = across(bin);
        let gap = if right - left > 4.0 { 1.0 } else { 0.0 };
        let body = |rows: u64| [left, bottom - height_of(rows), right - left - gap, height_of(rows)];
        rect(&mut svg, body(bin.all), "all", "");
        rect(&mut svg, body(bin.kept), "kept", "");
        // One invisible column over both bars, so that even a low bar shows its tooltip.
        let hint = format!("{}: {} pairs, {} kept", interval(bin), count(bin.all), count(bin.kept));
        rect(&mut svg, [left, top, right - left, PLOT_HEIGHT], "hit", &hint);
    }
    line(&mut svg, [LEFT, bottom, WIDTH - 4.0, bottom], "axis");

    let mut taken: Vec<(f64, f64)> = Vec::new();
    for bin in signal.bins.iter().filter(|bin| bin.from.is_none() || bin.to.is_none()) {
        let label = interval(bin);
        let (x, anchor) = if bin.from.is_none() { (LEFT - 8.0, "start") } else { (WIDTH, "end") };
        let length = text_width(&label, 11.0);
        taken.push(if bin.from.is_none() { (x, x + length) } else { (x - length, x) });
        text(&mut svg, x, bottom + 15.0, anchor, "tick open", &label);
    }
    for (value, label) in axis.ticks() {
        let x = axis.place(value);
        let half = text_width(&label, 11.0) / 2.0;
        if taken.iter().all(|(from, to)| x + half + 5.0 < *from || x - half - 5.0 > *to) {
            line(&mut svg, [x, bottom, x, bottom + 4.0], "axis");
            let (at, anchor) = if x + half > WIDTH { (WIDTH, "end") } else { (x, "middle") };
            text(&mut svg, at, bottom + 15.0, anchor, "tick", &label);
        }
    }
    for (row, (value, names)) in bounds.iter().enumerate() {
        let x = if *value < axis.low {
            if has_below { LEFT + OPEN_BAR / 2.0 } else { LEFT }
        } else if *value > axis.high {
            if has_above { axis.right + GAP + OPEN_BAR / 2.0 } else { axis.right }
        } else {
            axis.place(*value)
        };
        let y = 12.0 + LABEL_ROW * row as f64;
        line(&mut svg, [x, y - 9.0, x, bottom], "bound");
        let label = format!("{names} {}", edge(*value));
        let (at, anchor, room) =
            if x < WIDTH / 2.0 { (x + 5.0, "start", WIDTH - x - 5.0) } else { (x - 5.0, "end", x - 5.0) };
        let shown = fit(&label, 11.0, room);
        // A strip in the background colour keeps the lines of other rules from crossing the words.
        let length = text_width(&shown, 11.0);
        let strip = if anchor == "start" { at - 1.0 } else { at - length - 1.0 };
        rect(&mut svg, [strip, y - 9.5, length + 2.0, 12.5], "paper", "");
        text(&mut svg, at, y, anchor, "bound-label", &shown);
    }
    close(svg)
}

/// Returns the bounds in rising order, rules with the same bound together.
fn grouped_bounds(signal: &SignalHistogram) -> Vec<(f64, String)> {
    let mut thresholds: Vec<_> = signal.thresholds.iter().filter(|threshold| threshold.value.is_finite()).collect();
    thresholds.sort_by(|a, b| a.value.total_cmp(&b.value));
    let mut bounds: Vec<(f64, String)> = Vec::new();
    for threshold in thresholds {
        match bounds.last_mut() {
            Some((value, names)) if value.total_cmp(&threshold.value).is_eq() => {
                if !names.split(", ").any(|name| name == threshold.rule) {
                    names.push_str(", ");
                    names.push_str(&threshold.rule);
                }
            }
            _ => bounds.push((threshold.value, threshold.rule.clone())),
        }
    }
    bounds
}

fn histogram_label(signal: &SignalHistogram, bounds: &[(f64, String)]) -> String {
    let total = signal.bins.iter().map(|bin| bin.all).sum();
    let kept = signal.bins.iter().map(|bin| bin.kept).sum();
    let mut label = format!("Histogram of {}: {} pairs, {} kept", signal.name, count(total), count(kept));
    if let Some(fullest) = signal.bins.iter().rev().max_by_key(|bin| bin.all) {
        push(&mut label, format_args!(", most of them at {}", interval(fullest)));
    }
    for (value, names) in bounds {
        push(&mut label, format_args!(", bound {} of {names}", edge(*value)));
    }
    label + "."
}

fn interval(bin: &Bin) -> String {
    match (bin.from, bin.to) {
        (Some(from), Some(to)) => format!("{} to {}", edge(from), edge(to)),
        (None, Some(to)) => format!("< {}", edge(to)),
        (Some(from), None) => format!("> {}", edge(from)),
        (None, None) => "any value".to_owned(),
    }
}

fn categories(signal: &str, categories: &[Category]) -> String {
    const WIDTH: f64 = NARROW;
    const ROW: f64 = 19.0;
    let name_of = |category: &Category| {
        if category.name.trim().is_empty() { "(empty)".to_owned() } else { category.name.clone() }
    };
    let widest = categories.iter().map(|category| text_width(&name_of(category), 12.0)).fold(30.0, f64::max);
    let left = widest.min(110.0) + 8.0;
    let most = categories.iter().map(|category| category.all).max().unwrap_or(0).max(1);
    let right = WIDTH - text_width(&count(most), 11.0) - 8.0;
    let told = categories.iter().map(|category| format!("{} {}", name_of(category), count(category.all)));
    let label = format!("Pairs by {signal}: {}.", told.collect::<Vec<_>>().join(", "));
    let mut svg = open(WIDTH, ROW * categories.len() as f64, &label);
    for (place, category) in categories.iter().enumerate() {
        let top = ROW * place as f64;
        let length = |rows: u64| (right - left) * rows as f64 / most as f64;
        let hint = format!("{}: {} pairs, {} kept", name_of(category), count(category.all), count(category.kept));
        text(&mut svg, left - 8.0, top + 13.0, "end", "tick", &fit(&name_of(category), 12.0, left - 8.0));
        rect(&mut svg, [left, top + 3.0, length(category.all), ROW - 6.0], "all", &hint);
        rect(&mut svg, [left, top + 3.0, length(category.kept), ROW - 6.0], "kept", &hint);
        text(&mut svg, left + length(category.all) + 6.0, top + 13.0, "start", "tick", &count(category.all));
    }
    close(svg)
}

/// Returns how many logged steps one drawn point of the training curves averages.
pub(crate) fn steps_per_point(arms: &[Arm]) -> usize {
    let longest = arms.iter().flat_map(|arm| &arm.runs).map(|run| run.curve.len()).max().unwrap_or(0);
    longest.div_ceil(MOST_CURVE_POINTS).max(1)
}

/// The curves of one arm as they are drawn.
struct ArmCurves {
    /// The arm's place, which gives its colour.
    arm: usize,
    runs: Vec<Vec<(f64, f64)>>,
    mean: Vec<(f64, f64)>,
}

/// Draws the training loss by step: a thin line per run, a bold one for each arm's mean, and the
/// last third enlarged.
pub(crate) fn training_curves(arms: &[Arm], width: f64) -> String {
    const GAP: f64 = 26.0;
    const HEIGHT: f64 = 250.0;
    let per_point = steps_per_point(arms);
    let curves: Vec<ArmCurves> =
        arms.iter().enumerate().map(|(place, arm)| arm_curves(place, arm, per_point)).collect();
    let last_step = curves.iter().flat_map(|arm| &arm.runs).flatten().map(|point| point.0).fold(0.0, f64::max);
    if last_step <= 0.0 {
        return String::new();
    }
    let ends = curves.iter().zip(arms).filter_map(|(curves, arm)| {
        curves.mean.last().map(|(step, loss)| format!("{} at {} after {} steps", arm.name, edge(round_3(*loss)), step))
    });
    let label = format!("Training loss by step. Mean over runs: {}.", ends.collect::<Vec<_>>().join(", "));
    let last_third = last_step * 2.0 / 3.0;
    let panels = [(0.0, "whole training"), (last_third, "last third, enlarged")];
    let side_by_side = width >= WIDE;
    let size = if side_by_side { (width, HEIGHT) } else { (width, 2.0 * HEIGHT + GAP) };
    let mut svg = open(size.0, size.1, &label);
    for (place, (from_step, title)) in panels.iter().enumerate() {
        let place = place as f64;
        let area = if side_by_side {
            let panel = (width - GAP) / 2.0;
            [place * (panel + GAP), 0.0, panel, HEIGHT]
        } else {
            [0.0, place * (HEIGHT + GAP), width, HEIGHT]
        };
        curve_panel(&mut svg, area, title, &curves, (*from_step, last_step));
    }
    close(svg)
}

fn arm_curves(place: usize, arm: &Arm, per_point: usize) -> ArmCurves {
    let mut sums: BTreeMap<u64, (f64, usize)> = BTreeMap::new();
    for (step, loss) in arm.runs.iter().flat_map(|run| &run.curve) {
        let sum = sums.entry(*step).or_default();
        sum.0 += loss;
        sum.1 += 1;
    }
    // Only steps that every run reached: a run that ends early would bend the mean.
    let common = sums.iter().filter(|(_, sum)| sum.1 == arm.runs.len());
    let mean: Vec<(u64, f64)> = common.map(|(step, sum)| (*step, sum.0 / sum.1 as f64)).collect();
    ArmCurves {
        arm: place,
        runs: arm.runs.iter().map(|run| averaged(&run.curve, per_point)).collect(),
        mean: averaged(&mean, per_point),
    }
}

/// Stretches of `per_point` points as their mean step and loss.
fn averaged(curve: &[(u64, f64)], per_point: usize) -> Vec<(f64, f64)> {
    curve
        .chunks(per_point)
        .map(|points| {
            let n = points.len() as f64;
            (
                points.iter().map(|point| point.0 as f64).sum::<f64>() / n,
                points.iter().map(|point| point.1).sum::<f64>() / n,
            )
        })
        .filter(|point| point.1.is_finite())
        .collect()
}

fn curve_panel(svg: &mut String, area: [f64; 4], title: &str, curves: &[ArmCurves], steps: (f64, f64)) {
    const LEFT: f64 = 40.0;
    let [x0, y0, width, height] = area;
    let (left, right, top, bottom) = (x0 + LEFT, x0 + width - 6.0, y0 + 26.0, y0 + height - 34.0);
    text(svg, left, y0 + 13.0, "start", "panel-title", title);
    let drawn = |point: &&(f64, f64)| point.0 >= steps.0;
    let losses: Vec<f64> =
        curves.iter().flat_map(|arm| &arm.runs).flatten().filter(drawn).map(|point| point.1).collect();
    let low = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        text(svg, left, f64::midpoint(top, bottom), "start", "tick", "no losses here");
        return;
    }
    let margin = if high > low { 0.04 * (high - low) } else { low.abs().max(1.0) * 0.1 };
    let (low, high) = (low - margin, high + margin);
    let across = |step: f64| left + (right - left) * (step - steps.0) / (steps.1 - steps.0);
    let down = |loss: f64| bottom - (bottom - top) * (loss - low) / (high - low);
    for (value, label) in ticks(low, high, 4.0) {
        line(svg, [left, down(value), right, down(value)], "grid");
        text(svg, left - 6.0, down(value) + 4.0, "end", "tick", &label);
    }
    line(svg, [left, bottom, right, bottom], "axis");
    for (value, label) in ticks(steps.0, steps.1, 4.0) {
        let x = across(value);
        line(svg, [x, bottom, x, bottom + 4.0], "axis");
        let anchor = if x + text_width(&label, 11.0) / 2.0 > x0 + width { "end" } else { "middle" };
        text(svg, x, bottom + 16.0, anchor, "tick", &label);
    }
    text(svg, right, bottom + 31.0, "end", "tick", "training step");
    let path = |points: &[(f64, f64)]| {
        let mut path = String::new();
        for (place, (step, loss)) in points.iter().filter(drawn).enumerate() {
            let command = if place == 0 { 'M' } else { 'L' };
            push(&mut path, format_args!("{command}{:.1} {:.1}", across(*step), down(*loss)));
        }
        path
    };
    for arm in curves {
        for run in &arm.runs {
            push(svg, format_args!("<path class=\"run arm-{}\" d=\"{}\"/>", arm.arm % ARM_COLOURS, path(run)));
        }
    }
    for arm in curves {
        push(svg, format_args!("<path class=\"mean arm-{}\" d=\"{}\"/>", arm.arm % ARM_COLOURS, path(&arm.mean)));
    }
}

/// Draws the mean difference of each comparison as a dot, its confidence interval as a whisker, and
/// zero as a line.
///
/// Every row has its own scale, oriented so that left means that the first arm is better.
pub(crate) fn differences(comparisons: &[Comparison], width: f64) -> String {
    const ROW: f64 = 104.0;
    let drawable: Vec<&Comparison> = comparisons
        .iter()
        .filter(|row| [row.mean_difference, row.ci_low, row.ci_high].iter().all(|value| value.is_finite()))
        .collect();
    if drawable.is_empty() {
        return String::new();
    }
    let told = drawable.iter().map(|row| format!("{}: {}", row.metric, comparison_in_words(row, &row.unit)));
    let mut svg = open(width, ROW * drawable.len() as f64 - 12.0, &told.collect::<Vec<_>>().join("; "));
    for (place, row) in drawable.iter().enumerate() {
        let top = ROW * place as f64;
        let middle = width / 2.0;
        let y = top + 54.0;
        let widest = row.ci_low.abs().max(row.ci_high.abs()).max(row.mean_difference.abs());
        let step = if widest > 0.0 { round_step(widest / 4.0) } else { 0.25 };
        let limit = step * (widest * 1.05 / step).ceil();
        let left_sign = if row.lower_is_better { 1.0 } else { -1.0 };
        let across = |value: f64| middle + left_sign * value / limit * (middle - 8.0);
        text(&mut svg, 0.0, top + 14.0, "start", "strong", &fit(&row.metric, 14.0, width));
        let with_unit = comparison_in_words(row, &row.unit);
        let numbers =
            if text_width(&with_unit, 11.0) <= width { with_unit.clone() } else { comparison_in_words(row, "") };
        text(&mut svg, 0.0, top + 31.0, "start", "tick", &fit(&numbers, 11.0, width));
        line(&mut svg, [8.0, y, width - 8.0, y], "axis");
        for (value, anchor) in [(-left_sign * limit, "start"), (0.0, "middle"), (left_sign * limit, "end")] {
            let x = across(value);
            line(&mut svg, [x, y - 3.0, x, y + 3.0], "axis");
            let at = match anchor {
                "start" => 0.0,
                "end" => width,
                _ => x,
            };
            let sign = if value > 0.0 { "+" } else { "" };
            text(&mut svg, at, y + 18.0, anchor, "tick", &format!("{sign}{}", tick(value, step)));
        }
        line(&mut svg, [middle, y - 12.0, middle, y + 8.0], "zero");
        let class = if row.ci_low <= 0.0 && 0.0 <= row.ci_high { "open-verdict" } else { "clear" };
        let (from, to) = (across(row.ci_low), across(row.ci_high));
        line(&mut svg, [from, y, to, y], &format!("whisker {class}"));
        for x in [from, to] {
            line(&mut svg, [x, y - 5.0, x, y + 5.0], &format!("whisker {class}"));
        }
        let hint = escape(&with_unit);
        let x = across(row.mean_difference);
        push(&mut svg, format_args!("<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5.5\">"));
        push(&mut svg, format_args!("<title>{hint}</title></circle>"));
        let room = middle - 12.0;
        text(&mut svg, 0.0, y + 34.0, "start", "side", &fit(&format!("◂ {} better", row.first), 11.0, room));
        text(&mut svg, width, y + 34.0, "end", "side", &fit(&format!("{} better ▸", row.second), 11.0, room));
    }
    close(svg)
}

fn comparison_in_words(row: &Comparison, unit: &str) -> String {
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    let adjusted = match row.is_adjusted {
        Some(true) => "adjusted ",
        Some(false) => "unadjusted ",
        None => "",
    };
    format!(
        "{}{unit} ({}% interval {} to {}), {adjusted}p {}",
        difference(row.mean_difference),
        round_1(100.0 * row.confidence),
        difference(row.ci_low),
        difference(row.ci_high),
        probability(row.p),
    )
}

/// Returns round marks within a range, about `wanted` of them, with their labels.
fn ticks(low: f64, high: f64, wanted: f64) -> Vec<(f64, String)> {
    let step = round_step((high - low) / wanted);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    (0..=(last - first).max(-1.0) as i64)
        .filter(|_| last >= first)
        .map(|n| {
            let value = (first + n as f64) * step;
            (value, tick(value, step))
        })
        .collect()
}

fn round_1(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn round_3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn raised(power: i32) -> String {
    power
        .to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '4' => '⁴',
            '5' => '⁵',
            '6' => '⁶',
            '7' => '⁷',
            '8' => '⁸',
            '9' => '⁹',
            _ => '⁰',
        })
        .collect()
}

fn open(width: f64, height: f64, label: &str) -> String {
    let label = escape(label);
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         role=\"img\" aria-label=\"{label}\">"
    )
}

fn close(svg: String) -> String {
    svg + "</svg>"
}

fn rect(svg: &mut String, [x, y, width, height]: [f64; 4], class: &str, hint: &str) {
    push(svg, format_args!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\""));
    push(svg, format_args!(" height=\"{height:.1}\""));
    if hint.is_empty() {
        svg.push_str("/>");
    } else {
        push(svg, format_args!("><title>{}</title></rect>", escape(hint)));
    }
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], class: &str) {
    push(svg, format_args!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, class: &str, content: &str) {
    push(svg, format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">"));
    push(svg, format_args!("{}</text>", escape(content)));
}

fn push(out: &mut String, what: Arguments<'_>) {
    out.write_fmt(what).expect("writing to a string cannot fail");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Estimates how wide a text is in CSS pixels: letters of a sans-serif face are a little over half
/// as wide as high, and those of East Asian scripts as wide as high.
fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| if c < '\u{2e80}' { 0.56 * size } else { size }).sum()
}

/// Returns the text, cut with an ellipsis if it would be wider than `room` pixels.
fn fit(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if text_width(&shown, size) + size > room {
            shown.pop();
            break;
        }
    }
    shown.trim_end().to_owned() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Loss, Run, Threshold};

    #[test]
    fn draws_funnel_bars_in_proportion() {
        let losses = vec![Loss { reason: "http_404".to_owned(), rows: 25, explanation: String::new() }];
        let steps = [
            FunnelStep { name: "listed".to_owned(), rows: 100, ..FunnelStep::default() },
            FunnelStep { name: "downloaded".to_owned(), rows: 75, losses, ..FunnelStep::default() },
        ];
        let svg = funnel(&steps, 400.0);
        assert!(svg.contains("class=\"kept\" x=\"0.0\" y=\"69.0\" width=\"300.0\""), "{svg}");
        assert!(svg.contains("class=\"lost\" x=\"300.0\" y=\"69.0\" width=\"100.0\""), "{svg}");
        assert!(svg.contains("downloaded: 25 lost to http_404"), "{svg}");
        assert!(svg.contains("75  (75%)"), "{svg}");
    }

    fn aspect_ratio() -> SignalHistogram {
        let bin = |from, to, all, kept| Bin { from, to, all, kept };
        SignalHistogram {
            name: "aspect_ratio".to_owned(),
            bins: vec![
                bin(Some(1.0), Some(2.0), 80, 80),
                bin(Some(2.0), Some(3.0), 40, 10),
                bin(Some(3.0), None, 5, 0),
            ],
            thresholds: vec![
                Threshold { value: 2.5, rule: "no <banners>".to_owned(), predicate: String::new() },
                Threshold { value: 2.5, rule: "square".to_owned(), predicate: String::new() },
                Threshold { value: 7.0, rule: "slivers".to_owned(), predicate: String::new() },
            ],
            ..SignalHistogram::default()
        }
    }

    #[test]
    fn draws_bounds_and_open_bars_and_escapes_names() {
        let svg = signal(&aspect_ratio());
        assert_eq!(svg.matches("class=\"bound\"").count(), 2, "{svg}");
        assert!(svg.contains("no &lt;banners&gt;, square 2.5"), "{svg}");
        assert!(!svg.contains("<banners>"), "{svg}");
        assert!(svg.contains("&gt; 3</text>"), "{svg}");
        assert!(svg.contains("2 to 3: 40 pairs, 10 kept"), "{svg}");
    }

    #[test]
    fn places_a_logarithmic_axis_by_ratio() {
        let axis = Axis { scale: Scale::Log, low: 1.0, high: 10_000.0, left: 0.0, right: 400.0 };
        assert!((axis.place(100.0) - 200.0).abs() < 1e-9);
        let labels: Vec<String> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["1", "10", "100", "1,000", "10k"]);
    }

    fn run(replicate: u64, losses: &[f64]) -> Run {
        let curve = (1_u64..).zip(losses.iter().copied()).collect();
        Run { replicate, curve, values: std::iter::empty().collect() }
    }

    #[test]
    fn averages_only_steps_that_every_run_reached() {
        let arm = Arm { name: "a".to_owned(), pairs: 1, runs: vec![run(0, &[4.0, 2.0]), run(1, &[2.0, 2.0, 9.0])] };
        assert_eq!(arm_curves(0, &arm, 1).mean, [(1.0, 3.0), (2.0, 2.0)]);
        assert_eq!(arm_curves(0, &arm, 2).runs[1], [(1.5, 2.0), (3.0, 9.0)]);
    }

    #[test]
    fn thins_long_curves_to_what_can_be_seen() {
        let losses: Vec<f64> = (0..5000).map(|n| 7.0 - f64::from(n) / 1000.0).collect();
        let arms = vec![Arm { name: "a".to_owned(), pairs: 1, runs: vec![run(0, &losses)] }];
        assert_eq!(steps_per_point(&arms), 32);
        let svg = training_curves(&arms, WIDE);
        assert!(svg.len() < 12_000, "{}", svg.len());
        assert_eq!(svg.matches("class=\"run arm-0\"").count(), 2); // one a panel
        assert_eq!(training_curves(&[], WIDE), "");
    }

    #[test]
    fn turns_each_comparison_so_that_left_favours_the_first_arm() {
        let loss = Comparison {
            metric: "held-out loss".to_owned(),
            first: "clean".to_owned(),
            second: "raw".to_owned(),
            lower_is_better: true,
            mean_difference: -0.05,
            ci_low: -0.08,
            ci_high: -0.02,
            confidence: 0.95,
            p: 0.031,
            n: 6,
            ..Comparison::default()
        };
        let gain =
            Comparison { lower_is_better: false, mean_difference: 0.05, ci_low: 0.02, ci_high: 0.08, ..loss.clone() };
        let left_dot = "class=\"dot clear\" cx=\"104.0\"";
        assert!(differences(std::slice::from_ref(&loss), 400.0).contains(left_dot));
        assert!(differences(&[gain], 400.0).contains(left_dot));
        let open = Comparison { ci_high: 0.01, ..loss.clone() };
        let svg = differences(&[open], 400.0);
        assert!(
            svg.contains("dot open-verdict") && svg.contains("−0.050 (95% interval −0.080 to +0.010), p 0.031"),
            "{svg}"
        );
        let of_several = Comparison { confidence: 1.0 - 0.05 / 3.0, is_adjusted: Some(true), ..loss.clone() };
        let other_metric = Comparison { is_adjusted: Some(false), ..loss };
        let svg = differences(&[of_several, other_metric], 400.0);
        for words in [
            "(98.3% interval −0.080 to −0.020), adjusted p 0.031",
            "(95% interval −0.080 to −0.020), unadjusted p 0.031",
        ] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
    }

    #[test]
    fn shortens_a_label_that_does_not_fit() {
        assert_eq!(fit("short", 10.0, 100.0), "short");
        let shown = fit("a label that is much too long", 10.0, 60.0);
        assert!(shown.ends_with('…') && text_width(&shown, 10.0) <= 62.0, "{shown}");
    }
}
