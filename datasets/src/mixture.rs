//! Decides how many records each task contributes to an instruction set, and which.
//!
//! There are two levels, which reproduce table 9 of arXiv 2307.02469: groups share the total by
//! their weights, and the tasks of a group share its quota by their sizes, or as [`Inside`] says.
//! Quotas are exact whole numbers (largest remainder). Hashes decide which records fill them, so
//! neither the order of the records nor other tasks matter.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use include_dir::{Dir, include_dir};
use lynxdata_records::nearest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

static PRESETS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/mixtures");

/// Bisection steps: after this many, no digit of a double changes.
const HALVINGS: usize = 200;

/// The name in `catalogue_groups` for all tasks of the catalogue that are in no other group.
const ALL_OTHERS: &str = "*";

/// Tasks that share one weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name in reports.
    pub name: String,
    /// Its share of the total, relative to the sum of all weights; above 0.
    pub weight: f64,
    /// Its tasks.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Groups of the catalogue whose tasks also belong to it, except those that another group
    /// names; `*` means all tasks that are in no other group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogue_groups: Vec<String>,
    /// The way in which its tasks share its quota.
    #[serde(default)]
    pub inside: Inside,
    /// The maximum number of times that a task is repeated, such as 2. If the other tasks of the
    /// group cannot fill the rest, the total is not reached. Without it, tasks repeat as often as
    /// their quotas need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_epochs: Option<f64>,
    /// The minimum share of the group's quota, 0 to 1, that each of its tasks gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_share: Option<f64>,
}

/// The way in which the tasks of a group share its quota.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inside {
    /// In proportion to their numbers of records.
    #[default]
    Size,
    /// By the square roots of their numbers of records, as InstructBLIP does (arXiv 2305.06500,
    /// section 2.5).
    SquareRoot,
    /// By their numbers of records to the power of 1/T, as mT5 does (arXiv 2010.11934, section
    /// 3.1). T = 1 is by size; a larger T is more even.
    Temperature(f64),
    /// By fixed weights, one per task.
    Weights(BTreeMap<String, f64>),
}

impl Group {
    /// Returns the group of all tasks, which share by their sizes.
    pub fn of_all() -> Self {
        Group {
            name: "all".to_owned(),
            weight: 1.0,
            tasks: Vec::new(),
            catalogue_groups: vec![ALL_OTHERS.to_owned()],
            inside: Inside::Size,
            most_epochs: None,
            least_share: None,
        }
    }

    /// Returns the fault of the weights and of the settings for sharing, or `None` if they are
    /// valid.
    pub fn fault(&self) -> Option<String> {
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        if !is_positive(self.weight) {
            return Some(format!("the weight {} is not above 0", self.weight));
        }
        match &self.inside {
            Inside::Temperature(temperature) if !is_positive(*temperature) => {
                return Some(format!("the temperature {temperature} is not above 0"));
            }
            Inside::Weights(weights) => {
                if let Some(task) = self.tasks.iter().find(|task| !weights.contains_key(*task)) {
                    return Some(format!("task {task} has no weight"));
                }
                if let Some((task, weight)) = weights.iter().find(|(_, weight)| !is_positive(**weight)) {
                    return Some(format!("the weight {weight} of task {task} is not above 0"));
                }
            }
            Inside::Temperature(_) | Inside::Size | Inside::SquareRoot => {}
        }
        if let Some(epochs) = self.most_epochs.filter(|epochs| !is_positive(*epochs)) {
            return Some(format!("most_epochs = {epochs} is not above 0"));
        }
        let fits = |least: f64| least >= 0.0 && least * self.tasks.len() as f64 <= 1.0;
        let least = self.least_share.filter(|least| !fits(*least))?;
        Some(format!("least_share = {least} is more than its {} tasks can all get", self.tasks.len()))
    }
}

impl Inside {
    fn weight(&self, task: &str, size: u64) -> f64 {
        match self {
            Inside::Size => size as f64,
            Inside::SquareRoot => (size as f64).sqrt(),
            Inside::Temperature(temperature) => (size as f64).powf(1.0 / temperature),
            Inside::Weights(weights) if size > 0 => weights.get(task).copied().unwrap_or(0.0),
            Inside::Weights(_) => 0.0,
        }
    }
}

