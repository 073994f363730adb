//! A fetch that belongs to the key set, and not to whoever caused it.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use super::{BoxFuture, FetchError, Fetched, KeyRefresh};
use crate::clock::Clock;

/// A fetch under way, polled by all who wait for it.
///
/// A future that is dropped takes nothing along: whoever polls next continues the fetch.
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) began: Instant,
    fetch: Mutex<Option<BoxFuture<'static, Result<Fetched, FetchError>>>>,
    crew: Mutex<Crew>,
}

/// Those who poll a flight.
#[derive(Default)]
struct Crew {
    helpers: usize,
    /// The time since which there are none.
    idle_since: Option<Instant>,
    abandoned: bool,
}

/// Somebody who polls a flight, until this is dropped.
pub(super) struct Helper<'f> {
    flight: &'f Flight,
    clock: &'f Clock,
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        let mut crew = self.flight.crew();
        crew.helpers = crew.helpers.saturating_sub(1);
        if crew.helpers == 0 {
            crew.idle_since = Some(self.clock.instant());
        }
    }
}

impl Flight {
    pub(super) fn new(
        number: u64,
        began: Instant,
        fetch: BoxFuture<'static, Result<Fetched, FetchError>>,
    ) -> Self {
        Self {
            number,
            began,
            fetch: Mutex::new(Some(fetch)),
            crew: Mutex::default(),
        }
    }

    /// Returns true if nobody polls the fetch, and it has taken too long to be of use.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.began);
        self.crew().helpers == 0 && age >= KeyRefresh::TIMEOUT
    }

    pub(super) fn help<'f>(&'f self, clock: &'f Clock) -> Helper<'f> {
        /// Longer than it takes to wake another task that polls.
        const GAP: Duration = Duration::from_secs(1);
        let mut crew = self.crew();
        crew.helpers = crew.helpers.saturating_add(1);
        if let Some(since) = crew.idle_since.take()
            && clock.instant().saturating_duration_since(since) >= GAP
        {
            crew.abandoned = true;
        }
        Helper {
            flight: self,
            clock,
        }
    }

    /// Returns true if there was a time, of a second or more, in which nobody polled the fetch. That it
    /// failed is then no fault of the source, whose connection may have timed out meanwhile.
    pub(super) fn was_abandoned(&self) -> bool {
        self.crew().abandoned
    }

    fn crew(&self) -> MutexGuard<'_, Crew> {
        // No panic can leave it half changed.
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls the fetch, unless another caller does at this moment or it is over. Returns its result to
    /// one caller alone. The caller already has its place in `waiting`.
    pub(super) fn poll(&self, waiting: &Arc<Waiting>) -> Option<Result<Fetched, FetchError>> {
        let mut slot = match self.fetch.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The caller that polls wakes all if there was more to do meanwhile.
            Err(TryLockError::WouldBlock) => return None,
        };
        // A source that panics is not polled again.
        let mut fetch = slot.take()?;
        waiting.set_woken(false);
        let waker = Waker::from(Arc::clone(waiting));
        let polled = fetch.as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(fetched) = polled {
            return Some(fetched);
        }
        *slot = Some(fetch);
        drop(slot);
        if waiting.woken() {
            waiting.wake_all();
        }
        None
    }
}

/// The tasks that wait for something to happen to a key set. All are woken each time, in the order in
/// which they joined.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Tasks>);

#[derive(Default)]
struct Tasks {
    /// By the time at which they joined.
    wakers: BTreeMap<u64, Waker>,
    last_id: u64,
    woken: bool,
}

/// A place among those who wait, until it is dropped: what hangs up leaves nothing behind.
pub(super) struct Place<'w> {
    waiting: &'w Waiting,
    id: u64,
}

impl Waiting {
    pub(super) fn join(&self) -> Place<'_> {
        let mut tasks = self.tasks();
        tasks.last_id = tasks.last_id.wrapping_add(1);
        let id = tasks.last_id;
        Place { waiting: self, id }
    }

    pub(super) fn wake_all(&self) {
        let mut tasks = self.tasks();
        tasks.woken = true;
        let wakers = std::mem::take(&mut tasks.wakers);
        drop(tasks);
        wakers.into_values().for_each(Waker::wake);
    }

    fn woken(&self) -> bool {
        self.tasks().woken
    }

    fn set_woken(&self, woken: bool) {
        self.tasks().woken = woken;
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        // No panic can leave the list half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Has a task woken at the next event.
    pub(super) fn wake_next(&self, waker: &Waker) {
        // What is dropped is dropped after the lock: it may drop a task with a place of its own.
        let former = self.waiting.tasks().wakers.insert(self.id, waker.clone());
        drop(former);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waker = self.waiting.tasks().wakers.remove(&self.id);
        drop(waker);
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

/// Polls the first future until it or the second one is ready: `None` for the second.
pub(super) async fn before<T>(
    first: impl Future<Output = T>,
    second: impl Future<Output = ()>,
) -> Option<T> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    std::future::poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => second.as_mut().poll(context).map(|()| None),
    })
    .await
}
