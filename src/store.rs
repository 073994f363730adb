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

use std::{fmt, sync::Arc, time::Duration};

use crate::{clock::Clock, redacted};

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use crate::boxed::{BoxError, BoxFuture};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// The future that a method of an [`IdempotencyStore`] returns.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

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
    /// [`StoreError`] if the store is unavailable: whether the key is new is not known, and the
    /// delivery has to come again.
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome>;

    /// Marks the key of a claim as done, and remembers it for `retention` at least. More than 10 years
    /// count as 10 years.
    ///
    /// True where the key is done by this claim, also after its lease and when called again; false
    /// where another claim holds the key or has completed it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable. It may have completed the claim all the same.
    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool>;

    /// Gives a claim up, so that the next attempt can claim the key at once. Does nothing where
    /// another claim holds the key, or the key is done.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable. The lease then ends by itself.
    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()>;
}

/// A store behind a pointer, such as one that is chosen when the program runs.
macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<S: IdempotencyStore + ?Sized> IdempotencyStore for $pointer<S> {
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
    )*};
}

forward!(Arc, Box);

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
#[derive(Clone, PartialEq, Eq)]
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

/// Leaves the key out: the nonce of a job token may be a part of it.
impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("fencing_token", &self.fencing_token)
            .finish_non_exhaustive()
    }
}

/// The store is unavailable: it can't be reached, takes too long, or is full. The cause is in
/// [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[error("the store is unavailable")]
pub struct StoreError(#[source] BoxError);

impl StoreError {
    /// For stores: takes the error of what is underneath. An error that shows the query or the
    /// password of an address is replaced by its text without them.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(redacted::error(source.into()))
    }
}

/// The time to keep the fencing token of a claim that was not completed, after its lease: as long as
/// the service retries, and both sides of a default window.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
const KEEP: Duration = Duration::from_secs(24 * 60 * 60 + 600);

/// The longest time that each store can represent: 10 years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Returns a lease or a retention that each store can represent.
fn bounded(time: Duration) -> Duration {
    time.min(LONGEST)
}

/// Returns a token after `last`: the time in microseconds, so that tokens grow even where the last
/// one is no longer known.
fn fencing_token(clock: &Clock, last: i64) -> i64 {
    let now = i64::try_from(clock.since_epoch().as_micros()).unwrap_or(i64::MAX);
    now.max(last.saturating_add(1))
}
