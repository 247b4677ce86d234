//! Downloading a part: every row ends with exactly one status, and the good ones with a picture.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int64Array, Int64Builder, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field};
use lynxdata_records::schema;
use lynxdata_records::{Status, uid};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::address;
use crate::client::{Answer, Client, Failure};
use crate::hosts::{Host, Hosts};
use crate::picture::{self, Check, Picture, PictureSettings};
use crate::{DownloadConfig, Result, SourcePart, retry};

/// What became of a part.
#[derive(Debug, Clone)]
pub struct DownloadedPart {
    /// The rows with status ok, in the order of the source; columns of [`schema::pool`] and the extra columns.
    pub pool: RecordBatch,
    /// All rows, in the order of the source; columns of [`schema::download_log`].
    pub log: RecordBatch,
    /// Rows by status; they add up to the rows of the part.
    pub counts: BTreeMap<Status, u64>,
}

/// Downloads parts of a source. Parts may overlap: the limits hold over all that one downloader does, and clones share them.
#[derive(Debug, Clone)]
pub struct Downloader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    timeout: Duration,
    retries: u32,
    picture: PictureSettings,
    hosts: Hosts,
    /// One permit for every URL in flight.
    network: Arc<Semaphore>,
    /// One permit for every core, for decoding and encoding.
    decoding: Arc<Semaphore>,
}

/// Most bytes of pictures in one part: Arrow's binary columns count them in 32 bits with sign.
const MAX_PART_BYTES: u64 = i32::MAX as u64;

impl Downloader {
    /// Checks the settings, loads the root certificates and finds the system's name servers. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Settings out of range, an unreadable `ca_file`, or no root certificates.
    pub fn new(config: &DownloadConfig) -> Result<Downloader> {
        config.validate()?;
        Ok(Downloader::with_client(config, Client::new(config)?))
    }

    fn with_client(config: &DownloadConfig, client: Client) -> Downloader {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            client,
            timeout: Duration::from_secs_f64(config.timeout_seconds),
            retries: config.retries,
            picture: PictureSettings {
                resize: config.resize,
                size: config.size,
                only_if_larger: config.only_if_larger,
                encode: config.encode,
                quality: config.quality,
                max_pixels: config.max_pixels,
                check: Check::Pixels,
            },
            hosts: Hosts::new(config.requests_per_host, config.host_failure_limit),
            network: Arc::new(Semaphore::new(config.concurrency)),
            decoding: Arc::new(Semaphore::new(cores)),
        };
        Downloader { shared: Arc::new(shared) }
    }

    /// Downloads all rows of a part; `on_row` is told each status as soon as it is known, in no particular order.
    ///
    /// Dropping the future stops all its requests at once; a picture that is being decoded at that moment is finished and thrown away.
    pub async fn download_part(&self, part: &SourcePart, on_row: &(dyn Fn(Status) + Sync)) -> DownloadedPart {
        let texts = |column: usize| part.rows.column(column).as_string::<i32>();
        let (urls, problems) = (texts(0), texts(2));
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        let mut tasks = JoinSet::new();
        for row in 0..part.rows.num_rows() {
            let parsed = if problems.is_valid(row) {
                Err(Failure::new(Status::MalformedRow, problems.value(row)))
            } else if urls.is_null(row) {
                Err(Failure::plain(Status::MissingUrl))
            } else {
                address::parse(urls.value(row)).map_err(|reason| Failure::new(Status::InvalidUrl, reason))
            };
            match parsed {
                Err(failure) => {
                    on_row(failure.status);
                    outcomes.push(Some(Outcome::failed(failure, 0)));
                }
                Ok(url) => {
                    let shared = self.shared.clone();
                    tasks.spawn(async move { (row, shared.download(&url).await) });
                    outcomes.push(None);
                }
            }
        }
        while let Some(finished) = tasks.join_next().await {
            // A task can fail only by a panic, and then its row is one of those without outcome below.
            if let Ok((row, outcome)) = finished {
                on_row(outcome.status);
                outcomes[row] = Some(outcome);
            }
        }
        let outcomes = outcomes.into_iter().map(|outcome| {
            outcome.unwrap_or_else(|| {
                on_row(Status::ProtocolError);
                Outcome::failed(Failure::new(Status::ProtocolError, "the download task broke off; this is a bug"), 1)
            })
        });
        tables(part, without_surplus(outcomes.collect()))
    }
}

