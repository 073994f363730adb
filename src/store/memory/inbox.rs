//! The entries of inboxes.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::Arc,
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use super::{Ledger, MemoryStore};
use crate::{
    clock::Clock,
    inbox::{
        Acceptance, Change, Dead, DeadLetter, Entry, Fate, InboxStore, NewEntry, Round, Stats,
        Taken,
    },
    store::{Claim, ClaimOutcome, StoreError, StoreFuture, bounded, fencing_token},
};

#[derive(Default)]
pub(super) struct Rows {
    last_id: i64,
    by_id: BTreeMap<i64, Row>,
    /// The rows of each namespace that are no dead letters, the next that is due first.
    by_due: BTreeMap<Arc<str>, BTreeSet<(Instant, i64)>>,
    /// The dead letters, the next to be forgotten first.
    by_end: BTreeSet<(Instant, i64)>,
}

struct Row {
    namespace: Arc<str>,
    key: Arc<str>,
    envelope: String,
    payload: Vec<u8>,
    received_at: OffsetDateTime,
    received: Instant,
    fencing_token: i64,
    attempts: u32,
    state: State,
}

enum State {
    Waiting {
        due: Instant,
    },
    Working {
        until: Instant,
    },
    Dead {
        end: Instant,
        died_at: OffsetDateTime,
        cause: String,
    },
}

impl Rows {
    /// Removes the row that a claim holds.
    pub(super) fn remove(&mut self, id: i64, fencing_token: i64) -> bool {
        let held = self.held(id, fencing_token);
        held && self.take_out(id).is_some()
    }

    fn held(&self, id: i64, fencing_token: i64) -> bool {
        (self.by_id.get(&id)).is_some_and(|row| row.fencing_token == fencing_token)
    }

    fn take_out(&mut self, id: i64) -> Option<Row> {
        let row = self.by_id.remove(&id)?;
        match row.state {
            State::Waiting { due: time } | State::Working { until: time } => {
                if let Some(due) = self.by_due.get_mut(&row.namespace) {
                    due.remove(&(time, id));
                }
            }
            State::Dead { end, .. } => drop(self.by_end.remove(&(end, id))),
        }
        Some(row)
    }

    fn put(&mut self, id: i64, row: Row) {
        match row.state {
            State::Waiting { due: time } | State::Working { until: time } => {
                let due = self.by_due.entry(Arc::clone(&row.namespace));
                due.or_default().insert((time, id));
            }
            State::Dead { end, .. } => drop(self.by_end.insert((end, id))),
        }
        self.by_id.insert(id, row);
    }

    fn dead(&self, namespace: &str, id: i64) -> bool {
        let row = self.by_id.get(&id);
        row.is_some_and(|row| *row.namespace == *namespace && row.is_dead())
    }

    /// Removes two dead letters at most that were kept for long enough.
    fn forget(&mut self, now: Instant) {
        for _ in 0..2 {
            if let Some((end, id)) = self.by_end.first().copied()
                && end <= now
            {
                self.take_out(id);
            }
        }
    }
}

impl Row {
    const fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead { .. })
    }
}

fn dead(clock: &Clock, dead: Dead) -> State {
    State::Dead {
        end: later(clock, dead.retention),
        died_at: date(clock),
        cause: dead.cause,
    }
}

fn later(clock: &Clock, time: Duration) -> Instant {
    let now = clock.instant();
    now.checked_add(bounded(time)).unwrap_or(now)
}

