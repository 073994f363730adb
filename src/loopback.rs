use std::net::IpAddr;

/// Whether a host, as it stands in an address, is this machine: the one where HTTP without TLS is
/// taken. IPv6 addresses are in brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
