//! JSON in which no object has a member twice: of two, each parser might believe another one.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, map::Entry};

/// Reads JSON from bytes.
pub(crate) fn from_slice<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> serde_json::Result<T> {
    from_slice_seed(PhantomData::<T>, bytes)
}

/// Reads JSON from bytes. One look at the whole, whether it is UTF-8, costs less than one at each
/// string in it.
pub(crate) fn from_slice_seed<'b, S: DeserializeSeed<'b>>(
    seed: S,
    bytes: &'b [u8],
) -> serde_json::Result<S::Value> {
    fn read<'b, R: serde_json::de::Read<'b>, S: DeserializeSeed<'b>>(
        mut json: serde_json::Deserializer<R>,
        seed: S,
    ) -> serde_json::Result<S::Value> {
        let value = seed.deserialize(&mut json)?;
        json.end()?;
        Ok(value)
    }
    match str::from_utf8(bytes) {
        Ok(text) => read(serde_json::Deserializer::from_str(text), seed),
        Err(_) => read(serde_json::Deserializer::from_slice(bytes), seed),
    }
}

/// A JSON value in which no object has a member twice.
pub(crate) struct Strict(pub(crate) Value);

/// A [`Strict`] value that is an object.
pub(crate) struct Object(pub(crate) Map<String, Value>);

/// How `serde_json` spells a number where some crate in the build enables its feature
/// `arbitrary_precision`: as an object with this one member.
const NUMBER: &str = "$serde_json::private::Number";

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict::deserialize(deserializer)?.0 {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(D::Error::custom("expected an object")),
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
