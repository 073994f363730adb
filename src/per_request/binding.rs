//! The binding of a request's body to the claims of a JWT.
//!
//! A JWT signs its claims and not the body: whoever saw one could send it with any body. So each
//! member of the body must be among the claims, with the same JSON value. The claims may have more.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};

use crate::{
    event::{Event, Member, Object, member, members},
    json::{self, Name},
    rfc3339,
};

/// Checks that the body says nothing that the claims do not say. A body of white space says nothing.
/// `json` are the claims as they were signed, `claims` the same, parsed.
///
/// Numbers are equal if they are the same decimal number, exactly: 1, 1.0 and 10e-1 are, integers
/// that a 64-bit float cannot tell apart are not.
pub(super) fn check(claims: &Event, json: &[u8], body: &[u8]) -> Result<(), &'static str> {
    let white_space = |byte: &u8| b" \t\n\r".contains(byte);
    if json::without_mark(body).iter().all(white_space) {
        return Ok(());
    }
    let mut comparison = Comparison::default();
    let read = json::from_slice_with(body, Body(claims, &mut comparison));
    if comparison.differs {
        return Err("its claims carry another event");
    }
    read.map_err(|_| "the body is not a JSON object without duplicates")?;
    if comparison.is_approximate && !has_exactly(json, body) {
        return Err("its claims carry another event");
    }
    Ok(())
}

/// The state of a comparison, which reads the body without keeping any of it.
#[derive(Default)]
struct Comparison {
    differs: bool,
    /// Some numbers are equal as 64-bit floats.
    is_approximate: bool,
}

impl Comparison {
    fn refuse<E: Error>(&mut self) -> E {
        self.differs = true;
        E::custom("another value")
    }

    fn require<E: Error>(&mut self, same: bool) -> Result<(), E> {
        if same { Ok(()) } else { Err(self.refuse()) }
    }

    fn numbers<E: Error>(&mut self, claimed: &Member<'_>, sent: &Number) -> Result<(), E> {
        let claimed = match claimed {
            Member::Number(number) => number,
            Member::Value(Value::Number(number)) => number,
            _ => return Err(self.refuse()),
        };
        let integer = |number: &Number| {
            let signed = number.as_i64().map(i128::from);
            signed.or_else(|| number.as_u64().map(i128::from))
        };
        let same = if let (Some(claimed), Some(sent)) = (integer(claimed), integer(sent)) {
            claimed == sent
        } else {
            self.is_approximate = true;
            claimed.as_f64() == sent.as_f64()
        };
        self.require(same)
    }

    /// Compares the members of an object. Unless it is the whole, the claims may have more.
    fn members<'de, A: MapAccess<'de>>(
        &mut self,
        claimed: Option<&dyn Object>,
        is_whole: bool,
        map: &mut A,
    ) -> Result<Option<Number>, A::Error> {
        // No longer than the claims, which are at most 8 KiB.
        let mut seen: Vec<&str> = Vec::new();
        while let Some(found) = map.next_key_seed(Name(|name: &str| member(claimed?, name)))? {
            let Some(found) = found else {
                return json::number(map).map(Some);
            };
            let (name, claimed) = found.ok_or_else(|| self.refuse())?;
            if seen.contains(&name) {
                return Err(json::duplicate(name));
            }
            seen.push(name);
            map.next_value_seed(Same {
                claimed,
                comparison: self,
            })?;
        }
        let all = claimed.is_some_and(|it| !is_whole || seen.len() == members(it).count());
        self.require(all)?;
        Ok(None)
    }
}

/// Compares a body with an event.
struct Body<'e, 'c>(&'e Event, &'c mut Comparison);

impl<'de> DeserializeSeed<'de> for Body<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(event, comparison) = self;
        comparison.members(Some(event), false, &mut map).map(drop)
    }
}

/// Compares a value with that of a member of the claims.
struct Same<'e, 'c> {
    claimed: Member<'e>,
    comparison: &'c mut Comparison,
}

