//! The file of an SQLite store.

use std::{
    fs,
    time::{Duration, Instant},
};

use gemini_webhooks::store::{IdempotencyStore, SqliteStore, StoreErrorKind};
use rusqlite::Connection;

use crate::{
    block_on::block_on,
    fixture::{File, chain},
    servers::temporary_path,
};

#[test]
fn what_is_no_database_or_has_another_table_is_refused_when_it_is_opened() {
    let refused = |file: &File| {
        let error = SqliteStore::open(&file.0).unwrap_err();
        assert_eq!(
            error.kind(),
            StoreErrorKind::Configuration,
            "{}",
            chain(&error)
        );
    };
    let file = File(temporary_path());
    fs::write(&file.0, "not a database, but long enough to be looked at").unwrap();
    refused(&file);
    let file = File(temporary_path());
    let create = "CREATE TABLE gemini_webhook_deliveries (id TEXT)";
    Connection::open(&file.0)
        .unwrap()
        .execute_batch(create)
        .unwrap();
    refused(&file);
    refused(&File(temporary_path().join("no folder").join("file.db")));
    // A temporary database has no write-ahead log.
    refused(&File("".into()));
}

#[test]
fn a_file_that_stays_locked_is_given_up_when_it_is_opened() {
    let file = File(temporary_path());
    let other = Connection::open(&file.0).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let begun = Instant::now();
    let error = SqliteStore::open(&file.0).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut, "{}", chain(&error));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_check_notices_a_table_or_a_file_that_is_gone() {
    let open = || {
        let file = File(temporary_path());
        let store = SqliteStore::open(&file.0).unwrap();
        block_on(store.check()).unwrap();
        (store, file)
    };
    let noticed = |store: &SqliteStore, expected: &str| {
        let error = block_on(store.check()).unwrap_err();
        assert_eq!(
            error.kind(),
            StoreErrorKind::Configuration,
            "{}",
            chain(&error)
        );
        assert!(chain(&error).contains(expected), "{}", chain(&error));
    };
    let (store, file) = open();
    let other = Connection::open(&file.0).unwrap();
    other
        .execute_batch("DROP TABLE gemini_webhook_deliveries")
        .unwrap();
    noticed(&store, "no such table");
    // Back again, it can be used again.
    drop(SqliteStore::open(&file.0).unwrap());
    block_on(store.check()).unwrap();
    drop(block_on(store.claim("a", Duration::from_secs(1))).unwrap());

    let (store, file) = open();
    fs::remove_file(&file.0).unwrap();
    noticed(&store, "missing");
    fs::write(&file.0, "").unwrap();
    noticed(&store, "replaced");

    let (store, file) = open();
    let mut permissions = fs::metadata(&file.0).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file.0, permissions).unwrap();
    noticed(&store, "read-only");
}

#[test]
fn a_database_in_memory_needs_no_file() {
    let store = SqliteStore::open(":memory:").unwrap();
    block_on(store.check()).unwrap();
    drop(block_on(store.claim("a", Duration::from_secs(1))).unwrap());
}
