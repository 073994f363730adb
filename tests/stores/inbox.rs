//! Deliveries that are stored, answered and handled later, on every store that can.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gemini_webhooks::{
    Inbox, Receiver, Secret, Verifier,
    inbox::{InboxStore, Stats, Worker},
    receiver::{HandlerError, Outcome, Received},
    store::{ClaimOutcome, IdempotencyStore, MemoryStore, PostgresStore, SqliteStore, StoreError},
    testing::{Clock, SignedDelivery, Signer},
};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::fixture::{File, Fixture, Place, SECRET, signed};

pub(crate) const MOMENT: Duration = Duration::from_millis(20);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// An inbox by the system's clock, in a store that nobody else uses.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn InboxStore>,
    pub(crate) inbox: Inbox,
    pub(crate) url: String,
    pub(crate) file: Option<File>,
}

pub(crate) fn verifier() -> Verifier {
    let secret = Secret::parse(SECRET).unwrap();
    Verifier::builder().secret(secret).build().unwrap()
}

impl Site {
    pub(crate) async fn all() -> Vec<Self> {
        let mut all = vec![Self::memory(), Self::sqlite()];
        all.extend(Self::postgres().await);
        all
    }

    pub(crate) fn memory() -> Self {
        Self::new(
            "memory",
            Arc::new(MemoryStore::default()),
            String::new(),
            None,
        )
    }

    pub(crate) fn sqlite() -> Self {
        let path = crate::servers::temporary_path();
        let store = SqliteStore::open(&path).unwrap();
        let url = format!("sqlite:{}", path.display());
        Self::new("sqlite", Arc::new(store), url, Some(File(path)))
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let fixture = Fixture::postgres().await?;
        let Place::Postgres(url) = fixture.place else {
            unreachable!()
        };
        let store = PostgresStore::connect(&url).unwrap();
        Some(Self::new("postgres", Arc::new(store), url, None))
    }

    pub(crate) fn new(
        name: &'static str,
        store: Arc<dyn InboxStore>,
        url: String,
        file: Option<File>,
    ) -> Self {
        let inbox = Inbox::builder(verifier(), Arc::clone(&store)).build();
        Self {
            name,
            store,
            inbox: inbox.unwrap(),
            url,
            file,
        }
    }

    pub(crate) async fn stats(&self) -> [u64; 4] {
        counts(self.inbox.stats().await.unwrap())
    }

    /// Quick to try again.
    pub(crate) fn worker(&self) -> Worker {
        self.inbox.worker().backoff(MOMENT, MOMENT)
    }

    /// Accepts a delivery, which is new.
    pub(crate) async fn accept(&self, id: &str) {
        assert_eq!(
            code(&self.inbox, &now(id)).await,
            "accepted",
            "{}",
            self.name
        );
    }
}

pub(crate) fn counts(stats: Stats) -> [u64; 4] {
    [stats.due, stats.waiting, stats.working, stats.dead]
}

pub(crate) fn now(id: &str) -> SignedDelivery {
    signed(id, OffsetDateTime::now_utc())
}

pub(crate) async fn code(inbox: &Inbox, sent: &SignedDelivery) -> &'static str {
    let reply = inbox.accept(sent, &sent.body).await;
    let expected = match reply.outcome.code() {
        "accepted" | "duplicate" | "set_aside" => 200,
        "in_flight" => 409,
        _ => 503,
    };
    assert_eq!(reply.status, expected);
    reply.outcome.code()
}

/// What handlers have seen.
#[derive(Default)]
pub(crate) struct Seen(Mutex<HashMap<String, usize>>);

impl Seen {
    /// Returns how often a delivery was seen, this time included.
    pub(crate) fn add(&self, received: &Received<'_>) -> usize {
        let mut seen = self.0.lock().unwrap();
        let count = seen.entry(received.delivery().id().to_owned()).or_default();
        *count += 1;
        *count
    }

    pub(crate) fn count(&self, id: &str) -> usize {
        self.0.lock().unwrap().get(id).copied().unwrap_or_default()
    }
}

/// Lets a worker run until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(name: &str, holds: impl Fn() -> F) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name}: it never came true");
}

