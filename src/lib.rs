//! Receive Google Gemini API webhooks: the notifications that replace polling for batch jobs,
//! video generation and long agent runs.
//!
//! ```
//! use gemini_webhooks::{EventData, Secret, Verifier};
//!
//! // Once, when the service starts:
//! let verifier = Verifier::builder()
//!     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
//!     .build()?;
//!
//! // For each request: its head, and its body as received. Pass `&parts` or `(&headers, &uri)`.
//! # let signer = gemini_webhooks::testing::Signer::v1(&Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?);
//! # let sent = signer.sign("msg_1", time::OffsetDateTime::now_utc(), gemini_webhooks::testing::sample(&"batch.succeeded".into()));
//! # let (head, body) = (&sent, &sent.body);
//! let delivery = verifier.verify(head, body)?;
//! match &delivery.event()?.data {
//!     EventData::BatchSucceeded(batch) => println!("{}: {:?}", batch.id, batch.output_file_uri),
//!     other => println!("{}", other.event_type()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Two kinds of webhook
//!
//! - *Project-level* webhooks are registered once and hear of all jobs of a project. Their
//!   deliveries are signed with HMAC-SHA256 under a secret that only you and Google know
//!   ([`Scheme::V1`]).
//! - *Per-request* webhooks are named in a job's own request. Their deliveries are signed with one
//!   of Google's private keys: with Ed25519 ([`Scheme::V1a`]), as real ones are reported to be, or
//!   as a JWT ([`Scheme::Jwt`]), as Google's guide describes them. One [`Verifier`] takes all three.
//!
//! Google's keys sign for all its customers, so a genuine per-request delivery may belong to the job
//! of another customer, who named your address. `PerRequest` says which proof of origin is required.
//! `JobTokens` mints and verifies one that does not depend on Google: a token for each job.
//!
//! | job | token in the callback URI | token in `user_metadata` |
//! |---|---|---|
//! | batch | yes | no: the Batch API refuses it |
//! | interaction, Deep Research, Omni video | yes | yes, if it comes back: nothing shows that it does |
//!
//! In `user_metadata`, which is signed, a token proves that the event belongs to the token's job. In
//! the URI, which is not signed, it proves that the sender knows a live token of yours. Pass the URI to
//! [`Verifier::verify`], and keep query strings out of request logs, or log `JobTokens::redact(&uri)`.
//!
//! ```
//! # #[cfg(feature = "reqwest")]
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use gemini_webhooks::{JobTokens, PerRequest, Secret, Verifier};
//! use gemini_webhooks::keys::{JwksEndpoint, RefreshedKeys};
//!
//! let keys = Arc::new(RefreshedKeys::new(JwksEndpoint::google()?));
//! let tokens = JobTokens::parse(&std::env::var("GEMINI_WEBHOOK_JOB_KEY")?)?; // `openssl rand -base64 32`
//! let verifier = Verifier::builder()
//!     .secret(Secret::parse(&std::env::var("GEMINI_WEBHOOK_SECRETS")?)?)
//!     .per_request(PerRequest::with_job_tokens(keys.clone(), tokens))
//!     .build()?;
//! tokio::spawn(async move { keys.run(|error| eprintln!("{error:?}")).await });
//! # Ok(())
//! # }
//! ```
//!
//! [`Verifier::verify_refreshing`] waits up to 2 s for newer keys where they might lead to another
//! answer, and verifies once more. `RefreshedKeys::freshness` serves readiness probes.
//!
//! # What a verified delivery is, and is not
//!
//! - It was signed by someone who holds the secret or the private key, and it has not been altered
//!   since: the signature of `v1` and `v1a` covers the id, the time and the raw body. A JWT covers its
//!   claims, from which the event is taken; it does not cover the id and the time.
//! - It was sent at about the time that it says: see [`ReplayWindow`].
//! - It may have been received before, from Google, which delivers at least once, or from somebody
//!   who recorded it less than a window ago. [`Delivery::idempotency_key`] is the same each time.
//!   `Receiver` handles each once, by at most one handler at a time within its lease.
//! - It may come late and out of order: [`Event::occurred_at`] tells when it happened.
//! - If the only proof of origin is a token in the URI, the event may belong to another job than the
//!   token: [`Delivery::job`] returns the token's place.
//!
//! The application is responsible for TLS, a bound on the size of the body, a clock that is right to a
//! few seconds, and a 2xx answer within a few seconds: Google retries anything but a 2xx for 24 hours.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `http` | yes | the types of http 1: requests for [`Verifier::verify`], responses to answer with |
//! | `aws-lc-rs` | yes | per-request webhooks, on the fast backend |
//! | `rust-crypto` | no | per-request webhooks, in Rust alone; `aws-lc-rs` wins where both are enabled |
//! | `reqwest` | no | `keys::JwksEndpoint`: fetch Google's keys over HTTPS, in a Tokio runtime, and with `configure` its `ApiClient`; enables `aws-lc-rs` and `http` |
//! | `receiver` | no | `Receiver` and `store`: each delivery is handled once; no dependencies |
//! | `inbox` | no | `Inbox`: deliveries are stored, answered at once, and handled later, with retries and dead letters; enables `receiver` |
//! | `sqlite`, `postgres` | no | `inbox` and `receiver` with that store; `postgres` in a Tokio runtime |
//! | `redis` | no | `receiver` with that store, in a Tokio runtime |
//! | `tls` | no | TLS for `postgres` and `redis`, with rustls on aws-lc-rs |
//! | `tracing` | no | a span for each delivery, and for each attempt of an inbox's worker; enables `receiver` |
//! | `configure` | no | `configure`: the requests that register webhooks, and those that ask about a job and fetch its result, for any HTTP client; enables `http` |
//! | `diagnose` | no | `Verifier::diagnose`: for developers, why a delivery does not verify |
//! | `testing` | no | `testing`: sign deliveries as Google would, to test a handler with |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

