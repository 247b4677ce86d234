//! Frames of videos, as images.
//!
//! If a model sees `n` images of a video, the video is divided into `n` equal parts, and the frame
//! in the middle of each part is used. The videos in arXiv 2307.02469 have five frames; the paper
//! does not say which ones.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
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

/// Offsets in milliseconds before the requested time, the last one to the beginning of the video.
/// ffmpeg reads the frames from there to the time. If there is none, because a frame is long, as
/// that of a slide, the next offset is tried. Each is much longer than the one before, so that few
/// frames are read if they are short, and few programs are started if they are long.
const EARLIER: [u64; 6] = [100, 1000, 10_000, 60_000, 600_000, u64::MAX];

/// Returns the frame that a video file shows at a time, as a JPEG: the last frame that begins at
/// this time or before, or the first frame of the video if all begin later.
///
/// # Errors
/// If ffmpeg is not installed. The inner error is returned if ffmpeg cannot read the video or finds
/// no frame in it.
pub fn frame_at(place: &Place, milliseconds: u64) -> Result<std::result::Result<Vec<u8>, VideoFault>> {
    let Some(input) = place.input() else { return Ok(Err(compressed())) };
    for from in EARLIER.map(|earlier| milliseconds.saturating_sub(earlier)) {
        let mut last = LastJpeg::default();
        let ended = run(frames_until(&input, from, milliseconds), "ffmpeg", &mut |bytes| last.add(bytes))?;
        match ended {
            Ok(()) if !last.0.is_empty() => return Ok(Ok(last.0)),
            Err(fault) if from == 0 => return Ok(Err(fault)),
            // In some files ffmpeg fails where it cannot seek, or where no frame follows, but reads
            // them from an earlier time.
            _ => {}
        }
        if from == 0 {
            break;
        }
    }
    Ok(match output(jpegs(&input, 0, &["-frames:v", "1"]), "ffmpeg")? {
        Ok(first) if first.is_empty() => Err(VideoFault::Broken("it has no frame there".to_owned())),
        found => found,
    })
}

/// Returns the command that writes the frames of a video between two times in milliseconds, each
/// once.
fn frames_until(input: &OsStr, from: u64, until: u64) -> Command {
    // Times count from where ffmpeg begins to read. A frame that begins at the end is dropped, so
    // the end is half a millisecond later.
    let trim = format!("trim=end={}.{:03}5", (until - from) / 1000, (until - from) % 1000);
    // Otherwise ffmpeg writes as many frames as the frame rate demands, and repeats long ones.
    jpegs(input, from, &["-vf", &trim, "-vsync", "passthrough"])
}

/// Returns the command that writes frames of a video from a time on as JPEGs, one after the other.
fn jpegs(input: &OsStr, from: u64, which: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-threads", "1", "-protocol_whitelist", "file,subfile"]);
    // ffmpeg does not find the beginning of some MPEG streams if it seeks there.
    if from > 0 {
        command.args(["-ss", &format!("{}.{:03}", from / 1000, from % 1000)]);
    }
    command.arg("-i").arg(input).args(["-map", "0:v:0"]).args(which);
    // Bit-exact, so that the version of the library is not written into the image. Quality 2 is the
    // best that its JPEG encoder gives by default.
    command.args(["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"]);
    command.args(["-flags:v", "+bitexact", "-fflags", "+bitexact", "-f", "image2pipe", "-"]);
    command
}

/// The last of the JPEGs that were added, so that a long video is never in memory as images. The
/// two bytes at the start of a JPEG are nowhere else in those that ffmpeg writes: in compressed
/// data a zero follows every 0xff.
#[derive(Default)]
struct LastJpeg(Vec<u8>);

