//! The receiver that one would deploy, behind a TLS proxy: axum, configured by the environment.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run --example receiver --features reqwest`
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BIND` | address and port to listen on | `127.0.0.1:8787` |
//! | `MODE` | `handle`: the work is done before the answer; `inbox`: deliveries are stored and answered, and the work is done later | `handle` |
//! | `GEMINI_WEBHOOK_SECRETS` | project-level: signing secrets, separated by commas or white space | |
//! | `GEMINI_WEBHOOK_SECRETS_FILE` | a file with more of them, one a line, comments after `#` | |
//! | `GEMINI_WEBHOOK_JWKS` | per-request: the key set, an https address (http on loopback) or a file | |
//! | `GEMINI_WEBHOOK_JOB_KEY` | keys for job tokens, base64 of at least 32 bytes, separated by commas | |
//! | `GEMINI_WEBHOOK_AUDIENCE` | the audience that a JWT must have | |
//! | `GEMINI_WEBHOOK_ACCEPT_ANY_SENDER` | `1`: accept what Google signed for any customer | |
//! | `GEMINI_WEBHOOK_STORE` | which deliveries were processed, and the inbox: `memory`, `sqlite:PATH`, `postgres://..` or, without an inbox, `redis://..` | `memory`; none for an inbox |
//!
//! `GEMINI_WEBHOOK_SECRET` is read if `GEMINI_WEBHOOK_SECRETS` is not set. Secrets or a key set must
//! be given, and with a key set a job key, an audience or the last word on any sender: Google signs
//! the per-request deliveries of all its customers with the same keys.
//!
//! After a rotation, both secrets belong there for two days. SIGHUP reads the file again, and no
//! delivery is refused meanwhile. Move a new file into the place of the old one. If it can't be used,
//! the secrets stay as they were, and standard error says why. Nothing else is read again.
//!
//! | path | answer |
//! |---|---|
//! | `POST /webhook` | `"status":"processed"` (or `"accepted"` by an inbox), and `"duplicate"` when the delivery comes again |
//! | `GET /healthz` | 200: the program runs |
//! | `GET /readyz` | 200, or 503 while the store can't be used or there are no usable keys for per-request deliveries; it says which |
//! | `GET /stats` | of an inbox: how many deliveries are `due`, `waiting`, `working` and `dead`, and the age of the oldest |
//!
//! Standard output gets one JSON line for each answer, and with an inbox another when a delivery was
//! processed. A setting that is missing or malformed ends the program with status 2, and an address
//! that can't be listened on with status 1. SIGTERM and Ctrl-C end it with status 0 once the current
//! requests are answered and the handlers have finished, or after 10 s.

#[path = "support/chain.rs"]
mod chain;
#[path = "receiver/config.rs"]
mod config;
#[path = "support/out.rs"]
mod out;
#[path = "receiver/probes.rs"]
mod probes;
#[path = "support/secrets.rs"]
mod secrets;
#[path = "receiver/serve.rs"]
mod serve;
#[path = "support/stop.rs"]
mod stop;
#[path = "support/store.rs"]
mod store;
#[path = "support/usage.rs"]
mod usage;

use std::{process::ExitCode, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{self, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chain::chain;
use config::{Config, Mode};
use gemini_webhooks::{
    Delivery, Inbox, PayloadError, PerRequest, SharedVerifier,
    keys::{RefreshError, RefreshedKeys},
    receiver::{Outcome, Received},
};
use out::{note, say};
use probes::{Readiness, Statistics};
use serde_json::{Value, json};
use serve::{READ_TIMEOUT, STOP_TIMEOUT, serve};
use stop::stop_signal;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

/// In bytes. Google's events have a few hundred.
const MAX_BODY: usize = 1 << 20;

async fn webhook(State(mode): State<Mode>, parts: Parts, request: Request) -> Response {
    let (head, answer) = receive(&mode, &parts, request).await.into_parts();
    let mut line = answer.clone();
    line["http"] = head.status.as_u16().into();
    // Whoever reads the log may go away: that must not cost a delivery.
    say(line);
    (head, Json(answer)).into_response()
}

/// `parts` are those of the request. Neither its URI nor its headers are logged: both may hold the
/// proof that a delivery is ours.
async fn receive(mode: &Mode, parts: &Parts, request: Request) -> http::Response<Value> {
    let body = match timeout(READ_TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) if refusal.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is longer than {MAX_BODY} bytes");
            let answer = rejected("body_too_large", &message);
            return response(StatusCode::PAYLOAD_TOO_LARGE, answer);
        }
        Ok(Err(refusal)) => {
            let answer = rejected("body_unreadable", &refusal.body_text());
            return response(refusal.status(), answer);
        }
        Err(_) => {
            let answer = rejected("body_too_slow", "the body did not arrive in time");
            return response(StatusCode::REQUEST_TIMEOUT, answer);
        }
    };
    let reply = match mode {
        Mode::Handle(receiver) => receiver.handle(parts, &body, process).await,
        Mode::Inbox(inbox) => inbox.accept(parts, &body).await,
    };
    let code = reply.outcome.code();
    match (&reply.outcome, &reply.delivery) {
        (Outcome::Processed | Outcome::Accepted | Outcome::Duplicate, Some(delivery)) => {
            reply.response(accepted(code, delivery))
        }
        // No retry fixes it. It is acknowledged, and somebody looks into it.
        (Outcome::SetAside(error), Some(delivery)) => {
            let id = delivery.id();
            note(format_args!(
                "receiver: delivery {id} is set aside: {error}"
            ));
            reply.response(accepted(code, delivery))
        }
        (Outcome::Refused(refusal), _) => reply.response(rejected(code, &refusal.to_string())),
        (Outcome::StoreUnavailable(error), _) => {
            note(format_args!("receiver: {}", chain(error)));
            reply.response(rejected(code, "what was processed can't be looked up"))
        }
        _ => reply.response(rejected(code, "another attempt is being processed")),
    }
}

