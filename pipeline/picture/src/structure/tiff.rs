//! TIFF 6.0 and BigTIFF: the first directory with all its values, and the extents of its strips or tiles.

use super::super::tiff::directory::Directory;
use super::{PictureError, Size, cut_off, sized};

pub(super) fn check(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    let directory = Directory::first(bytes)?;
    if let Some(tag) = directory.first_without_values() {
        return Err(cut_off(&format!("in the values of tag {tag}")));
    }
    let (width, height) = directory.upright_size()?;
    let size = sized(width, height, max_pixels)?;
    let chunks = directory.chunks()?;
    for index in 0..chunks.count() {
        chunks.bytes(index)?;
    }
    Ok(size)
}
