use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::{encoding, error::ConfigError, hmac_v1::Mac};

/// Makes and checks the tokens that prove that a per-request delivery belongs to our own job.
///
/// # The attack
///
/// Google signs the per-request deliveries of all its customers with the same keys, and a job may
/// name any address. So anybody with an API key can have Google sign the news of *their* job to
/// *your* endpoint, and the signature is genuine. What they can't do is to put a token into their
/// job that only you can make: mint one for each job, put it into the `user_metadata` of the job's
/// `webhook_config`, and the service sends it back with each event.
///
/// A token is a bearer's: whoever reads one can put it into a job of their own. Do not log it. Its
/// context, which the signature protects, tells which job it was made for:
/// [`Delivery::job`](crate::Delivery::job).
///
/// ```
/// use gemini_webhooks::JobTokens;
///
/// let tokens = JobTokens::new([7; 32]); // 32 random bytes, kept like a password
/// let token = tokens.mint_for("nightly-eval")?;
/// let webhook_config = serde_json::json!({
///     "uris": ["https://example.com/webhook"],
///     "user_metadata": JobTokens::user_metadata(&token),
/// });
/// # Ok::<(), gemini_webhooks::keys::MintError>(())
/// ```
///
/// # The token's format
///
/// The text `gwj1_`, then in base64url without padding (RFC 4648, section 5) the bytes
///
/// | bytes | what |
/// |---|---|
/// | 16 | nonce, random |
/// | 0 to 128 | context, in UTF-8 |
/// | 32 | tag: HMAC-SHA256 (RFC 2104) under the key of the five bytes `gwj1_`, the nonce and the context |
///
/// Jobs that a service in another language creates can carry tokens too. In Python:
///
/// ```python
/// import base64, hashlib, hmac, os
///
/// def mint(key: bytes, context: str = "") -> str:
///     nonce_and_context = os.urandom(16) + context.encode()
///     tag = hmac.digest(key, b"gwj1_" + nonce_and_context, hashlib.sha256)
///     return "gwj1_" + base64.urlsafe_b64encode(nonce_and_context + tag).rstrip(b"=").decode()
/// ```
///
/// In JavaScript (Node.js):
///
/// ```javascript
/// import { createHmac, randomBytes } from "node:crypto";
///
/// function mint(key, context = "") {
///   const nonceAndContext = Buffer.concat([randomBytes(16), Buffer.from(context)]);
///   const tag = createHmac("sha256", key).update("gwj1_").update(nonceAndContext).digest();
///   return "gwj1_" + Buffer.concat([nonceAndContext, tag]).toString("base64url");
/// }
/// ```
///
/// A vector: under a key of 32 bytes 0x07, the nonce 0x00 0x01 to 0x0f and the context
/// `nightly-eval` give `gwj1_AAECAwQFBgcICQoLDA0OD25pZ2h0bHktZXZhbOlXDoa8ulNKdxLpqv9X2iF_1HZEhvaPA6R9hkQo60Qx`.
#[derive(Clone)]
pub struct JobTokens {
    key: Mac,
    /// The keys of tokens that are accepted and no longer minted.
    others: Vec<Mac>,
}

/// Why a token can't be minted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The context is longer than [`JobTokens::MAX_CONTEXT`].
    #[error(
        "the context has {given} bytes, {} are allowed",
        JobTokens::MAX_CONTEXT
    )]
    ContextTooLong {
        /// Its length in bytes.
        given: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {reason}")]
    NoRandomness {
        /// What it said.
        reason: String,
    },
}

const PREFIX: &str = "gwj1_";
const NONCE: usize = 16;
const TAG: usize = 32;

impl JobTokens {
    /// The member of `user_metadata` that holds the token.
    pub const MEMBER: &str = "gemini_webhooks_job";
    /// The longest context, in bytes.
    pub const MAX_CONTEXT: usize = 128;

