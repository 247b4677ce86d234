//! Pairs as tensors of fixed shape.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::model::{ModelConfig, patches_from_pixels};
use crate::tokenizer::Tokenizer;

/// An image with its caption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// `image_size² · 3` bytes: rows of pixels, each red, green, blue.
    pub pixels: Vec<u8>,
    /// The caption as it stands in the pool; the tokenizer lower-cases it if it was trained so.
    pub caption: String,
}

/// A caption as training and evaluation see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caption {
    /// The tokens to be foretold: the caption's, then the end token unless the caption was cut.
    pub(crate) targets: Vec<u32>,
    /// Bytes of text that the targets stand for.
    pub(crate) bytes: usize,
    /// Whether tokens were cut off.
    pub(crate) cut: bool,
}

impl Caption {
    /// Encodes `text` into `max_tokens` targets at most, the end token included.
    pub(crate) fn new(tokenizer: &Tokenizer, text: &str, max_tokens: usize) -> Result<Self> {
        let mut targets = tokenizer.encode_beginning(text, max_tokens)?;
        targets.push(Tokenizer::EOS);
        let cut = targets.len() > max_tokens;
        targets.truncate(max_tokens);
        let bytes = targets.iter().map(|id| tokenizer.bytes(*id)).sum();
        Ok(Self { targets, bytes, cut })
    }
}

/// Pairs ready for batches.
pub(crate) struct Items<'a> {
    config: &'a ModelConfig,
    pairs: &'a [Pair],
    pub(crate) captions: Vec<Caption>,
    max_tokens: usize,
}

impl<'a> Items<'a> {
    /// Encodes all captions and checks all images; `set` names the pairs in errors.
    pub(crate) fn new(
        set: &'static str,
        pairs: &'a [Pair],
        config: &'a ModelConfig,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Self> {
        let expected = config.pixel_bytes();
        let misshapen = pairs.iter().position(|pair| pair.pixels.len() != expected);
        if let Some(place) = misshapen {
            let (found, side) = (pairs[place].pixels.len(), config.image_size);
            let reason =
                format!("the image of pair {place} has {found} bytes, not the {expected} of {side} x {side} RGB");
            return Err(Error::Data { set, reason });
        }
        let captions = pairs.iter().map(|pair| Caption::new(tokenizer, &pair.caption, max_tokens));
        Ok(Self { config, pairs, captions: captions.collect::<Result<_>>()?, max_tokens })
    }

    /// Number of pairs.
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The images of some pairs: `[items, N, 3·patch²]`.
    pub(crate) fn patches(&self, items: &[u32], device: &Device) -> Tensor<3> {
        let (patches, values) = (self.config.patches(), self.config.patch_values());
        let mut numbers = Vec::with_capacity(items.len() * patches * values);
        for item in items {
            patches_from_pixels(self.config, &self.pairs[*item as usize].pixels, &mut numbers);
        }
        Tensor::from_data(TensorData::new(numbers, [items.len(), patches, values]), device)
    }

    /// What the decoder reads for some pairs: the begin token and all targets but the last, padded: `[items, max_tokens]`.
    pub(crate) fn inputs(&self, items: &[u32], device: &Device) -> Tensor<2, Int> {
        let rows = items.iter().flat_map(|item| {
            let targets = &self.captions[*item as usize].targets;
            let read = std::iter::once(&Tokenizer::BOS).chain(&targets[..targets.len() - 1]);
            read.chain(std::iter::repeat(&Tokenizer::PAD)).take(self.max_tokens).map(|id| i64::from(*id))
        });
        Tensor::from_data(TensorData::new(rows.collect::<Vec<i64>>(), [items.len(), self.max_tokens]), device)
    }

    /// What the decoder shall foretell for some pairs: `[places]` token ids and where each stands in the flattened
    /// `items · max_tokens` grid; padding is left out.
    pub(crate) fn targets(&self, items: &[u32], device: &Device) -> (Tensor<1, Int>, Tensor<1, Int>) {
        let mut ids = Vec::new();
        let mut places = Vec::new();
        for (row, item) in items.iter().enumerate() {
            for (column, id) in self.captions[*item as usize].targets.iter().enumerate() {
                ids.push(i64::from(*id));
                places.push((row * self.max_tokens + column) as i64);
            }
        }
        let vector = |values: Vec<i64>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), device)
        };
        (vector(ids), vector(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{TokenizerConfig, train_tokenizer};

    fn tokenizer() -> Tokenizer {
        train_tokenizer(&["red"], &TokenizerConfig { vocabulary: 259, lowercase: true }).unwrap()
    }

    #[test]
    fn long_captions_are_cut_without_an_end() {
        let tokenizer = tokenizer();
        let whole = Caption::new(&tokenizer, "Red", 4).unwrap();
        assert_eq!((whole.targets.last(), whole.bytes, whole.cut), (Some(&Tokenizer::EOS), 3, false));
        let cut = Caption::new(&tokenizer, "Red", 3).unwrap();
        assert_eq!((cut.targets.len(), cut.bytes, cut.cut), (3, 3, true));
        assert_ne!(cut.targets[2], Tokenizer::EOS);
    }

    #[test]
    fn inputs_run_one_token_behind_targets() {
        let (tokenizer, config) = (tokenizer(), ModelConfig::default());
        let pair = |caption: &str| Pair { pixels: vec![0; config.pixel_bytes()], caption: caption.to_owned() };
        let pairs = [pair("ab"), pair("")];
        let items = Items::new("arm", &pairs, &config, &tokenizer, 5).unwrap();
        let device = Device::flex();
        let (a, b) = (items.captions[0].targets[0], items.captions[0].targets[1]);
        let inputs = items.inputs(&[1, 0], &device).into_data().iter::<u32>().collect::<Vec<_>>();
        assert_eq!(inputs, [1, 0, 0, 0, 0, 1, a, b, 0, 0]);
        let (ids, places) = items.targets(&[1, 0], &device);
        assert_eq!(ids.into_data().iter::<u32>().collect::<Vec<_>>(), [2, a, b, 2]);
        assert_eq!(places.into_data().iter::<u32>().collect::<Vec<_>>(), [0, 5, 6, 7]);
    }

    #[test]
    fn names_the_pair_whose_image_has_another_size() {
        let config = ModelConfig::default();
        let pairs = [Pair { pixels: vec![0; 12], caption: String::new() }];
        let error = Items::new("arm", &pairs, &config, &tokenizer(), 5).err().unwrap().to_string();
        assert!(error.contains("pair 0 has 12 bytes, not the 3072"), "{error}");
    }
}
