//! robots.txt: which paths of a host a crawler may fetch (RFC 9309).
//!
//! Only the rules of the groups for one product token are kept, or those for `*` if no group names
//! the token. The caller fetches the file and handles missing or unreachable files (RFC 9309,
//! section 2.3.1). `Crawl-delay` is not part of the standard and is ignored.

use std::cmp::Reverse;

/// Bytes of a file that are parsed. RFC 9309, section 2.5, asks for at least 500 KiB, which is also
/// Google's limit.
const MAX_BYTES: usize = 500 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rules of a robots.txt for one crawler. The default allows everything, as an empty file does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Robots {
    /// Sorted: the longest pattern first; of equally long ones, those that allow first.
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// Normalised, see [`normalise`]: `*` matches any characters, a final `$` the end. Literal `*`
    /// and `$` are percent-encoded.
    pattern: Box<str>,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Allow,
    Disallow,
}

impl Robots {
    /// Parses a file. Lines that are not rules are ignored. `product` is the crawler's product
    /// name, or a whole `User-Agent` header that begins with it, such as `lynxdata/1.0 (image
    /// dataset downloader)`.
    ///
    /// Of a longer file, the whole lines within the first 500 KiB are parsed.
    pub(crate) fn parse(bytes: &[u8], product: &str) -> Robots {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let mut parser = Parser::new(product_name(product.as_bytes()));
        for line in whole_lines(bytes).split(|byte| matches!(byte, b'\r' | b'\n')) {
            parser.line(line);
        }
        parser.finish()
    }

    /// Returns the approximate memory of the rules, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.rules.iter().map(|rule| size_of::<Rule>() + rule.pattern.len()).sum()
    }

    /// Returns whether a URL may be fetched, given its path and query.
    ///
    /// The longest matching pattern decides. Of equally long ones, one that allows wins. If no
    /// pattern matches, the URL may be fetched. Takes time of at most the number of rules times the
    /// length of the path.
    pub(crate) fn allows(&self, path_and_query: &str) -> bool {
        let path = path_and_query.split('#').next().unwrap_or_default();
        if path == "/robots.txt" {
            return true;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = normalise(format!("{slash}{path}").as_bytes(), Side::Url);
        let rule = self.rules.iter().find(|rule| matches(&rule.pattern, &path));
        rule.is_none_or(|rule| rule.verdict == Verdict::Allow)
    }
}

/// Returns the part of the file that is parsed, without a line that is cut at its end.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let Some(head) = bytes.get(..MAX_BYTES).filter(|_| bytes.len() > MAX_BYTES) else { return bytes };
    let end = head.iter().rposition(|byte| matches!(byte, b'\r' | b'\n'));
    &head[..end.unwrap_or(0)]
}

/// Returns the product name at the beginning of a text. A product token of RFC 9309, section 2.2.1,
/// has letters, hyphens and underscores only. But names with digits and dots are in use, such as
/// `img2dataset`, and must not be taken for another name that begins with the same letters.
fn product_name(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')));
    &text[..end.unwrap_or(text.len())]
}

struct Parser<'a> {
    product: &'a [u8],
    /// Rules of the groups that name the product.
    own: Robots,
    /// Rules of the groups for `*`.
    general: Robots,
    /// Whether any group names the product, even one without rules.
    is_named: bool,
    group: Group,
}

/// The current group.
#[derive(Default)]
struct Group {
    for_own: bool,
    for_general: bool,
    /// Whether the group has a rule already, so that the next user agent begins another group.
    has_rules: bool,
}

