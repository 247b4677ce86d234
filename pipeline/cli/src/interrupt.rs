//! Handles Ctrl-C: removes unfinished files, keeps finished parts, and exits with code 130.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lynxdata_records::RunFolder;

use crate::exit::INTERRUPTED;

static RUN_FOLDER: Mutex<Option<Arc<RunFolder>>> = Mutex::new(None);
static ENDING: AtomicBool = AtomicBool::new(false);
static HOW_TO_CONTINUE: OnceLock<&str> = OnceLock::new();

/// Sets what a user must do to continue after an interrupt, if it is not the same command.
pub(crate) fn continue_with(how: &'static str) {
    HOW_TO_CONTINUE.get_or_init(|| how);
}

/// Sets the run folder whose unfinished files are removed on an interrupt.
pub(crate) fn clean_up_in(folder: &Arc<RunFolder>) {
    *RUN_FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(folder));
}

/// Starts a thread that waits for SIGINT or SIGTERM.
pub(crate) fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(wait_for_signal());
        ENDING.store(true, Ordering::SeqCst);
        let folder = RUN_FOLDER.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(folder) = folder {
            // A failure is harmless: the next run removes what is left.
            folder.halt().unwrap_or_default();
            let how = HOW_TO_CONTINUE.get().unwrap_or(&"run the same command again to continue");
            tracing::warn!("interrupted; {} holds only finished parts, {how}", folder.root().display());
        } else {
            tracing::warn!("interrupted");
        }
        #[expect(clippy::exit, reason = "an interrupt ends the process from the thread that received it")]
        std::process::exit(i32::from(INTERRUPTED));
    });
    Ok(())
}

/// Waits for the end of the process if it was interrupted: an error because the run folder was
/// halted is not a failure.
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
        std::future::pending::<()>().await; // signals cannot be received, so wait forever
    }
}