/// A published mixture.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// A description of it.
    pub description: String,
    /// The place of its publication.
    pub source: String,
    /// Its groups.
    pub groups: Vec<Group>,
    /// The numbers of records per task that are published with it.
    #[serde(default)]
    pub sizes: BTreeMap<String, u64>,
}

/// Returns the names of the shipped mixtures.
pub fn presets() -> Vec<&'static str> {
    PRESETS.files().filter_map(|file| file.path().file_stem()?.to_str()).collect()
}

/// Returns a shipped mixture.
///
/// # Errors
/// If there is no mixture of this name.
pub fn preset(name: &str) -> Result<Preset> {
    let file = PRESETS.get_file(format!("{name}.toml"));
    let text = file.and_then(|file| file.contents_utf8()).ok_or_else(|| {
        let all = presets();
        let near = nearest(name, all.iter().copied());
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        Error::UnknownMixture { name: name.to_owned(), all, hint }
    })?;
    toml::from_str(text).map_err(|reason| Error::Mixture(format!("{name}: {reason}")))
}

impl Preset {
    /// Returns the share of each task, 0 to 1, in the order of the groups. Shares use the sizes
    /// that are published with the mixture; a group of one task needs no size. Tasks that share
    /// with a group of the catalogue are left out, because it depends on the recipe which those
    /// are.
    pub fn shares(&self) -> Vec<(&str, f64)> {
        let total: f64 = self.groups.iter().map(|group| group.weight).sum();
        let of_group = |group: &'_ Group| {
            let size = |task: &String| match group.tasks.len() {
                1 => 1,
                _ => self.sizes.get(task).copied().unwrap_or(0),
            };
            let weights: Vec<f64> = group.tasks.iter().map(|task| group.inside.weight(task, size(task))).collect();
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(|weight| weight / sum * group.weight / total).collect::<Vec<_>>()
        };
        let is_fixed = |group: &&Group| group.catalogue_groups.is_empty();
        self.groups
            .iter()
            .filter(is_fixed)
            .flat_map(|group| group.tasks.iter().map(String::as_str).zip(of_group(group)))
            .collect()
    }
}

/// The number of records that a mixture takes from a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quota {
    /// The group that it is in.
    pub group: String,
    /// The number of records or tokens, in the unit of the given sizes. Repeated records count each
    /// time.
    pub amount: u64,
}

/// A number of tokens: `50_000_000`, or a text that ends with K, M, B or T, such as `50M` or
/// `1.5B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "NumberOrText")]
#[schemars(with = "NumberOrText")]
pub struct TokenTotal(pub u64);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number of tokens, such as 50_000_000, or a text such as \"50M\"")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl TryFrom<NumberOrText> for TokenTotal {
    type Error = String;

