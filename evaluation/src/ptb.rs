//! Tokens of captions as in coco-caption.
//!
//! coco-caption runs `edu.stanford.nlp.process.PTBTokenizer -preserveLines -lowerCase` of Stanford
//! CoreNLP 3.4.1 and then drops 17 tokens of punctuation. The rules below were written for this
//! project: they cover the usual classes of tokens of that program (words, numbers, abbreviations,
//! …) and were adjusted until the outputs were equal; no file of its source was read. Each rule is
//! needed for at least one line of the golden file. As in that program, the longest match at a
//! position wins, and the first rule among matches of equal length.
//!
//! Some of what it does is surprising, and scores depend on it: brackets stay, as `-lrb-` and
//! `-rrb-`, since they are lower-cased before they are compared with the list; `!!` and `?!` stay,
//! as only single marks are dropped; `£` becomes `#` and `€` becomes `$`; and characters outside
//! the Basic Multilingual Plane, such as most emoji, are dropped.

use std::sync::LazyLock;

use regex::Regex;

/// Tokens that coco-caption drops. Those in capitals never occur, since tokens are in lower case by
/// then.
const DROPPED: &[&str] =
    &["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// The token that a match becomes.
#[derive(Clone, Copy)]
enum Token {
    /// The match itself.
    Same,
    /// Two tokens, split this many characters before the end.
    SplitBeforeLast(usize),
    /// This token instead of the match.
    Replaced(&'static str),
    /// The match with its brackets written as `-lrb-` and so on.
    Brackets,
    /// Two hyphens for three or four of them, otherwise the match itself.
    Hyphens,
}

/// Named parts of patterns, in braces.
const PARTS: &[(&str, &str)] = &[
    ("{LETTER}", r"[\p{L}\p{M}]"),
    ("{ALNUM}", r"[\p{L}\p{M}\p{Nd}]"),
    ("{DIGIT}", r"\p{Nd}"),
    ("{APOS}", r"(?:['\x{92}\x{2019}]|&apos;)"),
    ("{QUOTE}", r"(?:['\x{92}\x{2019}`\x{91}\x{2018}\x{201B}]|&apos;)"),
    ("{NUM}", r"(?:\p{Nd}*(?:[.:,\x{AD}\x{66B}\x{66C}]\p{Nd}+)+|\p{Nd}+)"),
    ("{MONTH}", "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"),
    ("{DAY}", "Mon|Tues?|Wed|Thurs?|Thu|Fri"),
    (
        "{STATE}",
        "Ala|Ariz|(?-i:A)rk|Calif|Colo|Conn|Ct|Dak|Del|Fla|Ga|(?-i:I)ll|Ind|Kans?|Ky|(?-i:L)a|(?-i:M)ass|Md|Mich|Minn|(?-i:M)iss|Mont|Mo|Neb|Nev|Okla|(?-i:O)re|Penn|(?-i:P)a|Tenn|(?-i:T)ex|Va|Vt|(?-i:W)ash|Wisc?|Wyo",
    ),
    ("{COMPANY}", "Inc|Cos?|Corp|Pt[ye]s?|Ltd|Plc|Bancorp|Dept|Bhd|Assn|Univ|Intl|Sys"),
    (
        "{TITLE}",
        "Mrs?|Ms|Drs?|Profs?|Sens?|Reps?|Lieut|Lt|Col|Gen|Messrs|Govs?|Adm|Rev|Maj|Sgt|Cpl|Pvt|Capt|Ste?|Ave|Pres|Hon|Brig|Co?mdr|Pfc|Spc|Supts?|Det|Mt|Ft|Rd|Blvd|Jr|Sr|Bros|Ed\\.D|Ph\\.D|Esq",
    ),
];

/// Patterns and the tokens of their matches. If a pattern has a group, the group is the token, and
/// the rest of the pattern must follow it.
const RULES: &[(&str, Token)] = &[
    // Mark-up and entities.
    (
        r#"<(?:[!?][A-Za-z-][^>]*|/?[A-Za-z][A-Za-z0-9:.-]*(?: +[A-Za-z][A-Za-z0-9_:.-]*(?: *= *(?:'[^']*'|"[^"]*"|[A-Za-z0-9_:.-]+))?)* */?)>"#,
        Token::Same,
    ),
    (r"(?i:&amp;)", Token::Replaced("&")),
    (r"(?i:&lt;)", Token::Replaced("<")),
    (r"(?i:&gt;)", Token::Replaced(">")),
    (r"&(?:MD|mdash|ndash);|[\x{96}\x{97}\x{2013}-\x{2015}]", Token::Replaced("--")),
    // Two words that are written as one.
    (r"(?i:cannot)", Token::SplitBeforeLast(3)),
    (r"(?i:gonna|gotta|lemme|gimme|wanna)", Token::SplitBeforeLast(2)),
    (r"((?i:{APOS}t))(?i:is|was)", Token::Same),
    // Words, with a full stop or mark inside, and numbers of letters and digits.
    (r"{LETTER}{ALNUM}*(?:[.!?]{LETTER}{ALNUM}*)*", Token::Same),
    (r"(?:[dDoOlL]{QUOTE}\p{L})?{ALNUM}+(?:[-_](?:[dDoOlL]{QUOTE}\p{L})?{ALNUM}+)*", Token::Same),
    (r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", Token::Same),
    (r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", Token::Same),
    (r"[A-Za-z0-9][A-Za-z0-9.,\x{AD}]*(?:-[A-Za-z0-9\x{AD}]+)+", Token::Same),
    (r"[Cc]\+\+|[CF]#", Token::Same),
    // Apostrophes.
    (
        r"{APOS}n{APOS}|[lLdDjJ]{APOS}|(?:Dunkin|somethin|ol){APOS}|{APOS}em|{APOS}[2-9]0s|{APOS}till?|{APOS}cause|cont{APOS}d\.?|nor{APOS}easter|[Cc]{APOS}mon|e{APOS}er|s{APOS}mores|ev{APOS}ry|li{APOS}l|nat{APOS}l",
        Token::Same,
    ),
    (r"({APOS}n)(?:[^A-Za-z]|$)", Token::Same),
    (r"\p{L}+[aeiouyAEIOUY]{APOS}[aeiouA-Z]\p{L}*", Token::Same),
    (r"(y{APOS})\p{L}", Token::Same),
    (r"([A-Za-z]*[A-MO-Za-mo-z])[nN]{QUOTE}[tT]", Token::Same),
    (r"([nN]{QUOTE}[tT])(?:[^A-Za-z]|$)", Token::Same),
    (r"({APOS}(?:[msdMSD]|re|ve|ll|RE|VE|LL))(?:[^A-Za-z]|$)", Token::Same),
    // Abbreviations.
    (r"(?i:{MONTH}|{DAY}|{STATE}|{COMPANY}|{TITLE}|etc|vs|alex|wm|jos|cie|cf|al|seq)\.", Token::Same),
    (r"((?i:ca|figs?|prop|nos?|art|bldg|pp|op)\.) ?{DIGIT}", Token::Same),
    (r"[A-Za-z](?:\.[A-Za-z])+\.", Token::Same),
    // A single letter keeps its full stop unless it ends a sentence. At the end of a caption the
    // Java program looks at the next caption, which nearly always begins with one of these words.
    (r"([A-Za-z])\.(?:\s+(?:An?|At|He|In|It|On|She|The|There|These|They|This|Two|We)\b|\s*$)", Token::Same),
    (r"[A-Za-z]\.", Token::Same),
    // Numbers.
    (r"[-+]?{NUM}", Token::Same),
    (r"(?:{DIGIT}{1,4}[- \x{A0}])?{DIGIT}{1,4}(?:/|\x{2044}){DIGIT}{1,4}", Token::Same),
    (r"\x{BC}", Token::Replaced("1/4")),
    (r"\x{BD}", Token::Replaced("1/2")),
    (r"\x{BE}", Token::Replaced("3/4")),
    (r"\x{2153}", Token::Replaced("1/3")),
    (r"\x{2154}", Token::Replaced("2/3")),
    (
        r"(?:\([0-9]{2,3}\)[ \x{A0}]?|(?:\+\+?)?(?:[0-9]{2,4}[- \x{A0}])?[0-9]{2,4}[- \x{A0}])[0-9]{3,4}[- \x{A0}]?[0-9]{3,5}",
        Token::Brackets,
    ),
    // Currencies.
    (r"[A-Z]*\$|#", Token::Same),
    (r"\x{A2}", Token::Replaced("cents")),
    (r"\x{A3}", Token::Replaced("#")),
    (r"[\x{80}\x{20AC}]", Token::Replaced("$")),
    // Addresses and names of the web.
    (r#"https?://[^ \t"<>|(){}]+[^ \t"<>|.!?(){},-]"#, Token::Same),
    (r#"[a-zA-Z0-9][^ \t"<>|(){},@]*@[^ \t"<>|(){},@.]+(?:\.[^ \t"<>|(){},@.!?]+)+"#, Token::Same),
    (r"@[A-Za-z_][A-Za-z_0-9]*|#{LETTER}+", Token::Same),
    // Faces.
    (r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", Token::Brackets),
    // Marks.
    (r"[(\[{)\]}]", Token::Brackets),
    (r"\.{3,5}|(?:\.[ \x{A0}]){2,4}\.|[\x{85}\x{2026}]", Token::Replaced("...")),
    (r"-+", Token::Hyphens),
    (r"[?!]+", Token::Same),
    (r#"''|["\x{94}\x{201D}\x{201C}\x{93}\x{AB}\x{BB}\x{201E}]|&quot;|``"#, Token::Replaced("''")),
    (r"{QUOTE}", Token::Replaced("'")),
];

static COMPILED: LazyLock<Vec<(Regex, Token)>> = LazyLock::new(|| {
    let compiled = RULES.iter().map(|(pattern, token)| {
        let mut whole = format!("^(?:{pattern})");
        for (name, part) in PARTS {
            whole = whole.replace(name, part);
        }
        (Regex::new(&whole).expect("a constant pattern, compiled by tests"), *token)
    });
    compiled.collect()
});

/// Returns the tokens of a caption in lower case, without punctuation.
pub fn tokens(caption: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = caption;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() || first.is_control() {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let Some((token, end)) = longest(rest) else {
            if u32::from(first) <= 0xFFFF {
                tokens.push(first.to_string());
            }
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = rest_after(rest, token, end, &mut tokens);
    }
    for token in &mut tokens {
        *token = token.to_lowercase();
    }
    tokens.retain(|token| !DROPPED.contains(&token.as_str()));
    tokens
}

/// Returns the rule with the longest match and where the token ends.
fn longest(text: &str) -> Option<(Token, usize)> {
    let mut best: Option<(Token, usize, usize)> = None;
    for (pattern, token) in COMPILED.iter() {
        let found = if pattern.captures_len() > 1 {
            pattern.captures(text).and_then(|groups| Some((groups.get(0)?.end(), groups.get(1)?.end())))
        } else {
            pattern.find(text).map(|found| (found.end(), found.end()))
        };
        if let Some((length, end)) = found
            && best.is_none_or(|(_, longest, _)| longest < length)
        {
            best = Some((*token, length, end));
        }
    }
    best.map(|(token, _, end)| (token, end))
}

/// Adds the tokens of a match and returns what comes after it.
fn rest_after<'a>(text: &'a str, token: Token, end: usize, tokens: &mut Vec<String>) -> &'a str {
    let matched = &text[..end];
    match token {
        Token::Same => tokens.push(as_written(matched)),
        Token::SplitBeforeLast(length) => {
            tokens.push(matched[..end - length].to_owned());
            tokens.push(matched[end - length..].to_owned());
        }
        Token::Replaced(token) => tokens.push(token.to_owned()),
        Token::Brackets => {
            let mut replaced = as_written(matched);
            for (bracket, name) in
                [("(", "-lrb-"), (")", "-rrb-"), ("[", "-lsb-"), ("]", "-rsb-"), ("{", "-lcb-"), ("}", "-rcb-")]
            {
                replaced = replaced.replace(bracket, name);
            }
            tokens.push(replaced);
        }
        Token::Hyphens => tokens.push(if (3..=4).contains(&end) { "--".to_owned() } else { matched.to_owned() }),
    }
    &text[end..]
}

/// Returns a token as the Java program writes it: with plain apostrophes, and with no-break spaces
/// where spaces are part of it, as in `3 1/2`.
fn as_written(text: &str) -> String {
    text.replace(['\u{92}', '\u{2019}'], "'").replace("&apos;", "'").replace(' ', "\u{a0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captions of COCO (CC BY 4.0) and Open Clip Art (public domain) and lines made up to be hard,
    /// with the tokens of the Java program; see `fixtures/SOURCES.tsv`.
    #[test]
    fn tokens_are_those_of_the_java_program() {
        let path = format!("{}/fixtures/ptb_tokens.tsv", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(path).unwrap();
        let mut different = Vec::new();
        let mut lines = 0;
        for line in golden.lines() {
            let (caption, expected) = line.split_once('\t').unwrap();
            lines += 1;
            let found = tokens(caption).join(" ");
            if found != expected {
                different.push(format!("{caption}\n  expected {expected}\n  found    {found}"));
            }
        }
        assert!(different.is_empty(), "{} of {lines} lines differ:\n{}", different.len(), different.join("\n"));
    }
}
