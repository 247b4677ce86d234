//! Frames of videos, as images.
//!
//! If a model sees `n` images of a video, the video is divided into `n` equal parts, and the frame
//! in the middle of each part is used. The videos in arXiv 2307.02469 have five frames; the paper
//! does not say which ones.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::picture::{Pictures, Place, natural_order};
use crate::record::VideoReference;
use crate::{Error, Result};

/// The reason why a video has no frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoFault {
    /// There is neither a file nor a folder of frames.
    Missing,
    /// ffmpeg cannot read it; the text is its message.
    Broken(String),
    /// The part begins after the end of the video.
    PartBeyondEnd,
    /// The part is given in seconds, but the video is a folder of frames and the task gives no
    /// frame rate.
    NoFrameRate,
}

impl VideoFault {
    /// Returns the reason under which a conversation with this video is left out.
    pub const fn name(&self) -> &'static str {
        match self {
            VideoFault::Missing => "missing_video",
            VideoFault::Broken(_) => "broken_video",
            VideoFault::PartBeyondEnd => "part_beyond_video",
            VideoFault::NoFrameRate => "no_frame_rate",
        }
    }
}

/// A video that exists.
#[derive(Debug, Clone)]
pub enum Video {
    /// A file, and its duration in seconds.
    File(Place, f64),
    /// A folder of frames: their paths in natural order, with numbers in names compared by value.
    Frames(Vec<String>),
}

/// One frame of a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The path of an existing image.
    Picture(String),
    /// A time in milliseconds from the beginning of the video.
    At(u64),
}

impl Video {
    /// Finds a video by its path: the file, or otherwise the folder of frames with that path, with
    /// or without the extension.
    ///
    /// # Errors
    /// If ffprobe is needed but not installed, or a folder cannot be read.
    pub fn find(pictures: &Pictures, path: &str) -> Result<std::result::Result<Video, VideoFault>> {
        if let Some(place) = pictures.find(path)? {
            return Ok(duration(&place)?.map(|seconds| Video::File(place, seconds)));
        }
        let frames = Self::folder(pictures, path)?;
        Ok(if frames.is_empty() { Err(VideoFault::Missing) } else { Ok(Video::Frames(frames)) })
    }

    /// Returns the frames of the folder that replaces a video, in natural order; empty if there is
    /// no such folder.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn folder(pictures: &Pictures, path: &str) -> Result<Vec<String>> {
        let stem = Path::new(path).with_extension("");
        for folder in [Some(path), stem.to_str()].into_iter().flatten() {
            let mut frames = pictures.pictures_in(folder)?;
            if !frames.is_empty() {
                frames.sort_by(|first, second| natural_order(first, second));
                return Ok(frames);
            }
        }
        Ok(Vec::new())
    }

    /// Returns the frames in the middle of `count` equal parts of the video, or of its part between
    /// start and end. `frame_rate` is the frames per second of a folder of frames.
    ///
    /// # Errors
    /// If the part is outside the video, or the frame rate is needed but unknown.
    pub fn frames(
        &self,
        part: &VideoReference,
        count: u32,
        frame_rate: Option<f64>,
    ) -> std::result::Result<Vec<Frame>, VideoFault> {
        let is_whole = part.start.is_none() && part.end.is_none();
        match self {
            Video::File(_, seconds) => {
                let start = part.start.unwrap_or(0.0);
                let end = part.end.map_or(*seconds, |end| end.min(*seconds));
                if start >= end {
                    return Err(VideoFault::PartBeyondEnd);
                }
                Ok(middles(start, end, count).map(|second| Frame::At((second * 1000.0).round() as u64)).collect())
            }
            Video::Frames(paths) => {
                let per_second = if is_whole { Some(1.0) } else { frame_rate };
                let per_second = per_second.ok_or(VideoFault::NoFrameRate)?;
                let all = paths.len() as f64;
                let start = part.start.map_or(0.0, |second| second * per_second);
                let end = part.end.map_or(all, |second| (second * per_second).min(all));
                if start >= end {
                    return Err(VideoFault::PartBeyondEnd);
                }
                let place = |middle: f64| Frame::Picture(paths[(middle as usize).min(paths.len() - 1)].clone());
                Ok(middles(start, end, count).map(place).collect())
            }
        }
    }
}

