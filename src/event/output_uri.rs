use std::{fmt, str::FromStr};

use super::{Event, EventData};
use crate::redacted::Redacted;

/// The place of a job's output, in one of the three forms that Google sends.
///
/// An event is signed, and yet its text may name any address. A receiver that fetches whatever it is
/// told to fetch can be used against its own network: this is called server-side request forgery
/// (SSRF). So [`parse`](Self::parse) accepts Google's hosts alone, and refuses whatever is not
/// plainly one of the forms. Do not follow redirects to other hosts either.
///
/// `Debug` leaves out the query of an address, which may be a credential. `Display` is the whole
/// text.
///
/// ```
/// use gemini_webhooks::event::{OutputUri, OutputUriError};
///
/// let output: OutputUri = "gs://my-bucket/results.jsonl".parse()?;
/// match &output {
///     OutputUri::Gcs { bucket, object, .. } => assert_eq!((&**bucket, &**object), ("my-bucket", "results.jsonl")),
///     OutputUri::File(name) => println!("GET https://generativelanguage.googleapis.com/v1beta/{name}"),
///     OutputUri::Https(url) => println!("GET {url}"),
///     _ => {}
/// }
/// let elsewhere = OutputUri::parse("https://169.254.169.254/latest/meta-data");
/// assert_eq!(elsewhere, Err(OutputUriError::Host));
/// # Ok::<(), OutputUriError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputUri {
    /// `gs://bucket/object`: an object in Google Cloud Storage.
    Gcs {
        /// The name of the bucket.
        bucket: String,
        /// The name of the object, as it was sent: encode it in a URL. It has no segment `.` or
        /// `..`.
        object: String,
    },
    /// `files/abc-123`: a name in the Files API. A URL can hold each of its characters as it is.
    File(String),
    /// An address on one of the hosts that are allowed. Its path has no segment `.` or `..`.
    Https(String),
}

/// The reason to refuse a text as an [`OutputUri`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum OutputUriError {
    /// It is none of the three forms, or longer than 8192 bytes.
    #[error(
        "the output URI has another form, expected `gs://bucket/object`, `files/id` or `https://host/path`"
    )]
    Form,
    /// It is an address whose host is not allowed, or that has a user, a password or a port other
    /// than 443.
    #[error("the host of the output URI is not one of those that are allowed")]
    Host,
}

/// In bytes. A signed address has about a thousand.
const LONGEST: usize = 8192;

impl OutputUri {
    /// The hosts that [`parse`](Self::parse) allows: the Gemini API, where the Files API is, and
    /// Google Cloud Storage.
    pub const HOSTS: &[&str] = &[
        "generativelanguage.googleapis.com",
        "storage.googleapis.com",
    ];

    /// Parses a text. An address must be on one of the [`HOSTS`](Self::HOSTS).
    ///
    /// # Errors
    ///
    /// [`OutputUriError`]. What is accepted is narrower than RFC 3986: there is no user, port other
    /// than 443, fragment, backslash, control character, or segment `.` or `..`.
    pub fn parse(text: &str) -> Result<Self, OutputUriError> {
        Self::parse_from_hosts(text, Self::HOSTS)
    }

    /// Parses a text. An address must be on one of the given hosts, which take the place of
    /// [`HOSTS`](Self::HOSTS): names such as `example.com`, in any case. A name does not stand for
    /// names below it, and an IP address is never allowed.
    ///
    /// # Errors
    ///
    /// Those of [`parse`](Self::parse).
    pub fn parse_from_hosts(text: &str, hosts: &[&str]) -> Result<Self, OutputUriError> {
        if text.len() > LONGEST {
            return Err(OutputUriError::Form);
        }
        if let Some(rest) = text.strip_prefix("https://") {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, target) = rest.split_at(end);
            if !is_target(target) {
                return Err(OutputUriError::Form);
            }
            if !is_allowed(authority, hosts) {
                return Err(OutputUriError::Host);
            }
            return Ok(Self::Https(text.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("gs://") {
            let parts = rest.split_once('/');
            let parts = parts.filter(|(bucket, object)| is_bucket(bucket) && is_object(object));
            let (bucket, object) = parts.ok_or(OutputUriError::Form)?;
            return Ok(Self::Gcs {
                bucket: bucket.to_owned(),
                object: object.to_owned(),
            });
        }
        let id = text.strip_prefix("files/").filter(|id| is_file_id(id));
        id.map(|_| Self::File(text.to_owned()))
            .ok_or(OutputUriError::Form)
    }
}

fn is_allowed(authority: &str, hosts: &[&str]) -> bool {
    let host = authority.strip_suffix(":443").unwrap_or(authority);
    // A host whose last label begins with a digit may be an IPv4 address, in one of its forms (URL
    // Standard, "ends in a number"). One of IPv6 has brackets, which no name has.
    let is_name = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_name = is_name && last.starts_with(|first: char| first.is_ascii_alphabetic());
    is_name
        && hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host))
}

