//! What something on the way, or the sender, made of the three headers.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use crate::{attempt::NAMES, encoding, rfc3339};

/// In bytes. Dates of RFC 2822 may hold nested comments.
const MAX_DATE: usize = 64;

/// The values of the three headers, in the order of [`NAMES`], which may be there any number of times.
pub(super) struct Headers([Vec<String>; 3]);

/// A form of the names that something gave the headers.
struct Renaming {
    text: &'static str,
    /// Returns the right name for one in lower case.
    undo: fn(&str) -> Option<String>,
}

static RENAMINGS: [Renaming; 4] = [
    Renaming {
        text: "the headers are named svix-id, svix-timestamp and svix-signature: the sender has to name \
               them webhook-id, webhook-timestamp and webhook-signature",
        undo: |name| Some(format!("webhook-{}", name.strip_prefix("svix-")?)),
    },
    Renaming {
        text: "the headers are named like variables of CGI or WSGI (HTTP_WEBHOOK_ID): name them webhook-id, \
               webhook-timestamp and webhook-signature for `verify`",
        undo: |name| Some(name.strip_prefix("http_")?.replace('_', "-")),
    },
    Renaming {
        text: "the headers are named with underscores (webhook_id): name them webhook-id, webhook-timestamp \
               and webhook-signature",
        undo: |name| name.contains('_').then(|| name.replace('_', "-")),
    },
    Renaming {
        text: "the headers are named with `x-` in front (x-webhook-id): name them webhook-id, \
               webhook-timestamp and webhook-signature",
        undo: |name| name.strip_prefix("x-").map(str::to_owned),
    },
];

/// A change of the values of some headers.
struct Change {
    text: &'static str,
    headers: &'static [usize],
    undo: fn(&str) -> Option<String>,
}

const ID: usize = 0;
const TIMESTAMP: usize = 1;
const SIGNATURE: usize = 2;

/// In the order in which they are undone. None of them can be undone in what may verify as it is.
static CHANGES: [Change; 14] = [
    Change {
        text: "the values of the headers have quotation marks, as `{:?}` writes them: take \
               `HeaderValue::as_bytes` or `to_str`",
        headers: &[ID, TIMESTAMP, SIGNATURE],
        undo: |value| Some(value.strip_prefix('"')?.strip_suffix('"')?.to_owned()),
    },
    Change {
        text: "the values of the headers have white space around them: trim them",
        headers: &[ID, TIMESTAMP],
        undo: |value| Some(value.trim().to_owned()),
    },
    Change {
        text: "webhook-timestamp counts milliseconds: whole seconds are expected",
        headers: &[TIMESTAMP],
        undo: |value| seconds(value, 13),
    },
    Change {
        text: "webhook-timestamp counts microseconds: whole seconds are expected",
        headers: &[TIMESTAMP],
        undo: |value| seconds(value, 16),
    },
    Change {
        text: "webhook-timestamp counts nanoseconds: whole seconds are expected",
        headers: &[TIMESTAMP],
        undo: |value| seconds(value, 19),
    },
    Change {
        text: "webhook-timestamp has a fraction: whole seconds are expected",
        headers: &[TIMESTAMP],
        undo: |value| seconds(value.split_once('.')?.0, 10),
    },
    Change {
        text: "webhook-timestamp is a date: Unix seconds are expected",
        headers: &[TIMESTAMP],
        undo: |value| {
            if value.len() > MAX_DATE {
                return None;
            }
            let time = rfc3339::parse(value).or_else(|_| OffsetDateTime::parse(value, &Rfc2822));
            Some(time.ok()?.unix_timestamp().to_string())
        },
    },
    Change {
        text: "webhook-signature is percent-encoded: take the value as it was received",
        headers: &[SIGNATURE],
        undo: |value| String::from_utf8(encoding::percent_decode(value.as_bytes())?).ok(),
    },
    Change {
        text: "webhook-signature is in hexadecimal: `v1,` and base64 is expected",
        headers: &[SIGNATURE],
        undo: from_hex,
    },
    Change {
        text: "webhook-signature has spaces where base64 has `+`: something decoded it as a form; take the \
               value as it was received",
        headers: &[SIGNATURE],
        undo: from_spaces,
    },
    Change {
        text: "webhook-signature has `=` after the version: `v1,` and base64 is expected",
        headers: &[SIGNATURE],
        undo: |value| {
            let (version, rest) = value.split_once('=')?;
            matches!(version, "v1" | "v1a").then(|| format!("{version},{rest}"))
        },
    },
    Change {
        text: "webhook-signature has no version: `v1,` and base64 is expected",
        headers: &[SIGNATURE],
        undo: |value| {
            let mut buffer = [0; 66];
            match encoding::decode(value.as_bytes(), &mut buffer)?.len() {
                32 => Some(format!("v1,{value}")),
                64 => Some(format!("v1a,{value}")),
                _ => None,
            }
        },
    },
    Change {
        text: "webhook-signature has several entries joined by commas: a space is expected between them",
        headers: &[SIGNATURE],
        undo: |value| {
            let split = value.replace(",v1,", " v1,").replace(",v1a,", " v1a,");
            // What is left of an entry without a version is none of ours.
            (split != value && !split.starts_with(' ')).then_some(split)
        },
    },
    Change {
        text: "webhook-signature is in base64url: base64 has `+` and `/` in the place of `-` and `_`",
        headers: &[SIGNATURE],
        undo: |value| {
            let is_ours = |entry: &&str| entry.starts_with("v1,") || entry.starts_with("v1a,");
            let mut ours = value.split(' ').filter(is_ours);
            ours.any(|entry| entry.contains(['-', '_']))
                .then(|| value.replace('-', "+").replace('_', "/"))
        },
    },
];

