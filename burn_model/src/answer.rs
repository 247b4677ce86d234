//! A saved model that answers questions about images.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::batch::Seen;
use crate::data::{ANSWER, Example, Pictures, QUESTION, Shown, Turn};
use crate::device::DeviceName;
use crate::encode::Sequence;
use crate::error::{Error, Result};
use crate::generate::{GenerateConfig, generate};
use crate::loss::nats;
use crate::model::{Layout, Sight};
use crate::saved::SavedModel;

/// Answers questions about images, as the model was trained to.
#[derive(Debug)]
pub struct Answerer {
    saved: SavedModel,
    device: Device,
    /// Maximum number of tokens of question and answer.
    max_tokens: usize,
}

impl Answerer {
    /// Makes an answerer from a model that sees pixels. `max_tokens` limits a question, or a
    /// question and a given answer together; longer ones are cut as in training.
    pub fn new(saved: SavedModel, device: &DeviceName, max_tokens: usize) -> Result<Self> {
        if saved.config.sight != Sight::Pixels {
            let reason = "it sees features, which a check computes; lynxdata train makes models that see pixels";
            return Err(Error::Data { set: "model", reason: reason.to_owned() });
        }
        Ok(Self { saved, device: device.open()?, max_tokens })
    }

    /// Returns the side of the square images, in pixels.
    pub fn side(&self) -> usize {
        self.saved.config.image_size
    }

    /// Returns the number of frames of a video; 0 if the model takes images only.
    pub fn frames(&self) -> usize {
        self.saved.config.frames
    }

    /// Generates an answer. `seen` holds one image or the frames of a video, each as `3 · side²`
    /// bytes of RGB, row by row.
    ///
    /// An empty question asks for a caption.
    pub fn answer(&self, seen: &[Vec<u8>], question: &str, settings: &GenerateConfig) -> Result<String> {
        let SavedModel { config, tokenizer, lynx, .. } = &self.saved;
        let mut prompt = vec![tokenizer.begin()];
        if !question.is_empty() {
            prompt.extend(tokenizer.encode_end(&format!("{QUESTION}{question}{ANSWER}"), self.max_tokens)?);
        }
        let vision = self.vision_tokens(seen)?;
        let generated = generate(lynx, config, &vision, &prompt, tokenizer.end(), settings)?;
        Ok(tokenizer.decode(&generated.tokens)?.trim().to_owned())
    }

    /// Returns how likely each answer is, in nats per byte: lower is more likely.
    ///
    /// The end token counts as one byte more, so that an empty answer has a value, too.
    pub fn nats_per_byte(&self, seen: &[Vec<u8>], question: &str, answers: &[&str]) -> Result<Vec<f64>> {
        let SavedModel { config, tokenizer, lynx, .. } = &self.saved;
        let vision = self.vision_tokens(seen)?;
        answers
            .iter()
            .map(|answer| {
                let turn = Turn { question: question.to_owned(), answer: (*answer).to_owned() };
                let example = Example { shown: Shown::picture(0), turns: vec![turn] };
                let sequence = Sequence::new(tokenizer, &example, self.max_tokens)?;
                let tokens = sequence.read();
                let ids: Vec<i64> = sequence.inputs().iter().map(|id| i64::from(*id)).collect();
                let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(ids, [1, tokens]), &self.device);
                let (places, targets): (Vec<i64>, Vec<i64>) =
                    sequence.targets().map(|(place, id)| (place as i64, i64::from(id))).unzip();
                let [places, targets] = [places, targets].map(|numbers| {
                    let numbers: Tensor<1, Int> = Tensor::from_data(numbers.as_slice(), &self.device);
                    numbers
                });
                let layout = Layout::causal(config, config.prefix_tokens() + tokens, &self.device);
                let all = nats(lynx.logits_at(&vision, ids, &layout, places), targets).into_data();
                Ok(all.iter::<f64>().sum::<f64>() / (sequence.bytes + 1) as f64)
            })
            .collect()
    }

    fn vision_tokens(&self, seen: &[Vec<u8>]) -> Result<Tensor<3>> {
        let frames = match seen.len() {
            1 => 0,
            frames if frames == self.frames() => frames as u32,
            found => {
                let reason = format!("{found} frames were given, but videos of this model have {}", self.frames());
                return Err(Error::Data { set: "set of images", reason });
            }
        };
        let pictures = Pictures::Pixels(seen.to_vec());
        let shown = [(Shown { row: 0, frames }, None)];
        Seen::new(&pictures, &self.saved.config)?.vision_tokens(&self.saved.lynx, &shown, &self.device)
    }
}
