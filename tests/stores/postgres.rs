//! The behaviour of PostgreSQL alone: batches, and transactions that complete a claim.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use deadpool_postgres::tokio_postgres::Client;
use futures_util::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt as _},
};
use gemini_webhooks::{
    receiver::{HandlerError, Received},
    store::{
        Claim, ClaimOutcome, IdempotencyStore as _, PostgresStore, StoreError, StoreErrorKind,
    },
};

use crate::{
    block_on::block_on,
    fixture::{Fixture, Place, client},
};

const LEASE: Duration = Duration::from_secs(60);
/// More than there are connections, so that some share a statement.
const CALLERS: usize = 64;

/// A store in a schema of its own, its URL, and a client for the test.
struct Setting {
    fixture: Fixture,
    store: PostgresStore,
    url: String,
    client: Client,
}

impl Setting {
    async fn new() -> Option<Self> {
        let fixture = Fixture::postgres().await?;
        let Place::Postgres(url) = &fixture.place else {
            unreachable!()
        };
        let url = url.clone();
        let store = PostgresStore::connect(&url).unwrap();
        store.check().await.unwrap();
        let client = client(&url).await;
        let create = "CREATE TABLE effects (id text); CREATE SEQUENCE statements";
        client.batch_execute(create).await.unwrap();
        Some(Self {
            fixture,
            store,
            url,
            client,
        })
    }

    async fn claim(&self, key: &str) -> Claim {
        new(self.store.claim(key, LEASE).await)
    }

    async fn count(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Counts the statements on the store's table from now on.
    async fn count_statements(&self) {
        let trigger = "
            CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN PERFORM nextval('statements'); RETURN NULL; END$$;
            CREATE TRIGGER count AFTER INSERT ON gemini_webhook_deliveries
                FOR EACH STATEMENT EXECUTE FUNCTION count_statement()";
        self.client.batch_execute(trigger).await.unwrap();
    }

    async fn effects(&self) -> i64 {
        self.count("SELECT count(*) FROM effects").await
    }

    /// Returns once another session waits for a lock.
    async fn wait_for_a_lock(&self) {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.count(waiting).await == 0 {
            assert!(Instant::now() < deadline, "nobody waits");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn new(outcome: Result<ClaimOutcome, StoreError>) -> Claim {
    match outcome {
        Ok(ClaimOutcome::New(claim)) => claim,
        other => panic!("{other:?}"),
    }
}

fn is_in_flight(outcome: &Result<ClaimOutcome, StoreError>) -> bool {
    matches!(outcome, Ok(ClaimOutcome::InFlight { remaining }) if *remaining <= LEASE)
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key{number}")).collect()
}

async fn insert(client: &Client) {
    let insert = "INSERT INTO effects VALUES ('effect')";
    client.execute(insert, &[]).await.unwrap();
}

#[tokio::test]
async fn operations_that_arrive_together_share_statements() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    setting.count_statements().await;
    let keys = keys(1024);
    let claims = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE))).await;
    let claims: Vec<Claim> = claims.into_iter().map(new).collect();
    let completed = claims
        .iter()
        .map(|claim| setting.store.complete(claim, LEASE));
    for completed in join_all(completed).await {
        assert!(completed.unwrap());
    }
    let statements = setting.count("SELECT last_value FROM statements").await;
    assert!(statements < 200, "{statements} for 2048 operations");
    let again = keys.iter().map(|key| setting.store.claim(key, LEASE));
    for again in join_all(again).await {
        assert_eq!(again.unwrap(), ClaimOutcome::Done);
    }
    let rows = "SELECT count(*) FROM gemini_webhook_deliveries WHERE done";
    assert_eq!(setting.count(rows).await, 1024);
}

#[tokio::test]
async fn a_caller_alone_runs_the_single_statement() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    setting.count_statements().await;
    let claim = setting.claim("a").await;
    assert!(setting.store.complete(&claim, LEASE).await.unwrap());
    let statements = setting.count("SELECT last_value FROM statements").await;
    assert_eq!(statements, 2);
}

