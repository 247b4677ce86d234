//! Measures how varied the instructions and answers of an instruction set are.
//!
//! Every user message counts as an instruction. So a set gets the same values whether its questions
//! are packed into dialogs or not.

use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::f64::consts::PI;
use std::hash::{DefaultHasher, Hasher as _};

use serde::Serialize;

use crate::build::{Conversation, Role};
use crate::mixture::mixed;

/// The number of instructions of each task that self-BLEU compares with each other. Texygen (arXiv
/// 1802.01886) uses 500.
const COMPARED: usize = 1000;

/// The maximum length of the n-grams that BLEU compares.
const LONGEST_RUN: usize = 4;

/// The count that BLEU uses if no n-gram matches: method 1 of Chen and Cherry (WMT 2014), as
/// Texygen uses it.
const SMOOTHING: f64 = 0.1;

/// The minimum of expected cases per position for which the chi-square approximation is valid
/// (Cochran 1954).
const FEWEST_EXPECTED: f64 = 5.0;

/// The parts of a question and its answer that are measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exchange<'a> {
    /// The task, or any other key by which results are grouped.
    pub task: &'a str,
    /// The name of its wording, if known.
    pub wording: Option<&'a str>,
    /// The text of the user.
    pub instruction: &'a str,
    /// The answer, if there is one.
    pub answer: Option<&'a str>,
    /// The index of the right option in the order shown, from 0, and the number of options.
    pub right_option: Option<(u32, u32)>,
}

/// Returns all questions of a conversation with their answers.
pub fn exchanges(conversation: &Conversation) -> impl Iterator<Item = Exchange<'_>> {
    let asked = conversation.messages.iter().enumerate().filter(|(_, message)| message.role == Role::User);
    asked.enumerate().map(|(number, (place, message))| {
        let next = conversation.messages.get(place + 1).filter(|next| next.role == Role::Assistant);
        let (wording, right_option) = match conversation.packed.get(number) {
            Some(record) => (Some(record.template.as_str()), record.right_option()),
            None if number == 0 => (Some(conversation.template.as_str()), conversation.right_option()),
            // Later questions of a dialog have no wording.
            None => (None, None),
        };
        Exchange {
            task: &conversation.task,
            wording,
            instruction: &message.content,
            answer: next.map(|answer| answer.content.as_str()),
            right_option,
        }
    })
}

/// Measures of instructions and answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Diversity {
    /// The number of instructions.
    pub instructions: u64,
    /// The use of wordings, if they are known.
    pub wordings: Option<Wordings>,
    /// Different words over all words, 0 to 1 (distinct-1 of Li et al., arXiv 1510.03055); 0
    /// without words.
    pub distinct_1: f64,
    /// Different pairs of neighbouring words over all such pairs, 0 to 1 (distinct-2); 0 without
    /// pairs.
    pub distinct_2: f64,
    /// Mean BLEU-4 of an instruction against all others of a sample, 0 to 1 (self-BLEU of Texygen,
    /// arXiv 1802.01886); lower is more varied. `None` for fewer than two instructions.
    pub self_bleu: Option<f64>,
    /// The size of that sample.
    pub compared: u64,
    /// The share of instructions that repeat an earlier one word for word, 0 to 1.
    pub repeated_instructions: f64,
    /// The share of instructions that repeat an earlier one with the same answer, 0 to 1.
    pub repeated_exchanges: f64,
    /// The lengths of the answers in words.
    pub answer_words: Lengths,
    /// The positions of the right option, if any question has options.
    pub right_options: Option<Positions>,
}

/// The number of times that each wording is used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Wordings {
    /// The number of different wordings that are used.
    pub used: u64,
    /// Entropy of their shares in bits: log2 of `used` if all are used equally often.
    pub entropy_bits: f64,
    /// The number of times that each is used.
    pub uses: BTreeMap<String, u64>,
}

