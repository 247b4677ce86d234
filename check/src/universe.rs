//! All pairs that a check knows, and the arms that have them.

use serde::{Deserialize, Serialize};

use crate::matrix::Matrix;
use crate::text::{NEAR_DUPLICATE_WORDS, words};

/// A question and its answer. A caption has an empty question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// The text that is read, but not learned.
    pub question: String,
    /// The text that is learned.
    pub answer: String,
}

impl Turn {
    /// Returns a caption.
    pub fn caption(text: impl Into<String>) -> Turn {
        Turn { question: String::new(), answer: text.into() }
    }
}

/// An image with a text: a caption or a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// A key that stays the same from run to run; choices depend on its hash.
    pub uid: String,
    /// Row of the image in [`Universe::features`].
    pub picture: u32,
    /// The text.
    pub turns: Vec<Turn>,
    /// The arms that train on it: bit i for arm i. Copies in one arm are separate pairs, and other
    /// arms may have fewer of them.
    pub arms: u32,
    /// Whether it may be held out.
    pub may_be_held_out: bool,
}

impl Pair {
    /// Returns whether an arm has it.
    pub fn is_in(&self, arm: usize) -> bool {
        self.arms >> arm & 1 == 1
    }

    /// Returns whether it is a caption rather than a conversation.
    pub fn is_caption(&self) -> bool {
        self.turns.iter().all(|turn| turn.question.is_empty())
    }

    /// Returns the words that are learned.
    pub(crate) fn answer_words(&self) -> Vec<String> {
        self.turns.iter().flat_map(|turn| words(&turn.answer)).collect()
    }
}

/// Maximum number of arms of a check: comparisons of more arms would need more replicates than is
/// practical.
pub const MOST_ARMS: usize = 8;

/// Everything that a check compares.
#[derive(Clone, Debug)]
pub struct Universe {
    /// Names of the arms.
    pub arms: Vec<String>,
    /// Frozen features, one row per image.
    pub features: Matrix,
    /// The cluster of near-duplicates of every picture: a key that stays the same from run to run.
    pub clusters: Vec<String>,
    /// All pairs: those of the arms, and those that may be held out.
    pub pairs: Vec<Pair>,
    /// Whether the pairs to measure on were given by the user (`--eval`), rather than held out from
    /// the arms.
    pub has_evaluation_set: bool,
}

impl Universe {
    /// Returns the words by which copies of every pair are found. If all pairs are conversations,
    /// those of short answers are left out: many images have the answer "yes" to one question, and
    /// none of them is a copy. If there are captions, a short answer may be the copy of one.
    pub(crate) fn telling_words(&self) -> Vec<Vec<String>> {
        let fewest = if self.pairs.iter().any(Pair::is_caption) { 0 } else { NEAR_DUPLICATE_WORDS };
        let words = |pair: &Pair| {
            let words = pair.answer_words();
            if words.len() < fewest { Vec::new() } else { words }
        };
        self.pairs.iter().map(words).collect()
    }

    /// Returns the cluster of a pair's image.
    pub fn cluster(&self, pair: u32) -> &str {
        &self.clusters[self.pairs[pair as usize].picture as usize]
    }
}
