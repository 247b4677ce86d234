//! `lynxdata render`: prints conversations as tokens with their loss masks.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use lynxdata_budgets::{Conversation, Renderer, Template, Tokenizer};
use lynxdata_records::text;
use serde::Serialize;

use super::{print, print_json};
use crate::exit::{BROKEN_RECORDS, DONE, Failure};
use crate::paths::input_parser;

/// Turn conversations into tokens, with a mask of the tokens that have a loss
///
/// Reads conversations from standard input, one JSON object per line, with `messages` of `role` and
/// `content`, or in any other form that `lynxdata audit` reads. The text of the assistant and the
/// end of its turn have a loss. A conversation is refused if a token crosses the border of a span
/// with a loss, because no mask would be right for it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata render --template vicuna --tokenizer tokenizer.json --json < conversations.jsonl
  head -1 data.jsonl | lynxdata render --template chatml --tokenizer tokenizer.json

Exit code 3: some conversations were refused; the reason is printed instead of the tokens.
Templates and their sources: docs/audit.md")]
pub(crate) struct Arguments {
    #[arg(long, value_name = "NAME", help = format!("The chat template: {}", Template::names()))]
    template: String,

    /// The tokenizer.json of the language model
    #[arg(long, value_name = "FILE", value_parser = input_parser())]
    tokenizer: PathBuf,

    /// Print ids and loss_mask, one JSON object per line; otherwise, the text is printed with the
    /// parts that have a loss between ⟦ and ⟧
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss_mask: Option<Vec<u8>>,
    /// The line of the input, from 1, where there is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let template = Template::parse(&arguments.template).map_err(|error| Failure::Usage(anyhow!(error)))?;
    let tokenizer = Tokenizer::read(&arguments.tokenizer).map_err(anyhow::Error::from)?;
    let renderer = Renderer::new(template, &tokenizer).map_err(anyhow::Error::from)?;
    let mut code = DONE;
    let failed = "cannot read standard input";
    let input = BufReader::new(text::utf8(std::io::stdin().lock()).context(failed)?);
    for (number, line) in input.split(b'\n').enumerate() {
        let line = line.context(failed)?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (id, shown) = match Conversation::parse(&line) {
            Ok(Conversation { id, refused: Some(fault), .. }) => (id, Err(fault.detail)),
            Ok(conversation) => (conversation.id.clone(), shown(&renderer, &conversation, arguments.json)),
            Err(fault) => (None, Err(fault.detail)),
        };
        match shown {
            Ok(Shown::Text(text)) => print(&text)?,
            Ok(Shown::Tokens(ids, loss_mask)) => {
                print_json(&Outcome { id, ids: Some(ids), loss_mask: Some(loss_mask), line: None, error: None })?;
            }
            Err(error) => {
                code = BROKEN_RECORDS;
                if arguments.json {
                    let line = Some(number + 1);
                    print_json(&Outcome { id, ids: None, loss_mask: None, line, error: Some(error) })?;
                } else {
                    print(&format!("line {}: refused: {error}\n", number + 1))?;
                }
            }
        }
    }
    Ok(code)
}

enum Shown {
    Text(String),
    Tokens(Vec<u32>, Vec<u8>),
}

fn shown(renderer: &Renderer, conversation: &Conversation, as_json: bool) -> Result<Shown, String> {
    let tokens = renderer.tokens(&conversation.turns).map_err(|refused| refused.to_string())?;
    if as_json {
        return Ok(Shown::Tokens(tokens.ids, tokens.loss_mask.into_iter().map(u8::from).collect()));
    }
    let mut rendered = renderer.text(&conversation.turns).map_err(|refused| refused.to_string())?;
    for span in rendered.learned.iter().rev() {
        rendered.text.insert(span.end, '⟧');
        rendered.text.insert(span.start, '⟦');
    }
    let learned = tokens.loss_mask.iter().filter(|learned| **learned).count();
    Ok(Shown::Text(format!("{}\n({} tokens, {learned} with a loss)\n", rendered.text.trim_end(), tokens.ids.len())))
}
