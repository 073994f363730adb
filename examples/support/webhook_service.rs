//! A stand-in for the service: it registers webhooks, rotates their secrets, and delivers signed
//! events with retries. On loopback, for tests and for the example `cycle`.
//!
//! It takes what the reference documents and refuses everything else, field by field, so that a
//! request that it accepts is one that the service would.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use gemini_webhooks::{
    EventType, Secret,
    testing::{Signer, sample},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Of a page, where the request does not say.
const PAGE: usize = 50;
/// Of the service, which tries for 24 hours. Here the waits are shorter, and fewer.
const MAX_ATTEMPTS: u32 = 6;

/// A handle to it; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct WebhookService {
    address: SocketAddr,
    state: Arc<Mutex<Service>>,
    client: reqwest::Client,
}

struct Service {
    api_key: String,
    webhooks: BTreeMap<String, Webhook>,
    created: u64,
    delivered: u64,
    /// How far its clock is ahead, for secrets to end.
    ahead: Duration,
}

#[derive(Clone)]
struct Webhook {
    name: Option<String>,
    uri: String,
    subscribed_events: Vec<String>,
    state: String,
    /// The current one first; the others have an end.
    secrets: Vec<(String, Option<OffsetDateTime>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: Option<String>,
    uri: String,
    subscribed_events: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    name: Option<String>,
    uri: Option<String>,
    subscribed_events: Option<Vec<String>>,
    state: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    revocation_behavior: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

/// What is answered where a request is not taken.
struct Refused(StatusCode, &'static str, String);

fn invalid(message: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message.into())
}

fn not_found() -> Refused {
    Refused(
        StatusCode::NOT_FOUND,
        "NOT_FOUND",
        "there is no such thing".into(),
    )
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(code, status, message) = self;
        let error = json!({"code": code.as_u16(), "status": status, "message": message});
        (code, Json(json!({"error": error}))).into_response()
    }
}

impl WebhookService {
    pub(crate) async fn start(api_key: &str) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let service = Self {
            address: listener.local_addr()?,
            state: Arc::new(Mutex::new(Service {
                api_key: api_key.to_owned(),
                webhooks: BTreeMap::new(),
                created: 0,
                delivered: 0,
                ahead: Duration::ZERO,
            })),
            client: reqwest::Client::new(),
        };
        let router = Router::new().fallback(answer).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(service)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets time pass for the secrets that end.
    pub(crate) fn advance(&self, time: Duration) {
        let mut service = self.lock();
        service.ahead += time;
    }

    /// Delivers an event of this type to each webhook that is enabled and subscribes to it. Gives the
    /// status codes of all attempts.
    pub(crate) async fn deliver(&self, event_type: &EventType) -> Vec<u16> {
        let hears = |webhook: &&Webhook| {
            let mut subscribed = webhook.subscribed_events.iter();
            webhook.state == "enabled" && subscribed.any(|name| name == event_type.as_str())
        };
        let webhooks: Vec<Webhook> = self
            .lock()
            .webhooks
            .values()
            .filter(hears)
            .cloned()
            .collect();
        let mut statuses = Vec::new();
        for webhook in webhooks {
            statuses.extend(self.send(&webhook, event_type).await);
        }
        statuses
    }

