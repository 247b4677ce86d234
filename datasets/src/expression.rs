//! The minijinja expressions of a task.

mod direct;

use std::fmt::Write as _;
use std::sync::LazyLock;

use lynxdata_records::nearest;
use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde_json::Value as Json;

use crate::filters::FILTERS;
pub(crate) use crate::filters::{question_mark, trimmed};
use crate::rows::row::{Fields, Node};
use crate::value::value_of;
use direct::Direct;

/// The maximum number of steps of one expression on one row; shipped expressions take fewer than a
/// thousand. One step also covers 64 bytes of text.
const FUEL: u64 = 1_000_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    for (_, add) in FILTERS {
        add(&mut environment);
    }
    environment
});

/// The values over which an expression is evaluated, by their names.
pub(crate) trait Context {
    /// Returns a value, if it is known without [`Context::value`].
    fn get(&self, name: &str) -> Option<Named<'_>>;

    /// Returns all of them for minijinja.
    fn value(&self) -> Value;
}

/// A value with a name.
#[derive(Clone, Copy)]
pub(crate) enum Named<'a> {
    /// A native row.
    Row(&'a Fields<'a>),
    /// An index.
    Number(u64),
    /// Any other value.
    Value(&'a Value),
}

/// A compiled expression whose result is never undefined.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    compiled: minijinja::Expression<'static, 'static>,
    /// The same, where it has one of the usual forms.
    direct: Option<Direct>,
}

impl Expression {
    /// Compiles an expression over the given variables. Any other name and any unknown filter or
    /// test is an error, so that misspelt ones are found before a file is opened.
    pub(crate) fn compile(source: &str, variables: &[&str]) -> Result<Self, String> {
        let compiled = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|fault| format!("expression `{source}`: {fault}"))?;
        check_names(&scan(source)).map_err(|reason| format!("expression `{source}`: {reason}"))?;
        let mut unknown: Vec<String> = compiled
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| !variables.contains(&name.as_str()))
            .filter(|name| !ENVIRONMENT.globals().any(|(function, _)| function == name))
            .collect();
        unknown.sort();
        if unknown.is_empty() {
            Ok(Self { source: source.to_owned(), compiled, direct: Direct::of(&scan(source)) })
        } else {
            let (unknown, known) = (unknown.join(", "), variables.join(", "));
            Err(format!("expression `{source}` uses {unknown}, but only {known} are known here"))
        }
    }

    /// Returns the paths that it uses, such as `q.image_id`, or only a name such as `q` if its
    /// value is used as a whole.
    pub(crate) fn paths(&self) -> impl Iterator<Item = String> {
        self.compiled.undeclared_variables(true).into_iter()
    }

    /// Returns whether it uses a filter, by itself or within `map`.
    pub(crate) fn uses_filter(&self, filter: &str) -> bool {
        scan(&self.source).windows(3).any(|tokens| match tokens {
            [Token::Mark('|'), Token::Name(name), _] => name == filter,
            [Token::Name(map), Token::Mark('('), Token::Text(name)] => map == "map" && name == filter,
            _ => false,
        })
    }

    /// Returns the names of variables and keys that it uses.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        scan(&self.source).into_iter().filter_map(|token| match token {
            Token::Name(name) | Token::Text(name) => Some(name),
            Token::Mark(_) => None,
        })
    }

    /// Evaluates over one row. minijinja returns *undefined* without an error if the whole
    /// expression is a missing attribute, even in strict mode; here this is an error.
    pub(crate) fn evaluate(&self, context: &dyn Context) -> Result<Value, String> {
        let value = match self.direct_json(context) {
            Some(json) => Some(value_of(json)),
            None => self.by_minijinja(context)?,
        };
        value.ok_or_else(|| self.nothing(context))
    }

    fn direct_json(&self, context: &dyn Context) -> Option<Json> {
        self.direct.as_ref()?.json(context)
    }

    /// Returns the message for a value that is missing or null.
    fn nothing(&self, context: &dyn Context) -> String {
        let why = self.what_is_missing(&context.value());
        format!("expression `{}` is missing or null here{why}", self.source)
    }

    fn by_minijinja(&self, context: &dyn Context) -> Result<Option<Value>, String> {
        let context = context.value();
        let value = self.compiled.eval(context.clone()).map_err(|fault| {
            let why = self.what_is_missing(&context);
            format!("expression `{}`: {fault}{why}", self.source)
        })?;
        Ok((!value.is_undefined()).then_some(value))
    }

    /// The same as plain JSON, so that lazy lists are walked and their faults found.
    pub(crate) fn evaluate_json(&self, context: &dyn Context) -> Result<Json, String> {
        self.evaluate_optional(context)?.ok_or_else(|| self.nothing(context))
    }

    /// Appends the same as JSON text. Lists and objects of the row are copied unchanged: an error
    /// inside them is returned only when that part is used.
    pub(crate) fn write_json(&self, context: &dyn Context, out: &mut Vec<u8>) -> Result<(), String> {
        if self.direct.as_ref().is_some_and(|direct| direct.write(context, out)) {
            return Ok(());
        }
        let value = self.evaluate(context)?;
        if let Some(native) = value.downcast_object_ref::<Node>() {
            out.extend_from_slice(native.text());
            return Ok(());
        }
        serde_json::to_writer(out, &value).map_err(|fault| format!("expression `{}`: {fault}", self.source))
    }

    /// Does the same as [`Expression::evaluate_json`] but returns `None` for a value that is
    /// missing or null.
    pub(crate) fn evaluate_optional(&self, context: &dyn Context) -> Result<Option<Json>, String> {
        if let Some(json) = self.direct_json(context) {
            return Ok(Some(json));
        }
        let value = self.by_minijinja(context)?;
        let value = value.as_ref().map(json).transpose();
        value.map_err(|fault| format!("expression `{}`: {fault}", self.source))
    }

    /// Returns the text of an integer that is a key, if the value is a usual one. Any other value
    /// is for [`Expression::evaluate_json`].
    pub(crate) fn key<'a>(&self, context: &'a dyn Context) -> Option<&'a str> {
        self.direct.as_ref()?.key(context)
    }

    /// Returns the elements of a list of one or more texts, with their quotes as in the row, if the
    /// value is one. Any other value is for [`Expression::evaluate_json`].
    pub(crate) fn texts<'a>(&self, context: &'a dyn Context) -> Option<Vec<&'a [u8]>> {
        self.direct.as_ref()?.texts(context)
    }

    /// Returns which key of the expression is missing in the row and the key most similar to it, or
    /// which key is null.
    fn what_is_missing(&self, context: &Value) -> String {
        let tokens = scan(&self.source);
        for (place, token) in tokens.iter().enumerate() {
            let Token::Name(root) = token else { continue };
            let is_part = place > 0 && matches!(tokens[place - 1], Token::Mark('.'));
            let Ok(mut value) = context.get_attr(root) else { continue };
            if is_part || value.is_undefined() {
                continue;
            }
            let (mut path, mut rest) = (root.clone(), &tokens[place + 1..]);
            while let [Token::Mark('.'), Token::Name(key), ..]
            | [Token::Mark('['), Token::Text(key), Token::Mark(']'), ..] = rest
            {
                rest = &rest[if matches!(rest[0], Token::Mark('.')) { 2 } else { 3 }..];
                if value.kind() != ValueKind::Map {
                    break;
                }
                let keys = value.try_iter().map(|keys| keys.map(|key| key.to_string()).collect::<Vec<_>>());
                let keys = keys.unwrap_or_default();
                if !keys.contains(key) {
                    return absent(&path, key, &keys);
                }
                let Ok(inner) = value.get_attr(key) else { break };
                let _ = write!(path, ".{key}");
                if inner.is_undefined() {
                    return format!("; `{path}` is null");
                }
                value = inner;
            }
        }
        String::new()
    }
}

