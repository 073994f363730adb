//! The promises of operations on SQLite that share a commit.

use std::{
    sync::{Arc, mpsc},
    task::{Context, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use gemini_webhooks::store::{
    ClaimOutcome, IdempotencyStore, SqliteStore, StoreError, StoreErrorKind, StoreFuture,
};
use rusqlite::Connection;

use crate::{
    block_on::block_on,
    fixture::{File, chain, commits},
    occupied::{begin, occupy},
    servers::temporary_path,
};

const LEASE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn open() -> (SqliteStore, File) {
    let file = File(temporary_path());
    (SqliteStore::open(&file.0).unwrap(), file)
}

fn claims<'a>(store: &'a SqliteStore, keys: &'a [String]) -> Vec<StoreFuture<'a, ClaimOutcome>> {
    let claims = keys.iter().map(|key| store.claim(key, LEASE));
    let mut claims: Vec<_> = claims.collect();
    for claim in &mut claims {
        assert!(begin(claim).is_pending());
    }
    claims
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key{number}")).collect()
}

#[test]
fn operations_that_wait_share_one_commit_on_any_executor() {
    let (store, file) = open();
    let keys = keys(100);
    let occupied = occupy(&store);
    let claims = claims(&store, &keys);
    let before = commits(&file);
    drop(occupied);
    let mut claimed = Vec::new();
    for claim in claims {
        match block_on(claim).unwrap() {
            ClaimOutcome::New(claim) => claimed.push(claim),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(commits(&file) - before, 1);

    let occupied = occupy(&store);
    let mut completions: Vec<_> = claimed.iter().map(|c| store.complete(c, DAY)).collect();
    assert!(completions.iter_mut().all(|one| begin(one).is_pending()));
    let before = commits(&file);
    drop(occupied);
    for completion in completions {
        assert!(block_on(completion).unwrap());
    }
    assert_eq!(commits(&file) - before, 1);
}

#[test]
fn of_the_claims_on_a_key_in_one_batch_one_gets_it() {
    let (store, _file) = open();
    let keys: Vec<_> = (0..40).map(|number| format!("key{}", number % 4)).collect();
    let occupied = occupy(&store);
    let claims = claims(&store, &keys);
    drop(occupied);
    let outcomes = claims.into_iter().map(|claim| block_on(claim).unwrap());
    let new = outcomes.filter(|outcome| matches!(outcome, ClaimOutcome::New(_)));
    assert_eq!(new.count(), 4);
}

#[test]
fn an_operation_that_fails_fails_alone() {
    for raised in ["ABORT", "FAIL", "ROLLBACK"] {
        let (store, file) = open();
        let trigger = format!(
            "CREATE TRIGGER poison BEFORE INSERT ON gemini_webhook_deliveries
             WHEN NEW.key = 'key5' BEGIN SELECT RAISE({raised}, 'poisoned'); END"
        );
        let other = Connection::open(&file.0).unwrap();
        other.execute_batch(&trigger).unwrap();
        let keys = keys(10);
        let occupied = occupy(&store);
        let claims = claims(&store, &keys);
        drop(occupied);
        for (number, claim) in claims.into_iter().enumerate() {
            match block_on(claim) {
                Ok(outcome) => {
                    assert!(
                        number != 5 && matches!(outcome, ClaimOutcome::New(_)),
                        "{raised}"
                    );
                }
                Err(error) => {
                    assert_eq!((number, error.kind()), (5, StoreErrorKind::Unavailable));
                    assert!(chain(&error).contains("poisoned"), "{}", chain(&error));
                }
            }
        }
        let rows = "SELECT count(*) FROM gemini_webhook_deliveries";
        let rows = other.query_row(rows, [], |row| row.get::<_, i64>(0));
        assert_eq!(rows, Ok(9), "{raised}");
    }
}

#[test]
fn a_full_queue_refuses_at_once_and_loses_nothing() {
    const CAPACITY: usize = 4096;
    let (store, _file) = open();
    let keys = keys(CAPACITY + 1);
    let occupied = occupy(&store);
    let claims = claims(&store, &keys[..CAPACITY]);
    let error = block_on(store.claim(&keys[CAPACITY], LEASE)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::QueueFull);
    assert_eq!(error.to_string(), "too many operations wait for the store");
    let transaction = store.transaction(|_| Ok::<_, StoreError>(()));
    let error = block_on(transaction).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::QueueFull);
    drop(occupied);
    for claim in claims {
        assert!(matches!(block_on(claim).unwrap(), ClaimOutcome::New(_)));
    }
    let outcome = block_on(store.claim(&keys[CAPACITY], LEASE)).unwrap();
    assert!(matches!(outcome, ClaimOutcome::New(_)), "{outcome:?}");
}

#[test]
fn a_caller_that_goes_away_does_not_undo_the_batch() {
    let (store, _file) = open();
    let keys = keys(3);
    let occupied = occupy(&store);
    let mut claims = claims(&store, &keys);
    drop(claims.remove(1));
    // A future that nobody polls does nothing.
    drop(store.claim("never polled", LEASE));
    drop(occupied);
    for claim in claims {
        assert!(matches!(block_on(claim).unwrap(), ClaimOutcome::New(_)));
    }
    let outcome = block_on(store.claim("key1", LEASE)).unwrap();
    assert!(
        matches!(outcome, ClaimOutcome::InFlight { .. }),
        "{outcome:?}"
    );
    let outcome = block_on(store.claim("never polled", LEASE)).unwrap();
    assert!(matches!(outcome, ClaimOutcome::New(_)), "{outcome:?}");
}

#[test]
fn dropping_the_last_clone_completes_what_was_accepted_and_closes_the_database() {
    let (store, file) = open();
    let keys = keys(100);
    let (end, ended) = mpsc::channel::<()>();
    let mut occupied = Box::pin(store.transaction::<(), StoreError>(move |_| {
        let _ = ended.recv();
        Ok(())
    }));
    assert!(begin(&mut occupied).is_pending());
    drop(occupied);
    drop(claims(&store, &keys));
    let last = thread::spawn(move || drop(store));
    thread::sleep(Duration::from_millis(20));
    assert!(!last.is_finished(), "it waits");
    drop(end);
    last.join().unwrap();
    let mut log = file.0.clone().into_os_string();
    log.push("-wal");
    assert!(!std::path::Path::new(&log).exists(), "it is open");
    let store = SqliteStore::open(&file.0).unwrap();
    for key in &keys {
        let outcome = block_on(store.claim(key, LEASE)).unwrap();
        assert!(
            matches!(outcome, ClaimOutcome::InFlight { .. }),
            "{outcome:?}"
        );
    }
}

/// The last clone may be a part of a transaction's work, and is then dropped on the store's thread.
#[test]
fn the_work_of_a_transaction_may_hold_the_last_clone() {
    let (store, file) = open();
    let clone = store.clone();
    let (at_work, is_at_work) = mpsc::channel();
    let mut working = Box::pin(store.transaction(move |transaction| {
        at_work.send(()).unwrap();
        thread::sleep(Duration::from_millis(20));
        clone.claim_in(transaction, "a", LEASE)
    }));
    let occupied = occupy(&store);
    assert!(begin(&mut working).is_pending());
    drop(working);
    drop(occupied);
    is_at_work.recv().unwrap();
    drop(store);
    // Its lock is held for as long as the work takes.
    let store = SqliteStore::open(&file.0).unwrap();
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert!(
        matches!(outcome, ClaimOutcome::InFlight { .. }),
        "{outcome:?}"
    );
}

#[test]
fn a_database_that_another_keeps_locked_times_out_and_comes_back() {
    let (store, file) = open();
    let other = Connection::open(&file.0).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let transactions = (0..4).map(|_| Box::pin(store.transaction(|_| Ok::<_, StoreError>(()))));
    let mut transactions: Vec<_> = transactions.collect();
    assert!(transactions.iter_mut().all(|one| begin(one).is_pending()));
    let keys = keys(50);
    for claim in claims(&store, &keys) {
        let error = block_on(claim).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{}", chain(&error));
        assert!(chain(&error).contains("locked"), "{}", chain(&error));
    }
    for transaction in transactions {
        let error = block_on(transaction).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    }
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(14), "{waited:?}");
    assert!(waited > Duration::from_secs(4), "{waited:?}");
    let error = block_on(store.check()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    other.execute_batch("ROLLBACK").unwrap();
    block_on(store.check()).unwrap();
    for key in &keys {
        let outcome = block_on(store.claim(key, LEASE)).unwrap();
        assert!(matches!(outcome, ClaimOutcome::New(_)), "{outcome:?}");
    }
}

#[test]
fn a_waker_that_panics_costs_its_caller_alone() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }
    let file = File(temporary_path());
    let store = SqliteStore::open(&file.0).unwrap();
    let occupied = occupy(&store);
    let waker = Waker::from(Arc::new(Panics));
    let mut claiming = store.claim("a", LEASE);
    let polled = claiming.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let mut beside = store.claim("b", LEASE);
    assert!(begin(&mut beside).is_pending());
    drop(occupied);
    let outcome = block_on(beside).unwrap();
    assert!(matches!(outcome, ClaimOutcome::New(_)), "{outcome:?}");
    block_on(store.check()).unwrap();
}
