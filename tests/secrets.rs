//! No secret is shown, neither by `Debug` of any public type, nor by an error and its sources, nor by a
//! panic. `tests/tracing.rs` is about traces.
#![cfg(feature = "_per-request")]

use std::{
    any::type_name,
    cell::RefCell,
    collections::BTreeSet,
    error::Error as StdError,
    fmt::{Debug, Display},
    fs, io,
    iter::successors,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gemini_webhooks::{
    Event, EventData, EventType, Inbox, IntoAttempt, JobTokens, PerRequest, Receiver, ReplayWindow,
    Scheme, Schemes, Secret, SharedVerifier, Verifier,
    configure::{
        NewWebhook, RotatedSecret, Webhook, WebhookConfig, WebhookPage, WebhookService,
        WebhookState, WebhookUpdate,
    },
    diagnose::Clues,
    event::OutputUri,
    inbox::{Acceptance, DeadLetter, InboxStore, NewEntry, Round, Stats, Taken},
    keys::{FetchError, Fetched, KeyRefresh, KeySet, Keys, RefreshedKeys, SharedKeySet},
    receiver::{HandlerError, Outcome, Received},
    store::{
        Claim, ClaimOutcome, IdempotencyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore,
        StoreError, StoreFuture,
    },
    testing::{Clock, FailingStore, Random, SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const FORMER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const JOB_KEY: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
const API_KEY: &str = "AIzaSyD3adB33fD3adB33f";
const AUDIENCE: &str = "audience-3f9c0d5e7a1b";
/// An address with a password and a query.
const ADDRESS: &str = "https://me:hunter2hunter2@example.com/a?key=5up3rs3cr3tkey";
const PASSWORD_AND_QUERY: [&str; 2] = ["hunter2hunter2", "5up3rs3cr3tkey"];

/// The public types that hold no text and no bytes of anybody's.
const WITHOUT_TEXT: [&str; 8] = [
    "ApiVersion",
    "Freshness",
    "JobPlace",
    "OutputUriError",
    "Revocation",
    "RotatePath",
    "Scheme",
    "StoreErrorKind",
];

/// A value of these needs a server: `tests/stores/postgres.rs` looks at one.
const OF_A_SERVER: [&str; 1] = ["PostgresTransaction"];

/// The texts that must not be shown, in pieces that nothing else has by chance.
#[derive(Default)]
struct Secrets {
    pieces: Vec<String>,
    /// The names of the types of which a value was looked at.
    types: RefCell<BTreeSet<String>>,
}

impl Secrets {
    /// Any 12 characters of these texts.
    fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let texts = texts.into_iter().map(str::as_bytes);
        let pieces = texts.flat_map(|text| text.windows(12));
        let pieces = pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap());
        Self {
            pieces: pieces.collect(),
            ..Self::default()
        }
    }

    /// Any 6 bytes of these texts in base64, as `Debug` shows them. 12 characters would be fewer
    /// than three bytes, and a public key may have the same.
    fn and_bytes_of<'t>(mut self, texts: impl IntoIterator<Item = &'t str>) -> Self {
        for text in texts {
            let bytes = BASE64_STANDARD.decode(text).unwrap();
            let pieces = bytes.windows(6).map(|piece| format!("{piece:?}"));
            let pieces = pieces.map(|piece| piece.trim_matches(['[', ']']).to_owned());
            self.pieces.extend(pieces);
        }
        self
    }

    fn look(&self, what: &str, shown: &str) {
        for piece in &self.pieces {
            assert!(!shown.contains(piece), "{what} shows {piece:?}: {shown}");
        }
    }

    fn debug<T: Debug>(&self, value: &T) {
        self.shown(shown(value));
    }

    fn shown(&self, (name, text): (String, String)) {
        self.look("Debug", &text);
        self.types.borrow_mut().insert(name);
    }

    fn both(&self, value: &(impl Debug + Display)) {
        self.debug(value);
        self.look("Display", &value.to_string());
    }

    /// The error and the chain of its sources.
    fn error(&self, error: &(impl StdError + 'static)) {
        self.both(error);
        for source in successors(error.source(), |&error| error.source()) {
            self.look("a source", &format!("{source} {source:?} {source:#?}"));
        }
    }

    fn refusal<T: Debug>(&self, result: Result<T, impl StdError + 'static>) {
        self.error(&result.unwrap_err());
    }
}

/// The name of a value's type, and the value by `Debug`.
fn shown<T: Debug>(value: &T) -> (String, String) {
    let path = type_name::<T>().split('<').next().unwrap();
    let name = path.rsplit("::").next().unwrap();
    (name.to_owned(), format!("{value:?} {value:#?}"))
}

/// A store that shows what an inbox gives to one and is given.
#[derive(Clone, Default)]
struct Shown {
    store: MemoryStore,
    values: Arc<Mutex<Vec<(String, String)>>>,
}

impl Shown {
    fn show<T: Debug>(&self, value: &T) {
        self.values.lock().unwrap().push(shown(value));
    }
}

impl IdempotencyStore for Shown {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        self.store.claim(key, lease)
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        self.store.complete(claim, retention)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        self.store.release(claim)
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        self.store.check()
    }
}

