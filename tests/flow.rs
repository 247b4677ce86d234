//! All stages from a list to the report; the counts of all tables must add up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use arrow::array::{Array, AsArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::machine::shared;
use crate::runs::{Run, bundled_pictures, large, small, write_small};
use crate::support::{files, flags, integers, lists, lynxdata, repository, sha256, status, table, texts};
use crate::web::Web;

#[test]
fn the_bundled_pictures_go_through_all_stages() {
    assert_all_adds_up(small());
}

#[test]
fn real_pairs_from_a_rude_web_go_through_all_stages() {
    let Some(run) = large() else { return };
    assert_all_adds_up(run);
    assert_sizes_are_those_of_the_list(run);
    let (pool, copies) = (table(&run.path().join("pool"), &["sha256"]), copies_in("openclipart/", run));
    assert!(copies.len() > 100, "openclipart holds many pictures twice, not {}", copies.len());
    let digests = texts(&pool, "sha256");
    for digest in &copies {
        assert!(digests.iter().filter(|other| *other == digest).count() > 1, "both copies of {digest} are in the pool");
    }
}

/// Checks every table against the list, the files and every other table.
fn assert_all_adds_up(run: &Run) {
    assert_every_row_has_its_status(run);
    assert_the_pool_holds_the_good_rows(run);
    assert_signals_and_clusters_follow_the_pool(run);
    assert_identical_files_are_one_cluster(run);
    assert_selections_say_why(run);
    assert_shards_hold_the_kept_rows(run);
    assert_instructions_add_up(run);
    assert_the_verdict_is_a_sentence(run);
    assert_the_report_agrees(run);
    assert_every_file_is_in_the_manifest(run);
}

fn count<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}

