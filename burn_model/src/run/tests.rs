//! Runs on a small made-up world: coloured squares with captions.

use std::fs;

use super::*;
use crate::random::{Purpose, below, deranged, stream};
use crate::tokenizer::{TokenizerConfig, train_tokenizer};

const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [230, 30, 30]),
    ("green", [30, 200, 30]),
    ("blue", [40, 50, 250]),
    ("white", [250, 250, 250]),
    ("black", [5, 5, 5]),
    ("yellow", [250, 250, 30]),
];

fn small_model() -> ModelConfig {
    ModelConfig {
        image_size: 8,
        patch: 4,
        vit_dim: 16,
        vit_depth: 1,
        vit_heads: 2,
        latents: 2,
        resampler_depth: 1,
        resampler_heads: 1,
        resampler_head_dim: 16,
        decoder_dim: 32,
        decoder_depth: 2,
        decoder_heads: 2,
        decoder_mlp_dim: 48,
        ..Default::default()
    }
}

/// Images with a left and a right half of one colour each, and captions that say so.
fn pairs(seed: u64, count: usize) -> Vec<Pair> {
    let mut draws = stream(seed, Purpose::Order);
    let pairs = (0..count).map(|_| {
        let (left, right) = (COLOURS[below(&mut draws, 6)], COLOURS[below(&mut draws, 6)]);
        let pixels = (0..64).flat_map(|pixel| if pixel % 8 < 4 { left.1 } else { right.1 }).collect();
        Pair { pixels, caption: format!("{} left of {}", left.0, right.0) }
    });
    pairs.collect()
}

fn tokenizer() -> Tokenizer {
    let pairs = pairs(0, 100);
    let texts: Vec<&str> = pairs.iter().map(|pair| pair.caption.as_str()).collect();
    train_tokenizer(&texts, &TokenizerConfig { vocabulary: 280, lowercase: true }).unwrap()
}

fn small_training(steps: usize) -> TrainConfig {
    TrainConfig { steps, batch: 4, max_caption_tokens: 8, checkpoint_every: 6, log_every: 1, ..Default::default() }
}

fn quiet(spec: &RunSpec) -> RunResult {
    run(spec, &mut |_, _| {}).unwrap()
}

fn bits(result: &RunResult) -> Vec<u64> {
    result.losses.iter().map(|point| point.loss.to_bits()).collect()
}

#[test]
fn a_resumed_run_equals_an_undisturbed_one_bit_for_bit() {
    let (model, train, tokenizer) = (small_model(), small_training(12), tokenizer());
    let (arm, held_out) = (pairs(1, 9), pairs(2, 5));
    let spec = RunSpec {
        model: &model,
        train: &train,
        tokenizer: &tokenizer,
        arm: &arm,
        held_out: &held_out,
        seed: 3,
        checkpoint: None,
    };
    let undisturbed = quiet(&spec);
    assert_eq!(undisturbed.losses.len(), 12);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    // The process dies in step 8: what is left is the checkpoint of step 6.
    let mut kept = Vec::new();
    let with_checkpoint = RunSpec { checkpoint: Some(&path), ..spec.clone() };
    let first = run(&with_checkpoint, &mut |step, _| {
        if step == 8 {
            kept = fs::read(&path).unwrap();
        }
    });
    assert_eq!(first.unwrap(), undisturbed);
    fs::write(&path, kept).unwrap();
    let mut told = Vec::new();
    let resumed = run(&with_checkpoint, &mut |step, _| told.push(step)).unwrap();
    assert_eq!(told, [7, 8, 9, 10, 11, 12]);
    assert_eq!(bits(&resumed), bits(&undisturbed));
    assert_eq!(resumed, undisturbed);
    // A finished run takes no step more.
    let again = run(&with_checkpoint, &mut |_, _| panic!("nothing is left to train")).unwrap();
    assert_eq!(again, undisturbed);
}

#[test]
fn runs_beside_each_other_do_not_disturb_each_other() {
    let (model, train, tokenizer) = (small_model(), small_training(4), tokenizer());
    let (arm, held_out) = (pairs(1, 9), pairs(2, 5));
    let result = |seed| {
        quiet(&RunSpec {
            model: &model,
            train: &train,
            tokenizer: &tokenizer,
            arm: &arm,
            held_out: &held_out,
            seed,
            checkpoint: None,
        })
    };
    let alone = [result(1), result(2)];
    let (one, other) = rayon::join(|| result(1), || result(2));
    assert_eq!([&one, &other], [&alone[0], &alone[1]]);
    assert_ne!(bits(&one), bits(&other));
}

