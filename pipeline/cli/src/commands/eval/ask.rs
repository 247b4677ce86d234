//! `--ask`: gets answers from a model on a server, with images, and saves each one as it arrives.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lynxdata_evaluation::input::{Key, Prediction, Reference, References, Source, read_predictions};
use lynxdata_fetch::sha256;
use lynxdata_generation::{Budget, Client, Message, Part, Request, Role, data_url};
use serde_json::json;

use crate::commands::language_model::{Question, ask_all, endpoint_of, write_whole};
use crate::paths::input_parser;

/// The answers, in the folder of `--out`.
pub(super) const PREDICTIONS: &str = "predictions.jsonl";
/// File beside the answers with the settings that they depend on.
pub(super) const ASKED: &str = "asked.json";

/// Prefixes of the file names of COCO images, whose references only give the number of the image.
const COCO: &[&str] = &["", "COCO_val2014_", "COCO_train2014_", "COCO_test2014_", "COCO_test2015_"];

#[derive(Args)]
#[command(next_help_heading = "Ask a model")]
pub(super) struct AskArguments {
    /// The server of the model, for example http://localhost:8000/v1; answers come from it instead
    /// of --predictions
    #[arg(long, value_name = "URL", requires = "model")]
    pub(super) ask: Option<String>,

    /// The name of the model on the server
    #[arg(long, value_name = "NAME", requires = "ask")]
    pub(super) model: Option<String>,

    /// Folder of the images of the references
    #[arg(long, value_name = "DIR", value_parser = input_parser())]
    pub(super) images: Option<PathBuf>,

    /// Text that follows each question, such as "Answer with a single word or phrase."
    #[arg(long, value_name = "TEXT")]
    pub(super) instruction: Option<String>,

    /// Maximum number of tokens of an answer of --ask; longer answers are cut and reported. With
    /// --lynx, maximum number of tokens of a question [default: 256]
    #[arg(long, value_name = "TOKENS")]
    pub(super) max_tokens: Option<u32>,
}

impl AskArguments {
    pub(super) fn max_tokens(&self) -> u32 {
        self.max_tokens.unwrap_or(256)
    }
}

/// Asks all questions that have no answer yet, and returns all answers.
pub(super) fn run(arguments: &super::Arguments, references: &References) -> Result<Vec<Prediction>> {
    let (references, key) = (references.rows.as_slice(), references.key.name());
    let settings = &arguments.ask;
    let (Some(endpoint), Some(model), Some(folder)) = (&settings.ask, &settings.model, &arguments.out) else {
        bail!("--ask needs --model and --out");
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let asked = same_as_before(folder, arguments, model, references)?;
    let path = folder.join(PREDICTIONS);
    let name = path.display().to_string();
    let kept = whole_lines(&path)?.join("\n");
    // The lines of this file have the ids by which the references are known, and no others.
    let read = |text: &str| read_predictions(Source { name: &name, text }, &Key::default());
    let answered = if kept.is_empty() { Vec::new() } else { read(&kept)? };
    let answered: std::collections::BTreeSet<&str> = answered.iter().map(|prediction| prediction.id.as_str()).collect();
    let open: Vec<&Reference> =
        references.iter().filter(|reference| !answered.contains(reference.id.as_str())).collect();
    if !answered.is_empty() {
        tracing::info!("{} of {} questions already have an answer", references.len() - open.len(), references.len());
    }
    let questions: Vec<Question> =
        open.into_iter().map(|reference| question(settings, reference)).collect::<Result<_>>()?;
    if !questions.is_empty() {
        let endpoint = endpoint_of(endpoint, model, arguments.api_key_env.as_deref())?;
        // The answers themselves are what is kept.
        let client = Client::new(endpoint, None, Budget::unlimited(model));
        write_whole(&folder.join(ASKED), &asked)?;
        let mut file = append(&path)?;
        let outcome = ask_all(&client, &questions, arguments.requests(), |question, completion| {
            let reply = &completion.reply;
            let answer = reply.refusal.as_ref().unwrap_or(&reply.text);
            let mut line = json!({key: question.id, "answer": answer});
            if reply.is_cut() {
                // It is saved, because this run may end before it can report it.
                line["cut"] = json!(true);
            }
            writeln!(file, "{line}").with_context(|| format!("cannot write {name}"))
        });
        outcome.with_context(|| {
            format!("not all questions have an answer; --predictions {name} scores the answered ones")
        })?;
    }
    let text = super::read(&path)?;
    let Unusual { cut, empty } = unusual(&text);
    if cut > 0 {
        tracing::warn!("{cut} answers were cut at {} tokens; raise --max-tokens", settings.max_tokens());
    }
    if empty > 0 {
        tracing::warn!("{empty} answers are empty; the model wrote nothing for these questions");
    }
    Ok(read(&text)?)
}

/// Numbers of unusual answers, which are reported.
#[derive(Debug, PartialEq, Eq)]
struct Unusual {
    cut: usize,
    empty: usize,
}

/// Counts unusual answers in the lines of all runs.
fn unusual(lines: &str) -> Unusual {
    let mut unusual = Unusual { cut: 0, empty: 0 };
    for line in lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        unusual.cut += usize::from(line["cut"] == true);
        unusual.empty += usize::from(line["answer"].as_str().is_some_and(|answer| answer.trim().is_empty()));
    }
    unusual
}

