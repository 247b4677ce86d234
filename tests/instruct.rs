//! Annotated datasets by one command, and your own tasks, wordings and rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Output, files, lynxdata, repository};

fn fixture(task: &str) -> String {
    repository().join("datasets/fixtures").join(task).display().to_string()
}

fn json_list(path: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

fn ids(list: &[Value]) -> BTreeSet<&str> {
    list.iter().map(|sample| sample["id"].as_str().unwrap()).collect()
}

#[test]
fn one_command_makes_a_set_of_several_datasets() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (vqa, vsr) = (format!("vqav2={}#2", fixture("vqav2")), format!("vsr={}:dev", fixture("vsr")));
    let out = folder.join("set");
    let arguments =
        ["instruct", "--task", &vqa, "--task", &vsr, "--to", "llava,swift", "--out", "set", "--seed", "5", "--set"];
    let arguments = [&arguments[..], &["instruct.require_images=false"]].concat();
    let first = lynxdata(folder, &arguments).ended_with(0);
    first.says(&[
        "7 conversations are in the mixture",
        "not drawn",
        "7 records are kept although their images or videos are missing",
    ]);
    let drawn = json_list(&out.join("instruct/llava/vqav2-train.json"));
    let all = json_list(&out.join("mixture/llava.json"));
    assert_eq!((drawn.len(), all.len()), (2, 7));
    assert!(ids(&all).is_superset(&ids(&drawn)));
    assert!(out.join("mixture/swift.jsonl").is_file() && !out.join("mixture/parquet.parquet").exists());

    // The recipe that it wrote gives the same result from another folder.
    lynxdata(folder, &arguments).ended_with(0).says(&["made=0 skipped=2"]);
    lynxdata(&out, &["instruct", "recipe.toml"]).ended_with(0).says(&["made=0 skipped=2"]);
    // A larger draw contains the smaller one.
    let more =
        ["--set", &format!("instruct.tasks=[{{name=\"vqav2\",root={:?},split=\"train\",most=3}}]", fixture("vqav2"))];
    lynxdata(folder, &[&arguments[..], &more[..]].concat()).ended_with(0);
    let more = json_list(&out.join("instruct/llava/vqav2-train.json"));
    assert_eq!(more.len(), 3);
    assert!(ids(&more).is_superset(&ids(&drawn)));
}

#[test]
fn a_split_of_several_parts_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let task = format!("vqav2={}#3", fixture("vqav2"));
    let run = |out: &str, rows: usize| {
        let rows = format!("instruct.rows_per_part={rows}");
        let flags = ["instruct", "--task", &task, "--to", "llava,parquet", "--out", out, "--set"];
        lynxdata(folder, &[&flags[..], &["instruct.require_images=false", "--set", &rows]].concat()).ended_with(0)
    };
    run("one", 1000);
    run("several", 2).says(&["stage instruct done made=2", "stage mixture done made=1"]);
    let (one, several) = (folder.join("one"), folder.join("several"));
    let lines = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let conversations = |run: &Path, name: &str| lines(run.join("instruct/conversations").join(name));
    let first = conversations(&several, "vqav2-train.jsonl");
    let second = conversations(&several, "vqav2-train-00001.jsonl");
    assert_eq!((first.lines().count(), second.lines().count()), (2, 1));
    assert_eq!(first + &second, conversations(&one, "vqav2-train.jsonl"));
    assert_eq!(lines(several.join("mixture/llava.json")), lines(one.join("mixture/llava.json")));
    // If a run ended before its last part, the first part is kept.
    std::fs::remove_file(several.join("instruct/conversations/vqav2-train-00001.jsonl")).unwrap();
    run("several", 2).says(&["stage instruct done made=1 skipped=1", "stage mixture done made=0 skipped=1"]);
    assert_eq!(conversations(&several, "vqav2-train-00001.jsonl"), second);
    // Three rows in parts of two: both parts are kept, and there is no third.
    let planned = lynxdata(folder, &["instruct", "several/recipe.toml", "--dry-run"]).ended_with(0).stdout;
    assert!(planned.contains("every part is there"), "{planned}");
}

