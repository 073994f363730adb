//! gemini-webhooks as an AWS Lambda function, behind a REST API or a load balancer with multi-value
//! headers. (A function URL joins headers that are given twice: such a delivery is then refused
//! with 401 in place of 400.)
//!
//! Here, with a stand-in for the Lambda service:
//! `cargo build -p servers && GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin lambda_local`

use std::{env, error::Error as StdError};

use gemini_webhooks::{JobTokens, PerRequest, Secret, Verifier, keys::KeySet};
use lambda_http::{Request, Response, http::StatusCode, run, service_fn};

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

fn webhook(verifier: &Verifier, request: &Request) -> Response<String> {
    let body = request.body();
    if body.len() > 1 << 20 {
        return response(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    }
    let delivery = match verifier.verify((request.headers(), request.uri()), body) {
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
async fn main() -> Result<(), lambda_http::Error> {
    let verifier = verifier().map_err(|error| error.to_string())?;
    run(service_fn(async |request: Request| {
        Ok::<_, lambda_http::Error>(webhook(&verifier, &request))
    }))
    .await
}
