//! Answers of the service, read member by member.
//!
//! A signing secret is shown once, so nothing beside it may make it unreadable: a member of another
//! kind than documented stays where it is, and the rest is read.

use std::fmt;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::rfc3339;

/// The members of an object that have not been read yet.
pub(super) struct Members(Map<String, Value>);

impl From<Map<String, Value>> for Members {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

impl Members {
    /// Takes the members of an object, or returns the value as it was.
    pub(super) fn of(value: Value) -> Result<Self, Value> {
        match value {
            Value::Object(members) => Ok(Self(members)),
            other => Err(other),
        }
    }

    /// Takes the first of these members that can be read. The others stay.
    pub(super) fn take<T>(
        &mut self,
        names: &[&str],
        read: impl Fn(Value) -> Result<T, Value>,
    ) -> Option<T> {
        for name in names {
            match self.0.remove(*name).map(&read) {
                Some(Ok(value)) => return Some(value),
                Some(Err(value)) => self.put_back(name, value),
                None => {}
            }
        }
        None
    }

    /// Takes the elements of the first of these members that is a list. Elements that can't be read
    /// stay, as a list under its name.
    pub(super) fn take_list<T>(
        &mut self,
        names: &[&str],
        read: impl Fn(Value) -> Result<T, Value>,
    ) -> Vec<T> {
        for name in names {
            match self.0.remove(*name) {
                Some(Value::Array(elements)) => {
                    let (mut list, mut others) = (Vec::new(), Vec::new());
                    for element in elements {
                        match read(element) {
                            Ok(element) => list.push(element),
                            Err(element) => others.push(element),
                        }
                    }
                    if !others.is_empty() {
                        self.put_back(name, others.into());
                    }
                    return list;
                }
                Some(value) => self.put_back(name, value),
                None => {}
            }
        }
        Vec::new()
    }

    fn put_back(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Returns the members of each member that is an object.
    pub(super) fn nested(self) -> impl Iterator<Item = Self> {
        self.0
            .into_iter()
            .map(|(_, value)| value)
            .filter_map(|value| Self::of(value).ok())
    }

    /// Returns the members that were not taken.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.0
    }
}

/// Reads a text that is not empty: Google's services write an empty one for an absent value.
pub(super) fn text(value: Value) -> Result<String, Value> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        other => Err(other),
    }
}

/// Reads a text, or an integer as its digits.
pub(super) fn text_or_integer(value: Value) -> Result<String, Value> {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        other => text(other),
    }
}

/// Reads an integer, or a text of digits.
pub(super) fn integer(value: Value) -> Result<i64, Value> {
    let integer = match &value {
        Value::String(digits) => digits.parse().ok(),
        value => value.as_i64(),
    };
    integer.ok_or(value)
}

/// Reads a time (RFC 3339).
pub(super) fn time(value: Value) -> Result<OffsetDateTime, Value> {
    let time = value.as_str().and_then(|text| rfc3339::parse(text).ok());
    time.ok_or(value)
}

/// Reads a list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, Value> {
    match value {
        Value::Array(elements) => Ok(elements),
        other => Err(other),
    }
}

/// Shows the names of members without their values, which may hold a secret of an unexpected kind.
pub(super) struct Names<'m>(pub(super) &'m Map<String, Value>);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.keys().map(|name| crate::redacted::text(name));
        f.debug_set().entries(names).finish()
    }
}
