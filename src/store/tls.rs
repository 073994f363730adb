//! The parts of rustls that the stores with a server share.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::StoreError;

/// Returns the process's provider of cryptography, or aws-lc-rs where it has not chosen one.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let default = CryptoProvider::get_default().cloned();
    default.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

/// Reads certificates in PEM.
pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|_| StoreError::refused("the roots are not in PEM"))?;
        roots.add(certificate).map_err(StoreError::refused)?;
    }
    if roots.is_empty() {
        return Err(StoreError::refused(
            "there is no certificate among the roots",
        ));
    }
    Ok(roots)
}
