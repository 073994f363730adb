use http::Uri;

use crate::{error::ConfigError, loopback::is_loopback};

/// Checks the address of a webhook, as it will stand in a request: absolute, HTTPS (or HTTP on the
/// loopback interface, for development), without credentials and without a fragment.
pub(super) fn check(uri: &str) -> Result<Uri, ConfigError> {
    let invalid = |reason: &str| ConfigError::InvalidUri {
        reason: reason.to_owned(),
    };
    // `http` drops a fragment without a word.
    if uri.contains('#') {
        return Err(invalid("it has a fragment (#), which is never sent"));
    }
    let parsed: Uri = uri
        .parse()
        .map_err(|error: http::uri::InvalidUri| invalid(&format!("it is not a URI: {error}")))?;
    let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
        return Err(invalid(
            "it is not absolute, such as https://example.com/webhook",
        ));
    };
    if authority.as_str().contains('@') {
        return Err(invalid(
            "it has credentials, which the logs of others will show",
        ));
    }
    if authority.host().is_empty() {
        return Err(invalid("it has no host"));
    }
    match scheme {
        "https" => Ok(parsed),
        "http" if is_loopback(authority.host()) => Ok(parsed),
        "http" => Err(invalid("it is neither https nor on the loopback interface")),
        _ => Err(invalid("its scheme is not https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_addresses_are_taken() {
        for uri in [
            "https://example.com/webhook",
            "https://example.com",
            "https://example.com:8443/a/b?c=d",
            "https://[2001:db8::1]/webhook",
            "http://localhost:8787/webhook",
            "http://LOCALHOST/",
            "http://127.0.0.1/webhook",
            "http://[::1]:8787/webhook",
        ] {
            assert_eq!(check(uri).map(drop), Ok(()), "{uri}");
        }
        for (uri, reason) in [
            ("", "not a URI"),
            ("/webhook", "not absolute"),
            ("example.com", "not absolute"),
            ("https:///webhook", "not a URI"),
            ("https://exa mple.com/", "not a URI"),
            ("https://example.com/#top", "fragment"),
            ("https://user:pass@example.com/", "credentials"),
            ("https://user@example.com/", "credentials"),
            ("http://example.com/webhook", "loopback"),
            ("http://localhost.example.com/", "loopback"),
            ("http://127.0.0.1.example.com/", "loopback"),
            ("http://10.0.0.1/", "loopback"),
            ("ftp://localhost/", "scheme"),
            ("gs://bucket/webhook", "scheme"),
        ] {
            let error = check(uri).unwrap_err().to_string();
            assert!(error.contains(reason), "{uri}: {error}");
            assert!(!error.contains("pass"), "{error}");
        }
    }
}
