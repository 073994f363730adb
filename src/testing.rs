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

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
mod signing_keys;

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::{encoding, error::Error, event::EventType, headers::WebhookHeaders, secret::Secret};

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
pub use signing_keys::SigningKeys;

/// Signs deliveries as Google would.
#[derive(Debug, Clone)]
pub struct Signer {
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone)]
enum Signature {
    V1(Secret),
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    V1a(SigningKeys),
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    Jwt {
        keys: SigningKeys,
        audience: String,
    },
}

impl Signer {
    /// Signs as for a project-level webhook: HMAC-SHA256 under its signing secret.
    #[must_use]
    pub fn v1(secret: &Secret) -> Self {
        Self {
            signatures: vec![Signature::V1(secret.clone())],
        }
    }

    /// Adds a signature under another secret, as in the overlap of a rotation.
    #[must_use]
    pub fn and_v1(mut self, secret: &Secret) -> Self {
        self.signatures.push(Signature::V1(secret.clone()));
        self
    }

    /// Signs as real per-request deliveries are reported to be: with the first Ed25519 key.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    #[must_use]
    pub fn v1a(keys: &SigningKeys) -> Self {
        Self {
            signatures: vec![Signature::V1a(keys.clone())],
        }
    }

    /// Signs as Google's guide describes per-request deliveries: with an RS256 JWT for the given
    /// audience, whose claims carry the event of the body. It expires 300 s after the attempt.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    #[must_use]
    pub fn jwt(keys: &SigningKeys, audience: impl Into<String>) -> Self {
        Self {
            signatures: vec![Signature::Jwt {
                keys: keys.clone(),
                audience: audience.into(),
            }],
        }
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
        let signatures = self.signatures.iter().map(|signature| match signature {
            Signature::V1(secret) => format!("v1,{}", encoding::encode(&secret.tag(&[&content]))),
            #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
            Signature::V1a(keys) => {
                format!("v1a,{}", encoding::encode(&keys.sign_ed25519(0, &content)))
            }
            #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
            Signature::Jwt { keys, audience } => jwt(keys, audience, attempted_at, &body),
        });
        SignedDelivery {
            signature: signatures.collect::<Vec<_>>().join(" "),
            id,
            timestamp,
            body,
        }
    }
}

/// A JWT whose claims are the members of the body, if it is an object, and what a token needs.
#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
fn jwt(keys: &SigningKeys, audience: &str, attempted_at: OffsetDateTime, body: &[u8]) -> String {
    let issued_at = attempted_at.unix_timestamp();
    let mut claims: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    claims.insert(
        "iss".into(),
        "https://generativelanguage.googleapis.com".into(),
    );
    claims.insert("aud".into(), audience.into());
    claims.insert("iat".into(), issued_at.into());
    claims.insert("exp".into(), issued_at.saturating_add(300).into());
    let header = json!({"alg": "RS256", "kid": keys.rsa_id(), "typ": "JWT"});
    keys.jwt(&header, &claims.into())
}

/// An attempt to deliver, as it stands in the HTTP request.
///
/// All of it can be changed, to see that a handler notices.
#[derive(Debug, Clone)]
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
        let [id, timestamp, signature] = crate::headers::NAMES;
        [
            (id, &self.id),
            (timestamp, &self.timestamp),
            (signature, &self.signature),
        ]
    }
}

impl<'a> TryFrom<&'a SignedDelivery> for WebhookHeaders<'a> {
    type Error = Error;

    fn try_from(delivery: &'a SignedDelivery) -> Result<Self, Error> {
        Self::from_pairs(delivery.headers())
    }
}

/// The body of an event of the given type, as the service's documentation shows it.
#[must_use]
pub fn sample(event_type: &EventType) -> String {
    let data = match event_type {
        EventType::BatchSucceeded => {
            r#"{"id":"batch_123456","output_file_uri":"gs://my-bucket/results.jsonl"}"#
        }
        EventType::BatchCancelled | EventType::BatchExpired => r#"{"id":"batch_123456"}"#,
        EventType::BatchFailed => {
            r#"{"id":"batch_123456","error_code":"INVALID_ARGUMENT","error_message":"row 7: bad request"}"#
        }
        EventType::InteractionRequiresAction
        | EventType::InteractionCompleted
        | EventType::InteractionCancelled => r#"{"id":"interaction_123456"}"#,
        EventType::InteractionFailed => {
            r#"{"id":"interaction_123456","error_code":"INTERNAL","error_message":"the agent stopped"}"#
        }
        EventType::VideoGenerated => {
            r#"{"id":"operation_123456","output_file_uri":"gs://my-bucket/video.mp4","file_name":"files/video_123456"}"#
        }
        EventType::Unknown(_) => r#"{"id":"123456"}"#,
    };
    let name = serde_json::Value::from(event_type.as_str());
    format!(r#"{{"type":{name},"version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{data}}}"#)
}
