//! Stores whose every operation is a commit of its own: what batching is compared with.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    Manager, Pool,
    tokio_postgres::{Config, NoTls},
};
use gemini_webhooks::store::{Claim, ClaimOutcome, IdempotencyStore, StoreError, StoreFuture};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use time::OffsetDateTime;
use tokio::{sync::Mutex, task::spawn_blocking};

const KEEP: Duration = Duration::from_secs(24 * 60 * 60 + 600);

/// One connection behind a mutex, with `synchronous = FULL`.
#[derive(Clone)]
pub(crate) struct UnbatchedSqlite(Arc<Mutex<Connection>>);

impl UnbatchedSqlite {
    pub(crate) fn new(connection: Connection) -> Self {
        let schema = "
            CREATE TABLE gemini_webhook_deliveries (
                key TEXT PRIMARY KEY,
                fencing_token INTEGER NOT NULL,
                done INTEGER NOT NULL,
                held_until INTEGER NOT NULL,
                forget_at INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX gemini_webhook_deliveries_forget_at
                ON gemini_webhook_deliveries (forget_at);";
        for (name, value) in [("journal_mode", "wal"), ("synchronous", "full")] {
            connection.pragma_update(None, name, value).unwrap();
        }
        connection.execute_batch(schema).unwrap();
        Self(Arc::new(Mutex::new(connection)))
    }

    async fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut connection = Arc::clone(&self.0).lock_owned().await;
        let done = spawn_blocking(move || {
            let behavior = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok::<_, rusqlite::Error>(value)
        });
        Ok(done.await.map_err(StoreError::new)??)
    }
}

impl IdempotencyStore for UnbatchedSqlite {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        let key = key.to_owned();
        Box::pin(self.transaction(move |transaction| {
            const CLAIM: &str = "
                INSERT INTO gemini_webhook_deliveries
                    (key, fencing_token, done, held_until, forget_at)
                VALUES (?1, ?2, 0, ?3, ?4)
                ON CONFLICT (key) DO UPDATE SET
                    fencing_token = max(excluded.fencing_token, fencing_token + 1),
                    done = 0,
                    held_until = excluded.held_until,
                    forget_at = excluded.forget_at
                WHERE forget_at <= ?5 OR (NOT done AND held_until <= ?5)
                RETURNING fencing_token";
            const FORGET: &str = "
                DELETE FROM gemini_webhook_deliveries WHERE key IN (
                    SELECT key FROM gemini_webhook_deliveries WHERE forget_at <= ?1
                    ORDER BY forget_at LIMIT 2)";
            let now = now();
            let (held, forget) = (now + milliseconds(lease), now + milliseconds(lease + KEEP));
            let claimed = transaction
                .prepare_cached(CLAIM)?
                .query_row(params![key, now * 1000, held, forget, now], |row| {
                    row.get(0)
                })
                .optional()?;
            if claimed.is_some() {
                transaction.prepare_cached(FORGET)?.execute([now])?;
            }
            Ok(outcome(&key, claimed))
        }))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        let claim = claim.clone();
        Box::pin(self.transaction(move |transaction| {
            const COMPLETE: &str = "
                INSERT INTO gemini_webhook_deliveries
                    (key, fencing_token, done, held_until, forget_at)
                VALUES (?1, ?2, 1, ?4, ?3)
                ON CONFLICT (key) DO UPDATE SET
                    fencing_token = excluded.fencing_token,
                    done = 1,
                    forget_at = max(excluded.forget_at, forget_at)
                WHERE fencing_token = excluded.fencing_token
                    OR forget_at <= ?4 OR (NOT done AND held_until <= ?4)";
            let (key, token, now) = (claim.key(), claim.fencing_token(), now());
            let changed = transaction.prepare_cached(COMPLETE)?.execute(params![
                key,
                token,
                now + milliseconds(retention),
                now
            ])?;
            Ok(changed == 1)
        }))
    }

    fn release<'a>(&'a self, _: &'a Claim) -> StoreFuture<'a, ()> {
        unreachable!("no handler of the benches fails")
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        unreachable!("no bench asks")
    }
}

