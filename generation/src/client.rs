//! Sends requests with stored replies, a budget, and a limit of concurrent requests.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;

use crate::price::{Budget, Estimate, Price, Spending};
use crate::request::Digest;
use crate::{Cache, Endpoint, Error, Reply, Request, Result, Usage};

/// The number of consecutive requests that may fail because of the server before no more are sent.
const FAILURES: u32 = 8;

/// A reply with its provenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The digest of the request.
    pub digest: Digest,
    /// The model's reply.
    pub reply: Reply,
    /// The tokens of the request and the reply.
    pub usage: Usage,
    /// Whether it was already stored, so that nothing was sent.
    pub is_kept: bool,
}

/// A lock of one request. Whoever has it may send the request.
type Lock = Arc<tokio::sync::Mutex<()>>;

/// A call that waits for a reply, or asks for it. The last one of equal calls removes their lock,
/// also if it is cancelled.
struct Turn<'a> {
    client: &'a Client,
    digest: Digest,
    lock: Lock,
}

impl<'a> Turn<'a> {
    fn of(client: &'a Client, digest: Digest) -> Turn<'a> {
        let lock = Arc::clone(client.awaited().entry(digest).or_default());
        Turn { client, digest, lock }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut awaited = self.client.awaited();
        // The count changes only here and in `of`, both while the map is locked.
        drop(std::mem::take(&mut self.lock));
        if awaited.get(&self.digest).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            awaited.remove(&self.digest);
        }
    }
}

/// A client for a model that stays within a budget. With a cache it never sends the same request
/// twice.
#[derive(Debug)]
pub struct Client {
    model: String,
    endpoint: Option<Endpoint>,
    cache: Option<Cache>,
    budget: Budget,
    /// Locks of requests in flight, so that equal requests wait for the same reply.
    awaited: Mutex<BTreeMap<Digest, Lock>>,
    failures: AtomicU32,
}

impl Client {
    /// Returns a client for a server. Without a cache nothing is stored, and equal requests are
    /// sent again.
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

    /// Returns how much this client has sent and spent.
    pub fn spending(&self) -> Spending {
        self.budget.spending()
    }

    /// Returns the estimated cost of requests. Requests whose replies are stored cost nothing.
    pub fn estimate(&self, requests: impl IntoIterator<Item = impl Borrow<Request>>) -> Estimate {
        self.budget.estimate(requests.into_iter().filter(|request| !self.is_kept(request.borrow())))
    }

    fn is_kept(&self, request: &Request) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.contains(request.digest(&self.model)))
    }

    /// Returns the reply to a request: the stored one, or that of the server, which is stored
    /// before it is returned.
    ///
    /// # Errors
    /// Errors of the server, the network, the budget and the cache; see [`Error::is_for_all`].
    pub async fn complete(&self, request: &Request) -> Result<Completion> {
        let digest = request.digest(&self.model);
        if self.cache.is_none() {
            return self.send(request, digest).await;
        }
        let turn = Turn::of(self, digest);
        let _is_mine = turn.lock.lock().await;
        match self.kept(digest)? {
            Some(completion) => Ok(completion),
            None => self.send(request, digest).await,
        }
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeMap<Digest, Lock>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Nothing awaits between the last byte of the answer and here, so a received reply is
        // stored even if the future is dropped.
        if let Some(cache) = &self.cache {
            cache.keep(digest, request.neutral(&self.model), &reply, usage, endpoint.url())?;
        }
        Ok(Completion { digest, reply, usage, is_kept: false })
    }

    /// Returns an error that ends the run if the server fails every request. Otherwise every
    /// request would wait until its time limit.
    fn unless_all_fail(&self, error: Error) -> Error {
        if !error.is_of_server() {
            return error;
        }
        let count = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if count < FAILURES { error } else { Error::AllFail { count, source: Box::new(error) } }
    }

    /// Sends the requests of all items, at most `at_once` concurrently, and passes each outcome to
    /// `keep` as it arrives. A request is built only when it is sent, so that large images do not
    /// stay in memory.
    ///
    /// After an error that affects all requests, or an error of `keep`, no further request is sent.
    /// Requests in flight are still awaited, because they may have to be paid for.
    ///
    /// # Errors
    /// The first error of `keep`. Errors of requests are passed to `keep`.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;
    use crate::server::{Answer, Server};
    use crate::{EndpointConfig, Message, Role};

    fn request() -> Request {
        let messages = vec![Message::text(Role::User, "a")];
        Request { messages, max_tokens: 100, temperature: 0.0, seed: None, schema: None }
    }

    fn client(server: &Server, folder: &std::path::Path) -> Client {
        let config = EndpointConfig { pause: Duration::from_millis(1), ..EndpointConfig::new(&server.address, "m") };
        let endpoint = Endpoint::with_key_for_tests(config, "key");
        Client::new(endpoint, Some(Cache::open(folder).unwrap()), Budget::unlimited("m"))
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_failure_does_not_let_an_equal_request_overtake_the_one_that_waits() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(|number, _| {
            if number == 0 {
                return Answer::json(400, &json!({"error": {"message": "no"}}));
            }
            std::thread::sleep(Duration::from_millis(50));
            Answer::says("paid")
        });
        let client = client(&server, folder.path());
        let request = request();
        let first_then_again = async {
            client.complete(&request).await.unwrap_err();
            client.complete(&request).await
        };
        let (again, second) = block_on(futures::future::join(first_then_again, client.complete(&request)));
        assert_eq!((again.unwrap().is_kept, second.unwrap().is_kept), (true, false));
        assert_eq!(server.requests().len(), 2, "one failed and one was paid for");
        assert!(client.awaited().is_empty());
    }

    #[test]
    fn a_cancelled_request_leaves_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(|_, _| Answer::Silence);
        let client = client(&server, folder.path());
        let request = request();
        block_on(async {
            let mut waiting = (client.complete(&request).boxed_local(), client.complete(&request).boxed_local());
            assert!((&mut waiting.0).now_or_never().is_none() && (&mut waiting.1).now_or_never().is_none());
            drop(waiting.0);
            assert_eq!(client.awaited().len(), 1, "the other one still waits");
            drop(waiting.1);
        });
        assert!(client.awaited().is_empty());
    }
}
