//! Requests with everything around them: what was asked before, what may be spent, and how many at
//! once.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;

use crate::price::{Budget, Estimate, Price, Spending};
use crate::request::Digest;
use crate::{Cache, Endpoint, Error, Reply, Request, Result, Usage};

/// Requests that may fail one after another for reasons of the server before the rest is not sent.
const FAILURES: u32 = 8;

/// A reply with where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The digest of the request.
    pub digest: Digest,
    /// The model's reply.
    pub reply: Reply,
    /// The tokens of the request and the reply.
    pub usage: Usage,
    /// Whether it was kept from before, so that nothing was sent.
    pub is_kept: bool,
}

/// A model that is asked within a budget, and never twice the same.
#[derive(Debug)]
pub struct Client {
    model: String,
    endpoint: Option<Endpoint>,
    cache: Option<Cache>,
    budget: Budget,
    /// Requests whose reply is awaited: equal ones wait for it too.
    awaited: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    failures: AtomicU32,
}

impl Client {
    /// Returns a client of a server. Without a cache nothing is kept, and equal requests are sent
    /// again.
    pub fn new(endpoint: Endpoint, cache: Option<Cache>, budget: Budget) -> Client {
        Client::of(endpoint.model().to_owned(), Some(endpoint), cache, budget)
    }

    /// Returns a client that sends nothing: every reply comes from the cache.
    pub fn replay(model: &str, cache: Cache) -> Client {
        Client::of(model.to_owned(), None, Some(cache), Budget::unlimited(model))
    }

    fn of(model: String, endpoint: Option<Endpoint>, cache: Option<Cache>, budget: Budget) -> Client {
        Client { model, endpoint, cache, budget, awaited: Mutex::default(), failures: AtomicU32::new(0) }
    }

    /// Returns the model, as the server calls it.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Returns the price of the model, if it is known.
    pub fn price(&self) -> Option<Price> {
        self.budget.price()
    }

    /// Returns what was sent and spent by this client.
    pub fn spending(&self) -> Spending {
        self.budget.spending()
    }

    /// Returns what requests may come to, without those whose replies are kept.
    pub fn estimate(&self, requests: impl IntoIterator<Item = impl Borrow<Request>>) -> Estimate {
        self.budget.estimate(requests.into_iter().filter(|request| !self.is_kept(request.borrow())))
    }

    fn is_kept(&self, request: &Request) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.contains(request.digest(&self.model)))
    }

    /// Returns the reply to a request: the kept one, or that of the server, which is kept before it
    /// is returned.
    ///
    /// # Errors
    /// Those of the server and of the network, of the budget and of the cache; see
    /// [`Error::is_for_all`].
    pub async fn complete(&self, request: &Request) -> Result<Completion> {
        let digest = request.digest(&self.model);
        if self.cache.is_none() {
            return self.send(request, digest).await;
        }
        let turn = {
            let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(awaited.entry(digest).or_default())
        };
        let completion = {
            let _turn = turn.lock().await;
            match self.kept(digest)? {
                Some(completion) => Ok(completion),
                None => self.send(request, digest).await,
            }
        };
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        completion
    }

    fn kept(&self, digest: Digest) -> Result<Option<Completion>> {
        let kept = self.cache.as_ref().map_or(Ok(None), |cache| cache.get(digest))?;
        Ok(kept.map(|(reply, usage)| Completion { digest, reply, usage, is_kept: true }))
    }

    async fn send(&self, request: &Request, digest: Digest) -> Result<Completion> {
        let Some(endpoint) = &self.endpoint else {
            let path = self.cache.as_ref().map(|cache| cache.path().to_owned()).unwrap_or_default();
            return Err(Error::NotKept { digest: digest.to_string(), path });
        };
        let (reply, usage) = match endpoint.ask(request, digest, &self.budget).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.unless_all_fail(error)),
        };
        self.failures.store(0, Ordering::Relaxed);
        // From the last byte of the answer to here nothing waits, so what came is kept even if the
        // work is dropped.
        if let Some(cache) = &self.cache {
            cache.keep(digest, request.neutral(&self.model), &reply, usage, endpoint.url())?;
        }
        Ok(Completion { digest, reply, usage, is_kept: false })
    }

    /// Ends the work if a server fails every request, instead of every request waiting for its
    /// time to run out.
    fn unless_all_fail(&self, error: Error) -> Error {
        if !error.is_of_server() {
            return error;
        }
        let count = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if count < FAILURES { error } else { Error::AllFail { count, source: Box::new(error) } }
    }

    /// Asks for all items, so many at once, and hands over each outcome as it comes. A request is
    /// made when its turn comes, so that large pictures are not held.
    ///
    /// After an error for all, and after one of `keep`, no request begins, and those that are on
    /// their way are waited for, as they may have to be paid.
    ///
    /// # Errors
    /// The first error of `keep`. Those of requests go to `keep`.
    pub async fn complete_all<T, E>(
        &self,
        items: impl IntoIterator<Item = T>,
        at_once: usize,
        request: impl Fn(&T) -> Result<Request>,
        mut keep: impl FnMut(T, Result<Completion>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let is_over = Cell::new(false);
        let open = items.into_iter().take_while(|_| !is_over.get());
        let ask = |item: T| {
            let request = request(&item);
            async move {
                let outcome = match request {
                    Ok(request) => self.complete(&request).await,
                    Err(error) => Err(error),
                };
                (item, outcome)
            }
        };
        let mut outcomes = futures::stream::iter(open).map(ask).buffer_unordered(at_once.max(1));
        let mut kept = Ok(());
        while let Some((item, outcome)) = outcomes.next().await {
            if outcome.as_ref().is_err_and(Error::is_for_all) {
                is_over.set(true);
            }
            if let Err(error) = keep(item, outcome) {
                is_over.set(true);
                kept = kept.and(Err(error));
            }
        }
        kept
    }
}
