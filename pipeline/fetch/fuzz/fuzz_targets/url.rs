//! For any text, parsing it as the URL of a row or as the target of a redirect must not panic, and
//! no password may be left in what is stored.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| lynxdata_fetch::fuzz_url(text));
