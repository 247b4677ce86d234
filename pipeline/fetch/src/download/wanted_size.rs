//! Limits on the size of images as served.

use lynxdata_records::Status;

use crate::client::Failure;
use crate::config::DownloadConfig;

/// Limits on the size of an image as served; 0 for no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedSize {
    min_side: u32,
    max_area: u64,
    max_aspect_ratio: f64,
}

impl WantedSize {
    pub(super) fn of(config: &DownloadConfig) -> WantedSize {
        let &DownloadConfig { min_side, max_area, max_aspect_ratio, .. } = config;
        WantedSize { min_side, max_area, max_aspect_ratio }
    }

    /// Returns whether there is no limit.
    pub(super) fn is_any(&self) -> bool {
        self.min_side == 0 && self.max_area == 0 && self.max_aspect_ratio == 0.0
    }

    /// Checks width and height, in pixels, in the same way as img2dataset 1.47 (`resizer.py`).
    pub(super) fn check(&self, width: u32, height: u32) -> Result<(), Failure> {
        let (shorter, longer) = (width.min(height), width.max(height));
        let (area, aspect_ratio) = (u64::from(width) * u64::from(height), f64::from(longer) / f64::from(shorter));
        let reason = if shorter < self.min_side {
            format!("a side is below {}", self.min_side)
        } else if self.max_area > 0 && area > self.max_area {
            format!("the area is more than {}", self.max_area)
        } else if self.max_aspect_ratio > 0.0 && aspect_ratio > self.max_aspect_ratio {
            format!("one side is more than {} times the other", self.max_aspect_ratio)
        } else {
            return Ok(());
        };
        Err(Failure::new(Status::UnwantedSize, format!("{width} x {height} pixels: {reason}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_themselves_are_wanted() {
        let config =
            DownloadConfig { min_side: 100, max_area: 40_000, max_aspect_ratio: 3.0, ..DownloadConfig::default() };
        let wanted = WantedSize::of(&config);
        assert!(!wanted.is_any() && WantedSize::of(&DownloadConfig::default()).is_any());
        for (size, reason) in [
            ((200, 200), None),
            ((100, 300), None),
            ((300, 100), None),
            ((99, 100), Some("99 x 100 pixels: a side is below 100")),
            ((200, 201), Some("200 x 201 pixels: the area is more than 40000")),
            ((100, 301), Some("100 x 301 pixels: one side is more than 3 times the other")),
        ] {
            let failure = wanted.check(size.0, size.1).err();
            assert_eq!(failure.as_ref().and_then(|failure| failure.detail.as_deref()), reason);
            assert!(failure.is_none_or(|failure| failure.status == Status::UnwantedSize));
        }
    }
}
