//! An effect that happens exactly once: a transaction holds it and the end of the delivery.
//!
//! `cargo run --example exactly_once`
//!
//! A handler fails after its effect, as a process does that dies there, and is called again. With
//! `postgres://..` as its argument it happens in that database, in a table of its own that it drops
//! at the end, and otherwise in a temporary SQLite database. The exit status is 0 if the effect
//! happened once, 1 if not, and 2 for an argument that makes no sense.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;
#[path = "support/usage.rs"]
mod usage;

use std::{
    env, fs,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use chain::chain;
use gemini_webhooks::{
    EventType, Inbox, Secret, Verifier,
    inbox::InboxStore,
    receiver::{HandlerError, Received},
    store::{BoxError, PostgresStore, SqliteStore, StoreError},
    testing::{Signer, sample},
};
use out::{note, say};
use time::OffsetDateTime;

/// It fails where there is one: that would be dropped at the end.
const CREATE: &str = "CREATE TABLE example_effects (id TEXT)";
const COUNT: &str = "SELECT count(*) FROM example_effects";
const DROP: &str = "DROP TABLE example_effects";

/// The database of the effects, and of the inbox.
trait Database: InboxStore + Clone {
    async fn execute(&self, sql: &'static str) -> Result<(), BoxError>;
    async fn count(&self) -> Result<i64, BoxError>;
    /// The handler.
    async fn record(&self, received: &Received<'_>, fails: bool) -> Result<(), HandlerError>;
}

impl Database for SqliteStore {
    async fn record(&self, received: &Received<'_>, fails: bool) -> Result<(), HandlerError> {
        let id = received.delivery().id().to_owned();
        self.complete_with(received.claim(), move |transaction| {
            transaction.execute("INSERT INTO example_effects VALUES (?1)", [&id])?;
            if fails {
                return Err(HandlerError::from("it fails after its effect"));
            }
            Ok(())
        })
        .await
    }

    async fn execute(&self, sql: &'static str) -> Result<(), BoxError> {
        let execute = self.transaction(|transaction| Ok(transaction.execute_batch(sql)?));
        Ok(execute.await.map_err(|error: StoreError| error)?)
    }

    async fn count(&self) -> Result<i64, BoxError> {
        let count =
            self.transaction(|transaction| Ok(transaction.query_row(COUNT, [], |row| row.get(0))?));
        Ok(count.await.map_err(|error: StoreError| error)?)
    }
}

impl Database for PostgresStore {
    async fn record(&self, received: &Received<'_>, fails: bool) -> Result<(), HandlerError> {
        let transaction = self.begin(received.claim()).await?;
        let insert = "INSERT INTO example_effects VALUES ($1)";
        let id = received.delivery().id();
        transaction.client().execute(insert, &[&id]).await?;
        if fails {
            // Dropped, the transaction is rolled back.
            return Err("it fails after its effect".into());
        }
        transaction.complete().await?;
        Ok(())
    }

    async fn execute(&self, sql: &'static str) -> Result<(), BoxError> {
        Ok(self.pool().get().await?.batch_execute(sql).await?)
    }

    async fn count(&self) -> Result<i64, BoxError> {
        Ok(self.pool().get().await?.query_one(COUNT, &[]).await?.get(0))
    }
}

async fn run(database: impl Database) -> Result<bool, BoxError> {
    database.execute(CREATE).await?;
    let before = database.count().await?;
    let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?;
    let verifier = Verifier::builder().secret(secret.clone()).build()?;
    let inbox = Inbox::builder(verifier, database.clone()).namespace("exactly_once");
    let inbox = inbox.build()?;

    let now = OffsetDateTime::now_utc();
    let id = format!("msg_{}", now.unix_timestamp_nanos());
    let sent = Signer::v1(&secret).sign(&id, now, sample(&EventType::BatchSucceeded));
    let reply = inbox.accept(&sent, &sent.body).await;
    say(format_args!(
        "The delivery was answered {} before any work: {}.",
        reply.status,
        reply.outcome.code()
    ));

    let attempts = AtomicU32::new(0);
    let handler = async |received: Received<'static>| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let effects = database.count().await? - before;
        say(format_args!(
            "Attempt {attempt} begins: there are {effects} effects."
        ));
        let recorded = database.record(&received, attempt == 1).await;
        if let Err(error) = &recorded {
            say(format_args!(
                "Attempt {attempt} failed: {}.",
                chain(error.source())
            ));
        } else {
            say(format_args!(
                "Attempt {attempt} committed its effect and the end of the delivery."
            ));
            // As if the process died here: nothing depends on what comes after the commit.
            return Err("it fails after its commit".into());
        }
        recorded
    };
    let finished = async {
        loop {
            match inbox.stats().await {
                Ok(stats) if stats.due + stats.waiting + stats.working == 0 => return,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let moment = Duration::from_millis(20);
    let worker = inbox.worker().backoff(moment, moment);
    worker.run(handler, finished).await;

    let again = inbox.accept(&sent, &sent.body).await;
    say(format_args!(
        "The delivery came again: {}.",
        again.outcome.code()
    ));
    let (effects, dead) = (database.count().await? - before, inbox.stats().await?.dead);
    database.execute(DROP).await?;
    let attempts = attempts.into_inner();
    say(format_args!(
        "Of {attempts} attempts, {effects} had an effect."
    ));
    Ok((attempts, effects, dead, again.outcome.code()) == (2, 1, 0, "duplicate"))
}

async fn start(postgres: Option<String>) -> Result<bool, BoxError> {
    if let Some(url) = postgres {
        return run(PostgresStore::connect(&url)?).await;
    }
    let folder = env::temp_dir().join(format!("exactly-once-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let ended = async { run(SqliteStore::open(folder.join("webhooks.db"))?).await };
    let ended = ended.await;
    let _ = fs::remove_dir_all(&folder);
    ended
}

#[tokio::main]
async fn main() -> ExitCode {
    let argument = env::args_os().nth(1);
    let argument = argument.and_then(|argument| argument.into_string().ok());
    let postgres = argument.filter(|argument| argument.starts_with("postgres"));
    if postgres.is_none()
        && let Some(answered) = usage::usage(include_str!("exactly_once.rs"))
    {
        return answered;
    }
    match start(postgres).await {
        Ok(true) => {
            say("The effect happened exactly once.");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            say("The effect did NOT happen exactly once.");
            ExitCode::FAILURE
        }
        Err(error) => {
            note(format_args!("exactly_once: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}
