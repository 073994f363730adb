//! Per-request webhooks: Google's keys, the two schemes that they sign with, and proof that a
//! delivery is ours. The only module that is gated by the feature `_per-request`.

use std::{borrow::Cow, time::Duration};

use serde_json::{Map, Value};

use crate::{
    attempt::Attempt,
    delivery::{Payload, Proof},
    error::Error,
    event::Event,
    json::{self, Object},
    scheme::Scheme,
};

mod crypto;
pub(crate) mod job_tokens;
mod jwt;
pub mod keys;
mod v1a;

#[cfg(feature = "testing")]
pub(crate) use crypto::{Ed25519PrivateKey, RsaPrivateKey};
pub use job_tokens::JobTokens;
use keys::Keys;

/// The keys that verify per-request deliveries, and the proof that they belong to a job of ours.
///
/// A signature of Google's proves that Google sent a delivery. It does not prove to whom the
/// delivery belongs: see [`JobTokens`] for the attack. So each constructor makes a choice, and
/// each proof that is chosen is checked:
///
/// - [`with_job_tokens`](Self::with_job_tokens), the strongest: our own job carries a token that
///   nobody else can make.
/// - [`with_audience`](Self::with_audience): the JWT names us as its audience. Only a JWT has one,
///   so `v1a` deliveries are refused unless job tokens are set as well. And the audience is as good
///   a proof as Google makes it: if it is the address that the job named, then anybody may name
///   yours, and it has to be unguessable.
/// - [`any_sender`](Self::any_sender): no proof is asked for. This is for endpoints whose address
///   nobody can guess, such as `https://example.com/webhook/3f9c...` with 128 random bits.
///   Addresses leak: they appear in the logs of proxies and servers, in traces and in error
///   reports, none of which treats them as a secret.
///
/// ```
/// use gemini_webhooks::{JobTokens, PerRequest, Verifier, keys::KeySet};
///
/// # let jwks = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// let keys = KeySet::from_json(jwks)?;
/// let tokens = JobTokens::parse("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=")?;
/// let verifier = Verifier::builder()
///     .per_request(PerRequest::with_job_tokens(keys, tokens))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PerRequest {
    keys: Keys,
    job_tokens: Option<JobTokens>,
    audience: Option<String>,
    any_sender: bool,
}

impl PerRequest {
    /// Requires a job token of ours in the event's `user_metadata`, at the top level or inside
    /// `data`.
    ///
    /// `keys` is a [`KeySet`](keys::KeySet), or one that gets new keys while the verifier is at work:
    /// a [`SharedKeySet`](keys::SharedKeySet) or an `Arc` of
    /// [`RefreshedKeys`](keys::RefreshedKeys).
    pub fn with_job_tokens(keys: impl Into<Keys>, tokens: JobTokens) -> Self {
        Self {
            keys: keys.into(),
            job_tokens: Some(tokens),
            audience: None,
            any_sender: false,
        }
    }

    /// Requires this audience (`aud`, RFC 7519) in the claims of a JWT.
    pub fn with_audience(keys: impl Into<Keys>, audience: impl Into<String>) -> Self {
        Self {
            keys: keys.into(),
            job_tokens: None,
            audience: Some(audience.into()),
            any_sender: false,
        }
    }

    /// Accepts what Google signed for any of its customers.
    pub fn any_sender(keys: impl Into<Keys>) -> Self {
        Self {
            keys: keys.into(),
            job_tokens: None,
            audience: None,
            any_sender: true,
        }
    }

    /// Requires a job token as well; with [`any_sender`](Self::any_sender), recognizes one without
    /// requiring it.
    pub fn job_tokens(self, tokens: JobTokens) -> Self {
        Self {
            job_tokens: Some(tokens),
            ..self
        }
    }

