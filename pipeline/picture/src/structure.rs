//! Checks whether a file is complete by its structure. No pixel is decoded.
//!
//! Every format here marks its end, with an end marker or with the lengths of its parts, so a file
//! that was cut off is recognised. Damage within the compressed pixels is not found, except in PNG,
//! whose chunks have checksums. Bytes after the end of the image are not an error, because all
//! readers ignore them.

pub(super) mod tiff;

use super::{Format, PictureError, broken, check_size, cut_off};

/// Checks that a file is complete. Returns the width and height of its header, in pixels, before
/// orientation (except for TIFF, which is upright).
///
/// # Errors
/// [`PictureError::Broken`] if something is missing or invalid, [`PictureError::Unsupported`] for a
/// variant that is not decoded here, and [`PictureError::TooManyPixels`] if the header announces
/// more than `max_pixels`.
pub(super) fn check(bytes: &[u8], format: Format, max_pixels: u64) -> Result<(u32, u32), PictureError> {
    match format {
        Format::Jpeg => jpeg(bytes, max_pixels),
        Format::Png => png(bytes, max_pixels),
        Format::WebP => webp(bytes, max_pixels),
        Format::Gif => gif(bytes, max_pixels),
        Format::Bmp => bmp(bytes, max_pixels),
        Format::Tiff => tiff::check(bytes, max_pixels),
    }
}

type Size = (u32, u32);

fn sized(width: u32, height: u32, max_pixels: u64) -> Result<Size, PictureError> {
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    Ok((width, height))
}

/// Returns the `N` bytes at a position, if the file reaches that far.
fn bytes_at<const N: usize>(bytes: &[u8], position: usize) -> Option<[u8; N]> {
    bytes.get(position..)?.first_chunk().copied()
}

/// Checks a JPEG, ITU-T T.81 annex B. Follows the segments by their lengths up to the first scan,
/// then searches for the end-of-image marker from the end of the file. In entropy-coded data, 0xff
/// is followed by 0 or a restart marker, so 0xff 0xd9 is always the end.
fn jpeg(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    const ESCAPE: u8 = 0xff;
    let mut size = None;
    let mut position = 2; // behind the start-of-image marker
    loop {
        let before_scan = || cut_off("before the first scan");
        // Stray bytes between segments are skipped by all readers, and so is any number of fill
        // bytes.
        let rest = bytes.get(position..).ok_or_else(before_scan)?;
        position += memchr::memchr(ESCAPE, rest).ok_or_else(before_scan)? + 1;
        match *bytes.get(position).ok_or_else(before_scan)? {
            ESCAPE => {}
            // An escaped 0xff among stray bytes, and markers without a segment: TEM, restarts,
            // another start of image.
            0x00 | 0x01 | 0xd0..=0xd8 => position += 1,
            0xd9 => return Err(broken("the image ends before its first scan")),
            marker => {
                let length = bytes_at(bytes, position + 1).ok_or_else(before_scan)?;
                let length = usize::from(u16::from_be_bytes(length));
                let segment = bytes.get(position + 1..position + 1 + length).ok_or_else(before_scan)?;
                position += 1 + length;
                match marker {
                    0xc4 | 0xc8 | 0xcc => {}
                    0xc0..=0xcf => size = Some(frame_size(marker, segment, max_pixels)?),
                    0xda => break,
                    _ => {}
                }
            }
        }
    }
    let size = size.ok_or_else(|| broken("no frame header stands before the first scan"))?;
    let scans = &bytes[position..];
    let has_end = memchr::memrchr_iter(0xd9, scans).any(|end| end > 0 && scans[end - 1] == ESCAPE);
    if has_end { Ok(size) } else { Err(cut_off("in its scans: it has no end-of-image marker")) }
}

/// Returns the width and height of a frame header (T.81, B.2.2): length, precision, height, width,
/// components.
fn frame_size(marker: u8, segment: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    if marker > 0xc2 {
        // Lossless, hierarchical or arithmetic coding.
        return Err(PictureError::Unsupported(format!("JPEG of the kind SOF{} is not decoded", marker - 0xc0)));
    }
    let [_, _, _, h1, h0, w1, w0, ..] = *segment else { return Err(broken("the frame header is too short")) };
    sized(u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into(), max_pixels)
}

