//! Choices that depend only on the seed, the task and the record.

use serde::{Deserialize, Serialize};

use crate::bank::Wording;
use crate::hash::keyed_hash;

/// The wordings of a bank among which the wording of a record is chosen. The Lynx paper compares
/// training with and without diverse prompts in an ablation (arXiv 2307.02469, section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptMode {
    /// Every record gets one of all wordings that fit it.
    #[default]
    All,
    /// Every record gets one of the first three wordings that fit it and that were not written on
    /// demand by a model. The paper starts from three such wordings before GPT-4 writes more.
    Seed,
    /// Every record gets the first wording that fits it, in the order of banks and files.
    #[serde(alias = "single")]
    One,
}

/// The number of handwritten wordings per task in the paper (section 2.2).
const SEEDS: usize = 3;

/// Returns the wording for one record. Of the wordings that fit, it is the one whose hash, mixed
/// with the hash of seed, task and record, is the smallest.
///
/// In the mode `All` it depends on nothing else: not on other tasks, threads, or the order of
/// records, banks or wordings. Adding a wording to n others changes the choice of about one record
/// in n + 1, and only to the new wording (rendezvous hashing, Thaler and Ravishankar 1998).
pub fn choose<'a>(
    mut fitting: impl Iterator<Item = Wording<'a>>,
    mode: PromptMode,
    seed: u64,
    task: &str,
    record_id: &str,
) -> Option<Wording<'a>> {
    let record = keyed_hash(seed, &["wording", task, record_id]);
    let order = |own: &Wording<'a>| (mixed(record ^ own.template.key), &own.bank.name, &own.template.id);
    match mode {
        PromptMode::All => fitting.reduce(|least, own| {
            let (hash, of_least) = (mixed(record ^ own.template.key), mixed(record ^ least.template.key));
            if hash < of_least || hash == of_least && order(&own) < order(&least) { own } else { least }
        }),
        PromptMode::One => fitting.next(),
        PromptMode::Seed => {
            let fitting: Vec<Wording> = fitting.collect();
            let is_by_hand = |own: &&Wording| own.template.origin.is_none();
            let by_hand = fitting.iter().filter(is_by_hand).take(SEEDS).copied().min_by_key(order);
            by_hand.or_else(|| fitting.iter().take(SEEDS).copied().min_by_key(order))
        }
    }
}

/// Mixes the bits of a number: the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{Bank, Banks, Template};

    fn bank_of(ids: &[&str]) -> Bank {
        let mut toml = "description = \"d\"\n".to_owned();
        for id in ids {
            let text = format!("Say {id}.");
            for line in
                ["[[templates]]", &format!("id = \"{id}\""), &format!("text = \"{text}\""), "answer = \"phrase\""]
            {
                toml.push_str(line);
                toml.push('\n');
            }
        }
        Bank::parse("test", &toml).unwrap()
    }

    fn draw<'a>(bank: &'a Bank, mode: PromptMode, seed: u64, task: &str, record: &str) -> &'a Template {
        let all = bank.templates.iter().map(|template| Wording { bank, template });
        choose(all, mode, seed, task, record).unwrap().template
    }

    #[test]
    fn the_hash_is_stable() {
        // The first value of SplitMix64 with the seed 0, from its state 0x9e3779b97f4a7c15
        // (github:vigna/xorshift, splitmix64.c).
        assert_eq!(mixed(0x9E37_79B9_7F4A_7C15), 0xE220_A839_7B1D_CDAF);
        // Pinned: another value would change every published instruction set. Computed with
        // Python's blake3 1.0.11: blake3(length-prefixed texts, key=(7).to_bytes(32,
        // "little")).digest()[:8]
        assert_eq!(keyed_hash(7, &["template", "vqav2", "1"]), 3_142_679_780_938_631_473);
        assert_ne!(keyed_hash(7, &["ab", "c"]), keyed_hash(7, &["a", "bc"]));
        assert_ne!(keyed_hash(7, &["a"]), keyed_hash(8, &["a"]));
    }

    #[test]
    fn the_order_of_the_bank_does_not_matter() {
        let (forward, backward) = (bank_of(&["a", "b", "c", "d"]), bank_of(&["d", "c", "b", "a"]));
        for record in 0..200 {
            let id = record.to_string();
            let chosen = draw(&forward, PromptMode::All, 1, "task", &id);
            assert_eq!(chosen.id, draw(&backward, PromptMode::All, 1, "task", &id).id);
        }
    }

    #[test]
    fn an_added_wording_changes_only_the_records_that_take_it() {
        let (before, after) = (bank_of(&["a", "b", "c"]), bank_of(&["a", "b", "c", "d"]));
        let mut taken = 0;
        for record in 0..1000 {
            let id = record.to_string();
            let new = draw(&after, PromptMode::All, 1, "task", &id);
            if new.id == "d" {
                taken += 1;
            } else {
                assert_eq!(new.id, draw(&before, PromptMode::All, 1, "task", &id).id);
            }
        }
        assert!((200..300).contains(&taken), "a quarter of 1000 is expected, {taken} changed");
    }

    #[test]
    fn all_wordings_are_drawn_about_equally_often_and_the_seed_matters() {
        let banks = Banks::shipped().unwrap();
        let bank = banks.get("vqa").unwrap();
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let mut changed = 0;
        for record in 0..10_000 {
            let id = format!("vqav2/train/{record}");
            let chosen = draw(bank, PromptMode::All, 7, "vqav2", &id);
            *counts.entry(&chosen.id).or_default() += 1;
            changed += u32::from(draw(bank, PromptMode::All, 8, "vqav2", &id).id != chosen.id);
        }
        let expected = 10_000.0 / bank.templates.len() as f64;
        let chi_square: f64 = bank
            .templates
            .iter()
            .map(|template| (f64::from(counts[template.id.as_str()]) - expected).powi(2) / expected)
            .sum();
        // The 0.999 quantile of chi-square is below 3 times its degrees of freedom from 10 of them
        // on.
        assert!(chi_square < 3.0 * (bank.templates.len() - 1) as f64, "{chi_square} {counts:?}");
        assert!(changed > 8_000, "{changed}");
    }

    #[test]
    fn one_keeps_to_the_first_wording_and_seed_to_the_first_three_by_hand() {
        let bank = bank_of(&["b", "a"]);
        assert!((0..50).all(|record| draw(&bank, PromptMode::One, 3, "task", &record.to_string()).id == "b"));
        let mut bank = bank_of(&["x", "a", "b", "c", "d"]);
        let origin = "model = \"m\"\ndate = \"2026-01-31\"\nreview = \"accepted\"\n";
        bank.templates[0].origin = Some(toml::from_str(origin).unwrap());
        let drawn = |bank: &Bank| -> BTreeSet<String> {
            (0..100).map(|record| draw(bank, PromptMode::Seed, 3, "task", &record.to_string()).id.clone()).collect()
        };
        assert_eq!(drawn(&bank).into_iter().collect::<String>(), "abc");
        let origin = bank.templates[0].origin.clone();
        bank.templates.iter_mut().for_each(|template| template.origin.clone_from(&origin));
        assert_eq!(drawn(&bank).into_iter().collect::<String>(), "abx", "all are a model's");
        let modes: BTreeMap<String, PromptMode> = toml::from_str("old = \"single\"\nnew = \"one\"").unwrap();
        assert!(modes.values().all(|mode| *mode == PromptMode::One));
    }
}
