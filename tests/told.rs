//! Messages to users: another list, out-of-date stages, empty outcomes, damaged files.

use std::path::Path;

use serde_json::Value;

use crate::runs::{bundled_pictures, write_small};
use crate::support::{
    Output, Running, assert_same_files, command, digests, files, lynxdata, repository, status, table, texts,
};
use crate::web::Web;

/// Returns bundled images, as paths below the folder that the web serves.
fn pictures(count: usize) -> Vec<String> {
    files(&repository().join("examples/quickstart/images")).into_iter().take(count).collect()
}

fn write_list(path: &Path, web: &Web, paths: &[&str]) {
    let rows = paths.iter().map(|path| format!("{}\ta picture of {path}\n", web.url(path)));
    std::fs::write(path, format!("url\tcaption\n{}", rows.collect::<String>())).unwrap();
}

/// Downloads a list into the folder `run`.
fn download(folder: &Path, list: &str, more: &[&str]) -> Output {
    let flags = "--caption-col caption --output-folder run --allow-private-addresses --number-sample-per-shard 2";
    let flags: Vec<&str> = ["download", "--url-list", list].into_iter().chain(flags.split(' ')).collect();
    lynxdata(folder, &[&flags[..], more].concat())
}

/// Returns the last line that the program logged.
fn last_line(output: &Output) -> &str {
    output.stderr.lines().last().unwrap_or_default()
}

#[test]
fn another_list_takes_nothing_from_a_pool_without_being_told_to() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    let paths = pictures(6);
    let list = |name: &str, rows: &[usize]| {
        let rows: Vec<&str> = rows.iter().map(|row| paths[*row].as_str()).collect();
        write_list(&folder.join(name), &web, &rows);
    };
    let run = folder.join("run");
    let urls = || texts(&table(&run.join("pool"), &["url"]), "url");
    list("a.tsv", &[0, 1, 2, 3, 4]);
    list("b.tsv", &[5]);
    download(folder, "a.tsv", &[]).ended_with(0);
    let before = digests(&run);

    // By flags and by a recipe, each time again, and before anything is done.
    let recipe = |list: &str| {
        format!(
            "output = \"run\"\n[source]\npath = \"{list}\"\ncaption = \"caption\"\n[download]\nallow_private_addresses = true\n"
        )
    };
    std::fs::write(folder.join("recipe.toml"), recipe("b.tsv")).unwrap();
    let said = ["5 pairs, of which 5 are not in", "b.tsv", "a.tsv", "another output folder", "--replace"];
    for _ in 0..2 {
        download(folder, "b.tsv", &[]).ended_with(1).says(&said);
        lynxdata(folder, &["run", "recipe.toml"]).ended_with(1).says(&said);
        lynxdata(folder, &["run", "recipe.toml", "--dry-run"]).ended_with(1).says(&said);
    }
    // A list with some of the pairs would remove the others.
    list("c.tsv", &[0, 1, 2, 3, 5]);
    download(folder, "c.tsv", &[]).ended_with(1).says(&["5 pairs, of which 1 are not in"]);
    // So would a list of the same name with other rows.
    list("a.tsv", &[0, 1, 5]);
    let said = ["an earlier version of this list", "of which 3 are not in"];
    download(folder, "a.tsv", &[]).ended_with(1).says(&said);
    // The recipe in the run folder stays that of the pool.
    download(folder, "a.tsv", &["--image-size", "64"]).ended_with(1).says(&said);
    let said = ["this list with other settings of [source]", "of which 5 are not in"];
    list("a.tsv", &[0, 1, 2, 3, 4]);
    let other = recipe("a.tsv").replace("caption = \"caption\"", "caption = \"url\"");
    std::fs::write(folder.join("captions.toml"), other).unwrap();
    lynxdata(folder, &["run", "captions.toml"]).ended_with(1).says(&said);
    list("a.tsv", &[0, 1, 5]);
    assert_eq!(digests(&run), before, "nothing was changed");

    // Lists that grow, under any name, and edited rows are accepted.
    web.requests();
    list("more.tsv", &[0, 1, 2, 3, 4, 5]);
    download(folder, "more.tsv", &[]).ended_with(0);
    assert_eq!(web.requests(), [paths[5].as_str()]);
    list("more.tsv", &[0, 1, 2, 3, 5]);
    download(folder, "more.tsv", &[]).ended_with(0).says(&["WARN 1 of 6 pairs of the pool are not in"]);
    assert_eq!(urls().len(), 5);
    download(folder, "more.tsv", &["--image-size", "64"]).ended_with(0).says(&["3 parts with 5 pairs are made again"]);
    // With --replace, the other list is used.
    download(folder, "b.tsv", &["--replace"]).ended_with(0).says(&["4 of 5 pairs of the pool are not in"]);
    assert_eq!(urls(), [web.url(&paths[5])]);
    lynxdata(folder, &["run", "recipe.toml", "--set", "source.path=a.tsv"]).ended_but_for_its_verdict();
    lynxdata(folder, &["run", "recipe.toml", "--replace"]).ended_but_for_its_verdict();
    assert_eq!(urls(), [web.url(&paths[5])]);
}

