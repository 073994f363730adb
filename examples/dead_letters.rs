//! Lists the deliveries that an inbox could not handle, retries them and discards them.
//!
//! `cargo run --example dead_letters -- --store sqlite:inbox.db list`
//!
//! `list` prints one JSON object a line: neither the payload nor what proves the origin of a delivery
//! is among it. `retry` makes deliveries due again, for the workers of any process, with all their
//! attempts.
//!
//! The exit status is 0 if it was done, 1 if there is no dead letter with one of the ids or the store
//! fails, and 2 for arguments that make no sense.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;
#[path = "support/store.rs"]
#[allow(dead_code, reason = "the receiver also takes a store that is no inbox")]
mod store;

use std::{path::Path, process::ExitCode, sync::Arc};

use chain::chain;
use clap::{Args, Parser, Subcommand};
use gemini_webhooks::{
    inbox::{DeadLetter, InboxStore},
    store::StoreError,
};
use out::{note, say};
use serde_json::{Value, json};
use store::{Store, StoreFault};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Few enough for their payloads to fit into memory.
const PAGE: usize = 100;

/// Lists, retries and discards the dead letters of an inbox
///
/// The exit status is 0 if it was done, 1 if there is no dead letter with one of the ids or the store
/// fails, 2 for arguments that make no sense.
#[derive(Parser)]
#[command(name = "dead_letters", version)]
struct Options {
    /// The store of the inbox: sqlite:PATH or postgres://..
    #[arg(
        long,
        value_name = "STORE",
        env = "GEMINI_WEBHOOK_STORE",
        hide_env_values = true
    )]
    store: String,

    /// The namespace of the inbox, if it has one
    #[arg(long, default_value = "", hide_default_value = true)]
    namespace: String,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Lists them in the order in which they were received, one JSON object a line
    List {
        /// Those after this id: the last of the page before
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: i64,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100,
            value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Makes them due again
    Retry(Which),
    /// Removes them for ever
    Discard {
        /// Their ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Their ids
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// The exit status, and why.
struct Failure(u8, String);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(1, chain(&error))
    }
}

fn open(setting: &str) -> Result<Arc<dyn InboxStore>, Failure> {
    if let Some(path) = setting.strip_prefix("sqlite:")
        && !path.is_empty()
        && !Path::new(path).exists()
    {
        // The store would create it.
        return Err(Failure(1, format!("{path}: no such file")));
    }
    match Store::open(setting) {
        Ok(Store::Inbox(store)) if setting != "memory" => Ok(store),
        Err(StoreFault::Store(error)) => Err(error.into()),
        // It is not repeated: there may be a password in it.
        _ => Err(Failure(
            2,
            "the store is neither sqlite:PATH nor postgres://..".into(),
        )),
    }
}

fn show(letter: &DeadLetter) -> Value {
    let time = |time: OffsetDateTime| time.format(&Rfc3339).ok();
    let mut shown = json!({
        "id": letter.id,
        "attempts": letter.attempts,
        "received_at": time(letter.received_at),
        "died_at": time(letter.died_at),
        "cause": letter.cause,
    });
    if let Some(delivery) = &letter.delivery {
        shown["delivery"] = delivery.id().into();
        shown["scheme"] = delivery.scheme().as_str().into();
        if let Ok(event) = delivery.event() {
            shown["type"] = event.event_type().as_str().into();
        }
        if let Some(job) = delivery.job() {
            shown["job"] = job.context.as_str().into();
        }
    }
    shown
}

/// Does something to each. True if all were found.
async fn each(
    ids: Vec<i64>,
    done: &str,
    act: impl AsyncFn(i64) -> Result<bool, StoreError>,
) -> Result<bool, Failure> {
    let mut all_found = true;
    for id in ids {
        if act(id).await? {
            say(format_args!("{id} {done}"));
        } else {
            all_found = false;
            note(format_args!("dead_letters: there is no dead letter {id}"));
        }
    }
    Ok(all_found)
}

async fn run(options: Options) -> Result<bool, Failure> {
    let store = open(&options.store)?;
    let namespace = &*options.namespace;
    let retry = async |id| store.retry(namespace, id).await;
    match options.action {
        Action::List { after, limit } => {
            let limit = limit.into();
            let letters = store.dead_letters(namespace, after, limit).await?;
            for letter in &letters {
                say(show(letter));
            }
            if letters.len() == limit
                && let Some(last) = letters.last()
            {
                note(format_args!("dead_letters: for more, --after {}", last.id));
            }
            Ok(true)
        }
        Action::Retry(Which { all: true, .. }) => {
            let mut after = 0;
            // One that dies again meanwhile keeps its id, and is not met twice.
            loop {
                let page = store.dead_letters(namespace, after, PAGE).await?;
                let ids: Vec<i64> = page.iter().map(|letter| letter.id).collect();
                let Some(last) = ids.last() else {
                    return Ok(true);
                };
                after = *last;
                // Another may have retried or discarded one of them: that is as good.
                each(ids, "is due again", retry).await?;
            }
        }
        Action::Retry(Which { ids, .. }) => each(ids, "is due again", retry).await,
        Action::Discard { ids } => {
            each(ids, "is discarded", async |id| {
                store.discard(namespace, id).await
            })
            .await
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure(status, message)) => {
            note(format_args!("dead_letters: {message}"));
            ExitCode::from(status)
        }
    }
}
