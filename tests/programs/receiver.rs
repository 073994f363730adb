use super::*;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn receiver_answers_and_logs_each_delivery() {
    let secrets = format!("{OTHER}, {SECRET}");
    let mut receiver = Receiver::start(&[("GEMINI_WEBHOOK_SECRETS", &secrets)]).await;

    let accepted =
        json!({"status": "processed", "id": "msg_1", "type": "video.generated", "scheme": "v1"});
    let sent = delivery("video.generated");
    assert_eq!(
        receiver.send(receiver.request(&sent)).await,
        (200, accepted.clone())
    );
    let mut line = accepted.clone();
    line["http"] = 200.into();
    assert_eq!(receiver.line().await, line);
    let mut duplicate = accepted;
    duplicate["status"] = "duplicate".into();
    assert_eq!(
        receiver.send(receiver.request(&sent)).await,
        (200, duplicate)
    );
    assert_eq!(receiver.line().await["status"], "duplicate");

    let mut tampered = delivery("batch.failed");
    tampered.body.push(b' ');
    let (status, answer) = receiver.send(receiver.request(&tampered)).await;
    assert_eq!(
        (status, &answer["status"], &answer["code"]),
        (401, &json!("rejected"), &json!("signature_mismatch"))
    );
    assert!(answer["message"].as_str().unwrap().contains("raw body"));
    assert_eq!(receiver.line().await["code"], "signature_mismatch");

    let mut stale = delivery("batch.failed");
    stale.timestamp = "1".into();
    assert_eq!(
        receiver.send(receiver.request(&stale)).await.1["code"],
        "timestamp_too_old"
    );
    let twice = receiver.request(&sent).header("Webhook-Id", "msg_1");
    let (status, answer) = receiver.send(twice).await;
    assert_eq!((status, &answer["code"]), (400, &json!("duplicate_header")));

    let secret = Secret::parse(SECRET).unwrap();
    let unreadable = Signer::v1(&secret).sign("msg_2", OffsetDateTime::now_utc(), *b"\xff");
    let (status, answer) = receiver.send(receiver.request(&unreadable)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("set_aside")));
    assert_eq!(answer["id"], "msg_2");

    let mut large = sent.clone();
    large.body = vec![b' '; (1 << 20) + 1];
    let (status, answer) = receiver.send(receiver.request(&large)).await;
    assert_eq!((status, &answer["code"]), (413, &json!("body_too_large")));

    let health = receiver
        .client
        .get(format!("http://{}/healthz", receiver.address));
    assert_eq!(health.send().await.unwrap().status(), 200);
    let get = receiver
        .client
        .get(format!("http://{}/webhook", receiver.address));
    assert_eq!(get.send().await.unwrap().status(), 405);
}