/// Returns the middles of equal parts of a span.
fn middles(start: f64, end: f64, count: u32) -> impl Iterator<Item = f64> {
    (0..count).map(move |place| start + (f64::from(place) + 0.5) * (end - start) / f64::from(count))
}

/// Offsets in milliseconds before the requested time. They are tried in turn if ffmpeg finds no
/// frame at or after the time, because the last frame of a video may be long.
const EARLIER: [u64; 3] = [500, 2000, 10_000];

/// Returns the frame of a video file at a time as a JPEG. After the last frame began, it is that
/// one, so a later time never gives an earlier frame.
///
/// # Errors
/// If ffmpeg is not installed. The inner error is returned if ffmpeg cannot read the video, or if
/// the last frame began more than 10 seconds before the time.
pub fn frame_at(place: &Place, milliseconds: u64) -> Result<std::result::Result<Vec<u8>, VideoFault>> {
    let Some(input) = place.input() else { return Ok(Err(compressed())) };
    let found = frames_from(&input, milliseconds, &["-frames:v", "1"])?;
    if !found.as_ref().is_ok_and(Vec::is_empty) {
        return Ok(found);
    }
    for earlier in EARLIER {
        match frames_from(&input, milliseconds.saturating_sub(earlier), &[])? {
            Ok(frames) if frames.is_empty() => {}
            // Nothing follows at the requested time, so the last of these frames is the last one
            // of the video.
            Ok(frames) => return Ok(Ok(last_jpeg(frames))),
            Err(fault) => return Ok(Err(fault)),
        }
    }
    Ok(Err(VideoFault::Broken("it has no frame there".to_owned())))
}

/// Returns the frames of a video from a time on as JPEGs, one after the other.
fn frames_from(input: &OsStr, milliseconds: u64, limit: &[&str]) -> Result<std::result::Result<Vec<u8>, VideoFault>> {
    let seconds = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-threads", "1", "-protocol_whitelist", "file,subfile"]);
    command.args(["-ss", &seconds, "-i"]).arg(input).args(["-map", "0:v:0"]).args(limit);
    // Bit-exact, so that the version of the library is not written into the image. Quality 2 is the
    // best that its JPEG encoder gives by default.
    command.args(["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"]);
    command.args(["-flags:v", "+bitexact", "-fflags", "+bitexact", "-f", "image2pipe", "-"]);
    output(command, "ffmpeg")
}

/// Returns the last of several JPEGs. The two bytes at the start of a JPEG are nowhere else in
/// those that ffmpeg writes: in compressed data a zero follows every 0xff.
fn last_jpeg(mut jpegs: Vec<u8>) -> Vec<u8> {
    let start = jpegs.windows(2).rposition(|pair| pair == [0xff, 0xd8]);
    jpegs.split_off(start.unwrap_or_default())
}

/// Returns the first line of `ffmpeg -version`, because pixels may differ between versions.
///
/// # Errors
/// If the program is not installed.
pub fn ffmpeg_version() -> Result<String> {
    let mut command = Command::new("ffmpeg");
    command.arg("-version");
    let text = output(command, "ffmpeg")?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

fn compressed() -> VideoFault {
    VideoFault::Broken("it is compressed within its archive; unpack the archive".to_owned())
}

/// Returns the duration of a video in seconds: that of its video stream, because its sound may be
/// longer. If ffprobe does not know it, it is that of the whole file.
fn duration(place: &Place) -> Result<std::result::Result<f64, VideoFault>> {
    let Some(input) = place.input() else { return Ok(Err(compressed())) };
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-protocol_whitelist", "file,subfile", "-select_streams", "v:0"]);
    command.args(["-show_entries", "format=duration:stream=duration:stream_tags=DURATION", "-of", "csv", "-i"]);
    command.arg(&input);
    let said = match output(command, "ffprobe")? {
        Ok(said) => said,
        Err(fault) => return Ok(Err(fault)),
    };
    let seconds = said_duration(&String::from_utf8_lossy(&said));
    Ok(seconds.ok_or_else(|| VideoFault::Broken("its duration is unknown".to_owned())))
}

/// Returns the duration in what ffprobe says: a line `stream,SECONDS,TAG`, and `format,SECONDS`.
/// Matroska has the duration of a stream only in a tag, `00:00:05.400000000`.
fn said_duration(said: &str) -> Option<f64> {
    let (of_file, of_stream): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with("format"));
    let seconds = |lines: Vec<&str>| {
        let fields = lines.into_iter().flat_map(|line| line.trim().split(','));
        fields.filter_map(clock_seconds).find(|seconds| seconds.is_finite() && *seconds > 0.0)
    };
    seconds(of_stream).or_else(|| seconds(of_file))
}

