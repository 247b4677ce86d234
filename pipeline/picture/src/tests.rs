//! Tests with the images and expected pixels that `fixtures/make.py` makes with Pillow.

use std::fmt::Write;
use std::panic::catch_unwind;
use std::path::Path;

use super::*;
use crate::machine::{python, shared};

const MAX_PIXELS: u64 = 100_000_000;

fn settings(resize: Resize, size: u32) -> PictureSettings {
    PictureSettings {
        resize,
        size,
        only_if_larger: true,
        encode: Encode::Jpeg,
        quality: 95,
        max_pixels: MAX_PIXELS,
        check: Check::Pixels,
    }
}

fn prepare(bytes: Vec<u8>, settings: &PictureSettings) -> Result<Picture, PictureError> {
    super::prepare(bytes, settings, &[])
}

pub(super) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn expected(name: &str) -> RgbImage {
    image::load_from_memory(&fixture(&format!("{name}.expected.png"))).unwrap().into_rgb8()
}

/// Returns the largest and the mean difference of two images of the same size, in steps of 0 to
/// 255.
pub(super) fn difference(left: &RgbImage, right: &RgbImage) -> (u8, f64) {
    assert_eq!(left.dimensions(), right.dimensions());
    let differences = || left.as_raw().iter().zip(right.as_raw()).map(|(left, right)| left.abs_diff(*right));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / left.as_raw().len() as f64)
}

#[test]
fn pixels_are_those_that_pillow_sees() {
    // Exact equality, except that blending with white may round the other way, and that decoders of
    // lossy WebP interpolate chroma differently.
    let cases: &[(&str, u8, f64)] = &[
        ("orientation_3.jpg", 0, 0.0),
        ("orientation_6.jpg", 0, 0.0),
        ("orientation_7.jpg", 0, 0.0),
        ("plain.jpg", 0, 0.0),
        ("progressive.jpg", 0, 0.0),
        ("grey.jpg", 0, 0.0),
        ("cmyk.jpg", 0, 0.0),
        ("grey_16.png", 0, 0.0),
        ("alpha.png", 1, 0.5),
        ("alpha.webp", 1, 0.5),
        ("palette.gif", 0, 0.0),
        ("rgb_bmp.bmp", 0, 0.0),
        ("rgb_tif.tif", 0, 0.0),
        ("rgb_webp.webp", 12, 1.5),
        ("cmyk_tif.tif", 1, 0.5),
    ];
    for (name, most, mean) in cases {
        let stem = name.split('.').next().unwrap();
        let pixels = decode_rgb(&fixture(name), MAX_PIXELS).unwrap();
        let found = difference(&pixels, &expected(stem));
        assert!(found.0 <= *most && found.1 <= *mean, "{name}: {found:?}");
    }
}

#[test]
fn jpegs_of_every_layout_have_the_pixels_of_libjpeg() {
    // Pillow 13.0.0 with libjpeg-turbo 3.2.0 on images of every order and number of samples; see
    // fixtures/make_sampling.py.
    let table = String::from_utf8(fixture("sampling.tsv")).unwrap();
    let mut files = 0;
    for line in table.lines().skip(1) {
        let [name, mode, width, height, checksum] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let pixels =
            decode_file(&fixture(&format!("sampling/{name}")), MAX_PIXELS).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(pixels.color() == ColorType::L8, mode == "L", "{name}");
        assert_eq!((pixels.width().to_string(), pixels.height().to_string()), (width.into(), height.into()), "{name}");
        assert_eq!(format!("{:08x}", crc32fast::hash(pixels.as_bytes())), checksum, "{name}");
        files += 1;
    }
    assert_eq!(files, 69);
}

#[test]
fn tiff_of_every_kind_has_the_pixels_that_were_written() {
    // See fixtures/make_tiff.py: Pillow 13.0.0 with libtiff 4.7, or what tifffile wrote.
    let table = String::from_utf8(fixture("tiff.tsv")).unwrap();
    let mut files = 0;
    for line in table.lines().skip(1) {
        let [name, colour, width, height, checksum] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let bytes = fixture(&format!("tiff/{name}"));
        let pixels = decode_file(&bytes, MAX_PIXELS).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(format!("{:?}", pixels.color()), colour, "{name}");
        assert_eq!((pixels.width().to_string(), pixels.height().to_string()), (width.into(), height.into()), "{name}");
        let samples: Vec<u8> = match &pixels {
            DynamicImage::ImageLuma16(image) => image.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            DynamicImage::ImageRgb16(image) => image.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            other => other.as_bytes().to_vec(),
        };
        assert_eq!(format!("{:08x}", crc32fast::hash(&samples)), checksum, "{name}");
        assert_eq!(structure::check(&bytes, Format::Tiff, MAX_PIXELS), Ok((pixels.width(), pixels.height())), "{name}");
        // Any cut-off is noticed, wherever the directory is.
        for end in [9, bytes.len() / 2] {
            assert!(matches!(decode_file(&bytes[..end], MAX_PIXELS), Err(PictureError::Broken(_))), "{name} at {end}");
        }
        files += 1;
    }
    assert_eq!(files, 44);
}

