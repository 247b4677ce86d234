//! Examples as tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::crop::Crop;
use crate::data::{Example, Pictures, Shown};
use crate::encode::Sequence;
use crate::error::{Error, Result};
use crate::model::{Lynx, ModelConfig, Sight, patches_from_pixels};
use crate::schedule::Length;
use crate::tokenizer::Tokenizer;

/// Texts of a batch are padded to a multiple of this many tokens, so that few shapes occur and
/// buffers and layouts repeat.
const PADDED_TO: usize = 4;

/// Images that fit the model.
pub(crate) struct Seen<'a> {
    config: &'a ModelConfig,
    pictures: &'a Pictures,
    /// Makes the mean square of all features 1; not used with pixels.
    scale: f32,
}

impl<'a> Seen<'a> {
    /// Checks all images.
    pub(crate) fn new(pictures: &'a Pictures, config: &'a ModelConfig) -> Result<Self> {
        let refused = |reason: String| Err(Error::Data { set: "set of images", reason });
        let mut scale = 1.0;
        match (config.sight, pictures) {
            (Sight::Pixels, Pictures::Pixels(rows)) => {
                let expected = config.pixel_bytes();
                if let Some(place) = rows.iter().position(|row| row.len() != expected) {
                    let (found, side) = (rows[place].len(), config.image_size);
                    return refused(format!(
                        "image {place} has {found} bytes, not the {expected} of {side} x {side} RGB"
                    ));
                }
            }
            (Sight::Features, Pictures::Features { width, values }) => {
                if *width == 0 || !values.len().is_multiple_of(*width) {
                    return refused(format!("{} numbers cannot be divided into rows of {width}", values.len()));
                }
                if let Some(place) = values.iter().position(|value| !value.is_finite()) {
                    return refused(format!("a feature of image {} is not a number", place / width));
                }
                let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
                if squares > 0.0 {
                    scale = (values.len() as f64 / squares).sqrt() as f32;
                }
            }
            (Sight::Pixels, Pictures::Features { .. }) => {
                return refused("the model sees pixels, but these are features".to_owned());
            }
            (Sight::Pixels, Pictures::Stored(stored)) => {
                let (found, expected) = (stored.bytes_per_picture(), config.pixel_bytes());
                if found != expected {
                    let side = config.image_size;
                    return refused(format!("images have {found} bytes, not the {expected} of {side} x {side} RGB"));
                }
            }
            (Sight::Features, Pictures::Pixels(_) | Pictures::Stored(_)) => {
                return refused("the model sees features, but these are pixels".to_owned());
            }
        }
        Ok(Self { config, pictures, scale })
    }

    /// Returns the number of images.
    fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Returns the numbers per image with features, 0 with pixels.
    pub(crate) fn features(&self) -> usize {
        match self.pictures {
            Pictures::Pixels(_) | Pictures::Stored(_) => 0,
            Pictures::Features { width, .. } => *width,
        }
    }

    /// Returns the vision tokens of images and videos, `[B, latents, decoder_dim]`. A crop shows
    /// only a part of an image, and the same part of all frames of a video.
    pub(crate) fn vision_tokens(
        &self,
        model: &Lynx,
        shown: &[(Shown, Option<Crop>)],
        device: &Device,
    ) -> Result<Tensor<3>> {
        let (videos, pictures): (Vec<usize>, Vec<usize>) =
            (0..shown.len()).partition(|place| shown[*place].0.frames > 0);
        let rows = |places: &[usize]| -> Vec<(u32, Option<Crop>)> {
            let chosen = places.iter().map(|place| shown[*place]);
            chosen.flat_map(|(shown, crop)| shown.rows().map(move |row| (row, crop))).collect()
        };
        if videos.is_empty() {
            return Ok(model.vision_tokens(self.tensor(&rows(&pictures), device)?));
        }
        let frames = self.tensor(&rows(&videos), device)?;
        let [all, patches, values] = frames.dims();
        let frames = frames.reshape([videos.len(), all / videos.len(), patches, values]);
        let of_videos = model.video_tokens(frames).expect("Items::new has checked that the model takes videos");
        if pictures.is_empty() {
            return Ok(of_videos);
        }
        let of_pictures = model.vision_tokens(self.tensor(&rows(&pictures), device)?);
        let mut places = vec![0_i64; shown.len()];
        for (now, place) in videos.iter().chain(&pictures).enumerate() {
            places[*place] = now as i64;
        }
        let places: Tensor<1, Int> = Tensor::from_data(places.as_slice(), device);
        Ok(Tensor::cat(vec![of_videos, of_pictures], 0).select(0, places))
    }