/// Lengths of texts in words.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// Mean.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The longest.
    pub max: u64,
    /// Number of texts by range of length: 0, 1, 2 to 3, 4 to 7, and so on by doubling.
    pub histogram: Vec<Bin>,
}

/// The number of texts in a range of lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The minimum number of words.
    pub from: u64,
    /// The maximum number of words.
    pub to: u64,
    /// Number of texts.
    pub texts: u64,
}

/// The positions of right options.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Positions {
    /// The number of times that the right option is the first, the second, …
    pub counts: Vec<u64>,
    /// Pearson's chi-square against equally likely positions, summed over the numbers of options
    /// with at least 5 expected cases for each position. Rarer numbers of options are not tested.
    pub chi_square: f64,
    /// Degrees of freedom of `chi_square`.
    pub freedom: u64,
    /// The probability of at least this chi-square if all positions are equally likely; `None` if
    /// no number of options has enough cases.
    pub p: Option<f64>,
}

/// Measures of a whole set and of its tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SetDiversity {
    /// All tasks together.
    pub overall: Diversity,
    /// Each task.
    pub tasks: BTreeMap<String, Diversity>,
}

/// Measures exchanges one by one. It stores no texts, only 64-bit hashes of words and texts.
#[derive(Debug, Default)]
pub struct DiversityMeter {
    overall: Meter,
    tasks: BTreeMap<String, Meter>,
}

impl DiversityMeter {
    /// Adds an exchange.
    pub fn add(&mut self, exchange: &Exchange) {
        let instruction: Vec<u64> = words(&exchange.instruction.to_lowercase()).map(hash).collect();
        let answer = exchange.answer.map(|answer| words(answer).count() as u64);
        if !self.tasks.contains_key(exchange.task) {
            self.tasks.insert(exchange.task.to_owned(), Meter::default());
        }
        let of_task = self.tasks.get_mut(exchange.task).into_iter();
        for meter in of_task.chain([&mut self.overall]) {
            meter.add(exchange, &instruction, answer);
        }
    }

    /// Returns the measures.
    pub fn finish(self) -> SetDiversity {
        let tasks = self.tasks.into_iter().map(|(task, meter)| (task, meter.finish()));
        SetDiversity { overall: self.overall.finish(), tasks: tasks.collect() }
    }
}

#[derive(Debug, Default)]
struct Meter {
    instructions: u64,
    uses: BTreeMap<String, u64>,
    words: HashSet<u64>,
    pairs: HashSet<u64>,
    word_count: u64,
    pair_count: u64,
    texts: HashSet<u64>,
    exchanges: HashSet<u64>,
    /// A sample of instructions: those whose sequence numbers have the smallest hashes. The largest
    /// hash is on top, to be replaced first.
    sample: BinaryHeap<(u64, Vec<u64>)>,
    answers: BTreeMap<u64, u64>,
    /// Number of cases by number of options and position.
    positions: BTreeMap<(u32, u32), u64>,
}

impl Meter {
    fn add(&mut self, exchange: &Exchange, instruction: &[u64], answer: Option<u64>) {
        if let Some(wording) = exchange.wording {
            match self.uses.get_mut(wording) {
                Some(uses) => *uses += 1,
                None => drop(self.uses.insert(wording.to_owned(), 1)),
            }
        }
        self.word_count += instruction.len() as u64;
        self.pair_count += instruction.len().saturating_sub(1) as u64;
        self.words.extend(instruction);
        self.pairs.extend(instruction.windows(2).map(hash));
        self.texts.insert(hash(exchange.instruction));
        self.exchanges.insert(hash((exchange.instruction, exchange.answer)));
        let order = mixed(self.instructions, 1);
        if self.sample.len() < COMPARED || self.sample.peek().is_some_and(|(last, _)| order < *last) {
            self.sample.push((order, instruction.to_vec()));
            if self.sample.len() > COMPARED {
                self.sample.pop();
            }
        }
        if let Some(length) = answer {
            *self.answers.entry(length).or_default() += 1;
        }
        if let Some((place, options)) = exchange.right_option.filter(|(place, options)| place < options) {
            *self.positions.entry((options, place)).or_default() += 1;
        }
        self.instructions += 1;
    }