#[test]
fn a_network_that_fails_takes_nothing_from_the_pool() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    let paths = pictures(4);
    write_list(&folder.join("a.tsv"), &web, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    download(folder, "a.tsv", &[]).ended_with(0);
    let pool = || digests(&folder.join("run/pool"));
    let before = pool();
    // Another size, but the flag that lets the addresses of the tests in is forgotten.
    let forgotten = "download --url-list a.tsv --caption-col caption --output-folder run --number-sample-per-shard 2";
    let forgotten: Vec<&str> = forgotten.split(' ').chain(["--image-size", "64"]).collect();
    let said =
        ["has 2 pairs; the list or settings", "it would have 0: 2 rows failed with forbidden_address", "--replace"];
    lynxdata(folder, &forgotten).ended_with(1).says(&said);
    assert_eq!(pool(), before);
    download(folder, "a.tsv", &[]).ended_with(0).says(&["made=0 skipped=2"]);
    lynxdata(folder, &[&forgotten[..], &["--replace"]].concat()).ended_with(1).says(&["0 of 4 rows are in the pool"]);
}

#[test]
fn a_refused_command_leaves_the_recipe_of_the_run() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    write_small(folder, &web);
    lynxdata(folder, &["download", "recipe.toml"]).ended_with(0);
    let before = digests(&folder.join("run"));
    let refused = ["signals", "recipe.toml", "--set", "download.size=100"];
    lynxdata(folder, &refused).ended_with(1).says(&["stage download of", "is out of date"]);
    assert_eq!(digests(&folder.join("run")), before);
    // Columns that are not there are told before a folder is made.
    let wrong = ["download", "recipe.toml", "--set", "source.caption=captions", "--set", "output=other"];
    lynxdata(folder, &wrong).ended_with(2);
    assert!(!folder.join("other").exists());
}

#[test]
fn another_folder_with_pictures_of_the_same_names_is_another_list() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (index, picture) in pictures(6).iter().enumerate() {
        let of = folder.join(if index < 3 { "one" } else { "two" });
        std::fs::create_dir_all(&of).unwrap();
        let suffix = Path::new(picture).extension().unwrap().to_str().unwrap();
        let picture = repository().join("examples/quickstart/images").join(picture);
        std::fs::copy(picture, of.join(format!("{}.{suffix}", index % 3))).unwrap();
    }
    let import = |list: &str| lynxdata(folder, &["download", "--url-list", list, "--output-folder", "run"]);
    import("one").ended_with(0);
    let before = digests(&folder.join("run"));
    import("two").ended_with(1).says(&["3 pairs, of which 3 are not in", "--replace"]);
    assert_eq!(digests(&folder.join("run")), before);
    // The same folder under another name is the same list.
    std::fs::rename(folder.join("one"), folder.join("moved")).unwrap();
    import("moved").ended_with(0).says(&["made=0 skipped=1"]);
}

