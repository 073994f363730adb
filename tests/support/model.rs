//! Models of the stores that are servers: what a claim, a completion and a release do to a row, by the
//! server's clock.
//!
//! The simulated fleet runs on them. `tests/stores/models.rs` compares them with real servers.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gemini_webhooks::{
    store::{Claim, ClaimOutcome, IdempotencyStore, StoreFuture},
    testing::Clock,
};
use time::OffsetDateTime;

/// The time for which a claim that was not completed keeps its fencing token, after its lease.
const KEEP: i64 = 87_000_000_000;

/// The server that is modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Postgres,
    Redis,
}

#[derive(Clone)]
pub(crate) struct Model {
    server: Server,
    clock: Clock,
    rows: Arc<Mutex<BTreeMap<String, Row>>>,
}

/// Times are Unix microseconds.
#[derive(Debug, Clone, Copy)]
struct Row {
    token: i64,
    done: bool,
    held_until: i64,
    forget_at: i64,
}

impl Model {
    pub(crate) fn new(server: Server, clock: Clock) -> Self {
        Self {
            server,
            clock,
            rows: Arc::default(),
        }
    }

    /// The server's time, as exact as it compares times.
    pub(crate) fn now(&self) -> i64 {
        let now = (self.clock.now() - OffsetDateTime::UNIX_EPOCH).whole_microseconds();
        let now = i64::try_from(now).unwrap();
        match self.server {
            Server::Postgres => now,
            Server::Redis => now / 1_000 * 1_000,
        }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        let mut rows = self.rows.lock().unwrap();
        if self.server == Server::Redis {
            // Nobody sees a key that has expired.
            let now = self.now();
            rows.retain(|_, row| row.forget_at > now);
        }
        rows
    }

    fn claim_now(&self, key: &str, lease: Duration) -> ClaimOutcome {
        let (now, lease) = (self.now(), microseconds(lease));
        let mut rows = self.rows();
        let row = rows.get(key).copied();
        if let Some(row) = row.filter(|row| row.forget_at > now) {
            if row.done {
                return ClaimOutcome::Done;
            }
            if row.held_until > now {
                let left = u64::try_from(row.held_until - now).unwrap();
                let remaining = Duration::from_micros(left);
                return ClaimOutcome::InFlight { remaining };
            }
        }
        let token = row.map_or(now, |row| now.max(row.token + 1));
        let row = Row {
            token,
            done: false,
            held_until: now + lease,
            forget_at: now + lease + KEEP,
        };
        rows.insert(key.to_owned(), row);
        if self.server == Server::Postgres {
            // Each claim removes two that have expired, the oldest first.
            let mut expired: Vec<(i64, String)> = (rows.iter())
                .filter(|(other, row)| row.forget_at <= now && *other != key)
                .map(|(key, row)| (row.forget_at, key.clone()))
                .collect();
            expired.sort();
            for (_, key) in expired.iter().take(2) {
                rows.remove(key);
            }
        }
        ClaimOutcome::New(Claim::new(key, token))
    }

    fn complete_now(&self, claim: &Claim, retention: Duration) -> bool {
        let (now, token) = (self.now(), claim.fencing_token());
        let end = now + microseconds(retention);
        let mut rows = self.rows();
        let row = rows.get(claim.key()).copied();
        let free = |row: &Row| row.forget_at <= now || (!row.done && row.held_until <= now);
        if row.is_some_and(|row| row.token != token && !free(&row)) {
            return false;
        }
        let promised = row.filter(|row| match self.server {
            Server::Postgres => true,
            Server::Redis => row.done,
        });
        let row = Row {
            token,
            done: true,
            held_until: row.map_or(now, |row| row.held_until),
            forget_at: promised.map_or(end, |row| row.forget_at.max(end)),
        };
        rows.insert(claim.key().to_owned(), row);
        true
    }

    fn release_now(&self, claim: &Claim) {
        let now = self.now();
        if let Some(row) = self.rows().get_mut(claim.key())
            && row.token == claim.fencing_token()
            && !row.done
        {
            row.held_until = 0;
            if self.server == Server::Redis {
                row.forget_at = now + KEEP;
            }
        }
    }
}

fn microseconds(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap()
}

impl IdempotencyStore for Model {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(ready(Ok(self.claim_now(key, lease))))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        Box::pin(ready(Ok(self.complete_now(claim, retention))))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        self.release_now(claim);
        Box::pin(ready(Ok(())))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}
