//! What `tracing` is told of a delivery, where that feature is enabled: one span, and one event
//! when it is answered. Never a secret, a signature or a body.

#[cfg(feature = "tracing")]
use tracing::{Instrument as _, field::Empty};

use super::Reply;
use crate::delivery::Delivery;

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
        use super::Outcome::{Failed, LeaseLost, Refused, StoreUnavailable};

        let code = reply.outcome.code();
        let outcome = match &reply.outcome {
            Refused(_) => "refused",
            _ => code,
        };
        self.0.record("outcome", outcome);
        self.0.record("code", code);
        let status = reply.status;
        match &reply.outcome {
            Failed(_) | StoreUnavailable(_) => tracing::error!(parent: &self.0, status, "answered"),
            Refused(_) | LeaseLost => tracing::warn!(parent: &self.0, status, "answered"),
            _ => tracing::info!(parent: &self.0, status, "answered"),
        }
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
