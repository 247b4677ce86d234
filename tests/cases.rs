//! Inputs that caused trouble for data engineers, and the behaviour that they may expect.
//!
//! `tests/cases` has one folder for each: the input, and `commands` with a line for each command,
//! which runs in a copy of the folder. `LYNXDATA_SHARED/data/cases` has more, with the commands in
//! CASE.md. URLs of a case name 127.0.0.1:8765 or :8766; a proxy answers for these addresses, so
//! that cases run in parallel and need no fixed ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use serde_json::Value;

use crate::machine::{python, shared};
use crate::shell;
use crate::support::{Output, files, repository, status, table, texts};

/// Number of cases that run at the same time. Each mostly waits for processes to start.
const WORKERS: usize = 3;

/// A case after its commands were run.
struct Case {
    folder: PathBuf,
    /// The output of each `$ lynxdata` or `$ python3` line; `None` if this machine cannot run it.
    outputs: Vec<Option<Output>>,
}

impl Case {
    #[track_caller]
    fn output(&self, index: usize) -> &Output {
        self.outputs[index].as_ref().unwrap_or_else(|| panic!("command {index} needs Python"))
    }

    /// Fails unless all commands succeeded.
    #[track_caller]
    fn ends_well(&self) -> &Case {
        for output in self.outputs.iter().flatten() {
            assert_eq!(output.code, Some(0), "{output}");
        }
        self
    }

    /// Fails unless a command succeeded.
    #[track_caller]
    fn ends(&self, index: usize) -> &Case {
        self.says(index, &[])
    }

    /// Fails unless a command succeeded and its standard error has all of these texts.
    #[track_caller]
    fn says(&self, index: usize, texts: &[&str]) -> &Case {
        assert_eq!(self.output(index).code, Some(0), "{}", self.output(index));
        self.told(index, texts)
    }

    /// Fails unless a command failed and its standard error has all of these texts.
    #[track_caller]
    fn refuses(&self, index: usize, texts: &[&str]) -> &Case {
        assert!(matches!(self.output(index).code, Some(1..=3)), "{}", self.output(index));
        self.told(index, texts)
    }

    #[track_caller]
    fn told(&self, index: usize, texts: &[&str]) -> &Case {
        let output = self.output(index);
        for text in texts {
            assert!(output.stderr.contains(text), "{text:?} is missing: {output}");
        }
        self
    }

    fn pool(&self) -> RecordBatch {
        table(&self.folder.join("run/pool"), &[])
    }

    /// Fails unless the pool has these captions; null counts as the empty text.
    #[track_caller]
    fn has_captions(&self, expected: &[&str]) -> &Case {
        let mut found = texts(&self.pool(), "caption");
        found.sort();
        assert_eq!(found, expected);
        self
    }

    /// Fails unless the rows of the list have these statuses, such as `ok 2, hash_mismatch 1`.
    #[track_caller]
    fn has_rows(&self, expected: &str) -> &Case {
        self.has_rows_in("run", expected)
    }

    #[track_caller]
    fn has_rows_in(&self, run: &str, expected: &str) -> &Case {
        let log = table(&self.folder.join(run).join("download-log"), &["status"]);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for status in texts(&log, "status") {
            *counts.entry(status).or_default() += 1;
        }
        let found: Vec<String> = counts.iter().map(|(status, rows)| format!("{status} {rows}")).collect();
        assert_eq!(found.join(", "), expected);
        self
    }

    #[track_caller]
    fn keeps(&self, selection: &str, pairs: u64) -> &Case {
        assert_eq!(status(&self.folder.join("run"))["selections"][selection]["kept"], pairs);
        self
    }

    /// Returns the first question and answer of every conversation of the run.
    fn conversations(&self) -> Vec<(String, String)> {
        let folder = self.folder.join("run/instruct/conversations");
        let found: String =
            files(&folder).iter().map(|name| std::fs::read_to_string(folder.join(name)).unwrap()).collect();
        let content = |line: &Value, turn: usize| line["messages"][turn]["content"].as_str().unwrap().to_owned();
        let lines = found.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.map(|line: Value| (content(&line, 0), content(&line, 1))).collect()
    }
}

