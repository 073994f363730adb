//! The stores under a fleet: real ones, with faults and delays around each operation.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use gemini_webhooks::{
    receiver::{HandlerError, Received},
    store::{
        Claim, ClaimOutcome, IdempotencyStore, MemoryStore, SqliteStore, StoreError,
        StoreErrorKind, StoreFuture,
    },
    testing::Clock,
};
use time::OffsetDateTime;

use crate::{
    block_on::block_on,
    executor::{Group, Sender, channel},
    model::Model,
    occupied::{begin, occupy},
    oracle::Identity,
    rng::Rng,
    world::World,
};

/// The place where a fleet remembers.
#[derive(Clone)]
pub(crate) enum Backend {
    /// With the number of its machine, by whose monotonic clock it goes.
    Memory(MemoryStore, usize),
    Model(Model),
    Sqlite(PathBuf),
}

/// The store of one run of a process.
pub(crate) struct SimulatedStore {
    world: World,
    store: Inner,
    clock: StoreClock,
    rng: Mutex<Rng>,
    /// The number of operations of each task.
    operations: Mutex<BTreeMap<u64, u64>>,
    /// The tasks of the process, in which a batch is committed.
    group: Group,
    /// The operations that wait for a commit.
    waiting: Mutex<Vec<Waiting>>,
}

enum Inner {
    Memory(MemoryStore),
    Model(Model),
    Sqlite(SqliteStore),
}

enum StoreClock {
    Monotonic(usize),
    Model(Model),
    Wall(Clock),
}

/// An operation of the crate's.
enum Operation {
    Claim(String, Duration),
    Complete(Claim, Duration),
    Release(Claim),
}

enum Done {
    Claimed(ClaimOutcome),
    Completed(bool),
    Released,
}

struct Waiting {
    operation: Operation,
    answer: Sender<Result<Done, StoreError>>,
}

impl SimulatedStore {
    pub(crate) fn open(
        world: &World,
        backend: &Backend,
        clock: &Clock,
        group: Group,
        seed: u64,
    ) -> Self {
        let (store, clock) = match backend {
            Backend::Memory(store, machine) => (
                Inner::Memory(store.clone()),
                StoreClock::Monotonic(*machine),
            ),
            Backend::Model(model) => (
                Inner::Model(model.clone()),
                StoreClock::Model(model.clone()),
            ),
            Backend::Sqlite(path) => {
                let store = SqliteStore::open(path).unwrap().clock(clock.clone());
                (Inner::Sqlite(store), StoreClock::Wall(clock.clone()))
            }
        };
        Self {
            world: world.clone(),
            store,
            clock,
            rng: Mutex::new(Rng::new(seed, "store")),
            operations: Mutex::default(),
            group,
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn operations_of(&self, task: u64) -> u64 {
        self.operations
            .lock()
            .unwrap()
            .remove(&task)
            .unwrap_or_default()
    }

    /// The time of the store's clock, as exact as the store knows it.
    fn now(&self) -> Duration {
        match &self.clock {
            StoreClock::Monotonic(machine) => self.world.executor.elapsed(*machine),
            StoreClock::Model(model) => Duration::from_micros(u64::try_from(model.now()).unwrap()),
            StoreClock::Wall(clock) => {
                let since = clock.now() - OffsetDateTime::UNIX_EPOCH;
                Duration::from_millis(u64::try_from(since.whole_milliseconds()).unwrap())
            }
        }
    }

    fn inner(&self) -> &dyn IdempotencyStore {
        match &self.store {
            Inner::Memory(store) => store,
            Inner::Model(store) => store,
            Inner::Sqlite(store) => store,
        }
    }

    /// The way to the store, which may be slow, fail or be down.
    async fn to(&self) -> Result<(), StoreError> {
        let task = self.world.executor.running();
        *self.operations.lock().unwrap().entry(task).or_default() += 1;
        self.way().await
    }

    /// The way back, on which the answer may be lost.
    async fn way(&self) -> Result<(), StoreError> {
        let (time, lost) = {
            let mut rng = self.rng.lock().unwrap();
            let faults = self.world.plan.store_faults > 0;
            let longest = if faults && rng.chance(2) { 4_000 } else { 4 };
            (rng.time(0, longest), faults && rng.chance(2))
        };
        self.world.executor.sleep(time).await;
        if lost || self.world.store_is_down() {
            self.world
                .trace(|| "store   fails an operation, before it has happened or after".into());
            return Err(StoreError::new("the simulation lets it fail"));
        }
        Ok(())
    }

    /// Writes the effect of a delivery in the transaction that completes it, where there are such.
    pub(crate) async fn effect(
        &self,
        received: &Received<'_>,
        identity: &Identity,
    ) -> Result<(), HandlerError> {
        let Inner::Sqlite(store) = &self.store else {
            return Ok(());
        };
        let (claim, (resource, context)) = (received.claim(), identity.clone());
        self.to().await?;
        let now = self.now();
        self.world.oracle().finished(claim);
        let done = block_on(store.complete_with(claim, move |transaction| {
            transaction.execute("INSERT INTO effects VALUES (?1, ?2)", [resource, context])?;
            Ok::<_, StoreError>(())
        }));
        let lost = done
            .as_ref()
            .is_err_and(|error| error.kind() == StoreErrorKind::LeaseLost);
        self.world
            .trace(|| format!("store   effect of {}: {done:?}", claim.key()));
        if done.is_ok() || lost {
            let mut oracle = self.world.oracle();
            oracle.completed(now, claim, claim.retention(), done.is_ok());
            if done.is_ok() {
                oracle.effects.insert(identity.clone());
            }
        }
        done?;
        Ok(self.way().await?)
    }
}

/// Creates the table of effects in a new database.
pub(crate) fn create_effects(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let create = "CREATE TABLE effects (resource TEXT, context TEXT)";
    connection.execute_batch(create).unwrap();
}

/// Counts the effects of each delivery.
pub(crate) fn effects(path: &Path) -> BTreeMap<Identity, u64> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut effects = connection
        .prepare("SELECT resource, context FROM effects")
        .unwrap();
    let mut found = BTreeMap::new();
    let rows = effects.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    for identity in rows.unwrap() {
        *found.entry(identity.unwrap()).or_default() += 1;
    }
    found
}

/// Lets the operation of this crate go its way to the store and back.
impl SimulatedStore {
    async fn operate(&self, operation: Operation) -> Result<Done, StoreError> {
        self.to().await?;
        let done = if matches!(self.store, Inner::Sqlite(_)) {
            self.share_commit(operation).await?
        } else {
            // To the fleet it is one moment.
            let operated = block_on(self.perform(&operation))?;
            self.record(&operation, &operated);
            operated
        };
        self.way().await?;
        Ok(done)
    }

