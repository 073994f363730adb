//! The life of a webhook, against a stand-in of the service on loopback: register, receive, rotate
//! the secret while deliveries arrive, receive, delete.
//!
//! `cargo run --example cycle`
//!
//! Prints what happens. The exit status is 1 if a delivery was refused that should not have been.

#[path = "support/send.rs"]
mod send;
#[path = "support/webhook_service.rs"]
mod webhook_service;

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, request::Parts},
    routing::post,
};
use gemini_webhooks::{
    ConfigError, EventType, Secret, SharedVerifier, Verifier, VerifierBuilder,
    configure::{
        NewWebhook, Revocation, RotatedSecret, Webhook, WebhookPage, WebhookService, acknowledged,
    },
};
use send::send;
use tokio::net::TcpListener;

type BoxError = Box<dyn StdError + Send + Sync>;

const API_KEY: &str = "an-api-key-of-the-stand-in";

/// What receives: its verifier is replaced while it works.
struct Receiver {
    verifier: SharedVerifier,
    received: Mutex<Vec<String>>,
}

impl Receiver {
    fn push(&self, event_type: String) {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(event_type);
    }

    /// The types of the events that came since the last look.
    fn take(&self) -> Vec<String> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *received)
    }
}

/// Accepts deliveries that are signed with any of these secrets.
fn verifier(secrets: &[&Secret]) -> Result<Verifier, ConfigError> {
    let secrets = secrets.iter().copied().cloned();
    secrets
        .fold(Verifier::builder(), VerifierBuilder::secret)
        .build()
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    parts: Parts,
    body: Bytes,
) -> axum::response::Result<()> {
    let verified = receiver.verifier.verify(&parts, &body);
    let delivery = verified.map_err(|refusal| refusal.response(refusal.to_string()))?;
    let event = delivery
        .event()
        .map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    receiver.push(event.event_type().to_string());
    Ok(())
}

fn serve(listener: TcpListener, receiver: &Arc<Receiver>) {
    let router = Router::new()
        .route("/webhook", post(receive))
        .with_state(Arc::clone(receiver));
    tokio::spawn(async move { axum::serve(listener, router).await });
}

fn expect<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), BoxError> {
    println!("{what}: {found:?}");
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}").into())
}

/// Deliveries one after the other until it is told to stop; all status codes.
struct Traffic {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<Vec<u16>>,
}

impl Traffic {
    fn start(google: &webhook_service::WebhookService) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let google = google.clone();
        let task = tokio::spawn(async move {
            let mut statuses = Vec::new();
            while !*stopped.borrow() {
                statuses.extend(google.deliver(&EventType::BatchSucceeded).await);
            }
            statuses
        });
        Self { stop, task }
    }

    /// Those that were not acknowledged at the first attempt.
    async fn stop(self) -> Result<Vec<u16>, BoxError> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.stop.send(true)?;
        let statuses = self.task.await?;
        println!("  {} deliveries meanwhile", statuses.len());
        Ok(statuses
            .into_iter()
            .filter(|status| *status != 200)
            .collect())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let google = webhook_service::WebhookService::start(API_KEY).await?;
    let client = reqwest::Client::new();
    let service = WebhookService::new(API_KEY)?.base_url(&google.url())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhook", listener.local_addr()?);

    let new = NewWebhook::new(url)?
        .name("cycle")
        .subscribe(EventType::BatchSucceeded);
    let response = send(&client, service.create(&new)?).await?;
    let webhook = Webhook::from_response(&response)?;
    let id = webhook.id.as_str();
    let first = webhook
        .new_signing_secret
        .ok_or("no secret came")?
        .parse()?;
    println!("registered {id}");

    let receiver = Arc::new(Receiver {
        verifier: verifier(&[&first])?.into(),
        received: Mutex::default(),
    });
    serve(listener, &receiver);
    let statuses = google.deliver(&EventType::BatchSucceeded).await;
    expect("a delivery", &statuses, &vec![200])?;
    let statuses = google.deliver(&EventType::VideoGenerated).await;
    expect("of a type that is not subscribed", &statuses, &vec![])?;
    acknowledged(&send(&client, service.ping(id)?).await?)?;
    while !receiver.take().contains(&"ping".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("a ping has arrived");

    // The rotation, while deliveries arrive: 1. the old secret is known, 2. both, 3. the new one.
    let traffic = Traffic::start(&google);
    let response = send(&client, service.rotate(id, Revocation::AfterH24)?).await?;
    let second = RotatedSecret::from_response(&response)?.secret.parse()?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    receiver.verifier.replace(verifier(&[&first, &second])?);
    expect("refused while rotating", &traffic.stop().await?, &vec![])?;

    let traffic = Traffic::start(&google);
    google.advance(Duration::from_secs(25 * 60 * 60));
    expect(
        "refused when the old secret ends",
        &traffic.stop().await?,
        &vec![],
    )?;

    let traffic = Traffic::start(&google);
    receiver.verifier.replace(verifier(&[&second])?);
    expect(
        "refused with the new secret alone",
        &traffic.stop().await?,
        &vec![],
    )?;
    receiver.verifier.replace(verifier(&[&first])?);
    let statuses = google.deliver(&EventType::BatchSucceeded).await;
    expect(
        "with the old one alone",
        &statuses.first().copied(),
        &Some(401),
    )?;

    acknowledged(&send(&client, service.delete(id)?).await?)?;
    let statuses = google.deliver(&EventType::BatchSucceeded).await;
    expect("after the deletion", &statuses, &vec![])?;
    let response = send(&client, service.list(None, None)?).await?;
    let left = WebhookPage::from_response(&response)?.webhooks.len();
    expect("webhooks left", &left, &0)?;
    println!("all as expected");
    Ok(())
}
