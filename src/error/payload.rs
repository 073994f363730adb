use std::fmt;

use serde::de::Error as _;
use serde_json::error::Category;

use crate::{
    event::{NO_TYPE, TYPE_IS_NO_TEXT},
    json::DUPLICATE_MEMBER,
};

/// An authenticated payload is not an event, or not of the type that was asked for.
///
/// The sender is genuine, so this is not an [`Error`](crate::Error). The application chooses whether
/// to acknowledge such a delivery and look at it later, or to let Google retry it.
///
/// A payload is no event if it is not JSON, not an object, has a member twice at any depth, has no
/// `type` that is a text, or is nested deeper than 127 levels. `Display` tells which, and the line
/// and column. [`source`](std::error::Error::source) tells the rest, as a [`serde_json::Error`]. No
/// value of the payload is shown: a job token may be among them.
#[derive(Debug)]
pub struct PayloadError {
    expected: &'static str,
    problem: &'static str,
    source: serde_json::Error,
}

impl PayloadError {
    /// The error for a payload that is not an event.
    pub(crate) fn not_an_event(error: serde_json::Error) -> Self {
        let message = error.to_string();
        let known = [DUPLICATE_MEMBER, NO_TYPE, TYPE_IS_NO_TEXT];
        let known = known.into_iter().find(|known| message.starts_with(known));
        Self {
            expected: "an event",
            problem: malformed(&error, &message)
                .or(known)
                .unwrap_or("not an object"),
            source: if known.is_some() {
                error
            } else {
                without_values(error, &message)
            },
        }
    }

    /// The error for a payload that is not of the caller's type.
    pub(crate) fn another_type(error: serde_json::Error) -> Self {
        let message = error.to_string();
        Self {
            expected: "of the type that was asked for",
            problem: malformed(&error, &message).unwrap_or("unexpected data"),
            source: without_values(error, &message),
        }
    }
}

/// Returns the problem of a text that is no JSON.
fn malformed(error: &serde_json::Error, message: &str) -> Option<&'static str> {
    match error.classify() {
        Category::Data => None,
        _ if message.starts_with("recursion limit exceeded") => Some("nested too deep"),
        _ => Some("not JSON"),
    }
}

/// Leaves out what an error quotes of the payload.
///
/// Errors in the syntax quote nothing. Those of a type's `Deserialize` are made by serde, in known
/// forms, or by the type, in any: of the latter nothing is kept but the place.
fn without_values(error: serde_json::Error, message: &str) -> serde_json::Error {
    if error.classify() != Category::Data {
        return error;
    }
    // The place is at the end, and `custom` reads it there.
    let place = match error.line() {
        0 => String::new(),
        line => format!(" at line {line} column {}", error.column()),
    };
    // The type's own names. They are not the sender's.
    if message.starts_with("missing field `") {
        return error;
    }
    let forms = [
        "invalid type",
        "invalid value",
        "invalid length",
        "unknown variant",
        "unknown field",
        "duplicate field",
    ];
    let Some(form) = forms.into_iter().find(|form| message.starts_with(form)) else {
        return serde_json::Error::custom(format_args!("a value was refused{place}"));
    };
    // The value, if there is one, comes before what was expected.
    let message = message.strip_suffix(&place).unwrap_or(message);
    let expected = match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!(", expected {expected}"),
        None => String::new(),
    };
    serde_json::Error::custom(format_args!("{form}{expected}{place}"))
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            problem,
            source,
        } = self;
        write!(f, "the payload is not {expected}: {problem}")?;
        match source.line() {
            0 => Ok(()),
            line => write!(f, " at line {line} column {}", source.column()),
        }
    }
}