impl<'de> DeserializeSeed<'de> for Same<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Same<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of a claim")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.comparison
            .require(matches!(self.claimed, Member::Value(Value::Null)))
    }

    fn visit_bool<E: Error>(self, sent: bool) -> Result<(), E> {
        let same = matches!(self.claimed, Member::Value(Value::Bool(claimed)) if *claimed == sent);
        self.comparison.require(same)
    }

    fn visit_i64<E: Error>(self, sent: i64) -> Result<(), E> {
        self.comparison.numbers(&self.claimed, &sent.into())
    }

    fn visit_u64<E: Error>(self, sent: u64) -> Result<(), E> {
        self.comparison.numbers(&self.claimed, &sent.into())
    }

    fn visit_f64<E: Error>(self, sent: f64) -> Result<(), E> {
        match Number::from_f64(sent) {
            Some(sent) => self.comparison.numbers(&self.claimed, &sent),
            None => Err(self.comparison.refuse()),
        }
    }

    fn visit_str<E: Error>(self, sent: &str) -> Result<(), E> {
        let same = match self.claimed {
            Member::Text(claimed) => claimed == sent,
            Member::Value(Value::String(claimed)) => claimed == sent,
            Member::Time(claimed) => {
                rfc3339::is_plain(sent) && rfc3339::parse(sent).is_ok_and(|sent| sent == claimed)
            }
            _ => false,
        };
        self.comparison.require(same)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self {
            claimed,
            comparison,
        } = self;
        let Member::Value(Value::Array(claimed)) = claimed else {
            return Err(comparison.refuse());
        };
        for value in claimed {
            let same = seq.next_element_seed(Same {
                claimed: Member::Value(value),
                comparison,
            })?;
            comparison.require(same.is_some())?;
        }
        let more = seq.next_element::<serde::de::IgnoredAny>()?;
        comparison.require(more.is_none())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            claimed,
            comparison,
        } = self;
        let object: Option<&dyn Object> = match &claimed {
            Member::Data(data) => Some(data),
            Member::Members(members) => Some(*members),
            Member::Value(Value::Object(members)) => Some(members),
            _ => None,
        };
        match comparison.members(object, true, &mut map)? {
            Some(number) => comparison.numbers(&claimed, &number),
            None => Ok(()),
        }
    }
}

/// Compares the texts of numbers as well. `serde_json` keeps 64 bits of a number, and rarely does
/// an event have one for which that is too few.
fn has_exactly(claims: &[u8], body: &[u8]) -> bool {
    let parse = |json| {
        let text = with_decimals(str::from_utf8(json::without_mark(json)).ok()?);
        json::from_slice(text.as_bytes()).ok()
    };
    match (parse(claims), parse(body)) {
        (Some(json::Object(claims)), Some(json::Object(body))) => body
            .iter()
            .all(|(name, value)| claims.get(name) == Some(value)),
        _ => false,
    }
}

/// Rewrites JSON: a number becomes a text of an `n` and its exact value, and a text begins with an
/// `s`, so that none is taken for a number.
fn with_decimals(json: &str) -> String {
    let mut written = String::with_capacity(json.len().saturating_mul(2));
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (before, token) = rest.split_at(start);
        written.push_str(before);
        let end = if let Some(text) = token.strip_prefix('"') {
            let mut escaped = false;
            let end = text.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let (text, _) = text.split_at(end.unwrap_or(text.len()));
            written.push_str("\"s");
            written.push_str(text);
            text.len().saturating_add(2)
        } else {
            let end = token.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)));
            let (number, _) = token.split_at(end.unwrap_or(token.len()));
            written.push_str("\"n");
            written.push_str(&decimal(number));
            number.len()
        };
        written.push('"');
        rest = token.get(end..).unwrap_or_default();
    }
    written.push_str(rest);
    written
}

