//! Handlers that have their entry in a transaction of their own, on PostgreSQL, while its lease is to be
//! renewed.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use gemini_webhooks::{
    receiver::{HandlerError, Received},
    store::PostgresStore,
};

use crate::{
    fixture::client,
    inbox::{SECOND, Seen, Site, until},
};

/// They are put off, and nothing else is: not the work that comes meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_keeps_its_entry_locked_for_long_holds_up_nothing() {
    let Some(place) = Site::postgres().await else {
        return;
    };
    let (seen, locked) = (Seen::default(), AtomicUsize::new(0));
    place.accept("rolls_back").await;
    place.accept("commits").await;
    let handler = async |received: Received<'static>| {
        let count = seen.add(&received);
        let id = received.delivery().id();
        if id == "quick" {
            assert_eq!(locked.load(Ordering::SeqCst), 2);
            return Ok(());
        }
        if count > 1 {
            return Ok(());
        }
        let mut client = client(&place.url).await;
        let transaction = client.transaction().await?;
        PostgresStore::complete_in(&transaction, received.claim()).await?;
        locked.fetch_add(1, Ordering::SeqCst);
        // Longer than until their leases are renewed, and shorter than they last.
        tokio::time::sleep(2 * SECOND).await;
        locked.fetch_sub(1, Ordering::SeqCst);
        if id == "rolls_back" {
            transaction.rollback().await?;
            return Err::<_, HandlerError>("no luck".into());
        }
        transaction.commit().await?;
        received.claim().mark_completed();
        Ok(())
    };
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1400)).await;
        place.accept("quick").await;
        until("quick", async || seen.count("quick") == 1).await;
        assert_eq!(locked.load(Ordering::SeqCst), 2);
        until("postgres", async || place.stats().await == [0; 4]).await;
    };
    place.worker().lease(3 * SECOND).run(handler, stop).await;
    let counts = ["rolls_back", "commits", "quick"].map(|id| seen.count(id));
    assert_eq!(counts, [2, 1, 1]);
}

/// Its lease can't be renewed, and so ends. Those of the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_never_ends_its_transaction_loses_its_own_lease_alone() {
    let Some(place) = Site::postgres().await else {
        return;
    };
    let seen = Seen::default();
    for id in ["never_ends", "slow_1", "slow_2"] {
        place.accept(id).await;
    }
    let handler =
        async |received: Received<'static>| match (received.delivery().id(), seen.add(&received)) {
            ("never_ends", 1) => {
                let mut client = client(&place.url).await;
                let transaction = client.transaction().await?;
                PostgresStore::complete_in(&transaction, received.claim()).await?;
                pending().await
            }
            ("never_ends", _) => Ok(()),
            _ => {
                tokio::time::sleep(4 * SECOND).await;
                Ok::<_, HandlerError>(())
            }
        };
    let stop = until("postgres", async || place.stats().await == [0; 4]);
    place.worker().lease(2 * SECOND).run(handler, stop).await;
    let counts = ["never_ends", "slow_1", "slow_2"].map(|id| seen.count(id));
    assert_eq!(counts, [2, 1, 1]);
}

/// The handler has failed, and a task of its own still has the entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_a_handler_has_left_behind_holds_up_its_own_entry_alone() {
    let Some(place) = Site::postgres().await else {
        return;
    };
    let seen = Seen::default();
    for id in ["left_behind", "slow"] {
        place.accept(id).await;
    }
    let handler =
        async |received: Received<'static>| match (received.delivery().id(), seen.add(&received)) {
            ("left_behind", 1) => {
                let (url, claim) = (place.url.clone(), received.claim().clone());
                let (told, locked) = tokio::sync::oneshot::channel();
                tokio::spawn(async move {
                    let mut client = client(&url).await;
                    let transaction = client.transaction().await.unwrap();
                    PostgresStore::complete_in(&transaction, &claim)
                        .await
                        .unwrap();
                    told.send(()).unwrap();
                    tokio::time::sleep(4 * SECOND).await;
                    transaction.rollback().await.unwrap();
                });
                locked.await.unwrap();
                Err("no luck".into())
            }
            ("left_behind", _) => Ok(()),
            _ => {
                // Its lease is renewed meanwhile.
                tokio::time::sleep(3 * SECOND).await;
                Ok::<_, HandlerError>(())
            }
        };
    let stop = until("postgres", async || place.stats().await == [0; 4]);
    place.worker().lease(SECOND).run(handler, stop).await;
    let counts = ["left_behind", "slow"].map(|id| seen.count(id));
    assert_eq!(counts, [2, 1]);
}
