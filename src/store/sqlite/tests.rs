use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Wake, Waker},
    thread,
};

use rusqlite::params;

use super::*;

const LEASE: Duration = Duration::from_secs(60);

/// Without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// A database that can't have more than a few pages, as on a disk that is full.
fn full_store() -> SqliteStore {
    let (queue, sweep) = (Arc::<Queue>::default(), Arc::<Sweep>::default());
    let (its_queue, its_sweep) = (Arc::clone(&queue), Arc::clone(&sweep));
    let thread = thread::spawn(move || {
        let (connection, guard) = writer::open(Path::new(":memory:")).unwrap();
        connection.pragma_update(None, "max_page_count", 8).unwrap();
        let ledger = Ledger::new(&connection, &guard, &its_sweep).unwrap();
        writer::run(&ledger, &its_queue);
    });
    SqliteStore {
        shared: Arc::new(Shared {
            queue,
            sweep,
            file: None,
            thread: Some(thread),
        }),
        clock: Clock::default(),
        limit: SqliteStore::DEFAULT_TRANSACTION_LIMIT,
    }
}

#[test]
fn on_a_full_disk_what_fits_is_done_and_the_rest_is_told() {
    let store = full_store();
    let keys: Vec<_> = (0..1000).map(|number| format!("key{number}")).collect();
    // Together, so that they share a commit.
    let mut claims: Vec<_> = keys.iter().map(|key| store.claim(key, LEASE)).collect();
    for claim in &mut claims {
        let _ = Pin::new(claim).poll(&mut Context::from_waker(Waker::noop()));
    }
    let (mut claimed, mut refused) = (Vec::new(), 0);
    for claim in claims {
        match block_on(claim) {
            Ok(ClaimOutcome::New(claim)) => claimed.push(claim),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Unavailable);
                let cause = std::error::Error::source(&error).unwrap().to_string();
                assert!(cause.contains("full"), "{cause}");
                refused += 1;
            }
        }
    }
    assert!(claimed.len() > 100 && refused > 100, "{refused}");
    // No new row, no new page.
    for claim in &claimed {
        assert!(block_on(store.complete(claim, LEASE)).unwrap());
        let outcome = block_on(store.claim(claim.key(), LEASE)).unwrap();
        assert_eq!(outcome, ClaimOutcome::Done);
    }
}

#[test]
fn sixteen_claims_visit_64_rows_and_begin_again_at_the_end() {
    let sweep = Sweep::default();
    let (connection, guard) = writer::open(Path::new(":memory:")).unwrap();
    let ledger = Ledger::new(&connection, &guard, &sweep).unwrap();
    let insert = "INSERT INTO gemini_webhook_deliveries VALUES (?1, 1, 1, 0, ?2)";
    let add = |key: &str, forget_at: i64| {
        connection.execute(insert, params![key, forget_at]).unwrap();
    };
    let expired = || -> i64 {
        let count = "SELECT count(*) FROM gemini_webhook_deliveries WHERE forget_at < 2";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    };
    let mut number = 0;
    let mut claim_16 = || {
        ledger.begin().unwrap();
        for _ in 0..16 {
            number += 1;
            let key = format!("new{number:04}");
            let outcome = ledger.claim(&Clock::default(), &key, LEASE).unwrap();
            assert!(matches!(outcome, ClaimOutcome::New(_)));
        }
        ledger.commit().unwrap();
    };
    for number in 0..256 {
        add(&format!("old{number:03}"), 1);
    }
    // 16 new ones come first.
    for left in [208, 144, 80, 16] {
        claim_16();
        assert_eq!(expired(), left);
    }
    claim_16();
    assert_eq!(expired(), 0);
    add("a", 1);
    claim_16();
    assert_eq!(expired(), 0);
    let kept = "SELECT count(*) FROM gemini_webhook_deliveries";
    let kept = connection.query_row(kept, [], |row| row.get::<_, i64>(0));
    assert_eq!(kept, Ok(16 * 6));
}