#[cfg(all(
    feature = "_per-request",
    not(any(feature = "aws-lc-rs", feature = "rust-crypto"))
))]
compile_error!("enable `aws-lc-rs` or `rust-crypto`: `_per-request` is theirs");

#[cfg(any(feature = "configure", feature = "reqwest"))]
mod address;
mod attempt;
#[cfg(any(feature = "_per-request", feature = "receiver"))]
mod boxed;
mod clock;
#[cfg(feature = "configure")]
pub mod configure;
mod delivery;
#[cfg(feature = "diagnose")]
pub mod diagnose;
#[cfg(doctest)]
mod documents;
mod encoding;
mod error;
pub mod event;
mod hmac_v1;
#[cfg(feature = "reqwest")]
mod https;
#[cfg(feature = "inbox")]
pub mod inbox;
mod json;
#[cfg_attr(not(feature = "_per-request"), path = "per_request/absent.rs")]
mod per_request;
#[cfg(feature = "_timers")]
mod random;
#[cfg(feature = "receiver")]
pub mod receiver;
mod redacted;
#[cfg(any(feature = "configure", feature = "reqwest"))]
mod retry_after;
mod rfc3339;
mod scheme;
#[cfg(feature = "receiver")]
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod verifier;
mod window;

pub use attempt::{Attempt, IntoAttempt};
pub use delivery::Delivery;
pub use error::{ConfigError, Error, PayloadError};
pub use event::{Event, EventData, EventType};
pub use hmac_v1::Secret;
#[cfg(feature = "inbox")]
pub use inbox::Inbox;
#[cfg(feature = "_per-request")]
pub use per_request::{JobTokens, PerRequest, keys};
#[cfg(feature = "receiver")]
pub use receiver::Receiver;
pub use scheme::{Scheme, Schemes};
pub use verifier::{SharedVerifier, Verifier, VerifierBuilder};
pub use window::ReplayWindow;

#[cfg(feature = "http")]
pub use http;
pub use serde_json;
pub use time;
