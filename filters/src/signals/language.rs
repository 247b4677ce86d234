//! The language of the caption.

use whatlang::Lang;

use super::{Needs, Signal, SignalType};

/// The most likely language of the caption.
pub(super) const SIGNAL: Signal = Signal {
    name: "language",
    description: "Most likely language of the caption as an ISO 639-1 code such as en, de or zh (all 70 languages that the \
     detector knows have one; Mandarin is zh, Persian fa). Missing where the caption has no letters. Captions of \
     a few words are often taken for another language: look at language_confidence.",
    unit: "none",
    range: (None, None),
    needs: Needs::Text,
    signal_type: SignalType::Text,
    source: "whatlang 0.18 (script, letter and trigram statistics); codes of ISO 639-1",
    function: Some(|sample| sample.language().map(|language| two_letter_code(language.lang).to_owned()).into()),
};

/// Returns the code of ISO 639-1 of a language. The match is exhaustive, so that a new language of
/// the detector cannot be without a code.
fn two_letter_code(lang: Lang) -> &'static str {
    match lang {
        Lang::Afr => "af",
        Lang::Aka => "ak",
        Lang::Amh => "am",
        Lang::Ara => "ar",
        Lang::Aze => "az",
        Lang::Bel => "be",
        Lang::Ben => "bn",
        Lang::Bul => "bg",
        Lang::Cat => "ca",
        Lang::Ces => "cs",
        Lang::Cmn => "zh",
        Lang::Cym => "cy",
        Lang::Dan => "da",
        Lang::Deu => "de",
        Lang::Ell => "el",
        Lang::Eng => "en",
        Lang::Epo => "eo",
        Lang::Est => "et",
        Lang::Fin => "fi",
        Lang::Fra => "fr",
        Lang::Guj => "gu",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Hrv => "hr",
        Lang::Hun => "hu",
        Lang::Hye => "hy",
        Lang::Ind => "id",
        Lang::Ita => "it",
        Lang::Jav => "jv",
        Lang::Jpn => "ja",
        Lang::Kan => "kn",
        Lang::Kat => "ka",
        Lang::Khm => "km",
        Lang::Kor => "ko",
        Lang::Lat => "la",
        Lang::Lav => "lv",
        Lang::Lit => "lt",
        Lang::Mal => "ml",
        Lang::Mar => "mr",
        Lang::Mkd => "mk",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Nld => "nl",
        Lang::Nob => "nb",
        Lang::Ori => "or",
        Lang::Pan => "pa",
        Lang::Pes => "fa",
        Lang::Pol => "pl",
        Lang::Por => "pt",
        Lang::Ron => "ro",
        Lang::Rus => "ru",
        Lang::Sin => "si",
        Lang::Slk => "sk",
        Lang::Slv => "sl",
        Lang::Sna => "sn",
        Lang::Spa => "es",
        Lang::Srp => "sr",
        Lang::Swe => "sv",
        Lang::Tam => "ta",
        Lang::Tel => "te",
        Lang::Tgl => "tl",
        Lang::Tha => "th",
        Lang::Tuk => "tk",
        Lang::Tur => "tr",
        Lang::Ukr => "uk",
        Lang::Urd => "ur",
        Lang::Uzb => "uz",
        Lang::Vie => "vi",
        Lang::Yid => "yi",
        Lang::Zul => "zu",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Sample, Value};

    #[test]
    fn knows_the_language_of_sentences() {
        let measure = |caption| SIGNAL.value(&Sample::new(Some(caption), None));
        assert_eq!(measure("A brown dog is running through the tall grass."), Value::Text("en".into()));
        assert_eq!(measure("Ein brauner Hund rennt durch das hohe Gras."), Value::Text("de".into()));
        assert_eq!(measure("一只棕色的狗在高高的草丛中奔跑"), Value::Text("zh".into()));
        assert_eq!(measure("1984 -- 2024"), Value::Missing);
        assert_eq!(measure(""), Value::Missing);
        assert_eq!(SIGNAL.value(&Sample::new(None, None)), Value::Missing);
    }

    #[test]
    fn every_language_has_its_own_code() {
        let codes: BTreeSet<&str> = Lang::all().iter().map(|&lang| two_letter_code(lang)).collect();
        assert_eq!(codes.len(), Lang::all().len());
        assert!(codes.iter().all(|code| code.len() == 2));
        assert_eq!(codes.len(), 70, "the description says 70");
    }
}
