//! Recognises the format of an image by its first bytes.

use super::PictureError;

/// An image format that is decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JPEG (JFIF, Exif).
    Jpeg,
    /// PNG; of an animated one, the default image.
    Png,
    /// WebP; of an animated one, the first frame.
    WebP,
    /// GIF; the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; the first page.
    Tiff,
}

impl Format {
    /// Returns the name that tables use.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::WebP => "webp",
            Format::Gif => "gif",
            Format::Bmp => "bmp",
            Format::Tiff => "tiff",
        }
    }

    /// Returns the usual suffix of file names, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Jpeg => "jpg",
            Format::Tiff => "tif",
            other => other.name(),
        }
    }
}

/// Returns the format by the magic bytes in the formats' specifications.
///
/// # Errors
/// [`PictureError::Unsupported`] for an image of another format, [`PictureError::NotAnImage`] for
/// everything else.
pub(super) fn format(bytes: &[u8]) -> Result<Format, PictureError> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        // "II*" and "MM*" with the 42 of TIFF or the 43 of BigTIFF.
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Format::Tiff),
        // "BM" alone could begin a text, so the size of the second header must be one that exists.
        [b'B', b'M', _, _, _, _, _, _, _, _, _, _, _, _, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0, ..] => {
            Ok(Format::Bmp)
        }
        _ => Err(other_kind(bytes)),
    }
}

/// Returns whether the first bytes of a file are those of an image, also of a format that is not
/// decoded here. Eighteen bytes are enough.
pub fn begins_as_picture(bytes: &[u8]) -> bool {
    !matches!(format(bytes), Err(PictureError::NotAnImage(_)))
}

/// Bytes of a text in which a document type or an `<svg` element is searched. Comments may precede
/// it.
const HEAD_BYTES: usize = 1024;

fn other_kind(bytes: &[u8]) -> PictureError {
    let unsupported = |name: &str| PictureError::Unsupported(format!("{name} images are not decoded"));
    match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => return unsupported("AVIF"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i' | b's', b'f', b'1', ..] => {
            return unsupported("HEIF");
        }
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => return unsupported("JPEG XL"),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => return unsupported("JPEG 2000"),
        [0, 0, 1 | 2, 0, ..] => return unsupported("ICO"),
        [b'8', b'B', b'P', b'S', ..] => return unsupported("Photoshop"),
        [b'D', b'D', b'S', b' ', ..] => return unsupported("DDS"),
        _ => {}
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]).to_lowercase();
    let head = head.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if head.starts_with("<!doctype html") || head.contains("<html") || head.contains("<head") {
        return PictureError::NotAnImage("an HTML page");
    }
    if head.starts_with('<') && head.contains("<svg") {
        return unsupported("SVG");
    }
    if head.starts_with(['<', '{', '[']) {
        return PictureError::NotAnImage("XML or JSON");
    }
    PictureError::NotAnImage("no known image format")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_bytes() {
        let bitmap: [u8; 18] = *b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0";
        let cases: &[(&[u8], Format)] = &[
            (b"\xff\xd8\xff\xe0", Format::Jpeg),
            (b"\x89PNG\r\n\x1a\n", Format::Png),
            (b"GIF87a", Format::Gif),
            (b"GIF89a", Format::Gif),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Format::WebP),
            (b"II*\0", Format::Tiff),
            (b"MM\0*", Format::Tiff),
            (&bitmap, Format::Bmp),
        ];
        for (bytes, expected) in cases {
            assert_eq!(format(bytes), Ok(*expected));
        }
    }

    #[test]
    fn pictures_of_other_kinds_are_unsupported_and_the_rest_are_none() {
        let unsupported: &[&[u8]] = &[
            b"\0\0\0\x20ftypavif",
            b"\0\0\0\x18ftypheic",
            b"\0\0\0\x18ftypmif1",
            b"\xff\x0a\xfa",
            b"\0\0\x01\0\x01\0",
            b"<?xml version=\"1.0\"?>\n<!-- drawn by hand -->\n<svg xmlns=",
        ];
        for bytes in unsupported {
            assert!(matches!(format(bytes), Err(PictureError::Unsupported(_))), "{bytes:?}");
        }
        let not_images: &[&[u8]] = &[
            b"",
            b"\xff",
            b"BM is a text, not a bitmap",
            b"<!DOCTYPE html><svg>",
            b"\n\n<html>",
            b"{\"error\": 1}",
            b"RIFF\x10\0\0\0WAVE",
            &[0; 64],
        ];
        for bytes in not_images {
            assert!(matches!(format(bytes), Err(PictureError::NotAnImage(_))), "{bytes:?}");
        }
    }
}
