//! The handlers of a worker, and what it tells its store.
//!
//! One round at a time is under way. It carries what became of entries since the last, renews leases, and
//! takes entries for the places that are free: so the busier a worker is, the more entries share a commit.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{Stream as _, future::AbortHandle, stream::FuturesUnordered};

use super::{
    Change, Entry, Fate, Round, Taken, Worker,
    attempt::{Ended, attempt},
};
use crate::{
    clock::Clock,
    receiver::{HandlerError, Received, span},
    store::{Claim, StoreError, StoreFuture},
};

/// The time after which a store that has failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Crew<'w, F> {
    worker: &'w Worker,
    handler: &'w F,
    clock: Clock,
    held: BTreeMap<Key, Held>,
    /// What the store has yet to be told.
    ended: Vec<Change>,
    round: Option<UnderWay<'w>>,
    /// How often something was told when the store was last asked for entries.
    seen: u64,
    /// When entries may be due that are not known of.
    look_at: Instant,
    /// The store failed, and is to be left alone until then.
    paused_until: Option<Instant>,
    stopping: bool,
}

/// The id and the fencing token of an entry that was taken.
type Key = (i64, i64);

fn key(claim: &Claim) -> Key {
    (claim.entry().unwrap_or_default(), claim.fencing_token())
}

/// An entry that was taken.
struct Held {
    claim: Claim,
    /// The end of the lease, or earlier.
    until: Instant,
    /// When its lease is to be renewed.
    renew_at: Instant,
    handler: AbortHandle,
    /// The handler has ended.
    ended: bool,
}

impl Held {
    /// The handler needs its lease. One that has removed its entry, in the transaction of its effect, may go
    /// on: nobody else can have the entry.
    fn needs_lease(&self) -> bool {
        !self.ended && !self.claim.is_completed()
    }
}

/// A round that the store was asked for.
struct UnderWay<'w> {
    asked: Instant,
    take: usize,
    changes: Vec<Change>,
    taken: StoreFuture<'w, Taken>,
}

