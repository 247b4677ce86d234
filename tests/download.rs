//! Downloads of lists to pools: formats, growth, retries, kills, imports, counters.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::runs::bundled_pictures;
use crate::support::{
    LIMIT, POLL, Running, assert_same_files, command, files, integers, lynxdata, repository, sha256, status, table,
    texts,
};
use crate::web::Web;

/// Returns bundled images, as paths below the folder that the web serves.
fn pictures(count: usize) -> Vec<String> {
    let names = files(&repository().join("examples/quickstart/images"));
    let step = names.len() / count;
    names.into_iter().step_by(step).take(count).collect()
}

fn bytes_of(picture: &str) -> Vec<u8> {
    std::fs::read(repository().join("examples/quickstart/images").join(picture)).unwrap()
}

/// Writes a list of URLs and captions.
fn write_list(path: &Path, web: &Web, paths: &[String]) {
    let rows = paths.iter().map(|path| format!("{}\ta picture of {path}\n", web.url(path)));
    std::fs::write(path, format!("url\tcaption\n{}", rows.collect::<String>())).unwrap();
}

/// Returns flags for a list in a folder; images are kept as served, with ten rows per part.
fn flags<'a>(format: &'a str, output: &'a str) -> Vec<&'a str> {
    let flags = "download --url-list list.tsv --caption-col caption --allow-private-addresses --resize-mode no --number-sample-per-shard 10";
    let mut flags: Vec<&str> = flags.split(' ').collect();
    flags.extend(["--output-format", format, "--output-folder", output]);
    flags
}

/// Returns the members of a tar file.
fn members(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(File::open(path).unwrap());
    let member = |entry: std::io::Result<tar::Entry<'_, File>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    archive.entries().unwrap().map(member).collect()
}

#[test]
fn every_format_of_the_pool_holds_the_same_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let mut paths = pictures(23);
    paths.insert(5, "missing/a.jpg".to_owned());
    write_list(&folder.path().join("list.tsv"), &web, &paths);
    for format in ["parquet", "webdataset", "files"] {
        lynxdata(folder.path(), &flags(format, format)).ended_with(0);
        let again = lynxdata(folder.path(), &flags(format, format)).ended_with(0);
        assert!(again.stderr.contains("made=0 skipped=3"), "{again}");
    }
    let columns = ["uid", "url", "caption", "sha256", "format"];
    let [parquet, webdataset, plain] =
        ["parquet", "webdataset", "files"].map(|format| table(&folder.path().join(format).join("pool"), &columns));
    assert_eq!(parquet, webdataset);
    assert_eq!(parquet, plain);

    let tars = folder.path().join("webdataset/shards/webdataset");
    assert_eq!(files(&tars), ["000000.tar", "000001.tar", "000002.tar"]);
    let in_tars: BTreeMap<String, Vec<u8>> = files(&tars).iter().flat_map(|name| members(&tars.join(name))).collect();
    let shards = folder.path().join("files/shards/files");
    let in_folders: BTreeMap<String, Vec<u8>> = files(&shards)
        .iter()
        .map(|name| (name.split_once('/').unwrap().1.to_owned(), std::fs::read(shards.join(name)).unwrap()))
        .collect();
    // In a tar file all images have the same suffix, so that `datasets` opens it.
    let as_in_tars = in_folders.into_iter().map(|(name, bytes)| (name.replace(".png", ".jpg"), bytes));
    assert!(in_tars == as_in_tars.collect(), "the same bytes");
    assert!(texts(&parquet, "format").iter().any(|format| format == "png"));
    assert_eq!(in_tars.len(), 3 * 23);
    let good = paths.iter().filter(|path| !path.starts_with("missing"));
    for ((uid, caption), path) in texts(&parquet, "uid").iter().zip(texts(&parquet, "caption")).zip(good) {
        assert_eq!(in_tars[&format!("{uid}.txt")], caption.as_bytes());
        let json: Value = serde_json::from_slice(&in_tars[&format!("{uid}.json")]).unwrap();
        assert_eq!(
            (json["uid"].as_str(), json["sha256"].as_str()),
            (Some(uid.as_str()), Some(&*sha256(&bytes_of(path))))
        );
        let beside = [format!("{uid}.txt"), format!("{uid}.json")];
        let picture = in_tars.keys().find(|name| name.starts_with(uid.as_str()) && !beside.contains(name));
        assert!(in_tars[picture.unwrap()] == bytes_of(path), "{path}");
    }

    let recipe = "output = \"run\"\n[source]\npath = \"list.tsv\"\n[download]\nformat = \"files\"\n[select.all]\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    lynxdata(folder.path(), &["run", "recipe.toml"]).ended_with(2).says(&["download.format"]);
}

