use std::time::Duration;

use crate::signature::{Scheme, Schemes};

/// Why a delivery was refused.
///
/// No variant holds a secret or an expected signature, so that an error may be logged and may be
/// answered to the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One of the three `webhook-` headers is absent.
    #[error("the header {name} is missing")]
    MissingHeader {
        /// The header's name.
        name: &'static str,
    },
    /// One of the three `webhook-` headers is malformed.
    #[error("the header {name} is malformed: {reason}")]
    InvalidHeader {
        /// The header's name.
        name: &'static str,
        /// What was found and what was expected.
        reason: &'static str,
    },
    /// One of the three `webhook-` headers is given more than once.
    ///
    /// Two values would let the receiver and whatever stands in front of it disagree about
    /// which one counts.
    #[error("the header {name} is given more than once")]
    DuplicateHeader {
        /// The header's name.
        name: &'static str,
    },
    /// The attempt is older than the [replay window](crate::ReplayWindow) allows.
    #[error("webhook-timestamp is {} s old, {} s are allowed", age.as_secs(), allowed.as_secs())]
    TimestampTooOld {
        /// The receiver's clock minus `webhook-timestamp`.
        age: Duration,
        /// How old an attempt may be.
        allowed: Duration,
    },
    /// The attempt lies further ahead of the receiver's clock than the
    /// [replay window](crate::ReplayWindow) allows.
    #[error("webhook-timestamp is {} s ahead, {} s are allowed", ahead.as_secs(), allowed.as_secs())]
    TimestampTooNew {
        /// `webhook-timestamp` minus the receiver's clock.
        ahead: Duration,
        /// How far ahead an attempt may be.
        allowed: Duration,
    },
    /// There are signatures, but none of a scheme that the verifier is configured for.
    #[error("webhook-signature offers {offered}, this verifier is configured for {configured}")]
    NoUsableScheme {
        /// The schemes of the delivery's signature entries.
        offered: Schemes,
        /// The schemes that the verifier can check.
        configured: Schemes,
    },
    /// The JWT is signed with an algorithm other than RS256 and EdDSA (RFC 7518, RFC 8037), such
    /// as `none`, or demands an extension (`crit`).
    #[error("the JWT {reason}: plain RS256 and EdDSA are accepted")]
    UnusableToken {
        /// What was found.
        reason: &'static str,
    },
    /// There are signatures of a configured scheme, and none of them matches.
    ///
    /// Where the sender is genuine, either the key is another one, or the body is not, byte for
    /// byte, the one that was received.
    #[error(
        "no {tried} signature matches: the key is another one, or this is not the raw body that was signed"
    )]
    SignatureMismatch {
        /// The schemes whose signatures were checked.
        tried: Schemes,
    },
    /// The JWT names a key that the key set does not have. Google may have a new one.
    #[error("the key set has no key {key_id:?}")]
    UnknownKey {
        /// The key's id (`kid`), cut after 64 characters.
        key_id: String,
    },
    /// A per-request delivery arrived, and no key set has been loaded yet.
    #[error("no key set has been loaded yet")]
    KeysUnavailable,
    /// A claim of the JWT is absent or does not hold (RFC 7519, section 4.1).
    #[error("the claim {claim} {problem}")]
    TokenClaims {
        /// The claim's name, such as `exp`.
        claim: &'static str,
        /// What was found and what was expected.
        problem: String,
    },
    /// The JWT is genuine, but does not authenticate the body that came with it.
    #[error("the JWT does not authenticate the body: {reason}")]
    BodyNotBound {
        /// What was found and what was expected.
        reason: &'static str,
    },
    /// The signature is Google's, and nothing proves that the job is ours: it may be another
    /// customer's.
    #[error("Google signed this, but nothing proves that the job is ours: {reason}")]
    UnknownOrigin {
        /// What was found and what was expected.
        reason: &'static str,
    },
}