    /// Returns some images as input of the model: patches `[B, N, 3·patch²]` or features `[B, 1,
    /// features]`.
    fn tensor(&self, rows: &[(u32, Option<Crop>)], device: &Device) -> Result<Tensor<3>> {
        let config = self.config;
        let (numbers, shape) = match self.pictures {
            Pictures::Features { width, values } => {
                let of_row = |(row, _): &(u32, Option<Crop>)| &values[*row as usize * width..][..*width];
                let numbers = rows.iter().flat_map(of_row).map(|value| value * self.scale).collect();
                (numbers, [rows.len(), 1, *width])
            }
            pixels => {
                let shape = [rows.len(), config.patches(), config.patch_values()];
                let mut numbers = Vec::with_capacity(shape.iter().product());
                for (row, crop) in rows {
                    let stored;
                    let picture = match pixels {
                        Pictures::Stored(file) => {
                            stored = file.picture(*row)?;
                            &stored
                        }
                        Pictures::Pixels(pictures) => &pictures[*row as usize],
                        Pictures::Features { .. } => unreachable!("features are dealt with above"),
                    };
                    match crop {
                        Some(crop) => {
                            patches_from_pixels(config, &crop.of(picture, config.image_size), &mut numbers);
                        }
                        None => patches_from_pixels(config, picture, &mut numbers),
                    }
                }
                (numbers, shape)
            }
        };
        Ok(Tensor::from_data(TensorData::new(numbers, shape), device))
    }

    /// Returns the bytes of an image or of a video's frames, for a fingerprint.
    pub(crate) fn bytes(&self, shown: Shown) -> Result<Vec<u8>> {
        let frames = shown.rows().map(|row| self.bytes_of(row)).collect::<Result<Vec<_>>>()?;
        Ok(frames.concat())
    }

    fn bytes_of(&self, row: u32) -> Result<Vec<u8>> {
        Ok(match self.pictures {
            Pictures::Pixels(pictures) => pictures[row as usize].clone(),
            Pictures::Stored(stored) => stored.picture(row)?,
            Pictures::Features { width, values } => {
                let values = &values[row as usize * width..][..*width];
                values.iter().flat_map(|value| (value * self.scale).to_le_bytes()).collect()
            }
        })
    }
}

/// Texts of one batch.
pub(crate) struct Texts {
    /// Tokens that the decoder reads, padded: `[B, T]`.
    pub(crate) inputs: Tensor<2, Int>,
    /// Tokens to predict: `[places]`; padding and tokens that are only read are left out.
    pub(crate) targets: Tensor<1, Int>,
    /// Places of the targets in the flattened `B · T` grid: `[places]`.
    pub(crate) places: Tensor<1, Int>,
}

/// Examples ready for batches.
pub(crate) struct Items<'a> {
    examples: &'a [Example],
    pub(crate) sequences: Vec<Sequence>,
}

