use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use time::OffsetDateTime;

use crate::{
    attempt::{Attempt, IntoAttempt},
    clock::Clock,
    delivery::{Delivery, Request},
    error::{ConfigError, Error},
    hmac_v1::{self, NamedSecret, Secret},
    per_request::PerRequest,
    scheme::{Scheme, Schemes},
    window::ReplayWindow,
};

/// Verifies deliveries: their signature and their time.
///
/// It holds no lock and no global, does no I/O and never waits. Clones are cheap and share what
/// they verify with.
///
/// ```
/// use gemini_webhooks::{Secret, Verifier};
///
/// let verifier = Verifier::builder()
///     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
///     .build()?;
/// # Ok::<(), gemini_webhooks::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Verifier(Arc<Configuration>);

#[derive(Debug)]
struct Configuration {
    secrets: Vec<NamedSecret>,
    per_request: Option<PerRequest>,
    /// The schemes that these two are for.
    schemes: Schemes,
    window: ReplayWindow,
    clock: Clock,
}

impl Verifier {
    /// Starts the configuration of a verifier.
    pub fn builder() -> VerifierBuilder {
        VerifierBuilder {
            secrets: Vec::new(),
            per_request: None,
            window: ReplayWindow::default(),
            clock: Clock::default(),
        }
    }

