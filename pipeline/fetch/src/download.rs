//! Downloads a part: every row ends with exactly one status, and rows with status ok have an image.
//!
//! A part is written in the order of its source, whatever the order of answers. Rows begin in
//! order, over several parts at once. An image that arrives early waits in memory, or beyond 8 MiB
//! in a nameless file (`spill`). Images are passed on to be written, a megabyte at a time, as soon
//! as all rows before them have ended.
//!
//! Bodies take room in memory as they arrive. A body that is longer than 256 KiB and finds no more
//! room continues in a nameless file, so that long bodies of a slow host take no room from others
//! (`body`). When writing is slower than the network, finished images wait and keep their permits,
//! so that no more requests begin.

mod measure;
mod tables;
mod wanted_size;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use lynxdata_picture::{Check, Picture, PictureError, PictureSettings, Resize, prepare, prepare_with_pixels, size_of};
use lynxdata_records::Status;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

pub use measure::Measure;
pub use tables::{OnPairs, PAIRS_CHUNK_BYTES};

use crate::budget::{Budget, Share};
use crate::client::{Answer, Client, Failure, Fault, redirect_target};
use crate::deadline::Deadline;
use crate::digest::{self, ExpectedDigest, SeenDigests, sha256};
use crate::hosts::{Again, Host, HostLimits, Hosts, Patience, RobotsAnswer};
use crate::robots::Robots;
use crate::source::{Embedded, EmbeddedPicture, check_length, column, read_picture};
use crate::spill::{Waiting, WaitingRoom, read_at};
use crate::{DownloadConfig, Error, Metrics, Result, SourcePart, address, retry};
use tables::Assembly;
use wanted_size::WantedSize;

/// Maximum number of redirects that are followed. Browsers follow 20, but chains that long do not
/// end at an image.
const MAX_REDIRECTS: usize = 5;
/// Open rows for every URL in flight. The rows that are not in flight wait for their host, for
/// their next attempt or for a core.
const OPEN_ROWS_PER_REQUEST: usize = 16;
/// Minimum number of open rows, so that slow hosts do not hold up a run with few requests in
/// flight.
const LEAST_OPEN_ROWS: usize = 4096;
/// Maximum wait for a `robots.txt`. The rows of its host wait for it.
const ROBOTS_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts to fetch a `robots.txt` before the rows of its host fail.
const ROBOTS_ATTEMPTS: u32 = 3;

/// If nothing is decoded, bodies up to this size are hashed and checked in the current thread. This
/// takes a few hundred microseconds, which is not worth a switch to another thread.
const QUICK_BYTES: usize = 256 << 10;

/// Bytes of finished images that their parts have not taken yet. When writing is slower than the
/// network, further images wait and keep their permits.
const HANDOVER_BYTES: u64 = 4 << 20;

/// Downloads parts of a source. Several parts may be downloaded at once: the limits apply to a
/// downloader as a whole, and clones share them.
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
    wanted_size: WantedSize,
    verify_hash: bool,
    seen_digests: SeenDigests,
    blur_boxes: Option<String>,
    /// Our product token in `robots.txt` files; `None` if these are ignored.
    robots_product: Option<String>,
    hosts: Hosts,
    metrics: Arc<Metrics>,
    waiting_room: Arc<WaitingRoom>,
    /// Held by the part whose rows are being started, so that parts start in the order of the
    /// source.
    entrance: Mutex<()>,
    /// One permit for every open row, over all parts.
    open_rows: Arc<Semaphore>,
    /// One permit for every URL in flight.
    network: Arc<Semaphore>,
    /// One permit for every core, for decoding and encoding.
    decoding: Arc<Semaphore>,
    /// One thread for every core. The threads are kept, because each reuses its memory for the next
    /// image.
    decoders: ThreadPool,
    /// Shares are held by finished images until their part takes them.
    handover: Budget,
}