impl Error {
    /// A stable name for this kind of error, for logs, metrics and answers.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } => "missing_header",
            Self::InvalidHeader { .. } => "invalid_header",
            Self::DuplicateHeader { .. } => "duplicate_header",
            Self::TimestampTooOld { .. } => "timestamp_too_old",
            Self::TimestampTooNew { .. } => "timestamp_too_new",
            Self::NoUsableScheme { .. } | Self::UnusableToken { .. } => "no_usable_scheme",
            Self::SignatureMismatch { .. } => "signature_mismatch",
            Self::UnknownKey { .. } => "unknown_key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::TokenClaims { .. } => "token_claims",
            Self::BodyNotBound { .. } => "body_not_bound",
            Self::UnknownOrigin { .. } => "unknown_origin",
        }
    }

    /// The HTTP status code to answer with: 400 where the request is malformed or late, 401 where
    /// its signature does not convince, 403 where it is somebody else's, 503 where it can't be
    /// checked yet.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::MissingHeader { .. }
            | Self::InvalidHeader { .. }
            | Self::DuplicateHeader { .. }
            | Self::TimestampTooOld { .. }
            | Self::TimestampTooNew { .. } => 400,
            Self::NoUsableScheme { .. }
            | Self::UnusableToken { .. }
            | Self::SignatureMismatch { .. }
            | Self::UnknownKey { .. }
            | Self::TokenClaims { .. }
            | Self::BodyNotBound { .. } => 401,
            Self::UnknownOrigin { .. } => 403,
            Self::KeysUnavailable => 503,
        }
    }

    /// Whether newer keys might have led to another answer: the key is unknown, no key set has
    /// been loaded, or none of its keys matches a `v1a` signature.
    ///
    /// Anybody can cause such an error, so that it must not cause a request of its own each time.
    #[must_use]
    pub const fn is_refreshable(&self) -> bool {
        match self {
            Self::UnknownKey { .. } | Self::KeysUnavailable => true,
            Self::SignatureMismatch { tried } => tried.contains(Scheme::V1a),
            _ => false,
        }
    }
}

/// Lets [`Verifier::verify`](crate::Verifier::verify) take headers that can't be malformed.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Why an authenticated payload is not the event, or the type, that was asked for.
///
/// The sender is genuine, so this is not an [`Error`]: whether to acknowledge such a delivery
/// (and look at it later) or to have it sent again is the application's choice.
#[derive(Debug, thiserror::Error)]
#[error("the delivery is authentic, but its payload can't be read: {0}")]
pub struct PayloadError(#[source] pub(crate) serde_json::Error);

/// Why a [`Verifier`](crate::Verifier) can't be built from what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not a signing secret.
    #[error("the signing secret can't be used: {reason}")]
    InvalidSecret {
        /// What was found and how to mend it; never a part of the secret.
        reason: &'static str,
    },
    /// There are more signing secrets than a rotation needs.
    #[error("{given} signing secrets are given, {allowed} are allowed")]
    TooManySecrets {
        /// How many were given.
        given: usize,
        /// How many are allowed.
        allowed: usize,
    },
    /// The verifier has nothing to verify with, and would refuse every delivery.
    #[error("there is nothing to verify with: neither a signing secret nor a key set")]
    NothingToVerifyWith,
    /// The document is not a JSON Web Key Set, or has no usable key.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    #[error("the key set can't be used: {reason}")]
    InvalidKeySet {
        /// What was found and what was expected.
        reason: String,
    },
    /// A key set can't be fetched from this address.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    #[error("the address of the key set can't be used: {reason}")]
    InvalidEndpoint {
        /// What was found and what was expected.
        reason: String,
    },
    /// Per-request deliveries would be accepted without proof that the job is ours.
    ///
    /// Google signs the deliveries of all its customers with the same keys.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    #[error(
        "per-request deliveries need a proof that the job is ours: call `job_tokens` or `audience`, \
         or `accept_any_sender` to do without"
    )]
    NoProofOfOrigin,
    /// The text is not a key for job tokens.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    #[error("the key for job tokens can't be used: {reason}")]
    InvalidJobKey {
        /// What was found and what was expected; never a part of the key.
        reason: &'static str,
    },
    /// The address can't be that of a webhook.
    #[cfg(feature = "configure")]
    #[error("the address can't be used: {reason}")]
    InvalidUri {
        /// What was found and what was expected.
        reason: String,
    },
    /// A request to the service can't be made of what was given.
    #[cfg(feature = "configure")]
    #[error("the request can't be made: {reason}")]
    InvalidRequest {
        /// What was found and what was expected.
        reason: &'static str,
    },
    /// The replay window is wider than [`ReplayWindow::MAX`](crate::ReplayWindow::MAX).
    #[error("the replay window spans {} s, {} s are allowed", given.as_secs(), allowed.as_secs())]
    WindowTooWide {
        /// The wider side that was given.
        given: Duration,
        /// The widest that is allowed.
        allowed: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_small_enough_to_return_by_value() {
        assert!(size_of::<Error>() <= 48);
    }
}