#[test]
fn splits_that_are_named_like_parts_keep_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("own")).unwrap();
    let row = |text: &str| json!({"instruction": text, "input": "", "output": "Yes."});
    let write = |split: &str, rows: &[Value]| {
        std::fs::write(folder.join(format!("own/{split}.json")), Value::from(rows).to_string()).unwrap();
    };
    write("big", &[row("a"), row("b"), row("c")]);
    write("big-00001", &[row("d")]);
    let flags = ["instruct", "--task", "alpaca=own:big", "--task", "alpaca=own:big-00001", "--to", "llava", "--out"];
    let flags = [&flags[..], &["set", "--set", "instruct.rows_per_part=2"]].concat();
    lynxdata(folder, &flags).ended_with(0).says(&["4 conversations", "made=3"]);
    let rows = |part: &str| json_list(&folder.join(format!("set/instruct/llava/alpaca-{part}.json"))).len();
    assert_eq!((rows("big"), rows("big-00001"), rows("big-00001-0")), (2, 1, 1));
    assert_eq!(json_list(&folder.join("set/mixture/llava.json")).len(), 4);
    lynxdata(folder, &flags).ended_with(0).says(&["made=0 skipped=3"]);
    let twice = ["instruct", "--task", "alpaca=own:big", "--task", "alpaca=own:big", "--out", "twice"];
    lynxdata(folder, &twice).ended_with(2).says(&["names split \"big\" of \"alpaca\" twice"]);
}

#[test]
fn a_task_that_loses_too_much_ends_with_code_3_and_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let images = repository().join("examples/quickstart/images");
    let is_jpeg = |name: &&String| Path::new(name).extension().is_some_and(|suffix| suffix == "jpg");
    let picture = images.join(files(&images).iter().find(is_jpeg).unwrap());
    let mut rows = String::new();
    for number in 0..20 {
        let link = format!("http://x.example/train2017/{number}.jpg");
        rows += &json!({"image_link": link, "caption": format!("It is {number}."), "label": 1}).to_string();
        rows.push('\n');
    }
    for root in ["none", "few"] {
        std::fs::create_dir_all(folder.join(root).join("train2017")).unwrap();
        std::fs::write(folder.join(root).join("dev.jsonl"), &rows).unwrap();
    }
    for number in 0..4 {
        std::fs::copy(&picture, folder.join(format!("few/train2017/{number}.jpg"))).unwrap();
    }
    let last = |output: &Output| output.stderr.lines().last().unwrap_or_default().to_owned();
    // One task, most of whose images are missing.
    let few = ["instruct", "--task", "vsr=few:dev", "--to", "llava", "--out", "few_set"];
    let told = lynxdata(folder, &few).ended_with(3);
    assert!(last(&told).contains("task vsr-dev: 80 % of its records were dropped, more than 50 % (missing_image 16)"));
    assert_eq!(json_list(&folder.join("few_set/mixture/llava.json")).len(), 4, "everything is written");
    lynxdata(folder, &few).ended_with(3).says(&["made=0 skipped=1"]);
    let allowed = "instruct.tasks=[{ name = \"vsr\", root = \"few\", split = \"dev\", may_drop = 0.8 }]";
    std::fs::copy(folder.join("few_set/recipe.toml"), folder.join("recipe.toml")).unwrap();
    let set = ["instruct", "recipe.toml", "--set", allowed, "--set", "output=\"few_set\""];
    lynxdata(folder, &set).ended_with(0).says(&["made=0 skipped=1"]);
    // Several tasks, of which one keeps nothing.
    let text = json!([{"instruction": "Say yes.", "input": "", "output": "Yes."}]);
    std::fs::write(folder.join("none/alpaca_data.json"), text.to_string()).unwrap();
    let mix =
        ["instruct", "--task", "alpaca=none:alpaca_data", "--task", "vsr=none:dev", "--to", "llava", "--out", "mix"];
    let told = lynxdata(folder, &mix).ended_with(3);
    assert!(
        last(&told).contains("task vsr-dev: none of 20 records became a conversation (missing_image 20)"),
        "{told}"
    );
    lynxdata(folder, &[&mix[..], &["--set", "instruct.require_images=false"]].concat()).ended_with(0);
    // It is the same if there is no other task.
    let told =
        lynxdata(folder, &["instruct", "--task", "vsr=none:dev", "--to", "llava", "--out", "sole"]).ended_with(3);
    assert!(last(&told).contains("task vsr-dev: none of 20 records became a conversation (missing_image 20)"));
    let listed = std::fs::read_to_string(folder.join("sole/instruct/left_out/vsr-dev.jsonl")).unwrap();
    assert_eq!(listed.lines().count(), 20);
    // The check ends in the same way.
    let check = |root: &str, more: &[&str]| {
        lynxdata(folder, &[&["tasks", "check", "vsr", root, "--split", "dev"], more].concat())
    };
    assert!(check("few", &[]).ended_with(3).stdout.starts_with("split dev: 4 of 20 records can be used"));
    assert!(check("none", &[]).ended_with(1).stdout.starts_with("split dev: 0 of 20 records can be used"));
    assert!(check("none", &["--without-images"]).ended_with(0).stdout.starts_with("split dev: 20 of 20 records"));
}

