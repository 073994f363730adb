//! JSON in which no object has a member twice: of two, each parser might believe another one.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, map::Entry};

/// Reads JSON from bytes. One look at the whole, whether it is UTF-8, costs less than one at each
/// string in it.
pub(crate) fn from_slice<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> serde_json::Result<T> {
    #[cfg(all(test, feature = "_per-request"))]
    parsed::add(bytes);
    match str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// The documents that a thread has parsed, for tests of how often that happens.
#[cfg(all(test, feature = "_per-request"))]
pub(crate) mod parsed {
    use std::cell::RefCell;

    thread_local! {
        static DOCUMENTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn add(document: &[u8]) {
        DOCUMENTS.with_borrow_mut(|documents| documents.push(document.to_vec()));
    }

    /// Returns those since the last call.
    pub(crate) fn take() -> Vec<Vec<u8>> {
        DOCUMENTS.take()
    }
}

/// A JSON value in which no object has a member twice.
pub(crate) struct Strict(pub(crate) Value);

/// A [`Strict`] value that is an object.
#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
pub(crate) struct Object(pub(crate) Map<String, Value>);

/// How `serde_json` spells a number where some crate in the build enables its feature
/// `arbitrary_precision`: as an object with this one member.
const NUMBER: &str = "$serde_json::private::Number";

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict::deserialize(deserializer)?.0 {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(de::Error::custom("expected an object")),
        }
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            insert(&mut members, name, map.next_value()?)?;
        }
        if let Some(Value::String(digits)) = members.get(NUMBER)
            && let Ok(number) = digits.parse()
        {
            return Ok(Value::Number(number));
        }
        Ok(members.into())
    }
}

/// A visitor of a text, which a function reads. The first field names what is expected.
pub(crate) struct Text<F>(pub(crate) &'static str, pub(crate) F);

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.1)(text))
    }
}

/// Adds a member, which must not be there yet.
pub(crate) fn insert<E: de::Error>(
    map: &mut Map<String, Value>,
    name: String,
    value: Strict,
) -> Result<(), E> {
    match map.entry(name) {
        Entry::Vacant(free) => {
            free.insert(value.0);
            Ok(())
        }
        Entry::Occupied(taken) => {
            let name = taken.key();
            Err(E::custom(format_args!("duplicate field `{name}`")))
        }
    }
}
