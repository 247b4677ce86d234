//! Faults of records.

use serde::{Serialize, Serializer};

/// A kind of fault, by its name in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is not JSON, or does not have the structure of a record.
    Unreadable,
    /// It, or its file, is not UTF-8.
    Encoding,
    /// Its file begins with a byte order mark.
    ByteOrderMark,
    /// A text has half of a surrogate pair, which is no character.
    UnpairedSurrogate,
    /// It has no turns.
    NoConversation,
    /// A turn has no text.
    EmptyTurn,
    /// A role has an unknown name.
    UnknownRole,
    /// User and assistant do not alternate, or the last turn is not by the assistant.
    RoleOrder,
    /// The chat template does not support a turn, or a text contains one of its tokens.
    TemplateRefuses,
    /// An earlier record has the same id.
    DuplicateId,
    /// The number of `<image>` differs from the number of images.
    ImagePlaceholders,
    /// The number of `<video>` differs from the number of videos.
    VideoPlaceholders,
    /// An image is missing.
    MissingPicture,
    /// An image has no bytes.
    EmptyPicture,
    /// An image is truncated, damaged or not an image.
    CorruptPicture,
    /// The suffix of an image does not match the format of its content.
    MisnamedPicture,
    /// The processor of the model fails on the size of an image.
    UnfitPicture,
    /// An image is a URL and was not checked.
    RemotePicture,
}

impl Reason {
    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
            Reason::Encoding => "encoding",
            Reason::ByteOrderMark => "byte_order_mark",
            Reason::UnpairedSurrogate => "unpaired_surrogate",
            Reason::NoConversation => "no_conversation",
            Reason::EmptyTurn => "empty_turn",
            Reason::UnknownRole => "unknown_role",
            Reason::RoleOrder => "role_order",
            Reason::TemplateRefuses => "template_refuses",
            Reason::DuplicateId => "duplicate_id",
            Reason::ImagePlaceholders => "image_placeholders",
            Reason::VideoPlaceholders => "video_placeholders",
            Reason::MissingPicture => "missing_picture",
            Reason::EmptyPicture => "empty_picture",
            Reason::CorruptPicture => "corrupt_picture",
            Reason::MisnamedPicture => "misnamed_picture",
            Reason::UnfitPicture => "unfit_picture",
            Reason::RemotePicture => "remote_picture",
        }
    }

    /// Returns whether it would end a training run or make it train on something else. Trainers
    /// ignore repeated ids and wrong suffixes, images on the web may exist, and Hugging Face
    /// `datasets` reads a file with a byte order mark.
    pub fn breaks_training(self) -> bool {
        !matches!(self, Reason::DuplicateId | Reason::MisnamedPicture | Reason::RemotePicture | Reason::ByteOrderMark)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A fault of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub reason: Reason,
    /// The details.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Fault {
        Fault { reason, detail: detail.into() }
    }
}
