//! White space, digits, numbers and lists of texts as in Python, since the official scripts are in
//! Python.

use std::sync::LazyLock;

use regex::Regex;

static DECIMAL_DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d$").expect("a constant pattern"));

/// Returns whether a character is white space for Python's `str.split` and `str.strip`: that of
/// Unicode and the four separators of ASCII.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Returns whether Python's `\d` matches a character: any decimal digit of Unicode.
pub(crate) fn is_digit(character: char) -> bool {
    character.is_ascii_digit() || (!character.is_ascii() && DECIMAL_DIGIT.is_match(character.encode_utf8(&mut [0; 4])))
}

/// Splits as Python's `str.split()`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Strips as Python's `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Reads a number as Python's `float`: with white space around it, single underscores between
/// digits, digits of any script, `inf` and `nan`. Unlike `str.strip`, `float` does not strip the
/// four separators of ASCII.
pub(crate) fn float(text: &str) -> Option<f64> {
    let digits: Vec<char> = text.trim().chars().map(ascii_digit).collect();
    let is_digit_at = |index: usize| digits.get(index).is_some_and(char::is_ascii_digit);
    let mut plain = String::new();
    for (index, character) in digits.iter().enumerate() {
        match character {
            '_' if index > 0 && is_digit_at(index - 1) && is_digit_at(index + 1) => {}
            '_' => return None,
            other => plain.push(*other),
        }
    }
    plain.parse().ok()
}

/// Returns the ASCII digit of a decimal digit in another script; other characters stay. Decimal
/// digits of Unicode are in runs that begin with a zero (The Unicode Standard, section 4.6).
fn ascii_digit(character: char) -> char {
    if character.is_ascii() || !is_digit(character) {
        return character;
    }
    let code = u32::from(character);
    let before = (1..=code).take_while(|back| char::from_u32(code - back).is_some_and(is_digit)).count();
    char::from_digit(before as u32 % 10, 10).unwrap_or(character)
}

/// Reads a list of texts as Python writes it, such as `['3x', "it's"]`. Texts may have the escapes
/// that Python writes; as in Python, another backslash is a character. `None` if it is anything
/// else: numbers, other lists, prefixes, and escapes by octal number or by name are not read.
pub(crate) fn texts(list: &str) -> Option<Vec<String>> {
    let mut rest = list.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (text, after) = quoted(rest)?;
        texts.push(text);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(texts)
}

/// Reads a text in quotes, and returns it with what follows.
fn quoted(source: &str) -> Option<(String, &str)> {
    let mut characters = source.chars();
    let quote = characters.next().filter(|quote| ['\'', '"'].contains(quote))?;
    let mut text = String::new();
    loop {
        match characters.next()? {
            '\n' => return None,
            '\\' => match characters.next()? {
                escaped @ ('\\' | '\'' | '"') => text.push(escaped),
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'a' => text.push('\u{7}'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'v' => text.push('\u{b}'),
                '\n' => {}
                kind @ ('x' | 'u' | 'U') => {
                    let length = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let after = characters.as_str();
                    let digits =
                        after.get(..length).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
                    text.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                    characters = after[length..].chars();
                }
                '0'..='7' | 'N' => return None,
                other => text.extend(['\\', other]),
            },
            end if end == quote => return Some((text, characters.as_str())),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // By Python 3.11.
    #[test]
    fn numbers_are_those_of_python() {
        for (text, value) in [
            ("1", Some(1.0)),
            (" 7\n", Some(7.0)),
            ("1_000", Some(1000.0)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("٣", Some(3.0)),
            ("５.５", Some(5.5)),
            ("𝟗", Some(9.0)),
            ("1,000", None),
            ("0x10", None),
            ("", None),
            (".", None),
            ("1.", Some(1.0)),
            (".5", Some(0.5)),
            ("-1e3", Some(-1000.0)),
            ("Infinity", Some(f64::INFINITY)),
            ("½", None),
            ("5\u{1c}", None),
            ("5\u{1f}", None),
            ("\u{1f}٣", None),
            ("٣\u{1f}", None),
            ("5\u{b}\u{c}", Some(5.0)),
            ("5\u{85}", Some(5.0)),
            ("\u{a0}5\u{2028}\u{3000}", Some(5.0)),
            ("5\u{200b}", None),
            ("5\u{180e}", None),
        ] {
            assert_eq!(float(text), value, "{text:?}");
        }
        assert!(float("nan").is_some_and(f64::is_nan));
    }

    #[test]
    fn white_space_is_that_of_python() {
        assert_eq!(words("a\u{a0}b\u{1f}c\u{200b}d  e").collect::<Vec<_>>(), ["a", "b", "c\u{200b}d", "e"]);
        assert!(is_digit('٣') && !is_digit('²') && !is_digit('½'));
    }
}
