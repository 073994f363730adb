//! An inbox and its workers while their store fails.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gemini_webhooks::{
    Inbox,
    inbox::{InboxStore, Worker},
    receiver::{HandlerError, Outcome, Received},
    store::{MemoryStore, StoreErrorKind},
    testing::FailingStore,
};
use tokio::sync::Notify;

use crate::inbox::{MOMENT, SECOND, Seen, counts, now, until, verifier};

/// An inbox whose store fails on demand, and one on the same store that does not.
struct Outage {
    store: FailingStore<MemoryStore>,
    inbox: Inbox,
    sound: Inbox,
    /// The kinds of the errors that workers have reported.
    reported: Arc<Mutex<Vec<StoreErrorKind>>>,
}

fn inbox(store: impl InboxStore) -> Inbox {
    Inbox::builder(verifier(), store).build().unwrap()
}

impl Outage {
    async fn with_deliveries(count: usize) -> Self {
        let memory = MemoryStore::default();
        let store = FailingStore::new(memory.clone());
        let outage = Self {
            inbox: inbox(store.clone()),
            sound: inbox(memory),
            store,
            reported: Arc::default(),
        };
        for number in 0..count {
            let sent = now(&format!("msg_{number}"));
            let reply = outage.inbox.accept(&sent, &sent.body).await;
            assert_eq!(reply.outcome.code(), "accepted");
        }
        outage
    }

    fn worker(&self) -> Worker {
        let reported = Arc::clone(&self.reported);
        let report = move |error: &gemini_webhooks::store::StoreError| {
            reported.lock().unwrap().push(error.kind());
        };
        self.inbox
            .worker()
            .backoff(MOMENT, MOMENT)
            .on_store_error(report)
    }

    async fn stats(&self) -> [u64; 4] {
        counts(self.sound.stats().await.unwrap())
    }

    fn reported(&self) -> usize {
        let reported = self.reported.lock().unwrap();
        let unavailable = |kind: &StoreErrorKind| *kind == StoreErrorKind::Unavailable;
        assert!(reported.iter().all(unavailable), "{reported:?}");
        reported.len()
    }
}

#[tokio::test]
async fn a_delivery_that_could_not_be_stored_is_to_come_again() {
    let outage = Outage::with_deliveries(0).await;
    outage.store.fail_accepts(2);
    let sent = now("msg_1");
    for _ in 0..2 {
        let reply = outage.inbox.accept(&sent, &sent.body).await;
        assert!(matches!(reply.outcome, Outcome::StoreUnavailable(_)));
        assert_eq!(reply.outcome.code(), "store_unavailable");
        assert_eq!(reply.status, 503);
        let response = reply.response(());
        assert_eq!(response.status(), 503);
        let retry_after = response.headers()["retry-after"].to_str().unwrap();
        assert!(retry_after.parse::<u64>().unwrap() >= 1, "{retry_after}");
        assert_eq!(outage.stats().await, [0; 4]);
    }
    let reply = outage.inbox.accept(&sent, &sent.body).await;
    assert_eq!((reply.status, reply.outcome.code()), (200, "accepted"));
    assert_eq!(outage.stats().await, [1, 0, 0, 0]);
}

/// The store fails when the handlers have ended: what became of their deliveries is told later, each
/// once, and the deliveries are not handled again.
#[tokio::test]
async fn results_outlast_an_outage_that_is_shorter_than_the_lease() {
    let outage = Outage::with_deliveries(4).await;
    let seen = Seen::default();
    let handler = async |received: Received<'static>| {
        outage.store.fail_rounds(2);
        seen.add(&received);
        match received.delivery().id() {
            "msg_0" => Err(HandlerError::permanent("hopeless")),
            _ => Ok(()),
        }
    };
    let stop = until("outage", async || outage.stats().await == [0, 0, 0, 1]);
    outage.worker().run(handler, stop).await;
    for number in 0..4 {
        assert_eq!(seen.count(&format!("msg_{number}")), 1, "{number}");
    }
    assert_eq!(outage.reported(), 2);
    let letters = outage.sound.dead_letters(0, 10).await.unwrap();
    assert_eq!(letters[0].cause, "hopeless");
}

