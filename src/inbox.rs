//! Deliveries that are stored durably, answered within milliseconds, and handled later.
//!
//! Google waits for an answer a few seconds only, and disables what keeps failing. So an [`Inbox`] takes a
//! delivery over: [`accept`](Inbox::accept) verifies it, remembers its key and stores it in one durable
//! commit, and says what to answer. A [`Worker`] calls your handler later, as often as it takes.
//!
//! ```
//! use axum::{Router, body::Bytes, extract::State, http::request::Parts, response::Response, routing};
//! use gemini_webhooks::{Inbox, Verifier, store::SqliteStore};
//!
//! fn endpoint(verifier: Verifier) -> Result<(Router, Inbox), Box<dyn std::error::Error>> {
//!     let inbox = Inbox::builder(verifier, SqliteStore::open("webhooks.db")?).build()?;
//!     let route = Router::new().route("/webhook", routing::post(webhook));
//!     Ok((route.with_state(inbox.clone()), inbox))
//! }
//! async fn webhook(State(inbox): State<Inbox>, parts: Parts, body: Bytes) -> Response {
//!     inbox.accept(&parts, &body).await.response(Default::default())
//! }
//! ```
//!
//! In a task of the same process or of another:
//!
//! ```
//! use gemini_webhooks::{
//!     Inbox,
//!     receiver::{HandlerError, Received},
//! };
//!
//! async fn work(inbox: Inbox, shutdown: impl Future<Output = ()>) {
//!     inbox.worker().concurrency(8).run(handle, shutdown).await
//! }
//!
//! async fn handle(received: Received<'static>) -> Result<(), HandlerError> {
//!     println!("{}", received.event()?.event_type());
//!     Ok(())
//! }
//! ```
//!
//! # Exactly once
//!
//! A handler may be called more than once for a delivery: after an error, and after a crash. Where its
//! effect is in the store's own database, one transaction can hold the effect and the end of the delivery,
//! with the same calls as under a [`Receiver`](crate::Receiver): `SqliteStore::complete_with`, or
//! `PostgresStore::begin` and `complete`, with [`Received::claim`]. Elsewhere, give the other system
//! [`Delivery::idempotency_key`](crate::Delivery::idempotency_key) to recognize a repetition by.
//!
//! # Traces
//!
//! With the feature `tracing`, [`accept`](Inbox::accept) traces like a
//! [`Receiver`](crate::receiver#traces). Each attempt of a worker has a span `gemini_webhook_attempt` at level `INFO`
//! with the fields `id`, `scheme` and `type` of the delivery and the number of the `attempt`, and when it
//! ends, an event `ended` with its `outcome` and the `cause`: at level `INFO` for `processed`, `WARN` for
//! `retried` and `lease_lost`, `ERROR` for `dead`. A store that fails is an event at level `ERROR`.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(doc)]
use crate::receiver::Received;
use crate::{
    attempt::IntoAttempt,
    clock::Clock,
    delivery::Delivery,
    error::ConfigError,
    receiver::{Endpoint, HandlerError, Outcome, Reply},
    store::StoreError,
    verifier::SharedVerifier,
};

mod attempt;
mod crew;
mod news;
mod store;
mod worker;

use news::News;
pub use store::{
    Acceptance, Change, Dead, DeadLetter, Entry, Fate, InboxStore, NewEntry, Round, Stats, Taken,
};
pub use worker::Worker;

/// Stores deliveries durably and answers at once; [workers](Self::worker) handle them later.
///
/// Any HTTP server and any async runtime will do. Clones are cheap and share everything. See the
/// [module](self) for an example.
///
/// | the delivery is | answered |
/// |---|---|
/// | stored | [`Accepted`](Outcome::Accepted): 200 |
/// | stored before | [`Duplicate`](Outcome::Duplicate): 200 |
/// | authentic, but no event, or with an expired job token: stored as a dead letter | [`SetAside`](Outcome::SetAside): 200 |
/// | being handled by a [`Receiver`](crate::Receiver) with the same store and namespace | [`InFlight`](Outcome::InFlight): 409 |
/// | not authentic | [`Refused`](Outcome::Refused) |
/// | not stored | [`StoreUnavailable`](Outcome::StoreUnavailable): 503 |
#[derive(Clone)]
pub struct Inbox(Arc<Configuration>);

struct Configuration {
    endpoint: Endpoint,
    namespace: Arc<str>,
    store: Box<dyn InboxStore>,
    dead_letter_retention: Duration,
    /// Tells the workers of this process that something was stored.
    news: News,
}

impl Inbox {
    /// The time for which dead letters are kept by default: 30 days.
    pub const DEFAULT_DEAD_LETTER_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Starts the configuration of an inbox for what this verifier accepts, in this store.
    pub fn builder(verifier: impl Into<SharedVerifier>, store: impl InboxStore) -> InboxBuilder {
        InboxBuilder(Configuration {
            endpoint: Endpoint::new(verifier.into(), true),
            namespace: "".into(),
            store: Box::new(store),
            dead_letter_retention: Self::DEFAULT_DEAD_LETTER_RETENTION,
            news: News::default(),
        })
    }

