use std::fmt;

use crate::{error::Error, signature::SignatureEntries};

/// The names of the three headers, in the order of [`WebhookHeaders::new`].
pub(crate) const NAMES: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// The three headers of a delivery (Standard Webhooks 1.0.0), well formed and borrowed from the
/// request.
///
/// With the feature `http`, an `&http::HeaderMap` can be given to
/// [`Verifier::verify`](crate::Verifier::verify) in its place. Where a framework has header types
/// of its own, use [`from_pairs`](Self::from_pairs), which also notices a header given twice.
///
/// Well formed means:
/// - `webhook-id`: 1 to 256 visible ASCII characters without a full stop, which the signed content
///   uses as its separator
/// - `webhook-timestamp`: Unix seconds in decimal digits, without a sign, a leading zero or a
///   fraction, at most 2⁶³ - 1
/// - `webhook-signature`: at most 8 KiB of printable ASCII, 1 to 16 entries separated by spaces, at least
///   one of them of the form `version,signature` or a compact JWT
#[derive(Clone, Copy)]
pub struct WebhookHeaders<'a> {
    id: &'a str,
    timestamp: &'a [u8],
    unix_timestamp: i64,
    signatures: SignatureEntries<'a>,
}

impl<'a> WebhookHeaders<'a> {
    /// Takes the values of `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidHeader`] for a value that is not well formed.
    ///
    /// ```
    /// use gemini_webhooks::WebhookHeaders;
    ///
    /// let headers = WebhookHeaders::new(
    ///     "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    ///     "1649367553",
    ///     "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    /// )?;
    /// assert_eq!(headers.id(), "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk");
    /// # Ok::<(), gemini_webhooks::Error>(())
    /// ```
    pub fn new(
        id: &'a (impl AsRef<[u8]> + ?Sized),
        timestamp: &'a (impl AsRef<[u8]> + ?Sized),
        signature: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Result<Self, Error> {
        Self::from_values(id.as_ref(), timestamp.as_ref(), signature.as_ref())
    }

    /// Finds the three headers among all of a request's. Names are compared without regard to
    /// case.
    ///
    /// # Errors
    ///
    /// [`Error::MissingHeader`], [`Error::DuplicateHeader`], or [`Error::InvalidHeader`] for a
    /// value that is not well formed.
    ///
    /// ```
    /// use gemini_webhooks::WebhookHeaders;
    ///
    /// let request = [
    ///     ("Content-Type", "application/json"),
    ///     ("Webhook-Id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
    ///     ("Webhook-Timestamp", "1649367553"),
    ///     ("Webhook-Signature", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
    /// ];
    /// let headers = WebhookHeaders::from_pairs(request)?;
    /// # Ok::<(), gemini_webhooks::Error>(())
    /// ```
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, &'a V)>) -> Result<Self, Error>
    where
        N: AsRef<str>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        Self::find(pairs, |name, wanted| {
            name.as_ref().eq_ignore_ascii_case(wanted)
        })
    }

    /// `is` tells whether a name is the wanted one, which is in lower case.
    fn find<N, V: AsRef<[u8]> + ?Sized + 'a>(
        pairs: impl IntoIterator<Item = (N, &'a V)>,
        is: impl Fn(&N, &str) -> bool,
    ) -> Result<Self, Error> {
        let mut values = [None; 3];
        for (name, value) in pairs {
            for (wanted, found) in NAMES.into_iter().zip(&mut values) {
                if is(&name, wanted) && found.replace(value.as_ref()).is_some() {
                    return Err(Error::DuplicateHeader { name: wanted });
                }
            }
        }
        let [id, timestamp, signature] = NAMES;
        let [found_id, found_timestamp, found_signature] = values;
        Self::from_values(
            found_id.ok_or(Error::MissingHeader { name: id })?,
            found_timestamp.ok_or(Error::MissingHeader { name: timestamp })?,
            found_signature.ok_or(Error::MissingHeader { name: signature })?,
        )
    }

