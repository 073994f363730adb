use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::member::Kind;
use crate::redacted::Redacted;

/// The kind of a failure. The service does not say whether this is a name or a number.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A name, such as `INVALID_ARGUMENT`.
    Name(String),
    /// A number, such as 13.
    Number(Number),
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Leaves out job tokens, like the `Debug` of the event.
impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.debug_tuple("Name").field(&Redacted(name)).finish(),
            Self::Number(number) => f.debug_tuple("Number").field(number).finish(),
        }
    }
}

impl fmt::Debug for Redacted<'_, ErrorCode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl Kind for ErrorCode {
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::String(name) => Ok(Self::Name(name)),
            Value::Number(number) => Ok(Self::Number(number)),
            other => Err(other),
        }
    }
}
