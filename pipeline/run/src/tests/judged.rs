//! The stages that judge data by learning from it: arms, check, train, examples and model.

use lynxdata_check::Verdict;
use lynxdata_check::outcome::{ArmOutcome, CheckOutcome};

use super::*;
use crate::stages::arms::{self, Arms};
use crate::stages::check::verdict;

/// Two arms of the same images, one of which has the captions of other images.
const ARMS: &str = r#"
output = "run"
seed = 7

[check]
arms = [{ name = "right", path = "right" }, { name = "wrong", path = "wrong" }]
evaluate_on = "evaluation"
"#;

const QUICK: &str = r#"
gear = "quick"
replicates = 12
"#;

/// Models that learn for eight steps, which is too short for a valid verdict.
const LYNX: &str = r#"
replicates = 2
fewest_pairs = 5
fewest_held_out = 2
members = 1
device = "cpu"
tokenizer.vocabulary = 320
model = { latents = 2, decoder_dim = 32, decoder_heads = 2, decoder_mlp_dim = 32 }
train = { steps = 8, tokens_per_step = 48, max_tokens = 16, checkpoint_every = 4, log_every = 4 }
"#;

const TRAINING: &str = r#"
output = "run"

[training]
data = "right"
held_out = 5
device = "cpu"
tokenizer.vocabulary = 320
model = { image_size = 16, decoder_depth = 1, sight = "pixels" }
train = { steps = 4, checkpoint_every = 2 }
"#;

/// The pairs of the quickstart: image, caption, and the caption of another image.
fn pairs() -> Vec<(PathBuf, String, String)> {
    let examples = repository().join("examples/quickstart");
    let list = std::fs::read_to_string(examples.join("pairs.tsv")).unwrap();
    let pairs = list.lines().filter_map(|line| {
        let [url, caption, _, exchanged] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let picture = examples.join("images").join(url.strip_prefix('/')?);
        picture.is_file().then(|| (picture, caption.to_owned(), exchanged.to_owned()))
    });
    pairs.collect()
}

fn write<'a>(folder: &Path, pairs: impl Iterator<Item = (&'a PathBuf, &'a String)>) {
    std::fs::create_dir(folder).unwrap();
    for (number, (picture, text)) in pairs.enumerate() {
        let suffix = picture.extension().unwrap().to_str().unwrap();
        std::fs::copy(picture, folder.join(format!("{number:04}.{suffix}"))).unwrap();
        std::fs::write(folder.join(format!("{number:04}.txt")), text).unwrap();
    }
}

/// Writes a recipe, and every `step`th pair as both arms or, of five, as the one to evaluate on.
fn folder(recipe: &str, step: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let chosen: Vec<_> = pairs().into_iter().step_by(step).collect();
    let some = |is_held_out: bool| {
        let of = chosen.iter().enumerate().filter(move |(number, _)| (number % 5 == 0) == is_held_out);
        of.map(|(_, pair)| pair)
    };
    write(&folder.path().join("right"), some(false).map(|(picture, text, _)| (picture, text)));
    write(&folder.path().join("wrong"), some(false).map(|(picture, _, other)| (picture, other)));
    write(&folder.path().join("evaluation"), some(true).map(|(picture, text, _)| (picture, text)));
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    folder
}

fn context(folder: &Path, sets: &[&str]) -> Context {
    Context::inspecting(load(folder, sets), lynxdata_engine::session::local(), Arc::new(Silent)).unwrap()
}

fn judge(folder: &Path, sets: &[&str]) -> (Ending, CheckOutcome) {
    let ending = run(load(folder, sets), &Wanted::all(), Arc::new(Silent)).unwrap();
    (ending, verdict(&context(folder, sets)).unwrap())
}

/// Returns the names of the parts that a run would make, by stage.
fn missing(folder: &Path, sets: &[&str]) -> BTreeMap<&'static str, Option<u64>> {
    let plans = plan(load(folder, sets), &Wanted::all()).unwrap();
    plans.into_iter().map(|plan| (plan.stage, plan.make)).collect()
}

#[test]
fn arms_hold_every_pair_once_and_say_which_arm_has_it() {
    let folder = folder(&format!("{ARMS}{QUICK}"), 8);
    std::fs::write(folder.path().join("right/0001.txt"), " ").unwrap();
    run(load(folder.path(), &[]), &Wanted::only(&[&Arms]), Arc::new(Silent)).unwrap();
    let manifest = Manifest::read(&folder.path().join("run")).unwrap();
    let read: BTreeMap<&str, u64> =
        manifest.parts("arms").map(|part| (part.part.as_str(), part.counts[arms::READ])).collect();
    let of = |name: &str| {
        let files = std::fs::read_dir(folder.path().join(name)).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|suffix| suffix == "txt")).count()
            as u64
    };
    assert_eq!(
        read,
        BTreeMap::from([("right", of("right") - 1), ("wrong", of("wrong")), ("evaluation", of("evaluation"))])
    );
    let universe = arms::load(&context(folder.path(), &[])).unwrap();
    let with = |arms: u32| universe.pairs.iter().filter(|pair| pair.arms == arms).count() as u64;
    // A pair whose caption is also the exchanged one is in both arms.
    assert_eq!((with(1) + with(3), with(2) + with(3)), (read["right"], read["wrong"]));
    assert_eq!(with(0), read["evaluation"]);
    assert!(universe.has_evaluation_set && universe.arms == ["right", "wrong"]);
}