impl LastJpeg {
    /// Adds bytes. They may begin and end anywhere in a JPEG.
    fn add(&mut self, bytes: &[u8]) {
        let before = self.0.len().saturating_sub(1);
        self.0.extend_from_slice(bytes);
        if let Some(start) = self.0[before..].windows(2).rposition(|pair| pair == [0xff, 0xd8]) {
            self.0.drain(..before + start);
        }
    }
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
///
/// The duration that ffprobe gives for the pictures ends too early if frames last unequally long
/// and are not stored in the order of their times. So if the file is longer, the last frame decides
/// whether the pictures are.
fn duration(place: &Place) -> Result<std::result::Result<f64, VideoFault>> {
    let Some(input) = place.input() else { return Ok(Err(compressed())) };
    let entries = "format=start_time,duration:stream=duration:stream_tags=DURATION";
    let said = match output(ffprobe(&input, &["-show_entries", entries]), "ffprobe")? {
        Ok(said) => Said::read(&String::from_utf8_lossy(&said)),
        Err(fault) => return Ok(Err(fault)),
    };
    let seconds = match (said.of_pictures, said.of_file) {
        (Some(pictures), Some(file)) if file > pictures => {
            let from = format!("{:.6}%", said.start + pictures);
            let entries = ["-read_intervals", &from, "-show_entries", "packet=pts_time,duration_time"];
            let packets = match output(ffprobe(&input, &entries), "ffprobe")? {
                Ok(packets) => packets,
                Err(fault) => return Ok(Err(fault)),
            };
            let end = last_end(&String::from_utf8_lossy(&packets)).map(|end| end - said.start);
            Some(end.map_or(pictures, |end| end.max(pictures)))
        }
        (pictures, file) => pictures.or(file),
    };
    Ok(seconds.ok_or_else(|| VideoFault::Broken("its duration is unknown".to_owned())))
}

/// Returns a command that asks ffprobe about the pictures of a video.
fn ffprobe(input: &OsStr, entries: &[&str]) -> Command {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-protocol_whitelist", "file,subfile", "-select_streams", "v:0"]);
    command.args(entries).args(["-of", "compact", "-i"]).arg(input);
    command
}

/// Times of a video in seconds, as ffprobe says them.
#[derive(Debug, PartialEq)]
struct Said {
    /// The time at which the file begins. Times of frames count from 0, and the times that ffmpeg
    /// seeks count from here.
    start: f64,
    /// The duration of the pictures.
    of_pictures: Option<f64>,
    /// The duration of the file.
    of_file: Option<f64>,
}

impl Said {
    /// Reads a line `stream|duration=SECONDS|tag:DURATION=TIME`, and
    /// `format|start_time=SECONDS|duration=SECONDS`. Matroska has the duration of a stream only in
    /// a tag, `00:00:05.400000000`.
    fn read(said: &str) -> Said {
        let of = |section: &str, keys: &[&str]| {
            let lines = said.lines().filter(|line| line.split('|').next() == Some(section));
            let found = lines.flat_map(|line| keys.iter().filter_map(|key| field(line, key)));
            found.collect::<Vec<f64>>()
        };
        let duration = |times: Vec<f64>| times.into_iter().find(|seconds| *seconds > 0.0);
        Said {
            start: of("format", &["start_time"]).first().copied().unwrap_or(0.0),
            of_pictures: duration(of("stream", &["duration", "tag:DURATION"])),
            of_file: duration(of("format", &["duration"])),
        }
    }
}

/// Returns the latest end of the frames in lines `packet|pts_time=SECONDS|duration_time=SECONDS`.
fn last_end(packets: &str) -> Option<f64> {
    let end = |line| Some(field(line, "pts_time")? + field(line, "duration_time").unwrap_or(0.0));
    packets.lines().filter_map(end).reduce(f64::max)
}

/// Returns a field of a line of ffprobe in seconds, if it is known.
fn field(line: &str, key: &str) -> Option<f64> {
    let value = line.trim().split('|').find_map(|field| field.strip_prefix(key)?.strip_prefix('='))?;
    clock_seconds(value).filter(|seconds| seconds.is_finite())
}

/// Parses seconds, or hours, minutes and seconds with colons.
fn clock_seconds(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

/// Runs a program and returns its standard output. If it fails, the last line of its standard error
/// becomes a fault of the video.
fn output(command: Command, program: &'static str) -> Result<std::result::Result<Vec<u8>, VideoFault>> {
    let mut all = Vec::new();
    let ended = run(command, program, &mut |bytes| all.extend_from_slice(bytes))?;
    Ok(ended.map(|()| all))
}

/// Does the same as [`output`], but passes the standard output on as it comes.
fn run(
    mut command: Command,
    program: &'static str,
    keep: &mut dyn FnMut(&[u8]),
) -> Result<std::result::Result<(), VideoFault>> {
    let failed = |source| Error::Io { action: "run", path: program.into(), source };
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Err(Error::NoProgram { program }),
        other => other.map_err(failed)?,
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Standard error is read beside: a program waits if nobody reads what it says.
    let beside = std::thread::spawn(move || {
        let mut said = Vec::new();
        stderr.map_or(Ok(0), |mut stderr| stderr.read_to_end(&mut said)).map(|_| said)
    });
    let read = stdout.map_or(Ok(()), |stdout| each_chunk(stdout, keep));
    let status = child.wait().map_err(failed)?;
    let said = beside.join().unwrap_or_else(|_| Ok(Vec::new())).map_err(failed)?;
    read.map_err(failed)?;
    if status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be read");
    Ok(Err(VideoFault::Broken(last.trim().to_owned())))
}

/// Reads to the end, a part at a time.
fn each_chunk(mut from: impl Read, keep: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let mut chunk = vec![0; 1 << 16];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => keep(&chunk[..length]),
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
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
        for name in ["long.mp4", "long.mkv", "long.ts"] {
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-v", "error", "-i"]).arg(&silent);
            command.args(["-f", "lavfi", "-i", "sine=d=20", "-map", "0:v", "-map", "1:a", "-c:v", "copy"]);
            let written = command.args(["-c:a", "aac"]).arg(folder.path().join(name)).output().unwrap();
            assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
            let pictures = Pictures::of([folder.path().to_owned()]);
            let video = Video::find(&pictures, name).unwrap().unwrap();
            let Video::File(place, seconds) = &video else { panic!("it is a file") };
            assert!((seconds - 2.0).abs() < 0.11, "{name}: {seconds}");
            if name == "long.ts" {
                // Its times begin at 1.5 seconds. The copied pictures lack the header that a
                // decoder needs.
                continue;
            }
            let grey = |milliseconds| {
                let jpeg = frame_at(place, milliseconds).unwrap().unwrap();
                lynxdata_picture::decode_rgb(&jpeg, 1 << 20).unwrap().get_pixel(32, 24).0[1]
            };
            let greys = [250, 750, 1250, 1750].map(grey);
            assert!(greys.windows(2).all(|pair| pair[1] > pair[0] + 25), "{name}: {greys:?}");
            // After the last frame it is still shown.
            for later in [2100, 3000, 5000, 15_000] {
                assert!(grey(later).abs_diff(greys[3]) < 5, "{name} {later}");
            }
        }
    }

    /// Runs ffmpeg on a file and returns whether it is installed.
    fn made(source: &[&str], path: &Path) -> bool {
        let Ok(made) = Command::new("ffmpeg").args(["-nostdin", "-v", "error"]).args(source).arg(path).output() else {
            return false;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        true
    }

    fn found(path: &Path) -> (Place, f64) {
        let pictures = Pictures::of([path.parent().unwrap().to_owned()]);
        match Video::find(&pictures, path.file_name().unwrap().to_str().unwrap()).unwrap().unwrap() {
            Video::File(place, seconds) => (place, seconds),
            Video::Frames(_) => panic!("it is a file"),
        }
    }

    fn grey(place: &Place, milliseconds: u64) -> u8 {
        let jpeg = frame_at(place, milliseconds).unwrap().unwrap();
        lynxdata_picture::decode_rgb(&jpeg, 1 << 20).unwrap().get_pixel(32, 24).0[1]
    }

    /// A video of 60 seconds with 10 frames a second in the first half, and then one every ten
    /// seconds and one at 59.9. Every ten seconds are of another grey.
    const UNEVEN: [&str; 12] = [
        "-f",
        "lavfi",
        "-i",
        "color=black:s=64x48:r=10:d=60,geq=lum='30*floor(T/10)+30':cb=128:cr=128,\
         select='lt(n,300)+not(mod(n,100))+eq(n,599)'",
        "-vsync",
        "vfr",
        "-c:v",
        "mpeg4",
        "-q:v",
        "2",
        "-bf",
        "2",
    ];

    #[test]
    fn a_video_of_uneven_frames_lasts_until_its_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let silent = folder.path().join("silent.mp4");
        if !made(&UNEVEN, &silent) {
            crate::machine::video("color", &silent); // says that it is skipped
            return;
        }
        let sound = ["-f", "lavfi", "-i", "sine=d=80", "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac"];
        made(&[&["-i", silent.to_str().unwrap()], &sound[..]].concat(), &folder.path().join("sound.mp4"));
        for name in ["silent.mp4", "sound.mp4"] {
            let (place, seconds) = found(&folder.path().join(name));
            assert!((seconds - 60.0).abs() < 0.11, "{name}: {seconds}");
            let greys = [5_000, 15_000, 25_000].map(|moment| grey(&place, moment));
            assert!(greys.windows(2).all(|pair| pair[1] > pair[0] + 15), "{name}: {greys:?}");
        }
    }

    #[test]
    fn every_frame_is_written_once_and_only_the_last_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uneven.mp4");
        if !made(&UNEVEN, &path) {
            crate::machine::video("color", &path); // says that it is skipped
            return;
        }
        let all = output(frames_until(path.as_os_str(), 25_000, 60_000), "ffmpeg").unwrap().unwrap();
        let starts: Vec<usize> = (1..all.len()).filter(|at| all[at - 1..=*at] == [0xff, 0xd8]).collect();
        assert!((50..60).contains(&starts.len()), "{} frames, not 350", starts.len());
        let expected = &all[starts.last().unwrap() - 1..];
        for length in [1, 7, all.len()] {
            let mut last = LastJpeg::default();
            for bytes in all.chunks(length) {
                last.add(bytes);
            }
            assert!(last.0 == expected, "in parts of {length} bytes");
        }
    }

