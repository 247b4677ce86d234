//! Log lines on standard error: text for people, JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::progress::LogWriter;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One line of text
    Text,
    /// One JSON object per line: timestamp, level, target, fields
    Json,
}

/// Starts logging. `LYNXDATA_LOG` takes a tracing filter and overrides the flags.
pub(crate) fn start(format: Format, verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "warn",
        (false, 0) => "warn,lynxdata=info,lynxdata_run=info,lynxdata_fetch=info",
        (false, 1) => "info,lynxdata=debug,lynxdata_run=debug,lynxdata_fetch=debug",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("LYNXDATA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogWriter);
    match format {
        Format::Json => builder.json().init(),
        Format::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_target(false).with_ansi(colours).without_time().init();
        }
    }
    // Decoders panic on some damaged images. Such a panic only sets the status of the row. Every
    // other panic is a bug.
    let of_bugs = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if lynxdata_picture::is_decoding() {
            tracing::debug!("{panic}");
        } else {
            of_bugs(panic);
        }
    }));
}