impl InboxStore for Shown {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        self.show(&entry);
        entry.dead.iter().for_each(|dead| self.show(dead));
        Box::pin(async move {
            let acceptance = self.store.accept(entry).await?;
            self.show(&acceptance);
            Ok(acceptance)
        })
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        self.show(&round);
        for change in &round.changes {
            self.show(change);
            self.show(&change.fate);
        }
        Box::pin(async move {
            let taken = self.store.round(round).await?;
            self.show(&taken);
            taken.entries.iter().for_each(|entry| self.show(entry));
            Ok(taken)
        })
    }

    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
        self.store.stats(namespace)
    }

    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        self.store.dead_letters(namespace, after, limit)
    }

    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        self.store.retry(namespace, id)
    }

    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        self.store.discard(namespace, id)
    }
}

/// The names of the structs and enums in `src/` that are public. A lint, `unreachable_pub`, sees to it
/// that each of them can be reached from the crate's root.
fn public_types(directory: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            names.extend(public_types(&path));
            continue;
        }
        let of_reqwest = ["keys/endpoint.rs", "configure/client.rs"];
        let absent = !cfg!(feature = "reqwest") && of_reqwest.iter().any(|end| path.ends_with(end));
        if path.extension().is_none_or(|extension| extension != "rs") || absent {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let line = line.trim_start();
            let item = ["pub struct ", "pub enum ", "pub union "]
                .iter()
                .find_map(|item| line.strip_prefix(item));
            // A row of the table of events makes a struct.
            let row = line.split_once("\" => ").map(|(_, row)| row);
            let row = row.filter(|_| path.ends_with("event/table.rs") && line.starts_with('"'));
            let end = |c: char| !c.is_alphanumeric();
            let name = item.or(row).and_then(|rest| rest.split(end).next());
            names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    names
}

