//! The images and videos of the conversations of one task: each is checked once, missing and broken
//! ones are listed, and images without a file get one in the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hashbrown::{HashMap, HashSet};
use lynxdata_datasets::{
    Conversation, FaultyMedia, Frame, ImageReference, Pictures, Place, Task, Video, VideoFault, VideoReference,
    frame_at,
};
use lynxdata_fetch::{DownloadConfig, status_of};
use lynxdata_picture::{Check, Encode, PictureSettings, Resize, prepare};
use lynxdata_records::{NewPart, RunFolder, Status};
use rayon::prelude::*;
use serde::Serialize;

use crate::recipe::InstructConfig;

/// The reason for leaving out conversations with a missing image. Broken images have the status
/// names of a download.
pub(super) const MISSING_IMAGE: &str = "missing_image";

/// The folder of images that have no file: members of archives, bytes in rows, frames of videos.
pub(super) const KEPT: &str = "instruct/pictures";

/// The folder of the lists of missing and broken images.
pub(super) const LISTED: &str = "instruct/left_out";

/// Maximum number of images and videos that are remembered; conversations about one image are
/// usually near each other.
const REMEMBERED: usize = 1 << 16;

/// The result of checking an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is a file below the image folder.
    Loose,
    /// It is kept in the run, or is a member of an archive that does not need to be kept.
    Kept,
    /// Conversations with it are left out, for this reason.
    Faulty(&'static str),
}

/// The settings of `[download]` that images of tasks have too.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Limits {
    /// The maximum size of a file, in bytes.
    pub(super) max_bytes: u64,
    /// The maximum size of an image, in pixels.
    pub(super) max_pixels: u64,
    /// How an image is checked.
    pub(super) check: Check,
}

impl Limits {
    pub(super) fn of(download: &DownloadConfig) -> Self {
        Self { max_bytes: download.max_bytes, max_pixels: download.max_pixels, check: download.check }
    }
}

/// The limits for images, and what to do with those outside them.
pub(super) struct Rules {
    /// The limits of an image.
    pub(super) limits: Limits,
    /// Whether a conversation needs all of its images.
    pub(super) needs_all: bool,
    /// Number of frames that represent a video.
    pub(super) frames: Option<u32>,
    /// Frames per second of a folder of frames.
    pub(super) frame_rate: Option<f64>,
    /// Whether members of archives become files: only if a format refers to images by path.
    pub(super) keeps_members: bool,
}

impl Rules {
    pub(super) fn of(config: &InstructConfig, limits: Limits, task: &Task) -> Self {
        Self {
            limits,
            needs_all: config.require_images,
            frames: config.frames,
            frame_rate: task.frame_rate(),
            keeps_members: config.formats.iter().any(|format| format.names_pictures),
        }
    }
}

/// The number of left-out conversations and a first example, by reason.
pub(super) type LeftOut = BTreeMap<&'static str, (u64, String)>;

/// Checks the images of conversations.
pub(super) struct TaskPictures {
    rules: Rules,
    /// The folder of the images as published by the authors.
    folder: PathBuf,
    /// The folder where images are kept until the part is committed.
    kept: PathBuf,
    /// The folders where earlier parts of the split keep their images.
    before: Vec<PathBuf>,
    pictures: Pictures,
    looks: HashMap<String, Look>,
    videos: HashMap<String, std::result::Result<Video, VideoFault>>,
    /// Videos whose frames are not needed, and why they cannot be used.
    video_files: HashMap<String, Option<&'static str>>,
    has_loose: bool,
    list: Option<FaultList>,
    left_out: LeftOut,
    /// The missing or broken videos of the conversations that were checked last, with their
    /// reasons.
    faulty_videos: BTreeMap<String, &'static str>,
}

