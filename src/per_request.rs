//! Per-request webhooks: Google's keys, the two schemes that they sign with, and proof that a
//! delivery is ours. The only module that is gated by the feature `_per-request`.

use std::borrow::Cow;

use crate::{
    delivery::{Delivery, Payload, Request},
    error::{ConfigError, Error},
    event::Event,
    json,
    scheme::{Scheme, Schemes},
};

mod binding;
mod crypto;
#[cfg(feature = "diagnose")]
mod inspect;
pub(crate) mod job_tokens;
mod jwt;
pub mod keys;
mod origin;
mod v1a;

#[cfg(feature = "testing")]
pub(crate) use crypto::{Ed25519PrivateKey, RsaPrivateKey};
pub use job_tokens::JobTokens;
use keys::{KeySet, Keys, Newer};
use origin::{InUri, Origin};

/// The keys that verify per-request deliveries, and the proof that they belong to a job of ours.
///
/// A signature of Google's proves that Google sent a delivery. It does not prove to whom the
/// delivery belongs: see [`JobTokens`] for the attack. So each constructor makes a choice, and
/// each proof that is chosen is checked:
///
/// - [`with_job_tokens`](Self::with_job_tokens), the strongest: our own job carries a token that
///   nobody else can make, in its callback URI or in its `user_metadata`.
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
    origin: Origin,
    max_body: usize,
    v1a_only: bool,
}

impl PerRequest {
    /// The largest body by default: 256 KiB. Google's events have a few hundred bytes.
    pub const DEFAULT_MAX_BODY: usize = 256 * 1024;

    /// Requires a job token of ours: in the query of the callback URI, or in the event's
    /// `user_metadata`. See [`JobTokens`] for the strength of each place.
    ///
    /// `keys` is a [`KeySet`], or one that gets new keys while the verifier is at work:
    /// a [`SharedKeySet`](keys::SharedKeySet) or an `Arc` of
    /// [`RefreshedKeys`](keys::RefreshedKeys).
    pub fn with_job_tokens(keys: impl Into<Keys>, tokens: JobTokens) -> Self {
        Self::new(keys).job_tokens(tokens)
    }

    /// Requires this audience (`aud`, RFC 7519) in the claims of a JWT. It must not be empty.
    pub fn with_audience(keys: impl Into<Keys>, audience: impl Into<String>) -> Self {
        Self::new(keys).audience(audience)
    }

    /// Accepts what Google signed for any of its customers.
    pub fn any_sender(keys: impl Into<Keys>) -> Self {
        let mut any = Self::new(keys);
        any.origin.any_sender = true;
        any
    }

    fn new(keys: impl Into<Keys>) -> Self {
        Self {
            keys: keys.into(),
            origin: Origin::default(),
            max_body: Self::DEFAULT_MAX_BODY,
            v1a_only: false,
        }
    }

    /// Requires a job token as well; with [`any_sender`](Self::any_sender), recognizes one in signed
    /// content without requiring it.
    pub fn job_tokens(mut self, tokens: JobTokens) -> Self {
        self.origin.tokens = Some(tokens);
        self
    }