#[test]
fn a_command_line_of_img2dataset_works_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    write_list(&folder.path().join("list.tsv"), &web, &pictures(3));
    let line = "download --url_list list.tsv --input_format tsv --url_col url --caption_col caption --output_format webdataset --output_folder run \
                --processes_count 16 --thread_count 128 --image_size 256 --resize_mode keep_ratio --resize_only_if_bigger=True --skip_reencode \
                --save_additional_columns [\"similarity\"] --enable_wandb True --min_image_size 10 --max_image_area inf --allow_private_addresses";
    let words: Vec<&str> = line.split_whitespace().collect();
    lynxdata(folder.path(), &words).ended_with(0).says(&[
        "--processes-count is ignored: ",
        "--skip-reencode is ignored: ",
        "--save-additional-columns is ignored: ",
        "--enable-wandb is ignored: ",
    ]);
    assert_eq!(integers(&table(&folder.path().join("run/pool"), &["width"]), "width").len(), 3);
    // This flag would keep other images than it asks for.
    lynxdata(folder.path(), &[&words[..], &["--incremental_mode", "overwrite"]].concat())
        .ended_with(2)
        .says(&["--incremental-mode overwrite: ", "remove the output folder"]);
    // With a recipe, these flags are errors.
    lynxdata(folder.path(), &["download", "run/recipe.toml", "--processes_count", "16"]).ended_with(2);
}

#[test]
fn pictures_of_unwanted_sizes_are_told_and_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    // 340 x 224, 533 x 533 and 100 x 100 pixels.
    let pictures = [
        "coco/000000000790.jpg",
        "openclipart/signs_and_symbols/awards/banner_01.png",
        "openclipart/special/patterns/pattern-deltoids-4.png",
    ];
    write_list(&folder.path().join("list.tsv"), &web, &pictures.map(str::to_owned));
    let limits = ["--min_image_size", "120", "--max_aspect_ratio", "1.4"];
    lynxdata(folder.path(), &[&flags("files", "run")[..], &limits].concat()).ended_with(0);
    let run = folder.path().join("run");
    assert_eq!(integers(&table(&run.join("pool"), &["width"]), "width"), [533]);
    let by_status = status(&run)["download"]["by_status"].clone();
    assert_eq!(by_status, serde_json::json!({ "ok": 1, "unwanted_size": 2 }));
    let failed = lynxdata(folder.path(), &["status", "run", "--failed"]).ended_with(0).stdout;
    for reason in
        ["340 x 224 pixels: one side is more than 1.4 times the other", "100 x 100 pixels: a side is below 120"]
    {
        assert!(failed.contains(reason), "{failed}");
    }
    lynxdata(folder.path(), &[&flags("files", "other")[..], &["--max_image_area", "0"]].concat()).ended_with(2);
}

#[test]
fn other_flags_leave_nothing_of_the_earlier_ones() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    write_list(&folder.path().join("list.tsv"), &web, &pictures(12));
    for format in ["webdataset", "files", "parquet"] {
        let flags = [&flags(format, "run")[..], &["--set", "download.size=48"]].concat();
        lynxdata(folder.path(), &flags).ended_with(0);
        let run = folder.path().join("run");
        let shards = ["shards/webdataset/", "shards/files/"]
            .map(|folder| files(&run).iter().filter(|path| path.starts_with(folder)).count());
        let expected = match format {
            "webdataset" => [2, 0],
            "files" => [0, 36],
            _ => [0, 0],
        };
        assert_eq!(shards, expected, "{format}");
        // The recipe in the run folder has the same settings, overrides too.
        let recipe = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
        assert!(recipe.contains(&format!("format = {format:?}")) && recipe.contains("size = 48"), "{recipe}");
        let again = lynxdata(folder.path(), &["download", "run/recipe.toml"]).ended_with(0);
        assert!(again.stderr.contains("made=0 skipped=2"), "{again}");
    }
}

