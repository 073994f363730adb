//! A receiver and a sender in one program: real HTTP on loopback, no account, no set-up.
//!
//! `cargo run --example quickstart`
//!
//! Prints what was sent, what the receiver answered and what it understood. The exit status is 1
//! if any answer is not the expected one.

use std::{process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use gemini_webhooks::{
    EventData, EventType, Secret, Verifier,
    testing::{SignedDelivery, Signer, sample},
};
use time::OffsetDateTime;

// This is all that a receiver needs.

fn verifier() -> Result<Verifier, gemini_webhooks::ConfigError> {
    Verifier::builder()
        .secret(Secret::parse(OLD_SECRET)?)
        .secret(Secret::parse(NEW_SECRET)?)
        .build()
}

async fn receive(
    State(verifier): State<Arc<Verifier>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, (StatusCode, String)> {
    let delivery = verifier.verify(&headers, &body).map_err(|refusal| {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        (status, format!("{}: {refusal}", refusal.code()))
    })?;
    let event = delivery
        .event()
        .map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    Ok(understand(event.data))
}

fn understand(data: EventData) -> String {
    match data {
        EventData::BatchSucceeded(batch) => match batch.output_file_uri {
            Some(uri) => format!("{} succeeded, its results are in {uri}", batch.id),
            None => format!("{} succeeded", batch.id),
        },
        EventData::BatchCancelled(batch) => format!("{} was cancelled", batch.id),
        EventData::BatchExpired(batch) => format!("{} was not finished in time", batch.id),
        EventData::BatchFailed(batch) => {
            format!(
                "{} failed: {}",
                batch.id,
                batch.error_message.unwrap_or_default()
            )
        }
        EventData::InteractionRequiresAction(interaction) => {
            format!("{} waits for a function's result", interaction.id)
        }
        EventData::InteractionCompleted(interaction) => format!("{} completed", interaction.id),
        EventData::InteractionFailed(interaction) => match interaction.error_code {
            Some(code) => format!("{} failed: {code}", interaction.id),
            None => format!("{} failed", interaction.id),
        },
        EventData::InteractionCancelled(interaction) => format!("{} was cancelled", interaction.id),
        EventData::VideoGenerated(video) => {
            format!(
                "{} made {}",
                video.id,
                video.output_file_uri.unwrap_or_default()
            )
        }
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

struct Row {
    what: String,
    /// The status, and a part of what the receiver says.
    expected: (u16, &'static str),
    delivery: SignedDelivery,
    /// A header that is left out.
    without: Option<&'static str>,
}

fn rows() -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let [old, new, wrong] = [OLD_SECRET, NEW_SECRET, WRONG_SECRET].map(Secret::parse);
    let (old, new, wrong) = (old?, new?, wrong?);
    let now = OffsetDateTime::now_utc();
    let signer = Signer::v1(&old);
    let succeeded = sample(&EventType::BatchSucceeded);

    let mut rows = Vec::new();
    let mut row = |what: &str, expected, delivery, without| {
        rows.push(Row {
            what: what.to_owned(),
            expected,
            delivery,
            without,
        });
    };
    let news = EventType::from("deep_research.finished");
    for event_type in EventType::KNOWN.iter().chain([&news]) {
        let id = format!("msg_{event_type}").replace('.', "_");
        let expected = match event_type.as_str().split_once('.') {
            Some(("batch", _)) => "batch_123456",
            Some(("interaction", _)) => "interaction_123456",
            Some(("video", _)) => "operation_123456 made gs://my-bucket/video.mp4",
            _ => "deep_research.finished is news to me",
        };
        row(
            event_type.as_str(),
            (200, expected),
            signer.sign(id, now, sample(event_type)),
            None,
        );
    }

    let both = signer.clone().and_v1(&new);
    row(
        "rotation: both secrets",
        (200, "succeeded"),
        both.sign("msg_both", now, &*succeeded),
        None,
    );
    let rotated = Signer::v1(&new).sign("msg_new", now, &*succeeded);
    row(
        "rotation: the new secret alone",
        (200, "succeeded"),
        rotated,
        None,
    );

    let forged = Signer::v1(&wrong).sign("msg_wrong", now, &*succeeded);
    row("a wrong secret", (401, "signature_mismatch"), forged, None);
    let stale = signer.sign("msg_stale", now - Duration::from_secs(412), &*succeeded);
    row("a stale timestamp", (400, "timestamp_too_old"), stale, None);
    let mut tampered = signer.sign("msg_tampered", now, &*succeeded);
    tampered.body = succeeded.replace("my-bucket", "evil-bucket").into();
    row(
        "a tampered body",
        (401, "signature_mismatch"),
        tampered,
        None,
    );
    let whole = signer.sign("msg_headless", now, &*succeeded);
    row(
        "a missing header",
        (400, "missing_header"),
        whole,
        Some("webhook-signature"),
    );
    Ok(rows)
}

async fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let app = Router::new()
        .route("/webhook", post(receive))
        .with_state(Arc::new(verifier()?));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhook", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });

    println!("sending to {url}\n");
    println!("{:<32} {:<6} what the receiver says", "sent", "status");
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()?;
    let mut as_expected = true;
    for row in rows()? {
        let mut request = client.post(&url).body(row.delivery.body.clone());
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
        println!("{:<32} {status:<6} {says}{verdict}", row.what);
    }
    println!(
        "\n{}",
        if as_expected {
            "all as expected"
        } else {
            "NOT as expected"
        }
    );
    Ok(as_expected)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}
