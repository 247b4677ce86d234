//! Checks TIFF 6.0 and BigTIFF: the first directory with all its values, and the positions and
//! lengths of its strips or tiles.

use super::super::tiff::directory::Directory;
use super::{PictureError, Size, sized};

pub(super) fn check(bytes: &[u8], max_pixels: u64) -> Result<Size, PictureError> {
    let directory = Directory::first(bytes)?;
    directory.check()?;
    let (width, height) = directory.upright_size()?;
    let size = sized(width, height, max_pixels)?;
    let chunks = directory.chunks()?;
    for index in 0..chunks.count() {
        chunks.bytes(index)?;
    }
    Ok(size)
}
