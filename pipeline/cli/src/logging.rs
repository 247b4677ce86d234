//! Log lines on standard error: text for people, JSON for machines.

use std::io::IsTerminal;

use anyhow::anyhow;
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::progress::LogWriter;

/// The variable of the environment with a tracing filter.
const FILTER: &str = "LYNXDATA_LOG";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One line of text
    Text,
    /// One JSON object per line: timestamp, level, target, fields
    Json,
}

/// Starts logging. `LYNXDATA_LOG` takes a tracing filter and overrides the flags.
///
/// # Errors
/// If `LYNXDATA_LOG` is not a filter.
pub(crate) fn start(format: Format, verbose: u8, quiet: bool) -> Result<(), Failure> {
    let level = match (quiet, verbose) {
        (true, _) => "warn",
        (false, 0) => "warn,lynxdata=info,lynxdata_run=info,lynxdata_fetch=info",
        (false, 1) => "info,lynxdata=debug,lynxdata_run=debug,lynxdata_fetch=debug",
        (false, _) => "debug",
    };
    let own = std::env::var_os(FILTER).map(|own| own.to_string_lossy().into_owned()).filter(|own| !own.is_empty());
    let filter = EnvFilter::try_new(own.as_deref().unwrap_or(level)).map_err(|reason| {
        let own = own.unwrap_or_default();
        Failure::Usage(anyhow!(
            "{FILTER}={own:?} is not a tracing filter, such as debug or lynxdata_run=debug: {reason}"
        ))
    })?;
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
    Ok(())
}
