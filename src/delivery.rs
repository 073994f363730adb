use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::Deserialize;
use time::OffsetDateTime;

use crate::{
    attempt::Attempt,
    encoding,
    error::{Error, PayloadError},
    event::Event,
    json,
    scheme::Scheme,
    window::ReplayWindow,
};

/// A delivery that is authentic and inside the replay window. Only a successful verification makes
/// one, and an inbox that has stored it gives it back.
///
/// It may have been received before, since deliveries come at least once:
/// [`idempotency_key`](Self::idempotency_key) recognizes it.
#[derive(Clone)]
pub struct Delivery<'a> {
    id: Cow<'a, str>,
    /// In Unix seconds; the window admits no more than `time` knows.
    attempted_at: i64,
    scheme: Scheme,
    payload: Payload<'a>,
    /// The name of the secret or the id of the key that signed it.
    signer: Option<Arc<str>>,
    job: Option<JobProof>,
    retention: Duration,
}

/// An attempt that is to be verified, as of a time.
#[derive(Clone, Copy)]
pub(crate) struct Request<'r, 'a> {
    pub(crate) attempt: &'r Attempt<'a>,
    pub(crate) body: &'a [u8],
    /// In Unix seconds.
    #[cfg_attr(not(feature = "_per-request"), expect(dead_code))]
    pub(crate) now: i64,
    pub(crate) window: ReplayWindow,
    /// Takes a job token of ours that has expired.
    #[cfg_attr(not(feature = "_per-request"), expect(dead_code))]
    pub(crate) late: bool,
}

/// A job token of ours that a delivery carried.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobProof {
    /// The text given to `JobTokens::mint_for`, 0 to 128 bytes.
    pub context: String,
    /// The token's nonce, which no other token has: 22 characters of base64url.
    pub nonce: String,
    /// The place of the token, and with it the strength of the proof.
    pub place: JobPlace,
    /// In Unix seconds.
    pub(crate) expiry: u64,
    /// The refusal of a token that has expired, for those who take the delivery all the same.
    pub(crate) expired: Option<Box<Error>>,
}

/// Leaves the nonce out: it is a part of the token.
impl fmt::Debug for JobProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobProof")
            .field("context", &self.context)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// The place of a job token in a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobPlace {
    /// Signed content: the event belongs to a job that was created with the token. That is ours, as long
    /// as nobody else has seen the token.
    Event,
    /// The callback URI, which is not signed: the sender knows a live token of ours. The event may be
    /// another job's.
    Uri,
}

/// The authenticated bytes, parsed at most once.
#[derive(Clone)]
pub(crate) enum Payload<'a> {
    /// The body. Its signature also covers the id and the time beside it. Parsed by the verification
    /// if that needs the event, else on first use.
    Body(Cow<'a, [u8]>, OnceLock<Event>),
    /// The claims of a JWT, which covers neither of them, and the event that they carry.
    #[cfg_attr(
        not(any(feature = "_per-request", feature = "inbox")),
        expect(dead_code)
    )]
    Claims(Vec<u8>, Event),
}

impl<'a> Delivery<'a> {
    /// Makes the delivery of an attempt that a scheme has verified.
    pub(crate) fn authentic(
        request: &Request<'_, 'a>,
        scheme: Scheme,
        payload: Payload<'a>,
        signer: Option<Arc<str>>,
    ) -> Self {
        Self {
            id: Cow::Borrowed(request.attempt.id()),
            attempted_at: request.attempt.unix_timestamp(),
            scheme,
            payload,
            signer,
            job: None,
            retention: request.window.retention(),
        }
    }

    /// Adds proof that the delivery belongs to a job of ours.
    #[cfg(feature = "_per-request")]
    pub(crate) fn of_job(self, job: Option<JobProof>) -> Self {
        Self { job, ..self }
    }

    #[cfg(feature = "_per-request")]
    pub(crate) fn job_mut(&mut self) -> Option<&mut JobProof> {
        self.job.as_mut()
    }

    /// Has the delivery remembered for at least this time.
    #[cfg(feature = "_per-request")]
    pub(crate) fn retained(self, time: Duration) -> Self {
        let retention = self.retention.max(time);
        Self { retention, ..self }
    }

    /// Takes the refusal of its job token, if that has expired.
    #[cfg(feature = "inbox")]
    pub(crate) fn take_expired(&mut self) -> Option<Error> {
        self.job.as_mut()?.expired.take().map(|refusal| *refusal)
    }

