//! What a run is given: pictures, and texts about them.

/// The pictures of a check; examples name them by their row.
///
/// The kind must be the one that [`crate::ModelConfig::sight`] asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Pictures {
    /// For [`crate::Sight::Pixels`]: row `i` is picture `i`, in `image_size² · 3` bytes: rows of
    /// pixels, each red, green, blue.
    Pixels(Vec<Vec<u8>>),
    /// For [`crate::Sight::Features`]: numbers that the caller computed.
    ///
    /// A run multiplies all of them by one factor, so that their mean square is 1. How large the
    /// numbers of one place are beside those of another stays as it is.
    Features {
        /// Numbers per picture, without unit; at least 1.
        width: usize,
        /// `width` numbers per picture, one picture after another: row `i` is picture `i`.
        values: Vec<f32>,
    },
}

impl Pictures {
    /// Returns the number of pictures.
    pub fn len(&self) -> usize {
        match self {
            Self::Pixels(pictures) => pictures.len(),
            Self::Features { width, values } => values.len() / (*width).max(1),
        }
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A question about a picture and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    /// The question; empty for a caption. The model reads it and is not trained to predict it.
    pub question: String,
    /// The answer, or the caption. The model is trained to predict it and the end token after it.
    pub answer: String,
}

/// A picture with a caption or a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Example {
    /// The row of the picture in [`Pictures`], counted from 0.
    pub picture: u32,
    /// The turns of the conversation, at least one; a caption is one turn without a question.
    pub turns: Vec<Turn>,
}

impl Example {
    /// Returns an example with a caption.
    pub fn caption(picture: u32, caption: impl Into<String>) -> Self {
        Self { picture, turns: vec![Turn { question: String::new(), answer: caption.into() }] }
    }

    /// Returns the whole text as the model reads it, for the training of a tokenizer.
    pub fn text(&self) -> String {
        let turns = self.turns.iter().map(|turn| {
            if turn.question.is_empty() {
                turn.answer.clone()
            } else {
                format!("{QUESTION}{}{ANSWER} {}", turn.question, turn.answer)
            }
        });
        turns.collect::<Vec<_>>().join("\n")
    }
}

/// Comes before a question, as in the prompts of Lynx (arXiv 2307.02469).
pub(crate) const QUESTION: &str = "User: ";

/// Comes between a question and a space with the answer, as in Lynx.
pub(crate) const ANSWER: &str = "\nBot:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_example_follows_the_template() {
        let turn = |question: &str, answer: &str| Turn { question: question.to_owned(), answer: answer.to_owned() };
        let talk = Example { picture: 0, turns: vec![turn("What is it?", "A dog."), turn("Big?", "No.")] };
        assert_eq!(talk.text(), "User: What is it?\nBot: A dog.\nUser: Big?\nBot: No.");
        assert_eq!(Example::caption(0, "A dog").text(), "A dog");
    }

    #[test]
    fn pictures_are_counted_in_rows() {
        assert_eq!(Pictures::Pixels(vec![vec![0; 3]; 2]).len(), 2);
        assert_eq!(Pictures::Features { width: 2, values: vec![0.0; 6] }.len(), 3);
        assert!(Pictures::Features { width: 0, values: Vec::new() }.is_empty());
    }
}
