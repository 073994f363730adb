use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use serde::Deserialize;
use time::OffsetDateTime;

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
use crate::origin::PerRequest;
use crate::{
    error::{ConfigError, Error, PayloadError},
    event::Event,
    headers::WebhookHeaders,
    json, scheme,
    secret::Secret,
    signature::{Scheme, Schemes},
    window::{ReplayWindow, unix_now},
};

/// Verifies deliveries: their signature and their time.
///
/// It holds no lock and no global, does no I/O and never waits: one `Verifier` is shared by all
/// threads, for instance in an `Arc` or a `static`.
///
/// ```
/// use gemini_webhooks::{Secret, Verifier};
///
/// let verifier = Verifier::builder()
///     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
///     .build()?;
/// # Ok::<(), gemini_webhooks::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Verifier {
    secrets: Vec<Secret>,
    #[cfg(feature = "diagnose")]
    former_secrets: Vec<Secret>,
    window: ReplayWindow,
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    per_request: Option<PerRequest>,
}

impl Verifier {
    /// Starts the configuration of a verifier.
    pub fn builder() -> VerifierBuilder {
        VerifierBuilder {
            secrets: Vec::new(),
            #[cfg(feature = "diagnose")]
            former_secrets: Vec::new(),
            window: ReplayWindow::default(),
            #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
            per_request: None,
        }
    }

    /// Verifies a delivery at the current time of the system's clock.
    ///
    /// `headers` are a request's: an `&http::HeaderMap` (feature `http`) or [`WebhookHeaders`].
    /// `body` is the request's body exactly as received. Parsing it and writing it again, as a
    /// framework's JSON extractor does, changes bytes that are signed.
    ///
    /// The size of the body is for the caller to bound, before it is read: a MAC has to be
    /// computed over all of it. Google's events have a few hundred bytes; 1 MiB is generous.
    ///
    /// # Errors
    ///
    /// In the order of the checks, of which each costs less than those after it:
    /// - [`Error::MissingHeader`], [`Error::DuplicateHeader`], [`Error::InvalidHeader`]
    /// - [`Error::TimestampTooOld`], [`Error::TimestampTooNew`]
    /// - [`Error::NoUsableScheme`]
    /// - for per-request deliveries [`Error::KeysUnavailable`], [`Error::UnusableToken`] and
    ///   [`Error::UnknownKey`]
    /// - [`Error::SignatureMismatch`]
    /// - for per-request deliveries [`Error::TokenClaims`], [`Error::BodyNotBound`] and
    ///   [`Error::UnknownOrigin`]
    pub fn verify<'a, H>(&self, headers: H, body: &'a [u8]) -> Result<Delivery<'a>, Error>
    where
        H: TryInto<WebhookHeaders<'a>>,
        Error: From<H::Error>,
    {
        self.check(&headers.try_into()?, body, unix_now())
    }

    /// Verifies a delivery as of a given time: for tests, and for callers with a clock of their
    /// own.
    ///
    /// # Errors
    ///
    /// Those of [`verify`](Self::verify).
    ///
    /// ```
    /// use gemini_webhooks::{Secret, Verifier, WebhookHeaders};
    /// use time::OffsetDateTime;
    ///
    /// let verifier = Verifier::builder()
    ///     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
    ///     .build()?;
    /// let headers = WebhookHeaders::new(
    ///     "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    ///     "1649367553",
    ///     "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    /// )?;
    /// let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    /// let now = OffsetDateTime::from_unix_timestamp(1_649_367_600)?;
    ///
    /// let delivery = verifier.verify_at(headers, body, now)?;
    /// assert_eq!(delivery.payload(), body);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_at<'a, H>(
        &self,
        headers: H,
        body: &'a [u8],
        now: OffsetDateTime,
    ) -> Result<Delivery<'a>, Error>
    where
        H: TryInto<WebhookHeaders<'a>>,
        Error: From<H::Error>,
    {
        self.check(&headers.try_into()?, body, now.unix_timestamp())
    }

    /// `now` is in Unix seconds.
    pub(crate) fn check<'a>(
        &self,
        headers: &WebhookHeaders<'a>,
        body: &'a [u8],
        now: i64,
    ) -> Result<Delivery<'a>, Error> {
        let attempted_at = headers.unix_timestamp();
        self.window.admit(attempted_at, now)?;
        let signatures = headers.signatures();
        let mut tried = Schemes::default();
        if !self.secrets.is_empty() && signatures.offered().contains(Scheme::V1) {
            tried.insert(Some(Scheme::V1));
            if scheme::hmac::verify(&self.secrets, &headers.signed_content(body), signatures) {
                return Ok(Delivery {
                    id: headers.id(),
                    attempted_at,
                    scheme: Scheme::V1,
                    payload: Cow::Borrowed(body),
                    key_id: None,
                    job: None,
                    retention: self.window.retention(),
                });
            }
        }
        #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
        if let Some(per_request) = &self.per_request
            && let Some(authentic) = per_request.verify(headers, body, now, &mut tried)?
        {
            return Ok(Delivery {
                id: headers.id(),
                attempted_at,
                scheme: authentic.scheme,
                payload: authentic.payload,
                key_id: authentic.key_id,
                job: authentic.job,
                retention: self.window.retention().max(authentic.retention),
            });
        }
        if tried.is_empty() {
            return Err(Error::NoUsableScheme {
                offered: signatures.offered(),
                configured: self.configured(),
            });
        }
        Err(Error::SignatureMismatch { tried })
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn former_secrets(&self) -> &[Secret] {
        &self.former_secrets
    }

    #[cfg(all(
        feature = "diagnose",
        any(feature = "aws-lc-rs", feature = "rust-crypto")
    ))]
    pub(crate) fn keys_parsed_at(&self) -> Option<i64> {
        self.per_request.as_ref()?.keys_parsed_at()
    }

    fn configured(&self) -> Schemes {
        let mut schemes = Schemes::default();
        if !self.secrets.is_empty() {
            schemes.insert(Some(Scheme::V1));
        }
        #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
        if self.per_request.is_some() {
            schemes.insert(Some(Scheme::V1a));
            schemes.insert(Some(Scheme::Jwt));
        }
        schemes
    }
}

