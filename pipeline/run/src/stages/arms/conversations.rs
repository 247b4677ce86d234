//! Conversations: the Parquet files of the stage `instruct`, and JSON as LLaVA's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array, BinaryArray, ListArray, StringArray, StructArray};
use lynxdata_check::Turn;
use lynxdata_records::parquet;
use serde_json::Value;

use super::sample;
use super::table::{Membership, RawPair, Writer};
use crate::table;

/// Bytes of a JSON file that are looked at to tell what it is.
const BEGINNING: u64 = 64 * 1024;

/// Returns whether a JSON file begins as a list of conversations does, in LLaVA's format or with
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
}

/// Writes the conversations of some files; relative pictures lie below `pictures`.
pub(super) fn write(
    files: &[PathBuf],
    pictures: &Path,
    membership: Membership,
    most: usize,
    seed: u64,
    writer: &mut Writer,
) -> Result<()> {
    let mut left_out = LeftOut::default();
    // First the keys alone, so that a sample is drawn before any picture is read.
    let mut keys = Vec::new();
    for (number, path) in files.iter().enumerate() {
        for_each(path, &mut |row, uid, _, _| {
            keys.push((uid, (number, row)));
            Ok(())
        })?;
    }
    let chosen: BTreeSet<(usize, usize)> = sample(keys, most, seed, "arm").into_iter().collect();
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
            let picture = match found {
                Found::None => None,
                Found::Several => {
                    left_out.several_pictures += 1;
                    return Ok(());
                }
                Found::Bytes(bytes) => Some(bytes),
                Found::Path(path) => {
                    let path = pictures.join(path);
                    match std::fs::read(&path) {
                        Ok(bytes) => Some(bytes),
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
                    }
                }
            };
            let Some(picture) = picture else {
                left_out.without_picture += 1;
                return Ok(());
            };
            writer.add(RawPair { uid: None, membership, turns, picture })
        })?;
    }
    let LeftOut { without_picture, several_pictures, without_answer } = left_out;
    writer.leave_out("conversations_without_a_picture_that_is_there", without_picture);
    writer.leave_out("conversations_with_several_pictures", several_pictures);
    writer.leave_out("conversations_without_an_answer", without_answer);
    Ok(())
}

/// The picture of a conversation.
enum Found {
    None,
    Several,
    Bytes(Vec<u8>),
    Path(PathBuf),
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
    for batch in table::batches(path, Some(&["id", "images", "messages"]))? {
        let batch = batch?;
        let ids = batch.column_by_name("id").map(|_| table::texts(&batch, "id", path)).transpose()?;
        let images: &ListArray = parquet::typed_column(&batch, "images", path)?;
        let messages: &ListArray = parquet::typed_column(&batch, "messages", path)?;
        for row in 0..batch.num_rows() {
            let of_row = images.value(row);
            let of_row: &StructArray = of_row.as_any().downcast_ref().context("images are structs")?;
            let bytes = of_row.column_by_name("bytes").and_then(|bytes| bytes.as_any().downcast_ref::<BinaryArray>());
            let bytes = bytes.with_context(|| format!("{}: images have no bytes", path.display()))?;
            let found = match of_row.len() {
                1 if of_row.is_valid(0) && bytes.is_valid(0) => Found::Bytes(bytes.value(0).to_vec()),
                0 | 1 => Found::None,
                _ => Found::Several,
            };
            let said = messages.value(row);
            let said: &StructArray = said.as_any().downcast_ref().context("messages are structs")?;
            let texts =
                |name: &str| said.column_by_name(name).and_then(|texts| texts.as_any().downcast_ref::<StringArray>());
            let (Some(roles), Some(contents)) = (texts("role"), texts("content")) else {
                bail!("{}: messages need role and content", path.display());
            };
            let turns = || turns((0..said.len()).map(|place| (roles.value(place), contents.value(place))));
            let id = ids.map_or_else(|| row_of_file.to_string(), |ids| ids.value(row).to_owned());
            take(row_of_file, id, &turns, found)?;
            row_of_file += 1;
        }
    }
    Ok(())
}

fn for_each_of_json(path: &Path, take: Take<'_>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse = |text: &str, line: usize| -> Result<Value> {
        serde_json::from_str(text).with_context(|| format!("{}, line {line}: not JSON", path.display()))
    };
    let list = if text.trim_start().starts_with('[') {
        match parse(&text, 1)? {
            Value::Array(list) => list,
            _ => Vec::new(),
        }
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(number, line)| parse(line, number + 1)).collect::<Result<_>>()?
    };
    for (row, sample) in list.iter().enumerate() {
        let id = sample["id"].as_str().map_or_else(|| row.to_string(), str::to_owned);
        let image = sample.get("image").or_else(|| sample.get("images"));
        let found = match image {
            Some(Value::String(path)) => Found::Path(path.into()),
            Some(Value::Array(list)) => match list.as_slice() {
                [] => Found::None,
                [Value::String(path)] => Found::Path(path.into()),
                _ => Found::Several,
            },
            _ => Found::None,
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

/// Questions and answers; what is said before a question, as by a system, is part of it.
fn turns<'a>(said: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut question = String::new();
    for (role, content) in said {
        let content = content.replace("<image>", "");
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