impl Downloader {
    /// Checks the settings, loads the root certificates and finds the system's name servers. Must
    /// be called within a tokio runtime. Bodies and images that have no room in memory go into
    /// nameless files in `spill_folder`, which is created when it is needed. `metrics` can be read
    /// at any time.
    ///
    /// # Errors
    /// If a setting is out of range, `ca_file` is unreadable, or there are no root certificates.
    pub fn new(config: &DownloadConfig, spill_folder: &Path, metrics: Arc<Metrics>) -> Result<Downloader> {
        config.validate()?;
        Ok(Downloader::with_client(
            config,
            Client::new(config, metrics.names.clone(), spill_folder)?,
            spill_folder,
            metrics,
        ))
    }

    fn with_client(config: &DownloadConfig, client: Client, spill_folder: &Path, metrics: Arc<Metrics>) -> Downloader {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = HostLimits {
            requests: config.requests_per_host,
            per_second: config.requests_per_second_per_host,
            failures: config.host_failure_limit,
            patience: Patience::default(),
        };
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
                check: config.check,
            },
            wanted_size: WantedSize::of(config),
            verify_hash: config.verify_hash,
            seen_digests: SeenDigests::default(),
            blur_boxes: config.blur_boxes.clone(),
            robots_product: config.robots_txt.then(|| crate::opt_out::product(&config.user_agent).to_owned()),
            hosts: Hosts::new(limits),
            metrics,
            waiting_room: Arc::new(WaitingRoom::new(spill_folder)),
            entrance: Mutex::default(),
            open_rows: Arc::new(Semaphore::new((config.concurrency * OPEN_ROWS_PER_REQUEST).max(LEAST_OPEN_ROWS))),
            network: Arc::new(Semaphore::new(config.concurrency)),
            decoding: Arc::new(Semaphore::new(cores)),
            decoders: ThreadPoolBuilder::new()
                .num_threads(cores)
                .thread_name(|index| format!("decoder-{index}"))
                .panic_handler(|_| {}) // the row that waits for it gets an error
                .build()
                .expect("the system lets us have a thread for every core"),
            handover: Budget::new(HANDOVER_BYTES),
        };
        Downloader { shared: Arc::new(shared) }
    }

    /// Downloads all rows of a part. `on_row` is called with each status as soon as it is known, in
    /// no particular order. `on_pairs` is called with the rows with status ok in the order of the
    /// source, about [`PAIRS_CHUNK_BYTES`] of images at a time: the columns of
    /// [`schema::pool`](lynxdata_records::schema::pool) and the extra columns. Its second argument
    /// holds what `measure` returned for these rows.
    ///
    /// The next part may start as soon as all rows of this one have started. Rows whose hosts
    /// cannot be reached and are expected back are tried again after all other rows have ended.
    ///
    /// Returns the outcome of every row, in the order of the source, with the columns of
    /// [`schema::download_log`](lynxdata_records::schema::download_log).
    ///
    /// Dropping the future stops all its requests at once. An image that is being decoded at that
    /// moment is finished and discarded.
    ///
    /// # Errors
    /// The errors of `on_pairs`, or [`Error::Keep`] if bodies or images could not be kept in files.
    pub async fn download_part<Measured: Send + 'static, E: From<Error>>(
        &self,
        part: &SourcePart,
        measure: Option<Arc<dyn Measure<Measured>>>,
        on_row: &(dyn Fn(Status) + Sync),
        on_pairs: &mut OnPairs<'_, Measured, E>,
    ) -> std::result::Result<RecordBatch, E> {
        let shared = &self.shared;
        let embedded = shared.read_embedded(part).await?;
        let jobs = Jobs::new(part, shared, measure, embedded);
        let mut assembly = Assembly::new(part, Waiting::new(shared.waiting_room.clone()));
        let mut end = |row: usize, outcome: Outcome<Measured>| -> std::result::Result<(), E> {
            shared.count(&outcome);
            on_row(outcome.status);
            assembly.end(row, outcome)?;
            assembly.advance(on_pairs)
        };
        let mut tasks = JoinSet::new();
        let mut unreached = Vec::new();
        let (mut next_row, count) = (0, part.rows.num_rows());
        let mut entrance = Some(shared.entrance.lock().await);
        loop {
            let (row, outcome) = tokio::select! {
                Some(finished) = tasks.join_next(), if !tasks.is_empty() => match finished {
                    Ok(ended) => ended,
                    // A task can only fail by a panic. Its row then has no outcome and is handled
                    // below.
                    Err(_panic) => continue,
                },
                open = shared.open_rows.clone().acquire_owned(), if next_row < count => {
                    let row = next_row;
                    next_row += 1;
                    if next_row == count {
                        entrance = None;
                    }
                    match jobs.job(row) {
                        Err(failure) => (row, Ok(Outcome::failed(failure, 0))),
                        Ok(job) => {
                            let shared = shared.clone();
                            tasks.spawn(async move {
                                let _open = open;
                                (row, shared.download(job, None).await)
                            });
                            continue;
                        }
                    }
                }
                else => break,
            };
            let mut outcome = outcome?;
            match outcome.unreached.take() {
                Some(again) if again.host.is_expected(Instant::now()) => unreached.push((row, outcome, again)),
                _ => end(row, outcome)?,
            }
        }
        drop(entrance);
        if !unreached.is_empty() {
            self.try_again(unreached, &mut end).await?;
        }
        for row in assembly.rows_without_outcome() {
            let failure =
                Failure::new(Status::ProtocolError, "the download task panicked; this is a bug, please report it");
            let outcome = Outcome::failed(failure, 1);
            shared.count(&outcome);
            on_row(outcome.status);
            assembly.end(row, outcome)?;
        }
        assembly.finish(on_pairs)
    }

    /// Makes the last pass over a part: tries rows that did not reach their hosts again when these
    /// are back. Rows of hosts that are not back after the longest outage keep their failure.
    async fn try_again<Measured: Send + 'static, E: From<Error>>(
        &self,
        mut unreached: Vec<(usize, Outcome<Measured>, Unreached<Measured>)>,
        end: &mut (dyn FnMut(usize, Outcome<Measured>) -> std::result::Result<(), E> + Send),
    ) -> std::result::Result<(), E> {
        let shared = &self.shared;
        let longest = shared.hosts.longest_outage();
        let (seconds, rows) = (longest.as_secs_f64(), unreached.len());
        tracing::info!(
            rows,
            seconds,
            "some hosts cannot be reached; their rows wait at most this many seconds for them"
        );
        let until = Instant::now() + longest;
        let mut tasks = JoinSet::new();
        loop {
            let now = Instant::now();
            let mut wake = until;
            for (row, earlier, again) in std::mem::take(&mut unreached) {
                match if now < until { again.host.again(now) } else { Again::Never } {
                    Again::Never => end(row, earlier)?,
                    Again::At(moment) => {
                        wake = wake.min(moment);
                        unreached.push((row, earlier, again));
                    }
                    Again::Now | Again::Probe => {
                        let shared = shared.clone();
                        tasks.spawn(async move {
                            let _open = shared.open_rows.clone().acquire_owned().await;
                            let outcome = shared.download(again.job, Some(again.host)).await;
                            (row, outcome.map(|outcome| outcome.after(&earlier)))
                        });
                    }
                }
            }
            let (row, outcome) = tokio::select! {
                Some(finished) = tasks.join_next(), if !tasks.is_empty() => match finished {
                    Ok(ended) => ended,
                    Err(_panic) => continue,
                },
                () = sleep_until(wake), if !unreached.is_empty() => continue,
                else => return Ok(()),
            };
            let mut outcome = outcome?;
            match outcome.unreached.take() {
                // A host may become unreachable more than once; the end of the pass is the limit.
                Some(again) if again.host.is_expected(Instant::now()) => {
                    unreached.push((row, outcome, again));
                }
                _ => end(row, outcome)?,
            }
        }
    }
}

