//! The forms that most expressions have, evaluated without the machine of minijinja, which takes
//! several times as long. Whatever is unusual about a row is left to minijinja, so that both agree
//! and messages are the same.

use std::fmt::Write as _;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::Value as Json;

use super::Token;
use crate::rows::row::{Node, scalar, string};

/// A path of names, such as `q.question`.
type Path = Vec<String>;

/// What an expression of a usual form says.
#[derive(Debug, PartialEq)]
pub(super) enum Direct {
    /// `PATH`.
    Path(Path),
    /// `PATH | map(attribute='NAME') | list`, with or without `| default([])` behind the path.
    Column { list: Path, attribute: String },
    /// `PATH if PATH else …`, or `PATH if PATH | default('') | trim else …`: the path, and whether
    /// a blank text counts as missing.
    OrElse { path: Path, is_trimmed: bool },
    /// `'TEXT' | format(PATH, …)`.
    Format(Vec<Piece>),
}

/// A part of the text of a `format`.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// It stands for itself.
    Text(String),
    /// `%s`.
    Shown(Path),
    /// `%d`, or `%05d` with the width 5.
    Number(Path, usize),
}

impl Direct {
    /// Returns the form of an expression, if it has one of these.
    pub(super) fn of(tokens: &[Token]) -> Option<Self> {
        if let [Token::Text(text), rest @ ..] = tokens {
            let arguments = call(rest, "format")?.strip_suffix(&[Token::Mark(')')])?;
            return pieces(text, arguments).map(Self::Format);
        }
        let (path, rest) = path(tokens)?;
        if rest.is_empty() {
            return Some(Self::Path(path));
        }
        if let [Token::Name(word), rest @ ..] = rest {
            let (condition, rest) = self::path(rest)?;
            let trimmed = call(rest, "default")
                .and_then(|rest| rest.strip_prefix(&[Token::Text(String::new()), Token::Mark(')')]))
                .and_then(|rest| rest.strip_prefix(&[Token::Mark('|'), Token::Name("trim".to_owned())]));
            let is_else = trimmed.unwrap_or(rest).first() == Some(&Token::Name("else".to_owned()));
            let is_usual = word == "if" && condition == path && is_else;
            return is_usual.then_some(Self::OrElse { path, is_trimmed: trimmed.is_some() });
        }
        let empty = [Token::Mark('['), Token::Mark(']'), Token::Mark(')')];
        let rest = call(rest, "default").and_then(|rest| rest.strip_prefix(&empty)).unwrap_or(rest);
        let [Token::Name(key), Token::Mark('='), Token::Text(attribute), Token::Mark(')'), rest @ ..] =
            call(rest, "map")?
        else {
            return None;
        };
        let is_list = matches!(rest, [] | [Token::Mark('|'), Token::Name(_)]) && rest.get(1).is_none_or(is_list);
        // An attribute with a dot is a path to minijinja.
        let is_column = key == "attribute" && is_list && !attribute.contains('.');
        is_column.then(|| Self::Column { list: path, attribute: attribute.clone() })
    }

    /// Writes a column as JSON text and returns whether it did: texts are copied as they stand in
    /// the row.
    pub(super) fn write_column(&self, context: &Value, out: &mut Vec<u8>) -> bool {
        let Self::Column { list, attribute } = self else { return false };
        let write = |tokens: &[&[u8]]| {
            if tokens.iter().any(|token| token[0] != b'"') {
                return false;
            }
            out.push(b'[');
            for (place, token) in tokens.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(token);
            }
            out.push(b']');
            true
        };
        column(list, attribute, context, write).unwrap_or(false)
    }

    /// Returns the value over one row, or nothing where minijinja must say what it is.
    pub(super) fn value(&self, context: &Value) -> Option<Value> {
        match self {
            Self::Path(path) => look_up(path, context),
            Self::Column { list, attribute } => {
                let values = |tokens: &[&[u8]]| tokens.iter().map(|token| scalar(token).ok()).collect();
                let values: Option<Vec<Value>> = column(list, attribute, context, values)?;
                values.map(Value::from)
            }
            Self::OrElse { path, is_trimmed } => {
                let value = look_up(path, context)?;
                let counts = if *is_trimmed {
                    value.as_str().is_some_and(|text| !text.trim().is_empty())
                } else {
                    value.is_true()
                };
                counts.then_some(value)
            }
            Self::Format(pieces) => formatted(pieces, context).map(Value::from),
        }
    }

    /// Returns the value over one row as JSON, or nothing where [`Direct::value`] or minijinja must
    /// say what it is.
    pub(super) fn json(&self, context: &Value) -> Option<Json> {
        match self {
            Self::Path(path) => scalar_at(path, context),
            Self::Column { list, attribute } => {
                let values = |tokens: &[&[u8]]| tokens.iter().map(|token| scalar_json(token)).collect();
                let values: Option<Vec<Json>> = column(list, attribute, context, values)?;
                values.map(Json::Array)
            }
            Self::OrElse { path, is_trimmed } => {
                let value = scalar_at(path, context)?;
                let text = value.as_str()?;
                let counts = if *is_trimmed { !text.trim().is_empty() } else { !text.is_empty() };
                counts.then_some(value)
            }
            Self::Format(pieces) => formatted(pieces, context).map(Json::String),
        }
    }
}

