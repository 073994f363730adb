use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::ClientWrapper;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tokio_postgres::{
    CancelToken, Client, Error, SimpleQueryMessage, error::SqlState, types::ToSql,
};

use super::{
    pool::{PATIENCE, Shared, cancel, timed_out},
    sql::{BEGIN, COMPLETE_HERE, HERE, REMOVE_HERE},
    statements::seconds,
};
use crate::{
    clock::Clock,
    store::{Claim, StoreError, StoreErrorKind},
};

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
    place: String,
    clock: Clock,
    began: Instant,
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

/// Tells the claim that its transaction was dropped, and ends the statement that may be under way.
struct Unfinished(Option<(Claim, CancelToken)>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((claim, statement)) = self.0.take() {
            claim.mark_forgotten();
            cancel(statement);
        }
    }
}

impl PostgresTransaction {
    /// The time that a transaction may take, and that it may be idle: 60 s.
    pub const LIMIT: Duration = Duration::from_secs(60);

    pub(super) async fn begin(shared: &Arc<Shared>, claim: &Claim) -> Result<Self, StoreError> {
        let clock = Clock::default();
        let began = clock.instant();
        let (client, permit, place) = shared.take(begin).await?;
        let unfinished = Unfinished(Some((claim.clone(), client.cancel_token())));
        Ok(Self {
            client,
            claim: claim.clone(),
            unfinished,
            place,
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
    /// [`StoreError`]:
    /// [`LeaseLost`](StoreErrorKind::LeaseLost) where another claim holds the key, or it is done already,
    /// [`TimedOut`](StoreErrorKind::TimedOut) after the [`LIMIT`](Self::LIMIT) or 5 s,
    /// [`Configuration`](StoreErrorKind::Configuration) where a statement has ended the transaction
    /// (what that committed stays, and the claim is not completed) or changed its `search_path`, and
    /// [`Unavailable`](StoreErrorKind::Unavailable) where PostgreSQL fails.
    ///
    /// Nothing is committed then, with one exception: if the connection breaks or the time ends while it
    /// commits, the commit may have happened, and the claim is then done.
    pub async fn complete(mut self) -> Result<(), StoreError> {
        let age = self.clock.instant().saturating_duration_since(self.began);
        let left = Self::LIMIT.saturating_sub(age);
        let finished = timeout(left.min(PATIENCE), self.finish()).await;
        finished.map_err(timed_out)??;
        self.unfinished.0 = None;
        self.claim.mark_completed();
        self.give_back();
        Ok(())
    }

    async fn finish(&self) -> Result<(), StoreError> {
        let retention = seconds(self.claim.retention());
        let (key, fencing_token) = (self.claim.key(), self.claim.fencing_token());
        let row = if let Some(entry) = self.claim.entry() {
            let statement = self.client.prepare_cached(REMOVE_HERE).await?;
            let values = [&entry as &(dyn ToSql + Sync), &fencing_token, &self.place];
            self.client.query_one(&statement, &values).await?
        } else {
            let statement = self.client.prepare_cached(COMPLETE_HERE).await?;
            let values = [
                &key as &(dyn ToSql + Sync),
                &fencing_token,
                &retention,
                &self.place,
            ];
            self.client.query_one(&statement, &values).await?
        };
        if !row.try_get::<_, bool>(0)? {
            return Err(elsewhere());
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
    /// rolled back all the same. Of the kind [`Configuration`](StoreErrorKind::Configuration) where a
    /// statement has ended the transaction: what that committed stays.
    pub async fn rollback(mut self) -> Result<(), StoreError> {
        self.unfinished.0 = None;
        let rolled_back = timeout(PATIENCE, async {
            let is_here = match self.client.query_one(HERE, &[&self.place]).await {
                // One that has failed has not ended.
                Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => true,
                row => row?.try_get(0)?,
            };
            self.client.batch_execute("ROLLBACK").await?;
            Ok::<bool, Error>(is_here)
        });
        if !rolled_back.await.map_err(timed_out)?? {
            return Err(elsewhere());
        }
        self.give_back();
        Ok(())
    }

    fn give_back(self) {
        self.shared.keep(self.client, self.permit);
    }
}

fn elsewhere() -> StoreError {
    StoreError::refused("a statement has ended the transaction, or changed the search_path")
}

/// Begins a transaction in one round trip, and returns its place.
async fn begin(client: &ClientWrapper) -> Result<Option<String>, Error> {
    let messages = client.simple_query(BEGIN).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
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
