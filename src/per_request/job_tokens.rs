use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::{clock::Clock, encoding, error::ConfigError, hmac_v1::Mac, random::Random};

/// Mints and verifies the tokens that prove that a per-request delivery belongs to our own job.
///
/// # The attack
///
/// Google signs the per-request deliveries of all its customers with the same keys, and a job may
/// name any address. So anybody with an API key can have Google sign the news of *their* job to
/// *your* endpoint, and the signature is genuine. They can't put a token into their job that only you
/// can make. Mint one for each job, and put it where the job's deliveries bring it back.
///
/// # Two places
///
/// | job | the query of its callback URI | `user_metadata` of its `webhook_config` |
/// |---|---|---|
/// | batch | yes | no: the Batch API refuses it |
/// | interaction, Deep Research and Omni videos included | yes | yes, if it comes back: nothing shows that it does |
///
/// - **In the callback URI** ([`callback_uri`](Self::callback_uri)) it works for every job. The URI is
///   not signed. So the token proves that the sender knows a live token of ours, and not that this
///   event is the token's job's: whoever has seen one can send it with a delivery of their own job.
///   Treat such addresses as secrets: [`redact`](Self::redact) them in logs.
/// - **In signed content** (`user_metadata`, at the top level, in `data`, in `interaction`, or in a
///   `webhook_config` inside one of these) it proves that the event belongs to a job that was created
///   with the token: to ours, as long as nobody else has seen it. Whoever reads a live token, in
///   either place, can create a job of their own with it.
///
/// If a delivery has several, all must be valid and have one nonce. [`Delivery::job`] returns the
/// token's context, its nonce and its place.
///
/// A token is a bearer's, and lives for 30 days unless [`valid_for`](Self::valid_for) says otherwise.
/// Deliveries are accepted for 24 hours and one replay window longer, since Google retries that long.
///
/// [`Delivery::job`]: crate::Delivery::job
///
/// ```
/// use gemini_webhooks::JobTokens;
///
/// let tokens = JobTokens::new([7; 32]); // 32 random bytes, kept like a password
/// let token = tokens.mint_for("nightly-eval")?;
/// let webhook_config = serde_json::json!({
///     "uris": [JobTokens::callback_uri("https://example.com/webhook", &token)],
/// });
/// # Ok::<(), gemini_webhooks::keys::MintError>(())
/// ```
///
/// # Format
///
/// The text `gwj1_`, then in base64url without padding (RFC 4648, section 5) the bytes
///
/// | bytes | content |
/// |---|---|
/// | 16 | nonce, random |
/// | 8 | expiry in Unix seconds, big-endian |
/// | 0 to 128 | context, in UTF-8 |
/// | 32 | tag: HMAC-SHA256 (RFC 2104) under the key of the five bytes `gwj1_`, the nonce, the expiry and the context |
///
/// In the callback URI it is the query parameter `gemini_webhooks_job`, in `user_metadata` the member of
/// that name. Services in other languages can create jobs too. In Python:
///
/// ```python
/// import base64, hashlib, hmac, os, struct, time
///
/// def mint(key: bytes, context: str = "", days: int = 30) -> str:
///     expiry = struct.pack(">Q", int(time.time()) + days * 86400)
///     signed = os.urandom(16) + expiry + context.encode()
///     tag = hmac.digest(key, b"gwj1_" + signed, hashlib.sha256)
///     return "gwj1_" + base64.urlsafe_b64encode(signed + tag).rstrip(b"=").decode()
/// ```
///
/// In JavaScript (Node.js):
///
/// ```javascript
/// import { createHmac, randomBytes } from "node:crypto";
///
/// function mint(key, context = "", days = 30) {
///   const expiry = Buffer.alloc(8);
///   expiry.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 1000) + days * 86400));
///   const signed = Buffer.concat([randomBytes(16), expiry, Buffer.from(context)]);
///   const tag = createHmac("sha256", key).update("gwj1_").update(signed).digest();
///   return "gwj1_" + Buffer.concat([signed, tag]).toString("base64url");
/// }
/// ```
///
/// A vector: under a key of 32 bytes 0x07, the nonce 0x00 0x01 to 0x0f, the expiry 1800000000 and the
/// context `nightly-eval` give
/// `gwj1_AAECAwQFBgcICQoLDA0ODwAAAABrSdIAbmlnaHRseS1ldmFsUdaNfkap7uNphWd1NwuCux3AL0fcYl-2cYu-NulslQk`.
#[derive(Clone)]
pub struct JobTokens {
    key: Mac,
    /// The keys of tokens that are accepted and no longer minted.
    others: Vec<Mac>,
    valid_for: Duration,
    clock: Clock,
    random: Random,
}

