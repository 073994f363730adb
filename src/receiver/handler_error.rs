use std::{error::Error, fmt, io, time::Duration};

use crate::{
    boxed::BoxError,
    error::PayloadError,
    redacted,
    store::{StoreError, StoreErrorKind},
};

/// The error of a handler: any error converts into it, and a text does too.
///
/// The delivery is retried, unless the error is [`permanent`](Self::permanent). A [`PayloadError`] is
/// permanent by itself, and so is an error that it caused: no retry makes a payload readable.
///
/// It is not an [`Error`] itself, so that `?` turns any error into it. `Debug` and `Display` show no
/// passwords and queries of addresses; [`source`](Self::source) is the error as it was returned.
///
/// ```
/// use gemini_webhooks::receiver::{HandlerError, Received};
///
/// async fn handle(delivery: Received<'_>) -> Result<(), HandlerError> {
///     let event = delivery.event()?; // permanent
///     if event.data.id().is_none() {
///         return Err(HandlerError::permanent("it names no job"));
///     }
///     std::fs::write("event.json", delivery.delivery().payload())?; // retried
///     Ok(())
/// }
/// ```
pub struct HandlerError {
    source: BoxError,
    permanent: bool,
    retry_after: Option<Duration>,
}

impl HandlerError {
    /// Takes an error that no retry can fix. The delivery is not handled again: a receiver sets it aside and
    /// acknowledges it, and in an inbox it becomes a dead letter.
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self {
            permanent: true,
            ..Self::from(source)
        }
    }

    /// Sets the time until the next attempt. A receiver asks the sender to wait (`Retry-After`), in whole
    /// seconds, and Google does not say whether it does. A worker of an inbox waits for this time in place of its
    /// back-off.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// Returns true if no retry can fix the error.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// Returns true if a store refused to commit, because another claim had taken over.
    pub(super) fn is_lost_lease(&self) -> bool {
        causes(&*self.source).any(|cause| {
            let error = cause.downcast_ref::<StoreError>();
            error.is_some_and(|error| error.kind() == StoreErrorKind::LeaseLost)
        })
    }

    pub(crate) const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the error that the handler returned.
    #[must_use]
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }

    /// Takes the error that the handler returned.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.source
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(source: E) -> Self {
        let source = source.into();
        let permanent = causes(&*source).any(<dyn Error>::is::<PayloadError>);
        Self {
            permanent,
            source,
            retry_after: None,
        }
    }
}

/// Returns an error and its causes, with those inside an `io::Error`: its text is theirs, and its
/// `source()` leaves them out.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let io = error.downcast_ref::<io::Error>();
        match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => (*error).source(),
        }
    })
}

#[cfg(any(feature = "inbox", feature = "tracing"))]
pub(crate) fn chain<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted::text(&self.source.to_string()))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = redacted::text(&format!("{:?}", self.source));
        f.debug_struct("HandlerError")
            .field("source", &format_args!("{source}"))
            .field("permanent", &self.permanent)
            .field("retry_after", &self.retry_after)
            .finish()
    }
}
