//! Finds the bounds that the predicate of a rule sets on a signal, so that they can be drawn into
//! its histogram.

/// One token of SQL, as far as bounds need it.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A keyword or an unquoted name in lower case, which is how SQL reads it, or a quoted name as
    /// it is.
    Word(String),
    Number(f64),
    /// One of `<`, `<=`, `>`, `>=`.
    Comparison,
    Open,
    Close,
    Other,
}

/// Returns the bounds that `predicate` sets on `signal`, in rising order, each once.
///
/// It recognises `signal >= number` (any of `<`, `<=`, `>`, `>=`, and with the sides swapped) and
/// `signal between number and number`, alone or joined by `and` and `or`. A bound on another
/// expression, such as `width * height >= 4096`, is not a bound on `height` and is ignored.
pub fn thresholds_in(predicate: &str, signal: &str) -> Vec<f64> {
    let tokens = tokens_of(predicate);
    let mut found = Vec::new();
    for place in 0..tokens.len() {
        if !starts_an_operand(&tokens, place) {
            continue;
        }
        let is_signal = |token: &Token| matches!(token, Token::Word(word) if word == signal);
        match &tokens[place..] {
            [name, Token::Comparison, Token::Number(bound), rest @ ..] if is_signal(name) && ends_an_operand(rest) => {
                found.push(*bound);
            }
            [Token::Number(bound), Token::Comparison, name, rest @ ..] if is_signal(name) && ends_an_operand(rest) => {
                found.push(*bound);
            }
            [name, range @ ..] if is_signal(name) => {
                let range = if is_word(range.first(), "not") { &range[1..] } else { range };
                if let [between, Token::Number(low), and, Token::Number(high), rest @ ..] = range
                    && is_word(Some(between), "between")
                    && is_word(Some(and), "and")
                    && ends_an_operand(rest)
                {
                    found.extend([*low, *high]);
                }
            }
            _ => {}
        }
    }
    found.sort_by(f64::total_cmp);
    found.dedup();
    found
}

fn is_word(token: Option<&Token>, word: &str) -> bool {
    matches!(token, Some(Token::Word(found)) if found == word)
}

fn is_joint(token: Option<&Token>) -> bool {
    ["and", "or", "not"].iter().any(|joint| is_word(token, joint))
}

/// Returns whether a comparison may start at `place`: nothing before it can belong to the same
/// expression.
fn starts_an_operand(tokens: &[Token], place: usize) -> bool {
    let before = |steps: usize| place.checked_sub(steps).map(|place| &tokens[place]);
    match before(1) {
        None => true,
        Some(Token::Open) => match before(2) {
            Some(Token::Word(_)) => is_joint(before(2)), // otherwise a function call
            Some(Token::Other | Token::Comparison | Token::Number(_) | Token::Close) => false,
            Some(Token::Open) | None => true,
        },
        token => is_joint(token),
    }
}

/// Returns whether a comparison may end before `rest`.
fn ends_an_operand(rest: &[Token]) -> bool {
    matches!(rest.first(), None | Some(Token::Close)) || is_joint(rest.first())
}

fn tokens_of(predicate: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = predicate;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let second = after.chars().next();
        let sign_is_unary = match tokens.last() {
            None | Some(Token::Comparison | Token::Open) => true,
            Some(Token::Word(word)) => ["and", "or", "not", "between"].contains(&word.as_str()),
            Some(Token::Number(_) | Token::Close | Token::Other) => false,
        };
        let starts_number =
            |c: char, next: Option<char>| c.is_ascii_digit() || (c == '.' && next.is_some_and(|c| c.is_ascii_digit()));
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' || first == '\'' {
            let (text, length) = quoted(rest, first);
            tokens.push(if first == '"' { Token::Word(text) } else { Token::Other });
            length
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_lowercase()));
            length
        } else if starts_number(first, second)
            || (matches!(first, '-' | '+')
                && sign_is_unary
                && second.is_some_and(|c| starts_number(c, after.chars().nth(1))))
        {
            let length = number_length(rest);
            tokens.push(rest[..length].parse().map_or(Token::Other, Token::Number));
            length
        } else if first == '<' || first == '>' {
            let (token, length) = match second {
                Some('=') => (Token::Comparison, 2),
                Some('>' | '<') => (Token::Other, 2), // unequal, or a shift
                _ => (Token::Comparison, 1),
            };
            tokens.push(token);
            length
        } else {
            tokens.push(match first {
                '(' => Token::Open,
                ')' => Token::Close,
                _ => Token::Other,
            });
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// Returns the text between quotes, with doubled quotes read as one, and its length in bytes
/// including the quotes.
fn quoted(sql: &str, quote: char) -> (String, usize) {
    let mut text = String::new();
    let mut chars = sql.char_indices().skip(1).peekable();
    while let Some((place, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return (text, place + 1);
        }
    }
    (text, sql.len())
}

/// Returns the length in bytes of the number at the start of `sql`: sign, digits, point, exponent.
fn number_length(sql: &str) -> usize {
    let mut before = ' ';
    for (place, c) in sql.char_indices() {
        let sign = matches!(c, '+' | '-') && (place == 0 || matches!(before, 'e' | 'E'));
        if !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || sign) {
            return place;
        }
        before = c;
    }
    sql.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_plain_bounds() {
        assert_eq!(thresholds_in("aspect_ratio <= 3", "aspect_ratio"), [3.0]);
        assert_eq!(thresholds_in("sharpness>0.25", "sharpness"), [0.25]);
        assert_eq!(thresholds_in("2e-3 < contrast", "contrast"), [0.002]);
        assert_eq!(thresholds_in("x >= -.5", "x"), [-0.5]);
        assert_eq!(thresholds_in("WIDTH >= 200", "width"), [200.0]);
        assert_eq!(thresholds_in("\"Width\" >= 200", "Width"), [200.0]);
    }

    #[test]
    fn finds_ranges_and_joined_bounds() {
        assert_eq!(thresholds_in("caption_words between 3 and 40", "caption_words"), [3.0, 40.0]);
        assert_eq!(thresholds_in("x NOT BETWEEN -2 AND -1", "x"), [-2.0, -1.0]);
        let joined = "(caption_words >= 3 and caption_words < 75) and width > 9 -- width < 5\n and height >= 8";
        assert_eq!(thresholds_in(joined, "caption_words"), [3.0, 75.0]);
        assert_eq!(thresholds_in(joined, "width"), [9.0]);
        assert_eq!(thresholds_in(joined, "height"), [8.0]);
        assert_eq!(thresholds_in("language = 'zh' or not (x > 5)", "x"), [5.0]);
        assert_eq!(thresholds_in("x > 5 or x > 5", "x"), [5.0]);
    }

    #[test]
    fn leaves_out_bounds_on_something_else() {
        for (predicate, signal) in [
            ("width * height >= 4096", "height"),
            ("height >= 3 * 5", "height"),
            ("4096 <= height * width", "height"),
            ("abs(x) > 3", "x"),
            ("least(width, height) >= 200", "height"),
            ("coalesce(x > 3, true)", "x"),
            ("y - (x > 3)", "x"),
            ("note = 'x > 3'", "x"),
            ("language = 'en'", "language"),
            ("x <> 3", "x"),
            ("x << 3", "x"),
            ("x between 3 and y", "x"),
            ("xx > 3", "x"),
            ("x > 1.2.3", "x"),
            ("x >", "x"),
            ("x > 'it''s", "x"),
            ("", "x"),
        ] {
            assert_eq!(thresholds_in(predicate, signal), [0.0; 0], "{predicate}");
        }
    }
}
