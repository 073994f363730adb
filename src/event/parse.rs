//! From JSON to an event in one pass, whatever the order of members.

use std::{fmt, mem};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    Event, EventData,
    form::Form,
    member::{Id, read},
    metadata::{self, Place, Spelling},
    table::{Row, Values},
};
use crate::{
    json::{self, Any, Name, Read, Strict, Text, duplicate, insert},
    rfc3339,
};

/// The messages of the errors for an object that is no event.
pub(crate) const NO_TYPE: &str = "no `type`";
pub(crate) const TYPE_IS_NO_TEXT: &str = "`type` is not a text";

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
        let mut timestamp = None::<Timestamp>;
        let mut user_metadata = None::<Strict>;
        let mut data = None::<Data>;
        // Filled in place: moving it out of each level of the parser takes a tenth longer.
        let mut members = Members::default();
        let mut other = Map::new();
        while let Some(name) = map.next_key()? {
            match name {
                EventMember::Type => {
                    next_value(&mut map, "type", &mut event_type)?;
                    if let Some(Type::NoText) = event_type {
                        return Err(A::Error::custom(TYPE_IS_NO_TEXT));
                    }
                }
                EventMember::Version => next_value(&mut map, "version", &mut version)?,
                EventMember::Timestamp => next_value(&mut map, "timestamp", &mut timestamp)?,
                EventMember::UserMetadata => {
                    next_value(&mut map, Spelling::Snake.name(), &mut user_metadata)?;
                }
                EventMember::Data => {
                    if data.is_some() {
                        return Err(duplicate("data"));
                    }
                    data = Some(match &event_type {
                        Some(Type::Known(row)) => {
                            map.next_value_seed(MembersOf(row, &mut members))?
                        }
                        // If the type is still to come, so is the meaning of the data.
                        Some(Type::Unknown(_) | Type::NoText) | None => {
                            Data::Whole(map.next_value()?)
                        }
                    });
                }
                EventMember::Other(name) => insert(&mut other, name, map.next_value()?)?,
            }
        }
        let event_type = event_type.ok_or_else(|| A::Error::custom(NO_TYPE))?;

        let mut form = Form {
            has_no_data: data.is_none(),
            ..Form::default()
        };
        let occurred_at = match timestamp {
            None => None,
            Some(Timestamp::Time(time, text)) => {
                form.timestamp = text;
                Some(time)
            }
            Some(Timestamp::Other(value)) => {
                other.insert("timestamp".to_owned(), value);
                None
            }
        };
        let version = read("version", &mut version, &mut other);
        let outer = metadata::take(user_metadata, &mut other, true);
        let wants_inner = outer.is_none();
        let (data, inner) = match event_type {
            Type::Known(row) => members.take_data(row, data, wants_inner),
            Type::Unknown(name) => {
                let data = data.map_or(Value::Null, Data::into_value);
                unknown(name, data, wants_inner)
            }
            Type::NoText => return Err(A::Error::custom(TYPE_IS_NO_TEXT)),
        };
        let outer = outer.map(|(spelling, metadata)| (Place::Top(spelling), metadata));
        let (place, user_metadata) = outer.or(inner).unzip();
        form.metadata = place;
        Ok(Event {
            data,
            occurred_at,
            version,
            user_metadata: user_metadata.unwrap_or_default(),
            other,
            form,
        })
    }
}

/// Reads the value of a member that has not been there yet.
fn next_value<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    name: &'static str,
    value: &mut Option<T>,
) -> Result<(), A::Error> {
    if value.is_some() {
        return Err(duplicate(name));
    }
    *value = Some(map.next_value()?);
    Ok(())
}

/// An event's data, and the metadata that was inside it.
type DataAndMetadata = (EventData, Option<(Place, Map<String, Value>)>);

/// Keeps data as it came.
fn unknown(event_type: String, data: Value, wants_metadata: bool) -> DataAndMetadata {
    let metadata = Some(&data).filter(|_| wants_metadata);
    let metadata = metadata.and_then(metadata::copy);
    let metadata = metadata.map(|metadata| (Place::Raw, metadata));
    (EventData::Unknown { event_type, data }, metadata)
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
            "user_metadata" => Self::UserMetadata,
            _ => Self::Other(name.to_owned()),
        };
        deserializer.deserialize_identifier(Text("the name of a member", find))
    }
}

/// The event's `type`.
enum Type {
    Known(&'static Row),
    Unknown(String),
    NoText,
}

impl From<Value> for Type {
    fn from(_: Value) -> Self {
        Self::NoText
    }
}

impl<'de> Deserialize<'de> for Type {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(ReadType))
    }
}

struct ReadType;

impl Read<'_> for ReadType {
    type Output = Type;

    fn text(self, name: &str) -> Type {
        match Row::named(name) {
            Some(row) => Type::Known(row),
            None => Type::Unknown(name.to_owned()),
        }
    }
}

/// The event's `timestamp`.
enum Timestamp {
    /// With its text, where formatting the time gives another.
    Time(OffsetDateTime, Option<Box<str>>),
    /// Not of the form of RFC 3339.
    Other(Value),
}

