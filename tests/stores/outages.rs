//! Stores that go away and come back, and one that is many servers.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use gemini_webhooks::{
    Receiver,
    receiver::Received,
    store::{ClaimOutcome, IdempotencyStore, PostgresStore, RedisStore, StoreErrorKind},
};

use crate::{
    fixture::{Fixture, Place, chain, redis_connection},
    servers::Server,
};

/// What is answered, and how often the handler ran.
async fn handle(fixture: &Fixture, receiver: &Receiver, id: &str) -> ((u16, &'static str), u32) {
    let (sent, count) = (fixture.signed(id), AtomicU32::new(0));
    let handler = async |_: Received<'_>| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok::<_, String>(())
    };
    let reply = receiver.handle(&sent, &sent.body, handler).await;
    assert_eq!(reply.retry_after.is_some(), reply.status != 200, "{id}");
    ((reply.status, reply.outcome.code()), count.into_inner())
}

/// Handles until the store is back, and gives the first other answer.
async fn handle_when_back(
    fixture: &Fixture,
    receiver: &Receiver,
    id: &str,
) -> ((u16, &'static str), u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = handle(fixture, receiver, id).await;
        if answer != AWAY {
            return answer;
        }
        assert!(Instant::now() < deadline, "it does not come back");
    }
}

const AWAY: ((u16, &str), u32) = ((503, "store_unavailable"), 0);
const PROCESSED: ((u16, &str), u32) = ((200, "processed"), 1);
const DUPLICATE: ((u16, &str), u32) = ((200, "duplicate"), 0);

async fn goes_away_and_comes_back(mut server: Server, fixture: Fixture) {
    let receiver = fixture.receiver();
    assert_eq!(handle(&fixture, &receiver, "msg_1").await, PROCESSED);
    server.stop();
    for _ in 0..3 {
        for id in ["msg_1", "msg_2"] {
            let asked = Instant::now();
            assert_eq!(
                handle(&fixture, &receiver, id).await,
                AWAY,
                "{}",
                fixture.name
            );
            assert!(
                asked.elapsed() < Duration::from_secs(12),
                "{}",
                fixture.name
            );
        }
    }
    server.start();
    assert_eq!(
        handle_when_back(&fixture, &receiver, "msg_2").await,
        PROCESSED
    );
    assert_eq!(handle(&fixture, &receiver, "msg_1").await, DUPLICATE);
    assert_eq!(handle(&fixture, &receiver, "msg_2").await, DUPLICATE);

    // In the middle: handled, and that can't be remembered.
    let sent = fixture.signed("msg_3");
    let handler = async |_: Received<'_>| {
        server.stop();
        Ok::<_, String>(())
    };
    let reply = receiver.handle(&sent, &sent.body, handler).await;
    assert_eq!(reply.outcome.code(), "store_unavailable");
    assert_eq!(reply.status, 503);
    server.start();
    let in_flight = ((409, "in_flight"), 0);
    assert_eq!(
        handle_when_back(&fixture, &receiver, "msg_3").await,
        in_flight
    );
    fixture.advance(Receiver::DEFAULT_LEASE).await;
    assert_eq!(handle(&fixture, &receiver, "msg_3").await, PROCESSED);
}

#[tokio::test]
async fn postgresql_goes_away_and_comes_back() {
    let Some(server) = Server::postgres(false) else {
        return;
    };
    let fixture = Fixture::postgres_on(&server).await;
    goes_away_and_comes_back(server, fixture).await;
}

#[tokio::test]
async fn redis_goes_away_and_comes_back() {
    let Some(server) = Server::redis(false) else {
        return;
    };
    let fixture = Fixture::redis_on(&server);
    goes_away_and_comes_back(server, fixture).await;
}

#[tokio::test]
async fn sqlite_that_another_keeps_locked_is_away() {
    let fixture = Fixture::sqlite();
    let Place::Sqlite(file) = &fixture.place else {
        unreachable!()
    };
    let receiver = fixture.receiver();
    assert_eq!(handle(&fixture, &receiver, "msg_1").await, PROCESSED);
    let other = rusqlite::Connection::open(&file.0).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Many at once wait no longer than one.
    let asked = Instant::now();
    let answers =
        futures_util::future::join_all((0..32).map(|_| handle(&fixture, &receiver, "msg_2")));
    for answer in answers.await {
        assert_eq!(answer, AWAY);
    }
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(handle(&fixture, &receiver, "msg_2").await, PROCESSED);
    assert_eq!(handle(&fixture, &receiver, "msg_1").await, DUPLICATE);
}

