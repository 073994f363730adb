//! Requests that register and manage webhooks, and the part of a job's own request that names its
//! webhook.
//!
//! This module builds each request, any HTTP client sends it, and this module reads the answer. It
//! does no I/O, except for `ApiClient` (with the feature `reqwest`), which sends requests safely.
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
//!     "https://generativelanguage.googleapis.com/v1/webhooks",
//! );
//!
//! // Send it, and read the answer:
//! # let response = http::Response::new(br#"{"id":"wh_1","uri":"https://example.com/webhook",
//! #     "subscribed_events":["batch.succeeded","batch.failed"],"state":"enabled",
//! #     "new_signing_secret":"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}"#);
//! let webhook = Webhook::from_response(&response)?;
//! assert_eq!(webhook.id(), Some("wh_1"));
//! let secret = webhook.new_signing_secret.expect("it is shown only once");
//! // Store `secret.expose()` with your other secrets, and configure the receiver with it:
//! let secret = secret.parse()?;
//! # let _: gemini_webhooks::Secret = secret;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Event types
//!
//! The service documents nine event types. A webhook can subscribe to the seven in
//! [`EventType::SUBSCRIBABLE`](crate::EventType::SUBSCRIBABLE): not to `batch.cancelled` and
//! `interaction.cancelled`. Some endings of a job send no event at all, so that a job which must not
//! be forgotten needs a second way to learn of its end.
//!
//! # A ping proves nothing
//!
//! The service answers a ping with `{}` even if the webhook's address can't be reached. Only the
//! delivery, at the receiver, proves that it arrives.
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
//! Configure both within the first 24 hours.
//!
//! A [`Verifier`](crate::Verifier) is immutable, and a [`SharedVerifier`](crate::SharedVerifier)
//! replaces it. `examples/cycle.rs` does so while deliveries arrive.
//!
//! # Answers
//!
//! A signing secret is shown once, so an answer is read member by member. A member that is absent,
//! `null`, empty or of another kind than documented makes no other member unreadable, and its value is
//! kept in `other`. The same holds for the entries of a page. Names are read in both spellings
//! (`new_signing_secret` and `newSigningSecret`), and states in any case. Google's SDKs require no
//! member, so neither does this crate: [`Webhook::id`] returns an `Option`.
//!
//! # Differences between Google's sources
//!
//! | | the SDKs, and the default here | elsewhere |
//! |---|---|---|
//! | version | `v1` | `v1beta` in the REST reference: [`WebhookService::version`] |
//! | rotation | `:rotateSigningSecret` | `/rotate_secret` in the guide, confirmed by nobody: [`WebhookService::rotate_path`] |
//! | `update_mask` | not sent: the service ignores it | [`WebhookService::with_update_mask`] |

mod answer;
mod api;
mod api_error;
#[cfg(feature = "reqwest")]
mod client;
mod job_service;
mod job_status;
mod new_webhook;
mod request_error;
mod resource;
mod service;
mod signing_secret;
mod webhook;
mod webhook_config;
mod webhook_state;

pub use api::ApiVersion;
pub use api_error::{ApiError, acknowledged, downloaded};
#[cfg(feature = "reqwest")]
pub use client::{ApiClient, SendError};
pub use job_service::JobService;
pub use job_status::{JobOutput, JobState, JobStatus};
pub use new_webhook::{NewWebhook, WebhookUpdate};
pub use request_error::RequestError;
pub use resource::Resource;
pub use service::{Revocation, RotatePath, WebhookService};
pub use signing_secret::{NewSigningSecret, RotatedSecret, SigningSecret};
pub use webhook::{Webhook, WebhookPage};
pub use webhook_config::WebhookConfig;
pub use webhook_state::WebhookState;
