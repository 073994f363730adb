//! Tests only.
#![cfg(test)]

#[path = "../../behaves.rs"]
mod behaves;

use behaves::sqlite;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_types};

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = sql_types::Text)]
    version: String,
    #[diesel(sql_type = sql_types::BigInt)]
    done: i64,
}

#[tokio::test]
async fn sqlite_of_both_is_one_library_and_one_file() {
    let (path, _store) = sqlite("beside-diesel").await;
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let found: Found = diesel::sql_query(
        "SELECT sqlite_version() AS version, count(*) AS done
         FROM gemini_webhook_deliveries WHERE done",
    )
    .get_result(&mut connection)
    .unwrap();
    let version = gemini_webhooks::store::rusqlite::version();
    assert_eq!((found.version.as_str(), found.done), (version, 1));
}
