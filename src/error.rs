use std::time::Duration;

use crate::scheme::{Scheme, Schemes};

mod payload;

pub use payload::PayloadError;

/// The reason to refuse a delivery.
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
    /// The body of a per-request delivery is larger than `PerRequest::max_body` allows.
    #[error("the body has {length} bytes, {allowed} are allowed for a per-request delivery")]
    BodyTooLarge {
        /// Its length in bytes.
        length: usize,
        /// The largest that is allowed.
        allowed: usize,
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
    /// Nothing proves that the job is ours: it may be another customer's. The token in the URI is
    /// checked before the signature, so the delivery may also be a forgery.
    #[error("nothing proves that the job is ours: {reason}")]
    UnknownOrigin {
        /// What was found and what was expected.
        reason: &'static str,
    },
    /// The delivery is authentic and its job token is ours, but the token has expired.
    #[error(
        "the job token expired {} s ago, {} s are allowed",
        age.as_secs(),
        allowed.as_secs()
    )]
    JobTokenExpired {
        /// The time since the token expired.
        age: Duration,
        /// The time for which deliveries are accepted after that: 24 hours and the replay window.
        allowed: Duration,
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
            Self::JobTokenExpired { .. } => "job_token_expired",
            Self::BodyTooLarge { .. } => "body_too_large",
        }
    }

    /// The HTTP status code to answer with: 400 where the request is malformed or late, 401 where
    /// its signature does not convince, 403 where it is not ours or no longer, 413 where its body is
    /// too large, 503 where it can't be verified yet.
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
            Self::UnknownOrigin { .. } | Self::JobTokenExpired { .. } => 403,
            Self::BodyTooLarge { .. } => 413,
            Self::KeysUnavailable => 503,
        }
    }

    /// Returns the time to wait before the next attempt, for `Retry-After` (RFC 9110, section
    /// 10.2.3): 5 s where the status is 503.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::KeysUnavailable => Some(PAUSE),
            _ => None,
        }
    }

    /// Returns true if newer keys might have led to another answer: the key is unknown, no key set
    /// has been loaded, or none of its keys matches a `v1a` signature or a JWT.
    ///
    /// Anybody can cause such an error, so that it must not cause a request of its own each time.
    #[must_use]
    pub const fn is_refreshable(&self) -> bool {
        match self {
            Self::UnknownKey { .. } | Self::KeysUnavailable => true,
            Self::SignatureMismatch { tried } => {
                tried.contains(Scheme::V1a) || tried.contains(Scheme::Jwt)
            }
            _ => false,
        }
    }
}

#[cfg(feature = "http")]
mod http_types {
    use std::time::Duration;

    use http::{Response, StatusCode, header::RETRY_AFTER};

    use super::Error;

    impl Error {
        /// Returns the HTTP status code to answer with: see [`status`](Self::status).
        #[must_use]
        pub fn status_code(&self) -> StatusCode {
            status_code(self.status())
        }

        /// Builds the HTTP response to answer with, `Retry-After` included.
        pub fn response<B>(&self, body: B) -> Response<B> {
            response(self.status(), self.retry_after(), body)
        }
    }

    pub(crate) fn status_code(status: u16) -> StatusCode {
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn response<B>(status: u16, retry_after: Option<Duration>, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = status_code(status);
        if let Some(wait) = retry_after {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, wait.as_secs().into());
        }
        response
    }
}

#[cfg(all(feature = "http", feature = "receiver"))]
pub(crate) use http_types::{response, status_code};

/// The time until a store or a source of keys that failed may be back.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// An error in the configuration: a secret, a key set, an address, or how they are combined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not a signing secret.
    #[error("the signing secret can't be used: {reason}")]
    InvalidSecret {
        /// The fault and how to fix it, without any part of the secret.
        reason: &'static str,
    },
    /// There are more signing secrets than a rotation needs.
    #[error("{given} signing secrets are given, {allowed} are allowed")]
    TooManySecrets {
        /// The number of secrets that were given.
        given: usize,
        /// The largest number that is allowed.
        allowed: usize,
    },
    /// The verifier has nothing to verify with, and would refuse every delivery.
    #[error("there is nothing to verify with: neither a signing secret nor a key set")]
    NothingToVerifyWith,
    /// A key set can't be fetched from this address.
    #[error("the address of the key set can't be used: {reason}")]
    InvalidEndpoint {
        /// The fault, and the expected form.
        reason: String,
    },
    /// The text is not a key for job tokens.
    #[error("the key for job tokens can't be used: {reason}")]
    InvalidJobKey {
        /// The fault, and the expected form, without any part of the key.
        reason: &'static str,
    },
    /// The audience is empty or white space: any JWT with such an audience would pass.
    #[error("the audience is empty: give the one that the job names, or use job tokens")]
    EmptyAudience,
    /// Nothing could be accepted without `JobTokens`: a token is required in the URI, or only `v1a`
    /// is verified, which has no audience.
    #[error("`require_uri_token`, and `v1a_only` with an audience, need job tokens")]
    NoJobTokens,
    /// The name of a secret can't be a part of an idempotency key.
    #[error("a secret's name has 1 to 64 visible ASCII characters without a full stop")]
    InvalidSecretName,
    /// The namespace can't be a part of an idempotency key.
    #[error("a namespace has at most 128 visible ASCII characters without a slash")]
    InvalidNamespace,
    /// The lease of a receiver is out of bounds.
    #[error("a lease lasts 1 s to 24 hours")]
    InvalidLease,
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

    /// One of each status, with its `Retry-After` in seconds.
    const ANSWERS: [(Error, u16, Option<u64>); 4] = [
        (Error::MissingHeader { name: "webhook-id" }, 400, None),
        (
            Error::UnusableToken {
                reason: "has another algorithm",
            },
            401,
            None,
        ),
        (Error::UnknownOrigin { reason: "" }, 403, None),
        (Error::KeysUnavailable, 503, Some(5)),
    ];

    #[test]
    fn only_what_may_be_verified_later_is_to_come_again() {
        for (error, status, seconds) in ANSWERS {
            assert_eq!(error.status(), status, "{error}");
            let wait = seconds.map(Duration::from_secs);
            assert_eq!(error.retry_after(), wait, "{error}");
        }
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_response_has_the_status_the_wait_and_the_body() {
        for (error, status, seconds) in ANSWERS {
            assert_eq!(error.status_code().as_u16(), status);
            let response = error.response(error.code());
            assert_eq!(response.status(), error.status_code());
            assert_eq!(*response.body(), error.code());
            let headers = response.headers();
            let wait = headers.get(http::header::RETRY_AFTER);
            let wait = wait.map(|wait| wait.to_str().unwrap().parse().unwrap());
            assert_eq!(wait, seconds, "{error}");
            assert_eq!(headers.len(), usize::from(seconds.is_some()));
        }
    }

    #[test]
    fn an_error_stays_small_enough_to_return_by_value() {
        assert!(size_of::<Error>() <= 48);
    }
}
