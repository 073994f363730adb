//! A user's transactions on the database of an SQLite store.

use std::{
    pin::pin,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use gemini_webhooks::{
    Receiver,
    receiver::{HandlerError, Received},
    store::{Claim, ClaimOutcome, IdempotencyStore, SqliteStore, StoreError, StoreErrorKind},
    testing::Clock,
};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use time::OffsetDateTime;

use crate::{
    block_on::block_on,
    fixture::{File, Fixture, Place, chain, commits},
    occupied::{begin, occupy},
    servers::temporary_path,
};

const LEASE: Duration = Receiver::DEFAULT_LEASE;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A store with a table `effects` beside its own.
fn open() -> (SqliteStore, File, Clock) {
    let file = File(temporary_path());
    let clock = Clock::manual(OffsetDateTime::now_utc());
    let store = SqliteStore::open(&file.0).unwrap().clock(clock.clone());
    let create = "CREATE TABLE effects (id TEXT UNIQUE)";
    Connection::open(&file.0)
        .unwrap()
        .execute_batch(create)
        .unwrap();
    (store, file, clock)
}

fn effects(file: &File) -> Vec<String> {
    let connection = Connection::open(&file.0).unwrap();
    let mut select = connection
        .prepare("SELECT id FROM effects ORDER BY id")
        .unwrap();
    let ids = select.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

fn record(transaction: &Transaction<'_>, id: &str) -> Result<(), StoreError> {
    transaction.execute("INSERT INTO effects VALUES (?1)", [id])?;
    Ok(())
}

fn claim(store: &SqliteStore, key: &str) -> Claim {
    match block_on(store.claim(key, LEASE)).unwrap() {
        ClaimOutcome::New(claim) => claim,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn an_effect_and_its_completion_are_one_commit() {
    let (store, file, clock) = open();
    let claim = claim(&store, "a").retain_for(2 * DAY);
    let before = commits(&file);
    let work = |transaction: &Transaction<'_>| {
        record(transaction, "a")?;
        Ok::<_, StoreError>(7)
    };
    assert_eq!(block_on(store.complete_with(&claim, work)).unwrap(), 7);
    assert_eq!(commits(&file) - before, 1);
    assert_eq!(effects(&file), ["a"]);
    clock.advance(2 * DAY - LEASE);
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert_eq!(outcome, ClaimOutcome::Done);
    clock.advance(LEASE);
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert!(matches!(outcome, ClaimOutcome::New(_)), "for its retention");
}

#[test]
fn after_a_lost_lease_nothing_is_done() {
    let (store, file, clock) = open();
    let lost = claim(&store, "a");
    clock.advance(LEASE);
    let held = claim(&store, "a");
    let work = |_: &Transaction<'_>| -> Result<(), StoreError> { panic!("it is not called") };
    let error = block_on(store.complete_with(&lost, work)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::LeaseLost);
    let clone = store.clone();
    let work = move |transaction: &Transaction<'_>| {
        record(transaction, "twice")?;
        clone.complete_in(transaction, &lost)
    };
    let error = block_on(store.transaction(work)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::LeaseLost);
    assert_eq!(effects(&file), [""; 0]);
    let work = |transaction: &Transaction<'_>| record(transaction, "once");
    block_on(store.complete_with(&held, work)).unwrap();
    assert_eq!(effects(&file), ["once"]);
}

#[test]
fn work_that_fails_is_rolled_back_and_leaves_the_claim_held() {
    let (store, file, _) = open();
    let claim = claim(&store, "a");
    let fails = |transaction: &Transaction<'_>| -> Result<(), HandlerError> {
        record(transaction, "a")?;
        Err("no disk".into())
    };
    let error = block_on(store.complete_with(&claim, fails)).unwrap_err();
    assert_eq!(error.to_string(), "no disk");
    let panics = |transaction: &Transaction<'_>| -> Result<(), StoreError> {
        record(transaction, "a")?;
        panic!("in a transaction");
    };
    let error = block_on(store.complete_with(&claim, panics)).unwrap_err();
    assert!(chain(&error).contains("panicked"), "{}", chain(&error));
    assert_eq!(effects(&file), [""; 0]);
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert!(
        matches!(outcome, ClaimOutcome::InFlight { .. }),
        "{outcome:?}"
    );
    let works = |transaction: &Transaction<'_>| record(transaction, "a");
    block_on(store.complete_with(&claim, works)).unwrap();
    assert_eq!(effects(&file), ["a"]);
}