/// Returns the one form of a decimal number: its digits without zeros around them, and the exponent
/// of the last one.
fn decimal(number: &str) -> Cow<'_, str> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return "0".into();
    }
    let zeros = digits.len().abs_diff(significant.len());
    let shift = |length| i64::try_from(length).ok();
    let exponent = exponent.parse::<i64>().ok();
    let exponent = exponent
        .and_then(|exponent| exponent.checked_sub(shift(fraction.len())?))
        .and_then(|exponent| exponent.checked_add(shift(zeros)?));
    match exponent {
        Some(exponent) => {
            let significant = significant.trim_start_matches('0');
            format!("{sign}{significant}e{exponent}").into()
        }
        // Nobody writes such a number twice, in two ways.
        None => number.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(claims: &str, body: &str) -> Result<(), &'static str> {
        let event: Event = serde_json::from_str(claims).unwrap();
        check(&event, claims.as_bytes(), body.as_bytes())
    }

    const CLAIMS: &str = r#"{"type":"video.generated","version":1,"timestamp":"2026-01-22T12:00:00.50Z",
        "data":{"id":7,"video_uri":"files/v","file_name":null,"n":[1,-2,{"a":[true,null]}],"userMetadata":{"k":"v"}},
        "user_metadata":{},"exp":1,"aud":"a"}"#;

    #[test]
    fn a_body_may_have_any_of_the_claims() {
        assert_eq!(bound(CLAIMS, CLAIMS), Ok(()));
        let Value::Object(claims) = serde_json::from_str(CLAIMS).unwrap() else {
            panic!("an object");
        };
        for (name, value) in &claims {
            let only = serde_json::json!({ name: value }).to_string();
            assert_eq!(bound(CLAIMS, &only), Ok(()), "{only}");
            let mut without = claims.clone();
            without.remove(name);
            assert_eq!(bound(CLAIMS, &Value::Object(without).to_string()), Ok(()));
        }
        for empty in ["", " \t\r\n", "\u{feff}", "\u{feff}\n", "{}", "\u{feff} {}"] {
            assert_eq!(bound(CLAIMS, empty), Ok(()), "{empty:?}");
        }
    }

    #[test]
    fn a_body_has_nothing_that_the_claims_do_not_have() {
        for (from, to) in [
            ("video.generated", "video.failed"),
            (r#""version":1"#, r#""version":"1""#),
            (r#""version":1"#, r#""version":2"#),
            (".50Z", ".5Z"),
            ("12:00:00.50Z", "13:00:00.50+01:00"),
            (r#""id":7"#, r#""id":"7""#),
            (r#""id":7,"#, ""),
            ("video_uri", "output_file_uri"),
            (r#""file_name":null,"#, ""),
            (r#""file_name":null"#, r#""file_name":false"#),
            ("[1,-2,", "[1,-2,3,"),
            ("[true,null]", "[true]"),
            ("[true,null]", "[true,null,null]"),
            ("[true,null]", "[false,null]"),
            ("[true,null]", "{}"),
            (r#"{"a":[true,null]}"#, "[]"),
            (r#"{"a":[true,null]}"#, "{}"),
            (r#"{"k":"v"}"#, r#"{"k":"w"}"#),
            (r#"{"k":"v"}"#, r#"{"k":"v","l":1}"#),
            ("userMetadata", "user_metadata"),
            (r#""user_metadata":{}"#, r#""user_metadata":null"#),
            (r#""user_metadata":{}"#, r#""userMetadata":{}"#),
            (r#""exp":1"#, r#""exp":"1""#),
            (r#""exp":1"#, r#""exp":{}"#),
            (r#""exp":1"#, r#""iat":1"#),
        ] {
            let body = CLAIMS.replacen(from, to, 1);
            assert_ne!(body, CLAIMS, "{from}");
            assert_eq!(
                bound(CLAIMS, &body),
                Err("its claims carry another event"),
                "{body}"
            );
        }
        let odd = r#"{"type":"a","$serde_json::private::Number":"1"}"#;
        assert!(bound(r#"{"type":"a"}"#, odd).is_err());
        assert_eq!(bound(odd, odd), Ok(()));
        for body in [
            "[]",
            "1",
            "x",
            r#"{"exp":1,"exp":1}"#,
            r#"{"exp":1} {}"#,
            "\u{a0}",
        ] {
            let error = bound(CLAIMS, body).unwrap_err();
            assert!(error.starts_with("the body is not"), "{body}: {error}");
        }
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let with = |number: &str| format!(r#"{{"type":"ping","s":"-1e5\\\"2","n":[{number}]}}"#);
        for same in [
            ["1", "1.0"],
            ["1", "10e-1"],
            ["0", "-0.0e7"],
            ["-12.50", "-1250E-2"],
            ["10000000000000000000000", "1e22"],
            ["18446744073709551615", "18446744073709551615.0"],
            ["0.1", "0.10"],
        ] {
            let [one, other] = same.map(with);
            assert_eq!(bound(&one, &other), Ok(()), "{same:?}");
            assert_eq!(bound(&other, &one), Ok(()), "{same:?}");
        }
        for different in [
            ["10000000000000000000000", "10000000000000000000001"],
            ["18446744073709551615", "18446744073709551616"],
            ["9007199254740992.0", "9007199254740993.0"],
            ["0.1", "0.10000000000000000001"],
            ["1", "-1"],
            ["1.5", "\"1.5\""],
            ["1.5", "\"n15e-1\""],
            ["0", "1e-9999999999999999999999"],
        ] {
            let [one, other] = different.map(with);
            assert!(bound(&one, &other).is_err(), "{different:?}");
            assert!(bound(&other, &one).is_err(), "{different:?}");
        }
    }
}
