//! Connections, with a table that is there, and limits on the time that they take.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object, Pool};
use tokio::{sync::Semaphore, time::timeout};
use tokio_postgres::Error;

use super::{queue::Queue, sql::CREATE};
use crate::store::{StoreError, StoreErrorKind};

/// The time that a call waits for a connection, and as long again for its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The most connections of a pool of the store's own.
pub(super) const CONNECTIONS: usize = 16;
/// The most transactions of callers at once. Each takes a connection out of the pool, so that they
/// leave the batches theirs.
pub(super) const TRANSACTIONS: usize = 16;

/// The state that the clones of a store share.
pub(super) struct Shared {
    pub(super) pool: Pool,
    pub(super) queue: Queue,
    pub(super) transactions: Arc<Semaphore>,
    /// The connections of transactions that have ended.
    idle: Mutex<Vec<ClientWrapper>>,
    /// Set once the table was seen.
    ready: OnceLock<()>,
    /// Set once the tables of inboxes were seen.
    pub(super) inbox_ready: OnceLock<()>,
}

/// A connection of the pool at work. Dropped before the work has ended, because a caller has gone or
/// has waited for too long, it is closed: its statement still runs, and the next would wait for it.
struct Busy(Option<Object>);

impl Busy {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

impl Shared {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            queue: Queue::default(),
            transactions: Arc::new(Semaphore::new(TRANSACTIONS)),
            idle: Mutex::default(),
            ready: OnceLock::new(),
            inbox_ready: OnceLock::new(),
        }
    }

    /// Lets `work` use a connection. One that does not answer in time is closed.
    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&ClientWrapper) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let client = Busy(Some(self.pool.get().await?));
        let answer = timeout(PATIENCE, async {
            let Some(client) = &client.0 else {
                return Err(StoreErrorKind::Unavailable.into());
            };
            self.prepare(client).await?;
            Ok::<_, StoreError>(work(client).await?)
        });
        let Ok(answer) = answer.await else {
            return Err(StoreErrorKind::TimedOut.into());
        };
        client.give_back();
        answer
    }

    /// Takes a connection out of the pool, and lets `begin` use it. It is closed where that fails.
    pub(super) async fn take<T>(
        &self,
        begin: impl AsyncFnOnce(&ClientWrapper) -> Result<Option<T>, Error>,
    ) -> Result<(ClientWrapper, T), StoreError> {
        let idle = self.idle().pop().filter(|client| !client.is_closed());
        let client = match idle {
            Some(client) => client,
            None => Object::take(self.pool.get().await?),
        };
        let answer = timeout(PATIENCE, async {
            self.prepare(&client).await?;
            begin(&client).await
        });
        match answer.await {
            Ok(answer) => match answer? {
                Some(answer) => Ok((client, answer)),
                None => Err(StoreError::new("an unexpected answer to BEGIN")),
            },
            Err(_) => Err(StoreErrorKind::TimedOut.into()),
        }
    }

    /// Keeps a connection for the next transaction.
    pub(super) fn keep(&self, client: ClientWrapper) {
        self.idle().push(client);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<ClientWrapper>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the table where it is missing.
    async fn prepare(&self, client: &ClientWrapper) -> Result<(), Error> {
        if self.ready.get().is_some() {
            return Ok(());
        }
        let found = "SELECT to_regclass('gemini_webhook_deliveries') IS NOT NULL";
        // A role that may not create tables may use one that is there.
        if !client.query_one(found, &[]).await?.try_get(0)? {
            client.batch_execute(CREATE).await?;
        }
        let _ = self.ready.set(());
        Ok(())
    }
}
