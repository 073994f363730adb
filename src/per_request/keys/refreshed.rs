use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{BoxError, BoxFuture, KeyRefresh, KeySet, KeySetError, SharedKeySet};
use crate::{clock::Clock, error::Error};

/// Where key sets come from: the I/O, which the caller supplies.
///
/// An async closure without parameters that gives the bytes of a JSON Web Key Set is one; so is
/// `JwksEndpoint` (feature `reqwest`). A source has to end after some time, such as
/// [`KeyRefresh::TIMEOUT`], and to bound what it reads, such as by [`KeySet::MAX_DOCUMENT`].
pub trait KeySource: Send + Sync + 'static {
    /// Fetches the key set. `etag` is that of the set at hand (RFC 9110, section 8.8.3), for
    /// sources that can ask whether it has changed.
    fn fetch<'s>(&'s self, etag: Option<&'s str>) -> BoxFuture<'s, Result<Fetched, BoxError>>;
}

/// What a [`KeySource`] brings.
#[derive(Debug)]
pub enum Fetched {
    /// A JSON Web Key Set.
    Document {
        /// Its bytes.
        json: Vec<u8>,
        /// How long it may be used, if the source knows.
        max_age: Option<Duration>,
        /// Its entity tag, if the source knows.
        etag: Option<String>,
    },
    /// The set at hand is the current one.
    Unchanged {
        /// How much longer it may be used, if the source knows.
        max_age: Option<Duration>,
    },
}

impl From<Vec<u8>> for Fetched {
    fn from(json: Vec<u8>) -> Self {
        Self::Document {
            json,
            max_age: None,
            etag: None,
        }
    }
}

impl<F, R, T, E> KeySource for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Fetched>,
    E: Into<BoxError>,
{
    fn fetch<'s>(&'s self, _etag: Option<&'s str>) -> BoxFuture<'s, Result<Fetched, BoxError>> {
        let fetched = self();
        Box::pin(async { fetched.await.map(Into::into).map_err(Into::into) })
    }
}

/// Why a key set could not be refreshed. The one at hand serves on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The source failed.
    #[error("the key set can't be fetched")]
    Fetch(#[source] BoxError),
    /// The source brought no key set.
    #[error(transparent)]
    Document(#[from] KeySetError),
}

/// A key set that is kept current: give [`keys`](Self::keys) to
/// [`PerRequest`](crate::PerRequest), and let a task of yours call [`refresh`](Self::refresh).
///
/// Nothing runs by itself: there is no task, no thread and no timer in here, and any async runtime
/// will do. Verification never waits for a refresh. The rules are those of [`KeyRefresh`].
///
/// ```
/// # async fn fetch(url: &str) -> Result<Vec<u8>, std::io::Error> { Ok(Vec::new()) }
/// use gemini_webhooks::{PerRequest, Verifier, keys::RefreshedKeys};
/// use std::{sync::Arc, time::Duration};
///
/// # async fn example() -> Result<(), gemini_webhooks::ConfigError> {
/// let keys = Arc::new(RefreshedKeys::new(|| fetch("https://example.com/jwks.json")));
/// let verifier = Verifier::builder()
///     .per_request(PerRequest::with_audience(keys.keys(), "https://example.com/3f9c"))
///     .build()?;
///
/// // In a task of its own:
/// loop {
///     if let Err(error) = keys.refresh().await {
///         eprintln!("{error}");
///     }
///     tokio::time::sleep(keys.time_to_next()).await;
/// }
/// # }
/// ```
pub struct RefreshedKeys {
    source: Box<dyn KeySource>,
    keys: SharedKeySet,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    refresh: KeyRefresh,
    /// That of the set at hand, and not of one that could not be used.
    etag: Option<String>,
}

impl RefreshedKeys {
    /// Starts without a set: the first [`refresh`](Self::refresh) fetches one.
    pub fn new(source: impl KeySource) -> Self {
        Self {
            source: Box::new(source),
            keys: SharedKeySet::default(),
            clock: Clock::default(),
            state: Mutex::default(),
        }
    }

    /// Sets the clock.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The handle through which verifiers see the keys.
    #[must_use]
    pub fn keys(&self) -> SharedKeySet {
        self.keys.clone()
    }

    /// Fetches the set if it is due: true where this call brought a set or learned that the one at
    /// hand is current, false where there was nothing to do or another call is at it.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]; the set at hand serves on.
    pub async fn refresh(&self) -> Result<bool, RefreshError> {
        let now = self.clock.instant();
        let begun = self.state().refresh.begin(now);
        self.fetch_if(begun, now).await
    }

    /// Fetches the set if a delivery was refused with an error that newer keys may mend, and the
    /// cool-down allows it: where this gives true, verify once more.
    ///
    /// # Errors
    ///
    /// [`RefreshError`]; the set at hand serves on.
    pub async fn refresh_after(&self, error: &Error) -> Result<bool, RefreshError> {
        let now = self.clock.instant();
        // Most errors need no look at a state that all requests share.
        let begun = error.is_refreshable() && self.state().refresh.begin_after(error, now);
        self.fetch_if(begun, now).await
    }

    /// How long it takes until [`refresh`](Self::refresh) may have something to do.
    #[must_use]
    pub fn time_to_next(&self) -> Duration {
        self.state().refresh.time_to_next(self.clock.instant())
    }

    async fn fetch_if(&self, begun: bool, now: Instant) -> Result<bool, RefreshError> {
        if !begun {
            return Ok(false);
        }
        let flight = Flight {
            keys: self,
            began: now,
            landed: false,
        };
        let etag = self.state().etag.clone();
        let fetched = self.source.fetch(etag.as_deref()).await;
        match fetched.map_err(RefreshError::Fetch)? {
            Fetched::Document {
                json,
                max_age,
                etag,
            } => {
                self.keys.replace(KeySet::from_json(&json)?);
                self.state().etag = etag;
                flight.land(max_age);
            }
            Fetched::Unchanged { max_age } if self.keys.get().is_some() => flight.land(max_age),
            Fetched::Unchanged { .. } => {
                let reason = "it is said to be unchanged, but there is none yet";
                return Err(RefreshError::Fetch(reason.into()));
            }
        }
        Ok(true)
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

/// A fetch under way. Dropped before it lands, by an error or because its future was dropped, it
/// counts as failed.
struct Flight<'k> {
    keys: &'k RefreshedKeys,
    began: Instant,
    landed: bool,
}

impl Flight<'_> {
    fn land(mut self, max_age: Option<Duration>) {
        self.keys.state().refresh.succeeded(self.began, max_age);
        self.landed = true;
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.landed {
            self.keys.state().refresh.failed(self.began);
        }
    }
}