/// A token can't be minted.
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
    /// The operating system returned no random bytes.
    #[error("the operating system returned no random bytes: {reason}")]
    NoRandomness {
        /// The error of the operating system.
        reason: String,
    },
}

/// A token under one of our keys.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct JobToken {
    pub(super) nonce: [u8; NONCE],
    /// In Unix seconds.
    pub(super) expiry: u64,
    pub(super) context: String,
}

const PREFIX: &str = "gwj1_";
const NONCE: usize = 16;
const EXPIRY: usize = 8;
const TAG: usize = 32;

impl JobTokens {
    /// The query parameter, and the member of `user_metadata`, that holds the token.
    pub const MEMBER: &str = "gemini_webhooks_job";
    /// The longest context, in bytes.
    pub const MAX_CONTEXT: usize = 128;
    /// The time for which a token is valid by default: 30 days.
    pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Mints and verifies tokens under a key of 32 random bytes, which is wiped from memory when
    /// dropped.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self::under(&*Zeroizing::new(key))
    }

    /// Parses a key of 32 to 1020 bytes in base64, as `openssl rand -base64 32` makes one. Trim the
    /// line break at its end.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidJobKey`].
    pub fn parse(key: &str) -> Result<Self, ConfigError> {
        let invalid = |reason| ConfigError::InvalidJobKey { reason };
        if key.trim() != key {
            return Err(invalid(
                "it has white space or a line break at an end: trim it",
            ));
        }
        if key.contains(['"', '\'']) {
            return Err(invalid("it has quotation marks: remove them"));
        }
        if key.starts_with("whsec_") {
            return Err(invalid(
                "it is a signing secret: make a key with `openssl rand -base64 32`",
            ));
        }
        let mut buffer = Zeroizing::new([0; 1024]);
        let key = encoding::decode(key.as_bytes(), buffer.as_mut_slice()).ok_or(invalid(
            "it is not base64, or longer than 1020 bytes: make one with `openssl rand -base64 32`",
        ))?;
        if key.len() < 32 {
            return Err(invalid("it is shorter than 32 bytes"));
        }
        Ok(Self::under(key))
    }

    fn under(key: &[u8]) -> Self {
        Self {
            key: Mac::new(key),
            others: Vec::new(),
            valid_for: Self::DEFAULT_VALIDITY,
            clock: Clock::default(),
            random: Random::default(),
        }
    }

    #[cfg(feature = "diagnose")]
    pub(super) fn is_under(&self, secret: &crate::Secret) -> bool {
        let content: &[&[u8]] = &[b"the same key makes the same tag"];
        self.key.tag(content) == secret.tag(content)
    }

    /// Also accepts tokens that another key made, as while a key is replaced: running jobs carry
    /// tokens under the old one.
    #[must_use]
    pub fn or_made_by(mut self, other: Self) -> Self {
        self.others.push(other.key);
        self.others.extend(other.others);
        self
    }

    /// Sets the time for which the tokens minted from now on are valid, in whole seconds: 30 days by
    /// default. A job should end before.
    #[must_use]
    pub fn valid_for(self, time: Duration) -> Self {
        Self {
            valid_for: time,
            ..self
        }
    }

    /// Sets the clock.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the source of random bytes, from which nonces are taken.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }

    /// Mints a token without a context, for one job.
    ///
    /// # Errors
    ///
    /// [`MintError::NoRandomness`].
    pub fn mint(&self) -> Result<String, MintError> {
        self.mint_for("")
    }

    /// Mints a token for one job. [`Delivery::job`](crate::Delivery::job) returns the context, such
    /// as the job's name or its tenant. It is protected, and not secret.
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
        let nonce = self
            .random
            .bytes()
            .map_err(|error| MintError::NoRandomness {
                reason: error.to_string(),
            })?;
        let expiry = self.clock.since_epoch().saturating_add(self.valid_for);
        Ok(self.mint_with(nonce, expiry.as_secs(), context))
    }

    fn mint_with(&self, nonce: [u8; NONCE], expiry: u64, context: &str) -> String {
        let expiry = expiry.to_be_bytes();
        let mut bytes = [nonce.as_slice(), &expiry, context.as_bytes()].concat();
        bytes.extend_from_slice(&tag(&self.key, &bytes));
        format!("{PREFIX}{}", encoding::encode_url(&bytes))
    }

    /// Returns the `user_metadata` of a job that holds the token, to which other members can be added.
    #[must_use]
    pub fn user_metadata(token: &str) -> Map<String, Value> {
        Map::from_iter([(Self::MEMBER.to_owned(), token.into())])
    }

    /// Returns the callback URI of a job: this one, with the token in its query. Neither is validated.
    #[must_use]
    pub fn callback_uri(uri: &str, token: &str) -> String {
        let (uri, fragment) = uri.split_at(uri.find('#').unwrap_or(uri.len()));
        let separator = match uri.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{uri}{separator}{}={token}{fragment}", Self::MEMBER)
    }

    /// Returns a URI, or any other text, in which tokens are replaced by two full stops: for request
    /// logs.
    ///
    /// ```
    /// use gemini_webhooks::JobTokens;
    ///
    /// let uri = "/webhook?gemini_webhooks_job=gwj1_AAECAwQF&tenant=7";
    /// assert_eq!(JobTokens::redact(uri), "/webhook?gemini_webhooks_job=..&tenant=7");
    /// ```
    #[must_use]
    pub fn redact(text: impl fmt::Display) -> String {
        let text = text.to_string();
        let mut redacted = String::with_capacity(text.len());
        let mut rest = text.as_str();
        // One pass: a request line comes from anybody.
        while let Some((before, from)) = rest.find('g').and_then(|at| rest.split_at_checked(at)) {
            redacted.push_str(before);
            let parameter = after(from, Self::MEMBER).and_then(|rest| rest.strip_prefix('='));
            rest = if let Some(value) = parameter {
                // Whatever it looks like.
                redacted.push_str(from.strip_suffix(value).unwrap_or_default());
                redacted.push_str("..");
                value.trim_start_matches(|c| !matches!(c, '&' | '#' | ' ' | '"' | '\''))
            } else if let Some(token) = after(from, PREFIX) {
                redacted.push_str("..");
                token.trim_start_matches(|c: char| {
                    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '%')
                })
            } else {
                redacted.push('g');
                from.get(1..).unwrap_or_default()
            };
        }
        redacted + rest
    }

    /// Verifies a token, its expiry apart. Every key is tried, in constant time.
    pub(super) fn verify(&self, token: &str) -> Option<JobToken> {
        const LONGEST: usize = NONCE + EXPIRY + JobTokens::MAX_CONTEXT + TAG;
        let encoded = token.strip_prefix(PREFIX)?;
        // What is too long must not cost a decoding.
        let bytes = Some(encoded).filter(|text| text.len() <= LONGEST * 4 / 3 + 1)?;
        let bytes = encoding::decode_url(bytes)?;
        let (signed, given) = bytes.split_last_chunk::<TAG>()?;
        let (nonce, rest) = signed.split_first_chunk::<NONCE>()?;
        let (expiry, context) = rest.split_first_chunk::<EXPIRY>()?;
        let mut genuine = Choice::from(0);
        for key in std::iter::once(&self.key).chain(&self.others) {
            genuine |= tag(key, signed).ct_eq(given);
        }
        if !bool::from(genuine) {
            return None;
        }
        Some(JobToken {
            nonce: *nonce,
            expiry: u64::from_be_bytes(*expiry),
            context: String::from_utf8(context.to_vec()).ok()?,
        })
    }
}

fn tag(key: &Mac, signed: &[u8]) -> [u8; TAG] {
    key.tag(&[PREFIX.as_bytes(), signed])
}

/// Returns what follows a name at the start of a text, in which underscores may be percent-encoded.
fn after<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = text;
    for (position, part) in name.split('_').enumerate() {
        if position > 0 {
            let encodings = ["_", "%5F", "%5f"];
            rest = encodings.iter().find_map(|it| rest.strip_prefix(it))?;
        }
        rest = rest.strip_prefix(part)?;
    }
    Some(rest)
}

/// Returns the tokens in the query of a callback URI.
pub(super) fn in_query(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == JobTokens::MEMBER).then_some(value)
    })
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
mod tests;