#[test]
fn records_that_are_not_printed_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = json!({"instruction": "Say yes.", "input": "", "output": "Yes."});
    let rows = |good_rows: usize, bad_rows: usize| {
        let all = vec![good.clone(); good_rows].into_iter().chain(vec![json!({"instruction": {"a": 1}}); bad_rows]);
        std::fs::write(folder.join("own.json"), Value::from(all.collect::<Vec<_>>()).to_string()).unwrap();
    };
    let read = || lynxdata(folder, &["tasks", "read", "alpaca", ".", "--split", "own", "--json"]);
    let check = || lynxdata(folder, &["tasks", "check", "alpaca", ".", "--split", "own"]);
    rows(1, 1);
    let told = read().ended_with(0).says(&["left out for field:instruction", "rows=1 of=2"]);
    assert_eq!(told.stdout.lines().count(), 1);
    check().ended_with(0);
    rows(2, 18);
    let told = read().ended_with(1).says(&["left out for field:instruction", "90 % of its records were dropped"]);
    assert_eq!(told.stdout.lines().count(), 2);
    check().ended_with(1);
}

#[test]
fn a_draw_of_more_than_there_is_tells_how_many_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let task = format!("vsr={}#1000", fixture("vsr"));
    let arguments = ["instruct", "--task", &task, "--out", "set", "--set", "instruct.require_images=false"];
    lynxdata(folder.path(), &arguments).ended_with(0).says(&["has 5 conversations, fewer than the 1,000 requested"]);
}

#[test]
fn ready_made_sets_keep_their_system_messages_and_move_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("own")).unwrap();
    let rows = [
        json!({"system": "Be a pirate.", "query": "Hello", "response": "Arr."}),
        json!({"query": "<image>What?", "response": "A kite.", "images": ["1.jpg"]}),
        json!({"query": "<image>What?", "response": "A kite.", "images": null}),
        json!({"query": "<image>And this?", "response": "b", "history": [["<image>This?", "a"]], "images": ["1.jpg", "2.jpg"]}),
        json!({"query": "<image>a <image>b?", "response": "r", "images": ["1.jpg", "1.jpg"]}),
    ];
    std::fs::write(folder.join("own/train.jsonl"), rows.each_ref().map(Value::to_string).join("\n")).unwrap();
    let flags =
        ["instruct", "--task", "swift_jsonl=own", "--to", "llava,messages,sharegpt,swift,verl,cauldron", "--out"];
    let flags = [&flags[..], &["set", "--set", "instruct.require_images=false"]].concat();
    let told = lynxdata(folder, &flags).ended_with(0);
    told.says(&["left out for missing_image", "left out for image_place", "rows=2 of=5"]);
    let file = |name: &str| std::fs::read_to_string(folder.join("set/instruct").join(name)).unwrap();
    let first = |name: &str| -> Value {
        let text = file(name);
        serde_json::from_str::<Value>(&text)
            .map_or_else(|_| serde_json::from_str(text.lines().next().unwrap()).unwrap(), |list| list[0].clone())
    };
    assert_eq!(first("sharegpt/swift_jsonl-train.json")["system"], "Be a pirate.");
    // LLaVA has no place for it but the first question.
    let asked = first("llava/swift_jsonl-train.json")["conversations"][0]["value"].as_str().unwrap().to_owned();
    assert!(asked.starts_with("Be a pirate.\n\n") && asked.ends_with("Hello"), "{asked}");
    let messages = first("messages/swift_jsonl-train.jsonl")["messages"].clone();
    assert_eq!((&messages[0]["role"], &messages[0]["content"][0]["text"]), (&json!("system"), &json!("Be a pirate.")));
    assert_eq!(first("swift/swift_jsonl-train.jsonl")["messages"][0]["content"], "Be a pirate.");
    assert_eq!(file("conversations/swift_jsonl-train.jsonl").lines().count(), 2);
    let checked =
        lynxdata(folder, &["tasks", "check", "swift_jsonl", "own", "--without-images", "--json"]).ended_with(0).json();
    assert_eq!(checked[0]["counts"]["dropped"], json!({"image_place": 2, "missing_image": 1}));
    assert_eq!(checked[0]["media"], json!({"wanted": 1, "missing": 1, "example": "1.jpg"}));
}