#[tokio::test]
async fn of_several_claims_of_one_key_in_a_batch_one_is_new() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    for round in 0..20 {
        let key = format!("key{round}");
        let outcomes = join_all((0..CALLERS).map(|_| setting.store.claim(&key, LEASE))).await;
        let (claims, others): (Vec<_>, Vec<_>) = outcomes
            .into_iter()
            .partition(|outcome| matches!(outcome, Ok(ClaimOutcome::New(_))));
        assert_eq!(claims.len(), 1);
        assert!(others.iter().all(is_in_flight), "{others:?}");
        let claim = new(claims.into_iter().next().unwrap());

        // Of several completions of one claim, all have completed it; a release then does nothing.
        let completed = join_all((0..CALLERS).map(|_| setting.store.complete(&claim, LEASE))).await;
        assert!(completed.into_iter().all(|completed| completed.unwrap()));
        for released in join_all((0..CALLERS).map(|_| setting.store.release(&claim))).await {
            released.unwrap();
        }
        let again = setting.store.claim(&key, LEASE).await.unwrap();
        assert_eq!(again, ClaimOutcome::Done);
    }
}

#[tokio::test]
async fn a_batch_releases_and_its_fencing_tokens_grow() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let keys = keys(256);
    let mut last = vec![0; keys.len()];
    for _ in 0..4 {
        let claims = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE))).await;
        let claims: Vec<Claim> = claims.into_iter().map(new).collect();
        for (claim, last) in claims.iter().zip(&mut last) {
            assert!(claim.fencing_token() > *last);
            *last = claim.fencing_token();
        }
        // A claim that is not the last one releases and completes nothing.
        let stale: Vec<_> = keys.iter().map(|key| Claim::new(&**key, 1)).collect();
        for released in join_all(stale.iter().map(|claim| setting.store.release(claim))).await {
            released.unwrap();
        }
        let completed = stale
            .iter()
            .map(|claim| setting.store.complete(claim, LEASE));
        for completed in join_all(completed).await {
            assert!(!completed.unwrap());
        }
        let again = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE))).await;
        assert!(again.iter().all(is_in_flight), "{again:?}");
        for released in join_all(claims.iter().map(|claim| setting.store.release(claim))).await {
            released.unwrap();
        }
    }
}

#[tokio::test]
async fn a_batch_removes_expired_rows() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let expired = "INSERT INTO gemini_webhook_deliveries
        SELECT 'old' || n, n, true, 'epoch', now() - interval '1 s' FROM generate_series(1, 400) n";
    setting.client.batch_execute(expired).await.unwrap();
    let keys = keys(256);
    for claimed in join_all(keys.iter().map(|key| setting.store.claim(key, LEASE))).await {
        drop(new(claimed));
    }
    let left = "SELECT count(*) FROM gemini_webhook_deliveries WHERE key LIKE 'old%'";
    assert_eq!(setting.count(left).await, 0);
}

#[tokio::test]
async fn an_operation_that_postgresql_refuses_fails_alone() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let check = "ALTER TABLE gemini_webhook_deliveries ADD CHECK (key <> 'key50')";
    setting.client.batch_execute(check).await.unwrap();
    let keys = keys(CALLERS);
    let outcomes = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE))).await;
    for (key, outcome) in keys.iter().zip(outcomes) {
        if key == "key50" {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            assert!(crate::fixture::chain(&error).contains("check constraint"));
        } else {
            drop(new(outcome));
        }
    }
}

#[tokio::test]
async fn an_operation_on_a_locked_row_waits_alone() {
    let Some(mut setting) = Setting::new().await else {
        return;
    };
    let transaction = setting.client.transaction().await.unwrap();
    let held = PostgresStore::claim_in(&transaction, "key50", LEASE).await;
    let claim = new(held);
    let keys = keys(CALLERS);
    let begun = Instant::now();
    let mut claims: FuturesUnordered<_> = keys
        .iter()
        .map(async |key| (key, setting.store.claim(key, LEASE).await))
        .collect();
    for _ in 1..CALLERS {
        let (key, claimed) = claims.next().await.unwrap();
        assert_ne!(key, "key50");
        drop(new(claimed));
    }
    let others = begun.elapsed();
    assert!(others < Duration::from_secs(3), "{others:?}");
    PostgresStore::complete_in(&transaction, &claim)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let (_, outcome) = claims.next().await.unwrap();
    // Its snapshot is older than the row.
    assert!(
        matches!(
            outcome,
            Ok(ClaimOutcome::Done | ClaimOutcome::InFlight { .. })
        ),
        "{outcome:?}"
    );
    let again = setting.store.claim("key50", LEASE).await.unwrap();
    assert_eq!(again, ClaimOutcome::Done);
}

