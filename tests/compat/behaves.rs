//! The operations of a store, whatever the version of its client.

use std::{path::PathBuf, time::Duration};

use gemini_webhooks::store::{ClaimOutcome, IdempotencyStore, SqliteStore};

pub const LEASE: Duration = Duration::from_secs(60);

pub async fn behaves(store: &dyn IdempotencyStore) {
    store.check().await.unwrap();
    let ClaimOutcome::New(released) = store.claim("a", LEASE).await.unwrap() else {
        panic!("it is new");
    };
    let again = store.claim("a", LEASE).await.unwrap();
    assert!(matches!(again, ClaimOutcome::InFlight { remaining } if remaining <= LEASE));
    store.release(&released).await.unwrap();
    let ClaimOutcome::New(claim) = store.claim("a", LEASE).await.unwrap() else {
        panic!("it was released");
    };
    assert!(claim.fencing_token() > released.fencing_token());
    assert!(!store.complete(&released, LEASE).await.unwrap());
    assert!(store.complete(&claim, LEASE).await.unwrap());
    assert!(store.complete(&claim, LEASE).await.unwrap());
    assert_eq!(store.claim("a", LEASE).await.unwrap(), ClaimOutcome::Done);
}

/// A store in a file of its own, on which it behaves.
pub async fn sqlite(name: &str) -> (PathBuf, SqliteStore) {
    let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("deliveries.db");
    let store = SqliteStore::open(&path).unwrap();
    behaves(&store).await;
    // What was written is there for another connection, of the re-exported client.
    let connection = gemini_webhooks::store::rusqlite::Connection::open(&path).unwrap();
    let count = "SELECT count(*) FROM gemini_webhook_deliveries WHERE done";
    let count: i64 = connection.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
    (path, store)
}
