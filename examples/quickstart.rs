//! A receiver and a sender in one program: real HTTP on loopback, no account, no set-up.
//!
//! `cargo run --example quickstart --features reqwest`
//!
//! Prints what was sent, what the receiver answered and what it understood. The exit status is 0 if
//! every answer is the expected one, 1 if one is not, and 2 for any argument but `--help`.

#[path = "support/chain.rs"]
mod chain;
#[path = "support/out.rs"]
mod out;
#[path = "support/usage.rs"]
mod usage;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::request::Parts,
    routing::{get, post},
};
use chain::chain;
use gemini_webhooks::{
    ConfigError, EventData, EventType, JobTokens, PerRequest, Secret, Verifier,
    keys::{JwksEndpoint, RefreshedKeys},
    testing::{Clock, SignedDelivery, Signer, SigningKeys, sample},
};
use out::{note, say};
use serde_json::Value;
use time::OffsetDateTime;

// This is all that a receiver needs.

fn verifier(jwks: &str, clock: &Clock) -> Result<Verifier, ConfigError> {
    let keys = RefreshedKeys::new(JwksEndpoint::new(jwks)?); // or JwksEndpoint::google()?
    let keys = Arc::new(keys.clock(clock.clone())); // for the show alone
    let tokens = JobTokens::new(JOB_KEY);
    let verifier = Verifier::builder()
        .secret(Secret::parse(OLD_SECRET)?)
        .secret(Secret::parse(NEW_SECRET)?)
        .per_request(PerRequest::with_job_tokens(Arc::clone(&keys), tokens))
        .build()?;
    tokio::spawn(async move { keys.run(|error| eprintln!("{error:?}")).await });
    Ok(verifier)
}

async fn receive(
    State(verifier): State<Verifier>,
    parts: Parts,
    body: Bytes,
) -> axum::response::Result<String> {
    let delivery = verifier
        .verify_refreshing(&parts, &body)
        .await
        .map_err(|refusal| refusal.response(format!("{}: {refusal}", refusal.code())))?;
    // No retry makes it readable: it is acknowledged.
    let event = delivery.event().map_err(|error| error.to_string())?;
    let job = delivery
        .job()
        .map(|job| format!(" [job {}]", job.context))
        .unwrap_or_default();
    let scheme = delivery.scheme();
    Ok(format!("{scheme}: {}{job}", understand(&event.data)))
}

fn understand(data: &EventData) -> String {
    match data {
        EventData::BatchSucceeded(batch) => match &batch.output_file_uri {
            Some(uri) => format!("{} succeeded, its results are in {uri}", batch.id),
            None => format!("{} succeeded", batch.id),
        },
        EventData::BatchCancelled(batch) => format!("{} was cancelled", batch.id),
        EventData::BatchExpired(batch) => format!("{} was not finished in time", batch.id),
        EventData::BatchFailed(batch) => match &batch.error_message {
            Some(message) => format!("{} failed: {message}", batch.id),
            None => format!("{} failed", batch.id),
        },
        EventData::InteractionRequiresAction(interaction) => {
            format!("{} waits for a function's result", interaction.id)
        }
        EventData::InteractionCompleted(interaction) => format!("{} completed", interaction.id),
        EventData::InteractionFailed(interaction) => match &interaction.error_code {
            Some(code) => format!("{} failed: {code}", interaction.id),
            None => format!("{} failed", interaction.id),
        },
        EventData::InteractionCancelled(interaction) => format!("{} was cancelled", interaction.id),
        EventData::VideoGenerated(video) => match &video.output_file_uri {
            Some(uri) => format!("{} made {uri}", video.id),
            None => format!("{} made a video", video.id),
        },
        EventData::Unknown { event_type, .. } => {
            format!("{event_type} is news to me: acknowledged")
        }
        _ => "a type that a later version of the crate knows".to_owned(),
    }
}

// What follows plays the service.

const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NEW_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const WRONG_SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl8qS2rSh1";
const JOB_KEY: [u8; 32] = [7; 32];