/// Checks a PNG, W3C recommendation, sections 5.2 to 5.6: chunks from IHDR to IEND with IDAT among
/// them. Checksums are checked for critical chunks, whose names begin with a capital.
fn png(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    let mut size = None;
    let mut has_pixels = false;
    let mut position = 8; // behind the signature
    loop {
        let header = bytes_at::<8>(bytes, position).ok_or_else(|| cut_off("before its IEND chunk"))?;
        let [l3, l2, l1, l0, name @ ..] = header;
        let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        let shown = || name.escape_ascii().to_string();
        let in_chunk = || cut_off(&format!("in its {} chunk", shown()));
        let content_end = (position + 8).checked_add(length).ok_or_else(in_chunk)?;
        let content = bytes.get(position + 8..content_end).ok_or_else(in_chunk)?;
        if size.is_none() {
            let (b"IHDR", &[w3, w2, w1, w0, h3, h2, h1, h0, depth, colours, ..]) = (&name, content) else {
                return Err(broken(format!("the first chunk is {}, not IHDR", shown())));
            };
            if !matches!((colours, depth), (0 | 3, 1 | 2 | 4) | (0 | 2 | 3 | 4 | 6, 8) | (0 | 2 | 4 | 6, 16)) {
                return Err(broken(format!("the header says colour type {colours} with {depth} bits")));
            }
            let (width, height) = (u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
            size = Some(sized(width, height, max_pixels)?);
        }
        let checksum = bytes_at(bytes, content_end).map(u32::from_be_bytes).ok_or_else(in_chunk)?;
        if name[0].is_ascii_uppercase() && crc32fast::hash(&bytes[position + 4..content_end]) != checksum {
            return Err(broken(format!("the checksum of the {} chunk is wrong", shown())));
        }
        position = content_end + 4;
        match &name {
            b"IDAT" => has_pixels |= length > 0,
            b"IEND" => break,
            _ => {}
        }
    }
    if !has_pixels {
        return Err(broken("no IDAT chunk holds any pixels"));
    }
    size.ok_or_else(|| broken("no IHDR chunk"))
}

/// Checks a GIF, specification 89a: the logical screen, then blocks up to the trailer, with an
/// image among them.
fn gif(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    let screen = bytes_at(bytes, 6).ok_or_else(|| cut_off("in its logical screen descriptor"))?;
    let [w0, w1, h0, h1, flags, _background, _aspect] = screen;
    let mut size = sized(u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into(), max_pixels)?;
    let mut has_picture = false;
    let mut position = 13 + colour_table_bytes(flags);
    loop {
        let block = *bytes.get(position).ok_or_else(|| cut_off("before its trailer"))?;
        let data = match block {
            // Extension: its label, then data.
            0x21 => position + 2,
            // Image: its descriptor of 9 bytes, a colour table, the code size, then data.
            0x2c => {
                let descriptor = bytes_at::<9>(bytes, position + 1).ok_or_else(|| cut_off("in an image descriptor"))?;
                let [left, top, width, height] =
                    [0, 2, 4, 6].map(|at| u32::from(u16::from_le_bytes([descriptor[at], descriptor[at + 1]])));
                if !has_picture {
                    // The screen grows to hold the first image, see `super::gif`.
                    size = sized(size.0.max(left + width), size.1.max(top + height), max_pixels)?;
                }
                has_picture = true;
                let flags = descriptor[8];
                position + 10 + colour_table_bytes(flags) + 1
            }
            0x3b if has_picture => return Ok(size),
            0x3b => return Err(broken("the file ends without an image")),
            // Zeros between blocks are skipped by all readers.
            0 => {
                position += 1;
                continue;
            }
            _ => return Err(broken(format!("0x{block:02x} is no kind of GIF block"))),
        };
        position = behind_sub_blocks(bytes, data).ok_or_else(|| cut_off("in a GIF block"))?;
    }
}

/// Returns the size in bytes of the colour table that the flags of a GIF descriptor announce: 3 for
/// each of its 2 to 256 colours.
fn colour_table_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Returns the position after the data of a GIF block. The data are blocks of at most 255 bytes,
/// each preceded by its length; an empty one ends them.
fn behind_sub_blocks(bytes: &[u8], mut position: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(position)?);
        position += 1 + length;
        if length == 0 {
            return Some(position);
        }
    }
}

/// Checks a WebP, RFC 9649: the RIFF container's length, and the lengths of its chunks.
fn webp(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    let length = bytes_at(bytes, 4).map(u32::from_le_bytes).ok_or_else(|| cut_off("in its RIFF header"))?;
    let length = u64::from(length) + 8; // with the name and the length itself
    let container = usize::try_from(length).ok().and_then(|length| bytes.get(12..length));
    let chunks = container.ok_or_else(|| cut_off(&format!("after {} of its {length} bytes", bytes.len())))?;
    let mut size = None;
    let mut has_picture = false;
    let mut position = 0;
    while let Some([name @ .., l0, l1, l2, l3]) = bytes_at::<8>(chunks, position) {
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let end = (position + 8).checked_add(length);
        let content = end.and_then(|end| chunks.get(position + 8..end));
        let content = content.ok_or_else(|| cut_off(&format!("in its {} chunk", name.escape_ascii())))?;
        has_picture |= matches!(&name, b"VP8 " | b"VP8L" | b"ANMF");
        // The size of the canvas comes first, if there is one. Otherwise the size is that of the
        // image itself.
        if size.is_none() {
            let own = webp_size(name, content)?;
            size = own.map(|(width, height)| sized(width, height, max_pixels)).transpose()?;
        }
        position += 8 + length + length % 2;
    }
    match size {
        Some(size) if has_picture => Ok(size),
        _ => Err(broken("no WebP chunk holds an image")),
    }
}

