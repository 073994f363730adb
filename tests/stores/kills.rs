//! Servers that are killed under load, and processes that share one: nothing that was acknowledged is
//! lost, and nothing is completed twice.
//!
//! `SERVER_KILLS` and `KILLS` set how often a server and a process is killed: 3 and 30 times by default.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gemini_webhooks::store::{
    Claim, ClaimOutcome, IdempotencyStore, PostgresStore, RedisStore, StoreError,
};

use crate::{
    fixture::{Fixture, Place, client},
    servers::Server,
};

/// More than there are connections, so that some share a statement.
const TASKS: usize = 48;
/// Short, so that a claim whose server was killed need not be waited for.
const LEASE: Duration = Duration::from_secs(1);
const RETENTION: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |times| times.parse().unwrap())
}

#[derive(Clone)]
enum Store {
    Postgres(PostgresStore),
    Redis(RedisStore),
}

impl Store {
    fn operations(&self) -> &dyn IdempotencyStore {
        match self {
            Self::Postgres(store) => store,
            Self::Redis(store) => store,
        }
    }

    /// Completes the claim: of every other delivery with an effect in the same transaction.
    async fn complete(&self, claim: &Claim, number: usize) -> Result<bool, StoreError> {
        let Self::Postgres(store) = self else {
            return self.operations().complete(claim, RETENTION).await;
        };
        if number.is_multiple_of(2) {
            return store.complete(claim, RETENTION).await;
        }
        let transaction = store.begin(claim).await?;
        let insert = "INSERT INTO effects VALUES ($1)";
        let key = claim.key();
        transaction.client().execute(insert, &[&key]).await?;
        transaction.complete().await?;
        Ok(true)
    }
}

/// Handles deliveries until it is told to stop, each until it is done. Returns how often each was
/// acknowledged as completed.
async fn load(store: Store, next: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> HashMap<usize, u32> {
    let mut acknowledged = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let key = format!("key{number}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{key} is never done");
            let wait = match store.operations().claim(&key, LEASE).await {
                Ok(ClaimOutcome::Done) => break,
                Ok(ClaimOutcome::InFlight { .. }) => Duration::from_millis(50),
                Ok(ClaimOutcome::New(claim)) => {
                    if let Ok(true) = store.complete(&claim, number).await {
                        *acknowledged.entry(number).or_default() += 1;
                    }
                    Duration::ZERO
                }
                Err(_) => Duration::from_millis(20),
            };
            tokio::time::sleep(wait).await;
        }
    }
    acknowledged
}

/// Kills the server again and again while deliveries are handled, and returns how many there were, and
/// the server.
async fn kill(server: Server, store: Store) -> (usize, Server) {
    let kills = times("SERVER_KILLS", 3);
    let (next, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(load(store.clone(), Arc::clone(&next), Arc::clone(&stop))))
        .collect();
    let mut server = server;
    for kill in 0..kills {
        // At any moment, once it works again.
        while store.operations().check().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(100 + kill as u64 * 7919 % 300)).await;
        let killed = tokio::task::spawn_blocking(move || {
            server.kill_and_start();
            server
        });
        server = killed.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = HashMap::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    assert!(acknowledged.values().all(|times| *times == 1));
    let count = next.load(Ordering::Relaxed);
    for number in 0..count {
        let again = store
            .operations()
            .claim(&format!("key{number}"), LEASE)
            .await;
        assert_eq!(again.unwrap(), ClaimOutcome::Done, "{number}");
    }
    // All but those of which a kill hid the acknowledgement.
    assert!(acknowledged.len() <= count && acknowledged.len() + kills * TASKS >= count);
    println!(
        "{kills} kills, {count} deliveries, {} acknowledged",
        acknowledged.len()
    );
    (count, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_that_is_killed_loses_no_completion_and_has_each_effect_once() {
    let Some(server) = Server::postgres(true) else {
        return;
    };
    let fixture = Fixture::postgres_on(&server).await;
    let Place::Postgres(url) = &fixture.place else {
        unreachable!()
    };
    let create = "CREATE TABLE effects (key text)";
    client(url).await.batch_execute(create).await.unwrap();
    let store = PostgresStore::connect(url).unwrap();
    let (count, _server) = kill(server, Store::Postgres(store)).await;
    let mut expected: Vec<_> = (0..count)
        .filter(|number| number % 2 == 1)
        .map(|number| format!("key{number}"))
        .collect();
    expected.sort_unstable();
    let rows = client(url)
        .await
        .query("SELECT key FROM effects", &[])
        .await;
    let mut effects: Vec<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    effects.sort_unstable();
    assert_eq!(effects, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_is_killed_loses_no_completion() {
    let Some(server) = Server::redis(false) else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let store = RedisStore::connect(&url).unwrap();
    let _ = kill(server, Store::Redis(store)).await;
}
