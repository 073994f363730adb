//! gemini-webhooks behind axum.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin axum`

use std::{env, error::Error as StdError};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, request::Parts},
    routing::post,
};
use gemini_webhooks::{JobTokens, PerRequest, Secret, Verifier, keys::KeySet};

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

async fn webhook(
    State(verifier): State<Verifier>,
    parts: Parts,
    body: Bytes,
) -> axum::response::Result<String> {
    let delivery = verifier
        .verify(&parts, &body)
        .map_err(|refusal| refusal.response(format!("{}: {refusal}", refusal.code())))?;
    let event = delivery.event().map_err(|error| {
        // No retry makes it readable: acknowledge it, and look at it.
        let text = format!("set_aside: {error}");
        eprintln!("delivery {}: {text}", delivery.id());
        (StatusCode::OK, text)
    })?;
    Ok(event.event_type().to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let app = Router::new()
        .route("/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(verifier()?);
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    axum::serve(listener, app).await?;
    Ok(())
}
