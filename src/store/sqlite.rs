use std::{fmt, path::Path, sync::Arc, time::Duration};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params,
};
use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};

use crate::clock::{Clock, milliseconds};

use super::{
    Claim, ClaimOutcome, IdempotencyStore, KEEP, StoreError, StoreFuture, bounded, fencing_token,
};

/// `held_until` is the end of the lease, `forget_at` that of the retention, in Unix milliseconds. The row
/// of a claim that was not completed outlives its lease, so that the next fencing token is larger even
/// if the clock has stepped back.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS gemini_webhook_deliveries (
        key TEXT PRIMARY KEY,
        fencing_token INTEGER NOT NULL,
        done INTEGER NOT NULL,
        held_until INTEGER NOT NULL,
        forget_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS gemini_webhook_deliveries_forget_at
        ON gemini_webhook_deliveries (forget_at);
";

/// Remembers in an SQLite database: for one machine, in any number of processes.
///
/// What it has answered survives `kill -9` and a power failure: the write-ahead log is synced with
/// each transaction. It has a table of its own, `gemini_webhook_deliveries`, which may be beside
/// yours in one file, and which [`open`](Self::open) creates. Keys that need no longer be
/// remembered go two at a time, with each claim.
///
/// Calls have to be made in a Tokio runtime, and wait at most 10 s for the database. Clones share
/// one connection.
///
/// # Effects in the same transaction
///
/// [`transaction`](Self::transaction), [`claim_in`](Self::claim_in) and
/// [`complete_in`](Self::complete_in) let a delivery's effect in this database happen exactly once,
/// whenever the process dies.
///
/// ```
/// # use std::time::Duration;
/// # use gemini_webhooks::store::StoreError;
/// use gemini_webhooks::store::{ClaimOutcome, SqliteStore};
///
/// # async fn example(store: SqliteStore, key: String, payload: Vec<u8>, retention: Duration) -> Result<(), StoreError> {
/// let stored = store
///     .transaction(move |transaction| {
///         let outcome = SqliteStore::claim_in(transaction, &key, Duration::from_secs(60))?;
///         let ClaimOutcome::New(claim) = outcome else { return Ok(false) };
///         transaction.execute("INSERT INTO inbox (payload) VALUES (?1)", [&payload])?;
///         SqliteStore::complete_in(transaction, &claim, retention)
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    clock: Clock,
}

impl SqliteStore {
    /// How long a call waits for other processes, and as long again for other callers in this one.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Opens the database in this file, and creates file and table where they are missing. The
    /// folder has to be there, on a local disk: a write-ahead log does not work over a network.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the file can't be opened, or is not an SQLite database.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let connection = Connection::open(path).map_err(StoreError::new)?;
        let clock = Clock::default();
        let deadline = clock.instant().checked_add(Self::PATIENCE);
        // For some locks SQLite does not wait, as that of the change to a write-ahead log: where
        // several processes open a new file, all but one find it busy.
        while let Err(error) = prepare(&connection) {
            let busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
            if !busy || deadline.is_none_or(|deadline| clock.instant() >= deadline) {
                return Err(StoreError::new(error));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            clock,
        })
    }

    /// Sets the clock.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Runs `work` in a transaction, which is committed if it gives `Ok`. It is on a thread of its
    /// own and may block, but everybody else waits.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with the error of `work`, or where the database is busy or fails. Then
    /// nothing has happened, except that what a commit fails with may leave open whether it did.
    pub async fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection).lock_owned();
        let mut connection = timeout(Self::PATIENCE, connection)
            .await
            .map_err(|_| StoreError::new("too many calls are waiting for it"))?;
        let done = spawn_blocking(move || {
            // Immediate: it waits for its turn now, and can't find later that it has to start anew.
            let behavior = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok::<_, rusqlite::Error>(value)
        });
        // `work` may panic: the transaction is rolled back, and the connection goes on.
        let done = done.await.map_err(StoreError::new)?;
        done.map_err(StoreError::new)
    }

    /// [`claim`](IdempotencyStore::claim) as a part of a transaction on the store's database.
    ///
    /// # Errors
    ///
    /// Those of SQLite.
    pub fn claim_in(
        transaction: &Transaction<'_>,
        key: &str,
        lease: Duration,
    ) -> rusqlite::Result<ClaimOutcome> {
        claim(transaction, &Clock::default(), key, lease)
    }

    /// [`complete`](IdempotencyStore::complete) as a part of a transaction on the store's database,
    /// over any connection. Where it gives false, roll back: another has handled the delivery.
    ///
    /// # Errors
    ///
    /// Those of SQLite.
    pub fn complete_in(
        transaction: &Transaction<'_>,
        claim: &Claim,
        retention: Duration,
    ) -> rusqlite::Result<bool> {
        complete(transaction, &Clock::default(), claim, retention)
    }
}