/// The snapshot of the claim has a key that is done and forgotten. Before the claim gets the row's
/// lock, another claims the key.
#[tokio::test]
async fn a_claim_does_not_report_what_its_snapshot_saw() {
    let Some(mut setting) = Setting::new().await else {
        return;
    };
    let row = "INSERT INTO gemini_webhook_deliveries
        VALUES ('a', 1, true, 'epoch', now() - interval '1 s')";
    setting.client.batch_execute(row).await.unwrap();
    let transaction = setting.client.transaction().await.unwrap();
    drop(new(PostgresStore::claim_in(&transaction, "a", LEASE).await));
    let store = setting.store.clone();
    let claim = tokio::spawn(async move { store.claim("a", LEASE).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    while transaction
        .query_one(waiting, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    transaction.commit().await.unwrap();
    let outcome = claim.await.unwrap();
    assert!(is_in_flight(&outcome), "{outcome:?}");
}

/// Claims, releases and expiry in any order, from two stores at once, in single statements and in
/// batches. As nothing is ever completed after it has expired, nothing is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_never_reports_a_stale_done() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let stores = [
        setting.store.clone(),
        PostgresStore::connect(&setting.url).unwrap(),
    ];
    for round in 0..60 {
        // Alone, a few, and more than there are connections.
        let callers = [2, 8, CALLERS][round % 3];
        let expired = "INSERT INTO gemini_webhook_deliveries
            SELECT 'key' || n, 1, true, 'epoch', now() - interval '1 s' FROM generate_series(0, 7) n
            ON CONFLICT (key) DO UPDATE SET done = true, forget_at = excluded.forget_at";
        setting.client.batch_execute(expired).await.unwrap();
        let tasks = (0..callers).map(|caller| {
            let store = stores[caller % 2].clone();
            tokio::spawn(async move {
                let key = format!("key{}", caller % 8 / 2);
                match store.claim(&key, LEASE).await.unwrap() {
                    ClaimOutcome::New(claim) if caller % 3 == 0 => {
                        store.release(&claim).await.unwrap();
                    }
                    outcome => assert_ne!(outcome, ClaimOutcome::Done),
                }
            })
        });
        for task in join_all(tasks).await {
            task.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_two_stores_on_the_same_keys_do_not_deadlock() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let before = setting.count(deadlocks).await;
    let tasks = (0..4).map(|number| {
        let store = PostgresStore::connect(&setting.url).unwrap();
        tokio::spawn(async move {
            let mut keys = keys(128);
            if number % 2 == 0 {
                keys.reverse();
            }
            for _ in 0..10 {
                let outcomes = join_all(keys.iter().map(|key| store.claim(key, LEASE))).await;
                let claims: Vec<_> = outcomes
                    .into_iter()
                    .filter_map(|outcome| match outcome.unwrap() {
                        ClaimOutcome::New(claim) => Some(claim),
                        _ => None,
                    })
                    .collect();
                for released in join_all(claims.iter().map(|claim| store.release(claim))).await {
                    released.unwrap();
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(setting.count(deadlocks).await, before);
}

#[tokio::test]
async fn when_connections_break_each_caller_gets_an_error_and_the_next_ones_do_not() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let other = client(&setting.url).await;
    let lock = "BEGIN; LOCK TABLE gemini_webhook_deliveries IN EXCLUSIVE MODE";
    other.batch_execute(lock).await.unwrap();
    let keys = keys(CALLERS);
    let claims = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE)));
    let kill = async {
        setting.wait_for_a_lock().await;
        // Those that are run again one by one wait for the lock too, as many as there are connections.
        for _ in 0..10 {
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                WHERE NOT granted AND relation = 'gemini_webhook_deliveries'::regclass";
            setting.count(kill).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        other.batch_execute("ROLLBACK").await.unwrap();
    };
    let begun = Instant::now();
    let (outcomes, ()) = futures_util::future::join(claims, kill).await;
    assert!(begun.elapsed() < Duration::from_secs(12));
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!(failed >= 16, "{failed}");
    for (key, outcome) in keys.iter().zip(outcomes) {
        // One that failed may have happened.
        let again = setting.store.claim(key, LEASE).await.unwrap();
        if outcome.is_ok() {
            assert!(matches!(again, ClaimOutcome::InFlight { .. }), "{again:?}");
        }
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let lock = "BEGIN; LOCK TABLE gemini_webhook_deliveries IN EXCLUSIVE MODE";
    setting.client.batch_execute(lock).await.unwrap();
    let keys = keys(9000);
    let begun = Instant::now();
    let mut claims: FuturesUnordered<_> = keys
        .iter()
        .map(|key| setting.store.claim(key, LEASE))
        .collect();
    let first = claims.next().await.unwrap();
    assert_eq!(first.unwrap_err().kind(), StoreErrorKind::QueueFull);
    assert!(begun.elapsed() < Duration::from_secs(3));
    drop(claims);
    setting.client.batch_execute("ROLLBACK").await.unwrap();
    // Those whose callers have gone leave their places.
    let deadline = Instant::now() + Duration::from_secs(30);
    while setting.store.claim("another", LEASE).await.is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn callers_that_go_away_disturb_no_others() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    for round in 0..20 {
        let keys: Vec<_> = (0..CALLERS).map(|n| format!("{round}/{n}")).collect();
        let claims = keys.iter().enumerate().map(async |(number, key)| {
            let claim = setting.store.claim(key, LEASE);
            if number % 2 == 0 {
                // At any moment.
                let time = Duration::from_micros((number * 97 + round * 131) as u64 % 3000);
                let _ = tokio::time::timeout(time, claim).await;
                return;
            }
            let claim = new(claim.await);
            assert!(setting.store.complete(&claim, LEASE).await.unwrap());
        });
        join_all(claims).await;
    }
}

#[test]
fn a_runtime_that_shuts_down_leaves_the_store_to_the_next_one() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let Some(setting) = first.block_on(Setting::new()) else {
        return;
    };
    let store = setting.store.clone();
    let waiting = second.spawn(async move {
        let keys = keys(CALLERS);
        join_all(keys.iter().map(|key| store.claim(key, LEASE))).await
    });
    let store = setting.store.clone();
    first.spawn(async move {
        let keys: Vec<_> = (0..CALLERS)
            .map(|number| format!("other{number}"))
            .collect();
        join_all(keys.iter().map(|key| store.claim(key, LEASE))).await
    });
    std::thread::sleep(Duration::from_millis(3));
    first.shutdown_background();
    // None waits for ever, whatever it gets.
    let begun = Instant::now();
    second.block_on(waiting).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(12));
    let deadline = Instant::now() + Duration::from_secs(10);
    second.block_on(async {
        while setting.store.claim("new", LEASE).await.is_err() {
            assert!(Instant::now() < deadline);
        }
    });
}

#[tokio::test]
async fn effect_and_completion_are_one_transaction() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    setting.count_statements().await;
    let receiver = setting.fixture.builder().build().unwrap();
    let sent = setting.fixture.signed("msg_1");
    let fails = AtomicU32::new(1);
    for expected in ["failed", "processed", "duplicate"] {
        let reply = receiver.handle(&sent, &sent.body, async |received: Received<'_>| {
            let transaction = setting.store.begin(received.claim()).await?;
            insert(transaction.client()).await;
            if fails.swap(0, Ordering::SeqCst) == 1 {
                return Err::<_, HandlerError>("the first attempt fails".into());
            }
            transaction.complete().await?;
            Ok(())
        });
        assert_eq!(reply.await.outcome.code(), expected);
    }
    assert_eq!(setting.effects().await, 1);
    // Three claims and one completion: `Receiver` does not complete it again.
    let statements = setting.count("SELECT last_value FROM statements").await;
    assert_eq!(statements, 4);
}

/// The effect is rolled back: whoever acknowledged it would lose it.
#[tokio::test]
async fn a_handler_that_forgets_to_complete_its_transaction_has_failed() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let receiver = setting.fixture.builder().build().unwrap();
    let sent = setting.fixture.signed("msg_1");
    for (rolls_back, expected) in [(false, "failed"), (true, "processed")] {
        let reply = receiver.handle(&sent, &sent.body, async |received: Received<'_>| {
            let transaction = setting.store.begin(received.claim()).await?;
            insert(transaction.client()).await;
            if rolls_back {
                transaction.rollback().await?;
            }
            Ok::<_, HandlerError>(())
        });
        assert_eq!(reply.await.outcome.code(), expected);
    }
    assert_eq!(setting.effects().await, 0);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_or_rolled_back_leaves_nothing() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let claim = setting.claim("a").await;
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE state LIKE 'idle in transaction%' AND query LIKE '%effects%'
        AND backend_xid::text::bigint > 0 AND pid <> pg_backend_pid()
        AND current_schema() = (SELECT current_schema())";
    for roll_back in [false, true, false, true] {
        let transaction = setting.store.begin(&claim).await.unwrap();
        insert(transaction.client()).await;
        if roll_back {
            transaction.rollback().await.unwrap();
        } else {
            drop(transaction);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while setting.count(open).await > 0 {
        assert!(Instant::now() < deadline, "a transaction is left open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(setting.effects().await, 0);
    let transaction = setting.store.begin(&claim).await.unwrap();
    let shown = format!("{transaction:?}");
    assert!(
        !shown.contains("key"),
        "a nonce may be a part of it: {shown}"
    );
    insert(transaction.client()).await;
    transaction.complete().await.unwrap();
    assert_eq!(setting.effects().await, 1);
}

/// A client that hangs up, or a probe that has waited for too long.
#[tokio::test]
async fn a_connection_whose_caller_has_gone_is_not_used_again() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let claim = setting.claim("locked").await;
    let manager = deadpool_postgres::Manager::new(
        setting.url.parse().unwrap(),
        deadpool_postgres::tokio_postgres::NoTls,
    );
    let pool = deadpool_postgres::Pool::builder(manager)
        .max_size(1)
        .build();
    let store = PostgresStore::new(pool.unwrap());
    store.check().await.unwrap();
    setting.client.batch_execute("BEGIN").await.unwrap();
    let lock = "SELECT FROM gemini_webhook_deliveries FOR UPDATE";
    setting.client.batch_execute(lock).await.unwrap();
    let waiting = store.complete(&claim, Duration::from_secs(60));
    let gone = tokio::time::timeout(Duration::from_millis(50), waiting).await;
    assert!(gone.is_err(), "the row is locked");
    let begun = Instant::now();
    let other = new(store.claim("another", LEASE).await);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    drop(other);
    setting.client.batch_execute("ROLLBACK").await.unwrap();
}

/// Otherwise it would keep its place at the server until the lock is free.
#[tokio::test]
async fn a_statement_whose_caller_has_gone_is_cancelled() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let claim = setting.claim("locked").await;
    let url = format!("{}&application_name=gone", setting.url);
    let manager = deadpool_postgres::Manager::new(
        url.parse().unwrap(),
        deadpool_postgres::tokio_postgres::NoTls,
    );
    let pool = deadpool_postgres::Pool::builder(manager).build().unwrap();
    let store = PostgresStore::new(pool);
    store.check().await.unwrap();
    let transaction = store.begin(&claim).await.unwrap();
    let lock = "BEGIN; SELECT FROM gemini_webhook_deliveries FOR UPDATE";
    let other = client(&setting.url).await;
    other.batch_execute(lock).await.unwrap();
    let count = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'gone' AND wait_event_type = 'Lock'";
    let waiting = async |expected| {
        let deadline = Instant::now() + Duration::from_secs(3);
        while setting.count(count).await != expected {
            assert!(Instant::now() < deadline, "not {expected} wait");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let single = async {
        drop(store.complete(&claim, LEASE).await);
    };
    let of_a_transaction = async {
        let lock = "SELECT FROM gemini_webhook_deliveries FOR UPDATE";
        drop(transaction.client().batch_execute(lock).await);
    };
    let both = futures_util::future::join(single, of_a_transaction);
    tokio::select! {
        _ = both => unreachable!("the row is locked"),
        () = waiting(2) => {}
    }
    drop(transaction);
    waiting(0).await;
}

#[tokio::test]
async fn the_server_limits_a_statement_unless_the_address_does() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let bare = setting.url.split_once('?').unwrap().0;
    for (url, expected) in [
        (setting.url.clone(), "4s"),
        (format!("{}%20-cstatement_timeout%3D9s", setting.url), "9s"),
        (bare.to_owned(), "4s"),
        (format!("{bare}?options="), "0"),
    ] {
        let store = PostgresStore::connect(&url).unwrap();
        let client = store.pool().get().await.unwrap();
        let row = client.query_one("SHOW statement_timeout", &[]).await;
        assert_eq!(row.unwrap().get::<_, &str>(0), expected, "{url}");
        if url.contains("search_path") {
            let row = client.query_one("SHOW search_path", &[]).await.unwrap();
            assert!(url.contains(row.get::<_, &str>(0)), "{url}");
        }
    }
}

#[test]
fn outside_a_runtime_calls_fail_and_nothing_is_lost() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(setting) = runtime.block_on(Setting::new()) else {
        return;
    };
    let claim = runtime.block_on(setting.claim("a"));
    // More than there are slots.
    for _ in 0..20 {
        let claimed = block_on(setting.store.claim("b", LEASE)).map(drop);
        let completed = block_on(setting.store.complete(&claim, LEASE)).map(drop);
        let checked = block_on(setting.store.check());
        let begun = block_on(setting.store.begin(&claim)).map(drop);
        for error in [claimed, completed, checked, begun] {
            assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Configuration);
        }
    }
    let begun = Instant::now();
    drop(runtime.block_on(setting.claim("b")));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn claims_of_a_key_with_two_leases_are_not_one() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let lock = "BEGIN; LOCK TABLE gemini_webhook_deliveries IN EXCLUSIVE MODE";
    setting.client.batch_execute(lock).await.unwrap();
    let keys = keys(CALLERS);
    let others = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE)));
    // Its caller goes away when the batch has begun.
    let short = async {
        let claim = setting.store.claim("a", Duration::from_secs(2));
        let gone = tokio::time::timeout(Duration::from_millis(700), claim).await;
        assert!(gone.is_err(), "the table is locked");
        setting.client.batch_execute("ROLLBACK").await.unwrap();
    };
    let long = setting.store.claim("a", LEASE);
    let (others, (), long) = futures_util::future::join3(others, short, long).await;
    others.into_iter().map(new).for_each(drop);
    match long.unwrap() {
        ClaimOutcome::New(_) => {
            let held = "SELECT extract(epoch FROM held_until - now())::bigint
                FROM gemini_webhook_deliveries WHERE key = 'a'";
            assert!(setting.count(held).await > 2);
        }
        outcome => assert!(is_in_flight(&Ok(outcome))),
    }
}

