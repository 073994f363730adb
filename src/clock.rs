//! The only place that reads a clock. Whatever needs the time holds a [`Clock`], so that tests and
//! simulations can drive it.

#[cfg(any(feature = "_timers", feature = "receiver"))]
use std::time::Instant;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(feature = "testing")]
use manual::Manual;

/// A wall clock and a monotonic clock: the system's, or with the feature `testing` one that a test
/// moves. Clones are the same clock.
#[derive(Debug, Clone, Default)]
#[must_use]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub))]
pub struct Clock {
    #[cfg(feature = "testing")]
    manual: Option<std::sync::Arc<Manual>>,
}

impl Clock {
    /// The time since the Unix epoch. A clock before 1970 is as wrong as one at 1970: no delivery
    /// is inside the window.
    #[cfg_attr(not(feature = "testing"), expect(clippy::unused_self))]
    pub(crate) fn since_epoch(&self) -> Duration {
        #[cfg(feature = "testing")]
        if let Some(manual) = &self.manual {
            return manual.since_epoch();
        }
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    pub(crate) fn unix_seconds(&self) -> i64 {
        i64::try_from(self.since_epoch().as_secs()).unwrap_or(i64::MAX)
    }

    /// The time of the monotonic clock, which never steps back.
    #[cfg(any(feature = "_timers", feature = "receiver"))]
    #[cfg_attr(not(feature = "testing"), expect(clippy::unused_self))]
    pub(crate) fn instant(&self) -> Instant {
        #[cfg(feature = "testing")]
        if let Some(manual) = &self.manual {
            return manual.instant();
        }
        Instant::now()
    }
}

/// Whole milliseconds, as far as 64 bits reach.
#[cfg(any(feature = "sqlite", feature = "redis"))]
pub(crate) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(feature = "_timers")]
mod sleep {
    use std::{
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use super::Clock;

    /// A future that ends after some time of the monotonic clock.
    pub(crate) enum Sleep {
        /// By a thread of `futures-timer`, so that any async runtime will do.
        System(futures_timer::Delay),
        #[cfg(feature = "testing")]
        Manual(super::manual::Sleep),
    }

    impl Clock {
        #[cfg_attr(not(feature = "testing"), expect(clippy::unused_self))]
        pub(crate) fn sleep(&self, time: Duration) -> Sleep {
            #[cfg(feature = "testing")]
            if let Some(manual) = &self.manual {
                return Sleep::Manual(manual.sleep(time));
            }
            Sleep::System(futures_timer::Delay::new(time))
        }
    }

    impl Future for Sleep {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            match self.get_mut() {
                Self::System(delay) => Pin::new(delay).poll(context),
                #[cfg(feature = "testing")]
                Self::Manual(sleep) => Pin::new(sleep).poll(context),
            }
        }
    }
}

#[cfg(feature = "testing")]
mod manual {
    #[cfg(feature = "_timers")]
    use std::{
        collections::BTreeMap,
        pin::Pin,
        task::{Context, Poll, Waker},
    };
    use std::{
        sync::{Arc, Mutex, MutexGuard, PoisonError},
        time::{Duration, Instant},
    };

    use time::OffsetDateTime;

    use super::Clock;

    #[derive(Debug)]
    pub(super) struct Manual {
        #[cfg_attr(not(any(feature = "_timers", feature = "receiver")), expect(dead_code))]
        started: Instant,
        times: Mutex<Times>,
    }

    #[derive(Debug)]
    struct Times {
        /// Since the Unix epoch.
        wall: Duration,
        /// Since `started`.
        monotonic: Duration,
        /// By the time at which each is to be woken, and by a number that no two have.
        #[cfg(feature = "_timers")]
        sleepers: BTreeMap<(Duration, u64), Waker>,
        #[cfg(feature = "_timers")]
        last_sleeper: u64,
    }

    /// A future that ends when a manual clock has been moved far enough.
    #[cfg(feature = "_timers")]
    pub(crate) struct Sleep {
        clock: Arc<Manual>,
        until: Duration,
        number: u64,
    }

    #[cfg(feature = "_timers")]
    impl Future for Sleep {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let mut times = self.clock.times();
            if times.monotonic >= self.until {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            times.sleepers.insert((self.until, self.number), waker);
            Poll::Pending
        }
    }

    #[cfg(feature = "_timers")]
    impl Drop for Sleep {
        fn drop(&mut self) {
            let waker = self
                .clock
                .times()
                .sleepers
                .remove(&(self.until, self.number));
            // What it drops is dropped after the lock.
            drop(waker);
        }
    }

    impl Manual {
        pub(super) fn since_epoch(&self) -> Duration {
            self.times().wall
        }

        #[cfg(any(feature = "_timers", feature = "receiver"))]
        pub(super) fn instant(&self) -> Instant {
            let passed = self.times().monotonic;
            self.started.checked_add(passed).unwrap_or(self.started)
        }

