use std::time::{Duration, Instant};

use crate::error::Error;

/// When to fetch a key set: a state machine without I/O, and without a clock of its own.
///
/// [`RefreshedKeys`](super::RefreshedKeys) drives it in async programs. Others drive it
/// themselves: ask [`begin`](Self::begin) from time to time, and
/// [`begin_after`](Self::begin_after) when a delivery was refused; where the answer is yes, fetch,
/// and tell how it ended with [`succeeded`](Self::succeeded) or [`failed`](Self::failed).
///
/// - One fetch at a time. One that has not ended after 10 s counts as failed.
/// - A set is fresh for the `max-age` that came with it, at least 60 s and at most 24 h; for 10
///   minutes if none did. After that it goes on serving, until a newer one is there.
/// - A refused delivery causes at most one fetch in 30 s ([`COOL_DOWN`](Self::COOL_DOWN)), however
///   many are refused: anybody can send signatures by unknown keys.
/// - After a failure the next fetch waits 1 s, then 2 s, 4 s and so on, at most 5 minutes.
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
#[derive(Debug, Default)]
pub struct KeyRefresh {
    /// Until when the set at hand is fresh; `None` before the first.
    fresh_until: Option<Instant>,
    /// When the latest fetch began, and whether it is still under way.
    latest: Option<Instant>,
    in_flight: bool,
    /// Since the latest success.
    failures: u32,
    /// When the latest failure was noticed.
    failed_at: Option<Instant>,
}

/// How current a key set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// It is younger than its maximum age.
    Fresh,
    /// It is older: it serves on, and a newer one is to be fetched.
    Stale,
    /// There has been none yet: per-request deliveries can't be verified.
    Due,
}

impl KeyRefresh {
    /// At most one fetch in this time is caused by refused deliveries: 30 s. Long enough that a
    /// fetch which began before is over.
    pub const COOL_DOWN: Duration = Duration::from_secs(30);
    /// How long a fetch should take at most: 5 s.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// How long a set is fresh that came without a `max-age`: 10 minutes.
    pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(600);
    /// A shorter `max-age` counts as this: 60 s.
    pub const SHORTEST_MAX_AGE: Duration = Duration::from_secs(60);
    /// A longer `max-age` counts as this: 24 h.
    pub const LONGEST_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

    const SHORTEST_BACK_OFF: Duration = Duration::from_secs(1);
    const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

    /// How current the set at hand is.
    #[must_use]
    pub fn freshness(&self, now: Instant) -> Freshness {
        match self.fresh_until {
            None => Freshness::Due,
            Some(until) if now < until => Freshness::Fresh,
            Some(_) => Freshness::Stale,
        }
    }

    /// Whether to fetch now because of the age of the set at hand. If so, the fetch has begun.
    #[must_use]
    pub fn begin(&mut self, now: Instant) -> bool {
        let due = self.time_to_next(now).is_zero();
        if due {
            self.start(now);
        }
        due
    }

    /// Whether to fetch now because a delivery was refused with this error. If so, the fetch has
    /// begun.
    #[must_use]
    pub fn begin_after(&mut self, error: &Error, now: Instant) -> bool {
        let cool = self
            .latest
            .is_none_or(|latest| since(latest, now) >= Self::COOL_DOWN);
        let due = cool && error.is_refreshable();
        if due {
            self.start(now);
        }
        due
    }

    /// How long it takes until [`begin`](Self::begin) may answer yes.
    #[must_use]
    pub fn time_to_next(&self, now: Instant) -> Duration {
        let aged = self
            .fresh_until
            .map_or(Duration::ZERO, |until| since(now, until));
        let backed_off = self.failed_at.map_or(Duration::ZERO, |failed_at| {
            self.back_off().saturating_sub(since(failed_at, now))
        });
        let landed = match self.latest {
            Some(latest) if self.in_flight => Self::lost_after().saturating_sub(since(latest, now)),
            _ => Duration::ZERO,
        };
        aged.max(backed_off).max(landed)
    }

    /// Tells that the fetch brought a usable set, or that the one at hand is unchanged. `max_age`
    /// is that of its `Cache-Control` (RFC 9111, section 5.2.2.1), if it had one.
    pub fn succeeded(&mut self, now: Instant, max_age: Option<Duration>) {
        let max_age = max_age
            .unwrap_or(Self::DEFAULT_MAX_AGE)
            .clamp(Self::SHORTEST_MAX_AGE, Self::LONGEST_MAX_AGE);
        self.fresh_until = now.checked_add(max_age);
        self.in_flight = false;
        self.failures = 0;
        self.failed_at = None;
    }

    /// Tells that the fetch brought no usable set. The one at hand serves on.
    pub fn failed(&mut self, now: Instant) {
        self.in_flight = false;
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
    }

