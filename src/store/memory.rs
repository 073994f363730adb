use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::clock::Clock;

#[cfg(feature = "inbox")]
mod inbox;

use super::{
    Claim, ClaimOutcome, IdempotencyStore, StoreError, StoreFuture, bounded, fencing_token,
};

/// Remembers in the memory of the process: for tests, and for a service that is one process and
/// may handle again, after a restart, what it handled in the last day.
///
/// It holds at most so many keys, done and in flight, as it was made for; one takes some 200 bytes.
/// When it is full of keys that are still to be remembered, it refuses new ones with a
/// [`StoreError`], for which [`Receiver`](crate::Receiver) answers 503: to forget one would let its
/// next retry or replay through. Clones share their memory.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Ledger>>,
}

impl MemoryStore {
    /// How many keys the default store holds: 100,000, some 20 MB.
    pub const DEFAULT_CAPACITY: usize = 100_000;

    /// Makes a store for this number of keys, at least one: those of a little more than a day.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Ledger {
                capacity: capacity.max(1),
                ..Ledger::default()
            })),
        }
    }

    /// Sets the clock, for all clones.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.lock().clock = clock;
        self
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledger> {
        // No panic can leave the ledger half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the keys out: the nonce of a job token may be a part of one.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = self.lock();
        f.debug_struct("MemoryStore")
            .field("capacity", &ledger.capacity)
            .field("keys", &ledger.entries.len())
            .finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_capacity(Self::DEFAULT_CAPACITY)
    }
}

impl IdempotencyStore for MemoryStore {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(ready(self.lock().claim(key, lease)))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        Box::pin(ready(self.lock().complete(claim, retention)))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        self.lock().release(claim);
        Box::pin(ready(Ok(())))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(self.lock().check()))
    }
}

#[derive(Default)]
struct Ledger {
    capacity: usize,
    entries: HashMap<Arc<str>, Entry>,
    /// The same keys, the next to be forgotten first.
    by_end: BTreeSet<(Instant, Arc<str>)>,
    last_token: i64,
    clock: Clock,
    #[cfg(feature = "inbox")]
    inbox: inbox::Rows,
}

#[derive(Clone, Copy)]
struct Entry {
    fencing_token: i64,
    done: bool,
    /// Of the lease, or of the retention.
    end: Instant,
}

impl Ledger {
    fn claim(&mut self, key: &str, lease: Duration) -> Result<ClaimOutcome, StoreError> {
        let now = self.clock.instant();
        if let Some(entry) = self.live(key, now) {
            return Ok(if entry.done {
                ClaimOutcome::Done
            } else {
                let remaining = entry.end.saturating_duration_since(now);
                ClaimOutcome::InFlight { remaining }
            });
        }
        self.last_token = fencing_token(&self.clock, self.last_token);
        let claim = Claim::new(key, self.last_token);
        self.insert(&claim, false, now, lease)?;
        Ok(ClaimOutcome::New(claim))
    }

    fn complete(&mut self, claim: &Claim, retention: Duration) -> Result<bool, StoreError> {
        let now = self.clock.instant();
        #[cfg(feature = "inbox")]
        if let Some(id) = claim.entry() {
            return Ok(self.inbox.remove(id, claim.fencing_token()));
        }
        let entry = self.live(claim.key(), now);
        if entry.is_some_and(|entry| entry.fencing_token != claim.fencing_token()) {
            return Ok(false);
        }
        // Completed again, it is not forgotten earlier.
        let promised = entry
            .filter(|entry| entry.done)
            .map_or(Duration::ZERO, |entry| {
                entry.end.saturating_duration_since(now)
            });
        self.insert(claim, true, now, retention.max(promised))?;
        Ok(true)
    }

    fn release(&mut self, claim: &Claim) {
        if let Some(entry) = self.entries.get(claim.key())
            && entry.fencing_token == claim.fencing_token()
            && !entry.done
        {
            self.remove(claim.key());
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let expired = (self.by_end.first()).is_some_and(|(end, _)| *end <= self.clock.instant());
        if self.entries.len() >= self.capacity && !expired {
            return Err(self.full());
        }
        Ok(())
    }

    fn full(&self) -> StoreError {
        StoreError::new(format!(
            "its {} keys are all still to be remembered",
            self.capacity
        ))
    }

    fn live(&self, key: &str, now: Instant) -> Option<Entry> {
        let entry = self.entries.get(key).copied();
        entry.filter(|entry| entry.end > now)
    }

    fn insert(
        &mut self,
        claim: &Claim,
        done: bool,
        now: Instant,
        lasting: Duration,
    ) -> Result<(), StoreError> {
        let entry = Entry {
            fencing_token: claim.fencing_token(),
            done,
            end: now.checked_add(bounded(lasting)).unwrap_or(now),
        };
        self.remove(claim.key());
        self.forget(now);
        if self.entries.len() >= self.capacity {
            return Err(self.full());
        }
        let key: Arc<str> = claim.key().into();
        self.by_end.insert((entry.end, Arc::clone(&key)));
        self.entries.insert(key, entry);
        Ok(())
    }

    /// Removes at most two expired keys per call, so that cleanup keeps up and no caller waits for it.
    fn forget(&mut self, now: Instant) {
        for _ in 0..2 {
            if let Some((end, key)) = self.by_end.first()
                && *end <= now
            {
                let key = Arc::clone(key);
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.by_end.remove(&(entry.end, key));
        }
    }
}
