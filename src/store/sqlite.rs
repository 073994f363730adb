use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{ErrorCode, Transaction};

use self::{
    ledger::{Ledger, Sweep},
    promise::{Reply, promise},
    queue::{CAPACITY, LAST_CAPACITY, Operation, Queue},
};
use super::{Claim, ClaimOutcome, IdempotencyStore, StoreError, StoreErrorKind, StoreFuture};
use crate::clock::Clock;

mod file;
mod guard;
mod inbox;
mod ledger;
mod promise;
mod queue;
#[macro_use]
mod sql;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use file::File;

/// Remembers in an SQLite database: for one machine, in any number of processes.
///
/// What it has answered survives `kill -9` and a power failure: the write-ahead log is synced with
/// each commit. It has a table of its own, `gemini_webhook_deliveries`, which may be beside yours in
/// one file, and which [`open`](Self::open) creates. Each claim looks at four rows and removes those
/// that need no longer be remembered.
///
/// A thread of its own does the work, so that any async executor will do. Claims, completions and
/// releases that arrive while a commit is under way share the next one. At most 4,096 calls wait; one
/// more fails with [`StoreErrorKind::QueueFull`]. Completions and releases fail at twice as many, so that
/// what was handled is not handled again when there is too much to do. A call waits for other processes
/// that hold the database's lock, at most for about 10 s, after which it fails with
/// [`StoreErrorKind::TimedOut`]; and for the work of each [`transaction`](Self::transaction) before it. A
/// call whose future is dropped after its first poll takes place all the same. Clones share the
/// thread. When the last is dropped, that waits until what was accepted is done and the database is
/// closed.
///
/// # Effects in the same transaction
///
/// [`complete_with`](Self::complete_with) lets a delivery's effect in this database happen exactly
/// once, whenever the process dies.
///
/// ```
/// use gemini_webhooks::{
///     Receiver,
///     receiver::{HandlerError, Received},
///     store::{SqliteStore, StoreError},
/// };
///
/// # async fn example(receiver: Receiver, store: SqliteStore, parts: http::request::Parts, body: Vec<u8>) {
/// let reply = receiver.handle(&parts, &body, async |received: Received<'_>| {
///     let payload = received.delivery().payload().to_vec();
///     let recorded = store.complete_with(received.claim(), move |transaction| {
///         transaction.execute("INSERT INTO payloads (payload) VALUES (?1)", [&payload])?;
///         Ok::<_, StoreError>(())
///     });
///     recorded.await?;
///     Ok::<_, HandlerError>(())
/// });
/// # let _ = reply.await;
/// # }
/// ```
///
/// [`claim_in`](Self::claim_in) and [`complete_in`](Self::complete_in) work in transactions over a connection
/// of your own, and the statements [`CLAIM_SQL`](Self::CLAIM_SQL) and [`COMPLETE_SQL`](Self::COMPLETE_SQL) in
/// those of other crates. After the commit of such a transaction, call [`Claim::mark_completed`], so that
/// [`Receiver`](crate::Receiver) does not complete the claim again.
///
/// The store's own claims, completions and releases remove the rows that need no longer be remembered. An
/// application that uses nothing but transactions of its own deletes those whose `forget_at`, in Unix
/// milliseconds, has passed.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    clock: Clock,
    limit: Duration,
}

struct Shared {
    queue: Arc<Queue>,
    sweep: Arc<Sweep>,
    file: Option<File>,
    thread: Option<JoinHandle<()>>,
}

