//! The promises of an inbox: what is stored is handled at least once, ends once, and is never lost.

use std::{collections::BTreeMap, time::Duration};

use gemini_webhooks::{
    inbox::{
        Acceptance, Change, Dead, DeadLetter, Entry, Fate, NewEntry, Round, Stats, Taken, Worker,
    },
    store::Claim,
};

use super::{Key, Oracle};
use crate::executor::Group;

pub(crate) const LEASE: Duration = Worker::DEFAULT_LEASE;
pub(crate) const MAX_ATTEMPTS: u32 = 5;
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(150);

/// Within a lease, two clocks of the fleet come to differ by 12 ms.
const DRIFT: Duration = Duration::from_millis(20);
/// The stores cut times off after the millisecond.
const MILLISECOND: Duration = Duration::from_millis(1);
/// A worker that has so much of a lease left after its handler can tell its store, though single
/// operations fail.
const ENOUGH: Duration = Duration::from_secs(20);
/// Within this time an entry is removed or dead, unless the store is away.
const ENOUGH_FOR_ALL_ATTEMPTS: Duration = Duration::from_secs(2 * 3_600);

/// The model of an inbox. Entries that were removed are not in it.
#[derive(Default)]
pub(crate) struct Entries {
    by_key: BTreeMap<String, Known>,
    key_of: BTreeMap<i64, String>,
    /// The handlers that run, by the keys of their entries.
    handlers: BTreeMap<String, Vec<Handling>>,
    /// The ends of handlers after which there are no further attempts.
    returned: BTreeMap<(String, i64), Returned>,
    processes: BTreeMap<Group, Process>,
    /// The true time at which the store was last away.
    store_away: Option<Duration>,
}

struct Known {
    envelope: String,
    payload: Vec<u8>,
    /// The true time at which it was stored, or retried by hand.
    since: Duration,
    token: i64,
    attempts: u32,
    state: State,
}

enum State {
    /// Times are those of the store.
    Waiting {
        due: Duration,
    },
    Working {
        until: Duration,
        owner: Group,
        /// The true time at which the lease began.
        leased: Duration,
        /// The worker has the answer, in time.
        delivered: bool,
    },
    Dead {
        cause: String,
    },
}

#[derive(Debug)]
struct Handling {
    token: i64,
    group: Group,
    begun: Duration,
}

#[derive(Clone, Copy)]
struct Returned {
    at: Duration,
    permanent: bool,
}

/// The times, in true time, at which a process did not run.
#[derive(Default)]
struct Process {
    /// The beginning and the end of the last pause.
    paused: Option<(Duration, Option<Duration>)>,
    crashed: bool,
    /// The time at which it last could not reach the store.
    cut_off: Option<Duration>,
}

impl Process {
    /// It did not run at some time since then.
    fn stood_still_since(&self, time: Duration) -> bool {
        let paused = |(_, end): (_, Option<Duration>)| end.is_none_or(|end| end >= time);
        self.crashed || self.paused.is_some_and(paused)
    }
}

impl Known {
    fn is_due(&self, now: Duration) -> bool {
        match self.state {
            State::Waiting { due } => due <= now,
            State::Working { until, .. } => until <= now,
            State::Dead { .. } => false,
        }
    }

    fn is_held_by(&self, claim: &Claim) -> bool {
        matches!(self.state, State::Working { .. }) && self.token == claim.fencing_token()
    }
}

impl Entries {
    fn stood_still_since(&self, group: Group, time: Duration) -> bool {
        let process = self.processes.get(&group);
        process.is_some_and(|process| process.stood_still_since(time))
    }

    /// The store could not be reached at some time since then.
    fn was_away_since(&self, group: Group, time: Duration) -> bool {
        let process = self.processes.get(&group);
        let cut_off = process.and_then(|process| process.cut_off);
        let all = self.store_away.into_iter().chain(cut_off);
        all.max().is_some_and(|away| away >= time)
    }
}

