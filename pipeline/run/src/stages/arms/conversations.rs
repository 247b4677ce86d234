//! Conversations: the Parquet files of stage `instruct`, and JSON in the format of LLaVA.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array, ListArray, StringArray, StructArray};
use lynxdata_check::Turn;
use lynxdata_records::schema::{Column, IMAGE_BYTES};
use serde_json::Value;

use super::sample::Sample;
use super::table::{Membership, RawPair, Writer};
use crate::table;
use crate::video::{self, spread};

/// Number of bytes of a JSON file that are read to detect its content.
const BEGINNING: u64 = 64 * 1024;

const ID: Column<StringArray> = Column::named("id");
const IMAGES: Column<ListArray> = Column::named("images");
/// The column of the messages, by which a file of conversations is recognised.
pub(super) const MESSAGES: Column<ListArray> = Column::named("messages");
const ROLE: Column<StringArray> = Column::named("role");
const CONTENT: Column<StringArray> = Column::named("content");
const VIDEO: Column<StructArray> = Column::named("video");
const VIDEO_PATH: Column<StringArray> = Column::named("path");

/// Returns whether a JSON file begins like a list of conversations, in the format of LLaVA or with
/// messages.
pub(super) fn begins_as_conversations(path: &Path) -> Result<bool> {
    let failed = || format!("cannot read {}", path.display());
    let mut beginning = Vec::new();
    File::open(path).with_context(failed)?.take(BEGINNING).read_to_end(&mut beginning).with_context(failed)?;
    let text = String::from_utf8_lossy(&beginning);
    Ok(text.contains("\"conversations\"") || text.contains("\"messages\""))
}

/// Counts of the conversations that cannot be part of a check.
#[derive(Default)]
struct LeftOut {
    without_picture: u64,
    several_pictures: u64,
    without_answer: u64,
    videos: u64,
    videos_without_frames: u64,
    parts_of_videos: u64,
}

/// Writes the conversations of some files; relative image paths start from `pictures`.
pub(super) fn write(
    files: &[PathBuf],
    pictures: &Path,
    membership: Membership,
    most: usize,
    seed: u64,
    writer: &mut Writer,
) -> Result<()> {
    let mut left_out = LeftOut::default();
    // The keys are read first, so that a sample is drawn before any image is read.
    let mut sample = Sample::new("arm", seed, most);
    for (number, path) in files.iter().enumerate() {
        for_each(path, &mut |row, uid, _, _| {
            sample.offer(&uid, (number, row));
            Ok(())
        })?;
    }
    let chosen: BTreeSet<(usize, usize)> = sample.into_keys().into_iter().collect();
    for (number, path) in files.iter().enumerate() {
        for_each(path, &mut |row, _, turns, found| {
            if !chosen.contains(&(number, row)) {
                return Ok(());
            }
            let turns = turns();
            if turns.iter().all(|turn| turn.answer.trim().is_empty()) {
                left_out.without_answer += 1;
                return Ok(());
            }
            let frames = writer.squares.frames;
            let of_video = |all: Vec<Picture>| spread(all.len(), frames).map(|place| all[place].clone()).collect();
            let wanted: Vec<Picture> = match found {
                Found::Pictures(one) if one.len() < 2 => one,
                Found::Pictures(_) if frames == 0 => {
                    left_out.several_pictures += 1;
                    return Ok(());
                }
                Found::Pictures(several) => of_video(several),
                Found::Video { .. } if frames == 0 => {
                    left_out.videos += 1;
                    return Ok(());
                }
                Found::Video { is_part: true, .. } => {
                    left_out.parts_of_videos += 1;
                    return Ok(());
                }
                Found::Video { path, .. } => {
                    let Some(files) = video::frames(pictures, &path)? else {
                        left_out.videos_without_frames += 1;
                        return Ok(());
                    };
                    of_video(files.into_iter().map(Picture::Path).collect())
                }
            };
            let read = wanted.into_iter().map(|picture| picture.read(pictures)).collect::<Result<Vec<_>>>()?;
            let read: Option<Vec<Vec<u8>>> = read.into_iter().collect();
            let Some(pictures) = read.filter(|read| !read.is_empty()) else {
                left_out.without_picture += 1;
                return Ok(());
            };
            writer.add(RawPair { uid: None, membership, turns, pictures })
        })?;
    }
    for (reason, conversations) in [
        ("conversations_without_a_picture_that_is_there", left_out.without_picture),
        ("conversations_with_several_pictures", left_out.several_pictures),
        ("conversations_without_an_answer", left_out.without_answer),
        ("conversations_about_a_video", left_out.videos),
        ("conversations_about_a_video_without_a_folder_of_frames", left_out.videos_without_frames),
        ("conversations_about_a_part_of_a_video", left_out.parts_of_videos),
    ] {
        writer.leave_out(reason, conversations);
    }
    Ok(())
}

/// The images or video of a conversation.
enum Found {
    /// Images, possibly none.
    Pictures(Vec<Picture>),
    /// A video, or a part of it from one second to another.
    Video { path: PathBuf, is_part: bool },
}

