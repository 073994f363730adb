//! Proof that a delivery that Google signed belongs to a job of ours.

use std::{fmt, time::Duration};

use serde_json::{Map, Value};

use super::job_tokens::{JobToken, JobTokens, in_query};
use crate::{
    delivery::{JobPlace, JobProof},
    encoding,
    error::Error,
    event::Event,
    scheme::Scheme,
};

/// The number of tokens that are verified in one URI. An honest one has one.
const MAX_IN_URI: usize = 4;

/// The proofs that are required.
#[derive(Clone, Default)]
pub(super) struct Origin {
    pub(super) tokens: Option<JobTokens>,
    pub(super) audience: Option<String>,
    pub(super) any_sender: bool,
    pub(super) require_uri_token: bool,
}

/// The query of a delivery's URI, verified.
pub(super) enum InUri {
    /// No URI was given.
    Unknown,
    NoToken,
    Token(JobToken),
}

impl Origin {
    /// Returns true if a delivery without a valid token is refused.
    pub(super) const fn requires_token(&self) -> bool {
        self.tokens.is_some() && (!self.any_sender || self.require_uri_token)
    }

    /// Verifies the job token in the query of a URI, if there is one.
    pub(super) fn verify_uri(&self, query: Option<&str>) -> Result<InUri, Error> {
        // It is not signed, so that where no proof is required anybody could add or remove it.
        let tokens = match &self.tokens {
            Some(tokens) if self.requires_token() => tokens,
            _ => return Ok(InUri::NoToken),
        };
        let Some(query) = query else {
            if self.require_uri_token {
                return refuse(
                    "a job token in its URI is required, and no URI was given to `verify`",
                );
            }
            return Ok(InUri::Unknown);
        };
        let mut found: Option<JobToken> = None;
        for (position, text) in in_query(query).enumerate() {
            if position == MAX_IN_URI {
                return refuse("its URI has more than 4 job tokens");
            }
            let Some(token) = tokens.verify(text) else {
                return refuse(
                    "the job token in its URI is not one of ours: it is under another key, or was changed or cut",
                );
            };
            if found.is_some_and(|found| found.nonce != token.nonce) {
                return refuse(DISAGREE);
            }
            found = Some(token);
        }
        match found {
            Some(token) => Ok(InUri::Token(token)),
            None if self.require_uri_token => refuse("its URI has no job token"),
            None => Ok(InUri::NoToken),
        }
    }

    /// Proves the origin of a delivery whose signature and audience hold. `event` is the payload,
    /// parsed; `None` if it is not an event.
    pub(super) fn prove(
        &self,
        scheme: Scheme,
        in_uri: &InUri,
        event: Option<&Event>,
    ) -> Result<Option<JobProof>, Error> {
        let Some(tokens) = &self.tokens else {
            return match scheme {
                Scheme::V1a if !self.any_sender => {
                    refuse("a `v1a` delivery has no audience: it needs a job token")
                }
                _ => Ok(None),
            };
        };
        let mut signed: Option<JobToken> = None;
        for metadata in event.into_iter().flat_map(user_metadata) {
            let Some(text) = metadata.get(JobTokens::MEMBER) else {
                continue;
            };
            let Some(token) = text.as_str().and_then(|text| tokens.verify(text)) else {
                if self.any_sender {
                    continue;
                }
                return refuse(
                    "the job token in its user_metadata is not one of ours: it is under another key, or was changed or cut",
                );
            };
            if signed.is_some_and(|signed| signed.nonce != token.nonce) {
                return refuse(DISAGREE);
            }
            signed = Some(token);
        }
        match (signed, in_uri) {
            (Some(signed), InUri::Token(token)) if signed.nonce != token.nonce => refuse(DISAGREE),
            (Some(token), _) => Ok(Some(proof(&token, JobPlace::Event))),
            (None, InUri::Token(token)) => Ok(Some(proof(token, JobPlace::Uri))),
            (None, _) if self.any_sender => Ok(None),
            (None, _) if event.is_none() => {
                refuse("its body is not an event, so that no job token can be read in it")
            }
            (None, InUri::Unknown) => refuse(
                "its user_metadata has no job token of ours, and no URI was given to `verify`",
            ),
            (None, InUri::NoToken) => {
                refuse("neither its URI nor its user_metadata has a job token of ours")
            }
        }
    }
}

/// Shows which proofs are required, and none of the values.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("tokens", &self.tokens.is_some())
            .field("audience", &self.audience.is_some())
            .field("any_sender", &self.any_sender)
            .field("require_uri_token", &self.require_uri_token)
            .finish()
    }
}

const DISAGREE: &str = "it has job tokens of several jobs";

fn refuse<T>(reason: &'static str) -> Result<T, Error> {
    Err(Error::UnknownOrigin { reason })
}

fn proof(token: &JobToken, place: JobPlace) -> JobProof {
    JobProof {
        context: token.context.clone(),
        nonce: encoding::encode_url(&token.nonce),
        place,
        expiry: token.expiry,
        expired: None,
    }
}

/// Returns the refusal of a delivery whose token has expired longer ago than `allowed`. `now` is in Unix
/// seconds.
pub(super) fn expired(job: &JobProof, now: i64, allowed: Duration) -> Option<Error> {
    let now = u64::try_from(now).unwrap_or_default();
    let age = Duration::from_secs(now.saturating_sub(job.expiry));
    (age > allowed).then_some(Error::JobTokenExpired { age, allowed })
}

/// Returns the `user_metadata` at each place where it may be. No source says which of them it is: at
/// the top level, in `data` or in `interaction`, and there by itself or in a `webhook_config`.
fn user_metadata(event: &Event) -> impl Iterator<Item = &Map<String, Value>> {
    let interaction = event.other.get("interaction").and_then(Value::as_object);
    let holders = [Some(&event.other), event.data.other(), interaction];
    let found = holders.into_iter().flatten().flat_map(|holder| {
        let configs = ["webhook_config", "webhookConfig"].map(|name| holder.get(name)?.as_object());
        let holders = std::iter::once(holder).chain(configs.into_iter().flatten());
        holders.flat_map(|holder| {
            let names = ["user_metadata", "userMetadata"];
            names
                .into_iter()
                .filter_map(|name| holder.get(name)?.as_object())
        })
    });
    std::iter::once(&event.user_metadata).chain(found)
}
