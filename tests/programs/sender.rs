use super::*;

use std::sync::{Arc, Mutex};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use gemini_webhooks::{IntoAttempt, JobTokens, PerRequest, Scheme, Verifier, keys::KeySet};

/// What a server got, and with which status it answers: the first of them, then the next, and the
/// last for ever.
#[derive(Clone)]
struct Server {
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    statuses: &'static [u16],
    url: String,
}

impl Server {
    async fn start(statuses: &'static [u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            got: Arc::default(),
            statuses,
            url: format!("http://{}/webhook", listener.local_addr().unwrap()),
        };
        let router = axum::Router::new()
            .route("/webhook", post(answer))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    fn got(&self) -> Vec<(HeaderMap, Bytes)> {
        self.got.lock().unwrap().clone()
    }

    /// The ids of what it got, in order.
    fn ids(&self) -> Vec<String> {
        let ids = self.got().into_iter();
        ids.map(|(headers, _)| headers["webhook-id"].to_str().unwrap().to_owned())
            .collect()
    }
}

async fn answer(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut got = server.got.lock().unwrap();
    let status = server.statuses.get(got.len());
    let status = status.or(server.statuses.last()).unwrap();
    got.push((headers, body));
    StatusCode::from_u16(*status).unwrap()
}

/// What it prints, and its status.
async fn send(to: &str, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = example("sender");
    let output = output(command.args(["--to", to]).args(arguments)).await;
    let shown = [output.stdout, output.stderr].concat();
    (String::from_utf8(shown).unwrap(), output.status.code())
}

fn verifier() -> Verifier {
    let secret = Secret::parse(SECRET).unwrap();
    Verifier::builder().secret(secret).build().unwrap()
}

#[tokio::test]
async fn sender_sends_every_type_signed() {
    let server = Server::start(&[204]).await;
    let types = EventType::KNOWN.iter().map(EventType::as_str);
    for event_type in types.chain(["some.other"]) {
        let (shown, status) = send(&server.url, &["--secret", SECRET, event_type]).await;
        assert_eq!(status, Some(0), "{shown}");
        assert!(shown.contains("attempt 1: 204"), "{shown}");
        let (headers, body) = server.got().pop().unwrap();
        let delivery = verifier().verify(&headers, &body).unwrap();
        let sent = delivery.event().unwrap().event_type();
        assert_eq!(sent.as_str(), event_type);
        assert_eq!(headers["content-type"], "application/json");
    }
    assert_eq!(server.got().len(), 10);
}

#[tokio::test]
async fn sender_retries_with_the_same_id_and_a_fresh_signature() {
    let server = Server::start(&[500, 301, 404, 200]).await;
    let arguments = ["--secret", SECRET, "--id", "msg_7", "--duplicate"];
    let (shown, status) = send(&server.url, &arguments).await;
    assert_eq!(status, Some(0), "{shown}");
    assert_eq!(server.ids(), vec!["msg_7"; 5], "{shown}");
    let mut timestamps = Vec::new();
    for (headers, body) in server.got() {
        let delivery = verifier().verify(&headers, &body).unwrap();
        timestamps.push(delivery.attempted_at());
    }
    // They wait for half a second, a second and two seconds at least.
    assert!(timestamps[2] > timestamps[0], "{timestamps:?}");
    assert!(timestamps[3] > timestamps[2], "{timestamps:?}");
    assert!(timestamps.is_sorted(), "{timestamps:?}");
    for (attempt, answer) in [(1, 500), (2, 301), (3, 404), (4, 200), (5, 200)] {
        let line = format!("msg_7 attempt {attempt}: {answer}");
        assert!(shown.contains(&line), "{shown}");
    }
}