/// Waits for what was accepted.
impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // The last clone may have been a part of a transaction's work.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl SqliteStore {
    /// The time that the work of a transaction may take by default: 10 s.
    pub const DEFAULT_TRANSACTION_LIMIT: Duration = Duration::from_secs(10);

    /// The statement of [`claim`](IdempotencyStore::claim), for transactions over other clients of
    /// SQLite. Begin them with `BEGIN IMMEDIATE`.
    ///
    /// Parameters: `?1` the key, `?2` the time now in Unix milliseconds, `?3` the lease in milliseconds.
    /// Returns a row with the fencing token for [`Claim::new`], and no row if the key is done or
    /// another's.
    ///
    /// ```sql
    #[doc = claim_sql!()]
    /// ```
    pub const CLAIM_SQL: &'static str = claim_sql!();

    /// The statement of [`complete`](IdempotencyStore::complete), for transactions over other clients of
    /// SQLite.
    ///
    /// Parameters: `?1` the claim's key, `?2` its fencing token, `?3` the time now in Unix milliseconds,
    /// `?4` the retention in milliseconds. If it changes no row, the lease was lost: roll back. After
    /// the commit, call [`Claim::mark_completed`].
    ///
    /// ```sql
    #[doc = complete_sql!(, " AND NOT done")]
    /// ```
    pub const COMPLETE_SQL: &'static str = complete_sql!(, " AND NOT done");

    /// The statement that completes a claim on an entry of an inbox, for transactions over other clients of
    /// SQLite.
    ///
    /// Parameters: `?1` the [entry](Claim::entry), `?2` the fencing token. If it changes no row, the lease
    /// was lost: roll back. After the commit, call [`Claim::mark_completed`].
    pub const REMOVE_SQL: &'static str = inbox::REMOVE_ANYWHERE;

    /// Opens the database in this file, and creates file and table where they are missing. The
    /// folder has to exist, on a local disk: a write-ahead log does not work over a network.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Configuration`] if the file can't be opened or written, is not an SQLite
    /// database, or has another table of that name; [`StoreErrorKind::TimedOut`] if another process
    /// holds its lock.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let (queue, sweep) = (Arc::<Queue>::default(), Arc::<Sweep>::default());
        let path: PathBuf = path.as_ref().to_owned();
        let thread = writer::start(path.clone(), Arc::clone(&queue), Arc::clone(&sweep))?;
        let shared = Shared {
            queue,
            sweep,
            file: File::at(&path),
            thread: Some(thread),
        };
        Ok(Self {
            shared: Arc::new(shared),
            clock: Clock::default(),
            limit: Self::DEFAULT_TRANSACTION_LIMIT,
        })
    }

    /// Sets the clock of this clone.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the time that the work of a transaction of this clone may take.
    #[must_use]
    pub fn transaction_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Does `work` and completes the claim, for its [`retention`](Claim::retention), in one transaction.
    /// [`Receiver`](crate::Receiver) then does not complete it again.
    ///
    /// `work` runs as in [`transaction`](Self::transaction).
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::LeaseLost`] if another claim holds the key, or it is done already, by this claim or
    /// another: `work` was not called, so that no effect happens twice. A claim of another database is lost
    /// too, or not known: use the store of the receiver or the inbox. The error of `work`, and those of [`transaction`](Self::transaction): nothing was
    /// committed, and the claim is still held.
    pub async fn complete_with<T, E>(
        &self,
        claim: &Claim,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (clock, completed) = (self.clock.clone(), claim.clone());
        let work = move |transaction: &Transaction<'_>| {
            complete_in(transaction, &clock, &completed)?;
            work(transaction)
        };
        let claim = claim.clone();
        self.run(work, move || claim.mark_completed()).await
    }

    /// Does `work` in a transaction, which is committed if it returns `Ok`. It runs on the store's
    /// thread and may block, but everybody else waits.
    ///
    /// It must not wait for its own store, whose calls inside it fail with
    /// [`StoreErrorKind::Configuration`], nor for a task that does, or whose thread may drop the last
    /// clone: nothing can end such work. Once it is past its [limit](Self::transaction_limit), calls that
    /// arrive fail with [`StoreErrorKind::TimedOut`], also [`check`](IdempotencyStore::check); those that
    /// arrived before wait until it returns.
    ///
    /// Its statements can't end the transaction, attach databases or change the connection; savepoints
    /// and the pragmas of schema migrations, such as `user_version`, are allowed. After the
    /// [limit](Self::transaction_limit) they are interrupted, and nothing is committed.
    ///
    /// # Errors
    ///
    /// The error of `work`; a [`StoreError`] if it panics or takes too long, or if the database is locked
    /// or fails. Nothing was committed, except that a commit that fails may leave open whether it was.
    pub async fn transaction<T, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.run(work, || ()).await
    }

    /// Calls `committed` once `work` is committed.
    async fn run<T, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        committed: impl FnOnce() + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = promise();
        let (clock, limit) = (self.clock.clone(), self.limit);
        self.shared.queue.work(Box::new(move |begun| {
            let result = match begun {
                Ok((transaction, guard)) => {
                    transaction::run(transaction, guard, (&clock, limit), work)
                }
                Err(error) => Err(error.into()),
            };
            if result.is_ok() {
                committed();
            }
            reply.send(result);
        }))?;
        answer.await.unwrap_or_else(|| Err(ended().into()))
    }

    /// [`claim`](IdempotencyStore::claim) as a part of a transaction on the store's database, over any
    /// connection whose main database it is, by the store's clock. Begin it with
    /// [`Immediate`](rusqlite::TransactionBehavior::Immediate): it then can't fail because another
    /// connection has written since it began.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with that of SQLite.
    pub fn claim_in(
        &self,
        transaction: &Transaction<'_>,
        key: &str,
        lease: Duration,
    ) -> Result<ClaimOutcome, StoreError> {
        ledger::claim(transaction, &self.shared.sweep, &self.clock, key, lease)
    }

    /// [`complete`](IdempotencyStore::complete) as a part of a transaction on the store's database, over
    /// any connection whose main database it is, by the store's clock and for the claim's
    /// [`retention`](Claim::retention). After
    /// the commit, call [`Claim::mark_completed`], so that [`Receiver`](crate::Receiver) does not
    /// complete it again.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::LeaseLost`] if another claim holds the key, or it is done already, by this claim or
    /// another: do not commit.
    /// [`StoreError`] with that of SQLite.
    pub fn complete_in(
        &self,
        transaction: &Transaction<'_>,
        claim: &Claim,
    ) -> Result<(), StoreError> {
        complete_in(transaction, &self.clock, claim)
    }

    /// Lets the thread do an operation of the crate's own, which may share its commit.
    fn operate<T: Send + 'static>(
        &self,
        apply: impl FnMut(&Ledger<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        self.operate_within(CAPACITY, apply)
    }

    fn operate_within<T: Send + 'static>(
        &self,
        capacity: usize,
        apply: impl FnMut(&Ledger<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        Box::pin(async move {
            let (reply, answer) = promise();
            let operation = Queued {
                apply,
                value: None,
                reply,
            };
            self.shared.queue.operation(Box::new(operation), capacity)?;
            answer.await.unwrap_or_else(|| Err(ended()))
        })
    }
}

