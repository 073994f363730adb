//! The address of a database: what `tokio-postgres` reads, and the parameters of TLS that it does not.

use std::{str::FromStr as _, time::Duration};

use tokio_postgres::{
    Config,
    config::{ChannelBinding, SslMode},
};

use super::pool::PATIENCE;
use crate::{encoding::percent_decode, store::StoreError};

/// The options of a connection.
///
/// The limit ends a statement whose client does not wait for it any more, within [`PATIENCE`]: one that waits
/// for a lock would not notice that its client has gone, and keep its connection. The others keep the plans
/// of the crate's statements: they are planned once, which takes longer than to run them, and by an index even
/// where that happens while a table is empty.
const OPTIONS: [(&str, &str); 3] = [
    ("statement_timeout", "4s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
];

/// An address, and how the certificate of its server is verified.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) verify: Verify,
    /// The path of `sslrootcert`, where it names a file.
    pub(super) roots: Option<String>,
}

/// The part of a certificate that is verified, as `sslmode` says (PostgreSQL 15, section 34.19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    /// `disable`, `prefer`, `require`
    Nothing,
    /// `verify-ca`
    Authority,
    /// `verify-full`
    Name,
}

impl Address {
    /// Reads a URL, or a connection string without parameters of TLS that `tokio-postgres` does not
    /// know.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let (mut verify, mut roots, mut mode) = (Verify::Nothing, None, None);
        let mut has_none = false;
        let (address, query) = match text.split_once('?') {
            Some((address, query)) if text.contains("://") => (address, query),
            _ => (text, ""),
        };
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "sslmode" => mode = Some(value),
                "sslrootcert" => roots = Some(decoded(value)?),
                "sslcert" | "sslkey" => {
                    return Err(StoreError::refused(
                        "client certificates need a pool of the caller's own",
                    ));
                }
                // A pooler in between may refuse them.
                "options" if value.is_empty() => has_none = true,
                _ => kept.push(pair),
            }
        }
        let mut rest = address.to_owned();
        if !kept.is_empty() {
            rest.push('?');
            rest.push_str(&kept.join("&"));
        }
        let mut config = Config::from_str(&rest).map_err(StoreError::refused)?;
        match mode {
            None => {}
            Some("disable") => _ = config.ssl_mode(SslMode::Disable),
            Some("prefer") => _ = config.ssl_mode(SslMode::Prefer),
            Some("require") => _ = config.ssl_mode(SslMode::Require),
            Some("verify-ca") => verify = Verify::Authority,
            Some("verify-full") => verify = Verify::Name,
            Some(_) => {
                return Err(StoreError::refused(
                    "sslmode is none of disable, prefer, require, verify-ca and verify-full",
                ));
            }
        }
        if roots.as_deref() == Some("system") {
            // As libpq does: any certificate of a public authority would do otherwise.
            (roots, verify) = (None, Verify::Name);
        } else if roots.is_some() && config.get_ssl_mode() == SslMode::Require {
            // As libpq does too.
            verify = verify.at_least_authority();
        }
        if verify != Verify::Nothing {
            config.ssl_mode(SslMode::Require);
        } else if roots.is_some() {
            return Err(StoreError::refused(
                "sslrootcert needs the sslmode require, verify-ca or verify-full",
            ));
        }
        if config.get_channel_binding() == ChannelBinding::Require {
            return Err(StoreError::refused(
                "channel binding needs a pool of the caller's own",
            ));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        // A firewall may forget a connection that is idle for some minutes, and tell nobody.
        if !text.contains("keepalives_idle") {
            config.keepalives_idle(Duration::from_secs(60));
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(PATIENCE);
        }
        let given = config.get_options().unwrap_or_default().to_owned();
        let others = OPTIONS.iter().filter(|(name, _)| !given.contains(name));
        let others = others.map(|(name, value)| format!("-c {name}={value}"));
        let options: Vec<_> = std::iter::once(given.clone()).chain(others).collect();
        if !has_none {
            config.options(options.join(" ").trim_start());
        }
        // The client needs a name for TLS, as which libpq too takes the address.
        if config.get_hosts().is_empty() {
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string().as_str());
            }
        }
        Ok(Self {
            config,
            verify,
            roots,
        })
    }
}

impl Verify {
    const fn at_least_authority(self) -> Self {
        match self {
            Self::Nothing => Self::Authority,
            verify => verify,
        }
    }
}

fn decoded(value: &str) -> Result<String, StoreError> {
    if !value.contains('%') {
        return Ok(value.to_owned());
    }
    let decoded = percent_decode(value.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| StoreError::refused("sslrootcert has invalid percent-encoding"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;

    fn parse(query: &str) -> Result<(SslMode, Verify, Option<String>), String> {
        let address = Address::parse(&format!("postgres://a:hunter2@localhost/b{query}"));
        let address = address.map_err(|error| {
            assert_eq!(error.kind(), StoreErrorKind::Configuration);
            format!("{error:?}")
        })?;
        assert_eq!(address.config.get_user(), Some("a"));
        assert_eq!(address.config.get_dbname(), Some("b"));
        Ok((address.config.get_ssl_mode(), address.verify, address.roots))
    }

    #[test]
    fn the_parameters_of_tls_mean_what_they_mean_to_libpq() {
        let file = Some("/a b.pem".to_owned());
        for (query, expected) in [
            ("", (SslMode::Prefer, Verify::Nothing, None)),
            (
                "?sslmode=disable",
                (SslMode::Disable, Verify::Nothing, None),
            ),
            (
                "?sslmode=require",
                (SslMode::Require, Verify::Nothing, None),
            ),
            (
                "?sslmode=verify-ca",
                (SslMode::Require, Verify::Authority, None),
            ),
            (
                "?sslmode=verify-full",
                (SslMode::Require, Verify::Name, None),
            ),
            (
                "?sslrootcert=/a%20b.pem&sslmode=require",
                (SslMode::Require, Verify::Authority, file.clone()),
            ),
            (
                "?sslmode=verify-full&sslrootcert=/a b.pem&application_name=c",
                (SslMode::Require, Verify::Name, file),
            ),
            (
                "?sslrootcert=system",
                (SslMode::Require, Verify::Name, None),
            ),
        ] {
            assert_eq!(parse(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn connections_are_kept_alive_and_given_up_unless_the_address_says_otherwise() {
        for (query, idle, patience) in [
            ("", 60, 5),
            ("?keepalives_idle=7200&tcp_user_timeout=9", 7200, 9),
        ] {
            let address = Address::parse(&format!("postgres://a@localhost/b{query}"));
            let config = address.unwrap().config;
            assert_eq!(config.get_keepalives_idle(), Duration::from_secs(idle));
            let found = config.get_tcp_user_timeout();
            assert_eq!(found, Some(&Duration::from_secs(patience)), "{query}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_without_its_password() {
        for query in [
            "?sslmode=full",
            "?sslmode=",
            "?sslcert=a",
            "?sslkey=a",
            "?sslrootcert=%zz",
            "?sslrootcert=a.pem",
            "?sslrootcert=a.pem&sslmode=prefer",
            "?sslrootcert=a.pem&sslmode=disable",
            "?channel_binding=require",
            "?unknown=1",
        ] {
            let error = parse(query).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
