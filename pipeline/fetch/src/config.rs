//! The settings of a download, as in the recipe.

use lynxdata_picture::{Check, Encode, Resize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connect::Proxy;
use crate::{Error, Result};

/// Settings for downloading and storing images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent switches of the recipe")]
pub struct DownloadConfig {
    /// Rows of the source that are downloaded, committed and resumed together; 1 to 100,000.
    pub rows_per_part: usize,
    /// Maximum number of URLs in flight, over all parts; 1 to 10,000.
    pub concurrency: usize,
    /// Total time for one URL: name resolution, connecting, redirects, all attempts and their
    /// bodies; seconds.
    pub timeout_seconds: f64,
    /// Number of further attempts after a temporary failure (a retryable status); at most 20.
    pub retries: u32,
    /// Minimum speed of a body, over every ten seconds; bytes per second. A URL that stays below it
    /// ends with `timeout` and is not tried again; 0 for no limit.
    pub min_bytes_per_second: u64,
    /// Maximum size of a body, after content decoding; bytes.
    pub max_bytes: u64,
    /// Memory for bodies, over all URLs in flight; bytes. A body that finds no room waits, which
    /// does not count towards the timeout. A body that has begun to arrive continues in a file in
    /// the run folder.
    pub max_bytes_in_flight: u64,
    /// Maximum size of an image that is decoded, width times height by its header; pixels.
    pub max_pixels: u64,
    /// Minimum length of the shorter side of an image as served, pixels; 0 for no limit. An image
    /// outside this limit or one of the next two ends with `unwanted_size`. If its file is
    /// complete, it is not even decoded.
    pub min_side: u32,
    /// Maximum area of an image as served, width times height in pixels; 0 for no limit.
    pub max_area: u64,
    /// Maximum ratio of the longer to the shorter side of an image as served; 0 for no limit.
    pub max_aspect_ratio: f64,
    /// The `User-Agent` header. Say who you are, preferably with a contact address.
    pub user_agent: String,
    /// Whether loopback, private and other special addresses may be connected to. Needed for a
    /// server in your own network.
    pub allow_private_addresses: bool,
    /// PEM file with certificate authorities that are trusted in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// Name servers to ask instead of the system's: addresses such as `9.9.9.9` or
    /// `[2620:fe::fe]:53`. If one fails, the next one is asked.
    pub dns_servers: Vec<String>,
    /// Total time for the resolution of one host name, over all name servers; seconds. A name that
    /// takes longer ends with `dns_error`.
    pub dns_timeout_seconds: f64,
    /// A proxy for all requests, `http://`, `https://` or `socks5://`. The proxy resolves names and
    /// connects, so private addresses are only refused where a URL contains the address itself.
    /// Proxies from environment variables are not used.
    pub proxy: Option<String>,
    /// The way in which images are resized: `keep` stores the bytes as served; `shorter` and
    /// `longer` scale that side to `size` and keep the aspect ratio; `centre_crop` scales the
    /// shorter side to `size` and cuts out the square at the centre; `border` scales the longer
    /// side to `size` and pads with white to a square. img2dataset's names `no`, `keep_ratio`,
    /// `keep_ratio_largest` and `center_crop` are accepted as well. Images that need no change keep
    /// their bytes in every mode.
    pub resize: Resize,
    /// The check of an image with `resize = "keep"`: `pixels` decodes it; `structure` only follows
    /// the parts of its file from the header to the end. The latter is many times faster, and finds
    /// files that are cut off but not files that are damaged inside.
    pub check: Check,
    /// Length of the side that `resize` scales, or of the square that it makes; pixels, 1 to
    /// 16,384. Without effect with `resize = "keep"`.
    pub size: u32,
    /// Whether images that are not larger than `size` are left unchanged instead of being enlarged,
    /// cropped or padded. The shorter side is compared for `shorter` and `centre_crop`, the longer
    /// side for `longer` and `border`.
    pub only_if_larger: bool,
    /// Format of images that had to be changed: `jpeg` (or `jpg`), `png`, or `webp`, which is
    /// always lossless.
    pub encode: Encode,
    /// Quality of JPEG encoding, 1 to 100; `png` and `webp` are lossless and ignore it.
    pub quality: u8,
    /// Share of failed rows, 0 to 1, above which a finished run exits with code 3; with 1 it never
    /// does.
    pub max_failed_fraction: f64,
    /// Directives of `X-Robots-Tag` that keep an image out of the pool, if the header addresses
    /// everyone or the product name (first word) of `user_agent`. The header `TDM-Reservation: 1`
    /// keeps it out too. With an empty list neither header is obeyed.
    pub opt_out_directives: Vec<String>,
    /// Whether the `robots.txt` of every host is fetched and obeyed, for the product name (first
    /// word) of `user_agent`. A URL that it disallows ends with `opted_out`.
    pub robots_txt: bool,
    /// Maximum number of rows in flight for one host and port, by the URLs of the rows (a redirect
    /// counts for the host that sent it); 0 to 10,000, 0 for no limit.
    pub requests_per_host: usize,
    /// Maximum number of requests to one host and port per second, without bursts; 0 for no limit.
    pub requests_per_second_per_host: f64,
    /// Number of consecutive rows without any answer (`dns_error`, `connect_error`, `tls_error`,
    /// `timeout`) or with `rate_limited` after which a host is given up; 0 for never. Rows of a
    /// host that was given up fail without an attempt. One row per minute still tries the host, and
    /// if it succeeds, the host is used again. A host that has answered before and can no longer be
    /// connected to is expected back for 30 seconds: it is tried once a second, and its rows fail
    /// only after that. Which rows of such a host are tried depends on the order of answers, so
    /// their outcomes may differ between two runs.
    pub host_failure_limit: u32,
    /// Whether bodies are compared with the digests in a column `sha256`, `sha512` or `md5` of the
    /// source, if it has one. Digests may be in hexadecimal, in base64, or bytes. A body with
    /// another digest ends with `hash_mismatch`. Not compared are rows with an empty cell, rows
    /// whose cell holds no digest (a warning reports these), and images that exist already.
    pub verify_hash: bool,
    /// Column with the boxes to blur, such as faces: for every image a list of `[left, top, right,
    /// bottom]`, as fractions from 0 to 1 of its width and height.
    pub blur_boxes: Option<String>,
    /// File format of the pool. `webdataset` and `files` are for lists that only need to be
    /// downloaded: the later stages need `parquet`.
    pub format: PoolFormat,
}

/// The settings that decide which pairs there are and what is stored of them. They are part of the
/// fingerprints of parts. The other settings of [`DownloadConfig`] say how to ask servers and when
/// to give up.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent switches of the recipe")]
pub struct StoredSettings<'a> {
    rows_per_part: usize,
    max_bytes: u64,
    max_pixels: u64,
    min_side: u32,
    max_area: u64,
    max_aspect_ratio: f64,
    allow_private_addresses: bool,
    resize: Resize,
    check: Check,
    size: u32,
    only_if_larger: bool,
    encode: Encode,
    quality: u8,
    opt_out_directives: &'a [String],
    robots_txt: bool,
    verify_hash: bool,
    blur_boxes: Option<&'a str>,
    format: PoolFormat,
}