    /// Makes and checks tokens under a key of 32 random bytes, which is wiped from memory when
    /// dropped.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self::under(&*Zeroizing::new(key))
    }

    /// Parses a key of at least 32 bytes in base64, as `openssl rand -base64 32` makes one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidJobKey`].
    pub fn parse(key: &str) -> Result<Self, ConfigError> {
        let invalid = |reason| ConfigError::InvalidJobKey { reason };
        let mut buffer = Zeroizing::new([0; 1024]);
        let key = encoding::decode(key.as_bytes(), buffer.as_mut_slice())
            .ok_or(invalid("it is not base64 of at most 1020 bytes"))?;
        if key.len() < 32 {
            return Err(invalid("it is shorter than 32 bytes"));
        }
        Ok(Self::under(key))
    }

    fn under(key: &[u8]) -> Self {
        Self {
            key: Mac::new(key),
            others: Vec::new(),
        }
    }

    /// Also accepts tokens that another key made, as while a key is replaced: the jobs at work
    /// carry tokens under the old one.
    #[must_use]
    pub fn or_made_by(mut self, other: Self) -> Self {
        self.others.push(other.key);
        self.others.extend(other.others);
        self
    }

    /// Makes a token without a context, for one job.
    ///
    /// # Errors
    ///
    /// [`MintError::NoRandomness`].
    pub fn mint(&self) -> Result<String, MintError> {
        self.mint_for("")
    }

    /// Makes a token for one job. The context, such as the job's name or its tenant, comes back
    /// as [`Delivery::job`](crate::Delivery::job). It is protected, and not secret.
    ///
    /// # Errors
    ///
    /// [`MintError::ContextTooLong`], [`MintError::NoRandomness`].
    pub fn mint_for(&self, context: &str) -> Result<String, MintError> {
        if context.len() > Self::MAX_CONTEXT {
            return Err(MintError::ContextTooLong {
                given: context.len(),
            });
        }
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| MintError::NoRandomness {
            reason: error.to_string(),
        })?;
        Ok(self.mint_with(nonce, context))
    }

    fn mint_with(&self, nonce: [u8; NONCE], context: &str) -> String {
        let mut bytes = [nonce.as_slice(), context.as_bytes()].concat();
        bytes.extend_from_slice(&tag(&self.key, &bytes));
        format!("{PREFIX}{}", encoding::encode_url(&bytes))
    }

    /// What to put into a job's `user_metadata`, beside whatever else belongs there.
    #[must_use]
    pub fn user_metadata(token: &str) -> Map<String, Value> {
        Map::from_iter([(Self::MEMBER.to_owned(), token.into())])
    }

    /// Verifies a token, and returns its context.
    pub(crate) fn verify(&self, token: &str) -> Option<String> {
        const LONGEST: usize = NONCE + JobTokens::MAX_CONTEXT + TAG;
        let encoded = token.strip_prefix(PREFIX)?;
        // What is too long must not cost a decoding.
        let bytes = Some(encoded).filter(|text| text.len() <= LONGEST * 4 / 3 + 1)?;
        let bytes = encoding::decode_url(bytes)?;
        let (signed, given) = bytes.split_last_chunk::<TAG>()?;
        let context = signed.get(NONCE..)?;
        let mut genuine = Choice::from(0);
        for key in std::iter::once(&self.key).chain(&self.others) {
            genuine |= tag(key, signed).ct_eq(given);
        }
        if !bool::from(genuine) {
            return None;
        }
        String::from_utf8(context.to_vec()).ok()
    }
}

fn tag(key: &Mac, nonce_and_context: &[u8]) -> [u8; TAG] {
    key.tag(&[PREFIX.as_bytes(), nonce_and_context])
}

impl FromStr for JobTokens {
    type Err = ConfigError;

    fn from_str(key: &str) -> Result<Self, ConfigError> {
        Self::parse(key)
    }
}

/// From a text, as [`JobTokens::parse`] takes it.
impl<'de> Deserialize<'de> for JobTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&key).map_err(D::Error::custom)
    }
}

