//! The loop that runs any stage: it skips parts that the manifest has with the same fingerprint,
//! makes and commits the others, and records the stage as complete.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lynxdata_records::{Manifest, NewPart};
use serde::Serialize;

use crate::stage::{Context, Planned, Stage};

/// Parts that were made along with a part of an earlier stage: the names of the stage and of the
/// part.
type MadeAlong = BTreeSet<(&'static str, String)>;

/// Runs stages in their order: makes the parts that are missing.
///
/// # Errors
/// If a part cannot be made. The parts before it stay.
pub fn run_stages<'a>(stages: &[&'a dyn Stage], context: &'a Context) -> Result<()> {
    let mut along = MadeAlong::new();
    for (place, stage) in stages.iter().enumerate() {
        let made = run_before(*stage, &stages[place + 1..], &along, context)?;
        along.extend(made);
    }
    Ok(())
}

/// Runs one stage alone.
///
/// # Errors
/// As [`run_stages`].
pub fn run_stage(stage: &dyn Stage, context: &Context) -> Result<()> {
    run_stages(&[stage], context)
}

/// Runs a stage before `later` stages. Parts of it that are in `along` count as made. Returns parts
/// of later stages that were made along with its own.
fn run_before<'a>(
    stage: &'a dyn Stage,
    later: &[&'a dyn Stage],
    along: &MadeAlong,
    context: &'a Context,
) -> Result<MadeAlong> {
    let started = Instant::now();
    let name = stage.name();
    let parts = stage.parts(context)?;
    // The number of parts is known before they are planned, except for a source that is read
    // lazily.
    let total = match parts.size_hint() {
        (least, Some(most)) if least == most => Some(most as u64),
        _ => None,
    };
    let bar = context.begin(name, total);
    let planned = Mutex::new((parts, Vec::new()));
    let (made, skipped) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicBool::new(false);

    let work = || -> Result<MadeAlong> {
        let mut made_along = MadeAlong::new();
        while !failed.load(Ordering::Relaxed) {
            let next = {
                let mut planned = planned.lock().expect("no worker panics while it plans");
                // Checked and set under the lock, so that no worker plans a part after planning has
                // failed. Otherwise a list that is refused would still replace some parts.
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                let Some(next) = planned.0.next() else { break };
                let next = next.inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                planned.1.push(next.name.clone());
                next
            };
            if context.run.committed(name, &next.name, &next.fingerprint).is_some() {
                let counter = if along.contains(&(name, next.name)) { &made } else { &skipped };
                counter.fetch_add(1, Ordering::Relaxed);
            } else {
                make(stage, next, later, context, &mut made_along)?;
                made.fetch_add(1, Ordering::Relaxed);
            }
            bar.part_done();
        }
        Ok(made_along)
    };
    let made_along = std::thread::scope(|scope| -> Result<MadeAlong> {
        let workers: Vec<_> = (0..stage.workers(context).max(1))
            .map(|_| {
                scope.spawn(|| {
                    let result = catch_unwind(AssertUnwindSafe(work));
                    failed.fetch_or(!matches!(result, Ok(Ok(_))), Ordering::Relaxed);
                    result.unwrap_or_else(|panic| resume_unwind(panic))
                })
            })
            .collect();
        let mut made_along = MadeAlong::new();
        for worker in workers {
            made_along.extend(worker.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(made_along)
    })?;

    let (_, names) = planned.into_inner().expect("no worker panicked");
    let reads = stage.reads(context.recipe());
    // A source that has lost all its rows is more likely a failed export than intended.
    if names.is_empty() && reads.is_empty() && context.run.manifest().parts(name).next().is_some() {
        bail!(
            "stage {name} has nothing to read any more, so everything that it made would be removed\nhint: if that is what you want, remove {}",
            context.run.root().display()
        );
    }
    context.complete(stage, names)?;
    bar.finish(made.into_inner(), skipped.into_inner(), started.elapsed());
    Ok(made_along)
}

/// Makes and commits a part, and the parts of later stages that are made along with it, which it
/// adds to `made_along`.
fn make<'a>(
    stage: &'a dyn Stage,
    planned: Planned<'a>,
    later: &[&'a dyn Stage],
    context: &'a Context,
    made_along: &mut MadeAlong,
) -> Result<()> {
    let started = Instant::now();
    let mut part = NewPart::new(stage.name(), &planned.name, planned.fingerprint);
    let along =
        (planned.make)(&mut part, later).with_context(|| format!("stage {}, part {}", stage.name(), planned.name))?;
    part.seconds = started.elapsed().as_secs_f64();
    let entry = context.commit(part)?;
    for along in along {
        let planned = (along.plan)(entry.clone());
        let name = planned.name.clone();
        make(along.stage, planned, &[], context, made_along)?;
        made_along.insert((along.stage.name(), name));
    }
    Ok(())
}

/// One line of `--dry-run`.
#[derive(Debug, Serialize)]
pub struct StagePlan {
    /// The name of the stage.
    pub stage: &'static str,
    /// Number of parts that exist already.
    pub skip: Option<u64>,
    /// Number of parts to make.
    pub make: Option<u64>,
    /// The reason why parts are made or not, in words.
    pub reason: String,
}

/// Returns what a run would do, without doing it.
pub(crate) fn plan(context: &Context, stages: &[&'static dyn Stage]) -> Result<Vec<StagePlan>> {
    let mut plans: Vec<StagePlan> = Vec::new();
    for stage in stages {
        let mut waits_for = None;
        for input in stage.reads(context.recipe()) {
            let is_made = plans.iter().any(|plan| plan.stage == input.name() && plan.make != Some(0));
            if is_made || !context.is_current(input)? {
                waits_for = Some(input);
                break;
            }
        }
        let plan = match waits_for {
            Some(input) => StagePlan {
                stage: stage.name(),
                skip: None,
                make: None,
                reason: format!("decided when {} is done", input.name()),
            },
            None => count_parts(*stage, context)?,
        };
        plans.push(plan);
    }
    Ok(plans)
}

fn count_parts(stage: &'static dyn Stage, context: &Context) -> Result<StagePlan> {
    let manifest: Manifest = context.run.manifest();
    let (mut skip, mut new, mut changed) = (0, 0, 0);
    for planned in stage.parts(context)? {
        let planned = planned?;
        if context.run.committed(stage.name(), &planned.name, &planned.fingerprint).is_some() {
            skip += 1;
        } else if manifest.part(stage.name(), &planned.name).is_some() {
            changed += 1;
        } else {
            new += 1;
        }
    }
    let reason = match (skip, new, changed) {
        (0, 0, 0) => "no input rows".to_owned(),
        (_, 0, 0) => "same inputs and settings: every part is there".to_owned(),
        (0, _, 0) => "nothing is there yet".to_owned(),
        (_, _, 0) => "some parts are there already".to_owned(),
        (_, _, 1) => "inputs, settings or files of 1 part changed".to_owned(),
        _ => format!("inputs, settings or files of {changed} parts changed"),
    };
    Ok(StagePlan { stage: stage.name(), skip: Some(skip), make: Some(new + changed), reason })
}
