//! The same recipe gives the same bytes, however many threads there are.

use std::path::Path;

use crate::runs::{bundled_pictures, write_small};
use crate::support::{Running, assert_same_files, command, lynxdata};

#[test]
fn two_runs_of_one_recipe_are_the_same_to_the_byte() {
    let web = bundled_pictures();
    let [first, second, by_stage] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    for folder in [&first, &second, &by_stage] {
        write_small(folder.path(), &web);
    }
    lynxdata(first.path(), &["run", "recipe.toml"]).ended_but_for_its_verdict();
    lynxdata(second.path(), &["run", "recipe.toml"]).ended_but_for_its_verdict();
    assert_same_files(&first.path().join("run"), &second.path().join("run"), "in another folder");
    for stage in ["download", "signals", "dedup", "select", "shards", "instruct", "check", "report"] {
        lynxdata(by_stage.path(), &[stage, "recipe.toml"]).ended_but_for_its_verdict();
    }
    assert_same_files(&first.path().join("run"), &by_stage.path().join("run"), "stage by stage");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let web = bundled_pictures();
    let run = |folder: &Path, threads: &str, trained_at_once: &str, urls_at_once: &str| {
        write_small(folder, &web);
        let mut command = command(folder, &["run", "recipe.toml", "--set", trained_at_once, "--set", urls_at_once]);
        command.env("RAYON_NUM_THREADS", threads).env("TOKIO_WORKER_THREADS", threads);
        Running::start(command).finish().ended_but_for_its_verdict();
        // These files contain the settings themselves.
        for name in ["recipe.toml", "recipe.resolved.toml", "report.html", "report.json"] {
            std::fs::remove_file(folder.join("run").join(name)).unwrap();
        }
    };
    let [one, four] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    run(one.path(), "1", "check.threads=1", "download.concurrency=1");
    run(four.path(), "4", "check.threads=2", "download.concurrency=40");
    assert_same_files(&one.path().join("run"), &four.path().join("run"), "with other numbers of threads");
}
