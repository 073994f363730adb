//! Workers of an inbox: their rate, beside one that takes and removes one entry at a time; beside live
//! accepts; and with a million entries that wait.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use deadpool_postgres::{
    Manager, Pool,
    tokio_postgres::{Config, NoTls},
};
use gemini_webhooks::{
    Inbox,
    receiver::{HandlerError, Received},
    store::{PostgresStore, SqliteStore},
    testing::{Signer, sample},
};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use time::OffsetDateTime;
use tokio::sync::{Notify, oneshot};

use crate::{
    LEASE,
    random::random_id,
    secret,
    servers::{Server, temporary_path},
    verifier,
};

const ROUNDS: usize = 6;
/// The entries that are handled in a round by a worker, and one at a time.
const ENTRIES: [usize; 2] = [4096, 512];
const BATCH: usize = 32;
const WAITING: usize = 1_000_000;

/// Stores so many deliveries, with 64 tasks.
async fn fill(inbox: &Inbox, count: usize) {
    let mut tasks = Vec::new();
    for part in 0..64 {
        let inbox = inbox.clone();
        tasks.push(tokio::spawn(async move {
            let (signer, body) = (Signer::v1(&secret()), sample(&"batch.succeeded".into()));
            for _ in (part..count).step_by(64) {
                let sent = signer.sign(random_id(), OffsetDateTime::now_utc(), body.as_str());
                let reply = inbox.accept(&sent, &sent.body).await;
                assert_eq!(reply.outcome.code(), "accepted", "{:?}", reply.outcome);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// Handles so many entries, and returns how many a second.
async fn work(inbox: &Inbox, concurrency: usize, count: usize) -> f64 {
    let count_of = AtomicUsize::new(0);
    let done = Notify::new();
    let begun = Instant::now();
    let handler = async |received: Received<'static>| {
        received.event()?;
        if count_of.fetch_add(1, Ordering::Relaxed) + 1 == count {
            done.notify_one();
        }
        Ok::<_, HandlerError>(())
    };
    let worker = inbox.worker().concurrency(concurrency);
    let worker = worker.on_store_error(|error| eprintln!("{error:?}"));
    worker.run(handler, done.notified()).await;
    count_of.into_inner() as f64 / begun.elapsed().as_secs_f64()
}

/// A worker that takes entries in batches, beside one that takes one in a commit and removes it in another.
async fn compare(name: &str, inbox: &Inbox, mut one: impl AsyncFnMut() -> bool) {
    let mut ratios = Vec::new();
    let mut rates = [0.0, 0.0];
    for _ in 0..ROUNDS {
        fill(inbox, ENTRIES[0] + BATCH).await;
        let batched = work(inbox, BATCH, ENTRIES[0]).await;
        while one().await {}
        fill(inbox, ENTRIES[1]).await;
        let begun = Instant::now();
        while one().await {}
        let single = ENTRIES[1] as f64 / begun.elapsed().as_secs_f64();
        ratios.push(batched / single);
        rates = [rates[0] + batched, rates[1] + single];
    }
    ratios.sort_by(f64::total_cmp);
    let [batched, single] = rates.map(|rate| rate / ROUNDS as f64);
    println!(
        "worker {name}: {batched:.0} entries a second in batches of {BATCH}, {single:.0} one at a time, {:.1} times (rounds {:.1} to {:.1})",
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
    );
}

/// A worker while 64 tasks accept as fast as they can.
async fn keep_up(name: &str, inbox: &Inbox, concurrency: usize) {
    const TIME: Duration = Duration::from_secs(4);
    let count_of = AtomicUsize::new(0);
    let handler = async |received: Received<'static>| {
        count_of.fetch_add(1, Ordering::Relaxed);
        received.event().map(drop)
    };
    let begun = Instant::now();
    let accepting = async {
        let mut accepted = 0_u32;
        while begun.elapsed() < TIME {
            fill(inbox, 640).await;
            accepted += 640;
        }
        accepted
    };
    let worker = inbox.worker().concurrency(concurrency);
    let worker = worker.on_store_error(|error| eprintln!("{error:?}"));
    let (told, stop) = oneshot::channel();
    let accepting = async {
        let accepted = accepting.await;
        told.send(()).unwrap();
        accepted
    };
    let stop = async { stop.await.unwrap() };
    let (accepted, ()) = tokio::join!(accepting, worker.run(handler, stop));
    let seconds = begun.elapsed().as_secs_f64();
    let count = count_of.into_inner();
    println!(
        "live {name}: {:.0} accepted a second, {:.0} handled by a worker of {concurrency}, {} left",
        f64::from(accepted) / seconds,
        count as f64 / seconds,
        accepted as usize - count,
    );
    // What is left.
    let left = usize::try_from(inbox.stats().await.unwrap().due).unwrap();
    if left > 0 {
        work(inbox, 256, left).await;
    }
}

/// The time of an accept and of a worker's entry, in microseconds, with 64 tasks and batches of 32.
async fn costs(inbox: &Inbox) -> [f64; 2] {
    const COUNT: usize = 8192;
    let begun = Instant::now();
    fill(inbox, COUNT).await;
    let accept = 1e6 * begun.elapsed().as_secs_f64() / COUNT as f64;
    [accept, 1e6 / work(inbox, BATCH, COUNT).await]
}

fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / 1e6
}

/// An empty table, and one with a million entries that wait, in turn.
async fn wait_in_vain(name: &str, [empty, full]: [&Inbox; 2]) {
    let before = memory();
    let mut best = [[f64::MAX; 2]; 2];
    for _ in 0..ROUNDS {
        for (inbox, best) in [empty, full].into_iter().zip(&mut best) {
            let costs = costs(inbox).await;
            *best = [best[0].min(costs[0]), best[1].min(costs[1])];
        }
    }
    let [[accept, take], [full_accept, full_take]] = best;
    println!(
        "waiting {name}: with {WAITING} entries an accept takes {:.2} times as long ({full_accept:.0} us), \
         an entry of a worker {:.2} times ({full_take:.0} us); memory grew by {:.0} MB",
        full_accept / accept,
        full_take / take,
        memory() - before,
    );
}

pub(crate) async fn sqlite() {
    let path = temporary_path();
    std::fs::create_dir(&path).unwrap();
    let open = |name: &str| {
        let store = SqliteStore::open(path.join(name)).unwrap();
        Inbox::builder(verifier(), store).build().unwrap()
    };
    let inbox = open("inbox.db");
    let mut connection = Connection::open(path.join("inbox.db")).unwrap();
    connection
        .pragma_update(None, "synchronous", "full")
        .unwrap();
    connection.busy_timeout(LEASE).unwrap();
    compare("sqlite", &inbox, async || {
        const TAKE: &str = "
            UPDATE gemini_webhook_inbox SET attempts = attempts + 1, working = 1, due_at = ?1 + 60000
            WHERE id = (SELECT id FROM gemini_webhook_inbox WHERE namespace = '' AND due_at <= ?1
                        ORDER BY due_at LIMIT 1)
            RETURNING id, envelope, payload";
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let now = i64::try_from(now).unwrap();
        let taking = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        let taken = taking
            .prepare_cached(TAKE)
            .unwrap()
            .query_row([now], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
            })
            .optional()
            .unwrap();
        taking.commit().unwrap();
        let Some((id, _, payload)) = taken else {
            return false;
        };
        serde_json::from_slice::<gemini_webhooks::Event>(&payload).unwrap();
        let remove = "DELETE FROM gemini_webhook_inbox WHERE id = ?1";
        let mut remove = connection.prepare_cached(remove).unwrap();
        remove.execute([id]).unwrap() == 1
    })
    .await;
    for concurrency in [1, 64] {
        keep_up("sqlite", &inbox, concurrency).await;
    }
    let full = open("full.db");
    let mut connection = Connection::open(path.join("full.db")).unwrap();
    let filling = connection.transaction().unwrap();
    for _ in 0..WAITING {
        const WAIT: &str = "
            INSERT INTO gemini_webhook_inbox
                (namespace, key, received_at, fencing_token, attempts, working, due_at, envelope, payload)
            VALUES ('', ?1, 0, 1, 1, 0, 4102444800000, '{}', ?2)";
        let mut wait = filling.prepare_cached(WAIT).unwrap();
        wait.execute((random_id(), [b' '; 200])).unwrap();
    }
    filling.commit().unwrap();
    wait_in_vain("sqlite", [&open("empty.db"), &full]).await;
    drop((inbox, full));
    std::fs::remove_dir_all(path).unwrap();
}

pub(crate) async fn postgres(server: &Server) {
    let base = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let config: Config = base.parse().unwrap();
    let pool = Pool::builder(Manager::new(config, NoTls))
        .max_size(1)
        .build()
        .unwrap();
    let client = loop {
        // The server may be listening, and not ready yet.
        match pool.get().await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    client
        .batch_execute("CREATE SCHEMA empty; CREATE SCHEMA busy; CREATE SCHEMA waiting; SET search_path TO busy")
        .await
        .unwrap();
    let open = |schema: &str| {
        let url = format!("{base}?options=-csearch_path%3D{schema}");
        let store = PostgresStore::connect(&url).unwrap();
        Inbox::builder(verifier(), store).build().unwrap()
    };
    let inbox = open("busy");
    compare("postgres", &inbox, async || {
        const TAKE: &str = "
            UPDATE gemini_webhook_inbox
            SET attempts = attempts + 1, working = true, due_at = clock_timestamp() + interval '60 s'
            WHERE id = (SELECT id FROM gemini_webhook_inbox
                        WHERE namespace = '' AND due_at <= clock_timestamp()
                        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING id, envelope, payload";
        let take = client.prepare_cached(TAKE).await.unwrap();
        let Some(row) = client.query_opt(&take, &[]).await.unwrap() else {
            return false;
        };
        serde_json::from_slice::<gemini_webhooks::Event>(row.get(2)).unwrap();
        let remove = "DELETE FROM gemini_webhook_inbox WHERE id = $1";
        let remove = client.prepare_cached(remove).await.unwrap();
        client.execute(&remove, &[&row.get::<_, i64>(0)]).await.unwrap() == 1
    })
    .await;
    for concurrency in [1, 64] {
        keep_up("postgres", &inbox, concurrency).await;
    }
    let wait = format!(
        "INSERT INTO waiting.gemini_webhook_inbox
            (namespace, key, received_at, fencing_token, attempts, due_at, envelope, payload)
         SELECT '', gen_random_uuid(), now(), 1, 1, '2100-01-01', '{{}}', repeat(' ', 200)::bytea
         FROM generate_series(1, {WAITING});
         ANALYZE waiting.gemini_webhook_inbox"
    );
    let waiting = open("waiting");
    waiting.check().await.unwrap();
    client.batch_execute(&wait).await.unwrap();
    wait_in_vain("postgres", [&open("empty"), &waiting]).await;
}
