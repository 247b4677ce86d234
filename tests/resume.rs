//! A killed or interrupted run is completed by running it again, with the same bytes.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::runs::{bundled_pictures, write_small};
use crate::support::{LIMIT, POLL, Running, assert_same_files, command, files, lynxdata, status};

/// More steps than in other tests, so that runs are interrupted while they train.
const RUN: [&str; 4] = ["run", "recipe.toml", "--set", "check.train.steps=24"];

/// Two folders with the same recipe and list; the first has been run without interruption.
struct Twins {
    undisturbed: tempfile::TempDir,
    disturbed: tempfile::TempDir,
}

impl Twins {
    fn new() -> Twins {
        let web = bundled_pictures();
        let twins = Twins { undisturbed: tempfile::tempdir().unwrap(), disturbed: tempfile::tempdir().unwrap() };
        write_small(twins.undisturbed.path(), &web);
        write_small(twins.disturbed.path(), &web);
        lynxdata(twins.undisturbed.path(), &RUN).ended_but_for_its_verdict();
        twins
    }

    fn assert_same(&self, when: &str) {
        assert_same_files(&self.undisturbed.path().join("run"), &self.disturbed.path().join("run"), when);
    }
}

/// Reproducible pseudo-random numbers (the splitmix64 generator).
struct Random(u64);

impl Random {
    /// Uses the seed of `LYNXDATA_TEST_SEED`, or this one.
    fn seeded(seed: u64) -> Random {
        Random(std::env::var("LYNXDATA_TEST_SEED").map_or(seed, |seed| seed.parse().unwrap()))
    }

    /// Returns a number from 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// When to interrupt a run: after `delay`, counted from when the manifest has `lines` lines.
#[derive(Debug, Clone, Copy)]
struct Moment {
    lines: usize,
    delay: Duration,
}

/// Draws a moment in each of these stages, from the parts that an uninterrupted run made in them.
fn moments(undisturbed: &Path, stages: &[&str], random: &mut Random) -> Vec<Moment> {
    let manifest = std::fs::read_to_string(undisturbed.join("manifest.jsonl")).unwrap();
    let lines: Vec<Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut moments: Vec<Moment> = stages
        .iter()
        .map(|stage| {
            let parts: Vec<usize> = (0..lines.len())
                .filter(|line| lines[*line]["event"] == "part" && lines[*line]["stage"] == *stage)
                .collect();
            let line = parts[(random.fraction() * parts.len() as f64) as usize];
            let seconds = lines[line]["seconds"].as_f64().unwrap() * random.fraction();
            Moment { lines: line, delay: Duration::from_secs_f64(seconds) }
        })
        .collect();
    moments.sort_by_key(|moment| moment.lines);
    moments
}

fn lines_of(manifest: &Path) -> usize {
    // Before the first line, the file does not exist.
    std::fs::read(manifest).unwrap_or_default().split(|byte| *byte == b'\n').count().saturating_sub(1)
}

/// Starts the run and waits for the moment; returns false if the run ends before. The process
/// itself must have written `own_lines` lines.
fn start_and_wait(folder: &Path, moment: Moment, own_lines: usize, running: &mut Option<Running>) -> bool {
    let manifest = folder.join("run/manifest.jsonl");
    let lines = moment.lines.max(lines_of(&manifest) + own_lines);
    let running = running.insert(Running::start(command(folder, &RUN)));
    let deadline = Instant::now() + LIMIT;
    while !manifest.exists() || lines_of(&manifest) < lines {
        assert!(Instant::now() < deadline, "the manifest never has {lines} lines");
        if !running.is_alive() {
            return false;
        }
        std::thread::sleep(POLL);
    }
    let then = Instant::now() + moment.delay;
    while Instant::now() < then {
        if !running.is_alive() {
            return false;
        }
        std::thread::sleep(POLL);
    }
    running.is_alive()
}

/// Checks that all files in the manifest exist and are complete, whatever happened to the process.
fn assert_consistent(run: &Path, when: &str) {
    if !run.join("manifest.jsonl").exists() {
        return;
    }
    let text = std::fs::read_to_string(run.join("manifest.jsonl")).unwrap();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{when}: {error}: {line}"));
        for file in line["files"].as_array().into_iter().flatten() {
            let path = run.join(file["path"].as_str().unwrap());
            let bytes =
                std::fs::metadata(&path).unwrap_or_else(|error| panic!("{when}: {}: {error}", path.display())).len();
            assert_eq!(file["bytes"], bytes, "{when}: {}", path.display());
        }
    }
    status(run);
}

