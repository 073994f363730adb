//! The receiver that one would deploy, behind a TLS proxy: axum, configured by the environment.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run --example receiver`
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BIND` | address and port to listen on | `127.0.0.1:8787` |
//! | `GEMINI_WEBHOOK_SECRETS` | signing secrets, separated by commas | |
//!
//! `POST /webhook` takes deliveries, `GET /healthz` says that the receiver is up. Standard output
//! gets one JSON line for each delivery. A setting that is missing or malformed ends the program
//! with status 2, SIGTERM and Ctrl-C end it with status 0 once the requests at hand are answered.

use std::{env, io::Write as _, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use gemini_webhooks::{Secret, Verifier};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
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
    verifier: Verifier,
}

impl Config {
    fn from_env() -> Result<Self, String> {
        let bind = variable("BIND")?.unwrap_or_else(|| "127.0.0.1:8787".into());
        let bind = bind.parse().map_err(|_| {
            format!("BIND is not an address and a port such as 127.0.0.1:8787: {bind:?}")
        })?;
        let secrets = variable("GEMINI_WEBHOOK_SECRETS")?.ok_or(
            "GEMINI_WEBHOOK_SECRETS is not set: give the signing secrets, separated by commas",
        )?;
        let mut builder = Verifier::builder();
        for (position, text) in secrets.split(',').enumerate() {
            let secret = Secret::parse(text.trim()).map_err(|error| {
                format!("GEMINI_WEBHOOK_SECRETS, secret {}: {error}", position + 1)
            })?;
            builder = builder.secret(secret);
        }
        let verifier = builder
            .build()
            .map_err(|error| format!("GEMINI_WEBHOOK_SECRETS: {error}"))?;
        Ok(Self { bind, verifier })
    }
}

/// A variable of the environment; an empty one counts as not set.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

async fn webhook(State(verifier): State<Arc<Verifier>>, request: Request) -> Response {
    let (status, answer) = receive(&verifier, request).await;
    let mut line = answer.clone();
    line["http"] = status.as_u16().into();
    // Whoever reads the log may go away: that must not cost a delivery.
    let _ = writeln!(std::io::stdout(), "{line}");
    (status, Json(answer)).into_response()
}

async fn receive(verifier: &Verifier, request: Request) -> (StatusCode, Value) {
    let headers = request.headers().clone();
    let body = match timeout(READ_TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) if refusal.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is longer than {MAX_BODY} bytes");
            return rejected(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &message);
        }
        Ok(Err(refusal)) => {
            return rejected(refusal.status(), "body_unreadable", &refusal.body_text());
        }
        Err(_) => {
            return rejected(
                StatusCode::REQUEST_TIMEOUT,
                "body_too_slow",
                "the body did not arrive in time",
            );
        }
    };
    let delivery = match verifier.verify(&headers, &body) {
        Ok(delivery) => delivery,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
            return rejected(status, error.code(), &error.to_string());
        }
    };
    match delivery.event() {
        Ok(event) => (
            StatusCode::OK,
            json!({
                "status": "accepted",
                "id": delivery.id(),
                "type": event.event_type(),
                "scheme": delivery.scheme().as_str(),
            }),
        ),
        // Not acknowledged, so that it comes again while somebody looks into it.
        Err(error) => rejected(
            StatusCode::UNPROCESSABLE_ENTITY,
            "payload_unreadable",
            &error.to_string(),
        ),
    }
}

fn rejected(status: StatusCode, code: &str, message: &str) -> (StatusCode, Value) {
    (
        status,
        json!({"status": "rejected", "code": code, "message": message}),
    )
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
    let app = Router::new()
        .route("/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(Arc::new(config.verifier));
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    serve(listener, app, stop).await;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(message) => {
            eprintln!("receiver: {message}");
            return ExitCode::from(2);
        }
    };
    let bind = config.bind;
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("receiver: can't listen on {bind}: {error}");
            ExitCode::FAILURE
        }
    }
}
