//! Generates answers to an image and a prompt, token by token.
//!
//! The rules are those of Hugging Face transformers' `generate` (5.24), so that settings published
//! for it mean the same here: greedy search, sampling, beam search, and beam search with sampling.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{Cache, Layout, Lynx, ModelConfig};
use crate::random::{Purpose, stream, unit};

/// Settings for generating answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Maximum number of tokens of an answer. Default 64.
    pub max_new_tokens: usize,
    /// Minimum number of tokens before an answer may end. Default 1.
    pub min_new_tokens: usize,
    /// Number of beams, candidate answers that are extended in parallel; 1 takes the best token at
    /// each step. Default 1.
    pub beams: usize,
    /// Draw tokens by their probabilities instead of taking the best. Default false.
    pub sample: bool,
    /// Divisor of the scores before a draw. Default 1.
    pub temperature: f64,
    /// Number of the most likely tokens among which each token is drawn; 0 means all. Default 0.
    pub top_k: usize,
    /// Probability that the most likely tokens must have together; each token is drawn among the
    /// fewest that do. 1 means all. Default 1.
    pub top_p: f64,
    /// No sequence of this many tokens occurs twice, the prompt included; 0 allows all. Default 0.
    pub no_repeat_ngram: usize,
    /// The logarithm of a beam's probability is divided by its length to this power: above 0,
    /// longer answers win; below 0, shorter ones. Default 1.
    pub length_penalty: f64,
    /// Seed of the draws. Default 0.
    pub seed: u64,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: 64,
            min_new_tokens: 1,
            beams: 1,
            sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            no_repeat_ngram: 0,
            length_penalty: 1.0,
            seed: 0,
        }
    }
}

impl GenerateConfig {
    /// Checks the settings; the error names the first that cannot work.
    pub fn validate(&self) -> Result<()> {
        let refused =
            |setting, value: String, reason: &str| Err(Error::Setting { setting, value, reason: reason.to_owned() });
        for (setting, value) in [("max_new_tokens", self.max_new_tokens), ("beams", self.beams)] {
            if value == 0 {
                return refused(setting, "0".to_owned(), "it must be at least 1");
            }
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return refused("temperature", self.temperature.to_string(), "it must be above 0");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refused("top_p", self.top_p.to_string(), "it must be above 0 and at most 1");
        }
        if !self.length_penalty.is_finite() {
            return refused("length_penalty", self.length_penalty.to_string(), "it must be a number");
        }
        Ok(())
    }
}

/// A generated answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Its tokens, without those of the prompt and without an end token.
    pub tokens: Vec<u32>,
    /// The sum of the logarithms of the probabilities of its tokens, the end token included,
    /// divided by their number to the power of `length_penalty`.
    pub score: f64,
}

/// Generates an answer.
///
/// `vision` `[1, latents, decoder_dim]` are the vision tokens; `prompt` are the tokens before the
/// answer, at least one; `end` is the token that ends an answer.
///
/// # Errors
///
/// If a setting cannot work, or the prompt is empty.
pub fn generate(
    model: &Lynx,
    config: &ModelConfig,
    vision: &Tensor<3>,
    prompt: &[u32],
    end: u32,
    settings: &GenerateConfig,
) -> Result<Generated> {
    settings.validate()?;
    if prompt.is_empty() {
        return Err(Error::Data { set: "prompt", reason: "it has no token".to_owned() });
    }
    let mut reader = Reader { model, config, vision: vision.clone(), cache: Cache::default(), read: 0 };
    let mut draws = stream(settings.seed, Purpose::Draws);
    if settings.beams == 1 {
        one_by_one(&mut reader, prompt, end, settings, &mut draws)
    } else {
        by_beams(&mut reader, prompt, end, settings, &mut draws)
    }
}

