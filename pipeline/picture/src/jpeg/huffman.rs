//! Huffman decoding (ITU-T T.81, annexes C and F).

/// Number of bits that one table look-up decodes. Ten bits decide nearly all codes of photographs,
/// and the table takes only a few kilobytes of the fastest cache.
const LOOKAHEAD: u32 = 10;

/// Maximum length of a code, bits (T.81, B.2.4.2).
const LONGEST_CODE: usize = 16;

/// Number of short coefficients that a full reader holds.
pub(super) const SHORT_COEFFICIENTS: u32 = 56 / LOOKAHEAD;

/// Number of zeros that marks the end of a block. It exceeds the size of a block, so that a single
/// comparison finds both an index beyond the block and its end.
pub(super) const END_OF_BLOCK: usize = 64;

/// A table of codes, ready to decode.
pub(super) struct HuffmanTable {
    /// Short coefficients by the next [`LOOKAHEAD`] bits: the coefficient in the upper 16 bits, the
    /// number of zeros before it in bits 8 to 15, and the length of code and value together in bits
    /// 0 to 7; 0 if they do not fit into the bits. The end of a block has [`END_OF_BLOCK`] zeros.
    pub coefficients: Box<[i32; 1 << LOOKAHEAD]>,
    /// Symbols by the next [`LOOKAHEAD`] bits: the symbol in the upper byte, the length of its code
    /// in the lower byte; 0 if the code is longer or does not exist.
    symbols: Box<[u16; 1 << LOOKAHEAD]>,
    /// One more than the last code of each length, shifted to the top of 16 bits; 0 for lengths
    /// without codes.
    ends: [u32; LONGEST_CODE + 1],
    /// For each length, the difference between the index in `values` and the code.
    offsets: [i32; LONGEST_CODE + 1],
    values: [u8; 256],
}

impl HuffmanTable {
    /// Builds the table of a DHT segment from the number of codes of each length from 1 to 16 and
    /// their symbols. Returns `None` if there are too many codes.
    pub(super) fn new(counts: [u8; LONGEST_CODE], symbols_in_order: &[u8]) -> Option<Self> {
        let mut table = HuffmanTable {
            coefficients: Box::new([0; 1 << LOOKAHEAD]),
            symbols: Box::new([0; 1 << LOOKAHEAD]),
            ends: [0; LONGEST_CODE + 1],
            offsets: [0; LONGEST_CODE + 1],
            values: [0; 256],
        };
        table.values.get_mut(..symbols_in_order.len())?.copy_from_slice(symbols_in_order);
        let (mut code, mut index) = (0_u32, 0_usize);
        for (length, count) in (1_u32..).zip(counts) {
            table.offsets[length as usize] = index as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOKAHEAD {
                    let spare = LOOKAHEAD - length;
                    let first = (code << spare) as usize;
                    let entry = u16::from(table.values[index]) << 8 | length as u16;
                    table.symbols.get_mut(first..first + (1 << spare))?.fill(entry);
                }
                code += 1;
                index += 1;
            }
            // The code of only ones is not allowed, so the next code always fits.
            if code >= 1 << length {
                return None;
            }
            if count > 0 {
                table.ends[length as usize] = code << (16 - length);
            }
            code <<= 1;
        }
        table.join_values();
        Some(table)
    }

    /// Returns the symbol of the code that the next 16 bits begin with, and the length of the code,
    /// if it is longer than [`LOOKAHEAD`].
    ///
    /// It takes bits and not the reader. To lend the reader to a function that is not inlined, the
    /// compiler would have to keep it in memory.
    #[cold]
    fn long_symbol(&self, next: u32) -> Option<(u8, u32)> {
        let length = (LOOKAHEAD as usize + 1..=LONGEST_CODE).find(|length| next < self.ends[*length])?;
        let code = (next >> (LONGEST_CODE - length)) as i32;
        let symbol = self.values.get(usize::try_from(code + self.offsets[length]).ok()?)?;
        Some((*symbol, length as u32))
    }

    /// Fills in `coefficients`: those whose code and value fit into one look-up.
    fn join_values(&mut self) {
        for (prefix, (coefficient, symbol)) in (0_u32..).zip(self.coefficients.iter_mut().zip(self.symbols.iter())) {
            let (zeros, size) = (i32::from(symbol >> 12), u32::from(symbol >> 8 & 15));
            let code = u32::from(symbol & 0xff);
            if code > 0 && (zeros, size) == (0, 0) {
                *coefficient = (END_OF_BLOCK as i32) << 8 | code as i32;
            }
            if code == 0 || size == 0 || code + size > LOOKAHEAD {
                continue;
            }
            let bits = prefix >> (LOOKAHEAD - code - size) & ((1 << size) - 1);
            *coefficient = extend(bits, size) << 16 | zeros << 8 | (code + size) as i32;
        }
    }
}

/// Returns the signed value of `size` bits (T.81, F.2.2.1, EXTEND).
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    let negative = bits >> (size - 1) == 0;
    bits as i32 - if negative { (1 << size) - 1 } else { 0 }
}

/// Reads bits of entropy-coded data without stuffed bytes, the highest bit first.
///
/// Beyond the end of the data it returns whatever bits follow; see [`BitReader::is_exhausted`].
#[derive(Clone, Copy)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Next byte to load.
    position: usize,
    /// Loaded bits, the next one at the top.
    buffer: u64,
    /// Number of valid bits in `buffer`.
    available: u32,
    /// Length of the data, bytes; `bytes` may be longer.
    length: usize,
}

