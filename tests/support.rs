//! Functions that start the binary, read its tables and run Python.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Maximum time of any process of a test; one that hangs fails instead of blocking. It is generous,
/// because machines may be busy.
pub(crate) const LIMIT: Duration = Duration::from_mins(10);

/// Pause between two polls.
pub(crate) const POLL: Duration = Duration::from_millis(1);

/// Returns the root folder of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs a script of `tests/python` and parses what it prints.
pub(crate) fn run_python(python: &Path, script: &str, arguments: &[&OsStr], cache: &Path) -> Value {
    let mut command = Command::new(python);
    command.arg(repository().join("tests/python").join(script)).args(arguments);
    // Nothing may be downloaded, or written outside the test's own folder.
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", cache).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = Running::start(command).finish();
    assert_eq!(output.code, Some(0), "{script}: {output}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{script} printed no JSON ({error}): {output}"))
}

/// Exit code and output of a process.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Parses standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// Fails unless the process ended with this code.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Output {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails unless the process succeeded, or ended with code 1 only because of an invalid verdict.
    /// The checks of most tests are too small for a valid one.
    #[track_caller]
    pub(crate) fn ended_but_for_its_verdict(self) -> Output {
        let is_invalid = self.code == Some(1) && self.stderr.contains("verdict: invalid");
        if is_invalid { self } else { self.ended_with(0) }
    }

    /// Fails unless standard error has all of these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Output {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is missing: {self}");
        }
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "code {:?}\n-- stdout\n{}\n-- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A process whose output is collected while it runs.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    /// Returns whether it is still running.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGKILL, so it cannot clean up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&mut self) {
        let status = Command::new("sh").args(["-c", &format!("kill -INT {}", self.child.id())]).status().unwrap();
        assert!(status.success(), "cannot send SIGINT");
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Output {
        let deadline = Instant::now() + LIMIT;
        let mut text = |receiver: &Receiver<String>| {
            receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
                self.child.kill().unwrap();
                format!("(killed: it had not ended after {} s)", LIMIT.as_secs())
            })
        };
        let (stdout, stderr) = (text(&self.stdout), text(&self.stderr));
        let status: ExitStatus = self.child.wait().unwrap();
        Output { code: status.code(), stdout, stderr }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Output before an error is kept.
        pipe.read_to_end(&mut bytes).unwrap_or_default();
        sender.send(String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    });
    receiver
}

/// Returns the command `lynxdata`, to be run in a folder.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lynxdata"));
    command.current_dir(folder).args(arguments);
    // Settings of the machine that would change the results.
    command.env_remove("LYNXDATA_LOG").env_remove("RAYON_NUM_THREADS").env_remove("TOKIO_WORKER_THREADS");
    command
}

/// Runs `lynxdata` in a folder.
pub(crate) fn lynxdata(folder: &Path, arguments: &[&str]) -> Output {
    Running::start(command(folder, arguments)).finish()
}

/// Returns the output of `lynxdata status --json` for a run folder.
pub(crate) fn status(run: &Path) -> Value {
    lynxdata(run, &["status", ".", "--json"]).ended_with(0).json()
}

/// Returns the paths of all files below a folder, relative to it, sorted.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the SHA-256 as hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Returns the digests of all files of a run, except the lock and the manifest, whose lines have
/// times and are in the order in which parts were finished. The column of elapsed times is left out
/// of tables.
pub(crate) fn digests(run: &Path) -> BTreeMap<String, String> {
    let names = files(run).into_iter().filter(|name| name != "manifest.jsonl" && name != ".lock");
    let digest = |name: &str| {
        let path = run.join(name);
        let without_times = name.ends_with(".parquet").then(|| rows_without(&path, "elapsed_ms")).flatten();
        sha256(&without_times.unwrap_or_else(|| std::fs::read(path).unwrap()))
    };
    names.map(|name| (name.clone(), digest(&name))).collect()
}

/// Returns the rows of a table without one column, as an Arrow stream; `None` if it has no such
/// column.
fn rows_without(path: &Path, column: &str) -> Option<Vec<u8>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let index = reader.schema().index_of(column).ok()?;
    let mut stream: Option<StreamWriter<Vec<u8>>> = None;
    for batch in reader.build().unwrap() {
        let mut batch = batch.unwrap();
        batch.remove_column(index);
        stream
            .get_or_insert_with(|| StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap())
            .write(&batch)
            .unwrap();
    }
    stream.map(|stream| stream.into_inner().unwrap())
}

/// Fails unless both runs have the same files with the same bytes.
#[track_caller]
pub(crate) fn assert_same_files(left: &Path, right: &Path, when: &str) {
    let (left_files, right_files) = (digests(left), digests(right));
    let names = left_files.keys().chain(right_files.keys()).collect::<std::collections::BTreeSet<_>>();
    let different: Vec<_> = names.into_iter().filter(|name| left_files.get(*name) != right_files.get(*name)).collect();
    assert!(different.is_empty(), "{when}: {different:?} differ between {} and {}", left.display(), right.display());
}

/// Reads the Parquet files of a folder in the order of their names as one table, with all columns
/// or the given ones.
pub(crate) fn table(folder: &Path, columns: &[&str]) -> RecordBatch {
    let mut batches = Vec::new();
    for name in files(folder).into_iter().filter(|name| name.ends_with(".parquet")) {
        let file = File::open(folder.join(&name)).unwrap();
        let mut builder =
            ParquetRecordBatchReaderBuilder::try_new(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        if !columns.is_empty() {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        batches.extend(builder.build().unwrap().map(Result::unwrap));
    }
    assert!(!batches.is_empty(), "{} holds no rows", folder.display());
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Returns a text column; null becomes the empty text.
pub(crate) fn texts(table: &RecordBatch, column: &str) -> Vec<String> {
    let column = table.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

/// Returns a column of integers without nulls.
pub(crate) fn integers(table: &RecordBatch, column: &str) -> Vec<i64> {
    let values = table.column_by_name(column).unwrap().as_primitive::<Int64Type>();
    assert_eq!(values.null_count(), 0, "{column} has nulls");
    values.values().to_vec()
}

/// Returns a column of booleans without nulls.
pub(crate) fn flags(table: &RecordBatch, column: &str) -> Vec<bool> {
    table.column_by_name(column).unwrap().as_boolean().iter().map(Option::unwrap).collect()
}

/// Returns a column of lists of texts.
pub(crate) fn lists(table: &RecordBatch, column: &str) -> Vec<Vec<String>> {
    let lists = table.column_by_name(column).unwrap().as_list::<i32>();
    lists
        .iter()
        .map(|list| list.unwrap().as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect())
        .collect()
}
