//! Mixtures of tasks: the drawn set must equal the plan.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{lynxdata, repository, table, texts};

fn write_recipe(folder: &Path, mixture: &str) {
    let fixtures = repository().join("datasets/fixtures");
    let root = |task: &str| fixtures.join(task).display().to_string();
    let recipe = format!(
        r#"
output = "run"
seed = 3
[instruct]
require_images = false
tasks = [
    {{ name = "vqav2", root = "{}", split = "train" }},
    {{ name = "vsr", root = "{}", split = "dev" }},
    {{ name = "coco_caption", root = "{}", split = "val2017" }},
]
[instruct.mixture]
{mixture}
"#,
        root("vqav2"),
        root("vsr"),
        root("coco_caption"),
    );
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
}

const GROUPS: &str = r#"
total = 24
groups = [
    { name = "questions", weight = 1, tasks = ["vqav2", "vsr"] },
    { name = "captions", weight = 3, catalogue_groups = ["captioning"] },
]
"#;

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_mixture_draws_what_its_plan_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_recipe(folder, GROUPS);
    lynxdata(folder, &["mixture", "plan", "recipe.toml"]).ended_with(1).says(&["lynxdata instruct recipe.toml"]);
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&["24 conversations are in the mixture"]);
    let plan = lynxdata(folder, &["mixture", "plan", "recipe.toml", "--json"]).ended_with(0).json();
    let set = lines(&folder.join("run/mixture/conversations.jsonl"));
    let mut drawn: BTreeMap<&str, u64> = BTreeMap::new();
    for conversation in &set {
        *drawn.entry(conversation["task"].as_str().unwrap()).or_default() += 1;
    }
    let planned: BTreeMap<&str, u64> = plan
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["task"].as_str().unwrap(), row["records"].as_u64().unwrap()))
        .collect();
    assert_eq!(drawn, planned);
    assert_eq!((drawn["coco_caption"], drawn.values().sum::<u64>()), (18, 24));
    // Repeats have their own ids; tasks are shuffled; paths of images begin with their task.
    let ids: std::collections::BTreeSet<&str> = set.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 24);
    assert!(ids.iter().any(|id| id.starts_with("coco_caption#2/val2017/")));
    assert!(set[..12].iter().any(|line| line["task"] != "coco_caption"), "captions alone come first");
    let path = set.iter().find(|line| line["task"] == "vsr").unwrap()["images"][0]["path"].as_str().unwrap();
    assert!(path.starts_with("vsr-dev/"), "{path}");
    let parquet = table(&folder.join("run/mixture"), &["id"]);
    assert_eq!(texts(&parquet, "id"), set.iter().map(|line| line["id"].as_str().unwrap()).collect::<Vec<_>>());
    assert_eq!(std::fs::read_to_string(folder.join("run/mixture/llava.json")).unwrap().matches("\"id\"").count(), 24);

    // A larger total contains the records of the smaller one; the tasks are not made again.
    let larger = ["instruct", "recipe.toml", "--set", "instruct.mixture.total=28"];
    lynxdata(folder, &larger).ended_with(0).says(&["stage instruct done made=0 skipped=3"]);
    let larger = lines(&folder.join("run/mixture/conversations.jsonl"));
    assert!(ids.iter().all(|id| larger.iter().any(|line| line["id"] == *id)));
}

