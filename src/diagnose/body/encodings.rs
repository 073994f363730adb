//! Other ways to write the same bytes.

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

use crate::encoding;

/// UTF-8 with a line break in it.
pub(super) fn text(body: &[u8]) -> Option<&str> {
    str::from_utf8(body).ok().filter(|text| text.contains('\n'))
}

/// From base64 or base64url, padded or not, in one line or several.
pub(super) fn from_base64(body: &[u8]) -> Option<Vec<u8>> {
    // JSON is never base64, and needs no copy.
    if body.contains(&b'{') {
        return None;
    }
    let digits = body.iter().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Vec<u8> = digits
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        })
        .collect();
    let end = digits.iter().rposition(|byte| *byte != b'=')?;
    BASE64_STANDARD_NO_PAD.decode(digits.get(..=end)?).ok()
}

/// The bytes of UTF-8 that was taken for Latin-1, and encoded as UTF-8 again.
pub(super) fn to_latin_1(body: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(body).ok().filter(|text| !text.is_ascii())?;
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

/// As [`to_latin_1`].
pub(super) fn to_windows_1252(body: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(body).ok().filter(|text| !text.is_ascii())?;
    let byte = |c: char| match HIGH.chars().position(|high| high == c) {
        Some(position) => u8::try_from(position.checked_add(0x80)?).ok(),
        None => u8::try_from(c).ok(),
    };
    text.chars().map(byte).collect()
}

pub(super) fn from_windows_1252(body: &[u8]) -> Option<Vec<u8>> {
    if str::from_utf8(body).is_ok() {
        return None;
    }
    let decoded = body.iter().map(|byte| {
        let high = byte.checked_sub(0x80).map(usize::from);
        let high = high.and_then(|position| HIGH.chars().nth(position));
        high.unwrap_or(char::from(*byte))
    });
    Some(decoded.collect::<String>().into_bytes())
}

/// The characters 0x80 to 0x9f of Windows-1252, where it differs from Latin-1; those that it lacks as
/// the control characters that browsers take them for.
const HIGH: &str = "\u{20ac}\u{81}\u{201a}\u{192}\u{201e}\u{2026}\u{2020}\u{2021}\
    \u{2c6}\u{2030}\u{160}\u{2039}\u{152}\u{8d}\u{17d}\u{8f}\
    \u{90}\u{2018}\u{2019}\u{201c}\u{201d}\u{2022}\u{2013}\u{2014}\
    \u{2dc}\u{2122}\u{161}\u{203a}\u{153}\u{9d}\u{17e}\u{178}";

pub(super) fn from_utf_16(body: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Vec<u8>> {
    let (units, rest) = body.as_chunks::<2>();
    // JSON begins with an ASCII character, one of whose two bytes is zero.
    if !rest.is_empty() || !body.contains(&0) {
        return None;
    }
    let units = units.iter().map(|bytes| unit(*bytes));
    let units = units
        .enumerate()
        .filter_map(|(position, unit)| (position > 0 || unit != 0xfeff).then_some(unit));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.ok().map(String::into_bytes)
}

/// The content of chunks (RFC 9112, section 7.1).
pub(super) fn from_chunks(body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let mut rest = body;
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let (size, after) = rest.split_at_checked(end)?;
        let size = size.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            return Some(content).filter(|content| !content.is_empty());
        }
        let (chunk, after) = after.strip_prefix(b"\r\n")?.split_at_checked(size)?;
        content.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
}

pub(super) fn after_head(body: &[u8]) -> Option<&[u8]> {
    let first = body.first().filter(|byte| byte.is_ascii_uppercase());
    let end = first.and_then(|_| body.windows(4).position(|four| four == b"\r\n\r\n"))?;
    body.get(end..)?.strip_prefix(b"\r\n\r\n")
}

/// The value of the first field of a form.
pub(super) fn form_value(body: &[u8]) -> Option<Vec<u8>> {
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (name, value) = body.split_at_checked(equals)?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !name.iter().all(is_name) {
        return None;
    }
    let value = value.strip_prefix(b"=")?;
    // What is not encoded may have an ampersand of its own.
    let encoded = value.split(|byte| *byte == b'&').next()?;
    Some(form_decoded(encoded).unwrap_or_else(|| value.to_vec()))
}

/// Of a form that is one name without a value, as JSON becomes that is sent as a form.
pub(super) fn form_name(body: &[u8]) -> Option<Vec<u8>> {
    let name = body.strip_suffix(b"=")?;
    Some(form_decoded(name).unwrap_or_else(|| name.to_vec()))
}

fn form_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let spaced = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte });
    encoding::percent_decode(&spaced.collect::<Vec<_>>())
}

/// From `b"..."`, as `[u8]::escape_ascii` and the `Debug` of `bytes::Bytes` write it.
pub(super) fn from_debug(body: &[u8]) -> Option<Vec<u8>> {
    let mut escaped = body.strip_prefix(b"b\"")?.strip_suffix(b"\"")?.iter();
    let mut bytes = Vec::with_capacity(escaped.len());
    while let Some(byte) = escaped.next() {
        bytes.push(match byte {
            b'\\' => match escaped.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let digits = [*escaped.next()?, *escaped.next()?];
                    u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => *other,
            },
            byte => *byte,
        });
    }
    Some(bytes)
}

pub(super) fn from_html(body: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(body).ok()?;
    let quoted = ["&quot;", "&#34;", "&#x22;"];
    if !quoted.iter().any(|quote| text.contains(quote)) {
        return None;
    }
    let text = quoted
        .into_iter()
        .fold(text.to_owned(), |text, quote| text.replace(quote, "\""));
    let others = [
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    let text = others
        .into_iter()
        .fold(text, |text, (from, to)| text.replace(from, to));
    Some(text.into_bytes())
}

/// The content of a JSON string without the quotation marks around it.
pub(super) fn unescaped(body: &[u8]) -> Option<Vec<u8>> {
    if !body.windows(2).any(|two| two == b"\\\"") {
        return None;
    }
    let quoted = [b"\"", body, b"\""].concat();
    let text: String = serde_json::from_slice(&quoted).ok()?;
    Some(text.into_bytes())
}

pub(super) fn without_zeros(body: &[u8]) -> Option<&[u8]> {
    let end = body.iter().rposition(|byte| *byte != 0)?;
    body.get(..=end)
}
