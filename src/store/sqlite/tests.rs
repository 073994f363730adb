use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Wake, Waker},
    thread,
};

use rusqlite::{
    Connection,
    hooks::{AuthContext, Authorization},
    params,
};

use super::{guard::Guard, *};

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
        let mut connection = writer::open(Path::new(":memory:"), &its_queue.guard).unwrap();
        connection.pragma_update(None, "max_page_count", 8).unwrap();
        writer::run(&mut connection, &its_queue, &its_sweep);
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

/// A row that is to be forgotten at that time.
fn add(connection: &Connection, key: &str, forget_at: i64) {
    let insert = "INSERT INTO gemini_webhook_deliveries VALUES (?1, 1, 1, 0, ?2)";
    connection.execute(insert, params![key, forget_at]).unwrap();
}

fn expired(connection: &Connection) -> i64 {
    let count = "SELECT count(*) FROM gemini_webhook_deliveries WHERE forget_at < 2";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn sixteen_claims_visit_64_rows_and_begin_again_at_the_end() {
    let (sweep, guard) = (Sweep::default(), Arc::<Guard>::default());
    let connection = &writer::open(Path::new(":memory:"), &guard).unwrap();
    let ledger = Ledger {
        connection,
        guard: &guard,
        sweep: &sweep,
    };
    let claim = |key: &str| {
        let outcome = ledger.claim(&Clock::default(), key, LEASE).unwrap();
        assert!(matches!(outcome, ClaimOutcome::New(_)));
    };
    // The first pays at once. It begins behind its key, where nothing is.
    ledger.begin().unwrap();
    claim("z");
    ledger.commit().unwrap();
    let mut number = 0;
    let mut claim_16 = || {
        ledger.begin().unwrap();
        for _ in 0..16 {
            number += 1;
            claim(&format!("new{number:04}"));
        }
        ledger.commit().unwrap();
    };
    for number in 0..256 {
        add(connection, &format!("old{number:03}"), 1);
    }
    // 16 new ones come first.
    for left in [208, 144, 80, 16] {
        claim_16();
        assert_eq!(expired(connection), left);
    }
    claim_16();
    assert_eq!(expired(connection), 0);
    add(connection, "a", 1);
    claim_16();
    assert_eq!(expired(connection), 0);
    let kept = "SELECT count(*) FROM gemini_webhook_deliveries";
    let kept = connection.query_row(kept, [], |row| row.get::<_, i64>(0));
    assert_eq!(kept, Ok(1 + 16 * 6));
}

/// Without the first key to begin at, each would visit the same rows; with a debt to pay first, none.
#[test]
fn processes_of_one_claim_each_forget_what_has_expired() {
    let guard = Arc::<Guard>::default();
    let connection = &writer::open(Path::new(":memory:"), &guard).unwrap();
    for number in 0..100 {
        add(connection, &format!("a{number:03}"), i64::MAX);
    }
    for number in 0..400 {
        add(connection, &format!("b{number:03}"), 1);
    }
    for number in (0..400).step_by(50) {
        let ledger = Ledger {
            connection,
            guard: &guard,
            sweep: &Sweep::default(),
        };
        ledger.begin().unwrap();
        let key = format!("b{number:03}\u{1}");
        let outcome = ledger.claim(&Clock::default(), &key, LEASE).unwrap();
        assert!(matches!(outcome, ClaimOutcome::New(_)));
        ledger.commit().unwrap();
    }
    // The first key comes before that of the first claim.
    assert_eq!(expired(connection), 1);
}

#[test]
fn hooks_that_work_has_removed_are_installed_again() {
    let guard = Arc::<Guard>::default();
    let mut connection = writer::open(Path::new(":memory:"), &guard).unwrap();
    let refuses = |connection: &Connection| {
        guard.begin(&Clock::default(), LEASE);
        let refused = connection.prepare("COMMIT").is_err();
        guard.end();
        refused
    };
    assert!(refuses(&connection));
    let none = None::<fn(AuthContext<'_>) -> Authorization>;
    let _ = connection.authorizer(none);
    assert!(!refuses(&connection));
    writer::restore(&mut connection, &guard).unwrap();
    assert!(refuses(&connection));
}

#[test]
fn a_sync_reaches_the_disk_on_every_system() {
    let connection = writer::open(Path::new(":memory:"), &Arc::default()).unwrap();
    for (pragma, expected) in [
        ("synchronous", 2),
        ("fullfsync", 1),
        ("checkpoint_fullfsync", 1),
    ] {
        let value = connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        assert_eq!(value, Ok(expected), "{pragma}");
    }
}

/// At run time, where there are no file descriptors left. When the store is opened, the path is wrong.
#[test]
fn a_file_that_can_not_be_opened_for_now_is_no_misconfiguration() {
    let path = std::env::temp_dir().join("no such folder").join("file.db");
    let error = StoreError::from(Connection::open(path).unwrap_err());
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}

/// The plan of a statement, a line for each step.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut explain = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let steps = explain.raw_query().mapped(|row| row.get(3));
    steps.map(Result::unwrap).collect()
}

/// With and without what `ANALYZE` finds in a table that is full.
#[test]
fn the_statements_of_an_inbox_use_its_indexes() {
    let connection = &writer::open(Path::new(":memory:"), &Arc::default()).unwrap();
    let id = "SEARCH main.gemini_webhook_inbox USING INTEGER PRIMARY KEY (rowid=?)";
    let expected: [(&str, &[&str]); 9] = [
        (
            inbox::DUE,
            &[
                "SEARCH main.gemini_webhook_inbox USING COVERING INDEX gemini_webhook_inbox_due (namespace=? AND due_at<?)",
            ],
        ),
        (inbox::TAKE, &[id]),
        (
            inbox::NEXT,
            &[
                "SEARCH main.gemini_webhook_inbox USING COVERING INDEX gemini_webhook_inbox_due (namespace=? AND due_at>?)",
            ],
        ),
        (inbox::RENEW, &[id]),
        (inbox::PUT_BACK, &[id]),
        (
            inbox::FORGET,
            &[
                id,
                "LIST SUBQUERY 1",
                "SEARCH main.gemini_webhook_inbox USING COVERING INDEX gemini_webhook_inbox_forget (forget_at<?)",
            ],
        ),
        (
            inbox::STATS,
            &[
                "SEARCH main.gemini_webhook_inbox USING COVERING INDEX gemini_webhook_inbox_due (namespace=? AND due_at>?)",
                "SCALAR SUBQUERY 1",
                "SEARCH main.gemini_webhook_inbox USING COVERING INDEX gemini_webhook_inbox_dead (namespace=? AND due_at=?)",
            ],
        ),
        (
            inbox::DEAD_LETTERS,
            &[
                "SEARCH main.gemini_webhook_inbox USING INDEX gemini_webhook_inbox_dead (namespace=? AND due_at=? AND rowid>?)",
            ],
        ),
        (inbox::RETRY, &[id]),
    ];
    for full in [false, true] {
        if full {
            let fill = "
                WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 20000)
                INSERT INTO gemini_webhook_inbox
                    (namespace, key, received_at, fencing_token, attempts, working, due_at, died_at, forget_at,
                     cause, envelope, payload)
                SELECT iif(n % 2, '', 'other'), 'key' || n, n, n, 0, 0, iif(n % 10, n, NULL), iif(n % 10, NULL, n),
                       iif(n % 10, NULL, n), NULL, '{}', zeroblob(200)
                FROM numbers;
                ANALYZE;";
            connection.execute_batch(fill).unwrap();
        }
        for (sql, steps) in expected {
            assert_eq!(plan(connection, sql), steps, "full: {full}, {sql}");
        }
    }
}