    fn try_from(value: NumberOrText) -> std::result::Result<Self, String> {
        match value {
            NumberOrText::Number(number) => Ok(TokenTotal(number)),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

impl FromStr for TokenTotal {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const UNITS: [(char, f64); 4] = [('K', 1e3), ('M', 1e6), ('B', 1e9), ('T', 1e12)];
        let plain = text.replace('_', "");
        let unit = plain.chars().next_back().map(|unit| unit.to_ascii_uppercase());
        let unit = unit.and_then(|unit| UNITS.iter().find(|(known, _)| *known == unit));
        let number = if unit.is_some() { &plain[..plain.len() - 1] } else { &plain };
        let tokens = number.parse::<f64>().ok().map(|number| number * unit.map_or(1.0, |(_, times)| *times));
        let tokens = tokens.filter(|tokens| (1.0..1e18).contains(tokens));
        let fault = || format!("{text:?} is not a number of tokens, such as 50000000, 50M or 1.5B");
        tokens.map(|tokens| TokenTotal(tokens.round() as u64)).ok_or_else(fault)
    }
}

/// Assigns each task to the group that names it, or else its catalogue group. Tasks that are not in
/// `tasks` are removed from the groups. Returns the groups that have tasks, and the tasks without a
/// group. `tasks` maps names to catalogue groups.
///
/// # Errors
/// If a task is in two groups.
pub fn assign(groups: &[Group], tasks: &BTreeMap<String, String>) -> Result<(Vec<Group>, Vec<String>)> {
    let mut assigned: BTreeSet<&str> = BTreeSet::new();
    let mut filled: Vec<Group> = Vec::new();
    for group in groups {
        let named = |task: &str, of_catalogue: &String| {
            let names = |group: &Group| group.tasks.iter().any(|name| name == task);
            names(group) || group.catalogue_groups.contains(of_catalogue) && !groups.iter().any(names)
        };
        let own: Vec<&str> = tasks.iter().filter(|(task, of)| named(task, of)).map(|(task, _)| task.as_str()).collect();
        if let Some(task) = own.iter().find(|task| !assigned.insert(task)) {
            return Err(Error::Mixture(format!("group {}: task {task} is already in a group", group.name)));
        }
        filled.push(Group { tasks: own.into_iter().map(str::to_owned).collect(), ..group.clone() });
    }
    let mut left: Vec<String> = tasks.keys().filter(|task| !assigned.contains(task.as_str())).cloned().collect();
    if let Some(of_others) = filled.iter_mut().find(|group| group.catalogue_groups.iter().any(|of| of == ALL_OTHERS)) {
        of_others.tasks.append(&mut left);
    }
    filled.retain(|group| !group.tasks.is_empty());
    Ok((filled, left))
}

/// Returns how much each task contributes to a total, in the unit of the sizes: records or tokens.
/// A quota above the size of a task means that its records repeat.
///
/// # Errors
/// If a weight is not above 0, a task is in two groups or of unknown size, or a group has no
/// records.
pub fn quotas(groups: &[Group], sizes: &BTreeMap<String, u64>, total: u64) -> Result<BTreeMap<String, Quota>> {
    let fault = |reason: String| Err(Error::Mixture(reason));
    let mut members: BTreeSet<&str> = BTreeSet::new();
    for group in groups {
        if let Some(reason) = group.fault() {
            return fault(format!("group {}: {reason}", group.name));
        }
        for task in &group.tasks {
            if !members.insert(task) {
                return fault(format!("group {}: task {task} is already in a group", group.name));
            }
            if !sizes.contains_key(task) {
                return fault(format!("group {}: the size of task {task} is unknown", group.name));
            }
        }
        if group.tasks.iter().all(|task| group.inside.weight(task, sizes[task]) <= 0.0) {
            return fault(format!("group {} has no records", group.name));
        }
    }
    if groups.is_empty() {
        return fault("there is no group; name at least one".to_owned());
    }
    let weights: Vec<f64> = groups.iter().map(|group| group.weight).collect();
    let mut quotas = BTreeMap::new();
    for (group, of_group) in groups.iter().zip(largest_remainder(&weights, total)) {
        for (task, amount) in group.tasks.iter().zip(within(group, sizes, of_group)) {
            quotas.insert(task.clone(), Quota { group: group.name.clone(), amount });
        }
    }
    Ok(quotas)
}

/// Divides the quota of a group among its tasks in proportion to their weights, within the bounds
/// from `least_share` and `most_epochs`. Every share is the weight times a common factor, clamped
/// to its bounds.
fn within(group: &Group, sizes: &BTreeMap<String, u64>, quota: u64) -> Vec<u64> {
    let weights: Vec<f64> = group.tasks.iter().map(|task| group.inside.weight(task, sizes[task])).collect();
    if group.least_share.is_none() && group.most_epochs.is_none() {
        return largest_remainder(&weights, quota);
    }
    let least = (group.least_share.unwrap_or(0.0) * quota as f64).floor() as u64;
    let bounds = group.tasks.iter().map(|task| {
        let most = group.most_epochs.map_or(u64::MAX, |epochs| (epochs * sizes[task] as f64) as u64);
        let most = if sizes[task] == 0 { 0 } else { most };
        (least.min(most), most)
    });
    let bounds: Vec<(u64, u64)> = bounds.collect();
    let most_of_all = bounds.iter().fold(0_u64, |sum, (_, most)| sum.saturating_add(*most));
    let quota = quota.min(most_of_all);
    let shares = |multiple: f64| -> Vec<f64> {
        let cut = |(weight, (least, most)): (&f64, &(u64, u64))| (multiple * weight).clamp(*least as f64, *most as f64);
        weights.iter().zip(&bounds).map(cut).collect()
    };
    // The sum of the shares grows with the factor, so bisection finds the factor.
    let (mut low, mut high) = (0.0, 1.0);
    while shares(high).iter().sum::<f64>() < quota as f64 && high < f64::MAX / 4.0 {
        high *= 2.0;
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if shares(middle).iter().sum::<f64>() < quota as f64 { low = middle } else { high = middle }
    }
    let exact = shares(high);
    let mut whole: Vec<u64> = exact.iter().map(|share| share.floor() as u64).collect();
    let mut by_remainder: Vec<usize> = (0..whole.len()).collect();
    by_remainder.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()).then(a.cmp(b)));
    let mut left = quota.saturating_sub(whole.iter().sum());
    while left > 0 {
        for place in by_remainder.iter().filter(|place| weights[**place] > 0.0) {
            if left > 0 && whole[*place] < bounds[*place].1 {
                whole[*place] += 1;
                left -= 1;
            }
        }
    }
    whole
}

