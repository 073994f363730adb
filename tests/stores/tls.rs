//! TLS, with real servers and certificates that are made here.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use gemini_webhooks::store::{
    ClaimOutcome, IdempotencyStore, PostgresStore, RedisStore, StoreError, StoreErrorKind,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{
    fixture::chain,
    servers::{Server, free_port, temporary_path},
};

const LEASE: Duration = Duration::from_secs(60);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(parameters, key),
            certificate,
        }
    }

    /// Returns a certificate for `localhost` and its key.
    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> [String; 2] {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        [certificate.pem(), key.serialize_pem()]
    }
}

/// A file in PEM, which goes with this.
struct Pem(PathBuf);

impl Pem {
    fn new(content: &str) -> Self {
        let path = temporary_path();
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for Pem {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn expired(parameters: &mut CertificateParams) {
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
}

fn postgres([certificate, key]: &[String; 2]) -> Option<Server> {
    let mut server = Server::postgres(false)?;
    server.restart_with(
        &[("server.crt", certificate), ("server.key", key)],
        "-c ssl=on -c ssl_cert_file=@/server.crt -c ssl_key_file=@/server.key",
    );
    Some(server)
}

/// Returns once the server has ended its recovery.
async fn check(store: &dyn IdempotencyStore) -> Result<(), StoreError> {
    loop {
        match store.check().await {
            Err(error) if chain(&error).contains("starting up") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            checked => return checked,
        }
    }
}

async fn claims_and_completes(store: &dyn IdempotencyStore) {
    let ClaimOutcome::New(claim) = store.claim("a", LEASE).await.unwrap() else {
        panic!("it is new");
    };
    assert!(store.complete(&claim, LEASE).await.unwrap());
    assert_eq!(store.claim("a", LEASE).await.unwrap(), ClaimOutcome::Done);
}

#[tokio::test]
async fn postgresql_over_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let Some(server) = postgres(&authority.issue(|_| {})) else {
        return;
    };
    let (roots, other) = (
        Pem::new(&authority.certificate),
        Pem::new(&other.certificate),
    );
    let url = |host: &str, query: &str| {
        format!(
            "postgres://postgres@{host}:{}/postgres?{query}",
            server.port
        )
    };
    let (roots, other) = (
        format!("&sslrootcert={}", roots.0.display()),
        format!("&sslrootcert={}", other.0.display()),
    );
    for (host, mode, roots, is_encrypted) in [
        ("localhost", "verify-full", &*roots, Some(true)),
        ("localhost", "verify-ca", &roots, Some(true)),
        ("localhost", "require", &roots, Some(true)),
        ("127.0.0.1", "verify-full", &roots, None),
        ("127.0.0.1", "verify-ca", &roots, Some(true)),
        ("localhost", "verify-full", &other, None),
        ("localhost", "verify-ca", &other, None),
        ("localhost", "require", &other, None),
        // By the platform's authorities.
        ("localhost", "verify-full", "", None),
        ("localhost", "verify-ca", "", None),
        ("localhost", "require", "&sslrootcert=system", None),
        ("localhost", "require", "", Some(true)),
        ("localhost", "prefer", "", Some(true)),
        ("localhost", "disable", "", Some(false)),
    ] {
        let url = url(host, &format!("sslmode={mode}{roots}"));
        let store = PostgresStore::connect(&url);
        let Some(is_encrypted) = is_encrypted else {
            let error = match store {
                Ok(store) => check(&store).await.unwrap_err(),
                // A platform that trusts nobody.
                Err(error) => error,
            };
            assert_eq!(
                error.kind(),
                StoreErrorKind::Configuration,
                "{url}: {error:?}"
            );
            continue;
        };
        let store = store.unwrap();
        check(&store)
            .await
            .unwrap_or_else(|error| panic!("{url}: {}", chain(&error)));
        let client = store.pool().get().await.unwrap();
        let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = client.query_one(ssl, &[]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), is_encrypted, "{url}");
    }
    let store = PostgresStore::connect(&url("localhost", &format!("sslmode=verify-full{roots}")));
    claims_and_completes(&store.unwrap()).await;
}

#[tokio::test]
async fn postgresql_without_the_name_of_a_host() {
    let authority = Authority::new();
    let address = |parameters: &mut CertificateParams| {
        let address = Ipv4Addr::LOCALHOST.into();
        parameters.subject_alt_names = vec![rcgen::SanType::IpAddress(address)];
    };
    let Some(server) = postgres(&authority.issue(address)) else {
        return;
    };
    let roots = Pem::new(&authority.certificate);
    let socket = format!("host={}", server.folder.display());
    let verified = format!(
        "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}",
        roots.0.display()
    );
    for (query, is_encrypted) in [
        (&*socket, false),
        (&format!("{socket}&sslmode=disable"), false),
        ("hostaddr=127.0.0.1", true),
        ("hostaddr=127.0.0.1&sslmode=disable", false),
        (&verified, true),
    ] {
        let url = format!("postgres://postgres@/postgres?port={}&{query}", server.port);
        let store = PostgresStore::connect(&url).unwrap();
        check(&store)
            .await
            .unwrap_or_else(|error| panic!("{url}: {}", chain(&error)));
        let client = store.pool().get().await.unwrap();
        let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = client.query_one(ssl, &[]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), is_encrypted, "{url}");
    }
}