/// The jobs of the rows of a part.
struct Jobs<'a, Measured> {
    part: &'a SourcePart,
    measure: Option<Arc<dyn Measure<Measured>>>,
    digests: Vec<digest::DigestColumn<'a>>,
    seen_digests: &'a SeenDigests,
    boxes: Option<&'a dyn Array>,
    embedded: Embedded,
}

/// The origin of the image of a row.
#[derive(Debug)]
enum Origin {
    Web(Url),
    /// A file on this machine.
    File {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
    /// A nameless file.
    Nameless {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
}

/// The work for one row.
#[derive(Debug)]
struct Job<Measured> {
    origin: Origin,
    digests: Vec<ExpectedDigest>,
    boxes: Vec<[f32; 4]>,
    measure: Option<measure::Wanted<Measured>>,
}

impl<'a, Measured> Jobs<'a, Measured> {
    fn new(
        part: &'a SourcePart,
        shared: &'a Shared,
        measure: Option<Arc<dyn Measure<Measured>>>,
        embedded: Embedded,
    ) -> Jobs<'a, Measured> {
        let digests = if shared.verify_hash { digest::columns(&part.rows) } else { Vec::new() };
        let boxes = shared.blur_boxes.as_ref().and_then(|name| part.rows.column_by_name(name));
        let seen_digests = &shared.seen_digests;
        Jobs { part, measure, digests, seen_digests, boxes: boxes.map(|column| column as &dyn Array), embedded }
    }

    fn job(&self, row: usize) -> std::result::Result<Job<Measured>, Failure> {
        let origin = self.origin(row)?;
        // A digest beside an image that exists already is that of the image as served, before
        // img2dataset or an earlier run resized it.
        let digests = match origin {
            Origin::Web(_) => {
                self.digests.iter().filter_map(|column| column.expected(row, self.seen_digests)).collect()
            }
            Origin::File { .. } | Origin::Nameless { .. } => Vec::new(),
        };
        let boxes = match self.boxes {
            Some(column) => tables::boxes(column, row)
                .map_err(|reason| Failure::new(Status::MalformedRow, format!("the boxes to blur {reason}")))?,
            None => Vec::new(),
        };
        let captions = self.part.rows.column(column::CAPTION).as_string::<i32>();
        let caption = || captions.is_valid(row).then(|| captions.value(row).to_owned());
        let measure = self.measure.clone().map(|measure| measure::Wanted { measure, caption: caption() });
        Ok(Job { origin, digests, boxes, measure })
    }

    fn origin(&self, row: usize) -> std::result::Result<Origin, Failure> {
        let texts = |column: usize| self.part.rows.column(column).as_string::<i32>();
        let (urls, problems, files) = (texts(column::URL), texts(column::PROBLEM), texts(column::FILE));
        if problems.is_valid(row) {
            return Err(Failure::new(Status::MalformedRow, problems.value(row)));
        }
        let numbers = |column: usize| self.part.rows.column(column).as_primitive::<Int64Type>();
        let (offsets, lengths) = (numbers(column::OFFSET), numbers(column::LENGTH));
        if files.is_valid(row) && lengths.is_valid(row) {
            let (offset, length) = (offsets.value(row) as u64, lengths.value(row) as u64);
            return Ok(Origin::File { path: files.value(row).into(), offset, length });
        }
        if files.is_valid(row) {
            match (self.embedded.of(row), self.embedded.file()) {
                (EmbeddedPicture::Here { offset, length }, Some(file)) => {
                    return Ok(Origin::Nameless { file, offset, length });
                }
                (EmbeddedPicture::File { path, length }, _) => return Ok(Origin::File { path, offset: 0, length }),
                (EmbeddedPicture::Nowhere(_), _) if urls.is_valid(row) => {}
                (EmbeddedPicture::Nowhere(reason) | EmbeddedPicture::Problem(reason), _) => {
                    return Err(Failure::new(Status::UnreadableFile, reason));
                }
                (EmbeddedPicture::Here { .. }, None) => unreachable!("what is in the file has one"),
            }
        }
        if urls.is_null(row) {
            return Err(Failure::plain(Status::MissingUrl));
        }
        address::parse(urls.value(row)).map(Origin::Web).map_err(|reason| Failure::new(Status::InvalidUrl, reason))
    }
}

/// The outcome of a row.
#[derive(Debug)]
struct Outcome<Measured> {
    status: Status,
    http_status: Option<u16>,
    attempts: u32,
    detail: Option<String>,
    /// Time that counts towards the deadline; `None` if nothing was requested.
    elapsed: Option<Duration>,
    body_bytes: Option<u64>,
    stored: Option<Stored<Measured>>,
    /// The data for another try of the row if the host comes back.
    unreached: Option<Unreached<Measured>>,
}

/// A row whose host could not be reached.
#[derive(Debug)]
struct Unreached<Measured> {
    host: Arc<Host>,
    job: Job<Measured>,
}

#[derive(Debug)]
struct Stored<Measured> {
    picture: Picture,
    /// What the measurement returned; `None` if there is none, or if it panicked.
    measured: Option<Measured>,
    /// SHA-256 of the bytes as served, hexadecimal.
    sha256: String,
    /// Share of the handover budget.
    share: Share,
}

impl<Measured> Outcome<Measured> {
    fn failed(failure: Failure, attempts: u32) -> Self {
        let Failure { status, http_status, detail, .. } = failure;
        Outcome {
            status,
            http_status,
            attempts,
            detail,
            elapsed: None,
            body_bytes: None,
            stored: None,
            unreached: None,
        }
    }