/// An image file.
#[derive(Clone)]
enum Picture {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

impl Picture {
    /// Returns its bytes; `None` if it does not exist below `root`.
    fn read(self, root: &Path) -> Result<Option<Vec<u8>>> {
        let path = match self {
            Self::Bytes(bytes) => return Ok(Some(bytes)),
            Self::Path(path) => root.join(path),
        };
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

type Take<'a> = &'a mut dyn FnMut(usize, String, &dyn Fn() -> Vec<Turn>, Found) -> Result<()>;

fn for_each(path: &Path, take: Take<'_>) -> Result<()> {
    if path.extension().is_some_and(|suffix| suffix == "parquet") {
        for_each_of_parquet(path, take)
    } else {
        for_each_of_json(path, take)
    }
}

fn for_each_of_parquet(path: &Path, take: Take<'_>) -> Result<()> {
    let mut row_of_file = 0;
    let columns = [ID.name, IMAGES.name, MESSAGES.name, VIDEO.name];
    for batch in table::batches(path, Some(&columns))? {
        let batch = batch?;
        let (ids, videos) = (ID.of(&batch, path)?, VIDEO.find(&batch));
        let (images, messages) = (IMAGES.of(&batch, path)?, MESSAGES.of(&batch, path)?);
        for row in 0..batch.num_rows() {
            let of_row = images.value(row);
            let of_row: &StructArray = of_row.as_any().downcast_ref().context("images are structs")?;
            let bytes =
                IMAGE_BYTES.within(of_row).with_context(|| format!("{}: images have no bytes", path.display()))?;
            let found = if let Some((videos, Some(path))) = videos.map(|videos| (videos, video_of(videos, row))) {
                let is_part = ["start", "end"]
                    .iter()
                    .any(|name| videos.column_by_name(name).is_some_and(|seconds| seconds.is_valid(row)));
                Found::Video { path: path.into(), is_part }
            } else {
                let there = (0..of_row.len()).filter(|place| of_row.is_valid(*place) && bytes.is_valid(*place));
                let pictures: Vec<Picture> = there.map(|place| Picture::Bytes(bytes.value(place).to_vec())).collect();
                // If one of several is missing, none is used.
                Found::Pictures(if pictures.len() == of_row.len() { pictures } else { Vec::new() })
            };
            let said = messages.value(row);
            let said: &StructArray = said.as_any().downcast_ref().context("messages are structs")?;
            let (Some(roles), Some(contents)) = (ROLE.within(said), CONTENT.within(said)) else {
                bail!("{}: messages need role and content", path.display());
            };
            let turns = || turns((0..said.len()).map(|place| (roles.value(place), contents.value(place))));
            take(row_of_file, ids.value(row).to_owned(), &turns, found)?;
            row_of_file += 1;
        }
    }
    Ok(())
}

/// Returns the path of the video of a row, if it has one.
fn video_of(videos: &StructArray, row: usize) -> Option<&str> {
    let paths = VIDEO_PATH.within(videos)?;
    (videos.is_valid(row) && paths.is_valid(row)).then(|| paths.value(row))
}

/// Returns the values of a JSON file: those of a list, or one per line.
///
/// # Errors
/// If it is not JSON; the message has the line.
pub(super) fn values(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse = |text: &str, lines_before: usize| -> Result<Value> {
        serde_json::from_str(text).map_err(|error| {
            let line = lines_before + error.line();
            anyhow::Error::from(error).context(format!("{}, line {line}: not JSON", path.display()))
        })
    };
    if text.trim_start().starts_with('[') {
        return Ok(match parse(&text, 0)? {
            Value::Array(list) => list,
            _ => Vec::new(),
        });
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| parse(line, number)).collect()
}

fn for_each_of_json(path: &Path, take: Take<'_>) -> Result<()> {
    let list = values(path)?;
    for (row, sample) in list.iter().enumerate() {
        let id = sample["id"].as_str().map_or_else(|| row.to_string(), str::to_owned);
        let paths = |names: [&str; 2]| -> Vec<PathBuf> {
            let value = names.into_iter().find_map(|name| sample.get(name));
            match value {
                Some(Value::String(path)) => vec![path.into()],
                Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(PathBuf::from).collect(),
                _ => Vec::new(),
            }
        };
        let found = match paths(["video", "videos"]).into_iter().next() {
            Some(path) => {
                let is_part = ["video_start", "video_end"].iter().any(|name| !sample[*name].is_null());
                Found::Video { path, is_part }
            }
            None => Found::Pictures(paths(["image", "images"]).into_iter().map(Picture::Path).collect()),
        };
        let said = sample.get("conversations").or_else(|| sample.get("messages")).and_then(Value::as_array);
        let said = said.map(Vec::as_slice).unwrap_or_default();
        let turns = || {
            turns(said.iter().map(|message| {
                let role = message.get("from").or_else(|| message.get("role")).and_then(Value::as_str);
                let content = message.get("value").or_else(|| message.get("content")).and_then(Value::as_str);
                (role.unwrap_or_default(), content.unwrap_or_default())
            }))
        };
        take(row, id, &turns, found)?;
    }
    Ok(())
}

/// Returns questions and answers. Text before a question, such as a system prompt, becomes part of
/// the question.
fn turns<'a>(said: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut question = String::new();
    for (role, content) in said {
        let content = content.replace("<image>", "").replace("<video>", "");
        let content = content.trim();
        if matches!(role, "assistant" | "gpt") {
            turns.push(Turn { question: std::mem::take(&mut question), answer: content.to_owned() });
        } else {
            if !question.is_empty() {
                question.push('\n');
            }
            question.push_str(content);
        }
    }
    turns
}
