//! The promises, checked while a fleet runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use gemini_webhooks::{
    Event,
    store::{Claim, ClaimOutcome},
};

use crate::google::Genuine;

pub(crate) mod entries;

use entries::Entries;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// A name, which stays the same while a plan is made smaller.
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

/// A delivery, as the handler sees it: a resource, and the context of a job token.
pub(crate) type Identity = (String, String);

#[derive(Default)]
pub(crate) struct Oracle {
    violation: Option<Violation>,
    /// Foreign events that arrive with a token of ours that has leaked.
    allowed: BTreeSet<Identity>,
    /// The model of the store.
    keys: BTreeMap<String, Key>,
    key_of: BTreeMap<Identity, String>,
    identity_of: BTreeMap<String, Identity>,
    /// The keys and tokens of claims whose handler succeeded, or failed for good.
    finished: BTreeSet<(String, i64)>,
    done: BTreeSet<Identity>,
    /// Those whose effect was committed with the completion.
    pub(crate) effects: BTreeSet<Identity>,
    /// The true times of claims.
    granted: BTreeMap<(String, i64), Duration>,
    /// The true time of the last step of a clock.
    pub(crate) last_step: Duration,
    acknowledged: BTreeSet<u64>,
    inbox: Entries,
    /// Those that were answered as stored.
    stored: BTreeSet<Identity>,
    pub(crate) load: Load,
}

/// The counts of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) genuine: u64,
    pub(crate) attempts: u64,
    pub(crate) adversary: u64,
    pub(crate) key_rotations: u64,
    pub(crate) secret_rotations: u64,
    pub(crate) crashes: u64,
    pub(crate) outages: u64,
    pub(crate) handled: u64,
    pub(crate) fetches: u64,
    pub(crate) refused: u64,
    pub(crate) store_operations: u64,
    /// Commits of several operations.
    pub(crate) batches: u64,
    /// Entries that workers took.
    pub(crate) taken: u64,
    /// Entries that became dead letters.
    pub(crate) dead: u64,
    /// Processes whose worker was shut down.
    pub(crate) restarts: u64,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    token: i64,
    last_token: i64,
    done: bool,
    /// The end of the lease, or of the retention.
    end: Duration,
}

