//! gemini-webhooks behind hyper, without a framework.
//!
//! `GEMINI_WEBHOOK_SECRET=whsec_... cargo run -p servers --bin hyper`

use std::{convert::Infallible, env, error::Error as StdError, sync::Arc, time::Duration};

use gemini_webhooks::{JobTokens, KeySet, PerRequest, Secret, Verifier};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};

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

async fn webhook(verifier: &Verifier, request: Request<Incoming>) -> (StatusCode, String) {
    if request.uri().path() != "/webhook" {
        return (StatusCode::NOT_FOUND, "not here".into());
    }
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "POST it".into());
    }
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, 1 << 20).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string());
        }
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()),
    };
    let delivery = match verifier.verify(&head.headers, &body) {
        Ok(delivery) => delivery,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return (status, format!("{}: {error}", error.code()));
        }
    };
    match delivery.event() {
        Ok(event) => (StatusCode::OK, event.event_type().to_string()),
        Err(error) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("payload_unreadable: {error}"),
        ),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let verifier = Arc::new(verifier()?);
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let listener = tokio::net::TcpListener::bind(bind).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move {
            let service = service_fn(async |request| {
                let (status, text) = webhook(&verifier, request).await;
                let mut response = Response::new(Full::new(Bytes::from(text)));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            // What fails here is the client's connection.
            let _ = connection.await;
        });
    }
}
