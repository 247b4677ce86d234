//! A perceptual hash of the low frequencies of the image.

use super::{Needs, Signal, SignalType};
use crate::hash;

/// The perceptual hash.
pub(super) const SIGNAL: Signal = Signal {
    name: "phash",
    description: "64 bits as 16 hexadecimal digits: luma reduced to 32 x 32, DCT-II, one bit for each of the lowest 8 x 8 \
     coefficients that exceeds their median. Similar images differ in few bits: re-encoded or halved ones in at \
     most 6, unrelated images in about 32. Crops of more than 2 % and flips are not recognised.",
    unit: "none",
    range: (None, None),
    needs: Needs::Pixels,
    signal_type: SignalType::Text,
    source: "Python ImageHash 4.3.2, phash(); equal bit for bit where the decoders agree, as for JPEG",
    function: Some(|sample| sample.image.map(|picture| hash::hash_hex(hash::phash(picture.luma()))).into()),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::{Golden, golden};
    use crate::{Sample, Value};

    #[test]
    fn is_printed_as_imagehash_prints_it() {
        for row in golden().into_iter().filter(Golden::is_exact) {
            let picture = row.decode();
            assert_eq!(SIGNAL.value(&Sample::new(None, Some(&picture))), Value::Text(row.phash), "{}", row.file);
        }
        assert_eq!(SIGNAL.value(&Sample::new(None, None)), Value::Missing);
    }
}
