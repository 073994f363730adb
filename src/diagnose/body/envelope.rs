//! JSON that has the body inside.

use serde_json::Value;

use super::encodings;
use crate::{
    diagnose::search::{Ended, Search},
    event::Event,
};

/// The places where services put a body into JSON of theirs, as JSON pointers (RFC 6901).
static PLACES: [(&str, &str); 11] = [
    ("", "it was put into JSON"),
    (
        "/body",
        "it is the `body` in an event of an AWS Lambda function, or in another JSON object",
    ),
    ("/message/data", "it is the `data` of a Pub/Sub message"),
    (
        "/Records/0/body",
        "it is the `body` in an event of Amazon SQS",
    ),
    (
        "/Records/0/Sns/Message",
        "it is the `Message` in an event of Amazon SNS",
    ),
    ("/Message", "it is the `Message` of Amazon SNS"),
    (
        "/detail",
        "it is the `detail` of an event of Amazon EventBridge",
    ),
    (
        "/data",
        "it is the `data` in a JSON object, such as a CloudEvent or a `Buffer` of Node.js",
    ),
    ("/data_base64", "it is the `data_base64` of a CloudEvent"),
    ("/payload", "it is the `payload` in a JSON object"),
    ("/raw", "it is the `raw` in a JSON object"),
];

/// Strings that are tried, wherever they are.
const MAX_STRINGS: usize = 64;

/// Tries what is inside the body as the body.
pub(super) fn contents(body: &[u8], search: &mut Search<'_>) -> Result<(), Ended> {
    let Ok(envelope) = serde_json::from_slice::<Value>(body) else {
        return Ok(());
    };
    for (pointer, place) in PLACES {
        let inside = envelope.pointer(pointer);
        // An object by itself has nothing around it.
        if let Some(value) = inside.filter(|value| !pointer.is_empty() || !value.is_object()) {
            content(value, place, search)?;
        }
    }
    let mut left = MAX_STRINGS;
    strings(&envelope, &mut left, search)
}

fn content(value: &Value, place: &str, search: &mut Search<'_>) -> Result<(), Ended> {
    let mut attempt =
        |original: &[u8], form: &str| search.attempt(original, || format!("{place}, {form}"));
    match value {
        Value::String(text) => {
            attempt(text.as_bytes(), "as a string")?;
            if let Some(decoded) = encodings::from_base64(text.as_bytes()) {
                attempt(&decoded, "in base64")?;
            }
            if let Ok(twice) = serde_json::from_str::<String>(text) {
                attempt(twice.as_bytes(), "as a string, twice")?;
            }
        }
        Value::Array(numbers) => {
            let byte = |number: &Value| u8::try_from(number.as_u64()?).ok();
            if let Some(bytes) = numbers.iter().map(byte).collect::<Option<Vec<_>>>() {
                attempt(&bytes, "as a list of numbers")?;
            }
        }
        Value::Object(_) => {
            if let Ok(event) = serde_json::from_value::<Event>(value.clone())
                && let Ok(written) = serde_json::to_vec(&event)
            {
                attempt(&written, "parsed")?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Tries each string. The depth is bounded by the parser's.
fn strings(value: &Value, left: &mut usize, search: &mut Search<'_>) -> Result<(), Ended> {
    match value {
        Value::String(_) if *left > 0 => {
            *left = left.saturating_sub(1);
            content(value, "it is inside other JSON", search)
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| strings(item, left, search)),
        Value::Object(members) => members
            .values()
            .try_for_each(|member| strings(member, left, search)),
        _ => Ok(()),
    }
}
