//! Recognises kinds of files by their names.

use super::left_out::Kind;
use super::pictures;

/// Names of files that file managers and network storage create, besides hidden files.
const LEFTOVERS: [&str; 9] = [
    "__MACOSX",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
];

/// Returns whether a path in a source is hidden or one of [`LEFTOVERS`].
pub(super) fn is_hidden(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.starts_with('.') || LEFTOVERS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Names of documents that accompany data, without suffixes.
const DOCUMENTS: [&str; 8] =
    ["readme", "license", "licence", "copying", "notice", "citation", "changelog", "dataset_card"];

/// Returns the kind of a file by its name; [`Kind::Other`] also for files that may be read.
pub(super) fn kind_of(name: &str) -> Kind {
    const ARCHIVES: [&str; 11] =
        [".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", ".7z", ".rar"];
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    if ARCHIVES.iter().any(|ending| name.ends_with(ending)) {
        return Kind::CompressedArchive;
    }
    if pictures::is_other_picture(&name) {
        return Kind::OtherPicture;
    }
    let (stem, suffix) = name.split_once('.').unwrap_or((&name, ""));
    let suffix = suffix.rsplit('.').next().unwrap_or_default();
    let begins = |word: &str| {
        // README, README_first.txt and LICENSE-MIT, but not licenses.txt.
        stem.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    let is_text = ["", "txt", "md", "rst", "html", "htm", "pdf", "rtf", "doc", "docx", "cff"].contains(&suffix);
    if ["md", "rst"].contains(&suffix) || (is_text && DOCUMENTS.iter().any(|word| begins(word))) {
        return Kind::Document;
    }
    Kind::Other
}
