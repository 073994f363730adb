//! The rule for addresses: HTTPS, or HTTP to the loopback interface.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use http::Uri;

/// Parses the address of a webhook, of the service or of a key set.
///
/// It has to be absolute, with the scheme `https`, or `http` where the host is `localhost`, in
/// `127.0.0.0/8` or `[::1]`. Credentials and fragments are refused.
///
/// So is everything that parsers are known to read differently: the one that connects to the
/// address must not find another host in it than the one that was checked here. RFC 3986 and the
/// WHATWG URL standard disagree about backslashes, white space, `127.1` and `0x7f.1`, for example.
///
/// # Errors
///
/// The reason, without credentials, path and query.
pub(crate) fn parse(text: &str) -> Result<Uri, String> {
    if text.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control()) {
        return Err(
            "it is not a URI: it has a backslash, white space or a control character".into(),
        );
    }
    // `http` drops a fragment without an error.
    if text.contains('#') {
        return Err("it has a fragment (#), which is never sent".into());
    }
    let uri: Uri = text
        .parse()
        .map_err(|error: http::uri::InvalidUri| format!("it is not a URI: {error}"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("it is not absolute, such as https://example.com/webhook".into());
    };
    if authority.as_str().contains('@') {
        return Err("it has credentials, which would appear in logs".into());
    }
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host).unwrap_or_default();
    if host.is_empty() {
        return Err("it has no host".into());
    }
    if !is_host(host) {
        return Err(
            "its host is neither a name nor an IP address such as 127.0.0.1 or [::1]".into(),
        );
    }
    if !port.is_empty() && !is_port(port) {
        return Err("its host is followed by something other than a port from 1 to 65535".into());
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_loopback(host) => Ok(uri),
        "http" => Err(format!(
            "http://{host} is neither https nor on the loopback interface"
        )),
        other => Err(format!("its scheme is {other:?}, expected https")),
    }
}

/// Parses an IPv6 address in brackets (RFC 3986, section 3.2.2).
pub(crate) fn ipv6(host: &str) -> Option<Ipv6Addr> {
    let address = host.strip_prefix('[')?.strip_suffix(']')?;
    address.parse().ok()
}

fn is_loopback(host: &str) -> bool {
    let ipv4: Result<Ipv4Addr, _> = host.parse();
    host.eq_ignore_ascii_case("localhost")
        || ipv4.is_ok_and(|address| address.is_loopback())
        || ipv6(host).is_some_and(|address| address.is_loopback())
}

fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        return ipv6(host).is_some();
    }
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if labels.clone().next_back().is_some_and(is_number) {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    labels.all(|label| {
        let mut bytes = label.bytes();
        !label.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    })
}

/// Tells whether a host that ends in this label is an IPv4 address to the WHATWG URL standard,
/// which also takes octal and hexadecimal numbers and fewer than four of them.
fn is_number(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => lower.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| {
        // The standard library's parser accepts a sign.
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<NonZeroU16>().is_ok()
    })
}

