//! Registers, lists, changes and deletes project-level webhooks.
//!
//! `GEMINI_API_KEY=... cargo run --example register --features reqwest -- list`
//!
//! `create` and `rotate` print the signing secret, which is shown this once, on the standard output
//! alone; what to do with it is on the standard error. `create` prints it as a setting of the example
//! `receiver`. `rotate` prints it alone, since the receiver needs the previous one for another two
//! days.
//!
//! The exit status is 0 if the service did what it was told, 1 if it did not, or if nobody took the
//! secret, and 2 for arguments that make no sense.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;

use std::{error::Error as StdError, io::Write as _, process::ExitCode};

use chain::chain;
use clap::{Parser, Subcommand};
use gemini_webhooks::{
    EventType,
    configure::{
        ApiClient, NewSigningSecret, NewWebhook, RequestError, Revocation, RotatedSecret,
        SendError, Webhook, WebhookPage, WebhookService, WebhookState, WebhookUpdate, acknowledged,
    },
};
use out::{note, say};

type BoxError = Box<dyn StdError + Send + Sync>;

/// Registers webhooks of the Gemini API
///
/// The exit status is 0 if the service did what it was told, 1 if it did not, 2 for arguments that
/// make no sense.
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

    /// Another server, such as a stand-in for the service
    #[arg(long, value_name = "URL", default_value = WebhookService::GOOGLE)]
    base_url: String,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Creates a webhook, and prints its signing secret
    Create {
        /// The address that its deliveries are sent to
        uri: String,
        /// Its name, for people
        #[arg(long)]
        name: Option<String>,
        /// A type of event to subscribe to, such as batch.succeeded; several, or without one all
        /// seven that the service accepts
        #[arg(long = "event", value_name = "TYPE")]
        events: Vec<EventType>,
    },
    /// Lists all webhooks: id, state, address, event types and name
    List,
    /// Changes a webhook
    Update {
        /// Its id
        id: String,
        /// Another name
        #[arg(long)]
        name: Option<String>,
        /// Another address
        #[arg(long)]
        uri: Option<String>,
        /// Another state
        #[arg(long, value_parser = ["enabled", "disabled"])]
        state: Option<String>,
    },
    /// Creates another signing secret for a webhook, and prints it
    Rotate {
        /// Its id
        id: String,
        /// Ends the previous secret at once, and not after 24 hours: for one that has leaked
        #[arg(long)]
        immediately: bool,
    },
    /// Makes the service send a delivery, which proves nothing until it arrives
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
    let state = webhook.state.as_ref().map_or("-", WebhookState::as_str);
    let [id, uri] = [webhook.id(), webhook.uri.as_deref()].map(|text| text.unwrap_or("-"));
    // Quoted: a name may have any character.
    let name = webhook.name.as_ref().map(|name| format!(" {name:?}"));
    let name = name.unwrap_or_default();
    say(format_args!(
        "{id} {state} {uri} {}{name}",
        events.join(",")
    ));
    for secret in &webhook.signing_secrets {
        if let Some(end) = secret.expire_time {
            say(format_args!("  {} ends at {end}", secret.truncated_secret));
        }
    }
}

/// Prints a secret, with this text before it. If nobody takes it, it is lost.
fn show_secret(before: &str, secret: &NewSigningSecret, advice: &str) -> Result<(), BoxError> {
    let mut output = std::io::stdout();
    let shown = writeln!(output, "{before}{}", secret.expose()).and_then(|()| output.flush());
    shown.map_err(|error| format!("the secret is lost ({error}): rotate it"))?;
    note(format_args!(
        "The secret is shown this once: store it with your other secrets. {advice}"
    ));
    Ok(())
}

async fn list(service: &WebhookService, client: &ApiClient) -> Result<(), BoxError> {
    let mut token = None;
    loop {
        let request = service.list(None, token.as_deref())?;
        let page = WebhookPage::from_response(&client.send(request).await?)?;
        page.webhooks.iter().for_each(show);
        token = page.next_page_token;
        if token.is_none() {
            return Ok(());
        }
    }
}

async fn create(
    service: &WebhookService,
    client: &ApiClient,
    webhook: &NewWebhook,
) -> Result<(), BoxError> {
    let response = client.send(service.create(webhook)?).await?;
    let webhook = Webhook::from_response(&response)?;
    let id = webhook.id().unwrap_or("a webhook, whose id did not come");
    note(format_args!("created {id}"));
    let Some(secret) = &webhook.new_signing_secret else {
        return Err("the answer has no secret: `rotate` returns another one".into());
    };
    let advice = "Configure the receiver with it, beside the secrets of other webhooks.";
    show_secret("GEMINI_WEBHOOK_SECRETS=", secret, advice)
}

async fn rotate(
    service: &WebhookService,
    client: &ApiClient,
    id: &str,
    revocation: Revocation,
) -> Result<(), BoxError> {
    let response = client.send(service.rotate(id, revocation)?).await?;
    let secret = RotatedSecret::from_response(&response)?.secret;
    let advice = match revocation {
        Revocation::Immediately => {
            "The previous one has ended: put this one in its place in GEMINI_WEBHOOK_SECRETS now."
        }
        _ => {
            "Add it to GEMINI_WEBHOOK_SECRETS within 24 hours, and keep the previous one there \
             too, separated by a comma, for two days from now."
        }
    };
    // Not as a setting, which would drop the previous secret.
    show_secret("", &secret, advice)
}

async fn run(options: Options) -> Result<(), BoxError> {
    let service = WebhookService::new(&options.api_key)?.base_url(&options.base_url)?;
    let client = ApiClient::new()?;
    match options.action {
        Action::Create { uri, name, events } => {
            let mut new = NewWebhook::new(uri)?;
            if let Some(name) = name {
                new = new.name(name);
            }
            let events = match events {
                none if none.is_empty() => EventType::SUBSCRIBABLE.to_vec(),
                events => events,
            };
            let new = events.into_iter().fold(new, NewWebhook::subscribe);
            create(&service, &client, &new).await?;
        }
        Action::List => list(&service, &client).await?,
        Action::Update {
            id,
            name,
            uri,
            state,
        } => {
            let mut update = WebhookUpdate::default();
            if let Some(name) = name {
                update = update.name(name);
            }
            if let Some(uri) = uri {
                update = update.uri(uri)?;
            }
            if let Some(state) = state {
                update = update.state(state.as_str().into());
            }
            let response = client.send(service.update(&id, &update)?).await?;
            show(&Webhook::from_response(&response)?);
        }
        Action::Rotate { id, immediately } => {
            let revocation = if immediately {
                Revocation::Immediately
            } else {
                Revocation::AfterH24
            };
            rotate(&service, &client, &id, revocation).await?;
        }
        Action::Ping { id } => {
            acknowledged(&client.send(service.ping(&id)?).await?)?;
            note("The service accepts a ping even if the address can't be reached.");
            note("Look for the delivery at the receiver.");
        }
        Action::Delete { id } => {
            acknowledged(&client.send(service.delete(&id)?).await?)?;
            note(format_args!("deleted {id}"));
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("register: {}", chain(&*error)));
            let unusable = |error: &SendError| matches!(error, SendError::InvalidRequest { .. });
            let misuse = error.is::<RequestError>() || error.downcast_ref().is_some_and(unusable);
            ExitCode::from(if misuse { 2 } else { 1 })
        }
    }
}
