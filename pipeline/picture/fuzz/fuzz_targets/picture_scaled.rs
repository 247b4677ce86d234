//! For any bytes, scaling or keeping them as an image must not panic. A stored image must have the
//! wanted size, and the returned pixels must equal those in its file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lynxdata_picture::{Check, Encode, PictureSettings, Resize, decode_file, prepare_with_pixels};

const MAX_PIXELS: u64 = 100_000;

/// Decoders of other crates may panic, which counts as a broken image. Our own code must not.
fn pass_over_other_crates() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().contains("/registry/src/")) {
            abort(panic);
        }
    }));
}

fuzz_target!(init: pass_over_other_crates(), |bytes: &[u8]| {
    for (resize, encode) in
        [(Resize::Longer, Encode::Jpeg), (Resize::Longer, Encode::Png), (Resize::Keep, Encode::Jpeg)]
    {
        let settings = PictureSettings {
            resize,
            size: 24,
            only_if_larger: false,
            encode,
            quality: 95,
            max_pixels: MAX_PIXELS,
            check: Check::Pixels,
        };
        let Ok((picture, pixels)) = prepare_with_pixels(bytes.to_vec(), &settings, &[]) else { continue };
        let decoded = decode_file(&picture.bytes, MAX_PIXELS).expect("what is stored decodes");
        assert_eq!((decoded.width(), decoded.height()), (picture.width, picture.height));
        // Compared as bytes: floats of a TIFF may be NaN, which does not equal itself.
        let pixels = pixels.expect("what is stored decodes");
        let is_same = pixels.color() == decoded.color() && pixels.as_bytes() == decoded.as_bytes();
        assert!(is_same, "the pixels are those in the file");
        assert!(resize == Resize::Keep || picture.width.max(picture.height) == 24);
    }
});
