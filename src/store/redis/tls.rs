//! TLS with rustls.

use std::{error::Error, io, sync::Arc};

use redis::{Client, ConnectionInfo, RedisError, TlsCertificates};

use crate::store::{StoreError, tls};

pub(super) fn client(info: ConnectionInfo, roots: Option<&[u8]>) -> Result<Client, StoreError> {
    // The client takes the process's provider, and panics where there is none and several are in the
    // build.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let provider = (*tls::provider()).clone();
        // An error means that another thread has installed one.
        let _ = provider.install_default();
    }
    let root_cert = match roots {
        Some(pem) => {
            // Checked here, for the client would take none for the platform's.
            tls::roots(pem)?;
            Some(pem.to_vec())
        }
        None => None,
    };
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert,
    };
    Client::build_with_tls(info, certificates).map_err(StoreError::refused)
}

/// Returns true if rustls refused the server, as it will next time.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    let Some(source) = error.source() else {
        return false;
    };
    // The client keeps its causes behind a pointer, which may be the source itself.
    let shared = source.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    let io = match shared {
        Some(shared) => shared.downcast_ref::<io::Error>(),
        None => source.downcast_ref::<io::Error>(),
    };
    io.and_then(io::Error::get_ref)
        .is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
}
