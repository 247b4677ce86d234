//! Checks whether the headers of an answer forbid the use of its image.

use hyper::header::HeaderMap;

/// The header of
/// <https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag#xrobotstag>.
const ROBOTS_HEADER: &str = "x-robots-tag";
/// The header of the TDM Reservation Protocol,
/// <https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240202/>: 1 reserves the rights.
const RESERVATION_HEADER: &str = "tdm-reservation";
/// Directives with a value after a colon, by the page of [`ROBOTS_HEADER`]. Any other word before a
/// colon is the name of a crawler.
const DIRECTIVES_WITH_VALUE: [&str; 4] = ["unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"];

/// The rules by which an answer opts out, for one user agent.
#[derive(Debug, Clone)]
pub(crate) struct OptOut {
    /// Directives of `X-Robots-Tag` that opt out. If there are none, nothing opts out.
    directives: Vec<String>,
    /// Our product token, see [`product`].
    product: String,
}

impl OptOut {
    pub(crate) fn new(directives: &[String], user_agent: &str) -> OptOut {
        let mut directives = directives.to_vec();
        // "Equivalent to noindex, nofollow", by the page of [`ROBOTS_HEADER`].
        if directives.iter().any(|own| ["noindex", "nofollow"].iter().any(|known| known.eq_ignore_ascii_case(own))) {
            directives.push("none".to_owned());
        }
        OptOut { directives, product: product(user_agent).to_owned() }
    }

    /// Returns why an answer with these headers must not be used; `None` if it may be used.
    pub(crate) fn reason(&self, headers: &HeaderMap) -> Option<String> {
        if self.directives.is_empty() {
            return None;
        }
        let mut robots = headers.get_all(ROBOTS_HEADER).iter();
        if let Some(directive) = robots.find_map(|line| self.directive(&String::from_utf8_lossy(line.as_bytes()))) {
            return Some(format!("X-Robots-Tag: {directive}"));
        }
        let mut reservations = headers.get_all(RESERVATION_HEADER).iter();
        reservations.any(|value| value.as_bytes().trim_ascii() == b"1").then(|| "TDM-Reservation: 1".to_owned())
    }

    /// Returns the first directive of an `X-Robots-Tag` line that opts out. The name of a crawler
    /// applies until the next name or the end of the line.
    fn directive(&self, line: &str) -> Option<&str> {
        let mut is_for_us = true;
        for item in line.split(',') {
            let mut directive = item.trim();
            if let Some((word, rest)) = directive.split_once(':') {
                let word = word.trim();
                // Dates contain commas and colons too, but the text before their colons is not a
                // single word.
                if DIRECTIVES_WITH_VALUE.iter().any(|known| known.eq_ignore_ascii_case(word))
                    || word.contains(char::is_whitespace)
                {
                    continue;
                }
                is_for_us = word == "*" || word.eq_ignore_ascii_case(&self.product);
                directive = rest.trim();
            }
            if is_for_us && let Some(found) = self.directives.iter().find(|own| own.eq_ignore_ascii_case(directive)) {
                return Some(found);
            }
        }
        None
    }
}

/// Returns the product name of a user agent: its text up to the first slash or space.
pub(crate) fn product(user_agent: &str) -> &str {
    user_agent.split(['/', ' ']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter();
        lines.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    #[test]
    fn directives_opt_out_for_everyone_or_for_us() {
        let opt_out = OptOut::new(&["noai".to_owned(), "noindex".to_owned()], "MyBot/1.0 (me@example.org)");
        let robots = |line| opt_out.reason(&headers(&[(ROBOTS_HEADER, line)]));
        for line in [
            "noai",
            " NoAI ",
            "nofollow, noindex",
            "mybot: noai",
            "MYBOT:nofollow, noai",
            "*: noai",
            "none",
            "otherbot: nofollow, mybot: noindex",
            "max-snippet: 20, noai",
            "unavailable_after: Wednesday, 03-Jul-30 15:00:00 GMT, noai",
        ] {
            assert!(robots(line).is_some(), "{line}");
        }
        for line in [
            "",
            "all",
            "noaiatall",
            "noimageindex",
            "otherbot: noai",
            "otherbot: nofollow, noai",
            "mybot: nofollow, otherbot: noai",
            "mybot/1.0: noai",
            "max-snippet: noai",
        ] {
            assert_eq!(robots(line), None, "{line}");
        }
        assert_eq!(robots("nofollow, NOINDEX").as_deref(), Some("X-Robots-Tag: noindex"));
    }

    #[test]
    fn every_line_counts_and_so_does_a_reservation() {
        let opt_out = OptOut::new(&["noai".to_owned()], "bot");
        let lines = [(ROBOTS_HEADER, "otherbot: noindex"), (ROBOTS_HEADER, "noai")];
        assert!(opt_out.reason(&headers(&lines)).is_some());
        let reserved = headers(&[(RESERVATION_HEADER, "1")]);
        assert_eq!(opt_out.reason(&reserved).as_deref(), Some("TDM-Reservation: 1"));
        assert_eq!(opt_out.reason(&headers(&[(RESERVATION_HEADER, "0")])), None);
        assert_eq!(opt_out.reason(&headers(&[(ROBOTS_HEADER, "none")])), None, "an index is not asked about");
        assert_eq!(OptOut::new(&[], "bot").reason(&reserved), None, "no directives, no opting out");
    }
}
