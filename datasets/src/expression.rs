//! The minijinja expressions of a task, and the filters that they can use besides minijinja's own.

use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde_json::Value as Json;

use crate::sentence::is_ended;

/// Steps that one expression may take on one row; a shipped expression takes under a thousand. One step also pays for 64 bytes of text.
const FUEL: u64 = 1_000_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("pick", pick);
    environment.add_filter("question_mark", |text: Value| {
        text.as_str().map(|text| question_mark(text).into()).unwrap_or(text)
    });
    environment.add_filter("before_last", before_last);
    environment.add_filter("majority", majority);
    environment
});

/// Returns a native value as expressions see it. A null is undefined, as a missing key is: using it
/// is an error, so that it never becomes the text `none`, and `default` replaces both.
pub(crate) fn value_of(native: Json) -> Value {
    match native {
        Json::Null => Value::UNDEFINED,
        Json::Bool(value) => Value::from(value),
        Json::Number(number) => Value::from(minijinja::value::Serde(number)),
        Json::String(text) => Value::from(text),
        Json::Array(elements) => elements.into_iter().map(value_of).collect(),
        Json::Object(fields) => Value::from_pairs(fields.into_iter().map(|(name, value)| (name, value_of(value)))),
    }
}

/// `3 | pick(answers)`: the element of a list at a place, from 0; a missing place has a missing
/// element. With `map('pick', answers)` a list of places becomes a list of texts.
fn pick(place: &Value, list: &Value) -> Result<Value, minijinja::Error> {
    if place.is_undefined() {
        return Ok(Value::UNDEFINED);
    }
    let length = list.len().unwrap_or(0);
    let found = place.as_usize().filter(|place| *place < length);
    let found = found.and_then(|place| list.get_item_by_index(place).ok());
    found.ok_or_else(|| {
        let reason = format!("there is no element {place} in a list of {length}");
        minijinja::Error::new(ErrorKind::InvalidOperation, reason)
    })
}

/// Adds the missing `?` of a question, as the Lynx paper does (arXiv 2307.02469, notes to table
/// 10); text that ends a sentence, in any script, stays as it is.
pub(crate) fn question_mark(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || is_ended(text) { text.to_owned() } else { format!("{text}?") }
}

/// `'american_bulldog_100' | before_last('_')` is `american_bulldog`: the text before the last separator, or an error if there is none.
fn before_last(text: &str, separator: &str) -> Result<String, minijinja::Error> {
    text.rsplit_once(separator).map(|(before, _)| before.to_owned()).ok_or_else(|| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("there is no {separator:?} in {text:?}"))
    })
}

/// `answers | map(attribute='answer') | majority`: the most frequent text; of several, the one that
/// comes first. VQA's `multiple_choice_answer` is the most frequent of the ten answers. What is
/// missing, blank or no text has no vote.
fn majority(texts: &Value) -> Result<String, minijinja::Error> {
    let mut votes = Vec::new();
    for text in texts.try_iter()?.checked() {
        let text = text?;
        if matches!(text.kind(), ValueKind::String | ValueKind::Number) {
            votes.push(text.to_string());
        }
    }
    votes.retain(|text| !text.trim().is_empty());
    let count = |text: &String| votes.iter().filter(|other| *other == text).count();
    // Of equal maxima `max_by_key` takes the last, hence the reversal.
    votes
        .iter()
        .rev()
        .max_by_key(|text| count(text))
        .cloned()
        .ok_or_else(|| minijinja::Error::new(ErrorKind::InvalidOperation, "a list without a text has no majority"))
}

/// A compiled expression that cannot yield an undefined value.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    compiled: minijinja::Expression<'static, 'static>,
}