    /// Verifies a delivery at the current time.
    ///
    /// `attempt` is a request's head: `&http::request::Parts` or `(&http::HeaderMap, &http::Uri)` (feature
    /// `http`), or an [`Attempt`]. The URI may hold the job token of a per-request delivery; where there
    /// are no such deliveries, `&http::HeaderMap` is enough. `body` is the request's body exactly as
    /// received. Parsing it and writing it again, as a framework's JSON extractor does, changes bytes that
    /// are signed.
    ///
    /// The caller bounds the size of the body, before it is read: a MAC has to be computed over all
    /// of it. Google's events have a few hundred bytes; 1 MiB is generous. The body of a per-request
    /// delivery has a bound of its own, 256 KiB.
    ///
    /// # Errors
    ///
    /// In the order of the checks, of which each costs less than those after it:
    /// - [`Error::MissingHeader`], [`Error::DuplicateHeader`], [`Error::InvalidHeader`]
    /// - [`Error::TimestampTooOld`], [`Error::TimestampTooNew`]
    /// - [`Error::NoUsableScheme`]; [`Error::InvalidHeader`] for a JWT beside a `v1` entry, where both are
    ///   configured
    /// - for per-request deliveries [`Error::BodyTooLarge`], [`Error::UnknownOrigin`] for the token in the
    ///   URI, [`Error::KeysUnavailable`], [`Error::UnusableToken`] and [`Error::UnknownKey`]
    /// - [`Error::SignatureMismatch`]
    /// - for per-request deliveries [`Error::TokenClaims`], [`Error::BodyNotBound`],
    ///   [`Error::UnknownOrigin`] and [`Error::JobTokenExpired`]
    pub fn verify<'a>(
        &self,
        attempt: impl IntoAttempt<'a>,
        body: &'a [u8],
    ) -> Result<Delivery<'a>, Error> {
        self.verify_attempt(
            &attempt.into_attempt()?,
            body,
            self.clock().unix_seconds(),
            false,
        )
    }

    /// Verifies a delivery as of a given time, for deliveries that were kept and for callers with a
    /// clock of their own.
    ///
    /// # Errors
    ///
    /// Those of [`verify`](Self::verify).
    ///
    /// ```
    /// use gemini_webhooks::{Attempt, Secret, Verifier};
    /// use time::OffsetDateTime;
    ///
    /// let verifier = Verifier::builder()
    ///     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
    ///     .build()?;
    /// let attempt = Attempt::new(
    ///     "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    ///     "1649367553",
    ///     "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    /// );
    /// let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    /// let now = OffsetDateTime::from_unix_timestamp(1_649_367_600)?;
    ///
    /// let delivery = verifier.verify_at(attempt, body, now)?;
    /// assert_eq!(delivery.payload(), body);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_at<'a>(
        &self,
        attempt: impl IntoAttempt<'a>,
        body: &'a [u8],
        now: OffsetDateTime,
    ) -> Result<Delivery<'a>, Error> {
        self.verify_attempt(&attempt.into_attempt()?, body, now.unix_timestamp(), false)
    }

    /// Verifies a delivery at the current time. If newer keys might lead to another answer, and the
    /// verifier's keys are `keys::RefreshedKeys`, it waits for them, at most 2 s, and verifies once more.
    ///
    /// # Errors
    ///
    /// Those of [`verify`](Self::verify). [`Error::KeysUnavailable`] also if the newer keys could not be
    /// fetched in time, or 256 deliveries already wait for them.
    pub async fn verify_refreshing<'a>(
        &self,
        attempt: impl IntoAttempt<'a>,
        body: &'a [u8],
    ) -> Result<Delivery<'a>, Error> {
        self.verify_waiting(attempt, body, false).await
    }

    /// Like [`verify_refreshing`](Self::verify_refreshing). If `late`, it takes a job token that has expired.
    pub(crate) async fn verify_waiting<'a>(
        &self,
        attempt: impl IntoAttempt<'a>,
        body: &'a [u8],
        late: bool,
    ) -> Result<Delivery<'a>, Error> {
        let attempt = attempt.into_attempt()?;
        let verify = || self.verify_attempt(&attempt, body, self.clock().unix_seconds(), late);
        match &self.0.per_request {
            Some(per_request) => per_request.refreshing(verify).await,
            None => verify(),
        }
    }

    /// `now` is in Unix seconds.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn verify_attempt<'a>(
        &self,
        attempt: &Attempt<'a>,
        body: &'a [u8],
        now: i64,
        late: bool,
    ) -> Result<Delivery<'a>, Error> {
        let Configuration {
            secrets,
            per_request,
            schemes: configured,
            window,
            ..
        } = &*self.0;
        window.admit(attempt.unix_timestamp(), now)?;
        let offered = attempt.signatures().offered();
        if [offered, *configured].map(|it| it.contains(Scheme::V1) && it.contains(Scheme::Jwt))
            == [true, true]
        {
            // Each verifies by itself, under another idempotency key.
            return Err(Error::InvalidHeader {
                name: "webhook-signature",
                reason: "it has a JWT beside a `v1` entry, which no sender makes",
            });
        }
        let request = Request {
            attempt,
            body,
            now,
            window: *window,
            late,
        };
        let mut tried = Schemes::default();
        for scheme in Scheme::ALL {
            if !offered.contains(scheme) || !configured.contains(scheme) {
                continue;
            }
            let verified = match (scheme, per_request) {
                (Scheme::V1, _) => hmac_v1::verify(secrets, &request),
                (_, Some(per_request)) => per_request.verify(scheme, &request),
                (_, None) => continue,
            };
            match verified {
                // Another signature may match.
                Err(Error::SignatureMismatch { .. }) => tried.insert(scheme),
                verified => return verified,
            }
        }
        if tried.is_empty() {
            let configured = *configured;
            return Err(Error::NoUsableScheme {
                offered,
                configured,
            });
        }
        Err(Error::SignatureMismatch { tried })
    }
}

#[cfg(feature = "diagnose")]
impl Verifier {
    pub(crate) fn per_request(&self) -> Option<&PerRequest> {
        self.0.per_request.as_ref()
    }

    pub(crate) fn secrets(&self) -> &[NamedSecret] {
        &self.0.secrets
    }
}

/// Configures a [`Verifier`].
#[derive(Debug)]
#[must_use]
pub struct VerifierBuilder {
    secrets: Vec<NamedSecret>,
    per_request: Option<PerRequest>,
    window: ReplayWindow,
    clock: Clock,
}

impl VerifierBuilder {
    const MAX_SECRETS: usize = 8;