#[test]
fn a_run_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one() {
    let twins = Twins::new();
    let mut random = Random::seeded(1);
    let seed = random.0;
    let stages =
        ["download", "download", "signals", "select", "shards", "instruct", "train", "train", "train", "check"];
    let run = twins.disturbed.path().join("run");
    let mut kills = 0;
    for moment in moments(&twins.undisturbed.path().join("run"), &stages, &mut random) {
        let when = format!("seed {seed}, killed at {moment:?}");
        let mut running = None;
        let in_time = start_and_wait(twins.disturbed.path(), moment, 0, &mut running);
        let mut running = running.unwrap();
        if in_time {
            running.kill();
        }
        let output = running.finish();
        // A run that was faster than the moment has ended normally.
        kills += usize::from(output.code.is_none());
        if output.code.is_some() {
            output.ended_but_for_its_verdict();
        }
        assert_consistent(&run, &when);
    }
    assert!(kills >= 6, "seed {seed}: only {kills} runs were hit");
    lynxdata(twins.disturbed.path(), &RUN).ended_but_for_its_verdict();
    twins.assert_same(&format!("seed {seed}, killed {kills} times"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_130_leaves_nothing_half_and_is_completed() {
    let twins = Twins::new();
    let mut random = Random::seeded(2);
    let seed = random.0;
    let run = twins.disturbed.path().join("run");
    let mut interrupts = 0;
    for moment in
        moments(&twins.undisturbed.path().join("run"), &["download", "signals", "shards", "train"], &mut random)
    {
        let when = format!("seed {seed}, interrupted at {moment:?}");
        let mut running = None;
        // After its own first line, the process has installed its handler; before, SIGINT would end
        // it without a message.
        let in_time = start_and_wait(twins.disturbed.path(), moment, 1, &mut running);
        let mut running = running.unwrap();
        if in_time {
            running.interrupt();
        }
        let output = running.finish();
        if matches!(output.code, Some(0 | 1)) {
            output.ended_but_for_its_verdict();
            continue; // it was faster than the moment
        }
        interrupts += 1;
        assert_eq!(output.code, Some(130), "{when}: {output}");
        assert!(output.stderr.contains("run the same command again to continue"), "{when}: {output}");
        assert!(!run.join(".partial").exists(), "{when}: {:?}", files(&run));
        assert_consistent(&run, &when);
    }
    assert!(interrupts >= 2, "seed {seed}: only {interrupts} runs were interrupted");
    lynxdata(twins.disturbed.path(), &RUN).ended_but_for_its_verdict();
    twins.assert_same(&format!("seed {seed}, interrupted"));
}

/// Returns when each file of a run was written, without the copies of the recipe.
fn modified(run: &Path) -> BTreeMap<String, SystemTime> {
    let time = |name: &String| std::fs::metadata(run.join(name)).unwrap().modified().unwrap();
    let names = files(run).into_iter().filter(|name| !name.starts_with("recipe."));
    names.map(|name| (name.clone(), time(&name))).collect()
}

#[test]
fn a_complete_run_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    write_small(folder.path(), &bundled_pictures());
    lynxdata(folder.path(), &RUN).ended_but_for_its_verdict();
    let run = folder.path().join("run");
    let before = modified(&run);
    let mut again = RUN.to_vec();
    again.extend(["--log-format", "json"]);
    let output = lynxdata(folder.path(), &again).ended_but_for_its_verdict();
    let mut stages = 0;
    for line in output.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if line["fields"].get("made").is_some() {
            assert_eq!(line["fields"]["made"], 0, "{line}");
            stages += 1;
        }
    }
    assert_eq!(stages, 12, "{output}");
    assert_eq!(modified(&run), before);
}

#[test]
fn damaged_parts_and_a_cut_manifest_are_repaired() {
    let twins = Twins::new();
    lynxdata(twins.disturbed.path(), &RUN).ended_but_for_its_verdict();
    let run = twins.disturbed.path().join("run");
    // A truncated file, a removed one, and a manifest line that a full disk truncated.
    OpenOptions::new().write(true).open(run.join("pool/part-00001.parquet")).unwrap().set_len(1000).unwrap();
    std::fs::remove_file(run.join("shards/webdataset/000000.tar")).unwrap();
    let mut manifest = OpenOptions::new().append(true).open(run.join("manifest.jsonl")).unwrap();
    manifest.write_all(b"{\"event\":\"part\",\"stage\":\"dedup\",\"pa").unwrap();
    drop(manifest);
    lynxdata(twins.disturbed.path(), &RUN).ended_but_for_its_verdict();
    twins.assert_same("after the repair");
}

#[test]
fn signals_are_the_same_whether_they_were_measured_with_the_download_or_after_it() {
    let twins = Twins::new();
    let manifest = std::fs::read_to_string(twins.undisturbed.path().join("run/manifest.jsonl")).unwrap();
    let lines: Vec<Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is = |line: &Value, event: &str, stage: &str| line["event"] == event && line["stage"] == stage;
    let downloaded = lines.iter().position(|line| is(line, "stage", "download")).unwrap();
    let parts = |lines: &[Value], stage: &str| lines.iter().filter(|line| is(line, "part", stage)).count();
    let groups = 3;
    assert_eq!(
        parts(&lines[..downloaded], "signals"),
        groups * parts(&lines, "download"),
        "measured with the download"
    );
    assert_eq!(parts(&lines[downloaded..], "signals"), 0);
    for stage in ["download", "signals"] {
        let mut command = RUN.to_vec();
        command[0] = stage;
        lynxdata(twins.disturbed.path(), &command).ended_but_for_its_verdict();
    }
    lynxdata(twins.disturbed.path(), &RUN).ended_but_for_its_verdict();
    twins.assert_same("after one stage at a time");
}
