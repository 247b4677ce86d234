//! Published sets of rules, as SQL predicates over the signals.
//!
//! A preset is one TOML file in `presets/`, named as the preset:
//!
//! ```toml
//! name = "datacomp-basic"
//! description = "What it is for, in a paragraph."
//! source = "The publication that it follows."
//!
//! [[rules]]
//! name = "enough_words"
//! predicate = "caption_words > 2"
//! reason = "Where the threshold comes from."
//! ```
//!
//! A predicate may use every signal by name, `caption`, `url` and DataFusion's SQL functions. A
//! pair passes a rule if the predicate is true; if it is false or NULL (a missing signal), the rule
//! rejects the pair.

use std::sync::LazyLock;

use include_dir::{Dir, include_dir};
use serde::{Deserialize, Serialize};

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/presets");

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let mut presets: Vec<Preset> = FILES
        .files()
        .map(|file| {
            let text = file.contents_utf8().expect("a test reads every bundled preset");
            toml::from_str(text).expect("a test parses every bundled preset")
        })
        .collect();
    presets.sort_by(|a, b| a.name.cmp(&b.name));
    presets
});

/// A named set of rules with the publication that it follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Name of the preset in recipes, and of its file.
    pub name: String,
    /// The pairs that the preset keeps, and how it differs from its source.
    pub description: String,
    /// The publication that the rules follow.
    pub source: String,
    /// The rules; a pair is kept if it passes all of them.
    pub rules: Vec<Rule>,
}

/// A named predicate that a pair must pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name under which a selection reports the pairs that the rule rejects; snake_case, unique in
    /// the preset.
    pub name: String,
    /// SQL over the signals, `caption` and `url`; true keeps the pair, false and NULL reject it.
    pub predicate: String,
    /// The reason for the rule and the source of its thresholds.
    pub reason: String,
}

/// Returns the bundled preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    presets().iter().find(|preset| preset.name == name)
}

/// Returns all bundled presets, by name.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::signals::signal;

    #[test]
    fn every_file_is_a_preset_of_its_name() {
        let names: Vec<&str> = presets().iter().map(|preset| preset.name.as_str()).collect();
        assert_eq!(names.len(), FILES.files().count());
        for file in FILES.files() {
            let preset: Preset = toml::from_str(file.contents_utf8().unwrap()).unwrap();
            assert_eq!(file.path().to_str(), Some(format!("{}.toml", preset.name).as_str()));
            assert_eq!(super::preset(&preset.name), Some(&preset));
        }
        assert!(super::preset("no-such-preset").is_none());
    }

    #[test]
    fn every_rule_is_named_and_has_a_reason() {
        for preset in presets() {
            assert!(!preset.description.is_empty() && preset.source.contains("arXiv"), "{}", preset.name);
            let names: BTreeSet<&str> = preset.rules.iter().map(|rule| rule.name.as_str()).collect();
            assert_eq!(names.len(), preset.rules.len(), "{}: a rule's name is used twice", preset.name);
            for rule in &preset.rules {
                assert!(rule.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", rule.name);
                assert!(rule.reason.len() > 40 && rule.reason.ends_with('.'), "{}", rule.name);
            }
        }
    }

    #[test]
    fn predicates_use_known_columns_only() {
        for preset in presets() {
            for rule in &preset.rules {
                assert_eq!(unknown_words(&rule.predicate), Vec::<String>::new(), "{}.{}", preset.name, rule.name);
            }
        }
        let predicate = "lower(url) LIKE 'x%' AND width BETWEEN 1 AND 2e3 OR NOT coalesce(hight > 3, colour IS NULL)";
        assert_eq!(unknown_words(predicate), ["hight", "colour"]);
    }

    /// Returns the words of a predicate that are no signal, no column of every list and no word of
    /// SQL. A word before `(` is a function, which a test of `lynxdata-run` plans with DataFusion.
    fn unknown_words(predicate: &str) -> Vec<String> {
        const COLUMNS: [&str; 2] = ["caption", "url"];
        const SQL: [&str; 18] = [
            "and", "or", "not", "is", "null", "true", "false", "in", "like", "ilike", "between", "distinct", "from",
            "case", "when", "then", "else", "end",
        ];
        // Every second piece is between quotes.
        let outside_quotes = predicate.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
        let is_of_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let mut unknown = Vec::new();
        let mut rest = outside_quotes.as_str();
        while let Some(start) = rest.find(is_of_word) {
            let text = &rest[start..];
            let end = text.find(|character| !is_of_word(character)).unwrap_or(text.len());
            let word = text[..end].to_ascii_lowercase();
            rest = &text[end..];
            let is_number = word.starts_with(|first: char| first.is_ascii_digit());
            let is_known = signal(&word).is_some() || COLUMNS.contains(&word.as_str()) || SQL.contains(&word.as_str());
            if !is_number && !is_known && !rest.trim_start().starts_with('(') {
                unknown.push(word);
            }
        }
        unknown
    }

    #[test]
    fn a_preset_with_an_unknown_key_is_an_error() {
        let text = "name = 'x'\ndescription = ''\nsource = ''\nrules = []\nthreshold = 3";
        assert!(toml::from_str::<Preset>(text).unwrap_err().to_string().contains("threshold"));
    }
}
