use std::time::{Duration, Instant};

use crate::error::Error;

/// A schedule of when to fetch a key set: a state machine without I/O, and without a clock of its own.
///
/// [`RefreshedKeys`](super::RefreshedKeys) drives it in async programs. Others drive it themselves:
/// ask [`begin`](Self::begin) from time to time, and [`begin_after`](Self::begin_after) when a
/// delivery was refused. If the answer is true, fetch, and report the end with
/// [`succeeded`](Self::succeeded) or [`failed`](Self::failed).
///
/// - One fetch at a time. A fetch that has not ended after 10 s is lost, and no failure.
/// - A set is fresh for the `max-age` that came with it, at least 60 s and at most 24 h, or 10 minutes
///   if none did. After that it is stale and stays usable for [`stale_for`](Self::stale_for), 48 h by
///   default.
/// - Refused deliveries cause at most one fetch in 30 s ([`COOL_DOWN`](Self::COOL_DOWN)), however many
///   are refused: anybody can send signatures by unknown keys.
/// - After a failure of a periodic fetch the next one waits 1 s, then 2 s, 4 s and so on, at most 5
///   minutes. A fetch that refused deliveries caused never delays it.
/// - Times count from the end of a fetch.
///
/// ```
/// use std::time::{Duration, Instant};
/// use gemini_webhooks::keys::{Freshness, KeyRefresh};
///
/// let now = Instant::now();
/// let mut refresh = KeyRefresh::default();
/// assert!(refresh.begin(now), "there is no key set yet");
/// refresh.succeeded(now, Some(Duration::from_secs(300)));
/// assert_eq!(refresh.freshness(now), Freshness::Fresh);
/// assert!(!refresh.begin(now));
/// assert!(refresh.begin(now + Duration::from_secs(300)));
/// ```
#[derive(Debug)]
pub struct KeyRefresh {
    /// When the current set stops being fresh; `None` before the first.
    fresh_until: Option<Instant>,
    stale_for: Duration,
    fetch: Option<Fetch>,
    /// Consecutive failures of periodic fetches.
    failures: u32,
    /// The time before which no periodic fetch begins.
    not_before: Option<Instant>,
    /// The time before which no fetch begins that refused deliveries cause.
    cool_until: Option<Instant>,
    /// The state of a generator of pseudo-random numbers; zero for no jitter.
    jitter: u64,
}

/// A fetch under way.
#[derive(Debug, Clone, Copy)]
struct Fetch {
    began: Instant,
    on_demand: bool,
}

/// The state of a key set, for readiness probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// The set is younger than its maximum age.
    Fresh,
    /// The set is older. It stays usable, and a newer one is to be fetched.
    Stale,
    /// There is no set, or it has been stale for too long: per-request deliveries can't be verified.
    Due,
}

impl Default for KeyRefresh {
    fn default() -> Self {
        Self {
            fresh_until: None,
            stale_for: Self::DEFAULT_STALE_FOR,
            fetch: None,
            failures: 0,
            not_before: None,
            cool_until: None,
            jitter: 0,
        }
    }
}

impl KeyRefresh {
    /// The time between two fetches that refused deliveries cause: 30 s.
    pub const COOL_DOWN: Duration = Duration::from_secs(30);
    /// The longest that a fetch may take: 5 s.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// The time for which a set is fresh that came without a `max-age`: 10 minutes.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(600);
    /// A shorter `max-age` counts as this: 60 s.
    pub const SHORTEST_MAX_AGE: Duration = Duration::from_secs(60);
    /// A longer `max-age` counts as this: 24 h.
    pub const LONGEST_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
    /// The time for which a stale set stays usable by default: 48 h.
    pub const DEFAULT_STALE_FOR: Duration = Duration::from_secs(48 * 60 * 60);

    const SHORTEST_BACK_OFF: Duration = Duration::from_secs(1);
    const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
    /// Longer than a fetch may take, so that it is lost and not merely slow.
    const LOST_AFTER: Duration = Self::TIMEOUT.saturating_mul(2);

    /// Sets the time for which a stale set stays usable: 48 h by default.
    #[must_use]
    pub fn stale_for(self, stale_for: Duration) -> Self {
        Self { stale_for, ..self }
    }

    /// Fetches up to a tenth of the maximum age earlier, by pseudo-random times that follow from the
    /// seed: so that replicas which start together do not fetch together.
    #[must_use]
    pub fn jitter(self, seed: u64) -> Self {
        Self {
            jitter: seed,
            ..self
        }
    }

