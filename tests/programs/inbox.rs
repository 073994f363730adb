//! The small programs around an inbox.

use super::*;

use std::{path::PathBuf, sync::LazyLock};

use deadpool_postgres::tokio_postgres::{Client, NoTls, connect};

use super::servers::{Server, temporary_path};

static POSTGRES: LazyLock<Option<Server>> = LazyLock::new(|| Server::postgres(false));

/// An SQLite database, which goes with this.
pub(super) struct Database(pub(super) PathBuf);

impl Database {
    pub(super) fn new() -> Self {
        Self(temporary_path())
    }

    pub(super) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    pub(super) fn store(&self) -> String {
        format!("sqlite:{}", self.path())
    }

    pub(super) fn connection(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(&self.0).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.path()));
        }
    }
}

pub(super) async fn postgres_client(url: &str) -> Client {
    let connecting = async {
        loop {
            // The server may be listening, and not ready yet.
            match connect(url, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, connecting).await.expect("it is ready")
}

/// A schema of its own.
pub(super) async fn postgres(schema: &str) -> Option<String> {
    let port = POSTGRES.as_ref()?.port;
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let create = format!("CREATE SCHEMA {schema}");
    let client = postgres_client(&url).await;
    client.batch_execute(&create).await.unwrap();
    Some(format!("{url}?options=-csearch_path%3D{schema}"))
}

pub(super) fn signed(secret: &str, id: &str, body: &[u8]) -> SignedDelivery {
    let secret = Secret::parse(secret).unwrap();
    Signer::v1(&secret).sign(id, OffsetDateTime::now_utc(), body)
}

#[tokio::test]
async fn an_inbox_of_a_few_lines_handles_each_delivery_once_and_stops_when_told() {
    let database = Database::new();
    let start = async || {
        let mut command = example("inbox");
        command.env("BIND", "127.0.0.1:0");
        command.env("GEMINI_WEBHOOK_SECRETS", format!("{OTHER}, {SECRET}"));
        Receiver::spawn(command.env("INBOX", database.path())).await
    };
    for expected in ["accepted", "duplicate"] {
        let mut inbox = start().await;
        let sent = delivery("video.generated");
        let answer = inbox.request(&sent).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), expected);
        let mut forged = sent;
        forged.body.push(b' ');
        let answer = inbox.request(&forged).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.text().await.unwrap(), "signature_mismatch");
        inbox.signal("-TERM");
        let mut lines = Vec::new();
        assert_eq!(exits(&mut inbox.child).await.code(), Some(0));
        while let Some(line) = inbox.lines.next_line().await.unwrap() {
            lines.push(line);
        }
        if expected == "accepted" {
            assert_eq!(lines, ["msg_1: video.generated"]);
        } else {
            assert!(lines.is_empty(), "{lines:?}");
        }
    }
}

#[test]
fn an_inbox_takes_less_than_60_lines() {
    let source = include_str!("../../examples/inbox.rs");
    assert!(source.lines().count() < 60);
}

#[tokio::test]
async fn a_handler_that_fails_after_its_effect_has_none_and_then_one() {
    let mut arguments = vec![None];
    arguments.extend(postgres("exactly_once").await.map(Some));
    for argument in arguments {
        let output = output(example("exactly_once").args(&argument)).await;
        let shown = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(0), "{shown}");
        for sentence in [
            "Attempt 1 failed: ",
            "Attempt 2 begins: there are 0 effects.",
            "Attempt 2 committed its effect and the end of the delivery.",
            "The delivery came again: duplicate.",
            "Of 2 attempts, 1 had an effect.",
            "The effect happened exactly once.",
        ] {
            assert!(shown.contains(sentence), "{sentence}\n{shown}");
        }
        assert!(shown.lines().all(|line| line.ends_with('.')), "{shown}");
    }
}

