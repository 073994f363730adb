//! Bodies from which something on the way may have made the one that arrived.

use std::borrow::Cow;

use super::search::{Ended, MAX_BODY, MAX_PARSED, Search};

mod encodings;
mod envelope;
mod rewritten;
mod suspicion;

pub(super) use suspicion::suspicion;

/// A change that can be undone without knowing the body's meaning.
struct Change {
    /// The change to the body.
    text: &'static str,
    undo: fn(&[u8]) -> Option<Cow<'_, [u8]>>,
}

/// In the order in which they are tried.
static CHANGES: [Change; 24] = [
    Change {
        text: "a line break was added at its end",
        undo: |body| borrowed(body.strip_suffix(b"\n")?),
    },
    Change {
        text: "a line break was added at its end",
        undo: |body| borrowed(body.strip_suffix(b"\r\n")?),
    },
    Change {
        text: "white space was added around it",
        undo: |body| borrowed(body.trim_ascii()),
    },
    Change {
        text: "the line break at its end was removed",
        undo: |body| owned([body, b"\n"].concat()),
    },
    Change {
        text: "the line break at its end was removed",
        undo: |body| owned([body, b"\r\n"].concat()),
    },
    Change {
        text: "a byte order mark was added",
        undo: |body| borrowed(body.strip_prefix(BYTE_ORDER_MARK)?),
    },
    Change {
        text: "the byte order mark was removed",
        undo: |body| owned([BYTE_ORDER_MARK, body].concat()),
    },
    Change {
        text: "NUL bytes were added at its end, as of a buffer that it did not fill",
        undo: |body| borrowed(encodings::without_zeros(body)?),
    },
    Change {
        text: "its line breaks were changed to CR LF",
        undo: |body| owned(encodings::text(body)?.replace("\r\n", "\n").into()),
    },
    Change {
        text: "its line breaks were changed to LF",
        undo: |body| {
            let unix = encodings::text(body)?.replace("\r\n", "\n");
            owned(unix.replace('\n', "\r\n").into())
        },
    },
    Change {
        text: "it was encoded with base64",
        undo: |body| owned(encodings::from_base64(body)?),
    },
    Change {
        text: "it was decoded as Latin-1",
        undo: |body| owned(encodings::to_latin_1(body)?),
    },
    Change {
        text: "it was decoded as Windows-1252",
        undo: |body| owned(encodings::to_windows_1252(body)?),
    },
    Change {
        text: "it was encoded as Windows-1252 or Latin-1",
        undo: |body| owned(encodings::from_windows_1252(body)?),
    },
    Change {
        text: "it was encoded as UTF-16 (little-endian)",
        undo: |body| owned(encodings::from_utf_16(body, u16::from_le_bytes)?),
    },
    Change {
        text: "it was encoded as UTF-16 (big-endian)",
        undo: |body| owned(encodings::from_utf_16(body, u16::from_be_bytes)?),
    },
    Change {
        text: "it still has the framing of HTTP chunks",
        undo: |body| owned(encodings::from_chunks(body)?),
    },
    Change {
        text: "the head of its HTTP request is in front of it",
        undo: |body| borrowed(encodings::after_head(body)?),
    },
    Change {
        text: "it was sent as a field of a form (`payload=...`)",
        undo: |body| owned(encodings::form_value(body)?),
    },
    Change {
        text: "it was sent as a form, as the name of a field (`...=`)",
        undo: |body| owned(encodings::form_name(body)?),
    },
    Change {
        text: "it was percent-encoded",
        undo: |body| owned(crate::encoding::percent_decode(body)?),
    },
    Change {
        text: "it is Rust's `Debug` output of the bytes (`b\"...\"`)",
        undo: |body| owned(encodings::from_debug(body)?),
    },
    Change {
        text: "its quotation marks were escaped for HTML (`&quot;`)",
        undo: |body| owned(encodings::from_html(body)?),
    },
    Change {
        text: "its quotation marks were escaped (`\\\"`)",
        undo: |body| owned(encodings::unescaped(body)?),
    },
];

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[expect(
    clippy::unnecessary_wraps,
    reason = "a row of the table returns an option"
)]
fn borrowed(original: &[u8]) -> Option<Cow<'_, [u8]>> {
    Some(Cow::Borrowed(original))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a row of the table returns an option"
)]
fn owned(original: Vec<u8>) -> Option<Cow<'static, [u8]>> {
    Some(Cow::Owned(original))
}

/// Looks for the original of a body, one copy of it at a time.
pub(super) fn originals(body: &[u8], search: &mut Search<'_>) -> Result<(), Ended> {
    if body.len() > MAX_BODY {
        return Err(Ended::Exceeded);
    }
    for change in &CHANGES {
        if let Some(original) = (change.undo)(body) {
            search.attempt(&original, || change.text.to_owned())?;
        }
    }
    if body.len() > MAX_PARSED {
        return Err(Ended::Exceeded);
    }
    envelope::contents(body, search)?;
    rewritten::originals(body, search)
}
