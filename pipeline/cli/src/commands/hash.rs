//! `lynxdata hash`: prints digests and perceptual hashes of image files.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use lynxdata_fetch::sha256;
use lynxdata_filters::{ImageData, Sample, Value, signal};
use serde::Serialize;

use super::{print, print_json};
use crate::exit::{DONE, FAILED, Failure};
use crate::paths::path_parser;

/// Print SHA-256, pHash and dHash of image files
///
/// The perceptual hashes are those of Python's ImageHash, bit for bit.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata hash photo.jpg
  lynxdata hash --json *.png | jq -r .phash
  curl -s https://example.org/photo.jpg | lynxdata hash -")]
pub(crate) struct Arguments {
    /// Image files; - reads standard input
    #[arg(required = true, value_parser = path_parser())]
    files: Vec<PathBuf>,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Hashes {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(flatten)]
    picture: Option<Picture>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Picture {
    phash: String,
    dhash: String,
    width: u32,
    height: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut code = DONE;
    for file in &arguments.files {
        let hashes = measure(file);
        if arguments.json {
            print_json(&hashes)?;
        } else {
            print(&line(&hashes))?;
        }
        if hashes.error.is_some() {
            code = FAILED;
        }
    }
    Ok(code)
}

fn line(hashes: &Hashes) -> String {
    match (&hashes.picture, &hashes.error) {
        (Some(picture), _) => {
            format!(
                "{}  phash {}  dhash {}  {}x{}  sha256 {}\n",
                hashes.file,
                picture.phash,
                picture.dhash,
                picture.width,
                picture.height,
                hashes.sha256.as_deref().unwrap_or("-")
            )
        }
        (None, error) => format!("{}  error: {}\n", hashes.file, error.as_deref().unwrap_or("not an image")),
    }
}

/// Returns the bytes of a file, or of standard input if the name is `-`.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn measure(file: &Path) -> Hashes {
    let name = file.display().to_string();
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(error) => return Hashes { file: name, sha256: None, picture: None, error: Some(error.to_string()) },
    };
    let sha256 = sha256(&bytes);
    match ImageData::decode(&bytes) {
        Ok(image) => {
            let picture = Picture {
                phash: text_signal("phash", &image),
                dhash: text_signal("dhash", &image),
                width: image.width(),
                height: image.height(),
            };
            Hashes { file: name, sha256: Some(sha256), picture: Some(picture), error: None }
        }
        Err(error) => Hashes { file: name, sha256: Some(sha256), picture: None, error: Some(error.to_string()) },
    }
}

fn text_signal(name: &str, image: &ImageData) -> String {
    let signal = signal(name).expect("the hashes are in the list of signals");
    match signal.measure(&Sample::new(None, Some(image))) {
        Some(Value::Text(text)) => text,
        other => unreachable!("{name} of a decoded image is a text, not {other:?}"),
    }
}