/// Returns the digest of everything in the references that a model sees. Right answers are not part
/// of it, so references whose answers were corrected score the same answers of the model.
fn digest(references: &[Reference]) -> String {
    let of = |reference: &Reference| json!([reference.id, reference.question, reference.image, reference.options]);
    let mut questions: Vec<String> = references.iter().map(|reference| of(reference).to_string()).collect();
    questions.sort_unstable();
    sha256(questions.join("\n").as_bytes())
}

/// Refuses a folder whose answers come from another model or other questions. Returns the settings
/// to write into the folder.
pub(super) fn same_as_before(
    folder: &Path,
    arguments: &super::Arguments,
    model: &str,
    references: &[Reference],
) -> Result<String> {
    let path = folder.join(ASKED);
    let shown = |path: &PathBuf| path.display().to_string();
    let asked = json!({
        "endpoint": arguments.ask.ask,
        "model": model,
        "instruction": arguments.ask.instruction,
        "max_tokens": arguments.ask.max_tokens(),
        "images": arguments.ask.images.as_ref().map(shown),
        "references": arguments.references.iter().map(shown).collect::<Vec<_>>(),
        "questions": digest(references),
    });
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let before: serde_json::Value =
                serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
            // The content of the references counts, not their path.
            let other = ["questions", "model", "instruction", "max_tokens", "images"].into_iter().find(|key| {
                before[key] != asked[key] && !(*key == "images" && is_same_folder(&before[key], &asked[key]))
            });
            match other {
                None => Ok(text),
                Some("questions") if before["questions"].is_null() => bail!(
                    "{} holds answers of an older version of lynxdata, which did not save what was asked, so none can be \
                     added; --predictions {} scores them; to ask again, name another --out",
                    folder.display(),
                    folder.join(PREDICTIONS).display()
                ),
                Some("questions") => bail!(
                    "{} holds answers to other questions: ids, questions, images or options of the references have \
                     changed; name another --out",
                    folder.display()
                ),
                Some(key) => bail!(
                    "{} holds answers with {key} = {}, but now {key} is {}; name another --out",
                    folder.display(),
                    before[key],
                    asked[key]
                ),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if folder.join(PREDICTIONS).exists() {
                bail!("{} holds a {PREDICTIONS} that --ask did not write; name another --out", folder.display());
            }
            Ok(format!("{asked:#}\n"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Returns whether two paths lead to one folder, such as `images` and `./images/`.
fn is_same_folder(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    let folder = |path: &serde_json::Value| std::fs::canonicalize(path.as_str()?).ok();
    folder(left).is_some_and(|left| folder(right) == Some(left))
}

/// Returns the question with its image, which is read when the request is made.
fn question(settings: &AskArguments, reference: &Reference) -> Result<Question<'static>> {
    let at = || format!("{}: id {}", reference.place, reference.id);
    let Some(text) = &reference.question else {
        bail!("{}: there is no question to ask", at());
    };
    let text = match &settings.instruction {
        Some(instruction) => format!("{text}\n{instruction}"),
        None => text.clone(),
    };
    let picture = match (&reference.image, &settings.images) {
        (Some(image), Some(folder)) => Some(find(folder, image).with_context(at)?),
        (Some(_), None) => bail!("{}: the question has an image; name the folder of the images: --images DIR", at()),
        (None, _) => None,
    };
    let max_tokens = settings.max_tokens();
    let request = move || {
        let mut parts = Vec::new();
        if let Some(path) = &picture {
            parts.push(Part::Picture(data_url(path)?));
        }
        parts.push(Part::Text(text.clone()));
        let messages = vec![Message { role: Role::User, parts }];
        Ok(Request { messages, max_tokens, temperature: 0.0, seed: None, schema: None })
    };
    Ok(Question { id: reference.id.clone(), request: Box::new(request) })
}

/// Returns the file of an image: by its path below the folder, by its name alone, or by its number
/// in COCO.
pub(super) fn find(folder: &Path, image: &str) -> Result<PathBuf> {
    let path = Path::new(image);
    if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        bail!("the image {image} is not below {}; files outside it are not sent", folder.display());
    }
    let mut candidates = vec![folder.join(path)];
    candidates.extend(path.file_name().map(|name| folder.join(name)));
    if let Ok(number) = image.parse::<u64>() {
        candidates.extend(COCO.iter().map(|prefix| folder.join(format!("{prefix}{number:012}.jpg"))));
    }
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found.with_context(|| format!("the image {image} is not in {}", folder.display()))
}

/// Returns the whole lines of a file that is appended to. Removes an incomplete last line, which a
/// killed process may leave.
fn whole_lines(path: &Path) -> Result<Vec<String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    if whole.len() < text.len() {
        tracing::warn!("{}: the last line is incomplete and was removed", path.display());
        write_whole(path, whole)?;
    }
    Ok(whole.lines().map(str::to_owned).collect())
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use lynxdata_evaluation::input::read_references;

    use super::*;

    #[test]
    fn cut_and_empty_answers_of_all_runs_are_counted() {
        let lines = "{\"id\": 1, \"answer\": \"a\"}\n{\"id\": 2, \"answer\": \"b\", \"cut\": true}\n\
                     {\"id\": 3, \"answer\": \"\"}\n{\"id\": 4, \"answer\": \" \\n\", \"cut\": true}\n";
        assert_eq!(unusual(lines), Unusual { cut: 2, empty: 2 });
    }

    #[test]
    fn a_folder_has_several_paths() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| json!(folder.path().join(name).display().to_string());
        std::fs::create_dir(folder.path().join("images")).unwrap();
        std::fs::create_dir(folder.path().join("others")).unwrap();
        for name in ["images/", "./images", "others/../images"] {
            assert!(is_same_folder(&path("images"), &path(name)), "{name}");
        }
        for other in [path("others"), path("missing"), json!(null)] {
            assert!(!is_same_folder(&path("images"), &other) && !is_same_folder(&other, &path("images")), "{other}");
        }
        assert!(!is_same_folder(&path("missing"), &path("missing/")));
    }

    #[test]
    fn the_digest_depends_on_what_a_model_sees() {
        let of = |text: &str| digest(&read_references(&[Source { name: "r", text }]).unwrap().rows);
        let first = r#"{"id": 1, "question": "q", "image": "a.jpg", "options": ["x", "y"], "answer": "x"}"#;
        let second = r#"{"id": 2, "question": "q", "answer": "x"}"#;
        let both = of(&format!("{first}\n{second}"));
        assert_eq!(of(&format!("{second}\n{first}")), both, "the order does not count");
        let corrected = first.replace("\"answer\": \"x\"", "\"answer\": \"y\", \"category\": \"c\"");
        assert_eq!(of(&format!("{corrected}\n{second}")), both);
        for (old, new) in [("1", "3"), ("\"q\"", "\"r\""), ("a.jpg", "b.jpg"), ("\"y\"", "\"z\"")] {
            assert_ne!(of(&format!("{}\n{second}", first.replacen(old, new, 1))), both, "{old}");
        }
        assert_ne!(of(first), both);
    }
}
