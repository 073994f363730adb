//! gemini-webhooks behind warp.
//!
//! `GEMINI_WEBHOOK_SECRET=whsec_... cargo run -p servers --bin warp`

use std::{env, error::Error as StdError, net::SocketAddr, sync::Arc};

use futures_util::{Stream, TryStreamExt};
use gemini_webhooks::{Error, JobTokens, KeySet, PayloadError, PerRequest, Secret, Verifier};
use warp::{
    Buf, Filter, Reply,
    http::{HeaderMap, StatusCode},
    reply::Response,
};

fn verifier() -> Result<Verifier, Box<dyn StdError>> {
    let secret = Secret::parse(&env::var("GEMINI_WEBHOOK_SECRET")?)?;
    let mut verifier = Verifier::builder().secret(secret);
    // Per-request webhooks. Keys change: `RefreshedKeys` fetches them.
    if let Ok(file) = env::var("GEMINI_WEBHOOK_JWKS") {
        let keys = KeySet::from_json(&std::fs::read(file)?)?;
        let tokens = JobTokens::parse(&env::var("GEMINI_WEBHOOK_JOB_KEY")?)?;
        verifier = verifier.per_request(PerRequest::new(keys).job_tokens(tokens));
    }
    Ok(verifier.build()?)
}

/// `warp::body::content_length_limit` refuses a body in chunks, which has no such header.
async fn read(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Vec<u8>, Refusal> {
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    let failed = |error: warp::Error| Refusal(400, error.to_string());
    while let Some(mut part) = body.try_next().await.map_err(failed)? {
        if bytes.len() + part.remaining() > 1 << 20 {
            return Err(Refusal(413, "the body is too large".into()));
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
    verifier: Arc<Verifier>,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<String, Refusal> {
    let body = read(body).await?;
    let delivery = verifier.verify(&headers, &body)?;
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
        Self(422, format!("payload_unreadable: {error}"))
    }
}

impl Reply for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).unwrap_or(StatusCode::BAD_REQUEST);
        warp::reply::with_status(self.1, status).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let verifier = Arc::new(verifier()?);
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let bind: SocketAddr = bind.parse()?;
    let route = warp::path!("webhook")
        .and(warp::post())
        .map(move || Arc::clone(&verifier))
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(webhook);
    warp::serve(route).run(bind).await;
    Ok(())
}