impl<'a> Items<'a> {
    /// Encodes all examples and checks that their images exist; `set` names them in errors.
    pub(crate) fn new(
        set: &'static str,
        examples: &'a [Example],
        pictures: &Seen,
        tokenizer: &Tokenizer,
        max_tokens: usize,
    ) -> Result<Self> {
        for (place, example) in examples.iter().enumerate() {
            let Shown { row, frames } = example.shown;
            let refused = |reason: String| Err(Error::Data { set, reason: format!("example {place} {reason}") });
            if example.shown.rows().end as usize > pictures.len() {
                return refused(format!("is about image {row}, but there are only {}, counted from 0", pictures.len()));
            }
            if frames > 0 && frames as usize != pictures.config.frames {
                return refused(format!(
                    "is a video of {frames} frames, but videos of this model have {}",
                    pictures.config.frames
                ));
            }
            if example.turns.is_empty() {
                return Err(Error::Data { set, reason: format!("example {place} has no turn") });
            }
        }
        let sequences = examples.iter().map(|example| Sequence::new(tokenizer, example, max_tokens));
        Ok(Self { examples, sequences: sequences.collect::<Result<_>>()? })
    }

    /// Returns the number of examples.
    pub(crate) fn len(&self) -> usize {
        self.examples.len()
    }

    /// Returns the images or videos of some examples.
    pub(crate) fn shown(&self, items: &[u32]) -> Vec<Shown> {
        items.iter().map(|item| self.examples[*item as usize].shown).collect()
    }

    /// Returns the lengths of all examples.
    pub(crate) fn lengths(&self) -> Vec<Length> {
        let lengths = self.sequences.iter();
        lengths.map(|sequence| Length { read: sequence.read(), learned: sequence.loss_tokens() }).collect()
    }

    /// Returns the number of tokens to which texts are padded when they share a batch.
    pub(crate) fn padded(&self, items: &[u32]) -> usize {
        let longest = items.iter().map(|item| self.sequences[*item as usize].read()).max();
        longest.unwrap_or(0).next_multiple_of(PADDED_TO)
    }