fn counts(value: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn assert_every_row_has_its_status(run: &Run) {
    let log = table(&run.path().join("download-log"), &[]);
    let numbers: Vec<usize> = integers(&log, "row").into_iter().map(|row| usize::try_from(row).unwrap()).collect();
    assert_eq!(numbers, (0..run.rows.len()).collect::<Vec<_>>(), "every row once, in order");
    let (statuses, urls, details) = (texts(&log, "status"), texts(&log, "url"), texts(&log, "detail"));
    let surprises: Vec<String> = (0..run.rows.len())
        .filter(|row| statuses[*row] != run.rows[*row].expected || urls[*row] != run.rows[*row].url)
        .map(|row| {
            format!("row {row} {}: {} ({}), not {}", urls[row], statuses[row], details[row], run.rows[row].expected)
        })
        .collect();
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert_eq!(counts(&run.status["download"]["by_status"]), count(statuses), "the status counts what the table says");
    assert_eq!(run.stage("download")["rows_in"], run.rows.len());
    let uids: BTreeSet<String> = texts(&log, "uid").into_iter().collect();
    assert_eq!(uids.len(), run.rows.len(), "every row has a key of its own");
}

fn assert_the_pool_holds_the_good_rows(run: &Run) {
    let (log, pool) = (table(&run.path().join("download-log"), &[]), table(&run.path().join("pool"), &[]));
    let statuses = texts(&log, "status");
    let good: Vec<usize> = (0..run.rows.len()).filter(|row| statuses[*row] == "ok").collect();
    assert_eq!(run.stage("download")["rows_out"], good.len());
    let of_good = |column: &str| -> Vec<String> {
        let values = texts(&log, column);
        good.iter().map(|row| values[*row].clone()).collect()
    };
    assert_eq!(texts(&pool, "uid"), of_good("uid"), "the same pairs in the same order");
    assert_eq!(texts(&pool, "url"), of_good("url"));
    assert_eq!(texts(&pool, "caption"), good.iter().map(|row| run.rows[*row].caption.clone()).collect::<Vec<_>>());
    for (row, digest) in good.iter().zip(texts(&pool, "sha256")) {
        let Some(file) = &run.rows[*row].file else { continue };
        assert_eq!(digest, sha256(&std::fs::read(file).unwrap()), "{}", file.display());
    }
    let bytes = pool.column_by_name("image").unwrap().as_struct().column_by_name("bytes").unwrap().as_binary::<i32>();
    let lengths: Vec<i64> = bytes.iter().map(|bytes| i64::try_from(bytes.unwrap().len()).unwrap()).collect();
    assert_eq!(integers(&pool, "bytes"), lengths, "the column says how many bytes the picture has");
}

/// Checks that width and height as served are those of the list, and that the stored shorter side
/// is at most 256 with the same shape.
fn assert_sizes_are_those_of_the_list(run: &Run) {
    let pool = table(&run.path().join("pool"), &["uid", "width", "height", "original_width", "original_height"]);
    let log = table(&run.path().join("download-log"), &["uid"]);
    let row_of: BTreeMap<String, usize> = texts(&log, "uid").into_iter().zip(0..).collect();
    let [width, height, original_width, original_height] =
        ["width", "height", "original_width", "original_height"].map(|column| integers(&pool, column));
    for (index, uid) in texts(&pool, "uid").iter().enumerate() {
        let row = &run.rows[row_of[uid]];
        let Some(size) = row.size else { continue };
        assert_eq!((original_width[index], original_height[index]), size, "{}", row.url);
        let [short, long] = [size.0.min(size.1), size.0.max(size.1)];
        let stored = [width[index].min(height[index]), width[index].max(height[index])];
        assert_eq!(stored[0], short.min(256), "{}", row.url);
        let exact = long as f64 * stored[0] as f64 / short as f64;
        assert!((stored[1] as f64 - exact).abs() <= 1.0, "{}: {stored:?} of {size:?}", row.url);
    }
}

fn assert_signals_and_clusters_follow_the_pool(run: &Run) {
    let pool = table(&run.path().join("pool"), &["uid", "caption", "width", "height"]);
    let [captions, pictures, hashes] =
        ["caption", "picture", "hashes"].map(|group| table(&run.path().join("signals").join(group), &[]));
    let clusters = table(&run.path().join("clusters"), &[]);
    let uids = texts(&pool, "uid");
    for rows in [&captions, &pictures, &hashes, &clusters] {
        assert_eq!(texts(rows, "uid"), uids);
    }
    for stage in ["signals", "dedup"] {
        assert_eq!(run.stage(stage)["rows_in"], uids.len(), "{stage}");
        assert_eq!(run.stage(stage)["rows_out"], uids.len(), "{stage}");
    }
    assert_eq!(integers(&pictures, "width"), integers(&pool, "width"));
    assert_eq!(integers(&pictures, "height"), integers(&pool, "height"));
    let characters: Vec<i64> =
        texts(&pool, "caption").iter().map(|text| i64::try_from(text.chars().count()).unwrap()).collect();
    assert_eq!(integers(&captions, "caption_characters"), characters);
    assert!(texts(&hashes, "phash").iter().all(|hash| hash.len() == 16), "every stored picture can be hashed");

    let cluster = texts(&clusters, "cluster");
    let sizes = count(&cluster);
    let announced: Vec<u64> =
        integers(&clusters, "cluster_size").iter().map(|size| u64::try_from(*size).unwrap()).collect();
    assert_eq!(announced, cluster.iter().map(|cluster| sizes[cluster]).collect::<Vec<_>>());
    let known: BTreeSet<&String> = uids.iter().collect();
    assert!(cluster.iter().all(|cluster| known.contains(cluster)), "a cluster is named after one of the pairs");
    for (size, matched_by) in announced.iter().zip(lists(&clusters, "matched_by")) {
        assert_eq!(*size > 1, !matched_by.is_empty(), "who is not alone is matched by something");
    }
}

fn assert_identical_files_are_one_cluster(run: &Run) {
    let pool = table(&run.path().join("pool"), &["url", "sha256"]);
    let clusters = table(&run.path().join("clusters"), &[]);
    let (digests, cluster, matched_by) =
        (texts(&pool, "sha256"), texts(&clusters, "cluster"), lists(&clusters, "matched_by"));
    let (copies, urls) = (count(&digests), texts(&pool, "url"));
    let same_url = count(&urls);
    let mut cluster_of: BTreeMap<&String, &String> = BTreeMap::new();
    for (row, digest) in digests.iter().enumerate() {
        assert_eq!(
            *cluster_of.entry(digest).or_insert(&cluster[row]),
            &cluster[row],
            "copies of {} are apart",
            urls[row]
        );
        assert_eq!(
            copies[digest] > 1,
            matched_by[row].iter().any(|by| by == "exact"),
            "{}: {:?}",
            urls[row],
            matched_by[row]
        );
        assert_eq!(
            same_url[&urls[row]] > 1,
            matched_by[row].iter().any(|by| by == "url"),
            "{}: {:?}",
            urls[row],
            matched_by[row]
        );
    }
}

/// Returns the digests that several files of a folder of the list share.
fn copies_in(folder: &str, run: &Run) -> BTreeSet<String> {
    let of_folder: BTreeSet<&Path> =
        run.rows.iter().filter(|row| row.url.contains(folder)).filter_map(|row| row.file.as_deref()).collect();
    let digests = count(of_folder.iter().map(|file| sha256(&std::fs::read(file).unwrap())));
    digests.into_iter().filter(|(_, files)| *files > 1).map(|(digest, _)| digest).collect()
}

fn assert_selections_say_why(run: &Run) {
    let uids = texts(&table(&run.path().join("pool"), &["uid"]), "uid");
    let cluster = texts(&table(&run.path().join("clusters"), &[]), "cluster");
    for (name, summary) in run.status["selections"].as_object().unwrap() {
        let selection = table(&run.path().join("selection").join(name), &[]);
        assert_eq!(texts(&selection, "uid"), uids, "{name}");
        let (kept, rejected_by) = (flags(&selection, "kept"), lists(&selection, "rejected_by"));
        for (kept, rejected_by) in kept.iter().zip(&rejected_by) {
            assert_eq!(*kept, rejected_by.is_empty(), "{name}: kept, or rejected by something");
        }
        let kept_rows = kept.iter().filter(|kept| **kept).count();
        assert_eq!(summary["kept"], kept_rows, "{name}");
        assert_eq!(counts(&summary["rejected_by"]), count(rejected_by.iter().flatten().cloned()), "{name}");
        if name == "everything" {
            assert_eq!(kept_rows, uids.len(), "{name} has no rules");
            continue;
        }
        let row_of: BTreeMap<&String, usize> = uids.iter().enumerate().map(|(row, uid)| (uid, row)).collect();
        let duplicate_of = texts(&selection, "duplicate_of");
        for (row, rejected_by) in rejected_by.iter().enumerate() {
            let is_duplicate = rejected_by.iter().any(|rule| rule == "duplicate");
            assert_eq!(is_duplicate, !duplicate_of[row].is_empty(), "{name}: a duplicate names another pair");
            if is_duplicate {
                let stays = row_of[&duplicate_of[row]];
                assert!(kept[stays], "{name}: a duplicate gives way to a pair that is kept");
                assert_eq!(cluster[stays], cluster[row], "{name}: the two were found to be alike");
            }
        }
        assert_eq!(run.status["rejected_by"], summary["rejected_by"], "{name} is the one that is sharded");
        assert!(counts(&run.status["rejected_by"]).contains_key("duplicate"), "there are duplicates");
    }
    assert_eq!(run.stage("select")["rows_in"], uids.len());
    assert_eq!(run.stage("select")["rows_out"], run.status["selections"]["clean"]["kept"]);
}

/// Returns the keys of the pairs that selection `clean` keeps, in the order of the pool.
fn kept(run: &Run) -> Vec<String> {
    let selection = table(&run.path().join("selection/clean"), &[]);
    let rows = texts(&selection, "uid").into_iter().zip(flags(&selection, "kept"));
    rows.filter(|(_, kept)| *kept).map(|(uid, _)| uid).collect()
}

fn assert_shards_hold_the_kept_rows(run: &Run) {
    let kept = kept(run);
    let shards = run.path().join("shards");
    let parquet = table(&shards.join("parquet/data"), &[]);
    assert_eq!(texts(&parquet, "uid"), kept, "Parquet");
    let captions = texts(&parquet, "caption");
    // Key and extension of every member.
    let mut members: Vec<(String, String)> = Vec::new();
    for name in files(&shards.join("webdataset")) {
        let mut archive = tar::Archive::new(File::open(shards.join("webdataset").join(&name)).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let (key, extension) = path.split_once('.').unwrap();
            if extension == "txt" {
                let mut caption = String::new();
                entry.read_to_string(&mut caption).unwrap();
                assert_eq!(caption, captions[members.len() / 3], "{path}");
            }
            members.push((key.to_owned(), extension.to_owned()));
        }
    }
    assert_eq!(members.len(), 3 * kept.len(), "picture, metadata and caption of every pair");
    for (sample, uid) in members.chunks(3).zip(&kept) {
        assert!(sample.iter().all(|(key, _)| key == uid), "{uid}: {sample:?}");
    }
    assert_eq!(run.stage("shards")["rows_out"], kept.len(), "once, though there are two formats");
    assert!(shards.join("parquet/README.md").is_file(), "the data set has a card");
}

fn assert_instructions_add_up(run: &Run) {
    let folder = run.path().join("instruct");
    let mut total = 0;
    for name in files(&folder.join("conversations")) {
        let text = std::fs::read_to_string(folder.join("conversations").join(&name)).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!lines.is_empty(), "{name}");
        total += lines.len();
        let stem = name.strip_suffix(".jsonl").unwrap();
        let table = table(&folder.join("parquet"), &["id"]);
        let prefix = format!("{}/", lines[0]["id"].as_str().unwrap().rsplit_once('/').unwrap().0);
        let ids: Vec<String> = texts(&table, "id").into_iter().filter(|id| id.starts_with(&prefix)).collect();
        assert_eq!(ids, lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), "{stem}");
        let llava: Vec<Value> =
            serde_json::from_slice(&std::fs::read(folder.join("llava").join(format!("{stem}.json"))).unwrap()).unwrap();
        assert_eq!(llava.len(), lines.len(), "{stem}");
        for (sample, line) in llava.iter().zip(&lines) {
            assert_llava_sample(sample, line);
        }
    }
    let stage = run.stage("instruct");
    assert_eq!(stage["rows_out"], total);
    assert!(stage["rows_in"].as_u64() >= stage["rows_out"].as_u64(), "{stage}");
}

