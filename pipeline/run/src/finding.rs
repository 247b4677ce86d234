//! Tests the findings of Lynx's paper on a compact model, with error bars.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow};
use lynxdata_burn_model::{
    DeviceName, Example, Fusion, ModelConfig, Pictures, RunResult, RunSpec, Sight, Tokenizer, TokenizerConfig,
    TrainConfig, Turn, train_tokenizer,
};
use lynxdata_check::Matrix;
use lynxdata_check::features::{FEATURES, SIDE, coordinates, features};
use lynxdata_check::resample::{Drawn, weight};
use lynxdata_check::statistics::{Difference, difference};
use lynxdata_check::world::{Drawing, drawings};
use lynxdata_picture::scaled_square;
use lynxdata_records::nearest;
use serde::{Deserialize, Serialize};

use crate::lynx::trusted;
use crate::{Failure, Host};

/// Probability that an interval misses the truth.
const ALPHA: f64 = 0.05;

/// Questions of Open-VQA: 302 about images and 148 about videos.
const QUESTIONS: f64 = 450.0;

/// Number of drawings of which one is held out.
const HELD_OUT_SHARE: usize = 5;

/// Number of noisy pairs of which one has a wrong caption.
const WRONG_ONE_IN: usize = 3;

/// Principal coordinates of the frozen features, as in a check.
const COORDINATES: usize = 256;

/// A test of a finding.
pub struct Test {
    /// The name of the finding.
    pub finding: String,
    /// Number of replicates; each draws the data again and has its own training seed.
    pub replicates: usize,
    /// Number of drawings, of which a fifth is held out.
    pub drawings: usize,
    /// Seed of the drawings and of all draws.
    pub seed: u64,
    /// The device to train on.
    pub device: DeviceName,
    /// Overrides of settings of the training, such as `steps=400`.
    pub sets: Vec<String>,
}

/// A finding of the paper.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    name: String,
    claim: String,
    first: String,
    second: String,
    paper_first: f64,
    paper_second: f64,
    paper_says: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Findings {
    findings: Vec<Finding>,
}

/// The paper's numbers.
#[derive(Debug, Serialize)]
pub struct Paper {
    /// What the paper compared.
    pub compared_with: String,
    /// Right answers of both sides.
    pub right_answers: [f64; 2],
    /// Number of questions.
    pub questions: f64,
    /// Share of right answers of first minus second, in per cent.
    pub difference_in_points: f64,
    /// Its 95 % interval.
    pub ci95: [f64; 2],
    /// Its p-value.
    pub p: f64,
}

/// The result of a test.
#[derive(Debug, Serialize)]
pub struct Tested {
    /// The name of the finding.
    pub finding: String,
    /// The finding.
    pub claim: String,
    /// The side that is better according to the paper.
    pub first: String,
    /// The other side.
    pub second: String,
    /// The paper's numbers.
    pub paper: Paper,
    /// The metric of the difference.
    pub metric: &'static str,
    /// Visual gain of first minus second, in bits per byte: above 0 if the finding holds.
    pub difference: Difference,
    /// Mean visual gain of both sides.
    pub visual_gain: [f64; 2],
    /// Mean bits per byte of held-out text of both sides.
    pub bits_per_byte: [f64; 2],
    /// `holds`, `contradicted`, `inconclusive`, or `invalid` if neither model uses its images.
    pub outcome: &'static str,
    /// The result in words, beside the paper's.
    pub sentence: String,
}

