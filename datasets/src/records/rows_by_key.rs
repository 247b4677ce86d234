//! The rows of a joined table in memory, as text, by their keys.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::hash_table::Entry as TableEntry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// The number of bytes of a chunk.
const CHUNK_BYTES: usize = 1 << 20;

/// Stands for "no other row".
const NONE: u32 = u32::MAX;

/// Rows as JSON text, one or several for each key.
///
/// A split has millions of them, so that a row has no allocation of its own: keys and texts are in
/// chunks, and what is left is 40 bytes for each key.
#[derive(Debug, Default)]
pub(super) struct RowsByKey {
    chunks: Vec<Vec<u8>>,
    keys: HashTable<Rows>,
    hasher: DefaultHashBuilder,
    /// The second and later rows of keys.
    more: Vec<Next>,
}

/// The rows of one key.
#[derive(Debug)]
struct Rows {
    /// The hash of the key, so that the table can grow without reading all keys.
    hash: u64,
    first: Place,
    /// The indexes in `more` of the second and of the last row, or [`NONE`].
    second: u32,
    last: u32,
    is_used: AtomicBool,
}

/// A row after another one of the same key.
#[derive(Debug)]
struct Next {
    place: Place,
    /// Its index in `more`, or [`NONE`].
    next: u32,
}

/// The place of a key, which may be empty, and of the text after it.
#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: u32,
    start: u32,
    key: u32,
    text: u32,
}

impl RowsByKey {
    /// Adds a row and returns whether it was added: a key that has a row gets another one only if
    /// `is_list`.
    pub(super) fn add(&mut self, key: &[u8], text: &[u8], is_list: bool) -> bool {
        let Self { chunks, keys, hasher, more } = self;
        let hash = hasher.hash_one(key);
        let has_key = |rows: &Rows| rows.hash == hash && key_of(chunks, rows) == key;
        let known = keys.entry(hash, has_key, |rows| rows.hash);
        match known {
            TableEntry::Vacant(vacant) => {
                let first = store(chunks, key, text);
                vacant.insert(Rows { hash, first, second: NONE, last: NONE, is_used: AtomicBool::new(false) });
                true
            }
            TableEntry::Occupied(_) if !is_list => false,
            TableEntry::Occupied(known) => {
                let rows = known.into_mut();
                let added = number(more.len());
                match more.get_mut(rows.last as usize) {
                    Some(last) => last.next = added,
                    None => rows.second = added,
                }
                rows.last = added;
                more.push(Next { place: store(chunks, b"", text), next: NONE });
                true
            }
        }
    }

    /// Returns the text of the row of a key, or of the list of all of its rows, and remembers that
    /// they were asked for.
    pub(super) fn get(&self, key: &str, is_list: bool) -> Option<Cow<'_, [u8]>> {
        let has_key = |rows: &Rows| key_of(&self.chunks, rows) == key.as_bytes();
        let rows = self.keys.find(self.hasher.hash_one(key.as_bytes()), has_key)?;
        rows.is_used.store(true, Ordering::Relaxed);
        let first = self.text(rows.first);
        if !is_list {
            return Some(Cow::Borrowed(first));
        }
        let mut list = [b"[", first].concat();
        let mut next = rows.second;
        while let Some(row) = self.more.get(next as usize) {
            list.push(b',');
            list.extend_from_slice(self.text(row.place));
            next = row.next;
        }
        list.push(b']');
        Some(Cow::Owned(list))
    }

    /// Returns the number of keys that were not asked for.
    pub(super) fn unused(&self) -> usize {
        self.keys.iter().filter(|rows| !rows.is_used.load(Ordering::Relaxed)).count()
    }

    fn text(&self, Place { chunk, start, key, text }: Place) -> &[u8] {
        let start = start as usize + key as usize;
        &self.chunks[chunk as usize][start..start + text as usize]
    }
}

fn key_of<'a>(chunks: &'a [Vec<u8>], rows: &Rows) -> &'a [u8] {
    let Place { chunk, start, key, .. } = rows.first;
    &chunks[chunk as usize][start as usize..start as usize + key as usize]
}

/// Copies a key and a text into the last chunk, or into a new one if they do not fit.
fn store(chunks: &mut Vec<Vec<u8>>, key: &[u8], text: &[u8]) -> Place {
    let length = key.len() + text.len();
    if chunks.last().is_none_or(|last| last.capacity() - last.len() < length) {
        chunks.push(Vec::with_capacity(length.max(CHUNK_BYTES)));
    }
    let chunk = chunks.len() - 1;
    let last = &mut chunks[chunk];
    let start = last.len();
    last.extend_from_slice(key);
    last.extend_from_slice(text);
    Place { chunk: number(chunk), start: number(start), key: number(key.len()), text: number(text.len()) }
}

fn number(length: usize) -> u32 {
    u32::try_from(length).ok().filter(|number| *number < NONE).expect("a table in memory has fewer than 2^32 rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_their_keys_and_lists_keep_their_order() {
        let (mut one, mut many) = (RowsByKey::default(), RowsByKey::default());
        let long = "x".repeat(CHUNK_BYTES + 1);
        for number in 0..5_000_u32 {
            let (key, text) = (number.to_string(), format!("{{\"n\":{number}}}"));
            assert!(one.add(key.as_bytes(), text.as_bytes(), false));
            assert!(many.add((number % 7).to_string().as_bytes(), text.as_bytes(), true));
        }
        assert!(!one.add(b"7", b"{}", false), "the first row of a key counts");
        assert!(one.add(long.as_bytes(), long.as_bytes(), false) && one.add(b"", b"{}", false));
        assert_eq!(one.unused(), 5_002);
        for number in 0..5_000_u32 {
            let text = format!("{{\"n\":{number}}}");
            assert_eq!(one.get(&number.to_string(), false).as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(one.get(&long, false).as_deref(), Some(long.as_bytes()));
        assert_eq!((one.get("5000", false), one.unused()), (None, 1));
        let expected: Vec<String> = (3..5_000).step_by(7).map(|number| format!("{{\"n\":{number}}}")).collect();
        assert_eq!(many.get("3", true).unwrap(), format!("[{}]", expected.join(",")).as_bytes());
        assert_eq!(many.get("7", true), None);
    }
}