/// The file format in which the pairs of the pool are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolFormat {
    /// Parquet with an `Image` column, which Hugging Face `datasets` opens.
    #[default]
    Parquet,
    /// One tar file per part for the `webdataset` package, and beside it the other columns as
    /// Parquet. All images in it have the suffix of `encode`, whatever their formats are, because
    /// `datasets` opens no archive with several suffixes. The JSON of each image gives its format.
    Webdataset,
    /// One folder per part with an image, a caption and a JSON file per pair, and beside it the
    /// other columns as Parquet.
    Files,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        DownloadConfig {
            rows_per_part: 1000,
            concurrency: 64,
            timeout_seconds: 30.0,
            retries: 2,
            min_bytes_per_second: 500,
            max_bytes: 50_000_000,
            max_bytes_in_flight: 32_000_000,
            max_pixels: 100_000_000,
            min_side: 0,
            max_area: 0,
            max_aspect_ratio: 0.0,
            user_agent: concat!("lynxdata/", env!("CARGO_PKG_VERSION"), " (image dataset downloader)").to_owned(),
            allow_private_addresses: false,
            ca_file: None,
            dns_servers: Vec::new(),
            dns_timeout_seconds: 10.0,
            proxy: None,
            resize: Resize::Shorter,
            check: Check::Pixels,
            size: 256, // img2dataset's default image_size
            only_if_larger: true,
            encode: Encode::Jpeg,
            quality: 95, // img2dataset's default encode_quality
            max_failed_fraction: 1.0,
            // img2dataset's default disallowed_header_directives
            opt_out_directives: ["noai", "noimageai", "noindex", "noimageindex"].map(str::to_owned).to_vec(),
            robots_txt: true,
            requests_per_host: 8,
            requests_per_second_per_host: 0.0,
            host_failure_limit: 20,
            verify_hash: true,
            blur_boxes: None,
            format: PoolFormat::Parquet,
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
        in_range("min_bytes_per_second", self.min_bytes_per_second, 0, 1_000_000_000)?;
        in_range("max_bytes_in_flight", self.max_bytes_in_flight, 1_000_000, 1 << 40)?;
        for (key, seconds) in
            [("timeout_seconds", self.timeout_seconds), ("dns_timeout_seconds", self.dns_timeout_seconds)]
        {
            if !(seconds > 0.0 && seconds <= 86_400.0) {
                let reason = format!("is {seconds} but must be above 0 and at most 86400 seconds");
                return Err(Error::setting(key, reason));
            }
        }
        let rate = self.requests_per_second_per_host;
        if rate != 0.0 && !(0.001..=10_000.0).contains(&rate) {
            let reason = format!("is {rate} but must be 0, for no limit, or from 0.001 to 10000");
            return Err(Error::setting("requests_per_second_per_host", reason));
        }
        let ratio = self.max_aspect_ratio;
        if ratio != 0.0 && !(ratio >= 1.0 && ratio.is_finite()) {
            return Err(Error::setting(
                "max_aspect_ratio",
                format!("is {ratio} but must be 0, for no limit, or at least 1"),
            ));
        }
        self.name_servers()?;
        if let Some(Err(reason)) = self.proxy.as_deref().map(Proxy::parse) {
            return Err(Error::setting("proxy", reason));
        }
        if !(0.0..=1.0).contains(&self.max_failed_fraction) {
            let reason = format!("is {} but must be from 0 to 1", self.max_failed_fraction);
            return Err(Error::setting("max_failed_fraction", reason));
        }
        if self.user_agent.trim().is_empty() || !self.user_agent.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(Error::setting("user_agent", "must be a non-empty text of printable ASCII characters"));
        }
        in_range("requests_per_host", self.requests_per_host as u64, 0, 10_000)?;
        let is_word =
            |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !",:".contains(c));
        if let Some(bad) = self.opt_out_directives.iter().find(|directive| !is_word(directive)) {
            return Err(Error::setting("opt_out_directives", format!("has {bad:?}, which is not a single word")));
        }
        Ok(())
    }

    /// Returns the settings that parts depend on. Every new setting must be assigned to one of the
    /// two groups here; otherwise the crate does not compile.
    pub fn stored(&self) -> StoredSettings<'_> {
        let DownloadConfig {
            rows_per_part,
            max_bytes,
            max_pixels,
            min_side,
            max_area,
            max_aspect_ratio,
            allow_private_addresses,
            resize,
            check,
            size,
            only_if_larger,
            encode,
            quality,
            opt_out_directives,
            robots_txt,
            verify_hash,
            blur_boxes,
            format,
            concurrency: _,
            timeout_seconds: _,
            retries: _,
            min_bytes_per_second: _,
            max_bytes_in_flight: _,
            user_agent: _,
            ca_file: _,
            dns_servers: _,
            dns_timeout_seconds: _,
            proxy: _,
            max_failed_fraction: _,
            requests_per_host: _,
            requests_per_second_per_host: _,
            host_failure_limit: _,
        } = self;
        StoredSettings {
            rows_per_part: *rows_per_part,
            max_bytes: *max_bytes,
            max_pixels: *max_pixels,
            min_side: *min_side,
            max_area: *max_area,
            max_aspect_ratio: *max_aspect_ratio,
            allow_private_addresses: *allow_private_addresses,
            resize: *resize,
            check: *check,
            size: *size,
            only_if_larger: *only_if_larger,
            encode: *encode,
            quality: *quality,
            opt_out_directives,
            robots_txt: *robots_txt,
            verify_hash: *verify_hash,
            blur_boxes: blur_boxes.as_deref(),
            format: *format,
        }
    }

    /// Returns `dns_servers` as addresses. The default port is that of DNS, 53.
    pub(crate) fn name_servers(&self) -> Result<Vec<SocketAddr>> {
        const DNS_PORT: u16 = 53;
        let parse = |text: &String| {
            let with_port = text.parse().ok();
            with_port
                .or_else(|| text.parse().ok().map(|address: IpAddr| SocketAddr::new(address, DNS_PORT)))
                .ok_or_else(|| {
                    let reason = format!("has {text:?}, which is not an address such as 9.9.9.9 or [2620:fe::fe]:53");
                    Error::setting("dns_servers", reason)
                })
        };
        self.dns_servers.iter().map(parse).collect()
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
    fn the_names_of_img2dataset_are_understood_and_ours_are_written() {
        for (name, resize, written) in [
            ("no", Resize::Keep, "keep"),
            ("keep_ratio", Resize::Shorter, "shorter"),
            ("keep_ratio_largest", Resize::Longer, "longer"),
            ("center_crop", Resize::CentreCrop, "centre_crop"),
            ("border", Resize::Border, "border"),
        ] {
            for name in [name, written] {
                let config: DownloadConfig = serde_json::from_value(serde_json::json!({ "resize": name })).unwrap();
                assert_eq!(config.resize, resize, "{name}");
            }
            assert_eq!(serde_json::to_value(resize).unwrap(), written);
        }
        for (name, encode, written) in
            [("jpg", Encode::Jpeg, "jpeg"), ("png", Encode::Png, "png"), ("webp", Encode::WebP, "webp")]
        {
            for name in [name, written] {
                let config: DownloadConfig = serde_json::from_value(serde_json::json!({ "encode": name })).unwrap();
                assert_eq!(config.encode, encode, "{name}");
            }
            assert_eq!(serde_json::to_value(encode).unwrap(), written);
        }
        assert!(serde_json::from_str::<DownloadConfig>(r#"{"resize": "stretch"}"#).is_err());
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
            ("max_aspect_ratio", |c| c.max_aspect_ratio = 0.5),
            ("user_agent", |c| c.user_agent = "bad\nheader".into()),
            ("size", |c| c.size = 0),
            ("quality", |c| c.quality = 101),
            ("requests_per_host", |c| c.requests_per_host = 10_001),
            ("opt_out_directives", |c| c.opt_out_directives = vec!["noai, noindex".into()]),
            ("max_failed_fraction", |c| c.max_failed_fraction = 1.5),
            ("max_bytes_in_flight", |c| c.max_bytes_in_flight = 0),
            ("dns_timeout_seconds", |c| c.dns_timeout_seconds = 0.0),
            ("dns_servers", |c| c.dns_servers = vec!["dns.example".into()]),
            ("requests_per_second_per_host", |c| c.requests_per_second_per_host = -1.0),
        ];
        for (key, change) in cases {
            let mut config = DownloadConfig::default();
            change(&mut config);
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{key}` ")), "{message}");
        }
    }
}