/// Returns the size that a chunk announces: of the canvas (VP8X, RFC 9649 section 2.7), of a lossy
/// key frame (VP8, RFC 6386 section 9.1), or of a lossless image (VP8L, RFC 9649 section 3.4).
/// Other chunks have none.
fn webp_size(name: [u8; 4], content: &[u8]) -> Result<Option<Size>, PictureError> {
    let word = |bytes: [u8; 2]| u32::from(u16::from_le_bytes(bytes));
    match (&name, content) {
        (b"VP8X", [_, _, _, _, w0, w1, w2, h0, h1, h2, ..]) => {
            let length = |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1;
            Ok(Some((length([*w0, *w1, *w2]), length([*h0, *h1, *h2]))))
        }
        // The lowest bit of a frame is 0 in key frames; the two highest bits of each side are a
        // scale for display.
        (b"VP8 ", [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..]) if tag & 1 == 0 => {
            Ok(Some((word([*w0, *w1]) & 0x3fff, word([*h0, *h1]) & 0x3fff)))
        }
        (b"VP8L", [0x2f, b0, b1, b2, b3, ..]) => {
            let bits = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
            Ok(Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)))
        }
        (b"VP8X" | b"VP8 " | b"VP8L", _) => {
            Err(broken(format!("the {} chunk has no valid header", name.escape_ascii().to_string().trim_end())))
        }
        _ => Ok(None),
    }
}

/// Checks a Windows bitmap: the headers of Microsoft's documentation (`BITMAPFILEHEADER`,
/// `BITMAPCOREHEADER`, `BITMAPINFOHEADER` and later), and enough bytes for all rows after them.
fn bmp(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    let in_header = || cut_off("in its header");
    let [o0, o1, o2, o3, h0, h1, h2, h3] = bytes_at(bytes, 10).ok_or_else(in_header)?;
    let pixels_at = u32::from_le_bytes([o0, o1, o2, o3]) as usize;
    let header_bytes = u32::from_le_bytes([h0, h1, h2, h3]);
    let word = |position| bytes_at(bytes, position).map(u16::from_le_bytes).ok_or_else(in_header);
    let double_word = |position| bytes_at(bytes, position).map(u32::from_le_bytes).ok_or_else(in_header);
    let (width, height, bits, compression) = if header_bytes == 12 {
        (u32::from(word(18)?), u32::from(word(20)?), word(24)?, 0)
    } else {
        // A negative height means rows from top to bottom; a negative width means nothing.
        let width = double_word(18)?.cast_signed();
        let width = u32::try_from(width).map_err(|_| broken(format!("the header says {width} pixels of width")))?;
        let compression = if header_bytes < 40 { 0 } else { double_word(30)? };
        (width, double_word(22)?.cast_signed().unsigned_abs(), word(28)?, compression)
    };
    let size = sized(width, height, max_pixels)?;
    let pixels = bytes.get(pixels_at..).ok_or_else(|| cut_off("before its pixels"))?;
    match (compression, bits) {
        // BI_RGB, BI_BITFIELDS and BI_ALPHABITFIELDS: rows are padded to a multiple of 4 bytes.
        (0 | 3 | 6, 1 | 2 | 4 | 8 | 16 | 24 | 32) => {
            let row_bytes = (u64::from(width) * u64::from(bits)).div_ceil(32) * 4;
            let needed = row_bytes * u64::from(height);
            if (pixels.len() as u64) < needed {
                return Err(cut_off(&format!("after {} of {needed} bytes of pixels", pixels.len())));
            }
        }
        (1, 8) | (2, 4) => run_lengths_end(pixels, bits, height)?,
        (0..=3 | 6, _) => return Err(PictureError::Unsupported(format!("bitmaps of {bits} bits are not decoded"))),
        _ => return Err(PictureError::Unsupported(format!("bitmaps of compression {compression} are not decoded"))),
    }
    Ok(size)
}

/// Follows the runs of `BI_RLE8` and `BI_RLE4` up to the end-of-bitmap code, or until all rows have
/// ended.
fn run_lengths_end(pixels: &[u8], bits: u16, height: u32) -> Result<(), PictureError> {
    let (mut position, mut rows) = (0, 0);
    while rows < height {
        let code = bytes_at(pixels, position).ok_or_else(|| cut_off("in its run-length codes"))?;
        position += 2;
        match code {
            [0, 0] => rows += 1,
            [0, 1] => return Ok(()),
            [0, 2] => {
                let [_right, down] = bytes_at(pixels, position).ok_or_else(|| cut_off("in its run-length codes"))?;
                rows += u32::from(down);
                position += 2;
            }
            // Pixels without runs, padded to an even number of bytes.
            [0, count] => position += (usize::from(count) * usize::from(bits)).div_ceil(16) * 2,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