/// Configures a [`Verifier`].
#[derive(Debug)]
#[must_use]
pub struct VerifierBuilder {
    secrets: Vec<Secret>,
    #[cfg(feature = "diagnose")]
    former_secrets: Vec<Secret>,
    window: ReplayWindow,
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    per_request: Option<PerRequest>,
}

impl VerifierBuilder {
    const MAX_SECRETS: usize = 8;

    /// Adds a signing secret of a project-level webhook. During a rotation, and for several
    /// webhooks, call it once for each secret that is in use, at most 8 times.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Adds a secret that is no longer accepted, so that [`Verifier::diagnose`] recognizes it.
    #[cfg(feature = "diagnose")]
    pub fn former_secret(mut self, secret: Secret) -> Self {
        self.former_secrets.push(secret);
        self
    }

    /// Also verifies per-request deliveries, which Google's own keys sign.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    pub fn per_request(self, per_request: PerRequest) -> Self {
        Self {
            per_request: Some(per_request),
            ..self
        }
    }

    /// Sets the replay window. The default is 300 s back and 300 s ahead.
    pub fn window(self, window: ReplayWindow) -> Self {
        Self { window, ..self }
    }

    /// Builds the verifier.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NothingToVerifyWith`], [`ConfigError::TooManySecrets`],
    /// [`ConfigError::WindowTooWide`], or `ConfigError::NoProofOfOrigin` where per-request
    /// deliveries would be accepted without a proof that they are ours.
    pub fn build(self) -> Result<Verifier, ConfigError> {
        let given = self.secrets.len();
        if given > Self::MAX_SECRETS {
            let allowed = Self::MAX_SECRETS;
            return Err(ConfigError::TooManySecrets { given, allowed });
        }
        let verifier = Verifier {
            secrets: self.secrets,
            #[cfg(feature = "diagnose")]
            former_secrets: self.former_secrets,
            window: self.window.check()?,
            #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
            per_request: self.per_request.map(PerRequest::check).transpose()?,
        };
        if verifier.configured().is_empty() {
            return Err(ConfigError::NothingToVerifyWith);
        }
        Ok(verifier)
    }
}