#[tokio::test]
async fn claims_whose_callers_have_all_gone_are_released() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let lock = "BEGIN; LOCK TABLE gemini_webhook_deliveries IN EXCLUSIVE MODE";
    setting.client.batch_execute(lock).await.unwrap();
    let keys = keys(CALLERS);
    let claims = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE)));
    // Longer than a statement is waited for before the next begins.
    let gone = tokio::time::timeout(Duration::from_millis(700), claims).await;
    assert!(gone.is_err(), "the table is locked");
    setting.client.batch_execute("ROLLBACK").await.unwrap();
    let other = PostgresStore::connect(&setting.url).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    for key in &keys {
        while !matches!(other.claim(key, LEASE).await, Ok(ClaimOutcome::New(_))) {
            assert!(Instant::now() < deadline, "{key} is held");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_full_queue_takes_completions() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let claim = setting.claim("claimed").await;
    let lock = "BEGIN; LOCK TABLE gemini_webhook_deliveries IN EXCLUSIVE MODE";
    setting.client.batch_execute(lock).await.unwrap();
    let keys = keys(9000);
    let claims = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE)));
    let completes = async {
        let full = setting.store.claim("another", LEASE).await.unwrap_err();
        assert_eq!(full.kind(), StoreErrorKind::QueueFull);
        let unlock = setting.client.batch_execute("ROLLBACK");
        let completed = setting.store.complete(&claim, LEASE);
        let (completed, unlocked) = futures_util::future::join(completed, unlock).await;
        unlocked.unwrap();
        assert!(completed.unwrap());
    };
    let (_, ()) = futures_util::future::join(claims, completes).await;
}

