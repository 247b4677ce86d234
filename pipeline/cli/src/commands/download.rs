//! `lynxdata download`.

use std::collections::BTreeSet;

use anyhow::anyhow;
use clap::Args;
use lynxdata_records::{Status, nearest};

use super::run::{StageArguments, keep_recipe, run_stages, too_many_failed_rows};
use super::{grouped, print};
use crate::exit::Failure;
use crate::recipe;
use crate::stages::{self, Context};

/// Fetch the pictures of the source into the pool
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata download recipe.toml
  lynxdata download recipe.toml --retry-failed                     rows whose status may pass, such as timeout
  lynxdata download recipe.toml --retry-failed=not_found,forbidden")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: StageArguments,

    /// Also tries the rows again that failed: those whose status may pass (dns_error, connect_error, timeout, rate_limited, http_server_error,
    /// truncated_body, empty_body, protocol_error), or those with the statuses named. Rows that succeeded are left alone
    #[arg(long, value_name = "STATUS,…", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "dry_run")]
    retry_failed: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let Some(names) = &arguments.retry_failed else { return run_stages(&arguments.common, &["download"]) };
    let statuses = statuses(names).map_err(Failure::Usage)?;
    let loaded = recipe::load(&arguments.common.recipe, &arguments.common.sets).map_err(Failure::Usage)?;
    let context = Context::new(loaded, lynxdata_engine::session::local())?;
    keep_recipe(&context)?;
    stages::run(&stages::download::Download, &context)?;
    let retried = stages::download::retry_failed(&context, &statuses)?;
    print(&format!(
        "{} rows were tried again, {} of them are in the pool now\n",
        grouped(retried.rows),
        grouped(retried.recovered)
    ))?;
    Ok(too_many_failed_rows(&context))
}

/// The statuses that a comma-separated list names; without one, those that may pass.
fn statuses(names: &str) -> anyhow::Result<BTreeSet<Status>> {
    if names.is_empty() {
        return Ok(Status::ALL.iter().copied().filter(|status| status.is_retryable()).collect());
    }
    names
        .split(',')
        .map(|name| match name.trim().parse() {
            Ok(Status::Ok) => Err(anyhow!("--retry-failed: rows with status ok did not fail")),
            Ok(status) => Ok(status),
            Err(_) => {
                let known = Status::ALL.iter().map(|status| status.name());
                let hint = nearest(name, known.clone()).map(|right| format!("\nhint: did you mean {right}?"));
                let known = known.collect::<Vec<_>>().join(", ");
                Err(anyhow!("--retry-failed: {name:?} is no status; there are: {known}{}", hint.unwrap_or_default()))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_named_or_those_that_may_pass() {
        assert!(statuses("").unwrap().contains(&Status::Timeout) && !statuses("").unwrap().contains(&Status::NotFound));
        assert_eq!(statuses("not_found, timeout").unwrap(), BTreeSet::from([Status::NotFound, Status::Timeout]));
        assert!(statuses("not_fuond").unwrap_err().to_string().contains("did you mean not_found?"));
        assert!(statuses("ok").is_err());
    }
}
