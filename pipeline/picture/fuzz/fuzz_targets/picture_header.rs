//! For any bytes, recognising the format and checking the structure must not panic, and accepted
//! images must have a size within the limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lynxdata_picture::{Check, Encode, PictureSettings, Resize, prepare};

const MAX_PIXELS: u64 = 1_000_000;

fuzz_target!(|bytes: &[u8]| {
    let settings = PictureSettings {
        resize: Resize::Keep,
        size: 1,
        only_if_larger: true,
        encode: Encode::Jpeg,
        quality: 95,
        max_pixels: MAX_PIXELS,
        check: Check::Structure,
    };
    if let Ok(picture) = prepare(bytes.to_vec(), &settings, &[]) {
        assert!(picture.bytes == bytes, "kept bytes are what was served");
        assert!((1..=MAX_PIXELS).contains(&(u64::from(picture.width) * u64::from(picture.height))));
    }
});
