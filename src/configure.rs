//! The configuration side: the requests that register webhooks, and what a job's own request says of
//! its webhook. There is no I/O here: any HTTP client sends the requests.
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
//! // Send it, and read what comes back:
//! # let response = http::Response::new(br#"{"id":"wh_1","uri":"https://example.com/webhook",
//! #     "subscribed_events":["batch.succeeded","batch.failed"],"state":"enabled",
//! #     "new_signing_secret":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}"#);
//! let webhook = Webhook::from_response(&response)?;
//! let secret = webhook.new_signing_secret.expect("it is shown this once");
//! // Keep `secret.expose()` where secrets are kept, and configure the receiver with it:
//! let secret = secret.parse()?;
//! # let _: gemini_webhooks::Secret = secret;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rotating a secret
//!
//! With [`Revocation::AfterH24`] the previous secret is good for another 24 hours, in which deliveries
//! carry a signature of each. So nothing is refused, if the receiver knows
//! 1. the old secret, before;
//! 2. both, from the time that the new one came until the 24 hours are over and what was signed before
//!    has been sent for the last time: configure both for two days;
//! 3. the new one alone, afterwards.
//!
//! A [`Verifier`](crate::Verifier) does not change: build another one, and put it in the place of the
//! first, for instance in an `RwLock<Arc<Verifier>>`. `examples/cycle.rs` does it while deliveries
//! arrive.
//!
//! # What Google's sources disagree about
//!
//! The guide and the SDKs name the address of a rotation differently: see [`RotatePath`]. Names of
//! members are read in both spellings (`new_signing_secret`, `newSigningSecret`), and values of enums
//! in any case; those that are not known here are kept.

mod api_error;
mod service;
mod uri;
mod webhook;
mod webhook_config;

pub use api_error::{ApiError, acknowledged};
pub use service::{ApiVersion, Revocation, RotatePath, WebhookService};
pub use webhook::{
    NewSigningSecret, NewWebhook, RotatedSecret, SigningSecret, Webhook, WebhookPage, WebhookState,
    WebhookUpdate,
};
pub use webhook_config::WebhookConfig;
