//! The whole way of a delivery, on every store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use gemini_webhooks::{
    PerRequest, Receiver, Verifier,
    keys::{KeySet, RefreshedKeys, SharedKeySet},
    receiver::{HandlerError, Outcome, Received, Reply},
    store::{
        Claim, ClaimOutcome, IdempotencyStore, MemoryStore, PostgresStore, SqliteStore, StoreError,
        StoreErrorKind, StoreFuture,
    },
    testing::{Clock, SignedDelivery, Signer, SigningKeys, sample},
};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::{
    fixture::{Fixture, Place, client, signed},
    forgetful::Forgetful,
};

const LEASE: Duration = Receiver::DEFAULT_LEASE;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// With a handler that succeeds, and is counted.
async fn handle<'a>(receiver: &Receiver, sent: &'a SignedDelivery, count: &AtomicU32) -> Reply<'a> {
    receiver
        .handle(sent, &sent.body, async |_: Received<'_>| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, String>(())
        })
        .await
}

fn answer(reply: &Reply<'_>) -> (u16, &'static str) {
    (reply.status, reply.outcome.code())
}

const PROCESSED: (u16, &str) = (200, "processed");
const DUPLICATE: (u16, &str) = (200, "duplicate");
const IN_FLIGHT: (u16, &str) = (409, "in_flight");

#[tokio::test]
async fn a_delivery_is_handled_once_and_acknowledged_each_time() {
    for fixture in Fixture::all().await {
        let (receiver, count) = (fixture.receiver(), AtomicU32::new(0));
        let first = fixture.signed("msg_1");
        let reply = handle(&receiver, &first, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
        assert_eq!(reply.delivery.unwrap().id(), "msg_1");
        let retry = signed("msg_1", fixture.clock.now() + Duration::from_secs(60));
        for sent in [&first, &retry] {
            let reply = handle(&receiver, sent, &count).await;
            assert_eq!(answer(&reply), DUPLICATE, "{}", fixture.name);
            assert_eq!(reply.retry_after, None);
            assert!(reply.delivery.is_some());
        }
        assert_eq!(count.load(Ordering::SeqCst), 1, "{}", fixture.name);
        let sent = fixture.signed("msg_2");
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);

        let elsewhere = format!("{}-elsewhere", fixture.namespace);
        let elsewhere = fixture.builder().namespace(elsewhere);
        let elsewhere = elsewhere.build().unwrap();
        let reply = handle(&elsewhere, &first, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
    }
}

#[tokio::test]
async fn a_namespace_and_an_id_are_not_another_namespace_and_another_id() {
    for fixture in Fixture::all().await {
        let count = AtomicU32::new(0);
        let of = |namespace: &str| fixture.builder().namespace(namespace).build().unwrap();
        let pairs = [("shop", "1msg"), ("shop1", "msg"), ("", "shop1msg")];
        for expected in [PROCESSED, DUPLICATE] {
            for (namespace, id) in pairs {
                let sent = fixture.signed(id);
                let reply = handle(&of(namespace), &sent, &count).await;
                assert_eq!(answer(&reply), expected, "{}: {namespace}", fixture.name);
            }
        }
        assert_eq!(count.load(Ordering::SeqCst), 3, "{}", fixture.name);
    }
}

#[tokio::test]
async fn the_longest_retention_is_kept() {
    const NINE_YEARS: Duration = Duration::from_secs(9 * 365 * 24 * 60 * 60);
    for fixture in Fixture::all().await {
        let receiver = fixture.builder().retention(Duration::MAX).build().unwrap();
        let count = AtomicU32::new(0);
        for expected in [PROCESSED, DUPLICATE] {
            let sent = fixture.signed("msg_1");
            let reply = handle(&receiver, &sent, &count).await;
            assert_eq!(answer(&reply), expected, "{}", fixture.name);
            fixture.advance(NINE_YEARS).await;
        }
    }
}

#[tokio::test]
async fn what_is_refused_reaches_neither_store_nor_handler() {
    let fixture = Fixture::memory();
    let (receiver, count) = (fixture.receiver(), AtomicU32::new(0));
    let mut forged = fixture.signed("msg_1");
    forged.body.push(b' ');
    let reply = handle(&receiver, &forged, &count).await;
    assert_eq!(answer(&reply), (401, "signature_mismatch"));
    assert!(reply.delivery.is_none());
    let mut malformed = fixture.signed("msg_1");
    malformed.id.clear();
    let reply = handle(&receiver, &malformed, &count).await;
    assert_eq!(answer(&reply), (400, "invalid_header"));
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let sent = fixture.signed("msg_1");
    let reply = handle(&receiver, &sent, &count).await;
    assert_eq!(answer(&reply), PROCESSED);
}

#[tokio::test]
async fn a_handler_that_fails_is_called_again() {
    for fixture in Fixture::all().await {
        let receiver = fixture.receiver();
        let sent = fixture.signed("msg_1");
        for _ in 0..3 {
            let failing = async |_: Received<'_>| Err::<(), _>("no disk");
            let reply = receiver.handle(&sent, &sent.body, failing).await;
            assert_eq!(answer(&reply), (500, "failed"), "{}", fixture.name);
            assert!(
                matches!(reply.outcome, Outcome::Failed(error) if error.to_string() == "no disk")
            );
        }
        let count = AtomicU32::new(0);
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
    }
}

#[tokio::test]
async fn a_panic_releases_the_claim_and_goes_on() {
    for fixture in Fixture::all().await {
        let receiver = fixture.receiver();
        for early in [true, false] {
            let (receiver, sent) = (receiver.clone(), fixture.signed("msg_1"));
            let task = tokio::spawn(async move {
                receiver
                    .handle(&sent, &sent.body, |_| {
                        assert!(!early, "before there is a future");
                        async {
                            tokio::task::yield_now().await;
                            panic!("in the middle");
                            #[expect(unreachable_code, reason = "it gives the type")]
                            Ok::<_, String>(())
                        }
                    })
                    .await
                    .status
            });
            assert!(task.await.unwrap_err().is_panic(), "{}", fixture.name);
        }
        let count = AtomicU32::new(0);
        let sent = fixture.signed("msg_1");
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
    }
}

#[tokio::test]
async fn a_handler_that_is_dropped_outlives_its_lease() {
    for fixture in Fixture::all().await {
        let (receiver, count) = (fixture.receiver(), AtomicU32::new(0));
        let sent = fixture.signed("msg_1");
        let begun = Notify::new();
        let hanging = receiver.handle(&sent, &sent.body, async |_: Received<'_>| {
            begun.notify_one();
            std::future::pending::<Result<(), String>>().await
        });
        tokio::select! {
            _ = hanging => unreachable!(),
            () = begun.notified() => {}
        }
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), IN_FLIGHT, "{}", fixture.name);
        let wait = reply.retry_after.unwrap();
        assert!(
            wait <= LEASE && wait > LEASE / 2,
            "{}: {wait:?}",
            fixture.name
        );
        assert_eq!(wait.subsec_nanos(), 0, "{}", fixture.name);
        fixture.advance(LEASE).await;
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
    }
}

