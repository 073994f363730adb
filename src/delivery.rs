use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::Deserialize;
use time::OffsetDateTime;

use crate::{
    attempt::Attempt, error::PayloadError, event::Event, json, scheme::Scheme, window::ReplayWindow,
};

/// A delivery that is authentic and inside the replay window. Only a successful verification makes
/// one.
///
/// It may have been received before, since deliveries come at least once:
/// [`idempotency_key`](Self::idempotency_key) recognizes it.
#[derive(Clone)]
pub struct Delivery<'a> {
    id: Cow<'a, str>,
    /// In Unix seconds; the window admits no more than `time` knows.
    attempted_at: i64,
    retention: Duration,
    proof: Proof<'a>,
}

/// Proof that a delivery is authentic: the result of a scheme's verification.
#[derive(Clone)]
pub(crate) struct Proof<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) payload: Payload<'a>,
    /// The name of the secret or the id of the key that signed it.
    pub(crate) signer: Option<Arc<str>>,
    pub(crate) job: Option<String>,
    /// The time to remember this delivery that its own signature asks for.
    pub(crate) retention: Duration,
}

/// The authenticated bytes, parsed at most once.
#[derive(Clone)]
pub(crate) enum Payload<'a> {
    /// The body. Its signature also covers the id and the time beside it. Parsed by the verification
    /// if that needs the event, else on first use.
    Body(Cow<'a, [u8]>, OnceLock<Event>),
    /// The claims of a JWT, which covers neither of them, and the event that they carry.
    #[cfg_attr(not(feature = "_per-request"), expect(dead_code))]
    Claims(Vec<u8>, Event),
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(attempt: &Attempt<'a>, window: ReplayWindow, proof: Proof<'a>) -> Self {
        Self {
            id: Cow::Borrowed(attempt.id()),
            attempted_at: attempt.unix_timestamp(),
            retention: window.retention().max(proof.retention),
            proof,
        }
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
        self.proof.scheme
    }

    /// Returns the id (`kid`) of the key that signed the delivery, if it was one of Google's and
    /// has an id.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        match self.proof.scheme {
            Scheme::V1 => None,
            Scheme::V1a | Scheme::Jwt => self.proof.signer.as_deref(),
        }
    }

    /// Returns the name of the signing secret that matched, if it was given one with
    /// [`named_secret`](crate::VerifierBuilder::named_secret).
    #[must_use]
    pub fn secret_name(&self) -> Option<&str> {
        match self.proof.scheme {
            Scheme::V1 => self.proof.signer.as_deref(),
            Scheme::V1a | Scheme::Jwt => None,
        }
    }

    /// Returns the context of the job token that the delivery carried: the text given to
    /// `JobTokens::mint_for`, 1 to 128 bytes. `None` if there was no token or no context.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        self.proof.job.as_deref()
    }

    /// Returns a key that every attempt of this delivery shares and no other delivery has:
    /// remember it, and handle each once. 1 to 256 visible ASCII characters.
    ///
    /// It is the [`id`](Self::id) if the signature covers that. A JWT does not: whoever saw one
    /// could send it again beside another id. Its key is `jwt.` and a hash of the event that it
    /// carries, or of all its claims if the event has no `timestamp`.
    #[must_use]
    pub fn idempotency_key(&self) -> Cow<'_, str> {
        match &self.proof.payload {
            Payload::Body(..) => self.id().into(),
            Payload::Claims(_, event) => event.idempotency_key().into(),
        }
    }

    /// Returns the time to remember the [`idempotency_key`](Self::idempotency_key), so that neither
    /// a retry nor a replay is mistaken for a new delivery.
    ///
    /// It spans the 24 hours of retries and both sides of the [`ReplayWindow`], or, if that is
    /// later, lasts until 24 hours after a JWT's `exp`: at most 31 days and a minute, since an `exp`
    /// more than 30 days ahead is refused.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.retention
    }

    /// Returns the authenticated bytes: the body, or the claims of a JWT. A body may be neither
    /// UTF-8 nor JSON.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.proof.payload.bytes()
    }

    /// Returns the payload as an event. It is parsed once, on first use.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if the payload is not JSON, lacks a member that its type documents, or has
    /// a member twice. Types and members that this crate does not know are no error.
    pub fn event(&self) -> Result<&Event, PayloadError> {
        let (body, event) = match &self.proof.payload {
            Payload::Claims(_, event) => return Ok(event),
            Payload::Body(body, event) => (body, event),
        };
        if let Some(event) = event.get() {
            return Ok(event);
        }
        let parsed = parse(body)?;
        Ok(event.get_or_init(|| parsed))
    }

    /// Takes the event out of the delivery.
    ///
    /// # Errors
    ///
    /// Those of [`event`](Self::event).
    pub fn into_event(self) -> Result<Event, PayloadError> {
        match self.proof.payload {
            Payload::Claims(_, event) => Ok(event),
            Payload::Body(body, event) => event.into_inner().map_or_else(|| parse(&body), Ok),
        }
    }

    /// Parses the payload as a type of the caller's.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] if the payload is not JSON, or `T` refuses it.
    pub fn json<'s, T: Deserialize<'s>>(&'s self) -> Result<T, PayloadError> {
        parse(self.payload())
    }

    /// Copies what is borrowed from the request, so that the delivery can outlive it: for channels,
    /// tasks and extractors.
    #[must_use]
    pub fn into_owned(self) -> Delivery<'static> {
        Delivery {
            id: Cow::Owned(self.id.into_owned()),
            attempted_at: self.attempted_at,
            retention: self.retention,
            proof: Proof {
                payload: match self.proof.payload {
                    Payload::Body(body, event) => {
                        Payload::Body(Cow::Owned(body.into_owned()), event)
                    }
                    Payload::Claims(claims, event) => Payload::Claims(claims, event),
                },
                ..self.proof
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

fn parse<'b, T: Deserialize<'b>>(payload: &'b [u8]) -> Result<T, PayloadError> {
    json::from_slice(payload).map_err(PayloadError)
}

/// Leaves the payload out: it may hold what does not belong into logs.
impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("attempted_at", &self.attempted_at())
            .field("scheme", &self.proof.scheme)
            .field("signer", &self.proof.signer)
            .field("job", &self.proof.job)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
