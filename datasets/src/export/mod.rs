//! Conversations in the formats that trainers read. An export of JSON is one file here and one line
//! in [`JSON_EXPORTS`].

pub mod json;
mod llava;
mod messages;
pub mod parquet;
mod sharegpt;
mod swift;

pub use json::{JSON_EXPORTS, JsonExport};

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::build::{Conversation, ImageReference, Message, Role};

    /// A conversation of alternating turns about one picture.
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
            video: None,
            messages: roles.zip(turns).map(message).collect(),
            template: template.to_owned(),
            source_file: "train.json".to_owned(),
            source_row: 7,
            choice_order: Vec::new(),
            right_choice: None,
            packed: Vec::new(),
        }
    }

    #[test]
    fn the_folder_is_the_list() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| !["mod", "json", "parquet"].contains(&name.as_str()))
            .collect();
        names.sort();
        let mut listed: Vec<&str> = JSON_EXPORTS.iter().map(|export| export.name).collect();
        listed.sort_unstable();
        assert_eq!(names, listed);
    }
}