#[test]
fn the_last_line_and_the_exit_code_tell_what_came_of_it() {
    let web = bundled_pictures();
    let paths = pictures(4);
    let [a, b, c, d] = std::array::from_fn(|index| paths[index].as_str());
    let gone = ["missing/1", "missing/2", "html/3", "missing/4"];
    let listed = "`lynxdata status RUN --failed` lists them";
    for (rows, code, line) in [
        (&[a, b, c, d][..], 0, "INFO 4 of 4 rows are in the pool".to_owned()),
        (
            &[a, gone[0], b, gone[1], gone[2]],
            0,
            format!("INFO 2 of 5 rows are in the pool: 2 not_found, 1 not_an_image; {listed}"),
        ),
        (&gone, 1, format!("WARN 0 of 4 rows are in the pool: 3 not_found, 1 not_an_image; {listed}")),
        (&[], 1, "WARN the source has no rows".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write_list(&folder.path().join("list.tsv"), &web, rows);
        let output = download(folder.path(), "list.tsv", &[]).ended_with(code);
        let run = folder.path().join("run");
        assert_eq!(last_line(&output).trim(), line.replace("RUN", run.to_str().unwrap()), "{output}");
        let quiet = download(folder.path(), "list.tsv", &["--quiet"]).ended_with(code);
        assert_eq!(quiet.stderr.is_empty(), code == 0, "{quiet}");
    }

    let folder = tempfile::tempdir().unwrap();
    write_list(&folder.path().join("list.tsv"), &web, &[a, b, c, "missing/4"]);
    let recipe = "output = \"run\"\n[source]\npath = \"list.tsv\"\ncaption = \"caption\"\n[download]\nallow_private_addresses = true\n\
                  [select.some]\n[select.none.rules]\nimpossible = \"width < 0\"\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let output = lynxdata(folder.path(), &["run", "recipe.toml"]).ended_with(1);
    for part in
        ["3 of 4 rows are in the pool: 1 not_found", "selection some keeps 3 of 3", "selection none keeps none of 3"]
    {
        assert!(last_line(&output).contains(part), "{part}: {output}");
    }
    let output = lynxdata(folder.path(), &["select", "recipe.toml"]).ended_with(1);
    assert!(last_line(&output).contains("selection none keeps none of 3 pairs"), "{output}");
    lynxdata(folder.path(), &["run", "recipe.toml", "--set", "select.none.rules.impossible=width > 0"])
        .ended_but_for_its_verdict();
}

/// Returns the states of the stages of a run, such as `download complete`.
fn states(run: &Path) -> Vec<String> {
    let status = status(run);
    let state = |stage: &Value| format!("{} {}", stage["name"].as_str().unwrap(), stage["state"].as_str().unwrap());
    status["stages"].as_array().unwrap().iter().map(state).collect()
}

#[test]
fn nothing_that_is_out_of_date_is_used_or_shown_as_if_it_were_not() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    write_small(folder, &web);
    lynxdata(folder, &["run", "recipe.toml"]).ended_but_for_its_verdict();
    let run = folder.join("run");
    assert!(states(&run).iter().all(|state| state.ends_with(" complete")), "{:?}", states(&run));

    // The settings of an earlier stage have changed, and only a later stage is run.
    for (set, stage, asked) in [
        ("download.size=64", "download", "signals"),
        ("download.size=64", "download", "shards"),
        ("source.url=caption", "download", "dedup"),
        ("dedup.phash_distance=0", "dedup", "select"),
        ("select.clean.rules.not_tiny=width >= 100", "select", "shards"),
        ("select.clean.rules.not_tiny=width >= 100", "select", "check"),
        ("select.clean.deduplicate=false", "select", "report"),
        ("shards.rows_per_shard=3", "shards", "report"),
        ("check.train.steps=5", "train", "report"),
        ("seed=8", "instruct", "report"),
    ] {
        let output = lynxdata(folder, &[asked, "recipe.toml", "--set", set]).ended_with(1);
        let command = if stage == "train" { "check" } else { stage };
        output.says(&[
            &format!("stage {stage} of "),
            "out of date",
            &format!("`lynxdata {command} recipe.toml --set '{set}'`"),
        ]);
        // What is refused changes nothing.
        let found = states(&run);
        assert!(found.iter().all(|state| !state.contains("out_of_date")), "{set}: {found:?}");
    }
    let other = ["select", "recipe.toml", "--set", "select.clean.rules.not_tiny=width >= 100"];
    lynxdata(folder, &other).ended_with(0);
    let found = states(&run);
    assert!(found.contains(&"shards out_of_date".to_owned()), "{found:?}");
    lynxdata(folder, &["select", "recipe.toml"]).ended_with(0);
    // Settings that change no byte make nothing out of date.
    for set in ["download.concurrency=3", "download.max_failed_fraction=0.5", "check.threads=1"] {
        lynxdata(folder, &["shards", "recipe.toml", "--set", set]).ended_with(0).says(&["made=0"]);
    }
    lynxdata(folder, &["run", "recipe.toml"]).ended_but_for_its_verdict();
    assert!(states(&run).iter().all(|state| state.ends_with(" complete")), "{:?}", states(&run));

    // After a changed rule, all later stages and the verdict are out of date.
    let verdict = status(&run)["verdict"].clone();
    lynxdata(folder, &["select", "recipe.toml", "--set", "select.clean.rules.not_tiny=width >= 100"]).ended_with(0);
    let after = status(&run);
    assert_eq!((&after["verdict"], &after["verdict_is_current"]), (&verdict, &Value::Bool(false)));
    let stale = ["shards", "arms", "train", "controls", "check", "report"];
    let expected = |name: &str| format!("{name} {}", if stale.contains(&name) { "out_of_date" } else { "complete" });
    let names = [
        "download", "signals", "dedup", "select", "shards", "instruct", "card", "arms", "train", "controls", "check",
        "report",
    ];
    assert_eq!(states(&run), names.map(expected));
    let text = lynxdata(folder, &["status", "run"]).ended_with(0).stdout;
    assert!(text.contains("verdict of earlier arms (out of date): ") && text.contains("out of date"), "{text}");
}

