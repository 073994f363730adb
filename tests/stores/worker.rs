//! The process that handles deliveries, with an effect in the store's own database, until all are
//! done or it is killed: this program, started again for its one test.
//!
//! Each handler that begins, and each delivery that is acknowledged, gets a line on standard error.

use std::{
    collections::VecDeque,
    io::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gemini_webhooks::{
    Receiver, Secret, Verifier,
    receiver::{HandlerError, Outcome, Received},
    store::{Claim, IdempotencyStore, PostgresStore, RedisStore, SqliteStore, StoreError},
};
use time::OffsetDateTime;

use crate::fixture::{SECRET, redis_connection, signed};

/// The environment variable that makes this process a worker: the store's URL, the namespace, the
/// numbers of the deliveries, and how many to handle at once, a line each.
pub(crate) const ARGUMENTS: &str = "STORE_WORKER";
/// Begins the lines of handlers that begin: an id.
pub(crate) const BEGUN: &str = "begun ";
/// Begins the lines of deliveries that were handled and acknowledged: an id.
pub(crate) const PROCESSED: &str = "processed ";
/// Begins the last line: the median of all latencies, their 99th percentile and the longest, in
/// microseconds.
pub(crate) const TIMES: &str = "times ";

/// Short, so that the test need not wait long for what was killed.
const LEASE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(700);

/// The effect, and in one step with it the completion of the claim.
enum Effects {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
    Redis(redis::aio::MultiplexedConnection, String),
}

impl Effects {
    async fn record(
        &self,
        id: &str,
        claim: &Claim,
        retention: Duration,
    ) -> Result<bool, HandlerError> {
        match self {
            Self::Sqlite(store) => {
                let id = id.to_owned();
                let work = move |transaction: &rusqlite::Transaction<'_>| {
                    transaction.execute("INSERT INTO effects VALUES (?1)", [id])?;
                    Ok::<_, StoreError>(true)
                };
                Ok(store.complete_with(claim, work).await?)
            }
            Self::Postgres(store) => {
                let transaction = store.begin(claim).await?;
                let insert = "INSERT INTO effects VALUES ($1)";
                transaction.client().execute(insert, &[&id]).await?;
                transaction.complete().await?;
                Ok(true)
            }
            Self::Redis(connection, list) => {
                let script = redis::Script::new(
                    "local held = redis.call('GET', KEYS[1]) or ''
                     if string.match(held, '^claimed:(%d+):') ~= ARGV[1] then return 0 end
                     redis.call('RPUSH', KEYS[2], ARGV[2])
                     redis.call('SET', KEYS[1], 'done:' .. ARGV[1], 'PX', ARGV[3])
                     return 1",
                );
                let mut script = script.prepare_invoke();
                script.key(format!("gemini-webhooks:{}", claim.key()));
                script.key(list).arg(claim.fencing_token());
                script.arg(id).arg(retention.as_secs() * 1000);
                Ok(script.invoke_async(&mut connection.clone()).await?)
            }
        }
    }
}

async fn open(
    store: &str,
    namespace: &str,
) -> Result<(Effects, Arc<dyn IdempotencyStore>), HandlerError> {
    if let Some(path) = store.strip_prefix("sqlite:") {
        let store = SqliteStore::open(path)?;
        return Ok((Effects::Sqlite(store.clone()), Arc::new(store)));
    }
    if store.starts_with("redis:") {
        let effects = Effects::Redis(
            redis_connection(store).await,
            format!("{namespace}.effects"),
        );
        return Ok((effects, Arc::new(RedisStore::connect(store)?)));
    }
    let store = PostgresStore::connect(store)?;
    Ok((Effects::Postgres(store.clone()), Arc::new(store)))
}

/// Does nothing where it is not started as a worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker() -> Result<(), HandlerError> {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return Ok(());
    };
    let arguments: Vec<&str> = arguments.lines().collect();
    let [store, namespace, numbers, tasks] = *arguments else {
        return Err("expected a store, a namespace, the numbers and how many at once".into());
    };
    let (effects, store) = open(store, namespace).await?;
    let secret = Secret::parse(SECRET)?;
    let receiver = Receiver::builder(Verifier::builder().secret(secret).build()?, store)
        .namespace(namespace)
        .lease(LEASE)
        .build()?;
    let numbers = numbers.split(' ').map(str::parse);
    let work = Work {
        effects,
        receiver,
        left: Mutex::new(numbers.collect::<Result<_, _>>()?),
        latencies: Mutex::default(),
    };
    let tasks: usize = tasks.parse()?;
    let work = Arc::new(work);
    let running = (0..tasks).map(|_| {
        let work = Arc::clone(&work);
        tokio::spawn(async move { work.run(tasks > 1).await })
    });
    for task in running.collect::<Vec<_>>() {
        task.await??;
    }
    let mut latencies = work.latencies.lock().unwrap();
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    let [p50, p99, max] = [50, 99, 100].map(|percent| {
        let latency = latencies.get(last * percent / 100);
        latency.copied().unwrap_or_default().as_micros()
    });
    say(&format!("{TIMES}{p50} {p99} {max}"));
    Ok(())
}

/// In one piece, even where this process is killed meanwhile.
fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

struct Work {
    effects: Effects,
    receiver: Receiver,
    left: Mutex<VecDeque<u32>>,
    /// Of each call of the receiver.
    latencies: Mutex<Vec<Duration>>,
}

impl Work {
    /// Beside other tasks, an even number is completed by the receiver and has no effect, so that its
    /// completion shares a commit.
    async fn run(&self, beside_others: bool) -> Result<(), HandlerError> {
        loop {
            let Some(number) = self.left.lock().unwrap().pop_front() else {
                return Ok(());
            };
            let sent = signed(&format!("msg_{number}"), OffsetDateTime::now_utc());
            let handler = async |received: Received<'_>| {
                let delivery = received.delivery();
                say(&format!("{BEGUN}{}", delivery.id()));
                if beside_others && number % 2 == 0 {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
                let (claim, retention) = (received.claim(), delivery.retention());
                let recorded = self.effects.record(delivery.id(), claim, retention);
                if !recorded.await? {
                    return Err::<_, HandlerError>("another has it".into());
                }
                tokio::time::sleep(PAUSE).await;
                Ok(())
            };
            let begun = Instant::now();
            let reply = self.receiver.handle(&sent, &sent.body, handler).await;
            self.latencies.lock().unwrap().push(begun.elapsed());
            match reply.outcome {
                Outcome::Processed => say(&format!("{PROCESSED}msg_{number}")),
                Outcome::Duplicate => {}
                // By another, which may have been killed.
                Outcome::InFlight { remaining } if remaining <= LEASE => {
                    self.left.lock().unwrap().push_back(number);
                    tokio::time::sleep(PAUSE).await;
                }
                other => return Err(format!("{number}: {other:?}").into()),
            }
        }
    }
}
