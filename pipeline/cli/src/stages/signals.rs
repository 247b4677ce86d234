//! Stage `signals`: every pair of the pool is measured once, into a table beside it.

use anyhow::Result;
use lynxdata_engine::signals;
use lynxdata_filters::SIGNALS;
use lynxdata_records::{NewPart, fingerprint, parquet, schema};

use super::{Context, Parts, Planned, Stage, table};
use crate::recipe::Recipe;

/// Raise it when a signal gives another value for the same pair.
const FORMAT_VERSION: &str = "3";

/// The folder of the signal table.
pub(crate) const FOLDER: &str = "signals";

pub(crate) struct Signals;

impl Stage for Signals {
    fn name(&self) -> &'static str {
        "signals"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some() && recipe.has_pool_table()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        vec!["download"]
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let names = SIGNALS.iter().map(|signal| signal.name()).collect::<Vec<_>>().join(" ");
        let parts = context.upstream("download")?.into_iter().map(move |input| {
            let print = fingerprint(["signals", FORMAT_VERSION, &names, &input.digest()]);
            let make = {
                let input = input.clone();
                Box::new(move |new: &mut NewPart| {
                    let pool = table::file(&context.run, &input, schema::pool().name)?;
                    let measured = context.runtime.block_on(signals::measure(&context.session, &pool))?;
                    let rows = measured.iter().map(|batch| batch.num_rows() as u64).sum();
                    let path = context.run.stage_file(new, &format!("{FOLDER}/part-{}.parquet", input.part))?;
                    parquet::write(&path, &signals::schema(), &measured)?;
                    (new.rows_in, new.rows_out) = (input.rows_out, rows);
                    new.counts.insert("measured".to_owned(), rows);
                    Ok(())
                })
            };
            Ok(Planned { name: input.part, fingerprint: print, make })
        });
        Ok(Box::new(parts))
    }
}