/// An event of this type, with a secret at each place that may have one.
fn event(event_type: &EventType, token: &str) -> Value {
    let mut event: Value = serde_json::from_str(&sample(event_type)).unwrap();
    let metadata = Value::from(JobTokens::user_metadata(token));
    event["user_metadata"] = metadata.clone();
    event["webhook_config"] = json!({"uris": [ADDRESS], "user_metadata": metadata});
    event["version"] = ADDRESS.into();
    let data = event["data"].as_object_mut().unwrap();
    for name in [
        "output_file_uri",
        "file_name",
        "error_code",
        "error_message",
        "new",
    ] {
        data.insert(name.into(), ADDRESS.into());
    }
    data.insert("userMetadata".into(), metadata);
    event
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

struct World {
    google: SigningKeys,
    token: String,
    /// One of each scheme.
    deliveries: [SignedDelivery; 3],
    secrets: Secrets,
}

impl World {
    fn new() -> Self {
        let google = SigningKeys::generate();
        let token = tokens().mint_for("nightly").unwrap();
        let signers = [
            Signer::v1(&secret()),
            Signer::v1a(&google),
            Signer::jwt(&google, AUDIENCE),
        ];
        let body = event(&EventType::BatchFailed, &token).to_string();
        let deliveries = signers
            .each_ref()
            .map(|signer| signer.sign("msg_1", now(), body.clone()));
        let mut texts = vec![
            &SECRET[6..],
            &FORMER[6..],
            JOB_KEY,
            &token[5..],
            API_KEY,
            AUDIENCE,
        ];
        texts.extend(PASSWORD_AND_QUERY);
        for sent in &deliveries {
            // Of a JWT, the header is the same for everybody.
            texts.extend(sent.signature.rsplit([',', '.']).next());
        }
        let secrets = Secrets::of(texts).and_bytes_of([&SECRET[6..], &FORMER[6..], JOB_KEY]);
        for signer in &signers {
            secrets.debug(signer);
        }
        Self {
            google,
            token,
            deliveries,
            secrets,
        }
    }

    fn keys(&self) -> KeySet {
        KeySet::from_json(self.google.jwks().as_bytes()).unwrap()
    }

    fn verifier(&self) -> Verifier {
        let per_request = PerRequest::with_job_tokens(self.keys(), tokens());
        let builder = Verifier::builder()
            .secret(secret())
            .named_secret("nightly", secret())
            .per_request(per_request);
        self.secrets.debug(&builder);
        builder.build().unwrap()
    }

    fn settings(&self) {
        let secrets = &self.secrets;
        secrets.debug(&secret());
        secrets.debug(&tokens());
        secrets.debug(&PerRequest::with_job_tokens(self.keys(), tokens()));
        secrets.debug(&PerRequest::with_audience(self.keys(), AUDIENCE));
        secrets.debug(&self.verifier());
        secrets.debug(&SharedVerifier::from(self.verifier()));
        secrets.debug(&ReplayWindow::default());
        secrets.debug(&Schemes::from(Scheme::V1));
        secrets.debug(&Clock::default());
        secrets.debug(&Random::seeded(7));
        secrets.debug(&clues());
        secrets.debug(&self.google);
        secrets.refusal(tokens().mint_for(&"x".repeat(200)));
        secrets.refusal(Secret::parse(&format!("{SECRET} ")));
    }

    fn verification(&self) {
        let (secrets, verifier) = (&self.secrets, self.verifier());
        let by_uri = JobTokens::callback_uri("/webhook", &self.token);
        let foreign = PerRequest::with_job_tokens(self.keys(), JobTokens::new([8; 32]));
        let foreign = Verifier::builder().per_request(foreign).build().unwrap();
        let audience = PerRequest::with_audience(self.keys(), "another");
        let audience = Verifier::builder().per_request(audience).build().unwrap();
        for sent in &self.deliveries {
            let attempt = sent.into_attempt().unwrap();
            secrets.debug(sent);
            secrets.debug(&attempt);
            secrets.debug(&attempt.with_uri(&by_uri));
            let delivery = verifier.verify(sent, &sent.body).unwrap();
            secrets.debug(&delivery);
            secrets.debug(delivery.event().unwrap());
            delivery.job().iter().for_each(|job| secrets.debug(*job));
            secrets.refusal(delivery.json::<Vec<u8>>());
            secrets.debug(&delivery.into_owned());
            let mut wrong = [sent.clone(), sent.clone(), sent.clone()];
            wrong[0].body.push(b'x');
            wrong[1].id.push('.');
            wrong[2].timestamp = "1".into();
            for sent in wrong.iter().chain([sent]) {
                for verifier in [&verifier, &foreign, &audience] {
                    for uri in ["/webhook", &by_uri] {
                        let attempt = sent.into_attempt().map(|attempt| attempt.with_uri(uri));
                        if let Err(refusal) = verifier.verify(attempt, &sent.body) {
                            secrets.error(&refusal);
                        }
                    }
                    secrets.both(&verifier.diagnose(sent.headers(), &sent.body));
                    let diagnosis = verifier.diagnose_with(&clues(), sent.headers(), &sent.body);
                    diagnosis.findings.iter().for_each(|it| secrets.debug(it));
                    diagnosis.signed_by.iter().for_each(|by| secrets.both(by));
                    secrets.both(&diagnosis);
                }
            }
        }
    }

    fn events(&self) {
        let secrets = &self.secrets;
        for event_type in EventType::KNOWN.iter().chain([&EventType::from("new")]) {
            secrets.both(event_type);
            let json = event(event_type, &self.token).to_string();
            let event: Event = serde_json::from_str(&json).unwrap();
            secrets.debug(&event);
            secrets.debug(&event.data);
            match &event.data {
                EventData::BatchSucceeded(data) => secrets.debug(data),
                EventData::BatchCancelled(data) => secrets.debug(data),
                EventData::BatchExpired(data) => secrets.debug(data),
                EventData::BatchFailed(data) => {
                    secrets.debug(data);
                    secrets.debug(data.error_code.as_ref().unwrap());
                }
                EventData::InteractionRequiresAction(data) => secrets.debug(data),
                EventData::InteractionCompleted(data) => secrets.debug(data),
                EventData::InteractionFailed(data) => secrets.debug(data),
                EventData::InteractionCancelled(data) => secrets.debug(data),
                EventData::VideoGenerated(data) => secrets.debug(data),
                _ => {}
            }
        }
        let signed = "https://storage.googleapis.com/a?key=5up3rs3cr3tkey";
        secrets.debug(&OutputUri::parse(signed).unwrap());
        secrets.refusal(OutputUri::parse(ADDRESS));
    }

    async fn keys_and_sources(&self) {
        let secrets = &self.secrets;
        secrets.debug(&self.keys());
        secrets.debug(&SharedKeySet::from(self.keys()));
        secrets.debug(&Keys::from(self.keys()));
        secrets.debug(&KeyRefresh::default());
        secrets.debug(&Fetched::from(self.google.jwks().into_bytes()));
        secrets.debug(&FetchError::from(ADDRESS).retry_after(Duration::from_secs(1)));
        let inner = io::Error::other(ADDRESS);
        secrets.debug(&FetchError::from(io::Error::other(inner)));
        let unreachable = RefreshedKeys::new(async || Err::<Vec<u8>, _>(io::Error::other(ADDRESS)));
        secrets.debug(&unreachable);
        secrets.refusal(unreachable.refresh().await);
        // A private key where a public one belongs.
        let private = json!({"kty": "OKP", "crv": "Ed25519", "d": JOB_KEY, "x": "short"});
        let mut document: Value = serde_json::from_str(&self.google.jwks()).unwrap();
        document["keys"]
            .as_array_mut()
            .unwrap()
            .push(private.clone());
        let keys = KeySet::from_json(document.to_string().as_bytes()).unwrap();
        keys.skipped()
            .iter()
            .for_each(|skipped| secrets.both(skipped));
        let private = json!({"keys": [private]}).to_string();
        secrets.refusal(KeySet::from_json(private.as_bytes()));
        let unusable = RefreshedKeys::new(move || {
            let private = private.clone().into_bytes();
            async { Ok::<_, String>(private) }
        });
        secrets.refusal(unusable.refresh().await);
    }

    #[cfg(feature = "reqwest")]
    async fn endpoints(&self) {
        use gemini_webhooks::keys::JwksEndpoint;
        let secrets = &self.secrets;
        let endpoint = JwksEndpoint::new("http://127.0.0.1:1/jwks?key=5up3rs3cr3tkey").unwrap();
        secrets.debug(&endpoint);
        secrets.refusal(RefreshedKeys::new(endpoint).refresh().await);
        secrets.refusal(JwksEndpoint::new(ADDRESS));
    }

    #[cfg(feature = "reqwest")]
    async fn api_client(&self) {
        use gemini_webhooks::configure::ApiClient;
        let secrets = &self.secrets;
        let client = ApiClient::new().unwrap();
        secrets.debug(&client);
        let service = WebhookService::new(API_KEY).unwrap();
        let service = service
            .base_url("http://127.0.0.1:1/5up3rs3cr3tkey")
            .unwrap();
        secrets.refusal(client.send(service.list(None, None).unwrap()).await);
        let request = http::Request::get(ADDRESS).body(Vec::new()).unwrap();
        secrets.refusal(client.send(request).await);
    }

    async fn handling(&self) {
        let (secrets, store) = (&self.secrets, MemoryStore::default());
        let builder = Receiver::builder(self.verifier(), store.clone());
        secrets.debug(&builder);
        let receiver = builder.build().unwrap();
        secrets.debug(&receiver);
        // A token that only the URI has: its nonce is a part of the idempotency key.
        let body = sample(&EventType::BatchFailed);
        let sent = Signer::v1a(&self.google).sign("msg_1", now(), body);
        let uri = JobTokens::callback_uri("/webhook", &self.token);
        for fails in [true, false] {
            let handler = async |received: Received<'_>| {
                secrets.debug(&received);
                secrets.debug(received.claim());
                secrets.debug(&ClaimOutcome::New(received.claim().clone()));
                if fails {
                    return Err(io::Error::other(ADDRESS));
                }
                Ok(())
            };
            let attempt = sent.into_attempt().map(|attempt| attempt.with_uri(&uri));
            let reply = receiver.handle(attempt, &sent.body, handler).await;
            assert_eq!(reply.status, if fails { 500 } else { 200 });
            secrets.debug(&reply);
            secrets.debug(&reply.outcome);
            if let Outcome::Failed(error) = &reply.outcome {
                secrets.both(error);
            }
        }
        secrets.debug(&store);
        secrets.debug(&FailingStore::new(store));
        secrets.both(&HandlerError::from(ADDRESS));
    }

    async fn inboxes(&self) {
        let (secrets, store) = (&self.secrets, Shown::default());
        let builder = Inbox::builder(self.verifier(), store.clone());
        secrets.debug(&builder);
        let inbox = builder.build().unwrap();
        secrets.debug(&inbox);
        secrets.debug(&inbox.worker());
        // The nonce of a token that only the URI has is a part of the key, and of the envelope.
        let uri = JobTokens::callback_uri("/webhook", &self.token);
        let body = sample(&EventType::BatchFailed);
        let by_uri = Signer::v1a(&self.google).sign("msg_2", now(), body);
        let no_event = Signer::v1(&secret()).sign("msg_3", now(), ADDRESS);
        for (sent, uri) in [
            (&self.deliveries[0], "/webhook"),
            (&self.deliveries[2], "/webhook"),
            (&by_uri, &*uri),
            (&no_event, "/webhook"),
        ] {
            let attempt = sent.into_attempt().map(|attempt| attempt.with_uri(uri));
            let reply = inbox.accept(attempt, &sent.body).await;
            assert_eq!(reply.status, 200);
            secrets.debug(&reply);
        }
        secrets.debug(&inbox.stats().await.unwrap());
        let stop = async {
            while inbox.stats().await.unwrap().dead < 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let handler = async |received: Received<'static>| {
            secrets.debug(&received);
            Err::<(), _>(io::Error::other(ADDRESS))
        };
        let moment = Duration::from_millis(1);
        let worker = inbox.worker().max_attempts(2).backoff(moment, moment);
        worker.run(handler, stop).await;
        for letter in inbox.dead_letters(0, 10).await.unwrap() {
            secrets.debug(&letter);
            secrets.look("a cause", &letter.cause);
        }
        for value in store.values.lock().unwrap().drain(..) {
            secrets.shown(value);
        }
    }

    async fn stores(&self) {
        let secrets = &self.secrets;
        secrets.debug(&SqliteStore::open(":memory:").unwrap());
        secrets.error(&StoreError::new(ADDRESS));
        let nowhere = "me:hunter2hunter2@127.0.0.1:1";
        let query = "application_name=5up3rs3cr3tkey";
        let postgres = PostgresStore::connect(&format!("postgres://{nowhere}/a?{query}")).unwrap();
        let redis = RedisStore::connect(&format!("redis://{nowhere}/")).unwrap();
        secrets.debug(&postgres);
        secrets.debug(&redis);
        let stores: [&dyn IdempotencyStore; 2] = [&postgres, &redis];
        for store in stores {
            secrets.refusal(store.claim("a", Duration::from_secs(60)).await);
        }
        for url in [ADDRESS, "postgres://me:hunter2hunter2@[/?5up3rs3cr3tkey"] {
            secrets.refusal(PostgresStore::connect(url));
            secrets.refusal(RedisStore::connect(url));
        }
    }

    fn configuration(&self) {
        let secrets = &self.secrets;
        jobs(secrets, &self.token);
        let uri = format!(
            "{}&key=5up3rs3cr3tkey",
            JobTokens::callback_uri("https://a/b", &self.token)
        );
        let service = WebhookService::new(API_KEY).unwrap();
        secrets.debug(&service);
        secrets.refusal(WebhookService::new(&format!("{API_KEY} ")));
        secrets.refusal(service.clone().base_url(ADDRESS));
        let new = NewWebhook::new(&uri).unwrap().name(ADDRESS);
        secrets.debug(&new);
        secrets.refusal(service.create(&new));
        secrets.debug(&WebhookUpdate::default().uri(&uri).unwrap().name(ADDRESS));
        secrets.refusal(WebhookUpdate::default().uri(ADDRESS));
        let config = WebhookConfig::new(&uri).unwrap().job_token(&self.token);
        secrets.debug(&config.user_metadata("any", ADDRESS));

        let webhook = json!({
            "id": "wh_1", "uri": uri, "name": ADDRESS, "state": "new", "new_signing_secret": SECRET,
            "signing_secrets": [{"truncated_secret": FORMER}],
            "other": SECRET, "address": ADDRESS, "token": self.token,
        });
        let page = json!({"webhooks": [webhook], "next_page_token": API_KEY}).to_string();
        let page = WebhookPage::from_response(&http::Response::new(page)).unwrap();
        secrets.debug(&page);
        secrets.both(page.webhooks[0].state.as_ref().unwrap());
        secrets.debug(&page.webhooks[0].signing_secrets[0]);
        let webhook = Webhook::from_response(&http::Response::new(webhook.to_string())).unwrap();
        secrets.debug(&webhook);
        secrets.debug(webhook.new_signing_secret.as_ref().unwrap());
        let rotated = http::Response::new(json!({"secret": SECRET}).to_string());
        secrets.debug(&RotatedSecret::from_response(&rotated).unwrap());
        let states = ["enabled", "new"].map(WebhookState::from);
        for state in &states {
            secrets.both(state);
        }

        let said = format!("{SECRET} {} {ADDRESS}", self.token);
        let refused = json!({"error": {
            "code": 400, "status": said, "message": said,
            "details": [{"address": ADDRESS, "secret": SECRET, said.clone(): [self.token]}],
        }});
        for body in [
            refused.to_string(),
            said,
            json!({"secret": [SECRET]}).to_string(),
        ] {
            for code in [200, 400] {
                let answer = http::Response::builder().status(code).body(&body).unwrap();
                secrets.refusal(RotatedSecret::from_response(&answer));
            }
        }
    }
}