/// Checks that there are as many `<image>` tokens as images, all in the first turn, and the turns
/// of the conversation.
fn assert_llava_sample(sample: &Value, conversation: &Value) {
    let turns = sample["conversations"].as_array().unwrap();
    let tokens = |turn: &Value| turn["value"].as_str().unwrap().matches("<image>").count();
    let images = match &sample["image"] {
        Value::Null => 0,
        Value::Array(images) => images.len(),
        _ => 1,
    };
    assert_eq!(turns.iter().map(tokens).sum::<usize>(), images, "{sample}");
    assert_eq!(tokens(&turns[0]), images, "{sample}");
    assert_eq!(images, conversation["images"].as_array().unwrap().len());
    let is_system = |message: &&Value| message["role"] == "system";
    let all = conversation["messages"].as_array().unwrap();
    assert!(sample.get("system").is_none(), "LLaVA's trainer does not read it");
    let system = all.iter().find(is_system).map(|message| format!("{}\n\n", message["content"].as_str().unwrap()));
    let mut before = system.unwrap_or_default();
    let messages: Vec<&Value> = all.iter().filter(|message| !is_system(message)).collect();
    assert_eq!(turns.len(), messages.len());
    for (turn, message) in turns.iter().zip(messages) {
        let (said, content) = (turn["value"].as_str().unwrap(), message["content"].as_str().unwrap());
        // The first question follows the system message.
        assert_eq!(said.trim_start_matches("<image>\n"), std::mem::take(&mut before) + content);
        assert_eq!(turn["from"] == "human", message["role"] == "user");
    }
}

