//! The receiver with an inbox, and what operators do with it: probe it, rotate secrets, kill it.

use super::*;

use std::{collections::BTreeSet, time::Instant};

use tokio::{io::AsyncRead, process::ChildStderr};

use super::{
    inbox::{Database, postgres, postgres_client, signed},
    servers::{Server, temporary_path},
};

fn batch(secret: &str, id: &str) -> SignedDelivery {
    signed(secret, id, sample(&EventType::BatchFailed).as_bytes())
}

/// Reads lines to the first that contains the text.
async fn says(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>, text: &str) -> String {
    let saying = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            if line.contains(text) {
                return line;
            }
        }
    };
    let line = timeout(PATIENCE, saying).await;
    line.unwrap_or_else(|_| panic!("it does not say {text}"))
}

async fn start(variables: &[(&str, &str)]) -> (Receiver, Lines<BufReader<ChildStderr>>) {
    let mut command = example("receiver");
    command.env("BIND", "127.0.0.1:0").stderr(Stdio::piped());
    let mut receiver = Receiver::spawn(command.envs(variables.iter().copied())).await;
    let errors = BufReader::new(receiver.child.stderr.take().unwrap()).lines();
    (receiver, errors)
}

#[tokio::test]
async fn an_inbox_answers_and_a_worker_does_the_work() {
    let database = Database::new();
    let mut stores = vec!["memory".to_owned(), database.store()];
    stores.extend(postgres("operations").await);
    for store in &stores {
        let settings = [
            ("GEMINI_WEBHOOK_SECRETS", SECRET),
            ("GEMINI_WEBHOOK_STORE", store),
            ("MODE", "inbox"),
        ];
        let mut receiver = Receiver::start(&settings).await;
        let sent = batch(SECRET, "msg_1");
        let line = |status| json!({"status": status, "id": "msg_1", "scheme": "v1", "type": "batch.failed"});
        let answer = receiver.send(receiver.request(&sent)).await;
        assert_eq!(answer, (200, line("accepted")));
        let answer = receiver.send(receiver.request(&sent)).await;
        assert_eq!(answer, (200, line("duplicate")));
        // The work may be done before the answer is logged.
        let mut lines = Vec::new();
        for _ in 0..3 {
            lines.push(receiver.line().await);
        }
        assert!(lines.contains(&line("processed")), "{lines:?}");
        let mut logged = line("accepted");
        logged["http"] = 200.into();
        assert!(lines.contains(&logged), "{lines:?}");

        let no_event = signed(SECRET, "msg_2", b"\xff");
        let (status, answer) = receiver.send(receiver.request(&no_event)).await;
        assert_eq!((status, &answer["status"]), (200, &json!("set_aside")));
        let done = json!({"due": 0, "waiting": 0, "working": 0, "dead": 1, "oldest_seconds": null});
        let idle = async {
            while receiver.get("/stats").await != (200, done.clone()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, idle).await.expect("one is dead");
        assert_eq!(receiver.get("/readyz").await, (200, json!({"store": "ok"})));
        receiver.signal("-TERM");
        assert_eq!(exits(&mut receiver.child).await.code(), Some(0), "{store}");
    }
    let receiver = Receiver::start(&[("GEMINI_WEBHOOK_SECRETS", SECRET)]).await;
    let url = format!("http://{}/stats", receiver.address);
    assert_eq!(receiver.client.get(url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_inbox_is_refused_where_the_store_is_none() {
    let redis = "redis://user:C2FV@127.0.0.1/";
    for (store, mode, expected) in [
        (
            redis,
            "inbox",
            "MODE=inbox stores deliveries, and Redis does not",
        ),
        (
            redis,
            "queue",
            "MODE is \"queue\", expected handle or inbox",
        ),
    ] {
        let mut command = example("receiver");
        command.env("GEMINI_WEBHOOK_SECRETS", SECRET);
        command.env("GEMINI_WEBHOOK_STORE", store).env("MODE", mode);
        let output = output(&mut command).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains("C2FV"), "{said}");
    }
}

#[tokio::test]
async fn secrets_are_rotated_at_a_signal_and_no_delivery_is_refused() {
    let secrets = temporary_path();
    let write = |text: &str| {
        let aside = secrets.with_extension("new");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(&aside, &secrets).unwrap();
    };
    write(OTHER);
    let google = SigningKeys::generate();
    let file = JwksFile::new("rotation");
    file.publish(&google);
    let (mut receiver, mut errors) = start(&[
        ("GEMINI_WEBHOOK_SECRETS_FILE", secrets.to_str().unwrap()),
        ("GEMINI_WEBHOOK_JWKS", file.path()),
        ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
    ])
    .await;
    let mut lines = std::mem::replace(&mut receiver.lines, {
        let mut nothing = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(nothing.stdout.take().unwrap()).lines()
    });
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });

    // Google signs with the old secret, then with the new one. Both are known in between.
    let signs = tokio::sync::watch::Sender::new(Some(OTHER));
    let (client, address) = (receiver.client.clone(), receiver.address.clone());
    let mut secret = signs.subscribe();
    let (progress, mut answered) = tokio::sync::watch::channel(0_u32);
    let load = tokio::spawn(async move {
        let mut sent = 0;
        loop {
            let secret = *secret.borrow_and_update();
            let Some(secret) = secret else { return };
            let delivery = batch(secret, &format!("msg_{sent}"));
            let mut request = client.post(format!("http://{address}/webhook"));
            for (name, value) in delivery.headers() {
                request = request.header(name, value);
            }
            let answer = request.body(delivery.body).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{sent}");
            sent += 1;
            progress.send_replace(sent);
        }
    });
    let mut some_more = async || {
        let before = *answered.borrow();
        let more = answered.wait_for(|answered| *answered >= before + 3);
        let more = timeout(PATIENCE, more).await.expect("deliveries arrive");
        assert!(more.is_ok(), "a delivery was refused");
    };
    some_more().await;
    for round in 0..10 {
        let [old, new] = if round % 2 == 0 {
            [OTHER, SECRET]
        } else {
            [SECRET, OTHER]
        };
        write(&format!("{old} # until Thursday\n{new}\n"));
        receiver.signal("-HUP");
        says(&mut errors, "were read again").await;
        signs.send_replace(Some(new));
        // The delivery under way may be signed with the old one.
        some_more().await;
        write(new);
        receiver.signal("-HUP");
        says(&mut errors, "were read again").await;
    }
    for broken in ["", "whsec_short", "\0\u{ff}"] {
        write(broken);
        receiver.signal("-HUP");
        let line = says(&mut errors, "the secrets stay as they were: ").await;
        assert!(!line.contains("whsec_short"), "{line}");
    }
    std::fs::remove_file(&secrets).unwrap();
    receiver.signal("-HUP");
    says(&mut errors, "the secrets stay as they were: ").await;
    some_more().await;
    signs.send_replace(None);
    timeout(PATIENCE, load).await.unwrap().unwrap();
    let (status, answer) = receiver
        .send(receiver.request(&batch(SECRET, "msg_old")))
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (401, &json!("signature_mismatch"))
    );

    // What proves the origin of per-request deliveries has stayed.
    let event = json!({"type": "batch.failed", "data": {"id": "batch_1"}}).to_string();
    let sent = Signer::v1a(&google).sign("msg_job", OffsetDateTime::now_utc(), event);
    let token = JobTokens::parse(JOB_KEY).unwrap().mint_for("nightly");
    let uri = JobTokens::callback_uri("/webhook", &token.unwrap());
    let (status, answer) = receiver.send(receiver.request_to(&uri, &sent)).await;
    assert_eq!((status, &answer["job"]), (200, &json!("nightly")));
}