#[cfg(unix)]
#[tokio::test]
async fn receiver_answers_the_request_at_hand_and_stops() {
    for signal in ["-TERM", "-INT"] {
        let mut receiver = Receiver::start(&[("GEMINI_WEBHOOK_SECRETS", SECRET)]).await;
        let sent = delivery("batch.failed");
        let mut stream = TcpStream::connect(&receiver.address).await.unwrap();
        let mut head = format!(
            "POST /webhook HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n",
            sent.body.len()
        );
        for (name, value) in sent.headers() {
            head.extend([name, ": ", value, "\r\n"]);
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .await
            .unwrap();
        let mut go_on = [0; 25];
        timeout(PATIENCE, stream.read_exact(&mut go_on))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

        receiver.signal(signal);
        // The server stops to listen first; then the rest arrives.
        while TcpStream::connect(&receiver.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(&sent.body).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(exits(&mut receiver.child).await.code(), Some(0), "{signal}");
    }
}
fn per_request(signer: &Signer, job: Option<&str>) -> SignedDelivery {
    let mut event: Value = serde_json::from_str(&sample(&EventType::BatchFailed)).unwrap();
    if let Some(job) = job {
        let token = JobTokens::parse(JOB_KEY).unwrap().mint_for(job).unwrap();
        event["user_metadata"] = JobTokens::user_metadata(&token).into();
    }
    signer.sign("msg_1", OffsetDateTime::now_utc(), event.to_string())
}

#[tokio::test]
async fn receiver_takes_per_request_deliveries_of_our_own_jobs() {
    let google = SigningKeys::generate();
    let file = JwksFile::new("ours");
    file.publish(&google);
    let receiver = Receiver::start(&[
        ("GEMINI_WEBHOOK_JWKS", file.path()),
        ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
    ])
    .await;
    for (signer, scheme) in [
        (Signer::v1a(&google), "v1a"),
        (Signer::jwt(&google, AUDIENCE), "jwt"),
    ] {
        let ours = per_request(&signer, Some("nightly"));
        let accepted = json!({
            "status": "processed", "id": "msg_1", "type": "batch.failed", "scheme": scheme, "job": "nightly",
        });
        assert_eq!(
            receiver.send(receiver.request(&ours)).await,
            (200, accepted)
        );
        let foreign = per_request(&signer, None);
        let (status, answer) = receiver.send(receiver.request(&foreign)).await;
        assert_eq!((status, &answer["code"]), (403, &json!("unknown_origin")));
    }
    let token = JobTokens::parse(JOB_KEY).unwrap().mint_for("hourly");
    let uri = JobTokens::callback_uri("/webhook", &token.unwrap());
    let sent = per_request(&Signer::v1a(&google), None);
    let (status, answer) = receiver.send(receiver.request_to(&uri, &sent)).await;
    assert_eq!((status, &answer["job"]), (200, &json!("hourly")));
    let project_level = delivery("batch.failed");
    let (status, answer) = receiver.send(receiver.request(&project_level)).await;
    assert_eq!((status, &answer["code"]), (401, &json!("no_usable_scheme")));
    assert_eq!(receiver.readiness().await, 200);
}

#[tokio::test]
async fn receiver_checks_the_audience_of_jwts() {
    let google = SigningKeys::generate();
    let file = JwksFile::new("audience");
    file.publish(&google);
    let v1a = per_request(&Signer::v1a(&google), None);
    let ours = per_request(&Signer::jwt(&google, AUDIENCE), None);
    let foreign = per_request(&Signer::jwt(&google, "https://example.org"), None);
    let audience = ("GEMINI_WEBHOOK_AUDIENCE", AUDIENCE);
    let any_sender = ("GEMINI_WEBHOOK_ACCEPT_ANY_SENDER", "1");
    for (settings, statuses) in [
        (vec![audience], [403, 200, 401]),
        (vec![audience, any_sender], [200, 200, 401]),
    ] {
        let mut variables = vec![
            ("GEMINI_WEBHOOK_JWKS", file.path()),
            ("GEMINI_WEBHOOK_SECRETS", SECRET),
        ];
        variables.extend(settings);
        let receiver = Receiver::start(&variables).await;
        for (sent, expected) in [&v1a, &ours, &foreign].into_iter().zip(statuses) {
            assert_eq!(receiver.send(receiver.request(sent)).await.0, expected);
        }
        assert_eq!(
            receiver
                .send(receiver.request(&delivery("batch.failed")))
                .await
                .0,
            200
        );
    }
}

#[tokio::test]
async fn receiver_fetches_keys_from_an_address_and_keeps_them() {
    let google = SigningKeys::generate();
    let document = google.jwks();
    let app = axum::Router::new().route("/jwks.json", axum::routing::get(|| async { document }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let any_sender = ("GEMINI_WEBHOOK_ACCEPT_ANY_SENDER", "1");
    let receiver = Receiver::start(&[("GEMINI_WEBHOOK_JWKS", &url), any_sender]).await;
    let sent = per_request(&Signer::v1a(&google), None);
    assert_eq!(receiver.send(receiver.request(&sent)).await.0, 200);
    server.abort();
    assert_eq!(receiver.send(receiver.request(&sent)).await.0, 200);
}

#[tokio::test]
async fn receiver_starts_without_keys_and_keeps_trying() {
    let google = SigningKeys::generate();
    let file = JwksFile::new("late");
    let receiver = Receiver::start(&[
        ("GEMINI_WEBHOOK_JWKS", file.path()),
        ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
        ("GEMINI_WEBHOOK_SECRETS", SECRET),
    ])
    .await;
    let sent = per_request(&Signer::v1a(&google), Some("nightly"));
    let answer = receiver.request(&sent).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let wait: u64 = answer.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait));
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(answer["code"], "keys_unavailable");
    assert_eq!(receiver.readiness().await, 503);
    assert_eq!(
        receiver
            .send(receiver.request(&delivery("batch.failed")))
            .await
            .0,
        200
    );

    file.publish(&google);
    let accepted = async {
        while receiver.send(receiver.request(&sent)).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, accepted)
        .await
        .expect("it has stopped trying");
    assert_eq!(receiver.readiness().await, 200);
}

#[tokio::test]
async fn receiver_refuses_bad_settings_in_one_line() {
    let truncated = format!("{SECRET},whsec_...3frh");
    let jwks = ("GEMINI_WEBHOOK_JWKS", "/nowhere/jwks.json");
    for (variables, expected) in [
        (
            vec![],
            "neither GEMINI_WEBHOOK_SECRETS nor GEMINI_WEBHOOK_JWKS is set (and neither are GEMINI_WEBHOOK_SECRET and",
        ),
        (
            vec![("GEMINI_WEBHOOK_SECRETS", "")],
            "neither GEMINI_WEBHOOK_SECRETS nor GEMINI_WEBHOOK_JWKS is set",
        ),
        (
            vec![("GEMINI_WEBHOOK_SECRETS", "whsec_short")],
            "part 1: the signing secret can't be used",
        ),
        (
            vec![("GEMINI_WEBHOOK_SECRETS", truncated.as_str())],
            "part 2: the signing secret can't be used: it is the truncated form",
        ),
        (
            vec![("GEMINI_WEBHOOK_SECRETS", SECRET), ("BIND", "nowhere")],
            "BIND is not an address",
        ),
        (
            vec![
                ("GEMINI_WEBHOOK_SECRETS", SECRET),
                ("GEMINI_WEBHOOK_STORE", "mysql://user:C2FV@host/"),
            ],
            "GEMINI_WEBHOOK_STORE is none of memory, sqlite:PATH",
        ),
        (
            vec![
                ("GEMINI_WEBHOOK_SECRETS", SECRET),
                (
                    "GEMINI_WEBHOOK_STORE",
                    "sqlite:/nowhere/there/deliveries.db",
                ),
            ],
            "GEMINI_WEBHOOK_STORE: the store is misconfigured: unable to open",
        ),
        (
            vec![
                ("GEMINI_WEBHOOK_SECRETS", SECRET),
                ("GEMINI_WEBHOOK_STORE", "redis://user:C2FV@host:port/"),
            ],
            "GEMINI_WEBHOOK_STORE: the store is misconfigured: ",
        ),
        (
            vec![
                ("GEMINI_WEBHOOK_SECRETS", SECRET),
                ("GEMINI_WEBHOOK_STORE", "postgres://user:C2FV@host:port/"),
            ],
            "GEMINI_WEBHOOK_STORE: the store is misconfigured: ",
        ),
        (
            vec![jwks],
            "GEMINI_WEBHOOK_JWKS needs a proof that a delivery is ours",
        ),
        (
            vec![jwks, ("GEMINI_WEBHOOK_SECRETS", SECRET)],
            "GEMINI_WEBHOOK_JWKS needs a proof",
        ),
        (
            vec![jwks, ("GEMINI_WEBHOOK_ACCEPT_ANY_SENDER", "0")],
            "GEMINI_WEBHOOK_JWKS needs a proof",
        ),
        (
            vec![jwks, ("GEMINI_WEBHOOK_ACCEPT_ANY_SENDER", "yes")],
            "is \"yes\", expected 1 or 0",
        ),
        (
            vec![jwks, ("GEMINI_WEBHOOK_JOB_KEY", "c2hvcnQ=")],
            "GEMINI_WEBHOOK_JOB_KEY, part 1",
        ),
        (
            vec![
                ("GEMINI_WEBHOOK_JWKS", "http://example.com/jwks.json"),
                ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
            ],
            "neither https nor on the loopback interface",
        ),
        (
            vec![
                ("GEMINI_WEBHOOK_SECRETS", SECRET),
                ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
            ],
            "GEMINI_WEBHOOK_JOB_KEY is set, but GEMINI_WEBHOOK_JWKS is not",
        ),
    ] {
        let output = output(example("receiver").envs(variables)).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("C2FV"), "{error}");
        assert!(output.stdout.is_empty());
    }
}
#[tokio::test]
async fn receiver_says_why_it_can_not_listen() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let output = output(
        example("receiver")
            .env("GEMINI_WEBHOOK_SECRETS", SECRET)
            .env("BIND", &bind),
    )
    .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&bind));
}