/// What it prints, says and exits with.
async fn letters(store: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = example("dead_letters");
    command.env("GEMINI_WEBHOOK_STORE", store).args(arguments);
    let output = output(&mut command).await;
    let [shown, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (shown, said, output.status.code())
}

#[tokio::test]
async fn dead_letters_are_listed_in_pages_retried_and_discarded() {
    let database = Database::new();
    let mut stores = vec![database.store()];
    stores.extend(postgres("dead_letters").await);
    for store in &stores {
        let file = JwksFile::new("letters");
        let google = SigningKeys::generate();
        file.publish(&google);
        let receiver = Receiver::start(&[
            ("GEMINI_WEBHOOK_SECRETS", SECRET),
            ("GEMINI_WEBHOOK_JWKS", file.path()),
            ("GEMINI_WEBHOOK_JOB_KEY", JOB_KEY),
            ("GEMINI_WEBHOOK_STORE", store),
            ("MODE", "inbox"),
        ])
        .await;
        for id in ["msg_a", "msg_b", "msg_c"] {
            let sent = signed(SECRET, id, b"no event");
            let (status, answer) = receiver.send(receiver.request(&sent)).await;
            assert_eq!((status, &answer["status"]), (200, &json!("set_aside")));
        }
        // The URI proves the origin of one that is no event, with a nonce.
        let token = JobTokens::parse(JOB_KEY).unwrap().mint_for("nightly");
        let token = token.unwrap();
        let uri = JobTokens::callback_uri("/webhook", &token);
        let sent = Signer::v1a(&google).sign("msg_d", OffsetDateTime::now_utc(), *b"[]");
        let (status, answer) = receiver.send(receiver.request_to(&uri, &sent)).await;
        assert_eq!((status, &answer["status"]), (200, &json!("set_aside")));

        let (shown, said, status) = letters(store, &["list", "--limit", "3"]).await;
        assert_eq!(status, Some(0), "{said}");
        let listed = |shown: &str| -> Vec<Value> {
            let lines = shown.lines().map(serde_json::from_str);
            lines.map(Result::unwrap).collect()
        };
        let page = listed(&shown);
        let delivered: Vec<_> = page.iter().map(|letter| &letter["delivery"]).collect();
        assert_eq!(delivered, ["msg_a", "msg_b", "msg_c"]);
        assert!(
            page[0]["cause"].as_str().unwrap().contains("JSON"),
            "{shown}"
        );
        assert_eq!(page[0]["attempts"], 0);
        let ids: Vec<String> = page.iter().map(|letter| letter["id"].to_string()).collect();
        assert!(said.contains(&format!("--after {}", ids[2])), "{said}");
        let (shown, said, _) = letters(store, &["list", "--after", &ids[2]]).await;
        let page = listed(&shown);
        assert_eq!((page.len(), &*said), (1, ""));
        assert_eq!(
            (&page[0]["delivery"], &page[0]["job"]),
            (&json!("msg_d"), &json!("nightly"))
        );
        // The nonce is its first 16 bytes, behind the prefix.
        assert!(!shown.contains(&token[5..26]), "{shown}");
        assert!(!shown.contains("gwj1_"), "{shown}");

        let (shown, said, status) = letters(store, &["discard", &ids[0], "987654"]).await;
        assert_eq!(status, Some(1));
        assert_eq!(shown, format!("{} is discarded\n", ids[0]));
        assert!(said.contains("no dead letter 987654"), "{said}");
        // The handler refuses it again.
        let (shown, _, status) = letters(store, &["retry", &ids[1]]).await;
        assert_eq!(
            (&*shown, status),
            (&*format!("{} is due again\n", ids[1]), Some(0))
        );
        let attempted = async {
            loop {
                let (shown, _, _) = letters(store, &["list"]).await;
                let page = listed(&shown);
                if page.len() == 3 && page[0]["attempts"] == 1 {
                    return;
                }
            }
        };
        timeout(PATIENCE, attempted).await.expect("it is attempted");
        // More than are read at a time.
        for number in 0..120 {
            let sent = signed(SECRET, &format!("msg_{number}"), b"no event");
            let _ = receiver.send(receiver.request(&sent)).await;
        }
        let (shown, _, status) = letters(store, &["retry", "--all"]).await;
        assert_eq!((shown.lines().count(), status), (123, Some(0)));
    }
}

#[tokio::test]
async fn dead_letters_refuses_what_makes_no_sense() {
    let nowhere = Database::new();
    let store = nowhere.store();
    let away = "postgres://user:C2FV@127.0.0.1:1/nowhere";
    for (store, arguments, status, expected) in [
        (&*store, &["list"][..], 1, "no such file"),
        (away, &["list"], 1, "the store is unavailable"),
        (away, &["discard", "1"], 1, "the store is unavailable"),
        ("memory", &["list"], 2, "neither sqlite:PATH nor"),
        (
            "redis://user:C2FV@127.0.0.1/",
            &["list"],
            2,
            "neither sqlite:PATH nor",
        ),
        (
            "mysql://user:C2FV@127.0.0.1/",
            &["list"],
            2,
            "neither sqlite:PATH nor",
        ),
        (away, &["retry"], 2, "required"),
        (away, &["discard"], 2, "required"),
        (away, &["retry", "1", "--all"], 2, "cannot be used with"),
        (away, &["list", "--limit", "0"], 2, "--limit"),
        (away, &["retry", "first"], 2, "invalid value"),
    ] {
        let (shown, said, exited) = letters(store, arguments).await;
        assert_eq!(exited, Some(status), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(shown.is_empty() && !said.contains("C2FV"), "{said}");
    }
    assert!(!nowhere.0.exists());
}