    /// Requires an audience as well, in each JWT. It must not be empty.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.origin.audience = Some(audience.into());
        self
    }

    /// Refuses whatever has no job token in its URI, before any work with public keys: a forgery then
    /// costs one HMAC, and never causes a fetch of keys. Every job has to be created with a
    /// [`callback_uri`](JobTokens::callback_uri), and the verifier has to be given the URI.
    pub fn require_uri_token(mut self) -> Self {
        self.origin.require_uri_token = true;
        self
    }

    /// Sets the largest body of a per-request delivery, in bytes: 256 KiB by default. Each forged
    /// `v1a` entry costs a verification of the whole body under each key.
    pub fn max_body(self, bytes: usize) -> Self {
        Self {
            max_body: bytes,
            ..self
        }
    }

    /// Refuses JWTs, which Google's guide describes and real deliveries are not reported to carry.
    pub fn v1a_only(self) -> Self {
        Self {
            v1a_only: true,
            ..self
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match &self.origin.audience {
            Some(audience) if audience.trim().is_empty() => Err(ConfigError::EmptyAudience),
            audience => {
                let only_tokens = self.origin.require_uri_token
                    || self.v1a_only && audience.is_some() && !self.origin.any_sender;
                if only_tokens && self.origin.tokens.is_none() {
                    return Err(ConfigError::NoJobTokens);
                }
                Ok(())
            }
        }
    }

    pub(crate) fn schemes(&self) -> Schemes {
        let mut schemes = Schemes::from(Scheme::V1a);
        if !self.v1a_only {
            schemes.insert(Scheme::Jwt);
        }
        schemes
    }

    /// Verifies, and once more if the delivery was refused under keys that have been replaced since,
    /// or for want of newer keys that can be fetched.
    pub(crate) async fn refreshing<T>(
        &self,
        verify: impl Fn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let used = self.keys.shared.get();
        let verified = verify();
        let Err(refusal) = &verified else {
            return verified;
        };
        let newer = match &self.keys.refreshed {
            Some(keys) => keys.newer_than(used.as_ref(), refusal).await,
            None if self.keys.shared.replaced_since(used.as_ref()) => Newer::Yes,
            None => Newer::No,
        };
        match newer {
            Newer::Yes => verify(),
            Newer::No => verified,
            // The refusal may be wrong. The sender is to retry.
            Newer::Unknown => Err(Error::KeysUnavailable),
        }
    }

    /// Verifies the signatures of one of the two schemes.
    pub(crate) fn verify<'a>(
        &self,
        scheme: Scheme,
        request: &Request<'_, 'a>,
    ) -> Result<Delivery<'a>, Error> {
        let length = request.body.len();
        if length > self.max_body {
            let allowed = self.max_body;
            return Err(Error::BodyTooLarge { length, allowed });
        }
        // Before any work with public keys, and before anything causes a fetch of them.
        let in_uri = self.origin.verify_uri(request.attempt.query())?;
        let keys = self.keys.shared.current();
        let keys = keys
            .as_deref()
            .filter(|keys| keys.is_usable(request.now))
            .ok_or(Error::KeysUnavailable)?;
        let mut delivery = if scheme == Scheme::Jwt {
            self.verify_jwt(keys, request, &in_uri)?
        } else {
            self.verify_v1a(keys, request, &in_uri)?
        };
        if let Some(job) = delivery.job_mut()
            && self.origin.requires_token()
            && let Some(refusal) = origin::expired(job, request.now, request.window.retention())
        {
            if !request.late {
                return Err(refusal);
            }
            job.expired = Some(Box::new(refusal));
        }
        Ok(delivery)
    }

    fn verify_v1a<'a>(
        &self,
        keys: &KeySet,
        request: &Request<'_, 'a>,
        in_uri: &InUri,
    ) -> Result<Delivery<'a>, Error> {
        let key = v1a::verify(keys, request.attempt, request.body)?;
        // Without tokens to look for, nothing needs the event yet.
        let event = match &self.origin.tokens {
            Some(_) => json::from_slice::<Event>(request.body).ok(),
            None => None,
        };
        let job = self.origin.prove(Scheme::V1a, in_uri, event.as_ref())?;
        let event = event.map(Into::into).unwrap_or_default();
        let payload = Payload::Body(Cow::Borrowed(request.body), event);
        let key_id = key.id.clone();
        Ok(Delivery::authentic(request, Scheme::V1a, payload, key_id).of_job(job))
    }

    fn verify_jwt<'a>(
        &self,
        keys: &KeySet,
        request: &Request<'_, 'a>,
        in_uri: &InUri,
    ) -> Result<Delivery<'a>, Error> {
        let token = jwt::verify(keys, request.attempt.signatures())?;
        let retention = token.validate_times(request.now, request.window)?;
        if let Some(audience) = &self.origin.audience {
            token.validate_audience(audience)?;
        }
        let (key, claims, event) = token.bind(request.body)?;
        let job = self.origin.prove(Scheme::Jwt, in_uri, Some(&event))?;
        let payload = Payload::Claims(claims, event);
        let key_id = key.id.clone();
        let delivery = Delivery::authentic(request, Scheme::Jwt, payload, key_id);
        Ok(delivery.of_job(job).retained(retention))
    }
}

#[cfg(test)]
mod tests;