#[test]
fn foreign_and_damaged_checkpoints_are_refused() {
    let (model, train, tokenizer) = (small_model(), small_training(2), tokenizer());
    let (arm, held_out) = (pairs(1, 4), pairs(2, 3));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let spec = RunSpec {
        model: &model,
        train: &train,
        tokenizer: &tokenizer,
        arm: &arm,
        held_out: &held_out,
        seed: 1,
        checkpoint: Some(&path),
    };
    quiet(&spec);
    let refusal = |spec: &RunSpec| run(spec, &mut |_, _| {}).unwrap_err().to_string();
    assert!(refusal(&RunSpec { seed: 2, ..spec.clone() }).contains("belongs to another run"));
    assert!(refusal(&RunSpec { arm: &arm[1..], ..spec.clone() }).contains("belongs to another run"));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    assert!(refusal(&spec).contains("is damaged"), "{}", refusal(&spec));
    fs::write(&path, b"").unwrap();
    assert!(refusal(&spec).contains("is damaged"));
}

#[test]
fn unusable_data_is_refused() {
    let (model, train, tokenizer) = (small_model(), small_training(2), tokenizer());
    let (arm, held_out) = (pairs(1, 4), pairs(2, 3));
    let spec = RunSpec {
        model: &model,
        train: &train,
        tokenizer: &tokenizer,
        arm: &arm,
        held_out: &held_out,
        seed: 1,
        checkpoint: None,
    };
    let refusal = |spec: &RunSpec| run(spec, &mut |_, _| {}).unwrap_err().to_string();
    assert_eq!(refusal(&RunSpec { arm: &[], ..spec.clone() }), "the arm cannot be used: it is empty");
    assert!(refusal(&RunSpec { held_out: &held_out[..1], ..spec.clone() }).contains("two pairs or more"));
}

#[test]
fn training_lowers_the_loss_and_learns_to_see() {
    let tokenizer = tokenizer();
    let model = small_model();
    let train = TrainConfig {
        steps: 150,
        batch: 16,
        learning_rate: 4e-3,
        max_caption_tokens: 16,
        log_every: 50,
        ..small_training(0)
    };
    let (arm, held_out) = (pairs(1, 300), pairs(2, 60));
    let spec = RunSpec {
        model: &model,
        train: &train,
        tokenizer: &tokenizer,
        arm: &arm,
        held_out: &held_out,
        seed: 1,
        checkpoint: None,
    };
    let clean = quiet(&spec);
    assert!(clean.losses[2].loss < 0.5 * clean.losses[0].loss, "{:?}", clean.losses);
    assert!(clean.held_out_bits_per_byte < clean.unigram_bits_per_byte);
    assert!(clean.unigram_bits_per_byte < clean.uniform_bits_per_byte);
    assert!(clean.visual_gain > 0.05, "{}", clean.visual_gain);
    assert_eq!((clean.samples_seen, clean.epochs, clean.cut_captions), (2400, 8.0, 0));
    assert!((clean.held_out_nats_per_byte / std::f64::consts::LN_2 - clean.held_out_bits_per_byte).abs() < 1e-12);

    // Captions of other images teach the same language, but not to see.
    let mut draws = stream(5, Purpose::Derangement);
    let captions: Vec<String> =
        deranged(&mut draws, arm.len()).iter().map(|other| arm[*other as usize].caption.clone()).collect();
    let shuffled: Vec<Pair> =
        arm.iter().zip(captions).map(|(pair, caption)| Pair { pixels: pair.pixels.clone(), caption }).collect();
    let blind = quiet(&RunSpec { arm: &shuffled, ..spec });
    assert!(blind.visual_gain < 0.3 * clean.visual_gain, "{} {}", blind.visual_gain, clean.visual_gain);
    assert!(clean.held_out_bits_per_byte < blind.held_out_bits_per_byte);
}

#[test]
fn the_loss_curve_has_means_and_a_short_last_point() {
    let curve = loss_curve(&[4.0, 2.0, 1.0, 3.0, 5.0], 2);
    let points: Vec<_> = curve.iter().map(|point| (point.step, point.loss)).collect();
    assert_eq!(points, [(2, 3.0), (4, 2.0), (5, 5.0)]);
}