/// The conversion of the store's error into the user's.
#[test]
fn an_error_type_that_panics_costs_its_caller_alone() {
    #[derive(Debug)]
    struct Panics;
    impl From<StoreError> for Panics {
        fn from(error: StoreError) -> Self {
            assert!(!chain(&error).contains("panicked"), "in the store's thread");
            Self
        }
    }
    let (store, file, _) = open();
    let work = |_: &Transaction<'_>| -> Result<(), Panics> { panic!("in a transaction") };
    block_on(store.transaction(work)).unwrap_err();
    let claim = claim(&store, "still works");
    let work = |transaction: &Transaction<'_>| record(transaction, "a");
    block_on(store.complete_with(&claim, work)).unwrap();
    assert_eq!(effects(&file), ["a"]);
}

#[test]
fn no_statement_ends_the_transaction_or_outlives_it() {
    let (store, file, _) = open();
    let other = temporary_path();
    let attach = format!("ATTACH '{}' AS other", other.display());
    for statement in [
        "COMMIT",
        "END",
        "ROLLBACK",
        "BEGIN",
        &attach,
        "DETACH main",
        "PRAGMA synchronous = off",
        "PRAGMA journal_mode = delete",
        "PRAGMA busy_timeout = 0",
        "SELECT 1; COMMIT",
    ] {
        let statement_in = statement.to_owned();
        let work = move |transaction: &Transaction<'_>| {
            record(transaction, "a")?;
            let refused = transaction.execute_batch(&statement_in);
            let refused = refused.is_err() && transaction.prepare_cached(&statement_in).is_err();
            // It goes on in the same transaction.
            record(transaction, "b")?;
            Ok::<_, StoreError>(refused || statement_in.starts_with("SELECT"))
        };
        assert!(block_on(store.transaction(work)).unwrap(), "{statement}");
        assert_eq!(effects(&file), ["a", "b"], "{statement}");
        Connection::open(&file.0)
            .unwrap()
            .execute_batch("DELETE FROM effects")
            .unwrap();
    }
    assert!(!other.exists());
    let allowed = |transaction: &Transaction<'_>| {
        transaction.execute_batch(
            "PRAGMA user_version = 3; SAVEPOINT a; CREATE TABLE b (c); ROLLBACK TO a; RELEASE a",
        )?;
        Ok::<_, StoreError>(())
    };
    block_on(store.transaction(allowed)).unwrap();
    let pragma = "PRAGMA user_version";
    let version = Connection::open(&file.0)
        .unwrap()
        .query_row(pragma, [], |row| row.get::<_, i64>(0));
    assert_eq!(version, Ok(3));
    drop(claim(&store, "still works"));
}

/// SQLite rolls back by itself then, and would commit each later statement.
#[test]
fn work_that_goes_on_after_its_transaction_was_rolled_back_commits_nothing() {
    let (store, file, _) = open();
    let work = |transaction: &Transaction<'_>| {
        record(transaction, "a")?;
        let again = "INSERT OR ROLLBACK INTO effects VALUES ('a')";
        assert!(transaction.execute_batch(again).is_err());
        assert!(transaction.is_autocommit());
        let outside = record(transaction, "b");
        assert!(outside.is_err());
        // It begins another transaction.
        transaction.execute_batch("SAVEPOINT another")?;
        record(transaction, "c")?;
        Ok::<_, StoreError>(())
    };
    let error = block_on(store.transaction(work)).unwrap_err();
    assert!(chain(&error).contains("ended it"), "{}", chain(&error));
    assert_eq!(effects(&file), [""; 0]);
    drop(claim(&store, "still works"));
}

#[test]
fn a_transaction_has_a_time_limit() {
    const LIMIT: Duration = Duration::from_millis(100);
    let file = File(temporary_path());
    let store = SqliteStore::open(&file.0).unwrap().transaction_limit(LIMIT);
    let claim = claim(&store, "a");
    let endless = |transaction: &Transaction<'_>| {
        let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT count(*) FROM n";
        Ok::<i64, StoreError>(transaction.query_row(endless, [], |row| row.get(0))?)
    };
    let begun = Instant::now();
    let error = block_on(store.complete_with(&claim, endless)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{}", chain(&error));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    let slow = |transaction: &Transaction<'_>| {
        transaction.execute_batch("CREATE TABLE late (a)")?;
        thread::sleep(2 * LIMIT);
        Ok::<_, StoreError>(())
    };
    let error = block_on(store.complete_with(&claim, slow)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{}", chain(&error));
    assert!(chain(&error).contains("100ms"), "{}", chain(&error));
    let late = |transaction: &Transaction<'_>| {
        let tables = "SELECT name FROM sqlite_master WHERE name = 'late'";
        Ok::<_, StoreError>(transaction.prepare(tables)?.exists([])?)
    };
    assert!(!block_on(store.complete_with(&claim, late)).unwrap());
}

