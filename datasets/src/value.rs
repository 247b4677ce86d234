//! Native values as expressions see them.

use minijinja::Value;

/// Returns a native value as expressions see it. A null is undefined, as a missing key is: using it
/// is an error, so that it never becomes the text `none`, and `default` replaces both.
pub(crate) fn value_of(native: serde_json::Value) -> Value {
    match native {
        serde_json::Value::Null => Value::UNDEFINED,
        serde_json::Value::Bool(value) => Value::from(value),
        serde_json::Value::Number(number) => Value::from(minijinja::value::Serde(number)),
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(elements) => elements.into_iter().map(value_of).collect(),
        serde_json::Value::Object(fields) => {
            Value::from_pairs(fields.into_iter().map(|(name, value)| (name, value_of(value))))
        }
    }
}