impl fmt::Debug for JobTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobTokens(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str =
        "gwj1_AAECAwQFBgcICQoLDA0OD25pZ2h0bHktZXZhbOlXDoa8ulNKdxLpqv9X2iF_1HZEhvaPA6R9hkQo60Qx";

    fn tokens() -> JobTokens {
        JobTokens::new([7; 32])
    }

    #[test]
    fn the_documented_vector_is_made_and_accepted() {
        let nonce = std::array::from_fn(|index| u8::try_from(index).unwrap());
        assert_eq!(tokens().mint_with(nonce, "nightly-eval"), VECTOR);
        assert_eq!(tokens().verify(VECTOR).as_deref(), Some("nightly-eval"));
    }

    #[test]
    fn a_token_is_accepted_under_the_key_that_made_it() {
        let token = tokens().mint_for("nightly").unwrap();
        assert_eq!(tokens().verify(&token).as_deref(), Some("nightly"));
        let other = JobTokens::new([8; 32]);
        assert_eq!(other.verify(&token), None);
        assert_eq!(
            other.clone().or_made_by(tokens()).verify(&token).as_deref(),
            Some("nightly")
        );
        let minted = other.clone().or_made_by(tokens()).mint().unwrap();
        assert_eq!(other.verify(&minted).as_deref(), Some(""));
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(tokens().mint().unwrap(), tokens().mint().unwrap());
    }

    #[test]
    fn any_changed_character_is_noticed() {
        for at in 0..VECTOR.len() {
            for replacement in ["A", "B", "_", "=", ".", " ", ""] {
                let mut changed = VECTOR.to_owned();
                changed.replace_range(at..=at, replacement);
                let genuine = tokens().verify(&changed).is_some();
                assert_eq!(genuine, changed == VECTOR, "{changed}");
            }
        }
    }

    #[test]
    fn contexts_are_bounded() {
        let longest = "\u{e9}".repeat(64);
        let token = tokens().mint_for(&longest).unwrap();
        assert_eq!(tokens().verify(&token), Some(longest));
        let error = tokens().mint_for(&"a".repeat(129)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the context has 129 bytes, 128 are allowed"
        );
        let too_long = tokens().mint_with([0; NONCE], &"a".repeat(129));
        assert_eq!(tokens().verify(&too_long), None);
        for junk in [
            "",
            "gwj1_",
            "gwj1_AAAA",
            &format!("gwj1_{}", "A".repeat(1 << 20)),
        ] {
            assert_eq!(tokens().verify(junk), None);
        }
    }

    #[test]
    fn keys_are_parsed_from_base64() {
        let encoded = encoding::encode(&[7; 32]);
        assert!(JobTokens::parse(&encoded).unwrap().verify(VECTOR).is_some());
        assert!(JobTokens::parse(&encoding::encode(&[7; 200])).is_ok());
        for bad in [
            String::new(),
            encoding::encode(&[7; 31]),
            format!("{encoded}\n"),
            encoding::encode(&[7; 2000]),
        ] {
            assert!(JobTokens::parse(&bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", tokens()), "JobTokens(..)");
    }

    #[test]
    fn a_key_is_read_from_text_and_from_a_document_as_it_is_parsed() {
        let encoded = encoding::encode(&[7; 32]);
        let from_text: JobTokens = encoded.parse().unwrap();
        let from_document: JobTokens = serde_json::from_value(encoded.into()).unwrap();
        for tokens in [from_text, from_document] {
            assert_eq!(tokens.verify(VECTOR).as_deref(), Some("nightly-eval"));
        }
        let short = encoding::encode(&[7; 31]);
        let parsed = JobTokens::parse(&short).unwrap_err();
        assert_eq!(short.parse::<JobTokens>().unwrap_err(), parsed);
        let error = serde_json::from_value::<JobTokens>(short.into()).unwrap_err();
        assert_eq!(error.to_string(), parsed.to_string());
        assert!(serde_json::from_str::<JobTokens>("7").is_err());
    }
}