#[tokio::test]
async fn a_delivery_is_stored_once_and_handled_once() {
    for place in Site::all().await {
        let (name, seen) = (place.name, Seen::default());
        let first = now("msg_1");
        assert_eq!(code(&place.inbox, &first).await, "accepted", "{name}");
        assert_eq!(code(&place.inbox, &first).await, "duplicate", "{name}");
        place.accept("msg_2").await;
        assert_eq!(place.stats().await, [2, 0, 0, 0], "{name}");
        assert!(place.inbox.stats().await.unwrap().oldest.is_some());

        let stop = until(name, async || place.stats().await == [0; 4]);
        let handler = async |received: Received<'static>| {
            seen.add(&received);
            let delivery = received.delivery();
            assert_eq!(delivery.payload(), first.body);
            assert_eq!(delivery.scheme(), gemini_webhooks::Scheme::V1);
            received.event()?;
            Ok::<_, HandlerError>(())
        };
        place.worker().run(handler, stop).await;
        assert_eq!([seen.count("msg_1"), seen.count("msg_2")], [1, 1], "{name}");
        assert_eq!(code(&place.inbox, &first).await, "duplicate", "{name}");
        assert_eq!(place.stats().await, [0; 4], "{name}");
        assert_eq!(place.inbox.stats().await.unwrap().oldest, None);
        place.inbox.check().await.unwrap();
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_and_dies_of_its_last_attempt() {
    for place in Site::all().await {
        let (name, seen) = (place.name, Seen::default());
        for id in ["fails", "fails_once", "is_hopeless", "panics", "hangs"] {
            place.accept(id).await;
        }
        let handler = async |received: Received<'static>| {
            let count = seen.add(&received);
            match (received.delivery().id(), count) {
                ("fails", _) => Err(HandlerError::from("no luck")),
                ("fails_once", 1) => Err("not yet".into()),
                ("is_hopeless", _) => Err(HandlerError::permanent("hopeless")),
                ("panics", _) => panic!("a bug"),
                ("hangs", _) => pending().await,
                _ => Ok(()),
            }
        };
        let stop = until(name, async || place.stats().await == [0, 0, 0, 4]);
        let worker = place.worker().max_attempts(3).attempt_timeout(MOMENT);
        worker.run(handler, stop).await;
        let counts = ["fails", "fails_once", "is_hopeless", "panics", "hangs"];
        assert_eq!(counts.map(|id| seen.count(id)), [3, 2, 1, 3, 3], "{name}");

        let letters = place.inbox.dead_letters(0, 10).await.unwrap();
        let mut causes: Vec<_> = letters
            .iter()
            .map(|letter| {
                let delivery = letter.delivery.as_ref().unwrap();
                assert!(letter.received_at <= letter.died_at);
                (delivery.id(), letter.attempts, &*letter.cause)
            })
            .collect();
        causes.sort_unstable();
        let expected = [
            ("fails", 3, "no luck"),
            ("hangs", 3, "the handler took longer than 20ms"),
            ("is_hopeless", 1, "hopeless"),
            ("panics", 3, "the handler panicked: a bug"),
        ];
        assert_eq!(causes, expected, "{name}");

        let page = place.inbox.dead_letters(letters[1].id, 1).await.unwrap();
        assert_eq!(page[0].id, letters[2].id, "{name}");
        let id = |name: &str| {
            let is = |letter: &&gemini_webhooks::inbox::DeadLetter| {
                letter.delivery.as_ref().unwrap().id() == name
            };
            letters.iter().find(is).unwrap().id
        };
        assert!(
            place.inbox.discard(id("is_hopeless")).await.unwrap(),
            "{name}"
        );
        assert!(
            !place.inbox.discard(id("is_hopeless")).await.unwrap(),
            "{name}"
        );
        assert!(place.inbox.retry(id("fails")).await.unwrap(), "{name}");
        assert!(!place.inbox.retry(id("fails")).await.unwrap(), "{name}");
        assert!(!place.inbox.discard(id("fails")).await.unwrap(), "{name}");
        assert_eq!(place.stats().await, [1, 0, 0, 2], "{name}");
        let stop = until(name, async || place.stats().await == [0, 0, 0, 2]);
        let fine = async |_: Received<'static>| Ok::<_, HandlerError>(());
        place.worker().run(fine, stop).await;
    }
}

#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_from_the_beginning() {
    for place in Site::all().await {
        let secret = Secret::parse(SECRET).unwrap();
        let sent = Signer::v1(&secret).sign("msg_1", OffsetDateTime::now_utc(), "no JSON");
        let reply = place.inbox.accept(&sent, &sent.body).await;
        assert_eq!(reply.status, 200, "{}", place.name);
        assert!(
            matches!(reply.outcome, Outcome::SetAside(_)),
            "{}",
            place.name
        );
        assert_eq!(code(&place.inbox, &sent).await, "duplicate");
        let letters = place.inbox.dead_letters(0, 10).await.unwrap();
        assert_eq!(letters.len(), 1, "{}", place.name);
        assert!(
            letters[0].cause.contains("not JSON"),
            "{}",
            letters[0].cause
        );
        assert_eq!(letters[0].attempts, 0);
        assert_eq!(letters[0].delivery.as_ref().unwrap().payload(), b"no JSON");
    }
}

