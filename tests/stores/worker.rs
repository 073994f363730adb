//! The process that handles deliveries, with an effect in the store's own database, until all are
//! done or it is killed: this program, started again for its one test.
//!
//! Each begun handler gets a line on standard error.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use gemini_webhooks::{
    Receiver, Secret, Verifier,
    receiver::{HandlerError, Outcome, Received},
    store::{Claim, IdempotencyStore, PostgresStore, RedisStore, SqliteStore},
};
use time::OffsetDateTime;

use crate::fixture::{SECRET, redis_connection, signed};

/// The environment variable that makes this process a worker: the store's URL, the namespace, the
/// number to begin with and how many there are, a line each.
pub(crate) const ARGUMENTS: &str = "STORE_WORKER";
/// Begins the lines that have an id.
pub(crate) const BEGUN: &str = "begun ";

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
                let (id, claim) = (id.to_owned(), claim.clone());
                let work = move |transaction: &rusqlite::Transaction<'_>| {
                    transaction.execute("INSERT INTO effects VALUES (?1)", [id])?;
                    SqliteStore::complete_in(transaction, &claim, retention)
                };
                Ok(store.transaction(work).await?)
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
#[tokio::test]
async fn worker() -> Result<(), HandlerError> {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return Ok(());
    };
    let arguments: Vec<&str> = arguments.lines().collect();
    let [store, namespace, first, count] = *arguments else {
        return Err("expected a store, a namespace, the first number and how many".into());
    };
    let (first, count): (u32, u32) = (first.parse()?, count.parse()?);
    let (effects, store) = open(store, namespace).await?;
    let secret = Secret::parse(SECRET)?;
    let receiver = Receiver::builder(Verifier::builder().secret(secret).build()?, store)
        .namespace(namespace)
        .lease(LEASE)
        .build()?;
    let mut left: VecDeque<u32> = (0..count).map(|n| (first + n) % count).collect();
    while let Some(number) = left.pop_front() {
        let sent = signed(&format!("msg_{number}"), OffsetDateTime::now_utc());
        let handler = async |received: Received<'_>| {
            let delivery = received.delivery();
            eprintln!("{BEGUN}{}", delivery.id());
            tokio::time::sleep(PAUSE).await;
            let (claim, retention) = (received.claim(), delivery.retention());
            if !effects.record(delivery.id(), claim, retention).await? {
                return Err::<_, HandlerError>("another has it".into());
            }
            tokio::time::sleep(PAUSE).await;
            Ok(())
        };
        let reply = receiver.handle(&sent, &sent.body, handler).await;
        match reply.outcome {
            Outcome::Processed | Outcome::Duplicate => {}
            // By one that was killed.
            Outcome::InFlight { remaining } if remaining <= LEASE => {
                left.push_back(number);
                tokio::time::sleep(PAUSE).await;
            }
            other => return Err(format!("{number}: {other:?}").into()),
        }
    }
    Ok(())
}
