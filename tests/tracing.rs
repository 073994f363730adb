//! What `tracing` is told of a delivery.
#![cfg(feature = "_per-request")]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use gemini_webhooks::{
    JobTokens, PerRequest, Receiver, Secret, Verifier,
    keys::KeySet,
    receiver::Received,
    store::MemoryStore,
    testing::{SignedDelivery, Signer, SigningKeys, sample},
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
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    let _default = subscriber.finish().set_default();

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