fn assert_the_verdict_is_a_sentence(run: &Run) {
    let verdict = &run.status["verdict"];
    assert!(verdict["sentence"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{verdict}");
    let comparison = &verdict["comparisons"][0];
    assert_eq!((&comparison["first"], &comparison["second"]), (&"clean".into(), &"everything".into()));
    assert_eq!(run.stage("train")["parts"], 4, "two arms, two replicates");
    // No cluster is both trained on and held out, and every pair of the selection is counted once.
    let held_out: BTreeSet<String> =
        texts(&table(&run.path().join("check/held-out"), &["uid"]), "uid").into_iter().collect();
    let clusters = table(&run.path().join("clusters"), &[]);
    let cluster_of: BTreeMap<String, String> =
        texts(&clusters, "uid").into_iter().zip(texts(&clusters, "cluster")).collect();
    let held_out_clusters: BTreeSet<&String> = held_out.iter().map(|uid| &cluster_of[uid]).collect();
    let in_held_out = kept(run).iter().filter(|uid| held_out_clusters.contains(&cluster_of[*uid])).count();
    let outcome = &verdict["outcome"];
    let left_out = |reason: &str| outcome["left_out"][reason][0].as_u64().unwrap();
    assert_eq!(left_out("pairs_of_arms"), kept(run).len() as u64);
    assert!(left_out("in_held_out_clusters") >= in_held_out as u64);
    let others: u64 =
        ["in_held_out_clusters", "same_text", "similar_text", "beyond_most"].into_iter().map(left_out).sum();
    assert_eq!(outcome["arms"][0]["pairs"].as_u64().unwrap() + others, kept(run).len() as u64);
    let result: Value =
        serde_json::from_slice(&std::fs::read(run.path().join("check/fits/clean/00.json")).unwrap()).unwrap();
    assert_eq!(result["pairs"], outcome["arms"][0]["pairs"]);
    assert_eq!(result["measured"].as_array().unwrap().len(), held_out.len());
}

fn assert_the_report_agrees(run: &Run) {
    let page = std::fs::read_to_string(run.path().join("report.html")).unwrap();
    let data: Value = serde_json::from_slice(&std::fs::read(run.path().join("report.json")).unwrap()).unwrap();
    let steps = data["funnel"].as_array().unwrap();
    let rows = |step: &Value| step["rows"].as_u64().unwrap();
    let mut before = run.rows.len() as u64;
    for step in steps {
        let lost: u64 = step["losses"].as_array().unwrap().iter().map(|loss| loss["rows"].as_u64().unwrap()).sum();
        assert_eq!(rows(step), before - lost, "{step}");
        before = rows(step);
        let name = step["name"].as_str().unwrap();
        assert!(page.contains(name), "the page lacks the step {name}");
    }
    assert_eq!(rows(&steps[0]), run.rows.len() as u64);
    assert_eq!(rows(steps.last().unwrap()), kept(run).len() as u64);
    let sentence = run.status["verdict"]["sentence"].as_str().unwrap();
    let escaped = sentence.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    assert!(page.contains(sentence) || page.contains(&escaped), "the page lacks the verdict");
    for outside in ["src=\"http", "src=\"//", "<link", "@import", "url(http"] {
        assert!(!page.contains(outside), "the page needs something from outside: {outside}");
    }
}

fn assert_every_file_is_in_the_manifest(run: &Run) {
    let text = std::fs::read_to_string(run.path().join("manifest.jsonl")).unwrap();
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for file in line["files"].as_array().into_iter().flatten() {
            listed.insert(file["path"].as_str().unwrap().to_owned(), file["bytes"].as_u64().unwrap());
        }
    }
    let known = [".lock", "manifest.jsonl", "recipe.toml", "recipe.resolved.toml"];
    let found: Vec<String> = files(&run.path()).into_iter().filter(|name| !known.contains(&name.as_str())).collect();
    assert_eq!(found, listed.keys().cloned().collect::<Vec<_>>());
    for (name, bytes) in &listed {
        assert_eq!(std::fs::metadata(run.path().join(name)).unwrap().len(), *bytes, "{name}");
    }
    let stages = run.status["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| stage["bytes"].as_u64().unwrap()).sum::<u64>(), listed.values().sum::<u64>());
    assert!(stages.iter().all(|stage| stage["complete"] == true), "{stages:?}");
}

#[test]
fn a_changed_rule_costs_no_download_and_no_measurement() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    write_small(folder.path(), &web);
    let everything_before_the_check = ["download", "signals", "dedup", "select", "shards"];
    for stage in everything_before_the_check {
        lynxdata(folder.path(), &[stage, "recipe.toml"]).ended_but_for_its_verdict();
    }
    let changed = ["run", "recipe.toml", "--set", "select.clean.rules.not_tiny=width >= 100", "--dry-run"];
    let plan = lynxdata(folder.path(), &changed).ended_with(0).stdout;
    let line =
        |stage: &str| plan.lines().find(|line| line.starts_with(stage)).unwrap_or_else(|| panic!("{plan}")).to_owned();
    let made = |stage: &str| line(stage).split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(["download", "signals", "dedup", "select"].map(made), ["0", "0", "0", "1"], "{plan}");
    assert!(line("shards").contains("decided when select is done"), "{plan}");

    let pool = std::fs::metadata(folder.path().join("run/pool/part-00000.parquet")).unwrap().modified().unwrap();
    let kept = |status: &Value| status["selections"]["clean"]["kept"].as_u64().unwrap();
    let before = status(&folder.path().join("run"));
    lynxdata(folder.path(), &["select", "recipe.toml", "--set", "select.clean.rules.not_tiny=width >= 100"])
        .ended_with(0);
    let after = status(&folder.path().join("run"));
    assert!(kept(&after) < kept(&before), "{after}");
    assert_eq!(std::fs::metadata(folder.path().join("run/pool/part-00000.parquet")).unwrap().modified().unwrap(), pool);
}

#[test]
fn conversations_whose_picture_is_missing_are_counted_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    write_small(folder.path(), &bundled_pictures());
    let run = folder.path().join("run");
    let rows_out = || {
        let status = status(&run);
        let stages = status["stages"].as_array().unwrap();
        stages.iter().find(|stage| stage["name"] == "instruct").unwrap()["rows_out"].as_u64().unwrap()
    };
    lynxdata(folder.path(), &["instruct", "recipe.toml"]).ended_with(0);
    let all = rows_out();
    lynxdata(folder.path(), &["instruct", "recipe.toml", "--set", "instruct.require_images=true"])
        .ended_with(3)
        .says(&["left out for missing_image", "none of 3 records became a conversation"]);
    let with_picture = rows_out();
    assert!(0 < with_picture && with_picture < all, "{with_picture} of {all}");
    let conversations = table(&run.join("instruct/parquet"), &["images"]);
    assert_eq!(conversations.num_rows() as u64, with_picture);
    let images = conversations.column_by_name("images").unwrap().as_list::<i32>();
    for images in images.iter().flatten() {
        assert_eq!(images.as_struct().column_by_name("bytes").unwrap().null_count(), 0, "every picture is there");
    }
}