#[tokio::test]
async fn a_server_that_never_answers_is_away() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(connection) = listener.accept().await {
            kept.push(connection);
        }
    });
    let postgres = PostgresStore::connect(&format!("postgres://a@127.0.0.1:{port}/b")).unwrap();
    let redis = RedisStore::connect(&format!("redis://127.0.0.1:{port}/")).unwrap();
    let stores: [&dyn IdempotencyStore; 2] = [&postgres, &redis];
    for store in stores {
        let asked = Instant::now();
        let claim = store.claim("a", Duration::from_secs(60)).await;
        assert!(claim.is_err(), "{claim:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(12),
            "{:?}",
            asked.elapsed()
        );
    }
    silent.abort();
}

/// Its place in the pool becomes free late: that is not the time to begin another 5 s.
#[tokio::test]
async fn a_connection_takes_5_s_in_all() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = PostgresStore::connect(&format!("postgres://a@127.0.0.1:{port}/b")).unwrap();
    let others: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.check().await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(
        asked.elapsed() < Duration::from_secs(7),
        "{:?}",
        asked.elapsed()
    );
    for other in others {
        other.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_check_finds_a_redis_that_refuses_to_write() {
    let Some(server) = Server::redis(false) else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let mut admin = redis_connection(&url).await;
    let store = RedisStore::connect(&url).unwrap();
    store.check().await.unwrap();
    let mut command = redis::cmd("ACL");
    command.arg(&["SETUSER", "reader", "on", ">a", "~*", "+@read", "+ping"]);
    command.exec_async(&mut admin).await.unwrap();
    let reader = url.replacen("redis://", "redis://reader:a@", 1);
    let reader = RedisStore::connect(&reader).unwrap();
    let error = reader.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration, "{error:?}");
    // A replica, of a server that is not there.
    let mut command = redis::cmd("REPLICAOF");
    command.arg("127.0.0.1").arg(1);
    command.exec_async(&mut admin).await.unwrap();
    let error = chain(&store.check().await.unwrap_err()).to_lowercase();
    assert!(
        error.contains("readonly") || error.contains("read only"),
        "{error}"
    );
}

#[tokio::test]
async fn a_check_finds_a_postgresql_that_refuses_to_write() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let Place::Postgres(url) = &fixture.place else {
        unreachable!()
    };
    fixture.store.check().await.unwrap();
    let store = format!("{url}%20-cdefault_transaction_read_only=on");
    let store = PostgresStore::connect(&store).unwrap();
    let error = chain(&store.check().await.unwrap_err());
    assert!(error.contains("read-only transaction"), "{error}");
    let keys: Vec<_> = (0..64).map(|number| format!("key{number}")).collect();
    let lease = Duration::from_secs(60);
    let claims = keys.iter().map(|key| store.claim(key, lease));
    for claim in futures_util::future::join_all(claims).await {
        assert_eq!(claim.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }

    let admin = crate::fixture::client(url).await;
    let rename = "ALTER TABLE gemini_webhook_deliveries RENAME forget_at TO forget_on";
    admin.batch_execute(rename).await.unwrap();
    let error = fixture.store.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration, "{error:?}");
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_show_no_password() {
    let nowhere = {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let postgres = PostgresStore::connect(&format!("postgres://a:hunter2@{nowhere}/b")).unwrap();
    let redis = RedisStore::connect(&format!("redis://a:hunter2@{nowhere}/")).unwrap();
    assert!(!format!("{postgres:?} {redis:?}").contains("hunter2"));
    let stores: [&dyn IdempotencyStore; 2] = [&postgres, &redis];
    for store in stores {
        let error = store.claim("a", Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(error.to_string(), "the store is unavailable");
        let (shown, debug) = (chain(&error), format!("{error:?}"));
        assert!(
            shown.to_lowercase().contains("connection refused"),
            "{shown}"
        );
        assert!(
            !shown.contains("hunter2") && !debug.contains("hunter2"),
            "{shown} {debug}"
        );
    }
}

/// A role that may not create tables uses one that is there, and is told what it lacks where there
/// is none.
#[tokio::test]
async fn postgresql_needs_the_right_to_create_its_table_only_where_there_is_none() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let Place::Postgres(url) = &fixture.place else {
        unreachable!()
    };
    let admin = crate::fixture::client(url).await;
    let role = format!("reader_{}", fixture.namespace);
    let schema = admin
        .query_one("SELECT current_schema()", &[])
        .await
        .unwrap();
    let schema: String = schema.get(0);
    let create = format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}");
    admin.batch_execute(&create).await.unwrap();
    let store = PostgresStore::connect(&url.replacen("postgres@", &format!("{role}@"), 1)).unwrap();
    let lease = Duration::from_secs(60);
    let error = chain(&store.claim("a", lease).await.unwrap_err());
    assert!(error.contains("permission denied for schema"), "{error}");

    drop(fixture.store.claim("b", lease).await.unwrap());
    let grant = format!("GRANT SELECT ON gemini_webhook_deliveries TO {role}");
    admin.batch_execute(&grant).await.unwrap();
    let error = store.check().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration, "{error:?}");
    let grant = format!("GRANT ALL ON gemini_webhook_deliveries TO {role}");
    admin.batch_execute(&grant).await.unwrap();
    let outcome = store.claim("a", lease).await.unwrap();
    assert!(matches!(outcome, ClaimOutcome::New(_)), "{outcome:?}");
    drop(store);
    let drop_role = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    admin.batch_execute(&drop_role).await.unwrap();
}

