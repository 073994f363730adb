use std::time::Duration;

use super::HandlerError;
use crate::{
    delivery::Delivery,
    error::{Error, PAUSE},
    store::{StoreError, StoreErrorKind},
};

/// The answer to a delivery, and its outcome.
#[derive(Debug)]
#[must_use = "answer with it: anything but a 2xx is retried"]
#[non_exhaustive]
pub struct Reply<'a> {
    /// The HTTP status code to answer with. See [`Outcome`].
    pub status: u16,
    /// The value of the header `Retry-After` (RFC 9110, section 10.2.3), in whole seconds, for 409
    /// and 503.
    pub retry_after: Option<Duration>,
    /// What became of the delivery: for logs and metrics, by its [`code`](Outcome::code).
    pub outcome: Outcome,
    /// The delivery, if it is authentic.
    pub delivery: Option<Delivery<'a>>,
}

/// What became of a delivery.
///
/// Google retries anything but a 2xx.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler returned `Ok`, and that is remembered: 200.
    Processed,
    /// The delivery is stored, and a worker will handle it: 200.
    Accepted,
    /// It was processed or accepted before: 200.
    Duplicate,
    /// Another attempt is being handled: 409.
    InFlight {
        /// The time until the lease of that one ends.
        remaining: Duration,
    },
    /// The handler returned `Ok` after its lease had ended and another attempt had claimed the delivery:
    /// 409. Both were handled: the lease is too short for this handler.
    LeaseLost,
    /// The delivery is not authentic, or can't be verified yet: the error's
    /// [`status`](Error::status), 400, 401, 403, 413 or 503.
    Refused(Error),
    /// The handler returned this error: 500. The claim was released, or ends with its lease if the store
    /// is unavailable.
    Failed(HandlerError),
    /// The handler returned this [`permanent`](HandlerError::permanent) error: 200, and the delivery is
    /// not handled again; or it returned any error after it had completed the claim itself, and its effect
    /// stays. Look at it: it is in the [`delivery`](Reply::delivery) of the reply, and the
    /// cause is in the trace. An inbox sets aside what is no event and what has an expired job token, and
    /// keeps it as a dead letter.
    SetAside(HandlerError),
    /// The store is unavailable: 503. The delivery was not stored, or the handler was not called, or it
    /// returned `Ok` or a permanent error and that could not be remembered, so that it will be called
    /// again.
    StoreUnavailable(StoreError),
}

impl Outcome {
    /// A stable name, for logs, metrics and answers. That of a refusal is the error's own
    /// [`code`](Error::code).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::InFlight { .. } => "in_flight",
            Self::LeaseLost => "lease_lost",
            Self::Refused(error) => error.code(),
            Self::Failed(_) => "failed",
            Self::SetAside(_) => "set_aside",
            Self::StoreUnavailable(error) => match error.kind() {
                StoreErrorKind::QueueFull => "queue_full",
                _ => "store_unavailable",
            },
        }
    }

    const fn status(&self) -> u16 {
        match self {
            Self::Processed | Self::Accepted | Self::Duplicate | Self::SetAside(_) => 200,
            Self::InFlight { .. } | Self::LeaseLost => 409,
            Self::Refused(error) => error.status(),
            Self::Failed(_) => 500,
            Self::StoreUnavailable(_) => 503,
        }
    }
}

impl<'a> Reply<'a> {
    pub(super) fn new(outcome: Outcome, delivery: Option<Delivery<'a>>) -> Self {
        let retry_after = match &outcome {
            Outcome::InFlight { remaining } => Some(*remaining),
            Outcome::LeaseLost | Outcome::StoreUnavailable(_) => Some(PAUSE),
            Outcome::Refused(refusal) => refusal.retry_after(),
            Outcome::Failed(error) => error.wait(),
            Outcome::Processed | Outcome::Accepted | Outcome::Duplicate | Outcome::SetAside(_) => {
                None
            }
        };
        Self {
            status: outcome.status(),
            retry_after: retry_after.map(whole_seconds),
            outcome,
            delivery,
        }
    }
}

#[cfg(feature = "http")]
impl Reply<'_> {
    /// Returns the HTTP status code to answer with.
    #[must_use]
    pub fn status_code(&self) -> http::StatusCode {
        crate::error::status_code(self.status)
    }

    /// Builds the HTTP response to answer with, `Retry-After` included.
    pub fn response<B>(&self, body: B) -> http::Response<B> {
        crate::error::response(self.status, self.retry_after, body)
    }
}

/// Rounded up, and never zero: that would mean at once.
fn whole_seconds(wait: Duration) -> Duration {
    let seconds = wait
        .saturating_add(Duration::from_nanos(999_999_999))
        .as_secs();
    Duration::from_secs(seconds.max(1))
}
