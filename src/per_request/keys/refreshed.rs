use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use super::{
    BoxError, FetchError, Fetched, Freshness, KeyRefresh, KeySet, KeySource, RefreshError,
    SharedKeySet,
    flight::{Flight, Waiting, before},
};
use crate::{clock::Clock, error::Error, random::Random};

/// A key set that is kept current: give it to [`PerRequest`](crate::PerRequest), and let a task of
/// yours [`run`](Self::run) it.
///
/// There is no task in here, and any async runtime will do. The rules are those of [`KeyRefresh`].
///
/// A fetch belongs to the key set. Whoever waits for it polls it: [`run`](Self::run), and each delivery
/// that was refused with an error that newer keys may fix. A client that hangs up neither cancels the
/// fetch nor counts as its failure. Without a task that runs it, a fetch that nobody polls is given up
/// after [`KeyRefresh::TIMEOUT`], and the next delivery that needs keys causes another one.
///
/// ```
/// # async fn fetch(url: &str) -> Result<Vec<u8>, std::io::Error> { Ok(Vec::new()) }
/// # async fn example() -> Result<(), gemini_webhooks::ConfigError> {
/// use gemini_webhooks::{PerRequest, Verifier, keys::RefreshedKeys};
/// use std::sync::Arc;
///
/// let keys = Arc::new(RefreshedKeys::new(|| fetch("https://example.com/jwks.json")));
/// let verifier = Verifier::builder()
///     .per_request(PerRequest::with_audience(keys.clone(), "https://example.com/3f9c"))
///     .build()?;
/// tokio::spawn(async move { keys.run(|error| eprintln!("{error:?}")).await });
/// # Ok(())
/// # }
/// ```
pub struct RefreshedKeys {
    source: Arc<dyn KeySource>,
    keys: SharedKeySet,
    clock: Clock,
    state: Mutex<State>,
    waiting: Arc<Waiting>,
    deliveries: AtomicUsize,
}

struct State {
    refresh: KeyRefresh,
    /// The entity tag of the current set; not of one that could not be used.
    etag: Option<String>,
    flight: Option<Arc<Flight>>,
    /// The number of fetches that have begun.
    begun: u64,
    /// The number of the latest fetch that has ended, and its result.
    ended: (u64, Result<(), RefreshError>),
}

/// An answer to whether there are newer keys than those that a delivery was refused under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newer {
    Yes,
    No,
    /// They could not be fetched in time.
    Unknown,
}

impl RefreshedKeys {
    /// The longest that a delivery waits for a fetch: 2 s.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(2);
    /// The largest number of deliveries that wait for a fetch at a time: 256. Beyond that the answer is
    /// [`Error::KeysUnavailable`].
    pub const MOST_WAITING: usize = 256;

    /// Starts without a set: the first [`refresh`](Self::refresh) fetches one.
    pub fn new(source: impl KeySource) -> Self {
        Self {
            source: Arc::new(source),
            keys: SharedKeySet::default(),
            clock: Clock::default(),
            state: Mutex::new(State {
                refresh: KeyRefresh::default(),
                etag: None,
                flight: None,
                begun: 0,
                ended: (0, Ok(())),
            }),
            waiting: Arc::default(),
            deliveries: AtomicUsize::new(0),
        }
        .jitter(&Random::default())
    }

    fn jitter(self, random: &Random) -> Self {
        // Without random bytes, replicas may fetch at the same time: that is all.
        let seed = random.bytes().map_or(0, u64::from_ne_bytes);
        self.configure(|refresh| refresh.jitter(seed))
    }

    /// Sets the time for which a stale set stays usable: 48 h by default. After that, per-request
    /// deliveries are refused with [`Error::KeysUnavailable`] until there is a newer one.
    #[must_use]
    pub fn stale_for(self, time: Duration) -> Self {
        self.configure(|refresh| refresh.stale_for(time))
    }

