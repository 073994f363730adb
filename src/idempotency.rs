//! At-least-once deliveries, handled effectively once.
//!
//! The service sends a delivery again that is not acknowledged, for 24 hours, and may send one
//! twice. An [`IdempotencyStore`] remembers which were handled, by their
//! [idempotency key](crate::Delivery::idempotency_key), and lets one caller at a time handle each:
//!
//! - [`claim`](IdempotencyStore::claim) a key for some time, its *lease*: a process that dies in the
//!   middle gives its claim up by doing nothing;
//! - [`complete`](IdempotencyStore::complete) the claim once the delivery is handled: the key is
//!   done, and remembered;
//! - or [`release`](IdempotencyStore::release) it: the next attempt is handled at once.
//!
//! A claim has a *fencing token*. Who takes longer than the lease may find that another has claimed
//! the key since, and can then neither complete nor release that one's claim.
//!
//! [`Receiver`](crate::Receiver) does all of it. What remains is the moment between the effect of a
//! handler and its completion: whoever dies there has handled, and will handle again. Where the
//! effect is in the same database as the store, let one transaction do both: see
//! `SqliteStore::complete_in` and `PostgresStore::complete_in`.
//!
//! | store | feature | for | survives |
//! |---|---|---|---|
//! | [`MemoryStore`] | `receiver` | one process | nothing |
//! | `SqliteStore` | `sqlite` | one machine | the process, the machine |
//! | `PostgresStore` | `postgres` | several machines | what the server survives |
//! | `RedisStore` | `redis` | several machines | what the server is configured to survive |

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// What a method of an [`IdempotencyStore`] returns: a future in a box, so that a store can be a
/// trait object.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Remembers which deliveries were handled, and which are being handled.
///
/// All three operations are atomic: of any number of concurrent callers, in however many
/// processes, one gets [`ClaimOutcome::New`] for a key.
pub trait IdempotencyStore: Send + Sync + 'static {
    /// Claims a key, 1 to 512 bytes of visible ASCII, for the time of the lease, unless it is done
    /// or another's.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store can't be asked: whether the key is new is not known, and the
    /// delivery has to come again.
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome>;

    /// Marks the key of a claim as done, and remembers it for `retention` at least.
    ///
    /// True where the key is done by this claim, also after its lease and when called again; false
    /// where another claim holds the key or has completed it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store can't be asked. It may have completed the claim all the same.
    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool>;

    /// Gives a claim up, so that the next attempt can claim the key at once. Does nothing where
    /// another claim holds the key, or the key is done.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the store can't be asked. The lease then ends by itself.
    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()>;
}

/// A store that is chosen when the program runs.
impl IdempotencyStore for Arc<dyn IdempotencyStore> {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        (**self).claim(key, lease)
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        (**self).complete(claim, retention)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        (**self).release(claim)
    }
}

/// What [`IdempotencyStore::claim`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The key is new, or its last claim was released or outlived its lease: handle the delivery.
    New(Claim),
    /// Another claim holds the key.
    InFlight {
        /// Until that one's lease ends; it may complete or release before.
        remaining: Duration,
    },
    /// The key is done.
    Done,
}

/// The right to handle a delivery, until the end of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "complete it or release it: until its lease ends, nobody else can claim its key"]
pub struct Claim {
    key: String,
    fencing_token: i64,
}

impl Claim {
    /// For stores: a claim on a key. The token of each claim on a key is larger than that of the
    /// one before.
    pub fn new(key: impl Into<String>, fencing_token: i64) -> Self {
        Self {
            key: key.into(),
            fencing_token,
        }
    }

    /// The key that is claimed.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Larger than that of any claim on this key before. Give it to other systems that a handler
    /// writes to, for that they can refuse a late finisher.
    #[must_use]
    pub const fn fencing_token(&self) -> i64 {
        self.fencing_token
    }
}

/// Why a store could not be asked: it can't be reached, takes too long, or is full.
#[derive(Debug)]
pub struct StoreError(Box<dyn StdError + Send + Sync>);

impl StoreError {
    /// For stores: the error of what is underneath.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// With all sources: the errors of databases say what they are about in those.
impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the idempotency store can't be used: {}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// A token after `last`: the time in microseconds, so that tokens grow also where what was last is
/// no longer known.
fn fencing_token(last: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    now.max(last.saturating_add(1))
}