    fn finish(self) -> Diversity {
        let share = |part: usize, all: u64| part as f64 / all.max(1) as f64;
        let repeated =
            |different: &HashSet<u64>| share(self.instructions as usize - different.len(), self.instructions);
        let sample: Vec<Vec<u64>> = self.sample.into_sorted_vec().into_iter().map(|(_, words)| words).collect();
        Diversity {
            instructions: self.instructions,
            wordings: wordings(self.uses),
            distinct_1: share(self.words.len(), self.word_count),
            distinct_2: share(self.pairs.len(), self.pair_count),
            self_bleu: self_bleu(&sample),
            compared: sample.len() as u64,
            repeated_instructions: repeated(&self.texts),
            repeated_exchanges: repeated(&self.exchanges),
            answer_words: lengths(&self.answers),
            right_options: positions(&self.positions),
        }
    }
}

fn hash(value: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns the words of a text. Words are separated by white space and stripped of surrounding
/// punctuation; every Chinese or Japanese character is a word by itself.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let pieces = text.split_whitespace().flat_map(|piece| {
        let mut rest = piece;
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let length =
                if stands_alone(first) { first.len_utf8() } else { rest.find(stands_alone).unwrap_or(rest.len()) };
            let (word, behind) = rest.split_at(length);
            rest = behind;
            Some(word)
        })
    });
    pieces.map(|piece| piece.trim_matches(|c: char| !c.is_alphanumeric())).filter(|word| !word.is_empty())
}