#[test]
fn a_mixture_of_tokens_shares_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let tokenizer = repository().join("budgets/golden/tokenizer.json");
    let groups = GROUPS.replace("total = 24", "tokens = \"0.004M\"");
    write_recipe(folder, &groups);
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(2).says(&["instruct.mixture.tokenizer"]);
    write_recipe(folder, &format!("{groups}tokenizer = \"{}\"\n", tokenizer.display()));
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0);
    let plan = lynxdata(folder, &["mixture", "plan", "recipe.toml", "--json"]).ended_with(0).json();
    let plan = plan.as_array().unwrap();
    let of = |task: &str, key: &str| {
        let row = plan.iter().find(|row| row["task"] == task).unwrap();
        row[key].as_u64().unwrap_or_else(|| panic!("{key} of {row}"))
    };
    // Three quarters of 4,000 are captions, to half a record of at most 80 tokens.
    assert!(of("coco_caption", "tokens").abs_diff(3000) <= 40, "{plan:?}");
    let all: u64 = plan.iter().map(|row| row["tokens"].as_u64().unwrap()).sum();
    assert!(all.abs_diff(4000) <= 120, "{plan:?}");
    // The others share by their tokens.
    let share = |key| of("vqav2", key) as f64 / (of("vqav2", key) + of("vsr", key)) as f64;
    assert!((share("tokens") - share("tokens_there")).abs() < 0.05, "{plan:?}");
    let set = lines(&folder.join("run/mixture/conversations.jsonl"));
    for row in plan {
        assert_eq!(row["records"], set.iter().filter(|line| line["task"] == row["task"]).count(), "{row}");
    }
    let audited = ["audit", "run/mixture/conversations.jsonl", "--model", "lynx", "--json", "--tokenizer"];
    let audited = lynxdata(folder, &[&audited[..], &[tokenizer.to_str().unwrap()]].concat()).json();
    assert_eq!(audited["text_tokens"], all, "an audit counts the same tokens");
    let told = lynxdata(folder, &["mixture", "plan", "recipe.toml"]).ended_with(0).stdout;
    assert!(told.contains("tokens drawn") && told.contains("tokens of text"), "{told}");
    let told = ["mixture", "plan", "recipe.toml", "--tokens", "many"];
    lynxdata(folder, &told).ended_with(2).says(&["50M"]);
}

#[test]
fn a_plan_knows_the_groups_of_own_tasks_and_tells_what_no_group_has() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_recipe(folder, "groups = [{ name = \"own\", weight = 1, catalogue_groups = [\"reasoning\"] }]");
    std::fs::create_dir(folder.join("own")).unwrap();
    let own = "extends = \"vqav2\"\nname = \"own_vqa\"\ngroup = \"reasoning\"\n";
    std::fs::write(folder.join("own/own_vqa.toml"), own).unwrap();
    let recipe = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    let recipe =
        recipe.replace("[instruct]\n", "[instruct]\ncatalogue = \"own\"\n").replace("\"vqav2\",", "\"own_vqa\",");
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&["task coco_caption is in no group"]);
    let set = lines(&folder.join("run/mixture/conversations.jsonl"));
    let plan = lynxdata(folder, &["mixture", "plan", "recipe.toml", "--json"]).ended_with(0).json();
    let tasks: Vec<&str> = plan.as_array().unwrap().iter().map(|row| row["task"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["own_vqa", "vsr"]);
    for row in plan.as_array().unwrap() {
        let drawn = set.iter().filter(|line| line["task"] == row["task"]).count();
        assert_eq!(row["records"], drawn, "{row}");
    }
    let told = lynxdata(folder, &["mixture", "plan", "recipe.toml"]).ended_with(0).stdout;
    assert!(told.contains("in no group, so left out: coco_caption"), "{told}");
}

#[test]
fn mixtures_that_cannot_be_are_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (mixture, said) in [
        ("preset = \"lynx\"", "the mixtures are: "),
        ("preset = \"lynx-finetune\"\ngroups = [{ name = \"a\", weight = 1 }]", "leave out one of them"),
        (
            "groups = [{ name = \"a\", weight = 1, tasks = [\"vqav2\", \"vsrr\"] }]",
            "group a: there is no task \"vsrr\"; did you mean \"vsr\"?",
        ),
        (
            "groups = [{ name = \"a\", weight = 1, tasks = [\"vsr\"], inside = { weights = { vsr = 1, foo = 1 } } }]",
            "there is no task \"foo\"",
        ),
    ] {
        write_recipe(folder, mixture);
        lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(2).says(&[said]);
    }
}

#[test]
fn the_presets_of_the_paper_are_printed_with_its_ratios() {
    let folder = tempfile::tempdir().unwrap();
    let shares =
        lynxdata(folder.path(), &["mixture", "plan", "--preset", "lynx-finetune", "--json"]).ended_with(0).json();
    let vqav2 = shares.as_array().unwrap().iter().find(|share| share["task"] == "vqav2").unwrap();
    assert_eq!(*vqav2, serde_json::json!({"task": "vqav2", "paper_row": 18, "size": 443_800, "ratio_percent": 3.449}));
    assert_eq!(shares.as_array().unwrap().len(), 32, "rows of the finetuning column");
    assert!(shares.as_array().unwrap().iter().all(|share| !share["paper_row"].is_null()), "{shares}");
}
