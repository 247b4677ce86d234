//! The model against golden values of the reference implementation; see `fixtures/SOURCES.tsv`.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::doctor::{Golden, furthest, values};
use crate::precision::Precision;

const FUSIONS: [Fusion; 2] = [Fusion::Prefix, Fusion::CrossAttention];

#[test]
fn outputs_equal_the_reference_where_padding_takes_positions_and_where_not() {
    for fusion in FUSIONS {
        let off = Golden::of(fusion).forward_difference(Precision::F32, &Device::flex());
        assert!(off < 1e-5, "{fusion:?}: {off}");
    }
}

#[test]
fn loss_and_gradients_equal_the_reference() {
    for fusion in FUSIONS {
        let (golden, device) = (Golden::of(fusion), Device::flex().autodiff());
        let (loss, _) = golden.loss(&golden.model(&device), Precision::F32, &device);
        assert!((loss - golden.floats("out.loss")[0]).abs() < 1e-5, "{fusion:?}: {loss}");
        let (off, weight) = golden.gradient_difference(Precision::F32, &device);
        assert!(off <= 1e-4, "{fusion:?}: {weight} is off by {off}");
    }
}

#[test]
fn evaluation_without_gradients_gives_the_same_loss() {
    let golden = Golden::of(Fusion::Prefix);
    let device = Device::flex();
    let (loss, _) = golden.loss(&golden.model(&device.clone().autodiff()).valid(), Precision::F32, &device);
    assert!((loss - golden.floats("out.loss")[0]).abs() < 1e-5, "{loss}");
}

#[test]
fn four_steps_of_clipped_adamw_equal_the_reference() {
    for fusion in FUSIONS {
        let off = Golden::of(fusion).loss_difference(Precision::F32, &Device::flex().autodiff());
        assert!(off < 1e-4, "{fusion:?}: {off}");
    }
}

#[test]
fn a_causal_layout_equals_one_with_padding_at_the_end() {
    let golden = Golden::of(Fusion::Prefix);
    let device = Device::flex();
    let (model, config) = (golden.model(&device), golden.config());
    let mut real = vec![vec![true; 20]; 2];
    real[1][15..].fill(false);
    let positions = vec![(0..20).collect::<Vec<_>>(); 2];
    let vision = model.vision_tokens(golden.patches(&device));
    let padded = Layout::new(&config, &positions, &real, &device);
    let padded = values(model.logits(&vision, golden.ids(&device), &padded));
    let causal = values(model.logits(&vision, golden.ids(&device), &Layout::causal(&config, 20, &device)));
    // The second sequence has 15 - 4 real text tokens.
    let compared = (16 + 11) * padded.len() / 32;
    assert!(furthest(&padded[..compared], &causal[..compared]) < 1e-6);
}

#[test]
fn reading_token_by_token_with_a_cache_gives_the_scores_of_reading_at_once() {
    for fusion in FUSIONS {
        let golden = Golden::of(fusion);
        let device = Device::flex();
        let (model, config) = (golden.model(&device), golden.config());
        let (vision, ids) = (model.vision_tokens(golden.patches(&device)), golden.ids(&device));
        let prefix = config.prefix_tokens();
        let layout = Layout::causal(&config, prefix + 16, &device);
        let [batch, tokens, vocabulary] = [2, 16, 50];
        let at_once = model.logits(&vision, ids.clone(), &layout);
        let mut cache = Cache::default();
        let mut read = 0;
        for step in [5, 1, 1, 4, 1] {
            let begin = if read == 0 { 0 } else { prefix + read };
            read += step;
            let layout =
                Layout::new(&config, &[(begin..prefix + read).collect()], &[vec![true; prefix + read]], &device);
            let new = ids.clone().narrow(1, read - step, step);
            let scores = values(model.next_logits(&vision, new, &layout, &mut cache));
            let wanted = values(at_once.clone().narrow(1, read - 1, 1).reshape([batch, vocabulary]));
            assert!(furthest(&scores, &wanted) < 1e-5, "{fusion:?} {read} of {tokens}");
        }
    }
}

/// Weights of a model, in the order in which it is visited.
fn weights(config: &ModelConfig, seed: u64) -> Vec<f32> {
    struct All(Vec<f32>);
    impl ModuleVisitor for All {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(values(param.val()));
        }
    }
    let mut all = All(Vec::new());
    Lynx::new(config, 50, 0, seed, &Device::flex()).unwrap().visit(&mut all);
    all.0
}

