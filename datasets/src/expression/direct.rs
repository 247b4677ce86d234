//! The forms that most expressions have, evaluated without the machine of minijinja, which takes
//! several times as long. Whatever is unusual about a row is left to minijinja, so that both agree
//! and messages are the same.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::{Context, Named, Token};
use crate::rows::row::{Node, column, member, natural, scalar, scalar_json, string, texts};

/// A path of names, such as `q.question`.
type Path = Vec<String>;

/// The meaning of an expression of a usual form.
#[derive(Debug, PartialEq)]
pub(super) enum Direct {
    /// `PATH`.
    Path(Path),
    /// `PATH | map(attribute='NAME') | list`, with or without `| default([])` after the path.
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
    /// Text that is written as it is.
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

    /// Appends the value as JSON text, as it is written in the row. Returns whether this was
    /// possible.
    pub(super) fn write(&self, context: &dyn Context, out: &mut Vec<u8>) -> bool {
        let token = match self {
            Self::Path(path) => token(path, context),
            Self::OrElse { path, is_trimmed } => token(path, context).filter(|token| counts(token, *is_trimmed)),
            Self::Column { list, attribute } => {
                let tokens = token(list, context).and_then(|list| column(list, attribute));
                let Some(tokens) = tokens.filter(|tokens| tokens.iter().all(|token| token[0] == b'"')) else {
                    return false;
                };
                out.push(b'[');
                for (place, token) in tokens.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(token);
                }
                out.push(b']');
                return true;
            }
            Self::Format(_) => None,
        };
        // Other numbers, and words, may be none of JSON.
        let is_json = |token: &&[u8]| matches!(token[0], b'"' | b'[' | b'{') || natural(token).is_some();
        let Some(token) = token.filter(is_json) else { return false };
        out.extend_from_slice(token);
        true
    }

    /// Returns the value over one row as JSON, or nothing where minijinja must say what it is.
    pub(super) fn json(&self, context: &dyn Context) -> Option<Json> {
        match self {
            Self::Path(path) => scalar_json(token(path, context)?),
            Self::Column { list, attribute } => {
                let tokens = column(token(list, context)?, attribute)?;
                tokens.into_iter().map(scalar_json).collect::<Option<_>>().map(Json::Array)
            }
            Self::OrElse { path, is_trimmed } => {
                scalar_json(token(path, context).filter(|token| token[0] == b'"' && counts(token, *is_trimmed))?)
            }
            Self::Format(pieces) => formatted(pieces, context).map(Json::String),
        }
    }

    /// Returns the value over one row, with the quotes of texts, if it is a list of one or more
    /// texts and nothing else.
    pub(super) fn texts<'a>(&self, context: &'a dyn Context) -> Option<Vec<&'a [u8]>> {
        let found = match self {
            Self::Path(path) | Self::OrElse { path, is_trimmed: false } => texts(token(path, context)?)?,
            Self::Column { list, attribute } => {
                let tokens = column(token(list, context)?, attribute)?;
                tokens.iter().all(|token| token[0] == b'"').then_some(tokens)?
            }
            _ => return None,
        };
        (!found.is_empty()).then_some(found)
    }

    /// Returns the text of an integer that is a key, as it is written in the row.
    pub(super) fn key<'a>(&self, context: &'a dyn Context) -> Option<&'a str> {
        let Self::Path(path) = self else { return None };
        let token = token(path, context).filter(|token| natural(token).is_some())?;
        std::str::from_utf8(token).ok()
    }
}

/// Returns whether a text, list or object counts as true, or as more than a blank text.
fn counts(token: &[u8], is_trimmed: bool) -> bool {
    match token[0] {
        b'"' if is_trimmed => string(token).is_ok_and(|text| !text.trim().is_empty()),
        b'"' => token.len() > 2,
        b'[' | b'{' if !is_trimmed => !matches!(token[1..].trim_ascii_start()[0], b']' | b'}'),
        _ => false,
    }
}