#[test]
fn a_check_says_which_arm_has_the_captions_of_its_pictures() {
    let folder = folder(&format!("{ARMS}{QUICK}"), 1);
    let (ending, told) = judge(folder.path(), &[]);
    assert_eq!((ending, told.first().verdict.winner()), (Ending::Done, Some("right")), "{}", told.first().sentence);
    assert!(missing(folder.path(), &[]).values().all(|make| *make == Some(0)));
    // The verdict depends on the margin, the pairs do not.
    let stricter = missing(folder.path(), &["check.margin_percent=20"]);
    assert_eq!((stricter["arms"], stricter["check"]), (Some(0), Some(1)));
    // A text that changes makes its arm anew, and the verdict cannot be planned before.
    std::fs::write(folder.path().join("wrong/0000.txt"), "another text").unwrap();
    let changed = missing(folder.path(), &[]);
    assert_eq!((changed["arms"], changed["check"]), (Some(1), None));
    let (ending, told) = judge(folder.path(), &["check.fewest_pairs=100000"]);
    assert_eq!(ending, Ending::Nothing);
    assert!(matches!(told.first().verdict, Verdict::Invalid { .. }), "{}", told.first().sentence);
}

#[test]
fn every_fit_is_a_part_of_its_own_and_follows_its_settings() {
    let folder = folder(&format!("{ARMS}{LYNX}"), 8);
    let (_, told) = judge(folder.path(), &[]);
    assert_eq!(told.arms.iter().map(ArmOutcome::replicates).collect::<Vec<_>>(), [2, 2]);
    let manifest = Manifest::read(&folder.path().join("run")).unwrap();
    let names: Vec<String> = manifest.parts("train").map(|part| part.part.clone()).collect();
    assert_eq!(names, ["right/00", "right/01", "wrong/00", "wrong/01"]);
    assert!(!folder.path().join("run").join(stages::train::CHECKPOINTS).exists(), "checkpoints are gone at the end");
    assert!(missing(folder.path(), &[]).values().all(|make| *make == Some(0)));
    let longer = missing(folder.path(), &["check.train.steps=9"]);
    assert_eq!((longer["arms"], longer["train"], longer["check"]), (Some(0), Some(4), None));
    let more = missing(folder.path(), &["check.replicates=3"]);
    assert_eq!((more["arms"], more["train"]), (Some(0), Some(2)), "earlier replicates stay");
    let mut fewer_threads = missing(folder.path(), &["check.threads=1"]);
    fewer_threads.remove("report"); // it shows the recipe
    assert!(fewer_threads.values().all(|make| *make == Some(0)), "{fewer_threads:?}");
}

#[test]
fn a_model_is_made_anew_if_its_settings_change() {
    let folder = folder(TRAINING, 8);
    assert_eq!(run(load(folder.path(), &[]), &Wanted::all(), Arc::new(Silent)).unwrap(), Ending::Done);
    let result = std::fs::read_to_string(folder.path().join("run/model/result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert_eq!((&result["steps"], &result["held_out_examples"]), (&4.into(), &5.into()), "{result:#}");
    assert!(missing(folder.path(), &[]).values().all(|make| *make == Some(0)));
    let longer = missing(folder.path(), &["training.train.steps=5"]);
    assert_eq!((longer["examples"], longer["model"]), (Some(0), Some(1)));
}

#[test]
fn a_pair_with_the_same_text_in_two_columns_is_in_the_arms_of_both() {
    let folder = folder_with_recipe();
    let pictures: Vec<String> = (0..12).map(|number| format!("{number:02}.jpg")).collect();
    let lines = pictures.iter().enumerate().map(|(number, name)| {
        let other = if number < 5 { format!("picture {number}") } else { format!("another text {number}") };
        format!("{name},picture {number},{other}\n")
    });
    let list = "file_name,text,other\n".to_owned() + &lines.collect::<String>();
    for number in 0..12 {
        std::fs::remove_file(folder.path().join(format!("pairs/{number:02}.txt"))).unwrap();
    }
    std::fs::write(folder.path().join("pairs/metadata.csv"), list).unwrap();
    let recipe = r#"
output = "run"
[source]
path = "pairs"
[download]
size = 64
[select.all]
deduplicate = false
[check]
arms = [{ name = "own", selection = "all", captions = "caption" }, { name = "other", selection = "all", captions = "other" }]
gear = "quick"
"#;
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let stages: [&dyn Stage; 5] = [&Download, &Signals, &Dedup, &Select, &Arms];
    run(load(folder.path(), &[]), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
    let universe = arms::load(&context(folder.path(), &[])).unwrap();
    let with = |arms: u32| universe.pairs.iter().filter(|pair| pair.arms == arms).count();
    assert_eq!((with(1), with(2), with(3)), (7, 7, 5));
}

#[test]
fn a_renamed_arm_has_its_new_name_in_the_verdict() {
    let folder = folder_with_recipe();
    let named = |name: &str| {
        let arm = format!("{{ name = \"{name}\", selection = \"clean\", captions = \"caption\" }}");
        let arms = format!("check.arms=[{arm}, {{ name = \"folder\", path = \"pairs\" }}]");
        let stages: [&dyn Stage; 6] = [&Download, &Signals, &Dedup, &Select, &Arms, &Check];
        run(load(folder.path(), &[&arms]), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
        verdict(&context(folder.path(), &[&arms])).unwrap().first().first.clone()
    };
    assert_eq!((named("first"), named("second")), ("first".to_owned(), "second".to_owned()));
}
