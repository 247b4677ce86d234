//! Shared code of the commands that use a language model on a server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use lynxdata_generation::{
    Budget, Cache, Client, Completion, Dollars, Endpoint, EndpointConfig, Error, Estimate, Prices, Request, Usage,
};

use super::grouped;
use crate::paths::{input_parser, path_parser};
use lynxdata_run::Host as _;

use crate::host::Terminal;

/// The model to ask, and the maximum cost.
#[derive(Args)]
#[command(next_help_heading = "Language model")]
pub(super) struct ModelArguments {
    /// The server, for example http://localhost:8000/v1; any address with OpenAI's chat completions
    /// API
    #[arg(long, value_name = "URL", required_unless_present = "replay")]
    endpoint: Option<String>,

    /// The name of the model on the server
    #[arg(long, value_name = "NAME")]
    model: String,

    /// Environment variable that holds the API key of the server
    #[arg(long, value_name = "VAR")]
    api_key_env: Option<String>,

    /// Maximum number of concurrent requests to the server
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) requests: u16,

    /// Prices in TOML: for each model, dollars per million input and output tokens
    #[arg(long, value_name = "FILE", value_parser = input_parser())]
    prices: Option<PathBuf>,

    /// Stop before the cost of this run exceeds this amount in dollars
    #[arg(long, value_name = "DOLLARS", value_parser = dollars, requires = "prices")]
    max_cost: Option<Dollars>,

    /// Folder that keeps replies, so that nothing is paid for twice
    #[arg(long, value_name = "DIR", value_parser = path_parser(), default_value = "replies")]
    replies: PathBuf,

    /// Send nothing and use only replies that an earlier run kept; a missing reply is an error
    #[arg(long)]
    replay: bool,

    /// Print the number of requests and their estimated cost, and send nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl ModelArguments {
    /// Returns the client.
    pub(super) fn client(&self) -> Result<Client> {
        let cache = Cache::open(&self.replies)?;
        let endpoint = match &self.endpoint {
            Some(endpoint) if !self.replay => endpoint,
            _ => return Ok(Client::replay(&self.model, cache)),
        };
        let prices = self.prices.as_deref().map(Prices::read).transpose()?.unwrap_or_default();
        let budget = Budget::new(&self.model, &prices, self.max_cost)?;
        let endpoint = endpoint_of(endpoint, &self.model, self.api_key_env.as_deref())?;
        Ok(Client::new(endpoint, Some(cache), budget))
    }
}

/// Reads an amount of the command line.
fn dollars(text: &str) -> std::result::Result<Dollars, String> {
    let amount = text.trim_start_matches('$').parse().ok().and_then(Dollars::new);
    amount.ok_or_else(|| format!("{text} is not an amount of dollars; expected a number, such as 0.50"))
}

/// Returns the endpoint of a model on a server, with default timeouts and retries.
pub(super) fn endpoint_of(url: &str, model: &str, api_key_env: Option<&str>) -> Result<Endpoint> {
    let api_key_env = api_key_env.map(str::to_owned);
    Ok(Endpoint::new(EndpointConfig { api_key_env, ..EndpointConfig::new(url, model) })?)
}

/// Runs asynchronous work to its end.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    Ok(runtime.block_on(work))
}

/// Returns the estimate of requests, tokens and costs as text.
pub(super) fn told_estimate(estimate: &Estimate) -> String {
    let tokens = |usage: Usage| format!("{} in, {} out", grouped(usage.input), grouped(usage.output));
    let cost = |cost: Option<Dollars>| cost.map_or("unknown price".to_owned(), |cost| cost.to_string());
    format!(
        "requests  {}\nlikely    {} tokens, {}\nat most   {} tokens, {}\n",
        grouped(estimate.requests),
        tokens(estimate.likely),
        cost(estimate.likely_cost),
        tokens(estimate.most),
        cost(estimate.most_cost)
    )
}

/// Logs what was sent and spent.
pub(super) fn tell_spending(client: &Client) {
    let spending = client.spending();
    let unreported = match spending.unreported {
        0 => String::new(),
        count => {
            format!("; the server did not report the tokens of {count} of them, which are counted at their maximum")
        }
    };
    let cost = client.price().map_or(String::new(), |_| format!(", {} spent", spending.cost));
    let failed = match spending.attempts.saturating_sub(spending.requests) {
        0 => String::new(),
        failed => format!(" ({} failed)", grouped(failed)),
    };
    tracing::info!(
        "{} requests were sent{failed}, {} tokens in and {} out{cost}{unreported}",
        grouped(spending.attempts),
        grouped(spending.tokens.input),
        grouped(spending.tokens.output)
    );
}

/// A question to a model: its id, and a function that builds its request when it is about to be
/// sent.
pub(super) struct Question<'a> {
    pub(super) id: String,
    pub(super) request: Box<dyn Fn() -> lynxdata_generation::Result<Request> + Send + Sync + 'a>,
}

/// Asks all questions, at most `requests` at the same time, and passes each completion to `keep` as
/// it arrives.
///
/// # Errors
/// If replies are missing at the end. Those that arrived were passed to `keep`, and the next run
/// asks for the rest.
pub(super) fn ask_all(
    client: &Client,
    questions: &[Question],
    requests: u16,
    mut keep: impl FnMut(&Question, &Completion) -> Result<()>,
) -> Result<()> {
    let progress = Terminal.stage("ask", Some(questions.len() as u64));
    let mut first: Option<(String, Error)> = None;
    let mut done = 0;
    let keep = |question: &Question, outcome: lynxdata_generation::Result<Completion>| {
        progress.part_done();
        match outcome {
            Ok(completion) => {
                keep(question, &completion)?;
                done += 1;
            }
            Err(error) => {
                first.get_or_insert((question.id.clone(), error));
            }
        }
        Ok::<(), anyhow::Error>(())
    };
    let at_once = usize::from(requests);
    block_on(client.complete_all(questions, at_once, |question| (question.request)(), keep))??;
    match first {
        None => Ok(()),
        Some((id, error)) => Err(anyhow!(error).context(format!(
            "{} of {} questions got no reply, the first for id {id}; run the same command again to ask for the rest",
            questions.len() - done,
            questions.len()
        ))),
    }
}

/// Writes a file under a temporary name and renames it, so that it is never there in part.
pub(super) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let aside = path.with_extension("tmp");
    let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}
