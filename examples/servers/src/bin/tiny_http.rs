//! gemini-webhooks behind `tiny_http`, which blocks: no async runtime.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin tiny_http`

use std::{
    env,
    error::Error as StdError,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use gemini_webhooks::{
    Attempt, Error, JobTokens, PayloadError, PerRequest, Secret, Verifier, keys::KeySet,
};
use tiny_http::{Method, Request, Response, Server};

/// Requests at a time. Each has a thread, so that a client that stalls holds up nobody else.
const MAX_THREADS: usize = 512;

fn verifier() -> Result<Verifier, Box<dyn StdError>> {
    // Several during a rotation, separated by commas.
    let secrets = env::var("GEMINI_WEBHOOK_SECRETS").or(env::var("GEMINI_WEBHOOK_SECRET"));
    let secrets = secrets.map_err(|_| "set GEMINI_WEBHOOK_SECRETS (or GEMINI_WEBHOOK_SECRET)")?;
    let mut verifier = Verifier::builder();
    for secret in secrets.replace(',', " ").split_whitespace() {
        verifier = verifier.secret(Secret::parse(secret)?);
    }
    // Per-request webhooks. Keys change: `RefreshedKeys` fetches them.
    if let Ok(file) = env::var("GEMINI_WEBHOOK_JWKS") {
        let keys = KeySet::from_json(&std::fs::read(file)?)?;
        let tokens = JobTokens::parse(&env::var("GEMINI_WEBHOOK_JOB_KEY")?)?;
        verifier = verifier.per_request(PerRequest::with_job_tokens(keys, tokens));
    }
    Ok(verifier.build()?)
}

fn webhook(verifier: &Verifier, request: &mut Request) -> Result<String, Refusal> {
    if request.url().split('?').next() != Some("/webhook") {
        return Err(Refusal(404, "not here".into()));
    }
    if *request.method() != Method::Post {
        return Err(Refusal(405, "POST it".into()));
    }
    let mut body = Vec::new();
    let mut limited = request.as_reader().take((1 << 20) + 1);
    let read = limited.read_to_end(&mut body);
    read.map_err(|error| Refusal(400, error.to_string()))?;
    if body.len() > 1 << 20 {
        return Err(Refusal(413, "the body is too large".into()));
    }
    let headers = request.headers().iter();
    let headers = headers.map(|header| (header.field.as_str().as_str(), header.value.as_str()));
    let attempt = Attempt::from_pairs(headers)?.with_uri(request.url());
    let delivery = verifier.verify(attempt, &body)?;
    Ok(delivery.event()?.event_type().to_string())
}

struct Refusal(u16, String);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error.status(), format!("{}: {error}", error.code()))
    }
}

impl From<PayloadError> for Refusal {
    fn from(error: PayloadError) -> Self {
        // No retry makes it readable: acknowledge it, and look at it.
        let text = format!("set_aside: {error}");
        eprintln!("{text}");
        Self(200, text)
    }
}

fn answer(verifier: &Verifier, mut request: Request) {
    let (status, text) = match webhook(verifier, &mut request) {
        Ok(text) => (200, text),
        Err(Refusal(status, text)) => (status, text),
    };
    // The client may be gone.
    let _ = request.respond(Response::from_string(text).with_status_code(status));
}

fn main() -> Result<(), Box<dyn StdError>> {
    let verifier = verifier()?;
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let server = Server::http(bind).map_err(|error| error.to_string())?;
    let threads = Arc::new(AtomicUsize::new(0));
    for request in server.incoming_requests() {
        if threads.fetch_add(1, Ordering::Relaxed) >= MAX_THREADS {
            threads.fetch_sub(1, Ordering::Relaxed);
            let _ = request.respond(Response::empty(503));
            continue;
        }
        let (verifier, threads) = (verifier.clone(), Arc::clone(&threads));
        thread::spawn(move || {
            answer(&verifier, request);
            threads.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}
