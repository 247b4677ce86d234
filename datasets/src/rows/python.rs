//! Python literals, as `repr` writes plain values.

use std::io::BufRead;

use serde_json::{Map, Number, Value, json};

use super::row::Row;
use super::{Emit, lines};

/// The maximum nesting depth of values, so that no input exhausts the stack.
const DEEPEST: usize = 128;

/// Reads one literal per line. Blank lines are skipped, and a broken line becomes one unreadable
/// row.
pub(super) fn read(input: impl BufRead, emit: &mut Emit) -> Result<(), String> {
    lines::each_line(input, &mut |number, line| {
        let content = parse(&String::from_utf8_lossy(line)).map(|value| match value {
            row @ Value::Object(_) => row,
            other => json!({ "_value": other }),
        });
        emit(number, content.map(Row::from).map_err(|reason| format!("is not a Python literal: {reason}")))
    })
}

/// Parses a literal: `None`, booleans, numbers, texts, bytes (as texts of the same codes), lists,
/// tuples, sets (as lists) and dictionaries, whose keys become texts.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text, whole: text };
    let value = parser.value(0)?;
    parser.space();
    if parser.rest.is_empty() { Ok(value) } else { Err(parser.fault("unexpected text after the value")) }
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl Parser<'_> {
    fn fault(&self, reason: &str) -> String {
        format!("{reason} at character {}", self.whole[..self.whole.len() - self.rest.len()].chars().count())
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, text: &str) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(self.fault("values are nested too deep"));
        }
        self.space();
        match self.rest.chars().next() {
            None => Err(self.fault("a value is missing")),
            Some('[') => self.elements("[", "]", depth).map(|(values, _)| Value::Array(values)),
            Some('(') => {
                let (mut values, has_comma) = self.elements("(", ")", depth)?;
                // One value in parentheses without a comma is that value, not a tuple.
                Ok(if values.len() == 1 && !has_comma { values.remove(0) } else { Value::Array(values) })
            }
            Some('{') => self.braces(depth),
            Some('\'' | '"') => self.texts().map(Value::String),
            Some(first) if first.is_ascii_digit() || matches!(first, '-' | '+' | '.') => self.number(),
            Some(_) => self.word(),
        }
    }

    /// Reads values between two marks, and returns whether a comma was among them.
    fn elements(&mut self, open: &str, close: &str, depth: usize) -> Result<(Vec<Value>, bool), String> {
        self.take(open);
        let (mut values, mut has_comma) = (Vec::new(), false);
        while !self.take(close) {
            if !values.is_empty() && !has_comma {
                return Err(self.fault(&format!("`,` or `{close}` is missing")));
            }
            values.push(self.value(depth + 1)?);
            let comma = self.take(",");
            has_comma |= comma;
            if !comma {
                if self.take(close) {
                    break;
                }
                return Err(self.fault(&format!("`,` or `{close}` is missing")));
            }
        }
        Ok((values, has_comma))
    }

    /// Reads a dictionary or a set.
    fn braces(&mut self, depth: usize) -> Result<Value, String> {
        self.take("{");
        let (mut fields, mut values) = (Map::new(), Vec::new());
        while !self.take("}") {
            let first = self.value(depth + 1)?;
            if self.take(":") {
                let value = self.value(depth + 1)?;
                fields.insert(key(&first), value);
            } else {
                values.push(first);
            }
            if !self.take(",") && !self.rest.trim_start().starts_with('}') {
                return Err(self.fault("`,` or `}` is missing"));
            }
        }
        match (fields.is_empty(), values.is_empty()) {
            (false, false) => Err(self.fault("is neither a dictionary nor a set")),
            (true, false) => Ok(Value::Array(values)),
            _ => Ok(Value::Object(fields)),
        }
    }

    /// Reads consecutive texts, which Python joins.
    fn texts(&mut self) -> Result<String, String> {
        let mut joined = String::new();
        loop {
            self.space();
            match self.rest.chars().next() {
                Some(quote @ ('\'' | '"')) => {
                    let triple = quote.to_string().repeat(3);
                    let is_triple = self.rest.starts_with(&triple);
                    self.rest = &self.rest[if is_triple { 3 } else { 1 }..];
                    let end = if is_triple { triple } else { quote.to_string() };
                    self.text(&end, &mut joined)?;
                }
                _ => return Ok(joined),
            }
        }
    }

    fn text(&mut self, end: &str, joined: &mut String) -> Result<(), String> {
        loop {
            if let Some(rest) = self.rest.strip_prefix(end) {
                self.rest = rest;
                return Ok(());
            }
            let Some(next) = self.rest.chars().next() else { return Err(self.fault("a text does not end")) };
            self.rest = &self.rest[next.len_utf8()..];
            if next == '\\' { self.escape(joined)? } else { joined.push(next) }
        }
    }

    fn escape(&mut self, joined: &mut String) -> Result<(), String> {
        let Some(next) = self.rest.chars().next() else { return Err(self.fault("a text does not end")) };
        self.rest = &self.rest[next.len_utf8()..];
        let digits = match next {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => {
                match other {
                    'n' => joined.push('\n'),
                    't' => joined.push('\t'),
                    'r' => joined.push('\r'),
                    'a' => joined.push('\x07'),
                    'b' => joined.push('\x08'),
                    'v' => joined.push('\x0b'),
                    'f' => joined.push('\x0c'),
                    '0'..='7' => {
                        // At most three octal digits are one character.
                        let is_octal = |digit: &u8| matches!(digit, b'0'..=b'7');
                        let more = self.rest.bytes().take(2).take_while(is_octal).count();
                        let digits = format!("{other}{}", &self.rest[..more]);
                        let code = u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32);
                        joined.push(code.unwrap_or('\u{FFFD}'));
                        self.rest = &self.rest[more..];
                    }
                    'N' => return Err(self.fault("characters by their names, as in \\N{BULLET}, are not known")),
                    '\n' => {}
                    '\\' | '\'' | '"' => joined.push(other),
                    // Python keeps unknown escapes unchanged.
                    _ => joined.extend(['\\', other]),
                }
                return Ok(());
            }
        };
        let code = self.rest.get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        let code = code.ok_or_else(|| self.fault("an escape sequence is incomplete"))?;
        self.rest = &self.rest[digits..];
        joined.push(char::from_u32(code).unwrap_or('\u{FFFD}'));
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let is_of_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let length = self.rest.find(|c: char| !is_of_number(c)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(length);
        let digits = digits.replace('_', "");
        let found = digits.parse::<i64>().map(Value::from).ok().or_else(|| digits.parse::<u64>().map(Value::from).ok());
        let found = found.or_else(|| {
            let digits = digits.trim_end_matches('L');
            let number = digits.parse::<f64>().ok()?;
            // As in JSON, an integer of more than 64 bits is a text.
            let is_integer = digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+'));
            Some(match Number::from_f64(number) {
                _ if is_integer && number.abs() >= 2_f64.powi(63) => Value::from(digits),
                found => found.map_or(Value::Null, Value::Number),
            })
        });
        let found = found.ok_or_else(|| self.fault(&format!("`{digits}` is not a number")))?;
        self.rest = rest;
        Ok(found)
    }

    /// Reads a named value such as `None`, or the letter before a text.
    fn word(&mut self) -> Result<Value, String> {
        let length = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        let is_text = rest.starts_with(['\'', '"']);
        let value = match word {
            "None" | "nan" | "inf" => Value::Null,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "u" | "b" | "U" | "B" if is_text => {
                self.rest = rest;
                return self.texts().map(Value::String);
            }
            _ => return Err(self.fault(&format!("`{word}` is not a plain value"))),
        };
        self.rest = rest;
        Ok(value)
    }
}

