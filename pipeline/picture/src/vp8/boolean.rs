//! The boolean entropy decoder (RFC 6386, section 7).

/// Reads binary decisions of known probability.
///
/// Callers copy it before they read many decisions, and copy it back afterwards: a copy whose
/// address is not taken stays in registers.
#[derive(Clone, Copy)]
pub(super) struct BooleanReader<'a> {
    bytes: &'a [u8],
    /// Next byte to load. It may pass the end, where zeros are read.
    position: usize,
    /// Loaded bits that are not used yet: eight bits and `spare` more.
    value: u64,
    spare: i32,
    /// 128 to 255.
    range: u32,
}

impl<'a> BooleanReader<'a> {
    /// Begins to decode. Returns `None` for data that no encoder writes: the value must be below
    /// the range; otherwise decoders give different results.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.first() != Some(&0xff)).then_some(BooleanReader { bytes, position: 0, value: 0, spare: -8, range: 255 })
    }

    #[inline(always)]
    fn refill(&mut self) {
        const LOADED: usize = 7;
        let next = match self.bytes.get(self.position..self.position + LOADED + 1) {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().expect("eight bytes")) >> 8,
            None => last_bytes(self.bytes, self.position),
        };
        self.value = self.value << (8 * LOADED) | next;
        self.spare += 8 * LOADED as i32;
        self.position += LOADED;
    }

    /// Returns a decision that is false with a probability of `probability` in 256.
    #[inline(always)]
    pub(super) fn decide(&mut self, probability: u8) -> bool {
        if self.spare < 0 {
            self.refill();
        }
        let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
        let place = u64::from(split) << self.spare;
        // A branch and not a conditional move: callers branch on the result anyway, and so the next
        // decision need not wait for this comparison.
        if self.value >= place {
            self.value -= place;
            self.range -= split;
            self.normalise();
            true
        } else {
            self.range = split;
            self.normalise();
            false
        }
    }

    /// Makes the range at least 128 again.
    #[inline(always)]
    fn normalise(&mut self) {
        let shift = self.range.leading_zeros() - 24;
        self.range <<= shift;
        self.spare -= shift as i32;
    }

    /// Returns a decision of even probability, without a branch, because it could not be predicted.
    #[inline(always)]
    pub(super) fn flag(&mut self) -> bool {
        if self.spare < 0 {
            self.refill();
        }
        let split = self.range.div_ceil(2);
        let place = u64::from(split) << self.spare;
        let is_above = self.value >= place;
        self.range = if is_above { self.range - split } else { split };
        self.value -= if is_above { place } else { 0 };
        self.normalise();
        is_above
    }

    /// Returns a number of `bits` bits, the highest first.
    pub(super) fn literal(&mut self, bits: u32) -> i32 {
        (0..bits).fold(0, |value, _| value << 1 | i32::from(self.flag()))
    }

    /// Reads a flag and, if it is set, a number of `bits` bits and its sign; otherwise returns 0.
    pub(super) fn optional_signed(&mut self, bits: u32) -> i32 {
        if !self.flag() {
            return 0;
        }
        let value = self.literal(bits);
        if self.flag() { -value } else { value }
    }

    /// Returns whether decisions depended on bits beyond the end.
    pub(super) fn is_exhausted(&self) -> bool {
        (self.position * 8) as i64 - i64::from(self.spare) > (self.bytes.len() * 8) as i64
    }
}

/// Returns the rest of `bytes` from `position` on, filled up with zeros.
#[cold]
fn last_bytes(bytes: &[u8], position: usize) -> u64 {
    (0..7).fold(0, |value, index| value << 8 | u64::from(*bytes.get(position + index).unwrap_or(&0)))
}