impl Oracle {
    /// A delivery was stored, or not, at a time of the store's clock and a true time.
    pub(crate) fn accepted(
        &mut self,
        (now, since): (Duration, Duration),
        new: &NewEntry,
        outcome: Acceptance,
    ) {
        self.load.store_operations += 1;
        let key = new.key.to_string();
        let remembered = self.keys.get(&key).is_some_and(|known| known.end > now);
        match outcome {
            Acceptance::Stored if !remembered => {}
            Acceptance::Duplicate if remembered => return,
            _ => {
                let what = format!("{key}: {outcome:?}, and it is remembered: {remembered}");
                return self.violated("stored once", what);
            }
        }
        let remembered = Key {
            token: 0,
            last_token: 0,
            done: true,
            end: now + new.retention,
        };
        self.keys.insert(key.clone(), remembered);
        let state = match &new.dead {
            Some(Dead { cause, .. }) => State::Dead {
                cause: self.caused(&key, cause),
            },
            None => State::Waiting { due: now },
        };
        let known = Known {
            envelope: new.envelope.clone(),
            payload: new.payload.clone(),
            since,
            token: 0,
            attempts: 0,
            state,
        };
        if self.inbox.by_key.insert(key.clone(), known).is_some() {
            self.violated("lost", format_args!("{key} is forgotten before its end"));
        }
    }

    /// A sender that is answered 2xx does not come again.
    pub(crate) fn answered_by_inbox(&mut self, key: &str, status: u16) {
        if status / 100 == 2 && !self.keys.contains_key(key) {
            self.violated(
                "lost",
                format_args!("{key} is answered {status}, but not stored"),
            );
        }
    }

    fn caused(&mut self, key: &str, cause: &str) -> String {
        if cause.trim().is_empty() {
            self.violated("cause", format_args!("{key} has failed without a cause"));
        }
        cause.to_owned()
    }

    /// A worker of a process has told its store what became of entries, and was given others. Where the
    /// store sees its `own` changes only afterwards, those entries are not taken.
    pub(crate) fn round(
        &mut self,
        (now, true_time): (Duration, Duration),
        group: Group,
        (round, taken): (&Round, &Taken),
        sees_own: bool,
    ) {
        self.load.store_operations += 1;
        if taken.held.len() != round.changes.len() || taken.entries.len() > round.take {
            let what = format_args!("{round:?} is answered {taken:?}").to_string();
            self.violated("round", what);
        }
        for (change, held) in round.changes.iter().zip(&taken.held) {
            self.changed((now, true_time), change, *held, round.lease);
        }
        for entry in &taken.entries {
            self.took((now, true_time), group, entry, round.lease);
        }
        if taken.entries.len() < round.take {
            let changed = |key: &str| round.changes.iter().any(|it| it.claim.key() == key);
            let now = now.saturating_sub(MILLISECOND);
            let due = self
                .inbox
                .by_key
                .iter()
                .find(|(key, known)| known.is_due(now) && (sees_own || !changed(key)));
            if let Some(key) = due.map(|(key, _)| key.clone()) {
                self.violated("lost", format_args!("{key} is due, and was not taken"));
            }
        }
    }

    fn changed(
        &mut self,
        (now, true_time): (Duration, Duration),
        Change { claim, fate }: &Change,
        held: Option<bool>,
        lease: Duration,
    ) {
        let key = claim.key().to_owned();
        let known = self.inbox.by_key.get_mut(&key);
        let known = known.filter(|known| known.is_held_by(claim));
        let waits = held.is_none() && matches!(fate, Fate::Renew);
        if known.is_some() != (held == Some(true) || waits) {
            let really = known.is_some();
            let what =
                format!("{key}: {fate:?} of {claim:?} finds it held: {held:?}, but: {really}");
            return self.violated("fencing", what);
        }
        let Some(known) = known else { return };
        let (attempts, ended) = (known.attempts, (key.clone(), claim.fencing_token()));
        let returned = self.inbox.returned.get(&ended).copied();
        match fate {
            Fate::Renew if waits => {}
            Fate::Renew => {
                if let State::Working { until, leased, .. } = &mut known.state {
                    (*until, *leased) = (now + lease, true_time);
                }
            }
            Fate::Remove => {
                if returned.is_none_or(|returned| returned.permanent) {
                    self.violated(
                        "lost",
                        format_args!("{key} is removed, but was not handled"),
                    );
                }
                self.removed(&key);
            }
            Fate::Retry { wait, cause } => {
                known.state = State::Waiting { due: now + *wait };
                self.caused(&key, cause);
                if returned.is_some() {
                    self.violated("once", format_args!("{key} has ended, and is due again"));
                }
                if attempts >= MAX_ATTEMPTS {
                    let what =
                        format_args!("{key} is due again after {attempts} attempts").to_string();
                    self.violated("attempts", what);
                }
            }
            Fate::Bury(Dead { cause, .. }) => {
                let cause = self.caused(&key, cause);
                if attempts < MAX_ATTEMPTS && returned.is_none_or(|returned| !returned.permanent) {
                    let what = format!("{key} is dead after {attempts} attempts: {cause}");
                    self.violated("lost", what);
                }
                if let Some(known) = self.inbox.by_key.get_mut(&key) {
                    known.state = State::Dead { cause };
                }
                self.load.dead += 1;
                self.is_done(&key);
            }
        }
    }