#[test]
fn a_tiff_whose_tiles_share_their_bytes_is_refused() {
    // As many tiles as pixels, of the same deflated bytes, which are most of the file.
    let entry = |tag: u16, count: u32, value: u32| {
        [&tag.to_le_bytes()[..], &4_u16.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let tiff = |tiles: u32| {
        let (directory, tables) = (8, 8 + 2 + 10 * 12 + 4);
        let (counts, data) = (tables + 4 * tiles, tables + 8 * tiles);
        let side = tiles.isqrt();
        let tags = [(256, side), (257, side), (258, 8), (259, 8), (262, 1), (277, 1), (322, 1), (323, 1)];
        let mut bytes = [&b"II\x2a\0"[..], &u32::to_le_bytes(directory), &10_u16.to_le_bytes()].concat();
        bytes.extend(tags.into_iter().flat_map(|(tag, value)| entry(tag, 1, value)));
        bytes.extend([entry(324, tiles, tables), entry(325, tiles, counts), vec![0; 4]].concat());
        bytes.extend(data.to_le_bytes().repeat(tiles as usize));
        bytes.extend(1000_u32.to_le_bytes().repeat(tiles as usize));
        // A stored block of one byte with its checksum, and what nobody reads.
        bytes.extend([0x78, 0x01, 0x01, 0x01, 0x00, 0xfe, 0xff, 0x80, 0x00, 0x81, 0x00, 0x81]);
        bytes.resize(bytes.len() + 1000, 0);
        bytes
    };
    assert_eq!(decode_rgb(&tiff(4), MAX_PIXELS).unwrap().into_raw(), [0x80; 12]);
    let error = decode_rgb(&tiff(400), MAX_PIXELS).unwrap_err();
    assert_eq!(error, PictureError::Broken("its tiles overlap".into()));
}

#[test]
fn damage_to_a_tiff_ends_with_a_picture_or_an_error() {
    // A panic would be an error with "the decoder gave up" in its message.
    for name in
        ["rgb_planes.tif", "bits_group4.tif", "bits_group3_two_dimensional.tif", "rgb_tiles_jpeg.tif", "palette4.tif"]
    {
        let bytes = fixture(&format!("tiff/{name}"));
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[place] = value;
                if let Err(error) = decode_file(&damaged, 10_000) {
                    assert!(!error.to_string().contains("gave up"), "{name} with {value} at {place}");
                }
            }
        }
    }
}

#[test]
fn the_screen_of_a_gif_grows_to_hold_its_first_picture_and_is_transparent_around_it() {
    // A screen of 2 x 1 with an image of 2 x 2 at (1, 0); its four pixels have the colours 1, 2, 1
    // and 1 of red, green and blue, in codes of 3 bits (the last two of 4): clear, 1, 2, 1, 1, end.
    let gif = |control: &[u8]| {
        [
            &b"GIF89a\x02\x00\x01\x00\x81\x00\x00"[..],
            &[255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9],
            control,
            &[0x2c, 1, 0, 0, 0, 2, 0, 2, 0, 0, 2, 3, 0x8c, 0x12, 0x05, 0, 0x3b],
        ]
        .concat()
    };
    let (red, green, blue) = ([255, 0, 0], [0, 255, 0], [0, 0, 255]);
    let opaque = |[red, green, blue]: [u8; 3]| [red, green, blue, 255];
    let clear = |[red, green, blue]: [u8; 3]| [red, green, blue, 0];
    for (control, expected) in [
        (&[][..], [clear(red), opaque(green), opaque(blue), clear(red), opaque(green), opaque(green)]),
        // Colour 2 is transparent.
        (
            &[0x21, 0xf9, 4, 1, 0, 0, 2, 0],
            [clear(blue), opaque(green), clear(blue), clear(blue), opaque(green), opaque(green)],
        ),
    ] {
        let bytes = gif(control);
        let pixels = decode_file(&bytes, MAX_PIXELS).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (3, 2));
        assert_eq!(pixels.as_bytes(), expected.concat());
        let shown = decode_rgb(&bytes, MAX_PIXELS).unwrap();
        assert_eq!([shown.get_pixel(0, 0).0, shown.get_pixel(1, 0).0], [[255; 3], green]);
        assert_eq!(structure::check(&bytes, Format::Gif, MAX_PIXELS), Ok((3, 2)));
    }
}

#[test]
fn stray_bytes_in_a_jpeg_are_passed_over_as_by_libjpeg() {
    let bytes = fixture("plain.jpg");
    let whole = decode_file(&bytes, MAX_PIXELS).unwrap();
    // Where each segment begins; the last of these is the scan, behind whose data the file ends.
    let mut starts = vec![2];
    while bytes[starts[starts.len() - 1] + 1] != 0xda {
        let start = starts[starts.len() - 1];
        starts.push(start + 2 + usize::from(u16::from_be_bytes([bytes[start + 2], bytes[start + 3]])));
    }
    starts.push(bytes.len() - 2);
    // In front of the first one they would hide what the file is.
    for start in starts.into_iter().skip(1) {
        for stray in [&[0x00][..], &[0xff], &[0xff, 0x00, 0x12], &[0x34; 300]] {
            let strayed = [&bytes[..start], stray, &bytes[start..]].concat();
            let settings = settings(Resize::Shorter, 32);
            assert!(decode_file(&strayed, MAX_PIXELS).unwrap() == whole, "{stray:?} at {start}");
            assert!(prepare(strayed, &settings).unwrap().bytes == prepare(bytes.clone(), &settings).unwrap().bytes);
        }
    }
}

