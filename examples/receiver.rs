//! The receiver that one would deploy, behind a TLS proxy: axum, configured by the environment.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run --example receiver --features reqwest`
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BIND` | address and port to listen on | `127.0.0.1:8787` |
//! | `GEMINI_WEBHOOK_SECRETS` | project-level: signing secrets, separated by commas or white space | |
//! | `GEMINI_WEBHOOK_SECRETS_FILE` | a file with more of them, one a line, comments after `#` | |
//! | `GEMINI_WEBHOOK_JWKS` | per-request: the key set, an https address (http on loopback) or a file | |
//! | `GEMINI_WEBHOOK_JOB_KEY` | keys for job tokens, base64 of at least 32 bytes, separated by commas | |
//! | `GEMINI_WEBHOOK_AUDIENCE` | the audience that a JWT must have | |
//! | `GEMINI_WEBHOOK_ACCEPT_ANY_SENDER` | `1`: accept what Google signed for any customer | |
//! | `GEMINI_WEBHOOK_STORE` | which deliveries were processed: `memory`, `sqlite:PATH`, `postgres://..` or `redis://..` | `memory` |
//!
//! After a rotation, both secrets belong there for two days. `GEMINI_WEBHOOK_SECRET` is read if
//! `GEMINI_WEBHOOK_SECRETS` is not set. Secrets or a key set must be given, and with a key set one of the last three: Google signs the
//! per-request deliveries of all its customers with the same keys.
//!
//! `POST /webhook` takes deliveries. `GET /healthz` says that the receiver is up, and `GET /readyz`
//! answers 503 while there are no usable keys for per-request deliveries. Each delivery is processed once and answered with `"status":"processed"`, and when it comes again with
//! `"duplicate"`. Standard output gets one JSON line for each. A setting that is missing or
//! malformed ends the program with status 2, and an address that can't be listened on with
//! status 1. SIGTERM and Ctrl-C end it with status 0 once the current requests are answered.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;
#[path = "support/secrets.rs"]
mod secrets;
#[path = "support/usage.rs"]
mod usage;

