//! Recipes and finished runs that several tests share.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::machine::shared;
use crate::support::{lynxdata, repository, status};
use crate::web::Web;

/// A row of a list, and its expected outcome.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) url: String,
    pub(crate) caption: String,
    /// The status with which it must end.
    pub(crate) expected: &'static str,
    /// The file whose bytes the server sends for it.
    pub(crate) file: Option<PathBuf>,
    /// Width and height of the image, as another program measured them.
    pub(crate) size: Option<(i64, i64)>,
    /// The line of the list, if it is not made from the fields above.
    pub(crate) line: Option<String>,
}

impl Row {
    fn new(url: String, caption: &str, expected: &'static str) -> Row {
        Row { url, caption: caption.to_owned(), expected, file: None, size: None, line: None }
    }
}

/// A finished run of all stages.
pub(crate) struct Run {
    /// The folder of the recipe.
    pub(crate) folder: PathBuf,
    /// Its list.
    pub(crate) rows: Vec<Row>,
    /// The output of `lynxdata status --json`.
    pub(crate) status: Value,
    /// Keeps other test processes out of the folder.
    _lock: File,
}

impl Run {
    /// The run folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The entry of a stage in the status.
    pub(crate) fn stage(&self, name: &str) -> &Value {
        let stages = self.status["stages"].as_array().unwrap();
        stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("no stage {name}: {}", self.status))
    }

    fn finish(name: &str, prepare: impl FnOnce(&Path) -> Vec<Row>) -> Run {
        // Below the target folder, so that the last run can be inspected and no files accumulate
        // elsewhere.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let rows = prepare(&folder);
        lynxdata(&folder, &["run", "recipe.toml"]).ended_but_for_its_verdict();
        let status = status(&folder.join("run"));
        Run { folder, rows, status, _lock: lock }
    }
}

/// Serves the images of the quickstart.
pub(crate) fn bundled_pictures() -> Web {
    Web::start(&[("", &repository().join("examples/quickstart/images"))])
}

/// A pair of the quickstart whose image is bundled.
pub(crate) struct BundledPair {
    /// The path of the image below `examples/quickstart/images`.
    pub(crate) path: String,
    pub(crate) caption: String,
    /// The caption of another pair.
    pub(crate) exchanged: String,
}

/// The pairs of the quickstart whose images are bundled, in the order of its list.
pub(crate) fn bundled_pairs() -> Vec<BundledPair> {
    let examples = repository().join("examples/quickstart");
    let list = std::fs::read_to_string(examples.join("pairs.tsv")).unwrap();
    let pairs = list.lines().filter_map(|line| {
        let [url, caption, _, exchanged] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let path = url.strip_prefix('/')?.to_owned();
        let is_there = examples.join("images").join(&path).is_file();
        is_there.then(|| BundledPair { path, caption: caption.to_owned(), exchanged: exchanged.to_owned() })
    });
    pairs.collect()
}

/// Writes a list of 40 rows and a recipe for all stages. No answer depends on the time or number of
/// requests, so runs can be repeated.
pub(crate) fn write_small(folder: &Path, web: &Web) -> Vec<Row> {
    let images = repository().join("examples/quickstart/images");
    let pairs = bundled_pairs();
    let chosen = pairs.iter().map(|pair| (pair.path.as_str(), pair.caption.as_str()));
    let chosen: Vec<(&str, &str)> = chosen.step_by(pairs.len() / 30).take(31).collect();
    let good = |path: &str, picture: &str, caption: &str| Row {
        file: Some(images.join(picture)),
        ..Row::new(web.url(path), caption, "ok")
    };
    let mut rows: Vec<Row> = chosen.iter().map(|(picture, caption)| good(picture, picture, caption)).collect();
    // Duplicates: the same bytes behind another URL, and the same URL with another caption.
    for (picture, caption) in &chosen[3..5] {
        rows.push(good(&format!("moved/{picture}"), picture, caption));
    }
    rows.push(good(chosen[7].0, chosen[7].0, "another caption of the same picture"));
    for (path, expected) in [("missing/a.jpg", "not_found"), ("html/a.jpg", "not_an_image")] {
        rows.push(Row::new(web.url(path), "a caption whose picture is gone", expected));
    }
    rows.push(Row::new(web.url(&format!("cut/{}", chosen[9].0)), "half a picture", "broken_image"));
    rows.push(Row::new("ftp://example.org/a.png".to_owned(), "a server of another kind", "invalid_url"));
    rows.push(Row::new(String::new(), "a caption alone", "missing_url"));
    rows.push(Row { line: Some("one field".to_owned()), ..Row::new(String::new(), "", "malformed_row") });
    assert_eq!(rows.len(), 40);

    let mut text = "url\tcaption\torigin\n".to_owned();
    for row in &rows {
        let line = row.line.clone().unwrap_or_else(|| format!("{}\t{}\tbundled", row.url, row.caption));
        text.push_str(&format!("{line}\n"));
    }
    std::fs::write(folder.join("pairs.tsv"), text).unwrap();
    std::fs::write(
        folder.join("recipe.toml"),
        recipe("pairs.tsv", "rows_per_part = 10\nsize = 128\ntimeout_seconds = 60", 7),
    )
    .unwrap();
    rows
}

