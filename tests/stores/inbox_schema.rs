//! The tables of a newer version of the crate.

use gemini_webhooks::store::{PostgresStore, SqliteStore, StoreError, StoreErrorKind};
use gemini_webhooks::{Inbox, receiver::Outcome};

use crate::{
    fixture::{File, chain, client},
    inbox::{Site, now, verifier},
    servers::temporary_path,
};

const NEWER: &str = "UPDATE gemini_webhook_schema SET version = 7 WHERE name = 'inbox'";
const CAUSE: &str = "the store is misconfigured: its inbox has schema version 7, and this version of the \
                     crate is for version 1";

fn refused<T>(result: Result<T, StoreError>) {
    let Err(error) = result else {
        panic!("it was accepted")
    };
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
    assert_eq!(chain(&error), CAUSE);
}

#[tokio::test]
async fn a_newer_schema_in_a_file_is_refused_when_it_is_opened_and_by_a_probe() {
    let place = Site::sqlite();
    place.inbox.check().await.unwrap();
    let path = &place.file.as_ref().unwrap().0;
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(NEWER).unwrap();
    refused(SqliteStore::open(path));
    // Of those who opened it before.
    refused(place.store.check().await);
    refused(place.inbox.check().await);
}

#[tokio::test]
async fn a_newer_schema_on_postgresql_is_refused_by_each_first_operation_and_by_a_probe() {
    let Some(place) = Site::postgres().await else {
        return;
    };
    let new = || {
        let store = PostgresStore::connect(&place.url).unwrap();
        Inbox::builder(verifier(), store).build().unwrap()
    };
    // Prepares it.
    new().check().await.unwrap();
    let has_tables = "SELECT to_regclass('gemini_webhook_inbox') IS NOT NULL";
    let client = client(&place.url).await;
    let row = client.query_one(has_tables, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    place.inbox.stats().await.unwrap();

    client.batch_execute(NEWER).await.unwrap();
    refused(new().check().await);
    refused(new().stats().await);
    refused(new().dead_letters(0, 1).await);
    refused(new().retry(1).await);
    refused(new().discard(1).await);
    let sent = now("msg_1");
    let reply = new().accept(&sent, &sent.body).await;
    assert_eq!(reply.status, 503);
    match reply.outcome {
        Outcome::StoreUnavailable(error) => refused(Err::<(), _>(error)),
        other => panic!("{other:?}"),
    }
    // Of those who used it before.
    refused(place.store.check().await);
    refused(place.inbox.check().await);
}

/// For a role without the right to create tables: they were made before.
#[tokio::test]
async fn a_probe_on_postgresql_uses_the_tables_that_are_there_and_misses_those_that_are_not() {
    let Some(place) = Site::postgres().await else {
        return;
    };
    let schema = place.url.rsplit_once("%3D").unwrap().1;
    let role = format!("reader_of_{schema}");
    let url = place.url.replace("postgres@", &format!("{role}@"));
    let client = client(&place.url).await;
    place.store.check().await.unwrap();
    let create = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}"
    );
    client.batch_execute(&create).await.unwrap();
    let store = PostgresStore::connect(&url).unwrap();
    let inbox = Inbox::builder(verifier(), store).build().unwrap();
    let error = inbox.check().await.unwrap_err();
    assert!(
        chain(&error).contains("permission denied"),
        "{}",
        chain(&error)
    );

    let sql = PostgresStore::INBOX_SCHEMA_SQL;
    client.batch_execute(sql).await.unwrap();
    let grant = format!("GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}");
    client.batch_execute(&grant).await.unwrap();
    inbox.check().await.unwrap();
    let sent = now("msg_1");
    assert_eq!(inbox.accept(&sent, &sent.body).await.status, 200);
}

#[tokio::test]
async fn the_tables_in_a_file_are_created_where_only_those_of_another_part_are_noted() {
    const OTHERS: &str = "
        CREATE TABLE gemini_webhook_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;
        INSERT INTO gemini_webhook_schema VALUES ('another', 3)";
    let file = File(temporary_path());
    let connection = rusqlite::Connection::open(&file.0).unwrap();
    connection.execute_batch(OTHERS).unwrap();
    let store = SqliteStore::open(&file.0).unwrap();
    let inbox = Inbox::builder(verifier(), store).build().unwrap();
    inbox.check().await.unwrap();
}