#[tokio::test]
async fn a_slow_handler_can_not_complete_after_another_has_claimed() {
    for fixture in Fixture::all().await {
        let (receiver, count) = (fixture.receiver(), AtomicU32::new(0));
        let sent = fixture.signed("msg_1");
        let reply = receiver
            .handle(&sent, &sent.body, async |_: Received<'_>| {
                fixture.advance(LEASE).await;
                let reply = handle(&receiver, &sent, &count).await;
                assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
                Ok::<_, String>(())
            })
            .await;
        assert_eq!(answer(&reply), (409, "lease_lost"), "{}", fixture.name);
        assert!(reply.retry_after.is_some());
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), DUPLICATE, "{}", fixture.name);
    }
}

#[tokio::test]
async fn a_handler_that_loses_another_claim_gives_its_own_up() {
    for fixture in Fixture::all().await {
        let (receiver, count) = (fixture.receiver(), AtomicU32::new(0));
        let sent = fixture.signed("msg_1");
        for wrapped in [false, true] {
            let failing = async |_: Received<'_>| {
                let error = StoreError::from(StoreErrorKind::LeaseLost);
                Err::<(), HandlerError>(if wrapped {
                    std::io::Error::other(error).into()
                } else {
                    error.into()
                })
            };
            let reply = receiver.handle(&sent, &sent.body, failing).await;
            assert_eq!(answer(&reply), (409, "lease_lost"), "{}", fixture.name);
        }
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
    }
}

/// A store that answers a claim when its lease has ended.
struct Slow(MemoryStore, Clock);

impl IdempotencyStore for Slow {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        Box::pin(async move {
            let outcome = self.0.claim(key, lease).await;
            self.1.advance(lease);
            outcome
        })
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        self.0.complete(claim, retention)
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        self.0.release(claim)
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        self.0.check()
    }
}

#[tokio::test]
async fn a_claim_whose_lease_has_ended_on_arrival_is_not_handled() {
    let fixture = Fixture::memory();
    let store = Slow(
        MemoryStore::default().clock(fixture.clock.clone()),
        fixture.clock.clone(),
    );
    let receiver = Receiver::builder(fixture.verifier(), store)
        .build()
        .unwrap();
    let (sent, count) = (fixture.signed("msg_1"), AtomicU32::new(0));
    let reply = handle(&receiver, &sent, &count).await;
    assert_eq!((reply.outcome.code(), reply.status), ("lease_lost", 409));
    assert_eq!(
        count.load(Ordering::SeqCst),
        0,
        "another may have handled it"
    );
}