impl<'w, F, R, E> Crew<'w, F>
where
    F: Fn(Received<'static>) -> R,
    R: Future<Output = Result<(), E>>,
    E: Into<HandlerError>,
{
    pub(super) fn new(worker: &'w Worker, handler: &'w F) -> Self {
        let clock = worker.inbox.0.endpoint.verifier.get().clock().clone();
        Self {
            worker,
            handler,
            held: BTreeMap::new(),
            ended: Vec::new(),
            round: None,
            seen: worker.inbox.0.news.told(),
            look_at: clock.instant(),
            paused_until: None,
            stopping: false,
            clock,
        }
    }

    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut running = FuturesUnordered::new();
        loop {
            // What ends at once shares the round that it frees a place in.
            let ends = poll_fn(|context| Poll::Ready(finished(&mut running, context))).await;
            self.note(ends);
            self.begin_round();
            if self.is_finished() {
                return;
            }
            let mut alarm = self.next_alarm().map(|wait| self.clock.sleep(wait));
            let mut taken = None;
            let mut ends = Vec::new();
            poll_fn(|context| {
                // Before the handlers, which may use up all that the runtime grants a task at a time.
                taken = self.poll_round(context);
                ends = finished(&mut running, context);
                if !self.stopping && shutdown.as_mut().poll(context).is_ready() {
                    self.stopping = true;
                    return Poll::Ready(());
                }
                let woken = alarm
                    .as_mut()
                    .is_some_and(|alarm| Pin::new(alarm).poll(context).is_ready());
                if !ends.is_empty() || taken.is_some() || woken || self.hears_news(context) {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
            self.note(ends);
            let Some(taken) = taken else { continue };
            let (entries, until) = self.finish_round(taken);
            for entry in entries {
                let (handler, registration) = AbortHandle::new_pair();
                let claim = entry.claim.clone();
                let key = key(&claim);
                self.abort_before(key);
                let held = Held {
                    claim,
                    until,
                    renew_at: self.renew_at(until),
                    handler,
                    ended: false,
                };
                self.held.insert(key, held);
                let clock = self.clock.clone();
                let (worker, handler) = (self.worker, self.handler);
                running.push(async move {
                    (
                        key,
                        attempt(worker, &clock, handler, entry, registration).await,
                    )
                });
            }
        }
    }

    /// Nothing is left to do, or nothing can be done any more.
    fn is_finished(&self) -> bool {
        let now = self.clock.instant();
        // Where the store is away, whoever takes these entries handles them again.
        let given_up = |held: &Held| held.ended && held.until <= now;
        self.stopping && self.round.is_none() && self.held.values().all(given_up)
    }

    /// Asks the store for a round if there is a reason to.
    fn begin_round(&mut self) {
        let now = self.clock.instant();
        for held in self.held.values() {
            if held.until <= now && held.needs_lease() {
                held.handler.abort();
            }
        }
        if self.round.is_some() || self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        let news = &self.worker.inbox.0.news;
        let told = news.told();
        let take = self.free();
        let looks = take > 0 && (told != self.seen || self.look_at <= now);
        let due = |held: &&Held| held.needs_lease() && held.renew_at <= now;
        let renewed = self.held.values().filter(due);
        let renewed = renewed.map(|held| Change {
            claim: held.claim.clone(),
            fate: Fate::Renew,
        });
        let changes: Vec<_> = self.ended.iter().cloned().chain(renewed).collect();
        if changes.is_empty() && !looks {
            return;
        }
        self.ended.clear();
        self.seen = told;
        let round = Round {
            namespace: self.worker.inbox.0.namespace.clone(),
            changes: changes.clone(),
            take,
            lease: self.worker.lease,
        };
        self.round = Some(UnderWay {
            asked: now,
            take,
            changes,
            taken: self.worker.inbox.0.store.round(round),
        });
    }

    /// The places for entries, those included that the next round gives back.
    fn free(&self) -> usize {
        if self.stopping {
            return 0;
        }
        let busy = self.held.len().saturating_sub(self.ended.len());
        self.worker.concurrency.saturating_sub(busy)
    }

    /// After 0.3 of the lease, so that there is time to try again.
    fn renew_at(&self, until: Instant) -> Instant {
        let left = self.worker.lease.mul_f64(0.6);
        until.checked_sub(left).unwrap_or(until)
    }

    /// Leaves time to renew leases, however short they are.
    fn after_pause(&self) -> Instant {
        let now = self.clock.instant();
        let pause = PAUSE.min(self.worker.lease.mul_f64(0.1));
        now.checked_add(pause).unwrap_or(now)
    }

    /// Aborts the handlers of earlier claims on an entry, whose leases have ended by the clock of the store.
    fn abort_before(&self, (id, fencing_token): Key) {
        for (_, held) in self.held.range((id, i64::MIN)..(id, fencing_token)) {
            held.handler.abort();
        }
    }

    /// Returns the time until something is to be done, if nothing happens before.
    fn next_alarm(&self) -> Option<Duration> {
        let now = self.clock.instant();
        let looks = (self.free() > 0).then_some(self.look_at);
        let leases = self.held.values().filter(|held| held.needs_lease());
        let renewals = leases.clone().map(|held| held.renew_at).min();
        let round = match (self.round.is_some(), self.paused_until) {
            (true, _) => None,
            (false, Some(paused)) => Some(paused),
            (false, None) => [looks, renewals].into_iter().flatten().min(),
        };
        let lost = leases.map(|held| held.until).min();
        let next = [round, lost].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    fn hears_news(&self, context: &Context<'_>) -> bool {
        let waits = self.round.is_none() && self.paused_until.is_none() && self.free() > 0;
        waits && self.worker.inbox.0.news.poll(self.seen, context).is_ready()
    }

    fn poll_round(&mut self, context: &mut Context<'_>) -> Option<Result<Taken, StoreError>> {
        match self.round.as_mut()?.taken.as_mut().poll(context) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    /// Notes what the store has answered, and returns the entries to handle and the end of their leases.
    fn finish_round(&mut self, taken: Result<Taken, StoreError>) -> (Vec<Entry>, Instant) {
        let now = self.clock.instant();
        let Some(round) = self.round.take() else {
            return (Vec::new(), now);
        };
        // Earlier than the store, so that a handler is gone before another worker has its delivery.
        let lease = self.worker.lease.mul_f64(0.9);
        let until = round.asked.checked_add(lease).unwrap_or(now);
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => {
                (self.worker.report)(&error);
                span::store_failed(&error);
                let told = |change: &Change| !matches!(change.fate, Fate::Renew);
                self.ended.extend(round.changes.into_iter().filter(told));
                self.paused_until = Some(self.after_pause());
                // What was asked for may have been taken all the same.
                self.look_at = now;
                return (Vec::new(), until);
            }
        };
        let results = taken.held.iter().chain(std::iter::repeat(&Some(false)));
        for (change, held) in round.changes.iter().zip(results) {
            self.changed(change, *held, until);
        }
        // Not all stores see what they have just put back.
        let put_back = round.changes.iter().filter_map(|change| match change.fate {
            Fate::Retry { wait, .. } => Some(wait),
            _ => None,
        });
        let wait = if taken.entries.len() >= round.take {
            Duration::ZERO
        } else {
            let next = put_back.chain(taken.next).min();
            next.map_or(self.worker.poll_interval, |next| {
                next.min(self.worker.poll_interval)
            })
        };
        self.look_at = now.checked_add(wait).unwrap_or(now);
        // The process may have stood still meanwhile: then others may have taken them.
        let in_time = now < until;
        let entries = if in_time { taken.entries } else { Vec::new() };
        (entries, until)
    }

    fn changed(&mut self, change: &Change, held: Option<bool>, until: Instant) {
        let (soon, renew_at) = (self.after_pause(), self.renew_at(until));
        let key = key(&change.claim);
        let Some(entry) = self.held.get_mut(&key) else {
            return;
        };
        match (&change.fate, held) {
            (Fate::Renew, Some(true)) => (entry.until, entry.renew_at) = (until, renew_at),
            (Fate::Renew, Some(false)) if entry.needs_lease() => entry.handler.abort(),
            (Fate::Renew, Some(false)) => {}
            (Fate::Renew, None) => entry.renew_at = soon,
            (_, None) => {
                // A transaction that the handler has left behind has the entry.
                self.ended.push(change.clone());
                self.paused_until = Some(soon);
            }
            _ => drop(self.held.remove(&key)),
        }
    }

    fn note(&mut self, ends: Vec<(Key, Ended)>) {
        for (key, end) in ends {
            match end {
                Ended::Changed(change) => {
                    if let Some(held) = self.held.get_mut(&key) {
                        held.ended = true;
                        self.ended.push(change);
                    }
                }
                Ended::Gone => drop(self.held.remove(&key)),
            }
        }
    }
}

/// Returns what has ended of the futures.
fn finished<T, F: Future<Output = T>>(
    running: &mut FuturesUnordered<F>,
    context: &mut Context<'_>,
) -> Vec<T> {
    let mut ended = Vec::new();
    while let Poll::Ready(Some(end)) = Pin::new(&mut *running).poll_next(context) {
        ended.push(end);
    }
    ended
}