/// The maximum number of keys that a message lists.
const LISTED_KEYS: usize = 12;

fn absent(path: &str, key: &str, keys: &[String]) -> String {
    let hint = nearest(key, keys.iter().map(String::as_str)).map(|near| format!(", did you mean `{near}`?"));
    let more = if keys.len() > LISTED_KEYS { ", …" } else { "" };
    let listed = keys.iter().take(LISTED_KEYS).cloned().collect::<Vec<_>>().join(", ");
    format!("; `{path}` has no `{key}`{}; its keys are {listed}{more}", hint.unwrap_or_default())
}

fn json(value: &Value) -> Result<Json, String> {
    // Lists and objects of a row need no value for each of their elements.
    let native = value.downcast_object_ref::<Node>().and_then(Node::json);
    native.map_or_else(|| serde_json::to_value(value).map_err(|fault| fault.to_string()), Ok)
}

/// A token of an expression, as far as needed to find names.
#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Mark(char),
}

/// Splits an expression into tokens. Numbers become marks.
fn scan(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '\'' | '"' => {
                let mut text = String::new();
                while let Some(next) = rest.next().filter(|next| *next != first) {
                    let character = if next == '\\' { rest.next().unwrap_or(next) } else { next };
                    text.push(character);
                }
                tokens.push(Token::Text(text));
            }
            first if first.is_alphabetic() || first == '_' => {
                let mut name = String::from(first);
                while let Some(next) = rest.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    name.push(next);
                }
                tokens.push(Token::Name(name));
            }
            first if first.is_ascii_digit() => {
                while rest.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '.')).is_some() {}
                tokens.push(Token::Mark('0'));
            }
            first if first.is_whitespace() => {}
            first => tokens.push(Token::Mark(first)),
        }
    }
    tokens
}