/// Returns whether a character is Chinese or Japanese: Unicode's blocks of Hiragana and Katakana,
/// and of unified ideographs.
fn stands_alone(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn wordings(uses: BTreeMap<String, u64>) -> Option<Wordings> {
    let all: u64 = uses.values().sum();
    let shares = uses.values().map(|uses| *uses as f64 / all as f64);
    let entropy_bits = shares.map(|share| -share * share.log2()).sum::<f64>().max(0.0);
    (all > 0).then_some(Wordings { used: uses.len() as u64, entropy_bits, uses })
}

fn lengths(counts: &BTreeMap<u64, u64>) -> Lengths {
    let all: u64 = counts.values().sum();
    let Some(max) = counts.keys().next_back().copied() else { return Lengths::default() };
    let percentile = |share: f64| {
        let rank = (all as f64 * share).ceil() as u64;
        let mut below = 0;
        let reaches = |(_, texts): &(&u64, &u64)| {
            below += **texts;
            below >= rank
        };
        counts.iter().find(reaches).map_or(0, |(length, _)| *length)
    };
    let words: u64 = counts.iter().map(|(length, texts)| length * texts).sum();
    let mut histogram = Vec::new();
    let (mut from, mut to) = (0, 0);
    while from <= max {
        histogram.push(Bin { from, to, texts: counts.range(from..=to).map(|(_, texts)| texts).sum() });
        (from, to) = (to + 1, 2 * to + 1);
    }
    Lengths { mean: words as f64 / all as f64, p50: percentile(0.5), p90: percentile(0.9), max, histogram }
}

/// Returns the mean BLEU of each text against all others: `sentence_bleu` of NLTK with equal
/// weights for n-grams of 1 to 4 words and its smoothing method 1.
fn self_bleu(texts: &[Vec<u64>]) -> Option<f64> {
    if texts.len() < 2 {
        return None;
    }
    let counts: Vec<Vec<HashMap<u64, u64>>> =
        texts.iter().map(|text| (1..=LONGEST_RUN).map(|length| runs(text, length)).collect()).collect();
    // For each n-gram: the text that contains it most often, how often, and the maximum among the
    // other texts.
    let mut most: HashMap<(usize, u64), (usize, u64, u64)> = HashMap::new();
    for (place, of_text) in counts.iter().enumerate() {
        for (length, of_length) in of_text.iter().enumerate() {
            #[expect(clippy::iter_over_hash_type, reason = "the largest two do not depend on the order of runs")]
            for (run, count) in of_length {
                let found = most.entry((length, *run)).or_insert((place, 0, 0));
                if *count > found.1 {
                    *found = (place, *count, found.1);
                } else {
                    found.2 = found.2.max(*count);
                }
            }
        }
    }
    let mut lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    let bleu = |(place, text): (usize, &Vec<u64>)| {
        let mut logarithms = 0.0;
        for (length, of_length) in counts[place].iter().enumerate() {
            let in_another = |(run, count): (&u64, &u64)| {
                let (first, of_first, of_others) = most[&(length, *run)];
                (*count).min(if first == place { of_others } else { of_first })
            };
            let common: u64 = of_length.iter().map(in_another).sum();
            let all: u64 = of_length.values().sum();
            if common == 0 && length == 0 {
                return 0.0;
            }
            let common = if common == 0 { SMOOTHING } else { common as f64 };
            logarithms += (common / all.max(1) as f64).ln() / LONGEST_RUN as f64;
        }
        brevity(text.len(), &lengths) * logarithms.exp()
    };
    Some(texts.iter().enumerate().map(bleu).sum::<f64>() / texts.len() as f64)
}

/// Returns how often each n-gram of the given length is in a text.
fn runs(text: &[u64], length: usize) -> HashMap<u64, u64> {
    let mut counts = HashMap::new();
    for run in text.windows(length) {
        *counts.entry(hash(run)).or_default() += 1;
    }
    counts
}

/// Returns BLEU's brevity penalty of a text against all others. The reference length is the one
/// nearest to its own, the shorter one on a tie. `lengths` are the sorted lengths of all texts,
/// including its own.
fn brevity(own: usize, lengths: &[usize]) -> f64 {
    let place = lengths.partition_point(|length| *length < own);
    let others = [place.checked_sub(1), Some(place + 1)].into_iter().flatten();
    let near = others.filter_map(|place| lengths.get(place)).min_by_key(|length| (length.abs_diff(own), **length));
    match near {
        Some(&near) if own <= near => (1.0 - near as f64 / own.max(1) as f64).exp(),
        _ => 1.0,
    }
}

fn positions(cases: &BTreeMap<(u32, u32), u64>) -> Option<Positions> {
    let mut by_options: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (&(options, place), count) in cases {
        by_options.entry(options).or_insert_with(|| vec![0; options as usize])[place as usize] += count;
    }
    let most = *by_options.keys().next_back()?;
    let mut found = Positions { counts: vec![0; most as usize], ..Positions::default() };
    for (options, counts) in by_options {
        let expected = counts.iter().sum::<u64>() as f64 / f64::from(options);
        if expected >= FEWEST_EXPECTED {
            found.chi_square += counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum::<f64>();
            found.freedom += u64::from(options) - 1;
        }
        found.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    found.p = (found.freedom > 0).then(|| chi_square_tail(found.chi_square, found.freedom));
    Some(found)
}

/// Returns the probability that chi-square with `freedom` degrees of freedom is at least `value`:
/// the incomplete gamma function by its series (NIST DLMF 8.7.3) or continued fraction (8.9.2).
fn chi_square_tail(value: f64, freedom: u64) -> f64 {
    let (shape, half) = (freedom as f64 / 2.0, value / 2.0);
    if half <= 0.0 {
        return 1.0;
    }
    // The logarithm of the gamma function of a multiple of 1/2, by its recurrence.
    let (mut log_gamma, mut rest) = (0.0, shape);
    while rest > 1.0 {
        rest -= 1.0;
        log_gamma += rest.ln();
    }
    if rest < 1.0 {
        log_gamma += 0.5 * PI.ln();
    }
    let front = (shape * half.ln() - half - log_gamma).exp();
    if half < shape + 1.0 {
        let (mut term, mut sum, mut divisor) = (1.0 / shape, 1.0 / shape, shape);
        while term > sum * f64::EPSILON {
            divisor += 1.0;
            term *= half / divisor;
            sum += term;
        }
        return (1.0 - front * sum).max(0.0);
    }
    // Lentz's method.
    let mut partial = half + 1.0 - shape;
    let (mut ahead, mut behind) = (f64::INFINITY, 1.0 / partial);
    let mut fraction = behind;
    for step in 1..10_000 {
        let step = f64::from(step);
        let numerator = -step * (step - shape);
        partial += 2.0;
        behind = 1.0 / (numerator * behind + partial);
        ahead = partial + numerator / ahead;
        let change = ahead * behind;
        fraction *= change;
        if (change - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    front * fraction
}

/// Returns the index of the right option, from 0, and the number of options. The question must
/// label its options with A, B, … in order, as `(A)`, `A)`, `A.` or `A:`, and the answer must be
/// such a letter.
pub fn lettered_option(question: &str, answer: &str) -> Option<(u32, u32)> {
    let right = letter(answer.trim())?;
    let mut options = 0;
    let mut after_space = true;
    for (place, character) in question.char_indices() {
        let is_next = after_space && letter(&question[place..]) == Some(options);
        let is_label = || question[place..].trim_start_matches('(')[1..].starts_with([')', '.', ':']);
        if is_next && is_label() {
            options += 1;
        }
        after_space = character.is_whitespace();
    }
    (options > 1 && right < options).then_some((right, options))
}

/// Returns the index in the alphabet, from 0, of a single capital letter at the start of a text,
/// with or without parentheses.
fn letter(text: &str) -> Option<u32> {
    let text = text.strip_prefix('(').unwrap_or(text);
    let first = text.chars().next().filter(char::is_ascii_uppercase)?;
    let is_alone = text[1..].chars().next().is_none_or(|next| matches!(next, ')' | '.' | ':'));
    is_alone.then(|| u32::from(first) - u32::from('A'))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn measure(texts: &[&str]) -> Diversity {
        let mut meter = DiversityMeter::default();
        for text in texts {
            meter.add(&Exchange { task: "t", instruction: text, ..Exchange::default() });
        }
        let measured = meter.finish();
        assert_eq!(measured.tasks["t"], measured.overall, "there is one task");
        measured.overall
    }

    /// Compares with `golden/diversity.py`, which uses NLTK and SciPy.
    #[test]
    fn figures_are_those_of_nltk_and_scipy() {
        let golden: Value = serde_json::from_str(include_str!("../golden/diversity.json")).unwrap();
        let mut compared = 0;
        for set in golden["sets"].as_array().unwrap() {
            let texts: Vec<&str> = set["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
            let own = measure(&texts);
            for (name, own) in
                [("distinct_1", own.distinct_1), ("distinct_2", own.distinct_2), ("self_bleu", own.self_bleu.unwrap())]
            {
                let expected = set[name].as_f64().unwrap();
                assert!((own - expected).abs() < 1e-9, "{name} of {texts:?}: {own} and {expected}");
                compared += 1;
            }
        }
        for tail in golden["chi_square_tails"].as_array().unwrap() {
            let number = |place: usize| tail[place].as_f64().unwrap();
            let own = chi_square_tail(number(0), number(1) as u64);
            assert!((own - number(2)).abs() < 1e-12 + 1e-9 * number(2), "{tail}: {own}");
            compared += 1;
        }
        assert!(compared > 50, "{compared}");
    }

    #[test]
    fn distinct_n_counts_different_over_all() {
        let measured = measure(&["What is this? Be brief.", "What is that? Be brief.", "..."]);
        assert_eq!(measured.instructions, 3);
        // what is this be brief | what is that be brief: 6 of 10 words, and the pairs
        // what-is is-this this-be be-brief | what-is is-that that-be be-brief: 6 of 8.
        assert!(
            (measured.distinct_1 - 0.6).abs() < 1e-12 && (measured.distinct_2 - 0.75).abs() < 1e-12,
            "{measured:?}"
        );
        assert_eq!(measured.wordings, None);
        assert_eq!(DiversityMeter::default().finish(), SetDiversity::default());
        assert_eq!(
            words("图片里有，什么? a図b").collect::<Vec<_>>(),
            ["图", "片", "里", "有", "什", "么", "a", "図", "b"]
        );
    }

    #[test]
    fn wordings_repeats_and_answers_are_counted_by_task() {
        let mut meter = DiversityMeter::default();
        for (task, wording, instruction, answer) in [
            ("a", "w", "What?", "a dog"),
            ("a", "v", "What?", "a dog"),
            ("a", "w", "What?", "a small black cat"),
            ("a", "v", "Who?", "me"),
            ("b", "w", "Who?", ""),
        ] {
            let wording = Some(wording);
            meter.add(&Exchange { task, wording, instruction, answer: Some(answer), right_option: None });
        }
        let measured = meter.finish();
        let own = &measured.tasks["a"];
        let wordings = own.wordings.as_ref().unwrap();
        assert_eq!((wordings.used, wordings.entropy_bits, wordings.uses["w"]), (2, 1.0, 2));
        assert_eq!((own.repeated_instructions, own.repeated_exchanges), (0.5, 0.25));
        assert_eq!((own.answer_words.mean, own.answer_words.p50, own.answer_words.max), (2.25, 2, 4));
        let bins: Vec<(u64, u64, u64)> = own.answer_words.histogram.iter().map(|b| (b.from, b.to, b.texts)).collect();
        assert_eq!(bins, [(0, 0, 0), (1, 1, 1), (2, 3, 2), (4, 7, 1)]);
        assert_eq!((measured.overall.instructions, measured.overall.repeated_instructions), (5, 0.6));
        assert_eq!(measured.tasks["b"].answer_words.histogram, [Bin { from: 0, to: 0, texts: 1 }]);
    }

    #[test]
    fn the_position_of_right_options_is_tested() {
        let of = |right: &dyn Fn(u32) -> u32| {
            let mut meter = DiversityMeter::default();
            for number in 0..400 {
                let right_option = Some((right(number), 4));
                meter.add(&Exchange { task: "t", instruction: "x", right_option, ..Exchange::default() });
            }
            meter.finish().overall.right_options.unwrap()
        };
        let even = of(&|number| number % 4);
        assert_eq!((&even.counts[..], even.chi_square, even.freedom, even.p), (&[100; 4][..], 0.0, 3, Some(1.0)));
        let first = of(&|number| if number % 2 == 0 { 0 } else { number % 4 });
        assert!(first.p.unwrap() < 1e-9, "{first:?}");
        let mut few = BTreeMap::from([((4, 0), 3)]);
        assert_eq!(positions(&few).unwrap().p, None, "3 cases say nothing");
        few.extend([((2, 0), 60), ((2, 1), 40)]);
        let found = positions(&few).unwrap();
        // scipy.stats.chisquare([60, 40]): statistic 4.0, p-value 0.0455; the 3 cases do not count.
        assert_eq!((&found.counts[..], found.chi_square, found.freedom), (&[63, 40, 0, 0][..], 4.0, 1));
        assert!((found.p.unwrap() - 0.045_500_263_896_358_4).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn options_are_told_by_their_letters() {
        let question = "What is it?\nA. a dog\nB. a cat\nC. Mr. A. Smith\nAnswer with the option's letter.";
        for (answer, expected) in [("B", Some((1, 3))), ("(C)", Some((2, 3))), ("A. a dog", Some((0, 3))), ("D", None)]
        {
            assert_eq!(lettered_option(question, answer), expected, "{answer}");
        }
        assert_eq!(lettered_option("Which? (A) x (B) y", "A"), Some((0, 2)));
        assert_eq!(lettered_option("What grade has it?", "A"), None);
        assert_eq!(lettered_option(question, "A dog"), None);
    }
}
