//! Runs on a small made-up world: coloured squares with captions.

use std::fs;

use super::*;
use crate::model::Sight;
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

fn small_model(sight: Sight) -> ModelConfig {
    ModelConfig {
        sight,
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

/// Images, what a model is trained on and what it is measured on.
struct World {
    pictures: Pictures,
    arm: Vec<Example>,
    held_out: Vec<Example>,
}

/// Images with a left and a right half of one colour each, and captions that say so.
fn world(sight: Sight, arm: usize, held_out: usize) -> World {
    let mut draws = stream(1, Purpose::Order);
    let halves: Vec<_> = (0..arm + held_out).map(|_| [below(&mut draws, 6), below(&mut draws, 6)]).collect();
    let examples = (0..).zip(&halves).map(|(picture, [left, right])| {
        Example::caption(picture, format!("{} left of {}", COLOURS[*left].0, COLOURS[*right].0))
    });
    let mut arm_examples: Vec<Example> = examples.collect();
    let held_out = arm_examples.split_off(arm);
    let colours = halves.iter().map(|halves| halves.map(|colour| COLOURS[colour].1));
    let pictures = match sight {
        Sight::Pixels => Pictures::Pixels(
            colours
                .map(|[left, right]| (0..64).flat_map(|pixel| if pixel % 8 < 4 { left } else { right }).collect())
                .collect(),
        ),
        Sight::Features => {
            let values = colours.flatten().flatten().map(|colour| f32::from(colour) / 128.0 - 1.0).collect();
            Pictures::Features { width: 6, values }
        }
    };
    World { pictures, arm: arm_examples, held_out }
}

fn tokenizer() -> Tokenizer {
    let world = world(Sight::Features, 100, 0);
    let texts: Vec<String> = world.arm.iter().map(Example::text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    train_tokenizer(&texts, &TokenizerConfig { vocabulary: 280, lowercase: true }).unwrap()
}

/// Everything that a specification borrows.
struct Setup {
    model: ModelConfig,
    train: TrainConfig,
    tokenizer: Tokenizer,
    world: World,
    copies: Vec<u32>,
}

impl Setup {
    fn new(sight: Sight, steps: usize, arm: usize, held_out: usize) -> Self {
        let train = TrainConfig {
            steps,
            tokens_per_step: 32,
            max_tokens: 8,
            checkpoint_every: 6,
            log_every: 1,
            ..Default::default()
        };
        let world = world(sight, arm, held_out);
        Self { model: small_model(sight), train, tokenizer: tokenizer(), world, copies: vec![1; arm] }
    }

    fn spec(&self, seed: u64) -> RunSpec<'_> {
        RunSpec {
            model: &self.model,
            train: &self.train,
            tokenizer: &self.tokenizer,
            pictures: &self.world.pictures,
            arm: &self.world.arm,
            copies: &self.copies,
            held_out: &self.world.held_out,
            seed,
            pretrained: &[],
            start: None,
            checkpoint: None,
            device: &DeviceName::Cpu,
        }
    }
}

fn quiet(spec: &RunSpec) -> RunResult {
    run(spec, &mut |_, _| {}).unwrap()
}

fn refusal(spec: &RunSpec) -> String {
    run(spec, &mut |_, _| {}).unwrap_err().to_string()
}

fn bits(result: &RunResult) -> Vec<u64> {
    result.losses.iter().map(|point| point.loss.to_bits()).collect()
}

#[test]
fn a_resumed_run_equals_an_undisturbed_one_bit_for_bit() {
    // Of 25 steps, 21 to 25 are averaged: the checkpoint of step 24 holds the sum of four of them,
    // that of step 6 holds none.
    for (sight, last_step, kept_step) in [(Sight::Features, 24, 24), (Sight::Features, 8, 6), (Sight::Pixels, 24, 24)] {
        let setup = Setup::new(sight, 25, 9, 5);
        let spec = setup.spec(3);
        let undisturbed = quiet(&spec);
        assert_eq!(undisturbed.losses.len(), 25);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.safetensors");
        let mut kept = Vec::new();
        let with_checkpoint = RunSpec { checkpoint: Some(&path), ..spec.clone() };
        // The process dies in the step after `last_step`, and only the last checkpoint remains.
        let first = run(&with_checkpoint, &mut |step, _| {
            if step == last_step + 1 {
                kept = fs::read(&path).unwrap();
            }
        });
        assert_eq!(first.unwrap(), undisturbed);
        fs::write(&path, kept).unwrap();
        let mut told = Vec::new();
        // The interval of checkpoints may have been changed.
        let train = TrainConfig { checkpoint_every: 4, ..setup.train.clone() };
        let changed = RunSpec { train: &train, ..with_checkpoint.clone() };
        let resumed = run(&changed, &mut |step, _| told.push(step)).unwrap();
        assert_eq!(told, (kept_step + 1..=25).collect::<Vec<_>>());
        assert_eq!(bits(&resumed), bits(&undisturbed));
        assert_eq!(resumed, undisturbed);
        // A finished run takes no further step.
        let again = run(&with_checkpoint, &mut |_, _| panic!("nothing is left to train")).unwrap();
        assert_eq!(again, undisturbed);
    }
}

#[test]
fn the_mean_of_the_last_weights_is_evaluated() {
    let last = |averaged| {
        let mut setup = Setup::new(Sight::Features, 10, 9, 5);
        setup.train.averaged = averaged;
        quiet(&setup.spec(1))
    };
    let (one, two, five) = (last(1), last(2), last(5));
    assert_eq!(bits(&one), bits(&five));
    assert_ne!(one.held_out, five.held_out);
    // The last fifth of ten steps are two steps.
    assert_ne!(one.held_out, two.held_out);
}

#[test]
fn runs_beside_each_other_do_not_disturb_each_other() {
    let setup = Setup::new(Sight::Features, 4, 9, 5);
    let result = |seed| quiet(&setup.spec(seed));
    let alone = [result(1), result(2)];
    let (one, other) = rayon::join(|| result(1), || result(2));
    assert_eq!([&one, &other], [&alone[0], &alone[1]]);
    assert_ne!(bits(&one), bits(&other));
}

#[test]
fn foreign_and_damaged_checkpoints_are_refused() {
    let setup = Setup::new(Sight::Features, 2, 4, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let spec = RunSpec { checkpoint: Some(&path), ..setup.spec(1) };
    quiet(&spec);
    let is_foreign = |spec: &RunSpec| refusal(spec).contains("belongs to another run");
    assert!(is_foreign(&RunSpec { seed: 2, ..spec.clone() }));
    assert!(is_foreign(&RunSpec { arm: &spec.arm[1..], copies: &spec.copies[1..], ..spec.clone() }));
    assert!(is_foreign(&RunSpec { copies: &[1, 2, 1, 1], ..spec.clone() }));
    let other = world(Sight::Features, 5, 3);
    assert!(is_foreign(&RunSpec { arm: &other.arm[1..], ..spec.clone() }));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    assert!(refusal(&spec).contains("is damaged"), "{}", refusal(&spec));
    let mut flipped = whole.clone();
    let last = flipped.len() - 100;
    flipped[last] ^= 1;
    fs::write(&path, flipped).unwrap();
    assert!(refusal(&spec).contains("its arrays are not those that were written"), "{}", refusal(&spec));
    fs::write(&path, b"").unwrap();
    assert!(refusal(&spec).contains("is damaged"));
}

#[test]
fn unusable_data_is_refused() {
    let setup = Setup::new(Sight::Features, 2, 4, 3);
    let spec = setup.spec(1);
    let empty = "the arm cannot be used: it is empty";
    assert_eq!(refusal(&RunSpec { arm: &[], copies: &[], ..spec.clone() }), empty);
    assert_eq!(refusal(&RunSpec { copies: &[0; 4], ..spec.clone() }), empty);
    let uneven = refusal(&RunSpec { copies: &[1; 3], ..spec.clone() });
    assert!(uneven.contains("it has 4 examples, but numbers of copies for 3"), "{uneven}");
    assert!(refusal(&RunSpec { held_out: &spec.held_out[..1], ..spec.clone() }).contains("at least two images"));
    let silent = [Example::caption(0, ""), Example::caption(1, "")];
    assert!(refusal(&RunSpec { held_out: &silent, ..spec.clone() }).contains("it has no text"));
}

#[test]
fn an_example_without_copies_is_never_trained_on() {
    let mut setup = Setup::new(Sight::Features, 20, 9, 5);
    setup.copies = vec![1, 0, 2, 0, 1, 1, 1, 1, 1];
    let with = quiet(&setup.spec(1));
    assert_eq!((with.arm_examples, with.distinct_examples), (9, 7));
    // Whatever stands there makes no difference.
    for place in [1, 3] {
        setup.world.arm[place] = Example::caption(0, "xyzzy");
    }
    assert_eq!(quiet(&setup.spec(1)), with);
}

#[test]
fn arms_of_long_and_short_texts_learn_from_equally_many_tokens() {
    let mut setup = Setup::new(Sight::Features, 9, 20, 5);
    let long = quiet(&setup.spec(1));
    for example in &mut setup.world.arm {
        *example = Example::caption(example.shown.row, "red");
    }
    let short = quiet(&setup.spec(1));
    assert!(long.samples_seen < short.samples_seen);
    for result in [long, short] {
        assert!((9 * 32..9 * 32 + 8).contains(&result.loss_tokens), "{}", result.loss_tokens);
    }
}

#[test]
fn conversations_are_trained_on_and_measured() {
    let mut setup = Setup::new(Sight::Features, 6, 9, 5);
    (setup.train.max_tokens, setup.train.tokens_per_step) = (64, 64);
    for example in setup.world.arm.iter_mut().chain(&mut setup.world.held_out) {
        example.turns[0].question = "Which?".to_owned();
    }
    let result = quiet(&setup.spec(1));
    assert_eq!(result.cut_examples, 0);
    // The space after "Bot:" belongs to the answer; questions have no part in the loss.
    for (loss, example) in result.held_out.iter().zip(&setup.world.held_out) {
        assert_eq!(loss.bytes as usize, example.turns[0].answer.len() + 1);
    }
}

#[test]
fn training_lowers_the_loss_and_learns_to_see() {
    for sight in [Sight::Features, Sight::Pixels] {
        let mut setup = Setup::new(sight, 150, 300, 60);
        setup.train =
            TrainConfig { learning_rate: 4e-3, max_tokens: 16, tokens_per_step: 110, log_every: 50, ..setup.train };
        let clean = quiet(&setup.spec(1));
        assert!(clean.losses[2].loss < 0.5 * clean.losses[0].loss, "{:?}", clean.losses);
        assert!(clean.bits_per_byte() < clean.unigram_bits_per_byte());
        assert!(clean.unigram_bits_per_byte() < clean.uniform_bits_per_byte());
        assert!(clean.visual_gain() > 0.05, "{sight:?} {}", clean.visual_gain());
        assert_eq!(clean.cut_examples, 0);

        // Captions of other images teach the same language, but not to see.
        let arm = setup.world.arm.clone();
        for (place, other) in deranged(&mut stream(5, Purpose::Derangement), arm.len()).iter().enumerate() {
            setup.world.arm[place].turns.clone_from(&arm[*other as usize].turns);
        }
        let blind = quiet(&setup.spec(1));
        let gains = (blind.visual_gain(), clean.visual_gain());
        assert!(gains.0 < 0.3 * gains.1, "{sight:?} {gains:?}");
        assert!(clean.bits_per_byte() < blind.bits_per_byte());
    }
}

#[test]
fn the_loss_curve_has_means_and_a_short_last_point() {
    let curve = loss_curve(&[4.0, 2.0, 1.0, 3.0, 5.0], 2);
    let points: Vec<_> = curve.iter().map(|point| (point.step, point.loss)).collect();
    assert_eq!(points, [(2, 3.0), (4, 2.0), (5, 5.0)]);
}

#[test]
fn a_trained_model_answers_as_it_was_trained_also_after_it_was_saved() {
    let setup = Setup::new(Sight::Pixels, 300, 40, 6);
    let (result, saved) = train(&setup.spec(1), &mut |_, _| {}).unwrap();
    let folder = tempfile::tempdir().unwrap();
    saved.write(folder.path()).unwrap();
    let again = SavedModel::read(folder.path(), &DeviceName::Cpu).unwrap();
    let [one, other] = [saved, again].map(|saved| crate::Answerer::new(saved, &DeviceName::Cpu, 32).unwrap());
    let Pictures::Pixels(pictures) = &setup.world.pictures else { panic!("the world has pixels") };
    let settings = crate::GenerateConfig { max_new_tokens: 20, ..Default::default() };
    let (mut right, mut likeliest) = (0, 0);
    for example in &setup.world.arm {
        let picture = &pictures[example.shown.row as usize..][..1];
        let caption = one.answer(picture, "", &settings).unwrap();
        assert_eq!(caption, other.answer(picture, "", &settings).unwrap());
        right += usize::from(caption == example.turns[0].answer);
        let wrong = "no such thing at all";
        let nats = one.nats_per_byte(picture, "", &[&example.turns[0].answer, wrong]).unwrap();
        likeliest += usize::from(nats[0] < nats[1]);
    }
    assert!(likeliest == setup.world.arm.len(), "{likeliest}");
    assert!(right * 2 > setup.world.arm.len(), "{right} of {}; {}", setup.world.arm.len(), result.bits_per_byte());
    let refusal = |seen: &[Vec<u8>]| one.answer(seen, "", &settings).unwrap_err().to_string();
    assert!(refusal(&[vec![0; 5]]).contains("5 bytes"));
    assert!(refusal(&pictures[..2]).contains("2 frames were given, but videos of this model have 0"));
}

#[test]
fn sixteen_bits_learn_as_32_do() {
    let mut setup = Setup::new(Sight::Features, 60, 40, 6);
    let [full, brain, half] = Precision::ALL.map(|precision| {
        setup.train.precision = precision;
        let result = run(&setup.spec(1), &mut |_, _| {}).unwrap();
        let of = |steps: &[LossPoint]| steps.iter().map(|point| point.loss).sum::<f64>() / steps.len() as f64;
        [of(&result.losses[..5]), of(&result.losses[55..])]
    });
    assert!(full[1] < full[0] - 0.5, "{full:?}");
    for other in [brain, half] {
        assert!((other[1] - full[1]).abs() > 0.0 && (other[1] - full[1]).abs() < 0.1, "{other:?} {full:?}");
    }
}

#[test]
fn videos_are_learned_beside_pictures_and_parts_of_both_are_shown() {
    let mut setup = Setup::new(Sight::Pixels, 24, 20, 6);
    setup.model.frames = 2;
    setup.train.least_area = 0.8;
    let all = setup.world.arm.len() as u32;
    for example in setup.world.arm.iter_mut().step_by(2) {
        example.shown.frames = 2; // the next image is its second frame
    }
    let losses = |setup: &Setup| run(&setup.spec(1), &mut |_, _| {}).unwrap().losses;
    let learned = losses(&setup);
    assert!(learned[23].loss < learned[0].loss - 0.5, "{learned:?}");
    assert_eq!(learned, losses(&setup), "the seed decides");
    setup.train.least_area = 1.0;
    assert_ne!(learned, losses(&setup));
    setup.world.arm[all as usize - 1].shown.frames = 3;
    let refusal = run(&setup.spec(1), &mut |_, _| {}).unwrap_err().to_string();
    assert!(refusal.contains("example 19 is a video of 3 frames, but videos of this model have 2"), "{refusal}");
}

#[test]
fn a_trained_model_goes_on_at_another_resolution() {
    let mut setup = Setup::new(Sight::Pixels, 3, 10, 4);
    let folder = tempfile::tempdir().unwrap();
    train(&setup.spec(1), &mut |_, _| {}).unwrap().1.write(folder.path()).unwrap();
    let weights = folder.path().join(crate::saved::WEIGHTS);
    setup.model.image_size = 16;
    let Pictures::Pixels(pictures) = &mut setup.world.pictures else { panic!("the world has pixels") };
    for picture in pictures.iter_mut() {
        *picture = vec![7; 3 * 16 * 16];
    }
    run(&RunSpec { start: Some(&weights), ..setup.spec(1) }, &mut |_, _| {}).unwrap();
    setup.model.decoder_mlp_dim = 64;
    let refusal = run(&RunSpec { start: Some(&weights), ..setup.spec(1) }, &mut |_, _| {}).unwrap_err().to_string();
    assert!(refusal.contains("has the shape"), "{refusal}");
}