    fn start(&mut self, now: Instant) {
        if self.in_flight {
            // Whoever began the one before never came back.
            self.failures = self.failures.saturating_add(1);
        }
        self.latest = Some(now);
        self.in_flight = true;
    }

    /// Longer than a fetch may take, so that it is lost and not merely slow.
    const fn lost_after() -> Duration {
        Self::TIMEOUT.saturating_mul(2)
    }

    fn back_off(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        Self::SHORTEST_BACK_OFF
            .saturating_mul(1 << doublings)
            .min(Self::LONGEST_BACK_OFF)
    }
}

fn since(earlier: Instant, later: Instant) -> Duration {
    later.saturating_duration_since(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn unknown_key() -> Error {
        Error::UnknownKey { key_id: "a".into() }
    }

    #[test]
    fn a_set_is_due_then_fresh_then_stale() {
        let now = Instant::now();
        let mut refresh = KeyRefresh::default();
        assert_eq!(refresh.freshness(now), Freshness::Due);
        assert!(refresh.begin(now));
        refresh.succeeded(now, None);
        assert_eq!(refresh.freshness(now + 599 * SECOND), Freshness::Fresh);
        assert!(!refresh.begin(now + 599 * SECOND));
        assert_eq!(refresh.freshness(now + 600 * SECOND), Freshness::Stale);
        assert!(refresh.begin(now + 600 * SECOND));
    }

    #[test]
    fn a_maximum_age_is_kept_within_bounds() {
        let now = Instant::now();
        for (given, kept) in [
            (0, 60),
            (60, 60),
            (300, 300),
            (86_400, 86_400),
            (u64::MAX, 86_400),
        ] {
            let mut refresh = KeyRefresh::default();
            refresh.succeeded(now, Some(Duration::from_secs(given)));
            assert_eq!(
                refresh.time_to_next(now),
                Duration::from_secs(kept),
                "{given}"
            );
        }
    }

    #[test]
    fn there_is_one_fetch_at_a_time() {
        let now = Instant::now();
        let mut refresh = KeyRefresh::default();
        assert!(refresh.begin(now));
        assert!(!refresh.begin(now + SECOND));
        assert!(!refresh.begin_after(&unknown_key(), now + SECOND));
    }

    #[test]
    fn a_fetch_that_never_ends_is_given_up() {
        let now = Instant::now();
        let mut refresh = KeyRefresh::default();
        assert!(refresh.begin(now));
        assert_eq!(refresh.time_to_next(now), 10 * SECOND);
        assert!(!refresh.begin(now + 9 * SECOND));
        assert!(refresh.begin(now + 10 * SECOND));
    }

    #[test]
    fn refused_deliveries_cause_one_fetch_in_a_cool_down() {
        let start = Instant::now();
        let mut refresh = KeyRefresh::default();
        assert!(refresh.begin(start));
        refresh.succeeded(start, Some(86_400 * SECOND));
        let mut fetches = 0;
        for millisecond in 0..300_000 {
            let now = start + Duration::from_millis(millisecond);
            if refresh.begin_after(&unknown_key(), now) {
                fetches += 1;
                refresh.succeeded(now, Some(86_400 * SECOND));
            }
        }
        assert_eq!(fetches, 9, "one in 30 s, for 300 s after the first");
    }

    #[test]
    fn errors_that_newer_keys_would_not_mend_cause_no_fetch() {
        let now = Instant::now();
        let mut refresh = KeyRefresh::default();
        let unrelated = Error::UnknownOrigin { reason: "" };
        assert!(!refresh.begin_after(&unrelated, now));
        assert!(refresh.begin_after(&Error::KeysUnavailable, now));
    }

    #[test]
    fn failures_are_tried_again_later_and_later_while_the_old_set_serves() {
        let mut now = Instant::now();
        let mut refresh = KeyRefresh::default();
        refresh.succeeded(now, None);
        now += 600 * SECOND;
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert!(refresh.begin(now));
            refresh.failed(now);
            assert_eq!(refresh.freshness(now), Freshness::Stale);
            assert_eq!(refresh.time_to_next(now), wait * SECOND);
            assert!(
                !refresh.begin(
                    (now + wait * SECOND)
                        .checked_sub(Duration::from_millis(1))
                        .unwrap()
                )
            );
            now += wait * SECOND;
        }
        assert!(refresh.begin(now));
        refresh.succeeded(now, None);
        assert_eq!(refresh.time_to_next(now), 600 * SECOND);
    }

    #[test]
    fn failures_do_not_let_refused_deliveries_fetch_more_often() {
        let start = Instant::now();
        let mut refresh = KeyRefresh::default();
        refresh.succeeded(start, None);
        let mut fetches = 0;
        for second in 0..300 {
            let now = start + second * SECOND;
            if refresh.begin_after(&unknown_key(), now) {
                fetches += 1;
                refresh.failed(now);
            }
        }
        assert_eq!(fetches, 10);
    }
}