/// What became of a row.
#[derive(Debug)]
struct Outcome {
    status: Status,
    http_status: Option<u16>,
    attempts: u32,
    detail: Option<String>,
    stored: Option<Stored>,
}

#[derive(Debug)]
struct Stored {
    picture: Picture,
    /// Of the bytes as served, hexadecimal.
    sha256: String,
}

impl Outcome {
    fn failed(failure: Failure, attempts: u32) -> Outcome {
        let Failure { status, http_status, detail, may_pass: _, retry_after: _ } = failure;
        Outcome { status, http_status, attempts, detail, stored: None }
    }
}

impl Shared {
    async fn download(self: Arc<Self>, url: &Url) -> Outcome {
        let host = self.hosts.of(url);
        // Before a permit of the network is taken, so that the rows of a slow host queue here and hold nobody else back.
        let request = host.permit().await;
        if let Some(failure) = host.given_up() {
            return Outcome::failed(failure, 0);
        }
        let answered = AtomicBool::new(false);
        let (attempts, fetched) = self.fetch(url, &host, &answered).await;
        let status = fetched.as_ref().map_or_else(|failure| failure.status, |_| Status::Ok);
        host.remember(answered.into_inner(), status);
        drop(request);
        let (answer, network) = match fetched {
            Ok(fetched) => fetched,
            Err(failure) => return Outcome::failed(failure, attempts),
        };
        // Taken before the other permit is given back, so that bodies do not pile up when decoding is slower than the network.
        let core = self.decoding.clone().acquire_owned().await.expect("the semaphore is never closed");
        drop(network);
        let settings = self.picture;
        let Answer { body, http_status } = answer;
        let stored = tokio::task::spawn_blocking(move || {
            let _core = core; // held until the work is done, even when nobody waits for it any more
            store(body, &settings)
        });
        match stored.await.unwrap_or_else(|_| Err(Failure::new(Status::BrokenImage, "the decoder gave up"))) {
            Ok(stored) => Outcome {
                status: Status::Ok,
                http_status: Some(http_status),
                attempts,
                detail: None,
                stored: Some(stored),
            },
            Err(failure) => Outcome::failed(Failure { http_status: Some(http_status), ..failure }, attempts),
        }
    }

    /// Tries until it succeeds, fails for good, or has no attempts or time left. Returns also how many attempts were begun, and with the answer the
    /// permit of the network under which it came.
    ///
    /// The permit is given back while the next attempt has to wait, and time in which a permit is waited for does not count for the deadline.
    async fn fetch(
        &self,
        url: &Url,
        host: &Host,
        answered: &AtomicBool,
    ) -> (u32, std::result::Result<(Answer, SemaphorePermit<'_>), Failure>) {
        let mut time_left = self.timeout;
        let mut attempts = 0;
        loop {
            let network = self.network.acquire().await.expect("the semaphore is never closed");
            if let Some(failure) = host.given_up() {
                return (attempts, Err(failure));
            }
            attempts += 1;
            let begin = Instant::now();
            let got = timeout(time_left, self.client.get(url, answered)).await;
            let failure = match got {
                Ok(Ok(answer)) => return (attempts, Ok((answer, network))),
                Ok(Err(failure)) => failure,
                Err(_elapsed) => {
                    Failure::new(Status::Timeout, format!("not done after {} s", self.timeout.as_secs_f64()))
                }
            };
            drop(network);
            let delay = retry::delay(url.as_str(), attempts, failure.retry_after);
            let spent = begin.elapsed().saturating_add(delay);
            if !failure.may_pass || attempts > self.retries || spent >= time_left {
                return (attempts, Err(failure));
            }
            time_left -= spent;
            sleep(delay).await;
        }
    }
}

fn store(body: Vec<u8>, settings: &PictureSettings) -> std::result::Result<Stored, Failure> {
    let sha256 = sha256(&body);
    match picture::prepare(body, settings, &[]) {
        Ok(picture) => Ok(Stored { picture, sha256 }),
        Err(error) => Err(Failure::new(error.status(), error.to_string())),
    }
}

/// SHA-256 as 64 hexadecimal digits, as the column `sha256` of the pool has it.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::with_capacity(2 * digest.len()), |text, byte| text + &format!("{byte:02x}"))
}

