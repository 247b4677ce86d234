//! The settings of a download, as they stand in the recipe.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::picture::{Encode, Resize};
use crate::{Error, Result};

/// How pictures are fetched and stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DownloadConfig {
    /// Rows of the source that are downloaded, committed and resumed together; 1 to 100,000.
    pub rows_per_part: usize,
    /// URLs in flight at once, over all parts; 1 to 10,000.
    pub concurrency: usize,
    /// Total time for one URL: name resolution, connecting, redirects, all attempts and their bodies; seconds.
    pub timeout_seconds: f64,
    /// Attempts after the first, for failures that may pass (see the statuses that are retryable); at most 20.
    pub retries: u32,
    /// Largest body that is accepted, after content decoding; bytes.
    pub max_bytes: u64,
    /// Largest picture that is decoded, width times height as its header says; pixels.
    pub max_pixels: u64,
    /// The `User-Agent` header; say who you are, best with an address where you can be reached.
    pub user_agent: String,
    /// Whether loopback, private and other special addresses may be connected to. Needed for a server in the own network.
    pub allow_private_addresses: bool,
    /// PEM file of certificate authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What is done to the pictures: `keep` stores the bytes as served, `shorter` scales the shorter side to `size`.
    pub resize: Resize,
    /// Length of the shorter side after `resize = "shorter"`; pixels, 1 to 16,384.
    pub size: u32,
    /// Whether pictures with a shorter side below `size` are left at their size instead of being enlarged.
    pub only_if_larger: bool,
    /// Format of pictures that had to be changed.
    pub encode: Encode,
    /// Quality of JPEG encoding, 1 to 100.
    pub quality: u8,
    /// Share of failed rows, 0 to 1, above which a run that has finished exits with code 3; with 1 it never does.
    pub max_failed_fraction: f64,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        DownloadConfig {
            rows_per_part: 1000,
            concurrency: 64,
            timeout_seconds: 30.0,
            retries: 2,
            max_bytes: 50_000_000,
            max_pixels: 100_000_000,
            user_agent: concat!("lynxdata/", env!("CARGO_PKG_VERSION"), " (image dataset downloader)").to_owned(),
            allow_private_addresses: false,
            ca_file: None,
            resize: Resize::Shorter,
            size: 256, // img2dataset's default image_size
            only_if_larger: true,
            encode: Encode::Jpeg,
            quality: 95, // img2dataset's default encode_quality
            max_failed_fraction: 1.0,
        }
    }
}

impl DownloadConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first key that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let in_range = |key, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::setting(key, format!("is {value} but must be from {low} to {high}")))
            }
        };
        in_range("rows_per_part", self.rows_per_part as u64, 1, 100_000)?;
        in_range("concurrency", self.concurrency as u64, 1, 10_000)?;
        in_range("retries", u64::from(self.retries), 0, 20)?;
        in_range("max_bytes", self.max_bytes, 1, i32::MAX as u64)?;
        in_range("max_pixels", self.max_pixels, 1, 1_000_000_000)?;
        in_range("size", u64::from(self.size), 1, 16_384)?;
        in_range("quality", u64::from(self.quality), 1, 100)?;
        if !(self.timeout_seconds > 0.0 && self.timeout_seconds <= 86_400.0) {
            let reason = format!("is {} but must be above 0 and at most 86400 seconds", self.timeout_seconds);
            return Err(Error::setting("timeout_seconds", reason));
        }
        if !(0.0..=1.0).contains(&self.max_failed_fraction) {
            let reason = format!("is {} but must be from 0 to 1", self.max_failed_fraction);
            return Err(Error::setting("max_failed_fraction", reason));
        }
        if self.user_agent.trim().is_empty() || !self.user_agent.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(Error::setting("user_agent", "must be a non-empty text of printable ASCII characters"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_survive_json() {
        let config = DownloadConfig::default();
        config.validate().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<DownloadConfig>(&text).unwrap(), config);
        assert!(serde_json::from_str::<DownloadConfig>(r#"{"timeout": 3}"#).is_err(), "unknown keys are refused");
    }

    #[test]
    fn a_bad_value_is_reported_with_its_key() {
        type Change = fn(&mut DownloadConfig);
        let cases: &[(&str, Change)] = &[
            ("rows_per_part", |c| c.rows_per_part = 0),
            ("concurrency", |c| c.concurrency = 0),
            ("timeout_seconds", |c| c.timeout_seconds = f64::NAN),
            ("retries", |c| c.retries = 21),
            ("max_bytes", |c| c.max_bytes = 0),
            ("max_pixels", |c| c.max_pixels = 0),
            ("user_agent", |c| c.user_agent = "bad\nheader".into()),
            ("size", |c| c.size = 0),
            ("quality", |c| c.quality = 101),
            ("max_failed_fraction", |c| c.max_failed_fraction = 1.5),
        ];
        for (key, change) in cases {
            let mut config = DownloadConfig::default();
            change(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{key}` ")), "{message}");
        }
    }
}
