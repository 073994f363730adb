//! Plays Google for local development: signs events, sends them, and sends them again until they
//! are acknowledged.
//!
//! `cargo run --example sender -- --secret whsec_... batch.succeeded`
//!
//! Signs with the secret that the receiver has (`--secret`, or `GEMINI_WEBHOOK_SECRETS` as in the
//! receiver), or (`--scheme v1a`, `--scheme jwt`) with keys that it
//! makes and publishes at `http://127.0.0.1:PORT/jwks.json` (`--jwks-port PORT`): point the
//! receiver's key set there. An attempt that gets no 2xx within 10 s is made again, later and
//! later, for 24 hours: the same id, a fresh timestamp and signature.
//!
//! Prints a line for each attempt. The exit status is 0 if everything was acknowledged, 1 if not, 2
//! for arguments or settings that make no sense.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;
#[path = "support/secrets.rs"]
mod secrets;

use std::{
    error::Error as StdError,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chain::chain;
use clap::{CommandFactory as _, Parser, ValueEnum, error::ErrorKind};
use futures_util::{StreamExt as _, stream};
use gemini_webhooks::{
    EventType, JobTokens, Secret,
    testing::{Signer, SigningKeys, sample},
};
use indicatif::{ProgressBar, ProgressStyle};
use out::{note, say};
use serde_json::{Map, Value};
use time::OffsetDateTime;

type BoxError = Box<dyn StdError + Send + Sync>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// "Within a few seconds", says Google's guide.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends signed events to a webhook receiver, as the Gemini API does
///
/// The exit status is 0 if everything was acknowledged, 1 if not, 2 for arguments or settings that
/// make no sense.
#[expect(clippy::doc_markdown, reason = "clap shows it as it is")]
#[derive(Parser)]
#[command(name = "sender", version)]
struct Options {
    /// The type of the event, such as video.generated; any other name makes an unknown type
    #[arg(default_value = "batch.succeeded")]
    event_type: EventType,

    /// Where to send it
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8787/webhook"
    )]
    to: reqwest::Url,

    /// The signing secret (whsec_...), or several, which sign as during a rotation [default: those in
    /// GEMINI_WEBHOOK_SECRETS and GEMINI_WEBHOOK_SECRETS_FILE]
    // Parsed later on: clap would print what it can't parse.
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,

    /// How to sign: with the secret (v1), or as for per-request webhooks (v1a, jwt)
    #[arg(long, value_enum, default_value_t = Scheme::V1)]
    scheme: Scheme,

    /// Publishes the keys of v1a and jwt at http://127.0.0.1:PORT/jwks.json
    #[arg(long, value_name = "PORT")]
    jwks_port: Option<u16>,

    /// The audience of a JWT [default: where it is sent]
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,

    /// The event's `data` [default: a sample of the type's]
    #[arg(long, value_name = "JSON", value_parser = object)]
    data: Option<Map<String, Value>>,

    /// The event's `user_metadata`
    #[arg(long, value_name = "JSON", value_parser = object)]
    user_metadata: Option<Map<String, Value>>,

    /// Puts a job token of this key (base64 of at least 32 bytes) into the `user_metadata`
    #[arg(
        long,
        value_name = "KEY",
        env = "GEMINI_WEBHOOK_JOB_KEY",
        hide_env_values = true
    )]
    job_token_key: Option<String>,

    /// The id of the (first) delivery [default: a new one]
    #[arg(long, value_name = "TEXT")]
    id: Option<String>,

    /// How many deliveries to send, each with an id of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    count: u64,

    /// How many of them at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    concurrency: usize,

    /// Sends each once more after it was acknowledged
    #[arg(long)]
    duplicate: bool,

    /// Changes the body after it was signed
    #[arg(long)]
    tamper: bool,

    /// Puts the timestamps so far ahead, or back
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    skew: i64,

    /// Makes the waits between attempts shorter: 8640 makes 10 seconds of a day
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    clock_speed: f64,

    /// Gives up after so many attempts, and not only after 24 hours
    #[arg(long, value_name = "NUMBER")]
    max_attempts: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scheme {
    V1,
    V1a,
    Jwt,
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok();
    speed
        .filter(|speed| (1.0..=1e9).contains(speed))
        .ok_or_else(|| "expected a number from 1 to 1000000000".to_owned())
}

