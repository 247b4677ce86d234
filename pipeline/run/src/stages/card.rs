//! Stage `card`: describes a set of conversations: `README.md` with the licences of its tasks,
//! `croissant.json`, and further files of formats.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use lynxdata_datasets::export::{Format, SetFile, features_of_lines};
use lynxdata_datasets::{CommercialUse, FormatsLeftOut, Task};
use lynxdata_records::{FileEntry, NewPart, PartEntry, RunFolder, card, fingerprint};
use lynxdata_report::count as grouped;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::instruct::{COUNTS, Instruct, config_of, parts_of, read_counts, taken};
use super::mixture::{Mixture, left_out_of_formats};
use crate::recipe::{InstructConfig, InstructSettings, Recipe};
use crate::stage::{Context, Parts, Planned, Stage, settings_text};
use crate::table;

/// Version of the cards. Raise it when the same sets get other cards.
const FORMAT_VERSION: &str = "4";

/// Writes the cards of the sets of conversations.
pub struct Card;

impl Stage for Card {
    fn name(&self) -> &'static str {
        "card"
    }

    fn command(&self) -> &'static str {
        "instruct"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.instruct.is_some()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        let instruct = recipe.instruct.as_ref().map(|instruct| {
            // What the parts hold is an input.
            let InstructSettings { tasks: (tasks, licence), formats, parts: _, mixture: _ } = instruct.settings();
            (tasks, formats, licence)
        });
        Ok(settings_text(&(&recipe.name, instruct)))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, recipe: &Recipe) -> Vec<&'static dyn Stage> {
        if Mixture.is_in(recipe) { vec![&Instruct, &Mixture] } else { vec![&Instruct] }
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let (catalogue, _) = context.loaded.tasks()?;
        let config = config_of(context)?;
        let settings = self.settings(context.recipe())?;
        let mut definitions = Vec::new();
        for source in &config.tasks {
            definitions.push(catalogue.get(&source.name)?.definition.clone());
        }
        let stages = self.reads(context.recipe());
        let parts = stages.into_iter().map(move |stage| {
            let parts = context.upstream(stage)?;
            let digests: Vec<String> = parts.iter().map(PartEntry::digest).collect();
            let inputs = [self.name(), FORMAT_VERSION, stage.name(), &settings];
            let inputs = inputs.into_iter().chain(digests.iter().chain(&definitions).map(String::as_str));
            let print = fingerprint(inputs);
            let content = print.clone();
            let make = move |new: &mut NewPart| make(context, stage.name(), &parts, &content, new);
            Ok(Planned::new(stage.name(), print, make))
        });
        Ok(Box::new(parts.collect::<Vec<_>>().into_iter()))
    }
}

/// One task of a set.
struct Described<'a> {
    task: &'a Task,
    /// The splits with conversations in the set.
    splits: BTreeSet<&'a str>,
    conversations: u64,
    /// The number of them that formats cannot represent, by format.
    left_out: BTreeMap<String, u64>,
}

impl Described<'_> {
    fn leave_out(&mut self, formats: FormatsLeftOut) {
        for (format, reasons) in formats {
            *self.left_out.entry(format).or_default() += reasons.values().sum::<u64>();
        }
    }

    /// Returns how many of its conversations a format holds.
    fn held(&self, format: &str) -> u64 {
        self.conversations - self.left_out.get(format).copied().unwrap_or(0)
    }
}

