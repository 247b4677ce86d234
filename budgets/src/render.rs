//! Renders conversations as the text that a language model is trained on, with the mask of tokens
//! that have a loss.
//!
//! The renderer knows which parts of the text are from the assistant. So the mask is exact, unlike
//! masks that are derived afterwards from the lengths of tokenised turns. A record whose mask has a
//! border inside a token is refused.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::read::{Role, Turn};
use crate::tokenizer::Tokenizer;

/// A chat template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Vicuna 1.1 and LLaVA 1.5: `vicuna_v1.1` of FastChat 0.2.36, with its system message if the
    /// conversation has none.
    Vicuna,
    /// LLaMA 2: the `chat_template` of meta-llama/Llama-2-7b-chat-hf.
    Llama2,
    /// LLaMA 3: the `chat_template` of meta-llama/Meta-Llama-3-8B-Instruct.
    Llama3,
    /// ChatML, without a system message if the conversation has none.
    ChatMl,
    /// ChatML like the `chat_template` of Qwen/Qwen2-VL-7B-Instruct, with its system message if the
    /// conversation has none.
    Qwen,
    /// `User: … Bot: …`, the prompt of Lynx (arXiv 2307.02469 and the configuration of
    /// github.com/bytedance/lynx-llm), with the end token after every answer.
    Lynx,
}

/// The system message that FastChat puts before a conversation of Vicuna.
const VICUNA_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant \
                             gives helpful, detailed, and polite answers to the user's questions.";
/// The system message that Qwen2-VL puts before a conversation.
const QWEN_SYSTEM: &str = "You are a helpful assistant.";
/// The begin and end tokens for Lynx: those of LLaMA, or of a tokenizer that lynxdata trained.
const LYNX_TOKENS: &[(&str, &str)] = &[("<s>", "</s>"), ("<bos>", "<eos>")];

impl Template {
    /// All templates.
    pub const ALL: [Template; 6] =
        [Template::Vicuna, Template::Llama2, Template::Llama3, Template::ChatMl, Template::Qwen, Template::Lynx];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Template::Vicuna => "vicuna",
            Template::Llama2 => "llama2",
            Template::Llama3 => "llama3",
            Template::ChatMl => "chatml",
            Template::Qwen => "qwen",
            Template::Lynx => "lynx",
        }
    }

    /// Returns the names of all templates, with commas between them.
    pub fn names() -> String {
        Template::ALL.map(Template::name).join(", ")
    }

    /// Finds a template by its name.
    ///
    /// # Errors
    /// If there is no such template.
    pub fn parse(name: &str) -> Result<Template> {
        let found = Template::ALL.into_iter().find(|template| template.name() == name);
        found.ok_or_else(|| Error::UnknownTemplate { name: name.to_owned(), known: Template::names() })
    }

    /// Returns the strings in the template that must be single tokens of the tokenizer.
    fn marks(self, tokenizer: &Tokenizer) -> &'static [&'static str] {
        match self {
            Template::Llama3 => &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            Template::ChatMl | Template::Qwen => &["<|im_start|>", "<|im_end|>"],
            Template::Lynx if lynx_tokens(tokenizer).0 == "<bos>" => &["<bos>", "<eos>"],
            Template::Vicuna | Template::Llama2 | Template::Lynx => &["<s>", "</s>"],
        }
    }
}

fn lynx_tokens(tokenizer: &Tokenizer) -> (&'static str, &'static str) {
    let own = LYNX_TOKENS.iter().find(|(begin, end)| tokenizer.has(begin) && tokenizer.has(end));
    *own.unwrap_or(&LYNX_TOKENS[0])
}