#[tokio::test]
async fn many_that_find_no_table_create_it_once() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let Place::Postgres(url) = &fixture.place else {
        unreachable!()
    };
    let lease = Duration::from_secs(60);
    let stores: Vec<_> = (0..8)
        .map(|_| PostgresStore::connect(url).unwrap())
        .collect();
    let claims = stores.iter().map(|store| store.claim("a", lease));
    let outcomes = futures_util::future::join_all(claims).await;
    let outcomes = outcomes.into_iter().map(Result::unwrap);
    assert_eq!(
        outcomes
            .filter(|outcome| matches!(outcome, ClaimOutcome::New(_)))
            .count(),
        1
    );
}

#[tokio::test]
async fn redis_cluster_of_three_nodes() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let Some(node) = Server::redis(true) else {
            return;
        };
        nodes.push(node);
    }
    let urls: Vec<_> = nodes
        .iter()
        .map(|node| format!("redis://127.0.0.1:{}/", node.port))
        .collect();
    let ends = [0, 5000, 10000, 16384];
    for (position, url) in urls.iter().enumerate() {
        let mut connection = redis_connection(url).await;
        let mut slots = redis::cmd("CLUSTER");
        slots
            .arg("ADDSLOTSRANGE")
            .arg(ends[position])
            .arg(ends[position + 1] - 1);
        slots.exec_async(&mut connection).await.unwrap();
        let mut meet = redis::cmd("CLUSTER");
        meet.arg("MEET")
            .arg("127.0.0.1")
            .arg(nodes[0].port)
            .arg(nodes[0].bus);
        meet.exec_async(&mut connection).await.unwrap();
    }
    for url in &urls {
        let mut connection = redis_connection(url).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let info: String = redis::cmd("CLUSTER")
                .arg("INFO")
                .query_async(&mut connection)
                .await
                .unwrap();
            if info.contains("cluster_state:ok") && info.contains("cluster_size:3") {
                break;
            }
            assert!(Instant::now() < deadline, "{info}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let client = redis::cluster::ClusterClient::new(urls.clone()).unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    let lease = Duration::from_secs(60);
    for number in 0..300 {
        let key = format!("key{number}");
        let ClaimOutcome::New(claim) = store.claim(&key, lease).await.unwrap() else {
            panic!("{key} is not new");
        };
        let again = store.claim(&key, lease).await.unwrap();
        assert!(matches!(again, ClaimOutcome::InFlight { .. }), "{again:?}");
        assert!(store.complete(&claim, lease).await.unwrap());
        assert_eq!(store.claim(&key, lease).await.unwrap(), ClaimOutcome::Done);
    }
    for url in &urls {
        let mut connection = redis_connection(url).await;
        let keys: i64 = redis::cmd("DBSIZE")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert!(keys > 50, "a node has {keys} of 300 keys");
    }
}
