use std::{fmt, sync::Arc, time::Duration};

use deadpool_postgres::{ClientWrapper, Pool, Runtime};
use tokio_postgres::{Transaction, types::ToSql};

use super::{Claim, ClaimOutcome, IdempotencyStore, StoreError, StoreErrorKind, StoreFuture};
use address::Address;
use pool::{CONNECTIONS, PATIENCE, Shared};
use statements::{Answer, Request, batch, outcome, seconds, times};

mod address;
mod failure;
mod inbox;
mod pool;
mod queue;
mod schema;
mod sql;
mod statements;
#[cfg_attr(not(feature = "tls"), path = "postgres/no_tls.rs")]
mod tls;
mod transaction;

pub use transaction::PostgresTransaction;

/// Remembers in a PostgreSQL database (12 or newer): for any number of machines, by the server's
/// clock.
///
/// The table `gemini_webhook_deliveries`, in the first schema of the connection's `search_path`, is
/// created when it is missing; where the role may not do that, create it before:
///
/// ```sql
#[doc = sql::schema!()]
/// ```
///
/// # Batches
///
/// A claim is one statement, and so is its completion or release. Operations that arrive while others
/// are under way share the next statement, and so its commit: with many callers, a few connections
/// handle several times as many deliveries. A caller that is alone waits for nobody.
///
/// - An operation that PostgreSQL refuses fails alone: the halves of its batch are run again without it.
/// - An operation on a row that another transaction keeps locked waits alone.
/// - If the connection breaks, the operations of its batch fail, and may have happened all the same. So
///   may those whose callers drop their futures.
/// - At most 8192 operations wait, and as many completions and releases again. More fail at once, with
///   [`StoreErrorKind::QueueFull`].
///
/// Calls have to be made in a Tokio runtime; outside one they fail with
/// [`StoreErrorKind::Configuration`]. They wait at most 5 s for a connection and 5 s for the answer, and
/// at most 10 s for their batch. A statement whose caller has gone or waited for too long is cancelled.
/// Each claim removes at most two expired keys. Clones share their connections and batches.
///
/// # Exactly once
///
/// [`begin`](Self::begin) lets a delivery's effect in this database and its completion happen together
/// or not at all. With a transaction of your own, call [`complete_in`](Self::complete_in). With another
/// client, such as sqlx, use [`COMPLETE_SQL`](Self::COMPLETE_SQL), and [`REMOVE_SQL`](Self::REMOVE_SQL) for an
/// entry of an inbox. After the commit of such a
/// transaction, call [`Claim::mark_completed`], so that [`Receiver`](crate::Receiver) does not complete
/// the claim again.
#[derive(Clone)]
pub struct PostgresStore(Arc<Shared>);

impl PostgresStore {
    /// Claims the key `$1` (`text`) for `$2` seconds (`float8`), and keeps its row for `$3` seconds
    /// (`float8`): as long as the service retries after the lease, a little more than a day.
    ///
    /// Returns one row if the key is claimed, with its `fencing_token` (`bigint`), and otherwise one with
    /// `fencing_token` null, `done` (`boolean`), and the seconds `remaining` of the other claim's lease
    /// (`float8`), or no row if that other claim has just been removed.
    pub const CLAIM_SQL: &str = sql::CLAIM;

    /// Completes the claim of the key `$1` (`text`) with the fencing token `$2` (`bigint`), and remembers
    /// the key for `$3` seconds (`float8`).
    ///
    /// Affects one row, or none if the lease was lost or the key is done already: then roll back.
    pub const COMPLETE_SQL: &str = sql::COMPLETE_ONCE;

    /// Releases the claim of the key `$1` (`text`) with the fencing token `$2` (`bigint`).
    pub const RELEASE_SQL: &str = sql::RELEASE;

    /// Creates the table and its index. Two statements, without parameters.
    pub const SCHEMA_SQL: &str = sql::schema!();

    /// Creates the tables of inboxes and their indexes: to run before by who may, where the role of the
    /// inbox may not create tables. Several statements, without parameters.
    pub const INBOX_SCHEMA_SQL: &str = sql::inbox_schema!();

    /// Completes the claim on the entry `$1` (`bigint`, [`Claim::entry`]) of an inbox with the fencing token
    /// `$2` (`bigint`).
    ///
    /// Affects one row, or none if the lease was lost: then roll back.
    pub const REMOVE_SQL: &str = sql::REMOVE;

    /// Builds a store for a URL such as `postgres://user:password@host:5432/database`. It connects when
    /// it is needed, with at most 16 connections, and 16 more for [transactions](Self::begin).
    ///
    /// The parameters `sslmode` and `sslrootcert` of the URL mean what they mean to PostgreSQL's own
    /// client (PostgreSQL 15, section 34.19):
    ///
    /// | `sslmode` | feature `tls` | the connection |
    /// |---|---|---|
    /// | `disable` | either | is not encrypted |
    /// | `prefer`, or none | on | is encrypted if the server can, and the certificate is not verified |
    /// | `prefer`, or none | off | is not encrypted |
    /// | `require` | on | is encrypted; the certificate is verified only if `sslrootcert` is given, like `verify-ca` |
    /// | `verify-ca` | on | is to a server with a certificate of a trusted authority, whatever its name |
    /// | `verify-full` (**recommended**) | on | is to the server of that name, by a trusted authority |
    ///
    /// `sslrootcert` is the path of the trusted authorities' certificates in PEM, which is read once; by
    /// default, and with `system`, those that the platform trusts are used. It needs a mode that verifies.
    ///
    /// Unless they are given, `connect_timeout` and `tcp_user_timeout` are 5 s, `keepalives_idle` is a
    /// minute, and the `options` of the connection set a `statement_timeout` of 4 s, so that a statement
    /// that waits for a lock does not outlive this process, and `plan_cache_mode=force_generic_plan` and
    /// `enable_seqscan=off`, which keep the plans of the crate's statements. A connection pooler in between
    /// may refuse the `options`: write an empty `options=` to have none.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`] where the URL is malformed, a certificate can't be read, or the
    /// URL requires TLS without the feature `tls`.
    pub fn connect(url: &str) -> Result<Self, StoreError> {
        let manager = tls::manager(Address::parse(url)?)?;
        let pool = Pool::builder(manager)
            .runtime(Runtime::Tokio1)
            .max_size(CONNECTIONS)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .build();
        pool.map(Self::new).map_err(StoreError::new)
    }