    /// Sets the clock. Fetches have no jitter then.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }.configure(|refresh| refresh.jitter(0))
    }

    /// Sets the source of random bytes, from which the jitter of fetches is taken. Call it after
    /// [`clock`](Self::clock).
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn random(self, random: &Random) -> Self {
        self.jitter(random)
    }

    fn configure(self, change: impl FnOnce(KeyRefresh) -> KeyRefresh) -> Self {
        let mut state = self.state();
        state.refresh = change(std::mem::take(&mut state.refresh));
        drop(state);
        self
    }

    /// Returns the handle through which verifiers see the keys.
    #[must_use]
    pub fn keys(&self) -> SharedKeySet {
        self.keys.clone()
    }

    /// Returns how current the set is, for readiness probes.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let now = self.clock.unix_seconds();
        match self.keys.get() {
            // The wall clock, by which verifiers tell, may have stepped.
            Some(keys) if keys.is_usable(now) => {
                self.state().refresh.freshness(self.clock.instant())
            }
            _ => Freshness::Due,
        }
    }

    /// Keeps the set current, for ever: fetches it when it is due, and carries each fetch that a
    /// refused delivery causes to its end. `on_error` is told of each failure; the next try follows
    /// by itself.
    pub async fn run(&self, mut on_error: impl FnMut(RefreshError)) {
        loop {
            self.until_due().await;
            if let Err(error) = self.refresh().await {
                on_error(error);
            }
        }
    }

    /// Fetches the set if it is due, or joins a fetch under way. Returns true if a fetch brought a set
    /// or learned that the current one has not changed, false if there was nothing to do.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]; the current set stays.
    pub async fn refresh(&self) -> Result<bool, RefreshError> {
        let flight = self.begin_or_join(KeyRefresh::begin);
        match flight {
            Some(flight) => self.land(&flight).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Returns the time until [`refresh`](Self::refresh) may have something to do.
    #[must_use]
    pub fn time_to_next(&self) -> Duration {
        self.state().refresh.time_to_next(self.clock.instant())
    }

    /// Waits, within bounds, for newer keys than those that a delivery was refused under.
    pub(crate) async fn newer_than(&self, used: Option<&Arc<KeySet>>, refusal: &Error) -> Newer {
        if !refusal.is_refreshable() {
            return Newer::No;
        }
        // First the flight, then the set: what lands in between is seen.
        let flight = self.begin_or_join(|refresh, now| refresh.begin_after(refusal, now));
        if self.keys.replaced_since(used) {
            return Newer::Yes;
        }
        let Some(flight) = flight else {
            // After a fetch that failed, the refusal may be wrong for as long as none may begin.
            let (_, last) = &self.state().ended;
            return if last.is_ok() {
                Newer::No
            } else {
                Newer::Unknown
            };
        };
        let Some(_seat) = Seat::take(&self.deliveries) else {
            return Newer::Unknown;
        };
        let landed = before(self.land(&flight), self.clock.sleep(Self::LONGEST_WAIT)).await;
        match landed {
            _ if self.keys.replaced_since(used) => Newer::Yes,
            // An old set that has not changed is usable again.
            Some(Ok(())) if matches!(refusal, Error::KeysUnavailable) => Newer::Yes,
            Some(Ok(())) => Newer::No,
            Some(Err(_)) | None => Newer::Unknown,
        }
    }

    /// Begins a fetch if the schedule says so, or joins the one under way.
    fn begin_or_join(
        &self,
        begins: impl FnOnce(&mut KeyRefresh, Instant) -> bool,
    ) -> Option<Arc<Flight>> {
        let now = self.clock.instant();
        let mut state = self.state();
        if state
            .flight
            .as_ref()
            .is_some_and(|flight| flight.is_lost(now))
        {
            state.flight = None;
            state.refresh.abandoned();
        }
        if !begins(&mut state.refresh, now) {
            return state.flight.clone();
        }
        state.begun = state.begun.saturating_add(1);
        let (source, etag) = (Arc::clone(&self.source), state.etag.clone());
        let fetch = Box::pin(async move { source.fetch(etag.as_deref()).await });
        let flight = Arc::new(Flight::new(state.begun, now, fetch));
        state.flight = Some(Arc::clone(&flight));
        drop(state);
        self.waiting.wake_all();
        Some(flight)
    }

    /// Waits until a fetch is due or under way.
    async fn until_due(&self) {
        let place = self.waiting.join();
        // Kept from one poll to the next, so that it wakes the task.
        let mut sleep = self.clock.sleep(Duration::ZERO);
        std::future::poll_fn(|context| {
            place.wake_next(context.waker());
            let (flies, wait) = {
                let state = self.state();
                let wait = state.refresh.time_to_next(self.clock.instant());
                (state.flight.is_some(), wait)
            };
            if flies || wait.is_zero() {
                return Poll::Ready(());
            }
            sleep = self.clock.sleep(wait);
            pin!(&mut sleep).poll(context)
        })
        .await;
    }

    /// Carries a fetch to its end, and returns its result.
    async fn land(&self, flight: &Flight) -> Result<(), RefreshError> {
        let place = self.waiting.join();
        let _helper = flight.help(&self.clock);
        let passed = self.clock.instant().saturating_duration_since(flight.began);
        let mut timeout = pin!(self.clock.sleep(KeyRefresh::TIMEOUT.saturating_sub(passed)));
        std::future::poll_fn(|context| {
            place.wake_next(context.waker());
            if let Some(result) = self.ended(flight) {
                return Poll::Ready(result);
            }
            if let Some(fetched) = flight.poll(&self.waiting) {
                return Poll::Ready(self.end(flight, fetched));
            }
            timeout.as_mut().poll(context).map(|()| {
                let reason = format!("it took longer than {} s", KeyRefresh::TIMEOUT.as_secs());
                self.end(flight, Err(reason.into()))
            })
        })
        .await
    }

    fn ended(&self, flight: &Flight) -> Option<Result<(), RefreshError>> {
        let state = self.state();
        let (number, result) = &state.ended;
        (*number >= flight.number).then(|| result.clone())
    }

    /// Ends a fetch. Only the latest one may replace the set.
    fn end(
        &self,
        flight: &Flight,
        fetched: Result<Fetched, FetchError>,
    ) -> Result<(), RefreshError> {
        let mut state = self.state();
        if state.begun != flight.number || state.ended.0 >= flight.number {
            let (_, result) = &state.ended;
            return result.clone();
        }
        let now = self.clock.instant();
        let retry_after = fetched.as_ref().err().and_then(|error| error.retry_after);
        let result = self.take(&mut state, now, fetched);
        match &result {
            Ok(()) => {}
            // A source that asks to wait has answered.
            Err(_) if flight.was_abandoned() && retry_after.is_none() => state.refresh.abandoned(),
            Err(_) => state.refresh.failed(now, retry_after),
        }
        state.flight = None;
        state.ended = (flight.number, result.clone());
        drop(state);
        self.waiting.wake_all();
        result
    }

    fn take(
        &self,
        state: &mut State,
        now: Instant,
        fetched: Result<Fetched, FetchError>,
    ) -> Result<(), RefreshError> {
        let failed = |reason: BoxError| RefreshError::Fetch(reason.into());
        let fetched = fetched.map_err(|error| failed(error.source))?;
        let usable_until = |refresh: &KeyRefresh| {
            let time = refresh.usable_for(now).as_secs();
            let time = i64::try_from(time).unwrap_or(i64::MAX);
            self.clock.unix_seconds().saturating_add(time)
        };
        match fetched {
            Fetched::Document {
                json,
                max_age,
                etag,
            } => {
                let keys = KeySet::parse(&json, &self.clock)?;
                state.refresh.succeeded(now, max_age);
                keys.use_until(usable_until(&state.refresh));
                self.keys.replace(keys);
                state.etag = etag;
            }
            Fetched::Unchanged { max_age } => {
                let Some(keys) = self.keys.get() else {
                    return Err(failed(
                        "it is said to be unchanged, but there is none yet".into(),
                    ));
                };
                state.refresh.succeeded(now, max_age);
                keys.use_until(usable_until(&state.refresh));
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RefreshedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshedKeys")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// A delivery among those that wait for a fetch, until it is dropped.
struct Seat<'c>(&'c AtomicUsize);

impl<'c> Seat<'c> {
    fn take(taken: &'c AtomicUsize) -> Option<Self> {
        if taken.fetch_add(1, Ordering::SeqCst) < RefreshedKeys::MOST_WAITING {
            return Some(Self(taken));
        }
        drop(Self(taken));
        None
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
