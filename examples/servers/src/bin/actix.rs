//! gemini-webhooks behind actix-web.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin actix`

use std::{env, error::Error as StdError, fmt};

use actix_web::{App, HttpRequest, HttpServer, ResponseError, http::StatusCode, web};
use gemini_webhooks::{
    Attempt, Error, JobTokens, PayloadError, PerRequest, Secret, Verifier, keys::KeySet,
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

async fn webhook(
    verifier: web::Data<Verifier>,
    request: HttpRequest,
    body: web::Bytes,
) -> Result<String, Refusal> {
    // Of another version of the `http` crate.
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let uri = request.uri().to_string();
    let attempt = Attempt::from_pairs(headers)?.with_uri(&uri);
    let delivery = verifier.verify(attempt, &body)?;
    Ok(delivery.event()?.event_type().to_string())
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
        // No retry makes it readable: acknowledge it, and look at it.
        let text = format!("set_aside: {error}");
        eprintln!("{text}");
        Self(200, text)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0).unwrap_or(StatusCode::BAD_REQUEST)
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let verifier = web::Data::new(verifier()?);
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let app = move || {
        App::new()
            .app_data(verifier.clone())
            .app_data(web::PayloadConfig::new(1 << 20))
            .route("/webhook", web::post().to(webhook))
    };
    HttpServer::new(app).bind(bind)?.run().await?;
    Ok(())
}