#[test]
fn a_task_of_which_nothing_is_left_ends_with_code_3() {
    let folder = tempfile::tempdir().unwrap();
    write_small(folder.path(), &bundled_pictures());
    std::fs::create_dir(folder.path().join("nowhere")).unwrap();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/fixtures/vsr");
    let tasks =
        format!("instruct.tasks=[{{ name = \"vsr\", root = \"{root}\", split = \"dev\", images = \"nowhere\" }}]");
    let sets = ["--set", tasks.as_str(), "--set", "instruct.require_images=true"];
    lynxdata(folder.path(), &[&["instruct", "recipe.toml"], &sets[..]].concat()).ended_with(3).says(&[
        "none of 5 records became a conversation (missing_image 5)",
        "instruct.tasks[].images names another folder",
    ]);
}

#[test]
fn hostile_pictures_end_with_a_status_each_and_the_log_stays_readable() {
    let Some(hostile) = shared("data/hostile") else { return };
    let folder = tempfile::tempdir().unwrap();
    let web = Web::start(&[("", &hostile)]);
    let expectations = std::fs::read_to_string(hostile.join("EXPECT.tsv")).unwrap();
    let mut lines = expectations.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let (file, verdict, size) = (column("file"), column("verdict"), column("size"));
    let mut list = "url\tverdict\tsize\n".to_owned();
    let mut rows = 0;
    for line in lines.filter(|line| !line[file].contains(' ')) {
        list.push_str(&format!("{}\t{}\t{}\n", web.url(line[file]), line[verdict], line[size]));
        rows += 1;
    }
    std::fs::write(folder.path().join("list.tsv"), list).unwrap();
    let recipe = "output = \"run\"\n[source]\npath = \"list.tsv\"\n[download]\nallow_private_addresses = true\nrows_per_part = 300\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let output = lynxdata(folder.path(), &["download", "recipe.toml", "--log-format", "json"]).ended_with(0);
    for line in output.stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    lynxdata(folder.path(), &["signals", "recipe.toml"]).ended_with(0);
    let status = status(&folder.path().join("run"));
    let by_status = counts(&status["download"]["by_status"]);
    assert_eq!(by_status.values().sum::<u64>(), rows);
    assert!(!by_status.contains_key("protocol_error"), "no download task breaks off: {by_status:?}");
    // If Pillow reads the file too, both report the same size. Pillow rotates TIFF files upright,
    // and enlarges two GIFs to a frame that lies outside.
    let enlarged = ["gif/anim/oob.gif", "gif/simple/issue_1455_oversized.gif"];
    let pool = table(&folder.path().join("run/pool"), &["url", "verdict", "size", "original_width", "original_height"]);
    let (urls, verdicts, sizes) = (texts(&pool, "url"), texts(&pool, "verdict"), texts(&pool, "size"));
    let (widths, heights) = (integers(&pool, "original_width"), integers(&pool, "original_height"));
    let mut compared = 0;
    let mut different = Vec::new();
    for row in
        (0..urls.len()).filter(|row| verdicts[*row] == "ok" && !enlarged.iter().any(|gif| urls[*row].ends_with(gif)))
    {
        let (width, height) = (widths[row], heights[row]);
        let turned = urls[row].contains("g4_orientation") && format!("{height}x{width}") == sizes[row];
        if !turned && format!("{width}x{height}") != sizes[row] {
            different.push(format!("{}: {width}x{height}, not {}", urls[row], sizes[row]));
        }
        compared += 1;
    }
    assert!(compared > 400, "only {compared} pictures are read by both");
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn a_list_of_which_nothing_can_be_downloaded_still_has_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let list = format!("url\tcaption\n{}\ta\n{}\tb\n", web.url("missing/a.jpg"), web.url("html/b.jpg"));
    std::fs::write(folder.path().join("pairs.tsv"), list).unwrap();
    let recipe = "output = \"run\"\n[source]\npath = \"pairs.tsv\"\ncaption = \"caption\"\n[download]\nallow_private_addresses = true\n\
                  max_failed_fraction = 0.5\n[select.clean]\npreset = \"lynx-clean\"\n[shards]\nselection = \"clean\"\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    lynxdata(folder.path(), &["run", "recipe.toml"]).ended_with(3).says(&["2 of 2 rows failed to download"]);
    let status = status(&folder.path().join("run"));
    assert_eq!(
        counts(&status["download"]["by_status"]),
        BTreeMap::from([("not_found".to_owned(), 1), ("not_an_image".to_owned(), 1)])
    );
    assert!(std::fs::read_to_string(folder.path().join("run/report.html")).unwrap().contains("not_found"));
}