    /// Verifies and stores a delivery: `attempt` and `body` as for
    /// [`Verifier::verify`](crate::Verifier::verify).
    ///
    /// Where the reply is a 2xx, the delivery is durable. If the future is dropped, as servers do when a
    /// client hangs up, the delivery may be stored all the same.
    pub async fn accept<'a>(&self, attempt: impl IntoAttempt<'a>, body: &'a [u8]) -> Reply<'a> {
        let process = async |_: Clock, mut delivery: Delivery<'a>| {
            let outcome = self.store(&mut delivery).await;
            (outcome, delivery)
        };
        self.0.endpoint.receive(attempt, body, process).await
    }

    async fn store(&self, delivery: &mut Delivery<'_>) -> Outcome {
        let refusal = match delivery.take_expired() {
            Some(expired) => Some(HandlerError::permanent(expired)),
            None => delivery.event().err().map(HandlerError::from),
        };
        let envelope = match delivery.envelope() {
            Ok(envelope) => envelope,
            Err(error) => return Outcome::StoreUnavailable(StoreError::new(error)),
        };
        let entry = NewEntry {
            namespace: Arc::clone(&self.0.namespace),
            key: self.0.endpoint.key(delivery).into(),
            retention: self.0.endpoint.retention(delivery),
            envelope,
            payload: delivery.payload().to_vec(),
            dead: refusal.as_ref().map(|refusal| Dead {
                cause: attempt::cause(refusal),
                retention: self.0.dead_letter_retention,
            }),
        };
        match self.0.store.accept(entry).await {
            Ok(Acceptance::Stored) => {
                self.0.news.tell();
                refusal.map_or(Outcome::Accepted, Outcome::SetAside)
            }
            Ok(Acceptance::Duplicate) => Outcome::Duplicate,
            Ok(Acceptance::InFlight { remaining }) => Outcome::InFlight { remaining },
            Err(error) => Outcome::StoreUnavailable(error),
        }
    }

    /// Returns a worker of this inbox with the default settings. Any number of them may run, in any number
    /// of processes.
    pub fn worker(&self) -> Worker {
        Worker::new(self.clone())
    }

    /// Counts the deliveries by their state, and returns the age of the oldest. It looks at each: a
    /// million take about a tenth of a second.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        self.0.store.stats(&self.0.namespace).await
    }

    /// Returns at most `limit` dead letters, in the order in which they were received, from the one after
    /// the id `after`: 0 for the first page, and then the last id of the page before. At most 1,000 are
    /// returned.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable.
    pub async fn dead_letters(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let limit = limit.min(1000);
        self.0
            .store
            .dead_letters(&self.0.namespace, after, limit)
            .await
    }

    /// Makes a dead letter due again, with all its attempts. Returns false if there is none with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable.
    pub async fn retry(&self, id: i64) -> Result<bool, StoreError> {
        let found = self.0.store.retry(&self.0.namespace, id).await?;
        self.0.news.tell();
        Ok(found)
    }

    /// Removes a dead letter. Returns false if there is none with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable.
    pub async fn discard(&self, id: i64) -> Result<bool, StoreError> {
        self.0.store.discard(&self.0.namespace, id).await
    }

    /// Checks that the store can be used now, for readiness probes.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with the reason.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.0.store.check().await?;
        // There is none after the last id. This prepares the inbox, where that is still to be done.
        self.dead_letters(i64::MAX, 1).await.map(drop)
    }
}

/// Configures an [`Inbox`].
#[derive(Debug)]
#[must_use]
pub struct InboxBuilder(Configuration);

impl InboxBuilder {
    /// Sets the namespace, at most 128 visible ASCII characters without a slash: for several inboxes in one
    /// database, each of which takes the deliveries of its own.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.0.endpoint.namespace = namespace.into();
        self
    }

    /// Sets the least time to remember what was accepted. The default, and the least, is
    /// [`Delivery::retention`], a little more than a day. More than 10 years count as 10 years.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.0.endpoint.retain(retention);
        self
    }

    /// Sets the time for which dead letters are kept: 30 days by default.
    pub fn dead_letter_retention(mut self, retention: Duration) -> Self {
        self.0.dead_letter_retention = retention;
        self
    }

    /// Builds the inbox.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidNamespace`].
    pub fn build(mut self) -> Result<Inbox, ConfigError> {
        self.0.endpoint.validate()?;
        self.0.namespace = self.0.endpoint.namespace.as_str().into();
        Ok(Inbox(Arc::new(self.0)))
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration")
            .field("endpoint", &self.endpoint)
            .field("dead_letter_retention", &self.dead_letter_retention)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&self.0).finish()
    }
}
