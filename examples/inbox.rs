//! Store each delivery, answer at once, and let a worker do the rest. Killed at any moment, this
//! loses nothing.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run --example inbox`
//!
//! `INBOX` names the SQLite database (`inbox.db`), and `BIND` the address (`127.0.0.1:8787`).

#[path = "support/stop.rs"]
mod stop;

use std::env;

use axum::{Router, body::Bytes, extract::State, http, routing::post};
use gemini_webhooks::{
    Inbox, Secret, Verifier,
    receiver::{HandlerError, Received},
    store::{BoxError, SqliteStore},
};
use tokio::{net::TcpListener, sync::oneshot};

async fn webhook(
    State(inbox): State<Inbox>,
    parts: http::request::Parts,
    body: Bytes,
) -> http::Response<String> {
    let reply = inbox.accept(&parts, &body).await;
    reply.response(reply.outcome.code().to_owned())
}

/// Where the work is done. After an error it is called again, later and later.
async fn handle(received: Received<'static>) -> Result<(), HandlerError> {
    let key = received.delivery().idempotency_key();
    println!("{key}: {}", received.event()?.event_type());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let setting = |name, default: &str| env::var(name).unwrap_or_else(|_| default.into());
    let secrets = env::var("GEMINI_WEBHOOK_SECRETS").map_err(|_| "set GEMINI_WEBHOOK_SECRETS")?;
    let mut verifier = Verifier::builder();
    for secret in secrets.replace(',', " ").split_whitespace() {
        verifier = verifier.secret(Secret::parse(secret)?);
    }
    let store = SqliteStore::open(setting("INBOX", "inbox.db"))?;
    let inbox = Inbox::builder(verifier.build()?, store).build()?;
    let listener = TcpListener::bind(setting("BIND", "127.0.0.1:8787")).await?;
    println!("listening on {}", listener.local_addr()?);
    let (stopping, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let worker = tokio::spawn(inbox.worker().run(handle, stopped));
    let router = Router::new().route("/webhook", post(webhook));
    axum::serve(listener, router.with_state(inbox))
        .with_graceful_shutdown(stop::stop_signal()?)
        .await?;
    drop(stopping);
    worker.await?;
    Ok(())
}
