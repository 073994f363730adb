//! The life of a webhook, against a stand-in of the service on loopback: register, receive, rotate
//! the secret while deliveries arrive, receive, delete.
//!
//! `cargo run --example cycle --features reqwest`
//!
//! Prints what happens, one sentence a step. The exit status is 0 if everything happened as expected,
//! 1 if something did not, such as a delivery that was refused, and 2 for any argument but `--help`.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;
#[path = "support/usage.rs"]
mod usage;
#[path = "support/webhook_service.rs"]
mod webhook_service;

use std::{
    error::Error as StdError,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::request::Parts, routing::post};
use chain::chain;
use gemini_webhooks::{
    ConfigError, EventType, Secret, SharedVerifier, Verifier, VerifierBuilder,
    configure::{
        ApiClient, NewWebhook, Revocation, RotatedSecret, Webhook, WebhookPage, WebhookService,
        acknowledged,
    },
};
use out::{note, say};
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
    // No retry makes it readable: it is acknowledged.
    let event = delivery.event().map_err(|error| error.to_string())?;
    receiver.push(event.event_type().to_string());
    Ok(())
}

fn serve(listener: TcpListener, receiver: &Arc<Receiver>) {
    let router = Router::new()
        .route("/webhook", post(receive))
        .with_state(Arc::clone(receiver));
    tokio::spawn(async move { axum::serve(listener, router).await });
}

/// Says what happened if it was expected.
fn expect<T: PartialEq + std::fmt::Debug>(
    sentence: &str,
    found: &T,
    expected: &T,
) -> Result<(), BoxError> {
    if found == expected {
        say(sentence);
        return Ok(());
    }
    Err(format!("this did not happen: {sentence} Found {found:?}, expected {expected:?}").into())
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

    /// Ends a step, and returns the number of deliveries, none of which may have been refused.
    async fn stop(self, step: &str) -> Result<usize, BoxError> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.stop.send(true)?;
        let statuses = self.task.await?;
        let count = statuses.len();
        let refused: Vec<_> = statuses
            .into_iter()
            .filter(|status| *status != 200)
            .collect();
        expect(
            &format!("{step}: {count} deliveries arrived, and none was refused."),
            &refused,
            &Vec::new(),
        )?;
        Ok(count)
    }
}

async fn run() -> Result<(), BoxError> {
    let google = webhook_service::WebhookService::start(API_KEY).await?;
    let client = ApiClient::new()?;
    let service = WebhookService::new(API_KEY)?.base_url(&google.url())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhook", listener.local_addr()?);

    let new = NewWebhook::new(url)?
        .name("cycle")
        .subscribe(EventType::BatchSucceeded);
    let response = client.send(service.create(&new)?).await?;
    let webhook = Webhook::from_response(&response)?;
    let id = webhook.id().ok_or("no id came")?;
    let first = webhook.new_signing_secret.as_ref();
    let first = first.ok_or("no secret came")?.parse()?;
    say(format_args!("The webhook {id} was registered."));

    let receiver = Arc::new(Receiver {
        verifier: verifier(&[&first])?.into(),
        received: Mutex::default(),
    });
    serve(listener, &receiver);
    let statuses = google.deliver(&EventType::BatchSucceeded).await;
    expect("A delivery was accepted.", &statuses, &vec![200])?;
    let statuses = google.deliver(&EventType::VideoGenerated).await;
    expect(
        "No delivery was sent for a type to which the webhook does not subscribe.",
        &statuses,
        &vec![],
    )?;
    acknowledged(&client.send(service.ping(id)?).await?)?;
    let pinged = async {
        while !receiver.take().contains(&"ping".to_owned()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let pinged = tokio::time::timeout(Duration::from_secs(30), pinged).await;
    pinged.map_err(|_| "no ping arrived within 30 s")?;
    say("A ping arrived.");

    // The rotation, while deliveries arrive: 1. the old secret is known, 2. both, 3. the new one.
    let traffic = Traffic::start(&google);
    let response = client
        .send(service.rotate(id, Revocation::AfterH24)?)
        .await?;
    let second = RotatedSecret::from_response(&response)?.secret.parse()?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    receiver.verifier.replace(verifier(&[&first, &second])?);
    let step = "The secret was rotated, and the receiver learned the new one beside the old one";
    let mut count = traffic.stop(step).await?;

    let traffic = Traffic::start(&google);
    google.advance(Duration::from_secs(25 * 60 * 60));
    count += traffic.stop("The old secret ended after 24 hours").await?;

    let traffic = Traffic::start(&google);
    google.advance(Duration::from_secs(23 * 60 * 60));
    receiver.verifier.replace(verifier(&[&second])?);
    count += traffic
        .stop("The receiver forgot the old secret after two days")
        .await?;

    receiver.verifier.replace(verifier(&[&first])?);
    let statuses = google.deliver(&EventType::BatchSucceeded).await;
    let sentence = "A receiver that knows the old secret alone refuses a delivery.";
    expect(sentence, &statuses.first().copied(), &Some(401))?;

    acknowledged(&client.send(service.delete(id)?).await?)?;
    let statuses = google.deliver(&EventType::BatchSucceeded).await;
    let sentence = "The webhook was deleted, and no delivery was sent afterwards.";
    expect(sentence, &statuses, &vec![])?;
    let response = client.send(service.list(None, None)?).await?;
    let left = WebhookPage::from_response(&response)?.webhooks.len();
    expect("The list of webhooks is empty.", &left, &0)?;
    say(format_args!(
        "Everything happened as expected: of {count} deliveries during the rotation, none was \
         refused."
    ));
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(answered) = usage::usage(include_str!("cycle.rs")) {
        return answered;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("cycle: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}
