//! gemini-webhooks behind poem.
//!
//! `GEMINI_WEBHOOK_SECRET=whsec_... cargo run -p servers --bin poem`

use std::{env, error::Error as StdError, fmt, sync::Arc};

use gemini_webhooks::{Error, JobTokens, KeySet, PayloadError, PerRequest, Secret, Verifier};
use poem::{
    Body, EndpointExt, Route, Server,
    error::ResponseError,
    handler,
    http::{HeaderMap, StatusCode},
    listener::TcpListener,
    post,
    web::Data,
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

#[handler]
async fn webhook(
    Data(verifier): Data<&Arc<Verifier>>,
    headers: &HeaderMap,
    body: Body,
) -> poem::Result<String> {
    let body = body.into_bytes_limit(1 << 20).await?;
    let delivery = verifier.verify(headers, &body).map_err(Refusal::from)?;
    let event = delivery.event().map_err(Refusal::from)?;
    Ok(event.event_type().to_string())
}

#[derive(Debug)]
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl StdError for Refusal {}

impl ResponseError for Refusal {
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0).unwrap_or(StatusCode::BAD_REQUEST)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let app = Route::new()
        .at("/webhook", post(webhook))
        .data(Arc::new(verifier()?));
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    Server::new(TcpListener::bind(bind)).run(app).await?;
    Ok(())
}
