//! The kinds of PostgreSQL's errors.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::{Error, error::SqlState};

use crate::store::{StoreError, StoreErrorKind};

/// Returns the kind of an error, by its SQLSTATE (PostgreSQL 15, appendix A) where it has one.
pub(super) fn kind(error: &Error) -> StoreErrorKind {
    let Some(state) = error.code() else {
        return if is_configuration(error) {
            StoreErrorKind::Configuration
        } else {
            StoreErrorKind::Unavailable
        };
    };
    if *state == SqlState::QUERY_CANCELED || *state == SqlState::LOCK_NOT_AVAILABLE {
        return StoreErrorKind::TimedOut;
    }
    // An unknown role or a wrong password, an unknown database or schema, a missing right or table.
    match state.code().get(..2) {
        Some("28" | "3D" | "3F" | "42") => StoreErrorKind::Configuration,
        _ => StoreErrorKind::Unavailable,
    }
}

/// A handshake that failed over the certificate or its name fails next time too, as does an address
/// without a host, or without a password that the server asks for.
fn is_configuration(error: &Error) -> bool {
    // The client has no accessor for these kinds, only their texts. Older versions append the cause.
    let text = error.to_string();
    let is_handshake = text.starts_with("error performing TLS handshake");
    let is_io = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|error| error.kind() != std::io::ErrorKind::InvalidData);
    (is_handshake && !is_io) || text.starts_with("invalid configuration")
}

/// Returns true if the server refused a statement over a part of it, over a connection that is still
/// good: nothing of the statement has happened.
pub(super) fn is_refusal(error: &Error) -> bool {
    // 25: the server is read-only. 53: it lacks memory or disk. 57: it shuts down, or the statement took
    // too long.
    let is_of_all = |state: &SqlState| matches!(state.code().get(..2), Some("25" | "53" | "57"));
    error.code().is_some_and(|state| !is_of_all(state)) && !error.is_closed()
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::with_source(kind(&error), error)
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => Self::with_source(StoreErrorKind::TimedOut, error),
            _ => Self::new(error),
        }
    }
}
