use std::{fmt, str::FromStr as _, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, Object, Pool, Runtime};
use tokio::{sync::OnceCell, time::timeout};
use tokio_postgres::{Config, NoTls, Transaction};

use super::{Claim, ClaimOutcome, IdempotencyStore, KEEP, StoreError, StoreFuture, bounded};

/// The table and its index, once for the code and once for the documentation.
macro_rules! schema {
    () => {
        "CREATE TABLE IF NOT EXISTS gemini_webhook_deliveries (
    key text PRIMARY KEY,
    fencing_token bigint NOT NULL,
    done boolean NOT NULL,
    held_until timestamptz NOT NULL,
    forget_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS gemini_webhook_deliveries_forget_at
    ON gemini_webhook_deliveries (forget_at);"
    };
}

/// The lock lets one of those that find no table create it: `IF NOT EXISTS` looks and creates in
/// two steps.
const CREATE: &str = concat!(
    "SELECT pg_advisory_xact_lock(7450291388265126);\n",
    schema!()
);

/// Claims `$1` for `$2` seconds, and keeps its row for `$3` seconds. If the key is another's, its row may
/// be younger than what this statement sees: then nothing is returned.
const CLAIM: &str = "
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
    forgotten AS (
        DELETE FROM gemini_webhook_deliveries WHERE key IN (
            SELECT key FROM gemini_webhook_deliveries
            WHERE forget_at <= (SELECT now FROM clock) AND key <> $1
            ORDER BY forget_at LIMIT 2 FOR UPDATE SKIP LOCKED)
    ),
    claimed AS (
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
        RETURNING fencing_token
    )
    SELECT fencing_token, NULL::boolean, NULL::float8 FROM claimed
    UNION ALL
    SELECT NULL, done, extract(epoch FROM held_until - now)::float8
    FROM gemini_webhook_deliveries, clock
    WHERE key = $1 AND NOT EXISTS (SELECT FROM claimed)
";

const COMPLETE: &str = "
    INSERT INTO gemini_webhook_deliveries AS held (key, fencing_token, done, held_until, forget_at)
    VALUES ($1, $2, true, clock_timestamp(), clock_timestamp() + make_interval(secs => $3))
    ON CONFLICT (key) DO UPDATE SET
        fencing_token = excluded.fencing_token,
        done = true,
        forget_at = greatest(excluded.forget_at, held.forget_at)
    WHERE held.fencing_token = excluded.fencing_token
        OR held.forget_at <= clock_timestamp()
        OR (NOT held.done AND held.held_until <= clock_timestamp())
";

/// The row stays, so that the next fencing token is larger even if the clock has stepped back. The
/// lease ended long ago, so that it stays ended even then.
const RELEASE: &str = "
    UPDATE gemini_webhook_deliveries SET held_until = 'epoch'
    WHERE key = $1 AND fencing_token = $2 AND NOT done
";

/// Remembers in a PostgreSQL database (12 or newer): for any number of machines, by the server's
/// clock.
///
/// A claim is one statement, and so is what completes it. The table `gemini_webhook_deliveries`, in
/// the first schema of the connection's `search_path`, is created when it is missing; where the role
/// may not do that, create it before:
///
/// ```sql
#[doc = schema!()]
/// ```
///
/// Keys that need no longer be remembered go two at a time, with each claim. Calls have to be made
/// in a Tokio runtime, and wait at most 5 s for a connection and 5 s for the answer. Clones share
/// one pool of connections.
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
    /// Set once the table was seen.
    ready: Arc<OnceCell<()>>,
}

