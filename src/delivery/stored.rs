//! A delivery as an inbox stores it: its payload, and a JSON object of all else.

use std::{borrow::Cow, sync::OnceLock, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Delivery, JobPlace, JobProof, Payload};
use crate::{json, scheme::Scheme};

/// The members of the JSON object. A name that is published in a schema, and stays.
#[derive(Serialize, Deserialize)]
struct Envelope<'e> {
    #[serde(borrow)]
    id: Cow<'e, str>,
    /// In Unix seconds.
    attempted_at: i64,
    #[serde(borrow)]
    scheme: Cow<'e, str>,
    /// The name of the secret or the id of the key.
    #[serde(borrow)]
    signer: Option<Cow<'e, str>>,
    job: Option<Job>,
    /// In seconds, rounded up.
    retention: u64,
}

/// Rounds up, so that nothing is forgotten earlier.
fn seconds(time: Duration) -> u64 {
    let part = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(part)
}

#[derive(Serialize, Deserialize)]
struct Job {
    context: String,
    nonce: String,
    in_uri: bool,
    expiry: u64,
}

impl Delivery<'_> {
    /// Returns all but the payload, as JSON.
    pub(crate) fn envelope(&self) -> serde_json::Result<String> {
        let job = self.job.as_ref().map(|job| Job {
            context: job.context.clone(),
            nonce: job.nonce.clone(),
            in_uri: job.place == JobPlace::Uri,
            expiry: job.expiry,
        });
        serde_json::to_string(&Envelope {
            id: Cow::Borrowed(&self.id),
            attempted_at: self.attempted_at,
            scheme: self.scheme.as_str().into(),
            signer: self.signer.as_deref().map(Cow::Borrowed),
            job,
            retention: seconds(self.retention),
        })
    }

    /// Returns the delivery that was stored; `None` if this version can't read it.
    pub(crate) fn restore(envelope: &str, payload: Vec<u8>) -> Option<Delivery<'static>> {
        let envelope: Envelope<'_> = serde_json::from_str(envelope).ok()?;
        let scheme = Scheme::ALL
            .into_iter()
            .find(|scheme| scheme.as_str() == envelope.scheme)?;
        let payload = match scheme {
            Scheme::V1 | Scheme::V1a => Payload::Body(Cow::Owned(payload), OnceLock::new()),
            Scheme::Jwt => {
                let event = json::from_slice(&payload).ok()?;
                Payload::Claims(payload, event)
            }
        };
        Some(Delivery {
            id: Cow::Owned(envelope.id.into_owned()),
            attempted_at: envelope.attempted_at,
            scheme,
            payload,
            signer: envelope.signer.as_deref().map(Into::into),
            job: envelope.job.map(|job| JobProof {
                context: job.context,
                nonce: job.nonce,
                place: if job.in_uri {
                    JobPlace::Uri
                } else {
                    JobPlace::Event
                },
                expiry: job.expiry,
                expired: None,
            }),
            retention: Duration::from_secs(envelope.retention),
        })
    }
}
