//! Examples as tokens, and which of the tokens the loss counts.

use crate::data::{ANSWER, Example, QUESTION, Turn};
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// An example as training and evaluation see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// All tokens, the begin token first.
    tokens: Vec<u32>,
    /// Whether the loss counts a token; one entry per token, the begin token's is false.
    learned: Vec<bool>,
    /// Bytes of text that the counted tokens represent.
    pub(crate) bytes: usize,
    /// Whether text was left out.
    pub(crate) cut: bool,
}

impl Sequence {
    /// Encodes an example so that the decoder reads at most `max_tokens` tokens, the begin token
    /// included. The last token is only predicted, never read.
    ///
    /// At least one token is learned: a first question that leaves no room for its answer loses its
    /// beginning.
    pub(crate) fn new(tokenizer: &Tokenizer, example: &Example, max_tokens: usize) -> Result<Self> {
        let mut sequence = Self { tokens: vec![tokenizer.begin()], learned: vec![false], bytes: 0, cut: false };
        for (place, turn) in example.turns.iter().enumerate() {
            let room = max_tokens - sequence.read();
            let (question, answer) = encoded(tokenizer, turn, room)?;
            // An answer may take what the question leaves, and always half of the room.
            let kept = question.len().min(room.saturating_sub(answer.len()).max(room / 2));
            if room == 0 || (place > 0 && kept < question.len()) {
                sequence.cut = true;
                break;
            }
            sequence.extend(&question[question.len() - kept..], false);
            sequence.extend(&answer[..answer.len().min(room - kept)], true);
            if kept < question.len() || answer.len() > room - kept {
                sequence.cut = true;
                break;
            }
        }
        let learned = sequence.targets().map(|(_, id)| tokenizer.bytes(id)).sum();
        sequence.bytes = learned;
        Ok(sequence)
    }

    /// Returns the number of tokens that the decoder reads.
    pub(crate) fn read(&self) -> usize {
        self.tokens.len() - 1
    }

    /// Returns the tokens that the decoder reads.
    pub(crate) fn inputs(&self) -> &[u32] {
        &self.tokens[..self.read()]
    }

    /// Returns the tokens that the loss counts, each with the place of the token read before it.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (usize, u32)> {
        let tokens = self.tokens.iter().zip(&self.learned).enumerate();
        tokens.filter(|(_, (_, learned))| **learned).map(|(place, (id, _))| (place - 1, *id))
    }

    /// Returns the number of tokens that the loss counts.
    pub(crate) fn loss_tokens(&self) -> usize {
        self.learned.iter().filter(|learned| **learned).count()
    }

    fn extend(&mut self, tokens: &[u32], learned: bool) {
        self.tokens.extend(tokens);
        self.learned.resize(self.tokens.len(), learned);
    }
}

/// Returns the tokens of a turn: at least the last `room` tokens of the question in its template,
/// and at least the first `room` tokens of the answer with the end token.
fn encoded(tokenizer: &Tokenizer, turn: &Turn, room: usize) -> Result<(Vec<u32>, Vec<u32>)> {
    let caption = turn.question.is_empty();
    let question = if caption {
        Vec::new()
    } else {
        tokenizer.encode_end(&format!("{QUESTION}{}{ANSWER}", turn.question), room)?
    };
    let mut answer = if caption {
        tokenizer.encode_beginning(&turn.answer, room)?
    } else {
        tokenizer.encode_beginning(&format!(" {}", turn.answer), room)?
    };
    answer.push(tokenizer.end());
    Ok((question, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shown;
    use crate::tokenizer::{TokenizerConfig, train_tokenizer};

    /// Every byte is a token.
    fn tokenizer() -> Tokenizer {
        train_tokenizer(&["red"], &TokenizerConfig { vocabulary: 259, lowercase: true }).unwrap()
    }

    fn talk(turns: &[(&str, &str)]) -> Example {
        let turn = |(question, answer): &(&str, &str)| Turn { question: (*question).into(), answer: (*answer).into() };
        Example { shown: Shown::picture(0), turns: turns.iter().map(turn).collect() }
    }

    /// The text that is read and the text that is learned; `|` for an end token.
    fn texts(example: &Example, max_tokens: usize) -> (String, String, bool) {
        let tokenizer = tokenizer();
        let sequence = Sequence::new(&tokenizer, example, max_tokens).unwrap();
        assert!(sequence.read() <= max_tokens);
        assert_eq!(sequence.loss_tokens(), sequence.targets().count());
        let text = |ids: &mut dyn Iterator<Item = u32>| -> String {
            ids.map(|id| if id == Tokenizer::EOS { "|".into() } else { tokenizer.decode(&[id]).unwrap() }).collect()
        };
        for (place, id) in sequence.targets() {
            assert_eq!(sequence.tokens[place + 1], id);
        }
        let read = text(&mut sequence.tokens[1..].iter().copied());
        let learned = text(&mut sequence.targets().map(|(_, id)| id));
        assert_eq!(sequence.bytes, learned.replace('|', "").len());
        (read, learned, sequence.cut)
    }

    #[test]
    fn a_caption_is_learned_whole_and_cut_without_an_end() {
        let caption = |max| texts(&Example::caption(0, "Red"), max);
        assert_eq!(caption(4), ("red|".into(), "red|".into(), false));
        assert_eq!(caption(3), ("red".into(), "red".into(), true));
        assert_eq!(caption(1), ("r".into(), "r".into(), true));
        assert_eq!(texts(&Example::caption(0, ""), 4), ("|".into(), "|".into(), false));
    }

    #[test]
    fn of_a_conversation_answers_and_ends_are_learned() {
        let talk = talk(&[("Hue?", "Red"), ("Big?", "No")]);
        let all = ("user: hue?\nbot: red|user: big?\nbot: no|".into(), " red| no|".into(), false);
        assert_eq!(texts(&talk, 64), all);
        // A later question that would have to be cut is left out with its answer.
        assert_eq!(texts(&talk, 38), ("user: hue?\nbot: red|".into(), " red|".into(), true));
        let long = self::talk(&[("Hue?", "Red"), ("Big?", "Not so very big")]);
        let cut = ("user: hue?\nbot: red|user: big?\nbot: not so very bi".into(), " red| not so very bi".into(), true);
        assert_eq!(texts(&long, 50), cut);
    }

    #[test]
    fn a_long_first_question_keeps_its_end_and_leaves_room_for_the_answer() {
        let long = talk(&[("What is the hue of it?", "Red")]);
        assert_eq!(texts(&long, 12), ("t?\nbot: red|".into(), " red|".into(), true));
        // A long answer takes half of the room, not more.
        let both = talk(&[("What is the hue of it?", "Red and green")]);
        assert_eq!(texts(&both, 12), ("?\nbot: red a".into(), " red a".into(), true));
        assert_eq!(texts(&both, 1), (" ".into(), " ".into(), true));
        let huge = talk(&[(&"very ".repeat(100_000), "Red")]);
        assert_eq!(texts(&huge, 12), ("y \nbot: red|".into(), " red|".into(), true));
    }
}