/// Over a connection of the user's own, by the store's clock.
#[test]
fn claims_and_completions_are_a_part_of_a_users_own_transaction() {
    let (store, file, clock) = open();
    let mut connection = Connection::open(&file.0).unwrap();
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    let transaction = connection.transaction().unwrap();
    let outcome = store.claim_in(&transaction, "a", LEASE).unwrap();
    let ClaimOutcome::New(lost) = outcome else {
        panic!("{outcome:?}");
    };
    transaction.commit().unwrap();
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert_eq!(outcome, ClaimOutcome::InFlight { remaining: LEASE });
    clock.advance(LEASE);
    let held = claim(&store, "a").retain_for(2 * DAY);

    let transaction = connection.transaction().unwrap();
    record(&transaction, "lost").unwrap();
    let error = store.complete_in(&transaction, &lost).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::LeaseLost);
    drop(transaction);
    let transaction = connection.transaction().unwrap();
    record(&transaction, "held").unwrap();
    store.complete_in(&transaction, &held).unwrap();
    transaction.commit().unwrap();
    assert_eq!(effects(&file), ["held"]);
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert_eq!(outcome, ClaimOutcome::Done);
    clock.advance(2 * DAY);
    drop(claim(&store, "a"));
}

#[test]
fn the_statements_for_other_clients_claim_and_complete() {
    let (store, file, clock) = open();
    let connection = Connection::open(&file.0).unwrap();
    let now =
        |clock: &Clock| i64::try_from(clock.now().unix_timestamp_nanos() / 1_000_000).unwrap();
    let claim_sql = |key: &str| {
        let parameters = (key, now(&clock), 60_000);
        let claimed = connection.query_row(SqliteStore::CLAIM_SQL, parameters, |row| row.get(0));
        claimed.ok().map(|token: i64| Claim::new(key, token))
    };
    let complete_sql = |claim: &Claim| {
        let parameters = (claim.key(), claim.fencing_token(), now(&clock), 172_800_000);
        connection.execute(SqliteStore::COMPLETE_SQL, parameters)
    };
    let lost = claim_sql("a").unwrap();
    assert_eq!(claim_sql("a"), None);
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert_eq!(outcome, ClaimOutcome::InFlight { remaining: LEASE });
    clock.advance(LEASE);
    let held = claim_sql("a").unwrap();
    assert!(held.fencing_token() > lost.fencing_token());
    assert_eq!(complete_sql(&lost), Ok(0));
    assert_eq!(complete_sql(&held), Ok(1));
    assert_eq!(claim_sql("a"), None);
    let outcome = block_on(store.claim("a", LEASE)).unwrap();
    assert_eq!(outcome, ClaimOutcome::Done);
    clock.advance(2 * DAY);
    drop(claim(&store, "a"));
}

fn sqlite(fixture: &Fixture) -> (SqliteStore, &File) {
    let Place::Sqlite(file) = &fixture.place else {
        unreachable!()
    };
    let create = "CREATE TABLE effects (id TEXT UNIQUE)";
    let connection = Connection::open(&file.0).unwrap();
    connection.execute_batch(create).unwrap();
    let store = SqliteStore::open(&file.0).unwrap();
    (store.clock(fixture.clock.clone()), file)
}

#[tokio::test]
async fn a_delivery_whose_handler_completes_it_costs_two_commits() {
    let fixture = Fixture::sqlite();
    let (store, file) = sqlite(&fixture);
    let receiver = fixture.builder().retention(2 * DAY).build().unwrap();
    let fails = AtomicU32::new(1);
    let handler = async |received: Received<'_>| {
        let (id, fails) = (
            received.delivery().id().to_owned(),
            fails.load(Ordering::SeqCst),
        );
        let work = move |transaction: &Transaction<'_>| {
            record(transaction, &id)?;
            match fails {
                1 => Err(HandlerError::from("no disk")),
                _ => Ok(()),
            }
        };
        let completed = store.complete_with(received.claim(), work).await;
        // Another completion would change the row.
        fixture.advance(Duration::from_secs(1)).await;
        completed
    };
    let sent = fixture.signed("msg_1");
    // A claim and its release, then a claim and its completion, then nothing.
    for (expected, cost) in [
        ((500, "failed"), 2),
        ((200, "processed"), 2),
        ((200, "duplicate"), 0),
    ] {
        let before = commits(file);
        let reply = receiver.handle(&sent, &sent.body, handler).await;
        assert_eq!((reply.status, reply.outcome.code()), expected);
        assert_eq!(commits(file) - before, cost, "{expected:?}");
        fails.store(0, Ordering::SeqCst);
    }
    assert_eq!(effects(file), ["msg_1"]);
}