/// A handler outlasts the lease, and a worker that is gone does not keep its delivery.
#[tokio::test]
async fn a_lease_is_renewed_while_a_handler_runs_and_ends_with_its_worker() {
    for place in Site::all().await {
        let (name, seen) = (place.name, Seen::default());
        place.accept("msg_1").await;
        let begun = Notify::new();
        let lost = place.worker().lease(SECOND).run(
            async |received: Received<'static>| {
                seen.add(&received);
                begun.notify_one();
                pending::<Result<(), HandlerError>>().await
            },
            pending(),
        );
        tokio::select! {
            () = lost => unreachable!(),
            () = begun.notified() => {}
        }
        assert_eq!(place.stats().await, [0, 0, 1, 0], "{name}");
        let worker = place.worker().lease(SECOND);
        let stop = until(name, async || place.stats().await == [0; 4]);
        let handler = async |received: Received<'static>| {
            seen.add(&received);
            tokio::time::sleep(3 * SECOND).await;
            Ok::<_, HandlerError>(())
        };
        let other = async |received: Received<'static>| {
            seen.add(&received);
            Ok::<_, HandlerError>(())
        };
        let started = std::time::Instant::now();
        let both = until(name, async || place.stats().await == [0; 4]);
        tokio::join!(worker.run(handler, stop), async {
            // Two seconds later, so that the first has it.
            tokio::time::sleep(2 * SECOND).await;
            place.worker().lease(SECOND).run(other, both).await;
        });
        assert!(started.elapsed() >= 3 * SECOND, "{name}");
        assert_eq!(
            seen.count("msg_1"),
            2,
            "{name}: renewed, and so not taken by the other"
        );
    }
}

/// It outlasts the lease that it needs no more, and its worker stays until it has ended.
#[tokio::test]
async fn a_handler_that_has_removed_its_delivery_itself_may_go_on() {
    for place in Site::all().await {
        let (name, ended) = (place.name, Notify::new());
        place.accept("msg_1").await;
        let handler = async |received: Received<'static>| {
            let claim = received.claim();
            match name {
                "sqlite" => {
                    let store = SqliteStore::open(&place.url["sqlite:".len()..]).unwrap();
                    let nothing = |_: &rusqlite::Transaction<'_>| Ok::<_, StoreError>(());
                    store.complete_with(claim, nothing).await?;
                }
                "postgres" => {
                    let store = PostgresStore::connect(&place.url).unwrap();
                    store.begin(claim).await?.complete().await?;
                }
                _ => {
                    assert!(place.store.complete(claim, claim.retention()).await?);
                    claim.mark_completed();
                }
            }
            assert_eq!(place.stats().await, [0; 4], "{name}");
            tokio::time::sleep(3 * SECOND).await;
            ended.notify_one();
            Ok::<_, HandlerError>(())
        };
        let stop = async {
            let patience = tokio::time::timeout(10 * SECOND, ended.notified());
            patience.await.expect("the handler is not dropped");
        };
        place.worker().lease(SECOND).run(handler, stop).await;
        assert_eq!(place.stats().await, [0; 4], "{name}");
    }
}