impl From<Value> for Timestamp {
    fn from(value: Value) -> Self {
        Self::Other(value)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(ReadTimestamp))
    }
}

struct ReadTimestamp;

impl Read<'_> for ReadTimestamp {
    type Output = Timestamp;

    fn text(self, text: &str) -> Timestamp {
        match rfc3339::parse(text) {
            Ok(time) => {
                let unusual = Some(text).filter(|text| !rfc3339::is_plain(text));
                Timestamp::Time(time, unusual.map(Into::into))
            }
            Err(_) => Timestamp::Other(text.into()),
        }
    }
}

/// The event's `data`, as far as it is read.
enum Data {
    /// It has been read into [`Members`].
    Members,
    Whole(Strict),
}

impl From<Value> for Data {
    fn from(value: Value) -> Self {
        Self::Whole(Strict(value))
    }
}

impl Data {
    fn into_value(self) -> Value {
        match self {
            Self::Members => Value::Null,
            Self::Whole(Strict(value)) => value,
        }
    }
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
    /// Builds the data of a known type. Without a usable id it is kept as it came.
    fn take_data(
        &mut self,
        row: &'static Row,
        data: Option<Data>,
        wants_metadata: bool,
    ) -> DataAndMetadata {
        match data {
            Some(Data::Members) => {}
            Some(Data::Whole(Strict(Value::Object(data)))) => self.fill(row, data),
            other => {
                let data = other.map_or(Value::Null, Data::into_value);
                return unknown(row.name.to_owned(), data, wants_metadata);
            }
        }
        let Some(id) = read::<Id>("id", &mut self.id, &mut self.other) else {
            let data = Value::Object(self.take_raw(row));
            return unknown(row.name.to_owned(), data, wants_metadata);
        };
        let metadata = metadata::take(self.user_metadata.take(), &mut self.other, wants_metadata);
        let data = (row.build)(id, &mut self.documented, &mut self.other);
        let metadata = metadata.map(|(spelling, metadata)| (Place::Data(spelling), metadata));
        (data, metadata)
    }

    /// Sorts the members of `data` that was read before its type was known.
    fn fill(&mut self, row: &'static Row, data: Map<String, Value>) {
        for (name, value) in data {
            match PlaceOf(row, self).find(&name) {
                PlaceFor::Known(_, place) => *place = Some(Strict(value)),
                PlaceFor::Other(name, other) => drop(other.insert(name, value)),
            }
        }
    }

    /// Takes all members, as they came.
    fn take_raw(&mut self, row: &'static Row) -> Map<String, Value> {
        let mut raw = mem::take(&mut self.other);
        let known = [
            ("id", &mut self.id),
            (Spelling::Snake.name(), &mut self.user_metadata),
        ];
        let documented = row.members.iter().copied().zip(&mut self.documented);
        for (name, value) in known.into_iter().chain(documented) {
            if let Some(Strict(value)) = value.take() {
                raw.insert(name.to_owned(), value);
            }
        }
        raw
    }
}

/// Reads `data` of a known type, into its members if it is an object.
struct MembersOf<'m>(&'static Row, &'m mut Members);

impl<'de> DeserializeSeed<'de> for MembersOf<'_> {
    type Value = Data;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(Any(self))
    }
}

impl<'de> Read<'de> for MembersOf<'_> {
    type Output = Data;

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let Self(row, members) = self;
        let buffered = json::is_buffered(&map);
        loop {
            let place = PlaceOf(row, members);
            let name = Name(move |name: &str| place.find(name));
            let Some(place) = map.next_key_seed(name)? else {
                break;
            };
            match place {
                Some(PlaceFor::Known(name, value)) => next_value(&mut map, name, value)?,
                Some(PlaceFor::Other(name, other)) => insert(other, name, map.next_value()?)?,
                None => return Ok(Value::Number(json::number(&mut map)?).into()),
            }
        }
        if buffered && !members.other.is_empty() {
            match json::object(mem::take(&mut members.other), buffered) {
                Value::Object(other) => members.other = other,
                number => return Ok(number.into()),
            }
        }
        Ok(Data::Members)
    }
}

/// The place of a member of `data`.
enum PlaceFor<'m> {
    Known(&'static str, &'m mut Option<Strict>),
    Other(String, &'m mut Map<String, Value>),
}

/// Finds the place of a member of `data` by its name.
struct PlaceOf<'m>(&'static Row, &'m mut Members);

impl<'m> PlaceOf<'m> {
    /// A name has a meaning only in the types that document it.
    fn find(self, name: &str) -> PlaceFor<'m> {
        let Self(row, members) = self;
        match name {
            "id" => return PlaceFor::Known("id", &mut members.id),
            "user_metadata" => {
                return PlaceFor::Known("user_metadata", &mut members.user_metadata);
            }
            _ => {}
        }
        let mut documented = row.members.iter().zip(&mut members.documented);
        match documented.find(|(documented, _)| **documented == name) {
            Some((name, value)) => PlaceFor::Known(name, value),
            None => PlaceFor::Other(name.to_owned(), &mut members.other),
        }
    }
}

#[cfg(test)]
mod tests;
