use std::{fmt, time::Duration};

use reqwest::{
    Client, StatusCode, Url,
    header::{
        ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderMap,
        IF_NONE_MATCH,
    },
    redirect::Policy,
};

use super::{BoxFuture, FetchError, Fetched, KeyRefresh, KeySet, KeySource};
use crate::{error::ConfigError, https, retry_after::retry_after};

/// A JSON Web Key Set at an address, fetched with `reqwest` in a Tokio runtime.
///
/// - HTTPS, or HTTP to the loopback interface (`localhost`, `127.0.0.0/8`, `[::1]`), which is never
///   asked through a proxy. `localhost` is not looked up.
/// - A fetch takes at most 5 s in all ([`KeyRefresh::TIMEOUT`]) and reads at most 256 KiB
///   ([`KeySet::MAX_DOCUMENT`]).
/// - At most three redirects are followed, all within the same scheme, host and port.
/// - `Cache-Control: max-age` less `Age`, `ETag`, and the `Retry-After` of an answer that is no success
///   are honoured (RFC 9110, RFC 9111).
/// - `Debug` and errors show neither the query nor credentials.
///
/// ```
/// use gemini_webhooks::keys::{JwksEndpoint, RefreshedKeys};
///
/// let keys = RefreshedKeys::new(JwksEndpoint::google()?);
/// assert!(JwksEndpoint::new("http://example.com/jwks.json").is_err());
/// # Ok::<(), gemini_webhooks::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct JwksEndpoint {
    client: Client,
    url: Url,
}

impl JwksEndpoint {
    /// The address at which Google publishes the keys that sign per-request deliveries.
    pub const GOOGLE: &str = "https://generativelanguage.googleapis.com/.well-known/jwks.json";

    /// Fetches the keys that sign per-request deliveries from [`GOOGLE`](Self::GOOGLE).
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidEndpoint`] if the system's TLS can't be set up.
    pub fn google() -> Result<Self, ConfigError> {
        Self::new(Self::GOOGLE)
    }

    /// Fetches the keys from another address, such as your own proxy or the server of a test.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidEndpoint`] if the address is not absolute, is neither HTTPS nor on the
    /// loopback interface, has credentials or a fragment, or is one that parsers read differently,
    /// and if the system's TLS can't be set up.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let invalid = |reason: String| ConfigError::InvalidEndpoint { reason };
        let url = https::parse(url).map_err(invalid)?;
        let client = https::client(url.scheme())
            .timeout(KeyRefresh::TIMEOUT)
            .redirect(Policy::custom(|attempt| match attempt.previous() {
                [.., last]
                    if attempt.previous().len() <= 3 && last.origin() == attempt.url().origin() =>
                {
                    attempt.follow()
                }
                _ => attempt.error("it redirects elsewhere, or too often"),
            }));
        let client = client.build().map_err(|error| invalid(error.to_string()))?;
        Ok(Self { client, url })
    }
}

impl KeySource for JwksEndpoint {
    fn fetch<'s>(&'s self, etag: Option<&'s str>) -> BoxFuture<'s, Result<Fetched, FetchError>> {
        Box::pin(self.get(etag))
    }
}

impl JwksEndpoint {
    async fn get(&self, etag: Option<&str>) -> Result<Fetched, FetchError> {
        let mut request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity");
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let headers = response.headers();
        let max_age = max_age(headers);
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if etag.is_some() => {
                return Ok(Fetched::Unchanged { max_age });
            }
            status => {
                let error = FetchError::from(format!("the server answers {status}"));
                return Err(match retry_after(headers) {
                    Some(wait) => error.retry_after(wait),
                    None => error,
                });
            }
        }
        let encoding = headers.get(CONTENT_ENCODING);
        if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
            return Err(format!(
                "the answer is compressed ({encoding:?}), which was not asked for"
            )
            .into());
        }
        let etag = headers
            .get(ETAG)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let longest = KeySet::MAX_DOCUMENT;
        let json = https::read(response, longest).await?;
        Ok(Fetched::Document {
            json: json.ok_or_else(|| format!("the document is longer than {longest} bytes"))?,
            max_age,
            etag,
        })
    }
}

/// Shows scheme, host, port and path: a query may hold a key.
impl fmt::Debug for JwksEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = format!(
            "{}{}",
            self.url.origin().ascii_serialization(),
            self.url.path()
        );
        f.debug_tuple("JwksEndpoint").field(&address).finish()
    }
}

/// Returns the time for which an answer may still be used: the `max-age` of `Cache-Control` less `Age`
/// (RFC 9111, section 4.2); zero if it must not be reused without asking.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let age = headers
        .get(AGE)
        .and_then(|age| age.to_str().ok()?.parse().ok());
    let age = Duration::from_secs(age.unwrap_or(0));
    max_age_directive(headers).map(|max_age| max_age.saturating_sub(age))
}

fn max_age_directive(headers: &HeaderMap) -> Option<Duration> {
    let values = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let directives = values
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut max_age = None;
    for directive in directives {
        match directive.split_once('=') {
            None if directive == "no-store" || directive == "no-cache" => {
                return Some(Duration::ZERO);
            }
            Some(("max-age", seconds)) => {
                max_age = seconds
                    .trim_matches('"')
                    .parse()
                    .ok()
                    .map(Duration::from_secs);
            }
            _ => {}
        }
    }
    max_age
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_addresses_are_taken() {
        for url in [
            JwksEndpoint::GOOGLE,
            "http://localhost/jwks",
            "http://LOCALHOST:1/jwks",
            "http://127.0.0.1:8080/jwks",
            "http://127.9.9.9/jwks",
            "http://[::1]:8080/jwks",
        ] {
            assert!(JwksEndpoint::new(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "jwks.json",
            "http://example.com/jwks",
            "http://localhost.example.com/jwks",
            "http://127.0.0.1.example.com/jwks",
            "http://user@example.com/127.0.0.1",
            "http://0.0.0.0/jwks",
            "http://10.0.0.1/jwks",
            "http://[::ffff:10.0.0.1]/jwks",
            "ftp://localhost/jwks",
            "file:///etc/passwd",
            "https://user:hunter2@example.com/jwks",
            "https://example.com/jwks#hunter2",
            "http://localhost\\@example.com/jwks",
            "http://127.1/jwks",
            "http://0x7f.1/jwks",
            "https://xn--a/jwks?hunter2",
        ] {
            let error = JwksEndpoint::new(url).expect_err(url);
            assert!(
                matches!(error, ConfigError::InvalidEndpoint { .. }),
                "{error}"
            );
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_maximum_age_is_read_from_cache_control() {
        for (value, seconds) in [
            ("max-age=300", Some(300)),
            (
                "public, Max-Age=19845, must-revalidate, no-transform",
                Some(19_845),
            ),
            ("s-maxage=5, max-age=\"7\"", Some(7)),
            ("no-store", Some(0)),
            ("max-age=300, no-cache", Some(0)),
            ("max-age=-1", None),
            ("max-age=99999999999999999999", None),
            ("private", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.parse().unwrap())]);
            assert_eq!(
                max_age(&headers),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