#[tokio::test]
async fn readiness_says_what_is_not_ready() {
    let Some(mut server) = Server::postgres(false) else {
        return;
    };
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    drop(postgres_client(&url).await);
    let file = JwksFile::new("readiness");
    for mode in ["handle", "inbox"] {
        let receiver = Receiver::start(&[
            ("GEMINI_WEBHOOK_JWKS", file.path()),
            ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
            ("GEMINI_WEBHOOK_SECRETS", SECRET),
            ("GEMINI_WEBHOOK_STORE", &url),
            ("MODE", mode),
        ])
        .await;
        if mode == "handle" {
            let expected = json!({"store": "ok", "keys": "no usable keys"});
            assert_eq!(receiver.get("/readyz").await, (503, expected));
            file.publish(&SigningKeys::generate());
        }
        let becomes = async |status, expected: Value| {
            let mut last = json!(null);
            let waiting = async {
                while last != json!([status, expected]) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let (status, answer) = receiver.get("/readyz").await;
                    last = json!([status, answer]);
                }
            };
            let became = timeout(PATIENCE, waiting).await.is_ok();
            assert!(became, "{mode}: {last} and not {status} {expected}");
        };
        let ready = json!({"store": "ok", "keys": "ok"});
        becomes(200, ready.clone()).await;
        server.stop();
        becomes(
            503,
            json!({"store": "the store is unavailable", "keys": "ok"}),
        )
        .await;
        if mode == "inbox" {
            let (status, answer) = receiver.get("/stats").await;
            assert_eq!(
                (status, &answer["store"]),
                (503, &json!("the store is unavailable"))
            );
        }
        server.start();
        becomes(200, ready).await;
    }
}