#[test]
fn a_list_that_has_lost_its_rows_does_not_empty_the_pool() {
    let (folder, web) = (tempfile::tempdir().unwrap(), bundled_pictures());
    write_list(&folder.path().join("list.tsv"), &web, &pictures(12));
    lynxdata(folder.path(), &flags("parquet", "run")).ended_with(0);
    let before = files(&folder.path().join("run"));
    write_list(&folder.path().join("list.tsv"), &web, &[]);
    let refused = lynxdata(folder.path(), &flags("parquet", "run")).ended_with(1);
    refused.says(&["nothing to read any more", "remove"]);
    assert_eq!(files(&folder.path().join("run")), before);
}

#[test]
fn rows_that_are_added_to_a_source_are_the_only_ones_fetched() {
    let web = bundled_pictures();
    let mut paths = pictures(33);
    paths[4] = "missing/a.jpg".to_owned();
    paths[27] = "missing/b.jpg".to_owned();
    for format in ["parquet", "webdataset", "files"] {
        let [grown, fresh] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        write_list(&grown.path().join("list.tsv"), &web, &paths[..15]);
        lynxdata(grown.path(), &flags(format, "run")).ended_with(0);
        web.requests();
        write_list(&grown.path().join("list.tsv"), &web, &paths);
        lynxdata(grown.path(), &flags(format, "run")).ended_with(0);
        let mut added = paths[15..].to_vec();
        added.sort();
        assert_eq!(web.requests(), added, "{format}");
        write_list(&fresh.path().join("list.tsv"), &web, &paths);
        lynxdata(fresh.path(), &flags(format, "run")).ended_with(0);
        for table in ["pool", "download-log"] {
            let [grown, fresh] = [&grown, &fresh].map(|folder| folder.path().join("run").join(table));
            assert_same_files(&grown, &fresh, format);
        }
        if format != "parquet" {
            let [grown, fresh] = [&grown, &fresh].map(|folder| folder.path().join("run/shards"));
            assert_same_files(&grown, &fresh, format);
        }
        // A changed row differs: its part is made again.
        paths.swap(20, 21);
        write_list(&grown.path().join("list.tsv"), &web, &paths);
        web.requests();
        lynxdata(grown.path(), &flags(format, "run")).ended_with(0);
        assert_eq!(web.requests().len(), 10, "{format}");
    }
}

#[test]
fn failed_rows_are_tried_again_in_every_format() {
    let web = bundled_pictures();
    for format in ["webdataset", "files"] {
        let folder = tempfile::tempdir().unwrap();
        let good = pictures(13);
        // Each path is new to the server in every round.
        let paths: Vec<String> = good
            .iter()
            .enumerate()
            .map(|(row, path)| if row % 4 == 2 { format!("busy-once/{path}?{format}") } else { path.clone() })
            .collect();
        write_list(&folder.path().join("list.tsv"), &web, &paths);
        let flags = [flags(format, "run"), vec!["--retries", "0"]].concat();
        lynxdata(folder.path(), &flags).ended_with(0);
        let run = folder.path().join("run");
        assert_eq!(status(&run)["download"]["by_status"]["rate_limited"], 3);
        web.requests();
        lynxdata(folder.path(), &[flags, vec!["--retry-failed=server"]].concat()).ended_with(0);
        assert_eq!(web.requests().len(), 3);
        let pool = table(&run.join("pool"), &["uid", "sha256", "format"]);
        let wanted: Vec<String> = good.iter().map(|path| sha256(&bytes_of(path))).collect();
        assert_eq!(texts(&pool, "sha256"), wanted);
        let shards = run.join("shards").join(format);
        let names: BTreeSet<String> = match format {
            "webdataset" => files(&shards).iter().flat_map(|tar| members(&shards.join(tar)).into_keys()).collect(),
            _ => files(&shards).iter().map(|name| name.split_once('/').unwrap().1.to_owned()).collect(),
        };
        assert_eq!(names.len(), 3 * 13);
        assert!(texts(&pool, "uid").iter().all(|uid| names.contains(&format!("{uid}.json"))));
    }
}