#[tokio::test]
async fn a_locked_row_does_not_split_its_batch_into_single_statements() {
    let Some(mut setting) = Setting::new().await else {
        return;
    };
    setting.count_statements().await;
    let transaction = setting.client.transaction().await.unwrap();
    drop(new(
        PostgresStore::claim_in(&transaction, "key200", LEASE).await
    ));
    let keys = keys(256);
    let claims = join_all(keys.iter().map(|key| setting.store.claim(key, LEASE)));
    let unlock = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        transaction.commit().await.unwrap();
    };
    let (claims, ()) = futures_util::future::join(claims, unlock).await;
    let new = claims
        .iter()
        .filter(|claim| matches!(claim, Ok(ClaimOutcome::New(_))));
    assert_eq!(new.count(), 255);
    let statements = setting.count("SELECT last_value FROM statements").await;
    assert!(statements < 60, "{statements} for 256 operations");
}

#[tokio::test]
async fn a_transaction_leaves_nothing_in_its_session() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let path = "SELECT current_setting('search_path')";
    let before = setting.client.query_one(path, &[]).await.unwrap();
    let (before, elsewhere) = (before.get::<_, &str>(0), "pg_catalog");
    for (number, rolls_back) in [false, true].into_iter().enumerate() {
        let claim = setting.claim(&number.to_string()).await;
        let transaction = setting.store.begin(&claim).await.unwrap();
        let left = "SET statement_timeout = '1h'; CREATE TEMP TABLE temporary (id text);
            SELECT pg_advisory_lock(5); DECLARE held CURSOR WITH HOLD FOR SELECT 1;";
        transaction.client().batch_execute(left).await.unwrap();
        if rolls_back {
            transaction.rollback().await.unwrap();
        } else {
            let schema = format!("SET search_path = {before}, {elsewhere}; SET ROLE pg_monitor");
            let work = transaction.client().batch_execute(&schema).await;
            work.unwrap();
            // As a handler would that needs it for some statements.
            transaction
                .client()
                .batch_execute("RESET ROLE")
                .await
                .unwrap();
            transaction.complete().await.unwrap();
        }
        // More than there are connections for transactions.
        for _ in 0..20 {
            let transaction = setting.store.begin(&claim).await.unwrap();
            let state = "SELECT current_setting('search_path') || current_user,
                (SELECT count(*) FROM pg_cursors WHERE name = 'held')
                + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 5
                    AND pid = pg_backend_pid())
                + (SELECT count(*) FROM pg_class WHERE oid = to_regclass('pg_temp.temporary'))";
            let row = transaction.client().query_one(state, &[]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), format!("{before}postgres"));
            assert_eq!(row.get::<_, i64>(1), 0);
            transaction.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_transaction_completes_its_claim_in_the_table_of_the_store_alone() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let schema = setting
        .client
        .query_one("SELECT current_schema() || '_tenant'", &[]);
    let schema: String = schema.await.unwrap().get(0);
    let table = format!(
        "CREATE SCHEMA {schema};
        CREATE TABLE {schema}.gemini_webhook_deliveries (LIKE gemini_webhook_deliveries INCLUDING ALL)"
    );
    setting.client.batch_execute(&table).await.unwrap();
    let claim = setting.claim("a").await;
    let transaction = setting.store.begin(&claim).await.unwrap();
    let path = format!("SET LOCAL search_path = {schema}");
    transaction.client().batch_execute(&path).await.unwrap();
    let error = transaction.complete().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
    assert!(is_in_flight(&setting.store.claim("a", LEASE).await));
}

