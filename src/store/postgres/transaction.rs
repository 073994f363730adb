use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::ClientWrapper;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tokio_postgres::{Client, Error, SimpleQueryMessage, types::ToSql};

use super::{
    inbox::REMOVE_HERE,
    pool::{PATIENCE, Shared},
    sql::COMPLETE_HERE,
    statements::seconds,
};
use crate::{
    clock::Clock,
    store::{Claim, StoreError, StoreErrorKind},
};

/// The limits are [`PostgresTransaction::LIMIT`].
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = '60s';
    SET LOCAL idle_in_transaction_session_timeout = '60s';
    SELECT txid_current()
";

/// A transaction in which a handler records its effect, and which completes its claim: see
/// [`PostgresStore::begin`](super::PostgresStore::begin).
///
/// Dropped, it is rolled back, and its connection is closed. If the handler then returns `Ok`, its effect
/// would be lost, so [`Receiver`](crate::Receiver) answers [`Failed`](crate::receiver::Outcome::Failed).
/// [`rollback`](Self::rollback) keeps the connection for others, and lets the handler return `Ok`.
#[must_use = "complete it: dropped, it is rolled back"]
pub struct PostgresTransaction {
    // Dropped, it closes the connection, so that nothing else can happen in the transaction.
    client: ClientWrapper,
    claim: Claim,
    unfinished: Unfinished,
    id: i64,
    clock: Clock,
    began: Instant,
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

/// Tells the claim that its transaction was dropped. One that is completed does not mind.
struct Unfinished(Option<Claim>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(claim) = &self.0 {
            claim.mark_forgotten();
        }
    }
}

impl PostgresTransaction {
    /// The time that a transaction may take, and that it may be idle: 60 s.
    pub const LIMIT: Duration = Duration::from_secs(60);

    pub(super) async fn begin(shared: &Arc<Shared>, claim: &Claim) -> Result<Self, StoreError> {
        let permits = Arc::clone(&shared.transactions);
        let Ok(Ok(permit)) = timeout(PATIENCE, permits.acquire_owned()).await else {
            return Err(StoreErrorKind::TimedOut.into());
        };
        let clock = Clock::default();
        let began = clock.instant();
        let (client, id) = shared.take(async |client| begin(client).await).await?;
        Ok(Self {
            client,
            claim: claim.clone(),
            unfinished: Unfinished(Some(claim.clone())),
            id,
            clock,
            began,
            shared: Arc::clone(shared),
            permit,
        })
    }

    /// Returns the client, for the statements of the transaction.
    ///
    /// A statement that ends the transaction, such as `COMMIT`, makes [`complete`](Self::complete) fail.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Completes the claim and commits, both or neither. [`Receiver`](crate::Receiver) then does not
    /// complete the claim again.
    ///
    /// # Errors
    ///
    /// [`StoreError`], and nothing is committed:
    /// [`LeaseLost`](StoreErrorKind::LeaseLost) where another claim holds the key or has completed it,
    /// [`TimedOut`](StoreErrorKind::TimedOut) after the [`LIMIT`](Self::LIMIT),
    /// [`Configuration`](StoreErrorKind::Configuration) where a statement has ended the transaction
    /// (what that committed stays, and the claim is not completed), and
    /// [`Unavailable`](StoreErrorKind::Unavailable) where PostgreSQL fails. If the connection breaks
    /// while it commits, the commit may have happened; then the claim is done.
    pub async fn complete(self) -> Result<(), StoreError> {
        let age = self.clock.instant().saturating_duration_since(self.began);
        let left = Self::LIMIT.saturating_sub(age);
        let finished = timeout(left.min(PATIENCE), self.finish()).await;
        finished.unwrap_or_else(|_| Err(StoreErrorKind::TimedOut.into()))?;
        self.claim.mark_completed();
        self.give_back();
        Ok(())
    }

    async fn finish(&self) -> Result<(), StoreError> {
        let retention = seconds(self.claim.retention());
        let (key, fencing_token) = (self.claim.key(), self.claim.fencing_token());
        let row = if let Some(entry) = self.claim.entry() {
            let statement = self.client.prepare_cached(REMOVE_HERE).await?;
            let values = [&entry as &(dyn ToSql + Sync), &fencing_token, &self.id];
            self.client.query_one(&statement, &values).await?
        } else {
            let statement = self.client.prepare_cached(COMPLETE_HERE).await?;
            let values = [
                &key as &(dyn ToSql + Sync),
                &fencing_token,
                &retention,
                &self.id,
            ];
            self.client.query_one(&statement, &values).await?
        };
        if !row.try_get::<_, bool>(0)? {
            let cause = "a statement has ended the transaction";
            return Err(StoreError::refused(cause));
        }
        if !row.try_get::<_, bool>(1)? {
            return Err(StoreErrorKind::LeaseLost.into());
        }
        Ok(self.client.batch_execute("COMMIT").await?)
    }

    /// Rolls back, and keeps the connection for others.
    ///
    /// # Errors
    ///
    /// [`StoreError`] where PostgreSQL fails. The connection is then closed, and the transaction is
    /// rolled back all the same.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        self.unfinished.0 = None;
        let rollback = timeout(PATIENCE, self.client.batch_execute("ROLLBACK"));
        let done = rollback.await;
        done.map_err(|_| StoreError::from(StoreErrorKind::TimedOut))??;
        self.give_back();
        Ok(())
    }

    fn give_back(self) {
        self.shared.keep(self.client);
        drop(self.permit);
    }
}

/// Begins a transaction in one round trip, and returns its id.
async fn begin(client: &ClientWrapper) -> Result<Option<i64>, Error> {
    let messages = client.simple_query(BEGIN).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}

/// Leaves the key of the claim out.
impl fmt::Debug for PostgresTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTransaction")
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}
