//! Acknowledge fast, work later: a delivery is stored and answered at once, and a worker does the
//! rest. Killed at any moment, this loses nothing.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run --example inbox`
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BIND` | address and port to listen on | `127.0.0.1:8787` |
//! | `GEMINI_WEBHOOK_SECRETS` | signing secrets, separated by commas or white space | |
//! | `GEMINI_WEBHOOK_SECRETS_FILE` | a file with more of them, one a line, comments after `#` | |
//! | `INBOX` | the SQLite database | `inbox.db` |
//! | `FORWARD_TO` | where the worker posts each event, with its `Idempotency-Key`; without, it prints them | |
//!
//! What the worker can't do it tries again, later and later, for as long as it takes. What is no
//! event stays in the table `inbox` with `due_at` null, for somebody to look at.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/secrets.rs"]
mod secrets;

use std::{env, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{Response, StatusCode, request::Parts},
    routing::post,
};
use chain::chain;
use gemini_webhooks::{
    Event, Secret, Verifier,
    store::{ClaimOutcome, SqliteStore, StoreError},
};
use rusqlite::{OptionalExtension as _, Transaction, params};
use tokio::{net::TcpListener, sync::Notify};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS inbox (
        key TEXT PRIMARY KEY,
        payload BLOB NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at REAL DEFAULT (unixepoch('subsec')),
        error TEXT
    );
    CREATE INDEX IF NOT EXISTS inbox_due_at ON inbox (due_at);
";

/// How long the worker may take for one. After a crash, it is tried again as much later.
const LEASE: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

struct Inbox {
    verifier: Verifier,
    store: SqliteStore,
    /// Tells the worker that there is something new.
    news: Notify,
}

async fn webhook(
    State(inbox): State<Arc<Inbox>>,
    parts: Parts,
    body: Bytes,
) -> Result<&'static str, Response<String>> {
    let verified = inbox.verifier.verify(&parts, &body);
    let delivery = verified.map_err(|refusal| refusal.response(refusal.to_string()))?;
    let key = delivery.idempotency_key().into_owned();
    let (payload, retention) = (delivery.payload().to_vec(), delivery.retention());
    // One transaction: known as received, and here to be worked on, or neither.
    let store = inbox.store.clone();
    let stored = inbox.store.transaction(move |transaction| {
        let ClaimOutcome::New(claim) = store.claim_in(transaction, &key, LEASE)? else {
            return Ok(false);
        };
        let insert = "INSERT INTO inbox (key, payload) VALUES (?1, ?2)";
        transaction.execute(insert, params![key, payload])?;
        store.complete_in(transaction, &claim.retain_for(retention))?;
        Ok::<_, StoreError>(true)
    });
    match stored.await {
        Ok(true) => {
            inbox.news.notify_one();
            Ok("stored")
        }
        Ok(false) => Ok("duplicate"),
        Err(error) => {
            eprintln!("inbox: {}", chain(&error));
            // Google retries it.
            let mut response = Response::new("not stored".to_owned());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Err(response)
        }
    }
}

struct Entry {
    key: String,
    payload: Vec<u8>,
    attempts: u32,
}

/// Takes what is due first, and puts it off to the end of the lease.
fn take(transaction: &Transaction<'_>) -> Result<Option<Entry>, StoreError> {
    let take = "
        UPDATE inbox SET attempts = attempts + 1, due_at = unixepoch('subsec') + ?1
        WHERE key = (SELECT key FROM inbox WHERE due_at <= unixepoch('subsec') ORDER BY due_at LIMIT 1)
        RETURNING key, payload, attempts";
    let entry = transaction.query_row(take, [LEASE.as_secs_f64()], |row| {
        Ok(Entry {
            key: row.get(0)?,
            payload: row.get(1)?,
            attempts: row.get(2)?,
        })
    });
    Ok(entry.optional()?)
}

/// Works on one, if one is due.
async fn work(inbox: &Inbox, forward: Option<&Forward>) -> Result<bool, StoreError> {
    let Some(entry) = inbox.store.transaction(take).await? else {
        return Ok(false);
    };
    let Entry {
        key,
        payload,
        attempts,
    } = entry;
    let event = serde_json::from_slice::<Event>(&payload);
    let (error, wait) = match &event {
        Err(error) => (error.to_string(), None),
        Ok(event) => match process(&key, event, forward).await {
            Ok(()) => {
                let delete = "DELETE FROM inbox WHERE key = ?1";
                let done = move |transaction: &Transaction<'_>| {
                    transaction.execute(delete, [key])?;
                    Ok(true)
                };
                return inbox.store.transaction(done).await;
            }
            Err(error) => {
                let wait = Duration::from_millis(100).saturating_mul(1 << attempts.min(20));
                (chain(&*error), Some(wait.min(LONGEST_WAIT)))
            }
        },
    };
    eprintln!("inbox: {key}, attempt {attempts}: {error}");
    let later = move |transaction: &Transaction<'_>| {
        let later = "UPDATE inbox SET due_at = unixepoch('subsec') + ?2, error = ?3 WHERE key = ?1";
        let wait = wait.map(|wait| wait.as_secs_f64());
        transaction.execute(later, params![key, wait, error])?;
        Ok(true)
    };
    inbox.store.transaction(later).await
}

struct Forward {
    client: reqwest::Client,
    url: String,
}

/// Where the work is done. It may be done again after a crash: the key is the same each time.
async fn process(key: &str, event: &Event, forward: Option<&Forward>) -> Result<(), BoxError> {
    let Some(Forward { client, url }) = forward else {
        println!("{key}: {}", event.event_type());
        return Ok(());
    };
    let request = client
        .post(url)
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(event)?);
    let answer = async { request.send().await?.error_for_status() };
    // The query of an address may hold a key, and errors are logged.
    answer.await.map_err(reqwest::Error::without_url)?;
    Ok(())
}

async fn worker(inbox: Arc<Inbox>, forward: Option<Forward>) {
    loop {
        match work(&inbox, forward.as_ref()).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => eprintln!("inbox: {}", chain(&error)),
        }
        // Something new, or a second later what was put off.
        let _ = tokio::time::timeout(Duration::from_secs(1), inbox.news.notified()).await;
    }
}

async fn run() -> Result<(), BoxError> {
    let mut verifier = Verifier::builder();
    let secrets = secrets::from_env()?;
    if secrets.is_empty() {
        return Err("set GEMINI_WEBHOOK_SECRETS (or GEMINI_WEBHOOK_SECRET, for one)".into());
    }
    for (place, text) in secrets {
        let secret = Secret::parse(&text).map_err(|error| format!("{place}: {error}"))?;
        verifier = verifier.secret(secret);
    }
    let store = SqliteStore::open(env::var("INBOX").unwrap_or_else(|_| "inbox.db".into()))?;
    let create = |transaction: &Transaction<'_>| Ok(transaction.execute_batch(SCHEMA)?);
    store.transaction::<_, StoreError>(create).await?;
    let inbox = Arc::new(Inbox {
        verifier: verifier.build()?,
        store,
        news: Notify::new(),
    });
    let forward = env::var("FORWARD_TO").ok().map(|url| {
        let client = reqwest::Client::builder().timeout(LEASE / 2).build();
        client.map(|client| Forward { client, url })
    });
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let listener = TcpListener::bind(&bind).await?;
    println!("listening on {}", listener.local_addr()?);
    let working = tokio::spawn(worker(Arc::clone(&inbox), forward.transpose()?));
    let router = Router::new()
        .route("/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(inbox);
    // What is stopped in the middle is as safe as what is killed.
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await?;
    working.abort();
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inbox: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}