#[test]
fn ids_of_more_than_64_bits_keep_their_digits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("vqa")).unwrap();
    let (questions, answers): (Vec<String>, Vec<String>) = (11..14)
        .map(|id| {
            let id = format!("\"question_id\": 200000000000000000000000000{id}");
            let question = format!("{{{id}, \"image_id\": 1, \"question\": \"What?\"}}");
            (question, format!("{{{id}, \"multiple_choice_answer\": \"net\"}}"))
        })
        .unzip();
    let write = |name: &str, key: &str, rows: &[String]| {
        std::fs::write(folder.join("vqa").join(name), format!("{{\"{key}\": [{}]}}", rows.join(", "))).unwrap();
    };
    write("v2_OpenEnded_mscoco_train2014_questions.json", "questions", &questions);
    write("v2_mscoco_train2014_annotations.json", "annotations", &answers);
    let read = lynxdata(folder, &["tasks", "read", "vqav2", "vqa", "--json"]).ended_with(0).stdout;
    let ids: Vec<String> = read
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, [11, 12, 13].map(|id| format!("vqav2/train/200000000000000000000000000{id}")));
    let set = "[{\"id\": 20000000000000000000000000011, \"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, \
               {\"from\": \"gpt\", \"value\": \"b\"}]}, {\"id\": 20000000000000000000000000012, \"conversations\": \
               [{\"from\": \"human\", \"value\": \"c\"}, {\"from\": \"gpt\", \"value\": \"d\"}]}]";
    std::fs::write(folder.join("set.json"), set).unwrap();
    let told = lynxdata(folder, &["audit", "set.json", "--model", "qwen2.5-vl", "--json"]).json();
    assert_eq!((&told["records"], told["broken"].get("duplicate_id")), (&json!(2), None), "{told}");
}

#[test]
fn a_set_without_records_is_a_failure_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("own")).unwrap();
    for (rows, code, said) in [
        ("[]", 3, "have no records"),
        (r#"[{"instruction": "Look at <image>.", "input": "", "output": "Yes."}]"#, 1, "image_token 1"),
    ] {
        std::fs::write(folder.join("own/alpaca_data.json"), rows).unwrap();
        let checked = lynxdata(folder, &["tasks", "check", "alpaca", "own"]).ended_with(1).stdout;
        assert!(checked.contains(said), "{checked}");
        lynxdata(folder, &["tasks", "preview", "alpaca", "own"]).ended_with(1).says(&[said]);
        lynxdata(folder, &["instruct", "--task", "alpaca=own", "--out", "set"]).ended_with(code).says(&[said]);
    }
    std::fs::write(folder.join("own/alpaca_data.json"), "[]").unwrap();
    lynxdata(folder, &["tasks", "read", "alpaca", "own"]).ended_with(1).says(&["have no records"]);
}

#[test]
fn wrong_flags_say_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (vsr, vqa) = (fixture("vsr"), fixture("vqav2"));
    for (task, said) in [
        ("vsr".to_owned(), "expected NAME=DIR, as in vqav2=~/vqa"),
        ("vsr=nowhere".to_owned(), "nowhere does not exist"),
        (format!("vssr={vsr}"), "did you mean \"vsr\"?"),
        (format!("vsr={vsr}:train2"), "task vsr has no split train2; it has "),
        (format!("vsr={vqa}"), "lynxdata tasks check vsr"),
        (format!("vsr={vsr}:train2"), "train2.jsonl"),
        (format!("vqav2={vqa}:train2"), "task vqav2 has no split train2; it has "),
        (format!("vsr={vsr}#0"), "#0 takes no record"),
    ] {
        lynxdata(folder.path(), &["instruct", "--task", &task, "--out", "set"]).ended_with(2).says(&[said]);
    }
    let vsr = format!("vsr={vsr}");
    let wrong = |more: &[&str], said: &str| {
        lynxdata(folder.path(), &[&["instruct", "--task", &vsr, "--out", "set"], more].concat())
            .ended_with(2)
            .says(&[said]);
    };
    wrong(&["--to", "llavva"], "a similar value exists: 'llava'");
    wrong(&["--images", "gqa=."], "no --task is named gqa");
    wrong(
        &["--images", "vsr=.", "--images", "vsr=/"],
        "--images vsr=/: another --images already names a folder for vsr",
    );
    wrong(&["--mixture", "lynx"], "lynx-finetune");
    assert!(!folder.path().join("set").exists(), "nothing was begun");
}

