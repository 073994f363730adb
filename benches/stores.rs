//! Deliveries per second through a `Receiver`, on each store, and the time of one: verified, claimed,
//! handled by a handler that does nothing, and completed; through `Inbox::accept`; and through a worker.
//! `cargo bench --bench stores`; `-- sqlite` measures those alone whose name has this in it.
//!
//! PostgreSQL and Redis are started here, where they are installed, and sync each write to the disk,
//! as SQLite does: that is most of what is measured. SQLite and PostgreSQL are measured in turn with
//! stores that give each operation a commit of its own. Ids are random, as Google's are, and the
//! tables have [`ROWS`] rows at the beginning: sequential ids and empty tables touch fewer pages.

#![allow(clippy::cast_precision_loss, reason = "they are counts")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gemini_webhooks::{
    Inbox, Receiver, Secret, Verifier,
    inbox::InboxStore,
    receiver::Received,
    store::{ClaimOutcome, IdempotencyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore},
    testing::{SignedDelivery, Signer, sample},
};
use rusqlite::Connection;
use time::OffsetDateTime;

#[path = "../tests/stores/forgetful.rs"]
mod forgetful;
#[path = "support/inbox.rs"]
mod inbox;
#[path = "support/random.rs"]
mod random;
#[path = "../tests/stores/servers.rs"]
#[allow(dead_code, reason = "it serves the tests of the stores too")]
mod servers;
#[path = "support/unbatched.rs"]
mod unbatched;

use forgetful::Forgetful;
use random::{fill, random_id};
use servers::{Server, temporary_path};
use unbatched::{UnbatchedPostgres, UnbatchedSqlite};

/// Each side is measured for so long, so often, in turn.
const SLICE: Duration = Duration::from_millis(500);
const ROUNDS: usize = 8;
/// So many at once.
const TASKS: [usize; 4] = [1, 16, 64, 256];
/// Those of half a day at one delivery a second.
const ROWS: usize = 50_000;
const LEASE: Duration = Duration::from_secs(60);

/// What a delivery is given to.
#[derive(Clone)]
enum Subject {
    Receiver(Receiver),
    Inbox(Inbox),
}

impl Subject {
    fn receiver(store: impl IdempotencyStore) -> Self {
        Self::Receiver(Receiver::builder(verifier(), store).build().unwrap())
    }

    fn inbox(store: impl InboxStore) -> Self {
        Self::Inbox(Inbox::builder(verifier(), store).build().unwrap())
    }

    async fn give(&self, sent: &SignedDelivery) {
        match self {
            Self::Receiver(receiver) => {
                let handler = async |_: Received<'_>| Ok::<_, String>(());
                let reply = receiver.handle(sent, &sent.body, handler).await;
                assert_eq!(reply.outcome.code(), "processed", "{:?}", reply.outcome);
            }
            Self::Inbox(inbox) => {
                let reply = inbox.accept(sent, &sent.body).await;
                assert_eq!(reply.outcome.code(), "accepted", "{:?}", reply.outcome);
            }
        }
    }
}

fn verifier() -> Verifier {
    Verifier::builder().secret(secret()).build().unwrap()
}

fn secret() -> Secret {
    Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap()
}

/// One side.
#[derive(Default)]
struct Measured {
    seconds: f64,
    latencies: Vec<Duration>,
    /// Deliveries per second of each round.
    rates: Vec<f64>,
}

impl Measured {
    async fn round(&mut self, subject: &Subject, tasks: usize) {
        let begun = Instant::now();
        let mut running = Vec::new();
        for _ in 0..tasks {
            let subject = subject.clone();
            running.push(tokio::spawn(async move {
                let signer = Signer::v1(&secret());
                let body = sample(&"batch.succeeded".into());
                let mut latencies = Vec::new();
                while begun.elapsed() < SLICE {
                    let now = OffsetDateTime::now_utc();
                    let sent = signer.sign(random_id(), now, body.as_str());
                    let arrived = Instant::now();
                    subject.give(&sent).await;
                    latencies.push(arrived.elapsed());
                }
                latencies
            }));
        }
        let before = self.latencies.len();
        for task in running {
            self.latencies.extend(task.await.unwrap());
        }
        let seconds = begun.elapsed().as_secs_f64();
        self.seconds += seconds;
        self.rates
            .push((self.latencies.len() - before) as f64 / seconds);
    }

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    fn show(&mut self, name: &str, tasks: usize) {
        self.latencies.sort_unstable();
        let (rate, [p50, p99]) = (
            self.rate(),
            [50, 99].map(|p| percentile(&self.latencies, p)),
        );
        println!(
            "deliveries_per_second {name:<20} tasks {tasks:<3} {rate:>7.0} p50 {:>6.2} ms p99 {:>6.2} ms",
            1000.0 * p50,
            1000.0 * p99,
        );
    }
}

/// In seconds, of sorted ones.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let last = sorted.len() - 1;
    sorted[last * percent / 100].as_secs_f64()
}

async fn measure(name: &str, store: impl IdempotencyStore) {
    let subject = Subject::receiver(store);
    for tasks in TASKS {
        let mut measured = Measured::default();
        for _ in 0..ROUNDS / 2 {
            measured.round(&subject, tasks).await;
        }
        measured.show(name, tasks);
    }
}

