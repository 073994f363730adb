use std::fmt;

use crate::error::Error;

mod signatures;

pub(crate) use signatures::{SignatureEntries, SignatureEntry};

/// The names of the three headers, in the order of [`Attempt::new`].
pub(crate) const NAMES: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// One HTTP attempt to deliver: its three headers (Standard Webhooks 1.0.0), well formed and
/// borrowed from the request, and its URI where that was given.
///
/// With the feature `http`, [`Verifier::verify`](crate::Verifier::verify) takes `&http::request::Parts`,
/// `(&http::HeaderMap, &http::Uri)` or `&http::HeaderMap` in its place. Where a framework has header
/// types of its own, use [`from_pairs`](Self::from_pairs), which also notices a header given twice.
///
/// Well formed means:
/// - `webhook-id`: 1 to 256 visible ASCII characters without a full stop, which the signed content
///   uses as its separator
/// - `webhook-timestamp`: Unix seconds in decimal digits, without a sign, a leading zero or a
///   fraction, at most 2⁶³ - 1
/// - `webhook-signature`: at most 8 KiB of printable ASCII, 1 to 16 entries separated by spaces, or by
///   a comma and a space where a proxy joined two lines, at least one of them of the form
///   `version,signature` or a compact JWT
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    id: &'a str,
    timestamp: &'a [u8],
    unix_timestamp: i64,
    signatures: SignatureEntries<'a>,
    /// The query of the request's URI, empty where it has none; `None` where no URI was given.
    query: Option<&'a str>,
}

impl<'a> Attempt<'a> {
    /// Takes the values of `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidHeader`] for a value that is not well formed.
    ///
    /// ```
    /// use gemini_webhooks::Attempt;
    ///
    /// let attempt = Attempt::new(
    ///     "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    ///     "1649367553",
    ///     "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    /// )?;
    /// assert_eq!(attempt.id(), "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk");
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
    /// use gemini_webhooks::Attempt;
    ///
    /// let request = [
    ///     ("Content-Type", "application/json"),
    ///     ("Webhook-Id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
    ///     ("Webhook-Timestamp", "1649367553"),
    ///     ("Webhook-Signature", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
    /// ];
    /// let attempt = Attempt::from_pairs(request)?;
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

    /// Adds the request's URI, absolute or in origin form (`/webhook?a=b`).
    #[must_use]
    pub fn with_uri(mut self, uri: &'a str) -> Self {
        let uri = uri.split_once('#').map_or(uri, |(before, _)| before);
        self.query = Some(uri.split_once('?').map_or("", |(_, query)| query));
        self
    }

    /// `is` returns true if a name is the wanted one, which is in lower case.
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
            query: None,
        })
    }

    /// Returns `webhook-id`, which all attempts of a delivery share.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// The parts of what `v1` and `v1a` sign: `{webhook-id}.{webhook-timestamp}.{raw body}`.
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

    /// The query of the URI, empty if it has none; `None` if no URI was given.
    #[cfg(feature = "_per-request")]
    pub(crate) const fn query(&self) -> Option<&'a str> {
        self.query
    }

    pub(crate) const fn signatures(&self) -> SignatureEntries<'a> {
        self.signatures
    }
}

/// Leaves the signatures and the URI out: whoever reads one in a log within the replay window can
/// send it again.
impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("id", &self.id)
            .field("timestamp", &self.unix_timestamp)
            .field("signatures", &self.signatures.offered())
            .field("has_uri", &self.query.is_some())
            .finish()
    }
}

/// A request, or the part of it that an [`Attempt`] is made of.
///
/// With the feature `http` (http 1), in the order of preference:
/// - `&http::request::Parts`
/// - `(&http::HeaderMap, &http::Uri)`
/// - `&http::HeaderMap`, where deliveries carry no job token in their URI
///
/// Without it: an [`Attempt`], or the result of a constructor of it, so that a malformed header
/// takes the same path as any refusal.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an HTTP request's head",
    label = "pass `&http::request::Parts`, `(&headers, &uri)`, `&http::HeaderMap` or an `Attempt`",
    note = "from any other header type, http 0.2 included, build one with `Attempt::from_pairs`",
    note = "the `http` crate's types need the feature `http` and version 1 of that crate"
)]
pub trait IntoAttempt<'a> {
    /// Finds the three headers.
    ///
    /// # Errors
    ///
    /// [`Error::MissingHeader`], [`Error::DuplicateHeader`] or [`Error::InvalidHeader`].
    fn into_attempt(self) -> Result<Attempt<'a>, Error>;
}

impl<'a> IntoAttempt<'a> for Attempt<'a> {
    fn into_attempt(self) -> Result<Attempt<'a>, Error> {
        Ok(self)
    }
}

impl<'a> IntoAttempt<'a> for Result<Attempt<'a>, Error> {
    fn into_attempt(self) -> Result<Attempt<'a>, Error> {
        self
    }
}

#[cfg(feature = "http")]
mod http_types {
    use super::{Attempt, Error, IntoAttempt};

    impl<'a> IntoAttempt<'a> for &'a http::HeaderMap {
        fn into_attempt(self) -> Result<Attempt<'a>, Error> {
            // Walking a few dozen headers takes less time than hashing three names. The names of a
            // map are in lower case.
            Attempt::find(self, |name, wanted| name.as_str() == wanted)
        }
    }

    impl<'a> IntoAttempt<'a> for (&'a http::HeaderMap, &'a http::Uri) {
        fn into_attempt(self) -> Result<Attempt<'a>, Error> {
            let (headers, uri) = self;
            let query = Some(uri.query().unwrap_or_default());
            headers
                .into_attempt()
                .map(|attempt| Attempt { query, ..attempt })
        }
    }

    impl<'a> IntoAttempt<'a> for &'a http::request::Parts {
        fn into_attempt(self) -> Result<Attempt<'a>, Error> {
            (&self.headers, &self.uri).into_attempt()
        }
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
mod tests;
