use std::{fmt, time::Duration};

use super::{Inbox, crew::Crew};
use crate::{
    random::Random,
    receiver::{HandlerError, Received},
    store::StoreError,
};

/// What timers and clocks can represent, with a large margin.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Handles the deliveries of an [`Inbox`], several at a time.
///
/// A worker takes deliveries that are due under a lease, which it renews while their handlers run. A
/// handler that returns `Ok` has its delivery removed. After an error, it is called again: after
/// [`HandlerError::retry_after`] if that is set, and otherwise after a time that doubles with each attempt.
/// A [`permanent`](HandlerError::permanent) error, or the last attempt, makes the delivery a
/// [dead letter](Inbox::dead_letters) with the cause. So do attempts that end with the process: each counts
/// when it begins.
///
/// - A handler that panics has failed; the others go on.
/// - A handler that does not return is dropped at the [time limit](Self::attempt_timeout), and has failed.
/// - If a lease is lost, as when the store could not be reached, the handler is dropped: another worker may
///   have the delivery. So at most one handler at a time runs for each.
///
/// The handlers run in the task that polls [`run`](Self::run), and so can't be dropped while they compute
/// or block: a handler that does so for long should move that to a thread, such as with
/// `tokio::task::spawn_blocking`. To use several processors, run several workers.
#[must_use = "call run"]
pub struct Worker {
    pub(super) inbox: Inbox,
    pub(super) concurrency: usize,
    pub(super) lease: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) max_attempts: u32,
    pub(super) backoff: [Duration; 2],
    pub(super) poll_interval: Duration,
    pub(super) random: Random,
    pub(super) report: Box<dyn Fn(&StoreError) + Send + Sync>,
}

impl Worker {
    /// The number of deliveries that are handled at a time by default: 8.
    pub const DEFAULT_CONCURRENCY: usize = 8;
    /// The lease by default: 60 s.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);
    /// The time that an attempt may take by default: 15 min.
    pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15 * 60);
    /// The number of attempts by default: 20, over about 9 hours.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 20;

    pub(super) fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            concurrency: Self::DEFAULT_CONCURRENCY,
            lease: Self::DEFAULT_LEASE,
            attempt_timeout: Self::DEFAULT_ATTEMPT_TIMEOUT,
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            backoff: [Duration::from_secs(1), Duration::from_secs(60 * 60)],
            poll_interval: Duration::from_secs(1),
            random: Random::default(),
            report: Box::new(|_| ()),
        }
    }

    /// Sets the number of deliveries that are handled at a time: 8 by default, 1 to 1,024.
    pub fn concurrency(self, concurrency: usize) -> Self {
        let concurrency = concurrency.clamp(1, 1024);
        Self {
            concurrency,
            ..self
        }
    }

    /// Sets the time after which another worker takes a delivery whose process has died: 60 s by default, 1 s
    /// to 24 hours. It is no limit for handlers, as the lease is renewed.
    pub fn lease(self, lease: Duration) -> Self {
        let lease = lease.clamp(Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));
        Self { lease, ..self }
    }

    /// Sets the time that an attempt may take: 15 min by default, at most a year.
    pub fn attempt_timeout(self, attempt_timeout: Duration) -> Self {
        let attempt_timeout = attempt_timeout.min(YEAR);
        Self {
            attempt_timeout,
            ..self
        }
    }

    /// Sets the number of attempts, at least 1: 20 by default.
    pub fn max_attempts(self, max_attempts: u32) -> Self {
        let max_attempts = max_attempts.max(1);
        Self {
            max_attempts,
            ..self
        }
    }

    /// Sets the time between the first two attempts, which doubles with each more, and the longest: 1 s and
    /// 1 hour by default. Each time is shortened by up to a half, at random.
    pub fn backoff(self, first: Duration, longest: Duration) -> Self {
        Self {
            backoff: [first, longest],
            ..self
        }
    }

    /// Sets the time after which the worker looks for deliveries that other processes have stored: 1 s by
    /// default, 1 ms to a year. Those of its own process it takes at once.
    pub fn poll_interval(self, poll_interval: Duration) -> Self {
        let poll_interval = poll_interval.clamp(Duration::from_millis(1), YEAR);
        Self {
            poll_interval,
            ..self
        }
    }

    /// Calls `report` whenever the store fails. The worker tries again a second later.
    pub fn on_store_error(self, report: impl Fn(&StoreError) + Send + Sync + 'static) -> Self {
        Self {
            report: Box::new(report),
            ..self
        }
    }

    /// Sets the source of random bytes, from which the jitter is taken.
    #[cfg(feature = "testing")]
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// Handles deliveries until `shutdown` is ready and the handlers have finished.
    ///
    /// If the future is dropped earlier, the handlers stop half-way, and their deliveries are taken by another
    /// worker once the lease has ended.
    pub async fn run<F, R, E>(self, handler: F, shutdown: impl Future<Output = ()>)
    where
        F: Fn(Received<'static>) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<HandlerError>,
    {
        Crew::new(&self, &handler).run(shutdown).await;
    }

    /// Returns the time until the attempt after this one.
    pub(super) fn wait(&self, attempt: u32) -> Duration {
        let [first, longest] = self.backoff;
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1).min(31));
        let wait = first.saturating_mul(doubled).min(longest);
        // Without random bytes there is no jitter: that is all.
        let random = self.random.bytes().map_or(0, u32::from_ne_bytes);
        wait.saturating_sub(wait.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("inbox", &self.inbox)
            .field("concurrency", &self.concurrency)
            .field("lease", &self.lease)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("max_attempts", &self.max_attempts)
            .field("backoff", &self.backoff)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}
