//! Deliveries that are forwarded to Redis Streams.

use super::*;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    inbox::{Database, signed},
    servers::Server,
};

async fn start(database: &Database, redis: &str, bind: &str) -> Receiver {
    let mut command = example("forward");
    command
        .env("GEMINI_WEBHOOK_SECRETS", SECRET)
        .env("BIND", bind);
    command
        .env("REDIS_URL", redis)
        .env("INBOX", database.path());
    command.stderr(Stdio::null());
    Receiver::spawn(&mut command).await
}

async fn accepts(forward: &Receiver, id: &str) {
    let sent = signed(SECRET, id, sample(&EventType::BatchSucceeded).as_bytes());
    let answer = forward.request(&sent).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{id}");
}

/// The number of messages by their keys.
async fn consume(redis: &mut redis::aio::MultiplexedConnection) -> BTreeMap<String, u32> {
    let mut range = redis::cmd("XRANGE");
    range.arg(&["gemini-webhooks", "-", "+"]);
    let messages: Vec<(String, HashMap<String, String>)> = range.query_async(redis).await.unwrap();
    let mut consumed = BTreeMap::new();
    for (_, message) in messages {
        assert_eq!(message["type"], "batch.succeeded");
        assert_eq!(message["payload"], sample(&EventType::BatchSucceeded));
        *consumed.entry(message["key"].clone()).or_default() += 1;
    }
    consumed
}

/// Waits for the condition, which looks at the rows of the inbox.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

fn rows(connection: &rusqlite::Connection, condition: &str) -> i64 {
    let count = format!("SELECT count(*) FROM gemini_webhook_inbox WHERE {condition}");
    connection.query_row(&count, [], |row| row.get(0)).unwrap()
}

/// Ends the leases of the process that was killed.
fn end_leases(connection: &rusqlite::Connection) {
    let update = "UPDATE gemini_webhook_inbox SET due_at = 0";
    connection.execute(update, []).unwrap();
}

#[tokio::test]
async fn killed_after_publishing_a_consumer_sees_each_message_once() {
    let Some(server) = Server::redis(false) else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let client = redis::Client::open(&*url).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let database = Database::new();
    let mut forward = start(&database, &url, "127.0.0.1:0").await;
    // Nothing can be published yet.
    let mut pause = redis::cmd("CLIENT");
    let () = pause
        .arg(&["PAUSE", "60000", "WRITE"])
        .query_async(&mut redis)
        .await
        .unwrap();
    let ids: BTreeSet<String> = (0..5).map(|number| format!("msg_{number}")).collect();
    for id in &ids {
        accepts(&forward, id).await;
    }
    let connection = database.connection();
    until("all are taken", async || rows(&connection, "working") == 5).await;
    // Now nothing can be removed from the inbox.
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut resume = redis::cmd("CLIENT");
    let () = resume.arg("UNPAUSE").query_async(&mut redis).await.unwrap();
    until("all are published", async || {
        consume(&mut redis).await.len() == 5
    })
    .await;
    forward.child.kill().await.unwrap();
    connection.execute_batch("ROLLBACK").unwrap();
    assert_eq!(rows(&connection, "true"), 5);

    end_leases(&connection);
    let _forward = start(&database, &url, "127.0.0.1:0").await;
    until("all are removed", async || rows(&connection, "true") == 0).await;
    let consumed = consume(&mut redis).await;
    assert!(consumed.keys().eq(&ids), "{consumed:?}");
    assert!(consumed.values().all(|times| *times == 1), "{consumed:?}");
}

#[tokio::test]
async fn killed_at_any_moment_each_delivery_becomes_one_message() {
    const KILLS: u64 = 20;
    let Some(server) = Server::redis(false) else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let database = Database::new();
    let mut ids = BTreeSet::new();
    let mut again = 0;
    for kill in 0..KILLS {
        let mut forward = start(&database, &url, "127.0.0.1:0").await;
        let connection = database.connection();
        for number in 0..10 {
            let id = format!("msg_{kill}_{number}");
            accepts(&forward, &id).await;
            ids.insert(id);
        }
        tokio::time::sleep(Duration::from_micros(kill * 7919 % 5000)).await;
        forward.child.kill().await.unwrap();
        again += rows(&connection, "attempts > 0");
        end_leases(&connection);
    }
    assert!(again > 0, "no attempt was killed");
    let _forward = start(&database, &url, "127.0.0.1:0").await;
    let connection = database.connection();
    until("all are removed", async || rows(&connection, "true") == 0).await;
    let client = redis::Client::open(&*url).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let consumed = consume(&mut redis).await;
    assert!(consumed.keys().eq(&ids), "{consumed:?}");
    assert!(consumed.values().all(|times| *times == 1), "{consumed:?}");
}

#[tokio::test]
async fn deliveries_are_accepted_while_redis_is_away() {
    let Some(mut server) = Server::redis(false) else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}/", server.port);
    server.stop();
    let database = Database::new();
    let forward = start(&database, &url, "127.0.0.1:0").await;
    accepts(&forward, "msg_1").await;
    let connection = database.connection();
    until("an attempt fails", async || {
        rows(&connection, "cause IS NOT NULL") == 1
    })
    .await;
    server.start();
    until("it is forwarded", async || rows(&connection, "true") == 0).await;
}
