//! Any text: as the URL of a row and as the target of a redirect it is taken or refused without a
//! panic, and no password is left in what is written down.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| lynxdata_fetch::fuzz_url(text));
