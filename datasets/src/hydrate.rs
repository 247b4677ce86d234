//! Finds which images of a task are missing and where to get them.
//!
//! Annotations are published without their images. An image that is not at the path in the task may
//! be on disk under another name: COCO 2014 and 2017 contain the same images with the same ids, and
//! half of Visual Genome is from COCO, as its `image_data.json` says. The rest can be downloaded if
//! the collection has URLs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use lynxdata_picture::{PictureError, size_of};
use rayon::prelude::*;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::picture::{Pictures, Place};
use crate::record::key_text;
use crate::records::Records;
use crate::task::Task;
use crate::{Error, Result};

/// A collection as written in its file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectionFile {
    title: String,
    homepage: String,
    pictures: Option<u64>,
    name: String,
    ids: String,
    path: String,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    archives: Vec<String>,
    obtain: Option<String>,
}

/// A collection of images that several tasks share.
#[derive(Debug)]
pub struct Collection {
    /// Its name in task files.
    pub name: String,
    /// A description.
    pub title: String,
    /// The page of its publisher.
    pub homepage: String,
    /// The number of images in it, if its authors publish one.
    pub pictures: Option<u64>,
    /// The archives that contain all of its images.
    pub archives: Vec<String>,
    /// Instructions, if its images cannot be downloaded one by one.
    pub obtain: Option<String>,
    pattern: Regex,
    ids: String,
    path: String,
    urls: Vec<String>,
}

/// The numbering of the images of Visual Genome in `ids` of collections.
pub const VISUAL_GENOME: &str = "vg";

/// The known collections.
#[derive(Debug)]
pub struct Collections(Vec<Collection>);

impl Collections {
    /// Returns the shipped collections.
    ///
    /// # Errors
    /// If the shipped file is invalid, which a test rules out.
    pub fn shipped() -> Result<Self> {
        Self(Vec::new()).with("collections.toml", include_str!("../collections.toml"))
    }

    /// Adds the collections of a file. A collection replaces an earlier one with the same name.
    ///
    /// # Errors
    /// If it cannot be read or is invalid.
    pub fn with_file(self, path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        self.with(&path.display().to_string(), &text)
    }

    fn with(mut self, file: &str, text: &str) -> Result<Self> {
        let fault = |reason: String| Error::Collections { file: file.to_owned(), reason };
        let table: toml::Table = toml::from_str(text).map_err(|reason| fault(reason.to_string()))?;
        for (name, value) in table {
            let own: CollectionFile =
                value.try_into().map_err(|reason: toml::de::Error| fault(format!("{name}: {reason}")))?;
            let pattern = Regex::new(&own.name).map_err(|reason| fault(format!("{name}.name: {reason}")))?;
            if pattern.captures_len() != 2 {
                return Err(fault(format!("{name}.name: must have one group, which is the id")));
            }
            for template in own.urls.iter().chain([&own.path]) {
                if filled(template, "1").is_none() {
                    return Err(fault(format!("{name}: {template} must have {{id}} or {{id:12}} and no other braces")));
                }
            }
            self.0.retain(|other| other.name != name);
            self.0.push(Collection {
                name,
                title: own.title,
                homepage: own.homepage,
                pictures: own.pictures,
                archives: own.archives,
                obtain: own.obtain,
                pattern,
                ids: own.ids,
                path: own.path,
                urls: own.urls,
            });
        }
        Ok(self)
    }

    /// Returns the collection with a name.
    pub fn get(&self, name: &str) -> Option<&Collection> {
        self.0.iter().find(|own| own.name == name)
    }

    /// Returns the names of the tasks whose images all have ids of the numbering `ids`, such as
    /// `vg`.
    pub fn tasks_with_ids(&self, catalogue: &Catalogue, ids: &str) -> BTreeSet<String> {
        let is_numbered = |name: &String| self.get(name).is_some_and(|own| own.ids == ids);
        let has_ids = |task: &&Task| {
            let names: Vec<&String> = task.pictures.iter().flat_map(|terms| &terms.collections).collect();
            !names.is_empty() && names.into_iter().all(is_numbered)
        };
        catalogue.tasks().filter(has_ids).map(|task| task.name.clone()).collect()
    }

    /// Returns the collection of the task that a path belongs to, and the id of the image in it.
    fn of_path<'p>(&self, task: &Task, path: &'p str) -> Option<(&Collection, &'p str)> {
        let names = task.pictures.iter().flat_map(|terms| &terms.collections);
        names.filter_map(|name| self.get(name)).find_map(|own| {
            let id = own.pattern.captures(path)?.get(1)?.as_str();
            Some((own, id))
        })
    }
}

