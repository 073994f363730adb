use std::{borrow::Cow, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    error::{ConfigError, Error},
    headers::WebhookHeaders,
    job_tokens::JobTokens,
    json::{self, Object},
    keys::SharedKeySet,
    scheme::{ed25519, jwt},
    signature::{Scheme, Schemes},
};

/// How per-request deliveries are verified: with which keys, and with what proof that they belong
/// to a job of ours.
///
/// A signature of Google's proves that Google sent a delivery, and not to whom it belongs: see
/// [`JobTokens`] for the attack. So one of these has to be chosen, and each that is chosen is
/// checked:
///
/// - [`job_tokens`](Self::job_tokens), the strongest: our own job carries a token that nobody else
///   can make.
/// - [`audience`](Self::audience): the JWT names us as its audience. Only a JWT has one, so that
///   `v1a` deliveries are refused unless job tokens are set as well. And the audience is as good a
///   proof as Google makes it: if it is the address that the job named, then anybody may name
///   yours, and it has to be unguessable.
/// - [`accept_any_sender`](Self::accept_any_sender): no proof is asked for. This is for endpoints
///   whose address nobody can guess, such as `https://example.com/webhook/3f9c...` with 128 random
///   bits. Addresses leak: they stand in the logs of proxies and servers, in traces and in error
///   reports, none of which treats them as a secret.
///
/// ```
/// use gemini_webhooks::{JobTokens, KeySet, PerRequest, Verifier};
///
/// # let jwks = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// let keys = KeySet::from_json(jwks)?;
/// let tokens = JobTokens::parse("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=")?;
/// let verifier = Verifier::builder()
///     .per_request(PerRequest::new(keys).job_tokens(tokens))
///     .build()?;
/// # Ok::<(), gemini_webhooks::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct PerRequest {
    keys: SharedKeySet,
    job_tokens: Option<JobTokens>,
    audience: Option<String>,
    any_sender: bool,
}

/// What a delivery proved.
pub(crate) struct Authentic<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) key_id: Option<Arc<str>>,
    pub(crate) payload: Cow<'a, [u8]>,
    pub(crate) job: Option<String>,
    /// For how long this token has to be remembered, whatever the replay window.
    pub(crate) retention: Duration,
}

impl PerRequest {
    /// Verifies with a [`KeySet`](crate::KeySet), or with a [`SharedKeySet`] that gets new keys
    /// while the verifier is at work.
    pub fn new(keys: impl Into<SharedKeySet>) -> Self {
        Self {
            keys: keys.into(),
            job_tokens: None,
            audience: None,
            any_sender: false,
        }
    }

    /// Asks for a job token of ours in the event's `user_metadata`, at the top level or inside
    /// `data`.
    pub fn job_tokens(self, tokens: JobTokens) -> Self {
        Self {
            job_tokens: Some(tokens),
            ..self
        }
    }

    /// Asks for this audience (`aud`, RFC 7519) in the claims of a JWT.
    pub fn audience(self, audience: impl Into<String>) -> Self {
        Self {
            audience: Some(audience.into()),
            ..self
        }
    }

    /// Accepts what Google signed for any of its customers. An audience that is set is still
    /// checked, for JWTs; a job token is no longer asked for, and still recognized.
    pub fn accept_any_sender(self) -> Self {
        Self {
            any_sender: true,
            ..self
        }
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn keys_parsed_at(&self) -> Option<i64> {
        Some(self.keys.get()?.parsed_at)
    }

    pub(crate) fn check(self) -> Result<Self, ConfigError> {
        match self {
            Self {
                any_sender: false,
                job_tokens: None,
                audience: None,
                ..
            } => Err(ConfigError::NoProofOfOrigin),
            _ => Ok(self),
        }
    }

    /// `None` where the delivery is of neither of the schemes. `tried` are those that were checked
    /// before, and gains those that are checked here.
    pub(crate) fn verify<'a>(
        &self,
        headers: &WebhookHeaders<'a>,
        body: &'a [u8],
        now: i64,
        tried: &mut Schemes,
    ) -> Result<Option<Authentic<'a>>, Error> {
        let signatures = headers.signatures();
        let offered = |scheme| signatures.offered().contains(scheme);
        if !offered(Scheme::V1a) && !offered(Scheme::Jwt) {
            return Ok(None);
        }
        let keys = self.keys.current();
        let keys = keys.as_deref().ok_or(Error::KeysUnavailable)?;
        if offered(Scheme::V1a) {
            tried.insert(Some(Scheme::V1a));
            if let Some(key) = ed25519::verify(keys, &headers.signed_content(body), signatures) {
                return Ok(Some(Authentic {
                    scheme: Scheme::V1a,
                    key_id: key.id.clone(),
                    payload: Cow::Borrowed(body),
                    job: self.job_of_body(body)?,
                    retention: Duration::ZERO,
                }));
            }
        }
        if offered(Scheme::Jwt) {
            tried.insert(Some(Scheme::Jwt));
            let (key, token) = jwt::verify(keys, signatures, *tried)?;
            let retention = token.check_times(now)?;
            if let Some(audience) = &self.audience {
                token.check_audience(audience)?;
            }
            token.check_body(body)?;
            return Ok(Some(Authentic {
                scheme: Scheme::Jwt,
                key_id: key.id.clone(),
                job: self.job_of_claims(&token.json)?,
                payload: Cow::Owned(token.json),
                retention,
            }));
        }
        Err(Error::SignatureMismatch { tried: *tried })
    }

    /// The context of the job token in a body, of which nothing is known but that Google signed it.
    fn job_of_body(&self, body: &[u8]) -> Result<Option<String>, Error> {
        if self.job_tokens.is_none() && !self.any_sender {
            let reason = "a `v1a` delivery has no audience: it needs a job token";
            return Err(Error::UnknownOrigin { reason });
        }
        self.job_of_claims(body)
    }

    /// The context of the job token in claims, whose audience has been checked.
    fn job_of_claims(&self, claims: &[u8]) -> Result<Option<String>, Error> {
        let Some(tokens) = &self.job_tokens else {
            return Ok(None);
        };
        let job = json::from_slice(claims)
            .ok()
            .and_then(|Object(event)| job(tokens, &event));
        if job.is_none() && !self.any_sender {
            let reason = "its user_metadata has no job token of ours";
            return Err(Error::UnknownOrigin { reason });
        }
        // A token without a context proves, and names nothing.
        Ok(job.filter(|context| !context.is_empty()))
    }
}

/// The context of the job token of an event. Where `user_metadata` stands is not documented.
fn job(tokens: &JobTokens, event: &Map<String, Value>) -> Option<String> {
    let inner = event.get("data").and_then(Value::as_object);
    [Some(event), inner]
        .into_iter()
        .flatten()
        .find_map(|holder| {
            let token = holder
                .get("user_metadata")?
                .get(JobTokens::MEMBER)?
                .as_str()?;
            tokens.check(token)
        })
}
