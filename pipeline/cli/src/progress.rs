//! Progress: bars on a terminal, plain log lines otherwise.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lynxdata_run::StageProgress;
use tracing::info;

/// Time between two progress lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Returns the progress bars of this process, so that log lines can be written above them.
fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// A writer of log lines: to standard error, above the bars if there are any.
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // The reader may be gone: a closed terminal, or a pipe to `head`. That must not end the
        // run: `tracing` would panic on the error while the bars are locked.
        Ok(bars().suspend(|| io::stderr().write(buffer)).unwrap_or(buffer.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush().or(Ok(()))
    }
}

/// The progress of one stage.
pub(crate) struct StageBar {
    stage: &'static str,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    started: Instant,
    parts: AtomicU64,
    rows: AtomicU64,
    failed: AtomicU64,
    last_line: Mutex<Instant>,
}

impl StageBar {
    pub(crate) fn new(stage: &'static str, total: Option<u64>, visible: bool) -> Self {
        let bar = visible.then(|| {
            let template = match total {
                Some(_) => "{spinner} {prefix:9} [{elapsed}] {bar:20} {wide_msg}",
                None => "{spinner} {prefix:9} [{elapsed}] {wide_msg}",
            };
            let style = ProgressStyle::with_template(template).expect("the templates are valid");
            let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let bar = bars().add(bar.with_style(style).with_prefix(stage));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let now = Instant::now();
        StageBar {
            stage,
            total,
            bar,
            started: now,
            parts: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_line: Mutex::new(now),
        }
    }

    fn show(&self, note: Option<&str>) {
        if let Some(bar) = &self.bar {
            bar.set_message(self.message(note));
            bar.set_position(self.parts.load(Ordering::Relaxed));
            return;
        }
        let mut last = self.last_line.lock().expect("nobody panics with the clock");
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            info!(stage = self.stage, "{}", self.message(note));
        }
    }

    fn message(&self, note: Option<&str>) -> String {
        let (parts, rows) = (self.parts.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed));
        let mut message = match self.total {
            Some(total) => format!("{parts}/{total} parts"),
            None => format!("{parts} parts"),
        };
        if rows > 0 {
            let rate = rows as f64 / self.started.elapsed().as_secs_f64().max(0.001);
            let failed = self.failed.load(Ordering::Relaxed);
            message.push_str(&format!(", {rows} rows ({rate:.0}/s), {failed} failed"));
        }
        if let Some(note) = note {
            message.push_str(", ");
            message.push_str(note);
        }
        message
    }
}

impl StageProgress for StageBar {
    fn row_done(&self, succeeded: bool) {
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(!succeeded), Ordering::Relaxed);
        self.show(None);
    }

    fn part_done(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
        self.show(None);
    }

    fn note(&self, text: &str) {
        self.show(Some(text));
    }

    fn finish(&self, made: u64, skipped: u64, elapsed: Duration) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = (elapsed.as_secs_f64() * 10.0).round() / 10.0;
        info!(made, skipped, seconds, "stage {} done", self.stage);
    }
}