/// Returns the text of a `format`.
fn formatted(pieces: &[Piece], context: &Value) -> Option<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(own) => text.push_str(own),
            Piece::Shown(path) => {
                let value = look_up(path, context)?;
                match value.as_str() {
                    Some(own) => text.push_str(own),
                    None => write!(text, "{}", whole(&value)?).ok()?,
                }
            }
            Piece::Number(path, width) => write!(text, "{:0width$}", whole(&look_up(path, context)?)?).ok()?,
        }
    }
    Some(text)
}

/// Returns the text, number or truth value of a row at a path.
fn scalar_at(path: &[String], context: &Value) -> Option<Json> {
    let [path @ .., name] = path else { return None };
    let object = look_up(path, context)?;
    scalar_json(object.downcast_object_ref::<Node>()?.token(name)?)
}

/// Parses a text, number or truth value.
fn scalar_json(token: &[u8]) -> Option<Json> {
    match token[0] {
        b'"' => string(token).ok().map(|text| Json::String(text.into_owned())),
        b'[' | b'{' => None,
        _ => {
            let value = scalar(token).ok().filter(|value| !value.is_undefined())?;
            serde_json::to_value(value).ok()
        }
    }
}

/// Passes the texts of a column to `take`.
fn column<T>(list: &[String], attribute: &str, context: &Value, take: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
    let [path @ .., list] = list else { return None };
    let object = look_up(path, context)?;
    let tokens = object.downcast_object_ref::<Node>()?.column(list, attribute)?;
    Some(take(&tokens))
}

fn is_list(token: &Token) -> bool {
    matches!(token, Token::Name(name) if name == "list")
}

/// Returns what follows `| NAME(`.
fn call<'a>(tokens: &'a [Token], name: &str) -> Option<&'a [Token]> {
    match tokens {
        [Token::Mark('|'), Token::Name(own), Token::Mark('('), rest @ ..] if own == name => Some(rest),
        _ => None,
    }
}

/// Returns the path that tokens begin with, and what follows it.
fn path(tokens: &[Token]) -> Option<(Path, &[Token])> {
    let [Token::Name(root), rest @ ..] = tokens else { return None };
    let words = ["true", "false", "none", "not", "if", "else", "and", "or", "in", "is"];
    if words.contains(&root.to_lowercase().as_str()) {
        return None;
    }
    let (mut path, mut rest) = (vec![root.clone()], rest);
    while let [Token::Mark('.'), Token::Name(name), behind @ ..] = rest {
        path.push(name.clone());
        rest = behind;
    }
    Some((path, rest))
}

/// Takes the text of a `format` apart; `arguments` are paths between commas, one for each `%`.
fn pieces(text: &str, arguments: &[Token]) -> Option<Vec<Piece>> {
    let mut arguments = arguments.split(|token| *token == Token::Mark(','));
    let mut argument = || match path(arguments.next()?)? {
        (path, []) => Some(path),
        _ => None,
    };
    let (before, rest) = text.split_at(text.find('%').unwrap_or(text.len()));
    let mut pieces = vec![Piece::Text(before.to_owned())];
    for own in rest.split('%').skip(1) {
        let behind = own.trim_start_matches(|character: char| character.is_ascii_digit());
        let width = &own[..own.len() - behind.len()];
        let mut characters = behind.chars();
        pieces.push(match (characters.next()?, width) {
            ('s', "") => Piece::Shown(argument()?),
            ('d', "") => Piece::Number(argument()?, 0),
            ('d', width) if width.starts_with('0') => Piece::Number(argument()?, width.parse().ok()?),
            _ => return None,
        });
        pieces.push(Piece::Text(characters.as_str().to_owned()));
    }
    arguments.next().is_none().then_some(pieces)
}

/// Follows a path.
fn look_up(path: &[String], context: &Value) -> Option<Value> {
    let (root, rest) = path.split_first()?;
    let value = rest.iter().try_fold(context.get_attr(root).ok()?, |value, name| value.get_attr(name).ok())?;
    (!value.is_undefined() && value.kind() != ValueKind::Invalid).then_some(value)
}