/// One statement for each operation, over at most 16 connections.
#[derive(Clone)]
pub(crate) struct UnbatchedPostgres(Pool);

impl UnbatchedPostgres {
    /// On the table of a [`PostgresStore`](gemini_webhooks::store::PostgresStore).
    pub(crate) fn new(url: &str) -> Self {
        let config: Config = url.parse().unwrap();
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(16);
        Self(pool.build().unwrap())
    }
}

impl IdempotencyStore for UnbatchedPostgres {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(async move {
            const CLAIM: &str = "
                WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
                forgotten AS (
                    DELETE FROM gemini_webhook_deliveries WHERE key IN (
                        SELECT key FROM gemini_webhook_deliveries
                        WHERE forget_at <= (SELECT now FROM clock) AND key <> $1
                        ORDER BY forget_at LIMIT 2 FOR UPDATE SKIP LOCKED)
                )
                INSERT INTO gemini_webhook_deliveries AS held
                    (key, fencing_token, done, held_until, forget_at)
                SELECT $1, (extract(epoch FROM now) * 1000000)::bigint, false,
                       now + make_interval(secs => $2), now + make_interval(secs => $3)
                FROM clock
                ON CONFLICT (key) DO UPDATE SET
                    fencing_token = greatest(excluded.fencing_token, held.fencing_token + 1),
                    done = false,
                    held_until = excluded.held_until,
                    forget_at = excluded.forget_at
                WHERE held.forget_at <= (SELECT now FROM clock)
                    OR (NOT held.done AND held.held_until <= (SELECT now FROM clock))
                RETURNING fencing_token";
            let client = self.0.get().await.map_err(StoreError::new)?;
            let claim = client
                .prepare_cached(CLAIM)
                .await
                .map_err(StoreError::new)?;
            let (held, kept) = (lease.as_secs_f64(), (lease + KEEP).as_secs_f64());
            let row = client.query_opt(&claim, &[&key, &held, &kept]).await;
            let row = row.map_err(StoreError::new)?;
            Ok(outcome(key, row.map(|row| row.get(0))))
        })
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            const COMPLETE: &str = "
                INSERT INTO gemini_webhook_deliveries AS held
                    (key, fencing_token, done, held_until, forget_at)
                VALUES ($1, $2, true, clock_timestamp(),
                        clock_timestamp() + make_interval(secs => $3))
                ON CONFLICT (key) DO UPDATE SET
                    fencing_token = excluded.fencing_token,
                    done = true,
                    forget_at = greatest(excluded.forget_at, held.forget_at)
                WHERE held.fencing_token = excluded.fencing_token
                    OR held.forget_at <= clock_timestamp()
                    OR (NOT held.done AND held.held_until <= clock_timestamp())";
            let client = self.0.get().await.map_err(StoreError::new)?;
            let complete = client.prepare_cached(COMPLETE).await;
            let complete = complete.map_err(StoreError::new)?;
            let (key, token) = (claim.key(), claim.fencing_token());
            let retention = retention.as_secs_f64();
            let changed = client.execute(&complete, &[&key, &token, &retention]).await;
            Ok(changed.map_err(StoreError::new)? == 1)
        })
    }

    fn release<'a>(&'a self, _: &'a Claim) -> StoreFuture<'a, ()> {
        unreachable!("no handler of the benches fails")
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        unreachable!("no bench asks")
    }
}

/// The benches claim each key once.
fn outcome(key: &str, claimed: Option<i64>) -> ClaimOutcome {
    claimed.map_or(ClaimOutcome::Done, |token| {
        ClaimOutcome::New(Claim::new(key, token))
    })
}

fn now() -> i64 {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    i64::try_from(now).unwrap()
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}