    /// Returns the outcome with the attempts and time of an earlier try added.
    fn after(self, earlier: &Self) -> Self {
        let elapsed = [self.elapsed, earlier.elapsed].into_iter().flatten().reduce(|one, other| one + other);
        Outcome { attempts: self.attempts + earlier.attempts, elapsed, ..self }
    }
}

/// The host that a row last sent a request to, and whether it has answered this row.
struct Asked {
    host: Arc<Host>,
    has_answered: bool,
    /// A host that the row may ask once although it was given up.
    probed: Option<Arc<Host>>,
}

impl Asked {
    /// Returns the failure of the row if it may not ask this host.
    fn given_up(&mut self) -> Option<Failure> {
        if self.probed.take_if(|probed| Arc::ptr_eq(probed, &self.host)).is_some() {
            return None;
        }
        self.host.given_up(Instant::now())
    }
}

/// The result of fetching a row.
struct Fetched {
    /// Number of requests that were started, without redirects.
    attempts: u32,
    elapsed: Option<Duration>,
    /// The host that was asked last, if it could not be reached.
    unreached: Option<Arc<Host>>,
    /// The answer, and the network permit that it was received with.
    answer: std::result::Result<(Answer, Option<OwnedSemaphorePermit>), Failure>,
}

impl Shared {
    fn count<Measured>(&self, outcome: &Outcome<Measured>) {
        self.metrics.row(outcome.status, outcome.elapsed, outcome.body_bytes);
    }