impl Parser<'_> {
    fn new(product: &[u8]) -> Parser<'_> {
        let (own, general) = (Robots::default(), Robots::default());
        Parser { product, own, general, is_named: false, group: Group::default() }
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (key, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        // Other keys, such as sitemap, do not end a group (RFC 9309, section 2.2.4).
        match key.to_ascii_lowercase().as_slice() {
            b"user-agent" => self.user_agent(value),
            b"allow" => self.rule(Verdict::Allow, value),
            b"disallow" => self.rule(Verdict::Disallow, value),
            _ => {}
        }
    }

    fn user_agent(&mut self, value: &[u8]) {
        if self.group.has_rules {
            self.group = Group::default();
        }
        let is_general = value.first() == Some(&b'*') && value.get(1).is_none_or(u8::is_ascii_whitespace);
        self.group.for_general |= is_general;
        let name = product_name(value);
        if !name.is_empty() && name.eq_ignore_ascii_case(self.product) {
            (self.group.for_own, self.is_named) = (true, true);
        }
    }

    fn rule(&mut self, verdict: Verdict, value: &[u8]) {
        self.group.has_rules = true;
        if value.is_empty() || !(self.group.for_own || self.group.for_general) {
            return; // an empty pattern matches nothing
        }
        let rule = Rule { pattern: normalise(value, Side::Pattern).into(), verdict };
        self.each_group(|group| group.rules.push(rule.clone()));
    }

    /// Applies a change to the rules that the current group belongs to.
    fn each_group(&mut self, change: impl Fn(&mut Robots)) {
        if self.group.for_own {
            change(&mut self.own);
        }
        if self.group.for_general && !self.is_named {
            change(&mut self.general);
        }
    }

    fn finish(self) -> Robots {
        let mut chosen = if self.is_named { self.own } else { self.general };
        let rules = &mut chosen.rules;
        rules.sort_by(|a, b| {
            let key = |rule: &Rule| (Reverse(rule.pattern.len()), rule.verdict);
            key(a).cmp(&key(b)).then_with(|| a.pattern.cmp(&b.pattern))
        });
        rules.dedup();
        rules.shrink_to_fit();
        chosen
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Pattern,
    Url,
}

/// Normalises a path with its query, or a pattern, so that both can be compared (RFC 9309, sections
/// 2.2.2 and 2.2.3). The result is ASCII.
///
/// * Unreserved characters are decoded. Characters that are neither reserved nor unreserved are
///   encoded, with upper-case digits.
/// * Encoded and plain reserved characters are equal. The RFC encodes them to compare; here they
///   are decoded, so that patterns stay readable. Exceptions are a slash and a question mark before
///   the query, whose encoded forms have another meaning there.
/// * `*` and `$` in a URL, and a `$` within a pattern, are encoded. So `%2A` and `%24` in a pattern
///   match the characters themselves.
fn normalise(text: &[u8], side: Side) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut is_query = false;
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let encoded = if first == b'%' { hexadecimal(after) } else { None };
        rest = if encoded.is_some() { &after[2..] } else { after };
        let byte = encoded.unwrap_or(first);
        let stays = match encoded {
            Some(byte) => {
                is_unreserved(byte) || b":@[]!&'()+,;=".contains(&byte) || (is_query && b"/?".contains(&byte))
            }
            None => match first {
                b'*' => side == Side::Pattern,
                b'$' => side == Side::Pattern && rest.is_empty(),
                // A stray percent sign stays, on both sides.
                byte => is_unreserved(byte) || b"%:/?@[]!&'()+,;=".contains(&byte),
            },
        };
        is_query |= first == b'?';
        if stays {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&format!("%{byte:02X}"));
        }
    }
    normal
}

/// Returns whether a byte is unreserved (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Returns the byte that two hexadecimal digits at the beginning encode.
fn hexadecimal(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    Some((16 * digit(0)? + digit(1)?) as u8)
}