        #[cfg(feature = "_timers")]
        pub(super) fn sleep(self: &Arc<Self>, time: Duration) -> Sleep {
            let mut times = self.times();
            times.last_sleeper = times.last_sleeper.wrapping_add(1);
            Sleep {
                clock: Arc::clone(self),
                until: times.monotonic.saturating_add(time),
                number: times.last_sleeper,
            }
        }

        fn times(&self) -> MutexGuard<'_, Times> {
            // No panic can leave the times half changed.
            self.times.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Zero for a time before 1970.
    fn since_epoch(time: OffsetDateTime) -> Duration {
        u64::try_from(time.unix_timestamp())
            .map(|seconds| Duration::new(seconds, time.nanosecond()))
            .unwrap_or_default()
    }

    /// A clock for tests.
    impl Clock {
        /// Returns a clock that stands still at `now` until it is moved.
        pub fn manual(now: OffsetDateTime) -> Self {
            let manual = Manual {
                started: Instant::now(),
                times: Mutex::new(Times {
                    wall: since_epoch(now),
                    monotonic: Duration::ZERO,
                    #[cfg(feature = "_timers")]
                    sleepers: BTreeMap::new(),
                    #[cfg(feature = "_timers")]
                    last_sleeper: 0,
                }),
            };
            Self {
                manual: Some(Arc::new(manual)),
            }
        }

        /// Lets time pass, on both clocks. Does nothing to the system's clock.
        pub fn advance(&self, by: Duration) {
            if let Some(manual) = &self.manual {
                let mut times = manual.times();
                times.wall = times.wall.saturating_add(by);
                times.monotonic = times.monotonic.saturating_add(by);
                #[cfg(feature = "_timers")]
                {
                    let later = (times.monotonic, u64::MAX);
                    let later = times.sleepers.split_off(&later);
                    let due = std::mem::replace(&mut times.sleepers, later);
                    drop(times);
                    due.into_values().for_each(Waker::wake);
                }
            }
        }

        /// Returns how far the clock has to be advanced until somebody who sleeps is due, such as
        /// [`RefreshedKeys::run`](crate::keys::RefreshedKeys::run); `None` if nobody sleeps, or for the
        /// system's clock.
        #[cfg(feature = "_timers")]
        #[must_use]
        pub fn time_to_wake(&self) -> Option<Duration> {
            let times = self.manual.as_ref()?.times();
            let (&(until, _), _) = times.sleepers.first_key_value()?;
            Some(until.saturating_sub(times.monotonic))
        }

        /// Sets the wall clock, as an administrator or NTP does. The monotonic clock stays. Does
        /// nothing to the system's clock.
        pub fn set(&self, now: OffsetDateTime) {
            if let Some(manual) = &self.manual {
                manual.times().wall = since_epoch(now);
            }
        }

        /// Returns the time of the wall clock (UTC).
        #[must_use]
        pub fn now(&self) -> OffsetDateTime {
            OffsetDateTime::UNIX_EPOCH
                .checked_add(self.since_epoch().try_into().unwrap_or_default())
                .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(unix_seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(unix_seconds).unwrap()
    }

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let clock = Clock::manual(at(1_780_000_000) + SECOND / 4);
        let copy = clock.clone();
        let started = clock.instant();
        assert_eq!(clock.now(), at(1_780_000_000) + SECOND / 4);
        assert_eq!((clock.now(), clock.instant()), (clock.now(), started));
        copy.advance(2 * SECOND);
        assert_eq!(clock.unix_seconds(), 1_780_000_002);
        assert_eq!(clock.instant() - started, 2 * SECOND);
    }

    #[test]
    fn setting_the_wall_clock_leaves_the_monotonic_one_alone() {
        let clock = Clock::manual(at(1_780_000_000));
        let started = clock.instant();
        for seconds in [1_790_000_000, 0] {
            clock.set(at(seconds));
            assert_eq!(clock.now(), at(seconds));
            assert_eq!(clock.instant(), started);
        }
    }

    #[test]
    fn a_time_out_of_range_is_cut_off() {
        let clock = Clock::manual(at(-1));
        assert_eq!(clock.unix_seconds(), 0);
        clock.set(at(-86_400));
        assert_eq!(clock.now(), OffsetDateTime::UNIX_EPOCH);
        clock.advance(Duration::MAX);
        assert_eq!(clock.unix_seconds(), i64::MAX);
        clock.advance(Duration::MAX);
        let _ = (clock.instant(), clock.now());
    }

    #[test]
    fn the_systems_clock_is_not_moved() {
        let clock = Clock::default();
        let before = OffsetDateTime::now_utc();
        clock.advance(3600 * SECOND);
        clock.set(at(0));
        let now = clock.now();
        assert!(before <= now && now < before + 60 * SECOND, "{now}");
        assert!(clock.instant().elapsed() < 60 * SECOND);
    }
}