    /// Adds a signing secret of a project-level webhook. During a rotation, and for several
    /// webhooks, call it once for each secret that is in use, at most 8 times.
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(NamedSecret { name: None, secret });
        self
    }

    /// Adds a signing secret under a name, which
    /// [`Delivery::secret_name`](crate::Delivery::secret_name) returns where it matches: for
    /// receivers of several webhooks. The secrets of one webhook, old and new, share a name: 1 to 64
    /// visible ASCII characters without a full stop. It is a part of the
    /// [`idempotency_key`](crate::Delivery::idempotency_key), so that the id of a delivery of one
    /// webhook does not hide a delivery of another.
    pub fn named_secret(mut self, name: &str, secret: Secret) -> Self {
        let name = Some(name.into());
        self.secrets.push(NamedSecret { name, secret });
        self
    }

    /// Also verifies per-request deliveries, which Google's own keys sign. A second call replaces the
    /// first.
    #[cfg(feature = "_per-request")]
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

    /// Sets the clock.
    #[cfg(feature = "testing")]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Builds the verifier.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NothingToVerifyWith`], [`ConfigError::TooManySecrets`],
    /// [`ConfigError::InvalidSecretName`], [`ConfigError::WindowTooWide`],
    /// [`ConfigError::EmptyAudience`] or [`ConfigError::NoJobTokens`].
    pub fn build(self) -> Result<Verifier, ConfigError> {
        let given = self.secrets.len();
        if given > Self::MAX_SECRETS {
            let allowed = Self::MAX_SECRETS;
            return Err(ConfigError::TooManySecrets { given, allowed });
        }
        let names = self
            .secrets
            .iter()
            .filter_map(|named| named.name.as_deref());
        if names
            .into_iter()
            .any(|name| !is_key_part(name, 1..=64, '.'))
        {
            return Err(ConfigError::InvalidSecretName);
        }
        let mut schemes = Schemes::default();
        if given > 0 {
            schemes.insert(Scheme::V1);
        }
        if let Some(per_request) = &self.per_request {
            per_request.validate()?;
            schemes = schemes.union(per_request.schemes());
        }
        if schemes.is_empty() {
            return Err(ConfigError::NothingToVerifyWith);
        }
        Ok(Verifier(Arc::new(Configuration {
            secrets: self.secrets,
            per_request: self.per_request,
            schemes,
            window: self.window.validate()?,
            clock: self.clock,
        })))
    }
}

/// Returns true if the text can be a part of an idempotency key that ends with the separator.
pub(crate) fn is_key_part(
    text: &str,
    lengths: std::ops::RangeInclusive<usize>,
    separator: char,
) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && c != separator;
    lengths.contains(&text.len()) && text.chars().all(allowed)
}

/// A verifier that can be replaced while requests are served, as when a secret is rotated.
///
/// Clones share the verifier. A verification that has begun ends with the one it began with. What
/// [`replace`](Self::replace) takes is the whole of it: with its per-request settings too. To wait for
/// newer keys, `verify_refreshing` with what [`get`](Self::get) returns.
///
/// ```
/// use gemini_webhooks::{Secret, SharedVerifier, Verifier};
///
/// let old = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?;
/// let new = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let shared = SharedVerifier::from(Verifier::builder().secret(old.clone()).build()?);
/// // When the secret was rotated, until the old one is revoked:
/// shared.replace(Verifier::builder().secret(old).secret(new).build()?);
/// # Ok::<(), gemini_webhooks::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct SharedVerifier(Arc<RwLock<Verifier>>);

impl SharedVerifier {
    /// Puts a verifier in the place of the current one.
    pub fn replace(&self, verifier: Verifier) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = verifier;
    }

    /// Returns the current verifier.
    #[must_use]
    pub fn get(&self) -> Verifier {
        // No panic can leave it half replaced.
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Verifies a delivery with the current verifier.
    ///
    /// # Errors
    ///
    /// Those of [`Verifier::verify`].
    pub fn verify<'a>(
        &self,
        attempt: impl IntoAttempt<'a>,
        body: &'a [u8],
    ) -> Result<Delivery<'a>, Error> {
        self.get().verify(attempt, body)
    }
}

impl From<Verifier> for SharedVerifier {
    fn from(verifier: Verifier) -> Self {
        Self(Arc::new(RwLock::new(verifier)))
    }
}

impl fmt::Debug for SharedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedVerifier").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests;