impl std::error::Error for PayloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, error::Error as _};

    use serde::Deserialize;

    use super::*;
    use crate::{Event, json};

    fn not_an_event(json: &[u8]) -> PayloadError {
        PayloadError::not_an_event(json::from_slice::<Event>(json).unwrap_err())
    }

    #[test]
    fn an_error_tells_the_problem_and_the_place() {
        let deep = format!("{{\"type\":\"ping\",\"a\":{}", "[".repeat(200));
        for (json, problem) in [
            ("", "not JSON at line 1 column 0"),
            ("{\n \"type\":", "not JSON at line 2 column 8"),
            ("[1]", "not an object at line 1 column 0"),
            ("{}", "no `type` at line 1 column 2"),
            (r#"{"type":1}"#, "`type` is not a text at line 1 column 10"),
            (
                r#"{"type":"ping","data":{"a":1},"data":1}"#,
                "duplicate member at line 1 column 36",
            ),
            (&deep, "nested too deep at line 1 column 146"),
            (r#"{"type":"\ud800"}"#, "not JSON at line 1 column 16"),
            (r#"{"type":"ping"} 1"#, "not JSON at line 1 column 17"),
        ] {
            assert_eq!(
                not_an_event(json.as_bytes()).to_string(),
                format!("the payload is not an event: {problem}")
            );
        }
        let error = not_an_event(b"{\"type\":\"\xff\"}").to_string();
        assert!(error.contains("not JSON at line 1 column"), "{error}");
        let source = not_an_event(br#"{"type":"ping","a":{"b":1,"b":2}}"#);
        assert_eq!(
            source.source().unwrap().to_string(),
            r#"duplicate member "b" at line 1 column 32"#
        );
    }

    #[test]
    fn an_error_shows_no_value() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Strict {
            #[serde(rename = "a")]
            _a: Option<Variant>,
            #[serde(rename = "n")]
            _n: Option<u8>,
            #[serde(rename = "ip")]
            _ip: Option<Ip>,
        }
        #[derive(Debug, Deserialize)]
        enum Variant {
            Known,
        }
        #[derive(Debug)]
        struct Ip;
        impl<'de> Deserialize<'de> for Ip {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Err(D::Error::custom(format!("not an address: {text}")))
            }
        }
        fn look(error: &PayloadError) -> String {
            let shown = format!("{error} {error:?} {:?}", error.source());
            assert!(!shown.contains("gwj1_"), "{shown}");
            assert!(!shown.contains("4711"), "{shown}");
            error.source().unwrap().to_string()
        }
        look(&not_an_event(br#""gwj1_AAAA""#));
        look(&not_an_event(b"4711"));
        look(&not_an_event(br#"{"type":{"a":"gwj1_AAAA"}}"#));
        look(&not_an_event(br#"{"gwj1_AAAA":1,"gwj1_AAAA":1}"#));
        look(&not_an_event(br#"{"type":"gwj1_AAAA" "#));
        assert_eq!(Variant::Known as u8, 0);
        for (json, source) in [
            (
                r#"{"a":"gwj1_AAAA, expected \"\\\" x"}"#,
                "unknown variant, expected `Known` at line 1 column 35",
            ),
            (
                r#"{"n":"gwj1_AAAA, expected nothing"}"#,
                "invalid type, expected u8 at line 1 column 34",
            ),
            (
                r#"{"n":4711}"#,
                "invalid value, expected u8 at line 1 column 9",
            ),
            (
                r#"{"gwj1_AAAA":1}"#,
                "unknown field, expected one of `a`, `n`, `ip` at line 1 column 12",
            ),
            (
                r#"{"ip":"gwj1_AAAA"}"#,
                "a value was refused at line 1 column 18",
            ),
        ] {
            let error = json::from_slice::<Strict>(json.as_bytes()).unwrap_err();
            let error = PayloadError::another_type(error);
            assert_eq!(look(&error), source);
        }
        let error = json::from_slice::<BTreeMap<String, u8>>(br#"{"a":"gwj1_AAAA"}"#);
        look(&PayloadError::another_type(error.unwrap_err()));
    }
}
