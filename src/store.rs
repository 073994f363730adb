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
//! `SqliteStore::complete_with` and `PostgresStore`.
//!
//! | store | feature | for | survives |
//! |---|---|---|---|
//! | [`MemoryStore`] | `receiver` | one process | nothing |
//! | `SqliteStore` | `sqlite` | one machine | the process, the machine |
//! | `PostgresStore` | `postgres` | several machines | what the server survives |
//! | `RedisStore` | `redis` | several machines | what the server is configured to survive |

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{clock::Clock, redacted};

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
// Not `redis`, which is the client's.
#[cfg(feature = "redis")]
#[path = "store/redis.rs"]
mod redis_store;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(all(feature = "tls", any(feature = "postgres", feature = "redis")))]
mod tls;

pub use crate::boxed::{BoxError, BoxFuture};
/// The client whose types [`PostgresStore`] takes and returns.
#[cfg(feature = "postgres")]
pub use deadpool_postgres;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresStore, PostgresTransaction};
/// The client whose types [`RedisStore`] takes.
#[cfg(feature = "redis")]
pub use redis;
#[cfg(feature = "redis")]
pub use redis_store::RedisStore;
/// The client whose types [`SqliteStore`] takes and returns.
#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
/// The client whose types [`PostgresStore`] takes and returns.
#[cfg(feature = "postgres")]
pub use tokio_postgres;

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

    /// Checks that the store can be used now, for readiness probes.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with the reason.
    fn check(&self) -> StoreFuture<'_, ()>;
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

            fn check(&self) -> StoreFuture<'_, ()> {
                (**self).check()
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

/// The right to handle a delivery, until the end of a lease. Clones are the same claim.
#[derive(Clone)]
#[must_use = "complete it or release it: until its lease ends, nobody else can claim its key"]
pub struct Claim {
    key: Arc<str>,
    fencing_token: i64,
    retention: Duration,
    /// The id of the row, if it is of an inbox.
    #[cfg(feature = "inbox")]
    entry: Option<i64>,
    fate: Arc<Fate>,
}

/// The end of the transaction in which a handler completes its claim, for all clones.
#[derive(Default)]
struct Fate {
    completed: AtomicBool,
    /// It was dropped before that.
    forgotten: AtomicBool,
}

impl Claim {
    /// Builds a claim on a key: for stores. Each claim on a key has a larger fencing token than the
    /// one before.
    pub fn new(key: impl Into<Arc<str>>, fencing_token: i64) -> Self {
        Self {
            key: key.into(),
            fencing_token,
            retention: KEEP,
            #[cfg(feature = "inbox")]
            entry: None,
            fate: Arc::default(),
        }
    }

    /// Builds a claim on an entry of an inbox: for stores. It is completed by removing the entry.
    #[cfg(feature = "inbox")]
    pub fn of_entry(id: i64, key: impl Into<Arc<str>>, fencing_token: i64) -> Self {
        Self {
            entry: Some(id),
            ..Self::new(key, fencing_token)
        }
    }

    /// Returns the id of the entry of an inbox that is claimed, and `None` for a key.
    #[cfg(feature = "inbox")]
    #[must_use]
    pub const fn entry(&self) -> Option<i64> {
        self.entry
    }

    /// Sets the time for which the key is remembered once it is done: 24 hours and 10 minutes by
    /// default. More than 10 years count as 10 years.
    pub fn retain_for(self, retention: Duration) -> Self {
        Self { retention, ..self }
    }

    /// The key that is claimed.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns a number that is larger than that of each earlier claim on this key. Give it to other
    /// systems that a handler writes to, so that they can refuse a late finisher.
    #[must_use]
    pub const fn fencing_token(&self) -> i64 {
        self.fencing_token
    }

    /// Returns the time for which the key is remembered once it is done.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        self.retention
    }

    /// Records that a transaction of the handler's own has completed the claim and was committed, so
    /// that [`Receiver`](crate::Receiver) does not complete it again.
    pub fn mark_completed(&self) {
        self.fate.completed.store(true, Ordering::SeqCst);
    }

    /// Records that a transaction which was to complete the claim was dropped, and so rolled back.
    #[cfg(feature = "postgres")]
    fn mark_forgotten(&self) {
        self.fate.forgotten.store(true, Ordering::SeqCst);
    }

    /// Returns true if the effect of a handler was rolled back without its asking for it.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.fate.forgotten.load(Ordering::SeqCst) && !self.is_completed()
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.fate.completed.load(Ordering::SeqCst)
    }
}

/// Compares key and fencing token.
impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.fencing_token) == (&other.key, other.fencing_token)
    }
}

impl Eq for Claim {}

/// Leaves the key out: the nonce of a job token may be a part of it.
impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("fencing_token", &self.fencing_token)
            .finish_non_exhaustive()
    }
}

/// The failure of a store. The cause is in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<BoxError>,
}

/// The kind of a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// An address, a TLS mode or a schema can't be used. Waiting does not help.
    #[error("the store is misconfigured")]
    Configuration,
    /// The store can't be reached, fails, or is full.
    #[error("the store is unavailable")]
    Unavailable,
    /// The store did not answer in time. The operation may have happened all the same.
    #[error("the store did not answer in time")]
    TimedOut,
    /// Too many operations already wait for the store. This one has not happened.
    #[error("too many operations wait for the store")]
    QueueFull,
    /// The claim is no longer held: its lease ended, and another claim holds the key or has completed
    /// it. Nothing was committed.
    #[error("the lease was lost to another claim")]
    LeaseLost,
}

impl StoreError {
    /// Builds an error of the kind [`Unavailable`](StoreErrorKind::Unavailable). A source that shows
    /// the query or the password of an address is replaced by its text without them.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self::with_source(StoreErrorKind::Unavailable, source)
    }

    /// Builds an error of a kind, with its cause. A source that shows the query or the password of an
    /// address is replaced by its text without them.
    pub fn with_source(kind: StoreErrorKind, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            source: Some(redacted::error(source.into())),
        }
    }

    /// Builds an error of the kind [`Configuration`](StoreErrorKind::Configuration).
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    fn refused(source: impl Into<BoxError>) -> Self {
        Self::with_source(StoreErrorKind::Configuration, source)
    }

    /// Returns the same error for another caller of the same commit, with the text of its cause.
    #[cfg(feature = "sqlite")]
    fn copy(&self) -> Self {
        let source = self.source.as_ref();
        Self {
            kind: self.kind,
            source: source.map(|source| source.to_string().into()),
        }
    }

    /// Returns the kind of the error.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl From<StoreErrorKind> for StoreError {
    fn from(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }
}

/// The time to keep the fencing token of a claim that was not completed, after its lease: as long as
/// the service retries, and both sides of a default window.
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
