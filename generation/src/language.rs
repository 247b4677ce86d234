//! The languages in which texts can be requested.

use whatlang::{Detector, Lang, Script};

/// ISO 639-1 code, whatlang's value and English name.
const LANGUAGES: &[(&str, Lang, &str)] = &[
    ("ar", Lang::Ara, "Arabic"),
    ("cs", Lang::Ces, "Czech"),
    ("da", Lang::Dan, "Danish"),
    ("de", Lang::Deu, "German"),
    ("el", Lang::Ell, "Greek"),
    ("en", Lang::Eng, "English"),
    ("es", Lang::Spa, "Spanish"),
    ("fi", Lang::Fin, "Finnish"),
    ("fr", Lang::Fra, "French"),
    ("he", Lang::Heb, "Hebrew"),
    ("hi", Lang::Hin, "Hindi"),
    ("hu", Lang::Hun, "Hungarian"),
    ("id", Lang::Ind, "Indonesian"),
    ("it", Lang::Ita, "Italian"),
    ("ja", Lang::Jpn, "Japanese"),
    ("ko", Lang::Kor, "Korean"),
    ("nl", Lang::Nld, "Dutch"),
    ("pl", Lang::Pol, "Polish"),
    ("pt", Lang::Por, "Portuguese"),
    ("ro", Lang::Ron, "Romanian"),
    ("ru", Lang::Rus, "Russian"),
    ("sv", Lang::Swe, "Swedish"),
    ("th", Lang::Tha, "Thai"),
    ("tr", Lang::Tur, "Turkish"),
    ("uk", Lang::Ukr, "Ukrainian"),
    ("vi", Lang::Vie, "Vietnamese"),
    ("zh", Lang::Cmn, "Chinese"),
];

/// A language with an ISO 639-1 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language(usize);

impl Language {
    /// English.
    pub const ENGLISH: Language = Language(5);

    /// Returns the language with a code, if it is one that can be detected.
    pub fn new(code: &str) -> Option<Language> {
        LANGUAGES.iter().position(|(known, _, _)| *known == code).map(Language)
    }

    /// Returns the codes of all languages.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        LANGUAGES.iter().map(|(code, _, _)| *code)
    }

    /// Returns the code.
    pub fn code(self) -> &'static str {
        LANGUAGES[self.0].0
    }

    /// Returns the name in English.
    pub fn name(self) -> &'static str {
        LANGUAGES[self.0].2
    }

    /// Returns the name of the language of a text if it is clearly another language than this one.
    /// Short texts are often unclear.
    ///
    /// For a language other than English, only that language and English are compared, because
    /// models fall back to English. A few words are enough to distinguish two languages.
    pub(crate) fn instead(self, text: &str) -> Option<&'static str> {
        let wanted = LANGUAGES[self.0].1;
        let others: Vec<Lang> = if self == Language::ENGLISH {
            LANGUAGES.iter().map(|(_, language, _)| *language).collect()
        } else {
            vec![wanted, Lang::Eng]
        };
        let found = Detector::with_allowlist(others).detect(text)?;
        // Another script is a clear result, even if the languages that use it cannot be
        // distinguished.
        let is_clear = found.is_reliable() || self != Language::ENGLISH || found.script() != Script::Latin;
        let name =
            || LANGUAGES.iter().find(|(_, language, _)| *language == found.lang()).map_or("another", |known| known.2);
        (found.lang() != wanted && is_clear).then(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_english_is_english() {
        let codes: Vec<&str> = Language::codes().collect();
        assert!(codes.is_sorted());
        assert_eq!((Language::ENGLISH.code(), Language::new("xx")), ("en", None));
    }

    #[test]
    fn another_language_is_noticed() {
        let (english, german) = (Language::ENGLISH, Language::new("de").unwrap());
        assert_eq!(english.instead("Describe the image in one short sentence."), None);
        assert_eq!(english.instead("Опишите изображение одним коротким предложением."), Some("Russian"));
        assert_eq!(
            english.instead("Beschreibe bitte das Bild in einem einzigen kurzen Satz, ohne etwas zu erfinden."),
            Some("German")
        );
        assert!(english.instead("Собака бежит за мячом по зелёной траве.").is_some());
        assert_eq!(german.instead("Beschreibe das Bild kurz."), None);
        assert_eq!(german.instead("Describe the image briefly."), Some("English"));
        assert_eq!(Language::new("ja").unwrap().instead("この画像を短く説明してください。"), None);
    }
}
