//! A new group of signals is measured alone, also one of a model.

#[path = "../../../../tests/web.rs"]
mod web;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use lynxdata_filters::{GROUPS, Group, MeasureError, Measurer, Needs, Sample, Signal, SignalType, Value};

use self::web::Web;
use super::*;
use crate::recipe::Recipe;
use crate::stage::{AlongDownload, Parts, Planned};
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

    fn along_download(&self) -> Result<Option<Box<dyn AlongDownload>>> {
        signals::along_download(self.0).map(Some)
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        signals::parts(context, self.0)
    }
}

/// A made-up model that sees the brightest pixel of an image. It also tells which of its batches a
/// pair came in, and how many pairs that had, which a genuine signal must not depend on.
#[derive(Debug)]
struct Model {
    batches: AtomicUsize,
}

static LOADED: AtomicUsize = AtomicUsize::new(0);

impl Measurer for Model {
    fn measure(&self, pairs: &[Sample<'_>], values: &mut Vec<Value>) -> Result<(), MeasureError> {
        let batch = self.batches.fetch_add(1, Ordering::Relaxed);
        for pair in pairs {
            let image = pair.image.ok_or("a pair without image")?;
            let brightest = image.luma().values().iter().max().map(|value| u32::from(*value));
            values.extend([brightest.into(), batch.into(), pairs.len().into()]);
        }
        Ok(())
    }
}

const fn of_model(name: &'static str) -> Signal {
    Signal {
        name,
        description: "A number that a made-up model gives.",
        unit: "none",
        range: (None, None),
        needs: Needs::Pixels,
        signal_type: SignalType::Integer,
        source: "this test",
        function: None,
    }
}

const MODEL: Group = Group {
    name: "model",
    version: 1,
    identifies: false,
    signals: &[of_model("brightest"), of_model("of_batch"), of_model("pairs_of_batch")],
    batch: 2,
    measurer: |_signals| {
        LOADED.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Model { batches: AtomicUsize::new(0) }))
    },
};

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

#[test]
fn a_group_of_a_model_is_loaded_once_and_measured_alone_in_batches() {
    let folder = folder_with_recipe();
    let groups: &'static [Group] =
        GROUPS.iter().map(|group| Group { ..*group }).chain([MODEL]).collect::<Vec<_>>().leak();
    let run_with = |groups| {
        let context =
            Context::new(load(folder.path(), &[]), lynxdata_engine::session::local(), Arc::new(Silent)).unwrap();
        run_stages(&[&Download, &SignalsOf(groups)], &context).unwrap();
    };
    run_with(GROUPS);
    assert_eq!(LOADED.load(Ordering::Relaxed), 0);
    let before = files(&folder.path().join("run"));
    for _again in 0..2 {
        run_with(groups);
        assert_eq!(LOADED.load(Ordering::Relaxed), 1, "the second run makes nothing and loads no model");
    }
    let mut after = files(&folder.path().join("run"));
    for (path, file) in before {
        assert!(after.remove(&path) == Some(file), "{path} was written again");
    }
    let path = |part: usize| format!("signals/model/part-{part:05}.parquet");
    assert_eq!(after.into_keys().collect::<Vec<_>>(), [0, 1, 2].map(path));

    // Parts of 5, 5 and 2 pairs.
    let mut found = Vec::new();
    for part in 0..3 {
        let path = folder.path().join("run").join(path(part));
        let rows = table::read(&path, None).unwrap();
        let column = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        assert!(column("brightest").values().iter().all(|value| (1..256).contains(value)));
        found
            .extend(column("of_batch").values().iter().copied().zip(column("pairs_of_batch").values().iter().copied()));
    }
    let expected = [(0, 2), (0, 2), (1, 2), (1, 2), (2, 1), (3, 2), (3, 2), (4, 2), (4, 2), (5, 1), (6, 2), (6, 2)];
    assert_eq!(found, expected);
}
