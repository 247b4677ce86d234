//! Parsing of untrusted URLs, and removal of their passwords from tables and logs.

use std::borrow::Cow;

use url::{ParseError, Url};

/// Parses the URL of a row. White space around it is dropped. Characters that need it are
/// percent-encoded, as in browsers.
///
/// # Errors
/// Describes what is wrong, without repeating the URL.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    check(Url::parse(text.trim()).map_err(|error| match error {
        // A web page may omit the scheme, which is then its own. A list has no scheme of its own,
        // and a guessed one might lead to another resource.
        ParseError::RelativeUrlWithoutBase => {
            "the scheme is missing: it does not begin with https:// or http://".to_owned()
        }
        other => other.to_string(),
    })?)
}

/// Parses a `Location` header relative to the URL that answered with it. User names and passwords
/// in it are dropped.
///
/// # Errors
/// Describes what is wrong, without repeating the URL.
pub(crate) fn parse_redirect(base: &Url, location: &[u8]) -> Result<Url, String> {
    let location = String::from_utf8_lossy(location);
    let mut url = check(base.join(location.trim()).map_err(|error| error.to_string())?)?;
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    stripped.map_err(|()| "a URL without a host".to_owned())?;
    Ok(url)
}

fn check(url: Url) -> Result<Url, String> {
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("the scheme {} is neither http nor https", shorten(other, 20))),
    }
}

/// Returns the URL as it was written, but without user name and password.
pub fn without_userinfo(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let has_user = |url: &Url| !url.username().is_empty() || url.password().is_some();
    let parsed = hierarchical(text);
    if parsed.as_ref().is_some_and(|url| !has_user(url)) {
        return Cow::Borrowed(text); // the @ is in the path or the query
    }
    // The part between the slashes after the scheme and the next delimiter is the authority. The
    // user name and password are before its last @. In a text that is not a URL, slashes are not
    // taken as delimiters, because the text may become a URL once something is cut from it.
    let start = text.find(':').map_or(0, |colon| colon + 1);
    let start = start + text[start..].len() - text[start..].trim_start_matches(['/', '\\']).len();
    let delimiters: &[char] = if parsed.is_some() { &['/', '\\', '?', '#'] } else { &['?', '#'] };
    let end = text[start..].find(delimiters).map_or(text.len(), |length| start + length);
    let cut = text[start..end].rfind('@').map(|at| format!("{}{}", &text[..start], &text[start + at + 1..]));
    match (cut, parsed) {
        (Some(cut), Some(_)) if hierarchical(&cut).is_some_and(|url| !has_user(&url)) => Cow::Owned(cut),
        // The URL is written in a way that only the parser understands, such as with tabs inside.
        // Take the parser's spelling.
        (_, Some(mut url)) => {
            let _cannot_fail_with_a_host = url.set_username("").and_then(|()| url.set_password(None));
            Cow::Owned(url.into())
        }
        (Some(cut), None) => Cow::Owned(cut),
        (None, None) => Cow::Borrowed(text),
    }
}

/// Returns the parsed URL if it is of a kind that can have a user and a password.
fn hierarchical(text: &str) -> Option<Url> {
    Url::parse(text.trim()).ok().filter(|url| !url.cannot_be_a_base())
}

/// Returns at most `length` characters of `text` on one line, so that an untrusted message cannot
/// fill a table or forge lines of a log.
pub(crate) fn shorten(text: &str, length: usize) -> String {
    let text = text.trim().replace(char::is_control, " ");
    match text.char_indices().nth(length) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// Panics if the functions above break their promises for a text.
pub(crate) fn check_invariants(text: &str) {
    let written = without_userinfo(text);
    assert!(hierarchical(&written).is_none_or(|url| url.password().is_none()), "a password is left in {written:?}");
    if let Ok(url) = parse(text) {
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
        if let Ok(target) = parse_redirect(&url, text.as_bytes()) {
            assert!(target.username().is_empty() && target.password().is_none());
        }
    }
    assert!(shorten(text, 200).chars().count() <= 201);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_breaks_what_is_promised(
            text in "(?:[a-z]{1,5}:|//|/|\\\\|@|:|%[0-9a-f]{2}|\\[|\\]|[a-zäÜ0-9.\t\n ?#-]{1,6}){0,14}",
        ) {
            check_invariants(&text);
            check_invariants(&format!("http://{text}"));
        }
    }

    #[test]
    fn only_http_and_https_pass() {
        for good in ["http://example.org/a.jpg", " https://exämple.org/ä b.jpg \n", "HTTP://EXAMPLE.ORG"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "file:///etc/passwd",
            "data:image/png;base64,AAAA",
            "ftp://example.org/a",
            "example.org/a.jpg",
            "http://",
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_scheme_is_said() {
        for url in ["//example.org/a.jpg", "example.org/a.jpg", "www.example.org", "/a.jpg", "a", "\\\\example.org\\a"]
        {
            assert!(parse(url).unwrap_err().contains("the scheme is missing"), "{url}");
        }
        for url in ["http://", "http://[", "example.org:80/a.jpg"] {
            assert!(!parse(url).unwrap_err().contains("the scheme is missing"), "{url}");
        }
    }

    #[test]
    fn spaces_and_letters_beyond_ascii_are_encoded() {
        assert_eq!(
            parse("http://bücher.example/ä b.jpg").unwrap().as_str(),
            "http://xn--bcher-kva.example/%C3%A4%20b.jpg"
        );
    }

    #[test]
    fn addresses_in_disguise_are_unmasked() {
        for disguised in ["http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1./"] {
            assert_eq!(parse(disguised).unwrap().host_str(), Some("127.0.0.1"), "{disguised}");
        }
    }

    #[test]
    fn userinfo_is_removed_and_nothing_else() {
        for (with, without) in [
            ("http://me:secret@example.org/a.jpg", "http://example.org/a.jpg"),
            ("https://secret@example.org", "https://example.org"),
            ("http://me:p@ss@example.org/a@b?c=@d", "http://example.org/a@b?c=@d"),
            ("http:me:secret@example.org/a", "http:example.org/a"),
            ("http:\\\\me:secret@example.org\\a", "http:\\\\example.org\\a"),
            ("http://me:secret@[not a host/a", "http://[not a host/a"),
            ("http://example.org/a@2x.jpg", "http://example.org/a@2x.jpg"),
            ("someone@example.org", "example.org"),
            ("http://example.org", "http://example.org"),
        ] {
            assert_eq!(without_userinfo(with), without);
        }
        for hidden in [
            "ht\ttp://me:secret@example.org/",
            "http://me:sec/ret@example.org",
            " http:/\t/me:secret@example.org/a",
            "http://x@/me:secret@example.org/a.jpg",
            "http:@/me:secret@example.org",
            "other://a@b\\me:secret@example.org",
        ] {
            let left = without_userinfo(hidden).into_owned();
            assert!(!Url::parse(left.trim()).is_ok_and(|url| url.password().is_some()), "{left}");
        }
    }

    #[test]
    fn messages_are_one_short_line() {
        assert_eq!(shorten("a\nforged line\u{1b}[0m\n", 100), "a forged line [0m");
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äöü…");
    }

    #[test]
    fn redirects_lose_their_userinfo() {
        let base = Url::parse("http://me:secret@example.org/x/y").unwrap();
        assert_eq!(parse_redirect(&base, b"../z").unwrap().as_str(), "http://example.org/z");
        assert_eq!(parse_redirect(&base, b"//a:b@other.example/").unwrap().as_str(), "http://other.example/");
        assert!(parse_redirect(&base, b"file:///etc/passwd").unwrap_err().contains("file"));
    }
}