fn complete_in(
    transaction: &Transaction<'_>,
    clock: &Clock,
    claim: &Claim,
) -> Result<(), StoreError> {
    if ledger::complete_once(transaction, clock, claim)? {
        Ok(())
    } else {
        Err(StoreErrorKind::LeaseLost.into())
    }
}

fn ended() -> StoreError {
    StoreError::new("its thread has ended")
}

impl IdempotencyStore for SqliteStore {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        let (key, clock) = (Arc::<str>::from(key), self.clock.clone());
        self.operate(move |ledger| ledger.claim(&clock, &key, lease))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        let (claim, clock) = (claim.clone(), self.clock.clone());
        self.operate_within(LAST_CAPACITY, move |ledger| {
            ledger::complete(ledger.connection, &clock, &claim, retention)
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        let claim = claim.clone();
        self.operate_within(LAST_CAPACITY, move |ledger| {
            ledger::release(ledger.connection, &claim)
        })
    }

    /// Also fails if the file was deleted or replaced, if the table is missing, and if another process
    /// holds the database's lock. Does not write.
    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            if let Some(file) = &self.shared.file {
                file.check()?;
            }
            self.operate(|ledger| ledger::check(ledger.connection))
                .await
        })
    }
}

/// An operation with its caller.
struct Queued<T, A> {
    apply: A,
    value: Option<T>,
    reply: Reply<Result<T, StoreError>>,
}

impl<T, A> Operation for Queued<T, A>
where
    T: Send,
    A: FnMut(&Ledger<'_>) -> Result<T, StoreError> + Send,
{
    fn apply(&mut self, ledger: &Ledger<'_>) -> Result<(), StoreError> {
        self.value = Some((self.apply)(ledger)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        reply.send(committed.and_then(|()| value.ok_or_else(ended)));
    }
}

/// By its kind: [`TimedOut`](StoreErrorKind::TimedOut) where another process holds a lock or a
/// statement was interrupted, [`Configuration`](StoreErrorKind::Configuration) where the file can't be
/// written or is no database.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted,
            ) => StoreErrorKind::TimedOut,
            Some(ErrorCode::NotADatabase | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
                StoreErrorKind::Configuration
            }
            _ => StoreErrorKind::Unavailable,
        };
        Self::with_source(kind, error)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}
