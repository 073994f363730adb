//! The stores under a fleet: real ones, with faults and delays around each operation.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use gemini_webhooks::{
    inbox::{Acceptance, DeadLetter, InboxStore, NewEntry, Round, Stats, Taken},
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
    oracle::{Identity, entries::LEASE},
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
    pub(crate) group: Group,
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
    Accept(NewEntry),
    Round(Round),
}

enum Done {
    Claimed(ClaimOutcome),
    Completed(bool),
    Released,
    Accepted(Acceptance),
    Taken(Taken),
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
    pub(crate) fn now(&self) -> Duration {
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

    fn inbox(&self) -> &dyn InboxStore {
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
        if lost || self.world.store_is_down(self.group) {
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
            if claim.entry().is_some() {
                oracle.effected(claim, done.is_ok());
            } else {
                oracle.completed(now, claim, claim.retention(), done.is_ok());
            }
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
            Operation::Accept(entry) => Done::Accepted(self.inbox().accept(entry.clone()).await?),
            Operation::Round(round) => Done::Taken(match &self.store {
                Inner::Model(model) => model.round_beside(&self.busy(round), round),
                _ => self.inbox().round(round.clone()).await?,
            }),
        })
    }

    /// Chooses the entries of a round that transactions of handlers have just then.
    fn busy(&self, round: &Round) -> Vec<i64> {
        let mut rng = self.rng.lock().unwrap();
        let ids = round.changes.iter().filter_map(|it| it.claim.entry());
        ids.filter(|_| rng.chance(10)).collect()
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
            (Operation::Accept(entry), Done::Accepted(outcome)) => {
                world.trace(|| format!("store   accept {}: {outcome:?}", entry.key));
                let times = (now, world.executor.now());
                world.oracle().accepted(times, entry, *outcome);
            }
            (Operation::Round(round), Done::Taken(taken)) => {
                world.trace(|| self.told(round, taken));
                let times = (now, world.executor.now());
                let sees_own = !matches!(self.store, Inner::Model(_));
                let mut oracle = world.oracle();
                oracle.round(times, self.group, (round, taken), sees_own);
            }
            _ => unreachable!("an answer to another operation"),
        }
    }

    /// A round in words.
    fn told(&self, round: &Round, taken: &Taken) -> String {
        let changes = round.changes.iter().zip(&taken.held).map(|(change, held)| {
            let (key, fate) = (change.claim.key(), &change.fate);
            format!(" {key} {fate:?}, held: {held:?};")
        });
        let changes: String = changes.collect();
        let entries = taken.entries.iter().map(|entry| {
            let (key, attempt) = (entry.claim.key(), entry.attempt);
            format!(" {key} attempt {attempt},")
        });
        let entries: String = entries.collect();
        let Group(process) = self.group;
        let next = taken.next;
        format!("store   round of {process}:{changes} takes{entries} next in {next:?}")
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
        let mut operations = Vec::new();
        if let [alone] = &batch[..] {
            operations.push(Box::pin(self.perform(&alone.operation)));
        } else {
            // Until all of them are in its queue.
            let occupied = occupy(store);
            for waiting in &batch {
                let mut operation = Box::pin(self.perform(&waiting.operation));
                assert!(begin(&mut operation).is_pending());
                operations.push(operation);
            }
            drop(occupied);
        }
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

impl InboxStore for SimulatedStore {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        Box::pin(async move {
            match self.operate(Operation::Accept(entry)).await? {
                Done::Accepted(outcome) => Ok(outcome),
                _ => unreachable!("an answer to another operation"),
            }
        })
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        let asked = self.world.executor.now();
        Box::pin(async move {
            let Done::Taken(taken) = self.operate(Operation::Round(round)).await? else {
                unreachable!("an answer to another operation");
            };
            // A little more, as clocks differ.
            if self.world.executor.now() + Duration::from_secs(1) < asked + LEASE {
                self.world.oracle().delivered(&taken);
            }
            Ok(taken)
        })
    }

    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
        Box::pin(async move {
            self.to().await?;
            let stats = block_on(self.inbox().stats(namespace))?;
            self.world.trace(|| format!("store   {stats:?}"));
            self.world.oracle().counted(self.now(), stats);
            self.way().await?;
            Ok(stats)
        })
    }

    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        Box::pin(async move {
            self.to().await?;
            let letters = block_on(self.inbox().dead_letters(namespace, after, limit))?;
            self.world
                .trace(|| format!("store   lists {} dead letters", letters.len()));
            let all = after == 0 && letters.len() < limit;
            self.world.oracle().listed(&letters, all);
            self.way().await?;
            Ok(letters)
        })
    }

    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            self.to().await?;
            let found = block_on(self.inbox().retry(namespace, id))?;
            self.world
                .trace(|| format!("store   retries dead letter {id}: {found}"));
            let times = (self.now(), self.world.executor.now());
            self.world.oracle().retried(times, id, found);
            self.way().await?;
            Ok(found)
        })
    }

    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            self.to().await?;
            let found = block_on(self.inbox().discard(namespace, id))?;
            self.world
                .trace(|| format!("store   discards dead letter {id}: {found}"));
            self.world.oracle().discarded(id, found);
            self.way().await?;
            Ok(found)
        })
    }
}
