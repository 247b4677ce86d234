//! Finds the files of a table, on disk or in archives.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::archive::{Archive, Member, is_archive, is_packed_whole};
use crate::coding::{Coding, ENDINGS};
use crate::rows::table::Table;
use crate::{Error, Result};

/// A native file of a table.
#[derive(Debug, Clone)]
pub(crate) struct NativeFile {
    /// The path from the root folder, with `/` as separator, as it appears in the provenance of
    /// records. For an archive member it begins with the path of the archive.
    pub(crate) name: Arc<str>,
    /// The path of the file, or of the archive that contains it.
    pub(crate) path: PathBuf,
    /// The archive and the member in it, if it is in an archive.
    pub(crate) member: Option<(Arc<Archive>, Member)>,
    /// The parts of the path that match names in braces. Rows get them as fields with an underscore
    /// before the name.
    pub(crate) parts: Vec<(String, String)>,
}

/// `{name}`, `**` or `*` in a pattern.
static PLACEHOLDER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{([a-z][a-z0-9_]*)\}|\*").expect("the tests compile it"));

/// The mark after the name of a split in a pattern whose file may be in several parts.
const PARTS: char = '\u{1}';

/// Returns the names in braces of a pattern, except `{split}`.
///
/// # Errors
/// If braces do not contain a name, a name is used twice, or `**` is not a whole component.
pub(crate) fn part_names(pattern: &str) -> std::result::Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    let mut bare = pattern.to_owned();
    for found in PLACEHOLDER.captures_iter(pattern) {
        let Some(name) = found.get(1) else { continue };
        bare = bare.replace(&found[0], "");
        if name.as_str() == "split" {
            continue;
        }
        if names.iter().any(|other| other == name.as_str()) {
            return Err(format!("`{{{}}}` is used twice", name.as_str()));
        }
        names.push(name.as_str().to_owned());
    }
    if bare.contains(['{', '}']) {
        return Err("braces must contain a name of a-z, 0-9 and _".to_owned());
    }
    if pattern.split('/').any(|part| part.contains("**") && part != "**") {
        return Err("`**` matches whole folders, as in `a/**/b.json`".to_owned());
    }
    Ok(names)
}

/// The files of a table.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) files: Vec<NativeFile>,
    /// If there are no files: why archives that might hold some cannot be read.
    pub(crate) unread: Vec<Error>,
}

/// Returns the files of a table for a split, in the order of their names. `{split}` in the pattern
/// is replaced. A split that is the whole name of the file or folder may be in several:
/// `train.json` is followed by `train-00001.json` and so on, as `instruct` writes large sets, and
/// `train-00000-of-00002.parquet` and so on are those of Hugging Face. `*` matches any part of a
/// name, `**` any folders or none, and another name in braces matches a part of a name that becomes
/// a field of the rows. The name of a file may have an extra extension of [`ENDINGS`]. If no file
/// is on disk, the files are used that would exist if archives were unpacked: [`in_archives`].
///
/// # Errors
/// If a folder on the way cannot be read, or several archives contain a file.
pub(crate) fn files(root: &Path, table: &Table, split: &str) -> Result<Found> {
    let of_name = |name: &str| on_disk(root, &table.file.replace("{split}", name));
    let mut found = of_name(split)?;
    if table.file.split('/').any(|component| component == "{split}" || component.starts_with("{split}.")) {
        for number in 1.. {
            let part = if found.is_empty() { Vec::new() } else { of_name(&format!("{split}-{number:05}"))? };
            if part.is_empty() {
                break;
            }
            found.extend(part);
        }
        found.extend(of_name(&format!("{split}-*-of-*"))?);
    }
    if found.is_empty() {
        let (folder, name) = table.file.rsplit_once('/').unwrap_or(("", &table.file));
        // All parts are found at once, because looking into some archives takes long.
        let name = if name.starts_with("{split}.") {
            name.replacen("{split}", &format!("{{split}}{PARTS}"), 1)
        } else {
            name.to_owned()
        };
        let pattern = joined(folder, &name).replace("{split}", split);
        return in_archives(root, &pattern.split('/').collect::<Vec<_>>());
    }
    Ok(Found { files: found, unread: Vec::new() })
}

/// Returns the files on disk that match a pattern, in the order of their names.
fn on_disk(root: &Path, pattern: &str) -> Result<Vec<NativeFile>> {
    let components: Vec<&str> = pattern.split('/').collect();
    let mut found = Vec::new();
    let fault = |source| Error::Io { action: "read", path: root.to_owned(), source };
    walk(root, "", &components, &[], &mut found).map_err(fault)?;
    found.sort_by(|first, second| first.name.cmp(&second.name));
    found.dedup_by(|second, first| second.name == first.name);
    // If a file and a compressed copy of it exist, only one is read.
    let names: Vec<Arc<str>> = found.iter().map(|file| file.name.clone()).collect();
    found.retain(|file| match Coding::split(&file.name) {
        (_, None) => true,
        (plain, _) => !names.iter().any(|name| **name == *plain),
    });
    Ok(found)
}