/// Fails the rows whose pictures no longer fit into the part.
fn without_surplus(mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let mut total = 0;
    for outcome in &mut outcomes {
        let Some(stored) = &outcome.stored else { continue };
        total += stored.picture.bytes.len() as u64;
        if total > MAX_PART_BYTES {
            total -= stored.picture.bytes.len() as u64;
            let reason = "the part's pictures exceed 2 GiB; set a smaller rows_per_part";
            let failure = Failure { http_status: outcome.http_status, ..Failure::new(Status::TooLarge, reason) };
            *outcome = Outcome::failed(failure, outcome.attempts);
        }
    }
    outcomes
}

fn tables(part: &SourcePart, outcomes: Vec<Outcome>) -> DownloadedPart {
    let texts = |column: usize| part.rows.column(column).as_string::<i32>();
    let (urls, captions) = (texts(0), texts(1));
    let text = |column: &StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
    let uids: Vec<String> = (0..outcomes.len())
        .map(|row| {
            let (url, caption) = (text(urls, row).unwrap_or_default(), text(captions, row).unwrap_or_default());
            uid(part.first_row + row as u64, &url, &caption)
        })
        .collect();
    let shown_urls: StringArray = urls.iter().map(|url| url.map(address::without_userinfo)).collect();

    let mut counts = BTreeMap::new();
    for outcome in &outcomes {
        *counts.entry(outcome.status).or_insert(0) += 1;
    }
    let log: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(&uids)),
        Arc::new(Int64Array::from_iter_values((0..outcomes.len()).map(|row| (part.first_row + row as u64) as i64))),
        Arc::new(shown_urls.clone()),
        Arc::new(StringArray::from_iter_values(outcomes.iter().map(|outcome| outcome.status.name()))),
        Arc::new(outcomes.iter().map(|outcome| outcome.http_status.map(i64::from)).collect::<Int64Array>()),
        Arc::new(Int64Array::from_iter_values(outcomes.iter().map(|outcome| i64::from(outcome.attempts)))),
        Arc::new(outcomes.iter().map(|outcome| outcome.detail.as_deref()).collect::<StringArray>()),
    ];
    let log = RecordBatch::try_new(schema::download_log().schema(), log).expect("the columns are those of the schema");
    let pool = pool(part, &shown_urls, &uids, outcomes);
    DownloadedPart { pool, log, counts }
}

fn pool(part: &SourcePart, shown_urls: &StringArray, uids: &[String], outcomes: Vec<Outcome>) -> RecordBatch {
    let kept = outcomes.iter().map(|outcome| Some(outcome.stored.is_some())).collect::<BooleanArray>();
    let keep = |column: &dyn Array| filter(column, &kept).expect("the mask has one value for every row");
    let (mut uid, mut format, mut sha256, mut path) =
        (StringBuilder::new(), StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut content = BinaryBuilder::new();
    let [mut width, mut height, mut original_width, mut original_height, mut bytes] =
        std::array::from_fn(|_| Int64Builder::new());
    for (own_uid, outcome) in uids.iter().zip(outcomes) {
        let Some(Stored { picture, sha256: own_sha256 }) = outcome.stored else { continue };
        uid.append_value(own_uid);
        path.append_value(format!("{own_uid}.{}", picture.format.extension()));
        format.append_value(picture.format.name());
        sha256.append_value(own_sha256);
        width.append_value(i64::from(picture.width));
        height.append_value(i64::from(picture.height));
        original_width.append_value(i64::from(picture.original_width));
        original_height.append_value(i64::from(picture.original_height));
        bytes.append_value(picture.bytes.len() as i64);
        content.append_value(picture.bytes);
    }
    let DataType::Struct(image_fields) = schema::image_type() else { unreachable!("an image is a struct") };
    let image = StructArray::new(image_fields, vec![Arc::new(content.finish()), Arc::new(path.finish())], None);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(uid.finish()),
        keep(shown_urls),
        keep(part.rows.column(1)),
        Arc::new(image),
        Arc::new(width.finish()),
        Arc::new(height.finish()),
        Arc::new(original_width.finish()),
        Arc::new(original_height.finish()),
        Arc::new(format.finish()),
        Arc::new(bytes.finish()),
        Arc::new(sha256.finish()),
    ];
    let extra_columns = 3..;
    let source_schema = part.rows.schema();
    let extra_fields: Vec<&Field> = source_schema.fields()[extra_columns.clone()].iter().map(AsRef::as_ref).collect();
    columns.extend(part.rows.columns()[extra_columns].iter().map(|column| keep(column)));
    RecordBatch::try_new(schema::pool().schema_with(extra_fields), columns)
        .expect("the columns are those of the schema")
}

#[cfg(test)]
mod tests;
