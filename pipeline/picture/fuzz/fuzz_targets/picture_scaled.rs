//! Any bytes: as a picture that is scaled they are stored or refused without a panic, and what is stored has the size that was asked for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lynxdata_picture::{Check, Encode, PictureSettings, Resize, decode_rgb, prepare};

const MAX_PIXELS: u64 = 100_000;

fuzz_target!(|bytes: &[u8]| {
    for encode in [Encode::Jpeg, Encode::Png] {
        let settings = PictureSettings {
            resize: Resize::Longer,
            size: 24,
            only_if_larger: false,
            encode,
            quality: 95,
            max_pixels: MAX_PIXELS,
            check: Check::Pixels,
        };
        let Ok(picture) = prepare(bytes.to_vec(), &settings, &[]) else { continue };
        assert_eq!(picture.width.max(picture.height), 24);
        let pixels = decode_rgb(&picture.bytes, MAX_PIXELS).expect("what is stored decodes");
        assert_eq!(pixels.dimensions(), (picture.width, picture.height));
    }
});
