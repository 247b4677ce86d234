//! Runs decoders that may panic. A panic then counts as a damaged image, not as a bug.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder. Returns `None` if it panicked. Everything that the decoder changes must be
/// dropped after a panic.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> T) -> Option<T> {
    let outer = IS_DECODING.replace(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode)).ok();
    IS_DECODING.set(outer);
    decoded
}

/// Returns whether this thread runs a decoder whose panics are caught, so that a panic hook can
/// tell them from bugs.
pub fn is_decoding() -> bool {
    IS_DECODING.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_decodes_until_the_outermost_decoder_ends() {
        assert!(!is_decoding());
        let inner = guarded(|| {
            assert!(guarded(|| panic!("a damaged colour profile")).is_none());
            is_decoding()
        });
        assert_eq!((inner, is_decoding()), (Some(true), false));
    }
}
