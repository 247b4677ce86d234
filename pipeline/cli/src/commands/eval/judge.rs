//! `--metric judge`: a language model says which answers are right, and people say whether it does.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lynxdata_evaluation::input::{Item, Source, read_labels};
use lynxdata_evaluation::judge::{Agreement, agreement, most_frequent_answer, parse_verdict, prompt};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::chat::{Chat, Question, ask_all};
use crate::paths::path_parser;

/// Tokens of a reply: enough for one word, and for a sentence around it.
const MAX_TOKENS: u32 = 64;
/// Replies of earlier runs, in the folder of `--out`.
const CACHE: &str = "judge-cache.jsonl";

#[derive(Args)]
#[command(next_help_heading = "Judge")]
pub(super) struct JudgeArguments {
    /// The server of the judge, as http://localhost:8000/v1; the address of anything that has
    /// OpenAI's chat completions
    #[arg(long, value_name = "URL", requires = "judge_model")]
    pub(super) endpoint: Option<String>,

    /// The judge, as the server calls it
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    judge_model: Option<String>,

    /// Where replies are kept, so that no prompt is paid for twice; in the folder of --out without
    /// it
    #[arg(long, value_name = "FILE", value_parser = path_parser(), requires = "endpoint")]
    judge_cache: Option<PathBuf>,

    /// Labels of people, {"id": 1, "label": "yes"}: tells how far the judge agrees with them
    #[arg(long, value_name = "FILE", value_parser = path_parser(), requires = "endpoint")]
    labels: Option<PathBuf>,
}

/// What is told of a judge.
#[derive(Serialize)]
pub(super) struct Told {
    model: String,
    endpoint: String,
    /// Prompts that were sent now; the others were in the cache.
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
            notes.push(format!(
                "agreement with people on {} questions: {:.2} %{}, Cohen's kappa {kappa}{}",
                agreement.questions,
                agreement.accuracy,
                between(agreement.accuracy_interval),
                between(agreement.kappa_interval)
            ));
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
    /// The items with the replies of the judge instead of the answers.
    pub(super) fn items<'a>(&'a self, items: &[Item<'a>]) -> Vec<Item<'a>> {
        let of = |item: &Item<'a>| Item {
            reference: item.reference,
            prediction: self.replies.get(&item.reference.id).map(String::as_str),
        };
        items.iter().map(of).collect()
    }
}

/// Asks the judge about every answer.
pub(super) fn run(arguments: &super::Arguments, items: &[Item]) -> Result<Judged> {
    let settings = &arguments.judge;
    let (Some(endpoint), Some(model)) = (&settings.endpoint, &settings.judge_model) else {
        bail!("--metric judge needs --endpoint and --judge-model");
    };
    let mut notes = Vec::new();
    let in_out = arguments.out.as_ref().map(|folder| folder.join(CACHE));
    let path = settings.judge_cache.clone().or(in_out);
    if path.is_none() {
        notes.push("replies of the judge were not kept; --out or --judge-cache keeps them".to_owned());
    }
    let mut cache = Cache::open(path)?;
    let mut keys: Vec<(String, String)> = Vec::new();
    // Questions by the hash of their prompt, which several may share.
    let mut open: BTreeMap<String, Question> = BTreeMap::new();
    for item in items {
        let Some(answer) = item.prediction else { continue };
        let reference = item.reference;
        let (Some(question), Some(right)) = (&reference.question, most_frequent_answer(reference)) else {
            bail!("{}: id {}: judge needs a question and an answer", reference.place, reference.id);
        };
        let prompt = prompt(question, answer, right);
        let key = blake3::hash(format!("{endpoint}\n{model}\n{prompt}").as_bytes()).to_hex().to_string();
        if !cache.replies.contains_key(&key) {
            let content = Box::new(move || Ok(json!(prompt)));
            open.entry(key.clone()).or_insert(Question { id: reference.id.clone(), content });
        }
        keys.push((reference.id.clone(), key));
    }
    let hashes: BTreeMap<String, String> =
        open.iter().map(|(key, question)| (question.id.clone(), key.clone())).collect();
    let questions: Vec<Question> = open.into_values().collect();
    if !questions.is_empty() {
        let chat = Chat::new(endpoint, model, arguments.api_key_env.as_deref())?;
        ask_all(&chat, &questions, arguments.requests, MAX_TOKENS, |question, reply| {
            cache.keep(&hashes[&question.id], reply.text)
        })?;
    }
    let replies: BTreeMap<String, String> =
        keys.into_iter().filter_map(|(id, key)| Some((id, cache.replies.get(&key)?.clone()))).collect();
    let agreement = match &settings.labels {
        Some(path) => {
            let text = super::read(path)?;
            Some(compare(&Source { name: &path.to_string_lossy(), text: &text }, items, &replies, &mut notes)?)
        }
        None => None,
    };
    let told = Told { model: model.clone(), endpoint: endpoint.clone(), asked: questions.len(), agreement, notes };
    Ok(Judged { replies, told })
}

/// How far the judge agrees with labels.
fn compare(
    labels: &Source,
    items: &[Item],
    replies: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Result<Agreement> {
    let known: std::collections::BTreeSet<&str> = items.iter().map(|item| item.reference.id.as_str()).collect();
    let mut pairs = Vec::new();
    let mut without = 0;
    for (id, people, place) in read_labels(*labels)? {
        if !known.contains(id.as_str()) {
            bail!("{place}: id {id} is not among the references");
        }
        match replies.get(&id).and_then(|reply| parse_verdict(reply)) {
            Some(judge) => pairs.push((judge, people)),
            None => without += 1,
        }
    }
    if without > 0 {
        notes.push(format!("{without} labelled questions have no verdict of the judge and are not compared"));
    }
    Ok(agreement(&pairs))
}

/// Replies in a file, one a line.
struct Cache {
    replies: BTreeMap<String, String>,
    file: Option<(PathBuf, File)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    reply: String,
}

impl Cache {
    fn open(path: Option<PathBuf>) -> Result<Cache> {
        let Some(path) = path else { return Ok(Cache { replies: BTreeMap::new(), file: None }) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let lines = whole_lines(&path)?;
        let mut replies = BTreeMap::new();
        for (number, line) in lines.iter().enumerate() {
            let strange =
                || format!("{}, line {}: not a reply of a judge; move the file away", path.display(), number + 1);
            let line: Line = serde_json::from_str(line).with_context(strange)?;
            replies.insert(line.key, line.reply);
        }
        Ok(Cache { replies, file: Some((path.clone(), append(&path)?)) })
    }

    fn keep(&mut self, key: &str, reply: String) -> Result<()> {
        if let Some((path, file)) = &mut self.file {
            let line = serde_json::to_string(&Line { key: key.to_owned(), reply: reply.clone() })?;
            writeln!(file, "{line}").with_context(|| format!("cannot write {}", path.display()))?;
        }
        self.replies.insert(key.to_owned(), reply);
        Ok(())
    }
}

/// The lines of a file that is added to. A last line without its end, as a kill leaves it, is cut
/// off.
pub(super) fn whole_lines(path: &std::path::Path) -> Result<Vec<String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    if whole.len() < text.len() {
        tracing::warn!("{}: the last line was broken off and is left out", path.display());
        super::output::write_whole(path, whole)?;
    }
    Ok(whole.lines().map(str::to_owned).collect())
}

pub(super) fn append(path: &std::path::Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}
