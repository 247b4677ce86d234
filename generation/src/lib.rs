//! Texts written by language models.

mod cache;
mod client;
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
pub mod wordings;

pub use cache::Cache;
pub use client::{Client, Completion};
pub use endpoint::{Endpoint, EndpointConfig};
pub use error::Error;
pub use language::Language;
pub use price::{Budget, Dollars, Estimate, Price, Prices, Spending};
pub use request::{Digest, Finish, Message, Part, Reply, Request, Role, Schema, Usage, data_url};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
