//! Splits lines of tab-separated values. Captions often hold quotation marks that quote nothing. So
//! quotation marks count as quotes only if the row then has the right number of fields.

use std::ops::Range;

use super::csv::Field;

/// Splits a line at separators. If that gives too many fields, tries again with separators inside
/// quotes as part of a field.
pub(super) fn split(line: &[u8], separator: u8, count: Option<usize>) -> Vec<Field> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\r' | b'\n');
    let start = line.iter().take_while(|byte| is_blank(byte)).count();
    let end = line.len() - line[start..].iter().rev().take_while(|byte| is_blank(byte)).count();
    let plain = split_at(line, start..end, separator, false);
    let ranges = match count {
        Some(count) if plain.len() > count => {
            Some(split_at(line, start..end, separator, true)).filter(|quoted| quoted.len() == count)
        }
        _ => None,
    };
    ranges.unwrap_or(plain).into_iter().map(|range| unquoted(line, range)).collect()
}

fn split_at(line: &[u8], whole: Range<usize>, separator: u8, knows_quotes: bool) -> Vec<Range<usize>> {
    let mut fields = Vec::new();
    let (mut start, mut inside) = (whole.start, false);
    for position in whole.clone() {
        match line[position] {
            b'"' => inside = inside || (knows_quotes && position == start),
            byte if byte == separator && (!inside || closes(&line[start..position])) => {
                fields.push(start..position);
                (start, inside) = (position + 1, false);
            }
            _ => {}
        }
    }
    fields.push(start..whole.end);
    fields
}

/// Returns whether a field that begins with a quote is closed by its last character. Quotes inside
/// are doubled, so the total number of quotes must be even.
fn closes(field: &[u8]) -> bool {
    let is_even = field.iter().fold(true, |is_even, byte| is_even ^ (*byte == b'"'));
    field.len() > 1 && field.ends_with(b"\"") && is_even
}

/// Returns a field without its quotes if it is properly quoted, otherwise unchanged.
fn unquoted(line: &[u8], range: Range<usize>) -> Field {
    let field = &line[range.clone()];
    let inside = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inside) = inside else { return Field::Part(range) };
    if !inside.contains(&b'"') {
        return Field::Part(range.start + 1..range.end - 1);
    }
    let mut plain = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'"' && bytes.next_if_eq(&b'"').is_none() {
            return Field::Part(range);
        }
        plain.push(byte);
    }
    Field::Own(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str, count: usize) -> Vec<String> {
        let fields = split(line.as_bytes(), b'\t', Some(count));
        fields.iter().map(|field| String::from_utf8(field.bytes(line.as_bytes()).to_vec()).unwrap()).collect()
    }

    #[test]
    fn quotes_are_removed_only_where_they_quote() {
        for (field, expected) in [
            ("plain", "plain"),
            ("\"quoted\"", "quoted"),
            ("\"he said \"\"hi\"\"\"", "he said \"hi\""),
            ("\"a\" and \"b\"", "\"a\" and \"b\""),
            ("12\" pizza", "12\" pizza"),
            ("\" unfinished", "\" unfinished"),
            ("\"\"", ""),
            ("\"", "\""),
        ] {
            assert_eq!(fields(field, 1), [expected]);
        }
    }

    #[test]
    fn tabs_inside_quotes_are_kept_if_the_row_is_right_then() {
        assert_eq!(fields("u\t\"a\tb\"", 2), ["u", "a\tb"]);
        assert_eq!(fields("\"a\tb\"\tu", 2), ["a\tb", "u"]);
        assert_eq!(fields("\" a\tu", 2), ["\" a", "u"], "a stray quote swallows nothing");
        assert_eq!(fields("\"a\tb\tu", 2).len(), 3, "too many fields stay too many");
        assert_eq!(fields("a\tb\t", 3), ["a", "b", ""]);
        assert_eq!(fields(" a\tb \r\n", 2), ["a", "b"], "white space around a line is no part of it");
    }
}