/// A delivery that is authentic and inside the replay window. Only a successful verification
/// makes one.
///
/// It may still be one that was received before: deliveries come at least once. Its
/// [`id`](Self::id) tells.
#[derive(Clone)]
pub struct Delivery<'a> {
    id: &'a str,
    /// In Unix seconds; the window admits no more than `time` knows.
    attempted_at: i64,
    scheme: Scheme,
    payload: Cow<'a, [u8]>,
    key_id: Option<Arc<str>>,
    job: Option<String>,
    retention: Duration,
}

impl Delivery<'_> {
    /// `webhook-id`: the same for all attempts of this delivery. To recognize a delivery that was
    /// handled before, use [`idempotency_key`](Self::idempotency_key).
    ///
    /// 1 to 256 visible ASCII characters without a full stop.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id
    }

    /// When this attempt was sent (UTC, whole seconds). When the event itself happened is
    /// [`Event::occurred_at`].
    #[must_use]
    pub fn attempted_at(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.attempted_at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// How the delivery was signed.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The id (`kid`) of the key that signed the delivery, where it was one of Google's and has
    /// an id.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The context of the job token that the delivery carried: what was given to
    /// `JobTokens::mint_for`, 1 to 128 bytes. `None` where there was no token or no context.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// What is the same each time that this delivery arrives, and of no other: remember it, and
    /// handle each once. 1 to 256 visible ASCII characters.
    ///
    /// It is the [`id`](Self::id), where the signature covers that. A JWT does not: whoever saw one
    /// could send it again beside another id. Its key is `jwt.` and a hash of the event that it
    /// carries, or of all its claims where the event has no `timestamp`.
    #[must_use]
    pub fn idempotency_key(&self) -> Cow<'_, str> {
        #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
        if self.scheme == Scheme::Jwt {
            return scheme::jwt::idempotency_key(&self.payload).into();
        }
        self.id.into()
    }

    /// For how long the [`idempotency_key`](Self::idempotency_key) has to be remembered, from now
    /// on, for that neither a retry nor a replay is taken for a new delivery: for the 24 hours of
    /// retries and both sides of the [`ReplayWindow`], or, if that is later, until 24 hours after a
    /// JWT's `exp`. At most 31 days and a minute, since an `exp` more than 30 days ahead is refused.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.retention
    }

    /// The authenticated bytes: the body, or of a JWT the claims. A body need be neither UTF-8
    /// nor JSON.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Parses the payload as an event.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] where the payload is not JSON, lacks a member that its type documents, or
    /// has a member twice. Types and members that this crate does not know are no error.
    pub fn event(&self) -> Result<Event, PayloadError> {
        #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
        if self.scheme == Scheme::Jwt {
            return scheme::jwt::event(&self.payload).map_err(PayloadError);
        }
        self.json()
    }

    /// Parses the payload as a type of the caller's.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] where the payload is not JSON, or `T` refuses it.
    pub fn json<'s, T: Deserialize<'s>>(&'s self) -> Result<T, PayloadError> {
        json::from_slice(&self.payload).map_err(PayloadError)
    }
}

/// Leaves the payload out: it may hold what does not belong into logs.
impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("attempted_at", &self.attempted_at())
            .field("scheme", &self.scheme)
            .field("key_id", &self.key_id)
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}
