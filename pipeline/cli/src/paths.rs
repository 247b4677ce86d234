//! Paths of the command line.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::builder::{PathBufValueParser, TypedValueParser};
use lynxdata_fetch::objects;
use lynxdata_run::home::expanded;

use crate::exit::Failure;

/// Reads a path; a leading `~` is the home folder of the user.
pub(crate) fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| expanded(&path).map_err(|error| error.to_string()))
}

/// Reads the path of an input, which must exist: what is not there is wrong usage for every
/// command. URLs of object stores are not looked up.
pub(crate) fn input_parser() -> impl TypedValueParser<Value = PathBuf> {
    path_parser().try_map(|path| {
        // A path that cannot be looked at is left to the reader, whose error says why.
        let is_there = objects::is_url(&path) || path.try_exists().unwrap_or(true);
        if is_there { Ok(path) } else { Err("there is no such file or folder") }
    })
}

/// Refuses an output that is an input of the same command or is in a folder that it reads. Writing
/// it would destroy the input, or add to it for the next run.
///
/// # Errors
/// [`Failure::Usage`], with both paths.
pub(crate) fn check_output<'a>(out: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<(), Failure> {
    let place = place(out);
    for input in inputs {
        let Ok(read) = input.canonicalize() else { continue };
        let fault = match place.strip_prefix(&read) {
            Err(_) => continue,
            Ok(rest) if rest.as_os_str().is_empty() => "would replace",
            Ok(_) => "is inside",
        };
        let (out, input) = (out.display(), input.display());
        return Err(Failure::Usage(anyhow!("--out {out} {fault} {input}, which is an input; give another path")));
    }
    Ok(())
}

/// Returns the absolute path of a file or folder, with links resolved. Its last parts need not
/// exist yet.
fn place(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    let mut existing = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    loop {
        if let Ok(found) = existing.canonicalize() {
            return missing.iter().rev().fold(found, |place, part| place.join(part));
        }
        let Some(name) = existing.file_name().map(ToOwned::to_owned) else { return path.to_owned() };
        missing.push(name);
        existing.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_must_exist_unless_it_is_in_an_object_store() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.jsonl"), "").unwrap();
        let command = clap::Command::new("test").arg(clap::Arg::new("input").value_parser(input_parser()));
        let read = |path: &Path| command.clone().try_get_matches_from([Path::new("test"), path]);
        for there in [&*folder.path().join("a.jsonl"), folder.path(), Path::new("s3://bucket/run")] {
            assert!(read(there).is_ok(), "{}", there.display());
        }
        let error = read(&folder.path().join("b.jsonl")).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(crate::exit::USAGE));
        assert!(error.to_string().contains("b.jsonl") && error.to_string().contains("no such file or folder"));
    }

    #[test]
    fn an_output_is_not_an_input_and_not_inside_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("data")).unwrap();
        std::fs::write(path("data/a.jsonl"), "").unwrap();
        let check = |out: &str, input: &str| check_output(&path(out), [&*path(input)]).map_err(|_| ());
        for (out, input) in [
            ("data/a.jsonl", "data/a.jsonl"),
            ("data/../data/a.jsonl", "data/a.jsonl"),
            ("data", "data"),
            ("data/new/b.jsonl", "data"),
        ] {
            assert!(check(out, input).is_err(), "{out} and {input}");
        }
        for (out, input) in [("data/b.jsonl", "data/a.jsonl"), ("data2", "data"), ("b", "missing"), ("b/c", "data")] {
            assert!(check(out, input).is_ok(), "{out} and {input}");
        }
    }
}