#[test]
fn a_file_of_any_name_is_a_split_of_a_task_that_names_its_file_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("lj")).unwrap();
    let row =
        r#"[{"id": "x", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}]"#;
    std::fs::write(folder.join("lj/plain.json"), row).unwrap();
    let flags = |task| ["instruct", "--task", task, "--to", "llava", "--out", "set"];
    lynxdata(folder, &flags("llava_json=lj:plain")).ended_with(0).says(&["1 conversations"]);
    assert_eq!(json_list(&folder.join("set/instruct/llava/llava_json-plain.json")).len(), 1);
    let absent = lynxdata(folder, &flags("llava_json=lj:other")).ended_with(2);
    absent.says(&["it has blip_laion_cc_sbu_558k, llava_v1_5_mix665k", "other.json"]);
    let shown = lynxdata(folder, &["tasks", "show", "llava_json"]).ended_with(0).stdout;
    assert!(shown.contains("or any other name: the split is the name of the file {split}.json"), "{shown}");
}

#[test]
fn flags_do_not_replace_a_recipe_that_was_edited() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (task, path) = (format!("alpaca={}", fixture("alpaca")), folder.join("set/recipe.toml"));
    let flags = |more: &[&str]| {
        let flags = ["instruct", "--task", &task, "--to", "llava", "--out", "set"];
        lynxdata(folder, &[&flags[..], more].concat())
    };
    let refused = flags(&["--licence", "commercial"]).ended_with(2);
    refused.says(&["instruct.licence = \"commercial\" leaves out alpaca (CC-BY-NC-4.0)"]);
    assert!(!folder.join("set").exists());
    flags(&[]).ended_with(0);
    flags(&["--seed", "1"]).ended_with(0);
    let edited = std::fs::read_to_string(&path).unwrap().replace("seed = 1", "seed = 2");
    std::fs::write(&path, &edited).unwrap();
    for more in [&[][..], &["--seed", "2"]] {
        flags(more).ended_with(2).says(&["set/recipe.toml was edited", "lynxdata run", "remove it to use the flags"]);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), edited);
    lynxdata(folder, &["run", "set/recipe.toml"]).ended_with(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), edited);
    std::fs::remove_file(&path).unwrap();
    flags(&[]).ended_with(0);
}

#[test]
fn formats_that_are_no_longer_asked_for_leave_no_folders() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let task = format!("alpaca={}", fixture("alpaca"));
    let run = |to| lynxdata(folder, &["instruct", "--task", &task, "--to", to, "--out", "set"]).ended_with(0);
    run("parquet,energon,webdataset,sharegpt");
    run("llava");
    let names = std::fs::read_dir(folder.join("set/instruct")).unwrap();
    let names: BTreeSet<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        names,
        BTreeSet::from(["README.md", "conversations", "counts", "croissant.json", "llava"].map(str::to_owned))
    );
    assert!(!folder.join("set/mixture/energon").exists() && !folder.join("set/mixture/.nv-meta").exists());
    lynxdata(folder, &["audit", "set/instruct", "--model", "lynx"]).ended_with(0);
}

#[test]
fn tasks_wordings_rules_and_shares_may_be_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let own = repository().join("examples/own");
    let path = |name: &str| own.join(name).display().to_string();
    let preview =
        ["tasks", "preview", "pet_owner", &path("data"), "--catalogue", &path("tasks"), "--banks", &path("banks")];
    let shown = lynxdata(folder, &preview).ended_with(0).stdout;
    assert!(shown.contains("pet_owner/"), "{shown}");
    let task = format!("pet_breed={}#4", path("data"));
    let images = format!("pet_breed={}", repository().join("examples/quickstart/images").display());
    let flags = ["instruct", "--task", &task, "--images", &images, "--to", "llava", "--out", "set"];
    lynxdata(folder, &flags).ended_with(2).says(&["there is no task `pet_breed`"]);
    let (tasks, banks) = (path("tasks"), path("banks"));
    let flags = [&flags[..], &["--catalogue", &tasks, "--banks", &banks]].concat();
    lynxdata(folder, &flags).ended_with(0).says(&["4 conversations are in the mixture"]);
    let both = ["instruct", &path("recipe.toml"), "--catalogue", &path("tasks")];
    lynxdata(folder, &both).ended_with(2).says(&["--catalogue and --banks belong to --task"]);
    let output = format!("output={:?}", folder.join("run"));
    lynxdata(folder, &["run", &path("recipe.toml"), "--set", &output]).ended_with(0);
    let set = json_list(&folder.join("run/mixture/llava.json"));
    let of = |task: &str| set.iter().filter(|sample| sample["task"] == task).count();
    assert_eq!((of("pet_breed"), of("pet_owner")), (15, 5));
    let status = lynxdata(folder, &["status", "run"]).ended_with(0).stdout;
    assert!(status.contains("not_a_strip"), "{status}");
}
