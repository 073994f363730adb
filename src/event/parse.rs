//! From JSON to an event in one pass, whatever the order of members.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    Event, EventData,
    member::{UnexpectedKind, optional, required},
    table::{Row, Values},
};
use crate::{
    json::{Strict, Text, insert},
    rfc3339,
};

const USER_METADATA: &str = "user_metadata";

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let mut event_type = None::<Type>;
        let mut version = None::<Strict>;
        let mut timestamp = None::<Option<Timestamp>>;
        let mut user_metadata = None::<Strict>;
        let mut data = None::<Data>;
        // Filled in place: moving it out of each level of the parser takes a tenth longer.
        let mut members = Members::default();
        let mut other = Map::new();
        while let Some(name) = map.next_key()? {
            match name {
                EventMember::Type => read(&mut map, "type", &mut event_type)?,
                EventMember::Version => read(&mut map, "version", &mut version)?,
                EventMember::Timestamp => read(&mut map, "timestamp", &mut timestamp)?,
                EventMember::UserMetadata => read(&mut map, USER_METADATA, &mut user_metadata)?,
                EventMember::Data => {
                    refuse_second("data", data.as_ref())?;
                    data = Some(match &event_type {
                        Some(Type::Known(row)) => {
                            map.next_value_seed(MembersOf(row, &mut members))?;
                            Data::Members
                        }
                        // If the type is still to come, so is the meaning of the data.
                        Some(Type::Unknown(_)) | None => Data::Whole(map.next_value()?),
                    });
                }
                EventMember::Other(name) => insert(&mut other, name, map.next_value()?)?,
            }
        }
        // An empty object means the same as none, and is not serialized.
        let outer_metadata = optional(USER_METADATA, user_metadata)
            .map_err(UnexpectedKind::into_error)?
            .filter(|metadata: &Map<_, _>| !metadata.is_empty());
        let (data, user_metadata) = match event_type {
            None => return Err(A::Error::missing_field("type")),
            Some(Type::Unknown(event_type)) => {
                let data = match data {
                    Some(Data::Whole(Strict(data))) => data,
                    Some(Data::Members) | None => Value::Null,
                };
                let inner = data.get(USER_METADATA).and_then(Value::as_object);
                let user_metadata = outer_metadata.or_else(|| inner.cloned());
                (EventData::Unknown { event_type, data }, user_metadata)
            }
            Some(Type::Known(row)) => {
                match data {
                    Some(Data::Members) => {}
                    Some(Data::Whole(Strict(data))) => members.fill(row, data)?,
                    None => return Err(A::Error::missing_field("data")),
                }
                let Strict(id) = members
                    .id
                    .take()
                    .ok_or_else(|| A::Error::missing_field("id"))?;
                let id = required("id", id).map_err(UnexpectedKind::into_error)?;
                let user_metadata = members
                    .take_metadata(outer_metadata)
                    .map_err(UnexpectedKind::into_error)?;
                let data = (row.build)(id, &mut members.documented, &mut members.other)
                    .map_err(UnexpectedKind::into_error)?;
                (data, user_metadata)
            }
        };
        Ok(Event {
            data,
            occurred_at: timestamp.flatten().map(|Timestamp(time)| time),
            version: optional("version", version).map_err(UnexpectedKind::into_error)?,
            user_metadata: user_metadata.unwrap_or_default(),
            other,
        })
    }
}

/// Reads the value of a member that has not been there yet.
fn read<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    name: &'static str,
    value: &mut Option<T>,
) -> Result<(), A::Error> {
    refuse_second(name, value.as_ref())?;
    *value = Some(map.next_value()?);
    Ok(())
}

