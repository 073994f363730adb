//! Servers that are killed under load, and processes that share one: nothing that was acknowledged is
//! lost, and nothing is completed twice.
//!
//! `SERVER_KILLS` and `KILLS` set how often a server and a process is killed: 3 and 30 times by default.
//! `DELIVERIES` sets how many deliveries two processes share: 1000 by default.

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
    processes::number,
    servers::Server,
};

/// More than there are connections, so that some share a statement.
const TASKS: usize = 48;
/// Short, so that a claim whose server was killed need not be waited for.
const LEASE: Duration = Duration::from_secs(1);
const RETENTION: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(120);

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
    let kills = number("SERVER_KILLS", 3);
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

/// The environment variable that makes this process one of two that share a server: its URL, the number
/// of deliveries, and whether to begin with the last one.
const ARGUMENTS: &str = "STORE_SHARER";
/// Begins the line with the number of deliveries that the process completed and the 99th percentile of
/// the microseconds that each took.
const SHARED: &str = "shared ";

/// Does nothing where it is not started as one of two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sharer() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let arguments: Vec<&str> = arguments.lines().collect();
    let (count, backwards) = (arguments[1].parse().unwrap(), arguments[2] == "backwards");
    let store = Store::Postgres(PostgresStore::connect(arguments[0]).unwrap());
    let next: Arc<AtomicUsize> = Arc::default();
    let tasks = (0..TASKS).map(|_| {
        let (store, next) = (store.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return times;
                }
                let number = if backwards {
                    count - 1 - number
                } else {
                    number
                };
                let begun = Instant::now();
                let key = format!("key{number}");
                let claimed = store.operations().claim(&key, PATIENCE).await.unwrap();
                if let ClaimOutcome::New(claim) = claimed {
                    assert!(store.complete(&claim, number).await.unwrap());
                    times.push(begun.elapsed());
                }
            }
        })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).unwrap();
    eprintln!("{SHARED}{} {}", times.len(), p99.as_micros());
}

#[tokio::test]
async fn two_processes_on_postgresql_complete_each_delivery_once_without_deadlocks() {
    let Some(server) = Server::postgres(true) else {
        return;
    };
    let fixture = Fixture::postgres_on(&server).await;
    let Place::Postgres(url) = &fixture.place else {
        unreachable!()
    };
    let client = client(url).await;
    let create = "CREATE TABLE effects (key text)";
    client.batch_execute(create).await.unwrap();
    let count = number("DELIVERIES", 1000);
    let begun = Instant::now();
    let processes = ["forwards", "backwards"].map(|direction| {
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "kills::sharer", "--nocapture"]);
        command.env(ARGUMENTS, format!("{url}\n{count}\n{direction}"));
        command.kill_on_drop(true).output()
    });
    let mut completed = 0;
    for process in processes {
        let output = tokio::time::timeout(PATIENCE * 4, process)
            .await
            .unwrap()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let line = errors.lines().find_map(|line| line.strip_prefix(SHARED));
        let (number, p99) = line.and_then(|line| line.split_once(' ')).expect(&errors);
        println!("{number} deliveries, 99 % of them within {p99} us");
        completed += number.parse::<usize>().unwrap();
        let p99 = Duration::from_micros(p99.parse().unwrap());
        assert!(p99 < Duration::from_secs(5), "{p99:?}");
    }
    println!("in {:?}", begun.elapsed());
    assert_eq!(completed, count);
    let effects = "SELECT count(*), count(DISTINCT key) FROM effects";
    let row = client.query_one(effects, &[]).await.unwrap();
    let expected = i64::try_from(count / 2).unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (expected, expected)
    );
    let deadlocks = "SELECT sum(deadlocks)::bigint FROM pg_stat_database";
    let row = client.query_one(deadlocks, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}