/// Requests and answers about jobs.
fn jobs(secrets: &Secrets, token: &str) {
    use gemini_webhooks::configure::{JobOutput, JobService, JobState, JobStatus, Resource};
    let service = JobService::new(API_KEY).unwrap();
    let job = Resource::batch(token).unwrap();
    secrets.debug(&job);
    secrets.look(
        "a request",
        &format!("{:?}", service.cancel(&Resource::batch("1").unwrap())),
    );
    secrets.debug(&service);
    secrets.refusal(JobService::new(&format!("{API_KEY} ")));
    secrets.refusal(service.clone().base_url(ADDRESS));
    secrets.refusal(service.download(&job));
    secrets.refusal(Resource::parse(SECRET));
    for output in [
        json!({"responsesFile": ADDRESS}),
        json!({"responsesFile": format!("files/{token}")}),
        json!({"inlinedResponses": [[SECRET, token]]}),
    ] {
        let error = json!({"code": token, "message": ADDRESS, "details": [SECRET]});
        let answer = json!({"state": token, "error": error, "response": output});
        let status = JobStatus::from_response(&http::Response::new(answer.to_string())).unwrap();
        secrets.debug::<JobState>(&status.state);
        secrets.debug::<JobOutput>(status.output.as_ref().unwrap());
        secrets.debug(&status);
    }
    let refused = json!({"error": {"code": SECRET, "message": token}}).to_string();
    secrets.refusal(JobStatus::from_response(&http::Response::new(refused)));
}