#[test]
fn pixels_of_what_is_stored_come_without_decoding_it() {
    let modes = [Resize::Keep, Resize::Shorter, Resize::Longer, Resize::CentreCrop, Resize::Border];
    let names = [
        "plain.jpg",
        "progressive.jpg",
        "grey.jpg",
        "cmyk.jpg",
        "orientation_6.jpg",
        "profile_rgb.jpg",
        "alpha.png",
        "grey_16.png",
        "palette.gif",
        "rgb_webp.webp",
        "rgb_tif.tif",
        "separate_scans.jpg",
    ];
    let mut seen = [0; 2];
    for (name, resize) in names.into_iter().flat_map(|name| modes.map(|resize| (name, resize))) {
        for (size, encode, quality) in [
            (9, Encode::Jpeg, 95),
            (23, Encode::Jpeg, 40),
            (24, Encode::Png, 95),
            (500, Encode::Jpeg, 100),
            (17, Encode::WebP, 1),
        ] {
            for blur in [&[][..], &[[0.2, 0.2, 0.6, 0.9]]] {
                for check in [Check::Pixels, Check::Structure] {
                    let settings = PictureSettings {
                        encode,
                        quality,
                        check,
                        only_if_larger: size == 500,
                        ..settings(resize, size)
                    };
                    let context = || format!("{name} {settings:?} {blur:?}");
                    let alone = super::prepare(fixture(name), &settings, blur).unwrap();
                    let (picture, pixels) = prepare_with_pixels(fixture(name), &settings, blur).unwrap();
                    assert!(picture == alone, "{}", context());
                    let decoded = decode_file(&picture.bytes, MAX_PIXELS).unwrap();
                    assert!(pixels.unwrap() == decoded, "{}", context());
                    seen[usize::from(picture.bytes == fixture(name))] += 1;
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    // If the check of the structure accepts a file that does not decode, there are no pixels.
    let mut damaged = fixture("plain.jpg");
    let middle = damaged.len() / 2;
    damaged[middle..middle + 20].as_chunks_mut().0.fill([0xff, 0]); // ones, with which no code begins
    let by_structure = PictureSettings { check: Check::Structure, ..settings(Resize::Keep, 1) };
    assert!(decode_file(&damaged, MAX_PIXELS).is_err());
    assert!(prepare_with_pixels(damaged, &by_structure, &[]).unwrap().1.is_none());
}

#[test]
fn jpegs_that_come_in_scans_of_their_own_are_decoded_in_every_way() {
    // The coefficients are those of plain.jpg.
    let bytes = fixture("separate_scans.jpg");
    assert!(decode_rgb(&bytes, MAX_PIXELS).unwrap() == expected("plain"));
    let scaled = |name| prepare(fixture(name), &settings(Resize::Shorter, 32)).unwrap().bytes;
    assert!(scaled("separate_scans.jpg") == scaled("plain.jpg"));
    // A JFIF marker says YCbCr, whatever an Adobe marker says of the transform.
    let adobe = [0xff, 0xee, 0, 14, b'A', b'd', b'o', b'b', b'e', 0, 100, 0, 0, 0, 0, 0];
    let behind_jfif = 2 + 2 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    for name in ["plain.jpg", "separate_scans.jpg"] {
        let file = fixture(name);
        assert_eq!(file[6..11], *b"JFIF\0");
        let both = [&file[..behind_jfif], &adobe, &file[behind_jfif..]].concat();
        assert!(decode_rgb(&both, MAX_PIXELS).unwrap() == expected("plain"), "{name}");
    }
    // Wrong numbers of samples.
    let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    let mut coarse = bytes.clone();
    (coarse[frame + 11], coarse[frame + 14], coarse[frame + 17]) = (0x11, 0x22, 0x22);
    assert!(matches!(decode_rgb(&coarse, MAX_PIXELS).unwrap_err(), PictureError::Broken(_)));
}

#[test]
fn what_is_decoded_is_what_was_held_against_the_limits() {
    // The marker of a frame in a segment that only one of two decoders skips, and a WebP canvas
    // smaller than its picture: the header that is checked must be that of what is decoded.
    let jpeg = fixture("plain.jpg");
    let mut extended = jpeg[..2].to_vec();
    extended.extend([0xff, 0xc0, 0, 17, 8, 0xfe, 0xfe, 0xfe, 0xfe, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
    extended.extend(&jpeg[2..]);
    assert!(prepare(extended, &settings(Resize::Shorter, 32)).is_err());
    let mut webp = fixture("rgb_webp.webp");
    let size = webp.windows(3).position(|start| start == [0x9d, 0x01, 0x2a]).unwrap() + 3;
    assert!(vp8::decode(&webp, (100, 60)).is_none());
    webp[size..size + 4].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    assert!(prepare(webp, &settings(Resize::Shorter, 32)).is_err());
}

#[test]
fn sides_without_end_are_not_decoded() {
    let line = |length: u32| {
        let mut bytes = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        let grey = vec![0; length as usize];
        image::ImageEncoder::write_image(encoder, &grey, length, 1, image::ExtendedColorType::L8).unwrap();
        bytes
    };
    for resize in [Resize::Keep, Resize::Shorter, Resize::Longer, Resize::CentreCrop, Resize::Border] {
        let png = PictureSettings { encode: Encode::Png, ..settings(resize, 16) };
        assert!(prepare(line(MAX_SIDE as u32), &png).is_ok(), "{resize:?}");
        let error = prepare(line(MAX_SIDE as u32 + 1), &png).unwrap_err();
        assert!(matches!(error, PictureError::Unsupported(_)), "{resize:?}");
    }
}

#[test]
fn premultiplied_pixels_are_not_blended_twice() {
    // A pixel of 200 at half alpha has been stored as 100: over white, it is 100 + 127.
    let tiff = |extra: u16| {
        let mut bytes = b"II\x2a\0\x0c\0\0\0\x64\x64\x64\x80".to_vec();
        let entries: [(u16, u16, u32, u32); 10] = [
            (256, 3, 1, 1),
            (257, 3, 1, 1),
            (258, 3, 4, 138),
            (259, 3, 1, 1),
            (262, 3, 1, 2),
            (273, 4, 1, 8),
            (277, 3, 1, 4),
            (278, 3, 1, 1),
            (279, 4, 1, 4),
            (338, 3, 1, extra.into()),
        ];
        bytes.extend(10_u16.to_le_bytes());
        for (tag, kind, count, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(count.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0; 4]);
        bytes.extend([8, 0, 8, 0, 8, 0, 8, 0]);
        bytes
    };
    assert_eq!(decode_rgb(&tiff(1), MAX_PIXELS).unwrap().into_raw(), [227; 3]);
    assert_eq!(decode_rgb(&tiff(2), MAX_PIXELS).unwrap().into_raw(), [177; 3]);
}

#[test]
fn exif_data_are_read_as_by_pillow() {
    let plain = fixture("rgb_webp.webp");
    let upright = decode_rgb(&plain, MAX_PIXELS).unwrap();
    // Directories of one entry: orientation 6, to be turned by 90 degrees, as a short number and as
    // a long one, which says that it is one of two and whose end is cut off.
    let short = b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let long = b"MM\0\x2a\0\0\0\x08\0\x02\x01\x12\0\x04\0\0\0\x01\0\0\0\x06\x01\x13";
    // Webp may have them as in a JPEG segment.
    for (prefix, exif) in [(&b""[..], &short[..]), (b"Exif\0\0", short), (b"", long)] {
        let chunk = |name: &[u8; 4], content: &[u8]| {
            [name, &(content.len() as u32).to_le_bytes()[..], content, &[0][..content.len() % 2]].concat()
        };
        let (width, height) = (upright.width() - 1, upright.height() - 1);
        let [w0, w1, w2, _] = width.to_le_bytes();
        let [h0, h1, h2, _] = height.to_le_bytes();
        let extended = chunk(b"VP8X", &[8, 0, 0, 0, w0, w1, w2, h0, h1, h2]);
        let chunks = [&b"WEBP"[..], &extended, &plain[12..], &chunk(b"EXIF", &[prefix, exif].concat())].concat();
        let turned = decode_rgb(&chunk(b"RIFF", &chunks), MAX_PIXELS).unwrap();
        assert_eq!(turned.dimensions(), (upright.height(), upright.width()), "{prefix:?}");
        assert!(turned == image::imageops::rotate90(&upright), "{prefix:?}");
    }
}

#[test]
fn profiles_are_converted_to_srgb_as_littlecms_does() {
    // Pillow's ImageCms with LittleCMS 2.19. What is decoded without loss differs by the rounding
    // of fixed-point arithmetic on either side. In front of that, two JPEG decoders differ by
    // rounding (none of these subsamples its chroma), which the curve of Adobe RGB makes larger in
    // the dark. Between the 5 steps of the table of inks, LittleCMS interpolates in tetrahedra and
    // moxcms in cubes.
    let cases: &[(&str, u8, f64)] = &[
        ("profile_rgb_png.png", 1, 0.2),
        ("profile_rgb_tif.tif", 1, 0.2),
        ("profile_alpha.webp", 1, 0.3),
        ("profile_grey_png.png", 1, 0.2),
        ("profile_grey.jpg", 2, 0.2),
        ("profile_rgb.jpg", 4, 0.2),
        ("profile_cmyk.jpg", 6, 1.0),
        ("profile_ycck.jpg", 6, 1.0),
    ];
    for (name, most, mean) in cases {
        let stem = name.split('.').next().unwrap();
        let decoded = decode(&fixture(name), MAX_PIXELS, None).unwrap();
        assert!(!decoded.is_plain, "{name}");
        let found = difference(&decoded.into_rgb(), &expected(stem));
        assert!(found.0 <= *most && found.1 <= *mean, "{name}: {found:?}");
    }
}

#[test]
fn a_picture_in_another_colour_space_is_stored_in_srgb_unless_its_bytes_are_kept() {
    let bytes = fixture("profile_rgb_png.png");
    let png = PictureSettings { encode: Encode::Png, ..settings(Resize::Shorter, 100) };
    let stored = prepare(bytes.clone(), &png).unwrap().bytes;
    assert!(stored != bytes, "the size and the format are right, the colours are not");
    let again = decode(&stored, MAX_PIXELS, None).unwrap();
    assert!(again.is_plain);
    assert!(difference(&again.into_rgb(), &expected("profile_rgb_png")).0 <= 1);
    assert!(prepare(bytes.clone(), &settings(Resize::Keep, 1)).unwrap().bytes == bytes);
}

#[test]
fn profiles_of_srgb_and_broken_ones_change_nothing() {
    for stem in ["profile_srgb", "profile_broken"] {
        let bytes = fixture(&format!("{stem}.jpg"));
        let decoded = decode(&bytes, MAX_PIXELS, None).unwrap();
        assert!(decoded.is_plain, "{stem}");
        let (most, mean) = difference(&decoded.into_rgb(), &expected(stem));
        assert!(most <= 4 && mean < 0.5, "{stem}: {most} {mean}");
        assert!(prepare(bytes.clone(), &settings(Resize::Shorter, 100)).unwrap().bytes == bytes, "{stem}");
    }
}

#[test]
fn no_damage_to_a_profile_costs_the_picture() {
    for name in ["profile_rgb.jpg", "profile_grey.jpg", "profile_cmyk.jpg", "profile_srgb.jpg"] {
        let bytes = fixture(name);
        let start = bytes.windows(12).position(|window| window == b"ICC_PROFILE\0").unwrap() + 14;
        let length = usize::from(u16::from_be_bytes([bytes[start - 16], bytes[start - 15]])) - 16;
        let mut state = 1_u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for round in 0..300 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 5 {
                // Header and table of tags come first; half of the damage is there.
                let position = if random(2) == 0 { random(length) } else { random(length.min(250)) };
                damaged[start + position] = random(256) as u8;
            }
            let result = decode_rgb(&damaged, MAX_PIXELS);
            assert!(result.is_ok(), "{name}, round {round}: {:?}", result.err());
        }
    }
}

#[test]
fn other_peoples_profiles_give_the_colours_that_pillow_sees() {
    // Means of 4 x 4 fields, which JPEG decoders change by less than one step.
    let Some(hostile) = shared("data/hostile") else { return };
    let table = String::from_utf8(fixture("profiles_of_others.tsv")).unwrap();
    let mut compared = 0;
    for line in table.lines() {
        let [name, width, height, means] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let bytes = std::fs::read(hostile.join(name)).unwrap();
        // TIFF with premultiplied alpha is shown as if it were not, or not decoded at all; that has
        // nothing to do with profiles.
        if name.contains("16bit_RGBa") {
            continue;
        }
        let pixels = decode_rgb(&bytes, MAX_PIXELS).unwrap();
        compared += 1;
        assert_eq!((pixels.width().to_string(), pixels.height().to_string()), (width.into(), height.into()), "{name}");
        // The first fields are one longer where a side is no multiple of 4.
        let ends = |length: u32| (1..=4).map(move |field| length / 4 * field + field.min(length % 4));
        let mut wanted = means.split(' ').map(|mean| mean.parse::<f64>().unwrap());
        let (mut top, mut most) = (0, 0.0_f64);
        for bottom in ends(pixels.height()) {
            let mut left = 0;
            for right in ends(pixels.width()) {
                if right == left || bottom == top {
                    continue;
                }
                let field = image::imageops::crop_imm(&pixels, left, top, right - left, bottom - top).to_image();
                for channel in 0..3 {
                    let sum: f64 = field.pixels().map(|pixel| f64::from(pixel.0[channel])).sum();
                    let mean = sum / f64::from(field.width() * field.height());
                    most = most.max((mean - wanted.next().unwrap()).abs());
                }
                left = right;
            }
            top = bottom;
        }
        assert!(most < 1.5, "{name}: {most}");
    }
    assert!(compared > 15, "{compared} files");
}

#[test]
fn a_picture_with_a_blurred_box_is_encoded_in_every_mode() {
    let face = [[0.4, 0.4, 0.6, 0.6]];
    for resize in [Resize::Keep, Resize::Shorter, Resize::Longer, Resize::CentreCrop, Resize::Border] {
        for check in [Check::Pixels, Check::Structure] {
            let settings = PictureSettings { check, encode: Encode::Png, ..settings(resize, 400) };
            let bytes = fixture("blur.png");
            let picture = super::prepare(bytes.clone(), &settings, &face).unwrap();
            assert_eq!((picture.width, picture.height, picture.format), (160, 120, Format::Png));
            let mut wanted = decode_rgb(&bytes, MAX_PIXELS).unwrap();
            blur_boxes(&mut wanted, &face);
            assert!(decode_rgb(&picture.bytes, MAX_PIXELS).unwrap() == wanted, "{settings:?}");
            let unusable = [[0.6, 0.4, 0.4, 0.6], [f32::NAN, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0]];
            assert!(super::prepare(bytes.clone(), &settings, &unusable).unwrap().bytes == bytes);
        }
    }
    // Boxes refer to the upright image, which is blurred before it is scaled and cropped.
    let bytes = fixture("orientation_6.jpg");
    let kept = super::prepare(bytes.clone(), &settings(Resize::Keep, 1), &face).unwrap();
    assert_eq!((kept.width, kept.height, kept.original_width, kept.original_height), (32, 48, 48, 32));
    let cropped = PictureSettings { encode: Encode::Png, ..settings(Resize::CentreCrop, 14) };
    let mut wanted = decode_rgb(&bytes, MAX_PIXELS).unwrap();
    blur_boxes(&mut wanted, &face);
    let layout = Layout::new(Resize::CentreCrop, (32, 48), 14, true);
    let picture = super::prepare(bytes, &cropped, &face).unwrap();
    assert!(decode_rgb(&picture.bytes, MAX_PIXELS).unwrap() == resize::lay_out(wanted, layout));
}

#[test]
fn both_views_of_one_decode_are_those_of_two() {
    for name in ["plain.jpg", "orientation_6.jpg", "cmyk.jpg", "alpha.png", "palette.gif"] {
        let bytes = fixture(name);
        let (file, rgb) = decode_file_and_rgb(&bytes, 1 << 30).unwrap();
        assert_eq!(file, decode_file(&bytes, 1 << 30).unwrap(), "{name}");
        assert_eq!(rgb, decode_rgb(&bytes, 1 << 30).unwrap(), "{name}");
    }
}

#[test]
fn scaling_is_pillows_bicubic() {
    let scaled = resize::scaled_to(&expected("plain"), (48, 32));
    let found = difference(&scaled, &expected("plain_shorter_32"));
    assert!(found.0 <= 1 && found.1 < 0.2, "{found:?}");
    let square = resize::centre_square(&expected("plain"), 24);
    let found = difference(&square, &expected("plain_square_24"));
    assert!(found.0 <= 1 && found.1 < 0.2, "{found:?}");
    assert_eq!(square_of(&decode_rgb(&fixture("plain.jpg"), 1 << 30).unwrap(), 24).len(), 24 * 24 * 3);
}

#[test]
fn pictures_are_made_smaller_while_they_are_decoded() {
    // Nearly the whole size, half of it, a quarter, an eighth, and between. The reference is
    // Pillow's decoder, then the filter of all other images.
    for (name, most_mean) in [
        ("plain.jpg", 1.5),
        ("progressive.jpg", 1.5),
        ("grey.jpg", 1.0),
        ("orientation_3.jpg", 1.5),
        ("orientation_6.jpg", 1.5),
        // Its chroma changes from pixel to pixel, and at half the size it is taken as it is.
        ("rgb_webp.webp", 2.0),
    ] {
        let reference = expected(name.split('.').next().unwrap());
        let bytes = fixture(name);
        let shorter = reference.width().min(reference.height());
        for size in [shorter - 1, shorter * 3 / 4, shorter / 2, shorter * 2 / 5, shorter / 4, shorter / 5, shorter / 8]
        {
            let png = PictureSettings { encode: Encode::Png, ..settings(Resize::Shorter, size) };
            let decoded = decode(&bytes, MAX_PIXELS, Some(&png)).unwrap();
            assert_eq!(decoded.upright_size, reference.dimensions());
            assert!(matches!(decoded.pixels, Pixels::Planes(..)), "{name} to {size}");
            let layout = Layout::new(Resize::Shorter, reference.dimensions(), size, true);
            let wanted = resize::scaled_to(&reference, layout.scaled);
            let (_, mean) = difference(&decoded.into_rgb(), &wanted);
            assert!(mean < most_mean, "{name} to {size}: {mean}");
        }
    }
}

#[test]
fn planes_that_become_a_jpeg_are_never_rgb() {
    for (name, most_mean) in [("plain.jpg", 2.2), ("progressive.jpg", 2.2), ("grey.jpg", 1.0), ("rgb_webp.webp", 2.2)] {
        let reference = expected(name.split('.').next().unwrap());
        let bytes = fixture(name);
        let shorter = reference.width().min(reference.height());
        for size in [shorter * 2, shorter - 1, shorter * 3 / 4, shorter / 2, shorter / 4] {
            let jpeg = PictureSettings { only_if_larger: false, ..settings(Resize::Shorter, size) };
            let Pixels::Planes(planes, wanted) = decode(&bytes, MAX_PIXELS, Some(&jpeg)).unwrap().pixels else {
                panic!("{name} to {size}");
            };
            let layout = Layout::new(Resize::Shorter, reference.dimensions(), size, false);
            assert_eq!(wanted, Wanted { size: layout.scaled, halves_chroma: true });
            let rgb = resize::scaled_to(&reference, layout.scaled);
            let (found, wanted) = (planes.subsampled(layout.scaled), Subsampled::from_rgb(&rgb));
            for ((found, stride), (wanted, wanted_stride)) in found.planes().into_iter().zip(wanted.planes()) {
                assert_eq!((found.len(), stride), (wanted.len(), wanted_stride));
                let sum: u64 = found.iter().zip(wanted).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
                let mean = sum as f64 / found.len() as f64;
                assert!(mean < most_mean, "{name} to {size}: {mean}");
            }
        }
    }
}

#[test]
fn the_fast_way_accepts_no_picture_that_the_complete_decoder_refuses() {
    let verdicts_agree = |bytes: Vec<u8>, context: &dyn Fn() -> String| {
        let complete = decode_rgb(&bytes, MAX_PIXELS).map(|_| ());
        for resize in [Resize::Shorter, Resize::Keep] {
            let fast = prepare(bytes.clone(), &settings(resize, 9)).map(|_| ());
            assert_eq!(fast, complete, "{}", context());
        }
    };
    for name in ["plain.jpg", "progressive.jpg", "grey.jpg", "orientation_7.jpg", "cmyk.jpg", "rgb_webp.webp"] {
        let bytes = fixture(name);
        for length in 0..bytes.len() {
            verdicts_agree(bytes[..length].to_vec(), &|| format!("{name} cut to {length} bytes"));
            let mut ended = bytes[..length].to_vec();
            ended.extend([0xff, 0xd9]);
            verdicts_agree(ended, &|| format!("{name} ended after {length} bytes"));
            for mask in [0x01, 0x10, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[length] ^= mask;
                verdicts_agree(damaged, &|| format!("{name} with byte {length} changed by {mask:#x}"));
            }
        }
    }
}

#[test]
fn no_damaged_jpeg_is_accepted_that_zune_refuses() {
    // Another decoder, in its most tolerant mode.
    let is_accepted_by_zune = |bytes: &[u8]| {
        let decoding = || zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(bytes)).decode();
        catch_unwind(decoding).is_ok_and(|pixels| pixels.is_ok())
    };
    let mut accepted = Vec::new();
    for name in ["plain.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "sampling/33x17_2x2_restart.jpg"] {
        let bytes = fixture(name);
        for place in 0..bytes.len() {
            for mask in [0x01, 0x08, 0x40, 0xff] {
                let mut damaged = bytes.clone();
                damaged[place] ^= mask;
                if decode_file(&damaged, 1_000_000).is_ok() && !is_accepted_by_zune(&damaged) {
                    accepted.push(format!("{name} with byte {place} changed by {mask:#x}"));
                }
            }
        }
    }
    // As libjpeg, we take numbers for YCCK that an Adobe marker does not define, and pass over the
    // marker's end if its length is too small.
    accepted.retain(|damage| {
        !damage.starts_with("cmyk.jpg with byte 17 ") && damage != "cmyk.jpg with byte 5 changed by 0x8"
    });
    assert!(accepted.is_empty(), "{accepted:#?}");
}

#[test]
fn keep_returns_the_bytes_as_served_with_the_size_of_the_header() {
    for (name, format, size) in [
        ("orientation_6.jpg", Format::Jpeg, (48, 32)),
        ("alpha.webp", Format::WebP, (36, 24)),
        ("palette.gif", Format::Gif, (36, 24)),
        ("cmyk_tif.tif", Format::Tiff, (36, 24)),
    ] {
        let bytes = fixture(name);
        let picture = prepare(bytes.clone(), &settings(Resize::Keep, 1)).unwrap();
        assert!(picture.bytes == bytes, "{name}");
        assert_eq!((picture.width, picture.height), size, "{name}");
        assert_eq!((picture.original_width, picture.original_height), size, "{name}");
        assert_eq!(picture.format, format);
    }
}

#[test]
fn the_structure_alone_decides_where_that_is_set() {
    let structure = PictureSettings { check: Check::Structure, ..settings(Resize::Keep, 1) };
    let bytes = fixture("orientation_6.jpg");
    let kept = prepare(bytes.clone(), &structure).unwrap();
    assert_eq!(kept, prepare(bytes.clone(), &settings(Resize::Keep, 1)).unwrap());
    // Without its quantisation tables, which become a comment, no pixel can be decoded.
    let mut damaged = bytes.clone();
    while let Some(tables) = damaged.windows(2).position(|pair| pair == [0xff, 0xdb]) {
        damaged[tables + 1] = 0xfe;
    }
    assert!(prepare(damaged.clone(), &structure).is_ok());
    assert!(prepare(damaged.clone(), &settings(Resize::Keep, 1)).is_err());
    let scaled = PictureSettings { check: Check::Structure, ..settings(Resize::Shorter, 16) };
    assert!(prepare(damaged, &scaled).is_err(), "what is resized is decoded");
    let cut = prepare(bytes[..bytes.len() - 1].to_vec(), &structure);
    assert!(matches!(cut, Err(PictureError::Broken(_))));
}

#[test]
fn shorter_turns_scales_and_encodes() {
    let picture = prepare(fixture("orientation_6.jpg"), &settings(Resize::Shorter, 16)).unwrap();
    assert_eq!((picture.width, picture.height), (16, 24), "upright, the shorter side scaled");
    assert_eq!((picture.original_width, picture.original_height), (48, 32), "as in the header");
    assert_eq!(picture.format, Format::Jpeg);
    let again = decode(&picture.bytes, MAX_PIXELS, None).unwrap();
    assert_eq!(again.stored_size, (16, 24));
    assert!(again.is_plain, "the orientation is not left in the file");
    let wanted = resize::scaled_to(&expected("orientation_6"), (16, 24));
    let (_, mean) = difference(&again.into_rgb(), &wanted);
    assert!(mean < 4.0, "{mean}");
}

#[test]
fn shorter_keeps_bytes_that_need_no_change() {
    let same = |name: &str, settings: &PictureSettings| {
        let bytes = fixture(name);
        prepare(bytes.clone(), settings).unwrap().bytes == bytes
    };
    let jpeg = settings(Resize::Shorter, 100);
    let png = PictureSettings { encode: Encode::Png, ..jpeg };
    assert!(same("plain.jpg", &jpeg));
    assert!(same("grey.jpg", &jpeg));
    assert!(same("plain.expected.png", &png));
    for (name, settings, why) in [
        ("plain.jpg", PictureSettings { size: 99, ..jpeg }, "larger than wanted"),
        ("plain.jpg", PictureSettings { size: 101, only_if_larger: false, ..jpeg }, "smaller, and to be enlarged"),
        ("plain.jpg", png, "another format"),
        ("orientation_3.jpg", jpeg, "turned"),
        ("cmyk.jpg", jpeg, "CMYK"),
        ("alpha.png", png, "transparent"),
        ("grey_16.png", png, "16-bit"),
    ] {
        assert!(!same(name, &settings), "{name} is {why}");
    }
    let enlarged =
        prepare(fixture("plain.jpg"), &PictureSettings { size: 200, only_if_larger: false, ..jpeg }).unwrap();
    assert_eq!((enlarged.width, enlarged.height), (300, 200));
    let lossless = prepare(fixture("alpha.png"), &png).unwrap();
    let (most, _) = difference(&decode_rgb(&lossless.bytes, MAX_PIXELS).unwrap(), &expected("alpha"));
    assert!(most <= 1);
}

#[test]
fn every_mode_keeps_bytes_that_need_no_change() {
    // plain.jpg has 150 x 100 pixels, the other 24 x 24.
    for (name, encode, resize, size, only_if_larger) in [
        ("plain.jpg", Encode::Jpeg, Resize::Shorter, 100, true),
        ("plain.jpg", Encode::Jpeg, Resize::Shorter, 100, false),
        ("plain.jpg", Encode::Jpeg, Resize::Longer, 150, true),
        ("plain.jpg", Encode::Jpeg, Resize::Longer, 150, false),
        ("plain.jpg", Encode::Jpeg, Resize::CentreCrop, 100, true),
        ("plain.jpg", Encode::Jpeg, Resize::Border, 150, true),
        ("plain_square_24.expected.png", Encode::Png, Resize::CentreCrop, 24, false),
        ("plain_square_24.expected.png", Encode::Png, Resize::Border, 24, false),
        ("rgb_webp.webp", Encode::WebP, Resize::Border, 100, true),
    ] {
        let bytes = fixture(name);
        let settings = PictureSettings { only_if_larger, encode, ..settings(resize, size) };
        let picture = prepare(bytes.clone(), &settings).unwrap();
        assert!(picture.bytes == bytes, "{name} {settings:?}");
        assert_eq!((picture.width, picture.height), (picture.original_width, picture.original_height));
    }
    for (resize, size, only_if_larger, stored) in [
        (Resize::CentreCrop, 100, false, (100, 100)),
        (Resize::CentreCrop, 99, true, (99, 99)),
        (Resize::Border, 150, false, (150, 150)),
        (Resize::Border, 149, true, (149, 149)),
        (Resize::Longer, 149, true, (149, 99)),
    ] {
        let settings = PictureSettings { only_if_larger, ..settings(resize, size) };
        let picture = prepare(fixture("plain.jpg"), &settings).unwrap();
        assert_eq!((picture.width, picture.height), stored, "{settings:?}");
        assert_eq!(decode_rgb(&picture.bytes, MAX_PIXELS).unwrap().dimensions(), stored);
    }
}

#[test]
fn cropped_and_padded_pixels_are_pillows() {
    // Bicubic scaling of the same pixels differs by rounding only; the orientation's image goes
    // through another JPEG decoder first. One pixel off the centre would be a mean difference of 6
    // or more.
    for (name, resize, size, wanted, most, mean) in [
        ("plain.expected.png", Resize::CentreCrop, 30, "plain_centre_crop_30", 1, 0.2),
        ("plain.expected.png", Resize::Border, 33, "plain_border_33", 1, 0.2),
        ("orientation_6.jpg", Resize::CentreCrop, 14, "orientation_6_centre_crop_14", 20, 1.5),
    ] {
        for encode in [Encode::Png, Encode::WebP] {
            let settings = PictureSettings { encode, ..settings(resize, size) };
            let picture = prepare(fixture(name), &settings).unwrap();
            assert_eq!((picture.width, picture.height), (size, size));
            let found = difference(&decode_rgb(&picture.bytes, MAX_PIXELS).unwrap(), &expected(wanted));
            assert!(found.0 <= most && found.1 <= mean, "{wanted}: {found:?}");
        }
    }
}

#[test]
fn webp_is_written_without_loss() {
    let settings = PictureSettings { encode: Encode::WebP, quality: 1, ..settings(Resize::Shorter, 100) };
    let picture = prepare(fixture("plain.expected.png"), &settings).unwrap();
    assert_eq!(picture.format, Format::WebP);
    let again = decode(&picture.bytes, MAX_PIXELS, None).unwrap();
    assert_eq!((again.format, again.is_plain), (Format::WebP, true));
    assert!(again.into_rgb() == expected("plain"));
    let longest = RgbImage::new(16_383, 1);
    assert!(decode_rgb(&encode::webp(&longest).unwrap(), MAX_PIXELS).unwrap() == longest);
    assert!(matches!(encode::webp(&RgbImage::new(1, 16_384)), Err(PictureError::Unsupported(_))));
}

#[test]
fn cut_off_pictures_are_broken_wherever_the_cut_is() {
    for name in [
        "plain.jpg",
        "progressive.jpg",
        "grey.jpg",
        "cmyk.jpg",
        "grey_16.png",
        "alpha.webp",
        "rgb_bmp.bmp",
        "rgb_tif.tif",
    ] {
        let bytes = fixture(name);
        // After the pixels of a PNG there is only its end chunk, so its pixels are complete at 99
        // %.
        for percent in [30, 60, 90, if name.ends_with("png") { 90 } else { 99 }] {
            let cut = &bytes[..bytes.len() * percent / 100];
            let error = prepare(cut.to_vec(), &settings(Resize::Keep, 1));
            assert!(matches!(error, Err(PictureError::Broken(_))), "{name} at {percent} %: {error:?}");
        }
    }
    let bytes = fixture("plain.jpg");
    let without_end = &bytes[..bytes.len() - 2];
    assert!(
        matches!(decode_rgb(without_end, MAX_PIXELS), Err(PictureError::Broken(_))),
        "only the end marker is missing"
    );
}

#[test]
fn a_header_that_announces_too_much_is_refused_before_decoding() {
    let error = decode_rgb(&fixture("plain.jpg"), 14_999).unwrap_err();
    assert_eq!(error, PictureError::TooManyPixels { width: 150, height: 100, max_pixels: 14_999 });
    assert!(matches!(error, PictureError::TooManyPixels { .. }));
    assert!(decode_rgb(&fixture("plain.jpg"), 15_000).is_ok());
    // A GIF of 35 bytes whose logical screen is 65535 x 65535.
    let gif = b"GIF89a\xff\xff\xff\xff\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
    assert!(matches!(decode_rgb(gif, MAX_PIXELS).unwrap_err(), PictureError::TooManyPixels { .. }));
    // Enlarging is capped as well.
    let enlarge = PictureSettings { only_if_larger: false, max_pixels: 15_000, ..settings(Resize::Shorter, 101) };
    assert!(matches!(prepare(fixture("plain.jpg"), &enlarge).unwrap_err(), PictureError::TooManyPixels { .. }));
}

#[test]
fn pixels_of_a_file_that_take_too_much_memory_are_refused_before_decoding() {
    // 67 megapixels of four times 16 bits, of which no byte follows.
    let png = |side: u32| {
        let chunk = |name: &[u8; 4], content: &[u8]| {
            let checksum = crc32fast::hash(&[name, content].concat());
            [&(content.len() as u32).to_be_bytes(), &name[..], content, &checksum.to_be_bytes()].concat()
        };
        let header = [&side.to_be_bytes()[..], &side.to_be_bytes(), &[16, 6, 0, 0, 0]].concat();
        [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", &[]), &chunk(b"IEND", &[])].concat()
    };
    assert!(
        matches!(decode_file(&png(8193), MAX_PIXELS), Err(PictureError::Unsupported(reason)) if reason.contains("512 MiB"))
    );
    assert!(matches!(decode_file(&png(64), MAX_PIXELS), Err(PictureError::Broken(_))));
}

#[test]
fn every_hostile_file_ends_with_a_picture_or_an_error() {
    // Broken and odd files, with the result of Pillow for each. We differ on corrupt entropy-coded
    // data, which Pillow decodes to noise, and on rare kinds of TIFF.
    let Some(folder) = shared("data/hostile") else { return };
    let table = std::fs::read_to_string(folder.join("EXPECT.tsv")).unwrap();
    let (mut files, mut agreed, mut shown) = (0, 0, String::new());
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (name, magic, verdict) = (fields[0], fields[2], fields[3]);
        if !["jpeg", "png", "gif", "webp", "bmp", "tiff"].contains(&magic) {
            continue;
        }
        files += 1;
        let result = decode_rgb(&std::fs::read(folder.join(name)).unwrap(), MAX_PIXELS);
        if result.is_ok() == (verdict == "ok") {
            agreed += 1;
        } else {
            writeln!(shown, "{name}: Pillow {verdict}, ours {:?}", result.map(|_| "ok")).unwrap();
        }
    }
    assert!(files > 800, "{files} files");
    assert!(f64::from(agreed) > 0.9 * f64::from(files), "agreed with Pillow on {agreed} of {files} files:\n{shown}");
}

#[test]
fn every_photograph_of_an_ordinary_collection_decodes() {
    let Some(pairs) = shared("data/pairs") else { return };
    let mut folders = vec![pairs];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "jpg" || suffix == "png") {
                files += 1;
                let picture = prepare(std::fs::read(&path).unwrap(), &settings(Resize::Shorter, 64));
                assert!(picture.is_ok(), "{}: {:?}", path.display(), picture.err());
            }
        }
    }
    assert!(files > 100, "{files} files");
}

/// A script that opens and loads every file that is named on its input, as `datasets` does. It
/// prints the names of the files that Pillow refuses, with the reasons.
const PILLOW: &str = "
import sys, warnings
from PIL import Image, ImageOps
warnings.simplefilter('ignore')
Image.MAX_IMAGE_PIXELS = None
for name in sys.stdin.read().splitlines():
    try:
        with Image.open(name) as picture:
            picture.load()
            if picture.getexif().get(Image.ExifTags.Base.Orientation) is not None:
                ImageOps.exif_transpose(picture)
    except Exception as error:
        print(name + '\\t' + type(error).__name__ + ': ' + str(error).replace('\\n', ' '))
";

#[test]
fn what_is_kept_opens_in_pillow() {
    let (Some(folder), Some(python)) = (shared("data/hostile"), python()) else { return };
    let table = std::fs::read_to_string(folder.join("EXPECT.tsv")).unwrap();
    let kept = std::env::temp_dir().join(format!("lynxdata-kept-{}", std::process::id()));
    std::fs::create_dir_all(&kept).unwrap();
    let (mut files, mut sources) = (String::new(), Vec::new());
    for line in table.lines().skip(1) {
        let name = line.split('\t').next().unwrap();
        let bytes = std::fs::read(folder.join(name)).unwrap();
        if let Ok(picture) = prepare(bytes, &settings(Resize::Keep, 1)) {
            let file = kept.join(format!("{:05}", sources.len()));
            std::fs::write(&file, picture.bytes).unwrap();
            writeln!(files, "{}", file.display()).unwrap();
            sources.push(name);
        }
    }
    let mut pillow = std::process::Command::new(python)
        .args(["-c", PILLOW])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut pillow.stdin.take().unwrap(), files.as_bytes()).unwrap();
    let output = pillow.wait_with_output().unwrap();
    std::fs::remove_dir_all(&kept).unwrap();
    assert!(output.status.success() && sources.len() > 500, "{} files", sources.len());
    let refused: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let (file, reason) = line.split_once('\t').unwrap();
            let number: usize = file.rsplit('/').next().unwrap().parse().unwrap();
            format!("{}\t{reason}", sources[number])
        })
        .collect();
    assert!(refused.is_empty(), "{} of {}:\n{}", refused.len(), sources.len(), refused.join("\n"));
}