    async fn perform(&self, operation: &Operation) -> Result<Done, StoreError> {
        let store = self.inner();
        Ok(match operation {
            Operation::Claim(key, lease) => Done::Claimed(store.claim(key, *lease).await?),
            Operation::Complete(claim, retention) => {
                Done::Completed(store.complete(claim, *retention).await?)
            }
            Operation::Release(claim) => {
                store.release(claim).await?;
                Done::Released
            }
        })
    }

    /// Tells the oracle.
    fn record(&self, operation: &Operation, done: &Done) {
        let (now, world) = (self.now(), &self.world);
        match (operation, done) {
            (Operation::Claim(key, lease), Done::Claimed(outcome)) => {
                world.trace(|| format!("store   claim {key}: {outcome:?}"));
                let times = (now, world.executor.now());
                world.oracle().claimed(times, key, *lease, outcome);
            }
            (Operation::Complete(claim, retention), Done::Completed(completed)) => {
                world.trace(|| format!("store   complete {}: {completed}", claim.key()));
                world.oracle().completed(now, claim, *retention, *completed);
            }
            (Operation::Release(claim), _) => {
                world.trace(|| format!("store   release {}", claim.key()));
                world.oracle().released(claim);
            }
            _ => unreachable!("an answer to another operation"),
        }
    }

    /// Waits for the commit that the operations of these milliseconds share. Whoever stops waiting does
    /// not take its operation back.
    async fn share_commit(&self, operation: Operation) -> Result<Done, StoreError> {
        let (answer, waiter) = channel();
        let first = {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.push(Waiting { operation, answer });
            waiting.len() == 1
        };
        if first {
            let (world, group) = (self.world.clone(), self.group);
            let time = self.rng.lock().unwrap().time(1, 40);
            self.world.executor.spawn(group, None, async move {
                world.executor.sleep(time).await;
                let store = world.store_of(group);
                store.commit();
            });
        }
        waiter.await.expect("a commit answers")
    }

    /// Has the writer thread do all operations that wait in one batch.
    fn commit(&self) {
        let batch = std::mem::take(&mut *self.waiting.lock().unwrap());
        let Inner::Sqlite(store) = &self.store else {
            unreachable!("only SQLite has batches here");
        };
        // Until all of them are in its queue.
        let occupied = occupy(store);
        let mut operations = Vec::new();
        for waiting in &batch {
            let mut operation = Box::pin(self.perform(&waiting.operation));
            assert!(begin(&mut operation).is_pending());
            operations.push(operation);
        }
        drop(occupied);
        let results: Vec<_> = operations.into_iter().map(block_on).collect();
        self.world
            .trace(|| format!("store   commits {} operations", batch.len()));
        self.world.oracle().load.batches += u64::from(batch.len() > 1);
        for (waiting, result) in batch.into_iter().zip(results) {
            if let Ok(done) = &result {
                self.record(&waiting.operation, done);
            }
            waiting.answer.send(result);
        }
    }
}

impl IdempotencyStore for SimulatedStore {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(async move {
            match self
                .operate(Operation::Claim(key.to_owned(), lease))
                .await?
            {
                Done::Claimed(outcome) => Ok(outcome),
                _ => unreachable!("an answer to another operation"),
            }
        })
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            match self
                .operate(Operation::Complete(claim.clone(), retention))
                .await?
            {
                Done::Completed(completed) => Ok(completed),
                _ => unreachable!("an answer to another operation"),
            }
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.operate(Operation::Release(claim.clone()))
                .await
                .map(drop)
        })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.to().await?;
            block_on(self.inner().check())?;
            self.way().await
        })
    }
}
