//! How varied the instructions of an instruction set are.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::build::{Conversation, Role};

/// Measures of the instructions, that is of the first user message of every conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Diversity {
    /// Instructions measured.
    pub instructions: u64,
    /// How often each wording was used, by `bank/template`.
    pub templates: BTreeMap<String, u64>,
    /// Different words over all words, 0 to 1 (distinct-1 of Li et al., arXiv 1510.03055); 0 without words.
    pub distinct_1: f64,
    /// Different pairs of neighbouring words over all such pairs, 0 to 1 (distinct-2); 0 without pairs.
    pub distinct_2: f64,
}

/// Measures the instructions of conversations. Words are lower-cased and stripped of punctuation at both ends.
pub fn diversity<'a>(conversations: impl IntoIterator<Item = &'a Conversation>) -> Diversity {
    let mut measuring = DiversityMeter::default();
    for conversation in conversations {
        measuring.add(conversation);
    }
    measuring.finish()
}

/// Measures [`diversity()`] one conversation after the other.
#[derive(Debug, Default)]
pub struct DiversityMeter {
    measured: Diversity,
    words: HashSet<String>,
    pairs: HashSet<String>,
    word_count: u64,
    pair_count: u64,
}

impl DiversityMeter {
    /// Takes the instruction of a conversation.
    pub fn add(&mut self, conversation: &Conversation) {
        self.measured.instructions += 1;
        *self.measured.templates.entry(conversation.template.clone()).or_default() += 1;
        let instruction = conversation.messages.iter().find(|message| message.role == Role::User);
        let instruction = instruction.map_or(String::new(), |message| message.content.to_lowercase());
        let own: Vec<&str> = instruction
            .split_whitespace()
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty())
            .collect();
        self.word_count += own.len() as u64;
        self.pair_count += own.len().saturating_sub(1) as u64;
        self.words.extend(own.iter().map(|&word| word.to_owned()));
        self.pairs.extend(own.windows(2).map(|pair| pair.join(" ")));
    }

    /// Returns what was measured.
    pub fn finish(mut self) -> Diversity {
        self.measured.distinct_1 = self.words.len() as f64 / self.word_count.max(1) as f64;
        self.measured.distinct_2 = self.pairs.len() as f64 / self.pair_count.max(1) as f64;
        self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn distinct_n_counts_different_over_all() {
        let conversations = [
            conversation("vqa/a", &["What is this? Be brief.", "a dog"]),
            conversation("vqa/a", &["What is that? Be brief.", "a cat", "Be brief.", "no"]),
            conversation("vqa/b", &["...", "x"]),
        ];
        let measured = diversity(&conversations);
        assert_eq!((measured.instructions, measured.templates["vqa/a"], measured.templates["vqa/b"]), (3, 2, 1));
        // what is this be brief | what is that be brief: 6 of 10 words, and the pairs
        // what-is is-this this-be be-brief | what-is is-that that-be be-brief: 6 of 8.
        assert!(
            (measured.distinct_1 - 0.6).abs() < 1e-12 && (measured.distinct_2 - 0.75).abs() < 1e-12,
            "{measured:?}"
        );
        assert_eq!(diversity([]), Diversity::default());
    }
}