/// Fills an id into a template: `{id}`, or `{id:12}` for twelve digits. Returns `None` if the
/// template is invalid.
fn filled(template: &str, id: &str) -> Option<String> {
    let (before, rest) = template.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    let width = match name.split_once(':') {
        None => 0,
        Some((_, width)) => width.parse().ok()?,
    };
    let is_plain = !before.contains('}') && !after.contains(['{', '}']);
    (is_plain && name.split(':').next() == Some("id")).then(|| format!("{before}{id:0>width$}{after}"))
}

/// The ids of the same image in other collections.
#[derive(Debug, Default, PartialEq, Eq)]
struct Twin {
    /// The name of the numbering (`ids` of a collection) and the id in it.
    others: Vec<(&'static str, String)>,
    url: Option<String>,
}

/// The ids of the images of Visual Genome in COCO and Flickr, and the reverse, from
/// `image_data.json`.
#[derive(Debug, Default)]
struct Twins(HashMap<(&'static str, String), Twin>);

impl Twins {
    /// Reads the file from the first of the folders that contains it. Without it, returns an empty
    /// index.
    fn find(folders: &[PathBuf]) -> Result<Self> {
        let Some(path) = folders.iter().map(|folder| folder.join("image_data.json")).find(|path| path.is_file()) else {
            return Ok(Self::default());
        };
        let failed = |source| Error::Io { action: "read", path: path.clone(), source };
        let bytes = std::fs::read(&path).map_err(failed)?;
        // Another dataset may have a file with that name.
        let Ok(Value::Array(rows)) = serde_json::from_slice(&bytes) else { return Ok(Self::default()) };
        let mut twins = Self::default();
        for row in &rows {
            let number = |key: &str| row.get(key).and_then(key_text);
            let Some(id) = number("image_id") else { continue };
            let others = [("coco", number("coco_id")), ("flickr", number("flickr_id"))];
            let others: Vec<(&str, String)> =
                others.into_iter().filter_map(|(ids, number)| Some((ids, number?))).collect();
            for (ids, number) in &others {
                let twin = twins.0.entry((ids, number.clone())).or_default();
                twin.others.push(("vg", id.clone()));
            }
            let url = row.get("url").and_then(Value::as_str).map(str::to_owned);
            twins.0.insert(("vg", id), Twin { others, url });
        }
        Ok(twins)
    }

    fn of(&self, ids: &str, id: &str) -> Option<&Twin> {
        let ids = ["vg", "coco", "flickr"].into_iter().find(|own| *own == ids)?;
        self.0.get(&(ids, id.to_owned()))
    }
}

/// An image or video that is not at the path in its task, or whose file there is broken.
#[derive(Debug)]
pub struct Absent {
    /// The path in the task, from the image folder.
    pub path: String,
    /// The same image under another name or in another folder, complete.
    pub elsewhere: Option<Place>,
    /// The URLs from which it can be downloaded; the first one is tried first.
    pub urls: Vec<String>,
}

/// The images of one collection that a task has, and those that are missing.
#[derive(Debug, Default, Serialize)]
pub struct Held {
    /// The name of the collection; `None` for images without a collection.
    pub collection: Option<String>,
    /// The number of images in the task.
    pub wanted: u64,
    /// The number of images at the path in the task whose files are complete.
    pub there: u64,
    /// The number of files at the path in the task that are empty, cut off or not images. They
    /// count as elsewhere or missing.
    pub broken: u64,
    /// The path of the first of them, and what is wrong with it.
    pub broken_example: Option<String>,
    /// The number of images that exist only under another name or in another folder.
    pub elsewhere: u64,
    /// The number of missing images with a URL.
    pub fetchable: u64,
    /// The number of missing images, with or without a URL.
    pub missing: u64,
    /// The number of images in the whole collection, if its authors publish one.
    pub published: Option<u64>,
    /// The path of the first missing image.
    pub example: Option<String>,
    /// The places where its images can be found: URLs, archives or instructions.
    pub from: Vec<String>,
    /// The images that are not at the path in the task.
    #[serde(skip)]
    pub absent: Vec<Absent>,
}

/// The images that a task has, and those that are missing.
#[derive(Debug, Default, Serialize)]
pub struct Inventory {
    /// The task.
    pub task: String,
    /// The splits that were read.
    pub splits: Vec<String>,
    /// The number of records in these splits.
    pub records: u64,
    /// The result for each collection, in the order of their names.
    pub collections: Vec<Held>,
}

impl Inventory {
    /// Returns how many images and videos are not at the path in the task.
    pub fn absent(&self) -> u64 {
        self.collections.iter().map(|own| own.elsewhere + own.missing).sum()
    }
}

/// The result of looking for one image or video.
#[derive(Debug)]
enum Look {
    There,
    Absent {
        /// The fault of the file at its path, if there is such a file.
        broken: Option<String>,
        absent: Absent,
    },
}

/// Returns what is wrong with the file of an image or video. The whole structure of an image is
/// read, which costs little more than reading its bytes, but no pixels are decoded. An image of a
/// format that is not supported here is complete as far as we know.
fn fault(place: &Place, is_video: bool) -> Option<String> {
    match place.size() {
        Ok(0) => return Some("is empty".to_owned()),
        Ok(_) if is_video => return None,
        Ok(_) => {}
        Err(reason) => return Some(format!("cannot be read: {reason}")),
    }
    match place.read() {
        Err(reason) => Some(format!("cannot be read: {reason}")),
        Ok(bytes) => match size_of(&bytes, u64::MAX) {
            Err(PictureError::NotAnImage(reason)) => Some(reason.to_owned()),
            Err(PictureError::Broken(reason)) => Some(reason),
            _ => None,
        },
    }
}

/// Looks for every image and video of some splits of a task. `root` is the folder of native files.
/// `images` is the image folder or an archive of images. `others` are folders or archives that may
/// contain the same images under other names.
///
/// # Errors
/// The errors of [`Records::start`], and if a folder or an archive cannot be read.
pub fn inventory(
    task: &Task,
    collections: &Collections,
    root: &Path,
    splits: &[String],
    images: &Path,
    others: &[PathBuf],
) -> Result<Inventory> {
    let mut found = Inventory { task: task.name.clone(), splits: splits.to_vec(), ..Inventory::default() };
    // The paths, and whether they are those of videos.
    let mut paths = BTreeSet::new();
    for split in splits {
        let mut records = Records::start(task, root, split)?.with_images(images);
        for record in records.by_ref() {
            let media = record?.media;
            let embedded = media.embedded;
            paths
                .extend(media.images.into_iter().filter(|path| !embedded.contains_key(path)).map(|path| (path, false)));
            paths.extend(media.video.map(|video| (video.path, true)));
        }
        found.records += records.counts().kept;
    }
    let own = Pictures::of([images.to_owned()]);
    let places: Vec<PathBuf> = [images.to_owned(), root.to_owned()].into_iter().chain(others.iter().cloned()).collect();
    let twins = Twins::find(&places)?;
    let everywhere: Vec<Pictures> = places.into_iter().map(|place| Pictures::of([place])).collect();
    let look = |(path, is_video): &(String, bool)| -> Result<Look> {
        let mut broken = None;
        match own.find(path)? {
            Some(place) => match fault(&place, *is_video) {
                None => return Ok(Look::There),
                reason => broken = reason,
            },
            None if !crate::video::Video::folder(&own, path)?.is_empty() => return Ok(Look::There),
            None => {}
        }
        let of_path = collections.of_path(task, path);
        let (mut names, mut urls) = (vec![path.clone()], Vec::new());
        if let Some((collection, id)) = of_path {
            let twin = twins.of(&collection.ids, id);
            let same = [(collection.ids.as_str(), id)];
            let twins = twin.into_iter().flat_map(|own| &own.others).map(|(ids, id)| (*ids, id.as_str()));
            for (ids, id) in same.into_iter().chain(twins) {
                let kindred = collections.0.iter().filter(|own| own.ids == ids);
                names.extend(kindred.filter_map(|own| filled(&own.path, id)));
            }
            urls.extend(twin.and_then(|own| own.url.clone()));
            urls.extend(collection.urls.iter().filter_map(|template| filled(template, id)));
            // A URL that ends with the path is most likely the right one.
            urls.sort_by_key(|url| !url.ends_with(path));
            let mut seen = BTreeSet::new();
            urls.retain(|url| seen.insert(url.clone()));
        }
        let mut elsewhere = None;
        for (name, place) in names.iter().flat_map(|name| everywhere.iter().map(move |place| (name, place))) {
            elsewhere = place.find(name)?.filter(|place| fault(place, *is_video).is_none());
            if elsewhere.is_some() {
                break;
            }
        }
        Ok(Look::Absent { broken, absent: Absent { path: path.clone(), elsewhere, urls } })
    };
    let looks = paths.par_iter().map(look).collect::<Result<Vec<_>>>()?;
    let mut by_collection: BTreeMap<Option<String>, Held> = BTreeMap::new();
    for ((path, _), look) in paths.into_iter().zip(looks) {
        let of_path = collections.of_path(task, &path);
        let name = of_path.map(|(collection, _)| collection.name.clone());
        let held = by_collection.entry(name.clone()).or_insert_with(|| Held {
            collection: name,
            published: of_path.and_then(|(collection, _)| collection.pictures),
            from: of_path.map_or_else(|| sources_of(task), |(collection, _)| collection.sources()),
            ..Held::default()
        });
        held.wanted += 1;
        let Look::Absent { broken, absent } = look else {
            held.there += 1;
            continue;
        };
        if let Some(reason) = broken {
            held.broken += 1;
            held.broken_example.get_or_insert_with(|| format!("{path}: {reason}"));
        }
        if absent.elsewhere.is_some() {
            held.elsewhere += 1;
        } else {
            held.missing += 1;
            held.fetchable += u64::from(!absent.urls.is_empty());
            held.example.get_or_insert(path);
        }
        held.absent.push(absent);
    }
    found.collections = by_collection.into_values().collect();
    Ok(found)
}

impl Collection {
    /// Returns where to get its images.
    fn sources(&self) -> Vec<String> {
        let mut sources = self.urls.clone();
        sources.extend(self.archives.iter().cloned());
        sources.extend(self.obtain.as_ref().map(|how| format!("{}: {how}", self.homepage)));
        if sources.is_empty() { vec![self.homepage.clone()] } else { sources }
    }
}

/// Returns where to get the files of a task, except the files that it reads rows from.
fn sources_of(task: &Task) -> Vec<String> {
    let is_table = |file: &str| task.table_patterns().any(|pattern| pattern == file);
    let others = task.obtain.iter().filter(|own| !is_table(&own.file));
    others.map(|own| format!("{} from {}", own.file, own.from)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lynxdata_prompts::Banks;

    use super::*;

    #[test]
    fn every_collection_that_a_task_names_is_there_and_suits_its_paths() {
        let collections = Collections::shipped().unwrap();
        let catalogue = Catalogue::shipped(&Banks::shipped().unwrap()).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        for task in catalogue.tasks() {
            let Some(terms) = task.pictures.as_ref().filter(|terms| !terms.collections.is_empty()) else { continue };
            for name in &terms.collections {
                assert!(collections.get(name).is_some(), "task {}: {name}", task.name);
            }
            let root = fixtures.join(&task.name);
            let expected = fs::read(root.join("expected.json")).unwrap();
            let expected: Value = serde_json::from_slice(&expected).unwrap();
            let split = expected["split"].as_str().unwrap();
            let paths: Vec<String> =
                Records::start(task, &root, split).unwrap().flat_map(|record| record.unwrap().media.images).collect();
            let known = paths.iter().filter(|path| collections.of_path(task, path).is_some()).count();
            assert!(known > 0, "task {}: none of {paths:?} is in {:?}", task.name, terms.collections);
        }
    }

    #[test]
    fn faulty_collections_are_told() {
        let own = |name: &str, path: &str| {
            format!("[own]\ntitle = \"t\"\nhomepage = \"h\"\nids = \"own\"\nname = '{name}'\npath = '{path}'\n")
        };
        let with = |text: &str| Collections::shipped().unwrap().with("own.toml", text);
        assert!(with(&own("([0-9]+)", "{id}.jpg")).unwrap().get("own").is_some());
        for (text, expected) in [
            (own("[0-9]+", "{id}.jpg"), "must have one group"),
            (own("([0-9]+", "{id}.jpg"), "own.name"),
            (own("([0-9]+)", "{ids}.jpg"), "must have {id}"),
            (own("([0-9]+)", "a.jpg"), "must have {id}"),
            ("[own]\nname = 1".to_owned(), "own: "),
        ] {
            let fault = with(&text).map(|_| ()).unwrap_err().to_string();
            assert!(fault.starts_with("collections own.toml: ") && fault.contains(expected), "{fault}");
        }
        assert_eq!(filled("a/{id:12}.jpg", "9").unwrap(), "a/000000000009.jpg");
    }

    #[test]
    fn pictures_are_found_under_other_names_and_in_other_numbers() {
        let catalogue = Catalogue::shipped(&Banks::shipped().unwrap()).unwrap();
        let collections = Collections::shipped().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let questions = r#"{"questions": [
            {"question_id": 1, "image_id": 9, "question": "What?"}, {"question_id": 2, "image_id": 10, "question": "What?"},
            {"question_id": 3, "image_id": 11, "question": "What?"}, {"question_id": 4, "image_id": 12, "question": "What?"},
            {"question_id": 5, "image_id": 9, "question": "Which?"}]}"#;
        let answer = |id| format!("{{\"question_id\": {id}, \"multiple_choice_answer\": \"net\"}}");
        let answers = (1..=5).map(answer).collect::<Vec<_>>().join(",");
        fs::write(root.join("v2_OpenEnded_mscoco_train2014_questions.json"), questions).unwrap();
        fs::write(root.join("v2_mscoco_train2014_annotations.json"), format!("{{\"annotations\": [{answers}]}}"))
            .unwrap();
        fs::create_dir_all(root.join("train2014")).unwrap();
        let fixture = |path: &str| {
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/coco_caption/val2017").join(path)).unwrap()
        };
        let (nine, ten) = (fixture("000000205401.jpg"), fixture("000000290843.jpg"));
        let eleven = [&nine[..], b"11"].concat();
        fs::write(root.join("train2014/COCO_train2014_000000000009.jpg"), &nine).unwrap();
        // The same image of COCO 2017, and one of Visual Genome.
        let other = root.join("other");
        fs::create_dir_all(other.join("train2017")).unwrap();
        fs::create_dir_all(other.join("VG_100K_2")).unwrap();
        fs::write(other.join("train2017/000000000010.jpg"), &ten).unwrap();
        fs::write(other.join("VG_100K_2/77.jpg"), &eleven).unwrap();
        fs::write(other.join("image_data.json"), r#"[{"image_id": 77, "coco_id": 11, "flickr_id": null, "url": "u"}]"#)
            .unwrap();
        let task = catalogue.get("vqav2").unwrap();
        let found =
            inventory(task, &collections, root, &["train".to_owned()], root, std::slice::from_ref(&other)).unwrap();
        assert_eq!((found.records, found.collections.len(), found.absent()), (5, 1, 3));
        let coco = &found.collections[0];
        assert_eq!(coco.collection.as_deref(), Some("coco-train2014"));
        assert_eq!((coco.wanted, coco.there, coco.elsewhere, coco.missing, coco.fetchable), (4, 1, 2, 1, 1));
        assert_eq!(coco.published, Some(82_783));
        let read = |place: usize| coco.absent[place].elsewhere.as_ref().map(|own| own.read().unwrap());
        assert_eq!((read(0), read(1), read(2)), (Some(ten), Some(eleven), None));
        assert_eq!((coco.broken, &coco.broken_example), (0, &None));
        let url = "http://images.cocodataset.org/train2014/COCO_train2014_000000000012.jpg";
        assert_eq!(coco.absent[2].urls, [url]);
        assert_eq!(coco.example.as_deref(), Some("train2014/COCO_train2014_000000000012.jpg"));
        // Files that are no whole images are neither there nor elsewhere.
        fs::write(root.join("train2014/COCO_train2014_000000000009.jpg"), "<html>Not found</html>").unwrap();
        fs::write(root.join("train2014/COCO_train2014_000000000012.jpg"), &nine[..nine.len() / 2]).unwrap();
        fs::write(other.join("train2017/000000000010.jpg"), "").unwrap();
        fs::write(other.join("train2017/000000000009.jpg"), "").unwrap();
        let again =
            inventory(task, &collections, root, &["train".to_owned()], root, std::slice::from_ref(&other)).unwrap();
        let coco = &again.collections[0];
        assert_eq!((coco.wanted, coco.there, coco.elsewhere, coco.missing, coco.broken), (4, 0, 1, 3, 2));
        let example = coco.broken_example.as_deref().unwrap();
        assert!(example.starts_with("train2014/COCO_train2014_000000000009.jpg: "), "{example}");
        // The other way round, the address comes from the file of Visual Genome.
        let twins = Twins::find(&[other]).unwrap();
        assert_eq!(twins.of("vg", "77").unwrap().others, [("coco", "11".to_owned())]);
        assert_eq!(twins.of("vg", "77").unwrap().url.as_deref(), Some("u"));
        assert_eq!(twins.of("openimages", "77"), None);
    }
}