    /// Returns `webhook-id`, which all attempts of a delivery share: 1 to 256 visible ASCII
    /// characters without a full stop.
    ///
    /// To recognize a delivery that was handled before, use
    /// [`idempotency_key`](Self::idempotency_key).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns when this attempt was sent (UTC, whole seconds). The event itself happened at
    /// [`Event::occurred_at`].
    #[must_use]
    pub fn attempted_at(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.attempted_at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Returns the scheme of the signature that matched.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the id (`kid`) of the key that signed the delivery, if it was one of Google's and
    /// has an id.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        match self.scheme {
            Scheme::V1 => None,
            Scheme::V1a | Scheme::Jwt => self.signer.as_deref(),
        }
    }

    /// Returns the name of the signing secret that matched, if it was given one with
    /// [`named_secret`](crate::VerifierBuilder::named_secret).
    #[must_use]
    pub fn secret_name(&self) -> Option<&str> {
        match self.scheme {
            Scheme::V1 => self.signer.as_deref(),
            Scheme::V1a | Scheme::Jwt => None,
        }
    }

    /// Returns the job token that a per-request delivery carried, and what it proves. `None` if it had
    /// none and none was required.
    #[must_use]
    pub fn job(&self) -> Option<&JobProof> {
        self.job.as_ref()
    }

    /// Returns a key that every attempt of this delivery shares and no other delivery has:
    /// remember it, and handle each once. 1 to 324 visible ASCII characters.
    ///
    /// Its form is not promised, but each form differs from all others:
    /// - `v1`: the [`id`](Self::id), after the secret's name if it has one.
    /// - `v1a` and JWT: a hash of the event's type, timestamp, data, metadata and unknown members, so that
    ///   one event has one key in both schemes, whatever the id and the time beside it. Without a timestamp two
    ///   events may be alike, so then it is the id, or a hash of all claims of a JWT.
    /// - If the only proof of origin is a token in the URI, which is not signed, its nonce is added: a
    ///   delivery that is sent with the token of another job does not hide the genuine one.
    #[must_use]
    pub fn idempotency_key(&self) -> Cow<'_, str> {
        let id = self.id();
        let key = match (self.scheme, &self.payload) {
            (Scheme::V1, _) => match &self.signer {
                None => return id.into(),
                Some(name) => format!("v1.{name}.{id}"),
            },
            (_, Payload::Claims(claims, event)) => event
                .idempotency_key()
                .unwrap_or_else(|| format!("jwt.{}", encoding::sha256(claims))),
            (_, Payload::Body(..)) => {
                let event = self.event().ok().and_then(Event::idempotency_key);
                event.unwrap_or_else(|| format!("v1a.{id}"))
            }
        };
        match &self.job {
            Some(job) if job.place == JobPlace::Uri => format!("{key}.{}", job.nonce).into(),
            _ => key.into(),
        }
    }

    /// Returns the time to remember the [`idempotency_key`](Self::idempotency_key), so that neither
    /// a retry nor a replay is mistaken for a new delivery.
    ///
    /// It spans the 24 hours of retries and both sides of the [`ReplayWindow`], or, if that is
    /// later, lasts until 24 hours after a JWT's `exp`: at most 31 days and 5 minutes, since an `exp`
    /// more than 30 days ahead is refused.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.retention
    }

    /// Returns the authenticated bytes as they were received: the body, or the claims of a JWT. A
    /// body may be neither UTF-8 nor JSON, and may begin with a byte order mark.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload.bytes()
    }

    /// Returns the payload as an event. It is parsed once, on first use.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if the payload is not JSON, is not an object, has a member twice, has no
    /// `type` that is a text, or is nested deeper than 127 levels. The claims of a JWT were parsed
    /// by the verification, and are no error here.
    pub fn event(&self) -> Result<&Event, PayloadError> {
        let (body, event) = match &self.payload {
            Payload::Claims(_, event) => return Ok(event),
            Payload::Body(body, event) => (body, event),
        };
        if let Some(event) = event.get() {
            return Ok(event);
        }
        let parsed = parse_event(body)?;
        Ok(event.get_or_init(|| parsed))
    }

    /// Takes the event out of the delivery.
    ///
    /// # Errors
    ///
    /// Those of [`event`](Self::event).
    pub fn into_event(self) -> Result<Event, PayloadError> {
        match self.payload {
            Payload::Claims(_, event) => Ok(event),
            Payload::Body(body, event) => event.into_inner().map_or_else(|| parse_event(&body), Ok),
        }
    }

    /// Parses the payload as a type of the caller's. A byte order mark is skipped.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if the payload is not JSON, or `T` refuses it.
    pub fn json<'s, T: Deserialize<'s>>(&'s self) -> Result<T, PayloadError> {
        json::from_slice(self.payload()).map_err(PayloadError::another_type)
    }

    /// Copies what is borrowed from the request, so that the delivery can outlive it: for channels,
    /// tasks and extractors.
    #[must_use]
    pub fn into_owned(self) -> Delivery<'static> {
        Delivery {
            id: Cow::Owned(self.id.into_owned()),
            attempted_at: self.attempted_at,
            scheme: self.scheme,
            signer: self.signer,
            job: self.job,
            retention: self.retention,
            payload: match self.payload {
                Payload::Body(body, event) => Payload::Body(Cow::Owned(body.into_owned()), event),
                Payload::Claims(claims, event) => Payload::Claims(claims, event),
            },
        }
    }
}

impl Payload<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Body(body, _) => body,
            Self::Claims(claims, _) => claims,
        }
    }
}

fn parse_event(payload: &[u8]) -> Result<Event, PayloadError> {
    json::from_slice(payload).map_err(PayloadError::not_an_event)
}

/// Leaves the payload out: it may hold what does not belong into logs.
impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("attempted_at", &self.attempted_at())
            .field("scheme", &self.scheme)
            .field("signer", &self.signer)
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "inbox")]
mod stored;
#[cfg(test)]
mod tests;
