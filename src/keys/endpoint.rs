use std::{error::Error as StdError, time::Duration};

use reqwest::{
    Client, StatusCode, Url,
    header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderMap, IF_NONE_MATCH},
    redirect::Policy,
};

use super::{Fetched, KeyRefresh, KeySet, KeySource};
use crate::{error::ConfigError, loopback::is_loopback};

/// A JSON Web Key Set behind an address, fetched with `reqwest` in a Tokio runtime.
///
/// - HTTPS only, but for the loopback interface (`localhost`, `127.0.0.0/8`, `::1`).
/// - At most 5 s in all ([`KeyRefresh::TIMEOUT`]) and 256 KiB ([`KeySet::MAX_DOCUMENT`]).
/// - Redirects, at most three, only within the same scheme, host and port.
/// - `Cache-Control: max-age` and `ETag` are honoured (RFC 9110, RFC 9111).
///
/// ```
/// use gemini_webhooks::{JwksEndpoint, RefreshedKeys};
///
/// let keys = RefreshedKeys::new(JwksEndpoint::google()?);
/// assert!(JwksEndpoint::new("http://example.com/jwks.json").is_err());
/// # Ok::<(), gemini_webhooks::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct JwksEndpoint {
    client: Client,
    url: Url,
}

impl JwksEndpoint {
    /// Where Google publishes the keys that sign per-request deliveries.
    pub const GOOGLE: &str = "https://generativelanguage.googleapis.com/.well-known/jwks.json";

    /// The keys that sign per-request deliveries, at [`GOOGLE`](Self::GOOGLE).
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidEndpoint`] where the system's TLS can't be set up.
    pub fn google() -> Result<Self, ConfigError> {
        Self::new(Self::GOOGLE)
    }

    /// The keys at another address, such as a proxy of one's own or a test's server.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidEndpoint`] where the address is not one, is neither HTTPS nor on the
    /// loopback interface, or the system's TLS can't be set up.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let invalid = |reason: String| ConfigError::InvalidEndpoint { reason };
        let url = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if url.host_str().is_some_and(is_loopback) => {}
            "http" => {
                return Err(invalid(
                    "it is neither https nor on the loopback interface".into(),
                ));
            }
            other => return Err(invalid(format!("its scheme is {other:?}, expected https"))),
        }
        let client = Client::builder()
            .timeout(KeyRefresh::TIMEOUT)
            .redirect(Policy::custom(|attempt| match attempt.previous() {
                [.., last]
                    if attempt.previous().len() <= 3 && last.origin() == attempt.url().origin() =>
                {
                    attempt.follow()
                }
                _ => attempt.error("it redirects elsewhere, or too often"),
            }))
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { client, url })
    }
}

impl KeySource for JwksEndpoint {
    async fn fetch(&self, etag: Option<&str>) -> Result<Fetched, Box<dyn StdError + Send + Sync>> {
        let mut request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "application/json");
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let mut response = request.send().await?;
        let max_age = max_age(response.headers());
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if etag.is_some() => {
                return Ok(Fetched::Unchanged { max_age });
            }
            status => return Err(format!("the server answers {status}").into()),
        }
        let etag = response
            .headers()
            .get(ETAG)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let mut json = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if json.len().saturating_add(chunk.len()) > KeySet::MAX_DOCUMENT {
                return Err(
                    format!("the document is longer than {} bytes", KeySet::MAX_DOCUMENT).into(),
                );
            }
            json.extend_from_slice(&chunk);
        }
        Ok(Fetched::Document {
            json,
            max_age,
            etag,
        })
    }
}

/// The `max-age` of `Cache-Control`; zero where the answer must not be reused without asking.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
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
        ] {
            assert!(JwksEndpoint::new(url).is_err(), "{url}");
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
