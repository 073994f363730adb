use std::fmt;

use http::Response;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    answer::{Members, Names, text, time},
    api_error::{ApiError, read, unreadable},
};
use crate::{error::ConfigError, hmac_v1::Secret, redacted::Redacted};

/// The public part of a signing secret that the service has shown before.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SigningSecret {
    /// The prefix and the last characters, such as `whsec_...3frh`: enough to recognize the secret,
    /// not enough to sign. Empty if the answer has none.
    pub truncated_secret: String,
    /// The time at which it stops signing, after a rotation.
    pub expire_time: Option<OffsetDateTime>,
    /// Members that this crate does not know, or of another kind than documented.
    pub other: Map<String, Value>,
}

impl SigningSecret {
    pub(super) fn from_value(value: Value) -> Result<Self, Value> {
        let mut members = Members::of(value)?;
        Ok(Self {
            truncated_secret: members
                .take(&["truncated_secret", "truncatedSecret"], text)
                .unwrap_or_default(),
            expire_time: members.take(&["expire_time", "expireTime"], time),
            other: members.rest(),
        })
    }
}

/// Cuts the secret, should the service not have done so.
impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningSecret")
            .field("truncated_secret", &Redacted(&self.truncated_secret))
            .field("expire_time", &self.expire_time)
            .field("other", &Names(&self.other))
            .finish()
    }
}

/// A signing secret that the service shows only once.
///
/// It is zeroized on drop, and `Debug` does not show it.
#[derive(Clone)]
pub struct NewSigningSecret(Zeroizing<String>);

impl NewSigningSecret {
    /// Takes the secret from a member of an answer. Google's sources name it in these ways.
    pub(super) fn take(members: &mut Members) -> Option<Self> {
        let names = ["new_signing_secret", "newSigningSecret", "secret"];
        let text = members.take(&names, text)?;
        Some(Self(text.into()))
    }

    /// Returns the secret's text (`whsec_...`), to store with your other secrets.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Parses the secret, for a verifier.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSecret`] if the service returned something else.
    pub fn parse(&self) -> Result<Secret, ConfigError> {
        Secret::parse(&self.0)
    }
}

impl fmt::Debug for NewSigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewSigningSecret(..)")
    }
}

/// The answer to a rotation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RotatedSecret {
    /// The new signing secret.
    pub secret: NewSigningSecret,
}

impl RotatedSecret {
    /// Reads the answer to [`rotate`](super::WebhookService::rotate): the members `secret` or
    /// `new_signing_secret`, in either spelling, of the answer itself or of a webhook inside it.
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] if the service refused the request, [`ApiError::Unreadable`] if the
    /// answer is no JSON object or has no signing secret.
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        let mut answer = read(response)?;
        let secret = NewSigningSecret::take(&mut answer).or_else(|| {
            let mut nested = answer.nested();
            nested.find_map(|mut webhook| NewSigningSecret::take(&mut webhook))
        });
        match secret {
            Some(secret) => Ok(Self { secret }),
            None => Err(unreadable(response, "it has no signing secret")),
        }
    }
}
