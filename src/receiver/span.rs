//! Traces, with the feature `tracing`: a span for each delivery that is received and for each attempt of a
//! worker, with one event when it is answered or ends. Never a secret, a signature, a token or a body.

#[cfg(feature = "tracing")]
use std::{error::Error, fmt};

#[cfg(feature = "tracing")]
use tracing::{Instrument as _, field::Empty};

use super::Reply;
#[cfg(feature = "tracing")]
use super::handler_error::chain;
use crate::delivery::Delivery;
#[cfg(feature = "tracing")]
use crate::redacted;
#[cfg(feature = "inbox")]
use crate::store::StoreError;

pub(crate) struct Span(#[cfg(feature = "tracing")] tracing::Span);

#[cfg(feature = "tracing")]
impl Span {
    pub(crate) fn delivery() -> Self {
        Self(tracing::info_span!(
            "gemini_webhook",
            id = Empty,
            scheme = Empty,
            r#type = Empty,
            outcome = Empty,
            code = Empty,
        ))
    }

    /// `delivery` is `None` if it can't be read.
    #[cfg(feature = "inbox")]
    pub(crate) fn attempt(delivery: Option<&Delivery<'_>>, attempt: u32) -> Self {
        let span = Self(tracing::info_span!(
            "gemini_webhook_attempt",
            id = Empty,
            scheme = Empty,
            r#type = Empty,
            attempt,
            outcome = Empty,
        ));
        if let Some(delivery) = delivery {
            span.verified(delivery);
        }
        span
    }

    pub(crate) fn around<T>(&self, future: impl Future<Output = T>) -> impl Future<Output = T> {
        future.instrument(self.0.clone())
    }

    pub(crate) fn verified(&self, delivery: &Delivery<'_>) {
        if self.0.is_disabled() {
            return;
        }
        self.0.record("id", delivery.id());
        self.0.record("scheme", delivery.scheme().as_str());
        if let Ok(event) = delivery.event() {
            self.0.record("type", event.event_type().as_str());
        }
    }

    pub(crate) fn answered(&self, reply: &Reply<'_>) {
        use super::Outcome::{Failed, LeaseLost, Refused, SetAside, StoreUnavailable};

        let code = reply.outcome.code();
        let outcome = match &reply.outcome {
            Refused(_) => "refused",
            _ => code,
        };
        self.0.record("outcome", outcome);
        self.0.record("code", code);
        let status = reply.status;
        match &reply.outcome {
            Failed(error) | SetAside(error) => {
                tracing::error!(parent: &self.0, status, cause = %Chain(error.source()), "answered");
            }
            StoreUnavailable(error) => {
                tracing::error!(parent: &self.0, status, cause = %Chain(error), "answered");
            }
            Refused(refusal) => {
                tracing::warn!(parent: &self.0, status, cause = %refusal, "answered");
            }
            LeaseLost => tracing::warn!(parent: &self.0, status, "answered"),
            _ => tracing::info!(parent: &self.0, status, "answered"),
        }
    }
}

#[cfg(all(feature = "tracing", feature = "inbox"))]
impl Span {
    /// `outcome` is one of `processed`, `retried`, `dead` and `lease_lost`.
    pub(crate) fn ended(&self, outcome: &'static str, cause: Option<&str>) {
        self.0.record("outcome", outcome);
        let cause = cause.map(tracing::field::display);
        match outcome {
            "dead" => tracing::error!(parent: &self.0, outcome, cause, "ended"),
            "processed" => tracing::info!(parent: &self.0, outcome, cause, "ended"),
            _ => tracing::warn!(parent: &self.0, outcome, cause, "ended"),
        }
    }
}

#[cfg(all(feature = "tracing", feature = "inbox"))]
pub(crate) fn store_failed(error: &StoreError) {
    tracing::error!(cause = %Chain(error), "the store of a worker failed");
}

#[cfg(all(not(feature = "tracing"), feature = "inbox"))]
pub(crate) fn store_failed(_: &StoreError) {}

/// An error and its sources, without secrets.
#[cfg(feature = "tracing")]
struct Chain<'e>(&'e (dyn Error + 'static));

#[cfg(feature = "tracing")]
impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain: Vec<String> = chain(self.0).map(ToString::to_string).collect();
        f.write_str(&redacted::text(&chain.join(": ")))
    }
}

#[cfg(not(feature = "tracing"))]
#[expect(clippy::unused_self, reason = "the other one has a span in it")]
impl Span {
    pub(crate) fn delivery() -> Self {
        Self()
    }

    pub(crate) fn around<T>(&self, future: impl Future<Output = T>) -> impl Future<Output = T> {
        future
    }

    pub(crate) fn verified(&self, _: &Delivery<'_>) {}

    pub(crate) fn answered(&self, _: &Reply<'_>) {}

    #[cfg(feature = "inbox")]
    pub(crate) fn attempt(_: Option<&Delivery<'_>>, _: u32) -> Self {
        Self()
    }

    #[cfg(feature = "inbox")]
    pub(crate) fn ended(&self, _: &'static str, _: Option<&str>) {}
}