struct Row {
    what: String,
    /// The status, and a part of what the receiver says.
    expected: (u16, &'static str),
    delivery: SignedDelivery,
    /// A header that is left out.
    without: Option<&'static str>,
    /// What happens before it is sent.
    before: Before,
}

enum Before {
    Nothing,
    Rotate(SigningKeys),
    Skip(Duration),
}

impl Row {
    fn new(what: &str, expected: (u16, &'static str), delivery: SignedDelivery) -> Self {
        Self {
            what: what.to_owned(),
            expected,
            delivery,
            without: None,
            before: Before::Nothing,
        }
    }
}

fn project_level() -> Result<Vec<Row>, ConfigError> {
    let [old, new, wrong] = [OLD_SECRET, NEW_SECRET, WRONG_SECRET].map(Secret::parse);
    let (old, new, wrong) = (old?, new?, wrong?);
    let now = OffsetDateTime::now_utc();
    let signer = Signer::v1(&old);
    let body = sample(&EventType::BatchSucceeded);

    let news = EventType::from("deep_research.finished");
    let each_type = EventType::KNOWN.iter().chain([&news]).map(|event_type| {
        let expected = match event_type.as_str().split_once('.') {
            Some(("batch", _)) => "v1: batch_123456",
            Some(("interaction", _)) => "v1: interaction_123456",
            Some(("video", _)) => "v1: operation_123456 made gs://my-bucket/video.mp4",
            _ => "v1: deep_research.finished is news to me",
        };
        let id = format!("msg_{event_type}").replace('.', "_");
        Row::new(
            event_type.as_str(),
            (200, expected),
            signer.sign(id, now, sample(event_type)),
        )
    });
    let mut rows: Vec<Row> = each_type.collect();

    let both = signer.clone().and_v1(&new).sign("msg_both", now, &*body);
    rows.push(Row::new("rotation: both secrets", (200, "succeeded"), both));
    let rotated = Signer::v1(&new).sign("msg_new", now, &*body);
    rows.push(Row::new(
        "rotation: the new secret alone",
        (200, "succeeded"),
        rotated,
    ));

    let forged = Signer::v1(&wrong).sign("msg_wrong", now, &*body);
    rows.push(Row::new(
        "a wrong secret",
        (401, "signature_mismatch"),
        forged,
    ));
    let stale = signer.sign("msg_stale", now - Duration::from_secs(412), &*body);
    rows.push(Row::new(
        "a stale timestamp",
        (400, "timestamp_too_old"),
        stale,
    ));
    let mut tampered = signer.sign("msg_tampered", now, &*body);
    tampered.body = body.replace("my-bucket", "evil-bucket").into();
    rows.push(Row::new(
        "a tampered body",
        (401, "signature_mismatch"),
        tampered,
    ));
    let whole = signer.sign("msg_headless", now, &*body);
    let mut headless = Row::new("a missing header", (400, "missing_header"), whole);
    headless.without = Some("webhook-signature");
    rows.push(headless);
    Ok(rows)
}

fn per_request(google: &SigningKeys) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let now = OffsetDateTime::now_utc();
    let body = |tokens: &JobTokens, job: &str| {
        let mut event: Value = serde_json::from_str(&sample(&EventType::VideoGenerated))?;
        event["user_metadata"] = JobTokens::user_metadata(&tokens.mint_for(job)?).into();
        Ok::<_, Box<dyn std::error::Error>>(event.to_string())
    };
    let ours = body(&JobTokens::new(JOB_KEY), "trailer")?;
    let theirs = body(&JobTokens::new([8; 32]), "trailer")?;
    let jwt = Signer::jwt(google, "https://example.com/webhook");

    let mut rows = Vec::new();
    let sent = Signer::v1a(google).sign("msg_v1a", now, &*ours);
    rows.push(Row::new(
        "a job of ours, Ed25519",
        (200, "v1a: operation_123456 made"),
        sent,
    ));
    let sent = jwt.sign("msg_jwt", now, &*ours);
    rows.push(Row::new("a job of ours, JWT", (200, "[job trailer]"), sent));
    for (what, signer) in [("Ed25519", &Signer::v1a(google)), ("JWT", &jwt)] {
        let what = format!("another customer's job, {what}");
        let sent = signer.sign("msg_foreign", now, &*theirs);
        rows.push(Row::new(&what, (403, "unknown_origin"), sent));
    }
    let mut swapped = jwt.sign("msg_swapped", now, &*ours);
    swapped.body = ours.replace("my-bucket", "evil-bucket").into();
    rows.push(Row::new(
        "a JWT beside another body",
        (401, "body_not_bound"),
        swapped,
    ));

    let next = SigningKeys::generate();
    let sent = Signer::v1a(&next).sign("msg_next", now, &*ours);
    let mut early = Row::new(
        "new keys, right after a fetch",
        (401, "signature_mismatch"),
        sent.clone(),
    );
    early.before = Before::Rotate(next);
    rows.push(early);
    let mut later = Row::new(
        "new keys, half a minute later",
        (200, "[job trailer]"),
        sent,
    );
    later.before = Before::Skip(Duration::from_secs(30));
    rows.push(later);
    let sent = Signer::v1a(google).sign("msg_gone", now, &*ours);
    rows.push(Row::new(
        "a key that is gone",
        (401, "signature_mismatch"),
        sent,
    ));
    Ok(rows)
}

async fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let google = Arc::new(Mutex::new(SigningKeys::generate()));
    let published = Arc::clone(&google);
    let current = move || {
        published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    };
    let jwks = {
        let current = current.clone();
        get(move || async move { current().jwks() })
    };
    // Moved by hand, so that nobody has to wait for a cool-down.
    let clock = Clock::manual(OffsetDateTime::now_utc());
    let router = Router::new()
        .route("/webhook", post(receive))
        .with_state(verifier(&format!("{base}/jwks.json"), &clock)?)
        .route("/jwks.json", jwks);
    tokio::spawn(async move { axum::serve(listener, router).await });

    say(format_args!(
        "the receiver is at {base}/webhook, the keys are at {base}/jwks.json\n"
    ));
    say(format_args!(
        "{:<32} {:<6} what the receiver says",
        "sent", "status"
    ));
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()?;
    let mut as_expected = true;
    for row in project_level()?.into_iter().chain(per_request(&current())?) {
        match row.before {
            Before::Nothing => {}
            Before::Rotate(keys) => *google.lock().unwrap_or_else(PoisonError::into_inner) = keys,
            Before::Skip(time) => clock.advance(time),
        }
        let mut request = client
            .post(format!("{base}/webhook"))
            .body(row.delivery.body.clone());
        for (name, value) in row.delivery.headers() {
            if row.without != Some(name) {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await?;
        let (status, says) = (answer.status().as_u16(), answer.text().await?);
        let right = status == row.expected.0 && says.contains(row.expected.1);
        let verdict = if right { "" } else { "  <-- NOT EXPECTED" };
        as_expected &= right;
        say(format_args!("{:<32} {status:<6} {says}{verdict}", row.what));
    }
    say(if as_expected {
        "\nall as expected"
    } else {
        "\nNOT as expected"
    });
    Ok(as_expected)
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(answered) = usage::usage(include_str!("quickstart.rs")) {
        return answered;
    }
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            note(format_args!("quickstart: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}
