//! In place of `tls.rs`, without the feature `tls`.

use redis::{Client, ConnectionInfo, RedisError};

use crate::store::StoreError;

pub(super) fn client(_: ConnectionInfo, _: Option<&[u8]>) -> Result<Client, StoreError> {
    Err(StoreError::refused(
        "the address requires TLS, and the feature `tls` is off",
    ))
}

pub(super) const fn is_refusal(_: &RedisError) -> bool {
    false
}
