//! gemini-webhooks behind axum.
//!
//! `GEMINI_WEBHOOK_SECRET=whsec_... cargo run -p servers --bin axum`

use std::{env, error::Error as StdError, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use gemini_webhooks::{Error, JobTokens, KeySet, PayloadError, PerRequest, Secret, Verifier};

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

async fn webhook(
    State(verifier): State<Arc<Verifier>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, Refusal> {
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

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).unwrap_or(StatusCode::BAD_REQUEST);
        (status, self.1).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let app = Router::new()
        .route("/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(Arc::new(verifier()?));
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
