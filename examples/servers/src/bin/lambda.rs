//! gemini-webhooks as an AWS Lambda function, behind a REST API or a load balancer with multi-value
//! headers. (A function URL joins headers that are given twice: such a delivery is then refused
//! with 401 in place of 400.)
//!
//! Here, with a stand-in for the Lambda service:
//! `cargo build -p servers && GEMINI_WEBHOOK_SECRET=whsec_... cargo run -p servers --bin lambda_local`

use std::{env, error::Error as StdError};

use gemini_webhooks::{Error, JobTokens, KeySet, PayloadError, PerRequest, Secret, Verifier};
use lambda_http::{Body, Request, Response, run, service_fn};

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

fn webhook(verifier: &Verifier, request: &Request) -> Result<String, Refusal> {
    let body = request.body();
    if body.len() > 1 << 20 {
        return Err(Refusal(413, "the body is too large".into()));
    }
    let delivery = verifier.verify(request.headers(), body)?;
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

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    let verifier = verifier().map_err(|error| error.to_string())?;
    run(service_fn(async |request: Request| {
        let (status, text) = match webhook(&verifier, &request) {
            Ok(text) => (200, text),
            Err(Refusal(status, text)) => (status, text),
        };
        let response = Response::builder().status(status).body(Body::from(text))?;
        Ok::<_, lambda_http::Error>(response)
    }))
    .await
}