    fn is_done(&mut self, key: &str) {
        if let Some(identity) = self.identity_of.get(key) {
            self.done.insert(identity.clone());
        }
    }

    fn removed(&mut self, key: &str) {
        self.inbox.by_key.remove(key);
        self.is_done(key);
    }

    fn took(
        &mut self,
        (now, true_time): (Duration, Duration),
        group: Group,
        Entry {
            claim,
            attempt,
            envelope,
            payload,
        }: &Entry,
        lease: Duration,
    ) {
        self.load.taken += 1;
        let (key, token) = (claim.key().to_owned(), claim.fencing_token());
        let id = claim.entry().expect("a claim of an entry has its id");
        let Some(known) = self.inbox.by_key.get(&key) else {
            return self.violated("lost", format_args!("{key} is taken, but not stored"));
        };
        if !known.is_due(now + MILLISECOND) {
            self.violated("lease", format_args!("{key} is taken, but not due"));
        } else if known.token >= token {
            self.violated("fencing", format_args!("{key} is taken with an old token"));
        } else if known.attempts + 1 != *attempt {
            let before = known.attempts;
            let what = format!("{key}: attempt {attempt} comes after attempt {before}");
            self.violated("attempts", what);
        } else if (&known.envelope, &known.payload) != (envelope, payload) {
            self.violated("authentic", format_args!("{key} was altered in the store"));
        }
        let known = &self.inbox.by_key[&key];
        let before = (known.token, &known.state);
        if self.was_kept_secret(&key, before, true_time) {
            self.violated(
                "once",
                format_args!("{key} has ended, and its store was not told"),
            );
        }
        let known = self.inbox.by_key.get_mut(&key).unwrap();
        (known.token, known.attempts) = (token, *attempt);
        known.state = State::Working {
            until: now + lease,
            owner: group,
            leased: true_time,
            delivered: false,
        };
        self.inbox.key_of.insert(id, key.clone());
        self.granted.insert((key, token), true_time);
    }

    /// A worker had the time to tell its store that a handler has ended, and has not done so.
    fn was_kept_secret(&self, key: &str, (token, state): (i64, &State), now: Duration) -> bool {
        let State::Working { owner, leased, .. } = *state else {
            return false;
        };
        let Some(returned) = self.inbox.returned.get(&(key.to_owned(), token)) else {
            return false;
        };
        let stepped = self.last_step > leased;
        let away = self.inbox.was_away_since(owner, returned.at);
        let still = self.inbox.stood_still_since(owner, leased);
        let had = (leased + LEASE).saturating_sub(returned.at);
        had > ENOUGH && returned.at + ENOUGH < now && !stepped && !away && !still
    }

    /// The worker has these entries, and time left to handle them.
    pub(crate) fn delivered(&mut self, taken: &Taken) {
        for entry in &taken.entries {
            if let Some(known) = self.inbox.by_key.get_mut(entry.claim.key())
                && known.is_held_by(&entry.claim)
                && let State::Working { delivered, .. } = &mut known.state
            {
                *delivered = true;
            }
        }
    }

