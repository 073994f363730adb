//! Requests that register and manage webhooks, and the part of a job's own request that names its
//! webhook.
//!
//! This module does no I/O. It builds each request, any HTTP client sends it, and this module reads
//! the answer.
//!
//! ```
//! use gemini_webhooks::{EventType, configure::{NewWebhook, Webhook, WebhookService}};
//!
//! let service = WebhookService::new("API_KEY")?;
//! let webhook = NewWebhook::new("https://example.com/webhook")?
//!     .name("nightly")
//!     .subscribe(EventType::BatchSucceeded)
//!     .subscribe(EventType::BatchFailed);
//! let request: http::Request<Vec<u8>> = service.create(&webhook)?;
//! assert_eq!(
//!     request.uri(),
//!     "https://generativelanguage.googleapis.com/v1beta/webhooks",
//! );
//!
//! // Send it, and read the answer:
//! # let response = http::Response::new(br#"{"id":"wh_1","uri":"https://example.com/webhook",
//! #     "subscribed_events":["batch.succeeded","batch.failed"],"state":"enabled",
//! #     "new_signing_secret":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}"#);
//! let webhook = Webhook::from_response(&response)?;
//! let secret = webhook.new_signing_secret.expect("it is shown only once");
//! // Store `secret.expose()` with your other secrets, and configure the receiver with it:
//! let secret = secret.parse()?;
//! # let _: gemini_webhooks::Secret = secret;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rotating a secret
//!
//! With [`Revocation::AfterH24`] the previous secret stays valid for another 24 hours. During that
//! time, each delivery carries one signature per secret. No delivery is refused if the receiver is
//! configured with
//! 1. the old secret, before the rotation;
//! 2. both secrets, for two days from the rotation: 24 hours in which the old secret still signs,
//!    and 24 hours in which Google retries the deliveries that were signed with it;
//! 3. the new secret alone, afterwards.
//!
//! A [`Verifier`](crate::Verifier) is immutable, and a [`SharedVerifier`](crate::SharedVerifier)
//! replaces it. `examples/cycle.rs` does so while deliveries arrive.
//!
//! # Differences between Google's sources
//!
//! The guide and the SDKs name different paths for a rotation: see [`RotatePath`]. Member names are
//! read in both spellings (`new_signing_secret` and `newSigningSecret`), and enum values in any
//! case. Unknown members and values are kept.

mod api_error;
mod request_error;
mod service;
mod webhook;
mod webhook_config;

pub use api_error::{ApiError, acknowledged};
pub use request_error::RequestError;
pub use service::{ApiVersion, Revocation, RotatePath, WebhookService};
pub use webhook::{
    NewSigningSecret, NewWebhook, RotatedSecret, SigningSecret, Webhook, WebhookPage, WebhookState,
    WebhookUpdate,
};
pub use webhook_config::WebhookConfig;
