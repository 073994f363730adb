//! In place of `tls.rs`, without the feature `tls`.

use deadpool_postgres::Manager;
use tokio_postgres::{NoTls, config::SslMode};

use super::address::{Address, Verify};
use crate::store::StoreError;

pub(super) fn manager(address: Address) -> Result<Manager, StoreError> {
    let Address {
        config,
        verify,
        roots,
    } = address;
    let requires = config.get_ssl_mode() == SslMode::Require || verify != Verify::Nothing;
    if requires || roots.is_some() {
        return Err(StoreError::refused(
            "the address requires TLS, and the feature `tls` is off",
        ));
    }
    Ok(Manager::new(config, NoTls))
}