/// The name of a case, and what must be true after its commands.
type Expectation = (&'static str, fn(&Case));

/// Every case.
const CASES: &[Expectation] = &[
    ("annotation-file-lone-surrogate", |case| {
        assert_eq!(case.ends_well().conversations().len(), 2);
    }),
    ("another-list-same-folder", |case| {
        case.ends(0).refuses(1, &["3", "a.csv"]);
        case.has_captions(&["number 1", "number 2", "number 3"]);
    }),
    ("caption-file-TXT", |case| {
        case.ends_well().has_rows("ok 2");
        assert!(texts(&case.pool(), "caption").iter().all(|caption| !caption.is_empty()));
    }),
    ("caption-file-jpg-txt", |case| {
        case.ends_well().has_rows("ok 1");
        assert_ne!(texts(&case.pool(), "caption"), [""]);
    }),
    ("caption-file-with-bom", |case| {
        case.ends_well().has_captions(&["a dog"]);
    }),
    ("caption-is-a-list", |case| {
        // The first caption of the list is used in both formats, a message says so, and the list is
        // kept.
        case.ends_well().says(0, &["lists"]).has_captions(&["a dog"]).says(2, &["lists"]);
        assert_eq!(texts(&table(&case.folder.join("run2/pool"), &[]), "caption"), ["a dog"]);
    }),
    ("column-named-WIDTH", |case| {
        case.ends_well().keeps("big", 1);
    }),
    ("column-named-as-signal", |case| {
        // The name means the signal, which has another language.
        case.refuses(0, &["source_language", "keeps none"]).keeps("own", 0);
    }),
    ("column-twice", |case| {
        case.ends_well().has_rows("ok 1");
        let schema = case.pool().schema();
        assert!(schema.column_with_name("v").is_some() && schema.column_with_name("v_").is_some());
    }),
    ("column-with-dot", |case| {
        case.ends_well().keeps("all", 2);
        assert!(case.pool().column_by_name("meta.score").is_some());
    }),
    ("csv-backslash-quotes", |case| {
        case.ends_well().has_captions(&["a \"red, round\" ball", "he said \"hi\" to me", "three"]);
    }),
    ("csv-semicolons", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("digest-in-base64", |case| {
        case.ends_well().has_rows("ok 2");
    }),
    ("duplicate-annotation", |case| {
        let found = case.ends_well().conversations();
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|(_, answer)| answer == "a dog"), "the first annotation counts: {found:?}");
    }),
    ("every-row-fails", |case| {
        case.refuses(0, &["0 of 5 rows are in the pool", "not_found"]);
    }),
    ("folder-without-urls", |case| {
        case.ends_well().keeps("all", 3);
    }),
    ("gz-with-zeros-behind", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("gzip-header-plain-body", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("hidden-list", |case| {
        case.ends_well().has_rows("ok 1").says(0, &["._a.csv"]);
    }),
    ("imagefolder-metadata", |case| {
        case.ends_well().has_captions(&["a cat", "a dog"]);
    }),
    ("integer-and-float-files", |case| {
        case.ends_well().has_rows("ok 2");
        assert_eq!(*case.pool().column_by_name("score").unwrap().data_type(), DataType::Float64);
    }),
    ("json-array-named-jsonl", |case| {
        case.ends_well().has_captions(&["one", "two"]);
    }),
    ("jsonl-nan", |case| {
        case.ends_well().has_rows("ok 3");
        assert_eq!(case.pool().column_by_name("similarity").unwrap().null_count(), 2);
    }),
    ("lfs-pointer", |case| {
        case.refuses(0, &["Git LFS", "git lfs pull"]);
    }),
    ("list-bz2", |case| {
        case.refuses(0, &["bzip2"]).refuses(1, &["bzip2"]);
    }),
    ("list-cr-line-ends", |case| {
        case.ends_well().has_rows("ok 2");
    }),
    ("list-from-a-pipe", |case| {
        case.ends_well().has_rows("ok 2");
    }),
    ("list-utf-16", |case| {
        case.ends_well();
        assert!(case.pool().num_rows() > 0);
    }),
    ("long-head", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("media-tokens", |case| {
        let found = case.ends_well().conversations();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, "a dog");
    }),
    ("mixed-suffixes-in-tar", |case| {
        case.ends_well();
    }),
    ("ok-answer-chunks-without-end", |case| {
        case.has_rows("truncated_body 1");
    }),
    ("ok-answer-encoding-none", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("ok-captions-hostile", |case| {
        case.ends_well().keeps("all", 8);
    }),
    ("ok-csv-bom-quoted-header", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("ok-csv-column-names-of-ours", |case| {
        case.ends_well();
        let schema = case.pool().schema();
        assert!(schema.column_with_name("source_width").is_some(), "{schema}");
    }),
    ("ok-csv-quote-not-closed", |case| {
        case.refuses(0, &["line"]);
    }),
    ("ok-gz-several-members", |case| {
        case.ends_well().has_rows("ok 2");
    }),
    ("ok-jsonl-separators-in-text", |case| {
        case.ends_well().has_rows("ok 2");
    }),
    ("ok-parquet-view-dictionary", |case| {
        case.ends_well().has_rows("ok 3");
    }),
    ("ok-pictures-turned-and-odd", |case| {
        case.ends_well().has_rows("ok 6");
    }),
    ("ok-tar-capitals-and-long-names", |case| {
        case.ends_well().has_rows("ok 3");
        assert!(texts(&case.pool(), "caption").iter().all(|caption| !caption.is_empty()));
    }),
    ("ok-tsv-inch-marks", |case| {
        case.ends_well();
        assert!(texts(&case.pool(), "caption").iter().any(|caption| caption.contains('"')));
    }),
    ("ok-two-processes", |case| {
        let output = case.output(0);
        assert!(output.code == Some(0) || output.stderr.contains("in use by another"), "{output}");
    }),
    ("ok-urls-as-browsers-take-them", |case| {
        case.ends_well().has_rows("ok 9");
    }),
    ("ok-vqa-ids-of-other-types", |case| {
        assert_eq!(case.ends_well().conversations().len(), 2);
    }),
    ("one-blank-caption-of-several", |case| {
        let found = case.ends_well().conversations();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(_, answer)| !answer.trim().is_empty()));
    }),
    ("output-inside-the-folder", |case| {
        case.ends_well().has_rows_in("out", "ok 3");
    }),
    ("own-shards-as-source", |case| {
        assert_eq!(case.ends_well().pool().num_rows(), 2);
        assert!(case.pool().column_by_name("source_image").is_none());
    }),
    ("picture-jfif", |case| {
        case.ends_well().has_rows("ok 2");
    }),
    ("png-text-checksum", |case| {
        case.ends_well();
    }),
    ("question-mark-full-width", |case| {
        let questions: Vec<String> =
            case.ends_well().conversations().into_iter().map(|(question, _)| question).collect();
        assert!(questions.iter().any(|question| question.contains("这是什么？")), "{questions:?}");
        assert!(questions.iter().all(|question| !question.contains("？?")), "{questions:?}");
    }),
    ("readme-beside-lists", |case| {
        case.ends_well().has_rows("ok 1").says(0, &["README.txt"]);
    }),
    ("rule-divides-by-zero", |case| {
        case.refuses(0, &["good"]).keeps("good", 0);
    }),
    ("rule-on-csv-number", |case| {
        case.ends_well().keeps("good", 1);
    }),
    ("rule-with-bad-regex", |case| {
        case.refuses(0, &["rule \"words\""]).refuses(1, &["rule \"words\""]);
        assert!(!case.folder.join("run/pool").exists(), "nothing was downloaded");
    }),
    ("rule-with-nan", |case| {
        case.ends_well().keeps("good", 1);
    }),
    ("shards-fixed-size-binary", |case| {
        case.ends_well();
    }),
    ("shards-remade-are-stale", |case| {
        case.ends_well();
        if let (Some(first), Some(second)) = (&case.outputs[1], &case.outputs[3]) {
            assert_eq!(first.stdout.matches(',').count(), 2, "three captions: {first}");
            assert_eq!(second.stdout.matches(',').count(), 1, "two captions: {second}");
        }
    }),
    ("suffix-CSV-GZ", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("symbolic-links", |case| {
        case.ends_well().has_rows("ok 1");
    }),
    ("tar-gz-in-folder", |case| {
        case.refuses(0, &["x.tar.gz", "decompress"]);
    }),
    ("tar-json-nan", |case| {
        case.ends_well().has_rows("ok 2");
    }),
    ("tar-mask-becomes-pair", |case| {
        case.ends_well().has_rows("ok 2").says(0, &["seg.png"]);
    }),
    ("tar-names-with-dots", |case| {
        case.ends_well().has_captions(&["a cat", "a dog"]);
    }),
    ("task-pictures-not-pictures", |case| {
        assert_eq!(case.ends_well().conversations().len(), 1);
    }),
    ("tilde-in-a-flag", |case| {
        case.ends_well();
        // HOME is the folder of the case.
        assert!(case.folder.join("lynx-case/pool").is_dir() && !case.folder.join("~").exists());
    }),
    ("tsv-quoted-line-end", |case| {
        case.ends_well().has_captions(&["line one\nline two", "two"]);
    }),
    ("url-without-scheme", |case| {
        case.ends(1);
    }),
];

#[test]
fn the_bundled_cases_behave_as_their_users_expect() {
    let folder = repository().join("tests/cases");
    for name in names_in(&folder) {
        assert!(CASES.iter().any(|(known, _)| *known == name), "nothing is expected of {name}");
    }
    check_cases(&folder, "bundled-cases");
}

#[test]
fn every_shared_case_behaves_as_its_users_expect() {
    let Some(folder) = shared("data/cases") else { return };
    assert_eq!(CASES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names_in(&folder), "the list is the folder's");
    check_cases(&folder, "shared-cases");
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs the cases of a folder, or the one that `LYNXDATA_CASE` names.
fn check_cases(folder: &Path, copies: &str) {
    let only = std::env::var("LYNXDATA_CASE").unwrap_or_default();
    let is_chosen = |name: &str| name.contains(&only) && folder.join(name).is_dir();
    let chosen: Vec<_> = CASES.iter().filter(|(name, _)| is_chosen(name)).collect();
    let copies = Path::new(env!("CARGO_TARGET_TMPDIR")).join(copies);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((name, check)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tried = std::panic::catch_unwind(|| check(&run(&folder.join(name), &copies.join(name))));
                    if let Err(panic) = tried {
                        let text = panic.downcast_ref::<String>().map(String::as_str);
                        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                        failures.lock().unwrap().push(format!("== {name}\n{text}\n"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), chosen.len(), failures.concat());
}

/// Copies a case and runs its commands.
fn run(source: &Path, folder: &Path) -> Case {
    if folder.exists() {
        std::fs::remove_dir_all(folder).unwrap();
    }
    copy(source, folder);
    let proxy = shell::serve(folder);
    let page = std::fs::read_to_string(folder.join("CASE.md"));
    let commands: Vec<String> = if let Ok(page) = page {
        page.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
    } else {
        let lines = std::fs::read_to_string(folder.join("commands")).unwrap();
        lines.lines().map(str::to_owned).collect()
    };
    let python = commands.iter().any(|line| line.contains("python3")).then(python).flatten();
    let mut outputs = Vec::new();
    for line in commands.iter().filter(|line| !line.starts_with("echo ")) {
        let needs_python = line.contains("python3");
        let is_told = line.contains("lynxdata") || needs_python;
        if needs_python && python.is_none() {
            outputs.push(None);
            continue;
        }
        let output = shell::run(folder, &proxy, line);
        if is_told {
            outputs.push(Some(output));
        }
    }
    Case { folder: folder.to_owned(), outputs }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            // By content: the source may be read-only.
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}