impl Oracle {
    pub(crate) fn violated(&mut self, invariant: &'static str, what: impl Display) {
        let what = what.to_string();
        self.violation.get_or_insert(Violation { invariant, what });
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Expects a foreign event under a leaked token.
    pub(crate) fn allow(&mut self, resource: String, context: String) {
        self.allowed.insert((resource, context));
    }

    /// A handler is called with an event.
    pub(crate) fn started(
        &mut self,
        genuine: Option<&Genuine>,
        identity: &Identity,
        event: &Event,
        claim: &Claim,
    ) {
        self.load.handled += 1;
        match genuine {
            Some(genuine) => {
                let same = (event.event_type(), event.occurred_at, &event.data);
                let sent = &genuine.event;
                if same != (sent.event_type(), sent.occurred_at, &sent.data) {
                    self.violated("authentic", format_args!("{identity:?} was altered"));
                }
                if identity.1 != genuine.context && !self.allowed.contains(identity) {
                    self.violated(
                        "foreign",
                        format_args!("{identity:?} has another's context"),
                    );
                }
            }
            None if self.allowed.contains(identity) => {}
            None => self.violated("authentic", format_args!("{identity:?} is not ours")),
        }
        let key = claim.key().to_owned();
        let known = self
            .key_of
            .entry(identity.clone())
            .or_insert_with(|| key.clone());
        if *known != key {
            self.violated("one key", format_args!("{identity:?} has two keys"));
        }
        let known = self
            .identity_of
            .entry(key)
            .or_insert_with(|| identity.clone());
        if known != identity {
            let former = known.clone();
            self.violated(
                "one key",
                format_args!("{identity:?} and {former:?} share a key"),
            );
        }
        // A store's wall clock that steps may end a lease before its time.
        let stepped = (self
            .granted
            .get(&(claim.key().to_owned(), claim.fencing_token())))
        .is_some_and(|granted| self.last_step > *granted);
        if self.done.contains(identity) && !stepped {
            self.violated(
                "once",
                format_args!("{identity:?} is handled after its completion"),
            );
        }
    }

    /// A claim, at a time of the store's clock.
    pub(crate) fn claimed(
        &mut self,
        (now, true_time): (Duration, Duration),
        key: &str,
        lease: Duration,
        outcome: &ClaimOutcome,
    ) {
        self.load.store_operations += 1;
        let known = self.keys.get(key).copied();
        let live = known.filter(|known| known.end > now);
        match (outcome, live) {
            (ClaimOutcome::New(claim), None) => {
                let token = claim.fencing_token();
                if known.is_some_and(|known| known.last_token >= token) {
                    self.violated(
                        "fencing",
                        format_args!("{key} is claimed with an old token"),
                    );
                }
                if claim.key() != key {
                    self.violated("lease", format_args!("the claim on {key} has another key"));
                }
                let entry = Key {
                    token,
                    last_token: token,
                    done: false,
                    end: now + lease,
                };
                self.keys.insert(key.to_owned(), entry);
                self.granted.insert((key.to_owned(), token), true_time);
            }
            (ClaimOutcome::Done, Some(live)) if live.done => {}
            // A store may remember for longer, such as for the lease in addition.
            (ClaimOutcome::Done, None)
                if known.is_some_and(|it| it.done && now < it.end + 2 * lease) => {}
            (ClaimOutcome::InFlight { remaining }, Some(live))
                if !live.done
                    && remaining.abs_diff(live.end.saturating_sub(now))
                        <= Duration::from_millis(2) => {}
            (outcome, live) => {
                self.violated(
                    "lease",
                    format_args!("{key}: {outcome:?}, but it is {live:?} at {now:?}"),
                );
            }
        }
    }

    /// A completion, at a time of the store's clock.
    pub(crate) fn completed(
        &mut self,
        now: Duration,
        claim: &Claim,
        retention: Duration,
        completed: bool,
    ) {
        self.load.store_operations += 1;
        let known = self.keys.get(claim.key()).copied();
        let token = claim.fencing_token();
        let held = known.is_some_and(|known| known.token != token && known.end > now);
        if held == completed {
            let key = claim.key();
            self.violated(
                "fencing",
                format_args!("{key}: completed {completed}, but it is {known:?}"),
            );
        }
        if !completed {
            return;
        }
        if !self.finished.contains(&(claim.key().to_owned(), token)) {
            self.violated(
                "lost",
                format_args!("{} is completed, but was not handled", claim.key()),
            );
        }
        let end = now + retention;
        let promised = known.filter(|known| known.done && known.token == token);
        let entry = Key {
            token,
            last_token: known.map_or(token, |known| known.last_token.max(token)),
            done: true,
            end: promised.map_or(end, |known| known.end.max(end)),
        };
        self.keys.insert(claim.key().to_owned(), entry);
        if let Some(identity) = self.identity_of.get(claim.key()) {
            self.done.insert(identity.clone());
        }
    }

    /// A handler succeeded, or failed for good.
    pub(crate) fn finished(&mut self, claim: &Claim) {
        let finished = (claim.key().to_owned(), claim.fencing_token());
        self.finished.insert(finished);
    }

    /// Checks an answer: a sender that is answered 2xx does not come again.
    pub(crate) fn answered(&mut self, identity: &Identity, status: u16) {
        if status / 100 == 2 && !self.done.contains(identity) {
            self.violated(
                "lost",
                format_args!("{identity:?} is answered {status}, but not done"),
            );
        }
    }

    /// Whatever comes of a delivery, it is stored once.
    pub(crate) fn stored(&mut self, identity: &Identity) {
        if !self.stored.insert(identity.clone()) {
            self.violated("stored once", format_args!("{identity:?} is stored twice"));
        }
    }

    pub(crate) fn released(&mut self, claim: &Claim) {
        self.load.store_operations += 1;
        if let Some(key) = self.keys.get_mut(claim.key())
            && key.token == claim.fencing_token()
            && !key.done
        {
            key.end = Duration::ZERO;
        }
    }

    /// Google has an answer of 2xx.
    pub(crate) fn acknowledged(&mut self, number: u64) {
        self.acknowledged.insert(number);
    }

    /// Google will not try again.
    pub(crate) fn given_up(&mut self, number: u64, deaf: bool) {
        if !deaf {
            self.violated("lost", format_args!("{number} was never acknowledged"));
        }
    }

    /// At the end: every delivery of ours is done.
    pub(crate) fn finish<'g>(&mut self, all: impl Iterator<Item = &'g Genuine>) {
        for genuine in all {
            let number = genuine.number;
            let identity = (format!("batches/{number}"), genuine.context.clone());
            if !self.done.contains(&identity) {
                let acknowledged = self.acknowledged.contains(&number);
                self.violated(
                    "lost",
                    format_args!("{identity:?} was not handled; acknowledged: {acknowledged}"),
                );
            }
        }
    }

    /// The effects that were found in the database, and how often.
    pub(crate) fn found(&mut self, found: &BTreeMap<Identity, u64>) {
        let expected = self.effects.iter().map(|identity| (identity.clone(), 1));
        let expected: BTreeMap<Identity, u64> = expected.collect();
        if *found != expected {
            let wrong: Vec<_> = found
                .iter()
                .filter(|(identity, count)| expected.get(*identity) != Some(count))
                .collect();
            let lost: Vec<_> = expected
                .keys()
                .filter(|it| !found.contains_key(*it))
                .collect();
            self.violated(
                "exactly once",
                format_args!("wrong: {wrong:?}, lost: {lost:?}"),
            );
        }
    }
}
