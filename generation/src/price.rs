//! Costs of requests, and a limit for them.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::dollars::{Dollars, PER_DOLLAR};
use crate::{Error, Request, Result, Usage};

/// Characters per token of English text, by the rule of thumb on OpenAI's help pages ("What are
/// tokens and how to count them").
const BYTES_PER_TOKEN: u64 = 4;
/// The maximum number of tokens that a chat template adds to one message: role names and start and
/// end markers.
const TOKENS_PER_MESSAGE: u64 = 16;
/// The price of a model.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Dollars per million tokens of requests.
    pub input: f64,
    /// Dollars per million tokens of replies.
    pub output: f64,
    /// The maximum number of tokens of one image; only needed if images are sent.
    pub tokens_per_picture: Option<u64>,
}

impl Price {
    /// Returns the cost of a number of tokens.
    pub fn cost(&self, usage: Usage) -> Dollars {
        // A price per million tokens, divided by a million, is the price per token.
        let per_token = |price: f64| (price * PER_DOLLAR / 1e6).round() as u64;
        let cost = |tokens: u64, price: f64| tokens.saturating_mul(per_token(price));
        Dollars(cost(usage.input, self.input).saturating_add(cost(usage.output, self.output)))
    }
}

/// The prices that a user states, by model.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Prices(BTreeMap<String, Price>);

impl Prices {
    /// Reads a table such as `["gpt-4o-mini"]` with `input` and `output`.
    ///
    /// # Errors
    /// If the file cannot be read or is not such a table.
    pub fn read(path: &Path) -> Result<Prices> {
        let fault = |why: String| Error::Prices { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| fault(format!("cannot be read ({error})")))?;
        Prices::parse(&text).map_err(fault)
    }

    /// Parses the text of a table; the error says what is wrong.
    fn parse(text: &str) -> std::result::Result<Prices, String> {
        let prices: Prices = toml::from_str(text)
            .map_err(|error| format!("not a table of prices such as [\"model\"] with input and output: {error}"))?;
        for (model, price) in &prices.0 {
            for (name, value) in [("input", price.input), ("output", price.output)] {
                if Dollars::new(value).is_none() {
                    return Err(format!(
                        "{name} of {model} is {value}; it must be dollars per million tokens, 0 or more"
                    ));
                }
            }
        }
        Ok(prices)
    }

    /// Returns the price of a model, if it is in the table.
    pub fn get(&self, model: &str) -> Option<Price> {
        self.0.get(model).copied()
    }
}

/// The expected cost of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// Requests that would be sent.
    pub requests: u64,
    /// Tokens of the requests by the rule of thumb, and of replies of maximum length.
    pub likely: Usage,
    /// The maximum number of tokens that they can have.
    pub most: Usage,
    /// The cost of `likely`, if the price is known.
    pub likely_cost: Option<Dollars>,
    /// The cost of `most`, if the price is known.
    pub most_cost: Option<Dollars>,
}

/// Requests that were sent, and their cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Spending {
    /// The number of attempts: every request that was sent or could not be sent.
    pub attempts: u64,
    /// The number of attempts that the server may charge for.
    pub requests: u64,
    /// Tokens as reported by the server. If it reports none, the maximum that the request and its
    /// reply can have.
    pub tokens: Usage,
    /// The number of attempts whose tokens the server did not report, for example because the
    /// connection broke or timed out.
    pub unreported: u64,
    /// Their cost; 0 without a price.
    pub cost: Dollars,
}

/// A cost limit, and the amount spent so far.
#[derive(Debug)]
pub struct Budget {
    model: String,
    price: Option<Price>,
    max: Option<Dollars>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    spent: Spending,
    /// The maximum cost of the requests in flight.
    reserved: Dollars,
}

impl Budget {
    /// Returns a budget for a model.
    ///
    /// # Errors
    /// If there is a limit but no price, because the limit could not be enforced.
    pub fn new(model: &str, prices: &Prices, max: Option<Dollars>) -> Result<Budget> {
        let price = prices.get(model);
        if max.is_some() && price.is_none() {
            return Err(Error::NoPrice { model: model.to_owned() });
        }
        Ok(Budget { price, max, ..Budget::unlimited(model) })
    }

