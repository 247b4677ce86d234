//! Appends values as JSON text, byte for byte as `serde_json` does.
//!
//! The most frequent formats are written by hand with these functions, which is faster than derived
//! code: names of fields need no check, and texts are examined 16 bytes at a time.

use serde_json::Result;

use crate::lanes::{at_most, equal, position};

/// Appends a text in quotes.
#[inline]
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    let is_escaped = position(text.as_bytes(), |own| at_most(own, 0x1F) | equal(own, b'"') | equal(own, b'\\'));
    if is_escaped.is_some() {
        serde_json::to_writer(out, text).expect("a text is JSON");
        return;
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends a number.
#[inline]
pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("a number is JSON");
}

/// Appends a list; `append` appends one element.
///
/// # Errors
/// Those of `append`.
#[inline]
pub(crate) fn list<T>(
    out: &mut Vec<u8>,
    elements: impl IntoIterator<Item = T>,
    mut append: impl FnMut(&mut Vec<u8>, T) -> Result<()>,
) -> Result<()> {
    out.push(b'[');
    for (place, element) in elements.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        append(out, element)?;
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_escaped_as_serde_json_does(
            texts in prop::collection::vec("[ -~]{0,40}|.{0,20}|[\0-\u{20}\"\\\\é]{0,9}", 0..5)
        ) {
            let mut own = Vec::new();
            list(&mut own, &texts, |out, own| { text(out, own); Ok(()) }).unwrap();
            prop_assert_eq!(String::from_utf8(own).unwrap(), serde_json::to_string(&texts).unwrap());
        }
    }
}
