//! gemini-webhooks behind poem.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin poem`

use std::{env, error::Error as StdError};

use gemini_webhooks::{JobTokens, PerRequest, Secret, Verifier, keys::KeySet};
use poem::{
    Body, EndpointExt, Route, Server, handler,
    http::{HeaderMap, StatusCode, Uri},
    listener::TcpListener,
    post,
    web::Data,
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

#[handler]
async fn webhook(
    Data(verifier): Data<&Verifier>,
    headers: &HeaderMap,
    uri: &Uri,
    body: Body,
) -> poem::Result<String> {
    let body = body.into_bytes_limit(1 << 20).await?;
    let delivery = verifier.verify((headers, uri), &body).map_err(|refusal| {
        let text = format!("{}: {refusal}", refusal.code());
        poem::Error::from_string(text, refusal.status_code())
    })?;
    let event = delivery.event().map_err(|error| {
        // No retry makes it readable: acknowledge it, and look at it.
        let text = format!("set_aside: {error}");
        eprintln!("delivery {}: {text}", delivery.id());
        poem::Error::from_string(text, StatusCode::OK)
    })?;
    Ok(event.event_type().to_string())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let app = Route::new().at("/webhook", post(webhook)).data(verifier()?);
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    Server::new(TcpListener::bind(bind)).run(app).await?;
    Ok(())
}