    #[test]
    fn the_frame_is_the_one_that_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        // Each frame has another grey.
        for (name, rate, codec) in
            [("a.mp4", 1_u64, "mpeg4"), ("b.mp4", 10, "mpeg4"), ("c.mkv", 2, "mpeg4"), ("d.ts", 25, "mpeg2video")]
        {
            let path = folder.path().join(name);
            let source =
                format!("color=black:s=64x48:r={rate}:d={},geq=lum='16*N+20':cb=128:cr=128", 12.0 / rate as f64);
            if !made(&["-f", "lavfi", "-i", &source, "-c:v", codec, "-q:v", "2"], &path) {
                crate::machine::video("color", &path); // says that it is skipped
                return;
            }
            let (place, _) = found(&path);
            let frame = 1000 / rate;
            for number in [0, 1, 4, 7, 11] {
                // Luminance of video from 16 to 235 is that of JPEG from 0 to 255.
                let expected = ((16 * number + 4) * 255 / 219) as u8;
                for moment in [0, frame / 2, frame - 1] {
                    let grey = grey(&place, number * frame + moment);
                    assert!(
                        grey.abs_diff(expected) < 8,
                        "{name}, frame {number}, {moment} ms later: {grey}, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_last_frame_may_be_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slide.mp4");
        let source = ["-f", "lavfi", "-i", "color=gray:s=64x48:r=1/40:d=40", "-f", "lavfi", "-i", "sine=d=40"];
        let coded = ["-c:v", "mpeg4", "-q:v", "2", "-c:a", "aac"];
        if !made(&[&source[..], &coded].concat(), &path) {
            crate::machine::video("color", &path); // says that it is skipped
            return;
        }
        let (place, seconds) = found(&path);
        assert!((seconds - 40.0).abs() < 0.11, "{seconds}");
        let first = grey(&place, 0);
        for moment in [5_000, 20_000, 35_000, 39_900] {
            assert_eq!(grey(&place, moment), first, "{moment}");
        }
    }

    #[test]
    fn the_duration_of_the_file_counts_only_without_that_of_the_stream() {
        let said = |text: &str| {
            let Said { start, of_pictures, of_file } = Said::read(text);
            (start, of_pictures, of_file)
        };
        let usual = "stream|duration=2.0\nformat|start_time=0.5|duration=20.0\n";
        assert_eq!(said(usual), (0.5, Some(2.0), Some(20.0)));
        let tagged = "stream|duration=N/A|tag:DURATION=00:01:02.500000000\nformat|start_time=0.0|duration=90.0\n";
        assert_eq!(said(tagged), (0.0, Some(62.5), Some(90.0)));
        assert_eq!(said("stream|duration=N/A\nformat|start_time=N/A|duration=20.0\n"), (0.0, None, Some(20.0)));
        assert_eq!(said("stream|duration=N/A\nformat|start_time=N/A|duration=N/A\n"), (0.0, None, None));
        let packets = "packet|pts_time=9.5|duration_time=0.5\npacket|pts_time=8.0|duration_time=N/A\n\n";
        assert_eq!((last_end(packets), last_end("packet|pts_time=N/A|duration_time=0.5")), (Some(10.0), None));
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