/// Returns whether a normalised pattern matches a normalised path, in time linear in both.
///
/// The text between two `*` is matched at the first place possible. An early match never prevents a
/// later one, so no backtracking is needed.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, to_the_end) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|beginning| path.strip_prefix(beginning)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty() || !to_the_end;
    }
    while let Some(part) = parts.next() {
        if to_the_end && parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(text: &str, product: &str, path: &str) -> bool {
        Robots::parse(text.as_bytes(), product).allows(path)
    }

    #[test]
    fn the_group_that_names_the_product_counts_and_else_the_one_for_all() {
        let text = "user-agent: alpha\ndisallow: /a\n\nuser-agent: *\ndisallow: /all\n\nuser-agent: beta\nuser-agent: gamma\ndisallow: /b\n";
        for (product, refused) in
            [("alpha", "/a"), ("ALPHA", "/a"), ("beta", "/b"), ("Gamma/2.1 (x)", "/b"), ("delta", "/all"), ("", "/all")]
        {
            for path in ["/a", "/b", "/all"] {
                // "/all" begins with "/a"
                let is_refused = path == refused || (refused == "/a" && path == "/all");
                assert_eq!(allows(text, product, path), !is_refused, "{product} {path}");
            }
        }
        assert!(allows("user-agent: alpha-news\ndisallow: /", "alpha", "/x"), "a token is compared as a whole");
        assert!(allows("user-agent: alph\ndisallow: /", "alpha", "/x"));
        assert!(!allows("user-agent: alpha/1.0\ndisallow: /", "alpha", "/x"), "a version is no part of the token");
        assert!(!allows("user-agent: alpha bot\ndisallow: /", "alpha", "/x"));
        assert!(!allows("user-agent: * all\ndisallow: /", "alpha", "/x"));
        assert!(allows("user-agent: *all\ndisallow: /", "alpha", "/x"));
        for (name, allowed) in [("img", true), ("img3bot", true), ("IMG2dataset", false), ("img2dataset/1.4", false)] {
            let text = format!("user-agent: {name}\ndisallow: /");
            assert_eq!(allows(&text, "img2dataset/1.45 (x)", "/x"), allowed, "{name}");
        }
    }

    #[test]
    fn groups_of_one_product_are_merged() {
        let text = "user-agent: a\ndisallow: /1\nuser-agent: b\ndisallow: /2\nuser-agent: A\ndisallow: /3\n";
        for (path, allowed) in [("/1", false), ("/2", true), ("/3", false)] {
            assert_eq!(allows(text, "a", path), allowed, "{path}");
        }
        let text = "user-agent: *\ndisallow: /1\nuser-agent: b\ndisallow: /2\nuser-agent: *\ndisallow: /3\n";
        assert!(!allows(text, "a", "/1") && allows(text, "a", "/2") && !allows(text, "a", "/3"));
    }

    #[test]
    fn a_group_without_rules_allows_everything() {
        for text in ["user-agent: a\nuser-agent: b\n\n", "user-agent: *\ndisallow: /\nuser-agent: a\ndisallow:\n"] {
            assert!(allows(text, "a", "/x"), "{text:?}");
        }
        assert!(!allows("user-agent: a\ndisallow:\nuser-agent: *\ndisallow: /", "b", "/x"));
    }

    #[test]
    fn other_lines_neither_end_a_group_nor_disturb() {
        let text = "disallow: /early\nnonsense\n: x\nuser-agent: a\nsitemap: https://example.org/s.xml\ncrawl-delay: 2\nfoo: bar\n\nuser-agent: b\n\
                    disallow: /x # why\n#allow: /x\n\ndisallow: /y\n";
        for product in ["a", "b"] {
            for (path, allowed) in [("/early", true), ("/x", false), ("/y", false), ("/", true)] {
                assert_eq!(allows(text, product, path), allowed, "{product} {path}");
            }
        }
    }

    #[test]
    fn line_ends_cases_spaces_and_byte_order_marks_do_not_matter() {
        for text in [
            "User-Agent: a\nDisallow: /x\n",
            "USER-AGENT:a\rDISALLOW:/x",
            "\u{feff}user-agent : a\r\n  disallow\t:\t/x\t\r\n",
            "user-agent: a # us\n\n\ndisallow: /x# them",
        ] {
            assert!(!allows(text, "a", "/x/y"), "{text:?}");
            assert!(allows(text, "a", "/X"), "{text:?}");
        }
    }

    #[test]
    fn the_longest_pattern_wins_and_allow_wins_ties() {
        // RFC 9309, section 5.2: the example of the longest match.
        let text = "user-agent: foobot\nallow: /example/page/\ndisallow: /example/page/disallowed.gif\n";
        assert!(!allows(text, "foobot", "/example/page/disallowed.gif"));
        assert!(allows(text, "foobot", "/example/page/allowed.gif"));
        // The table of
        // https://developers.google.com/search/docs/crawling-indexing/robots/robots_txt, "order of
        // precedence for rules".
        for (allow, disallow, path, allowed) in [
            ("/p", "/", "/page", true),
            ("/folder", "/folder", "/folder/page", true),
            ("/page", "/*.htm", "/page.htm", false),
            ("/page", "/*.ph", "/page.php5", true),
            ("/$", "/", "/", true),
            ("/$", "/", "/page.htm", false),
        ] {
            for text in [
                format!("user-agent: *\nallow: {allow}\ndisallow: {disallow}\n"),
                format!("user-agent: *\ndisallow: {disallow}\nallow: {allow}\n"),
            ] {
                assert_eq!(allows(&text, "a", path), allowed, "{text} {path}");
            }
        }
    }

    /// The tables of the two specifications named above: pattern, what it matches, what it does
    /// not.
    #[test]
    fn patterns_match_as_the_specifications_say() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("/", &["/", "/x", ""], &[]),
            ("/*", &["/", "/fish"], &[]),
            ("/$", &["/"], &["/x", "/?x"]),
            (
                "/fish",
                &["/fish", "/fish.html", "/fish/salmon.html", "/fishheads", "/fish.php?id=anything"],
                &["/Fish.asp", "/catfish", "/?id=fish", "/desert/fish"],
            ),
            ("/fish*", &["/fish", "/fishheads/yummy.html"], &["/Fish.asp", "/catfish"]),
            (
                "/fish/",
                &["/fish/", "/fish/?id=anything", "/fish/salmon.htm"],
                &["/fish", "/fish.html", "/animals/fish/"],
            ),
            (
                "/*.php",
                &["/index.php", "/filename.php", "/folder/any.php.file.html", "/filename.php?x", "/filename.php/"],
                &["/", "/windows.PHP"],
            ),
            ("/*.php$", &["/filename.php", "/folder/filename.php"], &["/filename.php?x", "/filename.php/", "/f.php5"]),
            ("/fish*.php", &["/fish.php", "/fishheads/catfish.php?parameters"], &["/Fish.PHP"]),
            ("*.gif$", &["/a.gif", "/b/c.gif"], &["/a.gif?x"]),
            ("fish", &[], &["/fish", "fish"]),
            ("/a$b", &["/a$b", "/a%24b/c"], &["/a"]),
            ("/a**b*$", &["/ab", "/a/b/c"], &["/b"]),
            ("$", &[], &["/", ""]),
        ];
        for (pattern, matching, others) in cases {
            let text = format!("user-agent: *\ndisallow: {pattern}\n");
            for path in *matching {
                assert!(!allows(&text, "a", path), "{pattern} {path}");
            }
            for path in *others {
                assert!(allows(&text, "a", path), "{pattern} {path}");
            }
        }
    }

    /// RFC 9309, sections 2.2.2 and 2.2.3: every spelling of a line matches every other one of its
    /// line, and none of another line.
    #[test]
    fn percent_encoding_is_normalised_on_both_sides() {
        let lines: &[&[&str]] = &[
            &["/foo/bar?baz=quz", "/%66oo/bar?baz=qu%7A"],
            &[
                "/foo/bar?baz=https://foo.bar",
                "/foo/bar?baz=https%3A%2F%2Ffoo.bar",
                "/foo/bar?baz=https%3a%2f%2ffoo%2ebar",
            ],
            &["/foo/bar/\u{30c4}", "/foo/bar/%E3%83%84", "/foo/bar/%e3%83%84"],
            &["/foo/bar/baz", "/foo/bar/%62%61%7A"],
            &["/foo%2Fbar/baz", "/foo%2fbar/b%61z"],
            &["/a:b@c;d=1", "/a%3Ab%40c%3bd%3D1"],
            &["/a b{c}", "/a%20b%7Bc%7D", "/a%20b%7bc}"],
            &["/100%", "/%31%30%30%"],
            &["/100%25"],
            &["/path/file-with-a-%2A.html", "/path/file-with-a-%2a.html"],
            &["/path/foo-%24"],
        ];
        for (number, line) in lines.iter().enumerate() {
            for pattern in *line {
                let text = format!("user-agent: *\ndisallow: {pattern}$\n");
                for (other, paths) in lines.iter().enumerate() {
                    for path in *paths {
                        assert_eq!(allows(&text, "a", path), number != other, "{pattern} {path}");
                    }
                }
            }
        }
        let text = "user-agent: *\ndisallow: /path/file-with-a-%2A.html\ndisallow: /path/foo-%24\n";
        assert!(!allows(text, "a", "/path/file-with-a-*.html") && !allows(text, "a", "/path/foo-$"));
        assert!(allows(text, "a", "/path/file-with-a-b.html") && allows(text, "a", "/path/foo-"));
        let latin = Robots::parse(b"user-agent: *\ndisallow: /caf\xe9", "a");
        assert!(!latin.allows("/caf%E9") && latin.allows("/caf%C3%A9"));
        // A wildcard before the query reaches into it.
        assert!(!allows("user-agent: *\ndisallow: /*://", "a", "/go?to=http://x"));
    }

    #[test]
    fn the_file_itself_is_always_allowed() {
        assert!(allows("user-agent: *\ndisallow: /", "a", "/robots.txt"));
        assert!(Robots::default().allows("/"));
    }

    #[test]
    fn what_follows_500_kib_is_not_read_nor_is_the_line_that_is_cut() {
        let head = "user-agent: *\ndisallow: /first\n";
        let filler = "#".repeat(MAX_BYTES - head.len() - 20);
        let text = format!("{head}{filler}\ndisallow: /cut-in-two\ndisallow: /later\n");
        let robots = Robots::parse(text.as_bytes(), "a");
        assert!(!robots.allows("/first"));
        assert!(robots.allows("/cut-in-two") && robots.allows("/cut") && robots.allows("/later"));
        assert!(Robots::parse(&vec![b'x'; 2 * MAX_BYTES], "a").allows("/"));
        let whole =
            format!("{head}{}\ndisallow: /last", "#".repeat(MAX_BYTES - head.len() - "\ndisallow: /last".len()));
        assert_eq!(whole.len(), MAX_BYTES);
        assert!(!Robots::parse(whole.as_bytes(), "a").allows("/last"), "exactly 500 KiB is not too long");
    }

    #[test]
    fn only_the_rules_for_us_are_kept() {
        let others = "user-agent: other\ndisallow: /x\n".repeat(1000);
        let text = format!("{others}user-agent: *\ndisallow: /g\nuser-agent: us\ndisallow: /x\ndisallow: /x\n");
        let robots = Robots::parse(text.as_bytes(), "us");
        assert_eq!(robots.rules, [Rule { pattern: "/x".into(), verdict: Verdict::Disallow }]);
    }

    #[test]
    fn many_wildcards_take_no_exponential_time() {
        // A backtracking matcher would take exponential time here.
        let pattern = format!("/{}b$", "*a".repeat(5000));
        let path = format!("/{}", "a".repeat(8000));
        let robots = Robots::parse(format!("user-agent: *\ndisallow: {pattern}").as_bytes(), "us");
        assert!(robots.allows(&path));
        assert!(!robots.allows(&format!("{path}b")));
    }

    /// Tries every way. `$` counts at the end only.
    fn matches_by_trial(pattern: &[u8], path: &[u8]) -> bool {
        match pattern {
            [] => true,
            b"$" => path.is_empty(),
            [b'*', rest @ ..] => (0..=path.len()).any(|skipped| matches_by_trial(rest, &path[skipped..])),
            [first, rest @ ..] => path.first() == Some(first) && matches_by_trial(rest, &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, product: String, path: String) {
            let mut text = b"user-agent: *\ndisallow: /".to_vec();
            text.extend(bytes);
            Robots::parse(&text, &product).allows(&path);
        }

        #[test]
        fn never_panics_on_what_looks_like_a_file(
            text in "(?:(?:user-agent|allow|disallow|crawl-delay)[: #%*$a/\u{feff}\u{e9}\r\n]{0,12}){0,8}", path in "[/a%*$2?#]{0,12}",
        ) {
            Robots::parse(text.as_bytes(), "a").allows(&path);
        }

        #[test]
        fn matches_as_trying_every_way_does(pattern in "[ab*]{0,8}\\$?", path in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &path), matches_by_trial(pattern.as_bytes(), path.as_bytes()));
        }

        #[test]
        fn the_rule_with_the_longest_match_decides(
            rules in prop::collection::vec((any::<bool>(), "/[ab*]{0,5}\\$?"), 0..8), path in "/[ab]{0,6}",
        ) {
            let mut text = "user-agent: *\n".to_owned();
            let mut longest = [0, 0];
            for (is_allow, pattern) in &rules {
                text += &format!("{}: {pattern}\n", if *is_allow { "allow" } else { "disallow" });
                if matches_by_trial(pattern.as_bytes(), path.as_bytes()) {
                    let best = &mut longest[usize::from(*is_allow)];
                    *best = pattern.len().max(*best);
                }
            }
            prop_assert_eq!(allows(&text, "a", &path), longest[1] >= longest[0], "{} {}", text, path);
        }

        #[test]
        fn normalising_twice_changes_nothing(text in "[a%2Ff*$?:/ \u{e9}]{0,16}") {
            let once = normalise(text.as_bytes(), Side::Pattern);
            prop_assert!(once.is_ascii());
            prop_assert_eq!(normalise(once.as_bytes(), Side::Pattern), once);
        }
    }
}
