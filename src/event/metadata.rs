//! The metadata of a job, which has two names and may come at two levels of an event.

use serde_json::{Map, Value};

use crate::json::Strict;

/// The name of the metadata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spelling {
    Snake,
    Camel,
}

impl Spelling {
    /// The one that counts first.
    pub(super) const BOTH: [Self; 2] = [Self::Snake, Self::Camel];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Snake => "user_metadata",
            Self::Camel => "userMetadata",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|known| known.name() == name)
    }
}

/// The place of the metadata that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Top(Spelling),
    Data(Spelling),
    /// In data that is kept as it came, which still has it.
    Raw,
}

/// Takes the metadata that counts at one level, if any: the first that is an object and not empty.
/// The rest is kept under its name. The usual name has a place of its own; the other one is among the
/// other members, since few events have it.
#[inline]
pub(super) fn take(
    snake: Option<Strict>,
    other: &mut Map<String, Value>,
    is_wanted: bool,
) -> Option<(Spelling, Map<String, Value>)> {
    match snake {
        None => {}
        Some(Strict(Value::Object(members))) if is_wanted && !members.is_empty() => {
            return Some((Spelling::Snake, members));
        }
        Some(Strict(value)) => drop(other.insert(Spelling::Snake.name().to_owned(), value)),
    }
    if !is_wanted || other.is_empty() {
        return None;
    }
    let camel = Spelling::Camel.name();
    let members = other.get(camel)?.as_object()?;
    if members.is_empty() {
        return None;
    }
    match other.remove(camel)? {
        Value::Object(members) => Some((Spelling::Camel, members)),
        _ => None,
    }
}

/// Copies the metadata that counts out of data that is kept as it came.
pub(super) fn copy(data: &Value) -> Option<Map<String, Value>> {
    let values = Spelling::BOTH
        .iter()
        .filter_map(|it| data.get(it.name())?.as_object());
    let mut values = values.filter(|members| !members.is_empty());
    values.next().cloned()
}