/// Divides a whole number by weights: each gets the floor of its share, and the rest goes to the
/// largest remainders, of equal ones to the first (Hamilton's method). The shares sum to `total`
/// exactly.
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

/// Returns which records of a task fill its quota, as (index, round): the index in `hashes`, which
/// are keyed hashes of the records, and how often the record was taken before.
///
/// A quota up to the number of records takes those with the smallest hashes, so a larger quota
/// contains every smaller one. A quota above it takes all records as often as they fit; the rest is
/// chosen by the smallest hashes of the last round ([`mixed`]).
pub fn select(hashes: &[u64], quota: u64) -> Vec<(usize, u64)> {
    if hashes.is_empty() {
        return Vec::new();
    }
    let (rounds, rest) = (quota / hashes.len() as u64, (quota % hashes.len() as u64) as usize);
    let mut chosen: Vec<(usize, u64)> =
        (0..rounds).flat_map(|round| (0..hashes.len()).map(move |place| (place, round))).collect();
    let mut places: Vec<usize> = (0..hashes.len()).collect();
    let order = |place: &usize| (mixed(hashes[*place], rounds), *place);
    if rest > 0 {
        places.select_nth_unstable_by_key(rest - 1, order);
    }
    places.truncate(rest);
    places.sort_unstable();
    chosen.extend(places.into_iter().map(|place| (place, rounds)));
    chosen
}

/// Returns which records of a task fill a quota of tokens. Records are taken in the order of
/// [`select`] until the sum of their tokens is as near to the quota as possible. It differs by at
/// most half the tokens of a record.
pub fn select_tokens(hashes: &[u64], tokens: &[u64], quota: u64) -> Vec<(usize, u64)> {
    let of_all: u64 = tokens.iter().sum();
    if of_all == 0 {
        return Vec::new();
    }
    let (rounds, rest) = (quota / of_all, quota % of_all);
    let whole = usize::try_from(rounds).unwrap_or(usize::MAX).saturating_mul(hashes.len());
    let mut places: Vec<usize> = (0..hashes.len()).collect();
    places.sort_unstable_by_key(|place| (mixed(hashes[*place], rounds), *place));
    let (mut taken, mut records) = (0, 0);
    for place in places {
        let with = taken + tokens[place];
        // The record that crosses the quota is taken if the sum is nearer with it.
        if with > rest && with - rest >= rest - taken {
            break;
        }
        (taken, records) = (with, records + 1);
        if with >= rest {
            break;
        }
    }
    select(hashes, whole as u64 + records)
}