    /// With a signature for each secret that is in use; again until it is acknowledged.
    async fn send(&self, webhook: &Webhook, event_type: &EventType) -> Vec<u16> {
        let (id, now) = {
            let mut service = self.lock();
            service.delivered += 1;
            (format!("msg_{}", service.delivered), service.now())
        };
        let live = webhook.secrets.iter();
        let live = live.filter(|(_, end)| end.is_none_or(|end| end > now));
        let secrets = live.map(|(text, _)| Secret::parse(text).expect("its own secrets"));
        let signer = secrets.fold(None, |signer: Option<Signer>, secret| {
            Some(match signer {
                None => Signer::v1(&secret),
                Some(signer) => signer.and_v1(&secret),
            })
        });
        let signer = signer.expect("a webhook has a secret");
        let mut statuses = Vec::new();
        for attempt in 0..MAX_ATTEMPTS {
            let sent = signer.sign(&*id, OffsetDateTime::now_utc(), sample(event_type));
            let mut request = self.client.post(&webhook.uri);
            for (name, value) in sent.headers() {
                request = request.header(name, value);
            }
            let answer = request.body(sent.body).send().await;
            let status = answer.map_or(0, |answer| answer.status().as_u16());
            statuses.push(status);
            if (200..300).contains(&status) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10) * 2_u32.pow(attempt)).await;
        }
        statuses
    }

    fn lock(&self) -> MutexGuard<'_, Service> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.ahead
    }

    fn find(&mut self, id: &str) -> Result<&mut Webhook, Refused> {
        self.webhooks.get_mut(id).ok_or_else(not_found)
    }

    fn create(&mut self, new: Create) -> Result<Value, Refused> {
        check(Some(&new.uri), Some(&new.subscribed_events), None)?;
        self.created += 1;
        let id = format!("wh_{:04}", self.created);
        let secret = new_secret();
        let webhook = Webhook {
            name: new.name,
            uri: new.uri,
            subscribed_events: new.subscribed_events,
            state: "enabled".into(),
            secrets: vec![(secret.clone(), None)],
        };
        let mut shown = show(&id, &webhook);
        shown["new_signing_secret"] = secret.into();
        self.webhooks.insert(id, webhook);
        Ok(shown)
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Result<Value, Refused> {
        let mut size = PAGE;
        let mut after = String::new();
        for (name, value) in query {
            match &**name {
                "page_size" => {
                    let parsed = value.parse().ok().filter(|size| *size > 0);
                    size = parsed.ok_or_else(|| invalid("page_size is no number from 1"))?;
                }
                "page_token" => value.clone_into(&mut after),
                other => return Err(invalid(format!("unknown parameter {other}"))),
            }
        }
        let mut left = self.webhooks.iter().filter(|(id, _)| **id > after);
        let page: Vec<_> = left.by_ref().take(size).collect();
        let shown: Vec<Value> = page.iter().map(|(id, webhook)| show(id, webhook)).collect();
        let mut answer = json!({"webhooks": shown});
        if left.next().is_some()
            && let Some((last, _)) = page.last()
        {
            answer["next_page_token"] = Value::from(last.as_str());
        }
        Ok(answer)
    }

    /// Changes the members that the body has. The mask, if one comes, is ignored.
    fn update(&mut self, id: &str, update: Update) -> Result<Value, Refused> {
        check(
            update.uri.as_deref(),
            update.subscribed_events.as_deref(),
            update.state.as_deref(),
        )?;
        let webhook = self.find(id)?;
        if let Some(name) = update.name {
            webhook.name = Some(name);
        }
        if let Some(uri) = update.uri {
            webhook.uri = uri;
        }
        if let Some(events) = update.subscribed_events {
            webhook.subscribed_events = events;
        }
        if let Some(state) = update.state {
            webhook.state = state;
        }
        Ok(show(id, webhook))
    }

    fn rotate(&mut self, id: &str, behavior: Option<&str>) -> Result<Value, Refused> {
        let now = self.now();
        let webhook = self.find(id)?;
        match behavior {
            None | Some("revoke_previous_secrets_after_h24") => {
                for (_, end) in &mut webhook.secrets {
                    end.get_or_insert(now + DAY);
                }
            }
            Some("revoke_previous_secrets_immediately") => webhook.secrets.clear(),
            Some(other) => return Err(invalid(format!("revocation_behavior is {other:?}"))),
        }
        webhook
            .secrets
            .retain(|(_, end)| end.is_none_or(|end| end > now));
        let secret = new_secret();
        webhook.secrets.insert(0, (secret.clone(), None));
        Ok(json!({"secret": secret}))
    }
}

