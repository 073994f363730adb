//! Members of an event's JSON, from the value that was read to a typed one.
//!
//! A value of another kind than documented is no error: it is kept, as it came, among the other
//! members.

use serde_json::{Map, Number, Value};

use crate::json::Strict;

/// A kind of value that a member is documented to have.
pub(super) trait Kind: Sized {
    /// Converts a JSON value, or returns it as it was.
    fn from_value(value: Value) -> Result<Self, Value>;
}

impl Kind for String {
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        }
    }
}

/// The name of the resource that an event is about.
pub(super) struct Id {
    pub(super) text: String,
    pub(super) is_number: bool,
}

impl Kind for Id {
    /// A text that is not empty, since nothing can be asked about an empty one; or an integer. Of a
    /// number of another form, the digits that were sent are not known.
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::String(text) if !text.is_empty() => Ok(Self {
                text,
                is_number: false,
            }),
            Value::Number(number) => match digits(&number) {
                Some(text) => Ok(Self {
                    text,
                    is_number: true,
                }),
                None => Err(Value::Number(number)),
            },
            other => Err(other),
        }
    }
}

/// Returns an integer as it was written.
fn digits(number: &Number) -> Option<String> {
    let text = number.to_string();
    let digits = text.strip_prefix('-').unwrap_or(&text);
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(text)
}

/// Returns the integer that is written like this.
pub(super) fn integer(text: &str) -> Option<Number> {
    let number: Number = text.parse().ok()?;
    digits(&number).filter(|digits| digits == text)?;
    Some(number)
}

/// Converts the value of a member, if there is one. One of another kind is kept under its name.
#[inline]
pub(super) fn read<T: Kind>(
    name: &str,
    value: &mut Option<Strict>,
    other: &mut Map<String, Value>,
) -> Option<T> {
    let Strict(value) = value.take()?;
    match T::from_value(value) {
        Ok(value) => Some(value),
        Err(value) => {
            other.insert(name.to_owned(), value);
            None
        }
    }
}

/// Lets the value of another member stand in for one that has none. Returns true if it does; else
/// the value is kept under its name.
pub(super) fn stand_in<T: Kind>(
    value: &mut Option<T>,
    name: &str,
    stand_in: &mut Option<Strict>,
    other: &mut Map<String, Value>,
) -> bool {
    if value.is_none() {
        *value = read(name, stand_in, other);
        return value.is_some();
    }
    if let Some(Strict(stand_in)) = stand_in.take() {
        other.insert(name.to_owned(), stand_in);
    }
    false
}
