//! Typed events, parsed from JSON and serialized as it.

mod error_code;
mod event_type;
mod identity;
mod member;
mod parse;
mod table;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::rfc3339;

pub use error_code::ErrorCode;
pub use table::*;

/// An event of the Gemini API: a long-running job has ended, or needs its user.
///
/// An event names the job and the place of its output. The output itself has to be fetched from the
/// API.
///
/// Events are parsed in one pass, in any order of members. Types and members that this crate does
/// not know are kept. A member that is there twice is an error, at any depth. Serializing returns
/// the JSON form.
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
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The event's `data`, by its `type`.
    pub data: EventData,
    /// The time of the event: its `timestamp`, which some deliveries lack. The time of the delivery
    /// is [`Delivery::attempted_at`](crate::Delivery::attempted_at).
    pub occurred_at: Option<OffsetDateTime>,
    /// The version of the event's format, such as `v1`.
    pub version: Option<String>,
    /// The metadata that the job's own request put into its `webhook_config`; empty if there is
    /// none.
    ///
    /// Its place in the event is not documented. It is taken from the top level, else from `data`.
    pub user_metadata: Map<String, Value>,
    /// Members of the top level that this crate does not know. The claims of a JWT that RFC 7519
    /// registers, such as `exp`, are among them.
    pub other: Map<String, Value>,
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
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.event_type())?;
        if let Some(version) = &self.version {
            map.serialize_entry("version", version)?;
        }
        if let Some(occurred_at) = self.occurred_at {
            let timestamp = rfc3339::format(occurred_at).map_err(serde::ser::Error::custom)?;
            map.serialize_entry("timestamp", &timestamp)?;
        }
        map.serialize_entry("data", &self.data)?;
        if !self.user_metadata.is_empty() {
            map.serialize_entry("user_metadata", &self.user_metadata)?;
        }
        for (name, value) in &self.other {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
