//! The table: what is done in it inside a transaction.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension as _, params};

use super::{
    guard::Guard,
    inbox::REMOVE_ANYWHERE,
    queue::CAPACITY,
    sql::{CLAIM, COMPLETE, COMPLETE_ONCE, FORGET, INSERT, RELEASE, STATE, VISIT},
};
use crate::{
    clock::{Clock, milliseconds},
    store::{Claim, ClaimOutcome, StoreError, bounded},
};

/// A connection with the table.
pub(super) struct Ledger<'c> {
    pub(super) connection: &'c Connection,
    pub(super) guard: &'c Guard,
    pub(super) sweep: &'c Sweep,
}

impl Ledger<'_> {
    pub(super) fn claim(
        &self,
        clock: &Clock,
        key: &str,
        lease: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        claim(self.connection, self.sweep, clock, key, lease)
    }

    /// Owes a visit to expired rows for a key that was added.
    pub(super) fn owe(&self, clock: &Clock, key: &str) {
        self.sweep.owe(clock, key);
    }

    /// Waits for other processes, as long as the connection's busy handler does.
    pub(super) fn begin(&self) -> Result<(), StoreError> {
        // Else a rollback that failed would make each later transaction fail.
        self.roll_back();
        // Immediate: it waits for its turn now, and can't find later that it has to start anew. Not in
        // the connection's cache of statements: whoever finds one there passes the guard.
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(())
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        self.sweep.pay(self.connection)?;
        self.connection.execute_batch("COMMIT")?;
        Ok(())
    }

    /// Does nothing outside a transaction. Some errors have already ended it.
    pub(super) fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            // If it fails, the next transaction tries again.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}

/// A statement is prepared once, and again after a change of the schema.
pub(super) fn prepared<'c>(
    connection: &'c Connection,
    sql: &str,
) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}

/// Claims of a user's own transactions are paid for by the next of the store's.
pub(super) fn claim(
    connection: &Connection,
    sweep: &Sweep,
    clock: &Clock,
    key: &str,
    lease: Duration,
) -> Result<ClaimOutcome, StoreError> {
    let (now, lease) = (now(clock), milliseconds(bounded(lease)));
    let new = |fencing_token| {
        sweep.owe(clock, key);
        Ok(ClaimOutcome::New(Claim::new(key, fencing_token)))
    };
    // Almost every key is new. This takes a third of the time of the statement with `RETURNING`.
    let inserted = prepared(connection, INSERT)?.execute(params![key, now, lease])?;
    if inserted == 1 {
        return new(now.saturating_mul(1000));
    }
    let claimed = prepared(connection, CLAIM)?
        .query_row(params![key, now, lease], |row| row.get(0))
        .optional()?;
    if let Some(fencing_token) = claimed {
        return new(fencing_token);
    }
    let outcome = prepared(connection, STATE)?.query_row([key], |row| {
        Ok(if row.get(0)? {
            ClaimOutcome::Done
        } else {
            let remaining = row.get::<_, i64>(1)?.saturating_sub(now);
            let remaining = Duration::from_millis(remaining.unsigned_abs());
            ClaimOutcome::InFlight { remaining }
        })
    });
    Ok(outcome?)
}

/// True if the key is done by this claim.
pub(super) fn complete(
    connection: &Connection,
    clock: &Clock,
    claim: &Claim,
    retention: Duration,
) -> Result<bool, StoreError> {
    complete_by(connection, COMPLETE, clock, claim, retention)
}

/// True if the key is done by this claim, and was not before.
pub(super) fn complete_once(
    connection: &Connection,
    clock: &Clock,
    claim: &Claim,
) -> Result<bool, StoreError> {
    complete_by(connection, COMPLETE_ONCE, clock, claim, claim.retention())
}