#[tokio::test]
async fn with_a_store_that_remembers_nothing_each_attempt_is_handled() {
    let fixture = Fixture::memory();
    let receiver = Receiver::builder(fixture.verifier(), Forgetful::default());
    let receiver = receiver.build().unwrap();
    let (sent, count) = (fixture.signed("msg_1"), AtomicU32::new(0));
    for _ in 0..2 {
        assert_eq!(answer(&handle(&receiver, &sent, &count).await), PROCESSED);
    }
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let failing = async |received: Received<'_>| {
        assert_eq!(received.claim().key(), "/msg_1");
        assert_eq!(received.claim().fencing_token(), 3);
        Err::<(), _>("no disk")
    };
    let reply = receiver.handle(&sent, &sent.body, failing).await;
    assert_eq!(reply.status, 500);
}

#[tokio::test]
async fn a_store_behind_a_pointer_is_a_store() {
    let fixture = Fixture::sqlite();
    let Place::Sqlite(file) = &fixture.place else {
        unreachable!()
    };
    let boxed: Box<dyn IdempotencyStore> = Box::new(MemoryStore::default());
    let shared = Arc::new(SqliteStore::open(&file.0).unwrap());
    for builder in [
        Receiver::builder(fixture.verifier(), boxed),
        Receiver::builder(fixture.verifier(), Arc::clone(&shared)),
    ] {
        let (receiver, count) = (builder.build().unwrap(), AtomicU32::new(0));
        let sent = fixture.signed("msg_1");
        let failing = async |_: Received<'_>| Err::<(), _>("no disk");
        let reply = receiver.handle(&sent, &sent.body, failing).await;
        assert_eq!(answer(&reply), (500, "failed"));
        for expected in [PROCESSED, DUPLICATE] {
            let reply = handle(&receiver, &sent, &count).await;
            assert_eq!(answer(&reply), expected);
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
    let outcome = shared.claim("/msg_1", LEASE).await.unwrap();
    assert_eq!(outcome, ClaimOutcome::Done);
}

/// A JWT does not cover the id: whoever saw one could send it again beside another.
#[tokio::test]
async fn a_token_that_is_sent_again_beside_another_id_is_a_duplicate() {
    const AUDIENCE: &str = "https://example.com/webhook";
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let verifier = Verifier::builder()
        .per_request(PerRequest::with_audience(keys, AUDIENCE))
        .build()
        .unwrap();
    let receiver = Receiver::builder(verifier, MemoryStore::default());
    let receiver = receiver.build().unwrap();
    let body = sample(&"batch.failed".into());
    let mut sent = Signer::jwt(&google, AUDIENCE).sign("msg_1", now(), body);
    let count = AtomicU32::new(0);
    assert_eq!(answer(&handle(&receiver, &sent, &count).await), PROCESSED);
    sent.id = "msg_2".into();
    assert_eq!(answer(&handle(&receiver, &sent, &count).await), DUPLICATE);
}

#[tokio::test]
async fn keys_that_changed_are_fetched() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let fetches = Arc::new(AtomicU32::new(0));
    let source = {
        let fetches = Arc::clone(&fetches);
        let sets = [old.jwks(), new.jwks()];
        move || {
            let fetch = fetches.fetch_add(1, Ordering::SeqCst) as usize;
            let set = sets[fetch.min(1)].clone().into_bytes();
            async move { Ok::<_, String>(set) }
        }
    };
    let clock = Clock::manual(now());
    let keys = Arc::new(RefreshedKeys::new(source).clock(clock.clone()));
    keys.refresh().await.unwrap();
    clock.advance(Duration::from_secs(60));
    let verifier = Verifier::builder()
        .per_request(PerRequest::any_sender(keys))
        .clock(clock.clone())
        .build()
        .unwrap();
    let receiver = Receiver::builder(verifier, MemoryStore::default());
    let receiver = receiver.build().unwrap();
    let count = AtomicU32::new(0);
    let body = sample(&"batch.failed".into());
    let sent = Signer::v1a(&new).sign("msg_1", clock.now(), body.clone());
    assert_eq!(answer(&handle(&receiver, &sent, &count).await), PROCESSED);
    let sent = Signer::v1a(&old).sign("msg_1", clock.now(), body);
    let reply = handle(&receiver, &sent, &count).await;
    assert_eq!(answer(&reply), (401, "signature_mismatch"));
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn without_keys_yet_it_asks_to_come_again() {
    let per_request = PerRequest::any_sender(SharedKeySet::default());
    let verifier = Verifier::builder()
        .per_request(per_request)
        .build()
        .unwrap();
    let receiver = Receiver::builder(verifier, MemoryStore::default());
    let receiver = receiver.build().unwrap();
    let body = sample(&"batch.failed".into());
    let sent = Signer::v1a(&SigningKeys::generate()).sign("msg_1", now(), body);
    let reply = handle(&receiver, &sent, &AtomicU32::new(0)).await;
    assert_eq!(answer(&reply), (503, "keys_unavailable"));
    assert!(reply.retry_after.is_some());
}

/// A day of retries that fail in every way there is, and one that succeeds; then a day of retries
/// and replays.
#[tokio::test]
async fn a_day_of_retries_handles_a_delivery_once() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for fixture in Fixture::all().await {
        let name = fixture.name;
        let (receiver, count) = (fixture.receiver(), AtomicU32::new(0));
        let (mut passed, mut wait) = (Duration::ZERO, Duration::from_secs(1));
        let mut answers = Vec::new();
        while passed < DAY - HOUR {
            let sent = fixture.signed("msg_1");
            let crashes = answers.len() % 2 == 0;
            let begun = Notify::new();
            let handled = receiver.handle(&sent, &sent.body, async |_: Received<'_>| {
                if crashes {
                    begun.notify_one();
                    std::future::pending::<()>().await;
                }
                Err::<(), _>("no disk")
            });
            tokio::select! {
                reply = handled => answers.push(reply.status),
                () = begun.notified() => answers.push(0),
            }
            passed += wait;
            fixture.advance(wait).await;
            wait = (wait * 2).min(HOUR);
        }
        assert!(
            answers.contains(&500) && answers.contains(&409),
            "{name}: {answers:?}"
        );
        assert!(
            !answers.contains(&200) && answers.len() > 30,
            "{name}: {answers:?}"
        );

        fixture.advance(LEASE).await;
        let sent = fixture.signed("msg_1");
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{name}");
        for _ in 0..24 {
            fixture.advance(HOUR).await;
            let sent = fixture.signed("msg_1");
            let reply = handle(&receiver, &sent, &count).await;
            assert_eq!(answer(&reply), DUPLICATE, "{name}");
        }
        // The last of the retries, by a clock that is 300 s ahead, is recorded and sent again.
        let recorded = signed("msg_1", fixture.clock.now() + Duration::from_secs(300));
        fixture.advance(Duration::from_secs(598)).await;
        let reply = handle(&receiver, &recorded, &count).await;
        assert_eq!(answer(&reply), DUPLICATE, "{name}");
        assert_eq!(count.load(Ordering::SeqCst), 1, "{name}");

        // Some stores keep a key as long as they would have kept the claim on it, after its lease.
        fixture.advance(LEASE + Duration::from_secs(10)).await;
        let outcome = fixture
            .store
            .claim(&fixture.key("msg_1"), LEASE)
            .await
            .unwrap();
        assert!(
            matches!(outcome, ClaimOutcome::New(_)),
            "{name}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn more_retention_than_the_least_is_kept() {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    for fixture in Fixture::all().await {
        let receiver = fixture.builder().retention(WEEK).build().unwrap();
        let count = AtomicU32::new(0);
        let sent = fixture.signed("msg_1");
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
        fixture.advance(WEEK - LEASE).await;
        let sent = fixture.signed("msg_1");
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), DUPLICATE, "{}", fixture.name);
        fixture.advance(LEASE).await;
        let sent = fixture.signed("msg_1");
        let reply = handle(&receiver, &sent, &count).await;
        assert_eq!(answer(&reply), PROCESSED, "{}", fixture.name);
    }
}