    /// Downloads a row. It may ask the host `probed` even if that was given up.
    ///
    /// # Errors
    /// [`Error::Keep`], which is not the fault of the row.
    async fn download<Measured: Send + 'static>(
        self: Arc<Self>,
        job: Job<Measured>,
        probed: Option<Arc<Host>>,
    ) -> Result<Outcome<Measured>> {
        let Fetched { attempts, elapsed, unreached, answer } = match &job.origin {
            Origin::Web(url) => {
                let host = self.hosts.of(url);
                // The host permit comes before the network permit, so that the rows of a slow host
                // queue here and block no other rows.
                let _request = host.permit().await;
                // On the heap, so that the futures of waiting rows are small.
                Box::pin(self.fetch(url, &host, probed)).await?
            }
            Origin::File { path, offset, length } => {
                let (path, offset, length) = (path.clone(), *offset, *length);
                self.read(length, move |max_bytes| {
                    Ok(read_picture(&path, offset, length, max_bytes).map_err(|error| unreadable(&error))?)
                })
                .await?
            }
            Origin::Nameless { file, offset, length } => {
                let (file, offset, length) = (file.clone(), *offset, *length);
                let folder = self.waiting_room.folder().to_owned();
                self.read(length, move |max_bytes| {
                    check_length(length, max_bytes).map_err(|error| unreadable(&error))?;
                    let mut bytes = vec![0; length as usize];
                    read_at(&file, &mut bytes, offset).map_err(|source| Error::keep(folder, source))?;
                    Ok(bytes)
                })
                .await?
            }
        };
        let failed = |failure: Failure| {
            let http_status = failure.http_status;
            Outcome { http_status, elapsed, ..Outcome::failed(failure, attempts) }
        };
        let (answer, network) = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                return Ok(Outcome { unreached: unreached.map(|host| Unreached { host, job }), ..failed(failure) });
            }
        };
        let (http_status, body_bytes) = (answer.http_status, Some(answer.body.len() as u64));
        let outcome = match self.store(answer, network, job).await {
            Err(failure) => failed(failure),
            Ok(stored) => Outcome { stored: Some(stored), ..failed(Failure::plain(Status::Ok)) },
        };
        Ok(Outcome { http_status, body_bytes, ..outcome })
    }

    /// Reads the images of a part that are in cells of Parquet files.
    async fn read_embedded(&self, part: &SourcePart) -> Result<Embedded> {
        let (rows, image, folder) = (part.rows.clone(), part.image.clone(), self.waiting_room.folder().to_owned());
        let read = tokio::task::spawn_blocking(move || Embedded::read(&rows, image.as_deref(), &folder)).await;
        read.unwrap_or_else(|panic| Err(Error::keep(self.waiting_room.folder(), io::Error::other(panic))))
    }

    /// Reads an image of this length that exists already. `read` is called with the maximum length.
    async fn read(
        &self,
        length: u64,
        read: impl FnOnce(u64) -> std::result::Result<Vec<u8>, Fault> + Send + 'static,
    ) -> Result<Fetched> {
        let share = self.client.room().budget().take(length).await;
        let max_bytes = self.client.max_bytes();
        let body = tokio::task::spawn_blocking(move || read(max_bytes)).await;
        let answer = match body.unwrap_or_else(|panic| Err(unreadable(&io::Error::other(panic)).into())) {
            Ok(body) if body.is_empty() => Err(Failure::plain(Status::EmptyBody)),
            Ok(body) => Ok((Answer { body, http_status: None, share }, None)),
            Err(Fault::Row(failure)) => Err(failure),
            Err(Fault::Machine(error)) => return Err(error),
        };
        Ok(Fetched { attempts: 0, elapsed: None, unreached: None, answer })
    }

    /// Tries until a URL is fetched, fails permanently, or has no attempts or time left.
    ///
    /// No network permit is held while a row waits for its next attempt. Waiting for permits and
    /// rate limits does not count towards the deadline.
    async fn fetch(&self, url: &Url, host: &Arc<Host>, probed: Option<Arc<Host>>) -> Result<Fetched> {
        let mut deadline = Deadline::new(self.timeout);
        let (mut attempts, mut has_answered) = (0, false);
        let mut asked = Asked { host: host.clone(), has_answered, probed };
        let answer = loop {
            asked = Asked { host: host.clone(), has_answered, ..asked };
            if let Some(failure) = asked.given_up() {
                break Err(failure);
            }
            if let Err(failure) = self.ask_robots(url, host).await {
                if failure.status != Status::OptedOut {
                    host.remember(Instant::now(), false, Some(&failure));
                }
                break Err(failure);
            }
            let network = self.network_in_turn(host).await;
            let under_way = self.metrics.attempt();
            attempts += 1;
            let got = self.get(url, network, &mut deadline, &mut asked).await;
            drop(under_way);
            has_answered |= asked.has_answered || !Arc::ptr_eq(&asked.host, host);
            let failure = match got {
                Ok((answer, network)) => {
                    asked.host.remember(Instant::now(), true, None);
                    break Ok((answer, Some(network)));
                }
                Err(Fault::Row(failure)) => failure,
                Err(Fault::Machine(error)) => return Err(error),
            };
            if let Some(wait) = failure.retry_after {
                asked.host.pause(Instant::now(), wait);
            }
            let delay = retry::delay(url.as_str(), attempts, failure.retry_after);
            if !failure.may_pass || attempts > self.retries || delay >= deadline.left() {
                asked.host.remember(Instant::now(), asked.has_answered, Some(&failure));
                break Err(failure);
            }
            deadline.spend(delay);
            sleep(delay).await;
        };
        let is_unreached = matches!(&answer, Err(failure) if failure.is_unreached);
        let elapsed = (attempts > 0).then(|| deadline.spent());
        Ok(Fetched { attempts, elapsed, unreached: is_unreached.then_some(asked.host), answer })
    }

    /// Gets a URL and follows its redirects. Sets `asked` to the host that was asked last. Returns
    /// the answer with the network permit that it was received with.
    async fn get(
        &self,
        url: &Url,
        mut network: OwnedSemaphorePermit,
        deadline: &mut Deadline,
        asked: &mut Asked,
    ) -> std::result::Result<(Answer, OwnedSemaphorePermit), Fault> {
        let mut url = url.clone();
        for redirects in 0.. {
            let response = self.client.send(&url, deadline).await?;
            asked.has_answered = true;
            let http_status = response.status();
            let Some(target) = redirect_target(&url, &response)? else {
                let picture = self.client.picture(response, deadline).await;
                return match picture {
                    Ok(answer) => Ok((answer, network)),
                    Err(Fault::Row(failure)) => Err(failure.with_http_status(http_status).into()),
                    Err(error) => Err(error),
                };
            };
            if redirects == MAX_REDIRECTS {
                break;
            }
            // The robots.txt is fetched with its own permit. Rows that hold one permit and wait for
            // another could deadlock.
            drop((response, network));
            asked.host.remember(Instant::now(), true, None);
            (asked.host, asked.has_answered) = (self.hosts.of(&target), false);
            if let Some(failure) = asked.given_up() {
                return Err(failure.into());
            }
            self.ask_robots(&target, &asked.host).await?;
            network = self.network_in_turn(&asked.host).await;
            url = target;
        }
        Err(Failure::new(Status::TooManyRedirects, format!("more than {MAX_REDIRECTS} redirects")).into())
    }

    /// Waits until a network permit is free and the host's rate limit allows a request. No permit
    /// is held while waiting for the rate limit.
    async fn network_in_turn(&self, host: &Host) -> OwnedSemaphorePermit {
        loop {
            let wait = host.until_turn(Instant::now());
            if !wait.is_zero() {
                sleep(wait).await;
            }
            let network = self.network.clone().acquire_owned().await.expect("the semaphore is never closed");
            if host.take_turn(Instant::now()) {
                return network;
            }
        }
    }

    /// Fails if the `robots.txt` of the URL's host disallows the URL or cannot be fetched.
    async fn ask_robots(&self, url: &Url, host: &Host) -> std::result::Result<(), Failure> {
        let Some(product) = &self.robots_product else { return Ok(()) };
        let robots = host.robots(Instant::now(), self.fetch_robots(url, host, product)).await?;
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        if robots.allows(path) {
            return Ok(());
        }
        Err(Failure::new(Status::OptedOut, "robots.txt disallows the path"))
    }

    /// Fetches a `robots.txt`, and tries again after temporary failures, because all rows of the
    /// host depend on it.
    async fn fetch_robots(&self, url: &Url, host: &Host, product: &str) -> RobotsAnswer {
        let url = url.join("/robots.txt").map_err(|error| Failure::new(Status::InvalidUrl, error.to_string()))?;
        let mut deadline = Deadline::new(self.timeout.min(ROBOTS_TIMEOUT));
        for attempt in 1.. {
            let failure = match self.get_robots(&url, host, &mut deadline).await {
                Ok(body) => {
                    host.remember(Instant::now(), true, None);
                    let robots = Robots::parse(&body, product);
                    self.hosts.count_robots(&robots);
                    return Ok(Arc::new(robots));
                }
                Err(failure) => failure,
            };
            let delay = retry::delay(url.as_str(), attempt, failure.retry_after);
            if !failure.may_pass || attempt == ROBOTS_ATTEMPTS || delay >= deadline.left() {
                let detail = failure.detail.as_deref().unwrap_or_else(|| failure.status.description());
                // Another attempt of the row would get the same cached answer.
                return Err(Failure { detail: Some(format!("robots.txt: {detail}")), may_pass: false, ..failure });
            }
            deadline.spend(delay);
            sleep(delay).await;
        }
        unreachable!("the last attempt returns")
    }

    async fn get_robots(
        &self,
        url: &Url,
        host: &Host,
        deadline: &mut Deadline,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let mut url = url.clone();
        let _network = self.network_in_turn(host).await;
        for _redirect in 0..=MAX_REDIRECTS {
            let response = self.client.send(&url, deadline).await?;
            match redirect_target(&url, &response) {
                Ok(Some(target)) => url = target,
                Ok(None) => return self.client.robots(response, deadline).await,
                Err(_nowhere) => break,
            }
        }
        Ok(Vec::new()) // too many redirects count as no robots.txt (RFC 9309, section 2.3.1.2)
    }

    /// Checks a body and prepares the image that is stored.
    async fn store<Measured: Send + 'static>(
        &self,
        answer: Answer,
        network: Option<OwnedSemaphorePermit>,
        job: Job<Measured>,
    ) -> std::result::Result<Stored<Measured>, Failure> {
        let (settings, wanted_size) = (self.picture, self.wanted_size);
        let Answer { body, http_status: _, share } = answer;
        let is_quick = settings.resize == Resize::Keep
            && settings.check == Check::Structure
            && job.boxes.is_empty()
            && job.measure.is_none();
        if is_quick && body.len() <= QUICK_BYTES {
            let stored = self.hand_over(store(body, &job, &settings, wanted_size)?).await;
            drop((network, share));
            return Ok(stored);
        }
        // Taken before the network permit is released, so that bodies do not pile up when decoding
        // is slower than the network.
        let core = self.decoding.clone().acquire_owned().await.expect("the semaphore is never closed");
        drop(network);
        let (sender, done) = oneshot::channel();
        self.decoders.spawn(move || {
            // The core and the share move into the job, so that they are held until it is done,
            // even if nobody waits for it any more.
            let _nobody_waits = sender.send((store(body, &job, &settings, wanted_size), core, share));
        });
        let Ok((stored, core, share)) = done.await else {
            return Err(Failure::new(Status::BrokenImage, "the decoder panicked; this is a bug, please report it"));
        };
        let stored = self.hand_over(stored?).await;
        drop((core, share));
        Ok(stored)
    }

    /// Waits until there is room for an image among those that wait to be written.
    async fn hand_over<Measured>(&self, stored: Stored<Measured>) -> Stored<Measured> {
        let share = self.handover.take(stored.picture.bytes.len() as u64).await;
        Stored { share, ..stored }
    }
}