impl<'a> BitReader<'a> {
    /// Returns a reader of the first `length` of `bytes`, which must be followed by eight more
    /// bytes.
    pub(super) fn new(bytes: &'a [u8], length: usize) -> Self {
        BitReader { bytes, position: 0, buffer: 0, available: 0, length }
    }

    /// Calls `read` with a copy of the reader. The copy stays in registers if `read` is inlined
    /// into the caller and the caller is not inlined into a larger function.
    #[inline(always)]
    pub(super) fn in_registers<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut copy = *self;
        let result = read(&mut copy);
        *self = copy;
        result
    }

    /// Makes at least 32 bits available: a code and its value.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.available < 32 {
            self.fill();
        }
    }

    /// Makes at least 56 bits available, enough for [`SHORT_COEFFICIENTS`]. It does not test first
    /// whether bits are missing, because the branch could not be predicted.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        let next = match self.bytes.get(self.position..self.position + 8) {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().expect("eight bytes")),
            None => 0,
        };
        // Bits that are not counted yet are loaded again next time, with the same values.
        self.buffer |= next >> self.available;
        let whole_bytes = (63 - self.available) >> 3;
        self.position += whole_bytes as usize;
        self.available += whole_bytes * 8;
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.available -= count;
    }

    /// Returns the next `count` bits, 1 to 16, which must be available.
    #[inline(always)]
    pub(super) fn bits(&mut self, count: u32) -> u32 {
        let bits = (self.buffer >> (64 - count)) as u32;
        self.skip(count);
        bits
    }

    /// Returns the next bit and loads it if needed.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        if self.available == 0 {
            self.refill();
        }
        self.bits(1) == 1
    }

    /// Returns the next `size` bits, at most 15, as a signed value.
    #[inline(always)]
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        if size == 0 { 0 } else { extend(self.bits(size), size) }
    }

    /// Returns a coefficient whose code and value are short: the number of zeros before it, and its
    /// value.
    #[inline(always)]
    pub(super) fn short_coefficient(&mut self, table: &HuffmanTable) -> Option<(usize, i16)> {
        let entry = table.coefficients[(self.buffer >> (64 - LOOKAHEAD)) as usize];
        if entry == 0 {
            return None;
        }
        self.skip((entry & 0xff) as u32);
        Some(((entry >> 8 & 0xff) as usize, (entry >> 16) as i16))
    }

    /// Returns the next symbol; `None` if the bits do not begin with a code.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &HuffmanTable) -> Option<u8> {
        let entry = table.symbols[(self.buffer >> (64 - LOOKAHEAD)) as usize];
        let length = u32::from(entry & 0xff);
        if length == 0 {
            let (symbol, length) = table.long_symbol((self.buffer >> 48) as u32)?;
            self.skip(length);
            return Some(symbol);
        }
        self.skip(length);
        Some((entry >> 8) as u8)
    }

    /// Returns the number of bits taken so far.
    fn taken(&self) -> usize {
        self.position * 8 - self.available as usize
    }

    /// Returns whether more bits were taken than the data have.
    pub(super) fn is_exhausted(&self) -> bool {
        self.taken() > self.length * 8
    }

    /// Returns whether all bits were taken except those that fill up the last byte.
    pub(super) fn is_at_end(&self) -> bool {
        let taken = self.taken();
        taken <= self.length * 8 && self.length * 8 < taken + 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_values_are_read_whatever_their_length() {
        // Codes 00, 010, 011, 100 and one of 12 bits: the next ones of a canonical table.
        let mut counts = [0; LONGEST_CODE];
        (counts[1], counts[2], counts[11]) = (1, 3, 1);
        let table = HuffmanTable::new(counts, &[0x01, 0x12, 0x00, 0xf0, 0x2b]).unwrap();
        // 00 + value 1; 010 + value -2 (01); 011; 100; 1010 0000 0000 + 11 bits of -2047 (all 0);
        // then filling.
        let bits = "001".to_owned() + "01001" + "011" + "100" + "101000000000" + "00000000000" + "111";
        let bytes: Vec<u8> =
            bits.as_bytes().chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'))).collect();
        for padding in [0, 0xff] {
            let mut padded = bytes.clone();
            padded.extend([padding; 8]);
            let mut reader = BitReader::new(&padded, bytes.len());
            reader.refill();
            assert_eq!(reader.short_coefficient(&table), Some((0, 1)));
            assert_eq!(reader.short_coefficient(&table), Some((1, -2)));
            assert_eq!(reader.short_coefficient(&table), Some((END_OF_BLOCK, 0)));
            assert_eq!(reader.short_coefficient(&table), None);
            assert_eq!(reader.symbol(&table), Some(0xf0));
            reader.refill();
            assert_eq!(reader.symbol(&table), Some(0x2b));
            assert_eq!(reader.signed(11), -2047);
            assert!(reader.is_at_end() && !reader.is_exhausted());
            reader.refill();
            reader.bits(16);
            assert!(reader.is_exhausted() && !reader.is_at_end());
        }
    }

    #[test]
    fn tables_with_too_many_codes_are_refused() {
        let with = |length: usize, count| {
            let mut counts = [0; LONGEST_CODE];
            counts[length - 1] = count;
            HuffmanTable::new(counts, &vec![0; usize::from(count)])
        };
        assert!(with(1, 1).is_some());
        assert!(with(1, 2).is_none(), "a code of ones alone");
        assert!(with(1, 3).is_none());
        assert!(with(8, 255).is_some());
        assert!(HuffmanTable::new([255; 16], &[0; 4080]).is_none());
        let table = with(2, 1).unwrap();
        let mut reader = BitReader::new(&[0xff; 8], 8);
        reader.refill();
        assert_eq!(reader.symbol(&table), None);
    }
}
