//! What of a source is not read, so that nothing is passed over in silence.

use std::collections::BTreeMap;
use std::fmt;

/// The reason why something is not read. They are told in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    CompressedArchive,
    PictureBesideList,
    ArchiveBesideList,
    TextBesideLists,
    OtherFormat,
    OtherPicture,
    NotInMetadata,
    BesideMetadata,
    OtherMetadata,
    MoreMetadata,
    Companion,
    Link,
    TextWithoutPicture,
    SampleWithoutPicture,
    OtherMember,
    OtherColumn,
    ListColumn,
    SubFolder,
    RunFolder,
    Document,
    Hidden,
    Other,
}

impl Kind {
    /// Returns what it is, in the plural, and what to do about it.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Kind::CompressedArchive => ("compressed archives", "decompress them first; .tar files are read"),
            Kind::PictureBesideList => (
                "pictures and their captions",
                "lists and archives go first; `format` (--input-format folder) asks for the pictures",
            ),
            Kind::ArchiveBesideList => {
                ("archives", "lists go first; `format` (--input-format webdataset) asks for the archives")
            }
            Kind::TextBesideLists => (
                "text files",
                "beside pictures, archives and lists with columns, they are lists only if they begin with a URL and no `caption` is asked for; `path` can name each",
            ),
            Kind::OtherFormat => ("files of another format than `format` asks for", ""),
            Kind::OtherPicture => ("pictures of formats that are not decoded", ""),
            Kind::NotInMetadata => ("pictures that the metadata file of their folder does not name", ""),
            Kind::BesideMetadata => ("text and JSON files in folders with a metadata file, which goes first", ""),
            Kind::OtherMetadata => ("metadata files without a column `file_name`", ""),
            Kind::MoreMetadata => ("further metadata files of one folder", ""),
            Kind::Companion => (
                "pictures beside the picture of their sample",
                "`image` in [source] (--set source.image=SUFFIX) says which member is the picture",
            ),
            Kind::Link => (
                "symbolic links that are not followed",
                "`follow_links` in [source] (--set source.follow_links=true) follows those out of the folder",
            ),
            Kind::TextWithoutPicture => ("text and JSON files that belong to no picture", ""),
            Kind::SampleWithoutPicture => ("samples without a picture", ""),
            Kind::OtherMember => ("other members of archives", ""),
            Kind::OtherColumn => (
                "further columns of pictures",
                "`image` in [source] (--set source.image=COLUMN) says which one is read",
            ),
            Kind::ListColumn => ("columns of lists of pictures", "files with one picture a row are read"),
            Kind::SubFolder => ("sub-folders", "`path` can name them"),
            Kind::RunFolder => ("run folders of lynxdata", ""),
            Kind::Document => ("documents", ""),
            Kind::Hidden => ("hidden files and folders, and those of file managers", ""),
            Kind::Other => ("other files", ""),
        }
    }
}

/// Counts of things that are not read, by reason, with one example each. Shown as a text, it names
/// them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    kinds: BTreeMap<Kind, (u64, String)>,
}

impl LeftOut {
    pub(super) fn add(&mut self, kind: Kind, example: &str) {
        self.kinds.entry(kind).or_insert_with(|| (0, example.to_owned())).0 += 1;
    }

    /// Adds what another part of the source leaves out.
    pub(super) fn append(&mut self, other: LeftOut) {
        for (kind, (count, example)) in other.kinds {
            self.kinds.entry(kind).or_insert_with(|| (0, example)).0 += count;
        }
    }

    /// Takes back what is read after all.
    pub(super) fn forget(&mut self, kind: Kind) {
        self.kinds.remove(&kind);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub(super) fn example(&self, kind: Kind) -> Option<&str> {
        self.kinds.get(&kind).map(|(_, example)| example.as_str())
    }

    #[cfg(test)]
    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).map_or(0, |(count, _)| *count)
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        self.kinds.values().map(|(count, _)| count).sum()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, (count, example))) in self.kinds.iter().enumerate() {
            let (what, hint) = kind.texts();
            formatter.write_str(if index == 0 { "" } else { "; " })?;
            write!(formatter, "{what}: {count}, such as {example:?}")?;
            if !hint.is_empty() {
                write!(formatter, " ({hint})")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_with_a_count_and_an_example() {
        let (mut first, mut second) = (LeftOut::default(), LeftOut::default());
        first.add(Kind::Hidden, "._a.csv");
        second.add(Kind::Hidden, ".DS_Store");
        second.add(Kind::CompressedArchive, "x.tar.gz");
        first.append(second);
        let text = first.to_string();
        assert_eq!(
            text,
            "compressed archives: 1, such as \"x.tar.gz\" (decompress them first; .tar files are read); \
             hidden files and folders, and those of file managers: 2, such as \"._a.csv\""
        );
        assert_eq!((first.total(), first.count(Kind::Hidden)), (3, 2));
    }
}