    /// A handler removes an entry in a transaction of its own, or does not hold it any more.
    pub(crate) fn effected(&mut self, claim: &Claim, done: bool) {
        let key = claim.key();
        let held = self
            .inbox
            .by_key
            .get(key)
            .is_some_and(|it| it.is_held_by(claim));
        if held != done {
            let what = format!("{key}: an effect is committed: {done}, but it is held: {held}");
            self.violated("fencing", what);
        }
        if done {
            self.removed(key);
        }
    }

    /// A handler begins. Its end is to be told, whatever it is.
    pub(crate) fn handler_begins(&mut self, group: Group, claim: &Claim, begun: Duration) {
        let (key, token) = (claim.key().to_owned(), claim.fencing_token());
        let attempts = self
            .inbox
            .by_key
            .get(&key)
            .map_or(0, |known| known.attempts);
        if attempts > MAX_ATTEMPTS {
            let what = format!("{key} is handled in attempt {attempts}");
            self.violated("attempts", what);
        }
        let handling = Handling {
            token,
            group,
            begun,
        };
        self.inbox.handlers.entry(key).or_default().push(handling);
    }

    /// A handler has returned or was dropped: it may not have run beside a later one of its delivery,
    /// unless its process stood still. It may be dropped for good reason only.
    pub(crate) fn handler_ends(&mut self, claim: &Claim, now: Duration, dropped: bool) {
        let (key, token) = (claim.key(), claim.fencing_token());
        let Some(handlers) = self.inbox.handlers.get_mut(key) else {
            return;
        };
        let Some(index) = handlers.iter().position(|it| it.token == token) else {
            return;
        };
        let ended = handlers.remove(index);
        let (group, begun) = (ended.group, ended.begun);
        let granted = self.granted.get(&(key.to_owned(), token));
        let stepped = granted.is_none_or(|granted| self.last_step > *granted);
        let has_time = now.saturating_sub(begun) + DRIFT + DRIFT < ATTEMPT_TIMEOUT;
        let still = self.inbox.stood_still_since(group, begun);
        let away = self.inbox.was_away_since(group, begun);
        if dropped && has_time && !still && !away && !stepped {
            let what = format!("the handler of {key} is dropped: {ended:?}, {now:?}");
            self.violated("lease", what);
        }
        let handlers = &self.inbox.handlers[key];
        let later = handlers.iter().filter(|it| it.begun >= ended.begun);
        let Some(second) = later.map(|it| it.begun).min() else {
            return;
        };
        // It wakes up, and ends.
        let since = now.saturating_sub(DRIFT).max(second);
        let still = self.inbox.stood_still_since(group, since);
        if now.saturating_sub(second) > DRIFT && !still && !stepped {
            let what = format!(
                "{key} has two handlers for {:?}: {ended:?}",
                now.saturating_sub(second)
            );
            self.violated("one at a time", what);
        }
    }

    /// A handler of a worker succeeded, or failed for good.
    pub(crate) fn returned(&mut self, claim: &Claim, at: Duration, permanent: bool) {
        let ended = (claim.key().to_owned(), claim.fencing_token());
        self.inbox
            .returned
            .insert(ended, Returned { at, permanent });
    }

    pub(crate) fn paused(&mut self, group: Group, now: Duration) {
        let process = self.inbox.processes.entry(group).or_default();
        // One pause may begin in another.
        if process.paused.is_none_or(|(_, end)| end.is_some()) {
            process.paused = Some((now, None));
        }
    }

    pub(crate) fn goes_on(&mut self, group: Group, now: Duration) {
        let process = self.inbox.processes.entry(group).or_default();
        if let Some((_, end)) = &mut process.paused {
            *end = Some(now);
        }
    }

    pub(crate) fn crashed(&mut self, group: Group) {
        self.inbox.processes.entry(group).or_default().crashed = true;
    }

    pub(crate) fn is_cut_off(&mut self, group: Group, until: Duration) {
        let process = self.inbox.processes.entry(group).or_default();
        process.cut_off = Some(until);
    }

    pub(crate) fn store_is_away(&mut self, until: Duration) {
        self.inbox.store_away = Some(until);
    }