/// Generates an answer by greedy search, or by sampling.
fn one_by_one(
    reader: &mut Reader,
    prompt: &[u32],
    end: u32,
    settings: &GenerateConfig,
    draws: &mut ChaCha8Rng,
) -> Result<Generated> {
    let mut tokens = prompt.to_vec();
    let mut sum = 0.0;
    let mut scores = reader.read(&[prompt]);
    loop {
        let written = tokens.len() - prompt.len();
        let plain = log_softmax(&scores[0]);
        let mut allowed = plain.clone();
        forbid(&mut allowed, &tokens, written, end, settings);
        let chosen = if settings.sample {
            narrow(&mut allowed, settings);
            draw(&allowed, 1, draws).first().copied()
        } else {
            best(&allowed, 1).first().copied()
        };
        // If no token is allowed, the answer ends.
        let chosen = chosen.unwrap_or(end as usize);
        sum += plain[chosen];
        let length = (written + 1) as f64;
        if chosen == end as usize || written + 1 == settings.max_new_tokens {
            let mut answer = tokens.split_off(prompt.len());
            if chosen != end as usize {
                answer.push(chosen as u32);
            }
            return Ok(Generated { tokens: answer, score: sum / length.powf(settings.length_penalty) });
        }
        tokens.push(chosen as u32);
        scores = reader.read(&[&tokens[tokens.len() - 1..]]);
    }
}

/// The beginning of an answer, the prompt included, with the sum of the logarithms of its
/// probabilities.
#[derive(Clone)]
struct Beam {
    tokens: Vec<u32>,
    sum: f64,
}

/// Generates an answer by beam search, among drawn tokens if `sample` is set.
///
/// Twice as many candidates as beams are considered, so that enough remain if all the best ones
/// end. Answers are kept if they end among the first `beams` candidates. The search ends when no
/// beam, at its current length, would be better than the worst answer kept.
fn by_beams(
    reader: &mut Reader,
    prompt: &[u32],
    end: u32,
    settings: &GenerateConfig,
    draws: &mut ChaCha8Rng,
) -> Result<Generated> {
    let penalty = settings.length_penalty;
    let mut beams = vec![Beam { tokens: prompt.to_vec(), sum: 0.0 }];
    let mut finished: Vec<Generated> = Vec::new();
    let mut scores = reader.read(&[prompt]);
    for written in 0..settings.max_new_tokens {
        let length = (written + 1) as f64;
        let is_last = written + 1 == settings.max_new_tokens;
        let vocabulary = scores[0].len();
        let mut all = Vec::with_capacity(beams.len() * vocabulary);
        for (beam, scores) in beams.iter().zip(&scores) {
            let mut allowed = log_softmax(scores);
            forbid(&mut allowed, &beam.tokens, written, end, settings);
            if settings.sample {
                narrow(&mut allowed, settings);
            }
            all.extend(allowed.iter().map(|score| score + beam.sum));
        }
        let wanted = 2 * settings.beams;
        let mut candidates = if settings.sample { draw(&all, wanted, draws) } else { best(&all, wanted) };
        candidates.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
        let mut next = Vec::with_capacity(settings.beams);
        let mut rows = Vec::with_capacity(settings.beams);
        for (rank, candidate) in candidates.into_iter().enumerate() {
            let (row, token) = (candidate / vocabulary, (candidate % vocabulary) as u32);
            let sum = all[candidate];
            if token == end || is_last {
                if rank < settings.beams {
                    let mut tokens = beams[row].tokens[prompt.len()..].to_vec();
                    if token != end {
                        tokens.push(token);
                    }
                    finished.push(Generated { tokens, score: sum / length.powf(penalty) });
                }
            } else if next.len() < settings.beams {
                let mut tokens = beams[row].tokens.clone();
                tokens.push(token);
                next.push(Beam { tokens, sum });
                rows.push(row as i64);
            }
        }
        // The sort is stable: among equal answers, the one found first stays.
        finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        finished.truncate(settings.beams);
        let Some(leader) = next.first() else { break };
        let full = finished.len() == settings.beams;
        if full && finished.last().is_some_and(|worst| leader.sum / length.powf(penalty) <= worst.score) {
            break;
        }
        reader.keep(&rows);
        beams = next;
        let new: Vec<&[u32]> = beams.iter().map(|beam| &beam.tokens[beam.tokens.len() - 1..]).collect();
        scores = reader.read(&new);
    }
    // If every candidate was forbidden, the unfinished beams are the result.
    let rest = beams.into_iter().map(|beam| {
        let length = (beam.tokens.len() - prompt.len()).max(1) as f64;
        Generated { tokens: beam.tokens[prompt.len()..].to_vec(), score: beam.sum / length.powf(penalty) }
    });
    let found = finished.into_iter().chain(rest).next();
    found.ok_or_else(|| Error::Data { set: "prompt", reason: "no answer to it was found".to_owned() })
}

/// A model that reads sequences of equal length.
struct Reader<'a> {
    model: &'a Lynx,
    config: &'a ModelConfig,
    /// `[1, latents, decoder_dim]`.
    vision: Tensor<3>,
    cache: Cache,
    /// Number of text tokens read so far.
    read: usize,
}

