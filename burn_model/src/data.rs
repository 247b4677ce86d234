//! Input of a run: images, and texts about them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// The images of a check; examples name them by their row.
///
/// The kind must be the one that [`crate::ModelConfig::sight`] asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Pictures {
    /// Pixels for [`crate::Sight::Pixels`]: row `i` is image `i`, in `image_size² · 3` bytes:
    /// rows of pixels, each red, green, blue.
    Pixels(Vec<Vec<u8>>),
    /// The same in a file; each step reads only the images that it needs.
    Stored(StoredPictures),
    /// Numbers for [`crate::Sight::Features`], which the caller computed.
    ///
    /// A run multiplies all of them by one factor, so that their mean square is 1. The ratios
    /// between dimensions do not change.
    Features {
        /// Numbers per image, without unit; at least 1.
        width: usize,
        /// `width` numbers per image, one image after another: row `i` is image `i`.
        values: Vec<f32>,
    },
}

impl Pictures {
    /// Returns the number of images.
    pub fn len(&self) -> usize {
        match self {
            Self::Pixels(pictures) => pictures.len(),
            Self::Stored(stored) => stored.count,
            Self::Features { width, values } => values.len() / (*width).max(1),
        }
    }

    /// Returns whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Images in a file, one after another, each of the same number of bytes.
#[derive(Clone, Debug)]
pub struct StoredPictures {
    path: PathBuf,
    file: Arc<Mutex<File>>,
    bytes_per_picture: usize,
    count: usize,
}

impl StoredPictures {
    /// Opens a file of images of `bytes_per_picture` bytes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or does not hold whole images.
    pub fn open(path: &Path, bytes_per_picture: usize) -> Result<Self> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len() as usize;
        if bytes_per_picture == 0 || !length.is_multiple_of(bytes_per_picture) {
            let reason = format!(
                "{}: {length} bytes are not a multiple of the {bytes_per_picture} bytes of an image",
                path.display()
            );
            return Err(Error::Data { set: "set of images", reason });
        }
        let count = length / bytes_per_picture;
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(file)), bytes_per_picture, count })
    }

    /// Returns the bytes of each image.
    pub fn bytes_per_picture(&self) -> usize {
        self.bytes_per_picture
    }

    /// Reads an image.
    pub(crate) fn picture(&self, row: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes_per_picture];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let place = SeekFrom::Start(u64::from(row) * self.bytes_per_picture as u64);
        let read = file.seek(place).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|source| Error::File { path: self.path.clone(), source })?;
        Ok(bytes)
    }
}

impl PartialEq for StoredPictures {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.bytes_per_picture, self.count) == (&other.path, other.bytes_per_picture, other.count)
    }
}

/// A question about an image and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    /// The question; empty for a caption. The model reads it and is not trained to predict it.
    pub question: String,
    /// The answer, or the caption. The model is trained to predict it and the end token after it.
    pub answer: String,
}

/// The image or video of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shown {
    /// The row of the image in [`Pictures`], counted from 0; of a video, that of its first frame.
    pub row: u32,
    /// Frames of a video, which are rows one after another, as many as the model's `frames`; 0 for
    /// an image.
    pub frames: u32,
}

impl Shown {
    /// Makes an image.
    pub fn picture(row: u32) -> Self {
        Self { row, frames: 0 }
    }

    /// Returns its rows in [`Pictures`].
    pub fn rows(self) -> std::ops::Range<u32> {
        self.row..self.row + self.frames.max(1)
    }
}

/// An image or a video with a caption or a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Example {
    /// Its image or video.
    pub shown: Shown,
    /// The turns of the conversation, at least one; a caption is one turn without a question.
    pub turns: Vec<Turn>,
}

impl Example {
    /// Returns an image with a caption.
    pub fn caption(picture: u32, caption: impl Into<String>) -> Self {
        Self { shown: Shown::picture(picture), turns: vec![Turn { question: String::new(), answer: caption.into() }] }
    }

    /// Returns the whole text as the model reads it, for the training of a tokenizer.
    pub fn text(&self) -> String {
        let turns = self.turns.iter().map(|turn| {
            if turn.question.is_empty() {
                turn.answer.clone()
            } else {
                format!("{QUESTION}{}{ANSWER} {}", turn.question, turn.answer)
            }
        });
        turns.collect::<Vec<_>>().join("\n")
    }
}

/// Comes before a question, as in the prompts of Lynx (arXiv 2307.02469).
pub(crate) const QUESTION: &str = "User: ";

/// Comes between a question and a space with the answer, as in Lynx.
pub(crate) const ANSWER: &str = "\nBot:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_example_follows_the_template() {
        let turn = |question: &str, answer: &str| Turn { question: question.to_owned(), answer: answer.to_owned() };
        let talk =
            Example { shown: Shown::picture(0), turns: vec![turn("What is it?", "A dog."), turn("Big?", "No.")] };
        assert_eq!(talk.text(), "User: What is it?\nBot: A dog.\nUser: Big?\nBot: No.");
        assert_eq!(Example::caption(0, "A dog").text(), "A dog");
    }

    #[test]
    fn pictures_are_counted_in_rows() {
        assert_eq!(Pictures::Pixels(vec![vec![0; 3]; 2]).len(), 2);
        assert_eq!(Pictures::Features { width: 2, values: vec![0.0; 6] }.len(), 3);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures");
        std::fs::write(&path, [1, 2, 3, 4, 5, 6]).unwrap();
        let stored = StoredPictures::open(&path, 3).unwrap();
        assert_eq!(stored.picture(1).unwrap(), [4, 5, 6]);
        assert!(stored.picture(2).unwrap_err().to_string().contains("pictures"));
        assert_eq!(Pictures::Stored(stored).len(), 2);
        assert!(
            StoredPictures::open(&path, 4)
                .unwrap_err()
                .to_string()
                .contains("6 bytes are not a multiple of the 4 bytes of an image")
        );
        assert!(Pictures::Features { width: 0, values: Vec::new() }.is_empty());
    }
}
