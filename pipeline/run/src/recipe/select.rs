//! `[select.NAME]`: a selection of pairs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use indexmap::IndexMap;
use lynxdata_engine::select::{DUPLICATE, Rule};
use lynxdata_filters::Preset;
use lynxdata_records::nearest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{list, neighbour};
use crate::home;

/// A selection: which pairs of the pool are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionConfig {
    /// The set of rules to start from: the name of a preset, or a TOML file of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(description = preset_text())]
    pub preset: Option<String>,
    /// Rules of the preset to leave out.
    pub without: Vec<String>,
    /// Named SQL predicates that a pair must pass. A rule with the name of a preset rule replaces
    /// it. A missing value does not pass: null, NaN, a division by zero, a text where a number is
    /// needed. A name means the column with this spelling, or else the only column that differs
    /// only in case. Names with dots or spaces can be written in double quotes.
    pub rules: IndexMap<String, String>,
    /// Whether duplicates of a kept pair are rejected. The columns `duplicate_of`, `duplicate_by`
    /// and `duplicate_distance` of the selection name the kept pair, the comparison and the number
    /// of differing pHash bits.
    pub deduplicate: bool,
}

/// Returns what the schema says about `preset`, with the names of all presets.
fn preset_text() -> String {
    let names: Vec<String> = lynxdata_filters::presets().iter().map(|preset| format!("`{}`", preset.name)).collect();
    format!(
        "A set of rules to start from: {}, or your own TOML file in the format of `filters/presets`, such as `my_rules.toml`. The \
         resolved recipe contains the rules of your file.",
        names.join(", ")
    )
}

impl Default for SelectionConfig {
    fn default() -> Self {
        SelectionConfig { preset: None, without: Vec::new(), rules: IndexMap::new(), deduplicate: true }
    }
}

impl SelectionConfig {
    /// Returns the settings that parts depend on: the rules, and whether duplicates are rejected.
    pub fn settings(&self) -> Result<(Vec<Rule>, bool)> {
        // A new setting must be named here. The rules are joined from these three.
        let SelectionConfig { deduplicate, preset: _, without: _, rules: _ } = self;
        Ok((self.rules()?, *deduplicate))
    }

    /// Replaces the name of a preset file of the user by its rules.
    pub(super) fn read_own_preset(&mut self, folder: &Path) -> Result<()> {
        let Some(file) = self.preset.as_ref().filter(|name| Path::new(name).extension() == Some("toml".as_ref()))
        else {
            return Ok(());
        };
        let path = folder.join(home::expanded(Path::new(file))?);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the preset {}{}", path.display(), neighbour(&path)))?;
        let preset: Preset = toml::from_str(&text).with_context(|| format!("in the preset {}", path.display()))?;
        let mut rules = self.rules_of(&preset.name, &preset.rules)?;
        rules.extend(std::mem::take(&mut self.rules));
        *self = SelectionConfig { preset: None, without: Vec::new(), rules, deduplicate: self.deduplicate };
        Ok(())
    }

    /// Returns the rules of a preset except those in `without`.
    fn rules_of(&self, preset: &str, rules: &[lynxdata_filters::Rule]) -> Result<IndexMap<String, String>> {
        let mut rules: IndexMap<String, String> =
            rules.iter().map(|rule| (rule.name.clone(), rule.predicate.clone())).collect();
        for left_out in &self.without {
            if rules.shift_remove(left_out).is_none() {
                bail!(
                    "`without` names {left_out:?}, which is not a rule of preset {preset}; the rules are: {}",
                    list(rules.keys().map(String::as_str))
                );
            }
        }
        Ok(rules)
    }

    /// Returns the rules in the order of `rejected_by`: those of the preset, then those of the
    /// recipe.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = match &self.preset {
            Some(name) => {
                let preset = lynxdata_filters::preset(name).with_context(|| {
                    let names = lynxdata_filters::presets().iter().map(|preset| preset.name.as_str());
                    match nearest(name, names.clone()) {
                        Some(right) => format!("there is no preset {name:?}\nhint: did you mean {right:?}?"),
                        None => format!("there is no preset {name:?}; the presets are: {}", list(names)),
                    }
                })?;
                self.rules_of(&preset.name, &preset.rules)?
            }
            None => self.rules_of("none", &[])?,
        };
        for (name, predicate) in &self.rules {
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                bail!("a rule is named {name:?}; the name must be one line and not empty");
            }
            if name == DUPLICATE {
                bail!("a rule cannot be named {name:?}, which is the reason of rejected duplicates");
            }
            rules.insert(name.clone(), predicate.clone());
        }
        Ok(rules.into_iter().map(|(name, predicate)| Rule { name, predicate }).collect())
    }
}