/// Returns a whole number; a 1.0 is not one.
fn whole(value: &Value) -> Option<i64> {
    if value.is_integer() { value.as_i64() } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::{Expression, scan};
    use super::*;
    use crate::rows::row::Row;

    #[test]
    fn usual_forms_are_recognised() {
        let usual = [
            "q.question",
            "a.answers | map(attribute='answer') | list",
            "a.answers | default([]) | map(attribute='answer')",
            "a.answers if a.answers else [a.target]",
            "a.b if a.b | default('') | trim else a.c | first",
            "'%s2014/COCO_%s_%012d.jpg' | format(split, split, q.image_id)",
        ];
        for source in usual {
            assert!(Direct::of(&scan(source)).is_some(), "{source}");
        }
        let others = [
            "none",
            "q.a + 1",
            "q[0]",
            "q.a | first",
            "a.b if a.c else a.d",
            "a.b if not a.b else a.d",
            "a.b if a.b and a.c else a.d",
            "a.b if a.b",
            "a.b | map(attribute='c.d') | list",
            "a.b | map(attribute='c', default=1) | list",
            "a.b | map('upper') | list",
            "a.b | map(attribute='c') | first",
            "'%5d' | format(a.b)",
            "'%%' | format(a.b)",
            "'%.2f' | format(a.b)",
            "'%s' | format(a.b + 1)",
            "'%s' | format(a.b, a.c)",
            "'%s %s' | format(a.b)",
            "'%s' | format(a.b) | upper",
        ];
        for source in others {
            assert_eq!(Direct::of(&scan(source)), None, "{source}");
        }
    }

    #[test]
    fn the_values_are_those_of_minijinja() {
        let rows = [
            r#"{"id": 7, "name": "a b", "votes": [{"answer": "x"}, {"answer": 2, "id": 1}, {"answer": "é\n"}], "other": 1}"#,
            r#"{"id": -7, "name": " ", "votes": [], "other": "o"}"#,
            r#"{"id": 1.0, "name": "", "votes": [{"answer": null}, {}], "other": null}"#,
            r#"{"id": "9", "name": null, "votes": [{"answer": ["x"]}, {"answer": "y"}], "other": true}"#,
            r#"{"id": 18446744073709551615, "name": 0, "votes": null, "other": false}"#,
            r#"{"id": null, "name": ["a"], "votes": {"answer": "x"}, "other": [1]}"#,
            r#"{"id": true, "name": {"answer": 1}, "votes": "text", "other": 0}"#,
            r#"{"id": 1e3, "name": "-", "votes": [1, 2], "other": {}}"#,
            r#"{"votes": [{"an\u0073wer": "x", "answer": "y"}, {"an\u0073wer": "z"}]}"#,
            r#"{"votes": [{"answer": "x" "y"}], "name": "x", "id": 1, "other": 1}"#,
        ];
        let sources = [
            "r.name",
            "r.votes",
            "r.votes | map(attribute='answer') | list",
            "r.votes | default([]) | map(attribute='answer') | list",
            "r.votes | map(attribute='answer')",
            "r.name if r.name else r.other",
            "r.votes if r.votes else [r.other]",
            "r.name if r.name | default('') | trim else r.other",
            "'%s/%05d.jpg' | format(r.name, r.id)",
            "'%d-%s' | format(r.id, r.other)",
            "'%s' | format(r.id)",
        ];
        for text in rows {
            for source in sources {
                let own = Expression::compile(source, &["r"]).unwrap();
                assert!(own.direct.is_some(), "{source}");
                let context = || {
                    let row = Row::of(text.as_bytes().to_vec()).unwrap().value().unwrap();
                    Value::from_pairs([("r", row)])
                };
                // What is written as text is what is returned as JSON.
                let mut written = Vec::new();
                if own.write_json(&context(), &mut written).is_ok() {
                    let written = serde_json::from_slice::<serde_json::Value>(&written).ok();
                    assert_eq!(written, own.evaluate_json(&context()).ok(), "{source} of {text}");
                }
                let expected = own.compiled.eval(context()).map(|value| serde_json::to_value(&value));
                let Some(found) = own.direct.as_ref().unwrap().value(&context()) else { continue };
                let expected = expected.unwrap_or_else(|fault| panic!("{source} of {text}: {fault}"));
                // What minijinja cannot show is not shown here either.
                match (serde_json::to_value(&found), expected) {
                    (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{source} of {text}"),
                    (found, expected) => assert!(found.is_err() && expected.is_err(), "{source} of {text}"),
                }
            }
        }
        let row = Row::of(rows[0].as_bytes().to_vec()).unwrap().value().unwrap();
        let context = Value::from_pairs([("r", row)]);
        for source in sources {
            let own = Expression::compile(source, &["r"]).unwrap();
            let direct = own.direct.unwrap();
            assert!(direct.value(&context).is_some(), "{source}");
            assert_eq!(direct.json(&context).is_some(), !source.starts_with("r.votes if") && source != "r.votes");
        }
    }
}