#[test]
fn failed_rows_can_be_tried_again_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let picture = |name: &str| format!("coco/{name}.jpg");
    let paths = [
        format!("busy-once/{}", picture("000000000790")),
        picture("000000012280"),
        "missing/a.jpg".to_owned(),
        format!("busy-once/{}", picture("000000020247")),
        picture("000000012280"),
    ];
    let list: String =
        paths.iter().fold(String::from("url\tcaption\n"), |list, path| list + &web.url(path) + "\tA photo\n");
    std::fs::write(folder.path().join("pairs.tsv"), list).unwrap();
    let recipe = "output = \"run\"\n[source]\npath = \"pairs.tsv\"\ncaption = \"caption\"\n[download]\nallow_private_addresses = true\n\
                  retries = 0\nresize = \"keep\"\nrows_per_part = 4\n[select.all]\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let run = folder.path().join("run");
    let by_status = || counts(&status(&run)["download"]["by_status"]);
    let uids = |table_name: &str| texts(&table(&run.join(table_name), &["uid"]), "uid");

    lynxdata(folder.path(), &["run", "recipe.toml"]).ended_but_for_its_verdict();
    assert_eq!(by_status().get("rate_limited"), Some(&2));
    let before = (uids("pool"), uids("download-log"));

    let retried = lynxdata(folder.path(), &["download", "recipe.toml", "--retry-failed"]).ended_with(0);
    assert!(retried.stdout.contains("2 rows were retried, 2 of them are in the pool now"), "{retried}");
    let expected = BTreeMap::from([("ok".to_owned(), 4), ("not_found".to_owned(), 1)]);
    assert_eq!(by_status(), expected);
    assert_eq!(uids("download-log"), before.1, "every row keeps its key and place");
    let all = uids("download-log");
    assert_eq!(uids("pool"), [&all[..2], &all[3..]].concat(), "the pool is in the order of the source");
    assert!(before.0.iter().all(|uid| uids("pool").contains(uid)));
    let digests = texts(&table(&run.join("pool"), &["sha256"]), "sha256");
    for (digest, path) in digests.iter().zip([&paths[0], &paths[1], &paths[3], &paths[4]]) {
        let file = repository().join("examples/quickstart/images").join(path.trim_start_matches("busy-once/"));
        assert_eq!(*digest, sha256(&std::fs::read(file).unwrap()), "{path}");
    }

    // A single stage does not read files that were made from the smaller pool.
    lynxdata(folder.path(), &["select", "recipe.toml"]).ended_with(1).says(&[
        "stage signals",
        "out of date",
        "lynxdata signals recipe.toml",
    ]);

    // Later stages are made again for the larger pool; the download is not.
    lynxdata(folder.path(), &["run", "recipe.toml"])
        .ended_with(0)
        .says(&["made=0 skipped=2", "stage signals done made=3 skipped=3"]);
    let again = lynxdata(folder.path(), &["download", "recipe.toml", "--retry-failed=not_found"]).ended_with(0);
    assert!(again.stdout.contains("1 rows were retried, 0 of them are in the pool now"), "{again}");
    assert_eq!(by_status(), expected);
    lynxdata(folder.path(), &["download", "recipe.toml", "--retry-failed=not_fuond"])
        .ended_with(2)
        .says(&["did you mean not_found?"]);
}