fn make(context: &Context, folder: &str, parts: &[PartEntry], content: &str, new: &mut NewPart) -> Result<()> {
    let config = config_of(context)?;
    let files: Vec<&FileEntry> = parts.iter().flat_map(|part| &part.files).collect();
    for format in config.formats.iter().filter(|format| format.is_described()) {
        let base = base(folder, format, &files);
        let of_format = files_of(folder, format.name, &files);
        let mut set = Vec::new();
        for file in of_format {
            let name = file.path[base.len()..].trim_start_matches('/').to_owned();
            set.push(SetFile { name, path: context.run.intact(file)? });
        }
        format.describe(&set, &mut |name| Ok(context.run.stage_file(new, &format!("{base}/{name}"))?))?;
    }
    let (catalogue, _) = context.loaded.tasks()?;
    let mut tasks: BTreeMap<&str, Described> = BTreeMap::new();
    let mut splits = Vec::new();
    for source in taken(config, catalogue)? {
        let task = catalogue.get(&source.name)?;
        let described = tasks.entry(&source.name).or_insert_with(|| Described {
            task,
            splits: BTreeSet::new(),
            conversations: 0,
            left_out: BTreeMap::new(),
        });
        described.splits.insert(&source.split);
        if folder == Instruct.name() {
            let parts = parts_of(source, parts);
            for part in &parts {
                described.conversations += part.rows_out;
                described.leave_out(read_counts(&table::file(&context.run, part, COUNTS)?)?.formats);
            }
            splits.push((source.set_name(), parts.into_iter().map(|part| part.part.as_str()).collect()));
        }
    }
    if folder == Mixture.name() {
        for lines in files_of(folder, "conversations", &files) {
            count_mixture(&context.run.intact(lines)?, &mut tasks)?;
        }
        for (task, formats) in left_out_of_formats(&context.run)? {
            if let Some(described) = tasks.get_mut(task.as_str()) {
                described.leave_out(formats);
            }
        }
    }
    tasks.retain(|_, described| described.conversations > 0);
    let mut left_out = BTreeSet::new();
    for source in &config.tasks {
        if !config.licence.takes(catalogue.get(&source.name)?) {
            left_out.insert(source.name.as_str());
        }
    }
    let name = if context.recipe().name.is_empty() { folder } else { &context.recipe().name };
    let set = Set {
        folder,
        name,
        splits,
        tasks: tasks.values().collect(),
        left_out: left_out.into_iter().collect(),
        files: &files,
        config,
    };
    for (file, text) in
        [("README.md", set.card(&context.run, content)?), ("croissant.json", set.croissant(&context.run)?)]
    {
        let path = context.run.stage_file(new, &format!("{folder}/{file}"))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Returns the files of a format: those in its folder or, in a mixture, with its name.
fn files_of<'a>(folder: &str, format: &str, files: &[&'a FileEntry]) -> Vec<&'a FileEntry> {
    let of_format = |file: &&&FileEntry| {
        let rest = file.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')?.strip_prefix(format));
        rest.is_some_and(|rest| rest.starts_with(['/', '.']))
    };
    files.iter().filter(of_format).copied().collect()
}

/// Returns the folder of the files of a format.
fn base(folder: &str, format: &Format, files: &[&FileEntry]) -> String {
    let of_format = format!("{folder}/{}", format.name);
    let is_folder = |file: &&FileEntry| file.path.starts_with(&format!("{of_format}/"));
    if files.iter().any(is_folder) { of_format } else { folder.to_owned() }
}

fn count_mixture(path: &Path, tasks: &mut BTreeMap<&str, Described>) -> Result<()> {
    /// The part of a line that is counted.
    #[derive(Deserialize)]
    struct Head {
        task: String,
    }
    let failed = || format!("cannot read {}", path.display());
    for line in BufReader::new(File::open(path).with_context(failed)?).lines() {
        let head: Head = serde_json::from_str(&line.with_context(failed)?).with_context(failed)?;
        if let Some(described) = tasks.get_mut(head.task.as_str()) {
            described.conversations += 1;
        }
    }
    Ok(())
}

/// A set that is described.
struct Set<'a> {
    /// Its folder below the run folder.
    folder: &'a str,
    name: &'a str,
    /// The names of its splits of tasks and of their parts.
    splits: Vec<(String, Vec<&'a str>)>,
    tasks: Vec<&'a Described<'a>>,
    /// Tasks that are left out because of the licence that the recipe asks for.
    left_out: Vec<&'a str>,
    files: &'a [&'a FileEntry],
    config: &'a InstructConfig,
}