/// Returns the text of a `format`.
fn formatted(pieces: &[Piece], context: &dyn Context) -> Option<String> {
    let mut text = String::with_capacity(FORMATTED);
    for piece in pieces {
        match piece {
            Piece::Text(own) => text.push_str(own),
            Piece::Shown(path) => match (&path[..], context.get(&path[0])?) {
                ([_], Named::Value(value)) => text.push_str(value.as_str()?),
                ([_], Named::Number(number)) => write!(text, "{number}").ok()?,
                _ => match token(path, context)? {
                    token @ [b'"', ..] => text.push_str(&string(token).ok()?),
                    token => write!(text, "{}", whole(token)?).ok()?,
                },
            },
            Piece::Number(path, width) => match (&path[..], context.get(&path[0])?) {
                ([_], Named::Number(number)) => write!(text, "{number:0width$}").ok()?,
                _ => write!(text, "{:0width$}", whole(token(path, context)?)?).ok()?,
            },
        }
    }
    Some(text)
}

/// The number of bytes for which the text of a `format` has room at first.
const FORMATTED: usize = 48;

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

/// Returns the JSON text at a path that leads into a row.
fn token<'a>(path: &[String], context: &'a dyn Context) -> Option<&'a [u8]> {
    let (root, rest) = path.split_first()?;
    let whole = match context.get(root)? {
        Named::Row(row) => match rest {
            [] => return Some(row.text()),
            [name, rest @ ..] => (row.token(name)?, rest),
        },
        Named::Value(value) => {
            let node = value.downcast_object_ref::<Node>()?;
            match rest {
                [] => return Some(node.text()),
                [name, rest @ ..] => (node.token(name)?, rest),
            }
        }
        Named::Number(_) => return None,
    };
    let (token, rest) = whole;
    rest.iter().try_fold(token, |token, name| member(token, 0, name).map(|(token, _)| token))
}

/// Parses a whole number; a 1.0 is not one.
fn whole(token: &[u8]) -> Option<i64> {
    if let Some(number) = natural(token) {
        return i64::try_from(number).ok();
    }
    let value = scalar(token).ok().filter(|_| token[0] != b'"')?;
    if value.is_integer() { value.as_i64() } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::tests::RowNamedR;
    use super::super::{Expression, scan};
    use super::*;
    use crate::record::key_text;
    use crate::rows::row::Fields;

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
                let context = RowNamedR(Fields::of(text.as_bytes()).unwrap());
                let expected = own.compiled.eval(context.value()).map(|value| serde_json::to_value(&value));
                let direct = own.direct.as_ref().unwrap();
                // What is written as text is what is returned as JSON.
                let mut written = Vec::new();
                if direct.write(&context, &mut written) {
                    let written = serde_json::from_slice::<serde_json::Value>(&written).ok();
                    assert_eq!(written, own.evaluate_json(&context).ok(), "{source} of {text}");
                }
                if let Some(texts) = direct.texts(&context) {
                    let texts: Vec<_> = texts.into_iter().map(|token| string(token).unwrap()).collect();
                    assert_eq!(Ok(serde_json::json!(texts)), own.evaluate_json(&context), "{source} of {text}");
                }
                if let Some(key) = direct.key(&context) {
                    let found = own.evaluate_json(&context).unwrap();
                    assert_eq!(key_text(&found).as_deref(), Some(key), "{source} of {text}");
                }
                let Some(found) = direct.json(&context) else { continue };
                let expected = expected.unwrap_or_else(|fault| panic!("{source} of {text}: {fault}"));
                assert_eq!(found, expected.unwrap(), "{source} of {text}");
            }
        }
        let context = RowNamedR(Fields::of(rows[0].as_bytes()).unwrap());
        for source in sources {
            let own = Expression::compile(source, &["r"]).unwrap();
            let direct = own.direct.unwrap();
            let is_list = source.starts_with("r.votes if") || source == "r.votes";
            assert_eq!(direct.json(&context).is_some(), !is_list, "{source}");
            assert_eq!(direct.write(&context, &mut Vec::new()), is_list || source.starts_with("r.name"), "{source}");
        }
    }
}