    fn from_values(id: &'a [u8], timestamp: &'a [u8], signature: &'a [u8]) -> Result<Self, Error> {
        let [id_name, timestamp_name, signature_name] = NAMES;
        let invalid = |name| move |reason| Error::InvalidHeader { name, reason };
        Ok(Self {
            id: parse_id(id).map_err(invalid(id_name))?,
            timestamp,
            unix_timestamp: parse_timestamp(timestamp).map_err(invalid(timestamp_name))?,
            signatures: SignatureEntries::parse(signature).map_err(invalid(signature_name))?,
        })
    }

    /// `webhook-id`: the same for all attempts of a delivery, and so its idempotency key.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// What `v1` and `v1a` sign: `{webhook-id}.{webhook-timestamp}.{raw body}`, in its parts.
    pub(crate) const fn signed_content<'b>(&self, body: &'b [u8]) -> [&'b [u8]; 5]
    where
        'a: 'b,
    {
        [self.id.as_bytes(), b".", self.timestamp, b".", body]
    }

    /// `webhook-timestamp` in Unix seconds, not negative.
    pub(crate) const fn unix_timestamp(&self) -> i64 {
        self.unix_timestamp
    }

    pub(crate) const fn signatures(&self) -> SignatureEntries<'a> {
        self.signatures
    }
}

/// Leaves the signatures out: whoever reads one in a log within the replay window can send it.
impl fmt::Debug for WebhookHeaders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookHeaders")
            .field("id", &self.id)
            .field("timestamp", &self.unix_timestamp)
            .field("signatures", &self.signatures.offered())
            .finish()
    }
}

impl<'a> From<&WebhookHeaders<'a>> for WebhookHeaders<'a> {
    fn from(headers: &WebhookHeaders<'a>) -> Self {
        *headers
    }
}

/// Fails as [`WebhookHeaders::from_pairs`] does.
#[cfg(feature = "http")]
impl<'a> TryFrom<&'a http::HeaderMap> for WebhookHeaders<'a> {
    type Error = Error;

    fn try_from(map: &'a http::HeaderMap) -> Result<Self, Error> {
        // A few dozen headers are walked through in less time than three names are hashed in. The
        // names of a map are in lower case.
        Self::find(map, |name, wanted| name.as_str() == wanted)
    }
}

fn parse_id(value: &[u8]) -> Result<&str, &'static str> {
    if value.is_empty() {
        return Err("it is empty");
    }
    if value.len() > 256 {
        return Err("it is longer than 256 bytes");
    }
    // Visible: control characters and spaces would reach logs and stores, where an id is a key.
    // No full stop: else `a.1` at 2 and `a` at 1 with `2.` before its body would be signed alike.
    // Without an early end, the loop takes 16 bytes at a time.
    let good = |good, byte: &u8| good & (byte.is_ascii_graphic() && *byte != b'.');
    match str::from_utf8(value) {
        Ok(id) if value.iter().fold(true, good) => Ok(id),
        _ if value.contains(&b'.') => {
            Err("it has a full stop, which separates the parts of the signed content")
        }
        _ => Err("it has characters that are not visible ASCII"),
    }
}

