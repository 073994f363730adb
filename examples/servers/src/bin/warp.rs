//! gemini-webhooks behind warp.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin warp`

use std::{env, error::Error as StdError, net::SocketAddr};

use futures_util::{Stream, TryStreamExt};
use gemini_webhooks::{IntoAttempt, JobTokens, PerRequest, Secret, Verifier, keys::KeySet};
use warp::{
    Buf, Filter, Reply,
    http::{HeaderMap, StatusCode},
    reply::Response,
};

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

/// `warp::body::content_length_limit` refuses a body in chunks, which has no such header.
async fn read(
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<Vec<u8>, Response> {
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    let failed = |error: warp::Error| response(StatusCode::BAD_REQUEST, error.to_string());
    while let Some(mut part) = body.try_next().await.map_err(failed)? {
        if bytes.len() + part.remaining() > 1 << 20 {
            let text = "the body is too large";
            return Err(response(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        while part.has_remaining() {
            let chunk = part.chunk();
            bytes.extend_from_slice(chunk);
            part.advance(chunk.len());
        }
    }
    Ok(bytes)
}

async fn webhook(
    verifier: Verifier,
    headers: HeaderMap,
    query: String,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<String, Response> {
    let body = read(body).await?;
    let uri = format!("/webhook?{query}");
    let attempt = (&headers).into_attempt();
    let delivery = verifier
        .verify(attempt.map(|attempt| attempt.with_uri(&uri)), &body)
        .map_err(|refusal| {
            let text = format!("{}: {refusal}", refusal.code());
            refusal.response(text).into_response()
        })?;
    let event = delivery.event().map_err(|error| {
        // No retry makes it readable: acknowledge it, and look at it.
        let text = format!("set_aside: {error}");
        eprintln!("delivery {}: {text}", delivery.id());
        response(StatusCode::OK, text)
    })?;
    Ok(event.event_type().to_string())
}

fn response(status: StatusCode, text: impl Into<String>) -> Response {
    warp::reply::with_status(text.into(), status).into_response()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let verifier = verifier()?;
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let bind: SocketAddr = bind.parse()?;
    // `raw` refuses a request that has none.
    let none = warp::any().map(String::new);
    let query = warp::query::raw().or(none).unify();
    let route = warp::path!("webhook")
        .and(warp::post())
        .map(move || verifier.clone())
        .and(warp::header::headers_cloned())
        .and(query)
        .and(warp::body::stream())
        .then(webhook);
    warp::serve(route).run(bind).await;
    Ok(())
}