impl Reader<'_> {
    /// Reads the next tokens of each sequence, the same number of each; returns the scores of the
    /// token after them.
    fn read(&mut self, new: &[&[u32]]) -> Vec<Vec<f32>> {
        let device: Device = self.vision.device();
        let (rows, count) = (new.len(), new[0].len());
        let prefix = self.config.prefix_tokens();
        let begin = if self.read == 0 { 0 } else { prefix + self.read };
        self.read += count;
        let all = prefix + self.read;
        let layout = Layout::new(self.config, &[(begin..all).collect()], &[vec![true; all]], &device);
        let ids: Vec<i64> = new.iter().flat_map(|tokens| tokens.iter().map(|token| i64::from(*token))).collect();
        let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [rows, count]), &device);
        let [_, latents, width] = self.vision.dims();
        let vision = self.vision.clone().expand([rows, latents, width]);
        let scores = self.model.next_logits(&vision, ids, &layout, &mut self.cache);
        let [_, vocabulary] = scores.dims();
        let scores = scores.into_data().iter::<f32>().collect::<Vec<f32>>();
        scores.chunks(vocabulary).map(<[f32]>::to_vec).collect()
    }

    /// Continues with some of the sequences, which may be repeated.
    fn keep(&mut self, rows: &[i64]) {
        self.cache.select(&Tensor::from_data(rows, &self.vision.device()));
    }
}

/// Returns the logarithms of the probabilities of tokens with these scores.
fn log_softmax(scores: &[f32]) -> Vec<f64> {
    let largest = scores.iter().fold(f64::NEG_INFINITY, |largest, score| largest.max(f64::from(*score)));
    let sum: f64 = scores.iter().map(|score| (f64::from(*score) - largest).exp()).sum();
    scores.iter().map(|score| f64::from(*score) - largest - sum.ln()).collect()
}

/// Forbids tokens that must not follow `tokens`, of which the last `written` are the answer.
fn forbid(scores: &mut [f64], tokens: &[u32], written: usize, end: u32, settings: &GenerateConfig) {
    if written < settings.min_new_tokens
        && let Some(score) = scores.get_mut(end as usize)
    {
        *score = f64::NEG_INFINITY;
    }
    let run = settings.no_repeat_ngram;
    if run == 0 || tokens.len() + 1 < run {
        return;
    }
    let begun = &tokens[tokens.len() + 1 - run..];
    for window in tokens.windows(run).filter(|window| &window[..run - 1] == begun) {
        if let Some(score) = scores.get_mut(window[run - 1] as usize) {
            *score = f64::NEG_INFINITY;
        }
    }
}

/// Divides by the temperature and forbids all but the best tokens by `top_k` and `top_p`.
fn narrow(scores: &mut [f64], settings: &GenerateConfig) {
    for score in scores.iter_mut() {
        *score /= settings.temperature;
    }
    if settings.top_k > 0 && settings.top_k < scores.len() {
        let worst = best(scores, settings.top_k).last().map_or(f64::NEG_INFINITY, |place| scores[*place]);
        for score in scores.iter_mut().filter(|score| **score < worst) {
            *score = f64::NEG_INFINITY;
        }
    }
    if settings.top_p < 1.0 {
        let order = best(scores, scores.len());
        let largest = order.first().map_or(0.0, |place| scores[*place]);
        let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        let mut before = 0.0;
        for place in order {
            let probability = (scores[place] - largest).exp() / total;
            // The token that passes the threshold stays.
            if before >= settings.top_p {
                scores[place] = f64::NEG_INFINITY;
            }
            before += probability;
        }
    }
}

/// Returns the places of the `count` largest scores above minus infinity, the largest first; equal
/// scores stay in their order.
fn best(scores: &[f64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).filter(|place| scores[*place] > f64::NEG_INFINITY).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if count < places.len() {
        places.select_nth_unstable_by(count, order);
        places.truncate(count);
    }
    places.sort_by(order);
    places
}