#[tokio::test]
async fn postgresql_with_an_expired_certificate_or_without_tls_is_refused() {
    let authority = Authority::new();
    let roots = Pem::new(&authority.certificate);
    let Some(server) = postgres(&authority.issue(expired)) else {
        return;
    };
    for mode in ["verify-ca", "verify-full"] {
        let url = format!(
            "postgres://postgres@localhost:{}/postgres?sslmode={mode}&sslrootcert={}",
            server.port,
            roots.0.display()
        );
        let error = check(&PostgresStore::connect(&url).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Configuration);
        assert!(chain(&error).contains("expired"), "{}", chain(&error));
    }
    let plain = Server::postgres(false).unwrap();
    let url = format!(
        "postgres://postgres@localhost:{}/postgres?sslmode=require",
        plain.port
    );
    let error = check(&PostgresStore::connect(&url).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
    assert!(chain(&error).contains("does not support TLS"));
}

#[test]
fn roots_that_cannot_be_read_are_refused_when_the_store_is_built() {
    let (empty, broken) = (
        Pem::new("no certificate"),
        Pem::new("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    );
    let missing = temporary_path();
    for path in [&empty.0, &broken.0, &missing] {
        let path = path.display();
        let url = format!("postgres://a@localhost/b?sslmode=verify-ca&sslrootcert={path}");
        let error = PostgresStore::connect(&url).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Configuration, "{error:?}");
    }
}

fn redis([certificate, key]: &[String; 2], authority: &Authority) -> Option<(Server, u16)> {
    let mut server = Server::redis(false)?;
    let port = free_port();
    let files = [
        ("server.crt", &**certificate),
        ("server.key", key),
        ("ca.crt", &authority.certificate),
    ];
    let arguments = format!(
        "--tls-port {port} --tls-cert-file @/server.crt --tls-key-file @/server.key \
         --tls-ca-cert-file @/ca.crt --tls-auth-clients no"
    );
    server.restart_with(&files, &arguments);
    Some((server, port))
}

#[tokio::test]
async fn redis_over_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let Some((_server, port)) = redis(&authority.issue(|_| {}), &authority) else {
        return;
    };
    let (roots, other) = (
        authority.certificate.as_bytes(),
        other.certificate.as_bytes(),
    );
    let url = format!("rediss://localhost:{port}/");
    let store = RedisStore::connect_with_roots(&url, roots).unwrap();
    store.check().await.unwrap();
    claims_and_completes(&store).await;

    let address = format!("rediss://{}:{port}/", Ipv4Addr::LOCALHOST);
    let refused = [
        RedisStore::connect_with_roots(&url, other),
        RedisStore::connect_with_roots(&address, roots),
        RedisStore::connect(&url),
    ];
    for store in refused {
        let error = match store {
            Ok(store) => store.check().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), StoreErrorKind::Configuration, "{error:?}");
    }
    let Some((_server, port)) = redis(&authority.issue(expired), &authority) else {
        return;
    };
    let url = format!("rediss://localhost:{port}/");
    let store = RedisStore::connect_with_roots(&url, roots).unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration, "{error:?}");
}

#[tokio::test]
async fn addresses_of_redis_that_cannot_be_used_are_refused() {
    let roots = Authority::new().certificate;
    for (url, roots) in [
        ("rediss://localhost/#insecure", None),
        ("rediss://localhost/#insecure", Some(&*roots)),
        ("redis://localhost/", Some(&*roots)),
        ("rediss://localhost/", Some("no certificate")),
        ("nonsense", None),
    ] {
        let store = match roots {
            Some(roots) => RedisStore::connect_with_roots(url, roots.as_bytes()),
            None => RedisStore::connect(url),
        };
        let error = store.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Configuration, "{url}");
    }
}
