//! The same JSON, written in another way.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value;

use super::suspicion::is_written_by_serde_json;
use crate::diagnose::search::{Ended, MAX_BODY, Search};

mod members;
mod times;

use members::MEMBERS;
use times::{TIMES, Time};

/// Tries each way to write the same JSON.
pub(super) fn originals(body: &[u8], search: &mut Search<'_>) -> Result<(), Ended> {
    let Some(tokens) = str::from_utf8(body).ok().and_then(tokens) else {
        return Ok(());
    };
    let arrived = LAYOUTS.iter().position(|layout| {
        let mut written = String::new();
        write(&mut written, &tokens, layout.white_space, &STRINGS[0], None);
        written.as_bytes() == body
    });
    let has_times = tokens.iter().any(|token| Time::parse(token).is_some());
    for members in &MEMBERS {
        let Some(text) = (members.undo)(&tokens) else {
            continue;
        };
        let Some(tokens) = self::tokens(&text) else {
            continue;
        };
        for times in TIMES.iter().take(if has_times { TIMES.len() } else { 1 }) {
            for strings in &STRINGS {
                for (position, layout) in LAYOUTS.iter().enumerate() {
                    let mut written = String::new();
                    let white_space = layout.white_space;
                    if write(&mut written, &tokens, white_space, strings, times.form).is_none() {
                        search.spend(written.len())?;
                        continue;
                    }
                    // What it has in common with the one that arrived was not changed.
                    let layout = if arrived == Some(position) {
                        ""
                    } else {
                        layout.text
                    };
                    for (end, ended) in ENDS {
                        written.push_str(end);
                        search.attempt(written.as_bytes(), || {
                            let parts = [members.text, times.text, layout, strings.text, ended];
                            describe(&parts, body)
                        })?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn describe(parts: &[&str], body: &[u8]) -> String {
    let parts: Vec<_> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    let mut text = format!("it was parsed and written again: {}", parts.join(", "));
    if is_written_by_serde_json(body) {
        text.push_str(
            "; it is exactly what `serde_json` writes (`axum::Json<Value>`, `serde_json::to_vec`)",
        );
    }
    text
}

/// They are appended one after the other.
const ENDS: [(&str, &str); 2] = [("", ""), ("\n", "the line break at its end was removed")];

struct Layout {
    text: &'static str,
    white_space: WhiteSpace,
}

/// White space between tokens.
#[derive(Clone, Copy)]
enum WhiteSpace {
    None,
    /// Of Python's `json.dumps`.
    Spaces,
    Indented(&'static str),
}

static LAYOUTS: [Layout; 5] = [
    Layout {
        text: "it had no white space",
        white_space: WhiteSpace::None,
    },
    Layout {
        text: "it had a space after each comma and colon",
        white_space: WhiteSpace::Spaces,
    },
    Layout {
        text: "it was indented",
        white_space: WhiteSpace::Indented("  "),
    },
    Layout {
        text: "it was indented",
        white_space: WhiteSpace::Indented("    "),
    },
    Layout {
        text: "it was indented",
        white_space: WhiteSpace::Indented("\t"),
    },
];

/// The way to write the characters of strings.
struct Strings {
    text: &'static str,
    /// `None` to leave them as they are.
    escape: Option<fn(char) -> Escape>,
}

enum Escape {
    No,
    Slash,
    Lower,
    Upper,
}

static STRINGS: [Strings; 8] = [
    Strings {
        text: "",
        escape: None,
    },
    Strings {
        text: "its characters were not escaped",
        escape: Some(|_| Escape::No),
    },
    // Of Python's `json.dumps`.
    Strings {
        text: "its non-ASCII characters were escaped (\\u00e9)",
        escape: Some(|c| {
            if c.is_ascii() {
                Escape::No
            } else {
                Escape::Lower
            }
        }),
    },
    Strings {
        text: "its non-ASCII characters were escaped in upper case (\\u00E9)",
        escape: Some(|c| {
            if c.is_ascii() {
                Escape::No
            } else {
                Escape::Upper
            }
        }),
    },
    Strings {
        text: "its slashes were escaped (\\/)",
        escape: Some(|c| if c == '/' { Escape::Slash } else { Escape::No }),
    },
    // Of PHP's `json_encode`.
    Strings {
        text: "its slashes and non-ASCII characters were escaped (\\/, \\u00e9)",
        escape: Some(|c| match c {
            '/' => Escape::Slash,
            c if c.is_ascii() => Escape::No,
            _ => Escape::Lower,
        }),
    },
    // Of Go's `encoding/json`.
    Strings {
        text: "its <, > and & were escaped (\\u003c), as Go does",
        escape: Some(|c| match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => Escape::Lower,
            _ => Escape::No,
        }),
    },
    Strings {
        text: "its <, >, &, = and ' were escaped (\\u003d), as Gson does",
        escape: Some(|c| match c {
            '<' | '>' | '&' | '=' | '\'' | '\u{2028}' | '\u{2029}' => Escape::Lower,
            _ => Escape::No,
        }),
    },
];

impl Strings {
    /// `token` is a string with its quotation marks.
    fn write(&self, token: &str, out: &mut String) -> Option<()> {
        let Some(escape) = self.escape else {
            out.push_str(token);
            return Some(());
        };
        let text: String = serde_json::from_str(token).ok()?;
        for c in Value::from(text).to_string().chars() {
            match escape(c) {
                Escape::No => out.push(c),
                Escape::Slash => out.push_str("\\/"),
                Escape::Lower => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").ok()?;
                    }
                }
                Escape::Upper => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04X}").ok()?;
                    }
                }
            }
        }
        Some(())
    }
}

/// As deep as `serde_json` reads a value. Indented, a body that is as deep as it is long would have the
/// square of its length.
const MAX_DEPTH: usize = 127;

/// A string, a number or a name as it stands, or one of `{}[],:`. `None` where it is no JSON, or nested
/// more deeply than [`MAX_DEPTH`].
fn tokens(text: &str) -> Option<Vec<&str>> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut depth = 0_usize;
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
        match first {
            '{' | '[' => depth = depth.saturating_add(1),
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return None;
        }
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

/// Writes the tokens. `None` where a string can't be written this way, or that would be longer than
/// [`MAX_BODY`].
fn write(
    out: &mut String,
    tokens: &[&str],
    white_space: WhiteSpace,
    strings: &Strings,
    form: Option<times::Form>,
) -> Option<()> {
    let mut depth = 0_usize;
    let line = |out: &mut String, depth: usize| {
        if let WhiteSpace::Indented(indent) = white_space {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent, depth));
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
            line(out, depth);
        }
        if token.starts_with('"') {
            let time = form.and_then(|form| Time::parse(token)?.write(form));
            let token = time.map_or(Cow::Borrowed(*token), Cow::Owned);
            strings.write(&token, out)?;
        } else {
            out.push_str(token);
        }
        match (*token, white_space) {
            ("{" | "[", _) => depth = depth.saturating_add(1),
            (",", WhiteSpace::Spaces) | (":", WhiteSpace::Spaces | WhiteSpace::Indented(_)) => {
                out.push(' ');
            }
            (",", WhiteSpace::Indented(_)) => line(out, depth),
            _ => {}
        }
        if out.len() > MAX_BODY {
            return None;
        }
        previous = token;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(tokens(&nested(MAX_DEPTH)).is_some());
        assert!(tokens(&nested(MAX_DEPTH + 1)).is_none());
        // Indented, each element takes 500 bytes.
        let deep = "[".repeat(MAX_DEPTH) + "0" + &",0".repeat(30_000) + &"]".repeat(MAX_DEPTH);
        let tokens = tokens(&deep).unwrap();
        let mut written = String::new();
        assert!(write(&mut written, &tokens, WhiteSpace::None, &STRINGS[0], None).is_some());
        assert_eq!(written, deep);
        written.clear();
        let indented = WhiteSpace::Indented("    ");
        assert!(write(&mut written, &tokens, indented, &STRINGS[0], None).is_none());
        assert!(written.len() < MAX_BODY + 1024, "{}", written.len());
    }
}
