//! Members of an event's JSON, from the value that was read to a typed one.

use serde::de;
use serde_json::{Map, Value};

use crate::json::Strict;

/// A kind of value that a member is documented to have.
pub(super) trait Kind: Sized {
    /// The kind's name, for errors.
    const EXPECTED: &'static str;

    /// Converts a JSON value, or returns it as it was.
    fn from_value(value: Value) -> Result<Self, Value>;
}

impl Kind for String {
    const EXPECTED: &'static str = "a string";

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        }
    }
}

impl Kind for Map<String, Value> {
    const EXPECTED: &'static str = "an object";

    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Object(members) => Ok(members),
            other => Err(other),
        }
    }
}

/// A member's value has another kind than documented. The value itself is not shown: it may be
/// secret.
pub(super) struct UnexpectedKind {
    name: &'static str,
    expected: &'static str,
}

impl UnexpectedKind {
    pub(super) fn into_error<E: de::Error>(self) -> E {
        let Self { name, expected } = self;
        E::custom(format_args!(
            "`{name}` has another kind, expected {expected}"
        ))
    }
}

/// Converts the value of a member that must be there. `null` is a value here.
pub(super) fn required<T: Kind>(name: &'static str, value: Value) -> Result<T, UnexpectedKind> {
    T::from_value(value).map_err(|_| UnexpectedKind {
        name,
        expected: T::EXPECTED,
    })
}

/// Converts the value of a member that may be absent or `null`.
pub(super) fn optional<T: Kind>(
    name: &'static str,
    value: Option<Strict>,
) -> Result<Option<T>, UnexpectedKind> {
    match value {
        None | Some(Strict(Value::Null)) => Ok(None),
        Some(Strict(value)) => required(name, value).map(Some),
    }
}

/// Lets the value of another member stand in for one that has none. Where both have a value, that of
/// the other one is kept under its name.
pub(super) fn stand_in(
    value: &mut Option<Strict>,
    name: &str,
    stand_in: &mut Option<Strict>,
    other: &mut Map<String, Value>,
) {
    match (&value, stand_in.take()) {
        (_, None | Some(Strict(Value::Null))) => {}
        (None | Some(Strict(Value::Null)), stand_in) => *value = stand_in,
        (Some(_), Some(Strict(stand_in))) => drop(other.insert(name.to_owned(), stand_in)),
    }
}