#[test]
fn a_download_killed_at_twenty_moments_ends_with_the_pool_of_an_undisturbed_one() {
    let web = bundled_pictures();
    let mut paths = pictures(40);
    paths[7] = "missing/a.jpg".to_owned();
    paths[31] = format!("moved/{}", paths[32]);
    let new = || {
        let folder = tempfile::tempdir().unwrap();
        write_list(&folder.path().join("list.tsv"), &web, &paths);
        folder
    };
    let flags = [flags("webdataset", "run"), vec!["--thread-count", "4", "--set", "download.rows_per_part=4"]].concat();
    let undisturbed = new();
    let begin = Instant::now();
    lynxdata(undisturbed.path(), &flags).ended_with(0);
    let whole = begin.elapsed();
    let mut killed = 0;
    for moment in 0..20 {
        let disturbed = new();
        let mut running = Running::start(command(disturbed.path(), &flags));
        // From the start of the process to its end; the moments of the second ten lie between those
        // of the first.
        std::thread::sleep(whole.mul_f64((f64::from(moment % 10) + 0.5 * f64::from(moment / 10)) / 10.0));
        killed += u32::from(running.is_alive());
        running.kill();
        running.finish();
        lynxdata(disturbed.path(), &flags).ended_with(0);
        let when = format!("killed after {moment} twentieths");
        for folder in ["pool", "download-log", "shards"] {
            let [left, right] = [&undisturbed, &disturbed].map(|twin| twin.path().join("run").join(folder));
            assert_same_files(&left, &right, &when);
        }
        let left_over = files(&disturbed.path().join("run"));
        assert!(left_over.iter().all(|name| !name.starts_with(".partial")), "{when}: {left_over:?}");
    }
    assert!(killed >= 5, "only {killed} of 20 runs were still alive when they were killed");
}

#[test]
fn the_status_tells_hosts_and_times() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let mut paths = pictures(12);
    paths[0] = "missing/a.jpg".to_owned();
    write_list(&folder.path().join("list.tsv"), &web, &paths);
    let list = std::fs::read_to_string(folder.path().join("list.tsv")).unwrap();
    std::fs::write(folder.path().join("list.tsv"), list + "http://[bad\tno host\nnot a url\tneither\n").unwrap();
    lynxdata(folder.path(), &flags("parquet", "run")).ended_with(0);
    let run = folder.path().join("run");
    let download = status(&run)["download"].clone();
    let host = &download["hosts"][0];
    assert_eq!((host["host"].as_str(), host["rows"].as_u64()), (Some("127.0.0.1"), Some(12)));
    assert_eq!((host["by_status"]["ok"].as_u64(), host["by_status"]["not_found"].as_u64()), (Some(11), Some(1)));
    let sizes: i64 = integers(&table(&run.join("pool"), &["bytes"]), "bytes").iter().sum();
    assert_eq!(host["bytes"].as_i64(), Some(sizes));
    let quantiles = ["p50", "p90", "p99", "max"].map(|name| download["latency_ms"][name].as_i64().unwrap());
    assert!(quantiles.is_sorted() && quantiles[0] >= 0, "{quantiles:?}");
    let statuses: Vec<_> = download["statuses"].as_array().unwrap().iter().map(|of| of["status"].as_str()).collect();
    assert_eq!(statuses, [Some("ok"), Some("invalid_url"), Some("not_found")]);
    let ok = &download["statuses"][0];
    assert_eq!((ok["rows"].as_u64(), ok["bytes"].as_i64()), (Some(11), Some(sizes)));
    assert_eq!(download["statuses"][2]["retry_class"].as_str(), Some("final"));
    for (histogram, rows) in [("latency_ms_histogram", 12), ("body_bytes_histogram", 11)] {
        let buckets = download[histogram].as_array().unwrap();
        assert_eq!(buckets.iter().map(|bucket| bucket["rows"].as_u64().unwrap()).sum::<u64>(), rows);
        assert!(buckets.last().unwrap()["up_to"].is_null());
    }
    let text = lynxdata(&run, &["status", "."]).ended_with(0).stdout;
    assert!(text.contains("127.0.0.1") && text.contains("p99"), "{text}");
    // The rows that failed, as text and as JSON.
    let text = lynxdata(&run, &["status", ".", "--failed"]).ended_with(0).stdout;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 9), "{text}");
    let cells: Vec<[&str; 5]> = rows.iter().map(|row| [0, 3, 4, 5, 6].map(|column| row[column])).collect();
    assert_eq!(
        cells,
        [
            ["row", "status", "retry_class", "http_status", "attempts"],
            ["0", "not_found", "final", "404", "1"],
            ["12", "invalid_url", "final", "", "0"],
            ["13", "invalid_url", "final", "", "0"],
        ]
    );
    assert!(rows[1][7].parse::<u64>().is_ok() && rows[2][7].is_empty(), "{text}");
    let json = lynxdata(&run, &["status", ".", "--failed", "--json"]).ended_with(0).stdout;
    let objects: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3);
    assert_eq!((objects[0]["http_status"].as_u64(), objects[1]["url"].as_str()), (Some(404), Some("http://[bad")));
}

