//! Writes conversations in the formats that trainers read.
//!
//! A format is one file here and one line in [`FORMATS`]. Other code takes the formats from this
//! list, with two exceptions: `budgets/src/read/mod.rs` lists the folders that `audit` can read,
//! because that crate does not import this one, and `pipeline/cli/src/commands/instruct.rs` names
//! the default of `--to`.

mod cauldron;
mod columns;
mod energon;
mod json;
mod llava;
mod messages;
mod parquet;
mod sharegpt;
mod swift;
mod tar;
mod verl;
mod webdataset;

use std::path::PathBuf;

pub use json::features_of_lines;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::Result;
use crate::build::Conversation;

/// The formats, in the order in which they are written.
pub const FORMATS: &[&Format] = &[
    &parquet::FORMAT,
    &llava::FORMAT,
    &sharegpt::FORMAT,
    &messages::FORMAT,
    &swift::FORMAT,
    &cauldron::FORMAT,
    &webdataset::FORMAT,
    &energon::FORMAT,
    &verl::FORMAT,
];

/// A file format for conversations.
#[derive(Debug)]
pub struct Format {
    /// Its name in recipes and on the command line, which is also the name of its folder.
    pub name: &'static str,
    /// A description of its files and of the programs that read them.
    pub description: &'static str,
    /// Whether its files contain the paths of images instead of their bytes.
    pub names_pictures: bool,
    /// Whether it is written by default.
    pub is_default: bool,
    /// Returns why it cannot represent a conversation, if it cannot.
    leaves_out: fn(&Conversation) -> Option<&'static str>,
    /// Returns the columns of the files of a set, see [`Format::features`].
    features: fn(&[SetFile]) -> Result<Vec<Value>>,
    /// Creates the files of a set of conversations.
    begin: fn(&mut Files) -> Result<Box<dyn Writer>>,
    /// Writes the files that describe all sets, after those are written.
    describe: Option<Describe>,
}

/// Writes the files that describe all sets.
type Describe = fn(&[SetFile], &mut Files) -> Result<()>;

/// A file of a set.
#[derive(Debug, Clone)]
pub struct SetFile {
    /// Its path from the folder of the sets, with `/` as separator.
    pub name: String,
    /// Its current path.
    pub path: PathBuf,
}

/// Returns the path of a new file of a set. Takes the part of the path after the name of the set,
/// such as `.json` or `/000000.tar`.
pub type Files<'a> = dyn FnMut(&str) -> Result<PathBuf> + 'a;

/// Returns the bytes of the image at a path; `None` if it is missing.
pub type Pictures<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>> + 'a;

/// Writes the files of a set of conversations in one format.
pub trait Writer {
    /// Appends conversations, which the format does not leave out.
    ///
    /// # Errors
    /// If an image cannot be read or a file cannot be written.
    fn write(&mut self, conversations: &[Conversation], files: &mut Files, pictures: &mut Pictures) -> Result<()>;

    /// Finishes the files.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn finish(self: Box<Self>, files: &mut Files) -> Result<()>;
}

impl Format {
    /// Returns the format with a name.
    pub fn named(name: &str) -> Option<&'static Format> {
        FORMATS.iter().find(|format| format.name == name).copied()
    }

    /// Returns why it cannot represent a conversation; `None` if it can.
    pub fn leaves_out(&self, conversation: &Conversation) -> Option<&'static str> {
        (self.leaves_out)(conversation)
    }

    /// Creates the files of a set of conversations.
    ///
    /// # Errors
    /// If a file cannot be created.
    pub fn begin(&self, files: &mut Files) -> Result<Box<dyn Writer>> {
        (self.begin)(files)
    }

    /// Returns the columns of the files of a set, as a dataset card lists the features of Hugging
    /// Face `datasets`; none if the files have a schema. Without them, `datasets` takes the columns
    /// of the first file and refuses files with others, such as those of texts and of images.
    ///
    /// # Errors
    /// If a file of the set cannot be read.
    pub fn features(&self, set: &[SetFile]) -> Result<Vec<Value>> {
        (self.features)(set)
    }

    /// Returns whether it has files that describe its sets.
    pub fn is_described(&self) -> bool {
        self.describe.is_some()
    }

    /// Writes the files that describe all sets. `files` returns paths in the folder of the sets,
    /// such as that of `dataset_info.json`.
    ///
    /// # Errors
    /// If a file of a set cannot be read or a file cannot be written.
    pub fn describe(&self, set: &[SetFile], files: &mut Files) -> Result<()> {
        self.describe.map_or(Ok(()), |describe| describe(set, files))
    }

    fn place(&self) -> Option<usize> {
        FORMATS.iter().position(|format| format.name == self.name)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name == other.name
    }
}

impl Eq for Format {}

/// Orders formats by their positions in [`FORMATS`].
impl Ord for Format {
    fn cmp(&self, other: &Format) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Format {
    fn partial_cmp(&self, other: &Format) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for &'static Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Format::named(&name).ok_or_else(|| {
            let names: Vec<String> = FORMATS.iter().map(|format| format!("`{}`", format.name)).collect();
            // Worded like the errors of serde, so that the code that suggests similar names
            // recognises it.
            serde::de::Error::custom(format!("unknown variant `{name}`, expected one of {}", names.join(", ")))
        })
    }
}

impl JsonSchema for Format {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Format".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let of = |format: &&Format| json_schema!({"const": format.name, "description": format.description});
        json_schema!({
            "description": "A file format of conversations.",
            "oneOf": FORMATS.iter().map(of).collect::<Vec<_>>()
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::build::{Conversation, ImageReference, Message, Role};

    /// Returns a conversation of alternating turns about one image.
    pub(crate) fn conversation(template: &str, turns: &[&str]) -> Conversation {
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let message = |(role, content): (Role, &&str)| Message { role, content: (*content).to_owned() };
        Conversation {
            id: format!("own/train/{}", turns[0]),
            task: "own".to_owned(),
            group: "vqa".to_owned(),
            answer_shape: lynxdata_prompts::AnswerShape::Phrase,
            licence: "CC0-1.0".to_owned(),
            images: vec![ImageReference { path: "train/a.jpg".to_owned() }],
            embedded: crate::Embedded::new(),
            video: None,
            messages: roles.zip(turns).map(message).collect(),
            template: template.to_owned(),
            source_file: "train.json".to_owned(),
            source_row: 7,
            choice_order: Vec::new(),
            votes: Vec::new(),
            right_choice: None,
            boxes: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// Writes conversations in a format, as files whose names begin with `set`. The only image that
    /// exists is `train/a.jpg`, which begins like a PNG.
    pub(crate) fn written(format: &Format, conversations: &[Conversation]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut files = |suffix: &str| {
            let path = folder.path().join(format!("set{suffix}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            Ok(path)
        };
        let mut writer = format.begin(&mut files).unwrap();
        for conversation in conversations {
            let picture = &mut |path: &str| Ok((path == "train/a.jpg").then(|| b"\x89PNG\r\n\x1a\n".to_vec()));
            writer.write(std::slice::from_ref(conversation), &mut files, picture).unwrap();
        }
        writer.finish(&mut files).unwrap();
        folder
    }

    #[test]
    fn the_folder_is_the_list() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| !["mod", "columns", "json", "tar"].contains(&name.as_str()))
            .collect();
        names.sort();
        let mut listed: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        listed.sort_unstable();
        assert_eq!(names, listed);
    }
}