/// Returns a recipe for all stages with a check that is too small for a valid verdict.
fn recipe(source: &str, download: &str, rows_per_shard: usize) -> String {
    let fixtures = repository().join("datasets/fixtures");
    let fixtures = fixtures.display();
    let tasks = [
        ("vqav2", "train"),
        ("aokvqa", "val"),
        ("coco_caption", "val2017"),
        ("oxford_pets", "trainval"),
        ("vsr", "dev"),
        ("visdial", "val"),
    ]
    .map(|(name, split)| format!("    {{ name = \"{name}\", root = \"{fixtures}/{name}\", split = \"{split}\" }},\n"))
    .concat();
    format!(
        "name = \"a test\"
output = \"run\"
seed = 7
[source]
path = \"{source}\"
caption = \"caption\"
[download]
allow_private_addresses = true
retries = 1
{download}
[select.clean]
preset = \"lynx-clean\"
[select.clean.rules]
not_tiny = \"width >= 40 AND height >= 40\"
[select.everything]
deduplicate = false
[shards]
selection = \"clean\"
rows_per_shard = {rows_per_shard}
[instruct]
require_images = false
tasks = [
{tasks}]
[check]
arms = [\"clean\", \"everything\"]
replicates = 2
held_out_most = 40
fewest_pairs = 5
fewest_held_out = 2
members = 1
tokenizer.vocabulary = 320
[check.model]
latents = 2
decoder_dim = 32
decoder_heads = 2
decoder_mlp_dim = 32
[check.train]
steps = 8
learning_rate = 0.01
tokens_per_step = 48
max_tokens = 16
checkpoint_every = 2
log_every = 2
"
    )
}

/// Returns the finished run of the bundled images.
pub(crate) fn small() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| Run::finish("small", |folder| write_small(folder, &bundled_pictures())))
}

/// Returns the finished run of all real pairs and the answers of a misbehaving web; `None` on a
/// machine without the large data.
pub(crate) fn large() -> Option<&'static Run> {
    static RUN: OnceLock<Run> = OnceLock::new();
    let (pairs, hostile) = (shared("data/pairs")?, shared("data/hostile")?);
    Some(RUN.get_or_init(|| Run::finish("large", |folder| write_large(folder, &pairs, &hostile))))
}

/// The bad answers of the web: path, with `*` for an existing image, the expected status, and the
/// number of rows.
const RUDE: &[(&str, &str, usize)] = &[
    ("missing/a.jpg", "not_found", 3),
    ("gone/a.jpg", "not_found", 2),
    ("forbidden/a.jpg", "forbidden", 2),
    ("teapot/a.jpg", "http_client_error", 2),
    ("error/a.jpg", "http_server_error", 3),
    ("busy/a.jpg", "rate_limited", 2),
    ("busy-once/*", "ok", 3),
    ("html/a.jpg", "not_an_image", 4),
    ("svg/a.svg", "unsupported_image", 2),
    ("empty/a.png", "empty_body", 2),
    ("moved/*", "ok", 4),
    ("moved/moved/moved/*", "ok", 2),
    ("loop/a.jpg", "too_many_redirects", 2),
    ("away/a.jpg", "invalid_url", 2),
    ("slow/a.jpg", "timeout", 4),
    ("endless/a.jpg", "too_large", 2),
    ("oversized/a.jpg", "too_large", 2),
    ("truncated/*", "truncated_body", 4),
    ("cut/*", "broken_image", 6),
    ("babble/a.jpg", "protocol_error", 2),
    ("silent/a.jpg", "protocol_error", 2),
    ("hostile/generated/bomb_20000x20000_1bit.png", "too_many_pixels", 1),
    ("hostile/generated/header_claims_100000x100000_tiny_idat.png", "too_many_pixels", 1),
    ("hostile/generated/empty.jpg", "empty_body", 1),
    ("hostile/generated/html_404_as.jpg", "not_an_image", 1),
    ("hostile/generated/one_byte.png", "not_an_image", 1),
    ("hostile/generated/truncated_50pct.jpg", "broken_image", 1),
    ("hostile/generated/truncated_99pct.jpg", "broken_image", 1),
    ("hostile/generated/svg_billion_laughs.svg", "unsupported_image", 1),
    ("hostile/generated/pixel_1x1_tracker.gif", "ok", 1),
];