fn complete_by(
    connection: &Connection,
    sql: &str,
    clock: &Clock,
    claim: &Claim,
    retention: Duration,
) -> Result<bool, StoreError> {
    if let Some(id) = claim.entry() {
        let removed =
            prepared(connection, REMOVE_ANYWHERE)?.execute([id, claim.fencing_token()])?;
        return Ok(removed == 1);
    }
    let changed = prepared(connection, sql)?.execute(params![
        claim.key(),
        claim.fencing_token(),
        now(clock),
        milliseconds(bounded(retention)),
    ])?;
    Ok(changed == 1)
}

pub(super) fn release(connection: &Connection, claim: &Claim) -> Result<(), StoreError> {
    prepared(connection, RELEASE)?.execute(params![claim.key(), claim.fencing_token()])?;
    Ok(())
}

/// Fails if the table is missing or is another's.
pub(super) fn check(connection: &Connection) -> Result<(), StoreError> {
    // First a look at the table, after which the connection knows of changes by others.
    let looked = prepared(connection, STATE).and_then(|mut state| state.exists([""]));
    looked.map_err(of_schema)?;
    for sql in [INSERT, CLAIM, COMPLETE, RELEASE, FORGET] {
        connection.prepare(sql).map_err(of_schema)?;
    }
    super::inbox::check(connection)?;
    Ok(())
}

/// An error without a code of its own is one of the statement: a table or a column is missing.
pub(super) fn of_schema(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        None | Some(ErrorCode::Unknown) => StoreError::refused(error),
        Some(_) => error.into(),
    }
}

/// Removes the rows that need no longer be remembered, in the order of their keys, and begins again at
/// the end. Each claim owes a visit to four rows, so that each row is visited four times in the time in
/// which the table is filled anew, and expired rows are at most a quarter of it.
#[derive(Default)]
pub(super) struct Sweep(Mutex<Progress>);

struct Progress {
    /// The last key that was visited, or else the first that was claimed: if they all began at the
    /// smallest key, processes that end soon would never come to the rest.
    position: Option<String>,
    /// The claims that have yet to be paid for, and the clock of the last.
    unpaid: u32,
    clock: Clock,
}

/// The first claim pays at once, so that a process with a few claims in its life pays for them too.
impl Default for Progress {
    fn default() -> Self {
        Self {
            position: None,
            unpaid: Sweep::LEAST_CLAIMS - 1,
            clock: Clock::default(),
        }
    }
}

impl Sweep {
    const ROWS_PER_CLAIM: u32 = 4;
    /// One visit to many rows costs a fraction of many visits.
    const LEAST_CLAIMS: u32 = 16;

    fn owe(&self, clock: &Clock, key: &str) {
        let mut progress = self.lock();
        progress.position.get_or_insert_with(|| key.to_owned());
        progress.unpaid = progress.unpaid.saturating_add(1);
        progress.clock = clock.clone();
    }

    /// Visits the rows that are owed, at most those of [`CAPACITY`] claims.
    fn pay(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut progress = self.lock();
        if progress.unpaid < Self::LEAST_CLAIMS {
            return Ok(());
        }
        let claims =
            std::mem::take(&mut progress.unpaid).min(u32::try_from(CAPACITY).unwrap_or(u32::MAX));
        let (now, limit) = (
            now(&progress.clock),
            claims.saturating_mul(Self::ROWS_PER_CLAIM),
        );
        let mut visit = prepared(connection, VISIT)?;
        let position = progress.position.as_deref().unwrap_or_default();
        let mut rows = visit.query(params![position, limit])?;
        let (mut visited, mut end, mut expired) = (0_u32, String::new(), Vec::new());
        while let Some(row) = rows.next()? {
            visited = visited.saturating_add(1);
            // Fewer rows than that are the last of the table: the next visit begins at the first.
            if visited == limit {
                end = row.get(0)?;
            }
            if row.get::<_, i64>(1)? <= now {
                expired.push(row.get::<_, String>(0)?);
            }
        }
        progress.position = Some(end);
        for key in expired {
            prepared(connection, FORGET)?.execute([key])?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // No panic can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In Unix milliseconds, by the clock of the machine that all users of the file share.
fn now(clock: &Clock) -> i64 {
    milliseconds(clock.since_epoch())
}