/// Refuses a member that is there twice: two parsers might each believe another one of the two.
fn refuse_second<T, E: Error>(name: &'static str, first: Option<&T>) -> Result<(), E> {
    match first {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

enum EventMember {
    Type,
    Version,
    Timestamp,
    Data,
    UserMetadata,
    Other(String),
}

impl<'de> Deserialize<'de> for EventMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let find = |name: &str| match name {
            "type" => Self::Type,
            "version" => Self::Version,
            "timestamp" => Self::Timestamp,
            "data" => Self::Data,
            USER_METADATA => Self::UserMetadata,
            _ => Self::Other(name.to_owned()),
        };
        deserializer.deserialize_identifier(Text("the name of a member", find))
    }
}

/// The event's `type`.
enum Type {
    Known(&'static Row),
    Unknown(String),
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let find = |name: &str| match Row::named(name) {
            Some(row) => Self::Known(row),
            None => Self::Unknown(name.to_owned()),
        };
        deserializer.deserialize_str(Text("the name of an event type", find))
    }
}

/// The event's `timestamp`.
struct Timestamp(OffsetDateTime);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Text("a time", rfc3339::parse))?
            .map(Self)
            .map_err(|error| {
                D::Error::custom(format_args!(
                    "timestamp is not of the form of RFC 3339: {error}"
                ))
            })
    }
}

/// The event's `data`, as far as it is read.
enum Data {
    /// It has been read into [`Members`].
    Members,
    Whole(Strict),
}

/// The members of the `data` of a known type.
#[derive(Default)]
struct Members {
    id: Option<Strict>,
    user_metadata: Option<Strict>,
    documented: Values,
    other: Map<String, Value>,
}

impl Members {
    /// Takes the members of `data` that was read before its type was known.
    fn fill<E: Error>(&mut self, row: &'static Row, data: Value) -> Result<(), E> {
        MembersOf(row, self).deserialize(data).map_err(E::custom)
    }

    /// Returns the metadata that counts: the event's, else that inside the data. Where both are
    /// there, the latter is kept as a member without a meaning.
    fn take_metadata(
        &mut self,
        outer: Option<Map<String, Value>>,
    ) -> Result<Option<Map<String, Value>>, UnexpectedKind> {
        let inner = optional(USER_METADATA, self.user_metadata.take())?;
        Ok(match (outer, inner) {
            (Some(outer), Some(inner)) => {
                self.other
                    .insert(USER_METADATA.into(), Value::Object(inner));
                Some(outer)
            }
            (outer, inner) => outer.or(inner),
        })
    }
}

/// The place where a member's value belongs.
enum Place<'m> {
    Known(&'static str, &'m mut Option<Strict>),
    Other(String, &'m mut Map<String, Value>),
}

/// Reads `data` of a known type.
struct MembersOf<'m>(&'static Row, &'m mut Members);

impl<'de> DeserializeSeed<'de> for MembersOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data of `{}`", self.0.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(row, members) = self;
        while let Some(place) = map.next_key_seed(PlaceOf(row, members))? {
            match place {
                Place::Known(name, value) => read(&mut map, name, value)?,
                Place::Other(name, other) => insert(other, name, map.next_value()?)?,
            }
        }
        Ok(())
    }
}

/// Reads the name of a member of `data` and finds its place.
struct PlaceOf<'m>(&'static Row, &'m mut Members);

impl<'m> PlaceOf<'m> {
    /// A name has a meaning only in the types that document it.
    fn find(self, name: &str) -> Place<'m> {
        let Self(row, members) = self;
        match name {
            "id" => return Place::Known("id", &mut members.id),
            USER_METADATA => return Place::Known(USER_METADATA, &mut members.user_metadata),
            _ => {}
        }
        let mut documented = row.members.iter().zip(&mut members.documented);
        match documented.find(|(documented, _)| **documented == name) {
            Some((name, value)) => Place::Known(name, value),
            None => Place::Other(name.to_owned(), &mut members.other),
        }
    }
}

impl<'de, 'm> DeserializeSeed<'de> for PlaceOf<'m> {
    type Value = Place<'m>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Place<'m>, D::Error> {
        let find = |name: &str| self.find(name);
        deserializer.deserialize_identifier(Text("the name of a member", find))
    }
}

#[cfg(test)]
mod tests;
