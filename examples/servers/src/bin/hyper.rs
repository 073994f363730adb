//! gemini-webhooks behind hyper, without a framework.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin hyper`

use std::{convert::Infallible, env, error::Error as StdError, time::Duration};

use gemini_webhooks::{JobTokens, PerRequest, Secret, Verifier, keys::KeySet};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};

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

async fn webhook(verifier: &Verifier, request: Request<Incoming>) -> Response<String> {
    if request.uri().path() != "/webhook" {
        return response(StatusCode::NOT_FOUND, "not here");
    }
    if request.method() != Method::POST {
        return response(StatusCode::METHOD_NOT_ALLOWED, "POST it");
    }
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, 1 << 20).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return response(StatusCode::PAYLOAD_TOO_LARGE, error.to_string());
        }
        Err(error) => return response(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let delivery = match verifier.verify(&head, &body) {
        Ok(delivery) => delivery,
        Err(refusal) => return refusal.response(format!("{}: {refusal}", refusal.code())),
    };
    match delivery.event() {
        Ok(event) => response(StatusCode::OK, event.event_type().as_str()),
        Err(error) => {
            // No retry makes it readable: acknowledge it, and look at it.
            let text = format!("set_aside: {error}");
            eprintln!("delivery {}: {text}", delivery.id());
            response(StatusCode::OK, text)
        }
    }
}

fn response(status: StatusCode, text: impl Into<String>) -> Response<String> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let verifier = verifier()?;
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let verifier = verifier.clone();
        tokio::spawn(async move {
            let service =
                service_fn(async |request| Ok::<_, Infallible>(webhook(&verifier, request).await));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            // What fails here is the client's connection.
            let _ = connection.await;
        });
    }
}
