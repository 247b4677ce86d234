//! Lists in an object store, and runs that are mirrored in one. The store is an S3 server on
//! loopback, from the Python package `moto`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::machine::python;
use crate::runs::bundled_pictures;
use crate::support::{Output, Running, assert_same_files, command, files, repository};

/// A server with one bucket, called `bucket`; it stops when its standard input ends.
struct S3 {
    child: Child,
    endpoint: String,
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl S3 {
    fn start(python: &Path) -> S3 {
        let mut command = Command::new(python);
        command.arg(repository().join("tests/python/serve_s3.py"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut endpoint = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        assert!(endpoint.starts_with("http://127.0.0.1:"), "the S3 server did not start: {endpoint:?}");
        S3 { child, endpoint: endpoint.trim().to_owned() }
    }

    /// Runs `lynxdata` with the credentials of the server.
    fn lynxdata(&self, folder: &Path, arguments: &[&str]) -> Output {
        let mut command = command(folder, arguments);
        command.env("AWS_ENDPOINT", &self.endpoint).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "a-key-of-tests").env("AWS_SECRET_ACCESS_KEY", "a-secret-of-tests");
        Running::start(command).finish()
    }
}

impl S3 {
    /// Removes all objects whose names begin with the prefix.
    fn empty(&self, python: &Path, prefix: &str) {
        let script = "import boto3, sys\n\
            s3 = boto3.resource('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x')\n\
            assert s3.Bucket('bucket').objects.filter(Prefix=sys.argv[2] + '/').delete()";
        let status = Command::new(python).args(["-c", script, &self.endpoint, prefix]).status().unwrap();
        assert!(status.success());
    }

    /// Puts these bytes into an object.
    fn put(&self, python: &Path, name: &str, body: &str) {
        let script = "import boto3, sys\n\
            s3 = boto3.resource('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x')\n\
            s3.Object('bucket', sys.argv[2]).put(Body=sys.argv[3].encode())";
        let status = Command::new(python).args(["-c", script, &self.endpoint, name, body]).status().unwrap();
        assert!(status.success());
    }

    /// Returns the names of all objects that begin with the prefix.
    fn names(&self, python: &Path, prefix: &str) -> Vec<String> {
        let script = "import boto3, sys\n\
            s3 = boto3.resource('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='x', aws_secret_access_key='x')\n\
            print(*[found.key for found in s3.Bucket('bucket').objects.filter(Prefix=sys.argv[2] + '/')], sep='\\n')";
        let output = Command::new(python).args(["-c", script, &self.endpoint, prefix]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_list_in_a_store_becomes_a_pool_in_a_store_and_another_machine_goes_on() {
    let Some(python) = python() else { return };
    let s3 = S3::start(&python);
    let web = bundled_pictures();
    let names = files(&repository().join("examples/quickstart/images"));
    let list = |count: usize| {
        let rows = names.iter().take(count).map(|name| format!("{}\ta picture\n", web.url(name)));
        format!("url\tcaption\n{}", rows.collect::<String>())
    };
    let flags = "download --url-list list.tsv --caption-col caption --allow-private-addresses --resize-mode no --number-sample-per-shard 10";
    let flags: Vec<&str> = flags.split(' ').collect();
    let [first, second, here] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    for format in ["parquet", "webdataset", "files"] {
        let store = format!("s3://bucket/{format}/run");
        let to = |output: &str| {
            let more = ["--output-format", format, "--output-folder", output];
            [&flags[..], &more[..]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let run = |folder: &Path, output: &str| {
            let arguments = to(output);
            s3.lynxdata(folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
        };
        std::fs::write(first.path().join("list.tsv"), list(25)).unwrap();
        run(first.path(), &store).ended_with(0);
        // Files that were committed locally but not uploaded, because the process was killed in
        // between, are uploaded first. Emptying the store simulates this.
        s3.empty(&python, format);
        let again = run(first.path(), &store).ended_with(0);
        assert!(again.stderr.contains("made=0 skipped=3"), "{again}");
        // A machine without local files gets those of the store, and downloads only new rows.
        std::fs::write(second.path().join("list.tsv"), list(25)).unwrap();
        let again = run(second.path(), &store).ended_with(0);
        assert!(again.stderr.contains("made=0 skipped=3"), "{again}");
        std::fs::write(second.path().join("list.tsv"), list(32)).unwrap();
        web.requests();
        run(second.path(), &store).ended_with(0);
        assert_eq!(web.requests().len(), 32 - 25, "{format}");
        std::fs::write(here.path().join("list.tsv"), list(32)).unwrap();
        run(here.path(), format).ended_with(0);
        let mirrored = tempfile::tempdir().unwrap();
        std::fs::write(mirrored.path().join("list.tsv"), list(32)).unwrap();
        run(mirrored.path(), &store).ended_with(0);
        let local: Vec<_> = std::fs::read_dir(mirrored.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let local = local.iter().find(|path| path.is_dir()).unwrap();
        for part in ["pool", "download-log", "shards"] {
            if here.path().join(format).join(part).exists() {
                assert_same_files(&local.join(part), &here.path().join(format).join(part), format);
            }
        }
    }
    // The first machine is behind now: it gets the parts of the second, and downloads nothing.
    let store = "s3://bucket/parquet/run";
    let onward = |folder: &Path, rows: usize, output: &str| {
        std::fs::write(folder.join("list.tsv"), list(rows)).unwrap();
        s3.lynxdata(folder, &[&flags[..], &["--output-folder", output]].concat())
    };
    let folder_of = |machine: &Path| {
        let entries = std::fs::read_dir(machine).unwrap().map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.join("manifest.jsonl").exists())
            .find(|path| std::fs::read_to_string(path.join("recipe.toml")).unwrap().contains(store))
    };
    web.requests();
    let behind = onward(first.path(), 32, store).ended_with(0);
    assert!(behind.stderr.contains("made=0 skipped=4") && web.requests().is_empty(), "{behind}");
    let [on_first, on_second] = [&first, &second].map(|machine| folder_of(machine.path()).unwrap());
    for part in ["pool", "download-log"] {
        assert_same_files(&on_first.join(part), &on_second.join(part), part);
    }
    // The status of a run in a store needs no local folder.
    let status = |run: &str| s3.lynxdata(here.path(), &["status", run, "--json"]).ended_with(0).stdout;
    assert_eq!(status(store), status(on_first.to_str().unwrap()));
    let failed = s3.lynxdata(here.path(), &["status", store, "--failed"]).ended_with(0);
    assert_eq!(failed.stdout.lines().count(), 1, "a header and no row: {failed}");
    // If both machines continued separately, neither result is discarded.
    onward(first.path(), 33, on_first.to_str().unwrap()).ended_with(0);
    onward(second.path(), 34, store).ended_with(0);
    let apart = onward(first.path(), 35, store).ended_with(1);
    assert!(
        apart.stderr.contains("both have parts that the other does not have") && apart.stderr.contains("hint: remove"),
        "{apart}"
    );
    let missing =
        s3.lynxdata(first.path(), &["download", "--url-list", "s3://bucket/list.tsv", "--output-folder", "x"]);
    assert!(missing.stderr.contains("s3://bucket/list.tsv"), "{missing}");
    assert!(!missing.stderr.contains("a-secret-of-tests"), "{missing}");
    // If a process was stopped between the upload of a remade part and that of the manifest, the
    // next process makes the part again.
    s3.put(&python, "parquet/run/pool/part-00001.parquet", "of another time");
    let third = tempfile::tempdir().unwrap();
    let again = onward(third.path(), 34, store).ended_with(0);
    assert!(again.stderr.contains("made=1 skipped=3"), "{again}");
    assert!(again.stderr.contains("pool/part-00001.parquet does not match the manifest there"), "{again}");
    assert_same_files(&folder_of(third.path()).unwrap().join("pool"), &on_second.join("pool"), "made again");
    // If a process was stopped while it removed files, the next one removes the others, but none
    // that the manifest lists.
    let before = s3.names(&python, "parquet");
    s3.put(&python, "parquet/run/shards/old/00000.tar", "of a part that the run had");
    s3.put(&python, "parquet/run/shards/older.tar", "of a part that the run had");
    let list = r#"["pool/part-00001.parquet","shards/removed-already.tar","shards/old","shards/older.tar"]"#;
    s3.put(&python, "parquet/run/being-removed.json", list);
    let again = onward(third.path(), 34, store).ended_with(0);
    assert!(again.stderr.contains("made=0 skipped=4"), "{again}");
    assert_eq!(s3.names(&python, "parquet"), before);
}