#[test]
fn a_seed_determines_the_weights() {
    let config = Golden::of(Fusion::Prefix).config();
    let first = weights(&config, 1);
    assert_eq!(first, weights(&config, 1));
    assert_ne!(first, weights(&config, 2));
    // A fixed value, so that every process and machine must draw the same weights.
    let sum: f64 = first.iter().map(|weight| f64::from(weight.abs())).sum();
    assert!((sum - 2_962.420_06).abs() < 1e-3, "{sum}");
}

#[test]
fn the_default_shape_has_the_documented_number_of_weights() {
    let weights = |sight| {
        let config = ModelConfig { sight, ..Default::default() };
        Lynx::new(&config, 1024, 256, 0, &Device::flex()).unwrap().num_params()
    };
    assert_eq!(weights(Sight::Pixels), 620_785);
    assert_eq!(weights(Sight::Features), 514_609);
}

/// Scores of a model on two texts without padding.
fn scores(config: &ModelConfig, model: &Lynx) -> Vec<f32> {
    let golden = Golden::of(Fusion::Prefix);
    let device = Device::flex();
    let vision = model.vision_tokens(golden.patches(&device));
    values(model.logits(&vision, golden.ids(&device), &Layout::causal(config, config.prefix_tokens() + 16, &device)))
}

#[test]
fn a_low_rank_change_begins_as_nothing() {
    let golden = Golden::of(Fusion::Prefix);
    let config = golden.config();
    let changed = ModelConfig { lora_rank: 4, ..config.clone() };
    let model = |config: &ModelConfig| Lynx::new(config, 50, 0, 3, &Device::flex()).unwrap();
    let (plain, adapted) = (model(&config), model(&changed));
    // Seven linear layers in each of three decoder layers, of widths 32 and 40.
    let in_change = 3 * (4 * (32 + 32) + 3 * (32 + 40)) * 4;
    assert_eq!(adapted.num_params(), plain.num_params() + in_change);
    let first = scores(&changed, &adapted);
    assert!(first.iter().all(|score| score.is_finite()));
}

#[test]
fn cross_attention_begins_as_nothing() {
    let config = ModelConfig { fusion: Fusion::CrossAttention, ..Golden::of(Fusion::Prefix).config() };
    let model = Lynx::new(&config, 50, 0, 3, &Device::flex()).unwrap();
    let seen = scores(&config, &model);
    let golden = Golden::of(Fusion::Prefix);
    let device = Device::flex();
    let other = Tensor::from_data(TensorData::new(vec![1.0_f32; 2 * 4 * 32], [2, 4, 32]), &device);
    let layout = Layout::causal(&config, 16, &device);
    assert_eq!(seen, values(model.logits(&other, golden.ids(&device), &layout)));
}

#[test]
fn shared_heads_and_tied_embeddings_leave_weights_out() {
    let config = Golden::of(Fusion::Prefix).config();
    let model = |config: &ModelConfig| Lynx::new(config, 50, 0, 3, &Device::flex()).unwrap();
    let tied = ModelConfig { tied_embeddings: true, ..config.clone() };
    assert_eq!(model(&tied).num_params() + 50 * 32, model(&config).num_params());
    let shared = ModelConfig { decoder_key_value_heads: 2, ..config.clone() };
    assert_eq!(model(&shared).num_params() + 3 * 2 * 32 * 16, model(&config).num_params());
    let biased = ModelConfig { decoder_bias: true, ..config.clone() };
    assert_eq!(model(&biased).num_params(), model(&config).num_params() + 3 * 3 * 32);
    for config in [tied, shared, biased] {
        assert!(scores(&config, &model(&config)).iter().all(|score| score.is_finite()));
    }
}

#[test]
fn a_video_of_one_still_differs_from_a_picture_by_its_frame_embedding_alone() {
    let config = ModelConfig { frames: 3, ..Golden::of(Fusion::Prefix).config() };
    let device = Device::flex();
    let model = Lynx::new(&config, 50, 0, 3, &device).unwrap();
    let patches = Golden::of(Fusion::Prefix).patches(&device);
    let [batch, count, numbers] = patches.dims();
    let still = patches.clone().reshape([batch, 1, count, numbers]).expand([batch, 3, count, numbers]);
    let video = model.video_tokens(still).unwrap();
    assert_eq!(video.dims(), [2, 4, 32]);
    let off = furthest(&values(video), &values(model.vision_tokens(patches.clone())));
    assert!(off > 0.0 && off < 0.5, "{off}");
    let without = Lynx::new(&ModelConfig { frames: 0, ..config }, 50, 0, 3, &device).unwrap();
    assert!(without.video_tokens(patches.reshape([batch, 1, count, numbers])).is_none());
}
