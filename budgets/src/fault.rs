//! What can be wrong with a record.

use serde::{Serialize, Serializer};

/// A kind of fault, by its name in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is no JSON, or not of the shape of a record.
    Unreadable,
    /// It has no turns.
    NoConversation,
    /// A turn says nothing.
    EmptyTurn,
    /// A role has a name that no trainer knows.
    UnknownRole,
    /// User and assistant do not take turns, or the assistant has not the last word.
    RoleOrder,
    /// The chat template has no place for a turn, or a text holds one of its tokens.
    TemplateRefuses,
    /// An id that an earlier record has.
    DuplicateId,
    /// There are more or fewer `<image>` than pictures.
    ImagePlaceholders,
    /// There are more or fewer `<video>` than videos.
    VideoPlaceholders,
    /// A picture is not there.
    MissingPicture,
    /// A picture has no bytes.
    EmptyPicture,
    /// A picture is cut off, damaged or no picture.
    CorruptPicture,
    /// The suffix of a picture says another format than its content.
    MisnamedPicture,
    /// The model's processor fails on the size of a picture.
    UnfitPicture,
    /// A picture is on the web and was not looked at.
    RemotePicture,
}

impl Reason {
    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
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

    /// Returns whether a training run ends, or trains on something else, because of it. Repeated
    /// ids are passed over by trainers, as are wrong suffixes, and pictures on the web may be
    /// there.
    pub fn breaks_training(self) -> bool {
        !matches!(self, Reason::DuplicateId | Reason::MisnamedPicture | Reason::RemotePicture)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What is wrong with one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind.
    pub reason: Reason,
    /// What exactly.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Fault {
        Fault { reason, detail: detail.into() }
    }
}