/// Both in turn: another program on the machine takes away from both.
async fn compare(name: &str, batched: Subject, unbatched: Subject) {
    let subjects = [batched, unbatched];
    for tasks in TASKS {
        let mut sides = [Measured::default(), Measured::default()];
        for _ in 0..ROUNDS {
            for (side, subject) in sides.iter_mut().zip(&subjects) {
                side.round(subject, tasks).await;
            }
        }
        sides[0].show(name, tasks);
        sides[1].show(&format!("{name} unbatched"), tasks);
        let pairs = sides[0].rates.iter().zip(&sides[1].rates);
        let mut ratios: Vec<_> = pairs
            .map(|(batched, unbatched)| batched / unbatched)
            .collect();
        ratios.sort_by(f64::total_cmp);
        let [batched, unbatched] = sides.each_ref().map(|side| percentile(&side.latencies, 99));
        println!(
            "ratio {name} tasks {tasks}: {:.2} times as many (rounds {:.2} to {:.2}), p99 {:.2} times as long",
            sides[0].rate() / sides[1].rate(),
            ratios[0],
            ratios[ratios.len() - 1],
            batched / unbatched,
        );
    }
}

/// Claim and completion of one caller beside two durable commits of one row, and an accept beside one, in
/// turn.
async fn floor(store: &SqliteStore, path: &Path) {
    const CREATE: &str = "CREATE TABLE lines (key TEXT PRIMARY KEY, done INTEGER) WITHOUT ROWID";
    let connection = Connection::open(path).unwrap();
    for (name, value) in [("journal_mode", "wal"), ("synchronous", "full")] {
        connection.pragma_update(None, name, value).unwrap();
    }
    connection.execute_batch(CREATE).unwrap();
    let mut insert = connection
        .prepare("INSERT INTO lines VALUES (?1, 0)")
        .unwrap();
    let mut update = connection
        .prepare("UPDATE lines SET done = 1 WHERE key = ?1")
        .unwrap();
    let inbox = Inbox::builder(verifier(), store.clone()).build().unwrap();
    let (signer, body) = (Signer::v1(&secret()), sample(&"batch.succeeded".into()));
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..4000 {
        let key = random_id();
        let sent = signer.sign(random_id(), OffsetDateTime::now_utc(), body.as_str());
        let begun = Instant::now();
        let ClaimOutcome::New(claim) = store.claim(&key, LEASE).await.unwrap() else {
            panic!("it is new");
        };
        assert!(store.complete(&claim, LEASE).await.unwrap());
        times[0].push(begun.elapsed());
        let begun = Instant::now();
        insert.execute([&key]).unwrap();
        let one = begun.elapsed();
        update.execute([&key]).unwrap();
        times[1].push(begun.elapsed());
        let begun = Instant::now();
        let reply = inbox.accept(&sent, &sent.body).await;
        assert_eq!(reply.outcome.code(), "accepted");
        times[2].push(begun.elapsed());
        times[3].push(one);
    }
    let [ours, bare, accept, one] = times.map(|mut times| {
        times.sort_unstable();
        1e6 * percentile(&times, 50)
    });
    println!(
        "floor sqlite: claim and completion {ours:.0} us, two commits of a row {bare:.0} us, {:.2} times",
        ours / bare
    );
    println!(
        "floor sqlite: accept {accept:.0} us, one commit of a row {one:.0} us, {:.2} times",
        accept / one
    );
}

async fn sqlite() {
    let path = temporary_path();
    std::fs::create_dir(&path).unwrap();
    let store = SqliteStore::open(path.join("deliveries.db")).unwrap();
    floor(&store, &path.join("bare.db")).await;
    let connection = Connection::open(path.join("unbatched.db")).unwrap();
    let unbatched = UnbatchedSqlite::new(connection);
    for file in ["deliveries.db", "unbatched.db"] {
        fill(&path.join(file), ROWS);
    }
    let unbatched = Subject::receiver(unbatched);
    compare(
        "sqlite",
        Subject::receiver(store.clone()),
        unbatched.clone(),
    )
    .await;
    compare("sqlite accept", Subject::inbox(store), unbatched).await;
    std::fs::remove_dir_all(path).unwrap();
}

async fn postgres(server: &Server) {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let store = PostgresStore::connect(&url).unwrap();
    // The server may be listening, and not ready yet.
    while store.claim("ready", LEASE).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let unbatched = Subject::receiver(UnbatchedPostgres::new(&url));
    compare(
        "postgres",
        Subject::receiver(store.clone()),
        unbatched.clone(),
    )
    .await;
    compare("postgres accept", Subject::inbox(store), unbatched).await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| name.contains(wanted));
    if is_wanted("none") {
        measure("none", Forgetful::default()).await;
    }
    if is_wanted("memory") {
        let memory = MemoryStore::with_capacity(usize::MAX);
        measure("memory", memory).await;
    }
    if is_wanted("sqlite") {
        sqlite().await;
    }
    if is_wanted("postgres")
        && let Some(server) = Server::postgres(true)
    {
        postgres(&server).await;
    }
    if is_wanted("inbox sqlite") {
        inbox::sqlite().await;
    }
    if is_wanted("inbox postgres")
        && let Some(server) = Server::postgres(true)
    {
        inbox::postgres(&server).await;
    }
    if is_wanted("redis")
        && let Some(server) = Server::redis(false)
    {
        let url = format!("redis://127.0.0.1:{}/", server.port);
        measure("redis", RedisStore::connect(&url).unwrap()).await;
    }
}
