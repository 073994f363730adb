//! Connections, with a table that is there, and limits on the time that they take.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object, Pool};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{error::Elapsed, timeout},
};
use tokio_postgres::{CancelToken, Error, NoTls};

use super::{
    queue::Queue,
    sql::{CREATE, RESET},
};
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
            cancel(client.cancel_token());
            drop(Object::take(client));
        }
    }
}

/// Asks the server to end the statement of a connection that is about to be closed: one that waits for a
/// lock would keep its place at the server. The request is of no other use, so that it need not be
/// encrypted; where the address requires that, the server's own limit ends the statement.
pub(super) fn cancel(statement: CancelToken) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move { timeout(PATIENCE, statement.cancel_query(NoTls)).await });
    }
}

/// Returns the runtime that a call is made in. Outside one, connections and time limits would panic.
pub(super) fn runtime() -> Result<Handle, StoreError> {
    Handle::try_current().map_err(StoreError::refused)
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
        runtime()?;
        let client = timeout(PATIENCE, self.pool.get()).await;
        let client = Busy(Some(client.map_err(timed_out)??));
        let answer = timeout(PATIENCE, async {
            let Some(client) = &client.0 else {
                return Err(StoreErrorKind::Unavailable.into());
            };
            self.prepare(client).await?;
            Ok::<_, StoreError>(work(client).await?)
        });
        let answer = answer.await.map_err(timed_out)?;
        client.give_back();
        answer
    }

    /// Takes a connection out of the pool, and lets `begin` use it. It is closed where that fails.
    pub(super) async fn take<T>(
        &self,
        begin: impl AsyncFnOnce(&ClientWrapper) -> Result<Option<T>, Error>,
    ) -> Result<(ClientWrapper, OwnedSemaphorePermit, T), StoreError> {
        runtime()?;
        let connection = timeout(PATIENCE, async {
            let permit = Arc::clone(&self.transactions).acquire_owned().await;
            let permit = permit.map_err(StoreError::new)?;
            let idle = self.idle().pop().filter(|client| !client.is_closed());
            let client = match idle {
                Some(client) => client,
                None => Object::take(self.pool.get().await?),
            };
            Ok::<_, StoreError>((client, permit))
        });
        let (client, permit) = connection.await.map_err(timed_out)??;
        let answer = timeout(PATIENCE, async {
            self.prepare(&client).await?;
            begin(&client).await
        });
        match answer.await.map_err(timed_out)?? {
            Some(answer) => Ok((client, permit, answer)),
            None => Err(StoreError::new("an unexpected answer to BEGIN")),
        }
    }

    /// Keeps a connection for the next transaction, without anything that this one has left in its
    /// session.
    pub(super) fn keep(self: Arc<Self>, client: ClientWrapper, permit: OwnedSemaphorePermit) {
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(PATIENCE, client.batch_execute(RESET)).await {
                self.idle().push(client);
            }
            drop(permit);
        });
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

pub(super) fn timed_out(_: Elapsed) -> StoreError {
    StoreErrorKind::TimedOut.into()
}