fn store<Measured>(
    body: Vec<u8>,
    job: &Job<Measured>,
    settings: &PictureSettings,
    wanted_size: WantedSize,
) -> std::result::Result<Stored<Measured>, Failure> {
    let sha256 = sha256(&body);
    for expected in &job.digests {
        expected.check(&body, &sha256).map_err(|reason| Failure::new(Status::HashMismatch, reason))?;
    }
    // A file with an intact structure is checked by its header size. Others are left to decoding.
    if !wanted_size.is_any()
        && let Ok((width, height)) = size_of(&body, settings.max_pixels)
    {
        wanted_size.check(width, height)?;
    }
    let prepared = match &job.measure {
        None => prepare(body, settings, &job.boxes).map(|picture| (picture, None)),
        Some(wanted) => prepare_with_pixels(body, settings, &job.boxes).map(|(picture, pixels)| {
            let measured = wanted.measure(picture.bytes.len(), pixels);
            (picture, measured)
        }),
    };
    let (picture, measured) = prepared.map_err(|error| Failure::new(status_of(&error), error.to_string()))?;
    wanted_size.check(picture.original_width, picture.original_height)?;
    Ok(Stored { picture, measured, sha256, share: Share::default() })
}

/// Returns the failure of a row whose file cannot be read or is too large.
fn unreadable(error: &io::Error) -> Failure {
    let is_too_large = error.kind() == io::ErrorKind::FileTooLarge;
    Failure::new(if is_too_large { Status::TooLarge } else { Status::UnreadableFile }, error.to_string())
}

/// Returns the status of a body that could not be stored as an image.
pub fn status_of(error: &PictureError) -> Status {
    match error {
        PictureError::NotAnImage(_) => Status::NotAnImage,
        PictureError::Unsupported(_) => Status::UnsupportedImage,
        PictureError::Broken(_) => Status::BrokenImage,
        PictureError::TooManyPixels { .. } => Status::TooManyPixels,
    }
}

#[cfg(test)]
mod tests;
