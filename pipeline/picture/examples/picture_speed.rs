//! Measures the CPU time per image: of full decoding, and of preparing it as the downloader does by
//! default (shorter side 256, JPEG of quality 95).
//!
//! `cargo run --release -p lynxdata-picture --example picture_speed -- FOLDER [ROUNDS]`
//!
//! Reads all files of the folder and its sub-folders before the clock starts. Prints milliseconds
//! per image by kind: the mean over the images of the shortest time of all rounds. It runs on one
//! thread. The time is the CPU time of the thread on Linux, or wall time if `/proc` is missing.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::exit, reason = "a program for a terminal")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use lynxdata_picture::{Check, Encode, PictureError, PictureSettings, Resize, decode_rgb, prepare};

const MAX_PIXELS: u64 = 100_000_000;
const SETTINGS: PictureSettings = PictureSettings {
    resize: Resize::Shorter,
    size: 256,
    only_if_larger: false,
    encode: Encode::Jpeg,
    quality: 95,
    max_pixels: MAX_PIXELS,
    check: Check::Pixels,
};

/// The cost of one kind of image.
#[derive(Default)]
struct Cost {
    pictures: u32,
    refused: u32,
    megapixels: f64,
    decode: Duration,
    prepare: Duration,
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: picture_speed FOLDER [ROUNDS]");
        std::process::exit(2);
    };
    let rounds = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(5_u32).max(1);
    let mut files = Vec::new();
    read_folder(&folder, &mut files)?;
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    for bytes in &files {
        if let Some(kind) = kind(bytes) {
            measure(bytes, rounds, costs.entry(kind).or_default());
        }
    }
    let mut total = Cost::default();
    println!("kind         pictures  refused  megapixels  decode ms  prepare ms");
    for (kind, cost) in &costs {
        print(kind, cost);
        total.pictures += cost.pictures;
        total.refused += cost.refused;
        total.megapixels += cost.megapixels;
        total.decode += cost.decode;
        total.prepare += cost.prepare;
    }
    print("all", &total);
    Ok(())
}

fn read_folder(folder: &Path, files: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_folder(&path, files)?;
        } else {
            files.push(std::fs::read(&path)?);
        }
    }
    Ok(())
}

/// Returns the kind by the first bytes; `None` if they are not an image or of a rarer format.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        [0xff, 0xd8, ..] if is_progressive(bytes) => Some("progressive"),
        [0xff, 0xd8, ..] => Some("jpeg"),
        _ => None,
    }
}

/// Returns whether a JPEG is progressive (SOF2, ITU-T T.81, table B.1).
fn is_progressive(bytes: &[u8]) -> bool {
    let mut position = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(position..position + 4) {
        match marker {
            0xc2 => return true,
            0xc0 | 0xc1 | 0xda => return false,
            _ => position += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}

fn measure(bytes: &[u8], rounds: u32, cost: &mut Cost) {
    let (mut least_decode, mut least_prepare, mut megapixels) = (Duration::MAX, Duration::MAX, 0.0);
    for _ in 0..rounds {
        let copy = bytes.to_vec();
        let start = cpu_time();
        let decoded: Result<_, PictureError> = decode_rgb(black_box(bytes), MAX_PIXELS);
        let between = cpu_time();
        let prepared = prepare(black_box(copy), &SETTINGS, &[]);
        let end = cpu_time();
        let (Ok(pixels), Ok(_)) = (decoded, prepared) else {
            cost.refused += 1;
            return;
        };
        least_decode = least_decode.min(between.saturating_sub(start));
        least_prepare = least_prepare.min(end.saturating_sub(between));
        megapixels = f64::from(pixels.width()) * f64::from(pixels.height()) / 1e6;
    }
    cost.pictures += 1;
    cost.megapixels += megapixels;
    cost.decode += least_decode;
    cost.prepare += least_prepare;
}

fn print(kind: &str, cost: &Cost) {
    let per_picture = |duration: Duration| duration.as_secs_f64() * 1e3 / f64::from(cost.pictures.max(1));
    println!(
        "{kind:11}  {:8}  {:7}  {:10.3}  {:9.3}  {:10.3}",
        cost.pictures,
        cost.refused,
        cost.megapixels / f64::from(cost.pictures.max(1)),
        per_picture(cost.decode),
        per_picture(cost.prepare),
    );
}

/// Returns the CPU time of this thread (the first number of Linux's `schedstat`, nanoseconds), or
/// wall time.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| START.elapsed(), Duration::from_nanos)
}