/// Returns a dictionary key as text.
pub(super) fn key(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn literals_are_read_as_python_writes_them() {
        let cases = [
            ("None", json!(null)),
            ("[True, False, nan]", json!([true, false, null])),
            ("(1,)", json!([1])),
            ("(1)", json!(1)),
            ("()", json!([])),
            ("{}", json!({})),
            ("{1, 2}", json!([1, 2])),
            ("{'a': 1, 2: [3.5, -4e2], (1, 2): u'x',}", json!({"a": 1, "2": [3.5, -400.0], "[1,2]": "x"})),
            (r#"'it\'s' " \x41\u00e9\n\q" b'c'"#, json!("it's A\u{e9}\n\\q")),
            (r"'\101\0\1012 \18\a\f'", json!("A\0A2 \u{1}8\u{7}\u{c}")),
            ("'''a\n'b' '''", json!("a\n'b' ")),
            ("18446744073709551615", json!(u64::MAX)),
            ("20000000000000000000011L", json!("20000000000000000000011")),
        ];
        for (text, expected) in cases {
            // Python never joins bytes and texts, so the case above does not contain both.
            let text = text.replace(" b'c'", "");
            assert_eq!(parse(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_place() {
        for (text, expected) in [
            ("[1", "`,` or `]` is missing at character 2"),
            ("[1 2]", "`,` or `]` is missing"),
            ("'a", "a text does not end"),
            (r"'\N{BULLET} a'", "characters by their names, as in \\N{BULLET}, are not known at character 3"),
            ("open('x')", "`open` is not a plain value at character 0"),
            ("1 2", "unexpected text after"),
            ("{1: 2, 3}", "neither a dictionary nor a set"),
            ("", "a value is missing"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.contains(expected), "{text}: {fault}");
        }
        assert!(parse(&"[".repeat(100_000)).unwrap_err().contains("too deep"));
    }

    #[test]
    fn a_broken_line_costs_only_itself() {
        let mut found = Vec::new();
        read(b"{'a': 1}\n{'a'\n(1, 2)\n".as_slice(), &mut |number, content| {
            found.push((number, content.ok().and_then(|row| row.parsed().ok())));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found, [(0, Some(json!({"a": 1}))), (1, None), (2, Some(json!({"_value": [1, 2]})))]);
    }
}
