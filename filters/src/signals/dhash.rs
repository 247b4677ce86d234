//! What the picture looks like, as a hash of its gradients.

use super::{Needs, Sample, Signal, SignalType, Value};
use crate::hash;

/// The difference hash.
#[derive(Debug)]
pub(super) struct Dhash;

impl Signal for Dhash {
    fn name(&self) -> &'static str {
        "dhash"
    }

    fn description(&self) -> &'static str {
        "64 bits as 16 hexadecimal digits: luma reduced to 9 x 8, one bit for each pixel that is brighter than its \
         left neighbour. Look-alikes differ in few bits; unlike phash it hardly changes under a watermark."
    }

    fn unit(&self) -> &'static str {
        "none"
    }

    fn needs(&self) -> Needs {
        Needs::Pixels
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Text
    }

    fn source(&self) -> &'static str {
        "Python ImageHash 4.3.2, dhash(); equal bit for bit where the decoders agree, as for JPEG"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.image.map(|picture| hash::hash_hex(hash::dhash(picture.luma()))).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::{Golden, golden};

    #[test]
    fn is_printed_as_imagehash_prints_it() {
        for row in golden().into_iter().filter(Golden::is_exact) {
            let picture = row.decode();
            assert_eq!(Dhash.measure(&Sample::new(None, Some(&picture))), Value::Text(row.dhash), "{}", row.file);
        }
        assert_eq!(Dhash.measure(&Sample::new(None, None)), Value::Missing);
    }
}
