//! What operators ask: is it ready, and how many deliveries wait?

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, http::StatusCode};
use gemini_webhooks::{
    Inbox,
    inbox::Stats,
    keys::{Freshness, RefreshedKeys},
    store::{BoxFuture, IdempotencyStore, StoreError},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use crate::{chain::chain, out::note};

type Answer = (StatusCode, Json<Value>);

/// How long a probe waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks a store one question at a time. Whoever asks meanwhile gets the same answer: where a store
/// hangs, probes do not queue up in front of it.
struct Question<T> {
    ask: Box<dyn Fn() -> BoxFuture<'static, Result<T, StoreError>> + Send + Sync>,
    /// Closed, unless a question is under way.
    answer: Mutex<watch::Receiver<Option<Result<T, String>>>>,
}

impl<T: Clone + Send + Sync + 'static> Question<T> {
    fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        Self {
            ask: Box::new(move || Box::pin(ask())),
            answer: Mutex::new(watch::channel(None).1),
        }
    }

    /// The answer, or what the prober may know of the failure; the rest is logged.
    async fn answer(&self) -> Result<T, String> {
        let mut answer = {
            let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            // It is not cancelled with the probe that began it.
            if answer.has_changed().is_err() {
                let (sender, receiver) = watch::channel(None);
                let asked = (self.ask)();
                tokio::spawn(async move {
                    let answer = asked.await.map_err(|error| {
                        note(format_args!("receiver: {}", chain(&error)));
                        error.to_string()
                    });
                    sender.send_replace(Some(answer));
                });
                *answer = receiver;
            }
            answer.clone()
        };
        match timeout(PATIENCE, answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Err("no answer".into())),
            Ok(Err(_)) => Err("no answer".into()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }
}

pub(crate) struct Readiness {
    store: Question<()>,
    keys: Option<Arc<RefreshedKeys>>,
}

impl Readiness {
    pub(crate) fn new(store: Arc<dyn IdempotencyStore>, keys: Option<Arc<RefreshedKeys>>) -> Self {
        let check = move || {
            let store = Arc::clone(&store);
            async move { store.check().await }
        };
        Self {
            store: Question::new(check),
            keys,
        }
    }

    /// Says of the store, and of the keys where there are some, whether they are `ok`.
    pub(crate) async fn answer(&self) -> Answer {
        let store = self.store.answer().await;
        let keys = self.keys.as_ref().map(|keys| match keys.freshness() {
            Freshness::Due => Err("no usable keys".to_owned()),
            _ => Ok(()),
        });
        let mut ready = StatusCode::OK;
        let mut answer = json!({});
        for (name, part) in [("store", Some(store)), ("keys", keys)] {
            let Some(part) = part else { continue };
            if part.is_err() {
                ready = StatusCode::SERVICE_UNAVAILABLE;
            }
            answer[name] = part.err().unwrap_or_else(|| "ok".into()).into();
        }
        (ready, Json(answer))
    }
}

pub(crate) struct Statistics(Question<Stats>);

impl Statistics {
    pub(crate) fn new(inbox: &Inbox) -> Self {
        let inbox = inbox.clone();
        Self(Question::new(move || {
            let inbox = inbox.clone();
            async move { inbox.stats().await }
        }))
    }

    pub(crate) async fn answer(&self) -> Answer {
        match self.0.answer().await {
            Ok(stats) => {
                let answer = json!({
                    "due": stats.due,
                    "waiting": stats.waiting,
                    "working": stats.working,
                    "dead": stats.dead,
                    "oldest_seconds": stats.oldest.map(|age| age.as_secs()),
                });
                (StatusCode::OK, Json(answer))
            }
            Err(error) => {
                let answer = json!({ "store": error });
                (StatusCode::SERVICE_UNAVAILABLE, Json(answer))
            }
        }
    }
}