#[test]
fn a_check_that_has_too_little_to_compare_says_so_in_a_report() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    write_small(folder.path(), &web);
    let run = folder.path().join("run");
    for (set, reason) in [
        ("select.everything.rules.none=width < 0", "(enough pairs): arm everything is empty"),
        ("check.held_out_where=width < 0", "(enough held-out pairs): 0 pairs to measure on"),
    ] {
        let output = lynxdata(folder.path(), &["run", "recipe.toml", "--set", set]).ended_with(1);
        assert!(last_line(&output).contains(&format!("verdict: invalid {reason}")), "{output}");
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains("invalid ("), "{reason}");
        let status = status(&run);
        assert_eq!((&status["verdict"]["verdict"], &status["verdict_is_current"]), (&"invalid".into(), &true.into()));
    }
    // With enough pairs, the check is made.
    lynxdata(folder.path(), &["run", "recipe.toml"]).ended_but_for_its_verdict();
    let sentence = status(&run)["verdict"]["sentence"].as_str().unwrap().to_owned();
    assert!(!sentence.contains("(enough"), "{sentence}");
}

/// Changes one bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_any_file_is_found_and_none_is_passed_on() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    write_small(folder, &web);
    lynxdata(folder, &["run", "recipe.toml"]).ended_but_for_its_verdict();
    let run = folder.join("run");
    let whole = digests(&run);
    let verified = |code: i32| lynxdata(folder, &["verify", "run", "--json"]).ended_with(code).json();
    assert_eq!(verified(0)["faults"], serde_json::json!([]));
    let not_committed = ["manifest.jsonl", ".lock", "recipe.toml", "recipe.resolved.toml"];
    for name in files(&run).iter().filter(|name| !not_committed.contains(&name.as_str())) {
        damage(&run.join(name));
        let faults = verified(1)["faults"].clone();
        assert_eq!(faults.as_array().unwrap().len(), 1, "{name}: {faults}");
        assert_eq!((&faults[0]["path"], &faults[0]["fault"]), (&name.as_str().into(), &"damaged".into()));
        damage(&run.join(name));
    }
    assert_eq!(verified(0)["faults"], serde_json::json!([]));

    // A stage that reads a damaged file reports it and makes nothing from it.
    for (damaged, reader) in [
        ("pool/part-00001.parquet", "shards recipe.toml --set shards.rows_per_shard=5"),
        ("pool/part-00000.parquet", "check recipe.toml --set check.most_pairs=9"),
        ("download-log/part-00002.parquet", "report recipe.toml --set report.samples=4"),
        ("signals/hashes/part-00001.parquet", "dedup recipe.toml --set dedup.phash_distance=3"),
        ("signals/picture/part-00001.parquet", "report recipe.toml --set report.samples=5"),
        ("clusters/part-00000.parquet", "select recipe.toml --set select.clean.rules.wide=width>9"),
        ("selection/clean/part-00003.parquet", "shards recipe.toml --set shards.rows_per_shard=5"),
        ("instruct/conversations/vqav2-train.jsonl", "report recipe.toml --set report.samples=6"),
        ("check/fits/clean/00.json", "report recipe.toml --set report.samples=7"),
        ("check/verdict.json", "report recipe.toml --set report.samples=8"),
    ] {
        damage(&run.join(damaged));
        let reader: Vec<&str> = reader.split(' ').collect();
        lynxdata(folder, &reader).ended_with(1).says(&[damaged, "gone or damaged", "lynxdata verify"]);
        damage(&run.join(damaged));
        // Parts before the damaged one may have been made.
        lynxdata(folder, &["run", "recipe.toml"]).ended_but_for_its_verdict();
    }
    assert_eq!(digests(&run), whole);
    // Removed files are made again, with the same bytes.
    for damaged in ["pool/part-00001.parquet", "clusters/part-00000.parquet", "shards/webdataset/000000.tar"] {
        damage(&run.join(damaged));
    }
    let text = lynxdata(folder, &["verify", "run"]).ended_with(1).stdout;
    assert!(text.contains("3 damaged") && text.contains("`lynxdata verify run --remove`"), "{text}");
    lynxdata(folder, &["verify", "run", "--remove"]).ended_with(1);
    lynxdata(folder, &["run", "recipe.toml"]).ended_but_for_its_verdict();
    verified(0);
    assert_eq!(digests(&run), whole);
}

