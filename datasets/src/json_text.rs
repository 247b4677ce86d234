//! Writes values as JSON text, byte for byte as `serde_json` does.
//!
//! `serde_json` looks at the bytes of a text one by one to find those that must be escaped. Here
//! they are examined 16 at a time, and `serde_json` writes the few texts that have some.

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant, Serializer,
};
use serde_json::{Error, Result};

use crate::lanes::{at_most, equal, position};

/// Appends the JSON text of a value.
///
/// # Errors
/// Those of `serde_json::to_writer`.
pub(crate) fn append(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<()> {
    value.serialize(Text { out })
}

/// Where the JSON text of one value is appended.
struct Text<'a> {
    out: &'a mut Vec<u8>,
}

/// A list or object that has begun.
struct Elements<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
    /// What closes it.
    end: &'static [u8],
}

/// Appends a text in quotes.
fn text(out: &mut Vec<u8>, text: &str) -> Result<()> {
    if has_escapes(text.as_bytes()) {
        return serde_json::to_writer(out, text);
    }
    quoted(out, text, b"\"");
    Ok(())
}

/// Appends a text without escapes between a quote and `end`.
fn quoted(out: &mut Vec<u8>, text: &str, end: &[u8]) {
    out.reserve(text.len() + 1 + end.len());
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(end);
}

/// Returns whether a text has a quote, a backslash or a control character.
fn has_escapes(text: &[u8]) -> bool {
    position(text, |own| at_most(own, 0x1F) | equal(own, b'"') | equal(own, b'\\')).is_some()
}

impl<'a> Text<'a> {
    fn begin(self, begin: &'static [u8], end: &'static [u8]) -> Elements<'a> {
        self.out.extend_from_slice(begin);
        Elements { out: self.out, is_empty: true, end }
    }

    /// Begins an object with one key, whose value comes next.
    fn variant(&mut self, name: &str) -> Result<()> {
        self.out.push(b'{');
        text(self.out, name)?;
        self.out.push(b':');
        Ok(())
    }
}

impl Elements<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
    }

    fn element(&mut self, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.separate();
        append(self.out, value)
    }

    fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
        self.separate();
        // The name of a field of a struct has no escapes.
        quoted(self.out, name, b"\":");
        append(self.out, value)
    }

    fn finish(self) {
        self.out.extend_from_slice(self.end);
    }
}

/// Numbers and truth values are left to `serde_json`.
macro_rules! of_serde_json {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name(self, value: $kind) -> Result<()> {
            serde_json::to_writer(self.out, &value)
        })*
    };
}

impl<'a> Serializer for Text<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Elements<'a>;
    type SerializeTupleStruct = Elements<'a>;
    type SerializeTupleVariant = Elements<'a>;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = Elements<'a>;
    type SerializeStructVariant = Elements<'a>;

    of_serde_json! {
        serialize_bool: bool, serialize_char: char,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_f32: f32, serialize_f64: f64, serialize_bytes: &[u8]
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        text(self.out, value)
    }

    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        text(self.out, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.variant(variant)?;
        append(self.out, value)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'a>> {
        Ok(self.begin(b"[", b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements<'a>> {
        Ok(self.begin(b"[", b"]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements<'a>> {
        Ok(self.begin(b"[", b"]"))
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements<'a>> {
        self.variant(variant)?;
        Ok(self.begin(b"[", b"]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Elements<'a>> {
        Ok(self.begin(b"{", b"}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Elements<'a>> {
        Ok(self.begin(b"{", b"}"))
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements<'a>> {
        self.variant(variant)?;
        Ok(self.begin(b"{", b"}}"))
    }
}

/// The elements of lists.
macro_rules! of_lists {
    ($($kind:ident: $name:ident),*) => {
        $(impl $kind for Elements<'_> {
            type Ok = ();
            type Error = Error;

            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                self.element(value)
            }

            fn end(self) -> Result<()> {
                self.finish();
                Ok(())
            }
        })*
    };
}

of_lists! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
}

/// The fields of objects.
macro_rules! of_objects {
    ($($kind:ident),*) => {
        $(impl $kind for Elements<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
                self.field(name, value)
            }

            fn end(self) -> Result<()> {
                self.finish();
                Ok(())
            }
        })*
    };
}

of_objects! { SerializeStruct, SerializeStructVariant }

impl SerializeMap for Elements<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.separate();
        let start = self.out.len();
        append(self.out, key)?;
        // A key that is a number is a text in JSON.
        if self.out.get(start) != Some(&b'"') {
            self.out.insert(start, b'"');
            self.out.push(b'"');
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.out.push(b':');
        append(self.out, value)
    }

    fn end(self) -> Result<()> {
        self.finish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Struct {
        number: f64,
        unit: (),
        #[serde(skip_serializing_if = "Option::is_none")]
        none: Option<u8>,
        some: Option<&'static str>,
        #[serde(flatten)]
        more: BTreeMap<String, Variant>,
    }

    #[derive(Serialize)]
    enum Variant {
        Unit,
        Newtype(char),
        Tuple(bool, i8),
        Struct { a: u64, b: [f32; 2] },
    }

    fn check(value: &impl Serialize) {
        let mut text = b"before ".to_vec();
        append(&mut text, value).unwrap();
        let expected = format!("before {}", serde_json::to_string(value).unwrap());
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn every_kind_of_value_is_as_serde_json_writes_it() {
        let more = [
            ("a", Variant::Unit),
            ("\"b\n", Variant::Newtype('\u{1}')),
            ("c", Variant::Tuple(true, -3)),
            ("d", Variant::Struct { a: u64::MAX, b: [0.1, 1e30] }),
        ];
        let more = more.map(|(name, value)| (name.to_owned(), value)).into();
        check(&Struct { number: 0.1, unit: (), none: None, some: Some("x"), more });
        check(&BTreeMap::from([(1, None), (-2, Some(f64::NAN))]));
        check(&json!({"a": [], "b": {}, "c": [null, [1, {"d": "e"}], "\\"], "f": 1.0}));
    }

    proptest! {
        #[test]
        fn texts_are_escaped_as_serde_json_does(texts in prop::collection::vec("[ -~]{0,20}|.{0,12}|[\0-\u{20}\"\\\\é]{0,9}", 0..5)) {
            check(&texts);
        }
    }
}
