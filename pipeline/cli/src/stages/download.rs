//! Stage `download`: rows of the source become pairs of the pool, and every row gets its status.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use lynxdata_fetch::{Downloader, Source, SourcePart};
use lynxdata_records::{NewPart, Status, fingerprint, parquet, schema};

use super::{Context, Parts, Planned, Stage, part_name};
use crate::recipe::Recipe;

/// Raise it when the bytes of a part change for the same rows and settings.
const FORMAT_VERSION: &str = "1";

/// Settings that say how to fetch, not what is stored; changing them makes no part anew.
const NOT_IN_FINGERPRINT: [&str; 4] = ["concurrency", "user_agent", "ca_file", "max_failed_fraction"];

pub(crate) struct Download;

impl Stage for Download {
    fn name(&self) -> &'static str {
        "download"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        Vec::new()
    }

    fn workers(&self, _context: &Context) -> usize {
        2 // while the last slow rows of one part are awaited, the next one is under way
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let recipe = context.recipe();
        let source = recipe.source.as_ref().context("the recipe has no [source]")?;
        let source = Source::open(source, &context.loaded.folder)?;
        let mut config = recipe.download.clone();
        config.ca_file = config.ca_file.map(|path| context.loaded.folder.join(path));
        let downloader = Arc::new(Downloader::new(&config)?);

        let mut settings = serde_json::to_value(&recipe.download)?;
        let keys = settings.as_object_mut().expect("a settings struct is a JSON object");
        keys.retain(|key, _| !NOT_IN_FINGERPRINT.contains(&key.as_str()));
        let settings = settings.to_string();

        let parts = source.parts(recipe.download.rows_per_part);
        Ok(Box::new(parts.map(move |part| {
            let part = part?;
            let name = part_name(part.index);
            let print =
                fingerprint(["download", FORMAT_VERSION, &settings, &part.first_row.to_string(), &part.fingerprint()]);
            let downloader = Arc::clone(&downloader);
            let make = Box::new(move |new: &mut NewPart| make(context, &downloader, &part, new));
            Ok(Planned { name, fingerprint: print, make })
        })))
    }
}

fn make(context: &Context, downloader: &Downloader, part: &SourcePart, new: &mut NewPart) -> Result<()> {
    let bar = context.progress.current();
    let on_row = |status: Status| bar.row_done(status == Status::Ok);
    let downloaded = context.runtime.block_on(downloader.download_part(part, &on_row));
    let name = part_name(part.index);
    let pool = context.run.stage_file(new, &format!("{}/part-{name}.parquet", schema::pool().name))?;
    parquet::write(&pool, &downloaded.pool.schema(), [&downloaded.pool])?;
    let log = context.run.stage_file(new, &format!("{}/part-{name}.parquet", schema::download_log().name))?;
    parquet::write(&log, &downloaded.log.schema(), [&downloaded.log])?;
    new.rows_in = part.rows.num_rows() as u64;
    new.rows_out = downloaded.pool.num_rows() as u64;
    new.counts = downloaded.counts.iter().map(|(status, rows)| (status.name().to_owned(), *rows)).collect();
    Ok(())
}