fn check(uri: Option<&str>, events: Option<&[String]>, state: Option<&str>) -> Result<(), Refused> {
    if let Some(uri) = uri {
        let parsed: Option<Uri> = uri.parse().ok();
        let scheme = parsed.as_ref().and_then(Uri::scheme_str);
        if !matches!(scheme, Some("http" | "https")) {
            return Err(invalid("uri is not absolute"));
        }
    }
    if let Some(events) = events {
        let accepted = |name: &String| {
            let mut accepted = EventType::SUBSCRIBABLE.iter();
            accepted.any(|accepted| accepted.as_str() == name)
        };
        if events.is_empty() || !events.iter().all(accepted) {
            return Err(invalid(
                "subscribed_events are not some of the seven accepted ones",
            ));
        }
    }
    match state {
        None | Some("enabled" | "disabled") => Ok(()),
        Some(other) => Err(invalid(format!("state is {other:?}"))),
    }
}

fn show(id: &str, webhook: &Webhook) -> Value {
    let time = |time: OffsetDateTime| time.format(&Rfc3339).expect("a year of four digits");
    let secrets = webhook.secrets.iter().map(|(text, end)| {
        let mut shown =
            json!({"truncated_secret": format!("whsec_...{}", &text[text.len() - 4..])});
        if let Some(end) = end {
            shown["expire_time"] = time(*end).into();
        }
        shown
    });
    json!({
        "id": id, "name": webhook.name, "uri": webhook.uri,
        "subscribed_events": webhook.subscribed_events, "state": webhook.state,
        "signing_secrets": secrets.collect::<Vec<_>>(),
    })
}

/// Random enough for a stand-in: the standard library's hasher has a random key.
fn new_secret() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = (0..4_u8).flat_map(|part| RandomState::new().hash_one(part).to_be_bytes());
    format!(
        "whsec_{}",
        BASE64_STANDARD.encode(random.collect::<Vec<u8>>())
    )
}

fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Refused> {
    if headers
        .get(CONTENT_TYPE)
        .is_none_or(|kind| kind != "application/json")
    {
        return Err(invalid("content-type is not application/json"));
    }
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

/// By the path as it was sent: what is encoded in an id is part of the id.
async fn answer(
    State(handle): State<WebhookService>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let answer = {
        let mut service = handle.lock();
        if headers
            .get("x-goog-api-key")
            .is_none_or(|key| *key != *service.api_key)
        {
            let message = "API key not valid".to_owned();
            return Err(Refused(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message));
        }
        let query = uri.query().unwrap_or_default();
        let query: BTreeMap<String, String> = url_pairs(query)?;
        let segments: Vec<&str> = uri.path().split('/').skip(1).collect();
        let ["v1" | "v1beta", "webhooks", rest @ ..] = segments.as_slice() else {
            return Err(not_found());
        };
        match (method.as_str(), rest) {
            ("POST", []) => service.create(read(&headers, &body)?)?,
            ("GET", []) => service.list(&query)?,
            ("POST", [verb]) => match verb.split_once(':') {
                Some((id, "rotateSigningSecret")) => {
                    let request: Rotate = read(&headers, &body)?;
                    service.rotate(id, request.revocation_behavior.as_deref())?
                }
                Some((id, "ping")) => {
                    let Empty {} = read(&headers, &body)?;
                    let webhook = service.find(id)?.clone();
                    handle.ping(webhook);
                    json!({})
                }
                _ => return Err(not_found()),
            },
            ("GET", [id]) => {
                let webhook = service.find(id)?.clone();
                show(id, &webhook)
            }
            ("PATCH", [id]) => service.update(id, read(&headers, &body)?)?,
            ("DELETE", [id]) => {
                service.webhooks.remove(*id).ok_or_else(not_found)?;
                json!({})
            }
            _ => return Err(not_found()),
        }
    };
    Ok(Json(answer).into_response())
}

impl WebhookService {
    /// Answers at once, and delivers afterwards.
    fn ping(&self, webhook: Webhook) {
        let service = self.clone();
        tokio::spawn(async move { service.send(&webhook, &"ping".into()).await });
    }
}

fn url_pairs(query: &str) -> Result<BTreeMap<String, String>, Refused> {
    let url = reqwest::Url::parse(&format!("http://localhost/?{query}"));
    let url = url.map_err(|error| invalid(error.to_string()))?;
    Ok(url
        .query_pairs()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect())
}