use std::{env, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{self, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chain::chain;
use gemini_webhooks::{
    ConfigError, Delivery, JobTokens, PayloadError, PerRequest, Receiver, Secret, Verifier,
    keys::{Freshness, JwksEndpoint, RefreshError, RefreshedKeys},
    receiver::{Outcome, Received},
    store::{IdempotencyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use out::{note, say};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};

/// In bytes. Google's events have a few hundred.
const MAX_BODY: usize = 1 << 20;
/// How long a client may take to send the head of a request, and again for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the requests at hand may take after the signal to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 1024;

struct Config {
    bind: SocketAddr,
    receiver: Receiver,
    keys: Option<Arc<RefreshedKeys>>,
}

impl Config {
    fn from_env() -> Result<Self, String> {
        let bind = variable("BIND")?.unwrap_or_else(|| "127.0.0.1:8787".into());
        let bind = bind.parse().map_err(|_| {
            format!("BIND is not an address and a port such as 127.0.0.1:8787: {bind:?}")
        })?;
        let mut builder = Verifier::builder();
        for (place, text) in secrets::from_env()? {
            let secret = Secret::parse(&text).map_err(|error| format!("{place}: {error}"))?;
            builder = builder.secret(secret);
        }
        let keys = variable("GEMINI_WEBHOOK_JWKS")?
            .map(|source| key_source(&source).map(Arc::new))
            .transpose()?;
        if let Some(keys) = &keys {
            builder = builder.per_request(per_request(keys)?);
        } else {
            for name in PROOFS {
                if variable(name)?.is_some() {
                    return Err(format!("{name} is set, but GEMINI_WEBHOOK_JWKS is not"));
                }
            }
        }
        let verifier = builder.build().map_err(|error| match error {
            ConfigError::NothingToVerifyWith => {
                "neither GEMINI_WEBHOOK_SECRETS nor GEMINI_WEBHOOK_JWKS is set (and neither are \
                 GEMINI_WEBHOOK_SECRET and GEMINI_WEBHOOK_SECRETS_FILE)"
                    .to_owned()
            }
            ConfigError::TooManySecrets { .. } => format!("GEMINI_WEBHOOK_SECRETS: {error}"),
            error => error.to_string(),
        })?;
        let receiver = Receiver::builder(verifier, store()?).build();
        let receiver = receiver.map_err(|error| error.to_string())?;
        Ok(Self {
            bind,
            receiver,
            keys,
        })
    }
}

const PROOFS: [&str; 3] = [
    "GEMINI_WEBHOOK_JOB_KEY",
    "GEMINI_WEBHOOK_AUDIENCE",
    "GEMINI_WEBHOOK_ACCEPT_ANY_SENDER",
];

fn store() -> Result<Box<dyn IdempotencyStore>, String> {
    let name = "GEMINI_WEBHOOK_STORE";
    let setting = variable(name)?.unwrap_or_else(|| "memory".into());
    let (kind, rest) = setting.split_once(':').unwrap_or((&setting, ""));
    let store: Result<Box<dyn IdempotencyStore>, _> = match (kind, rest) {
        ("memory", "") => Ok(Box::new(MemoryStore::default())),
        ("sqlite", path) if !path.is_empty() => {
            SqliteStore::open(path).map(|store| Box::new(store) as _)
        }
        ("postgres" | "postgresql", _) => {
            PostgresStore::connect(&setting).map(|store| Box::new(store) as _)
        }
        ("redis", _) => RedisStore::connect(&setting).map(|store| Box::new(store) as _),
        // The value is not shown: there may be a password in it.
        _ => {
            return Err(format!(
                "{name} is none of memory, sqlite:PATH, postgres://.. and redis://.."
            ));
        }
    };
    store.map_err(|error| format!("{name}: {}", chain(&error)))
}

fn key_source(source: &str) -> Result<RefreshedKeys, String> {
    if source.contains("://") {
        let endpoint =
            JwksEndpoint::new(source).map_err(|error| format!("GEMINI_WEBHOOK_JWKS: {error}"))?;
        return Ok(RefreshedKeys::new(endpoint));
    }
    let path = source.to_owned();
    Ok(RefreshedKeys::new(move || {
        let path = path.clone();
        async move { std::fs::read(&path).map_err(|error| format!("{path}: {error}")) }
    }))
}

fn per_request(keys: &Arc<RefreshedKeys>) -> Result<PerRequest, String> {
    let [job_key, audience, any_sender] = PROOFS;
    let tokens = list(job_key, JobTokens::parse)?
        .into_iter()
        .reduce(JobTokens::or_made_by);
    let audience = variable(audience)?;
    let any_sender = match variable(any_sender)?.as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(other) => return Err(format!("{any_sender} is {other:?}, expected 1 or 0")),
    };
    let keys = Arc::clone(keys);
    let mut per_request = match (any_sender, tokens, &audience) {
        (true, None, _) => PerRequest::any_sender(keys),
        (true, Some(tokens), _) => PerRequest::any_sender(keys).job_tokens(tokens),
        (false, Some(tokens), _) => PerRequest::with_job_tokens(keys, tokens),
        (false, None, Some(audience)) => PerRequest::with_audience(keys, audience),
        (false, None, None) => {
            return Err(format!(
                "GEMINI_WEBHOOK_JWKS needs a proof that a delivery is ours: set one of {}",
                PROOFS.join(", ")
            ));
        }
    };
    if let Some(audience) = audience {
        per_request = per_request.audience(audience);
    }
    Ok(per_request)
}

/// The parts of a variable, which commas separate.
fn list<T>(name: &str, parse: impl Fn(&str) -> Result<T, ConfigError>) -> Result<Vec<T>, String> {
    let Some(value) = variable(name)? else {
        return Ok(Vec::new());
    };
    let parts = value.split(',').enumerate();
    parts
        .map(|(position, part)| {
            parse(part.trim()).map_err(|error| format!("{name}, part {}: {error}", position + 1))
        })
        .collect()
}

/// A variable of the environment; an empty one counts as not set.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

async fn webhook(State(receiver): State<Receiver>, parts: Parts, request: Request) -> Response {
    let (head, answer) = receive(&receiver, &parts, request).await.into_parts();
    let mut line = answer.clone();
    line["http"] = head.status.as_u16().into();
    // Whoever reads the log may go away: that must not cost a delivery.
    say(line);
    (head, Json(answer)).into_response()
}

/// `parts` are those of the request. Neither its URI nor its headers are logged: both may hold the
/// proof that a delivery is ours.
async fn receive(receiver: &Receiver, parts: &Parts, request: Request) -> http::Response<Value> {
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
    let reply = receiver.handle(parts, &body, process).await;
    let code = reply.outcome.code();
    match (&reply.outcome, &reply.delivery) {
        (Outcome::Processed | Outcome::Duplicate, Some(delivery)) => {
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

/// Where the work would be done, or be put into a queue. To look at the event is all here.
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

fn readiness(keys: Option<&Arc<RefreshedKeys>>) -> (StatusCode, &'static str) {
    match keys.map(|keys| keys.freshness()) {
        Some(Freshness::Due) => (StatusCode::SERVICE_UNAVAILABLE, "no usable keys"),
        _ => (StatusCode::OK, "ok"),
    }
}

/// Serves until `stop` is ready, then answers the requests at hand.
///
/// `axum::serve` sets no limits: a client that stalls would hold its connection for ever.
async fn serve(listener: TcpListener, app: Router, stop: impl Future<Output = ()>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: leave the others time to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(app.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What fails here is the client's connection: there is nobody left to tell.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = timeout(STOP_TIMEOUT, graceful.shutdown()).await;
}

/// Ready at SIGTERM or Ctrl-C. The handlers are in place when this returns.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminate.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<()>();
        tokio::select! {
            _ = terminated => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

async fn run(config: Config) -> std::io::Result<()> {
    let stop = stop_signal()?;
    let listener = TcpListener::bind(config.bind).await?;
    if let Some(keys) = config.keys.clone() {
        fetch(&keys).await;
        tokio::spawn(async move { keys.run(|error| report(&error)).await });
    }
    let router = Router::new()
        .route("/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(async move || readiness(config.keys.as_ref())),
        )
        .with_state(config.receiver);
    say(format_args!("listening on {}", listener.local_addr()?));
    serve(listener, router, stop).await;
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