fn date(clock: &Clock) -> OffsetDateTime {
    let since_epoch = clock.since_epoch().try_into().unwrap_or_default();
    OffsetDateTime::UNIX_EPOCH
        .checked_add(since_epoch)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

impl Ledger {
    fn accept(&mut self, entry: NewEntry) -> Result<Acceptance, StoreError> {
        if self.inbox.by_id.len() >= self.capacity {
            return Err(StoreError::new(format!(
                "its inbox holds {} deliveries, and no more fit",
                self.capacity
            )));
        }
        let claim = match self.claim(&entry.key, Duration::ZERO)? {
            ClaimOutcome::New(claim) => claim,
            ClaimOutcome::Done => return Ok(Acceptance::Duplicate),
            ClaimOutcome::InFlight { remaining } => return Ok(Acceptance::InFlight { remaining }),
        };
        self.complete(&claim, entry.retention)?;
        let clock = self.clock.clone();
        let id = self.inbox.last_id.saturating_add(1);
        self.inbox.last_id = id;
        let due = clock.instant();
        let row = Row {
            namespace: entry.namespace,
            key: entry.key,
            envelope: entry.envelope,
            payload: entry.payload,
            received_at: date(&clock),
            received: due,
            fencing_token: claim.fencing_token(),
            attempts: 0,
            state: entry
                .dead
                .map_or(State::Waiting { due }, |cause| dead(&clock, cause)),
        };
        self.inbox.put(id, row);
        Ok(Acceptance::Stored)
    }

    fn round(&mut self, round: Round) -> Taken {
        let clock = self.clock.clone();
        let now = clock.instant();
        self.inbox.forget(now);
        let mut held = Vec::with_capacity(round.changes.len());
        for change in round.changes {
            held.push(Some(self.change(&clock, round.lease, change)));
        }
        let due: Vec<i64> = self
            .due(&round.namespace)
            .take_while(|(due, _)| *due <= now)
            .take(round.take)
            .map(|(_, id)| id)
            .collect();
        let mut entries = Vec::with_capacity(due.len());
        for id in due {
            if let Some(row) = self.inbox.take_out(id) {
                let row = Row {
                    fencing_token: fencing_token(&clock, row.fencing_token),
                    attempts: row.attempts.saturating_add(1),
                    state: State::Working {
                        until: later(&clock, round.lease),
                    },
                    ..row
                };
                entries.push(Entry {
                    claim: Claim::of_entry(id, Arc::clone(&row.key), row.fencing_token),
                    attempt: row.attempts,
                    envelope: row.envelope.clone(),
                    payload: row.payload.clone(),
                });
                self.inbox.put(id, row);
            }
        }
        let next = self.due(&round.namespace).next();
        Taken {
            held,
            entries,
            next: next.map(|(due, _)| due.saturating_duration_since(now)),
        }
    }

    fn due(&self, namespace: &str) -> impl Iterator<Item = (Instant, i64)> {
        let due = self.inbox.by_due.get(namespace);
        due.into_iter().flatten().copied()
    }

    /// Returns true if the claim of the change is still held.
    fn change(&mut self, clock: &Clock, lease: Duration, Change { claim, fate }: Change) -> bool {
        let id = claim.entry().unwrap_or_default();
        if !self.inbox.held(id, claim.fencing_token()) {
            return false;
        }
        let Some(row) = self.inbox.take_out(id) else {
            return false;
        };
        let state = match fate {
            Fate::Remove => return true,
            Fate::Renew => State::Working {
                until: later(clock, lease),
            },
            Fate::Retry { wait, .. } => State::Waiting {
                due: later(clock, wait),
            },
            Fate::Bury(cause) => dead(clock, cause),
        };
        // Whoever had the claim has it no longer.
        let fencing_token = match state {
            State::Working { .. } => row.fencing_token,
            _ => fencing_token(clock, row.fencing_token),
        };
        self.inbox.put(
            id,
            Row {
                fencing_token,
                state,
                ..row
            },
        );
        true
    }

    fn stats(&self, namespace: &str) -> Stats {
        let now = self.clock.instant();
        let mut counts = [0_u64; 4];
        let mut oldest = None;
        let rows = self.inbox.by_id.values();
        for row in rows.filter(|row| *row.namespace == *namespace) {
            let [due, waiting, working, dead] = &mut counts;
            let count = match &row.state {
                State::Waiting { due: time } | State::Working { until: time } if *time <= now => {
                    due
                }
                State::Waiting { .. } => waiting,
                State::Working { .. } => working,
                State::Dead { .. } => dead,
            };
            *count = count.saturating_add(1);
            if !row.is_dead() {
                let age = now.saturating_duration_since(row.received);
                oldest = oldest.max(Some(age));
            }
        }
        Stats::new(counts, oldest)
    }

    fn dead_letters(&self, namespace: &str, after: i64, limit: usize) -> Vec<DeadLetter> {
        let rows = self.inbox.by_id.range(after.saturating_add(1)..);
        let letters = rows.filter_map(|(id, row)| match &row.state {
            State::Dead { died_at, cause, .. } if *row.namespace == *namespace => {
                Some(DeadLetter::new(
                    *id,
                    (&row.envelope, row.payload.clone()),
                    row.attempts,
                    [row.received_at, *died_at],
                    cause.clone(),
                ))
            }
            _ => None,
        });
        letters.take(limit).collect()
    }

    fn retry(&mut self, namespace: &str, id: i64) -> bool {
        let due = self.clock.instant();
        if !self.inbox.dead(namespace, id) {
            return false;
        }
        let Some(row) = self.inbox.take_out(id) else {
            return false;
        };
        let row = Row {
            attempts: 0,
            state: State::Waiting { due },
            ..row
        };
        self.inbox.put(id, row);
        true
    }

    fn discard(&mut self, namespace: &str, id: i64) -> bool {
        self.inbox.dead(namespace, id) && self.inbox.take_out(id).is_some()
    }
}

impl InboxStore for MemoryStore {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        Box::pin(ready(self.lock().accept(entry)))
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        Box::pin(ready(Ok(self.lock().round(round))))
    }

    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
        Box::pin(ready(Ok(self.lock().stats(namespace))))
    }

    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        Box::pin(ready(Ok(self.lock().dead_letters(namespace, after, limit))))
    }

    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        Box::pin(ready(Ok(self.lock().retry(namespace, id))))
    }

    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        Box::pin(ready(Ok(self.lock().discard(namespace, id))))
    }
}