#[tokio::test]
async fn a_process_that_dies_of_a_delivery_does_so_as_often_as_allowed() {
    for place in Site::all().await {
        let (name, seen) = (place.name, Seen::default());
        place.accept("msg_1").await;
        for _ in 0..2 {
            let begun = Notify::new();
            let run = place.worker().lease(SECOND).max_attempts(2).run(
                async |received: Received<'static>| {
                    seen.add(&received);
                    begun.notify_one();
                    pending::<Result<(), HandlerError>>().await
                },
                pending(),
            );
            tokio::select! {
                () = run => unreachable!(),
                () = begun.notified() => {}
            }
        }
        let stop = until(name, async || place.stats().await == [0, 0, 0, 1]);
        let handler = async |received: Received<'static>| {
            seen.add(&received);
            Ok::<_, HandlerError>(())
        };
        place.worker().max_attempts(2).run(handler, stop).await;
        assert_eq!(seen.count("msg_1"), 2, "{name}");
        let letters = place.inbox.dead_letters(0, 10).await.unwrap();
        assert!(
            letters[0].cause.contains("did not end"),
            "{}",
            letters[0].cause
        );
    }
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_what_it_has_begun() {
    for place in Site::all().await {
        let (name, seen) = (place.name, Seen::default());
        for id in ["msg_1", "msg_2", "msg_3"] {
            place.accept(id).await;
        }
        let begun = Notify::new();
        let handler = async |received: Received<'static>| {
            seen.add(&received);
            begun.notify_one();
            tokio::time::sleep(10 * MOMENT).await;
            Ok::<_, HandlerError>(())
        };
        let worker = place.worker().concurrency(2);
        worker.run(handler, begun.notified()).await;
        assert_eq!(place.stats().await, [1, 0, 0, 0], "{name}");
        assert_eq!(seen.0.lock().unwrap().len(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_delivery_that_a_receiver_has_is_not_stored() {
    for place in Site::all().await {
        let store = Arc::clone(&place.store);
        let ClaimOutcome::New(claim) = store.claim("/msg_1", SECOND).await.unwrap() else {
            panic!("it is new");
        };
        assert_eq!(
            code(&place.inbox, &now("msg_1")).await,
            "in_flight",
            "{}",
            place.name
        );
        store.release(&claim).await.unwrap();
        place.accept("msg_1").await;
        let receiver = Receiver::builder(verifier(), store).build().unwrap();
        let sent = now("msg_1");
        let handler = async |_: Received<'_>| Ok::<_, HandlerError>(());
        let reply = receiver.handle(&sent, &sent.body, handler).await;
        assert_eq!(reply.outcome.code(), "duplicate", "{}", place.name);
    }
}

#[tokio::test]
async fn inboxes_with_different_namespaces_share_a_database() {
    for place in Site::all().await {
        let other = Inbox::builder(verifier(), Arc::clone(&place.store)).namespace("other");
        let other = other.build().unwrap();
        let sent = now("msg_1");
        assert_eq!(
            code(&place.inbox, &sent).await,
            "accepted",
            "{}",
            place.name
        );
        assert_eq!(code(&other, &sent).await, "accepted", "{}", place.name);
        let stop = until(place.name, async || place.stats().await == [0; 4]);
        let handler = async |_: Received<'static>| Err::<(), _>(HandlerError::permanent("no"));
        let buried = until(place.name, async || {
            counts(other.stats().await.unwrap()) == [0, 0, 0, 1]
        });
        let fine = async |_: Received<'static>| Ok::<_, HandlerError>(());
        tokio::join!(
            place.worker().run(fine, stop),
            other.worker().run(handler, buried)
        );
        let letter = other.dead_letters(0, 1).await.unwrap().remove(0);
        assert!(!place.inbox.retry(letter.id).await.unwrap());
        assert!(!place.inbox.discard(letter.id).await.unwrap());
        assert!(place.inbox.dead_letters(0, 1).await.unwrap().is_empty());
    }
}

/// As after a pause of the process, which the clock of a server does not notice.
#[tokio::test]
async fn a_handler_whose_lease_has_ended_at_the_store_is_dropped_before_the_next_one_runs() {
    let clock = Clock::manual(OffsetDateTime::now_utc());
    let store = MemoryStore::default().clock(clock.clone());
    let inbox = Inbox::builder(verifier(), store).build().unwrap();
    assert_eq!(code(&inbox, &now("msg_1")).await, "accepted");
    let (begun, running) = (Notify::new(), AtomicUsize::new(0));
    let handler = async |received: Received<'static>| {
        if received.delivery().id() == "msg_1" {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            let _ended = Ended(&running);
            begun.notify_one();
            pending::<()>().await;
        }
        Ok::<_, HandlerError>(())
    };
    let twice = async {
        begun.notified().await;
        clock.advance(2 * Worker::DEFAULT_LEASE);
        assert_eq!(code(&inbox, &now("msg_2")).await, "accepted");
        begun.notified().await;
    };
    tokio::select! {
        () = inbox.worker().run(handler, pending()) => unreachable!(),
        () = twice => {}
    }
    assert_eq!(running.load(Ordering::SeqCst), 0);
}

struct Ended<'a>(&'a AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Mute;

impl std::fmt::Display for Mute {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("it has no text")
    }
}

impl std::error::Error for Mute {}

#[tokio::test]
async fn neither_an_error_without_a_text_nor_an_endless_time_ends_a_worker() {
    let place = Site::sqlite();
    place.accept("msg_1").await;
    let stop = until("sqlite", async || place.stats().await == [0, 0, 0, 1]);
    let handler = async |_: Received<'static>| Err::<(), _>(Mute);
    let worker = place.worker().max_attempts(1);
    let worker = worker
        .attempt_timeout(Duration::MAX)
        .poll_interval(Duration::MAX);
    worker.run(handler, stop).await;
    let letters = place.inbox.dead_letters(0, 1).await.unwrap();
    assert_eq!(letters[0].cause, "the text of an error panicked");
}