fn secret() -> Secret {
    Secret::parse(SECRET).unwrap()
}

fn tokens() -> JobTokens {
    JobTokens::parse(JOB_KEY).unwrap()
}

fn clues() -> Clues {
    Clues::default()
        .secret_text(SECRET)
        .secret_text(FORMER)
        .former_secret(Secret::parse(FORMER).unwrap())
}

#[tokio::test]
async fn no_public_type_shows_a_secret() {
    let world = World::new();
    world.settings();
    world.verification();
    world.events();
    world.keys_and_sources().await;
    #[cfg(feature = "reqwest")]
    world.endpoints().await;
    #[cfg(feature = "reqwest")]
    world.api_client().await;
    world.handling().await;
    world.inboxes().await;
    world.stores().await;
    world.configuration();

    // Each of them was looked at.
    let public = public_types(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(public.len() > 70, "{public:?}");
    let mut known = world.secrets.types.into_inner();
    known.extend(WITHOUT_TEXT.map(str::to_owned));
    known.extend(OF_A_SERVER.map(str::to_owned));
    let missing: Vec<_> = public.difference(&known).collect();
    assert!(missing.is_empty(), "show a value of each here: {missing:?}");
    let stale = (WITHOUT_TEXT.into_iter())
        .chain(OF_A_SERVER)
        .filter(|name| !public.contains(*name));
    assert_eq!(stale.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn what_can_not_be_configured_is_not_shown() {
    let secrets = Secrets::of([&SECRET[6..], JOB_KEY]);
    for slip in [
        format!("\"{SECRET}\""),
        format!("{SECRET}\n"),
        format!("v1,{SECRET}"),
        format!("{SECRET}!"),
        format!("{SECRET},{SECRET}"),
        format!("whpk_{}", &SECRET[6..]),
        SECRET.repeat(10),
        SECRET[..20].into(),
    ] {
        secrets.error(&Secret::parse(&slip).unwrap_err());
        secrets.error(&slip.parse::<Secret>().unwrap_err());
        secrets.error(&serde_json::from_value::<Secret>(slip.clone().into()).unwrap_err());
        secrets.error(&JobTokens::parse(&slip).unwrap_err());
        secrets.error(&slip.parse::<JobTokens>().unwrap_err());
        secrets.error(&serde_json::from_value::<JobTokens>(slip.clone().into()).unwrap_err());
        secrets.error(&KeySet::from_public_keys([&slip]).unwrap_err());
    }
    for slip in [&JOB_KEY[..20], &format!("{JOB_KEY}\n")] {
        secrets.error(&JobTokens::parse(slip).unwrap_err());
    }
    let long = "x".repeat(200);
    let error = JobTokens::parse(JOB_KEY).unwrap().mint_for(&long);
    secrets.error(&error.unwrap_err());
}

#[test]
fn a_panic_shows_no_secret() {
    let secrets = Secrets::of([&SECRET[6..]]);
    let keys = SigningKeys::generate();
    let panics: [Box<dyn Fn()>; 2] = [
        Box::new(|| drop(Secret::parse(&format!("{SECRET} ")).unwrap())),
        Box::new(|| drop(keys.sign_ed25519(3, SECRET.as_bytes()))),
    ];
    for panic in panics {
        let payload = catch_unwind(AssertUnwindSafe(panic)).unwrap_err();
        let shown = payload.downcast_ref::<String>().cloned();
        let shown = shown.or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        });
        secrets.look("a panic", &shown.unwrap());
    }
}
