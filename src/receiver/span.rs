//! The trace of a delivery, with the feature `tracing`: one span, and one event when it is answered.
//! Never a secret, a signature, a token or a body.

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

pub(super) struct Span(#[cfg(feature = "tracing")] tracing::Span);

#[cfg(feature = "tracing")]
impl Span {
    pub(super) fn new() -> Self {
        Self(tracing::info_span!(
            "gemini_webhook",
            id = Empty,
            scheme = Empty,
            r#type = Empty,
            outcome = Empty,
            code = Empty,
        ))
    }

    pub(super) fn around<T>(&self, future: impl Future<Output = T>) -> impl Future<Output = T> {
        future.instrument(self.0.clone())
    }

    pub(super) fn verified(&self, delivery: &Delivery<'_>) {
        if self.0.is_disabled() {
            return;
        }
        self.0.record("id", delivery.id());
        self.0.record("scheme", delivery.scheme().as_str());
        if let Ok(event) = delivery.event() {
            self.0.record("type", event.event_type().as_str());
        }
    }

    pub(super) fn answered(&self, reply: &Reply<'_>) {
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
    pub(super) fn new() -> Self {
        Self()
    }

    pub(super) fn around<T>(&self, future: impl Future<Output = T>) -> impl Future<Output = T> {
        future
    }

    pub(super) fn verified(&self, _: &Delivery<'_>) {}

    pub(super) fn answered(&self, _: &Reply<'_>) {}
}