#[test]
#[cfg(target_os = "linux")]
fn a_low_limit_of_open_files_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    write_list(&folder.path().join("list.tsv"), &web, &pictures(100));
    let flags = [
        flags("parquet", "run"),
        vec!["--thread-count", "100", "--retries", "0", "--set", "download.requests_per_host=0"],
    ]
    .concat();
    let plain = command(folder.path(), &flags);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -S -n 32 && exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    limited.current_dir(folder.path());
    Running::start(limited).finish().ended_with(0);
    assert_eq!(status(&folder.path().join("run"))["download"]["by_status"]["ok"].as_u64(), Some(100));
}

#[test]
fn metrics_are_served_while_a_download_runs() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let mut paths = pictures(5);
    paths.push("slow/a.jpg".to_owned()); // does not end before the process is killed
    write_list(&folder.path().join("list.tsv"), &web, &paths);
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let number = port.to_string();
    let flags = [flags("parquet", "run"), vec!["--metrics-port", &number, "--timeout", "3600"]].concat();
    let mut running = Running::start(command(folder.path(), &flags));
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let deadline = Instant::now() + LIMIT;
    let wanted = ["lynxdata_download_rows_total{status=\"ok\"} 5\n", "lynxdata_download_in_flight 1\n"];
    loop {
        assert!(running.is_alive() && Instant::now() < deadline, "the counters never are as expected");
        if get().is_ok_and(|text| wanted.iter().all(|line| text.contains(line))) {
            break;
        }
        std::thread::sleep(POLL);
    }
    running.kill();
    running.finish();
}

#[test]
fn what_was_written_can_be_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    write_list(&folder.path().join("list.tsv"), &web, &pictures(17));
    let recipe = |name: &str, path: &PathBuf, format: &str| {
        let text = format!(
            "output = \"{name}\"\n[source]\npath = {path:?}\nformat = \"{format}\"\n[download]\nresize = \"keep\"\nrows_per_part = 10\n"
        );
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
        format!("{name}.toml")
    };
    for (written, imported_as) in [("webdataset", "webdataset"), ("files", "folder")] {
        lynxdata(folder.path(), &flags(written, written)).ended_with(0);
        let shards = folder.path().join(written).join("shards").join(written);
        web.requests();
        let name = format!("again-{written}");
        let recipe = recipe(&name, &shards, imported_as);
        lynxdata(folder.path(), &["download", &recipe]).ended_with(0);
        assert_eq!(web.requests(), Vec::<String>::new(), "nothing is fetched");
        let pairs = |run: &str| {
            let pool = table(&folder.path().join(run).join("pool"), &["sha256", "caption", "url"]);
            let mut pairs: Vec<_> =
                texts(&pool, "sha256").into_iter().zip(texts(&pool, "caption")).zip(texts(&pool, "url")).collect();
            pairs.sort();
            pairs
        };
        assert_eq!(pairs(written), pairs(&name));
    }
}