impl Expression {
    /// Compiles an expression over the given variables; any other name is an error, so that a misspelt table is found before a file is opened.
    pub(crate) fn compile(source: &str, variables: &[&str]) -> Result<Self, String> {
        let compiled = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|fault| format!("expression `{source}`: {fault}"))?;
        let mut unknown: Vec<String> = compiled
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| !variables.contains(&name.as_str()))
            .filter(|name| !ENVIRONMENT.globals().any(|(function, _)| function == name))
            .collect();
        unknown.sort();
        if unknown.is_empty() {
            Ok(Self { source: source.to_owned(), compiled })
        } else {
            let (unknown, known) = (unknown.join(", "), variables.join(", "));
            Err(format!("expression `{source}` uses {unknown}, but only {known} are known here"))
        }
    }

    /// Evaluates over one row. minijinja returns *undefined* without an error if the whole
    /// expression is a missing attribute, even in strict mode; here it is an error.
    pub(crate) fn evaluate(&self, context: &Value) -> Result<Value, String> {
        let value =
            self.compiled.eval(context.clone()).map_err(|fault| format!("expression `{}`: {fault}", self.source))?;
        if value.is_undefined() {
            return Err(format!("expression `{}` is missing or null here", self.source));
        }
        Ok(value)
    }

    /// The same as plain JSON, so that lazy lists are walked and their faults found.
    pub(crate) fn evaluate_json(&self, context: &Value) -> Result<serde_json::Value, String> {
        let value = self.evaluate(context)?;
        serde_json::to_value(&value).map_err(|fault| format!("expression `{}`: {fault}", self.source))
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;
    use serde_json::json;

    use super::*;

    fn run(source: &str) -> Result<serde_json::Value, String> {
        let row = json!({
            "id": 42, "turns": [{"q": 1}, {"q": 0}, {"q": null}], "name": "great_dane_7", "null": null, "list": ["x"],
            "votes": [null, "", " ", true, ["b"], {"b": 1}, "a", null, ""]
        });
        let context = context! { r => value_of(row), texts => vec!["a", "b"] };
        Expression::compile(source, &["r", "texts"])?.evaluate_json(&context)
    }

    #[test]
    fn values_keep_their_type() {
        assert_eq!(run("r.id").unwrap(), json!(42));
        assert_eq!(run("r.id == 42").unwrap(), json!(true));
        assert_eq!(run("'COCO_%012d.jpg' | format(r.id)").unwrap(), json!("COCO_000000000042.jpg"));
        assert_eq!(run("r.name | before_last('_') | replace('_', ' ') | title").unwrap(), json!("Great Dane"));
    }

    #[test]
    fn index_tables_resolve() {
        let picked = run("r.turns | map(attribute='q') | map('pick', texts) | map('question_mark')").unwrap();
        assert_eq!(picked, json!(["b?", "a?", null]), "a missing place has a missing element");
        let fault = run("[0, 2] | map('pick', texts)").unwrap_err();
        assert!(fault.contains("no element 2 in a list of 2"), "{fault}");
    }

    #[test]
    fn an_undefined_result_is_an_error() {
        let fault = run("r.missing").unwrap_err();
        assert_eq!(fault, "expression `r.missing` is missing or null here");
        assert!(run("r.missing | upper").is_err());
        assert!(run("r.missing.deeper").is_err());
    }

    #[test]
    fn a_null_is_never_a_text() {
        let uses = [
            "r.null",
            "'%s.jpg' | format(r.null)",
            "'%d' | format(r.null)",
            "r.null ~ '.jpg'",
            "r.null | upper",
            "r.null | replace('a', 'b')",
            "r.null | split('/')",
            "r.null | before_last('_')",
            "r.null | question_mark",
            "[r.null, r.null] | majority",
            "[r.null] | join('/')",
            "r.null == 'x'",
            "{'x': 1}[r.null]",
            "r.list[r.null]",
        ];
        for source in uses {
            let found = run(source);
            let is_text = found.as_ref().is_ok_and(|found| found.to_string().to_lowercase().contains("none"));
            assert!(!is_text, "{source}: {found:?}");
            if source != "[r.null] | join('/')" && source != "r.null == 'x'" {
                assert!(found.is_err(), "{source}: {found:?}");
            }
        }
        assert_eq!(run("r.null | default(r.id)").unwrap(), json!(42));
        assert_eq!(run("r.list | question_mark").unwrap(), json!(["x"]), "what is no text stays what it is");
    }

    #[test]
    fn a_misspelt_table_is_found_when_compiling() {
        let fault = Expression::compile("row.id", &["r"]).unwrap_err();
        assert!(fault.contains("uses row") && fault.contains("only r are known"), "{fault}");
        assert!(Expression::compile("range(3) | list", &["r"]).is_ok());
        assert!(Expression::compile("r.id |", &["r"]).is_err());
    }

    #[test]
    fn the_majority_is_the_most_frequent_and_of_several_the_first() {
        assert_eq!(run("['net', 'netting', 'net'] | majority").unwrap(), json!("net"));
        assert_eq!(run("['b', 'a', 'a', 'b'] | majority").unwrap(), json!("b"));
        assert!(run("[] | majority").is_err());
        assert_eq!(run("r.votes | majority").unwrap(), json!("a"), "what is no answer has no vote");
        assert_eq!(run("[2, 2, 'x'] | majority").unwrap(), json!("2"));
    }

    #[test]
    fn only_missing_question_marks_are_added() {
        assert_eq!(question_mark(" is it sunny "), "is it sunny?");
        for text in ["Is it?", "Name it.", "Is it \"real?\"", ""] {
            assert_eq!(question_mark(text), text);
        }
    }
}