/// Checks path and query: the characters of RFC 3986, section 3.3 and 3.4.
fn is_target(target: &str) -> bool {
    let mut rest = target.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                // An encoded control character.
                if matches!(high, b'0' | b'1') || [*high, low.to_ascii_lowercase()] == *b"7f" {
                    return false;
                }
                rest
            }
            [first, rest @ ..]
                if first.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(first) =>
            {
                rest
            }
            _ => return false,
        };
    }
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    // A client may take an encoded dot for a dot.
    let path = path.replace("%2e", ".").replace("%2E", ".");
    has_no_dots(&path)
}

/// No segment leads elsewhere once a client resolves it.
fn has_no_dots(path: &str) -> bool {
    path.split('/')
        .all(|segment| !matches!(segment, "." | ".."))
}

/// Checks the name of a bucket: 3 to 222 lower-case letters, digits, `-`, `_` and `.`.
fn is_bucket(bucket: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = bucket.as_bytes();
    (3..=222).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| is_end(byte) || b"-_.".contains(byte))
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && !bucket.contains("..")
}

/// Checks the name of an object: 1 to 1024 bytes. `?` and `#` mean something else to some tools.
fn is_object(object: &str) -> bool {
    let is_odd = |c: char| c.is_control() || r"\?#".contains(c);
    (1..=1024).contains(&object.len()) && !object.contains(is_odd) && has_no_dots(object)
}

/// Checks the id of a file: 1 to 256 characters that need no encoding.
fn is_file_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=256).contains(&id.len()) && id.bytes().all(is_plain) && has_no_dots(id)
}

impl FromStr for OutputUri {
    type Err = OutputUriError;

    fn from_str(text: &str) -> Result<Self, OutputUriError> {
        Self::parse(text)
    }
}

impl fmt::Display for OutputUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gcs { bucket, object } => write!(f, "gs://{bucket}/{object}"),
            Self::File(text) | Self::Https(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for OutputUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gcs { bucket, object } => f
                .debug_struct("Gcs")
                .field("bucket", bucket)
                .field("object", &Redacted(object))
                .finish(),
            Self::File(name) => f.debug_tuple("File").field(&Redacted(name)).finish(),
            Self::Https(url) => f.debug_tuple("Https").field(&Redacted(url)).finish(),
        }
    }
}