impl TaskPictures {
    /// Creates it. `name` is the name of the part, `before` has the folders where earlier parts of
    /// the split keep their images, `folder` the folder or archive of the images.
    pub(super) fn new(run: &RunFolder, name: &str, before: Vec<PathBuf>, folder: PathBuf, rules: Rules) -> Self {
        let kept = run.temporary_folder().join(format!("pictures-{name}"));
        let pictures = Pictures::of([kept.clone(), folder.clone()]);
        Self {
            rules,
            folder,
            kept,
            before,
            pictures,
            looks: HashMap::new(),
            videos: HashMap::new(),
            video_files: HashMap::new(),
            has_loose: false,
            list: None,
            left_out: LeftOut::new(),
            faulty_videos: BTreeMap::new(),
        }
    }

    /// Returns the bytes of an image that was checked.
    pub(super) fn read(&self, path: &str) -> lynxdata_datasets::Result<Option<Vec<u8>>> {
        self.pictures.read(path)
    }

    /// Replaces videos by frames if the recipe says so. Removes conversations with a missing or
    /// broken image or video, and lists these.
    pub(super) fn look_at(&mut self, conversations: &mut Vec<Conversation>) -> Result<()> {
        self.faulty_videos = self.look_at_videos(conversations)?;
        self.look_at_pictures(conversations)?;
        let mut failed = None;
        conversations.retain_mut(|conversation| match self.is_kept(conversation) {
            Ok(is_kept) => is_kept,
            Err(error) => {
                failed.get_or_insert(error);
                true
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Returns whether a conversation has all images and videos that it needs, and lists those that
    /// it lacks. Drops the images of its row, which have files now.
    fn is_kept(&mut self, conversation: &mut Conversation) -> Result<bool> {
        let of_row = std::mem::take(&mut conversation.embedded);
        let faults: Vec<(&str, &'static str)> = faults(&self.looks, &self.faulty_videos, conversation).collect();
        if faults.is_empty() {
            return Ok(true);
        }
        let may_lack =
            |fault: &str| !self.rules.needs_all && (fault == MISSING_IMAGE || fault == VideoFault::Missing.name());
        let reason = faults.iter().find(|(_, fault)| !may_lack(fault)).copied();
        let list = match &mut self.list {
            Some(list) => list,
            none => none.insert(FaultList::create(&self.kept)?),
        };
        for (path, fault) in &faults {
            list.add(&FaultyMedia { id: &conversation.id, path, reason: fault, kept: reason.is_none() })?;
        }
        let Some((path, fault)) = reason else { return Ok(true) };
        let example = || {
            if of_row.contains_key(path) {
                format!("{} with an image of its row", conversation.id)
            } else {
                example(&self.folder, &self.pictures, &conversation.id, path, fault)
            }
        };
        self.left_out.entry(fault).or_insert_with(|| (0, example())).0 += 1;
        Ok(false)
    }

    /// Returns whether a conversation of those that were checked last is kept with a missing image
    /// or video.
    pub(super) fn is_incomplete(&self, conversation: &Conversation) -> bool {
        faults(&self.looks, &self.faulty_videos, conversation).next().is_some()
    }

    /// Checks every image that is not known yet, on all cores, and keeps those without a file. An
    /// image that a download would refuse is refused here too.
    fn look_at_pictures(&mut self, conversations: &[Conversation]) -> Result<()> {
        if self.looks.len() > REMEMBERED {
            self.looks.clear();
        }
        let (mut wanted, mut known) = (Vec::new(), HashSet::new());
        for conversation in conversations {
            for image in &conversation.images {
                let path = image.path.as_str();
                if !self.looks.contains_key(path) && known.insert(path) {
                    wanted.push((path, conversation));
                }
            }
        }
        let look = |(path, conversation): (&str, &Conversation)| -> Result<(String, Look)> {
            let place = match conversation.embedded.get(path) {
                Some(bytes) => Some(Place::Row(bytes.clone())),
                None => self.pictures.find(path)?,
            };
            Ok((path.to_owned(), self.look(path, place)?))
        };
        let looks = wanted.into_par_iter().map(look).collect::<Result<Vec<_>>>()?;
        self.has_loose |= looks.iter().any(|(_, look)| *look == Look::Loose);
        self.looks.extend(looks);
        Ok(())
    }

    fn look(&self, path: &str, place: Option<Place>) -> Result<Look> {
        let Some(place) = place else { return Ok(Look::Faulty(MISSING_IMAGE)) };
        let bytes = match read(&place, self.rules.limits.max_bytes) {
            Ok(bytes) => bytes,
            Err(status) => return Ok(Look::Faulty(status.name())),
        };
        let is_kept = match &place {
            Place::File(file) if file.starts_with(&self.kept) => {
                return Ok(fault(bytes, self.rules.limits).unwrap_or(Look::Kept));
            }
            Place::File(_) => return Ok(fault(bytes, self.rules.limits).unwrap_or(Look::Loose)),
            Place::Member(_) => self.rules.keeps_members,
            Place::Row(_) => true,
        };
        if let Some(faulty) = fault(bytes.clone(), self.rules.limits) {
            return Ok(faulty);
        }
        if is_kept {
            self.keep(path, &bytes)?;
        }
        Ok(Look::Kept)
    }

    fn keep(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.kept.join(path);
        let folder = file.parent().context("an image is in a folder")?;
        let failed = || format!("cannot write {}", file.display());
        std::fs::create_dir_all(folder).with_context(failed)?;
        // If an earlier part keeps the image, a hard link saves the space, if the file system has
        // links.
        let earlier = self.before.iter().map(|folder| folder.join(path)).find(|earlier| earlier.is_file());
        if earlier.is_some_and(|earlier| std::fs::hard_link(earlier, &file).is_ok()) {
            return Ok(());
        }
        std::fs::write(&file, bytes).with_context(failed)
    }

    /// Looks for every video, and replaces it by frames if the recipe says so. Returns the missing
    /// or broken videos with their reasons.
    fn look_at_videos(&mut self, conversations: &mut [Conversation]) -> Result<BTreeMap<String, &'static str>> {
        if self.videos.len().max(self.video_files.len()) > REMEMBERED {
            self.videos.clear();
            self.video_files.clear();
        }
        let all = conversations.iter().filter_map(|conversation| conversation.video.as_ref());
        let paths: BTreeSet<&str> = all.map(|video| video.path.as_str()).collect();
        let mut faulty = BTreeMap::new();
        let Some(count) = self.rules.frames else {
            let unknown: Vec<&str> =
                paths.iter().copied().filter(|path| !self.video_files.contains_key(*path)).collect();
            let look = |path: &&str| Ok(((*path).to_owned(), self.look_at_video_file(path)?));
            let looks = unknown.par_iter().map(look).collect::<Result<Vec<_>>>()?;
            self.video_files.extend(looks);
            let reason = |path: &str| Some((path.to_owned(), self.video_files[path]?));
            return Ok(paths.into_iter().filter_map(reason).collect());
        };
        let unknown: Vec<&str> = paths.into_iter().filter(|path| !self.videos.contains_key(*path)).collect();
        let find = |path: &&str| Ok(((*path).to_owned(), Video::find(&self.pictures, path)?));
        let found = unknown.par_iter().map(find).collect::<lynxdata_datasets::Result<Vec<_>>>()?;
        self.videos.extend(found);
        let shown = conversations.par_iter().map(|conversation| match &conversation.video {
            Some(video) => self.frames(video, count).map(Some),
            None => Ok(None),
        });
        let shown = shown.collect::<Result<Vec<_>>>()?;
        for (conversation, shown) in conversations.iter_mut().zip(shown) {
            match (shown, &conversation.video) {
                (Some(Ok(paths)), _) => {
                    conversation.images = paths.into_iter().map(|path| ImageReference { path }).collect();
                    conversation.video = None;
                }
                (Some(Err(fault)), Some(video)) => _ = faulty.insert(video.path.clone(), fault.name()),
                _ => {}
            }
        }
        Ok(faulty)
    }

    /// Returns why a video whose frames are not needed cannot be used, if so: it is not there, or
    /// it is empty, cut off or no video.
    fn look_at_video_file(&self, path: &str) -> Result<Option<&'static str>> {
        let Some(place) = self.pictures.find(path)? else {
            let is_missing = Video::folder(&self.pictures, path)?.is_empty();
            return Ok(is_missing.then(|| VideoFault::Missing.name()));
        };
        Ok(match place.size().and_then(|size| Ok((size, place.fault_of_container(path)?))) {
            Ok((0, _)) => Some(Status::EmptyBody.name()),
            Ok((_, fault)) => fault.map(|fault| fault.name()),
            Err(_) => Some(Status::UnreadableFile.name()),
        })
    }

    /// Returns the paths of the frames of a video, which are kept as `VIDEO/MILLISECONDS.jpg`.
    fn frames(&self, part: &VideoReference, count: u32) -> Result<std::result::Result<Vec<String>, VideoFault>> {
        let video = match &self.videos[&part.path] {
            Ok(video) => video,
            Err(fault) => return Ok(Err(fault.clone())),
        };
        let frames = match video.frames(part, count, self.rules.frame_rate) {
            Ok(frames) => frames,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut paths = Vec::new();
        for frame in frames {
            paths.push(match (frame, video) {
                (Frame::Picture(path), _) => path,
                (Frame::At(moment), Video::File(place, _)) => {
                    let path = format!("{}/{moment:08}.jpg", part.path);
                    if !self.kept.join(&path).is_file() {
                        match frame_at(place, moment)? {
                            Ok(bytes) => self.keep(&path, &bytes)?,
                            Err(fault) => return Ok(Err(fault)),
                        }
                    }
                    path
                }
                (Frame::At(_), Video::Frames(_)) => unreachable!("a folder has images"),
            });
        }
        Ok(Ok(paths))
    }

    /// Returns whether some images are kept in the run while others are files outside it, so that
    /// no single folder has all of them.
    pub(super) fn is_scattered(&self) -> bool {
        self.has_loose && self.kept.is_dir()
    }

    /// Copies an image file into the run.
    pub(super) fn gather(&self, path: &str) -> Result<()> {
        if self.kept.join(path).is_file() {
            return Ok(());
        }
        match self.pictures.read(path)? {
            Some(bytes) => self.keep(path, &bytes),
            None => Ok(()),
        }
    }

    /// Finishes the list, and moves it and the kept images into the files of the part. Returns what
    /// was left out.
    pub(super) fn finish(self, run: &RunFolder, name: &str, new: &mut NewPart) -> Result<LeftOut> {
        let mut hand_over = |from: &Path, name: String| -> Result<()> {
            let staged = run.stage_file(new, &name)?;
            std::fs::rename(from, &staged)
                .with_context(|| format!("cannot move {} to {}", from.display(), staged.display()))
        };
        if let Some(FaultList { path, mut out, .. }) = self.list {
            out.flush().with_context(|| format!("cannot write {}", path.display()))?;
            hand_over(&path, format!("{LISTED}/{name}.jsonl"))?;
        }
        if self.kept.is_dir() {
            hand_over(&self.kept, kept_folder(name))?;
        }
        Ok(self.left_out)
    }
}

/// Returns the missing and broken videos and images of a conversation, and the reasons.
fn faults<'a>(
    looks: &'a HashMap<String, Look>,
    faulty_videos: &'a BTreeMap<String, &'static str>,
    conversation: &'a Conversation,
) -> impl Iterator<Item = (&'a str, &'static str)> {
    let video = conversation.video.as_ref().map(|video| video.path.as_str());
    let video = video.and_then(|path| Some((path, *faulty_videos.get(path)?)));
    let images = conversation.images.iter().filter_map(|image| match looks.get(&image.path) {
        Some(Look::Faulty(fault)) => Some((image.path.as_str(), *fault)),
        _ => None,
    });
    video.into_iter().chain(images)
}

/// Returns the example of a conversation that is left out.
fn example(folder: &Path, pictures: &Pictures, id: &str, path: &str, fault: &str) -> String {
    if fault != MISSING_IMAGE && fault != VideoFault::Missing.name() {
        return format!("{id} with {}", folder.join(path).display());
    }
    let packed: Vec<String> = pictures.packed_whole().iter().map(|own| own.display().to_string()).collect();
    let packed = match packed.as_slice() {
        [] => String::new(),
        packed => format!("; {} can only be read when it is unpacked", packed.join(", ")),
    };
    format!(
        "{id}, as {path} is not in {}{packed}; instruct.tasks[].images names another folder, instruct.require_images = \
         false keeps such conversations",
        folder.display()
    )
}

/// The number of bytes of the list that are written at a time.
const BUFFER: usize = 1 << 16;

/// The list of missing and broken images and videos of a part.
struct FaultList {
    path: PathBuf,
    out: BufWriter<File>,
    line: Vec<u8>,
}

impl FaultList {
    /// Creates it beside the folder of the images that the part keeps.
    fn create(kept: &Path) -> Result<Self> {
        let mut path = kept.as_os_str().to_owned();
        path.push(".jsonl");
        let path = PathBuf::from(path);
        let failed = || format!("cannot write {}", path.display());
        std::fs::create_dir_all(path.parent().with_context(failed)?).with_context(failed)?;
        let out = BufWriter::with_capacity(BUFFER, File::create(&path).with_context(failed)?);
        Ok(Self { path, out, line: Vec::new() })
    }

    fn add(&mut self, media: &FaultyMedia) -> Result<()> {
        self.line.clear();
        media.append_line(&mut self.line);
        self.out.write_all(&self.line).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Returns the folder of the images that a part keeps, relative to the run folder.
pub(super) fn kept_folder(name: &str) -> String {
    format!("{KEPT}/{name}")
}

/// Returns the images of a committed part: those that the run keeps, and those of its authors.
pub(crate) fn committed(run: &Path, name: &str, folder: PathBuf) -> Pictures {
    Pictures::of([run.join(kept_folder(name)), folder])
}

/// Reads an image, unless it is empty or too large.
fn read(place: &Place, most: u64) -> std::result::Result<Vec<u8>, Status> {
    match place.size() {
        Ok(0) => Err(Status::EmptyBody),
        Ok(bytes) if bytes > most => Err(Status::TooLarge),
        Ok(_) => place.read().map_err(|_| Status::UnreadableFile),
        Err(_) => Err(Status::UnreadableFile),
    }
}

fn fault(bytes: Vec<u8>, limits: Limits) -> Option<Look> {
    // Nothing is scaled, so size, encoding and quality decide nothing.
    let settings = PictureSettings {
        resize: Resize::Keep,
        size: 1,
        only_if_larger: true,
        encode: Encode::Jpeg,
        quality: 100,
        max_pixels: limits.max_pixels,
        check: limits.check,
    };
    let error = prepare(bytes, &settings, &[]).err()?;
    Some(Look::Faulty(status_of(&error).name()))
}

#[cfg(test)]
mod tests {
    use lynxdata_report::data::data_uri;
    use serde_json::json;

    use super::*;

    fn conversation(path: &str) -> Conversation {
        let image = json!([{ "path": path }]);
        serde_json::from_value(json!({
            "id": path, "task": "t", "group": "vqa", "answer_shape": "phrase", "licence": "CC0-1.0", "images": image,
            "messages": [], "template": "vqa/a", "source_file": "f", "source_row": 0, "choice_order": []
        }))
        .unwrap()
    }

    fn rules(limits: &DownloadConfig) -> Rules {
        Rules { limits: Limits::of(limits), needs_all: true, frames: None, frame_rate: None, keeps_members: true }
    }

    fn jpeg() -> Vec<u8> {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../picture/fixtures/plain.jpg")).unwrap()
    }

    /// Looks at conversations and returns the ids of those that are kept, and the lines of the
    /// list.
    fn look(own: &mut TaskPictures, conversations: Vec<Conversation>) -> (Vec<Conversation>, Vec<String>) {
        let mut conversations = conversations;
        own.look_at(&mut conversations).unwrap();
        let Some(list) = &mut own.list else { return (conversations, Vec::new()) };
        list.out.flush().unwrap();
        let lines = std::fs::read_to_string(&list.path).unwrap();
        (conversations, lines.lines().map(str::to_owned).collect())
    }

    #[test]
    fn pictures_that_no_trainer_opens_have_a_reason() {
        let (folder, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = RunFolder::open(&run.path().join("run")).unwrap();
        let jpeg = jpeg();
        let limits = DownloadConfig { max_bytes: 100_000, ..DownloadConfig::default() };
        let files: [(&str, &[u8], Option<&str>); 8] = [
            ("whole.jpg", &jpeg, None),
            ("named.png", &jpeg, None),
            ("empty.jpg", b"", Some("empty_body")),
            ("page.jpg", b"<!DOCTYPE html><p>Not found</p>", Some("not_an_image")),
            ("text.jpg", b"not found", Some("not_an_image")),
            ("lfs.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", Some("not_an_image")),
            ("cut.jpg", &jpeg[..jpeg.len() / 2], Some("broken_image")),
            ("large.jpg", &[jpeg.clone(), vec![0; 100_000]].concat(), Some("too_large")),
        ];
        let mut conversations = vec![conversation("nowhere.jpg"), conversation("."), conversation("whole.jpg")];
        for (name, bytes, _) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            conversations.push(conversation(name));
        }
        let mut own = TaskPictures::new(&run, "t", Vec::new(), folder.path().to_owned(), rules(&limits));
        let (kept, lines) = look(&mut own, conversations);
        for (name, _, fault) in files {
            let expected = fault.map_or(Look::Loose, Look::Faulty);
            assert_eq!(own.looks[name], expected, "{name}");
            let line = lines.iter().find(|line| line.contains(&format!("\"path\":\"{name}\"")));
            assert_eq!(line.is_some_and(|line| line.contains(fault.unwrap_or("-"))), fault.is_some(), "{name}");
        }
        assert_eq!((kept.len(), lines.len(), own.left_out[MISSING_IMAGE].0), (3, 8, 2));
        assert!(own.left_out[MISSING_IMAGE].1.contains("instruct.require_images = false"), "{:?}", own.left_out);
        assert!(!own.is_scattered());
        // What is missing may be allowed to be; what is broken is not.
        own = TaskPictures::new(
            &run,
            "t",
            Vec::new(),
            folder.path().to_owned(),
            Rules { needs_all: false, ..rules(&limits) },
        );
        let (kept, lines) = look(&mut own, vec![conversation("nowhere.jpg"), conversation("cut.jpg")]);
        assert_eq!((kept.len(), lines.len()), (1, 2));
        assert!(lines[0].contains("\"kept\":true") && lines[1].contains("\"kept\":false"), "{lines:?}");
    }

    #[test]
    fn what_has_no_file_gets_one_and_only_once() {
        let (folder, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = RunFolder::open(&place.path().join("run")).unwrap();
        let limits = DownloadConfig::default();
        let base64 = data_uri("image/jpeg", &jpeg());
        let object = json!({ "a": base64.rsplit_once(',').unwrap().1 }).to_string();
        std::fs::write(folder.path().join("LA.json"), object).unwrap();
        std::fs::write(folder.path().join("loose.jpg"), jpeg()).unwrap();
        let mut in_row = conversation("12/34.jpg");
        in_row.embedded.insert("12/34.jpg".to_owned(), jpeg().into());
        let mut again = in_row.clone();
        again.embedded.clear();
        let all = vec![conversation("LA.json/a"), in_row, again, conversation("loose.jpg")];
        let mut own = TaskPictures::new(&run, "t", Vec::new(), folder.path().to_owned(), rules(&limits));
        let (kept, lines) = look(&mut own, all);
        assert_eq!((kept.len(), lines.len()), (4, 0));
        assert!(kept.iter().all(|own| own.embedded.is_empty()) && own.is_scattered());
        own.gather("loose.jpg").unwrap();
        let mut new = NewPart::new("instruct", "t", "f".to_owned());
        own.finish(&run, "t", &mut new).unwrap();
        run.commit(new).unwrap();
        for path in ["LA.json/a", "12/34.jpg", "loose.jpg"] {
            assert_eq!(std::fs::read(run.root().join(KEPT).join("t").join(path)).unwrap(), jpeg(), "{path}");
        }
        // The next part of the split keeps a link to it.
        let before = vec![run.root().join(kept_folder("t"))];
        let mut own = TaskPictures::new(&run, "t-00001", before, folder.path().to_owned(), rules(&limits));
        look(&mut own, vec![conversation("LA.json/a")]);
        assert_eq!(std::fs::read(own.kept.join("LA.json/a")).unwrap(), jpeg());
        // Without a format that names paths, members stay where they are.
        let mut own = TaskPictures::new(
            &run,
            "t",
            Vec::new(),
            folder.path().to_owned(),
            Rules { keeps_members: false, ..rules(&limits) },
        );
        let (kept, _) = look(&mut own, vec![conversation("LA.json/a")]);
        assert_eq!((kept.len(), own.kept.exists()), (1, false));
        assert_eq!(own.read("LA.json/a").unwrap(), Some(jpeg()));
    }

    #[test]
    fn frames_stand_for_a_video() {
        let (folder, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = RunFolder::open(&place.path().join("run")).unwrap();
        let limits = DownloadConfig::default();
        std::fs::create_dir(folder.path().join("v")).unwrap();
        for number in 0..10 {
            std::fs::write(folder.path().join(format!("v/{number}.jpg")), jpeg()).unwrap();
        }
        let about = |path: &str, start: Option<f64>| {
            let mut own = conversation("x");
            own.id = path.to_owned();
            own.images.clear();
            own.video = Some(VideoReference { path: path.to_owned(), start, end: None });
            own
        };
        let all = vec![about("v.mp4", None), about("w.mp4", None), about("v.mp4", Some(2.0))];
        let five = Rules { frames: Some(5), ..rules(&limits) };
        let mut own = TaskPictures::new(&run, "t", Vec::new(), folder.path().to_owned(), five);
        let (kept, lines) = look(&mut own, all.clone());
        let paths: Vec<&str> = kept[0].images.iter().map(|image| image.path.as_str()).collect();
        assert_eq!(paths, ["v/1.jpg", "v/3.jpg", "v/5.jpg", "v/7.jpg", "v/9.jpg"]);
        assert!(kept.len() == 1 && kept[0].video.is_none());
        assert!(lines[0].contains("missing_video") && lines[1].contains("no_frame_rate"), "{lines:?}");
        // Without frames, a video is looked for and its container examined, but not decoded.
        let mut own = TaskPictures::new(&run, "t", Vec::new(), folder.path().to_owned(), rules(&limits));
        let (kept, lines) = look(&mut own, all);
        assert_eq!((kept.len(), lines.len()), (2, 1));
        assert!(kept.iter().all(|own| own.video.is_some()));
        let whole = b"\0\0\0\x0cmoovdata";
        for (name, bytes) in [("w.mp4", &whole[..]), ("cut.mp4", &whole[..11]), ("text.mp4", b"abc")] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let all = vec![about("w.mp4", None), about("cut.mp4", None), about("text.mp4", None)];
        let mut own = TaskPictures::new(&run, "u", Vec::new(), folder.path().to_owned(), rules(&limits));
        let (kept, lines) = look(&mut own, all);
        assert_eq!((kept.len(), lines.len(), own.left_out["broken_video"].0), (1, 2, 2), "{lines:?}");
    }
}
