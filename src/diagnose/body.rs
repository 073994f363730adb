//! What the body may have been before something parsed it and wrote it again.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::event::Event;

/// Larger ones are not tried: some hundred times their size would be signed.
const MAX_BODY: usize = 1 << 20;

/// Bodies from which this one may have been made, and what was done to them.
pub(super) fn originals(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> {
    let text = str::from_utf8(body).unwrap_or_default();
    let (bytes, text) = if body.len() > MAX_BODY {
        (&[][..], "")
    } else {
        (body, text)
    };
    whole(bytes, text)
        .into_iter()
        .map(|(original, change)| (original, change.to_owned()))
        .chain(rewritten(text))
        .chain(reordered(bytes))
}

/// Changes that do not depend on what is in the body.
fn whole(body: &[u8], text: &str) -> Vec<(Vec<u8>, &'static str)> {
    let mut originals = Vec::new();
    let mut add = |original: Option<Vec<u8>>, change| {
        originals.extend(original.map(|original| (original, change)));
    };
    let with_end = |end: &[u8]| Some([body, end].concat());
    add(
        body.strip_suffix(b"\n").map(Into::into),
        "a line break was added at its end",
    );
    add(
        body.strip_suffix(b"\r\n").map(Into::into),
        "a line break was added at its end",
    );
    add(
        Some(body.trim_ascii().into()),
        "white space was added around it",
    );
    add(with_end(b"\n"), "the line break at its end was removed");
    add(with_end(b"\r\n"), "the line break at its end was removed");
    let mark = "\u{feff}".as_bytes();
    add(
        body.strip_prefix(mark).map(Into::into),
        "a byte order mark was added",
    );
    add(
        Some([mark, body].concat()),
        "the byte order mark was removed",
    );
    if text.contains('\n') {
        add(
            Some(text.replace("\r\n", "\n").into()),
            "its line breaks were changed to CR LF",
        );
        let unix = text.replace("\r\n", "\n");
        add(
            Some(unix.replace('\n', "\r\n").into()),
            "its line breaks were changed to LF",
        );
    }
    add(
        BASE64_STANDARD.decode(body).ok(),
        "it was encoded with base64",
    );
    let quoted = serde_json::from_slice::<String>(body).ok();
    add(quoted.map(Into::into), "it was put into a JSON string");
    let latin: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    add(latin, "it was decoded as Latin-1");
    originals
}

/// The same JSON, written in another way.
fn rewritten(text: &str) -> impl Iterator<Item = (Vec<u8>, String)> {
    let tokens = tokens(text);
    LAYOUTS.into_iter().flat_map(move |layout| {
        let tokens = tokens.clone();
        STRINGS.into_iter().flat_map(move |strings| {
            let written = tokens
                .as_deref()
                .and_then(|tokens| write(tokens, layout, strings));
            ENDS.into_iter().filter_map(move |end| {
                let change = [layout.change(), strings.change(), end.1];
                let change: Vec<_> = change.into_iter().filter(|part| !part.is_empty()).collect();
                let change = format!("it was parsed and written again: {}", change.join(", "));
                Some((
                    format!("{}{}", written.as_ref()?, end.0).into_bytes(),
                    change,
                ))
            })
        })
    })
}

/// The members in the order in which the service documents them.
fn reordered(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, String)> {
    let event = serde_json::from_slice::<Event>(body).ok();
    let original = event.and_then(|event| serde_json::to_vec(&event).ok());
    let change = "it was parsed and written again: the order of its members was changed";
    original
        .map(|original| (original, change.to_owned()))
        .into_iter()
}

const ENDS: [(&str, &str); 2] = [("", ""), ("\n", "the line break at its end was removed")];

/// White space between tokens.
#[derive(Clone, Copy)]
enum Layout {
    Compact,
    /// Of Python's `json.dumps`.
    Spaced,
    Indented(usize),
}

const LAYOUTS: [Layout; 4] = [
    Layout::Compact,
    Layout::Spaced,
    Layout::Indented(2),
    Layout::Indented(4),
];

impl Layout {
    const fn change(self) -> &'static str {
        match self {
            Self::Compact => "it had no white space",
            Self::Spaced => "it had a space after each comma and colon",
            Self::Indented(_) => "it was indented",
        }
    }
}