/// Where the work would be done. To look at the event is all here.
async fn process(delivery: Received<'_>) -> Result<(), PayloadError> {
    delivery.event().map(drop)
}

fn accepted(status: &str, delivery: &Delivery<'_>) -> Value {
    let mut answer = json!({
        "status": status,
        "id": delivery.id(),
        "scheme": delivery.scheme().as_str(),
    });
    if let Ok(event) = delivery.event() {
        answer["type"] = event.event_type().as_str().into();
    }
    if let Some(job) = delivery.job() {
        answer["job"] = job.context.as_str().into();
    }
    answer
}

fn rejected(code: &str, message: &str) -> Value {
    json!({"status": "rejected", "code": code, "message": message})
}

fn response(status: StatusCode, answer: Value) -> http::Response<Value> {
    let mut response = http::Response::new(answer);
    *response.status_mut() = status;
    response
}

/// Fetches the keys once, which takes at most 5 s.
async fn fetch(keys: &RefreshedKeys) {
    if let Err(error) = keys.refresh().await {
        report(&error);
    }
    for skipped in keys.keys().get().iter().flat_map(|keys| keys.skipped()) {
        note(format_args!("receiver: in the key set, {skipped}"));
    }
}

fn report(error: &RefreshError) {
    note(format_args!("receiver: {}", chain(error)));
}

/// Works the inbox off until `stopped`, and until the handlers have finished.
async fn work(inbox: Inbox, stopped: oneshot::Receiver<()>) {
    let handler = async |delivery: Received<'static>| {
        let line = accepted("processed", delivery.delivery());
        process(delivery).await?;
        say(line);
        Ok::<_, PayloadError>(())
    };
    let worker = inbox.worker();
    let worker = worker.on_store_error(|error| note(format_args!("receiver: {}", chain(error))));
    worker.run(handler, async { drop(stopped.await) }).await;
}

/// Reads the secrets again at each SIGHUP, and keeps those that it has where they can't be used.
#[cfg(unix)]
fn reload(shared: SharedVerifier, per_request: Option<PerRequest>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            match config::verifier(per_request.as_ref()) {
                Ok(verifier) => {
                    shared.replace(verifier);
                    note("receiver: the secrets were read again");
                }
                Err(error) => note(format_args!(
                    "receiver: the secrets stay as they were: {error}"
                )),
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn reload(_: SharedVerifier, _: Option<PerRequest>) -> std::io::Result<()> {
    Ok(())
}

async fn run(config: Config) -> std::io::Result<()> {
    let stop = stop_signal()?;
    reload(config.verifier, config.per_request)?;
    let listener = TcpListener::bind(config.bind).await?;
    if let Some(keys) = config.keys.clone() {
        fetch(&keys).await;
        tokio::spawn(async move { keys.run(|error| report(&error)).await });
    }
    let readiness = Arc::new(Readiness::new(config.store, config.keys));
    let mut router = Router::new()
        .route("/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(async move || readiness.answer().await));
    let (stopping, stopped) = oneshot::channel();
    let mut worker = None;
    if let Mode::Inbox(inbox) = &config.mode {
        let statistics = Arc::new(Statistics::new(inbox));
        router = router.route("/stats", get(async move || statistics.answer().await));
        worker = Some(tokio::spawn(work(inbox.clone(), stopped)));
    }
    say(format_args!("listening on {}", listener.local_addr()?));
    let mut stopped_at = Instant::now();
    let stop = async {
        stop.await;
        stopped_at = Instant::now();
        drop(stopping);
    };
    serve(listener, router.with_state(config.mode), stop).await;
    if let Some(worker) = worker {
        // What does not finish is handled again after the next start.
        let _ = timeout_at(stopped_at + STOP_TIMEOUT, worker).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(answered) = usage::usage(include_str!("receiver.rs")) {
        return answered;
    }
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(message) => {
            note(format_args!("receiver: {message}"));
            return ExitCode::from(2);
        }
    };
    let bind = config.bind;
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("receiver: can't listen on {bind}: {error}"));
            ExitCode::FAILURE
        }
    }
}
