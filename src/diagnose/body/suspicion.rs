//! Changes that lose what the original was.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::diagnose::search::MAX_PARSED;

/// A change that can be recognized, and not undone.
struct Suspicion {
    /// The change, and what to check.
    text: &'static str,
    is_in: fn(&[u8]) -> bool,
}

/// The most certain first.
static SUSPICIONS: [Suspicion; 9] = [
    Suspicion {
        text: "the body is compressed with gzip: verify what the sender signed, which may be the \
               body before compression; check `Content-Encoding` and what stands in front",
        is_in: |body| body.starts_with(b"\x1f\x8b"),
    },
    Suspicion {
        text: "the body is compressed with zlib (`Content-Encoding: deflate`): verify what the sender signed, which may be the \
               body before compression; check `Content-Encoding` and what stands in front",
        is_in: is_zlib,
    },
    Suspicion {
        text: "the body is compressed with zstd: verify what the sender signed, which may be the \
               body before compression; check `Content-Encoding` and what stands in front",
        is_in: |body| body.starts_with(b"\x28\xb5\x2f\xfd"),
    },
    Suspicion {
        text: "the body is `[object Object]`: JavaScript turned a parsed body into text; forward the raw \
               bytes",
        is_in: |body| body.trim_ascii().starts_with(b"[object Object]"),
    },
    Suspicion {
        text: "the body is Rust's `Debug` output of a parsed value (`Object {...}`): take the raw bytes",
        is_in: |body| body.starts_with(b"Object {") || body.starts_with(b"Json("),
    },
    Suspicion {
        text: "the body has replacement characters (U+FFFD): something decoded it with losses, as \
               `String::from_utf8_lossy` does; take the raw bytes",
        is_in: |body| body.windows(3).any(|three| three == REPLACEMENT),
    },
    Suspicion {
        text: "the body ends in the middle of its JSON: check the limit on its size, `Content-Length`, and \
               that all of it is read before `verify`",
        is_in: |body| {
            let read = serde_json::from_slice::<IgnoredAny>(body);
            !body.is_empty() && read.is_err_and(|error| error.is_eof())
        },
    },
    Suspicion {
        text: "the body is exactly what `serde_json` writes: it was probably parsed and serialized again \
               before verification (`axum::Json<Value>`, `serde_json::to_vec`); take the raw bytes \
               (`axum::body::Bytes`)",
        is_in: is_written_by_serde_json,
    },
    Suspicion {
        text: "the body has a `?` inside a word: a character may have been lost that an encoding lacks; \
               check the character set of whatever decodes it on the way, and take the raw bytes",
        is_in: |body| body.is_ascii() && body.split(|byte| !is_in_word(*byte)).any(has_lost_one),
    },
];

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Returns what seems to have happened to the body, and what to check.
pub(in crate::diagnose) fn suspicion(body: &[u8]) -> Option<&'static str> {
    let found = SUSPICIONS.iter().find(|suspicion| (suspicion.is_in)(body));
    found.map(|suspicion| suspicion.text)
}

/// The header of RFC 1950, section 2.2: deflate, with a checksum.
fn is_zlib(body: &[u8]) -> bool {
    let [method @ 0x78, flags, ..] = body else {
        return false;
    };
    u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
}

/// Returns true for the bytes that `serde_json` writes for the value that it parses from them, with
/// members sorted: compact or pretty. Google's events do not begin with `data`.
pub(super) fn is_written_by_serde_json(body: &[u8]) -> bool {
    if body.len() > MAX_PARSED {
        return false;
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    // A feature of `serde_json` keeps the order, so that it says nothing of who wrote it.
    let is_evidence = value.as_object().is_some_and(|members| members.len() > 1);
    let written = |bytes: serde_json::Result<Vec<u8>>| bytes.is_ok_and(|bytes| bytes == body);
    is_evidence
        && is_sorted(&value)
        && (written(serde_json::to_vec(&value)) || written(serde_json::to_vec_pretty(&value)))
}

fn is_sorted(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.keys().is_sorted() && members.values().all(is_sorted),
        Value::Array(items) => items.iter().all(is_sorted),
        _ => true,
    }
}

/// Not in an address, whose query begins with a question mark.
fn is_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"?/:=&.-_".contains(&byte)
}

fn has_lost_one(word: &[u8]) -> bool {
    let is_address = word.iter().any(|byte| b"/:=&".contains(byte));
    let has_lost =
        |two: &[u8]| matches!(two, [b'?', next] if *next == b'?' || next.is_ascii_alphanumeric());
    !is_address && word.windows(2).any(has_lost)
}
