//! From JSON to an event in one pass, whatever the order of members.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::json::{Object, Strict, insert};

use super::{
    BatchCancelled, BatchExpired, BatchFailed, BatchSucceeded, ErrorCode, Event, EventData,
    EventType, InteractionCancelled, InteractionCompleted, InteractionFailed,
    InteractionRequiresAction, VideoGenerated,
};

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = EventBeside {
            names: &[],
            values: &mut [],
        };
        whole.deserialize(deserializer)
    }
}

/// An event among other members. Those of the given names are not the event's: their values are put
/// where the names stand.
pub(crate) struct EventBeside<'a> {
    pub(crate) names: &'static [&'static str],
    pub(crate) values: &'a mut [Option<Value>],
}

impl<'de> DeserializeSeed<'de> for EventBeside<'_> {
    type Value = Event;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Event, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventBeside<'_> {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let mut event_type = Slot::<EventType>::default();
        let mut version = Slot::<String>::default();
        let mut timestamp = Slot::<Timestamp>::default();
        let mut user_metadata = Slot::<Object>::default();
        // Filled where it lies: moved out of each level of the parser it would cost a tenth more.
        let mut members = Members::default();
        let mut data = Slot::<Value>::default();
        let mut other = Map::new();
        while let Some(name) = map.next_key_seed(EventMemberSeed(self.names))? {
            match name {
                EventMember::Type => event_type.set("type", Some(map.next_value()?))?,
                EventMember::Version => version.set("version", map.next_value()?)?,
                EventMember::Timestamp => timestamp.set("timestamp", map.next_value()?)?,
                EventMember::UserMetadata => {
                    user_metadata.set(USER_METADATA, map.next_value()?)?;
                }
                EventMember::Data => {
                    let untyped = match &event_type.value {
                        Some(event_type) => {
                            map.next_value_seed(DataSeed(event_type, &mut members))?
                        }
                        // What it holds depends on the type, which is still to come.
                        None => Some(map.next_value::<Strict>()?.0),
                    };
                    data.set("data", untyped)?;
                }
                EventMember::Beside(name, position) => {
                    let Strict(value) = map.next_value()?;
                    if let Some(beside) = self.values.get_mut(position)
                        && beside.replace(value).is_some()
                    {
                        return Err(A::Error::duplicate_field(name));
                    }
                }
                EventMember::Other(name) => insert(&mut other, name, map.next_value()?)?,
            }
        }
        let event_type = event_type
            .value
            .ok_or_else(|| A::Error::missing_field("type"))?;
        // An empty one says as little as none, and is not written back.
        let outer_metadata = user_metadata.value.map(|object| object.0);
        let outer_metadata = outer_metadata.filter(|metadata| !metadata.is_empty());
        let (data, user_metadata) = if let EventType::Unknown(event_type) = event_type {
            let data = data.value.unwrap_or_default();
            let inner = data.get(USER_METADATA).and_then(Value::as_object);
            let user_metadata = outer_metadata.or_else(|| inner.cloned());
            (EventData::Unknown { event_type, data }, user_metadata)
        } else {
            if !data.seen {
                return Err(A::Error::missing_field("data"));
            }
            if let Some(untyped) = data.value {
                MembersOf(&event_type, &mut members)
                    .deserialize(untyped)
                    .map_err(A::Error::custom)?;
            }
            let user_metadata = members.take_metadata(outer_metadata);
            (members.into_data(event_type)?, user_metadata)
        };
        Ok(Event {
            data,
            occurred_at: timestamp.value.map(|timestamp| timestamp.0),
            version: version.value,
            user_metadata: user_metadata.unwrap_or_default(),
            other,
        })
    }
}

const USER_METADATA: &str = "user_metadata";

/// A member's value, if it has one, and whether it stood there at all.
struct Slot<T> {
    seen: bool,
    value: Option<T>,
}

impl<T> Slot<T> {
    /// Refuses a member that stands twice: two parsers might each believe another one.
    fn set<E: de::Error>(&mut self, name: &'static str, value: Option<T>) -> Result<(), E> {
        if self.seen {
            return Err(E::duplicate_field(name));
        }
        *self = Self { seen: true, value };
        Ok(())
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            seen: false,
            value: None,
        }
    }
}

/// A text, read by a function.
struct Text<F>(&'static str, F);

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.1)(text))
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("the name of an event type", |name: &str| name.into()))
    }
}

struct Timestamp(OffsetDateTime);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339);
        deserializer
            .deserialize_str(Text("a time", parse))?
            .map(Self)
            .map_err(|error| {
                D::Error::custom(format_args!(
                    "timestamp is not of the form of RFC 3339: {error}"
                ))
            })
    }
}

enum EventMember {
    Type,
    Version,
    Timestamp,
    Data,
    UserMetadata,
    Beside(&'static str, usize),
    Other(String),
}

/// Knows the names that are not the event's.
struct EventMemberSeed(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for EventMemberSeed {
    type Value = EventMember;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<EventMember, D::Error> {
        let find = |name: &str| match name {
            "type" => EventMember::Type,
            "version" => EventMember::Version,
            "timestamp" => EventMember::Timestamp,
            "data" => EventMember::Data,
            USER_METADATA => EventMember::UserMetadata,
            _ => {
                let mut beside = self.0.iter().enumerate();
                match beside.find(|(_, other)| **other == name) {
                    Some((position, name)) => EventMember::Beside(name, position),
                    None => EventMember::Other(name.to_owned()),
                }
            }
        };
        deserializer.deserialize_identifier(Text("the name of a member", find))
    }
}

/// Reads `data` into the members, or gives it back where its type is unknown.
struct DataSeed<'t>(&'t EventType, &'t mut Members);

impl<'de> DeserializeSeed<'de> for DataSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            EventType::Unknown(_) => Strict::deserialize(deserializer).map(|value| Some(value.0)),
            event_type => MembersOf(event_type, self.1)
                .deserialize(deserializer)
                .map(|()| None),
        }
    }
}

