use std::{error::Error as StdError, sync::Arc, time::Duration};

use super::{BoxError, BoxFuture, KeySetError};
use crate::redacted;

/// A source of key sets: the I/O, which the caller supplies.
///
/// An async closure without parameters that returns the bytes of a JSON Web Key Set is one; so is
/// `JwksEndpoint` (feature `reqwest`). A source bounds what it reads, such as by
/// [`KeySet::MAX_DOCUMENT`](super::KeySet::MAX_DOCUMENT). A fetch is given up after [`KeyRefresh::TIMEOUT`](super::KeyRefresh::TIMEOUT).
pub trait KeySource: Send + Sync + 'static {
    /// Fetches the key set. `etag` is the entity tag of the current set (RFC 9110, section 8.8.3), for
    /// sources that can ask whether it has changed.
    fn fetch<'s>(&'s self, etag: Option<&'s str>) -> BoxFuture<'s, Result<Fetched, FetchError>>;
}

/// The result of a fetch by a [`KeySource`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Fetched {
    /// A JSON Web Key Set.
    Document {
        /// Its bytes.
        json: Vec<u8>,
        /// The time for which it may be used, if the source knows.
        max_age: Option<Duration>,
        /// Its entity tag, if the source knows.
        etag: Option<String>,
    },
    /// The current set has not changed.
    Unchanged {
        /// The time for which it may still be used, if the source knows.
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

/// The failure of a [`KeySource`]. Any error converts into it, and a text does too. An error that
/// shows the query or the password of an address is replaced by its text without them.
#[derive(Debug)]
pub struct FetchError {
    pub(super) source: BoxError,
    pub(super) retry_after: Option<Duration>,
}

impl FetchError {
    /// Adds the time that the source asked to wait (`Retry-After`). More than 5 minutes count as 5
    /// minutes.
    #[must_use]
    pub fn retry_after(self, time: Duration) -> Self {
        Self {
            retry_after: Some(time),
            ..self
        }
    }
}

impl<E: Into<BoxError>> From<E> for FetchError {
    fn from(source: E) -> Self {
        Self {
            source: redacted::error(source.into()),
            retry_after: None,
        }
    }
}

impl<F, R, T, E> KeySource for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Fetched>,
    E: Into<FetchError>,
{
    fn fetch<'s>(&'s self, _etag: Option<&'s str>) -> BoxFuture<'s, Result<Fetched, FetchError>> {
        let fetched = self();
        Box::pin(async { fetched.await.map(Into::into).map_err(Into::into) })
    }
}

/// The key set could not be refreshed. The current one stays.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The source failed, or took longer than [`KeyRefresh::TIMEOUT`](super::KeyRefresh::TIMEOUT).
    #[error("the key set can't be fetched")]
    Fetch(#[source] Arc<dyn StdError + Send + Sync>),
    /// The source brought no key set.
    #[error(transparent)]
    Document(#[from] KeySetError),
}