/// Parses seconds, or hours, minutes and seconds with colons.
fn clock_seconds(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

/// Runs a program and returns its standard output. If it fails, the last line of its standard error
/// becomes a fault of the video.
fn output(mut command: Command, program: &'static str) -> Result<std::result::Result<Vec<u8>, VideoFault>> {
    let output = match command.stdin(Stdio::null()).output() {
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Err(Error::NoProgram { program }),
        Err(source) => return Err(Error::Io { action: "run", path: program.into(), source }),
        Ok(output) => output,
    };
    if output.status.success() {
        return Ok(Ok(output.stdout));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be read");
    Ok(Err(VideoFault::Broken(last.trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn part(start: Option<f64>, end: Option<f64>) -> VideoReference {
        VideoReference { path: "v.mp4".to_owned(), start, end }
    }

    #[test]
    fn frames_are_those_in_the_middle_of_equal_parts() {
        let video = Video::File(Place::File("v.mp4".into()), 10.0);
        let at = |part| video.frames(&part, 5, None).map(|frames| format!("{frames:?}"));
        assert_eq!(at(part(None, None)).unwrap(), "[At(1000), At(3000), At(5000), At(7000), At(9000)]");
        assert_eq!(at(part(Some(2.0), Some(3.0))).unwrap(), "[At(2100), At(2300), At(2500), At(2700), At(2900)]");
        assert_eq!(at(part(Some(5.0), Some(99.0))).unwrap(), "[At(5500), At(6500), At(7500), At(8500), At(9500)]");
        assert_eq!(at(part(Some(10.0), None)).unwrap_err(), VideoFault::PartBeyondEnd);
    }

    #[test]
    fn folders_of_frames_are_videos() {
        let folder = tempfile::tempdir().unwrap();
        let frames = folder.path().join("videos/v");
        std::fs::create_dir_all(&frames).unwrap();
        for number in 1..=12 {
            std::fs::write(frames.join(format!("f{number}.jpg")), "x").unwrap();
        }
        std::fs::write(frames.join("list.txt"), "x").unwrap();
        let pictures = Pictures::of([folder.path().to_owned()]);
        let video = Video::find(&pictures, "videos/v.mp4").unwrap().unwrap();
        let numbers = |frames: Vec<Frame>| -> Vec<String> {
            let of = |frame| match frame {
                Frame::Picture(path) => path.trim_start_matches("videos/v/f").trim_end_matches(".jpg").to_owned(),
                Frame::At(_) => unreachable!("it is a folder"),
            };
            frames.into_iter().map(of).collect()
        };
        // By number, not by character: 10 comes after 9.
        assert_eq!(numbers(video.frames(&part(None, None), 5, None).unwrap()), ["2", "4", "7", "9", "11"]);
        let own = part(Some(1.0), Some(3.0));
        assert_eq!(numbers(video.frames(&own, 2, Some(3.0)).unwrap()), ["5", "8"]);
        assert_eq!(video.frames(&own, 2, None), Err(VideoFault::NoFrameRate));
        assert_eq!(video.frames(&part(Some(9.0), None), 2, Some(3.0)), Err(VideoFault::PartBeyondEnd));
        assert_eq!(Video::find(&pictures, "videos/w.mp4").unwrap().unwrap_err(), VideoFault::Missing);
    }

    #[test]
    fn frames_of_a_video_file_are_those_of_their_moments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b.mp4");
        // Five seconds: each is of another grey.
        let source = "color=black:s=64x48:r=10:d=5,geq=lum='40*floor(T)+30':cb=128:cr=128";
        if !crate::machine::video(source, &path) {
            return;
        }
        let archive = folder.path().join("c.tar");
        crate::archive::tests::write_tar(&archive, &[("v/b.mp4", &std::fs::read(&path).unwrap())]);
        let pictures = Pictures::of([folder.path().to_owned()]);
        for name in ["a b.mp4", "v/b.mp4"] {
            let video = Video::find(&pictures, name).unwrap().unwrap();
            let Video::File(place, seconds) = &video else { panic!("it is a file") };
            assert!((seconds - 5.0).abs() < 0.11, "{seconds}");
            let greys: Vec<u8> = video
                .frames(&part(None, None), 5, None)
                .unwrap()
                .into_iter()
                .map(|frame| {
                    let Frame::At(moment) = frame else { panic!("it is a file") };
                    let jpeg = frame_at(place, moment).unwrap().unwrap();
                    assert_eq!(jpeg, frame_at(place, moment).unwrap().unwrap(), "it repeats itself");
                    let pixels = lynxdata_picture::decode_rgb(&jpeg, 1 << 20).unwrap();
                    assert_eq!(pixels.dimensions(), (64, 48));
                    pixels.get_pixel(32, 24).0[1]
                })
                .collect();
            assert!(greys.is_sorted() && greys.windows(2).all(|pair| pair[1] - pair[0] > 25), "{greys:?}");
            // After the last frame began, it is still shown.
            assert!(frame_at(place, 4999).unwrap().is_ok());
        }
        std::fs::write(folder.path().join("broken.mp4"), "no video").unwrap();
        assert!(matches!(Video::find(&pictures, "broken.mp4").unwrap(), Err(VideoFault::Broken(_))));
    }

    #[test]
    fn frames_come_from_the_picture_where_the_sound_is_longer() {
        let folder = tempfile::tempdir().unwrap();
        let silent = folder.path().join("silent.mp4");
        // Two seconds, of which every half is of another grey.
        if !crate::machine::video("color=black:s=64x48:r=10:d=2,geq=lum='40*floor(2*T)+30':cb=128:cr=128", &silent) {
            return;
        }
        for name in ["long.mp4", "long.mkv"] {
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-v", "error", "-i"]).arg(&silent);
            command.args(["-f", "lavfi", "-i", "sine=d=20", "-map", "0:v", "-map", "1:a", "-c:v", "copy"]);
            let written = command.args(["-c:a", "aac"]).arg(folder.path().join(name)).output().unwrap();
            assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
            let pictures = Pictures::of([folder.path().to_owned()]);
            let video = Video::find(&pictures, name).unwrap().unwrap();
            let Video::File(place, seconds) = &video else { panic!("it is a file") };
            assert!((seconds - 2.0).abs() < 0.11, "{name}: {seconds}");
            let grey = |milliseconds| {
                let jpeg = frame_at(place, milliseconds).unwrap().unwrap();
                lynxdata_picture::decode_rgb(&jpeg, 1 << 20).unwrap().get_pixel(32, 24).0[1]
            };
            let greys = [250, 750, 1250, 1750].map(grey);
            assert!(greys.windows(2).all(|pair| pair[1] > pair[0] + 25), "{name}: {greys:?}");
            // After the last frame it is still shown, but not for ever.
            for later in [2100, 3000, 5000] {
                assert!(grey(later).abs_diff(greys[3]) < 5, "{name} {later}");
            }
            assert!(frame_at(place, 15_000).unwrap().is_err(), "{name}");
        }
    }

    #[test]
    fn the_duration_of_the_file_counts_only_without_that_of_the_stream() {
        assert_eq!(said_duration("stream,2.0\nformat,20.0\n"), Some(2.0));
        assert_eq!(said_duration("stream,N/A,00:01:02.500000000\nformat,90.0\n"), Some(62.5));
        assert_eq!(said_duration("stream,N/A\nformat,20.0\n"), Some(20.0));
        assert_eq!(said_duration("stream,N/A\nformat,N/A\n"), None);
    }

    #[test]
    fn numbers_in_names_are_ordered_by_size() {
        for (first, second) in [("f9.jpg", "f10.jpg"), ("a/2/1.jpg", "a/10/0.jpg"), ("a1", "b0"), ("f009", "f10")] {
            assert_eq!(natural_order(first, second), Ordering::Less, "{first} {second}");
            assert_eq!(natural_order(second, first), Ordering::Greater, "{first} {second}");
        }
        assert_ne!(natural_order("f01", "f1"), Ordering::Equal, "the order is total");
    }
}
