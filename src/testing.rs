//! Deliveries signed as Google signs them, to test a handler with.
//!
//! Enable the feature `testing` in `[dev-dependencies]` only.
//!
//! ```
//! use gemini_webhooks::{EventType, Secret, Verifier, testing::{Signer, sample}};
//! use time::OffsetDateTime;
//!
//! let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?;
//! let signer = Signer::v1(&secret);
//! let verifier = Verifier::builder().secret(secret).build()?;
//!
//! let sent = signer.sign("msg_1", OffsetDateTime::now_utc(), sample(&EventType::VideoGenerated));
//! let delivery = verifier.verify(&sent, &sent.body)?;
//! assert_eq!(delivery.event()?.event_type(), EventType::VideoGenerated);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "receiver")]
mod failing_store;
#[cfg(feature = "_per-request")]
mod signing_keys;

use std::{fmt, sync::Arc};

use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    attempt::{Attempt, IntoAttempt, NAMES},
    encoding,
    error::Error,
    event::EventType,
    hmac_v1::Secret,
};

pub use crate::clock::Clock;
#[cfg(feature = "_timers")]
pub use crate::random::Random;
#[cfg(feature = "receiver")]
pub use failing_store::FailingStore;
#[cfg(feature = "_per-request")]
pub use signing_keys::SigningKeys;

/// Signs deliveries as Google would.
#[derive(Clone)]
pub struct Signer {
    schemes: Vec<Arc<dyn SigningScheme>>,
}

/// Makes an entry of `webhook-signature`.
trait SigningScheme: Send + Sync {
    /// `content` is what `v1` and `v1a` sign.
    fn sign(&self, content: &[u8], attempted_at: OffsetDateTime, body: &[u8]) -> String;
}

impl SigningScheme for Secret {
    fn sign(&self, content: &[u8], _: OffsetDateTime, _: &[u8]) -> String {
        format!("v1,{}", encoding::encode(&self.tag(&[content])))
    }
}

impl Signer {
    fn with(scheme: impl SigningScheme + 'static) -> Self {
        Self {
            schemes: vec![Arc::new(scheme)],
        }
    }

    /// Signs as for a project-level webhook: HMAC-SHA256 under its signing secret.
    #[must_use]
    pub fn v1(secret: &Secret) -> Self {
        Self::with(secret.clone())
    }

    /// Adds a signature under another secret, as in the overlap of a rotation.
    #[must_use]
    pub fn and_v1(mut self, secret: &Secret) -> Self {
        self.schemes.push(Arc::new(secret.clone()));
        self
    }

    /// Makes an attempt to deliver: `id` is the `webhook-id`, the same for each attempt of one
    /// delivery, and `attempted_at` becomes the `webhook-timestamp` (its fraction is dropped).
    ///
    /// Nothing is checked, so that a test can also make what no honest sender would.
    #[must_use]
    pub fn sign(
        &self,
        id: impl Into<String>,
        attempted_at: OffsetDateTime,
        body: impl Into<Vec<u8>>,
    ) -> SignedDelivery {
        let (id, body) = (id.into(), body.into());
        let timestamp = attempted_at.unix_timestamp().to_string();
        let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
        let entries = self.schemes.iter();
        let entries = entries.map(|scheme| scheme.sign(&content, attempted_at, &body));
        SignedDelivery {
            signature: entries.collect::<Vec<_>>().join(" "),
            id,
            timestamp,
            body,
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

/// An attempt to deliver, as it stands in the HTTP request.
///
/// All of it can be changed, to see that a handler notices.
#[derive(Clone)]
#[non_exhaustive]
pub struct SignedDelivery {
    /// The header `webhook-id`.
    pub id: String,
    /// The header `webhook-timestamp`.
    pub timestamp: String,
    /// The header `webhook-signature`.
    pub signature: String,
    /// The request's body.
    pub body: Vec<u8>,
}

impl SignedDelivery {
    /// The names and values of the three headers, for any HTTP client.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        let [id, timestamp, signature] = NAMES;
        [
            (id, &self.id),
            (timestamp, &self.timestamp),
            (signature, &self.signature),
        ]
    }
}

/// Leaves the signature and the body out.
impl fmt::Debug for SignedDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedDelivery")
            .field("id", &self.id)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoAttempt<'a> for &'a SignedDelivery {
    fn into_attempt(self) -> Result<Attempt<'a>, Error> {
        Attempt::from_pairs(self.headers())
    }
}

/// Returns the body of an event of the given type, as the service's documentation shows it.
#[must_use]
pub fn sample(event_type: &EventType) -> String {
    sample_with(event_type, event_type.sample_data().0)
}

/// Returns the body of a [`sample`] whose data has another `id`.
///
/// ```
/// use gemini_webhooks::{Event, EventType, testing::sample_with};
///
/// let body = sample_with(&EventType::BatchFailed, "batches/7");
/// let event: Event = serde_json::from_str(&body)?;
/// assert_eq!(event.data.id(), Some("batches/7"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn sample_with(event_type: &EventType, id: &str) -> String {
    let (_, members) = event_type.sample_data();
    let [name, id] = [event_type.as_str(), id].map(Value::from);
    format!(
        r#"{{"type":{name},"version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{{"id":{id}{members}}}}}"#
    )
}

/// Returns the body of a [`sample`] without any member that is optional: its type, and the `id` of its
/// data. A handler has to manage with these.
///
/// ```
/// use gemini_webhooks::{EventType, testing::minimal_sample};
///
/// let body = minimal_sample(&EventType::BatchSucceeded);
/// assert_eq!(body, r#"{"type":"batch.succeeded","data":{"id":"batch_123456"}}"#);
/// ```
#[must_use]
pub fn minimal_sample(event_type: &EventType) -> String {
    let (id, _) = event_type.sample_data();
    let [name, id] = [event_type.as_str(), id].map(Value::from);
    format!(r#"{{"type":{name},"data":{{"id":{id}}}}}"#)
}

#[cfg(test)]
mod tests;