/// Characters in strings.
#[derive(Clone, Copy)]
enum Strings {
    AsTheyAre,
    Plain,
    /// Of Python's `json.dumps`.
    Ascii,
    Slashes,
    /// Of PHP's `json_encode`.
    AsciiSlashes,
    /// Of Go's `encoding/json`.
    Html,
}

const STRINGS: [Strings; 6] = [
    Strings::AsTheyAre,
    Strings::Plain,
    Strings::Ascii,
    Strings::Slashes,
    Strings::AsciiSlashes,
    Strings::Html,
];

impl Strings {
    const fn change(self) -> &'static str {
        match self {
            Self::AsTheyAre => "",
            Self::Plain => "its characters were not escaped",
            Self::Ascii => "its non-ASCII characters were escaped (\\u00e9)",
            Self::Slashes => "its slashes were escaped (\\/)",
            Self::AsciiSlashes => {
                "its slashes and non-ASCII characters were escaped (\\/, \\u00e9)"
            }
            Self::Html => "its <, > and & were escaped (\\u003c)",
        }
    }

    /// `token` is a string with its quotation marks.
    fn write(self, token: &str, out: &mut String) -> Option<()> {
        if matches!(self, Self::AsTheyAre) {
            out.push_str(token);
            return Some(());
        }
        let text: String = serde_json::from_str(token).ok()?;
        for c in Value::from(text).to_string().chars() {
            let (ascii, slashes) = match self {
                Self::Ascii => (true, false),
                Self::Slashes => (false, true),
                Self::AsciiSlashes => (true, true),
                _ => (false, false),
            };
            let html = matches!(self, Self::Html)
                && matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
            if html || ascii && !c.is_ascii() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").ok()?;
                }
            } else if slashes && c == '/' {
                out.push_str("\\/");
            } else {
                out.push(c);
            }
        }
        Some(())
    }
}

/// A string, a number or a name as it stands, or one of `{}[],:`. `None` where it is no JSON.
fn tokens(text: &str) -> Option<Vec<&str>> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut tokens = Vec::new();
    let mut rest = text.trim_ascii_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest)?,
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => rest
                .find(|c: char| c.is_ascii_whitespace() || "{}[],:".contains(c))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at_checked(length)?;
        tokens.push(token);
        rest = after.trim_ascii_start();
    }
    Some(tokens)
}

fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map(|(position, _)| position.saturating_add(1))
}

fn write(tokens: &[&str], layout: Layout, strings: Strings) -> Option<String> {
    let mut out = String::new();
    let mut depth = 0_usize;
    let line = |out: &mut String, depth: usize| {
        if let Layout::Indented(width) = layout {
            out.push('\n');
            out.push_str(&" ".repeat(depth.saturating_mul(width)));
        }
    };
    let mut previous = "";
    for token in tokens {
        let closes = matches!(*token, "}" | "]");
        let opened = matches!(previous, "{" | "[");
        if closes {
            depth = depth.saturating_sub(1);
        }
        // An empty object or array has nothing inside.
        if opened != closes {
            line(&mut out, depth);
        }
        if token.starts_with('"') {
            strings.write(token, &mut out)?;
        } else {
            out.push_str(token);
        }
        match (*token, layout) {
            ("{" | "[", _) => depth = depth.saturating_add(1),
            (",", Layout::Spaced) | (":", Layout::Spaced | Layout::Indented(_)) => out.push(' '),
            (",", Layout::Indented(_)) => line(&mut out, depth),
            _ => {}
        }
        previous = token;
    }
    Some(out)
}