    /// Requires an audience as well, in each JWT.
    pub fn audience(self, audience: impl Into<String>) -> Self {
        Self {
            audience: Some(audience.into()),
            ..self
        }
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn keys_parsed_at(&self) -> Option<i64> {
        Some(self.keys.shared.get()?.parsed_at)
    }

    /// Fetches the keys if a delivery was refused with an error that newer ones may fix. Returns true
    /// if it is worth verifying once more.
    pub(crate) async fn refresh_after(&self, refusal: &Error) -> bool {
        match &self.keys.refreshed {
            Some(keys) => keys.refresh_after(refusal).await.unwrap_or(false),
            None => false,
        }
    }

    /// Verifies the signatures of one of the two schemes.
    pub(crate) fn verify<'a>(
        &self,
        scheme: Scheme,
        attempt: &Attempt<'a>,
        body: &'a [u8],
        now: i64,
    ) -> Result<Proof<'a>, Error> {
        let keys = self.keys.shared.current();
        let keys = keys.as_deref().ok_or(Error::KeysUnavailable)?;
        if scheme == Scheme::Jwt {
            let token = jwt::verify(keys, attempt.signatures())?;
            let retention = token.validate_times(now)?;
            if let Some(audience) = &self.audience {
                token.validate_audience(audience)?;
            }
            let (key, claims, event) = token.bind(body)?;
            return Ok(Proof {
                scheme,
                signer: key.id.clone(),
                job: self.prove_origin(Some(&event), &claims)?,
                payload: Payload::Claims(claims, event),
                retention,
            });
        }
        let key = v1a::verify(keys, attempt, body)?;
        if self.job_tokens.is_none() && !self.any_sender {
            let reason = "a `v1a` delivery has no audience: it needs a job token";
            return Err(Error::UnknownOrigin { reason });
        }
        // Without tokens to look for, nothing needs the event yet.
        let event = match self.job_tokens {
            Some(_) => json::from_slice::<Event>(body).ok(),
            None => None,
        };
        Ok(Proof {
            scheme,
            signer: key.id.clone(),
            job: self.prove_origin(event.as_ref(), body)?,
            payload: Payload::Body(
                Cow::Borrowed(body),
                event.map(Into::into).unwrap_or_default(),
            ),
            retention: Duration::ZERO,
        })
    }

    /// Returns the context of the job token in a payload that Google signed, if it has one. `event`
    /// is the payload, parsed.
    fn prove_origin(&self, event: Option<&Event>, payload: &[u8]) -> Result<Option<String>, Error> {
        let Some(tokens) = &self.job_tokens else {
            return Ok(None);
        };
        let job = match event {
            Some(event) => user_metadata(event).find_map(|it| job(tokens, it)),
            // What is no event may be ours all the same.
            None => json::from_slice(payload).ok().and_then(|Object(members)| {
                let data = members.get("data").and_then(Value::as_object);
                let holders = [Some(&members), data].into_iter().flatten();
                let mut metadata = holders.filter_map(|it| it.get("user_metadata")?.as_object());
                metadata.find_map(|metadata| job(tokens, metadata))
            }),
        };
        if job.is_none() && !self.any_sender {
            let reason = "its user_metadata has no job token of ours";
            return Err(Error::UnknownOrigin { reason });
        }
        // A token without a context proves, and names nothing.
        Ok(job.filter(|context| !context.is_empty()))
    }
}

/// Returns the context of the job token in a `user_metadata`.
fn job(tokens: &JobTokens, user_metadata: &Map<String, Value>) -> Option<String> {
    tokens.verify(user_metadata.get(JobTokens::MEMBER)?.as_str()?)
}

/// Returns the `user_metadata` at each place where it may be: at the top level and inside
/// `data`.
fn user_metadata(event: &Event) -> impl Iterator<Item = &Map<String, Value>> {
    let inner = event
        .data
        .other()
        .and_then(|data| data.get("user_metadata"));
    let inner = inner.and_then(Value::as_object);
    std::iter::once(&event.user_metadata).chain(inner)
}

#[cfg(test)]
mod tests;
