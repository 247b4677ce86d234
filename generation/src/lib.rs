//! Texts written by language models: prompt wordings, captions and conversations, and a client that
//! stores every reply that was paid for.
//!
//! ```no_run
//! use lynxdata_generation::{Budget, Cache, Client, Dollars, Endpoint, EndpointConfig};
//! use lynxdata_generation::{Message, Prices, Request, Role};
//!
//! # async fn ask() -> lynxdata_generation::Result<()> {
//! let prices = Prices::read("prices.toml".as_ref())?;
//! let budget = Budget::new("gpt-4o-mini", &prices, Dollars::new(1.0))?;
//! let config = EndpointConfig {
//!     api_key_env: Some("OPENAI_API_KEY".to_owned()),
//!     ..EndpointConfig::new("https://api.openai.com/v1", "gpt-4o-mini")
//! };
//! let replies = Cache::open("replies".as_ref())?;
//! let client = Client::new(Endpoint::new(config)?, Some(replies), budget);
//! let messages = vec![Message::text(Role::User, "How many legs has a spider?")];
//! let request = Request { messages, max_tokens: 20, temperature: 0.0, seed: None, schema: None };
//! let completion = client.complete(&request).await?;
//! println!("{} ({} spent)", completion.reply.text, client.spending().cost);
//! # Ok(())
//! # }
//! ```
//!
//! The parts, in the order in which a request passes them:
//!
//! * [`wordings`] and [`texts`]: build the requests, and check replies with named rules;
//! * [`Client`]: combines stored replies, the budget, and a limit of concurrent requests;
//! * [`Cache`]: stores replies by the digest of their request, on disk before they are used;
//! * [`Budget`] and [`Prices`]: limit the cost. Requests in flight count with their maximum cost;
//! * [`Endpoint`]: one model on one server, with retries where they can help.
//!
//! The crate does not stream replies, use tools or batch files. It does not judge meaning: texts
//! that pass the rules still need a review by a person.

mod cache;
mod client;
mod dollars;
mod endpoint;
mod error;
mod language;
mod list;
mod price;
mod request;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
pub mod texts;
pub mod wordings;

pub use cache::Cache;
pub use client::{Client, Completion};
pub use dollars::Dollars;
pub use endpoint::{Endpoint, EndpointConfig};
pub use error::Error;
pub use language::Language;
pub use price::{Budget, Estimate, Price, Prices, Spending};
pub use request::{Digest, Finish, Message, Part, Reply, Request, Role, Schema, Usage, data_url};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
