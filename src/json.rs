//! JSON in which no object has a member twice: of two, each parser might believe another one.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, map::Entry};

use crate::redacted::Redacted;

/// The byte order mark of UTF-8. JSON does not have one (RFC 8259, section 8.1), and a parser may
/// ignore it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The message of the error for a member that is there twice begins with this.
pub(crate) const DUPLICATE_MEMBER: &str = "duplicate member";

/// Reads JSON from bytes, after a byte order mark if there is one.
pub(crate) fn from_slice<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> serde_json::Result<T> {
    from_slice_with(bytes, PhantomData)
}

/// Like [`from_slice`], with state. One look at the whole, whether it is UTF-8, costs less than one
/// at each string in it.
pub(crate) fn from_slice_with<'b, S: DeserializeSeed<'b>>(
    bytes: &'b [u8],
    seed: S,
) -> serde_json::Result<S::Value> {
    #[cfg(all(test, feature = "_per-request"))]
    parsed::add(bytes);
    let bytes = without_mark(bytes);
    if let Ok(text) = str::from_utf8(bytes) {
        whole(serde_json::Deserializer::from_str(text), seed)
    } else {
        whole(serde_json::Deserializer::from_slice(bytes), seed)
    }
}

/// Reads everything that there is.
fn whole<'b, S: DeserializeSeed<'b>, R: serde_json::de::Read<'b>>(
    mut deserializer: serde_json::Deserializer<R>,
    seed: S,
) -> serde_json::Result<S::Value> {
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Returns the bytes after a byte order mark.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
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

/// A value of a type that serde derives, read from an object alone: what is derived takes an array of
/// its members too, which other parsers do not.
#[cfg(feature = "_per-request")]
pub(crate) struct FromObject<T>(pub(crate) T);

#[cfg(feature = "_per-request")]
impl<'de, T: Deserialize<'de>> Deserialize<'de> for FromObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map))
            }
        }

        deserializer
            .deserialize_map(ObjectVisitor(PhantomData))
            .map(Self)
    }
}

impl From<Value> for Strict {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(Whole))
    }
}

/// A [`Strict`] value that is an object.
#[cfg(feature = "_per-request")]
pub(crate) struct Object(pub(crate) Map<String, Value>);

#[cfg(feature = "_per-request")]
impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict::deserialize(deserializer)?.0 {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(de::Error::custom("expected an object")),
        }
    }
}

/// Reads a value of any kind in which no object has a member twice. A text and an object can be read
/// in another way than into a [`Value`].
pub(crate) trait Read<'de>: Sized {
    type Output: From<Value>;

    fn text(self, text: &str) -> Self::Output {
        Value::from(text).into()
    }

    fn object<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Output, A::Error> {
        let buffered = is_buffered(&map);
        let mut members = Map::new();
        while let Some(name) = map.next_key_seed(Name(str::to_owned))? {
            match name {
                Some(name) => insert(&mut members, name, map.next_value()?)?,
                None => return Ok(Value::Number(number(&mut map)?).into()),
            }
        }
        Ok(object(members, buffered).into())
    }
}

/// Reads everything into a [`Value`].
struct Whole;

impl Read<'_> for Whole {
    type Output = Strict;
}

/// The visitor for a [`Read`].
pub(crate) struct Any<R>(pub(crate) R);

impl<'de, R: Read<'de>> Visitor<'de> for Any<R> {
    type Value = R::Output;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<R::Output, E> {
        Ok(Value::from(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<R::Output, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<R::Output, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<R::Output, E> {
        Ok(Value::from(value).into())
    }

    fn visit_str<E>(self, text: &str) -> Result<R::Output, E> {
        Ok(self.0.text(text))
    }

    fn visit_unit<E>(self) -> Result<R::Output, E> {
        Ok(Value::Null.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<R::Output, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::from(values).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<R::Output, A::Error> {
        self.0.object(map)
    }
}

/// The one member of the object by which `serde_json` hands over a number, where some crate in the
/// build enables its feature `arbitrary_precision`.
const NUMBER: &str = "$serde_json::private::Number";

/// Reads the name of a member with a function. `None` announces that there is no object: the value
/// is a [`number`].
///
/// An object of the sender's may have a member [`NUMBER`] as well. The deserializer tells them apart:
/// it answers a request for an option with `visit_some` for the name of a real member (a name is not
/// `null`), and with a bare text for a number. `tests/compat` would notice a change.
pub(crate) struct Name<F>(pub(crate) F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Name<F> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T, F: FnOnce(&str) -> T> Visitor<'de> for Name<F> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        let name = deserializer.deserialize_identifier(Text("the name of a member", self.0))?;
        Ok(Some(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<T>, E> {
        Ok((name != NUMBER).then(|| (self.0)(name)))
    }
}

/// Reads the number that [`Name`] announced.
pub(crate) fn number<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Number, A::Error> {
    let digits = map.next_value::<String>()?;
    digits.parse().map_err(de::Error::custom)
}

/// Returns true if the object may be a number that somebody has read before, as serde does for
/// `#[serde(flatten)]` and `#[serde(untagged)]`. An object in a text does not know its size.
pub(crate) fn is_buffered<'de>(map: &impl MapAccess<'de>) -> bool {
    map.size_hint() == Some(1)
}

/// Returns the value that an object stands for: a number, if it was one before it was buffered.
pub(crate) fn object(members: Map<String, Value>, buffered: bool) -> Value {
    if buffered
        && let Some(Value::String(digits)) = members.get(NUMBER)
        && let Ok(number) = digits.parse::<Number>()
        // Only with `arbitrary_precision` does a number keep its text, and come as an object.
        && "1.50".parse().is_ok_and(|number: Number| number.to_string() == "1.50")
    {
        return Value::Number(number);
    }
    Value::Object(members)
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
        Entry::Occupied(taken) => Err(duplicate(taken.key())),
    }
}

/// The error for a member that is there twice.
#[cold]
pub(crate) fn duplicate<E: de::Error>(name: &str) -> E {
    let name: String = name.chars().take(64).collect();
    E::custom(format_args!("{DUPLICATE_MEMBER} {:?}", Redacted(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        let Strict(value) = from_slice(b"\xef\xbb\xbf[1]").unwrap();
        assert_eq!(value, serde_json::json!([1]));
        for twice in [&b"\xef\xbb\xbf\xef\xbb\xbf1"[..], b" \xef\xbb\xbf1"] {
            assert!(from_slice::<Strict>(twice).is_err());
        }
    }

    #[test]
    fn an_object_with_the_name_of_a_number_stays_an_object() {
        for json in [
            r#"{"$serde_json::private::Number":"12"}"#,
            r#"{"$serde_json::private::Number":"12","more":1}"#,
            r#"{"$serde_json::private::Number":12}"#,
            r#"{"\u0024serde_json::private::Number":"12"}"#,
            r#"{"$serde_json::private::RawValue":"12"}"#,
        ] {
            let Strict(value) = serde_json::from_str(json).unwrap();
            assert!(value.is_object(), "{json}");
            let Strict(again) = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(again, value, "{json}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_not_json() {
        for json in [&b"\"\xff\""[..], br#""\ud800""#, br#"{"\udfff":1}"#] {
            let error = from_slice::<Strict>(json).err().unwrap();
            assert!(error.is_syntax());
        }
    }
}