#[test]
fn a_tilde_is_the_home_folder_wherever_a_path_is_given() {
    let (home, folder, web) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), bundled_pictures());
    write_list(&home.path().join("list.tsv"), &web, &[&pictures(1)[0]]);
    let at_home = |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        command.env("HOME", home.path());
        Running::start(command).finish()
    };
    let flags = ["download", "--url-list=~/list.tsv", "--caption-col=caption", "--allow-private-addresses"];
    at_home(&[&flags[..], &["--output-folder=~/flags"]].concat()).ended_with(0);
    let recipe = "output = \"~/recipe\"\n[source]\npath = \"~/list.tsv\"\ncaption = \"caption\"\n[download]\nallow_private_addresses = true\n";
    std::fs::write(home.path().join("recipe.toml"), recipe).unwrap();
    at_home(&["download", "~/recipe.toml"]).ended_with(0);
    assert_same_files(&home.path().join("flags/pool"), &home.path().join("recipe/pool"), "by flags and by a recipe");
    at_home(&["status", "~/flags"]).ended_with(0);
    at_home(&["verify", "~/recipe"]).ended_with(0);
    at_home(&[&flags[..], &["--output-folder=~nobody/run"]].concat())
        .ended_with(2)
        .says(&["~nobody/run", "./~nobody/run"]);
    at_home(&["download", "~/recipe.toml", "--set", "output=~nobody/run"])
        .ended_with(2)
        .says(&["output", "~nobody/run"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no folder is called ~");
}

#[test]
fn a_picture_is_hashed_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let picture = repository().join("filters/fixtures/images/synthetic_stripes.png");
    let file = lynxdata(folder.path(), &["hash", "--json", picture.to_str().unwrap()]).ended_with(0).json();
    let mut command = command(folder.path(), &["hash", "--json", "-"]);
    command.stdin(std::fs::File::open(&picture).unwrap());
    let piped: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!(piped["file"], "-");
    for key in ["sha256", "phash", "dhash", "width", "height"] {
        assert_eq!(piped[key], file[key], "{key}");
    }
}