/// A member of an archive, and the path from the root folder that it would have if the archive were
/// unpacked.
struct Packed {
    unpacked: String,
    file: NativeFile,
}

/// Looks for the files of a pattern in the archives in the root folder and in the folders along the
/// pattern, and in an archive that the pattern names, as in `a.zip/b.json`. A member is found at
/// the path that it would have if its archive were unpacked in place or into a folder with its
/// name. A top folder that contains everything in the archive may be omitted. Compressed tar files,
/// which must be read from their beginning, are searched only if no other archive has a file. Files
/// are in the order of the paths that they would have.
fn in_archives(root: &Path, components: &[&str]) -> Result<Found> {
    let mut unread = Vec::new();
    for is_kind in [is_archive, is_packed_whole] {
        let mut found: Vec<Packed> = Vec::new();
        let mut look = |path: &Path, name: &str, folder: &str, rest: &[&str]| match Archive::known(path) {
            Ok(archive) => members(&archive, name, folder, rest, &mut found),
            Err(error) => unread.push(error),
        };
        let (mut folder, mut name) = (root.to_owned(), String::new());
        for (depth, component) in components.iter().enumerate() {
            let archives =
                entries(&folder).map_err(|source| Error::Io { action: "read", path: folder.clone(), source })?;
            for (last, path) in archives.into_iter().filter(|(_, path)| is_kind(path) && path.is_file()) {
                look(&path, &joined(&name, &last), &name, &components[depth..]);
            }
            if PLACEHOLDER.is_match(component) || depth + 1 == components.len() {
                break;
            }
            folder.push(component);
            name = joined(&name, component);
            if is_kind(&folder) && folder.is_file() {
                look(&folder, &name, &name, &components[depth + 1..]);
            }
        }
        if !found.is_empty() {
            return Ok(Found { files: once_each(root, found)?, unread: Vec::new() });
        }
    }
    Ok(Found { files: Vec::new(), unread })
}

/// Adds the members of an archive that match a pattern, which is relative to `folder`.
fn members(archive: &Arc<Archive>, name: &str, folder: &str, pattern: &[&str], found: &mut Vec<Packed>) {
    let regex = path_regex(pattern);
    for (own, member) in archive.members() {
        let meant = archive.unpacked(own).find_map(|path| {
            let plain = Coding::split(&path).0.to_owned();
            let captures = regex.captures(&plain)?;
            let part = |part: &str| (part.to_owned(), captures[part].to_owned());
            let parts = regex.capture_names().flatten().map(part).collect();
            Some((joined(folder, &plain), parts))
        });
        let Some((unpacked, parts)) = meant else { continue };
        let name = joined(name, own).into();
        let file = NativeFile { name, path: archive.path.clone(), member: Some((Arc::clone(archive), member)), parts };
        found.push(Packed { unpacked, file });
    }
}