#[tokio::test]
async fn a_rollback_after_a_stray_commit_fails() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let claim = setting.claim("a").await;
    for (stray, expected) in [
        ("SELECT 1", true),
        ("SELECT 1/0", true),
        ("COMMIT", false),
        ("COMMIT; BEGIN", false),
    ] {
        let transaction = setting.store.begin(&claim).await.unwrap();
        insert(transaction.client()).await;
        let _ = transaction.client().batch_execute(stray).await;
        let rolled_back = transaction.rollback().await;
        let kind = rolled_back.map_err(|error| error.kind());
        let expected = if expected {
            Ok(())
        } else {
            Err(StoreErrorKind::Configuration)
        };
        assert_eq!(kind, expected, "{stray}");
    }
    assert_eq!(setting.effects().await, 2);
}

#[tokio::test]
async fn after_a_lost_lease_nothing_is_committed() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let receiver = setting.fixture.builder().build().unwrap();
    let sent = setting.fixture.signed("msg_1");
    let reply = receiver.handle(&sent, &sent.body, async |received: Received<'_>| {
        let transaction = setting.store.begin(received.claim()).await?;
        insert(transaction.client()).await;
        setting.fixture.advance(LEASE * 2).await;
        drop(setting.claim(received.claim().key()).await);
        transaction.complete().await?;
        Ok::<_, HandlerError>(())
    });
    let reply = reply.await;
    assert_eq!((reply.status, reply.outcome.code()), (409, "lease_lost"));
    assert_eq!(setting.effects().await, 0);

    // The same in a transaction of the caller's own.
    let claim = Claim::new(setting.fixture.key("msg_2"), 1);
    drop(setting.claim(claim.key()).await);
    let mut other = client(&setting.url).await;
    let transaction = other.transaction().await.unwrap();
    insert(transaction.client()).await;
    let error = PostgresStore::complete_in(&transaction, &claim).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::LeaseLost);
    drop(transaction);
    assert_eq!(setting.effects().await, 0);
}