impl IdempotencyStore for SqliteStore {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        let (key, clock) = (key.to_owned(), self.clock.clone());
        Box::pin(self.transaction(move |transaction| claim(transaction, &clock, &key, lease)))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        let (claim, clock) = (claim.clone(), self.clock.clone());
        Box::pin(
            self.transaction(move |transaction| complete(transaction, &clock, &claim, retention)),
        )
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        let claim = claim.clone();
        Box::pin(self.transaction(move |transaction| {
            // The row stays until it is forgotten, so that the next token is larger even where the
            // clock has not moved on. The lease ended long ago, so that it stays ended even if the
            // clock steps back.
            transaction
                .prepare_cached(
                    "UPDATE gemini_webhook_deliveries SET held_until = 0
                     WHERE key = ?1 AND fencing_token = ?2 AND NOT done",
                )?
                .execute(params![claim.key(), claim.fencing_token()])?;
            Ok(())
        }))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.transaction(|transaction| {
            transaction
                .prepare_cached("SELECT count(*) FROM gemini_webhook_deliveries LIMIT 0")?
                .query_row([], |_| Ok(()))
                .optional()
                .map(drop)
        }))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(SqliteStore::PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(SCHEMA)
}

fn claim(
    transaction: &Transaction<'_>,
    clock: &Clock,
    key: &str,
    lease: Duration,
) -> rusqlite::Result<ClaimOutcome> {
    let now = now(clock);
    let claimed = transaction
        .prepare_cached(
            "INSERT INTO gemini_webhook_deliveries
                 (key, fencing_token, done, held_until, forget_at)
             VALUES (?1, ?2, 0, ?3, ?4)
             ON CONFLICT (key) DO UPDATE SET
                 fencing_token = max(excluded.fencing_token, fencing_token + 1),
                 done = 0,
                 held_until = excluded.held_until,
                 forget_at = excluded.forget_at
             WHERE forget_at <= ?5 OR (NOT done AND held_until <= ?5)
             RETURNING fencing_token",
        )?
        .query_row(
            params![
                key,
                fencing_token(clock, 0),
                after(now, lease),
                after(now, lease.saturating_add(KEEP)),
                now
            ],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(fencing_token) = claimed {
        forget(transaction, now)?;
        return Ok(ClaimOutcome::New(Claim::new(key, fencing_token)));
    }
    transaction
        .prepare_cached("SELECT done, held_until FROM gemini_webhook_deliveries WHERE key = ?1")?
        .query_row([key], |row| {
            Ok(if row.get(0)? {
                ClaimOutcome::Done
            } else {
                let remaining = row.get::<_, i64>(1)?.saturating_sub(now);
                let remaining = Duration::from_millis(remaining.unsigned_abs());
                ClaimOutcome::InFlight { remaining }
            })
        })
}

fn complete(
    transaction: &Transaction<'_>,
    clock: &Clock,
    claim: &Claim,
    retention: Duration,
) -> rusqlite::Result<bool> {
    let now = now(clock);
    let changed = transaction
        .prepare_cached(
            "INSERT INTO gemini_webhook_deliveries
                 (key, fencing_token, done, held_until, forget_at)
             VALUES (?1, ?2, 1, ?4, ?3)
             ON CONFLICT (key) DO UPDATE SET
                 fencing_token = excluded.fencing_token,
                 done = 1,
                 forget_at = max(excluded.forget_at, forget_at)
             WHERE fencing_token = excluded.fencing_token
                 OR forget_at <= ?4 OR (NOT done AND held_until <= ?4)",
        )?
        .execute(params![
            claim.key(),
            claim.fencing_token(),
            after(now, retention),
            now
        ])?;
    Ok(changed == 1)
}

/// Removes at most two expired keys per call, so that cleanup keeps up and no caller waits for it.
fn forget(transaction: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "DELETE FROM gemini_webhook_deliveries WHERE key IN (
                 SELECT key FROM gemini_webhook_deliveries WHERE forget_at <= ?1
                 ORDER BY forget_at LIMIT 2)",
        )?
        .execute([now])?;
    Ok(())
}

/// In Unix milliseconds, by the clock of the machine that all users of the file share.
fn now(clock: &Clock) -> i64 {
    milliseconds(clock.since_epoch())
}

fn after(now: i64, time: Duration) -> i64 {
    now.saturating_add(milliseconds(bounded(time)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn each_operation_is_one_transaction() {
        const MINUTE: Duration = Duration::from_secs(60);
        let store = SqliteStore::open(":memory:").unwrap();
        let commits = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&commits);
        let count = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            false
        };
        store
            .connection
            .lock()
            .await
            .commit_hook(Some(count))
            .unwrap();
        let since_last = || commits.swap(0, Ordering::SeqCst);

        let ClaimOutcome::New(claim) = store.claim("a", MINUTE).await.unwrap() else {
            panic!("it is new");
        };
        assert_eq!(since_last(), 1);
        assert!(store.complete(&claim, MINUTE).await.unwrap());
        assert_eq!(since_last(), 1);
        let ClaimOutcome::New(claim) = store.claim("b", MINUTE).await.unwrap() else {
            panic!("it is new");
        };
        assert_eq!(since_last(), 1);
        store.release(&claim).await.unwrap();
        assert_eq!(since_last(), 1);
    }
}
