//! A pair, with cached values that several signals share.

use std::cell::OnceCell;

use unicode_segmentation::UnicodeSegmentation;

use crate::image_data::ImageData;

/// An image-text pair in the form that signals receive.
///
/// The words and the language are computed on first use and cached; the luma plane is cached in
/// [`ImageData`].
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    /// The text of the pair; `None` if it has none.
    pub caption: Option<&'a str>,
    /// The image of the pair; `None` if there is none or it cannot be decoded.
    pub image: Option<&'a ImageData>,
    words: OnceCell<Option<Vec<&'a str>>>,
    language: OnceCell<Option<Language>>,
}

/// The result of the language detector for a caption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Language {
    /// The most likely of the 70 languages that the detector knows.
    pub lang: whatlang::Lang,
    /// Confidence of the detector, from 0 to 1.
    pub confidence: f64,
}

impl<'a> Sample<'a> {
    /// Makes a pair without cached values.
    pub fn new(caption: Option<&'a str>, image: Option<&'a ImageData>) -> Self {
        Self { caption, image, words: OnceCell::new(), language: OnceCell::new() }
    }

    /// Returns the words of the caption: segments of Unicode Standard Annex 29 (word boundaries)
    /// that hold a letter or digit.
    pub fn words(&self) -> Option<&[&'a str]> {
        self.words.get_or_init(|| self.caption.map(|caption| caption.unicode_words().collect())).as_deref()
    }

    /// Returns the language of the caption; `None` if there is no caption or it has no letters of a
    /// known script.
    pub fn language(&self) -> Option<Language> {
        *self.language.get_or_init(|| {
            let found = whatlang::detect(self.caption?)?;
            Some(Language { lang: found.lang(), confidence: found.confidence() })
        })
    }
}