#[tokio::test]
async fn a_stray_commit_does_not_complete_the_claim() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    for (number, stray) in ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "COMMIT AND CHAIN"]
        .into_iter()
        .enumerate()
    {
        let key = format!("key{number}");
        let claim = setting.claim(&key).await;
        let transaction = setting.store.begin(&claim).await.unwrap();
        transaction.client().batch_execute(stray).await.unwrap();
        insert(transaction.client()).await;
        let error = transaction.complete().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Configuration, "{stray}");
        let again = setting.store.claim(&key, LEASE).await;
        assert!(is_in_flight(&again), "{stray}: {again:?}");
    }
    // A savepoint is none.
    let claim = setting.claim("savepoint").await;
    let transaction = setting.store.begin(&claim).await.unwrap();
    let nested = "SAVEPOINT a; INSERT INTO effects VALUES ('b'); ROLLBACK TO a; SAVEPOINT c";
    transaction.client().batch_execute(nested).await.unwrap();
    transaction.complete().await.unwrap();
    let again = setting.store.claim("savepoint", LEASE).await.unwrap();
    assert_eq!(again, ClaimOutcome::Done);
}

#[tokio::test]
async fn a_transaction_with_a_failed_statement_is_not_completed() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let claim = setting.claim("a").await;
    let transaction = setting.store.begin(&claim).await.unwrap();
    insert(transaction.client()).await;
    let failed = transaction.client().batch_execute("SELECT 1/0").await;
    assert!(failed.is_err());
    assert!(transaction.complete().await.is_err());
    assert_eq!(setting.effects().await, 0);
    assert!(is_in_flight(&setting.store.claim("a", LEASE).await));
}