/// Returns an address without its password and its query, which may hold a token or a key.
#[cfg(feature = "configure")]
pub(crate) fn shown(address: &str) -> String {
    crate::redacted::text(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_addresses_are_taken() {
        for uri in [
            "https://example.com/webhook",
            "https://example.com",
            "https://example.com./",
            "https://example.com?a=user@b:c",
            "https://example.com:8443/a/b?c=d",
            "https://my_host-1.xn--bcher-kva.example/",
            "https://10.0.0.1/webhook",
            "https://[2001:db8::1]/webhook",
            "https://[2001:db8::1]:8443/webhook",
            "HTTPS://EXAMPLE.COM/",
            "http://localhost",
            "http://localhost:8787/webhook",
            "http://LOCALHOST/",
            "http://LOCALHOST:1/jwks",
            "http://127.0.0.1/webhook",
            "http://127.0.0.1:65535/webhook",
            "http://127.9.9.9/jwks",
            "http://127.255.255.255/",
            "http://[::1]",
            "http://[::1]:8787/webhook",
            "http://[0:0:0:0:0:0:0:1]/",
        ] {
            assert_eq!(parse(uri).map(drop), Ok(()), "{uri}");
        }
        for (uri, reason) in [
            ("ftp://localhost/", "scheme"),
            ("gs://bucket/webhook", "scheme"),
            ("ws://localhost/", "scheme"),
            ("file://localhost/etc/passwd", "scheme"),
            ("http://example.com/webhook", "loopback"),
            ("http://localhost.example.com/", "loopback"),
            ("http://localhost./", "loopback"),
            ("http://127.0.0.1.example.com/", "loopback"),
            ("http://10.0.0.1/", "loopback"),
            ("http://0.0.0.0/jwks", "loopback"),
            ("http://128.0.0.1/", "loopback"),
            ("http://[::]/", "loopback"),
            ("http://[::2]/", "loopback"),
            ("http://[::ffff:127.0.0.1]/", "loopback"),
            ("http://[::ffff:10.0.0.1]/jwks", "loopback"),
        ] {
            refuse(uri, reason);
        }
    }

    #[test]
    fn an_address_is_absolute_and_has_a_host() {
        for (uri, reason) in [
            ("", "not a URI"),
            ("/webhook", "not absolute"),
            ("*", "not absolute"),
            ("example.com", "not absolute"),
            ("localhost:8787", "not absolute"),
            ("jwks.json", "not absolute"),
            ("//example.com/webhook", "not absolute"),
            ("https:example.com", "not absolute"),
            ("https:/example.com/webhook", "not a URI"),
            ("file:///etc/passwd", "not a URI"),
            ("https://", "not a URI"),
            ("https:///webhook", "not a URI"),
            ("https://?a=b", "not a URI"),
            ("https://:443/", "no host"),
            ("http://:80/", "no host"),
        ] {
            refuse(uri, reason);
        }
    }

    #[test]
    fn credentials_fragments_and_queries_are_not_repeated() {
        for (uri, reason) in [
            ("https://user:hunter2@example.com/", "credentials"),
            ("https://hunter2@example.com/", "credentials"),
            ("https://:hunter2@example.com/", "credentials"),
            ("https://@example.com/", "credentials"),
            ("http://hunter2@example.com/127.0.0.1", "credentials"),
            ("http://localhost:hunter2@example.com/", "credentials"),
            ("http://127.0.0.1@example.com/", "credentials"),
            ("ftp://hunter2@example.com/", "credentials"),
            ("https://user:hunter2@/", "not a URI"),
            ("https://user%3Ahunter2%40example.com/", "not a URI"),
            ("user:hunter2@example.com", "not absolute"),
            ("user:hunter2@example.com/", "not a URI"),
            ("user:hunter2://example.com/", "not a URI"),
            ("https://example.com/#hunter2", "fragment"),
            ("https://example.com#", "fragment"),
            ("https://user:hunter2@example.com/#top", "fragment"),
            ("http://example.com/hunter2?token=hunter2", "loopback"),
            ("ftp://example.com/?token=hunter2", "scheme"),
            ("https://example.com:hunter2/", "port"),
            ("https://example.com:1?hunter 2=hunter2", "white space"),
        ] {
            refuse(uri, reason);
        }
    }

    #[test]
    fn a_port_is_a_number_from_1_to_65535() {
        for (port, reason) in [
            (":", "port"),
            (":0", "port"),
            (":65536", "port"),
            (":99999999999999999999", "port"),
            (":abc", "port"),
            (":80a", "port"),
            (":+80", "port"),
            (":-80", "port"),
            (":80:80", "not a URI"),
            ("::80", "not a URI"),
            (":%38%30", "not a URI"),
        ] {
            for host in [
                "https://example.com",
                "http://127.0.0.1",
                "http://localhost",
            ] {
                refuse(&format!("{host}{port}/webhook"), reason);
                refuse(&format!("{host}{port}"), reason);
            }
        }
        for port in [":", ":0", ":65536", ":abc", ":+80"] {
            refuse(&format!("http://[::1]{port}/"), "port");
        }
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        for (uri, reason) in [
            ("http://localhost\\@evil.example/", "backslash"),
            ("https://example.com\\.evil.example/", "backslash"),
            ("https:\\\\example.com\\", "backslash"),
            ("https://exa mple.com/", "white space"),
            (" https://example.com/", "white space"),
            ("https://example.com/\n", "white space"),
            ("https://exam\tple.com/", "white space"),
            ("https://example.com/a\u{a0}b", "white space"),
            ("https://example.com/\0", "control"),
            ("https://example.com/\u{7f}", "control"),
            ("https://example.com/\u{85}", "control"),
            ("http://127.1/", "host"),
            ("http://127.0.1/", "host"),
            ("http://2130706433/", "host"),
            ("http://0x7f.1/", "host"),
            ("http://0X7F000001/", "host"),
            ("http://127.0.0.0x/", "host"),
            ("http://0177.0.0.1/", "host"),
            ("http://127.0.0.01/", "host"),
            ("http://127.0.0.1./", "host"),
            ("http://127.0.0.256/", "host"),
            ("http://127.0.0.1.1/", "host"),
            ("https://example.1/", "host"),
            ("http://0/", "host"),
            ("http://[::1].example.com", "port"),
            ("http://[::1]example.com/", "port"),
            ("http://[::1]80/", "port"),
            ("http://::1/", "not a URI"),
            ("https://2001:db8::1/", "not a URI"),
            ("https://[not-an-ip]/", "host"),
            ("https://[]/", "host"),
            ("https://[127.0.0.1]/", "host"),
            ("https://[v1.a]/", "host"),
            ("https://[::1%25eth0]/", "host"),
            ("http://[::1/", "not a URI"),
            ("http://::1]/", "not a URI"),
            ("https://example[::1]/", "host"),
            ("https://exa%6dple.com/", "not a URI"),
            ("https://ex\u{e4}mple.com/", "not a URI"),
            ("http://\u{ff4c}ocalhost/", "not a URI"),
            ("https://example..com/", "host"),
            ("https://.example.com/", "host"),
            ("https://./", "host"),
            ("https://*.example.com/", "host"),
            ("https://a,b/", "host"),
            ("https://a;b/", "host"),
            ("https://a$b/", "host"),
        ] {
            refuse(uri, reason);
        }
    }

    #[track_caller]
    fn refuse(uri: &str, expected: &str) {
        let reason = parse(uri).expect_err(uri);
        assert!(reason.contains(expected), "{uri}: {reason}");
        assert!(!reason.contains("hunter"), "{reason}");
    }
}
