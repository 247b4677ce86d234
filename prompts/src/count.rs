//! Counts of wordings.

use std::collections::BTreeMap;

use crate::Wording;

/// The numbers of wordings by their properties.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// All wordings.
    pub total: usize,
    /// By the name of the bank.
    pub by_bank: BTreeMap<String, usize>,
    /// By language, as an ISO 639 code.
    pub by_language: BTreeMap<String, usize>,
    /// By the kind of media; a wording counts once for each of its kinds.
    pub by_media: BTreeMap<&'static str, usize>,
    /// By the shape of the answer; a wording counts once for each of its shapes.
    pub by_shape: BTreeMap<&'static str, usize>,
    /// By the tag `length`; wordings without it are not counted.
    pub by_length: BTreeMap<&'static str, usize>,
    /// By the tag `tone`; wordings without it are not counted.
    pub by_tone: BTreeMap<&'static str, usize>,
    /// Wordings with a system message.
    pub with_system: usize,
}

impl Counts {
    /// Counts wordings, such as [`Banks::wordings`](crate::Banks::wordings) or a selection of them.
    pub fn of<'a>(wordings: impl Iterator<Item = Wording<'a>>) -> Self {
        let mut counts = Self::default();
        for Wording { bank, template } in wordings {
            counts.total += 1;
            *counts.by_bank.entry(bank.name.clone()).or_default() += 1;
            *counts.by_language.entry(template.language.clone()).or_default() += 1;
            for media in &template.media {
                *counts.by_media.entry(media.name()).or_default() += 1;
            }
            for shape in &template.answer {
                *counts.by_shape.entry(shape.name()).or_default() += 1;
            }
            if let Some(length) = template.length {
                *counts.by_length.entry(length.name()).or_default() += 1;
            }
            if let Some(tone) = template.tone {
                *counts.by_tone.entry(tone.name()).or_default() += 1;
            }
            counts.with_system += usize::from(template.system.is_some());
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::{AnswerShape, Bank, Banks, Media, Template};

    #[test]
    fn a_wording_counts_under_each_of_its_shapes_and_once_in_total() {
        let toml = r#"
description = "d"
media = "video"
[[templates]]
id = "a"
text = "Say it."
answer = ["phrase", "word"]
length = "short"
tone = "terse"
[[templates]]
id = "b"
text = "Please tell me."
system = "You answer."
answer = "phrase"
language = "de"
"#;
        let bank = Bank::parse("test", toml).unwrap();
        let counts = Counts::of(bank.templates.iter().map(|template| Wording { bank: &bank, template }));
        assert_eq!(
            counts,
            Counts {
                total: 2,
                by_bank: BTreeMap::from([("test".into(), 2)]),
                by_language: BTreeMap::from([("de".into(), 1), ("en".into(), 1)]),
                by_media: BTreeMap::from([("video", 2)]),
                by_shape: BTreeMap::from([("phrase", 2), ("word", 1)]),
                by_length: BTreeMap::from([("short", 1)]),
                by_tone: BTreeMap::from([("terse", 1)]),
                with_system: 1,
            }
        );
    }

    /// Returns the table in `docs/prompts.md`.
    fn table(banks: &Banks) -> String {
        let languages: BTreeSet<&str> = banks.wordings().map(|own| own.template.language.as_str()).collect();
        // English is the column of every bank, so it comes first.
        let mut languages: Vec<&str> = languages.into_iter().collect();
        languages.sort_by_key(|language| *language != "en");
        let mut table = format!("| bank | about | slots | shapes | {} |\n", languages.join(" | "));
        table += &format!("|---|---|---|---|{}\n", "--:|".repeat(languages.len()));
        for bank in banks.iter() {
            let english: Vec<&Template> = bank.templates.iter().filter(|own| own.language == "en").collect();
            let media: BTreeSet<Media> = english.iter().flat_map(|own| own.media.iter().copied()).collect();
            let media: Vec<&str> = media.into_iter().map(Media::name).collect();
            let media = if media.len() == Media::ALL.len() { "any".to_owned() } else { media.join(", ") };
            let slots: BTreeSet<&str> = english.iter().flat_map(|own| own.slots.iter().map(String::as_str)).collect();
            let slots: Vec<String> = slots
                .into_iter()
                .map(|slot| {
                    let is_in_all = english.iter().all(|own| own.slots.iter().any(|name| name == slot));
                    if is_in_all { format!("`{slot}`") } else { format!("(`{slot}`)") }
                })
                .collect();
            let shapes: BTreeSet<AnswerShape> = english.iter().flat_map(|own| own.answer.iter().copied()).collect();
            let all_but_turns = shapes.len() + 1 == AnswerShape::ALL.len() && !shapes.contains(&AnswerShape::Turns);
            let shapes: Vec<String> = shapes.into_iter().map(|shape| format!("`{}`", shape.name())).collect();
            let shapes = if all_but_turns { "all but `turns`".to_owned() } else { shapes.join(", ") };
            let numbers: Vec<String> = languages
                .iter()
                .map(|language| match bank.templates.iter().filter(|own| own.language == **language).count() {
                    0 => String::new(),
                    number => number.to_string(),
                })
                .collect();
            table +=
                &format!("| `{}` | {media} | {} | {shapes} | {} |\n", bank.name, slots.join(", "), numbers.join(" | "));
        }
        let counts = Counts::of(banks.wordings());
        let sums: Vec<String> = languages.iter().map(|language| counts.by_language[*language].to_string()).collect();
        table + &format!("| {} banks | | | | {} |\n", counts.by_bank.len(), sums.join(" | "))
    }

    #[test]
    fn the_documentation_lists_the_banks() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/prompts.md");
        let page = fs::read_to_string(&path).unwrap();
        // The page has other tables.
        let rows = page.lines().skip_while(|line| !line.starts_with("| bank |"));
        let rows = rows.take_while(|line| line.starts_with('|'));
        let written: String = rows.flat_map(|line| [line, "\n"]).collect();
        let table = table(&Banks::shipped().unwrap());
        if std::env::var_os("LYNXDATA_REWRITE").is_some() {
            fs::write(&path, page.replace(&written, &table)).unwrap();
        } else {
            assert_eq!(written, table, "run this test with LYNXDATA_REWRITE=1 and commit docs/prompts.md");
        }
    }
}