#[tokio::test]
async fn a_handler_that_fails_after_its_completion_is_set_aside() {
    let fixture = Fixture::sqlite();
    let (store, file) = sqlite(&fixture);
    let receiver = fixture.receiver();
    let handler = async |received: Received<'_>| {
        let work = |transaction: &Transaction<'_>| record(transaction, "once");
        store.complete_with(received.claim(), work).await?;
        Err::<(), _>(HandlerError::from("no mail"))
    };
    let sent = fixture.signed("msg_1");
    for expected in ["set_aside", "duplicate"] {
        let reply = receiver.handle(&sent, &sent.body, handler).await;
        assert_eq!((reply.status, reply.outcome.code()), (200, expected));
    }
    assert_eq!(effects(file), ["once"]);
}

/// An error of a handler's own.
#[derive(Debug)]
struct Wrapped(StoreError);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the order was not recorded")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn a_handler_that_lost_its_lease_commits_nothing_and_is_told_apart() {
    let fixture = Fixture::sqlite();
    let (store, file) = sqlite(&fixture);
    let receiver = fixture.receiver();
    let sent = fixture.signed("msg_1");
    let complete = async |received: &Received<'_>, effect: &'static str| {
        let work = move |transaction: &Transaction<'_>| record(transaction, effect);
        store.complete_with(received.claim(), work).await
    };
    let slow = async |received: Received<'_>| {
        fixture.advance(LEASE).await;
        let next = async |received: Received<'_>| complete(&received, "next").await;
        let reply = receiver.handle(&sent, &sent.body, next).await;
        assert_eq!(reply.outcome.code(), "processed");
        // Whatever a handler wraps it into.
        complete(&received, "slow").await.map_err(Wrapped)
    };
    let reply = receiver.handle(&sent, &sent.body, slow).await;
    assert_eq!((reply.status, reply.outcome.code()), (409, "lease_lost"));
    assert!(reply.retry_after.is_some());
    assert_eq!(effects(file), ["next"]);
}

#[tokio::test]
async fn a_full_queue_answers_503_and_to_wait() {
    let fixture = Fixture::sqlite();
    let (store, _) = sqlite(&fixture);
    let receiver = Receiver::builder(fixture.verifier(), store.clone());
    let receiver = receiver.build().unwrap();
    let occupied = occupy(&store);
    for number in 0..4096 {
        let key = format!("key{number}");
        assert!(begin(&mut store.claim(&key, LEASE)).is_pending());
    }
    let sent = fixture.signed("msg_1");
    let unreachable = async |_: Received<'_>| -> Result<(), String> { unreachable!() };
    let reply = receiver.handle(&sent, &sent.body, unreachable).await;
    assert_eq!((reply.status, reply.outcome.code()), (503, "queue_full"));
    assert!(reply.retry_after.is_some());
    drop(occupied);
    while store.claim("key0", LEASE).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let handler = async |_: Received<'_>| Ok::<_, String>(());
    let reply = receiver.handle(&sent, &sent.body, handler).await;
    assert_eq!((reply.status, reply.outcome.code()), (200, "processed"));
}

#[test]
fn work_that_waits_for_its_own_store_is_refused() {
    let (store, file, _) = open();
    let held = claim(&store, "held");
    let clone = store.clone();
    let work = move |transaction: &Transaction<'_>| {
        // Pending, they would be for ever.
        let refused = [
            begin(&mut clone.claim("a", LEASE)).map_ok(drop),
            begin(&mut clone.complete(&held, DAY)).map_ok(drop),
            begin(&mut clone.check()),
            begin(&mut pin!(clone.transaction(|_| Ok::<_, StoreError>(())))),
        ];
        record(transaction, "outer")?;
        Ok::<_, StoreError>(refused)
    };
    for refused in block_on(store.transaction(work)).unwrap() {
        let Poll::Ready(Err(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), StoreErrorKind::Configuration);
        assert!(chain(&error).contains("its own store"), "{}", chain(&error));
    }
    assert_eq!(effects(&file), ["outer"]);
    drop(claim(&store, "a"));
}