impl Set<'_> {
    /// Returns `README.md`.
    fn card(&self, run: &RunFolder, content: &str) -> Result<String> {
        let licences: BTreeSet<String> = self.tasks.iter().map(|own| hub_licence(&own.task.licence)).collect();
        let licences: Vec<String> = licences.into_iter().collect();
        let (format, files) = self.described();
        let features = match Format::named(format) {
            Some(format) => {
                let file = |(name, file): (String, &FileEntry)| Ok(SetFile { name, path: run.intact(file)? });
                format.features(&files.into_iter().map(file).collect::<Result<Vec<_>>>()?)?
            }
            None => features_of_lines(),
        };
        let features = if features.is_empty() { String::new() } else { Value::Array(features).to_string() };
        let rows = self.held(format);
        let configs = self.configs();
        let text = self.text();
        Ok(card::render(&card::Card {
            name: self.name,
            rows,
            licences: &licences,
            configs: &configs,
            features: &features,
            content,
            text: &text,
        }))
    }

    /// Returns the described format and its files: the first one that holds conversations.
    fn described(&self) -> (&'static str, Vec<(String, &FileEntry)>) {
        let mut formats = self.config.formats.iter().map(|format| format.name);
        let format = formats.find(|format| self.held(format) > 0).unwrap_or("conversations");
        let files = files_of(self.folder, format, self.files).into_iter();
        let is_data =
            |file: &&FileEntry| [".parquet", ".json", ".jsonl", ".tar"].iter().any(|end| file.path.ends_with(end));
        let files = files.filter(is_data).map(|file| (file.path[self.folder.len() + 1..].to_owned(), file));
        (format, files.collect())
    }

    /// Returns how many conversations a format holds.
    fn held(&self, format: &str) -> u64 {
        self.tasks.iter().map(|own| own.held(format)).sum()
    }

    /// Returns a sentence for every format that does not hold all conversations.
    fn partial_formats(&self) -> Vec<String> {
        let total = self.held("conversations");
        let told = |format: &&Format| {
            let held = self.held(format.name);
            let without = self.tasks.iter().filter(|own| own.held(format.name) == 0);
            let without: Vec<&str> = without.map(|own| own.task.name.as_str()).collect();
            let without =
                if without.is_empty() { String::new() } else { format!(", and none of {}", without.join(", ")) };
            (held < total).then(|| format!("`{}` holds {} of them{without}.", format.name, grouped(held)))
        };
        self.config.formats.iter().filter_map(told).collect()
    }

    /// Returns one configuration of all files, and one for each split of a task.
    fn configs(&self) -> Vec<(String, Vec<String>)> {
        let files: Vec<String> = self.described().1.into_iter().map(|(name, _)| name).collect();
        // From `parquet/vqav2-train-00001.parquet` or `webdataset/vqav2-train-00001/000000.tar`.
        let part_of = |name: &str| {
            let (_, path) = name.split_once('/')?;
            // Names of splits may have dots.
            let part = path.split_once('/').map(|(folder, _)| folder).or_else(|| Some(path.rsplit_once('.')?.0));
            part.map(str::to_owned)
        };
        let of_parts = |parts: &[&str]| -> Vec<String> {
            let is_of = |name: &&String| part_of(name).is_some_and(|part| parts.contains(&part.as_str()));
            files.iter().filter(is_of).cloned().collect()
        };
        let splits = self.splits.iter().map(|(split, parts)| (split.clone(), of_parts(parts)));
        let splits: Vec<_> = splits.filter(|(_, files)| !files.is_empty()).collect();
        std::iter::once(("default".to_owned(), files)).chain(splits).collect()
    }

    /// Returns the text of the card: the content of the set, and what its licences forbid.
    fn text(&self) -> String {
        let mut text = format!(
            "{} conversations of {} tasks, written by lynxdata. Every one has its licence, its native file and its row.\n\n",
            grouped(self.held("conversations")),
            self.tasks.len()
        );
        let partial = self.partial_formats();
        if !partial.is_empty() {
            text += &format!("{}\n\n", partial.join(" "));
        }
        for warning in self.warnings() {
            text += &format!("> **Licences.** {warning}\n\n");
        }
        text += "| task | splits | conversations | licence of annotations | commercial use | images or videos | commercial use | source |\n|---|---|---:|---|---|---|---|---|\n";
        for Described { task, splits, conversations, .. } in self.tasks.iter().copied() {
            let splits: Vec<&str> = splits.iter().copied().collect();
            let (pictures, of_pictures) = task
                .pictures
                .as_ref()
                .map_or(("–", "–"), |terms| (terms.licence.as_str(), terms.commercial_use.name()));
            let cells = [
                &task.name,
                splits.join(", ").as_str(),
                &grouped(*conversations),
                &task.licence,
                task.commercial_use.name(),
                pictures,
                of_pictures,
                &format!("[{}]({})", task.cite, task.homepage),
            ]
            .map(|cell| cell.replace('|', "\\|"));
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text + "\nThis is no legal advice. The table has what the catalogue of lynxdata says; read the licences themselves."
    }

    /// Returns what licences forbid or leave open.
    fn warnings(&self) -> Vec<String> {
        let names = |of: &dyn Fn(&Task) -> Option<CommercialUse>, wanted: CommercialUse| -> Vec<&str> {
            let has = |own: &&&Described| of(own.task) == Some(wanted);
            self.tasks.iter().filter(has).map(|own| own.task.name.as_str()).collect()
        };
        let annotations = |task: &Task| Some(task.commercial_use);
        let pictures = |task: &Task| task.pictures.as_ref().map(|terms| terms.commercial_use);
        let all: [(&str, Vec<&str>); 5] = [
            ("Commercial use is forbidden for the annotations of", names(&annotations, CommercialUse::No)),
            (
                "Whether commercial use is allowed is unclear for the annotations of",
                names(&annotations, CommercialUse::Unclear),
            ),
            ("Commercial use is forbidden for the images or videos of", names(&pictures, CommercialUse::No)),
            (
                "Whether commercial use is allowed is unclear for the images or videos of",
                names(&pictures, CommercialUse::Unclear),
            ),
            ("Left out because their licences do not allow commercial use:", self.left_out.clone()),
        ];
        let some = all.iter().filter(|(_, tasks)| !tasks.is_empty());
        some.map(|(what, tasks)| format!("{what} {}.", tasks.join(", "))).collect()
    }

    /// Returns `croissant.json` (Croissant 1.0 of MLCommons): the files that the card describes
    /// with their SHA-256, and the columns of their rows.
    fn croissant(&self, run: &RunFolder) -> Result<String> {
        let mut distribution = Vec::new();
        let mut records = Vec::new();
        for (name, file) in self.described().1 {
            let encoding = match name.rsplit_once('.').map(|(_, end)| end) {
                Some("parquet") => "application/x-parquet",
                Some("jsonl") => "application/jsonlines",
                Some("json") => "application/json",
                _ => "application/x-tar",
            };
            distribution.push(json!({
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": format!("{} B", file.bytes),
                "encodingFormat": encoding,
                "sha256": sha256(&run.intact(file)?)?,
            }));
            if encoding == "application/x-parquet" || encoding == "application/jsonlines" {
                records.push(record_set(&name));
            }
        }
        let licences: BTreeSet<&str> = self.tasks.iter().map(|own| own.task.licence.as_str()).collect();
        let citations: BTreeSet<&str> = self.tasks.iter().map(|own| own.task.cite.as_str()).collect();
        let sentences = ["Conversations of annotated datasets.".to_owned()].into_iter();
        let sentences: Vec<String> = sentences.chain(self.partial_formats()).chain(self.warnings()).collect();
        let metadata = json!({
            "@context": context_of_croissant(),
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "name": self.name,
            "description": sentences.join(" "),
            "license": licences,
            "citeAs": citations.into_iter().collect::<Vec<_>>().join("; "),
            "isBasedOn": self.tasks.iter().map(|own| &own.task.homepage).collect::<BTreeSet<_>>(),
            "distribution": distribution,
            "recordSet": records,
        });
        Ok(format!("{metadata:#}\n"))
    }
}