impl Event {
    /// Returns the place of the job's output: the `output_file_uri` of `batch.succeeded` and
    /// `video.generated`. `None` for other types, if there is none, or if [`OutputUri::parse`]
    /// refuses it.
    #[must_use]
    pub fn output_uri(&self) -> Option<OutputUri> {
        let uri = match &self.data {
            EventData::BatchSucceeded(batch) => batch.output_file_uri.as_ref(),
            EventData::VideoGenerated(video) => video.output_file_uri.as_ref(),
            _ => None,
        };
        uri?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_that_was_seen_is_read() {
        for (text, shown) in [
            (
                "gs://my-bucket/results.jsonl",
                r#"Gcs { bucket: "my-bucket", object: "results.jsonl" }"#,
            ),
            (
                "gs://b_1.example.com/a b/\u{e9}:1//x%2e",
                "Gcs { bucket: \"b_1.example.com\", object: \"a b/\u{e9}:1//x%2e\" }",
            ),
            ("files/abc-123", r#"File("files/abc-123")"#),
            ("files/video_123456", r#"File("files/video_123456")"#),
            (
                "https://generativelanguage.googleapis.com/download/v1beta/files/abc:download?alt=media",
                r#"Https("https://generativelanguage.googleapis.com/download/v1beta/files/abc:download?..")"#,
            ),
            (
                "https://Storage.googleapis.com:443/b/o/dir%2Ffile..x",
                r#"Https("https://Storage.googleapis.com:443/b/o/dir%2Ffile..x")"#,
            ),
        ] {
            let uri = OutputUri::parse(text).unwrap();
            assert_eq!(format!("{uri:?}"), shown);
            assert_eq!(uri.to_string(), text);
            assert_eq!(text.parse(), Ok(uri));
        }
    }

    #[test]
    fn an_address_elsewhere_is_refused() {
        for text in [
            "https://example.com/a",
            "https://googleapis.com/a",
            "https://xstorage.googleapis.com/a",
            "https://storage.googleapis.com.example.com/a",
            "https://storage.googleapis.com./a",
            "https://storage.googleapis.com@example.com/a",
            "https://example.com:443@storage.googleapis.com/a",
            "https://user:pass@storage.googleapis.com/a",
            "https://storage.googleapis.com:80/a",
            "https://storage.googleapis.com:/a",
            "https://storage.googleapis.com:0443/a",
            "https://storage.googleapis.com:443:443/a",
            "https://127.0.0.1/a",
            "https://2130706433/a",
            "https://0x7f.1/a",
            "https://[::1]/a",
            "https://localhost/a",
            "https://metadata.google.internal/a",
            "https:///a",
            "https://",
            "https://?a",
        ] {
            assert_eq!(OutputUri::parse(text), Err(OutputUriError::Host), "{text}");
        }
    }

    #[test]
    fn what_is_not_plainly_one_of_the_forms_is_refused() {
        let long = format!("files/{}", "a".repeat(257));
        let longer = format!("https://storage.googleapis.com/{}", "a".repeat(LONGEST));
        for text in [
            "",
            "results.jsonl",
            "http://storage.googleapis.com/a",
            "HTTPS://storage.googleapis.com/a",
            " https://storage.googleapis.com/a",
            "https:/storage.googleapis.com/a",
            "https:\\\\storage.googleapis.com/a",
            "https://storage.googleapis.com/a#b",
            "https://storage.googleapis.com/a\\b",
            "https://storage.googleapis.com/a b",
            "https://storage.googleapis.com/a\nb",
            "https://storage.googleapis.com/%0a",
            "https://storage.googleapis.com/%7F",
            "https://storage.googleapis.com/%zz",
            "https://storage.googleapis.com/%a",
            "https://storage.googleapis.com/\u{e9}",
            "https://storage.googleapis.com/a/../b",
            "https://storage.googleapis.com/a/%2e%2E/b",
            "https://storage.googleapis.com/.",
            "file:///etc/passwd",
            "ftp://storage.googleapis.com/a",
            "gs://",
            "gs://bucket",
            "gs://bucket/",
            "gs://bu/object",
            "gs://Bucket/object",
            "gs://-bucket/object",
            "gs://bucket./object",
            "gs://buc..ket/object",
            "gs://user@bucket/object",
            "gs://bucket:80/object",
            "gs://bucket/../other/object",
            "gs://bucket/a/.",
            "gs://bucket/a\\b",
            "gs://bucket/a#b",
            "gs://bucket/a?b",
            "gs://bucket/a\u{0}",
            "gs://bucket/a\u{85}",
            "files/",
            "files/..",
            "files/.",
            "files/a/b",
            "files/a%2fb",
            "files/a?b",
            "files/a:download",
            "/files/a",
            "Files/a",
            &long,
            &longer,
        ] {
            assert_eq!(OutputUri::parse(text), Err(OutputUriError::Form), "{text}");
        }
    }

    #[test]
    fn other_hosts_take_the_place_of_googles() {
        let hosts = &["files.example.com", "127.0.0.1", "[::1]", "0x7f.0x1", ""];
        let parse = |text| OutputUri::parse_from_hosts(text, hosts);
        assert!(parse("https://files.EXAMPLE.com/a").is_ok());
        assert!(parse("files/a").is_ok());
        for text in [
            "https://storage.googleapis.com/a",
            "https://a.files.example.com/a",
            "https://127.0.0.1/a",
            "https://[::1]/a",
            "https://0x7f.0x1/a",
            "https:///a",
        ] {
            assert_eq!(parse(text), Err(OutputUriError::Host), "{text}");
        }
    }

    #[test]
    fn an_event_has_the_output_that_its_type_documents() {
        for (event, output) in [
            (
                r#"{"type":"batch.succeeded","data":{"id":"b","output_file_uri":"files/a"}}"#,
                true,
            ),
            (r#"{"type":"batch.succeeded","data":{"id":"b"}}"#, false),
            (
                r#"{"type":"batch.succeeded","data":{"id":"b","output_file_uri":"http://a/"}}"#,
                false,
            ),
            (
                r#"{"type":"video.generated","data":{"id":"b","video_uri":"files/a"}}"#,
                true,
            ),
            (
                r#"{"type":"batch.failed","data":{"id":"b","output_file_uri":"files/a"}}"#,
                false,
            ),
        ] {
            let parsed: Event = serde_json::from_str(event).unwrap();
            let expected = output.then(|| OutputUri::File("files/a".to_owned()));
            assert_eq!(parsed.output_uri(), expected, "{event}");
        }
    }
}