/// Draws `count` places without replacement, with the probabilities that the scores imply: adds
/// Gumbel noise to the scores and takes the largest (Kool et al., arXiv 1903.06059).
fn draw(scores: &[f64], count: usize, draws: &mut ChaCha8Rng) -> Vec<usize> {
    let noisy: Vec<f64> = scores.iter().map(|score| score - (-unit(draws).ln()).ln()).collect();
    best(&noisy, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};

    use crate::doctor::Golden;
    use crate::model::Fusion;
    use crate::part::Part;
    use crate::weights::{self, Pretrained};

    const END: u32 = 2;

    fn answer(fusion: Fusion, settings: &GenerateConfig) -> Generated {
        let golden = Golden::of(fusion);
        let device = Device::flex();
        let model = golden.model(&device);
        let vision = model.vision_tokens(golden.patches(&device)).narrow(0, 0, 1);
        generate(&model, &golden.config(), &vision, &[1, 7, 9], END, settings).unwrap()
    }

    /// Greedy search that reads everything again for each token.
    fn without_cache(fusion: Fusion, count: usize) -> Vec<u32> {
        let golden = Golden::of(fusion);
        let device = Device::flex();
        let (model, config) = (golden.model(&device), golden.config());
        let vision = model.vision_tokens(golden.patches(&device)).narrow(0, 0, 1);
        let mut tokens = vec![1_i64, 7, 9];
        for _ in 0..count {
            let layout = Layout::causal(&config, config.prefix_tokens() + tokens.len(), &device);
            let ids = Tensor::from_data(TensorData::new(tokens.clone(), [1, tokens.len()]), &device);
            let scores = model.logits(&vision, ids, &layout).into_data();
            let scores: Vec<f32> = scores.iter::<f32>().skip((tokens.len() - 1) * 50).collect();
            let mut allowed = log_softmax(&scores);
            allowed[END as usize] = f64::NEG_INFINITY;
            tokens.push(best(&allowed, 1)[0] as i64);
        }
        tokens[3..].iter().map(|token| *token as u32).collect()
    }

    #[test]
    fn with_a_cache_the_answer_is_the_one_without() {
        for fusion in [Fusion::Prefix, Fusion::CrossAttention] {
            let settings = GenerateConfig { max_new_tokens: 12, min_new_tokens: 12, ..Default::default() };
            assert_eq!(answer(fusion, &settings).tokens, without_cache(fusion, 12));
        }
    }

    /// Returns a language model of transformers whose scores are multiplied by `scale`, with one
    /// vision token that its closed gates ignore.
    fn language_model(scale: f64) -> (Lynx, ModelConfig, Tensor<3>) {
        struct Scale(Vec<String>, f64);
        impl burn::module::ModuleMapper for Scale {
            fn enter_module(&mut self, name: &str, _container_type: &str) {
                self.0.push(name.to_owned());
            }
            fn exit_module(&mut self, _name: &str, _container_type: &str) {
                self.0.pop();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let factor = if self.0.join(".") == "llm.lm_head.weight" { self.1 } else { 1.0 };
                param.map(|weight| weight.mul_scalar(factor))
            }
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pretrained/llama");
        let pretrained = Pretrained::open(&folder).unwrap();
        let mut config = ModelConfig { fusion: Fusion::CrossAttention, latents: 1, ..Default::default() };
        pretrained.configure(Part::Decoder, &mut config).unwrap();
        let device = Device::flex();
        let parts = [(&pretrained, Part::Decoder)];
        let vocabulary = pretrained.vocabulary().unwrap();
        let (model, _) = weights::build(&parts, &config, vocabulary, 4, 1, &device).unwrap();
        let vision = Tensor::zeros([1, 1, config.decoder_dim], &device);
        (model.map(&mut Scale(Vec::new(), scale)), config, vision)
    }

    #[test]
    fn answers_equal_those_of_transformers() {
        #[derive(Deserialize)]
        struct Case {
            name: String,
            options: serde_json::Map<String, serde_json::Value>,
            prompt: Vec<u32>,
            end: u32,
            answer: Vec<u32>,
        }
        #[derive(Deserialize)]
        struct File {
            scale: f64,
            cases: Vec<Case>,
        }
        let file: File = serde_json::from_str(include_str!("../fixtures/generation.json")).unwrap();
        let (model, config, vision) = language_model(file.scale);
        let mut ended_early = 0;
        for case in &file.cases {
            let count =
                |name: &str, usual| case.options.get(name).map_or(usual, |count| count.as_u64().unwrap() as usize);
            let settings = GenerateConfig {
                max_new_tokens: 12,
                min_new_tokens: count("min_new_tokens", 0),
                beams: count("num_beams", 1),
                sample: case.options.contains_key("do_sample"),
                top_k: count("top_k", 0),
                no_repeat_ngram: count("no_repeat_ngram_size", 0),
                length_penalty: case.options.get("length_penalty").map_or(1.0, |penalty| penalty.as_f64().unwrap()),
                ..Default::default()
            };
            let answer = generate(&model, &config, &vision, &case.prompt, case.end, &settings).unwrap();
            assert_eq!(answer.tokens, case.answer, "{}, {:?} up to {}", case.name, case.prompt, case.end);
            ended_early += usize::from(answer.tokens.len() < 12);
        }
        assert!(file.cases.len() > 40 && ended_early > 10, "{ended_early} of {}", file.cases.len());
    }

    #[test]
    fn more_beams_find_answers_that_are_no_less_likely() {
        let settings = |beams| GenerateConfig { max_new_tokens: 8, beams, length_penalty: 0.0, ..Default::default() };
        let scores = [1, 2, 4].map(|beams| answer(Fusion::Prefix, &settings(beams)).score);
        assert!(scores[2] >= scores[0], "{scores:?}");
    }

    #[test]
    fn no_run_of_tokens_occurs_twice() {
        for beams in [1, 3] {
            let settings = GenerateConfig {
                max_new_tokens: 30,
                min_new_tokens: 30,
                no_repeat_ngram: 2,
                beams,
                ..Default::default()
            };
            let tokens = answer(Fusion::Prefix, &settings).tokens;
            assert_eq!(tokens.len(), 30);
            let all: Vec<u32> = [1, 7, 9].into_iter().chain(tokens).collect();
            let mut pairs: Vec<&[u32]> = all.windows(2).collect();
            pairs.sort_unstable();
            let count = pairs.len();
            pairs.dedup();
            assert_eq!(pairs.len(), count);
        }
    }

    #[test]
    fn a_seed_determines_a_drawn_answer() {
        let drawn = |seed, beams| {
            let settings = GenerateConfig { sample: true, beams, seed, max_new_tokens: 10, ..Default::default() };
            answer(Fusion::Prefix, &settings)
        };
        for beams in [1, 3] {
            assert_eq!(drawn(1, beams), drawn(1, beams));
            assert_ne!(drawn(1, beams).tokens, drawn(2, beams).tokens);
        }
        let greedy = answer(Fusion::Prefix, &GenerateConfig { max_new_tokens: 10, ..Default::default() });
        let top = GenerateConfig { sample: true, top_k: 1, seed: 5, max_new_tokens: 10, ..Default::default() };
        assert_eq!(answer(Fusion::Prefix, &top), greedy);
    }

    #[test]
    fn draws_are_among_the_best_tokens_alone() {
        let scores = [0.4_f64, 0.3, 0.2, 0.1].map(f64::ln);
        let left = |top_k, top_p| {
            let mut scores = scores;
            narrow(&mut scores, &GenerateConfig { top_k, top_p, ..Default::default() });
            best(&scores, 4)
        };
        assert_eq!(left(0, 1.0), [0, 1, 2, 3]);
        assert_eq!(left(2, 1.0), [0, 1]);
        assert_eq!(left(0, 0.5), [0, 1]);
        assert_eq!(left(0, 0.71), [0, 1, 2]);
        assert_eq!(left(0, 0.01), [0]);
    }

    #[test]
    fn draws_without_replacement_follow_the_probabilities() {
        let scores = [0.5_f64, 0.3, 0.2].map(f64::ln);
        let mut draws = stream(3, Purpose::Draws);
        let mut counts = [0; 3];
        for _ in 0..6000 {
            let drawn = draw(&scores, 2, &mut draws);
            assert!(drawn.len() == 2 && drawn[0] != drawn[1]);
            counts[draw(&scores, 1, &mut draws)[0]] += 1;
        }
        for (count, expected) in counts.into_iter().zip([3000.0_f64, 1800.0, 1200.0]) {
            assert!((f64::from(count) - expected).abs() < 4.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let refusal = |settings: GenerateConfig| settings.validate().unwrap_err().to_string();
        assert!(refusal(GenerateConfig { beams: 0, ..Default::default() }).starts_with("beams = 0"));
        assert!(refusal(GenerateConfig { temperature: 0.0, ..Default::default() }).starts_with("temperature = 0"));
        assert!(refusal(GenerateConfig { top_p: 0.0, ..Default::default() }).starts_with("top_p = 0"));
    }
}
