//! A transaction of the user's.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use rusqlite::Transaction;

use super::guard::Guard;
use crate::{
    clock::Clock,
    store::{StoreError, StoreErrorKind},
};

/// Does the work and commits. If it fails, panics, takes too long or has ended the transaction, nothing
/// is committed.
pub(super) fn run<T, E: From<StoreError>>(
    transaction: Transaction<'_>,
    guard: &Guard,
    (clock, limit): (&Clock, Duration),
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    guard.begin(clock, limit);
    let returned = catch_unwind(AssertUnwindSafe(|| work(&transaction)));
    let too_late = guard.end();
    // Dropped, the transaction is rolled back.
    let value = match returned {
        Ok(returned) => returned?,
        Err(_) => return Err(StoreError::new("the work of a transaction panicked").into()),
    };
    if too_late {
        let cause = format!("a transaction took more than its {limit:?}");
        return Err(StoreError::with_source(StoreErrorKind::TimedOut, cause).into());
    }
    if guard.was_rolled_back() || transaction.is_autocommit() {
        return Err(StoreError::new("a statement in a transaction has ended it").into());
    }
    transaction.commit().map_err(StoreError::from)?;
    Ok(value)
}
