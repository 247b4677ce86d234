//! `--metric judge`: a language model judges which answers are right, and human labels measure how
//! reliable it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use lynxdata_evaluation::input::{Item, Key, Source, read_labels};
use lynxdata_evaluation::judge::{Agreement, agreement, most_frequent_answer, parse_verdict, prompt};
use lynxdata_evaluation::place::Place;
use lynxdata_generation::{Budget, Cache, Client, Completion, Message, Request, Role};
use serde::Serialize;

use crate::commands::language_model::{Question, ask_all, endpoint_of};
use crate::paths::{input_parser, path_parser};

/// Maximum number of tokens of a reply: enough for one word, and for a sentence around it.
const MAX_TOKENS: u32 = 64;
/// Replies of earlier runs, in the folder of `--out`.
const CACHE: &str = "judge-replies";

#[derive(Args)]
#[command(next_help_heading = "Judge")]
pub(super) struct JudgeArguments {
    /// The server of the judge, for example http://localhost:8000/v1; any address with OpenAI's
    /// chat completions API
    #[arg(long, value_name = "URL", requires = "judge_model")]
    pub(super) endpoint: Option<String>,

    /// The name of the judge on the server
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    judge_model: Option<String>,

    /// Folder that keeps replies, so that no prompt is paid for twice; by default, a folder in
    /// --out
    #[arg(long, value_name = "DIR", value_parser = path_parser(), requires = "endpoint")]
    judge_cache: Option<PathBuf>,

    /// Human labels, {"id": 1, "label": "yes"}; reports how far the judge agrees with them
    #[arg(long, value_name = "FILE", value_parser = input_parser(), requires = "endpoint")]
    labels: Option<PathBuf>,
}

/// The facts about a judge that are printed.
#[derive(Serialize)]
pub(super) struct Told {
    model: String,
    endpoint: String,
    /// Prompts that were sent in this run; the others were in the cache.
    asked: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<Agreement>,
    notes: Vec<String>,
}

impl Told {
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("judge: {} at {}, {} prompts sent", self.model, self.endpoint, self.asked)];
        if let Some(agreement) = &self.agreement {
            let between = |interval: Option<[f64; 2]>| {
                interval.map_or(String::new(), |[low, high]| format!(" [{low:.2}, {high:.2}]"))
            };
            let kappa = agreement.kappa.map_or("undefined".to_owned(), |kappa| format!("{kappa:.2}"));
            notes.push(match agreement.accuracy {
                Some(accuracy) => format!(
                    "agreement with people on {} questions: {accuracy:.2} %{}, Cohen's kappa {kappa}{}",
                    agreement.questions,
                    between(agreement.accuracy_interval),
                    between(agreement.kappa_interval)
                ),
                None => "agreement with people: no question could be compared".to_owned(),
            });
        }
        notes.extend(self.notes.iter().cloned());
        notes
    }
}

/// Replies of a judge by the id of the question.
pub(super) struct Judged {
    replies: BTreeMap<String, String>,
    pub(super) told: Told,
}

impl Judged {
    /// Returns the items with the replies of the judge instead of the answers.
    pub(super) fn items<'a>(&'a self, items: &[Item<'a>]) -> Vec<Item<'a>> {
        let of = |item: &Item<'a>| Item {
            reference: item.reference,
            prediction: self.replies.get(&item.reference.id).map(String::as_str),
        };
        items.iter().map(of).collect()
    }
}

/// Asks the judge about every answer. `key` is that of the references.
pub(super) fn run(arguments: &super::Arguments, items: &[Item], key: &Key) -> Result<Judged> {
    let settings = &arguments.judge;
    let (Some(endpoint), Some(model)) = (&settings.endpoint, &settings.judge_model) else {
        bail!("--metric judge needs --endpoint and --judge-model");
    };
    let mut notes = Vec::new();
    let in_out = arguments.out.as_ref().map(|folder| folder.join(CACHE));
    let path = settings.judge_cache.clone().or(in_out);
    if path.is_none() {
        notes.push("replies of the judge were not saved; --out or --judge-cache saves them".to_owned());
    }
    let cache = path.as_deref().map(Cache::open).transpose()?;
    // Ids by their prompt, which several may share.
    let mut prompts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for item in items {
        let Some(answer) = item.prediction else { continue };
        let reference = item.reference;
        let (Some(question), Some(right)) = (&reference.question, most_frequent_answer(reference)) else {
            bail!("{}: id {}: the judge needs a question and an answer", reference.place, reference.id);
        };
        prompts.entry(prompt(question, answer, right)).or_default().push(&reference.id);
    }
    let endpoint = endpoint_of(endpoint, model, arguments.api_key_env.as_deref())?;
    let url = endpoint.url().to_owned();
    let client = Client::new(endpoint, cache, Budget::unlimited(model));
    let mut replies: BTreeMap<String, String> = BTreeMap::new();
    let mut asked = 0;
    let questions: Vec<Question> = prompts.keys().map(|prompt| question(prompt, &prompts[prompt])).collect();
    ask_all(&client, &questions, arguments.requests(), |question, Completion { reply, is_kept, .. }| {
        asked += usize::from(!is_kept);
        let text = reply.refusal.as_ref().unwrap_or(&reply.text);
        replies.insert(question.id.clone(), text.clone());
        Ok(())
    })?;
    // The first id of a prompt represents all of them.
    let of = |ids: &Vec<&str>| ids.iter().map(|id| ((*id).to_owned(), replies[ids[0]].clone())).collect::<Vec<_>>();
    let replies: BTreeMap<String, String> = prompts.values().flat_map(of).collect();
    let agreement = match &settings.labels {
        Some(path) => {
            let text = super::read(path)?;
            let labels = read_labels(Source { name: &path.to_string_lossy(), text: &text }, key)?;
            Some(compare(labels, items, &replies, &mut notes)?)
        }
        None => None,
    };
    let told = Told { model: model.clone(), endpoint: url, asked, agreement, notes };
    Ok(Judged { replies, told })
}

/// Returns the question whether an answer is right, for all ids that have it.
fn question<'a>(prompt: &'a str, ids: &[&str]) -> Question<'a> {
    let request = move || {
        let messages = vec![Message::text(Role::User, prompt)];
        Ok(Request { messages, max_tokens: MAX_TOKENS, temperature: 0.0, seed: None, schema: None })
    };
    Question { id: ids[0].to_owned(), request: Box::new(request) }
}

/// Returns how far the judge agrees with labels.
fn compare(
    labels: Vec<(String, bool, Place)>,
    items: &[Item],
    replies: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Result<Agreement> {
    let known: std::collections::BTreeSet<&str> = items.iter().map(|item| item.reference.id.as_str()).collect();
    let mut pairs = Vec::new();
    let mut without = 0;
    for (id, people, place) in labels {
        if !known.contains(id.as_str()) {
            bail!("{place}: id {id} is not among the references");
        }
        match replies.get(&id).and_then(|reply| parse_verdict(reply)) {
            Some(judge) => pairs.push((judge, people)),
            None => without += 1,
        }
    }
    if without > 0 {
        notes.push(format!("{without} labelled questions have no verdict of the judge and were not compared"));
    }
    Ok(agreement(&pairs))
}