/// Returns the record set of a file: the columns that every format has.
fn record_set(file: &str) -> Value {
    let columns = [
        ("id", "sc:Text", "the task, its split and the native id"),
        ("task", "sc:Text", "the task"),
        ("licence", "sc:Text", "the licence of its annotations"),
        ("source_file", "sc:Text", "the native file"),
        ("source_row", "sc:Integer", "the row or line of the native file, from 0"),
    ];
    let set = file.rsplit_once('.').map_or(file, |(set, _)| set);
    let fields = columns.map(|(column, kind, description)| {
        json!({
            "@type": "cr:Field",
            "@id": format!("{set}/{column}"),
            "name": column,
            "description": description,
            "dataType": kind,
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
        })
    });
    json!({"@type": "cr:RecordSet", "@id": set, "name": set, "field": fields})
}

/// Returns the JSON-LD context that Croissant 1.0 prescribes.
fn context_of_croissant() -> Value {
    let terms = [
        "citeAs",
        "column",
        "dataBiases",
        "dataCollection",
        "equivalentProperty",
        "extract",
        "field",
        "fileProperty",
        "fileObject",
        "fileSet",
        "format",
        "includes",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "personalSensitiveInformation",
        "recordSet",
        "references",
        "regex",
        "repeated",
        "replace",
        "separator",
        "source",
        "subField",
        "transform",
    ];
    let mut context: serde_json::Map<String, Value> =
        terms.iter().map(|term| ((*term).to_owned(), json!(format!("cr:{term}")))).collect();
    let others = [
        ("@language", json!("en")),
        ("@vocab", json!("https://schema.org/")),
        ("conformsTo", json!("dct:conformsTo")),
        ("cr", json!("http://mlcommons.org/croissant/")),
        ("data", json!({"@id": "cr:data", "@type": "@json"})),
        ("dataType", json!({"@id": "cr:dataType", "@type": "@vocab"})),
        ("dct", json!("http://purl.org/dc/terms/")),
        ("examples", json!({"@id": "cr:examples", "@type": "@json"})),
        ("rai", json!("http://mlcommons.org/croissant/RAI/")),
        ("samplingRate", json!("cr:samplingRate")),
        ("sc", json!("https://schema.org/")),
    ];
    context.extend(others.map(|(term, value)| (term.to_owned(), value)));
    Value::Object(context)
}

fn sha256(path: &Path) -> Result<String> {
    let failed = || format!("cannot read {}", path.display());
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    let mut file = File::open(path).with_context(failed)?;
    loop {
        match file.read(&mut buffer).with_context(failed)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    let digest: [u8; 32] = hasher.finalize().into();
    Ok(digest.map(|byte| format!("{byte:02x}")).concat())
}

/// The names of licences on the Hugging Face Hub, as far as tasks of the catalogue use them.
const HUB_LICENCES: [&str; 18] = [
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-2.0",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "cdla-permissive-1.0",
    "gpl-3.0",
    "mit",
    "odc-by",
];

/// Returns the name of a licence on the Hub, or `other` if it has none.
fn hub_licence(licence: &str) -> String {
    let name = licence.to_lowercase();
    let name = name.trim_end_matches("-only");
    match name {
        "none" => "unknown".to_owned(),
        name if HUB_LICENCES.contains(&name) => name.to_owned(),
        _ => "other".to_owned(),
    }
}