    /// Returns some texts, each padded at its end to `tokens` tokens.
    pub(crate) fn texts(&self, items: &[u32], tokens: usize, device: &Device) -> Texts {
        let mut inputs = Vec::with_capacity(items.len() * tokens);
        let (mut targets, mut places) = (Vec::new(), Vec::new());
        for (row, item) in items.iter().enumerate() {
            let sequence = &self.sequences[*item as usize];
            inputs.extend(sequence.inputs().iter().map(|id| i64::from(*id)));
            inputs.resize((row + 1) * tokens, i64::from(Tokenizer::PAD));
            for (place, id) in sequence.targets() {
                targets.push(i64::from(id));
                places.push((row * tokens + place) as i64);
            }
        }
        let vector = |values: Vec<i64>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), device)
        };
        let inputs = Tensor::from_data(TensorData::new(inputs, [items.len(), tokens]), device);
        Texts { inputs, targets: vector(targets), places: vector(places) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Turn;
    use crate::tokenizer::{TokenizerConfig, train_tokenizer};

    fn tokenizer() -> Tokenizer {
        train_tokenizer(&["red"], &TokenizerConfig { vocabulary: 259, lowercase: true }).unwrap()
    }

    fn integers<const D: usize>(tensor: Tensor<D, Int>) -> Vec<u32> {
        tensor.into_data().iter::<u32>().collect()
    }

    #[test]
    fn inputs_run_one_token_behind_targets() {
        let (tokenizer, config) = (tokenizer(), ModelConfig::default());
        let pictures = Pictures::Features { width: 1, values: vec![2.0, 0.0] };
        let seen = Seen::new(&pictures, &config).unwrap();
        let examples = [Example::caption(1, "ab"), Example::caption(0, "")];
        let items = Items::new("arm", &examples, &seen, &tokenizer, 5).unwrap();
        let device = Device::flex();
        let (a, b) = (items.sequences[0].inputs()[1], items.sequences[0].inputs()[2]);
        assert_eq!(items.padded(&[1, 0]), 4);
        let texts = items.texts(&[1, 0], 5, &device);
        assert_eq!(integers(texts.inputs), [1, 0, 0, 0, 0, 1, a, b, 0, 0]);
        assert_eq!(integers(texts.targets), [2, a, b, 2]);
        assert_eq!(integers(texts.places), [0, 5, 6, 7]);
        // The mean square of 2 and 0 is 2.
        let features =
            seen.tensor(&[(0, None), (1, None)], &device).unwrap().into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(features, [2.0_f32.sqrt(), 0.0]);
    }

    #[test]
    fn questions_are_read_and_are_no_targets() {
        let (tokenizer, config) = (tokenizer(), ModelConfig::default());
        let pictures = Pictures::Features { width: 1, values: vec![1.0] };
        let seen = Seen::new(&pictures, &config).unwrap();
        let turns = vec![Turn { question: "?".to_owned(), answer: "a".to_owned() }];
        let examples = [Example { shown: Shown::picture(0), turns }];
        let items = Items::new("arm", &examples, &seen, &tokenizer, 32).unwrap();
        let texts = items.texts(&[0], 16, &Device::flex());
        // "user: ?\nbot:" has 12 bytes; " a" and the end follow.
        assert_eq!(integers(texts.places), [12, 13, 14]);
        assert_eq!(*integers(texts.targets).last().unwrap(), Tokenizer::EOS);
        assert_eq!(items.lengths(), [Length { read: 15, learned: 3 }]);
    }

    #[test]
    fn pictures_and_videos_of_a_batch_stay_in_their_order() {
        let config = ModelConfig { sight: Sight::Pixels, image_size: 8, frames: 2, ..Default::default() };
        let rows = (0..4_u32).map(|row| (0..192).map(|place| (place * (row + 3) % 251) as u8).collect());
        let pictures = Pictures::Pixels(rows.collect());
        let seen = Seen::new(&pictures, &config).unwrap();
        let device = Device::flex();
        let model = Lynx::new(&config, 259, 0, 1, &device).unwrap();
        let tokens = |shown: &[Shown]| {
            let shown: Vec<(Shown, Option<Crop>)> = shown.iter().map(|shown| (*shown, None)).collect();
            seen.vision_tokens(&model, &shown, &device).unwrap().try_into_vec_as::<f32>().unwrap()
        };
        let batch = [Shown::picture(3), Shown { row: 0, frames: 2 }, Shown::picture(2), Shown { row: 2, frames: 2 }];
        let each: Vec<f32> = batch.iter().flat_map(|shown| tokens(&[*shown])).collect();
        let together = tokens(&batch);
        assert_eq!(together.len(), each.len());
        let off = together.iter().zip(&each).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(off < 1e-5, "{off}");
    }

    #[test]
    fn names_what_does_not_fit() {
        let features = ModelConfig::default();
        let pixels = ModelConfig { sight: Sight::Pixels, ..Default::default() };
        let refusal =
            |pictures: Pictures, config: &ModelConfig| Seen::new(&pictures, config).err().unwrap().to_string();
        let rows = Pictures::Pixels(vec![vec![0; 12]]);
        assert!(refusal(rows.clone(), &pixels).contains("image 0 has 12 bytes, not the 3072"));
        assert!(refusal(rows, &features).contains("these are pixels"));
        let values = |width, values| Pictures::Features { width, values };
        assert!(refusal(values(2, vec![0.0; 3]), &features).contains("3 numbers cannot be divided into rows of 2"));
        assert!(refusal(values(0, vec![]), &features).contains("cannot be divided into rows"));
        assert!(refusal(values(2, vec![0.0, 0.0, f32::NAN, 0.0]), &features).contains("image 1 is not a number"));
        assert!(refusal(values(2, vec![0.0; 2]), &pixels).contains("these are features"));

        let pictures = values(1, vec![1.0]);
        let seen = Seen::new(&pictures, &features).unwrap();
        let items = |example| Items::new("arm", &[example], &seen, &tokenizer(), 5).err().unwrap().to_string();
        assert!(
            items(Example::caption(1, "red"))
                .contains("example 0 is about image 1, but there are only 1, counted from 0")
        );
        assert!(items(Example { shown: Shown::picture(0), turns: vec![] }).contains("example 0 has no turn"));
    }
}
