//! Ctrl-C: what was being written goes, whole parts stay, the exit code is 130.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lynxdata_records::RunFolder;

use crate::exit::INTERRUPTED;

static RUN_FOLDER: Mutex<Option<Arc<RunFolder>>> = Mutex::new(None);
static ENDING: AtomicBool = AtomicBool::new(false);

/// Names the run folder whose unfinished files are removed on an interrupt. One inside another,
/// such as the pool that a folder of pictures becomes on the way, goes with the outer one.
pub(crate) fn clean_up_in(folder: &Arc<RunFolder>) {
    let mut named = RUN_FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    if named.as_ref().is_none_or(|outer| !folder.root().starts_with(outer.root())) {
        *named = Some(Arc::clone(folder));
    }
}

/// Waits for SIGINT or SIGTERM on a thread of its own.
pub(crate) fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(wait_for_signal());
        ENDING.store(true, Ordering::SeqCst);
        let folder = RUN_FOLDER.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(folder) = folder {
            // Nothing is lost if it fails: the next run removes what is left.
            folder.halt().unwrap_or_default();
            tracing::warn!(
                "interrupted; {} holds whole parts only, run the same command to go on",
                folder.root().display()
            );
        } else {
            tracing::warn!("interrupted");
        }
        #[expect(clippy::exit, reason = "an interrupt ends the process from the thread that saw it")]
        std::process::exit(i32::from(INTERRUPTED));
    });
    Ok(())
}

/// Leaves the end of the process to the interrupt, if there is one: what fails because its files
/// were removed is no failure.
pub(crate) fn give_way() {
    while ENDING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

async fn wait_for_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await; // no signal can be had, so none is waited for
    }
}