/// Rounds fail for as long as a lease is renewed by them. The handler is dropped in time, so that the one
/// of a worker that reaches the store is alone with the delivery.
#[tokio::test]
async fn a_handler_that_the_store_can_not_be_told_of_is_dropped_when_its_lease_ends() {
    struct Running<'r>(&'r AtomicUsize);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    let outage = Outage::with_deliveries(1).await;
    let (seen, running) = (Seen::default(), AtomicUsize::new(0));
    let enter = |received: &Received<'static>| {
        seen.add(received);
        let others = running.fetch_add(1, Ordering::SeqCst);
        assert_eq!(others, 0, "two handlers at a time");
        Running(&running)
    };
    let begun = Notify::new();
    let cut_off = async |received: Received<'static>| {
        let _running = enter(&received);
        outage.store.fail_rounds(usize::MAX);
        begun.notify_one();
        pending::<Result<(), HandlerError>>().await
    };
    let other = async |received: Received<'static>| {
        let _running = enter(&received);
        Ok::<_, HandlerError>(())
    };
    let done = Notify::new();
    let started = Instant::now();
    tokio::join!(
        outage
            .worker()
            .lease(2 * SECOND)
            .run(cut_off, done.notified()),
        async {
            begun.notified().await;
            // Nothing is polled at the moment at which the lease ends.
            tokio::time::sleep(2 * SECOND - MOMENT).await;
            std::thread::sleep(3 * MOMENT);
            let stop = until("outage", async || outage.stats().await == [0; 4]);
            outage
                .sound
                .worker()
                .poll_interval(MOMENT)
                .run(other, stop)
                .await;
            done.notify_one();
        }
    );
    assert_eq!(seen.count("msg_0"), 2);
    let elapsed = started.elapsed();
    assert!(
        elapsed >= 2 * SECOND,
        "{elapsed:?}: handled twice in a lease"
    );
    assert!(outage.reported() >= 1);
}

/// What the handlers have done can't be told, and so is done again by whoever comes after the lease.
#[tokio::test]
async fn a_worker_whose_store_stays_away_ends_when_the_lease_does() {
    const LEASE: Duration = Duration::from_secs(3);
    let outage = Outage::with_deliveries(2).await;
    let seen = Seen::default();
    let begun = Notify::new();
    let handler = async |received: Received<'static>| {
        seen.add(&received);
        outage.store.fail_rounds(usize::MAX);
        begun.notify_one();
        Ok::<_, HandlerError>(())
    };
    let started = Instant::now();
    let worker = outage.worker().lease(LEASE);
    worker.run(handler, begun.notified()).await;
    let elapsed = started.elapsed();
    // It tries until then, every second.
    assert!(outage.reported() >= 2);
    assert!(elapsed >= LEASE - SECOND, "{elapsed:?}");
    assert!(elapsed < LEASE + 3 * SECOND / 2, "{elapsed:?}");

    outage.store.fail_rounds(0);
    let again = async |received: Received<'static>| {
        seen.add(&received);
        Ok::<_, HandlerError>(())
    };
    let stop = until("outage", async || outage.stats().await == [0; 4]);
    outage.worker().run(again, stop).await;
    assert_eq!([seen.count("msg_0"), seen.count("msg_1")], [2, 2]);
}

/// One that has nothing in hand has nothing to wait for.
#[tokio::test]
async fn an_idle_worker_whose_store_stays_away_ends_at_once() {
    let outage = Outage::with_deliveries(0).await;
    outage.store.fail_rounds(usize::MAX);
    let handler = async |_: Received<'static>| Ok::<_, HandlerError>(());
    let stop = tokio::time::sleep(5 * MOMENT);
    let started = Instant::now();
    outage.worker().run(handler, stop).await;
    assert!(started.elapsed() < SECOND);
    assert_eq!(outage.reported(), 1);
}