#[test]
fn a_list_needs_no_recipe_and_leaves_one_that_can_be_run_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let list =
        ["000000000790", "000000012280"].map(|name| format!("{}\tA photo\n", web.url(&format!("coco/{name}.jpg"))));
    std::fs::write(folder.path().join("list.tsv"), format!("link\talt\n{}", list.concat())).unwrap();
    let flags =
        ["download", "--url-list", "list.tsv", "--url-col", "link", "--caption-col", "alt", "--output-folder", "run"];
    let more = [
        "--output-format",
        "webdataset",
        "--resize-mode",
        "center_crop",
        "--image-size",
        "64",
        "--encode-format",
        "png",
    ];
    let all = [&flags[..], &more[..], &["--allow-private-addresses", "--number-sample-per-shard", "1"]].concat();
    lynxdata(folder.path(), &all).ended_with(0);
    let run = folder.path().join("run");
    assert_eq!(files(&run.join("shards/webdataset")), ["000000.tar", "000001.tar"]);
    let pool = table(&run.join("pool"), &["width", "height", "format"]);
    assert_eq!((integers(&pool, "width"), integers(&pool, "height")), (vec![64, 64], vec![64, 64]));
    assert_eq!(texts(&pool, "format"), ["png", "png"]);

    let elsewhere = tempfile::tempdir().unwrap();
    let recipe = run.join("recipe.toml");
    let again = lynxdata(elsewhere.path(), &["run", recipe.to_str().unwrap()]).ended_but_for_its_verdict();
    assert!(again.stderr.contains("stage download done made=0 skipped=2"), "{again}");

    lynxdata(folder.path(), &["download"]).ended_with(2).says(&["--url-list"]);
    lynxdata(folder.path(), &["download", "--url-list", "list.tsv"]).ended_with(2).says(&["--output-folder"]);
    lynxdata(folder.path(), &["download", "a.toml", "--url-list", "list.tsv"])
        .ended_with(2)
        .says(&["cannot be used with"]);
    for no_recipe in ["list.tsv", "run"] {
        lynxdata(folder.path(), &["download", no_recipe])
            .ended_with(2)
            .says(&["to download a list of URLs, use `lynxdata download --url-list`"]);
    }
}