    /// Builds a store with connections of the caller's own. Set their options as [`connect`](Self::connect)
    /// does. [Transactions](Self::begin) take connections out of
    /// the pool, at most 16.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self(Arc::new(Shared::new(pool)))
    }

    /// Returns the pool of connections, with the limits of [`connect`](Self::connect). Return each
    /// connection to it without an open transaction.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Begins a transaction in which a handler records its effect, and which completes the claim.
    ///
    /// If the lease is lost meanwhile, [`complete`](PostgresTransaction::complete) fails and nothing is
    /// committed; return that error from the handler, and [`Receiver`](crate::Receiver) answers
    /// [`LeaseLost`](crate::receiver::Outcome::LeaseLost). The session is reset afterwards: `SET`,
    /// temporary tables and advisory locks do not reach the next transaction. At most 16 transactions are open at once; more
    /// wait for 5 s.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database is unavailable, or no connection is free in time.
    ///
    /// ```
    /// use gemini_webhooks::{receiver::{HandlerError, Received}, store::PostgresStore};
    ///
    /// async fn handle(delivery: Received<'_>, store: PostgresStore) -> Result<(), HandlerError> {
    ///     let transaction = store.begin(delivery.claim()).await?;
    ///     let update = "UPDATE batches SET finished = true WHERE id = $1";
    ///     transaction.client().execute(update, &[&delivery.event()?.data.id()]).await?;
    ///     transaction.complete().await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn begin(&self, claim: &Claim) -> Result<PostgresTransaction, StoreError> {
        PostgresTransaction::begin(&self.0, claim).await
    }

    /// Claims a key as a part of a transaction on the store's database. Other callers of the key wait
    /// until the transaction ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if PostgreSQL fails.
    pub async fn claim_in(
        transaction: &Transaction<'_>,
        key: &str,
        lease: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        let [held, kept] = times(lease);
        let row = transaction
            .query_opt(Self::CLAIM_SQL, &[&key, &held, &kept])
            .await?;
        Ok(outcome(&key.into(), row.as_ref())?)
    }

    /// Completes a claim as a part of a transaction on the store's database. Commit it, and call
    /// [`Claim::mark_completed`].
    ///
    /// # Errors
    ///
    /// [`StoreError`], of the kind [`LeaseLost`](StoreErrorKind::LeaseLost) where another claim holds the
    /// key, or it is done already, by this claim or another: roll back.
    pub async fn complete_in(
        transaction: &Transaction<'_>,
        claim: &Claim,
    ) -> Result<(), StoreError> {
        let token = claim.fencing_token();
        let changed = if let Some(entry) = claim.entry() {
            transaction
                .execute(Self::REMOVE_SQL, &[&entry, &token])
                .await?
        } else {
            let retention = seconds(claim.retention());
            let values: [&(dyn ToSql + Sync); 3] = [&claim.key(), &token, &retention];
            transaction.execute(Self::COMPLETE_SQL, &values).await?
        };
        if changed == 1 {
            return Ok(());
        }
        Err(StoreErrorKind::LeaseLost.into())
    }
}

impl IdempotencyStore for PostgresStore {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        let key = key.into();
        Box::pin(async move {
            match self.0.submit(Request::Claim { key, lease }).await? {
                Answer::Claimed(outcome) => Ok(outcome),
                other => Err(mismatch(&other)),
            }
        })
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        let claim = claim.clone();
        Box::pin(async move {
            if let Some(entry) = claim.entry() {
                let values: [&(dyn ToSql + Sync); 2] = [&entry, &claim.fencing_token()];
                let remove =
                    async |client: &ClientWrapper| client.execute(Self::REMOVE_SQL, &values).await;
                return Ok(self.0.with(remove).await? == 1);
            }
            match self
                .0
                .submit(Request::Complete { claim, retention })
                .await?
            {
                Answer::Completed(completed) => Ok(completed),
                other => Err(mismatch(&other)),
            }
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        let claim = claim.clone();
        Box::pin(async move { self.0.submit(Request::Release(claim)).await.map(drop) })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        let found = self.0.with(async |client| {
            // Changes nothing, and fails where the next operation would: on a read-only server, without
            // a right or a column, or while the table is locked.
            batch(client, &[]).await?;
            schema::version(client).await
        });
        Box::pin(async move { found.await?.map_or(Ok(()), schema::of_this_version) })
    }
}

fn mismatch(answer: &Answer) -> StoreError {
    StoreError::new(format!("an answer to another operation: {answer:?}"))
}

/// Leaves the address out: it may hold a password.
impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
