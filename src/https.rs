//! Clients of `reqwest` under the rule for addresses: HTTPS, or HTTP to the loopback interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{Uri, uri::Scheme};
use reqwest::{Client, ClientBuilder, Response, Url};

use crate::address;

/// Parses an address as [`address::parse`] does.
///
/// # Errors
///
/// The reason, without credentials and query.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let uri = address::parse(text)?;
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !agree(&uri, &url) {
        return Err("parsers read its host or port differently".into());
    }
    Ok(url)
}

/// Returns a builder of clients for addresses of this scheme. `localhost` is not looked up.
pub(crate) fn client(scheme: &str) -> ClientBuilder {
    let localhost: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let localhost = localhost.map(|address| (address, 0).into());
    let client = Client::builder().resolve_to_addrs("localhost", &localhost);
    if scheme == "http" {
        // A proxy would see everything in plain text, and could replace it.
        return client.no_proxy();
    }
    client
}

/// Reads the body of an answer; `None` if it has more bytes than this.
pub(crate) async fn read(
    mut response: Response,
    longest: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)?
    {
        if body.len().saturating_add(chunk.len()) > longest {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Tells whether two parsers found the same server. The rule for addresses reads a [`Uri`], and
/// `reqwest` connects to a [`Url`].
fn agree(uri: &Uri, url: &Url) -> bool {
    let same_host = |a: &str, b: &str| {
        let same_address = address::ipv6(a).is_some_and(|a| address::ipv6(b) == Some(a));
        a.eq_ignore_ascii_case(b) || same_address
    };
    let https = uri.scheme() == Some(&Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    uri.scheme_str() == Some(url.scheme())
        && matches!((uri.host(), url.host_str()), (Some(a), Some(b)) if same_host(a, b))
        && url.port_or_known_default() == Some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_two_parsers_read_differently_is_noticed() {
        let agree = |uri: &str, url| agree(&uri.parse().unwrap(), &Url::parse(url).unwrap());
        for (uri, url) in [
            ("https://example.com/", "https://example.com"),
            ("HTTPS://EXAMPLE.com/", "https://example.com:443/"),
            ("https://example.com:443/", "https://example.com/"),
            ("http://localhost:080/", "http://localhost/"),
            ("http://[0:0::0:1]:81/", "http://[::1]:81/"),
        ] {
            assert!(agree(uri, url), "{uri} {url}");
        }
        for (uri, url) in [
            ("https://example.com/", "http://example.com:443/"),
            ("https://example.com/", "https://example.org/"),
            ("https://example.com/", "https://example.com:444/"),
            ("http://localhost/", "http://localhost:443/"),
            ("http://127.1/", "http://127.1/"),
            ("http://0x7f.1/", "http://0x7f.1/"),
            ("http://[::1]/", "http://[::2]/"),
            ("https://example.com/", "data:text/plain,example.com"),
        ] {
            assert!(!agree(uri, url), "{uri} {url}");
        }
    }

    /// The rule for addresses is strict enough for any two parsers: all short hosts and ports of
    /// these characters.
    #[test]
    fn every_short_address_that_is_taken_is_read_alike() {
        let characters = b"017xa.-:[]@";
        let mut taken = 0;
        let mut rests = vec![String::new()];
        for _ in 0..4 {
            let longer = |rest: &String| characters.map(|c| format!("{rest}{}", char::from(c)));
            rests = rests.iter().flat_map(longer).collect();
            for rest in &rests {
                let text = format!("https://{rest}/");
                if let (Ok(uri), Ok(url)) = (address::parse(&text), Url::parse(&text)) {
                    assert!(agree(&uri, &url), "{text}");
                    taken += 1;
                }
            }
        }
        assert!(taken > 500, "{taken}");
    }
}