/// The reason why a conversation cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The template does not support a turn.
    #[error("turn {turn}: {reason}")]
    Turn {
        /// The turn, from 0.
        turn: usize,
        /// The fault.
        reason: String,
    },
    /// A text contains a token by which the template begins or ends turns.
    #[error("turn {turn}: the text contains {token}, which would begin or end a turn; remove it")]
    HoldsToken {
        /// The turn, from 0.
        turn: usize,
        /// The token.
        token: &'static str,
    },
    /// A token covers text of the assistant and other text.
    #[error("token {token} ({text:?}) covers both text with a loss and text without one, so no mask is correct")]
    Border {
        /// The token, from 0.
        token: usize,
        /// The text of the token.
        text: String,
    },
    /// The tokenizer fails on the text.
    #[error("the tokenizer fails: {0}")]
    Tokenizer(String),
}

/// A conversation as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text, including the tokens that begin and end turns.
    pub text: String,
    /// The byte ranges of the text that have a loss: the text of the assistant, and the end of its
    /// turns.
    pub learned: Vec<Range<usize>>,
}

/// A conversation as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether each token has a loss.
    pub loss_mask: Vec<bool>,
}

impl Rendered {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn push_learned(&mut self, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.learned.push(start..self.text.len());
    }
}

/// A template with the tokenizer of its model.
#[derive(Clone, Copy, Debug)]
pub struct Renderer<'a> {
    template: Template,
    tokenizer: &'a Tokenizer,
}