#[tokio::test]
async fn probes_of_a_store_that_hangs_are_answered_in_time_and_do_not_pile_up() {
    let database = Database::new();
    let store = database.store();
    let settings = [
        ("GEMINI_WEBHOOK_SECRETS", SECRET),
        ("GEMINI_WEBHOOK_STORE", &*store),
    ];
    let (receiver, mut errors) = start(&settings).await;
    assert_eq!(receiver.get("/readyz").await.0, 200);
    let connection = database.connection();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let mut probes = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let url = format!("http://{}/readyz", receiver.address);
        let probe = receiver.client.get(url).send();
        probes.spawn(async move { probe.await.unwrap().text().await.unwrap() });
    }
    while let Some(answer) = probes.join_next().await {
        assert_eq!(answer.unwrap(), r#"{"store":"no answer within 2s"}"#);
    }
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    // They shared one question, which fails once the store has waited for 10 s. Another would have
    // waited behind it.
    says(&mut errors, "receiver: ").await;
    let another = timeout(Duration::from_secs(12), errors.next_line()).await;
    assert!(another.is_err(), "{another:?}");
    connection.execute_batch("ROLLBACK").unwrap();
    assert_eq!(receiver.get("/readyz").await.0, 200);
}

/// Ends the leases of the process that was killed.
async fn end_leases(store: &str) {
    const UPDATE: &str = "UPDATE gemini_webhook_inbox SET due_at = ";
    if let Some(path) = store.strip_prefix("sqlite:") {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection.execute(&format!("{UPDATE} 0"), []).unwrap();
    } else {
        let client = postgres_client(store).await;
        client
            .batch_execute(&format!("{UPDATE} now()"))
            .await
            .unwrap();
    }
}

/// Reads to the end the ids of what was processed.
async fn processed(mut lines: Lines<BufReader<ChildStdout>>) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        // The last may be cut off.
        let Ok(line) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if line["status"] == "processed" {
            ids.insert(line["id"].as_str().unwrap().to_owned());
        }
    }
    ids
}