struct Sender {
    options: Options,
    signer: Signer,
    body: Vec<u8>,
    client: reqwest::Client,
    bar: ProgressBar,
    attempts: AtomicU64,
}

impl Sender {
    fn new(options: Options, signer: Signer, body: Vec<u8>) -> Result<Self, BoxError> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none());
        let bar = match options.count {
            1 => ProgressBar::hidden(),
            count => ProgressBar::new(count).with_style(ProgressStyle::with_template(
                "{bar:40} {pos}/{len} acknowledged or given up, {per_sec}, {eta} left",
            )?),
        };
        Ok(Self {
            options,
            signer,
            body,
            client: client.build()?,
            bar,
            attempts: AtomicU64::new(0),
        })
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }

    /// Returns true if it was acknowledged. `attempt` is the number of the last attempt for this id.
    async fn deliver(&self, id: &str, attempt: &mut u32) -> bool {
        let begun = Instant::now();
        let before = *attempt;
        let mut wait = FIRST_WAIT;
        loop {
            let (acknowledged, answer) = self.attempt(id).await;
            self.attempts.fetch_add(1, Ordering::Relaxed);
            *attempt += 1;
            if acknowledged {
                self.say(&format!("{id} attempt {attempt}: {answer}"));
                return true;
            }
            // Somewhere between the half and the whole of it, so that not all come at once.
            let jittered = wait.mul_f64(0.5 + random() / 2.0);
            let passed = begun.elapsed().mul_f64(self.options.clock_speed);
            let last = self
                .options
                .max_attempts
                .is_some_and(|most| *attempt - before >= most);
            if last || passed + jittered > DAY {
                self.say(&format!("{id} attempt {attempt}: {answer}: given up"));
                return false;
            }
            let real = jittered.div_f64(self.options.clock_speed);
            self.say(&format!(
                "{id} attempt {attempt}: {answer}: again in {real:.1?}"
            ));
            tokio::time::sleep(real).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Whether it got a 2xx, and what it got.
    async fn attempt(&self, id: &str) -> (bool, String) {
        let now = OffsetDateTime::now_utc();
        let now = now.checked_add(time::Duration::seconds(self.options.skew));
        let mut sent = self.signer.sign(
            id,
            now.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            self.body.clone(),
        );
        if self.options.tamper {
            sent.body.push(b' ');
        }
        let mut request = self
            .client
            .post(self.options.to.clone())
            .header("content-type", "application/json");
        for (name, value) in sent.headers() {
            request = request.header(name, value);
        }
        let begun = Instant::now();
        let answer = async {
            let answer = request.body(sent.body).send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        match answer.await {
            Ok((status, text)) => {
                let text: String = text.trim().chars().take(200).collect();
                let took = begun.elapsed();
                (
                    status.is_success(),
                    format!("{} in {took:.1?} {text}", status.as_u16()),
                )
            }
            Err(error) if error.is_timeout() => {
                (false, format!("no answer within {} s", PATIENCE.as_secs()))
            }
            // The query of an address may hold a job token.
            Err(error) => (false, chain(&error.without_url())),
        }
    }

    /// Whether all were acknowledged.
    async fn run(&self) -> bool {
        let (first, count) = (self.options.id.clone(), self.options.count);
        let first = first.unwrap_or_else(|| format!("msg_{:016x}", bits()));
        let deliveries = stream::iter(0..count).map(async |number| {
            let id = match number {
                0 => first.clone(),
                _ => format!("{first}-{number}"),
            };
            let mut attempt = 0;
            let mut acknowledged = self.deliver(&id, &mut attempt).await;
            if acknowledged && self.options.duplicate {
                acknowledged = self.deliver(&id, &mut attempt).await;
            }
            self.bar.inc(1);
            acknowledged
        });
        let deliveries = deliveries.buffer_unordered(self.options.concurrency.max(1));
        let acknowledged = deliveries
            .filter(|acknowledged| std::future::ready(*acknowledged))
            .count()
            .await as u64;
        self.bar.finish_and_clear();
        if count > 1 {
            let attempts = self.attempts.load(Ordering::Relaxed);
            say(format_args!(
                "{acknowledged} of {count} acknowledged, in {attempts} attempts"
            ));
        }
        acknowledged == count
    }
}

/// The secrets of the arguments, or else of the environment.
fn secrets(options: &Options) -> Result<Vec<Secret>, BoxError> {
    if options.secret.is_empty() {
        let found = secrets::from_env()?.into_iter();
        let parsed = found.map(|(place, text)| {
            Secret::parse(&text).map_err(|error| format!("{place}: {error}").into())
        });
        return parsed.collect();
    }
    let given = options.secret.iter();
    given.map(|text| Ok(Secret::parse(text)?)).collect()
}

fn signer(options: &Options, keys: &SigningKeys) -> Result<Signer, BoxError> {
    match options.scheme {
        Scheme::V1 => {
            let secrets = secrets(options)?;
            let (first, others) = secrets
                .split_first()
                .ok_or("--scheme v1 needs a --secret, or GEMINI_WEBHOOK_SECRETS")?;
            Ok(others.iter().fold(Signer::v1(first), Signer::and_v1))
        }
        _ if options.jwks_port.is_none() => Err(
            "--scheme v1a and jwt need --jwks-port: where else would the receiver find the keys?"
                .into(),
        ),
        Scheme::V1a => Ok(Signer::v1a(keys)),
        Scheme::Jwt => {
            let audience = options.audience.as_deref();
            Ok(Signer::jwt(keys, audience.unwrap_or(options.to.as_str())))
        }
    }
}

/// The event, the same for all deliveries.
fn body(options: &Options) -> Result<Vec<u8>, BoxError> {
    let mut event: Map<String, Value> = serde_json::from_str(&sample(&options.event_type))?;
    if let Some(data) = &options.data {
        event.insert("data".into(), data.clone().into());
    }
    let mut metadata = options.user_metadata.clone().unwrap_or_default();
    if let Some(key) = &options.job_token_key {
        let token = JobTokens::parse(key)?.mint_for("sender")?;
        metadata.extend(JobTokens::user_metadata(&token));
    }
    if !metadata.is_empty() {
        event.insert("user_metadata".into(), metadata.into());
    }
    Ok(serde_json::to_vec(&event)?)
}

/// Random enough for ids and waits: the standard library's hasher has a random key.
fn bits() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(Instant::now())
}

/// From 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "as precise as it need be")]
fn random() -> f64 {
    bits() as f64 / u64::MAX as f64
}

/// The keys, for as long as this program runs.
async fn publish(keys: &SigningKeys, port: u16) -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    say(format_args!(
        "keys are at http://{}/jwks.json",
        listener.local_addr()?
    ));
    let document = Arc::<str>::from(keys.jwks());
    let answer = move || {
        let document = document.to_string();
        async move { ([("content-type", "application/json")], document) }
    };
    let router = axum::Router::new().route("/jwks.json", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

async fn run(
    options: Options,
    keys: &SigningKeys,
    signer: Signer,
    body: Vec<u8>,
) -> Result<bool, BoxError> {
    if let Some(port) = options.jwks_port {
        publish(keys, port).await?;
    }
    Ok(Sender::new(options, signer, body)?.run().await)
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let keys = SigningKeys::generate();
    let prepared = signer(&options, &keys).and_then(|signer| Ok((signer, body(&options)?)));
    let (signer, body) = prepared.unwrap_or_else(|misuse| {
        Options::command()
            .error(ErrorKind::ValueValidation, misuse)
            .exit()
    });
    match run(options, &keys, signer, body).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            note(format_args!("sender: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}
