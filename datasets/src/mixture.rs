//! How many records of each task an instruction set takes, and which.
//!
//! Two levels, as table 9 of arXiv 2307.02469 turns out to be made: groups share the total by their weights, and within a group the tasks share by their
//! sizes. Quotas are exact whole numbers.

use std::collections::{BTreeMap, BTreeSet};

use lynxdata_prompts::keyed_hash;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Tasks that share one weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name in reports.
    pub name: String,
    /// Its share of the total, relative to the sum of all weights; above 0.
    pub weight: f64,
    /// Its tasks, which share by their numbers of records.
    pub tasks: Vec<String>,
}

/// How many records each task contributes to a total. A quota above a task's size means that records repeat.
///
/// # Errors
/// If a weight is not above 0, a task is in two groups or of unknown size, or a group has no records.
pub fn quotas(groups: &[Group], sizes: &BTreeMap<String, u64>, total: u64) -> Result<BTreeMap<String, u64>> {
    let fault = |reason: String| Err(Error::Mixture(reason));
    let mut members: BTreeSet<&str> = BTreeSet::new();
    let mut group_sizes = Vec::new();
    for group in groups {
        if !group.weight.is_finite() || group.weight <= 0.0 {
            return fault(format!("group {}: the weight {} is not above 0", group.name, group.weight));
        }
        let mut own_sizes = Vec::new();
        for task in &group.tasks {
            if !members.insert(task) {
                return fault(format!("group {}: task {task} is in a group already", group.name));
            }
            match sizes.get(task) {
                Some(&size) => own_sizes.push(size as f64),
                None => return fault(format!("group {}: the size of task {task} is not known", group.name)),
            }
        }
        if own_sizes.iter().sum::<f64>() == 0.0 {
            return fault(format!("group {} has no records", group.name));
        }
        group_sizes.push(own_sizes);
    }
    if groups.is_empty() {
        return fault("there is no group".to_owned());
    }
    let weights: Vec<f64> = groups.iter().map(|group| group.weight).collect();
    let mut quotas = BTreeMap::new();
    for ((group, own_sizes), quota) in groups.iter().zip(&group_sizes).zip(largest_remainder(&weights, total)) {
        for (task, quota) in group.tasks.iter().zip(largest_remainder(own_sizes, quota)) {
            quotas.insert(task.clone(), quota);
        }
    }
    Ok(quotas)
}

/// Shares a whole number by weights: everyone gets the floor of its share, and what is left goes to the largest remainders, the first of equals first
/// (the method of Hamilton). The shares sum to `total` exactly.
fn largest_remainder(weights: &[f64], total: u64) -> Vec<u64> {
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|weight| weight / sum * total as f64).collect();
    let mut shares: Vec<u64> = exact.iter().map(|share| share.floor() as u64).collect();
    let left = total.saturating_sub(shares.iter().sum());
    let mut by_remainder: Vec<usize> = (0..weights.len()).filter(|&place| weights[place] > 0.0).collect();
    by_remainder
        .sort_by(|&a, &b| (exact[b] - exact[b].floor()).total_cmp(&(exact[a] - exact[a].floor())).then(a.cmp(&b)));
    for place in by_remainder.iter().cycle().take(left as usize) {
        shares[*place] += 1;
    }
    shares
}

/// Which records of a task fill its quota: places in `ids`, ascending within each round.
///
/// A quota up to the number of ids takes those with the smallest keyed hash of seed, task and id, so neither order nor other tasks matter and a larger quota
/// contains a smaller one. A larger quota takes all of them as often as it can, and then so for the rest with a hash of the round.
pub fn select(task: &str, ids: &[String], quota: u64, seed: u64) -> Vec<usize> {
    let mut chosen = Vec::new();
    if ids.is_empty() {
        return chosen;
    }
    let rounds = quota / ids.len() as u64;
    for _ in 0..rounds {
        chosen.extend(0..ids.len());
    }
    let round = rounds.to_string();
    let mut places: Vec<usize> = (0..ids.len()).collect();
    places.sort_by_cached_key(|&place| (keyed_hash(seed, &["mixture", task, &round, &ids[place]]), &ids[place]));
    places.truncate((quota % ids.len() as u64) as usize);
    places.sort_unstable();
    chosen.extend(places);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, weight: f64, tasks: &[&str]) -> Group {
        Group { name: name.to_owned(), weight, tasks: tasks.iter().map(|&task| task.to_owned()).collect() }
    }

    fn sizes(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|&(task, size)| (task.to_owned(), size)).collect()
    }

    #[test]
    fn quotas_are_proportional_and_exact() {
        let groups = [group("short", 3.0, &["a", "b"]), group("long", 1.0, &["c"])];
        let sizes = sizes(&[("a", 100), ("b", 300), ("c", 5), ("unused", 9)]);
        assert_eq!(quotas(&groups, &sizes, 400).unwrap(), super::tests::sizes(&[("a", 75), ("b", 225), ("c", 100)]));
        for total in 0..200 {
            let quotas = quotas(&groups, &sizes, total).unwrap();
            assert_eq!(quotas.values().sum::<u64>(), total);
        }
    }

    #[test]
    fn the_largest_remainders_are_rounded_up() {
        // Shares of 10 by 1:1:1 are 3.33 each, by 6:3:1.5 they are 5.71, 2.86 and 1.43.
        assert_eq!(largest_remainder(&[1.0, 1.0, 1.0], 10), [4, 3, 3]);
        assert_eq!(largest_remainder(&[6.0, 3.0, 1.5], 10), [6, 3, 1]);
        assert_eq!(largest_remainder(&[0.0, 1.0, 1.0], 3), [0, 2, 1]);
    }

    #[test]
    fn impossible_mixtures_are_refused() {
        let sizes = sizes(&[("a", 1), ("empty", 0)]);
        let fault = |groups: &[Group]| quotas(groups, &sizes, 10).unwrap_err().to_string();
        assert!(fault(&[]).contains("no group"));
        assert!(fault(&[group("g", 0.0, &["a"])]).contains("not above 0"));
        assert!(fault(&[group("g", f64::NAN, &["a"])]).contains("not above 0"));
        assert!(fault(&[group("g", 1.0, &["a", "a"])]).contains("in a group already"));
        assert!(fault(&[group("g", 1.0, &["x"])]).contains("size of task x"));
        assert!(fault(&[group("g", 1.0, &["empty"])]).contains("no records"));
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_and_grows_with_the_quota() {
        let ids: Vec<String> = (0..100).map(|id| format!("t/train/{id}")).collect();
        let reversed: Vec<String> = ids.iter().rev().cloned().collect();
        let names = |ids: &[String], quota| -> BTreeSet<String> {
            select("t", ids, quota, 7).into_iter().map(|place| ids[place].clone()).collect()
        };
        assert_eq!(names(&ids, 30).len(), 30);
        assert_eq!(names(&ids, 30), names(&reversed, 30));
        assert!(names(&ids, 30).is_subset(&names(&ids, 60)));
        assert_ne!(select("t", &ids, 30, 7), select("t", &ids, 30, 8));
    }

    #[test]
    fn a_quota_above_the_size_repeats_everything_as_evenly_as_it_can() {
        let ids: Vec<String> = (0..4).map(|id| id.to_string()).collect();
        let mut counts = [0; 4];
        for place in select("t", &ids, 10, 7) {
            counts[place] += 1;
        }
        counts.sort_unstable();
        assert_eq!(counts, [2, 2, 3, 3]);
        assert_eq!(select("t", &[], 10, 7), [0; 0]);
    }
}
