//! `v1`: HMAC-SHA256 under a shared secret (Standard Webhooks 1.0.0, RFC 2104).

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, de::Error as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::{
    attempt::{Attempt, SignatureEntry},
    delivery::{Delivery, Payload, Request},
    encoding,
    error::{ConfigError, Error},
    scheme::Scheme,
};

mod mistake;

pub(crate) use mistake::Mistake;

/// A signing secret of a project-level webhook.
///
/// It can be neither read back, printed nor compared, and is wiped from memory when dropped. It is
/// kept as the keyed state of the HMAC (RFC 2104, section 4), so that the key is processed once.
#[derive(Clone)]
pub struct Secret(Mac);

impl Secret {
    const MIN_BYTES: usize = 24;
    const MAX_BYTES: usize = 64;
    const MIN_RAW_BYTES: usize = 16;
    const MAX_RAW_BYTES: usize = 256;

    /// Parses the secret as it was shown when the webhook was created: `whsec_` and base64, or
    /// the base64 alone, padded or not, of 24 to 64 bytes (Standard Webhooks 1.0.0).
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSecret`], which tells the usual mistakes apart: quotation marks, white
    /// space or invisible characters, a whole `NAME=whsec_...`, percent-encoding, base64url, several
    /// secrets in one text, a signature's `v1,` in front, the truncated form that Google shows later,
    /// and a public key, an API key or a job token in its place.
    ///
    /// ```
    /// use gemini_webhooks::Secret;
    ///
    /// let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?;
    /// let mistake = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n").unwrap_err();
    /// assert_eq!(
    ///     mistake.to_string(),
    ///     "the signing secret can't be used: it has white space or a line break at an end: trim it",
    /// );
    /// # Ok::<(), gemini_webhooks::ConfigError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let invalid = |reason| ConfigError::InvalidSecret { reason };
        if let Some(mistake) = Mistake::find(text) {
            return Err(invalid(mistake.text));
        }
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let mut buffer = Zeroizing::new([0; Self::MAX_BYTES + 2]);
        // Longer than any secret, so that "not base64" below means nothing else.
        if encoded.len() > 88 {
            return Err(invalid(
                "it is longer than 64 bytes in base64: 24 to 64 bytes are expected",
            ));
        }
        let key = encoding::decode(encoded.as_bytes(), buffer.as_mut_slice()).ok_or(invalid(
            "it is not base64, apart from an optional `whsec_` in front",
        ))?;
        match key.len() {
            ..Self::MIN_BYTES => Err(invalid(
                "it is shorter than 24 bytes: 24 to 64 bytes are expected",
            )),
            Self::MIN_BYTES..=Self::MAX_BYTES => Ok(Self(Mac::new(key))),
            _ => Err(invalid(
                "it is longer than 64 bytes: 24 to 64 bytes are expected",
            )),
        }
    }

    /// Takes a key that is not base64, such as the raw bytes of a text: 16 to 256 bytes. Google's
    /// secrets are for [`parse`](Self::parse).
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSecret`] for another number of bytes.
    pub fn from_bytes(key: &[u8]) -> Result<Self, ConfigError> {
        match key.len() {
            Self::MIN_RAW_BYTES..=Self::MAX_RAW_BYTES => Ok(Self(Mac::new(key))),
            _ => Err(ConfigError::InvalidSecret {
                reason: "it does not have 16 to 256 bytes",
            }),
        }
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn under(key: &[u8]) -> Self {
        Self(Mac::new(key))
    }

    /// Returns the HMAC-SHA256 of the parts, one after the other.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.0.tag(parts)
    }
}

impl FromStr for Secret {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text)
    }
}

/// From a text, as [`Secret::parse`] takes it.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// HMAC-SHA256 (RFC 2104) under one key, which is wiped from memory when dropped.
///
/// Boxed, so that moving it leaves no copy behind.
#[derive(Clone)]
pub(crate) struct Mac(Box<Hmac<Sha256>>);

impl Mac {
    /// Takes a key of any length.
    #[expect(
        clippy::expect_used,
        reason = "RFC 2104 knows no key of a wrong length"
    )]
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Box::new(
            Hmac::new_from_slice(key).expect("a key of any length"),
        ))
    }

    /// Returns the tag of the parts, one after the other.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        #[cfg(all(test, feature = "diagnose"))]
        hashed::add(parts.iter().map(|part| part.len()).sum());
        let mut mac = Hmac::clone(&self.0);
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// The work of a thread, for tests of how much there is.
#[cfg(all(test, feature = "diagnose"))]
pub(crate) mod hashed {
    use std::cell::Cell;

    thread_local! {
        static HASHED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }

    pub(crate) fn add(bytes: usize) {
        let (all, times) = HASHED.get();
        HASHED.set((all + bytes, times + 1));
    }

    /// Returns the bytes that were hashed since the last call, and how often some were.
    pub(crate) fn take() -> (usize, usize) {
        HASHED.take()
    }
}

/// A secret, and its name where it has one.
#[derive(Debug, Clone)]
pub(crate) struct NamedSecret {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) secret: Secret,
}

/// Verifies the `v1` signatures of a delivery.
pub(crate) fn verify<'a>(
    secrets: &[NamedSecret],
    request: &Request<'_, 'a>,
) -> Result<Delivery<'a>, Error> {
    let keys = secrets.iter().map(|named| &named.secret);
    let position = find(keys, request.attempt, request.body).ok_or(Error::SignatureMismatch {
        tried: Scheme::V1.into(),
    })?;
    let payload = Payload::Body(Cow::Borrowed(request.body), OnceLock::new());
    let name = secrets.get(position).and_then(|named| named.name.clone());
    Ok(Delivery::authentic(request, Scheme::V1, payload, name))
}

/// Returns the position of a secret that made one of the `v1` signatures.
///
/// Every secret is tried against every signature, in a time that tells neither which of them
/// matched nor how far a forged signature is right.
pub(crate) fn find<'s>(
    secrets: impl Iterator<Item = &'s Secret>,
    attempt: &Attempt<'_>,
    body: &[u8],
) -> Option<usize> {
    let mut tags = attempt.signatures().iter().filter_map(|entry| match entry {
        SignatureEntry::V1(signature) => encoding::decode_exactly(signature).map(words),
        _ => None,
    });
    // What can't match must not cost the MAC of a large body.
    let first = tags.next()?;
    let content = attempt.signed_content(body);
    let mut matched = 0_u64;
    for (position, secret) in secrets.enumerate() {
        let expected = words(secret.tag(&content));
        let mut same_as_any = same(expected, first);
        for tag in tags.clone() {
            same_as_any |= same(expected, tag);
        }
        matched |= u64::from(same_as_any.unwrap_u8()) << (position % 64);
    }
    (matched != 0).then(|| matched.trailing_zeros() as usize)
}

/// A MAC in words. Comparing four words takes 4.5 ns; comparing 32 bytes with `subtle` takes 58.
type Tag = [u64; 4];

/// Looks at all words, and combines what differs before anything is asked of it.
fn same(expected: Tag, given: Tag) -> Choice {
    let [a, b, c, d] = std::array::from_fn(|word| match (expected.get(word), given.get(word)) {
        (Some(expected), Some(given)) => expected ^ given,
        _ => u64::MAX,
    });
    (a | b | c | d).ct_eq(&0)
}

fn words(tag: [u8; 32]) -> Tag {
    let (bytes, _) = tag.as_chunks();
    let mut words = Tag::default();
    for (word, bytes) in words.iter_mut().zip(bytes) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests;
