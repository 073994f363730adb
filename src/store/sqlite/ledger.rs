//! The table: what is done in it inside a transaction.

use std::{
    cell::RefCell,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::{
    guard::Guard,
    sql::{CLAIM, COMPLETE, RELEASE, STATE},
};
use crate::{
    clock::{Clock, milliseconds},
    store::{Claim, ClaimOutcome, StoreError, StoreErrorKind, bounded},
};

/// A connection with the table.
pub(super) struct Ledger<'c> {
    pub(super) connection: &'c Connection,
    pub(super) guard: &'c Guard,
    sweep: &'c Sweep,
    /// The claims of this transaction, which have yet to pay for the sweep, and the clock of the last.
    unpaid: RefCell<Option<(u32, Clock)>>,
}

impl<'c> Ledger<'c> {
    pub(super) fn new(connection: &'c Connection, guard: &'c Guard, sweep: &'c Sweep) -> Self {
        Self {
            connection,
            guard,
            sweep,
            unpaid: RefCell::default(),
        }
    }

    pub(super) fn claim(
        &self,
        clock: &Clock,
        key: &str,
        lease: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        let outcome = claim(self.connection, clock, key, lease)?;
        if matches!(outcome, ClaimOutcome::New(_)) {
            let mut unpaid = self.unpaid.borrow_mut();
            let claims = unpaid.take().map_or(0, |(claims, _)| claims);
            *unpaid = Some((claims + 1, clock.clone()));
        }
        Ok(outcome)
    }

    /// Waits for other processes, as long as the connection's busy handler does.
    pub(super) fn begin(&self) -> Result<(), StoreError> {
        // Else a rollback that failed would make each later transaction fail.
        self.roll_back();
        self.unpaid.take();
        // Immediate: it waits for its turn now, and can't find later that it has to start anew. Not
        // cached: whoever finds the statement in the cache passes the guard.
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        // Once for all claims, since it costs more than a claim.
        if let Some((claims, clock)) = self.unpaid.take() {
            self.sweep.pay(self.connection, &clock, claims)?;
        }
        Ok(self.connection.execute_batch("COMMIT")?)
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
fn prepared<'c>(connection: &'c Connection, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}

pub(super) fn claim(
    connection: &Connection,
    clock: &Clock,
    key: &str,
    lease: Duration,
) -> Result<ClaimOutcome, StoreError> {
    let now = now(clock);
    let claimed = prepared(connection, CLAIM)?
        .query_row(params![key, now, milliseconds(bounded(lease))], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(fencing_token) = claimed {
        return Ok(ClaimOutcome::New(Claim::new(key, fencing_token)));
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
    let changed = prepared(connection, COMPLETE)?.execute(params![
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
    for sql in [CLAIM, COMPLETE, STATE, RELEASE] {
        let prepared = connection.prepare(sql);
        prepared.map_err(|error| StoreError::with_source(StoreErrorKind::Configuration, error))?;
    }
    Ok(prepared(connection, STATE)?
        .query_row([""], |_| Ok(()))
        .optional()
        .map(drop)?)
}

/// Removes the rows that need no longer be remembered, in the order of their keys, and begins again at
/// the end. Each claim pays for four rows: each row is visited four times in the time in which the
/// table is filled anew, so that expired rows are at most a quarter of it.
#[derive(Default)]
pub(super) struct Sweep {
    /// The last key that was visited.
    position: Mutex<String>,
}

impl Sweep {
    const ROWS_PER_CLAIM: u32 = 4;

    pub(super) fn pay(
        &self,
        connection: &Connection,
        clock: &Clock,
        claims: u32,
    ) -> Result<(), StoreError> {
        const VISIT: &str = "SELECT key, forget_at FROM gemini_webhook_deliveries
            WHERE key > ?1 ORDER BY key LIMIT ?2";
        const FORGET: &str = "DELETE FROM gemini_webhook_deliveries WHERE key = ?1";
        let (now, limit) = (now(clock), claims.saturating_mul(Self::ROWS_PER_CLAIM));
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut visited, mut expired) = (0, Vec::new());
        let mut visit = prepared(connection, VISIT)?;
        let mut rows = visit.query(params![*position, limit])?;
        while let Some(row) = rows.next()? {
            visited += 1;
            let last = visited == limit;
            if last {
                *position = row.get(0)?;
            }
            if row.get::<_, i64>(1)? <= now {
                expired.push(row.get::<_, String>(0)?);
            }
        }
        if visited < limit {
            position.clear();
        }
        for key in expired {
            prepared(connection, FORGET)?.execute([key])?;
        }
        Ok(())
    }
}

/// In Unix milliseconds, by the clock of the machine that all users of the file share.
fn now(clock: &Clock) -> i64 {
    milliseconds(clock.since_epoch())
}