#[tokio::test]
async fn a_handler_completes_in_a_transaction_of_postgresql() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let Place::Postgres(url) = &fixture.place else {
        unreachable!()
    };
    let mut client = client(url).await;
    client
        .batch_execute("CREATE TABLE effects (id text)")
        .await
        .unwrap();
    let receiver = fixture.receiver();
    let sent = fixture.signed("msg_1");
    for expected in [(500, "failed"), PROCESSED, DUPLICATE] {
        let mut handler = async |received: Received<'_>| {
            let delivery = received.delivery();
            let transaction = client.transaction().await?;
            let insert = "INSERT INTO effects VALUES ($1)";
            transaction.execute(insert, &[&delivery.id()]).await?;
            PostgresStore::complete_in(&transaction, received.claim()).await?;
            if expected.0 == 500 {
                return Ok::<_, gemini_webhooks::receiver::HandlerError>(false);
            }
            transaction.commit().await?;
            received.claim().mark_completed();
            Ok(true)
        };
        let reply = receiver.handle(
            &sent,
            &sent.body,
            async |received: Received<'_>| match handler(received).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("rolled back".into()),
                Err(error) => Err(error),
            },
        );
        assert_eq!(answer(&reply.await), expected);
    }
    let count = client
        .query_one("SELECT count(*) FROM effects", &[])
        .await
        .unwrap();
    assert_eq!(count.get::<_, i64>(0), 1);
}
