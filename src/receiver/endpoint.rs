use std::time::Duration;

use super::{Outcome, Reply, span::Span};
use crate::{
    attempt::IntoAttempt,
    clock::Clock,
    delivery::Delivery,
    error::ConfigError,
    verifier::{SharedVerifier, is_key_part},
};

/// As far as every store can represent it.
const LONGEST_RETENTION: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The settings and the way of a delivery that a receiver and an inbox have in common.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) verifier: SharedVerifier,
    pub(crate) namespace: String,
    /// The least time to remember a delivery.
    retention: Duration,
    /// Takes deliveries whose job token has expired.
    late: bool,
}

impl Endpoint {
    pub(crate) const fn new(verifier: SharedVerifier, late: bool) -> Self {
        Self {
            verifier,
            namespace: String::new(),
            retention: Duration::ZERO,
            late,
        }
    }

    pub(crate) fn retain(&mut self, retention: Duration) {
        self.retention = retention.min(LONGEST_RETENTION);
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if is_key_part(&self.namespace, 0..=128, '/') {
            Ok(())
        } else {
            Err(ConfigError::InvalidNamespace)
        }
    }

    /// Verifies a delivery, has it processed, and says what to answer, in a span.
    pub(crate) async fn receive<'a, R>(
        &self,
        attempt: impl IntoAttempt<'a>,
        body: &'a [u8],
        process: impl FnOnce(Clock, Delivery<'a>) -> R,
    ) -> Reply<'a>
    where
        R: Future<Output = (Outcome, Delivery<'a>)>,
    {
        let span = Span::delivery();
        let reply = async {
            let verifier = self.verifier.get();
            let result = verifier.verify_waiting(attempt, body, self.late).await;
            let delivery = match result {
                Ok(delivery) => delivery,
                Err(refusal) => return Reply::new(Outcome::Refused(refusal), None),
            };
            span.verified(&delivery);
            let (outcome, delivery) = process(verifier.clock().clone(), delivery).await;
            Reply::new(outcome, Some(delivery))
        };
        let reply = span.around(reply).await;
        span.answered(&reply);
        reply
    }

    /// The key of a delivery in a store.
    pub(crate) fn key(&self, delivery: &Delivery<'_>) -> String {
        format!("{}/{}", self.namespace, delivery.idempotency_key())
    }

    /// The time to remember a delivery.
    pub(crate) fn retention(&self, delivery: &Delivery<'_>) -> Duration {
        self.retention.max(delivery.retention())
    }
}
