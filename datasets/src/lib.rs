//! Annotated datasets as their authors ship them (VQAv2, COCO Captions, …), turned into instruction
//! conversations.
//!
//! ```
//! use lynxdata_datasets::{Build, BuildSettings, Catalogue};
//! use lynxdata_prompts::Banks;
//! use std::path::Path;
//!
//! let banks = Banks::shipped()?;
//! let catalogue = Catalogue::shipped(&banks)?;
//! let native_files = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vqav2");
//! let settings = BuildSettings { seed: 7, ..BuildSettings::default() };
//! let mut build = Build::start(catalogue.get("vqav2")?, &banks, &native_files, "train", &settings)?;
//! let conversations = build.by_ref().collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(conversations[0].messages[1].content, "net");
//! assert_eq!(build.counts().kept, 3);
//! # Ok::<(), lynxdata_datasets::Error>(())
//! ```
//!
//! The parts, in the order in which data flows:
//!
//! * [`Catalogue`] and [`Task`]: one TOML file per task in `tasks/<group>/`; `README.md` next to
//!   `tasks/` describes the format;
//! * `rows`: readers of native files, which are streamed one row at a time; `expression`: the
//!   minijinja expressions that map rows to records;
//! * [`Records`]: typed [`Record`]s with media, slots and answers by shape. Every native row is
//!   either kept or counted under the reason why it was dropped;
//! * [`Pictures`]: finds the images of records in folders, in archives or in the rows themselves;
//! * [`Video`]: selects the frames that represent a video;
//! * [`inventory`]: reports which images are missing and where to get them;
//! * [`Build`]: turns records and prompt banks into [`Conversation`]s;
//! * [`mixture`]: decides how many records of each task are used, and which;
//! * [`DiversityMeter`]: measures how varied the instructions are;
//! * [`export`]: writes conversations in the formats that trainers read.
//!
//! Every choice (wording, order of options, which of several captions) depends only on the seed,
//! the task and the id of the record. The crate downloads nothing, decodes no images and writes no
//! files except those of an export. The program ffmpeg extracts the frames of videos.

mod archive;
mod boxes;
mod build;
mod catalogue;
mod checked;
mod coding;
mod container;
mod counts;
mod diversity;
mod error;
pub mod export;
mod expression;
mod filters;
mod hydrate;
mod json_text;
mod lanes;
pub mod mixture;
mod picture;
mod record;
mod records;
mod rows;
mod sentence;
mod shape;
mod task;
mod value;
mod video;

#[cfg(test)]
#[path = "../../tests/machine.rs"]
mod machine;

pub use boxes::NativeBox;
pub use build::{
    Build, BuildSettings, Conversation, Dialogs, ImageReference, Lines, Message, Negatives, PackedRecord, Role,
};
pub use catalogue::{Catalogue, FaultyTask, example};
pub use checked::{Checked, MediaCount, check, count_difference};
pub use counts::{FormatsLeftOut, NOT_DRAWN, ShapeCount, TaskCounts};
pub use diversity::{
    Bin, Diversity, DiversityMeter, Exchange, Lengths, Positions, SetDiversity, Wordings, exchanges, lettered_option,
};
pub use error::Error;
pub use hydrate::{Absent, Collection, Collections, Held, Inventory, VISUAL_GENOME, inventory};
pub use picture::{ArchiveMember, Embedded, FaultyMedia, Pictures, Place};
pub use record::{Answers, Media, Options, Record, SlotValue, VideoReference};
pub use records::Records;
pub use task::{CommercialUse, Fact, Obtain, Task, Terms, Verified};
pub use video::{Frame, Video, VideoFault, ffmpeg_version, frame_at};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
