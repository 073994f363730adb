//! The stores under a fleet: real ones, with faults and delays around each operation.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread,
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

use crate::{oracle::Identity, rng::Rng, world::World};

/// The place where a fleet remembers.
#[derive(Clone)]
pub(crate) enum Backend {
    /// With the number of its machine, by whose monotonic clock it goes.
    Memory(MemoryStore, usize),
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
}

enum Inner {
    Memory(MemoryStore),
    Sqlite(SqliteStore),
}

enum StoreClock {
    Monotonic(usize),
    Wall(Clock),
}

impl SimulatedStore {
    pub(crate) fn open(world: &World, backend: &Backend, clock: &Clock, seed: u64) -> Self {
        let (store, clock) = match backend {
            Backend::Memory(store, machine) => (
                Inner::Memory(store.clone()),
                StoreClock::Monotonic(*machine),
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
            StoreClock::Wall(clock) => {
                let since = clock.now() - OffsetDateTime::UNIX_EPOCH;
                Duration::from_millis(u64::try_from(since.whole_milliseconds()).unwrap())
            }
        }
    }

    fn inner(&self) -> &dyn IdempotencyStore {
        match &self.store {
            Inner::Memory(store) => store,
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
        let done = finish(store.complete_with(claim, move |transaction| {
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

/// Runs an operation to its end. To the fleet it is one moment.
fn finish<T>(operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let thread = Waker::from(Arc::new(Thread(thread::current())));
    let mut operation = pin!(operation);
    loop {
        match operation.as_mut().poll(&mut Context::from_waker(&thread)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

struct Thread(thread::Thread);

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
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

impl IdempotencyStore for SimulatedStore {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(async move {
            self.to().await?;
            let now = self.now();
            let outcome = finish(self.inner().claim(key, lease))?;
            self.world
                .trace(|| format!("store   claim {key}: {outcome:?}"));
            self.world.oracle().claimed(now, key, lease, &outcome);
            self.way().await?;
            Ok(outcome)
        })
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            self.to().await?;
            let now = self.now();
            let completed = finish(self.inner().complete(claim, retention))?;
            self.world
                .trace(|| format!("store   complete {}: {completed}", claim.key()));
            self.world
                .oracle()
                .completed(now, claim, retention, completed);
            self.way().await?;
            Ok(completed)
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            self.to().await?;
            finish(self.inner().release(claim))?;
            self.world
                .trace(|| format!("store   release {}", claim.key()));
            self.world.oracle().released(claim);
            self.way().await
        })
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.to().await?;
            finish(self.inner().check())?;
            self.way().await
        })
    }
}