    /// Returns how current the set is.
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        match self.fresh_until {
            Some(until) if now < until => Freshness::Fresh,
            Some(until) if since(until, now) < self.stale_for => Freshness::Stale,
            _ => Freshness::Due,
        }
    }

    /// Returns true if a fetch is to begin now because of the age of the set. The fetch has then
    /// begun.
    #[must_use]
    pub fn begin(&mut self, now: Instant) -> bool {
        let due = self.time_to_next(now).is_zero();
        if due {
            self.start(now, false);
        }
        due
    }

    /// Returns true if a fetch is to begin now because a delivery was refused with this error. The
    /// fetch has then begun.
    #[must_use]
    pub fn begin_after(&mut self, error: &Error, now: Instant) -> bool {
        let due = error.is_refreshable()
            && until(self.cool_until, now).is_zero()
            && self.time_to_loss(now).is_zero();
        if due {
            self.start(now, true);
        }
        due
    }

    /// Returns the time until [`begin`](Self::begin) may return true.
    #[must_use]
    pub fn time_to_next(&self, now: Instant) -> Duration {
        until(self.fresh_until, now)
            .max(until(self.not_before, now))
            .max(self.time_to_loss(now))
    }

    /// Reports that the fetch brought a usable set, or that the current one is unchanged. `max_age` is
    /// the time for which it may still be used, if the source knows.
    pub fn succeeded(&mut self, now: Instant, max_age: Option<Duration>) {
        let max_age = max_age
            .unwrap_or(Self::DEFAULT_MAX_AGE)
            .clamp(Self::SHORTEST_MAX_AGE, Self::LONGEST_MAX_AGE);
        let max_age = max_age.saturating_sub(self.random_tenth(max_age));
        self.fetch = None;
        self.fresh_until = now.checked_add(max_age);
        self.failures = 0;
        self.not_before = None;
        self.cool(now, Self::COOL_DOWN);
    }

    /// Reports that the fetch brought no usable set. The current one stays. `retry_after` is the
    /// time that the source asked to wait; more than 5 minutes count as 5 minutes.
    pub fn failed(&mut self, now: Instant, retry_after: Option<Duration>) {
        let on_demand = self.fetch.take().is_some_and(|fetch| fetch.on_demand);
        let mut wait = retry_after.unwrap_or_default().min(Self::LONGEST_BACK_OFF);
        self.cool(now, wait.max(Self::COOL_DOWN));
        if !on_demand {
            let back_off = Self::SHORTEST_BACK_OFF
                .saturating_mul(1 << self.failures.min(16))
                .min(Self::LONGEST_BACK_OFF);
            let back_off = back_off.saturating_sub(self.random_tenth(back_off));
            self.failures = self.failures.saturating_add(1);
            wait = wait.max(back_off);
        }
        self.not_before = self.not_before.max(now.checked_add(wait));
    }

    fn start(&mut self, began: Instant, on_demand: bool) {
        self.fetch = Some(Fetch { began, on_demand });
        // If whoever began it never comes back, the next one waits all the same.
        if on_demand {
            self.cool(began, Self::COOL_DOWN);
        }
    }

    fn cool(&mut self, now: Instant, time: Duration) {
        self.cool_until = self.cool_until.max(now.checked_add(time));
    }

    /// Reports that nobody carried the fetch to its end. That is no failure, and the next delivery
    /// that needs keys may cause another fetch.
    pub(super) fn abandoned(&mut self) {
        if self.fetch.take().is_some_and(|fetch| fetch.on_demand) {
            self.cool_until = None;
        }
    }

    /// Returns the time for which the current set is usable.
    pub(super) fn usable_for(&self, now: Instant) -> Duration {
        until(self.fresh_until, now).saturating_add(self.stale_for)
    }

    /// The time until a fetch under way, if there is one, is lost.
    fn time_to_loss(&self, now: Instant) -> Duration {
        self.fetch.map_or(Duration::ZERO, |fetch| {
            Self::LOST_AFTER.saturating_sub(since(fetch.began, now))
        })
    }

    /// A pseudo-random time up to a tenth of another (xorshift64).
    fn random_tenth(&mut self, of: Duration) -> Duration {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let part = u32::try_from(self.jitter % 1000).unwrap_or_default();
        of.saturating_mul(part)
            .checked_div(10_000)
            .unwrap_or_default()
    }
}

fn until(time: Option<Instant>, now: Instant) -> Duration {
    time.map_or(Duration::ZERO, |time| since(now, time))
}

fn since(earlier: Instant, later: Instant) -> Duration {
    later.saturating_duration_since(earlier)
}

#[cfg(test)]
mod tests;
