//! Tar shards for the `webdataset` package.

use super::Format;
use super::tar::{begin, features};

pub(super) const FORMAT: Format = Format {
    name: "webdataset",
    description: "Tar shards with a `json` and the images `0.jpg`, `1.png`, … of each sample, for `webdataset`.",
    names_pictures: false,
    is_default: false,
    leaves_out: |_| None,
    features,
    begin: |_| Ok(begin(false)),
    describe: None,
};