    /// Returns a budget without a limit and without prices.
    pub fn unlimited(model: &str) -> Budget {
        Budget { model: model.to_owned(), price: None, max: None, state: Mutex::default(), changed: Notify::new() }
    }

    /// Returns the price of the model, if it is known.
    pub fn price(&self) -> Option<Price> {
        self.price
    }

    /// Returns the requests and costs so far.
    pub fn spending(&self) -> Spending {
        self.state().spent
    }

    /// Returns the estimated cost of requests.
    pub fn estimate(&self, requests: impl IntoIterator<Item = impl Borrow<Request>>) -> Estimate {
        let (mut count, mut likely, mut most) = (0, Usage::default(), Usage::default());
        for request in requests {
            let request = request.borrow();
            count += 1;
            let worst = self.worst(request);
            let pictures = request.pictures() * self.price.and_then(|price| price.tokens_per_picture).unwrap_or(0);
            likely.input += request.text_bytes().div_ceil(BYTES_PER_TOKEN) + pictures;
            most.input += worst.input;
            likely.output += worst.output;
            most.output += worst.output;
        }
        let cost = |usage| self.price.map(|price| price.cost(usage));
        Estimate { requests: count, likely, most, likely_cost: cost(likely), most_cost: cost(most) }
    }

    /// Returns the maximum number of tokens of a request and its reply. A token of a byte-level
    /// vocabulary has at least one byte, so there are no more tokens than bytes.
    fn worst(&self, request: &Request) -> Usage {
        let pictures = request.pictures() * self.price.and_then(|price| price.tokens_per_picture).unwrap_or(0);
        let marks = TOKENS_PER_MESSAGE * (request.messages.len() as u64 + 1);
        Usage { input: request.text_bytes() + marks + pictures, output: u64::from(request.max_tokens) }
    }

    /// Reserves the maximum cost of a request. If it exceeds the limit only because of requests in
    /// flight, waits for them.
    pub(crate) async fn reserve(&self, request: &Request) -> Result<Reservation<'_>> {
        let needs_tokens = self.max.is_some() && request.pictures() > 0;
        if needs_tokens && self.price.and_then(|price| price.tokens_per_picture).is_none() {
            return Err(Error::NoPictureTokens { model: self.model.clone() });
        }
        let worst = self.worst(request);
        let cost = self.price.map_or(Dollars(0), |price| price.cost(worst));
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                let spent = state.spent.cost;
                let total = spent.0.saturating_add(state.reserved.0).saturating_add(cost.0);
                match self.max {
                    Some(max) if total > max.0 => {
                        if state.reserved.0 == 0 {
                            return Err(Error::Budget { spent, max, needed: cost });
                        }
                    }
                    _ => {
                        state.reserved.0 += cost.0;
                        state.spent.attempts += 1;
                        return Ok(Reservation { budget: self, worst, cost, sent: false });
                    }
                }
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reserved amount for one attempt. An attempt that was sent but ends without a report counts
/// with the whole amount.
pub(crate) struct Reservation<'a> {
    budget: &'a Budget,
    worst: Usage,
    cost: Dollars,
    sent: bool,
}