/// Returns a different hash of a record for each round. Round 0 returns the hash itself.
pub fn mixed(hash: u64, round: u64) -> u64 {
    if round == 0 {
        return hash;
    }
    // The finaliser of splitmix64 (Steele et al. 2014).
    let number = hash ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use lynxdata_prompts::keyed_hash;
    use proptest::prelude::*;

    use super::*;

    fn group(name: &str, weight: f64, tasks: &[&str]) -> Group {
        Group {
            name: name.to_owned(),
            weight,
            tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
            catalogue_groups: Vec::new(),
            inside: Inside::Size,
            most_epochs: None,
            least_share: None,
        }
    }

    fn sizes(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|&(task, size)| (task.to_owned(), size)).collect()
    }

    fn records(groups: &[Group], of: &[(&str, u64)], total: u64) -> BTreeMap<String, u64> {
        let quotas = quotas(groups, &sizes(of), total).unwrap();
        quotas.into_iter().map(|(task, quota)| (task, quota.amount)).collect()
    }

    #[test]
    fn quotas_are_proportional_and_exact() {
        let groups = [group("short", 3.0, &["a", "b"]), group("long", 1.0, &["c"])];
        let of = [("a", 100), ("b", 300), ("c", 5), ("unused", 9)];
        assert_eq!(records(&groups, &of, 400), sizes(&[("a", 75), ("b", 225), ("c", 100)]));
        for total in 0..200 {
            assert_eq!(records(&groups, &of, total).values().sum::<u64>(), total);
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
    fn tasks_of_a_group_share_as_it_says() {
        let of = [("a", 100), ("b", 400)];
        let with = |inside| records(&[Group { inside, ..group("g", 1.0, &["a", "b"]) }], &of, 90);
        assert_eq!(with(Inside::Size), sizes(&[("a", 18), ("b", 72)]));
        assert_eq!(with(Inside::SquareRoot), sizes(&[("a", 30), ("b", 60)]));
        assert_eq!(with(Inside::Temperature(2.0)), with(Inside::SquareRoot));
        let weights = [("a".to_owned(), 8.0), ("b".to_owned(), 1.0)].into_iter().collect();
        assert_eq!(with(Inside::Weights(weights)), sizes(&[("a", 80), ("b", 10)]));
    }

    #[test]
    fn caps_and_least_shares_leave_the_rest_to_the_others() {
        let of = [("a", 10), ("b", 1000), ("c", 90)];
        let capped = Group { most_epochs: Some(1.0), least_share: Some(0.05), ..group("g", 1.0, &["a", "b", "c"]) };
        // By size a would get 1.8 of 200, b 181.8 and c 16.4; a has a right to 10.
        let drawn = records(std::slice::from_ref(&capped), &of, 200);
        assert_eq!(drawn.values().sum::<u64>(), 200);
        assert_eq!(drawn["a"], 10);
        assert!((173..=175).contains(&drawn["b"]), "{drawn:?}");
        // More than there is: everything once, and the total is not reached.
        assert_eq!(records(std::slice::from_ref(&capped), &of, 5000), sizes(&of));
        // What a cap frees goes to the others, also to one that is held at its least share.
        let of = [("small", 50), ("large", 1000)];
        let group = Group { most_epochs: Some(0.1), least_share: Some(0.02), ..group("g", 1.0, &["small", "large"]) };
        assert_eq!(records(&[group], &of, 104), sizes(&[("small", 5), ("large", 99)]));
    }

    proptest! {
        #[test]
        fn shares_keep_to_their_bounds_and_sum_to_what_there_is(
            of in proptest::collection::vec(1_u64..5000, 1..7),
            quota in 0_u64..20_000,
            most_epochs in proptest::option::of(0.1..5.0_f64),
            least in proptest::option::of(0.0..1.0_f64),
            even in any::<bool>(),
        ) {
            let names: Vec<String> = (0..of.len()).map(|place| format!("t{place}")).collect();
            let sizes: BTreeMap<String, u64> = names.iter().cloned().zip(of.iter().copied()).collect();
            let least_share = least.map(|least| least / of.len() as f64);
            let inside = if even { Inside::SquareRoot } else { Inside::Size };
            let own = Group { most_epochs, least_share, inside, tasks: names.clone(), ..group("g", 1.0, &[]) };
            let drawn = quotas(&[own], &sizes, quota).unwrap();
            let most = |size: u64| most_epochs.map_or(u64::MAX, |epochs| (epochs * size as f64) as u64);
            let sum: u64 = drawn.values().map(|quota| quota.amount).sum();
            let most_of_all = of.iter().fold(0_u64, |sum, size| sum.saturating_add(most(*size)));
            prop_assert_eq!(sum, quota.min(most_of_all));
            for (name, size) in &sizes {
                let least = (least_share.unwrap_or(0.0) * quota as f64).floor() as u64;
                prop_assert!(drawn[name].amount <= most(*size));
                prop_assert!(drawn[name].amount >= least.min(most(*size)));
            }
        }
    }

    #[test]
    fn impossible_mixtures_are_refused() {
        let sizes = sizes(&[("a", 1), ("empty", 0)]);
        let fault = |groups: &[Group]| quotas(groups, &sizes, 10).unwrap_err().to_string();
        assert!(fault(&[]).contains("no group"));
        assert!(fault(&[group("g", 0.0, &["a"])]).contains("not above 0"));
        assert!(fault(&[group("g", f64::NAN, &["a"])]).contains("not above 0"));
        assert!(fault(&[group("g", 1.0, &["a", "a"])]).contains("already in a group"));
        assert!(fault(&[group("g", 1.0, &["x"])]).contains("size of task x"));
        assert!(fault(&[group("g", 1.0, &["empty"])]).contains("no records"));
        let cold = Group { inside: Inside::Temperature(0.0), ..group("g", 1.0, &["a"]) };
        assert!(fault(&[cold]).contains("temperature"));
        let own = || group("g", 1.0, &["a", "empty"]);
        let one = || BTreeMap::from([("a".to_owned(), 1.0)]);
        assert!(fault(&[Group { inside: Inside::Weights(one()), ..own() }]).contains("empty has no weight"));
        assert!(fault(&[Group { least_share: Some(0.6), ..own() }]).contains("more than its 2 tasks"));
        assert!(fault(&[Group { most_epochs: Some(-1.0), ..own() }]).contains("most_epochs"));
        assert!(preset("lynx").unwrap_err().to_string().contains("lynx-pretrain"));
    }

    fn hashes(ids: &[String]) -> Vec<u64> {
        ids.iter().map(|id| keyed_hash(7, &["mixture", "t", id])).collect()
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_and_grows_with_the_quota() {
        let ids: Vec<String> = (0..100).map(|id| format!("t/train/{id}")).collect();
        let reversed: Vec<String> = ids.iter().rev().cloned().collect();
        let names = |ids: &[String], quota| -> BTreeSet<String> {
            select(&hashes(ids), quota).into_iter().map(|(place, _)| ids[place].clone()).collect()
        };
        assert_eq!(names(&ids, 30).len(), 30);
        assert_eq!(names(&ids, 30), names(&reversed, 30));
        assert!(names(&ids, 30).is_subset(&names(&ids, 60)));
    }

    #[test]
    fn a_quota_above_the_size_repeats_everything_as_evenly_as_it_can() {
        let ids: Vec<String> = (0..4).map(|id| id.to_string()).collect();
        let mut counts = [0; 4];
        let chosen = select(&hashes(&ids), 10);
        for (place, round) in &chosen {
            assert_eq!(*round, counts[*place], "rounds of a record are counted up");
            counts[*place] += 1;
        }
        counts.sort_unstable();
        assert_eq!(counts, [2, 2, 3, 3]);
        assert_eq!(select(&[], 10), []);
    }

    #[test]
    fn numbers_of_tokens_are_read_with_their_units() {
        for (text, tokens) in [("50M", 50_000_000), ("1.5b", 1_500_000_000), ("2_000", 2000), ("7k", 7000)] {
            assert_eq!(text.parse(), Ok(TokenTotal(tokens)), "{text}");
        }
        for text in ["", "M", "-1M", "0", "50 apples", "1e40", "nan"] {
            assert!(text.parse::<TokenTotal>().unwrap_err().contains("50M"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_quota_of_tokens_is_met_to_half_a_record(
            tokens in proptest::collection::vec(1_u64..200, 1..40), quota in 0_u64..20_000,
        ) {
            let ids: Vec<String> = (0..tokens.len()).map(|id| id.to_string()).collect();
            let chosen = select_tokens(&hashes(&ids), &tokens, quota);
            let drawn: u64 = chosen.iter().map(|(place, _)| tokens[*place]).sum();
            let longest = tokens.iter().max().unwrap();
            prop_assert!(2 * drawn.abs_diff(quota) <= *longest, "{} for {}", drawn, quota);
            // No record is drawn twice before all are drawn once, and more tokens hold fewer.
            let mut times = vec![0_u64; tokens.len()];
            for (place, round) in &chosen {
                prop_assert_eq!(*round, times[*place]);
                times[*place] += 1;
            }
            prop_assert!(times.iter().max().unwrap() - times.iter().min().unwrap() <= 1);
            let more: BTreeSet<_> = select_tokens(&hashes(&ids), &tokens, quota + 50).into_iter().collect();
            let of_all: u64 = tokens.iter().sum();
            if quota / of_all == (quota + 50) / of_all {
                prop_assert!(chosen.iter().all(|own| more.contains(own)));
            }
        }
    }

    #[test]
    fn tasks_belong_to_the_group_that_names_them_or_their_group_of_the_catalogue() {
        let tasks: BTreeMap<String, String> =
            [("vqav2", "vqa"), ("coco_caption", "captioning"), ("alpaca", "text"), ("chartqa", "ocr")]
                .map(|(task, group)| (task.to_owned(), group.to_owned()))
                .into();
        let (groups, left) = assign(&preset("dcvlm-baseline").unwrap().groups, &tasks).unwrap();
        let of: Vec<(&str, &[String])> = groups.iter().map(|group| (group.name.as_str(), &group.tasks[..])).collect();
        let own = |task: &str| vec![task.to_owned()];
        assert_eq!(
            of,
            [
                ("captions", &own("coco_caption")[..]),
                ("instructions", &own("vqav2")[..]),
                ("text", &own("alpaca")[..]),
                ("documents", &own("chartqa")[..])
            ]
        );
        assert!(left.is_empty());
        let (groups, left) = assign(&preset("lynx-finetune").unwrap().groups, &tasks).unwrap();
        assert_eq!(
            (groups.len(), left),
            (1, vec!["alpaca".to_owned(), "chartqa".to_owned(), "coco_caption".to_owned()])
        );
    }

    #[test]
    fn groups_and_tasks_of_shipped_mixtures_are_those_of_the_catalogue() {
        let catalogue = crate::Catalogue::shipped(&lynxdata_prompts::Banks::shipped().unwrap()).unwrap();
        let of_catalogue: BTreeMap<String, String> =
            catalogue.tasks().map(|task| (task.name.clone(), task.group.clone())).collect();
        let known: BTreeSet<&str> = of_catalogue.values().map(String::as_str).chain([ALL_OTHERS]).collect();
        for name in presets() {
            for group in preset(name).unwrap().groups {
                let unknown = group.catalogue_groups.iter().find(|own| !known.contains(own.as_str()));
                assert_eq!(unknown, None, "{name}, group {}", group.name);
                let unknown = group.tasks.iter().find(|task| !of_catalogue.contains_key(*task));
                assert_eq!(unknown, None, "{name}, group {}", group.name);
            }
        }
        let preset = preset("dcvlm-baseline").unwrap();
        let (groups, left) = assign(&preset.groups, &of_catalogue).unwrap();
        let is_for_training = |task: &&String| of_catalogue[*task] != "evaluation";
        assert_eq!(left.iter().filter(is_for_training).collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(left.len() > 5, "tasks of evaluation are in no group");
        let captions = &groups.iter().find(|group| group.name == "captions").unwrap().tasks;
        // Every task whose wordings ask for a caption of a video.
        for task in catalogue.tasks().filter(|task| task.prompts.iter().any(|bank| bank.starts_with("video_caption"))) {
            assert!(captions.contains(&task.name), "{}", task.name);
        }
        assert!(preset.shares().is_empty(), "shares depend on the recipe");
    }

    /// The ratios of table 9 of arXiv 2307.02469 as printed, per cent.
    const TABLE_9: &str = include_str!("../golden/table9.tsv");

    #[test]
    fn the_presets_of_lynx_have_the_ratios_of_table_9() {
        // The sizes in the table are rounded to hundreds; the tolerance is the resulting error of a
        // ratio.
        for (name, column, tolerance) in [("lynx-pretrain", 1, 0.0015), ("lynx-finetune", 2, 0.0005)] {
            let preset = preset(name).unwrap();
            let shares: BTreeMap<&str, f64> = preset.shares().into_iter().collect();
            let mut rows = 0;
            for row in TABLE_9.lines().filter(|row| !row.starts_with('#')) {
                let cells: Vec<&str> = row.split('\t').collect();
                let Ok(printed) = cells[column + 1].parse::<f64>() else {
                    assert!(!shares.contains_key(cells[1]), "{name}: {row}");
                    continue;
                };
                rows += 1;
                let ours = shares[cells[1]] * 100.0;
                assert!((ours - printed).abs() <= tolerance, "{name}, {}: {ours} and {printed}", cells[1]);
            }
            assert_eq!(rows, shares.len(), "{name}");
        }
    }
}
