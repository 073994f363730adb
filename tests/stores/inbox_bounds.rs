//! An inbox in memory is bounded.

use std::time::Duration;

use gemini_webhooks::{
    Inbox, Secret, Verifier,
    receiver::{HandlerError, Received, Reply},
    store::MemoryStore,
    testing::{Clock, SignedDelivery, Signer},
};
use time::OffsetDateTime;

use crate::{
    fixture::{SECRET, chain, signed},
    inbox::{counts, until},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One that holds two deliveries.
struct Small {
    clock: Clock,
    inbox: Inbox,
}

impl Small {
    fn new() -> Self {
        let clock = Clock::manual(OffsetDateTime::now_utc());
        let store = MemoryStore::with_capacity(2).clock(clock.clone());
        let secret = Secret::parse(SECRET).unwrap();
        let verifier = Verifier::builder().secret(secret).clock(clock.clone());
        let inbox = Inbox::builder(verifier.build().unwrap(), store).build();
        Self {
            clock,
            inbox: inbox.unwrap(),
        }
    }

    async fn accept<'s>(&self, sent: &'s SignedDelivery) -> Reply<'s> {
        self.inbox.accept(sent, &sent.body).await
    }

    async fn code(&self, id: &str) -> &'static str {
        let sent = signed(id, self.clock.now());
        self.accept(&sent).await.outcome.code()
    }

    /// Fails, and returns the cause.
    async fn refusal(&self, id: &str) -> String {
        let sent = signed(id, self.clock.now());
        let reply = self.accept(&sent).await;
        assert_eq!(
            (reply.status, reply.outcome.code()),
            (503, "store_unavailable")
        );
        match reply.outcome {
            gemini_webhooks::receiver::Outcome::StoreUnavailable(error) => chain(&error),
            other => panic!("{other:?}"),
        }
    }
}

/// Neither the deliveries nor their keys are forgotten to make room for more.
#[tokio::test]
async fn a_full_inbox_in_memory_refuses_what_is_new() {
    let small = Small::new();
    assert_eq!(small.code("msg_1").await, "accepted");
    assert_eq!(small.code("msg_2").await, "accepted");
    let cause = small.refusal("msg_3").await;
    assert!(cause.contains("holds 2 deliveries"), "{cause}");
    assert_eq!(counts(small.inbox.stats().await.unwrap()), [2, 0, 0, 0]);

    // Once they are handled, their keys are still to be remembered.
    let stop = until("memory", async || {
        counts(small.inbox.stats().await.unwrap()) == [0; 4]
    });
    let fine = async |_: Received<'static>| Ok::<_, HandlerError>(());
    small.inbox.worker().run(fine, stop).await;
    let cause = small.refusal("msg_3").await;
    assert!(cause.contains("2 keys are all still"), "{cause}");
    assert_eq!(small.code("msg_1").await, "duplicate");

    // What was refused was not remembered.
    small.clock.advance(2 * DAY);
    assert_eq!(small.code("msg_3").await, "accepted");
}

/// Dead letters outlive their keys, and are as much a part of the inbox as all else.
#[tokio::test]
async fn dead_letters_fill_an_inbox_in_memory_until_they_are_forgotten() {
    let small = Small::new();
    let secret = Secret::parse(SECRET).unwrap();
    for id in ["msg_1", "msg_2"] {
        let sent = Signer::v1(&secret).sign(id, small.clock.now(), "no JSON");
        assert_eq!(small.accept(&sent).await.outcome.code(), "set_aside");
    }
    small.clock.advance(2 * DAY);
    let cause = small.refusal("msg_3").await;
    assert!(cause.contains("holds 2 deliveries"), "{cause}");
    let letters = small.inbox.dead_letters(0, 10).await.unwrap();
    assert!(small.inbox.discard(letters[0].id).await.unwrap());
    assert_eq!(small.code("msg_3").await, "accepted");
}
