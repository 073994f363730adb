//! Deliveries that come too late, and those that a newer version has stored.

use std::time::Duration;

use gemini_webhooks::{
    Inbox, JobTokens, PerRequest, Receiver, Verifier,
    keys::KeySet,
    receiver::{HandlerError, Outcome, Received},
    store::MemoryStore,
    testing::{Clock, Signer, SigningKeys, sample},
};
use time::OffsetDateTime;

use crate::{
    fixture::client,
    inbox::{Seen, Site, until},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Of a default window, both sides.
const WINDOW: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_delivery_whose_job_token_has_expired_is_a_dead_letter_and_refused_elsewhere() {
    let clock = Clock::manual(OffsetDateTime::now_utc());
    let google = SigningKeys::generate();
    let keys = || KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let tokens = || {
        let tokens = JobTokens::new([7; 32]).clock(clock.clone());
        tokens.valid_for(HOUR)
    };
    let token = tokens().mint_for("nightly").unwrap();
    let verifier = || {
        let per_request = PerRequest::with_job_tokens(keys(), tokens());
        let builder = Verifier::builder().per_request(per_request);
        builder.clock(clock.clone()).build().unwrap()
    };
    let store = MemoryStore::default().clock(clock.clone());
    let inbox = Inbox::builder(verifier(), store.clone()).build().unwrap();
    let receiver = Receiver::builder(verifier(), store).namespace("other");
    let receiver = receiver.build().unwrap();
    let in_event = {
        let mut event: serde_json::Value =
            serde_json::from_str(&sample(&"batch.succeeded".into())).unwrap();
        event["user_metadata"] = JobTokens::user_metadata(&token).into();
        event.to_string()
    };
    let by_uri = JobTokens::callback_uri("/webhook", &token);
    let signers = [Signer::v1a(&google), Signer::jwt(&google, "us")];
    let mut number = 0;
    let mut letters = 0;
    for (wait, late) in [
        (HOUR + 24 * HOUR + WINDOW - HOUR / 60, false),
        (HOUR / 30, true),
    ] {
        clock.advance(wait);
        for signer in &signers {
            for (body, uri) in [
                (in_event.clone(), "/webhook"),
                (sample(&"batch.succeeded".into()), &*by_uri),
            ] {
                // Each is another event, with the same token.
                number += 1;
                let body = body.replace("batch_123456", &format!("batch_{number}"));
                let sent = signer.sign(format!("msg_{number}"), clock.now(), body);
                let attempt = || {
                    use gemini_webhooks::IntoAttempt as _;
                    (&sent).into_attempt().map(|attempt| attempt.with_uri(uri))
                };
                let result = verifier().verify(attempt(), &sent.body);
                let handle = async |_: Received<'_>| Ok::<_, HandlerError>(());
                let handled = receiver.handle(attempt(), &sent.body, handle).await;
                let accepted = inbox.accept(attempt(), &sent.body).await;
                let again = inbox.accept(attempt(), &sent.body).await;
                assert_eq!((again.status, again.outcome.code()), (200, "duplicate"));
                if !late {
                    assert!(result.is_ok());
                    assert_eq!((handled.status, handled.outcome.code()), (200, "processed"));
                    assert_eq!(
                        (accepted.status, accepted.outcome.code()),
                        (200, "accepted")
                    );
                    continue;
                }
                let refusal = result.unwrap_err();
                assert_eq!(
                    (refusal.status(), refusal.code()),
                    (403, "job_token_expired")
                );
                assert_eq!(
                    (handled.status, handled.outcome.code()),
                    (403, "job_token_expired")
                );
                assert_eq!(accepted.status, 200);
                assert!(matches!(accepted.outcome, Outcome::SetAside(_)));
                letters += 1;
                let dead = inbox.dead_letters(0, 100).await.unwrap();
                assert_eq!(dead.len(), letters);
                let dead = dead.last().unwrap();
                assert_eq!((dead.attempts, &dead.cause), (0, &refusal.to_string()));
                let delivery = dead.delivery.as_ref().unwrap();
                assert_eq!(delivery.id(), sent.id);
                assert_eq!(delivery.job().unwrap().context, "nightly");
            }
        }
    }
    assert_eq!((number, letters), (8, 4));
    // Somebody who wants it nevertheless can have it.
    let dead = inbox.dead_letters(0, 100).await.unwrap();
    assert!(inbox.retry(dead[0].id).await.unwrap());
    let seen = Seen::default();
    let handler = async |received: Received<'static>| {
        seen.add(&received);
        Ok::<_, HandlerError>(())
    };
    let stop = until("late", async || inbox.stats().await.unwrap().due == 0);
    inbox.worker().run(handler, stop).await;
    assert_eq!(seen.count("msg_5"), 1);
}

/// Forged tokens are refused as everywhere.
#[tokio::test]
async fn an_inbox_takes_no_delivery_without_a_token_of_its_own() {
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let per_request = PerRequest::with_job_tokens(keys, JobTokens::new([7; 32]));
    let verifier = Verifier::builder().per_request(per_request);
    let inbox = Inbox::builder(verifier.build().unwrap(), MemoryStore::default());
    let inbox = inbox.build().unwrap();
    let foreign = JobTokens::new([8; 32]).valid_for(Duration::ZERO);
    let foreign = foreign.mint().unwrap();
    let sent = Signer::v1a(&google).sign(
        "msg_1",
        OffsetDateTime::now_utc(),
        sample(&"batch.succeeded".into()),
    );
    for uri in ["/webhook", &JobTokens::callback_uri("/webhook", &foreign)] {
        use gemini_webhooks::IntoAttempt as _;
        let attempt = (&sent).into_attempt().map(|attempt| attempt.with_uri(uri));
        let reply = inbox.accept(attempt, &sent.body).await;
        assert_eq!(
            (reply.status, reply.outcome.code()),
            (403, "unknown_origin")
        );
    }
    assert!(inbox.dead_letters(0, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_newer_version_has_stored_is_a_dead_letter_and_holds_up_nothing() {
    let mut places = vec![Site::sqlite()];
    places.extend(Site::postgres().await);
    for place in places {
        let (name, seen) = (place.name, Seen::default());
        for id in ["msg_1", "msg_2", "msg_3", "msg_4"] {
            place.accept(id).await;
        }
        let newer = "UPDATE gemini_webhook_inbox SET envelope = CASE key
            WHEN '/msg_1' THEN '{\"id\":\"msg_1\",\"of\":\"another form\"}'
            WHEN '/msg_2' THEN replace(envelope, '\"v1\"', '\"v9\"')
            ELSE envelope END";
        if let Some(file) = &place.file {
            let connection = rusqlite::Connection::open(&file.0).unwrap();
            connection.execute_batch(newer).unwrap();
        } else {
            client(&place.url).await.batch_execute(newer).await.unwrap();
        }
        let handler = async |received: Received<'static>| {
            seen.add(&received);
            Ok::<_, HandlerError>(())
        };
        let stop = until(name, async || place.stats().await == [0, 0, 0, 2]);
        // One at a time, the oldest first.
        place.worker().concurrency(1).run(handler, stop).await;
        let counts = ["msg_1", "msg_2", "msg_3", "msg_4"].map(|id| seen.count(id));
        assert_eq!(counts, [0, 0, 1, 1], "{name}");
        let letters = place.inbox.dead_letters(0, 10).await.unwrap();
        assert_eq!(letters.len(), 2, "{name}");
        for letter in letters {
            assert!(letter.delivery.is_none(), "{name}");
            assert_eq!(letter.cause, "this version can't read what was stored");
            assert_eq!(letter.attempts, 1);
        }
    }
}
