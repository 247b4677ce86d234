//! A perceptual hash of the gradients of the image.

use super::{Needs, Signal, SignalType};
use crate::hash;

/// The difference hash.
pub(super) const SIGNAL: Signal = Signal {
    name: "dhash",
    description: "64 bits as 16 hexadecimal digits: luma reduced to 9 x 8, one bit for each pixel that is brighter than its \
     left neighbour. Similar images differ in few bits; unlike phash it hardly changes under a watermark.",
    unit: "none",
    range: (None, None),
    needs: Needs::Pixels,
    signal_type: SignalType::Text,
    source: "Python ImageHash 4.3.2, dhash(); equal bit for bit where the decoders agree, as for JPEG",
    function: Some(|sample| sample.image.map(|picture| hash::hash_hex(hash::dhash(picture.luma()))).into()),
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
            assert_eq!(SIGNAL.value(&Sample::new(None, Some(&picture))), Value::Text(row.dhash), "{}", row.file);
        }
        assert_eq!(SIGNAL.value(&Sample::new(None, None)), Value::Missing);
    }
}
