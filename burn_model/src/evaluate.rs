//! Loss on held-out pairs, with the right images and with wrong ones.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::batch::Items;
use crate::loss::nats;
use crate::model::{Layout, Lynx, ModelConfig};
use crate::random::{Purpose, deranged, stream};

/// Pairs that are evaluated together; bounds memory, does not change the result.
const CHUNK: usize = 32;

/// Seed of the derangement: one for all runs, so that no replicate differs by which wrong image a caption got.
const DERANGEMENT_SEED: u64 = 0;

/// Total nats of all held-out captions.
pub(crate) struct HeldOutNats {
    /// Each caption with its own image.
    pub(crate) true_images: f64,
    /// Each caption with the image of another pair.
    pub(crate) wrong_images: f64,
}

/// Evaluates a model; `max_tokens` is the length to which captions are padded.
pub(crate) fn held_out_nats(
    model: &Lynx,
    config: &ModelConfig,
    held_out: &Items,
    max_tokens: usize,
    device: &Device,
) -> HeldOutNats {
    debug_assert!(model.devices().iter().all(|device| !device.is_autodiff()), "evaluation needs no gradients");
    let layout = Layout::causal(config, config.latents + max_tokens, device);
    let items: Vec<u32> = (0..held_out.len() as u32).collect();
    let vision: Vec<Tensor<3>> =
        items.chunks(CHUNK).map(|chunk| model.vision_tokens(held_out.patches(chunk, device))).collect();
    let vision = Tensor::cat(vision, 0);
    let wrong = deranged(&mut stream(DERANGEMENT_SEED, Purpose::Derangement), held_out.len());
    let total = |images: &[u32]| -> f64 {
        let chunks = items.chunks(CHUNK).zip(images.chunks(CHUNK));
        let totals = chunks.map(|(captions, images)| {
            let rows: Vec<i64> = images.iter().map(|image| i64::from(*image)).collect();
            let rows = Tensor::from_data(TensorData::new(rows, [images.len()]), device);
            let (targets, places) = held_out.targets(captions, device);
            let seen = vision.clone().select(0, rows);
            let logits = model.logits_at(seen, held_out.inputs(captions, device), &layout, places);
            // Summed in 64 bits: thousands of tokens would cost the 32-bit sum its last digits.
            nats(logits, targets).into_data().iter::<f64>().sum::<f64>()
        });
        totals.sum()
    };
    HeldOutNats { true_images: total(&items), wrong_images: total(&wrong) }
}