#[test]
fn once_work_is_past_its_limit_calls_are_refused_until_it_returns() {
    let (store, _file, clock) = open();
    let held = claim(&store, "held");
    let (end, ended) = mpsc::channel::<()>();
    let (at_work, is_at_work) = mpsc::channel();
    let mut working = Box::pin(store.transaction(move |_| {
        at_work.send(()).unwrap();
        let _ = ended.recv();
        Ok::<_, StoreError>(())
    }));
    assert!(begin(&mut working).is_pending());
    is_at_work.recv().unwrap();
    let mut before = store.claim("before", LEASE);
    assert!(begin(&mut before).is_pending());
    clock.advance(SqliteStore::DEFAULT_TRANSACTION_LIMIT);
    for refused in [
        begin(&mut store.check()),
        begin(&mut store.claim("after", LEASE)).map_ok(drop),
        begin(&mut store.complete(&held, DAY)).map_ok(drop),
    ] {
        let Poll::Ready(Err(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{}", chain(&error));
        assert!(chain(&error).contains("limit"), "{}", chain(&error));
    }
    drop(end);
    let error = block_on(working).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{}", chain(&error));
    drop(block_on(before).unwrap());
    block_on(store.check()).unwrap();
    assert!(block_on(store.complete(&held, DAY)).unwrap());
}

#[test]
fn a_full_queue_has_room_for_the_end_of_claims() {
    let (store, _file, _) = open();
    let [completed, released] = ["completed", "released"].map(|key| claim(&store, key));
    let occupied = occupy(&store);
    let keys: Vec<_> = (0..4096).map(|number| format!("key{number}")).collect();
    for key in &keys {
        assert!(begin(&mut store.claim(key, LEASE)).is_pending());
    }
    let is_full = |refused: Poll<Result<(), StoreError>>| match refused {
        Poll::Ready(Err(error)) => error.kind() == StoreErrorKind::QueueFull,
        _ => false,
    };
    assert!(is_full(begin(&mut store.claim("a", LEASE)).map_ok(drop)));
    assert!(is_full(begin(&mut store.check())));
    let mut completing = store.complete(&completed, DAY);
    assert!(begin(&mut completing).is_pending());
    for _ in 1..4096 {
        assert!(begin(&mut store.release(&released)).is_pending());
    }
    assert!(is_full(begin(&mut store.release(&released))));
    drop(occupied);
    assert!(block_on(completing).unwrap());
    let outcome = block_on(store.claim("completed", LEASE)).unwrap();
    assert_eq!(outcome, ClaimOutcome::Done);
    drop(claim(&store, "released"));
}

#[test]
fn a_temporary_table_of_the_same_name_is_not_taken_for_the_stores() {
    let (store, file, _) = open();
    let hide = |transaction: &Transaction<'_>| {
        transaction.execute_batch(
            "CREATE TEMPORARY TABLE gemini_webhook_deliveries AS
                SELECT * FROM gemini_webhook_deliveries WHERE false;
            CREATE UNIQUE INDEX temp.hidden ON gemini_webhook_deliveries (key)",
        )?;
        Ok::<_, StoreError>(())
    };
    block_on(store.transaction(hide)).unwrap();
    let claim = claim(&store, "a");
    let work = |transaction: &Transaction<'_>| record(transaction, "a");
    block_on(store.complete_with(&claim, work)).unwrap();
    let other = SqliteStore::open(&file.0).unwrap();
    let outcome = block_on(other.claim("a", LEASE)).unwrap();
    assert_eq!(outcome, ClaimOutcome::Done);
}

#[test]
fn a_time_to_wait_that_work_has_set_ends_with_it() {
    let (store, file, _) = open();
    let impatient = |transaction: &Transaction<'_>| {
        transaction.busy_timeout(Duration::ZERO)?;
        Ok::<_, StoreError>(())
    };
    block_on(store.transaction(impatient)).unwrap();
    let other = Connection::open(&file.0).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = store.claim("a", LEASE);
    assert!(begin(&mut waiting).is_pending());
    thread::sleep(Duration::from_millis(100));
    other.execute_batch("COMMIT").unwrap();
    drop(block_on(waiting).unwrap());
}

/// As a handler does that repeats a commit of which it heard nothing.
#[test]
fn a_claim_that_is_done_has_no_second_effect() {
    let (store, file, _) = open();
    let held = claim(&store, "key");
    let complete = |id: &'static str| {
        let work = move |transaction: &Transaction<'_>| record(transaction, id);
        block_on(store.complete_with(&held, work))
    };
    complete("first").unwrap();
    let refused = complete("second").unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::LeaseLost);
    assert_eq!(effects(&file), ["first"]);
    // Without an effect, it may be completed again.
    assert!(block_on(store.complete(&held, DAY)).unwrap());
}