#[tokio::test]
async fn sender_gives_up_after_a_day_of_its_clock() {
    let server = Server::start(&[503]).await;
    let arguments = ["--secret", SECRET, "--clock-speed", "86400"];
    let (shown, status) = send(&server.url, &arguments).await;
    assert_eq!(status, Some(1), "{shown}");
    assert!(
        shown.lines().last().unwrap().ends_with("given up"),
        "{shown}"
    );
    // The waits double to an hour, each between the half and the whole of it: a day has room for
    // these, were the attempts themselves to take no time.
    let attempts = server.got().len();
    assert!((10..=60).contains(&attempts), "{attempts} attempts");

    let arguments = ["--secret", SECRET, "--max-attempts", "2"];
    let (shown, status) = send("http://127.0.0.1:1/", &arguments).await;
    assert_eq!(status, Some(1), "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("refused"), "{shown}");
}

#[tokio::test]
async fn sender_sends_several_at_a_time() {
    let server = Server::start(&[200]).await;
    let arguments = ["--secret", SECRET, "--count", "20", "--concurrency", "4"];
    let (shown, status) = send(&server.url, &arguments).await;
    assert_eq!(status, Some(0), "{shown}");
    let mut ids = server.ids();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    let last = shown.lines().last().unwrap();
    assert_eq!(last, "20 of 20 acknowledged, in 20 attempts");
}

#[tokio::test]
async fn sender_sends_what_is_to_be_refused() {
    let server = Server::start(&[200]).await;
    for (arguments, code) in [
        (&["--tamper"] as &[&str], "signature_mismatch"),
        (&["--skew", "-600"], "timestamp_too_old"),
        (&["--skew", "600"], "timestamp_too_new"),
        (&["--secret", OTHER], ""),
    ] {
        let arguments = [arguments, &["--secret", SECRET]].concat();
        let (shown, _) = send(&server.url, &arguments).await;
        let (headers, body) = server.got().pop().unwrap();
        let refusal = verifier().verify(&headers, &body).err();
        let refusal = refusal.as_ref().map_or("", gemini_webhooks::Error::code);
        assert_eq!(refusal, code, "{shown}");
    }
}

#[tokio::test]
async fn sender_sends_the_event_that_it_is_told_to() {
    let server = Server::start(&[200]).await;
    let arguments = [
        "--secret",
        SECRET,
        "--data",
        r#"{"id":"b","more":[1]}"#,
        "--user-metadata",
        r#"{"k":"v"}"#,
        "--job-token-key",
        JOB_KEY,
        "batch.expired",
    ];
    let (shown, _) = send(&server.url, &arguments).await;
    let (_, body) = server.got().pop().expect(&shown);
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["type"], "batch.expired");
    assert_eq!(event["data"], json!({"id": "b", "more": [1]}));
    assert_eq!(event["user_metadata"]["k"], "v");
    assert!(event["user_metadata"][JobTokens::MEMBER].is_string());
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// It publishes keys and sends to a receiver that looks there for them.
#[tokio::test]
async fn sender_plays_google_for_per_request_webhooks() {
    let server = Server::start(&[200]).await;
    for scheme in [Scheme::V1a, Scheme::Jwt] {
        let port = free_port().to_string();
        let jwks = format!("http://127.0.0.1:{port}/jwks.json");
        let receiver = Receiver::start(&[
            ("GEMINI_WEBHOOK_JWKS", &jwks),
            ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
        ])
        .await;
        let to = format!("http://{}/webhook", receiver.address);
        let arguments = [
            "--scheme",
            scheme.as_str(),
            "--jwks-port",
            &port,
            "--job-token-key",
            JOB_KEY,
        ];
        let (shown, status) = send(&to, &arguments).await;
        assert_eq!(status, Some(0), "{shown}");
        assert!(shown.contains(&format!("keys are at {jwks}")), "{shown}");
        assert!(shown.contains("\"job\":\"sender\""), "{shown}");

        // What it signs is not just anything.
        let (shown, _) = send(&server.url, &arguments).await;
        let (headers, body) = server.got().pop().expect(&shown);
        assert!((&headers).into_attempt().is_ok());
        let keys = KeySet::from_json(SigningKeys::generate().jwks().as_bytes()).unwrap();
        let others = PerRequest::any_sender(keys);
        let others = Verifier::builder().per_request(others).build().unwrap();
        let refusal = others.verify(&headers, &body).unwrap_err();
        assert!(refusal.is_refreshable(), "{refusal}");
    }
}

#[tokio::test]
async fn sender_refuses_bad_arguments_and_shows_no_secret() {
    let quoted = format!("\"{SECRET}\"");
    let secret = ["--secret", SECRET];
    for (arguments, expected) in [
        (
            &[] as &[&str],
            "needs a --secret, or GEMINI_WEBHOOK_SECRETS",
        ),
        (&["--secret", &quoted], "quotation marks"),
        (&["--scheme", "v1a"], "--jwks-port"),
        (&["--scheme", "v2"], "v1a"),
        (&["--secret", SECRET, "--data", "[]"], "not a JSON object"),
        (
            &["--secret", SECRET, "--job-token-key", "C2FV"],
            "shorter than 32",
        ),
        (&["--secret", SECRET, "--clock-speed", "0"], "from 1 to"),
        (&["--secret", SECRET, "--skew", "soon"], "--skew"),
    ] {
        let (shown, status) = send("http://127.0.0.1:1/", arguments).await;
        assert!(shown.contains(expected), "{shown}");
        assert_eq!(status, Some(2), "{shown}");
        assert!(!shown.contains("C2FV"), "{shown}");
    }
    let (shown, status) = send("nowhere", &secret).await;
    assert_eq!(status, Some(2), "{shown}");
    let help = output(
        example("sender")
            .arg("--help")
            .env("GEMINI_WEBHOOK_SECRETS", SECRET),
    )
    .await;
    let help = String::from_utf8(help.stdout).unwrap();
    for option in [
        "--to",
        "--secret",
        "--scheme",
        "--jwks-port",
        "--user-metadata",
        "--job-token-key",
        "--data",
        "--count",
        "--duplicate",
        "--tamper",
        "--skew",
        "--clock-speed",
    ] {
        assert!(help.contains(option), "{option}: {help}");
    }
    assert!(!help.contains("C2FV"), "{help}");
}