impl PostgresStore {
    /// How long a call waits for a connection, and as long again for its answer.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// For a URL such as `postgres://user:password@host:5432/database`, without TLS. Connects when
    /// it is needed, with at most 16 connections.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where the URL is malformed.
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        let mut config = Config::from_str(url).map_err(StoreError::new)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Self::PATIENCE);
        }
        let pool = Pool::builder(Manager::new(config, NoTls))
            .runtime(Runtime::Tokio1)
            .max_size(16)
            .wait_timeout(Some(Self::PATIENCE))
            .create_timeout(Some(Self::PATIENCE))
            .recycle_timeout(Some(Self::PATIENCE))
            .build();
        pool.map(Self::new).map_err(StoreError::new)
    }

    /// With connections of the caller's own, for instance over TLS.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            ready: Arc::default(),
        }
    }

    /// [`complete`](IdempotencyStore::complete) as a part of a transaction on the store's database,
    /// in which the handler records its effect. Where it gives false, roll back: another has handled
    /// the delivery.
    ///
    /// # Errors
    ///
    /// Those of PostgreSQL.
    ///
    /// ```
    /// use gemini_webhooks::{receiver::{HandlerError, Received}, store::PostgresStore};
    ///
    /// async fn handle(delivery: Received<'_>, pool: deadpool_postgres::Pool) -> Result<(), HandlerError> {
    ///     let mut client = pool.get().await?;
    ///     let transaction = client.transaction().await?;
    ///     transaction.execute("UPDATE batches SET finished = true WHERE ...", &[]).await?;
    ///     if !PostgresStore::complete_in(&transaction, delivery.claim(), delivery.delivery().retention()).await?
    ///     {
    ///         return Err("handled elsewhere, since this took too long".into());
    ///     }
    ///     transaction.commit().await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn complete_in(
        transaction: &Transaction<'_>,
        claim: &Claim,
        retention: Duration,
    ) -> Result<bool, tokio_postgres::Error> {
        let retention = seconds(retention);
        let changed = transaction
            .execute(
                COMPLETE,
                &[&claim.key(), &claim.fencing_token(), &retention],
            )
            .await?;
        Ok(changed == 1)
    }

    /// Lets `work` use a connection. One that does not answer in time is closed.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&Object) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        let client = self.pool.get().await.map_err(StoreError::new)?;
        let work = async {
            self.ready.get_or_try_init(|| prepare(&client)).await?;
            work(&client).await
        };
        if let Ok(done) = timeout(Self::PATIENCE, work).await {
            return done.map_err(StoreError::new);
        }
        drop(Object::take(client));
        Err(StoreError::new("the database does not answer in time"))
    }
}

fn seconds(time: Duration) -> f64 {
    bounded(time).as_secs_f64()
}

async fn prepare(client: &Object) -> Result<(), tokio_postgres::Error> {
    let found = "SELECT to_regclass('gemini_webhook_deliveries') IS NOT NULL";
    // A role that may not create tables may use one that is there.
    if client.query_one(found, &[]).await?.try_get(0)? {
        return Ok(());
    }
    client.batch_execute(CREATE).await
}

impl IdempotencyStore for PostgresStore {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(self.with(async move |client: &Object| {
            let statement = client.prepare_cached(CLAIM).await?;
            let [held, kept] = [lease, lease.saturating_add(KEEP)].map(seconds);
            let row = client.query_opt(&statement, &[&key, &held, &kept]).await?;
            let Some(row) = row else {
                let remaining = Duration::from_secs(1);
                return Ok(ClaimOutcome::InFlight { remaining });
            };
            if let Some(fencing_token) = row.try_get(0)? {
                return Ok(ClaimOutcome::New(Claim::new(key, fencing_token)));
            }
            if row.try_get(1)? {
                return Ok(ClaimOutcome::Done);
            }
            let remaining = Duration::try_from_secs_f64(row.try_get(2)?).unwrap_or_default();
            Ok(ClaimOutcome::InFlight { remaining })
        }))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        Box::pin(self.with(async move |client: &Object| {
            let statement = client.prepare_cached(COMPLETE).await?;
            let retention = seconds(retention);
            let changed = client
                .execute(
                    &statement,
                    &[&claim.key(), &claim.fencing_token(), &retention],
                )
                .await?;
            Ok(changed == 1)
        }))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        Box::pin(self.with(async move |client: &Object| {
            let statement = client.prepare_cached(RELEASE).await?;
            client
                .execute(&statement, &[&claim.key(), &claim.fencing_token()])
                .await?;
            Ok(())
        }))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.with(async move |client: &Object| {
            let query = "SELECT FROM gemini_webhook_deliveries LIMIT 0";
            client.batch_execute(query).await
        }))
    }
}

/// Leaves the address out: it may hold a password.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
