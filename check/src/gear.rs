//! The gears, and what they see of a held-out pair. The metrics are computed from that.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Up to about four repeats, repeated text trains language models nearly as well as new text
/// (Muennighoff et al., arXiv 2305.16264).
pub(crate) const MANY_EPOCHS: f64 = 4.0;

/// The way in which a check learns from the arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gear {
    /// A probe in closed form. It takes seconds, needs no training and sees words only.
    Quick,
    /// A compact Lynx, trained on every arm in every replicate.
    Lynx,
}

impl Gear {
    /// Returns the shares of wrong texts of the positive control, in percent. The probe costs
    /// little, so its curve has more points.
    pub fn wrong_text_percents(self) -> &'static [u32] {
        match self {
            Gear::Quick => &[5, 10, 20, 30, 50, 100],
            Gear::Lynx => &[10, 30],
        }
    }
}

/// What a gear sees of a held-out pair.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Scores of the probe: how well texts fit the image.
    Scores {
        /// The score of its own text.
        own: f64,
        /// The mean score of the held-out texts.
        others: f64,
    },
    /// Losses of the models of a compact Lynx.
    Losses(&'a [Losses]),
}

/// The losses of one model on the text of a held-out pair, in nats.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// With the pair's own image.
    pub nats: f64,
    /// With other images, on average.
    pub nats_wrong_picture: f64,
    /// Under the token frequencies of the arm only.
    pub nats_unigram: f64,
}

impl Seen<'_> {
    /// Returns a loss in bits, as the mean over the models; `None` without a language model.
    pub fn mean_bits(&self, nats: impl Fn(&Losses) -> f64) -> Option<f64> {
        match self {
            Seen::Scores { .. } => None,
            Seen::Losses(models) => {
                Some(models.iter().map(nats).sum::<f64>() / models.len() as f64 / std::f64::consts::LN_2)
            }
        }
    }
}
