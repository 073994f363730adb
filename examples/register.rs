//! Registers, lists, changes and deletes project-level webhooks.
//!
//! `GEMINI_API_KEY=... cargo run --example register -- list`
//!
//! `create` and `rotate` print the signing secret, which is shown this once, on the standard output
//! alone and in the form of a setting of the example `receiver`; what to do with it stands on the
//! standard error. The exit status is 0 if the service did as it was told, 1 if not, 2 for arguments
//! that make no sense.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/send.rs"]
mod send;

use std::{error::Error as StdError, process::ExitCode};

use chain::chain;
use clap::{Parser, Subcommand};
use gemini_webhooks::{
    EventType,
    configure::{
        NewSigningSecret, NewWebhook, RequestError, Revocation, RotatedSecret, Webhook,
        WebhookPage, WebhookService, WebhookState, WebhookUpdate, acknowledged,
    },
};
use send::send;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Registers webhooks of the Gemini API
#[derive(Parser)]
#[command(name = "register", version)]
struct Options {
    /// The API key
    #[arg(
        long,
        value_name = "KEY",
        env = "GEMINI_API_KEY",
        hide_env_values = true
    )]
    api_key: String,

    /// Another server, such as a stand-in of the service
    #[arg(long, value_name = "URL", default_value = WebhookService::GOOGLE)]
    base_url: String,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Creates a webhook, and prints its signing secret
    Create {
        /// Where its deliveries go
        uri: String,
        /// Its name, for people
        #[arg(long)]
        name: Option<String>,
        /// A type of event to subscribe to, such as batch.succeeded; several, or all without
        #[arg(long = "event", value_name = "TYPE")]
        events: Vec<EventType>,
    },
    /// Lists all webhooks
    List,
    /// Changes a webhook
    Update {
        /// Its id
        id: String,
        /// Another address
        #[arg(long)]
        uri: Option<String>,
        /// enabled or disabled
        #[arg(long)]
        state: Option<String>,
    },
    /// Gives a webhook another signing secret, and prints it
    Rotate {
        /// Its id
        id: String,
        /// Ends the previous secret at once, and not after 24 hours: for one that has leaked
        #[arg(long)]
        immediately: bool,
    },
    /// Has a webhook send a delivery, to see whether it arrives
    Ping {
        /// Its id
        id: String,
    },
    /// Deletes a webhook
    Delete {
        /// Its id
        id: String,
    },
}

fn show(webhook: &Webhook) {
    let events: Vec<&str> = webhook
        .subscribed_events
        .iter()
        .map(EventType::as_str)
        .collect();
    let state = webhook.state.as_ref().map_or("", WebhookState::as_str);
    println!(
        "{} {state} {} {}",
        webhook.id,
        webhook.uri,
        events.join(",")
    );
    for secret in &webhook.signing_secrets {
        if let Some(end) = secret.expire_time {
            println!("  {} ends at {end}", secret.truncated_secret);
        }
    }
}

fn show_secret(secret: &NewSigningSecret, advice: &str) {
    println!("GEMINI_WEBHOOK_SECRETS={}", secret.expose());
    eprintln!("The secret is shown this once: keep it where secrets are kept. {advice}");
}

async fn list(service: &WebhookService, client: &reqwest::Client) -> Result<(), BoxError> {
    let mut token = None;
    loop {
        let request = service.list(None, token.as_deref())?;
        let page = WebhookPage::from_response(&send(client, request).await?)?;
        page.webhooks.iter().for_each(show);
        token = page.next_page_token;
        if token.is_none() {
            return Ok(());
        }
    }
}

async fn run(options: Options) -> Result<(), BoxError> {
    let service = WebhookService::new(&options.api_key)?.base_url(&options.base_url)?;
    let client = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(30))
        .build()?;
    match options.action {
        Action::Create { uri, name, events } => {
            let mut new = NewWebhook::new(uri)?;
            if let Some(name) = name {
                new = new.name(name);
            }
            let events = match events {
                none if none.is_empty() => EventType::KNOWN.to_vec(),
                events => events,
            };
            let new = events.into_iter().fold(new, NewWebhook::subscribe);
            let response = send(&client, service.create(&new)?).await?;
            let webhook = Webhook::from_response(&response)?;
            eprintln!("created {}", webhook.id);
            let secret = webhook
                .new_signing_secret
                .ok_or("the answer has no secret")?;
            show_secret(&secret, "Configure the receiver with it.");
        }
        Action::List => list(&service, &client).await?,
        Action::Update { id, uri, state } => {
            let mut update = WebhookUpdate::default();
            if let Some(uri) = uri {
                update = update.uri(uri)?;
            }
            if let Some(state) = state {
                update = update.state(state.as_str().into());
            }
            let response = send(&client, service.update(&id, &update)?).await?;
            show(&Webhook::from_response(&response)?);
        }
        Action::Rotate { id, immediately } => {
            let (revocation, advice) = if immediately {
                let advice =
                    "The previous one has ended: configure the receiver with this one now.";
                (Revocation::Immediately, advice)
            } else {
                let advice = "Configure the receiver with both (separated by a comma) within 24 \
                              hours, and with this one alone after two days.";
                (Revocation::AfterH24, advice)
            };
            let response = send(&client, service.rotate(&id, revocation)?).await?;
            show_secret(&RotatedSecret::from_response(&response)?.secret, advice);
        }
        Action::Ping { id } => {
            acknowledged(&send(&client, service.ping(&id)?).await?)?;
            eprintln!("the service sends a delivery");
        }
        Action::Delete { id } => {
            acknowledged(&send(&client, service.delete(&id)?).await?)?;
            eprintln!("deleted {id}");
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("register: {}", chain(&*error));
            let misuse = error.is::<RequestError>();
            ExitCode::from(if misuse { 2 } else { 1 })
        }
    }
}
