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
    inbox::{
        Acceptance, Change, Dead, DeadLetter, Entry, Fate, InboxStore, NewEntry, Round, Stats,
        Taken,
    },
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
    /// The inbox of PostgreSQL, by the ids of its entries.
    entries: Arc<Mutex<BTreeMap<i64, Stored>>>,
    last_id: Arc<Mutex<i64>>,
}

/// A row of an inbox. Times are Unix microseconds.
#[derive(Debug, Clone)]
struct Stored {
    new: NewEntry,
    received_at: i64,
    token: i64,
    attempts: u32,
    working: bool,
    due_at: Option<i64>,
    died_at: i64,
    forget_at: Option<i64>,
    cause: Option<String>,
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
            entries: Arc::default(),
            last_id: Arc::default(),
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
            forget(&mut rows, key, now);
        }
        ClaimOutcome::New(Claim::new(key, token))
    }

    fn complete_now(&self, claim: &Claim, retention: Duration) -> bool {
        let (now, token) = (self.now(), claim.fencing_token());
        if let Some(id) = claim.entry() {
            let mut entries = self.entries();
            let held = entries.get(&id).is_some_and(|entry| entry.token == token);
            return held && entries.remove(&id).is_some();
        }
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

/// Each new key removes two that have expired, the oldest first.
fn forget(rows: &mut BTreeMap<String, Row>, new: &str, now: i64) {
    let mut expired: Vec<(i64, String)> = (rows.iter())
        .filter(|(other, row)| row.forget_at <= now && *other != new)
        .map(|(key, row)| (row.forget_at, key.clone()))
        .collect();
    expired.sort();
    for (_, key) in expired.iter().take(2) {
        rows.remove(key);
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

/// The inbox of PostgreSQL.
impl Model {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<i64, Stored>> {
        assert_eq!(self.server, Server::Postgres, "Redis has no inbox");
        self.entries.lock().unwrap()
    }

    fn accept_now(&self, new: NewEntry) -> Acceptance {
        let (now, mut rows) = (self.now(), self.rows());
        let row = rows.get(&*new.key).copied();
        if let Some(row) = row.filter(|row| row.forget_at > now) {
            if row.done {
                return Acceptance::Duplicate;
            }
            if row.held_until > now {
                let remaining = u64::try_from(row.held_until - now).unwrap();
                let remaining = Duration::from_micros(remaining);
                return Acceptance::InFlight { remaining };
            }
        }
        let token = row.map_or(now, |row| now.max(row.token + 1));
        let row = Row {
            token,
            done: true,
            held_until: now,
            forget_at: now + microseconds(new.retention),
        };
        rows.insert(new.key.to_string(), row);
        forget(&mut rows, &new.key, now);
        let dead = new.dead.clone();
        let stored = Stored {
            received_at: now,
            token,
            attempts: 0,
            working: false,
            due_at: dead.is_none().then_some(now),
            died_at: now,
            forget_at: dead.as_ref().map(|dead| now + microseconds(dead.retention)),
            cause: dead.map(|dead| dead.cause),
            new,
        };
        let mut last_id = self.last_id.lock().unwrap();
        *last_id += 1;
        self.entries().insert(*last_id, stored);
        Acceptance::Stored
    }

    /// A round while transactions of handlers have these entries. All parts of the statement see the table as
    /// it was before.
    pub(crate) fn round_beside(&self, busy: &[i64], round: &Round) -> Taken {
        let (now, mut entries) = (self.now(), self.entries());
        let mut due: Vec<(i64, i64)> = (entries.iter())
            .filter(|(_, entry)| entry.new.namespace == round.namespace)
            .filter_map(|(id, entry)| Some((entry.due_at?, *id)))
            .collect();
        due.sort_unstable();
        let changed = |id| (round.changes.iter()).any(|it| it.claim.entry() == Some(id));
        let later = due.iter().find(|(due, _)| *due > now);
        let next = later.map(|(due, _)| Duration::from_micros(u64::try_from(due - now).unwrap()));
        let taken = due.iter().filter(|(due, id)| *due <= now && !changed(*id));
        let taken: Vec<i64> = taken.map(|(_, id)| *id).take(round.take).collect();
        let change = |change: &Change| {
            let id = change.claim.entry().unwrap();
            let renewed = matches!(change.fate, Fate::Renew);
            let held = entries
                .get(&id)
                .is_some_and(|entry| entry.token == change.claim.fencing_token());
            if renewed && held && busy.contains(&id) {
                return None;
            }
            Some(change_now(&mut entries, now, change, round.lease))
        };
        let held = round.changes.iter().map(change).collect();
        let take = |id: i64| {
            let entry = entries.get_mut(&id).unwrap();
            entry.token = now.max(entry.token + 1);
            entry.attempts += 1;
            entry.working = true;
            entry.due_at = Some(now + microseconds(round.lease));
            Entry {
                claim: Claim::of_entry(id, Arc::clone(&entry.new.key), entry.token),
                attempt: entry.attempts,
                envelope: entry.new.envelope.clone(),
                payload: entry.new.payload.clone(),
            }
        };
        let taken = taken.into_iter().map(take).collect();
        entries.retain(|_, entry| entry.forget_at.is_none_or(|end| end > now));
        Taken {
            held,
            entries: taken,
            next,
        }
    }

    fn dead_letters_now(&self, namespace: &str, after: i64, limit: usize) -> Vec<DeadLetter> {
        let date = |time: i64| {
            OffsetDateTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(time).unwrap())
        };
        let entries = self.entries();
        let dead = (entries.range(after + 1..))
            .filter(|(_, entry)| entry.due_at.is_none() && *entry.new.namespace == *namespace);
        let letter = |(id, entry): (&i64, &Stored)| {
            let delivery = (&*entry.new.envelope, entry.new.payload.clone());
            let dates = [date(entry.received_at), date(entry.died_at)];
            let cause = entry.cause.clone().unwrap_or_default();
            DeadLetter::new(*id, delivery, entry.attempts, dates, cause)
        };
        dead.take(limit).map(letter).collect()
    }

    fn is_dead(&self, namespace: &str, id: i64) -> bool {
        let entries = self.entries();
        let entry = entries.get(&id);
        entry.is_some_and(|entry| entry.due_at.is_none() && *entry.new.namespace == *namespace)
    }
}

fn change_now(
    entries: &mut BTreeMap<i64, Stored>,
    now: i64,
    Change { claim, fate }: &Change,
    lease: Duration,
) -> bool {
    let id = claim.entry().unwrap();
    let held = entries.get_mut(&id);
    let Some(entry) = held.filter(|entry| entry.token == claim.fencing_token()) else {
        return false;
    };
    match fate {
        Fate::Remove => return entries.remove(&id).is_some(),
        Fate::Renew => {
            entry.due_at = Some(now + microseconds(lease));
            return true;
        }
        Fate::Retry { wait, cause } => {
            entry.due_at = Some(now + microseconds(*wait));
            entry.cause = Some(cause.clone());
        }
        Fate::Bury(Dead { cause, retention }) => {
            entry.due_at = None;
            entry.died_at = now;
            entry.forget_at = Some(now + microseconds(*retention));
            entry.cause = Some(cause.clone());
        }
    }
    // Whoever had the claim has it no longer.
    entry.token += 1;
    entry.working = false;
    true
}

impl InboxStore for Model {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        Box::pin(ready(Ok(self.accept_now(entry))))
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        Box::pin(ready(Ok(self.round_beside(&[], &round))))
    }

    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
        let (now, entries) = (self.now(), self.entries());
        let (mut counts, mut oldest) = ([0; 4], None);
        for entry in entries.values() {
            if *entry.new.namespace != *namespace {
                continue;
            }
            let [due, waiting, working, dead] = &mut counts;
            *match entry.due_at {
                None => dead,
                Some(due_at) if due_at <= now => due,
                Some(_) if entry.working => working,
                Some(_) => waiting,
            } += 1;
            if entry.due_at.is_some() {
                let age = u64::try_from(now - entry.received_at).unwrap();
                oldest = oldest.max(Some(Duration::from_micros(age)));
            }
        }
        Box::pin(ready(Ok(Stats::new(counts, oldest))))
    }

    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        Box::pin(ready(Ok(self.dead_letters_now(namespace, after, limit))))
    }

    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        let (dead, now) = (self.is_dead(namespace, id), self.now());
        if let Some(entry) = self.entries().get_mut(&id).filter(|_| dead) {
            entry.attempts = 0;
            (entry.due_at, entry.forget_at, entry.cause) = (Some(now), None, None);
        }
        Box::pin(ready(Ok(dead)))
    }

    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        let dead = self.is_dead(namespace, id);
        if dead {
            self.entries().remove(&id);
        }
        Box::pin(ready(Ok(dead)))
    }
}
