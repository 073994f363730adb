//! What `tracing` is told of a delivery.
#![cfg(feature = "_per-request")]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use gemini_webhooks::{
    Inbox, JobTokens, PerRequest, Receiver, Secret, Verifier,
    keys::KeySet,
    receiver::{HandlerError, Received},
    store::{MemoryStore, SqliteStore},
    testing::{FailingStore, SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::Value;
use time::OffsetDateTime;
use tracing_subscriber::util::SubscriberInitExt as _;

/// An error of a handler that tried to fetch something.
const FAILURE: &str = "no disk at https://me:hunter2@example.com/a?key=hunter2";
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Writes what this thread traces, until it is dropped.
    fn subscribe(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone());
        subscriber.finish().set_default()
    }

    /// What was written since the last look.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn handle(receiver: &Receiver, sent: &SignedDelivery, fails: bool) {
    let handler = async |received: Received<'_>| {
        tracing::info!("in the handler");
        assert!(!received.delivery().payload().is_empty());
        if fails { Err(FAILURE) } else { Ok(()) }
    };
    let _ = receiver.handle(sent, &sent.body, handler).await;
}

#[tokio::test]
async fn each_delivery_has_a_span_without_secrets() {
    let log = Log::default();
    let _default = log.subscribe();

    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let tokens = JobTokens::new([7; 32]);
    let token = tokens.mint_for("nightly").unwrap();
    let secret = Secret::parse(SECRET).unwrap();
    let verifier = Verifier::builder()
        .secret(Secret::parse(SECRET).unwrap())
        .per_request(PerRequest::with_job_tokens(keys, tokens))
        .build()
        .unwrap();
    let receiver = Receiver::builder(verifier, MemoryStore::default())
        .build()
        .unwrap();
    let mut event: Value = serde_json::from_str(&sample(&"batch.failed".into())).unwrap();
    event["user_metadata"] = JobTokens::user_metadata(&token).into();

    let signers = [
        (Signer::v1(&secret), "msg_1", "v1"),
        (Signer::v1a(&google), "msg_2", "v1a"),
        (Signer::jwt(&google, "https://example.com"), "msg_3", "jwt"),
    ];
    for (signer, id, scheme) in signers {
        // One event has one key in both schemes of per-request webhooks.
        event["data"]["id"] = id.into();
        let sent = signer.sign(id, OffsetDateTime::now_utc(), event.to_string());
        let mut forged = sent.clone();
        forged.body.push(b'x');
        let mut shown = String::new();
        for (sent, fails, expected) in [
            (&forged, false, "outcome=\"refused\" code="),
            (&sent, true, "outcome=\"failed\" code=\"failed\""),
            (&sent, false, "outcome=\"processed\" code=\"processed\""),
            (&sent, false, "outcome=\"duplicate\" code=\"duplicate\""),
        ] {
            handle(&receiver, sent, fails).await;
            let lines = log.take();
            let last = lines.lines().last().unwrap();
            assert!(last.contains(expected), "{last}");
            // The cause of a refusal and of a failure, and of nothing else.
            assert_eq!(
                last.contains("cause="),
                fails || expected.contains("refused"),
                "{last}"
            );
            assert_eq!(
                last.contains("cause=no disk at https://..@example.com/a?.."),
                fails,
                "{last}"
            );
            if !expected.contains("refused") {
                let fields = format!("id=\"{id}\" scheme=\"{scheme}\" type=\"batch.failed\"");
                assert!(lines.lines().all(|line| line.contains(&fields)), "{lines}");
            }
            shown += &lines;
        }
        assert_eq!(shown.matches("in the handler").count(), 2, "{shown}");
        let signature = sent.signature.split(',').next_back().unwrap();
        let secrets = [
            signature,
            SECRET,
            "C2FVsBQI",
            &token,
            "error_message",
            "hunter2",
        ];
        for secret in secrets {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
}

/// A store that fails on demand, and an inbox in it.
fn inbox() -> (FailingStore<MemoryStore>, Inbox) {
    let store = FailingStore::new(MemoryStore::default());
    let secret = Secret::parse(SECRET).unwrap();
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let inbox = Inbox::builder(verifier, store.clone()).build().unwrap();
    (store, inbox)
}

fn sign(id: &str, body: impl Into<Vec<u8>>) -> SignedDelivery {
    let secret = Secret::parse(SECRET).unwrap();
    Signer::v1(&secret).sign(id, OffsetDateTime::now_utc(), body)
}

#[tokio::test]
async fn a_delivery_that_an_inbox_accepts_has_the_span_of_a_receiver() {
    let log = Log::default();
    let _default = log.subscribe();
    let (store, inbox) = inbox();
    let sent = sign("msg_1", sample(&"batch.failed".into()));
    let mut forged = sent.clone();
    forged.body.push(b'x');
    let no_event = sign("msg_2", "hunter2 is no event");
    let fields = "id=\"msg_1\" scheme=\"v1\" type=\"batch.failed\"";
    let unread = "id=\"msg_2\" scheme=\"v1\"";
    for (sent, fails, level, fields, expected) in [
        (
            &forged,
            0,
            "WARN",
            "",
            "outcome=\"refused\" code=\"signature_mismatch\"",
        ),
        (
            &sent,
            1,
            "ERROR",
            fields,
            "outcome=\"store_unavailable\" code=\"store_unavailable\"",
        ),
        (
            &sent,
            0,
            "INFO",
            fields,
            "outcome=\"accepted\" code=\"accepted\"",
        ),
        (
            &sent,
            0,
            "INFO",
            fields,
            "outcome=\"duplicate\" code=\"duplicate\"",
        ),
        (
            &no_event,
            0,
            "ERROR",
            unread,
            "outcome=\"set_aside\" code=\"set_aside\"",
        ),
    ] {
        store.fail_accepts(fails);
        let reply = inbox.accept(sent, &sent.body).await;
        let lines = log.take();
        let [line] = *lines.lines().collect::<Vec<_>>() else {
            panic!("expected one event: {lines}")
        };
        assert!(
            line.contains(&format!(" {level} gemini_webhook{{")),
            "{line}"
        );
        assert!(line.contains(fields) && line.contains(expected), "{line}");
        assert!(
            line.contains(&format!("answered status={}", reply.status)),
            "{line}"
        );
        assert_eq!(line.contains(" cause="), level != "INFO", "{line}");
        assert!(
            !line.contains("hunter2") && !line.contains(SECRET),
            "{line}"
        );
    }
}

#[tokio::test]
async fn each_attempt_has_a_span_with_its_outcome_and_cause() {
    let log = Log::default();
    let _default = log.subscribe();
    let (store, inbox) = inbox();
    for id in ["works", "fails", "is_hopeless", "panics"] {
        let sent = sign(id, sample(&"batch.failed".into()));
        assert_eq!(inbox.accept(&sent, &sent.body).await.status, 200);
    }
    log.take();
    let handler = async |received: Received<'static>| {
        tracing::info!("in the handler");
        match received.delivery().id() {
            "fails" => Err(HandlerError::from(FAILURE)),
            "is_hopeless" => Err(HandlerError::permanent(FAILURE)),
            "panics" => panic!("at https://me:hunter2@example.com/a"),
            _ => Ok(()),
        }
    };
    let stop = async {
        while inbox.stats().await.unwrap().dead < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    store.fail_rounds(1);
    let moment = Duration::from_millis(1);
    let worker = inbox.worker().backoff(moment, moment).max_attempts(2);
    worker.run(handler, stop).await;

    let log = log.take();
    let (of_attempts, of_worker): (Vec<&str>, Vec<&str>) = log
        .lines()
        .partition(|line| line.contains("gemini_webhook_attempt{"));
    let [failure] = *of_worker else {
        panic!("{of_worker:?}")
    };
    assert!(failure.contains(" ERROR "), "{failure}");
    assert!(
        failure.contains("the store of a worker failed cause=the store is unavailable: a test")
    );
    let cause = " cause=no disk at https://..@example.com/a?..";
    let panic = " cause=the handler panicked: at https://..@example.com/a";
    for (id, attempt, level, outcome, cause) in [
        ("works", 1, "INFO", "processed", ""),
        ("fails", 1, "WARN", "retried", cause),
        ("fails", 2, "ERROR", "dead", cause),
        ("is_hopeless", 1, "ERROR", "dead", cause),
        ("panics", 1, "WARN", "retried", panic),
        ("panics", 2, "ERROR", "dead", panic),
    ] {
        let fields = format!("type=\"batch.failed\" attempt={attempt}");
        let of_attempt = |line: &&&str| {
            let names = [format!("id=\"{id}\""), format!("attempt={attempt}")];
            names.iter().all(|name| line.contains(name))
        };
        let lines: Vec<_> = of_attempts.iter().filter(of_attempt).collect();
        let [begun, ended] = *lines else {
            panic!("{id}, {attempt}: {log}")
        };
        for line in [begun, ended] {
            assert!(
                line.contains("scheme=\"v1\"") && line.contains("type=\"batch.failed\""),
                "{fields}: {line}"
            );
        }
        assert!(begun.contains("in the handler"), "{begun}");
        assert!(
            ended.contains(&format!(" {level} gemini_webhook_attempt{{")),
            "{ended}"
        );
        let said = format!("ended outcome=\"{outcome}\"{cause}");
        assert!(ended.ends_with(&said), "{said}: {ended}");
        assert!(
            ended.contains(&format!("outcome=\"{outcome}\"}}")),
            "{ended}"
        );
    }
    assert_eq!(of_attempts.len(), 12, "{log}");
    assert!(
        !log.contains("hunter2") && !log.contains("C2FVsBQI"),
        "{log}"
    );
}

/// What a lost lease ends is no failure of the handler.
#[tokio::test]
async fn an_attempt_that_loses_its_lease_says_so() {
    let log = Log::default();
    let _default = log.subscribe();
    let (store, inbox) = inbox();
    let sent = sign("msg_1", sample(&"batch.failed".into()));
    assert_eq!(inbox.accept(&sent, &sent.body).await.status, 200);
    log.take();
    let handler = async |_: Received<'static>| {
        store.fail_rounds(usize::MAX);
        std::future::pending::<Result<(), HandlerError>>().await
    };
    let stop = tokio::time::sleep(Duration::from_millis(100));
    let worker = inbox.worker().lease(Duration::from_secs(1));
    worker.run(handler, stop).await;
    let log = log.take();
    let last = log.lines().last().unwrap();
    assert!(
        last.contains(" WARN gemini_webhook_attempt{attempt=1 id=\"msg_1\""),
        "{log}"
    );
    assert!(last.ends_with("ended outcome=\"lease_lost\""), "{log}");
}

/// It has none of the fields that tell what it is.
#[tokio::test]
async fn a_delivery_that_can_not_be_read_is_traced_when_it_is_buried() {
    let log = Log::default();
    let _default = log.subscribe();
    let file = format!("gemini-webhooks-tracing-{}.db", std::process::id());
    let path = std::env::temp_dir().join(file);
    let secret = Secret::parse(SECRET).unwrap();
    let sent = sign("msg_1", sample(&"batch.failed".into()));
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let inbox = Inbox::builder(verifier, SqliteStore::open(&path).unwrap());
    let inbox = inbox.build().unwrap();
    assert_eq!(inbox.accept(&sent, &sent.body).await.status, 200);
    let newer = "UPDATE gemini_webhook_inbox SET envelope = '{\"form\":2}'";
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(newer).unwrap();

    log.take();
    let stop = async {
        while inbox.stats().await.unwrap().dead == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let handler = async |_: Received<'static>| Ok::<_, HandlerError>(());
    inbox.worker().run(handler, stop).await;
    let lines = log.take();
    let expected = "gemini_webhook_attempt{attempt=1 outcome=\"dead\"}: gemini_webhooks::receiver::span: \
                    ended outcome=\"dead\" cause=this version can't read what was stored";
    assert!(lines.trim_end().ends_with(expected), "{lines}");
    assert_eq!(lines.lines().count(), 1, "{lines}");
    drop((inbox, connection));
    std::fs::remove_file(path).unwrap();
}
