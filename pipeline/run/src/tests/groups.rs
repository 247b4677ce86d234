//! A new group of signals is measured alone.

#[path = "../../../../tests/web.rs"]
mod web;

use std::time::SystemTime;

use lynxdata_filters::{GROUPS, Group};

use self::web::Web;
use super::*;
use crate::recipe::Recipe;
use crate::stage::{Parts, Planned};
use crate::stages::signals;

const LIST: &str = r#"
output = "run"

[source]
path = "pairs.tsv"
caption = "caption"

[download]
allow_private_addresses = true
rows_per_part = 5
"#;

/// The stage `signals` of a program with other groups.
struct SignalsOf(&'static [Group]);

impl Stage for SignalsOf {
    fn name(&self) -> &'static str {
        Signals.name()
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        Signals.is_in(recipe)
    }

    fn format_version(&self) -> String {
        signals::format_version(self.0)
    }

    fn reads(&self, recipe: &Recipe) -> Vec<&'static dyn Stage> {
        Signals.reads(recipe)
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Signals.settings(recipe)
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        signals::parts(context, self.0)
    }
}

/// Returns the time and the bytes of every file of the parts of a run.
fn files(run: &Path) -> BTreeMap<String, (SystemTime, Vec<u8>)> {
    let manifest = Manifest::read(run).unwrap();
    let of_file = |path: &str| {
        let file = run.join(path);
        (path.to_owned(), (file.metadata().unwrap().modified().unwrap(), std::fs::read(file).unwrap()))
    };
    manifest.all_parts().flat_map(PartEntry::paths).map(of_file).collect()
}

#[test]
fn a_new_group_of_signals_is_measured_alone_and_no_image_is_fetched_again() {
    let folder = folder_with_recipe();
    let web = Web::start(&[("", &folder.path().join("pairs"))]);
    let rows = (0..12).map(|number| format!("{}\tpicture {number}\n", web.url(&format!("{number:02}.jpg"))));
    std::fs::write(folder.path().join("pairs.tsv"), "url\tcaption\n".to_owned() + &rows.collect::<String>()).unwrap();
    std::fs::write(folder.path().join("recipe.toml"), LIST).unwrap();
    let session = lynxdata_engine::session::local;
    let (new, older) = GROUPS.split_last().unwrap();

    let context = Context::new(load(folder.path(), &[]), session(), Arc::new(Silent)).unwrap();
    run_stage(&Download, &context).unwrap();
    run_stage(&SignalsOf(older), &context).unwrap();
    drop(context); // it holds the lock of the run folder
    let before = files(&folder.path().join("run"));
    assert_eq!(web.requests().len(), 12);

    run(load(folder.path(), &[]), &Wanted::only(&[&Download, &Signals]), Arc::new(Silent)).unwrap();
    assert!(web.requests().is_empty());
    let mut after = files(&folder.path().join("run"));
    for (path, file) in before {
        assert!(after.remove(&path) == Some(file), "{path} was written again");
    }
    let written: Vec<String> = after.into_keys().collect();
    let expected: Vec<String> = (0..3).map(|part| format!("signals/{}/part-{part:05}.parquet", new.name)).collect();
    assert_eq!(written, expected);

    // The same holds for a group with other signals and for one whose signals have other values.
    let context = Context::inspecting(load(folder.path(), &[]), session(), Arc::new(Silent)).unwrap();
    for changed in [Group { signals: &new.signals[1..], ..*new }, Group { version: new.version + 1, ..*new }] {
        let groups = older.iter().map(|group| Group { ..*group }).chain([changed]).collect::<Vec<_>>().leak();
        let planned = signals::parts(&context, groups).unwrap().map(Result::unwrap);
        let is_made = |part: &Planned<'_>| context.run.committed("signals", &part.name, &part.fingerprint).is_some();
        let missing: Vec<String> = planned.filter(|part| !is_made(part)).map(|part| part.name).collect();
        assert_eq!(missing, [0, 1, 2].map(|part| format!("{}-{part:05}", new.name)));
    }
}
