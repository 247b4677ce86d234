use std::path::PathBuf;

use proptest::prelude::*;

use super::super::{decode, sniff};
use super::*;
use crate::machine::shared;

const MAX_PIXELS: u64 = 100_000_000;

fn checked(bytes: &[u8]) -> Result<Size, PictureError> {
    check(bytes, sniff::format(bytes)?, MAX_PIXELS)
}

/// Names and bytes of all images among the fixtures.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix != "py" && suffix != "tsv"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() > 25, "{} files", files.len());
    files
}

#[test]
fn every_fixture_is_whole_and_has_the_size_that_decoding_finds() {
    for (name, bytes) in fixtures() {
        assert_eq!(checked(&bytes), Ok(decode(&bytes, MAX_PIXELS, None).unwrap().stored_size), "{name}");
    }
}

#[test]
fn a_fixture_cut_off_at_any_byte_is_not_whole() {
    for (name, bytes) in fixtures() {
        for length in 0..bytes.len() {
            let result = checked(&bytes[..length]);
            assert!(result.is_err(), "{name} is whole after {length} of {} bytes: {result:?}", bytes.len());
        }
    }
}

#[test]
fn bytes_behind_the_end_do_no_harm() {
    for (name, bytes) in fixtures() {
        let size = checked(&bytes);
        for extra in [&b"\0"[..], b"\r\n", b"<!-- served by a careless host -->"] {
            assert_eq!(checked(&[&bytes, extra].concat()), size, "{name}");
        }
    }
}

#[test]
fn zero_sizes_and_too_many_pixels_are_told_from_the_header() {
    // The first 16 bytes of each are enough for a format; sizes are patched where its header has
    // them.
    for (name, offset, zero) in [
        ("plain.jpg", 163, &[0, 0][..]),
        ("alpha.png", 16, &[0; 4]),
        ("palette.gif", 6, &[0; 2]),
        ("rgb_bmp.bmp", 18, &[0; 4]),
    ] {
        let (_, mut bytes) = fixtures().into_iter().find(|(fixture, _)| fixture == name).unwrap();
        bytes[offset..offset + zero.len()].copy_from_slice(zero);
        let reason = checked(&bytes).unwrap_err().to_string();
        assert!(reason.starts_with("the header says"), "{name}: {reason}");
    }
    for (name, bytes) in fixtures() {
        let (width, height) = checked(&bytes).unwrap();
        let pixels = u64::from(width) * u64::from(height);
        let format = sniff::format(&bytes).unwrap();
        assert!(check(&bytes, format, pixels).is_ok());
        let error = check(&bytes, format, pixels - 1).unwrap_err();
        assert!(matches!(error, PictureError::TooManyPixels { .. }), "{name}: {error:?}");
    }
}

#[test]
fn the_error_says_what_is_missing() {
    let cut = |name: &str, from_end: usize| {
        let (_, bytes) = fixtures().into_iter().find(|(fixture, _)| fixture == name).unwrap();
        checked(&bytes[..bytes.len() - from_end]).unwrap_err().to_string()
    };
    assert_eq!(cut("plain.jpg", 1), "the file is cut off in its scans: it has no end-of-image marker");
    assert_eq!(cut("alpha.png", 1), "the file is cut off in its IEND chunk");
    assert_eq!(cut("alpha.png", 12), "the file is cut off before its IEND chunk");
    assert_eq!(cut("palette.gif", 1), "the file is cut off before its trailer");
    assert_eq!(cut("rgb_webp.webp", 8), "the file is cut off after 270 of its 278 bytes");
    assert_eq!(cut("rgb_bmp.bmp", 1), "the file is cut off after 2591 of 2592 bytes of pixels");
    assert_eq!(cut("rgb_tif.tif", 1), "the file is cut off in strip 0");
    let mut damaged = fixtures().into_iter().find(|(name, _)| name == "alpha.png").unwrap().1;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert_eq!(checked(&damaged).unwrap_err().to_string(), "the checksum of the IDAT chunk is wrong");
}

#[test]
fn a_page_is_not_a_picture() {
    assert!(matches!(checked(b"<html><body>404</body></html>"), Err(PictureError::NotAnImage(_))));
}

#[test]
fn files_that_decode_are_whole_and_have_the_size_that_decoding_finds() {
    // The length of their only strip, or the values of a tag that is not needed, reach beyond the
    // end of the file, while their pixels do not.
    const CUT_OFF_YET_DECODED: [&str; 4] = [
        "image-tiff/fuzz_images/oom_crash/id=000025,sig=06,src=000007,op=havoc,rep=16",
        "image-tiff/fuzz_images/oor_panic/id=000019,sig=06,src=000001,op=havoc,rep=8",
        "image-tiff/fuzz_images/oor_panic/id=000023,sig=06,src=000006,op=havoc,rep=8",
        "pillow/tiff_wrong_bits_per_sample.tiff",
    ];
    let Some(folder) = shared("data/hostile") else { return };
    let table = std::fs::read_to_string(folder.join("EXPECT.tsv")).unwrap();
    let (mut agreed, mut exceptions) = (0, Vec::new());
    for name in table.lines().skip(1).map(|line| line.split('\t').next().unwrap()) {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let Ok(decoded) = decode(&bytes, MAX_PIXELS, None) else { continue };
        match checked(&bytes) {
            Ok(size) => {
                assert_eq!(size, decoded.stored_size, "{name}");
                agreed += 1;
            }
            Err(error) => exceptions.push((name, error)),
        }
    }
    assert!(agreed > 500, "{agreed} files");
    let names: Vec<&str> = exceptions.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, CUT_OFF_YET_DECODED, "{exceptions:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..6_usize) {
        let format = [Format::Jpeg, Format::Png, Format::WebP, Format::Gif, Format::Bmp, Format::Tiff][kind];
        let _ = check(&bytes, format, MAX_PIXELS);
    }

    #[test]
    fn no_damage_to_a_picture_makes_it_panic(
        file in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let files = fixtures();
        let (_, mut bytes) = files[file.index(files.len())].clone();
        let format = sniff::format(&bytes).unwrap();
        for (position, value) in changes {
            // Most of the structure stands in the first bytes.
            let length = bytes.len().min(200);
            bytes[position.index(length)] = value;
        }
        let _ = check(&bytes, format, MAX_PIXELS);
    }
}
