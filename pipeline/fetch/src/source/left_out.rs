//! Reports what is not read of a source, so that nothing is skipped silently.

use std::collections::BTreeMap;
use std::fmt;

/// The kind of something that is not read. Reports list the kinds in this order.
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
    ValuesNotObject,
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
    /// Returns a description in the plural and a hint at what to do, which may be empty.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Kind::CompressedArchive => ("compressed archives", "decompress them first; .tar files are read"),
            Kind::PictureBesideList => (
                "images and their captions",
                "lists and archives are preferred; set `format` (--input-format folder) to read the images",
            ),
            Kind::ArchiveBesideList => {
                ("archives", "lists are preferred; set `format` (--input-format webdataset) to read the archives")
            }
            Kind::TextBesideLists => (
                "text files",
                "beside images, archives and lists with columns, a text file is read as a list only if it begins with a URL and `caption` is not set; or name each file in `path`",
            ),
            Kind::OtherFormat => ("files of another format than `format`", ""),
            Kind::OtherPicture => ("images of formats that cannot be decoded", ""),
            Kind::NotInMetadata => ("images that the metadata file of their folder does not name", ""),
            Kind::BesideMetadata => ("text and JSON files in folders with a metadata file, which is preferred", ""),
            Kind::OtherMetadata => ("metadata files without a column `file_name`", ""),
            Kind::MoreMetadata => ("further metadata files of one folder", ""),
            Kind::Companion => (
                "further images of samples",
                "`image` in [source] (--set source.image=SUFFIX) selects the member with the image",
            ),
            Kind::Link => (
                "symbolic links that are not followed",
                "`follow_links` in [source] (--set source.follow_links=true) follows links out of the folder",
            ),
            Kind::TextWithoutPicture => ("text and JSON files that belong to no image", ""),
            Kind::ValuesNotObject => (
                "JSON files beside images that are not objects",
                "columns and captions are read from objects, such as {\"caption\": \"a cat\"}",
            ),
            Kind::SampleWithoutPicture => ("samples without an image", ""),
            Kind::OtherMember => ("other members of archives", ""),
            Kind::OtherColumn => (
                "further columns of images",
                "`image` in [source] (--set source.image=COLUMN) selects the column to read",
            ),
            Kind::ListColumn => ("columns of lists of images", "only columns with one image per row are read"),
            Kind::SubFolder => ("sub-folders", "name them in `path` to read them"),
            Kind::RunFolder => ("run folders of lynxdata", ""),
            Kind::Document => ("documents", ""),
            Kind::Hidden => ("hidden files and folders, and those of file managers", ""),
            Kind::Other => ("other files", ""),
        }
    }
}

/// Counts of things that are not read, by kind, with one example each. Its `Display` text lists all
/// of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    kinds: BTreeMap<Kind, (u64, String)>,
}

impl LeftOut {
    pub(super) fn add(&mut self, kind: Kind, example: &str) {
        self.kinds.entry(kind).or_insert_with(|| (0, example.to_owned())).0 += 1;
    }

    /// Adds the counts of another part of the source.
    pub(super) fn append(&mut self, other: LeftOut) {
        for (kind, (count, example)) in other.kinds {
            self.kinds.entry(kind).or_insert_with(|| (0, example)).0 += count;
        }
    }

    /// Removes a kind, because it is read after all.
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
