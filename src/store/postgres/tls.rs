//! TLS with rustls, for `tokio-postgres`.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use deadpool_postgres::Manager;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    config::SslMode,
    tls::{ChannelBinding, MakeTlsConnect, NoTls, TlsConnect, TlsStream},
};
use tokio_rustls::{TlsConnector, client};

use super::address::{Address, Verify};
use crate::{
    boxed::{BoxError, BoxFuture},
    store::{StoreError, tls},
};

pub(super) fn manager(address: Address) -> Result<Manager, StoreError> {
    let Address {
        config,
        verify,
        roots,
    } = address;
    if config.get_ssl_mode() == SslMode::Disable {
        return Ok(Manager::new(config, NoTls));
    }
    let provider = tls::provider();
    let chain = match verify {
        Verify::Nothing => None,
        Verify::Authority | Verify::Name => {
            let roots = match roots {
                Some(path) => {
                    let pem = std::fs::read(path).map_err(StoreError::refused)?;
                    tls::roots(&pem)?
                }
                None => platform_roots()?,
            };
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Some(verifier.build().map_err(StoreError::refused)?)
        }
    };
    let verifier: Arc<dyn ServerCertVerifier> = match chain {
        Some(verifier) if verify == Verify::Name => verifier,
        chain => Arc::new(AnyName {
            provider: Arc::clone(&provider),
            chain,
        }),
    };
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(StoreError::refused)?;
    let tls = tls.dangerous().with_custom_certificate_verifier(verifier);
    let mut tls = tls.with_no_client_auth();
    // PostgreSQL 17 requires it where TLS begins at once (`sslnegotiation=direct`).
    tls.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Manager::new(config, Tls(TlsConnector::from(Arc::new(tls)))))
}

/// Reads the certificates that the platform trusts.
fn platform_roots() -> Result<RootCertStore, StoreError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.into_iter().next() {
        Some(error) if added == 0 => Err(StoreError::refused(error)),
        None if added == 0 => Err(StoreError::refused("the platform trusts no certificate")),
        _ => Ok(roots),
    }
}

#[derive(Clone)]
struct Tls(TlsConnector);

struct TlsTo(TlsConnector, ServerName<'static>);

struct Stream(client::TlsStream<Socket>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = TlsTo;
    type Error = BoxError;

    fn make_tls_connect(&mut self, host: &str) -> Result<TlsTo, BoxError> {
        // Empty for a Unix socket, over which PostgreSQL has no TLS.
        let name = if host.is_empty() { "socket" } else { host };
        let name = ServerName::try_from(name.to_owned())?;
        Ok(TlsTo(self.0.clone(), name))
    }
}

impl TlsConnect<Socket> for TlsTo {
    type Stream = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { self.0.connect(self.1, socket).await.map(Stream) })
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Verifies the chain of a certificate and not its name; not even the chain for `sslmode=require`, which
/// means an encrypted connection to anybody. The server always proves that the certificate is its own.
#[derive(Debug)]
struct AnyName {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is verified last: the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
