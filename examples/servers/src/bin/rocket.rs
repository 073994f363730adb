//! gemini-webhooks behind Rocket.
//!
//! `GEMINI_WEBHOOK_SECRETS=whsec_... cargo run -p servers --bin rocket`

use std::{env, error::Error as StdError, net::SocketAddr};

use gemini_webhooks::{
    Attempt, Error, JobTokens, PayloadError, PerRequest, Secret, Verifier, keys::KeySet,
};
use rocket::{
    Config, Data, Request, State,
    data::ToByteUnit,
    http::{Status, uri::Origin},
    post,
    request::{FromRequest, Outcome},
    response::{Responder, Response},
    routes,
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

/// All headers of the request, for the guard that Rocket has no ready-made one for.
struct Headers(Vec<(String, String)>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Headers {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let headers = request.headers().iter();
        let headers = headers.map(|header| (header.name.to_string(), header.value.to_string()));
        Outcome::Success(Self(headers.collect()))
    }
}

#[post("/webhook", data = "<data>")]
async fn webhook(
    verifier: &State<Verifier>,
    headers: Headers,
    uri: &Origin<'_>,
    data: Data<'_>,
) -> Result<String, Refusal> {
    let body = data.open(1.mebibytes()).into_bytes().await;
    let body = body.map_err(|error| Refusal(400, error.to_string()))?;
    if !body.is_complete() {
        return Err(Refusal(413, "the body is too large".into()));
    }
    let headers = headers.0.iter().map(|(name, value)| (name, value));
    let uri = uri.to_string();
    let attempt = Attempt::from_pairs(headers)?.with_uri(&uri);
    let delivery = verifier.verify(attempt, &body)?;
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
        // No retry makes it readable: acknowledge it, and look at it.
        let text = format!("set_aside: {error}");
        eprintln!("{text}");
        Self(200, text)
    }
}

impl<'r> Responder<'r, 'static> for Refusal {
    fn respond_to(self, request: &'r Request<'_>) -> rocket::response::Result<'static> {
        let mut response = Response::build_from(self.1.respond_to(request)?);
        response.status(Status::new(self.0)).ok()
    }
}

#[rocket::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:8787".into());
    let bind: SocketAddr = bind.parse()?;
    let config = Config {
        address: bind.ip(),
        port: bind.port(),
        ..Config::release_default()
    };
    let verifier = verifier()?;
    rocket::custom(config)
        .manage(verifier)
        .mount("/", routes![webhook])
        .launch()
        .await?;
    Ok(())
}