/// Checks that filters and tests exist, that patterns are valid regular expressions, and that no
/// method is called: values have no methods here.
fn check_names(tokens: &[Token]) -> Result<(), String> {
    for (place, window) in tokens.iter().enumerate() {
        let after = &tokens[place + 1..];
        let is_part = place > 0 && matches!(tokens[place - 1], Token::Mark('.'));
        match (window, after) {
            (Token::Mark('.'), [Token::Name(method), Token::Mark('('), ..]) => {
                return Err(format!("there are no methods such as `.{method}()`; use a filter, as in `x | {method}`"));
            }
            (Token::Mark('|'), [Token::Name(filter), rest @ ..]) => {
                check_filter(filter)?;
                match (filter.as_str(), rest) {
                    ("map", [Token::Mark('('), Token::Text(filter), ..]) => check_filter(filter)?,
                    ("select" | "reject", [Token::Mark('('), Token::Text(test), ..])
                    | (
                        "selectattr" | "rejectattr",
                        [Token::Mark('('), Token::Text(_), Token::Mark(','), Token::Text(test), ..],
                    ) => check_test(test)?,
                    ("sub" | "findall", [Token::Mark('('), Token::Text(pattern), ..]) => {
                        // Compiling it takes longer, and is done when a row first needs it.
                        regex_syntax::parse(pattern).map_err(|reason| format!("{filter}: {reason}"))?;
                    }
                    _ => {}
                }
            }
            (Token::Name(is), [Token::Name(not), Token::Name(test), ..]) if is == "is" && not == "not" && !is_part => {
                check_test(test)?;
            }
            (Token::Name(is), [Token::Name(test), ..]) if is == "is" && test != "not" && !is_part => check_test(test)?,
            _ => {}
        }
    }
    Ok(())
}

/// The filters of minijinja that a message may suggest.
const BUILT_IN: &[&str] = &[
    "abs",
    "batch",
    "capitalize",
    "chain",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
    "zip",
];

fn check_filter(name: &str) -> Result<(), String> {
    let known = BUILT_IN.iter().copied().chain(FILTERS.iter().map(|(name, _)| *name));
    if known.clone().any(|own| own == name) || !is_unknown(&format!("0 | {name}"), ErrorKind::UnknownFilter) {
        return Ok(());
    }
    let hint = nearest(name, known).map(|near| format!(", did you mean `{near}`?"));
    Err(format!("there is no filter `{name}`{}", hint.unwrap_or_default()))
}

fn check_test(name: &str) -> Result<(), String> {
    // Some tests of minijinja have symbols as names, which can only appear in strings.
    let is_sign = !name.starts_with(|first: char| first.is_alphabetic());
    if is_sign || !is_unknown(&format!("0 is {name}"), ErrorKind::UnknownTest) {
        return Ok(());
    }
    Err(format!("there is no test `{name}`"))
}

/// Returns whether minijinja does not know the filter or test of an expression. It looks up filters
/// and tests before it checks values.
fn is_unknown(expression: &str, kind: ErrorKind) -> bool {
    let compiled = ENVIRONMENT.compile_expression(expression);
    compiled.is_ok_and(|own| own.eval(()).is_err_and(|fault| fault.kind() == kind))
}

#[cfg(test)]
impl Context for Value {
    fn get(&self, _: &str) -> Option<Named<'_>> {
        None
    }

    fn value(&self) -> Value {
        self.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use minijinja::context;
    use serde_json::json;

    use super::*;
    use crate::value::value_of;

    /// A row with the name `r`.
    pub(crate) struct RowNamedR(pub(crate) Fields<'static>);

    impl Context for RowNamedR {
        fn get(&self, name: &str) -> Option<Named<'_>> {
            (name == "r").then_some(Named::Row(&self.0))
        }

        fn value(&self) -> Value {
            Value::from_pairs([("r", self.0.clone().value())])
        }
    }

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
        assert!(
            fault
                .starts_with("expression `r.missing` is missing or null here; `r` has no `missing`; its keys are id, ")
        );
        assert!(run("r.missing | upper").is_err());
        assert!(run("r.missing.deeper").is_err());
        let fault = run("r.nam | upper").unwrap_err();
        assert!(fault.contains("`r` has no `nam`, did you mean `name`?"), "{fault}");
        let fault = run("'%d' | format(r['idd'])").unwrap_err();
        assert!(fault.contains("`r` has no `idd`, did you mean `id`?"), "{fault}");
        assert!(run("r.null | upper").unwrap_err().ends_with("`r.null` is null"));
    }

    #[test]
    fn names_that_are_not_there_are_found_when_compiling() {
        let faults = [
            ("r.id | lowercase", "there is no filter `lowercase`"),
            ("r.id | uper", "did you mean `upper`?"),
            ("r.list | map('tirm') | list", "there is no filter `tirm`, did you mean `trim`?"),
            ("r.list | select('evn') | list", "there is no test `evn`"),
            ("r.list | selectattr('x', 'evn') | list", "there is no test `evn`"),
            ("r.id is not evn", "there is no test `evn`"),
            ("r.id is evn", "there is no test `evn`"),
            ("r.name.lower()", "there are no methods such as `.lower()`"),
            ("r.name | sub('[', '')", "sub: regex parse error"),
            ("lower(r.name)", "uses lower"),
        ];
        for (source, expected) in faults {
            let fault = run(source).unwrap_err();
            assert!(fault.contains(expected), "{source}: {fault}");
        }
        for source in ["r.is", "r.id is number", "r.id is not string", "['a|b'] | join", "r.list | map(attribute='x')"]
        {
            assert!(Expression::compile(source, &["r"]).is_ok(), "{source}");
        }
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
}
