use base64::{Engine as _, prelude::*};
use serde_json::{Value, json};

use super::{Case, envelopes};

pub(super) const COMPACT: &str = r#"{"type":"batch.failed","version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{"id":"batch_123456","error_code":"a/b","error_message":"é <b> & x='1' \"\\ , :"}}"#;
const PRETTY: &str = "{\n  \"type\": \"a\",\n  \"data\": {\n    \"id\": [\n      1,\n      2\n    ],\n    \"e\": []\n  }\n}";

/// What is signed, what arrives, and words of what is said.
pub(super) fn case(
    mistake: &'static str,
    signed: impl AsRef<[u8]>,
    arrives: impl AsRef<[u8]>,
    said: &'static str,
) -> Case {
    let body = arrives.as_ref().to_vec();
    assert_ne!(body, signed.as_ref(), "{mistake}");
    Case {
        body,
        ..Case::sent(mistake, said, signed.as_ref())
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = rewritten();
    cases.extend(encoded());
    cases.extend(envelopes::cases());
    cases.extend(lost());
    cases
}

/// Spaces after the commas and colons between tokens.
fn spaced(compact: &str) -> String {
    compact.replace("\":", "\": ").replace(",\"", ", \"")
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn rewritten() -> Vec<Case> {
    let value: Value = serde_json::from_str(COMPACT).unwrap();
    let sorted = serde_json::to_string(&value).unwrap();
    let sorted_pretty = serde_json::to_string_pretty(&value).unwrap();
    let numbers = r#"{"type":"a","data":{"n":[1,-2.50,[],{}],"s":"a\"b\\ , : c"}}"#;
    let indented = serde_json::to_string_pretty(&json!({"b": 1, "a": [1, {}]})).unwrap();
    let tabs = indented.replace("  ", "\t");
    let ascii = COMPACT.replace('é', "\\u00e9");
    let slashes = COMPACT.replace('/', "\\/");
    let html = COMPACT
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    let gson = html.replace('=', "\\u003d").replace('\'', "\\u0027");
    let nulls = r#"{"type":"batch.succeeded","version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{"id":"a","output_file_uri":null},"user_metadata":null}"#;
    let without = r#"{"type":"batch.succeeded","version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{"id":"a"}}"#;
    let sorted_nulls = serde_json::from_str::<Value>(nulls).unwrap().to_string();
    let at = |time: &str| COMPACT.replace("2026-01-22T12:00:00Z", time);
    let axum = "taken as `axum::Json<Value>`, and written again with `serde_json`";
    let layout = "parsed and written again, with or without white space";
    let time = "parsed into a struct with `time` or `chrono`, which write times in other forms";
    let escapes = "parsed and written again, with other escapes in strings (Python, PHP, Go, Gson)";
    let absent = "parsed into a struct whose `Option`s are written as `null`";
    vec![
        case(axum, COMPACT, &sorted, "exactly what `serde_json` writes"),
        case(axum, spaced(COMPACT), &sorted, "it had a space after"),
        case(
            axum,
            COMPACT,
            &sorted_pretty,
            "exactly what `serde_json` writes",
        ),
        case(
            axum,
            at("2026-01-22T12:00:00.000Z"),
            &sorted,
            "exactly what `serde_json` writes",
        ),
        case(
            "the same, of an event with members in an order that is not known",
            r#"{"z":0,"data":{"id":"batch_123456"},"type":"batch.failed"}"#,
            r#"{"data":{"id":"batch_123456"},"type":"batch.failed","z":0}"#,
            "the body is exactly what `serde_json` writes: it was probably parsed",
        ),
        case(layout, COMPACT, spaced(COMPACT), "it had no white space"),
        case(
            layout,
            spaced(COMPACT),
            COMPACT,
            "it had a space after each comma",
        ),
        case(
            layout,
            PRETTY,
            PRETTY.replace(['\n', ' '], ""),
            "it was indented",
        ),
        case(layout, tabs, &indented, "it was indented"),
        case(
            layout,
            numbers,
            numbers.replace(",\"", " ,\r\n\""),
            "it had no white space",
        ),
        case(
            layout,
            format!("{numbers}\n"),
            spaced(numbers),
            "the line break at its end",
        ),
        case(
            time,
            COMPACT,
            at("2026-01-22T12:00:00+00:00"),
            "its times were written in another form",
        ),
        case(
            time,
            COMPACT,
            at("2026-01-22 12:00:00.0 +00:00:00"),
            "its times",
        ),
        case(
            time,
            at("2026-01-22T12:00:00.120Z"),
            at("2026-01-22T12:00:00.12Z"),
            "its times",
        ),
        case(
            time,
            at("2026-01-22T12:00:00.123456+00:00"),
            at("2026-01-22 12:00:00.123456 UTC"),
            "its times",
        ),
        case(absent, without, nulls, "members without a value were added"),
        case(
            absent,
            without,
            sorted_nulls,
            "members without a value were added",
        ),
        case(
            absent,
            r#"{"a":1,"c":{}}"#,
            r#"{"x":null,"a":1,"b":null,"c":{"d":null}}"#,
            "without a value",
        ),
        case(
            escapes,
            &ascii,
            COMPACT,
            "its non-ASCII characters were escaped (\\u00e9)",
        ),
        case(escapes, COMPACT, &ascii, "its characters were not escaped"),
        case(
            escapes,
            COMPACT.replace('é', "\\u00E9"),
            COMPACT,
            "upper case",
        ),
        case(
            escapes,
            r#"{"id":"\ud83d\ude00"}"#,
            "{\"id\":\"\u{1f600}\"}",
            "non-ASCII",
        ),
        case(escapes, &slashes, COMPACT, "its slashes were escaped"),
        case(
            escapes,
            COMPACT,
            &slashes,
            "its characters were not escaped",
        ),
        case(
            escapes,
            ascii.replace('/', "\\/"),
            COMPACT,
            "its slashes and non-ASCII",
        ),
        case(escapes, &html, COMPACT, "as Go does"),
        case(escapes, COMPACT, &html, "its characters were not escaped"),
        case(escapes, &gson, COMPACT, "as Gson does"),
        case(escapes, COMPACT, &gson, "its characters were not escaped"),
        case(
            escapes,
            &ascii,
            spaced(COMPACT),
            "it had no white space, its non-ASCII",
        ),
    ]
}

fn utf_16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn encoded() -> Vec<Case> {
    let line = format!("{COMPACT}\n");
    let marked = format!("\u{feff}{COMPACT}");
    let crlf = PRETTY.replace('\n', "\r\n");
    let latin: String = COMPACT.bytes().map(char::from).collect();
    let euro = COMPACT.replace('é', "€");
    let garbled = euro.replace('€', "\u{e2}\u{201a}\u{ac}");
    let mut single = COMPACT.replace('é', "\u{1}").into_bytes();
    single
        .iter_mut()
        .filter(|byte| **byte == 1)
        .for_each(|byte| *byte = 0xe9);
    let base64 = BASE64_STANDARD.encode(COMPACT);
    let wrapped = |width: usize, end: &str| {
        let lines = base64.as_bytes().chunks(width);
        let lines: Vec<_> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
        lines.join(end) + end
    };
    let chunks = |size: usize| {
        let chunks = COMPACT.as_bytes().chunks(size);
        let framed = chunks
            .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        [framed.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat()
    };
    let added = "white space, a line break or a byte order mark added or removed";
    let breaks = "line breaks changed between LF and CR LF";
    let coded = "encoded with base64: padded or not, in lines, url-safe";
    let charset = "decoded as Latin-1 or Windows-1252, or encoded as it";
    let utf16 = "encoded as UTF-16";
    let framed = "read from the socket: HTTP chunks, the request's head, or the rest of a buffer";
    vec![
        case(added, COMPACT, &line, "a line break was added"),
        case(
            added,
            &line,
            COMPACT,
            "the line break at its end was removed",
        ),
        case(
            added,
            COMPACT,
            format!("{COMPACT}\r\n"),
            "a line break was added",
        ),
        case(
            added,
            format!("{COMPACT}\r\n"),
            COMPACT,
            "the line break at its end",
        ),
        case(
            added,
            COMPACT,
            format!("  {COMPACT} \n"),
            "white space was added around it",
        ),
        case(added, COMPACT, &marked, "a byte order mark was added"),
        case(added, &marked, COMPACT, "the byte order mark was removed"),
        case(breaks, PRETTY, &crlf, "changed to CR LF"),
        case(breaks, &crlf, PRETTY, "changed to LF"),
        case(charset, COMPACT, latin, "it was decoded as Latin-1"),
        case(charset, &euro, garbled, "it was decoded as Windows-1252"),
        case(charset, COMPACT, single, "it was encoded as Windows-1252"),
        case(
            utf16,
            COMPACT,
            utf_16(COMPACT, u16::to_le_bytes),
            "little-endian",
        ),
        case(
            utf16,
            COMPACT,
            utf_16(COMPACT, u16::to_be_bytes),
            "big-endian",
        ),
        case(
            utf16,
            COMPACT,
            utf_16(&marked, u16::to_le_bytes),
            "little-endian",
        ),
        case(
            utf16,
            COMPACT,
            utf_16(&marked, u16::to_be_bytes),
            "big-endian",
        ),
        case(coded, COMPACT, &base64, "it was encoded with base64"),
        case(
            coded,
            COMPACT,
            base64.trim_end_matches('='),
            "it was encoded with base64",
        ),
        case(
            coded,
            COMPACT,
            BASE64_URL_SAFE.encode(COMPACT),
            "it was encoded with base64",
        ),
        case(
            coded,
            COMPACT,
            wrapped(64, "\n"),
            "it was encoded with base64",
        ),
        case(
            coded,
            COMPACT,
            wrapped(76, "\r\n"),
            "it was encoded with base64",
        ),
        case(framed, COMPACT, chunks(usize::MAX), "HTTP chunks"),
        case(framed, COMPACT, chunks(50), "HTTP chunks"),
        case(
            framed,
            COMPACT,
            format!("POST /webhook HTTP/1.1\r\nHost: a\r\n\r\n{COMPACT}"),
            "the head of its HTTP request",
        ),
        case(framed, COMPACT, format!("{COMPACT}\0\0\0"), "NUL bytes"),
        case(
            "written with `{:?}`",
            COMPACT,
            format!("b\"{}\"", COMPACT.as_bytes().escape_ascii()),
            "`Debug` output of the bytes",
        ),
        case(
            "escaped for HTML",
            COMPACT,
            COMPACT
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;"),
            "escaped for HTML",
        ),
    ]
}

/// Changes that lose what the original was.
fn lost() -> Vec<Case> {
    let value: Value = serde_json::from_str(COMPACT).unwrap();
    vec![
        case(
            "compressed with gzip",
            COMPACT,
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
            "compressed with gzip",
        ),
        case(
            "compressed with zlib",
            COMPACT,
            b"\x78\x9c\xab\x56",
            "`Content-Encoding: deflate`",
        ),
        case(
            "compressed with zstd",
            COMPACT,
            b"\x28\xb5\x2f\xfd\x04\x00",
            "compressed with zstd",
        ),
        case(
            "turned into text by JavaScript",
            COMPACT,
            "[object Object]",
            "`[object Object]`",
        ),
        case(
            "a parsed value written with `{:?}`",
            COMPACT,
            format!("{value:?}"),
            "`Debug` output of a parsed value",
        ),
        case(
            "decoded with `String::from_utf8_lossy`, or another decoder that replaces what it can't decode",
            b"{\"type\":\"\xe9\"}",
            "{\"type\":\"\u{fffd}\"}",
            "replacement characters",
        ),
        case(
            "cut off",
            COMPACT,
            &COMPACT[..100],
            "ends in the middle of its JSON",
        ),
        case(
            "encoded in a character set that lacks some of its characters",
            r#"{"type":"a","data":{"error_message":"Zeile ungültig"}}"#,
            r#"{"type":"a","data":{"error_message":"Zeile ung?ltig"}}"#,
            "a `?` inside a word",
        ),
    ]
}
