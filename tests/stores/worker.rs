//! Handles deliveries, with an effect in the store's own database, until all are done or it is
//! killed: `store_worker STORE NAMESPACE FIRST COUNT`.
//!
//! Each begun handler gets a line on standard output.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use deadpool_postgres::tokio_postgres::{self, NoTls};
use gemini_webhooks::{
    HandlerError, Outcome, Received, Receiver, Secret, Verifier,
    idempotency::{Claim, IdempotencyStore, PostgresStore, RedisStore, SqliteStore},
    testing::{Signer, sample},
};
use time::OffsetDateTime;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Short, so that the test need not wait long for what was killed.
const LEASE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(700);

/// The effect, and in one step with it the completion of the claim.
enum Effects {
    Sqlite(SqliteStore),
    Postgres(tokio::sync::Mutex<tokio_postgres::Client>),
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
            Self::Postgres(client) => {
                let mut client = client.lock().await;
                let transaction = client.transaction().await?;
                let insert = "INSERT INTO effects VALUES ($1)";
                transaction.execute(insert, &[&id]).await?;
                let ours = PostgresStore::complete_in(&transaction, claim, retention).await?;
                if ours {
                    transaction.commit().await?;
                }
                Ok(ours)
            }
            Self::Redis(connection, list) => {
                let script = redis::Script::new(
                    "if redis.call('GET', KEYS[1]) ~= 'claimed:' .. ARGV[1] then return 0 end
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
        let client = redis::Client::open(store)?;
        let connection = client.get_multiplexed_async_connection().await?;
        let effects = Effects::Redis(connection, format!("{namespace}effects"));
        return Ok((effects, Arc::new(RedisStore::connect(store)?)));
    }
    let (client, connection) = tokio_postgres::connect(store, NoTls).await?;
    tokio::spawn(connection);
    let effects = Effects::Postgres(client.into());
    Ok((effects, Arc::new(PostgresStore::connect(store)?)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), HandlerError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, namespace, first, count] = &*arguments else {
        return Err("expected STORE NAMESPACE FIRST COUNT".into());
    };
    let (first, count): (u32, u32) = (first.parse()?, count.parse()?);
    let (effects, store) = open(store, namespace).await?;
    let secret = Secret::parse(SECRET)?;
    let signer = Signer::v1(&secret);
    let receiver = Receiver::new(Verifier::builder().secret(secret).build()?)
        .store(store)
        .namespace(namespace)
        .lease(LEASE);
    let mut left: VecDeque<u32> = (0..count).map(|n| (first + n) % count).collect();
    while let Some(number) = left.pop_front() {
        let body = sample(&"batch.succeeded".into());
        let sent = signer.sign(format!("msg_{number}"), OffsetDateTime::now_utc(), body);
        let handler = async |delivery: Received<'_>| {
            println!("{}", delivery.id());
            tokio::time::sleep(PAUSE).await;
            let claim = delivery.claim().ok_or("there is no claim")?;
            let retention = delivery.retention();
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