impl Reservation<'_> {
    /// Sets whether the server may charge for the attempt.
    pub(crate) fn sent(&mut self, sent: bool) {
        self.sent = sent;
    }

    /// Counts the reported tokens, or the maximum if none are reported, and returns them.
    pub(crate) fn settle(mut self, reported: Option<Usage>) -> Usage {
        let usage = reported.unwrap_or(self.worst);
        self.sent = false;
        self.count(usage, reported.is_none());
        usage
    }

    fn count(&self, usage: Usage, is_unreported: bool) {
        let cost = self.budget.price.map_or(Dollars(0), |price| price.cost(usage));
        let mut state = self.budget.state();
        state.spent.requests += 1;
        state.spent.tokens.input += usage.input;
        state.spent.tokens.output += usage.output;
        state.spent.unreported += u64::from(is_unreported);
        state.spent.cost.0 = state.spent.cost.0.saturating_add(cost.0);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.sent {
            self.count(self.worst, true);
        }
        self.budget.state().reserved.0 -= self.cost.0;
        self.budget.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, Role};

    fn request(text: &str, max_tokens: u32) -> Request {
        let messages = vec![Message::text(Role::User, text)];
        Request { messages, max_tokens, temperature: 0.0, seed: None, schema: None }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn budget(max: f64) -> Budget {
        // 100 dollars per million tokens: a hundredth of a cent per token.
        let prices = Prices::parse("[m]\ninput = 100.0\noutput = 100.0\n").unwrap();
        Budget::new("m", &prices, Dollars::new(max)).unwrap()
    }

    #[test]
    fn prices_are_exact() {
        let prices = Prices::parse("['gpt-4o-mini']\ninput = 0.15\noutput = 0.6\n").unwrap();
        let cost = prices.get("gpt-4o-mini").unwrap().cost(Usage { input: 1_000_000, output: 500_000 });
        assert_eq!((cost, cost.to_string().as_str()), (Dollars::new(0.45).unwrap(), "$0.450000"));
        assert_eq!(Dollars::new(12.345).unwrap().to_string(), "$12.35");
    }

    #[test]
    fn wrong_prices_are_named() {
        for (text, told) in [
            ("[m]\ninput = -1.0\noutput = 1.0", "input of m is -1"),
            ("[m]\ninput = 1.0\noutput = nan", "output of m is NaN"),
            ("[m]\ninput = 1.0", "missing field `output`"),
            ("[m]\ninput = 1.0\noutput = 1.0\nimages = 3", "unknown field `images`"),
        ] {
            let error = Prices::parse(text).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        assert!(Dollars::new(f64::INFINITY).is_none());
    }

    #[test]
    fn a_limit_needs_a_price() {
        let error = Budget::new("m", &Prices::default(), Dollars::new(1.0)).unwrap_err();
        assert!(error.to_string().contains("[\"m\"]\ninput = 0.0"), "{error}");
        assert!(Budget::new("m", &Prices::default(), None).is_ok());
    }

    #[test]
    fn pictures_need_their_tokens_under_a_limit() {
        let mut request = request("a", 1);
        request.messages[0].parts.push(crate::Part::Picture("data:".to_owned()));
        let error = block_on(budget(1.0).reserve(&request)).err().unwrap();
        assert!(matches!(error, Error::NoPictureTokens { .. }), "{error}");
        let prices = Prices::parse("[m]\ninput = 1.0\noutput = 1.0\ntokens_per_picture = 1000").unwrap();
        let budget = Budget::new("m", &prices, Dollars::new(1.0)).unwrap();
        assert_eq!(budget.estimate([&request]).most.input, 1 + 32 + 1000);
    }

    #[test]
    fn what_is_in_flight_counts_with_the_worst_case() {
        // A request has at most 8 + 32 + 60 = 100 tokens, which cost a cent; two and a half fit.
        let budget = budget(0.025);
        let request = request("12345678", 60);
        block_on(async {
            let mut first = budget.reserve(&request).await.unwrap();
            let second = budget.reserve(&request).await.unwrap();
            first.sent(true);
            let third = budget.reserve(&request);
            let settle = async {
                assert_eq!(first.settle(Some(Usage { input: 10, output: 10 })), Usage { input: 10, output: 10 });
            };
            let (third, ()) = tokio::join!(third, settle);
            let third = third.expect("the first came cheaper than it could have");
            assert_eq!(budget.spending().cost, Dollars::new(0.002).unwrap());
            drop(second);
            third.settle(None);
            assert_eq!(budget.spending().cost, Dollars::new(0.012).unwrap());
            let mut lost = budget.reserve(&request).await.unwrap();
            lost.sent(true);
            drop(lost);
            let spending = budget.spending();
            assert_eq!((spending.requests, spending.unreported), (3, 2));
            let error = budget.reserve(&request).await.err().unwrap();
            let told = "$0.022000 of $0.025000 are spent and the next request may cost $0.010000";
            assert!(error.to_string().starts_with(told), "{error}");
        });
    }

    #[test]
    fn estimates_tell_the_likely_and_the_most() {
        let budget = budget(1.0);
        let estimate = budget.estimate([&request("12345678", 60), &request("12345678", 60)]);
        assert_eq!(estimate.likely, Usage { input: 4, output: 120 });
        assert_eq!(estimate.most, Usage { input: 80, output: 120 });
        assert_eq!((estimate.requests, estimate.most_cost), (2, Dollars::new(0.02)));
        assert_eq!(budget.spending(), Spending::default());
    }
}
