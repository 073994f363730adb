//! Lib.
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

mod encoding;
mod error;
mod event;
mod headers;
mod scheme;
mod secret;
mod signature;
mod signed_content;
#[cfg(feature = "testing")]
pub mod testing;
mod verifier;
mod window;

pub use error::{ConfigError, Error, PayloadError};
pub use event::{
    BatchCancelled, BatchExpired, BatchFailed, BatchSucceeded, ErrorCode, Event, EventData,
    EventType, InteractionCancelled, InteractionCompleted, InteractionFailed,
    InteractionRequiresAction, VideoGenerated,
};
pub use headers::WebhookHeaders;
pub use secret::Secret;
pub use signature::{Scheme, Schemes};
pub use verifier::{Delivery, Verifier, VerifierBuilder};
pub use window::ReplayWindow;
