//! The JSON form of an event: each member under its name, with its value, at its place.

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Number, Value};
use time::OffsetDateTime;

use super::{
    ErrorCode, Event, EventData,
    member::integer,
    metadata::{Place, Spelling},
};
use crate::rfc3339;

/// The parts of an event's JSON form that its public fields do not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Form {
    /// The text of the timestamp, where formatting the time gives another.
    pub(super) timestamp: Option<Box<str>>,
    pub(super) metadata: Option<Place>,
    pub(super) has_no_data: bool,
}

/// The parts of the JSON form of an event's data that its public fields do not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct DataForm {
    pub(super) id_is_number: bool,
    /// A member was absent, and its value is that of its stand-in.
    pub(super) stood_in: bool,
}

impl DataForm {
    /// Returns the name under which a member came, which may be that of its stand-in.
    pub(super) fn name(self, name: &'static str, stand_in: &[&'static str]) -> &'static str {
        match stand_in {
            [stand_in] if self.stood_in => stand_in,
            _ => name,
        }
    }

    pub(super) fn id(self, id: &str) -> Member<'_> {
        // The field is public, and may have been changed since.
        let number = Some(id).filter(|_| self.id_is_number).and_then(integer);
        number.map_or(Member::Text(id), |number| {
            Member::Number(Cow::Owned(number))
        })
    }
}

/// The value of a member.
pub(crate) enum Member<'e> {
    Text(&'e str),
    Time(OffsetDateTime),
    Number(Cow<'e, Number>),
    Value(&'e Value),
    Members(&'e Map<String, Value>),
    Data(DataOf<'e>),
}

/// An object of which some members have a meaning.
pub(crate) trait Object {
    /// The names that may have a meaning.
    fn names(&self) -> &'static [&'static str];

    /// Returns the value of a member by its meaning.
    fn known(&self, name: &str) -> Option<Member<'_>>;

    /// The members without a meaning. A known one that has a value counts before them.
    fn other(&self) -> &Map<String, Value>;
}

/// An object in which no name has a meaning.
impl Object for Map<String, Value> {
    fn names(&self) -> &'static [&'static str] {
        &[]
    }

    fn known(&self, _: &str) -> Option<Member<'_>> {
        None
    }

    fn other(&self) -> &Map<String, Value> {
        self
    }
}

/// Returns the members of an object, each once.
pub(crate) fn members(object: &dyn Object) -> impl Iterator<Item = (&str, Member<'_>)> {
    let known = object.names().iter();
    let known = known.filter_map(|name| Some((*name, object.known(name)?)));
    let other = object.other().iter();
    let other = other.filter(|(name, _)| object.known(name).is_none());
    known.chain(other.map(|(name, value)| (name.as_str(), Member::Value(value))))
}

/// Returns the name and the value of a member.
#[cfg(feature = "_per-request")]
pub(crate) fn member<'e>(object: &'e dyn Object, name: &str) -> Option<(&'e str, Member<'e>)> {
    let names = object.names();
    let known = names.iter().find(|known| **known == name);
    if let Some(name) = known
        && let Some(member) = object.known(name)
    {
        return Some((name, member));
    }
    let (name, value) = object.other().get_key_value(name)?;
    Some((name, Member::Value(value)))
}

pub(super) fn serialize<S: Serializer>(
    object: &dyn Object,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (name, member) in members(object) {
        map.serialize_entry(name, &member)?;
    }
    map.end()
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Time(time) => {
                let text = rfc3339::format(*time).map_err(serde::ser::Error::custom)?;
                serializer.serialize_str(&text)
            }
            Self::Number(number) => number.serialize(serializer),
            Self::Value(value) => value.serialize(serializer),
            Self::Members(members) => members.serialize(serializer),
            Self::Data(data) => serialize(data, serializer),
        }
    }
}

impl<'e> From<&'e String> for Member<'e> {
    fn from(text: &'e String) -> Self {
        Self::Text(text)
    }
}

impl<'e> From<&'e ErrorCode> for Member<'e> {
    fn from(code: &'e ErrorCode) -> Self {
        match code {
            ErrorCode::Name(name) => Self::Text(name),
            ErrorCode::Number(number) => Self::Number(Cow::Borrowed(number)),
        }
    }
}

impl Event {
    /// Returns the metadata, if this is its place.
    fn metadata_at(&self, place: Place) -> Option<Member<'_>> {
        let actual = self.form.metadata.unwrap_or(Place::Top(Spelling::Snake));
        let here = actual == place;
        (here && !self.user_metadata.is_empty()).then_some(Member::Members(&self.user_metadata))
    }

    fn timestamp(&self) -> Option<Member<'_>> {
        let time = self.occurred_at?;
        // The field is public, and may have been changed since.
        let as_it_came = self
            .form
            .timestamp
            .as_deref()
            .filter(|text| rfc3339::parse(text).is_ok_and(|parsed| parsed == time));
        Some(as_it_came.map_or(Member::Time(time), Member::Text))
    }
}

impl Object for Event {
    fn names(&self) -> &'static [&'static str] {
        const {
            &[
                "type",
                "version",
                "timestamp",
                "data",
                "user_metadata",
                "userMetadata",
            ]
        }
    }

    fn known(&self, name: &str) -> Option<Member<'_>> {
        match name {
            "type" => Some(Member::Text(self.data.type_name())),
            "version" => self.version.as_ref().map(Into::into),
            "timestamp" => self.timestamp(),
            "data" => match &self.data {
                EventData::Unknown { data, .. } if data.is_null() && self.form.has_no_data => None,
                EventData::Unknown { data, .. } => Some(Member::Value(data)),
                data => {
                    let data = data.typed()?;
                    Some(Member::Data(DataOf { event: self, data }))
                }
            },
            _ => {
                let spelling = Spelling::of(name)?;
                self.metadata_at(Place::Top(spelling))
            }
        }
    }

    fn other(&self) -> &Map<String, Value> {
        &self.other
    }
}

/// The data of an event, with the metadata if that came inside it.
pub(crate) struct DataOf<'e> {
    event: &'e Event,
    data: &'e dyn Object,
}

impl Object for DataOf<'_> {
    fn names(&self) -> &'static [&'static str] {
        self.data.names()
    }

    fn known(&self, name: &str) -> Option<Member<'_>> {
        match Spelling::of(name) {
            Some(spelling) => self.event.metadata_at(Place::Data(spelling)),
            None => self.data.known(name),
        }
    }

    fn other(&self) -> &Map<String, Value> {
        self.data.other()
    }
}