#[test]
fn a_pair_whose_caption_is_gone_is_gone() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    let paths = pictures(3);
    write_list(&folder.join("a.tsv"), &web, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let list = std::fs::read_to_string(folder.join("a.tsv")).unwrap();
    // The same images with other captions, and with two captions each.
    std::fs::write(folder.join("other.tsv"), list.replace("a picture", "a photograph")).unwrap();
    let rows = list.split_once('\n').unwrap().1;
    std::fs::write(folder.join("two.tsv"), format!("{list}{}", rows.replace("a picture", "a photograph"))).unwrap();
    download(folder, "a.tsv", &[]).ended_with(0);
    download(folder, "other.tsv", &[]).ended_with(1).says(&["3 pairs, of which 3 are not in"]);
    download(folder, "two.tsv", &[]).ended_with(0);
    download(folder, "a.tsv", &[]).ended_with(1).says(&["6 pairs, of which 3 are not in"]);
}

#[cfg(unix)]
#[test]
fn a_picture_of_a_task_that_comes_later_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, images) = (folder.path(), folder.path().join("pictures"));
    std::fs::create_dir_all(&images).unwrap();
    // The folder of images is a link, as if they were on another disk.
    std::fs::create_dir_all(folder.join("root")).unwrap();
    std::os::unix::fs::symlink("../pictures", folder.join("root/train2017")).unwrap();
    let rows = ["a", "b"].map(|name| {
        format!("{{\"image_link\": \"http://x.example/train2017/{name}.jpg\", \"caption\": \"The {name}.\", \"label\": 1}}\n")
    });
    std::fs::write(folder.join("root/dev.jsonl"), rows.concat()).unwrap();
    let task = "tasks = [{ name = \"vsr\", root = \"root\", split = \"dev\" }]";
    std::fs::write(folder.join("recipe.toml"), format!("output = \"root/run\"\n[instruct]\n{task}\n")).unwrap();
    let is_jpeg = |name: &String| Path::new(name).extension().is_some_and(|suffix| suffix == "jpg");
    let picture = files(&repository().join("examples/quickstart/images")).into_iter().find(is_jpeg);
    let picture = repository().join("examples/quickstart/images").join(picture.unwrap());
    std::fs::copy(&picture, images.join("a.jpg")).unwrap();
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&["missing_image", "1 conversations"]);
    std::fs::copy(&picture, images.join("b.jpg")).unwrap();
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&["2 conversations"]);
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&["skipped=1"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_nobody_listens_to_ends_well() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    let folder = folder.path();
    write_list(&folder.join("a.tsv"), &web, &pictures(2).iter().map(String::as_str).collect::<Vec<_>>());
    for target in ["/dev/full", ">(true)"] {
        let mut command = std::process::Command::new("bash");
        let line = format!(
            "'{}' download --url-list a.tsv --output-folder run --allow-private-addresses --number-sample-per-shard 1 2> {target}",
            env!("CARGO_BIN_EXE_lynxdata")
        );
        command.current_dir(folder).args(["-c", &line]);
        Running::start(command).finish().ended_with(0);
        assert_eq!(table(&folder.join("run/pool"), &["url"]).num_rows(), 2);
        std::fs::remove_dir_all(folder.join("run")).unwrap();
    }
}
