use std::{fmt, sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::{
    delivery::Delivery,
    store::{Claim, IdempotencyStore, StoreFuture},
};

/// Stores the deliveries of an [`Inbox`](super::Inbox). Each operation is atomic, and durable once it has
/// returned.
pub trait InboxStore: IdempotencyStore {
    /// Stores a delivery and completes its key, unless that is done or another's.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) if the store is unavailable. It may have stored the
    /// delivery all the same.
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance>;

    /// Makes the changes of a worker, then takes entries that are due: those that wait no longer, and
    /// those whose lease has ended. The ones that are due longest come first.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) if the store is unavailable. It may have done so all the
    /// same.
    fn round(&self, round: Round) -> StoreFuture<'_, Taken>;

    /// Counts the entries of a namespace.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) if the store is unavailable.
    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats>;

    /// Returns at most `limit` dead letters with ids after `after`, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) if the store is unavailable.
    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>>;

    /// Makes a dead letter due, as if it was never attempted. Returns false if there is none with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) if the store is unavailable.
    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool>;

    /// Removes a dead letter. Returns false if there is none with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError`](crate::store::StoreError) if the store is unavailable.
    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool>;
}

/// A store behind a pointer, such as one that is chosen when the program runs.
macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<S: InboxStore + ?Sized> InboxStore for $pointer<S> {
            fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
                (**self).accept(entry)
            }

            fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
                (**self).round(round)
            }

            fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
                (**self).stats(namespace)
            }

            fn dead_letters<'a>(
                &'a self,
                namespace: &'a str,
                after: i64,
                limit: usize,
            ) -> StoreFuture<'a, Vec<DeadLetter>> {
                (**self).dead_letters(namespace, after, limit)
            }

            fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
                (**self).retry(namespace, id)
            }

            fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
                (**self).discard(namespace, id)
            }
        }
    )*};
}

forward!(Arc, Box);

/// A delivery that is to be stored.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewEntry {
    /// The namespace of the inbox.
    pub namespace: Arc<str>,
    /// The key by which the delivery is recognized, 1 to 512 bytes of visible ASCII.
    pub key: Arc<str>,
    /// The least time to remember the key.
    pub retention: Duration,
    /// What is known of the delivery beside its payload, as JSON.
    pub envelope: String,
    /// The authenticated bytes.
    pub payload: Vec<u8>,
    /// The cause, if it is a dead letter from the beginning.
    pub dead: Option<Dead>,
}

/// The end of an entry that nobody could handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The error with its sources, at most 2,000 bytes.
    pub cause: String,
    /// The time to keep it.
    pub retention: Duration,
}

/// What [`InboxStore::accept`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// The delivery is stored.
    Stored,
    /// Its key is done: it was stored or handled before.
    Duplicate,
    /// A claim holds its key.
    InFlight {
        /// The time until that one's lease ends.
        remaining: Duration,
    },
}

/// What a worker tells its store, and asks it for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Round {
    /// The namespace of the inbox.
    pub namespace: Arc<str>,
    /// What became of entries that were taken before.
    pub changes: Vec<Change>,
    /// The most entries to take.
    pub take: usize,
    /// The lease of the entries that are taken or renewed.
    pub lease: Duration,
}

/// What became of an entry.
#[derive(Debug, Clone)]
pub struct Change {
    /// The claim with which it was taken. Where another has taken it since, nothing is changed.
    pub claim: Claim,
    /// What is to become of it.
    pub fate: Fate,
}

/// What is to become of an entry.
#[derive(Debug, Clone)]
pub enum Fate {
    /// Its lease begins anew.
    Renew,
    /// It was handled: remove it.
    Remove,
    /// It failed, and is due again.
    Retry {
        /// The time until then.
        wait: Duration,
        /// The error with its sources, at most 2,000 bytes.
        cause: String,
    },
    /// It becomes a dead letter.
    Bury(Dead),
}

/// What a worker is given.
#[derive(Debug, Default)]
pub struct Taken {
    /// For each change, in their order, true if it was made and false if its claim is held no longer. `None`
    /// if it has to wait, because the handler's own transaction has the entry.
    pub held: Vec<Option<bool>>,
    /// The entries that were taken.
    pub entries: Vec<Entry>,
    /// The time until the next entry is due; `None` if none waits.
    pub next: Option<Duration>,
}

/// An entry that was taken.
#[derive(Clone)]
pub struct Entry {
    /// The claim on it, made by [`Claim::of_entry`].
    pub claim: Claim,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// [`NewEntry::envelope`].
    pub envelope: String,
    /// [`NewEntry::payload`].
    pub payload: Vec<u8>,
}

/// The number of deliveries in an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Those that a worker may take now.
    pub due: u64,
    /// Those that failed and are due later.
    pub waiting: u64,
    /// Those that a worker has.
    pub working: u64,
    /// The dead letters.
    pub dead: u64,
    /// The time since the oldest was received that is no dead letter.
    pub oldest: Option<Duration>,
}

/// A delivery that nobody could handle.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The id for [`Inbox::retry`](super::Inbox::retry) and [`Inbox::discard`](super::Inbox::discard).
    pub id: i64,
    /// The delivery; `None` if a newer version has stored it, and this one can't read it.
    pub delivery: Option<Delivery<'static>>,
    /// The number of attempts.
    pub attempts: u32,
    /// When it was received (UTC).
    pub received_at: OffsetDateTime,
    /// When it became a dead letter (UTC).
    pub died_at: OffsetDateTime,
    /// The error of the last attempt with its sources, or the reason why there was no attempt.
    pub cause: String,
}

impl DeadLetter {
    /// Builds a dead letter of what a store has: for stores.
    #[must_use]
    pub fn new(
        id: i64,
        (envelope, payload): (&str, Vec<u8>),
        attempts: u32,
        [received_at, died_at]: [OffsetDateTime; 2],
        cause: String,
    ) -> Self {
        Self {
            id,
            delivery: Delivery::restore(envelope, payload),
            attempts,
            received_at,
            died_at,
            cause,
        }
    }
}

impl Stats {
    /// Builds the counts of a store: for stores.
    #[must_use]
    pub const fn new([due, waiting, working, dead]: [u64; 4], oldest: Option<Duration>) -> Self {
        Self {
            due,
            waiting,
            working,
            dead,
            oldest,
        }
    }
}

/// Leaves the payload out, and the key and the envelope: the nonce of a job token may be in them.
impl fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEntry")
            .field("namespace", &self.namespace)
            .field("retention", &self.retention)
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// Leaves the payload and the envelope out: the nonce of a job token may be in it.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("claim", &self.claim)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