    /// A worker has shut down, at a time of the store's clock: it has kept nothing.
    pub(crate) fn shut_down(&mut self, group: Group, now: Duration) {
        let last_step = self.last_step;
        let kept = self
            .inbox
            .by_key
            .iter()
            .find(|(_, known)| match known.state {
                State::Working {
                    until,
                    owner,
                    leased,
                    delivered,
                } => owner == group && delivered && until > now + MILLISECOND && leased > last_step,
                _ => false,
            });
        if let Some(key) = kept.map(|(key, _)| key.clone()) {
            let what = format_args!("{key} is leased by a worker that has ended").to_string();
            self.violated("shutdown", what);
        }
    }

    /// The counts of a store, at a time of its clock.
    pub(crate) fn counted(&mut self, now: Duration, stats: Stats) {
        let mut counts = [0; 4];
        for known in self.inbox.by_key.values() {
            let [due, waiting, working, dead] = &mut counts;
            *match known.state {
                State::Dead { .. } => dead,
                _ if known.is_due(now) => due,
                State::Waiting { .. } => waiting,
                State::Working { .. } => working,
            } += 1;
        }
        let found = [stats.due, stats.waiting, stats.working, stats.dead];
        // Within the millisecond, one that waits may be due.
        let [due, others] =
            [counts, found].map(|[due, waiting, working, _]| due + waiting + working);
        if due != others || counts[3] != found[3] {
            self.violated("stats", format_args!("{counts:?} are counted as {stats:?}"));
        }
    }

    /// A page of dead letters, and whether it is all of them.
    pub(crate) fn listed(&mut self, letters: &[DeadLetter], all: bool) {
        let is_dead = |known: &&Known| matches!(known.state, State::Dead { .. });
        let dead = self.inbox.by_key.values().filter(is_dead).count();
        if all && dead != letters.len() {
            let what = format!("{} of {dead} dead letters are listed", letters.len());
            self.violated("dead letters", what);
        }
        for letter in letters {
            let delivery = letter.delivery.as_ref().unwrap();
            let key = format!("fleet/{}", delivery.idempotency_key());
            let known = self.inbox.by_key.get(&key);
            let same = known.is_some_and(|known| match &known.state {
                State::Dead { cause } => {
                    *cause == letter.cause && known.attempts == letter.attempts
                }
                _ => false,
            });
            if !same {
                self.violated(
                    "dead letters",
                    format_args!("{key} is listed as {letter:?}"),
                );
            }
            self.inbox.key_of.insert(letter.id, key);
        }
    }

    /// A dead letter was retried by hand.
    pub(crate) fn retried(&mut self, (now, since): (Duration, Duration), id: i64, found: bool) {
        if let Some(key) = self.dead_letter(id, found) {
            let known = self.inbox.by_key.get_mut(&key).unwrap();
            (known.attempts, known.since) = (0, since);
            known.state = State::Waiting { due: now };
            if let Some(identity) = self.identity_of.get(&key) {
                self.done.remove(identity);
            }
        }
    }

    /// A dead letter was removed by hand.
    pub(crate) fn discarded(&mut self, id: i64, found: bool) {
        if let Some(key) = self.dead_letter(id, found) {
            self.inbox.by_key.remove(&key);
        }
    }

    /// Returns the key of a dead letter that was found.
    fn dead_letter(&mut self, id: i64, found: bool) -> Option<String> {
        let key = self.inbox.key_of.get(&id).cloned()?;
        let known = self.inbox.by_key.get(&key);
        let dead = known.is_some_and(|known| matches!(known.state, State::Dead { .. }));
        if dead != found {
            self.violated(
                "dead letters",
                format_args!("{key} is found: {found}, but dead: {dead}"),
            );
        }
        (dead && found).then_some(key)
    }

    /// At the end, which is that true time: the inbox is empty but for the dead letters and for what has
    /// only just come.
    pub(crate) fn finish_inbox(&mut self, end: Duration) {
        let left = self.inbox.by_key.iter().find(|(_, known)| {
            let dead = matches!(known.state, State::Dead { .. });
            !dead && known.since + ENOUGH_FOR_ALL_ATTEMPTS < end
        });
        if let Some(key) = left.map(|(key, _)| key.clone()) {
            self.violated("lost", format_args!("{key} was stored, and has not ended"));
        }
    }
}