/// What the documented types' `data` may hold, all types taken together.
#[derive(Default)]
struct Members {
    id: Slot<String>,
    output_file_uri: Slot<String>,
    video_uri: Slot<String>,
    file_name: Slot<String>,
    error_code: Slot<ErrorCode>,
    error_message: Slot<String>,
    user_metadata: Slot<Object>,
    other: Map<String, Value>,
}

enum Member {
    Id,
    OutputFileUri,
    VideoUri,
    FileName,
    ErrorCode,
    ErrorMessage,
    UserMetadata,
    Other(String),
}

impl Member {
    /// A name means something only in the types that document it, and is kept as it is in others.
    fn of(event_type: &EventType, name: &str) -> Self {
        use EventType::{BatchFailed, BatchSucceeded, InteractionFailed, VideoGenerated};
        match (name, event_type) {
            ("id", _) => Self::Id,
            ("output_file_uri", BatchSucceeded | VideoGenerated) => Self::OutputFileUri,
            ("video_uri", VideoGenerated) => Self::VideoUri,
            ("file_name", VideoGenerated) => Self::FileName,
            ("error_code", BatchFailed | InteractionFailed) => Self::ErrorCode,
            ("error_message", BatchFailed | InteractionFailed) => Self::ErrorMessage,
            (USER_METADATA, _) => Self::UserMetadata,
            _ => Self::Other(name.to_owned()),
        }
    }
}

struct MembersOf<'t>(&'t EventType, &'t mut Members);

impl<'de> DeserializeSeed<'de> for MembersOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data of `{}`", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        struct MemberSeed<'t>(&'t EventType);
        impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
            type Value = Member;

            fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Member, D::Error> {
                name.deserialize_identifier(Text("the name of a member", |name: &str| {
                    Member::of(self.0, name)
                }))
            }
        }

        let Self(event_type, found) = self;
        while let Some(name) = map.next_key_seed(MemberSeed(event_type))? {
            match name {
                Member::Id => found.id.set("id", Some(map.next_value()?))?,
                Member::OutputFileUri => {
                    found
                        .output_file_uri
                        .set("output_file_uri", map.next_value()?)?;
                }
                Member::VideoUri => found.video_uri.set("video_uri", map.next_value()?)?,
                Member::FileName => found.file_name.set("file_name", map.next_value()?)?,
                Member::ErrorCode => found.error_code.set("error_code", map.next_value()?)?,
                Member::ErrorMessage => {
                    found
                        .error_message
                        .set("error_message", map.next_value()?)?;
                }
                Member::UserMetadata => {
                    found.user_metadata.set(USER_METADATA, map.next_value()?)?;
                }
                Member::Other(name) => insert(&mut found.other, name, map.next_value()?)?,
            }
        }
        Ok(())
    }
}

impl Members {
    /// The metadata that counts. Where it stands at both places, the inner one is kept as a
    /// member that means nothing.
    fn take_metadata(&mut self, outer: Option<Map<String, Value>>) -> Option<Map<String, Value>> {
        let inner = self.user_metadata.value.take().map(|object| object.0);
        match (outer, inner) {
            (Some(outer), Some(inner)) => {
                self.other.insert(USER_METADATA.into(), inner.into());
                Some(outer)
            }
            (outer, inner) => outer.or(inner),
        }
    }

    fn into_data<E: de::Error>(mut self, event_type: EventType) -> Result<EventData, E> {
        let id = self.id.value.ok_or_else(|| E::missing_field("id"))?;
        let mut output_file_uri = self.output_file_uri.value;
        if let Some(video_uri) = self.video_uri.value {
            match output_file_uri {
                None => output_file_uri = Some(video_uri),
                Some(_) => drop(self.other.insert("video_uri".into(), video_uri.into())),
            }
        }
        let error_code = self.error_code.value;
        let error_message = self.error_message.value;
        let other = self.other;
        Ok(match event_type {
            EventType::BatchSucceeded => EventData::BatchSucceeded(BatchSucceeded {
                id,
                output_file_uri,
                other,
            }),
            EventType::BatchCancelled => EventData::BatchCancelled(BatchCancelled { id, other }),
            EventType::BatchExpired => EventData::BatchExpired(BatchExpired { id, other }),
            EventType::BatchFailed => EventData::BatchFailed(BatchFailed {
                id,
                error_code,
                error_message,
                other,
            }),
            EventType::InteractionRequiresAction => {
                EventData::InteractionRequiresAction(InteractionRequiresAction { id, other })
            }
            EventType::InteractionCompleted => {
                EventData::InteractionCompleted(InteractionCompleted { id, other })
            }
            EventType::InteractionFailed => EventData::InteractionFailed(InteractionFailed {
                id,
                error_code,
                error_message,
                other,
            }),
            EventType::InteractionCancelled => {
                EventData::InteractionCancelled(InteractionCancelled { id, other })
            }
            EventType::VideoGenerated => EventData::VideoGenerated(VideoGenerated {
                id,
                output_file_uri,
                file_name: self.file_name.value,
                other,
            }),
            EventType::Unknown(event_type) => EventData::Unknown {
                event_type,
                data: other.into(),
            },
        })
    }
}
