//! Native values in the form that expressions use.

use minijinja::Value;

/// Converts a native value for expressions. A null becomes undefined, like a missing key. Using it
/// is an error, so that it never becomes the text `none`, and the filter `default` replaces both.
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