#[tokio::test]
async fn a_transaction_has_limits() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let claim = setting.claim("a").await;
    let transaction = setting.store.begin(&claim).await.unwrap();
    for limit in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        let show = format!("SHOW {limit}");
        let row = transaction.client().query_one(&show, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "1min");
    }
    transaction.complete().await.unwrap();
    // They end with it.
    let claim = setting.claim("b").await;
    let transaction = setting.store.begin(&claim).await.unwrap();
    let short = "SET LOCAL statement_timeout = '10ms'";
    transaction.client().batch_execute(short).await.unwrap();
    let error = transaction
        .client()
        .batch_execute("SELECT pg_sleep(5)")
        .await;
    let error = StoreError::from(error.unwrap_err());
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
}

#[tokio::test]
async fn open_transactions_leave_the_batches_their_connections() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let keys = keys(16);
    let claims = join_all(keys.iter().map(|key| setting.claim(key))).await;
    let mut open = Vec::new();
    for claim in &claims {
        open.push(setting.store.begin(claim).await.unwrap());
    }
    drop(setting.claim("another").await);
    let begun = Instant::now();
    let error = setting.store.begin(&claims[0]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(8));
    for transaction in open {
        transaction.complete().await.unwrap();
    }
    let again = setting.store.begin(&claims[0]).await.unwrap();
    again.rollback().await.unwrap();
}

#[tokio::test]
async fn errors_of_postgresql_are_told_apart() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    for (from, to, expected) in [
        ("/postgres?", "/missing?", StoreErrorKind::Configuration),
        ("postgres@", "nobody_here@", StoreErrorKind::Configuration),
    ] {
        let store = PostgresStore::connect(&setting.url.replacen(from, to, 1)).unwrap();
        let error = store.check().await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
    }
    let nowhere = PostgresStore::connect("postgres:///a").unwrap();
    let error = nowhere.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration, "{error:?}");
    for url in [
        "nonsense",
        "postgres://localhost:99999999/a",
        "postgres://localhost/?sslmode=full",
    ] {
        let error = PostgresStore::connect(url).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Configuration, "{url}");
    }
    let lock = "BEGIN; LOCK TABLE gemini_webhook_deliveries IN EXCLUSIVE MODE";
    setting.client.batch_execute(lock).await.unwrap();
    let error = setting.store.claim("a", LEASE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
}

/// As a handler does that repeats a commit of which it heard nothing.
#[tokio::test]
async fn a_claim_that_is_done_has_no_second_effect() {
    let Some(Fixture { store, place, .. }) = Fixture::postgres().await else {
        return;
    };
    let Place::Postgres(url) = place else {
        unreachable!()
    };
    let ClaimOutcome::New(claim) = store.claim("key", LEASE).await.unwrap() else {
        panic!("it is new");
    };
    let client = client(&url).await;
    client
        .batch_execute("CREATE TABLE effects (id text)")
        .await
        .unwrap();
    let store = PostgresStore::connect(&url).unwrap();
    let mut results = Vec::new();
    for _ in 0..2 {
        let transaction = store.begin(&claim).await.unwrap();
        let insert = "INSERT INTO effects VALUES ('it')";
        transaction.client().batch_execute(insert).await.unwrap();
        results.push(transaction.complete().await.map_err(|error| error.kind()));
    }
    assert_eq!(results, [Ok(()), Err(StoreErrorKind::LeaseLost)]);
    let row = client.query_one("SELECT count(*) FROM effects", &[]).await;
    assert_eq!(row.unwrap().get::<_, i64>(0), 1);
    // Without an effect, it may be completed again.
    assert!(store.complete(&claim, LEASE).await.unwrap());
}
