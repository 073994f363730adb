//! Typed events, parsed from JSON and serialized as it.

mod error_code;
mod event_type;
mod form;
mod identity;
mod member;
mod metadata;
mod output_uri;
mod parse;
mod table;

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::redacted::{Redacted, RedactedClaims};
use form::Form;

pub use error_code::ErrorCode;
pub use output_uri::{OutputUri, OutputUriError};
pub use table::*;

#[cfg(feature = "_per-request")]
pub(crate) use form::{Member, Object, member, members};
pub(crate) use parse::{NO_TYPE, TYPE_IS_NO_TEXT};

/// An event of the Gemini API: a long-running job has ended, or needs its user.
///
/// An event names the job and the place of its output. The output itself has to be fetched from the
/// API.
///
/// Every JSON object with a text as its `type` is an event. Types and members that this crate does
/// not know are kept. A member of another kind than documented makes no other one unreadable: it is
/// `None`, and its value is kept in `other`, under its name. So is one that is `null`. An `id` that is
/// an integer is read as its digits, and one of another kind leaves the data as it came
/// ([`EventData::Unknown`]). The exceptions are errors: a member that is there twice, at any depth, nesting deeper than 127 levels, and a
/// number too large for a 64-bit float.
///
/// Serializing returns the JSON form: each member under the name, with the value and at the place
/// that it came with. The order of members may differ. `Debug` leaves out job tokens, a JWT's
/// audience, and passwords and queries of addresses.
///
/// ```
/// use gemini_webhooks::{Event, EventData};
///
/// let event: Event = serde_json::from_str(
///     r#"{"type":"batch.succeeded","version":"v1","timestamp":"2026-01-22T12:00:00Z",
///         "data":{"id":"batch_123456","output_file_uri":"gs://my-bucket/results.jsonl"}}"#,
/// )?;
/// match event.data {
///     EventData::BatchSucceeded(batch) => assert_eq!(batch.id, "batch_123456"),
///     _ => unreachable!(),
/// }
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The event's `data`, by its `type`.
    pub data: EventData,
    /// The time of the event: its `timestamp`, which some deliveries lack. `None` also if that is
    /// not of the form of RFC 3339, with a zone. The time of the delivery is
    /// [`Delivery::attempted_at`](crate::Delivery::attempted_at).
    pub occurred_at: Option<OffsetDateTime>,
    /// The version of the event's format, such as `v1`.
    pub version: Option<String>,
    /// The metadata that the job's own request put into its `webhook_config`; empty if there is
    /// none.
    ///
    /// Its place in the event is not documented. It is the first that is an object and not empty
    /// of `user_metadata` at the top level, `userMetadata` there, and the two in `data`.
    pub user_metadata: Map<String, Value>,
    /// Members of the top level that this crate does not know, and those whose value is `null` or
    /// of another kind than documented. The claims of a JWT that RFC 7519 registers, such as
    /// `exp`, are among them.
    pub other: Map<String, Value>,
    form: Form,
}

impl Event {
    /// Returns the event's type.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.data.event_type()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        form::serialize(self, serializer)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("data", &self.data)
            .field("occurred_at", &self.occurred_at)
            .field("version", &self.version.as_ref().map(Redacted))
            .field("user_metadata", &Redacted(&self.user_metadata))
            .field("other", &RedactedClaims(&self.other))
            .finish_non_exhaustive()
    }
}