impl Headers {
    /// Takes names in lower case. Returns the headers and what was wrong with their names.
    pub(super) fn find(pairs: &[(String, &[u8])]) -> (Self, Vec<&'static str>) {
        let values = |named: &dyn Fn(&str) -> bool| -> Vec<String> {
            let found = pairs.iter().filter(|(name, _)| named(name));
            found
                .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                .collect()
        };
        let mut wrong = Vec::new();
        let found = NAMES.map(|wanted| {
            let found = values(&|name| name == wanted);
            if !found.is_empty() {
                return found;
            }
            let renamed = RENAMINGS.iter().find_map(|renaming| {
                let is_wanted = |name: &str| (renaming.undo)(name).as_deref() == Some(wanted);
                let found = values(&is_wanted);
                (!found.is_empty()).then_some((found, renaming.text))
            });
            renamed.map_or_else(Vec::new, |(found, text)| {
                if !wrong.contains(&text) {
                    wrong.push(text);
                }
                found
            })
        });
        (Self(found), wrong)
    }

    /// Undoes whatever is known to happen, and adds it to the list. `None` if a header is absent, or
    /// has several values of which one has to be chosen.
    pub(super) fn repair(self, wrong: &mut Vec<&'static str>) -> Option<[String; 3]> {
        let Self([id, timestamp, signature]) = self;
        let mut values = [
            one(id, wrong)?,
            one(timestamp, wrong)?,
            joined(signature, wrong)?,
        ];
        for change in &CHANGES {
            for header in change.headers {
                if let Some(value) = values.get_mut(*header)
                    && let Some(undone) = (change.undo)(value)
                    && undone != *value
                {
                    *value = undone;
                    if !wrong.contains(&change.text) {
                        wrong.push(change.text);
                    }
                }
            }
        }
        Some(values)
    }
}

fn one(mut values: Vec<String>, wrong: &mut Vec<&'static str>) -> Option<String> {
    let last = values.pop()?;
    if values.iter().any(|value| *value != last) {
        return None;
    }
    if !values.is_empty() {
        wrong.push("a header is there twice, with the same value: let a proxy replace what is there already");
    }
    Some(last)
}

/// The lines of `webhook-signature` as one.
fn joined(values: Vec<String>, wrong: &mut Vec<&'static str>) -> Option<String> {
    let is_whole = |value: &String| value.contains(',') || value.matches('.').count() == 2;
    if values.iter().all(|value| Some(value) == values.first()) {
        return one(values, wrong);
    }
    if values.iter().all(is_whole) {
        wrong.push("webhook-signature has several lines: join them with a space");
        return Some(values.join(" "));
    }
    wrong.push("webhook-signature was split at its commas: take the value as it was received");
    Some(values.join(","))
}

/// Returns the first ten digits of this many: those of the seconds, from 2001 to 2286.
fn seconds(value: &str, digits: usize) -> Option<String> {
    let is_number = value.len() == digits && value.bytes().all(|byte| byte.is_ascii_digit());
    value.get(..10).filter(|_| is_number).map(str::to_owned)
}

fn from_hex(value: &str) -> Option<String> {
    let prefixes = ["v1a,", "v1,", "v1=", "sha256=", ""];
    let digits = prefixes
        .iter()
        .find_map(|prefix| value.strip_prefix(prefix))?;
    let bytes = unhex(digits)?;
    let version = match bytes.len() {
        32 => "v1",
        64 => "v1a",
        _ => return None,
    };
    Some(format!("{version},{}", BASE64_STANDARD.encode(bytes)))
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| {
        // `from_str_radix` would take a sign.
        let pair = str::from_utf8(pair).ok()?;
        let digits = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        digits.then(|| u8::from_str_radix(pair, 16).ok())?
    };
    pairs.iter().map(byte).collect()
}

/// Joins pieces without a version to the entry in front of them, if that makes a whole signature.
fn from_spaces(value: &str) -> Option<String> {
    let mut entries: Vec<String> = Vec::new();
    for piece in value.split(' ') {
        let starts = piece.starts_with("v1,") || piece.starts_with("v1a,");
        match entries.last_mut() {
            Some(entry) if !starts => {
                entry.push('+');
                entry.push_str(piece);
            }
            _ => entries.push(piece.to_owned()),
        }
    }
    let is_whole = |entry: &String| {
        let mut buffer = [0; 66];
        let signature = entry.split_once(',').map(|(_, signature)| signature);
        let decoded = signature.and_then(|it| encoding::decode(it.as_bytes(), &mut buffer));
        decoded.is_some_and(|bytes| matches!(bytes.len(), 32 | 64))
    };
    entries.iter().all(is_whole).then(|| entries.join(" "))
}
