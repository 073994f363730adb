//! Deliveries per second through a `Receiver`, on each store: verified, claimed, handled by a
//! handler that does nothing, and completed. `cargo bench --bench stores`
//!
//! PostgreSQL and Redis are started here, where they are installed, and sync each write to the disk,
//! as SQLite does: that is most of what is measured.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use gemini_webhooks::{
    Receiver, Secret, Verifier,
    receiver::Received,
    store::{IdempotencyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore},
    testing::{Signer, sample},
};
use time::OffsetDateTime;

#[path = "../tests/stores/forgetful.rs"]
mod forgetful;
#[path = "../tests/stores/servers.rs"]
#[allow(dead_code, reason = "it serves the tests of the stores too")]
mod servers;

use forgetful::Forgetful;
use servers::{Server, temporary_path};

const TIME: Duration = Duration::from_secs(3);
/// So many at once.
const TASKS: [usize; 3] = [1, 16, 64];

/// Of the next delivery.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn receiver(store: impl IdempotencyStore) -> Receiver {
    let verifier = Verifier::builder().secret(secret()).build().unwrap();
    Receiver::builder(verifier, store).build().unwrap()
}

fn secret() -> Secret {
    Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap()
}

async fn measure(name: &str, store: impl IdempotencyStore) {
    let receiver = receiver(store);
    for tasks in TASKS {
        let begun = Instant::now();
        let mut running = Vec::new();
        for _ in 0..tasks {
            let receiver = receiver.clone();
            running.push(tokio::spawn(async move {
                let signer = Signer::v1(&secret());
                let body = sample(&"batch.succeeded".into());
                let mut count = 0;
                while begun.elapsed() < TIME {
                    let id = format!("msg_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
                    let sent = signer.sign(id, OffsetDateTime::now_utc(), body.as_str());
                    let handler = async |_: Received<'_>| Ok::<_, String>(());
                    let reply = receiver.handle(&sent, &sent.body, handler).await;
                    assert_eq!(reply.outcome.code(), "processed", "{:?}", reply.outcome);
                    count += 1;
                }
                count
            }));
        }
        let mut count = 0;
        for task in running {
            count += task.await.unwrap();
        }
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        println!("deliveries_per_second {name:<10} tasks {tasks:<3} {rate:>9.0}");
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    measure("none", Forgetful::default()).await;
    let memory = MemoryStore::with_capacity(usize::MAX);
    measure("memory", memory).await;

    let path = temporary_path();
    std::fs::create_dir(&path).unwrap();
    let sqlite = SqliteStore::open(path.join("deliveries.db")).unwrap();
    measure("sqlite", sqlite).await;
    std::fs::remove_dir_all(path).unwrap();

    if let Some(server) = Server::postgres(true) {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
        let postgres = PostgresStore::connect(&url).unwrap();
        // The server may be listening, and not ready yet.
        while postgres.claim("ready", TIME).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        measure("postgres", postgres).await;
    }
    if let Some(server) = Server::redis(false) {
        let url = format!("redis://127.0.0.1:{}/", server.port);
        let redis = RedisStore::connect(&url).unwrap();
        measure("redis", redis).await;
    }
}