/// Only the canonical form: the text is signed as it stands, the number is what is checked.
fn parse_timestamp(value: &[u8]) -> Result<i64, &'static str> {
    const NOT_A_NUMBER: &str = "it is not a whole number of Unix seconds in decimal digits";
    match value {
        [] => return Err(NOT_A_NUMBER),
        [b'0', _, ..] => return Err("it has a leading zero"),
        _ => {}
    }
    // 19 digits fit into 64 bits, so that nothing wraps.
    let (digits, beyond) = value.split_at(value.len().min(19));
    let mut seconds: u64 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return Err(NOT_A_NUMBER);
        }
        seconds = seconds
            .wrapping_mul(10)
            .wrapping_add(u64::from(byte & 0x0f));
    }
    match i64::try_from(seconds) {
        Ok(seconds) if beyond.is_empty() => Ok(seconds),
        _ if beyond.iter().all(u8::is_ascii_digit) => Err("it is beyond 64 bits"),
        _ => Err(NOT_A_NUMBER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "v1,AAAA";

    fn with_id(id: &str) -> Result<(), String> {
        WebhookHeaders::new(id, "1", SIGNATURE)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn with_timestamp(timestamp: &str) -> Result<i64, String> {
        WebhookHeaders::new("a", timestamp, SIGNATURE)
            .map(|headers| headers.unix_timestamp())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_id_is_visible_ascii_without_a_full_stop() {
        assert!(with_id("msg_0f9c-~!").is_ok());
        assert!(with_id(&"a".repeat(256)).is_ok());
        for (id, reason) in [
            (String::new(), "it is empty"),
            ("a".repeat(257), "it is longer than 256 bytes"),
            (
                "a.b".into(),
                "it has a full stop, which separates the parts of the signed content",
            ),
            ("a b".into(), "it has characters that are not visible ASCII"),
            ("a\n".into(), "it has characters that are not visible ASCII"),
            (
                "a\u{e9}".into(),
                "it has characters that are not visible ASCII",
            ),
        ] {
            let message = format!("the header webhook-id is malformed: {reason}");
            assert_eq!(with_id(&id), Err(message));
        }
    }

    #[test]
    fn a_timestamp_has_only_its_canonical_form() {
        assert_eq!(with_timestamp("0"), Ok(0));
        assert_eq!(with_timestamp("1780000000"), Ok(1_780_000_000));
        assert_eq!(with_timestamp("9223372036854775807"), Ok(i64::MAX));
        for timestamp in [
            "",
            "-1",
            "+1",
            "00",
            "01",
            "1.0",
            " 1",
            "1 ",
            "1e9",
            "0x1",
            "\u{661}",
            "1\0",
            "9223372036854775808",
            "-9223372036854775808",
            "18446744073709551616",
        ] {
            assert!(with_timestamp(timestamp).is_err(), "{timestamp:?}");
        }
        assert!(
            with_timestamp(&"9".repeat(40))
                .unwrap_err()
                .contains("beyond 64 bits")
        );
    }

    #[test]
    fn names_are_found_in_any_case_and_any_order() {
        let pairs = [
            ("WEBHOOK-SIGNATURE", SIGNATURE),
            ("Webhook-Id", "a"),
            ("webhook-timestamp", "1"),
        ];
        assert_eq!(WebhookHeaders::from_pairs(pairs).unwrap().id(), "a");
    }

    #[test]
    fn a_header_absent_or_given_twice_is_named() {
        let all = [
            ("webhook-id", "a"),
            ("webhook-timestamp", "1"),
            ("webhook-signature", SIGNATURE),
        ];
        for (position, (name, value)) in all.into_iter().enumerate() {
            let others = all.into_iter().filter(|(other, _)| *other != name);
            let error = WebhookHeaders::from_pairs(others).unwrap_err();
            assert_eq!(
                error,
                Error::MissingHeader {
                    name: NAMES[position]
                }
            );

            let twice = all.into_iter().chain([(name, value)]);
            let error = WebhookHeaders::from_pairs(twice).unwrap_err();
            assert_eq!(
                error,
                Error::DuplicateHeader {
                    name: NAMES[position]
                }
            );
        }
    }

    #[cfg(feature = "http")]
    #[test]
    fn a_header_map_is_read_like_pairs() {
        let mut map = http::HeaderMap::new();
        for (name, value) in NAMES.into_iter().zip(["a", "1", SIGNATURE]) {
            let error = WebhookHeaders::try_from(&map).unwrap_err();
            assert_eq!(error, Error::MissingHeader { name });
            map.insert(name, value.parse().unwrap());
        }
        assert_eq!(WebhookHeaders::try_from(&map).unwrap().id(), "a");
        for name in NAMES {
            let mut twice = map.clone();
            twice.append(name, map[name].clone());
            let error = WebhookHeaders::try_from(&twice).unwrap_err();
            assert_eq!(error, Error::DuplicateHeader { name });
        }
    }

    #[test]
    fn debug_output_holds_no_signature() {
        let headers = WebhookHeaders::new("a", "1", "v1,c2VjcmV0").unwrap();
        let shown = format!("{headers:?}");
        assert!(
            shown.contains("v1") && !shown.contains("c2VjcmV0"),
            "{shown}"
        );
    }
}
