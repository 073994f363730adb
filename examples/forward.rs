//! Forward each delivery to another queue, here a stream of Redis, in which none appears twice.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run --example forward`
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BIND` | address and port to listen on | `127.0.0.1:8787` |
//! | `GEMINI_WEBHOOK_SECRETS` | signing secrets, separated by commas or white space | |
//! | `GEMINI_WEBHOOK_SECRETS_FILE` | a file with more of them, one a line, comments after `#` | |
//! | `INBOX` | the SQLite database | `inbox.db` |
//! | `REDIS_URL` | the server of the stream | `redis://127.0.0.1/` |
//! | `STREAM` | its name | `gemini-webhooks` |
//!
//! A message has the fields `key`, the idempotency key of the delivery; `type`, that of the event; and
//! `payload`. While Redis is away, deliveries are accepted all the same, and forwarded later.
//!
//! A worker that dies after publishing publishes again. So a script of Redis adds the message only
//! where its key has no marker, and sets the marker with it. Other queues have this built in: give SQS
//! the key as `MessageDeduplicationId`, NATS as `Nats-Msg-Id`. The marker stays for 31 days, since a
//! dead letter may be retried within 30.
//!
//! A setting that is missing or malformed, and an address that can't be listened on, end the program
//! with status 1. SIGTERM and Ctrl-C end it with status 0 once the handlers have finished.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;
#[path = "support/secrets.rs"]
mod secrets;
#[path = "support/stop.rs"]
mod stop;
#[path = "support/usage.rs"]
mod usage;

use std::{env, process::ExitCode, time::Duration};

use axum::{Router, body::Bytes, extract::State, http, routing::post};
use chain::chain;
use gemini_webhooks::{
    Inbox, Secret, Verifier,
    receiver::{HandlerError, Received},
    store::{
        BoxError, SqliteStore,
        redis::{
            Client, Script,
            aio::{ConnectionManager, ConnectionManagerConfig},
        },
    },
};
use out::{note, say};
use tokio::{net::TcpListener, sync::oneshot};

/// The message comes first: if it can't be added, there must be no marker.
const PUBLISH: &str = "
    if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
    redis.call('XADD', KEYS[1], '*', 'key', ARGV[1], 'type', ARGV[2], 'payload', ARGV[3])
    redis.call('SET', KEYS[2], '', 'EX', ARGV[4])
    return 1";

const REMEMBERED: Duration = Duration::from_secs(31 * 24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Stream {
    redis: ConnectionManager,
    publish: Script,
    name: String,
}

impl Stream {
    /// Connects when it is needed.
    fn new(url: &str, name: String) -> Result<Self, BoxError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(1);
        Ok(Self {
            redis: ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?,
            publish: Script::new(PUBLISH),
            name,
        })
    }

    async fn publish(&self, received: &Received<'_>) -> Result<(), HandlerError> {
        let delivery = received.delivery();
        let key = delivery.idempotency_key();
        let mut publish = self.publish.prepare_invoke();
        publish.key(&self.name);
        // The braces put both keys on one node of a cluster.
        publish.key(format!("{{{}}}:published:{key}", self.name));
        publish
            .arg(&*key)
            .arg(delivery.event()?.event_type().as_str());
        publish.arg(delivery.payload()).arg(REMEMBERED.as_secs());
        let () = publish.invoke_async(&mut self.redis.clone()).await?;
        Ok(())
    }
}

async fn webhook(
    State(inbox): State<Inbox>,
    parts: http::request::Parts,
    body: Bytes,
) -> http::Response<String> {
    let reply = inbox.accept(&parts, &body).await;
    reply.response(reply.outcome.code().to_owned())
}

async fn run() -> Result<(), BoxError> {
    let setting = |name, default: &str| env::var(name).unwrap_or_else(|_| default.into());
    let mut verifier = Verifier::builder();
    let secrets = secrets::from_env()?;
    if secrets.is_empty() {
        return Err("set GEMINI_WEBHOOK_SECRETS (or GEMINI_WEBHOOK_SECRET, for one)".into());
    }
    for (place, text) in secrets {
        let secret = Secret::parse(&text).map_err(|error| format!("{place}: {error}"))?;
        verifier = verifier.secret(secret);
    }
    let url = setting("REDIS_URL", "redis://127.0.0.1/");
    let stream = Stream::new(&url, setting("STREAM", "gemini-webhooks"))?;
    let store = SqliteStore::open(setting("INBOX", "inbox.db"))?;
    let inbox = Inbox::builder(verifier.build()?, store).build()?;
    let stop = stop::stop_signal()?;
    let listener = TcpListener::bind(setting("BIND", "127.0.0.1:8787")).await?;
    say(format_args!("listening on {}", listener.local_addr()?));

    let (stopping, stopped) = oneshot::channel::<()>();
    let handler = move |received: Received<'static>| {
        let stream = stream.clone();
        async move {
            let published = stream.publish(&received).await;
            if let Err(error) = &published {
                let id = received.delivery().id();
                note(format_args!("forward: {id}: {error}"));
            }
            published
        }
    };
    let worker = inbox.worker();
    let worker = worker.on_store_error(|error| note(format_args!("forward: {}", chain(error))));
    let worker = tokio::spawn(worker.run(handler, async { drop(stopped.await) }));
    let router = Router::new().route("/webhook", post(webhook));
    axum::serve(listener, router.with_state(inbox))
        .with_graceful_shutdown(stop)
        .await?;
    drop(stopping);
    worker.await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(answered) = usage::usage(include_str!("forward.rs")) {
        return answered;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("forward: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}