/// The number of entries that fulfil a condition.
async fn entries(store: &str, condition: &str) -> i64 {
    let count = format!("SELECT count(*) FROM gemini_webhook_inbox WHERE {condition}");
    if let Some(path) = store.strip_prefix("sqlite:") {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.query_row(&count, [], |row| row.get(0)).unwrap()
    } else {
        let client = postgres_client(store).await;
        client.query_one(&count, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn told_to_stop_under_load_it_leaves_no_delivery_half_done() {
    let database = Database::new();
    let mut stores = vec![database.store()];
    stores.extend(postgres("stopped").await);
    for store in &stores {
        let mut receiver = Receiver::start(&[
            ("GEMINI_WEBHOOK_SECRETS", SECRET),
            ("GEMINI_WEBHOOK_STORE", store),
            ("MODE", "inbox"),
        ])
        .await;
        let sending = (0..200).map(|number| {
            let sent = batch(SECRET, &format!("msg_{number}"));
            receiver.request(&sent).send()
        });
        let mut sending: tokio::task::JoinSet<_> = sending.collect();
        let mut accepted = BTreeSet::new();
        let mut signalled = Instant::now();
        while let Some(answer) = sending.join_next().await {
            // Those that it no longer takes are Google's to retry.
            let Ok(answer) = answer.unwrap() else {
                continue;
            };
            assert_eq!(answer.status(), 200);
            let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            accepted.insert(answer["id"].as_str().unwrap().to_owned());
            if accepted.len() == 100 {
                receiver.signal("-TERM");
                signalled = Instant::now();
            }
        }
        let handled = tokio::spawn(processed(receiver.lines));
        assert_eq!(exits(&mut receiver.child).await.code(), Some(0), "{store}");
        // It has not waited for its own time limit, which is 10 s.
        let took = signalled.elapsed();
        assert!(took < Duration::from_secs(8), "{store}: {took:?}");
        assert_eq!(entries(store, "working").await, 0, "{store}");
        let handled = handled.await.unwrap();
        let left = usize::try_from(entries(store, "true").await).unwrap();
        assert!(accepted.len() >= 100, "{store}");
        // A client may miss an answer, and a delivery that was handled is removed.
        assert!(handled.len() + left >= accepted.len(), "{store}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_everything_that_was_accepted_is_handled() {
    const KILLS: u64 = 15;
    const SENDERS: u64 = 8;
    let database = Database::new();
    let mut stores = vec![database.store()];
    stores.extend(postgres("killed").await);
    for store in &stores {
        let settings = [
            ("GEMINI_WEBHOOK_SECRETS", SECRET),
            ("GEMINI_WEBHOOK_STORE", store),
            ("MODE", "inbox"),
        ];
        let (mut accepted, mut handled) = (BTreeSet::new(), BTreeSet::new());
        for kill in 0..KILLS {
            let Receiver {
                mut child,
                address,
                lines,
                client,
            } = Receiver::start(&settings).await;
            let reading = tokio::spawn(processed(lines));
            let mut senders = tokio::task::JoinSet::new();
            for sender in 0..SENDERS {
                let (client, url) = (client.clone(), format!("http://{address}/webhook"));
                senders.spawn(async move {
                    let mut accepted = Vec::new();
                    for number in 0.. {
                        let id = format!("msg_{kill}_{sender}_{number}");
                        let sent = batch(SECRET, &id);
                        let mut request = client.post(&url);
                        for (name, value) in sent.headers() {
                            request = request.header(name, value);
                        }
                        match request.body(sent.body).send().await {
                            Ok(answer) if answer.status() == 200 => accepted.push(id),
                            Ok(answer) => panic!("{}", answer.status()),
                            Err(_) => break,
                        }
                    }
                    accepted
                });
            }
            tokio::time::sleep(Duration::from_millis(100 + kill * 37 % 50)).await;
            child.kill().await.unwrap();
            while let Some(ids) = senders.join_next().await {
                accepted.extend(ids.unwrap());
            }
            handled.extend(reading.await.unwrap());
            end_leases(store).await;
        }
        let missing = accepted.difference(&handled).count();
        let mut receiver = Receiver::start(&settings).await;
        let idle = async {
            loop {
                let (_, stats) = receiver.get("/stats").await;
                if [&stats["due"], &stats["waiting"], &stats["working"]] == [0, 0, 0] {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, idle).await.expect("it is worked off");
        receiver.signal("-TERM");
        assert_eq!(exits(&mut receiver.child).await.code(), Some(0));
        handled.extend(processed(receiver.lines).await);
        let lost: Vec<_> = accepted.difference(&handled).collect();
        assert!(lost.is_empty(), "{store}: {lost:?}");
        assert!(accepted.len() > 100, "{store}: {}", accepted.len());
        println!(
            "{KILLS} kills, {} accepted, {missing} of them handled after the last",
            accepted.len()
        );
    }
}