impl<'a> Renderer<'a> {
    /// Combines a template with a tokenizer.
    ///
    /// # Errors
    /// If the tokenizer does not have the tokens of the template.
    pub fn new(template: Template, tokenizer: &'a Tokenizer) -> Result<Renderer<'a>> {
        let missing = template.marks(tokenizer).iter().find(|token| !tokenizer.has(token));
        match missing {
            Some(token) => Err(Error::NoToken { token, template: template.name() }),
            None => Ok(Renderer { template, tokenizer }),
        }
    }

    /// Renders a conversation as text.
    ///
    /// # Errors
    /// If the template does not support a turn, or a text contains a token of the template.
    pub fn text(&self, turns: &[Turn]) -> std::result::Result<Rendered, Refused> {
        for (place, turn) in turns.iter().enumerate() {
            let held = self.template.marks(self.tokenizer).iter().find(|token| turn.text.contains(**token));
            if let Some(token) = held {
                return Err(Refused::HoldsToken { turn: place, token });
            }
        }
        check_order(turns)?;
        let (system, talk) = match turns.split_first() {
            Some((first, rest)) if first.role == Role::System => (Some(first.text.as_str()), rest),
            _ => (None, turns),
        };
        match self.template {
            Template::Vicuna => Ok(vicuna(system, talk)),
            Template::Llama2 => Ok(llama2(system, talk)),
            Template::Llama3 => Ok(llama3(turns)),
            Template::ChatMl => Ok(chatml(system, talk)),
            Template::Qwen => Ok(chatml(Some(system.unwrap_or(QWEN_SYSTEM)), talk)),
            Template::Lynx if system.is_some() => {
                let reason = "the template lynx has no system message; remove it or put it into the question";
                Err(Refused::Turn { turn: 0, reason: reason.to_owned() })
            }
            Template::Lynx => Ok(lynx(lynx_tokens(self.tokenizer), talk)),
        }
    }

    /// Tokenises a conversation and returns which tokens have a loss.
    ///
    /// # Errors
    /// The errors of [`Self::text`], and if a token covers a border of the mask.
    pub fn tokens(&self, turns: &[Turn]) -> std::result::Result<Tokens, Refused> {
        let rendered = self.text(turns)?;
        let tokens = self.tokenizer.tokens(&rendered.text).map_err(Refused::Tokenizer)?;
        let mut loss_mask = Vec::with_capacity(tokens.len());
        for (place, token) in tokens.iter().enumerate() {
            // A token without text, such as the one that SentencePiece puts before a word, has a
            // loss if it is inside the text of the assistant. At the start of that text it has
            // none.
            let touched = rendered.learned.iter().find(|span| {
                let reaches_in = token.start < span.end && token.end > span.start;
                reaches_in && (token.start < token.end || token.start > span.start)
            });
            let is_inside = touched.is_none_or(|span| span.start <= token.start && token.end <= span.end);
            if !is_inside {
                let text = rendered.text.get(token.start..token.end).unwrap_or_default().to_owned();
                return Err(Refused::Border { token: place, text });
            }
            loss_mask.push(touched.is_some());
        }
        Ok(Tokens { ids: tokens.iter().map(|token| token.id).collect(), loss_mask })
    }
}

/// Checks that turns are an optional system message and then user and assistant in alternation.
fn check_order(turns: &[Turn]) -> std::result::Result<(), Refused> {
    let talk = turns.iter().enumerate().skip(usize::from(turns.first().is_some_and(|turn| turn.role == Role::System)));
    for (number, (place, turn)) in talk.enumerate() {
        let expected = if number % 2 == 0 { Role::User } else { Role::Assistant };
        if turn.role != expected {
            let reason = format!("it is of {:?}, but must be of {expected:?}", turn.role).to_lowercase();
            return Err(Refused::Turn { turn: place, reason });
        }
    }
    let ends_well = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    let reason = "the last turn must be by the assistant".to_owned();
    if ends_well { Ok(()) } else { Err(Refused::Turn { turn: turns.len().saturating_sub(1), reason }) }
}

fn vicuna(system: Option<&str>, talk: &[Turn]) -> Rendered {
    let mut out = Rendered::default();
    out.push("<s>");
    out.push(system.unwrap_or(VICUNA_SYSTEM));
    out.push(" ");
    for turn in talk {
        match turn.role {
            Role::Assistant => {
                out.push("ASSISTANT:");
                out.push_learned(&format!(" {}</s>", turn.text));
            }
            _ => out.push(&format!("USER: {} ", turn.text)),
        }
    }
    out
}

fn llama2(system: Option<&str>, talk: &[Turn]) -> Rendered {
    let mut out = Rendered::default();
    for (place, turn) in talk.iter().enumerate() {
        match (&turn.role, system.filter(|_| place == 0)) {
            (Role::Assistant, _) => out.push_learned(&format!(" {} </s>", stripped(&turn.text))),
            (_, Some(system)) => {
                let content = format!("<<SYS>>\n{system}\n<</SYS>>\n\n{}", turn.text);
                out.push(&format!("<s>[INST] {} [/INST]", stripped(&content)));
            }
            (_, None) => out.push(&format!("<s>[INST] {} [/INST]", stripped(&turn.text))),
        }
    }
    out
}

fn llama3(turns: &[Turn]) -> Rendered {
    let mut out = Rendered::default();
    out.push("<|begin_of_text|>");
    for turn in turns {
        out.push(&format!("<|start_header_id|>{}<|end_header_id|>\n\n", role_name(&turn.role)));
        let content = format!("{}<|eot_id|>", stripped(&turn.text));
        if turn.role == Role::Assistant {
            out.push_learned(&content);
        } else {
            out.push(&content);
        }
    }
    out
}

fn chatml(system: Option<&str>, talk: &[Turn]) -> Rendered {
    let mut out = Rendered::default();
    if let Some(system) = system {
        out.push(&format!("<|im_start|>system\n{system}<|im_end|>\n"));
    }
    for turn in talk {
        out.push(&format!("<|im_start|>{}\n", role_name(&turn.role)));
        let content = format!("{}<|im_end|>", turn.text);
        if turn.role == Role::Assistant {
            out.push_learned(&content);
        } else {
            out.push(&content);
        }
        out.push("\n");
    }
    out
}

fn lynx((begin, end): (&str, &str), talk: &[Turn]) -> Rendered {
    let mut out = Rendered::default();
    out.push(begin);
    for turn in talk {
        match turn.role {
            Role::Assistant => {
                out.push("\nBot:");
                out.push_learned(&format!(" {}{end}", turn.text));
            }
            _ => out.push(&format!("User: {}", turn.text)),
        }
    }
    out
}

fn role_name(role: &Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Unknown(_) => "user",
    }
}

/// Strips white space like Python's `str.strip`, which also strips four ASCII separators.
fn stripped(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter))
}

#[cfg(test)]
mod tests;