/// Returns the files in the order of their paths, each once.
fn once_each(root: &Path, mut found: Vec<Packed>) -> Result<Vec<NativeFile>> {
    found.sort_by(|first, second| (&first.unpacked, &first.file.name).cmp(&(&second.unpacked, &second.file.name)));
    let mut files: Vec<NativeFile> = Vec::new();
    let mut last = None;
    for Packed { unpacked, file } in found {
        let same = files.last().filter(|_| last.as_ref() == Some(&unpacked));
        match same {
            // The other one is a compressed copy of the same file.
            Some(first) if Coding::split(&file.name).0 == &*first.name => continue,
            Some(first) => {
                let (first, second) = (first.name.to_string(), file.name.to_string());
                return Err(Error::InSeveralArchives { path: root.join(unpacked), first, second });
            }
            None => files.push(file),
        }
        last = Some(unpacked);
    }
    Ok(files)
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn walk(
    folder: &Path,
    name: &str,
    components: &[&str],
    parts: &[(String, String)],
    found: &mut Vec<NativeFile>,
) -> io::Result<()> {
    let Some((component, rest)) = components.split_first() else { return Ok(()) };
    let joined = |last: &str| joined(name, last);
    let is_last = rest.is_empty();
    if *component == "**" {
        walk(folder, name, rest, parts, found)?;
        for (last, path) in entries(folder)? {
            if path.is_dir() {
                walk(&path, &joined(&last), components, parts, found)?;
            }
        }
        return Ok(());
    }
    if !PLACEHOLDER.is_match(component) {
        let packed = ENDINGS.iter().filter(|_| is_last).map(|(ending, _)| format!("{component}{ending}"));
        for last in std::iter::once((*component).to_owned()).chain(packed) {
            let path = folder.join(&last);
            if is_there(&path)? {
                if !is_last {
                    return walk(&path, &joined(&last), rest, parts, found);
                }
                found.push(NativeFile { name: joined(&last).into(), path, member: None, parts: parts.to_vec() });
            }
        }
        return Ok(());
    }
    let regex = component_regex(component);
    for (last, path) in entries(folder)? {
        let plain = if is_last { Coding::split(&last).0 } else { &last };
        let Some(captures) = regex.captures(plain) else { continue };
        let mut parts = parts.to_vec();
        for part in regex.capture_names().flatten() {
            parts.push((part.to_owned(), captures[part].to_owned()));
        }
        if is_last {
            found.push(NativeFile { name: joined(&last).into(), path, member: None, parts });
        } else if path.is_dir() {
            walk(&path, &joined(&last), rest, &parts, found)?;
        }
    }
    Ok(())
}

/// Returns whether a file or folder exists. A path below a file does not exist.
fn is_there(path: &Path) -> io::Result<bool> {
    match path.try_exists() {
        Err(fault) if fault.kind() == ErrorKind::NotADirectory => Ok(false),
        outcome => outcome,
    }
}

/// Returns the regular expression for one component of a pattern.
fn component_regex(component: &str) -> Regex {
    let pattern = format!("^{}$", component_pattern(component));
    Regex::new(&pattern).expect("names and escaped texts are a regular expression")
}

/// Returns the regular expression for a path that matches the components of a pattern.
fn path_regex(components: &[&str]) -> Regex {
    let mut pattern = "^".to_owned();
    for (place, component) in components.iter().enumerate() {
        let is_last = place + 1 == components.len();
        match *component {
            "**" => pattern.push_str("(?:[^/]+/)*"),
            component => pattern.push_str(&(component_pattern(component) + if is_last { "$" } else { "/" })),
        }
    }
    Regex::new(&pattern).expect("names and escaped texts are a regular expression")
}

fn component_pattern(component: &str) -> String {
    let mut pattern = String::new();
    let mut end = 0;
    for found in PLACEHOLDER.captures_iter(component) {
        let whole = found.get(0).expect("group 0 is the match");
        pattern.push_str(&regex::escape(&component[end..whole.start()]));
        match found.get(1) {
            Some(name) => pattern.push_str(&format!("(?P<{}>[^/]+)", name.as_str())),
            None => pattern.push_str("[^/]*"),
        }
        end = whole.end();
    }
    (pattern + &regex::escape(&component[end..])).replace(PARTS, "(?:-[0-9]{5,}|-[0-9]+-of-[0-9]+[^/.]*)?")
}

/// Returns the entries of a folder; empty if it does not exist.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(fault) if matches!(fault.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{write_tar, write_zip};

    fn found(pattern: &str) -> Vec<(String, Vec<(String, String)>)> {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "data/auto/01/dataset.csv",
            "data/auto/02/dataset.csv.gz",
            "data/book/x.csv",
            "train_1.json",
            "train_1.json.gz",
            "train_2.json",
            "data/dataset.csv",
            "sets/train.json",
            "sets/train-00001.json",
            "sets/train-00002.json",
            "sets/train-00004.json",
            "sets/train-other.json",
            "sets/train2.json",
            "shards/train/000.tar",
            "shards/train-00001/000.tar",
            "hub/a/train-00000-of-00002.parquet",
            "hub/a/train-00001-of-00002-2ce34.parquet",
            "hub/a/training.parquet",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let table: Table = toml::from_str(&format!("file = \"{pattern}\"")).unwrap();
        let files = files(folder.path(), &table, "train").unwrap().files;
        files.into_iter().map(|file| (file.name.to_string(), file.parts)).collect()
    }

    #[test]
    fn patterns_name_files_of_many_folders_and_their_parts() {
        let names = |pattern: &str| found(pattern).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("{split}_*.json"), ["train_1.json", "train_2.json"]);
        assert_eq!(names("{split}_1.json"), ["train_1.json"]);
        let parts = ["sets/train.json", "sets/train-00001.json", "sets/train-00002.json"];
        assert_eq!(names("sets/{split}.json"), parts);
        assert_eq!(names("sets/{split}.json*"), parts);
        assert_eq!(names("shards/{split}/*.tar"), ["shards/train/000.tar", "shards/train-00001/000.tar"]);
        let of_hub = ["hub/a/train-00000-of-00002.parquet", "hub/a/train-00001-of-00002-2ce34.parquet"];
        assert_eq!(names("hub/**/{split}.parquet"), of_hub);
        let all = ["data/auto/01/dataset.csv", "data/auto/02/dataset.csv.gz", "data/dataset.csv"];
        assert_eq!(names("data/**/dataset.csv"), all);
        assert_eq!(names("nowhere/**/dataset.csv"), [""; 0]);
        let part = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parts: Vec<_> = found("data/{site}/{page}/dataset.csv").into_iter().map(|(_, parts)| parts).collect();
        let of_page = |page: &str| vec![part("site", "auto"), part("page", page)];
        assert_eq!(parts, [of_page("01"), of_page("02")]);
        assert_eq!(found("train_{number}.json")[1].1, [part("number", "2")]);
    }

    fn names_in(root: &Path, pattern: &str) -> Result<Vec<String>> {
        let table: Table = toml::from_str(&format!("file = \"{pattern}\"")).unwrap();
        Ok(files(root, &table, "train")?.files.iter().map(|file| file.name.to_string()).collect())
    }

    #[test]
    fn archives_stand_for_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("more")).unwrap();
        write_zip(&root.join("set.zip"), &[("a/train.json", b"1"), ("a/2/train.xml", b"2"), ("a/10/train.xml", b"3")]);
        write_tar(&root.join("more/labels.tar"), &[("x/y.csv", b"4"), ("z.csv.gz", b"5")]);
        let names = |pattern: &str| names_in(root, pattern).unwrap();
        // Unpacked in place, into a folder with its name, and without the top folder.
        for pattern in ["a/{split}.json", "set/a/{split}.json", "{split}.json", "set.zip/a/{split}.json"] {
            assert_eq!(names(pattern), ["set.zip/a/train.json"], "{pattern}");
        }
        let both = ["set.zip/a/10/train.xml", "set.zip/a/2/train.xml"];
        for pattern in ["**/train.xml", "{page}/train.xml", "a/*/{name}.xml"] {
            assert_eq!(names(pattern), both, "{pattern}");
        }
        assert_eq!(names("more/labels/x/y.csv"), ["more/labels.tar/x/y.csv"]);
        assert_eq!(names("more/z.csv"), ["more/labels.tar/z.csv.gz"]);
        assert_eq!(names("x/y.csv"), [""; 0], "that archive lies in another folder");
        fs::write(root.join("train.json"), "6").unwrap();
        assert_eq!(names("{split}.json"), ["train.json"], "what is on the disk comes first");
    }

    #[test]
    fn a_file_of_two_archives_is_an_error_that_names_both() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write_zip(&root.join("b.zip"), &[("train.json", b"1")]);
        write_tar(&root.join("c.tar"), &[("c/train.json", b"2"), ("c/train.json.gz", b"2")]);
        let fault = names_in(root, "train.json").unwrap_err().to_string();
        assert!(fault.contains("b.zip/train.json") && fault.contains("c.tar/c/train.json"), "{fault}");
        assert_eq!(names_in(root, "c/train.json").unwrap(), ["c.tar/c/train.json"]);
        fs::write(root.join("broken.zip"), "PK").unwrap();
        assert_eq!(names_in(root, "c/train.json").unwrap(), ["c.tar/c/train.json"]);
        let table: Table = toml::from_str("file = \"nowhere.json\"").unwrap();
        let nothing = files(root, &table, "train").unwrap();
        assert!(nothing.files.is_empty() && nothing.unread.len() == 1, "{nothing:?}");
        assert!(nothing.unread[0].to_string().contains("broken.zip"), "{nothing:?}");
    }

    #[test]
    fn all_parts_of_a_split_are_read_from_an_archive() {
        let folder = tempfile::tempdir().unwrap();
        let parts: [(&str, &[u8]); 4] =
            [("train.json", b"1"), ("train-00001.json", b"2"), ("train2.json", b"3"), ("train-x.json", b"4")];
        write_zip(&folder.path().join("a.zip"), &parts);
        assert_eq!(names_in(folder.path(), "{split}.json").unwrap(), ["a.zip/train-00001.json", "a.zip/train.json"]);
    }

    #[test]
    fn faulty_patterns_are_told() {
        assert_eq!(part_names("{split}/{a}_{b}.json").unwrap(), ["a", "b"]);
        for (pattern, expected) in [("{a}/{a}", "is used twice"), ("{A}.json", "braces"), ("a**/b", "whole folders")] {
            assert!(part_names(pattern).unwrap_err().contains(expected), "{pattern}");
        }
    }
}