#[test]
fn private_addresses_are_refused_unless_the_recipe_allows_them() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let rows = write_small(folder.path(), &web);
    lynxdata(folder.path(), &["download", "recipe.toml", "--set", "download.allow_private_addresses=false"])
        .ended_with(1)
        .says(&["0 of 40 rows are in the pool"]);
    let by_status = counts(&status(&folder.path().join("run"))["download"]["by_status"]);
    let on_this_machine = rows.iter().filter(|row| row.url.starts_with("http://127.")).count() as u64;
    assert_eq!(by_status["forbidden_address"], on_this_machine);
    assert!(!by_status.contains_key("ok"), "{by_status:?}");
}

#[test]
fn the_quickstart_runs_the_recipe_that_it_finds_and_names_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let bundled = std::fs::read_to_string(repository().join("examples/quickstart/recipe.toml")).unwrap();
    // The full recipe takes minutes without optimisation; this one has the same stages and pairs.
    let shorter = bundled.replace("steps = 200", "steps = 3").replace("replicates = 6", "replicates = 2");
    assert_ne!(shorter, bundled);
    std::fs::write(folder.path().join("recipe.toml"), &shorter).unwrap();
    let output = lynxdata(folder.path(), &["quickstart", "--out", "."]).ended_but_for_its_verdict();
    for text in ["in shards", "Verdict: ", "report.html", "lynxdata status"] {
        assert!(output.stdout.contains(text), "{text:?} is missing: {output}");
    }
    assert_eq!(
        std::fs::read_to_string(folder.path().join("recipe.toml")).unwrap(),
        shorter,
        "the user's recipe is left alone"
    );
    let status = status(&folder.path().join("run"));
    let by_status = counts(&status["download"]["by_status"]);
    let list = std::fs::read_to_string(folder.path().join("pairs.tsv")).unwrap();
    assert_eq!(by_status.values().sum::<u64>(), list.lines().count() as u64 - 1);
    assert!(status["verdict"]["sentence"].is_string(), "{status}");
    lynxdata(folder.path(), &["run", "recipe.toml", "--dry-run"]).ended_with(0);
}

#[test]
fn an_empty_selection_is_told_and_its_shards_can_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    write_small(folder.path(), &web);
    let nothing = "--set=select.clean.rules.none='false'";
    for stage in ["download", "signals", "dedup", "select"] {
        lynxdata(folder.path(), &[stage, "recipe.toml", nothing]);
    }
    let output = lynxdata(folder.path(), &["shards", "recipe.toml", nothing]);
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.contains("clean"), "{output}");
    let shards = folder.path().join("run/shards");
    assert_eq!(
        files(&shards),
        ["parquet/README.md", "parquet/data/train-00000-of-00001.parquet", "webdataset/000000.tar"]
    );
    let shard = File::open(shards.join("parquet/data/train-00000-of-00001.parquet")).unwrap();
    let shard = ParquetRecordBatchReaderBuilder::try_new(shard).unwrap();
    assert_eq!(shard.metadata().file_metadata().num_rows(), 0);
    assert!(shard.schema().column_with_name("image").is_some() && shard.schema().column_with_name("origin").is_some());
}