/// Bad rows that need no server: URL and status.
const BROKEN_URLS: &[(&str, &str)] = &[
    ("ftp://example.org/a.png", "invalid_url"),
    ("neither http nor anything else", "invalid_url"),
    ("file:///etc/passwd", "invalid_url"),
    ("", "missing_url"),
    ("http://127.0.0.1:1/a.jpg", "connect_error"), // nothing listens on port 1
    ("http://no-such-host.invalid/a.jpg", "dns_error"),
];

fn write_large(folder: &Path, pairs: &Path, hostile: &Path) -> Vec<Row> {
    let web = Web::start(&[("pairs/", pairs), ("hostile/", hostile)]);
    let manifest = std::fs::read_to_string(pairs.join("manifest.jsonl")).unwrap();
    let listed: Vec<Value> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let good = |path: &str, listed: &Value| Row {
        file: Some(pairs.join(text(&listed["image"]))),
        size: Some((listed["width"].as_i64().unwrap(), listed["height"].as_i64().unwrap())),
        ..Row::new(web.url(path), &text(&listed["caption"]), "ok")
    };

    let mut rude = Vec::new();
    // Images from all over the list, of all formats, for the rows that need one.
    let mut pictures = listed.iter().cycle().skip(11).step_by(97);
    for (path, expected, count) in RUDE {
        for number in 0..*count {
            if path.contains('*') {
                let picture = pictures.next().unwrap();
                let path = path.replace('*', &format!("pairs/{}", text(&picture["image"])));
                let row = good(&path, picture);
                rude.push(if *expected == "ok" { row } else { Row { file: None, size: None, expected, ..row } });
            } else {
                rude.push(Row::new(
                    web.url(&format!("{path}?{number}")),
                    &format!("a caption without picture, {path}"),
                    expected,
                ));
            }
        }
    }
    rude.extend(BROKEN_URLS.iter().map(|(url, expected)| Row::new((*url).to_owned(), "a broken link", expected)));
    for line in ["{\"url\": \"http://127.0.0.1/a.jpg\", ", "not JSON at all"] {
        rude.push(Row { line: Some(line.to_owned()), ..Row::new(String::new(), "", "malformed_row") });
    }

    // The bad rows are among the good ones, as in real lists.
    let every = listed.len() / rude.len();
    let mut rude = rude.into_iter();
    let mut rows = Vec::new();
    for (index, listed) in listed.iter().enumerate() {
        rows.push(good(&format!("pairs/{}", text(&listed["image"])), listed));
        if index % every == 0 {
            rows.extend(rude.next());
        }
    }
    rows.extend(rude);
    let mut list = String::new();
    for row in &rows {
        let width = row.size.map(|size| size.0);
        let line = json!({"url": row.url, "caption": row.caption, "expected": row.expected, "listed_width": width});
        list.push_str(&row.line.clone().unwrap_or_else(|| line.to_string()));
        list.push('\n');
    }
    std::fs::write(folder.join("pairs.jsonl"), list).unwrap();
    // The limits are far above what a good image needs, even on a busy machine.
    let download = "rows_per_part = 500\nmax_bytes = 2000000\ntimeout_seconds = 15";
    std::fs::write(folder.join("recipe.toml"), recipe("pairs.jsonl", download, 500)).unwrap();
    rows
}