/// Trains both sides of a finding in every replicate, and compares them.
///
/// # Errors
/// [`Failure::Usage`] if there is no such finding or device or a setting is wrong,
/// [`Failure::Failed`] if a training fails.
pub fn test(test: &Test, host: &dyn Host) -> Result<Tested, Failure> {
    let finding = find(&test.finding).map_err(Failure::Usage)?;
    if test.replicates < 3 || test.drawings < 100 {
        return Err(Failure::Usage(anyhow!("a finding needs at least 3 replicates and 100 drawings")));
    }
    let train = settings(&finding.name, &test.sets).map_err(Failure::Usage)?;
    test.device.resolve().map_err(|error| Failure::Usage(error.into()))?;
    let device = trusted(&test.device, train.precision, host)?;
    let trial = Trial::new(&finding.name, train, test)?;
    let results = trial.run(&device, test.replicates)?;
    let side = |side: usize, of: &dyn Fn(&RunResult) -> f64| -> Vec<f64> {
        results.iter().map(|pair| of(&pair[side])).collect()
    };
    let [first_bits, second_bits] = [0, 1].map(|number| side(number, &RunResult::bits_per_byte));
    let [first, second] = [0, 1].map(|number| side(number, &RunResult::visual_gain));
    if first_bits.iter().chain(&second_bits).any(|bits| !bits.is_finite()) {
        return Err(Failure::Failed(anyhow!(
            "the loss of a training is not a number; try again with a lower rate, --set learning_rate=…"
        )));
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let found = difference(&first, &second, ALPHA);
    let outcome = match (looks(&first) || looks(&second), found.is_significant(), found.mean > 0.0) {
        (false, ..) => "invalid",
        (true, true, true) => "holds",
        (true, true, false) => "contradicted",
        (true, false, _) => "inconclusive",
    };
    let paper = paper(&finding);
    let [low, high] = found.interval.unwrap_or([f64::NAN; 2]);
    let sentence = format!(
        "Paper: {} right answers of {QUESTIONS} against {} ({}), {:+.1} points, 95 % interval {:+.1} to {:+.1}, {}{}.\n\
         Here: {} against {}: the right image saves {:.3} and {:.3} bits per byte of held-out text; the difference is {:+.4}, \
         95 % interval {low:+.4} to {high:+.4}, {}, {} replicates. That {} is {}.\n\
         The texts themselves cost {:.3} and {:.3} bits per byte.",
        paper.right_answers[0],
        paper.right_answers[1],
        finding.paper_says,
        paper.difference_in_points,
        paper.ci95[0],
        paper.ci95[1],
        probability(paper.p),
        if paper.p < ALPHA { "" } else { ", within noise" },
        finding.first,
        finding.second,
        mean(&first),
        mean(&second),
        found.mean,
        found.p.map_or("no p".to_owned(), probability),
        found.replicates,
        finding.claim,
        match outcome {
            "holds" => "found here too",
            "contradicted" => "contradicted here",
            "invalid" => "not tested here, because neither model uses its images; more steps may help",
            _ => "not decided here",
        },
        mean(&first_bits),
        mean(&second_bits),
    );
    Ok(Tested {
        finding: finding.name,
        claim: finding.claim,
        first: finding.first,
        second: finding.second,
        paper,
        metric: "visual_gain",
        visual_gain: [mean(&first), mean(&second)],
        bits_per_byte: [mean(&first_bits), mean(&second_bits)],
        difference: found,
        outcome,
        sentence,
    })
}

/// Returns whether the right image clearly helps the model of a side.
fn looks(gains: &[f64]) -> bool {
    let nothing = vec![0.0; gains.len()];
    difference(gains, &nothing, ALPHA).interval.is_some_and(|[low, _]| low > 0.0)
}

/// Returns a p-value as text.
fn probability(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

fn find(name: &str) -> anyhow::Result<Finding> {
    let all: Findings = toml::from_str(include_str!("../assets/findings.toml")).context("the list of findings")?;
    let found = all.findings.iter().find(|finding| finding.name == name).cloned();
    found.ok_or_else(|| {
        let names: Vec<&str> = all.findings.iter().map(|finding| finding.name.as_str()).collect();
        let hint = nearest(name, names.iter().copied()).map(|near| format!("\nhint: did you mean {near:?}?"));
        anyhow!("there is no finding {name:?}; the findings are: {}{}", names.join(", "), hint.unwrap_or_default())
    })
}

/// Returns the training settings of a finding: those of a check, with more steps.
fn settings(name: &str, sets: &[String]) -> anyhow::Result<TrainConfig> {
    // With 4,000 drawings, 600 steps are an epoch and a half. That is enough for models with
    // features to use their images; models with pixels need 2,000.
    let steps = if name == "resolution" { 2000 } else { 600 };
    let rate = if name == "resolution" { 2e-3 } else { 4e-3 };
    let base = TrainConfig { steps, learning_rate: rate, max_tokens: 48, ..TrainConfig::default() };
    let mut table = toml::Table::try_from(&base)?;
    for set in sets {
        let (key, value) = set.split_once('=').with_context(|| format!("--set {set}: a key and a value are needed"))?;
        let parsed: toml::Table =
            toml::from_str(&format!("value = {value}")).with_context(|| format!("--set {set}"))?;
        table.insert(key.trim().to_owned(), parsed["value"].clone());
    }
    let train: TrainConfig = table.try_into().context("--set")?;
    train.validate()?;
    Ok(train)
}

/// Returns the difference between two shares of right answers, each from one training, with the
/// interval for independent shares.
fn paper(finding: &Finding) -> Paper {
    let [first, second] = [finding.paper_first, finding.paper_second].map(|right| right / QUESTIONS);
    let error = ((first * (1.0 - first) + second * (1.0 - second)) / QUESTIONS).sqrt();
    let z = (first - second) / error;
    // Student's t with very many degrees of freedom equals the normal distribution.
    let many = 1e7;
    let half = lynxdata_check::statistics::student_t_quantile(1.0 - ALPHA / 2.0, many) * error;
    Paper {
        compared_with: finding.paper_says.clone(),
        right_answers: [finding.paper_first, finding.paper_second],
        questions: QUESTIONS,
        difference_in_points: 100.0 * (first - second),
        ci95: [100.0 * (first - second - half), 100.0 * (first - second + half)],
        p: 2.0 * lynxdata_check::statistics::student_t_cdf(-z.abs(), many),
    }
}

/// The data of one side of a comparison.
struct Side {
    model: ModelConfig,
    pictures: Pictures,
    /// Examples with the drawing that each is about, which is the unit of the draws.
    examples: Vec<Example>,
}

/// A comparison.
struct Trial {
    train: TrainConfig,
    tokenizer: Tokenizer,
    sides: [Side; 2],
    held_out: Vec<Example>,
    seed: u64,
}

impl Trial {
    fn new(name: &str, train: TrainConfig, test: &Test) -> anyhow::Result<Trial> {
        let all = drawings(test.drawings, test.seed);
        let measured = all.len() / HELD_OUT_SHARE;
        let captions: Vec<Example> =
            (0..).zip(&all).map(|(row, drawing)| Example::caption(row, &drawing.caption)).collect();
        let (held_out, training) = captions.split_at(measured);
        let side = |model: ModelConfig, pictures: &Pictures, examples: Vec<Example>| Side {
            model,
            pictures: pictures.clone(),
            examples,
        };
        let small = ModelConfig { decoder_depth: 2, ..ModelConfig::default() };
        let mut held_out = held_out.to_vec();
        let sides = match name {
            "prefix-vs-cross-attention" => {
                let pictures = feature_pictures(&all);
                let crossed = ModelConfig { fusion: Fusion::CrossAttention, ..small.clone() };
                [small, crossed].map(|model| side(model, &pictures, training.to_vec()))
            }
            "clean-vs-noisy" => {
                // The clean side has a third of the drawings. The noisy side has them too and the
                // other two thirds, of which every third has the caption of another drawing.
                let (clean, noisy) = training.split_at(training.len() / 3);
                let mut noisy = noisy.to_vec();
                let wrong: Vec<usize> = (0..noisy.len()).step_by(WRONG_ONE_IN).collect();
                let turns: Vec<Vec<Turn>> = wrong.iter().map(|place| noisy[*place].turns.clone()).collect();
                for (place, turns) in wrong.iter().zip(turns.into_iter().cycle().skip(1)) {
                    noisy[*place].turns = turns;
                }
                let pictures = feature_pictures(&all);
                [clean.to_vec(), [clean, &noisy].concat()].map(|examples| side(small.clone(), &pictures, examples))
            }
            "prompts" => {
                let banks = lynxdata_prompts::Banks::shipped()?;
                let bank = banks.get("caption")?;
                let wordings: Vec<String> = bank.templates.iter().map(|template| template.text.clone()).collect();
                // Every third wording is one that neither side was trained with.
                let (unseen, seen): (Vec<_>, Vec<_>) =
                    wordings.into_iter().enumerate().partition(|(place, _)| place % 3 == 2);
                let ask = |example: &Example, wordings: &[(usize, String)], place: usize| {
                    let mut asked = example.clone();
                    asked.turns[0].question.clone_from(&wordings[place % wordings.len()].1);
                    asked
                };
                let asked = |examples: &[Example], wordings: &[(usize, String)]| -> Vec<Example> {
                    examples.iter().enumerate().map(|(place, example)| ask(example, wordings, place)).collect()
                };
                held_out = asked(&held_out, &unseen);
                let pictures = feature_pictures(&all);
                [&seen[..], &seen[..1]].map(|wordings| side(small.clone(), &pictures, asked(training, wordings)))
            }
            _ => {
                let of_side = |image_size: usize| -> anyhow::Result<Side> {
                    let model = ModelConfig { sight: Sight::Pixels, image_size, decoder_depth: 1, ..small.clone() };
                    let scaled = |drawing: &Drawing| {
                        let pixels = drawing.pixels.clone();
                        scaled_square(pixels, SIDE as u32, image_size as u32).context("a drawing is a square")
                    };
                    let pixels = all.iter().map(scaled).collect::<anyhow::Result<Vec<_>>>()?;
                    Ok(Side { model, pictures: Pictures::Pixels(pixels), examples: training.to_vec() })
                };
                [of_side(64)?, of_side(32)?]
            }
        };
        let texts: Vec<String> = sides.iter().flat_map(|side| &side.examples).map(Example::text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tokenizer = train_tokenizer(&texts, &TokenizerConfig::default())?;
        Ok(Trial { train, tokenizer, sides, held_out, seed: test.seed })
    }

    /// Trains both sides in every replicate.
    fn run(&self, device: &DeviceName, replicates: usize) -> anyhow::Result<Vec<[RunResult; 2]>> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers = if *device == DeviceName::Cpu { cores } else { 1 };
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, anyhow::Result<RunResult>)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= 2 * replicates {
                            break;
                        }
                        let result = self.one(number / 2, &self.sides[number % 2], device);
                        tracing::info!(run = number + 1, of = 2 * replicates, "trained");
                        done.lock().expect("nobody panics with the results").push((number, result));
                    }
                });
            }
        });
        let mut done = done.into_inner().expect("nobody panicked with the results");
        done.sort_by_key(|(number, _)| *number);
        let results = done.into_iter().map(|(_, result)| result).collect::<anyhow::Result<Vec<_>>>()?;
        let pairs = results.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]);
        Ok(pairs.collect())
    }

    /// Trains one side on the drawings that the replicate drew.
    fn one(&self, replicate: usize, side: &Side, device: &DeviceName) -> anyhow::Result<RunResult> {
        let copies =
            |drawn: Drawn, example: &Example| weight(self.seed, replicate, drawn, &example.shown.row.to_string());
        let training: Vec<u32> = side.examples.iter().map(|example| copies(Drawn::Training, example)).collect();
        let held_out = self.held_out.iter();
        let held_out =
            held_out.flat_map(|example| std::iter::repeat_n(example.clone(), copies(Drawn::HeldOut, example) as usize));
        let spec = RunSpec {
            model: &side.model,
            train: &self.train,
            tokenizer: &self.tokenizer,
            pictures: &side.pictures,
            arm: &side.examples,
            copies: &training,
            held_out: &held_out.collect::<Vec<_>>(),
            seed: self.seed.wrapping_mul(1000).wrapping_add(replicate as u64),
            pretrained: &[],
            start: None,
            checkpoint: None,
            device,
        };
        Ok(lynxdata_burn_model::run(&spec, &mut |_, _| ())?)
    }
}

/// Returns the frozen features of the drawings, as in a check.
fn feature_pictures(all: &[Drawing]) -> Pictures {
    let values = all.iter().flat_map(|drawing| features(&drawing.pixels)).collect();
    let coordinates = coordinates(&Matrix::from_rows(FEATURES, values), COORDINATES);
    Pictures::Features { width: coordinates.columns(), values: coordinates.values().to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_differences_are_those_of_its_tables() {
        // p of unpaired shares, worked out by hand from the tables.
        for (name, points, p) in [
            ("prefix-vs-cross-attention", 14.4, 0.0),
            ("clean-vs-noisy", 4.2, 0.163),
            ("prompts", 2.7, 0.375),
            ("resolution", 3.1, 0.302),
        ] {
            let paper = paper(&find(name).unwrap());
            assert!((paper.difference_in_points - points).abs() < 0.06, "{name} {}", paper.difference_in_points);
            assert!((paper.p - p).abs() < 0.002, "{name} {}", paper.p);
        }
        assert!(find("promts").err().unwrap().to_string().contains("did you mean \"prompts\"?"));
    }
}
