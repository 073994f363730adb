//! Tests only.
#![cfg(test)]

#[path = "../../behaves.rs"]
mod behaves;
#[path = "../../../stores/servers.rs"]
#[allow(dead_code, reason = "it serves the tests of the stores too")]
mod servers;

use std::time::Duration;

use behaves::{LEASE, behaves, sqlite};
use gemini_webhooks::store::{
    Claim, ClaimOutcome, IdempotencyStore, PostgresStore, RedisStore, StoreErrorKind,
};
use servers::Server;
use sqlx::{
    Connection as _, PgPool, Row as _, SqliteConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::SqliteConnectOptions,
};

#[tokio::test]
async fn sqlite_of_both_is_one_library_and_one_file() {
    let (path, _store) = sqlite("beside-sqlx").await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let version = sqlx::query("SELECT sqlite_version()");
    let version = version.fetch_one(&mut connection).await.unwrap();
    assert_eq!(
        version.get::<String, _>(0),
        gemini_webhooks::store::rusqlite::version()
    );
    let count = "SELECT count(*) FROM gemini_webhook_deliveries WHERE done";
    let count = sqlx::query(count).fetch_one(&mut connection).await.unwrap();
    assert_eq!(count.get::<i64, _>(0), 1);
}

/// Handles a delivery of this key in a transaction of sqlx's, from the claim to the completion. Returns
/// false where it is not ours to handle.
async fn handle(pool: &PgPool, key: &str) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let claimed = sqlx::query(PostgresStore::CLAIM_SQL)
        .bind(key)
        .bind(LEASE.as_secs_f64())
        .bind(LEASE.as_secs_f64() + 87_000.0)
        .fetch_optional(&mut *transaction)
        .await?;
    let fencing_token: Option<i64> = match claimed {
        Some(row) => row.try_get("fencing_token")?,
        None => None,
    };
    let Some(fencing_token) = fencing_token else {
        return Ok(false);
    };
    sqlx::query("INSERT INTO effects VALUES ($1)")
        .bind(key)
        .execute(&mut *transaction)
        .await?;
    let claim = Claim::new(key, fencing_token);
    complete(transaction, &claim).await
}

/// Completes a claim, such as that of a `Receiver`'s handler, and commits.
async fn complete(
    mut transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    claim: &Claim,
) -> Result<bool, sqlx::Error> {
    let completed = sqlx::query(PostgresStore::COMPLETE_SQL)
        .bind(claim.key())
        .bind(claim.fencing_token())
        .bind(claim.retention().as_secs_f64())
        .execute(&mut *transaction)
        .await?;
    if completed.rows_affected() == 0 {
        // The lease was lost. Dropped, the transaction is rolled back.
        return Ok(false);
    }
    transaction.commit().await?;
    // So that the receiver does not complete it again.
    claim.mark_completed();
    Ok(true)
}

#[tokio::test]
async fn effect_and_completion_are_one_transaction_of_sqlx() {
    let Some(server) = Server::postgres(false) else {
        return;
    };
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", server.port);
    let store = PostgresStore::connect(&url).unwrap();
    while store.check().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    behaves(&store).await;
    let options: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    let schema = sqlx::raw_sql(PostgresStore::SCHEMA_SQL);
    schema.execute(&pool).await.unwrap();
    let create = sqlx::raw_sql("CREATE TABLE effects (key text)");
    create.execute(&pool).await.unwrap();

    assert!(handle(&pool, "msg_1").await.unwrap());
    assert!(!handle(&pool, "msg_1").await.unwrap());
    assert_eq!(
        store.claim("msg_1", LEASE).await.unwrap(),
        ClaimOutcome::Done
    );

    // A claim of the store's that is released is lost.
    let ClaimOutcome::New(claim) = store.claim("msg_2", LEASE).await.unwrap() else {
        panic!("it is new");
    };
    sqlx::query(PostgresStore::RELEASE_SQL)
        .bind(claim.key())
        .bind(claim.fencing_token())
        .execute(&pool)
        .await
        .unwrap();
    assert!(handle(&pool, "msg_2").await.unwrap());
    let transaction = pool.begin().await.unwrap();
    assert!(!complete(transaction, &claim).await.unwrap());

    let count = sqlx::query("SELECT count(*) FROM effects");
    let count = count.fetch_one(&pool).await.unwrap();
    assert_eq!(count.get::<i64, _>(0), 2);
}

#[test]
fn without_its_feature_tls_is_refused_when_a_store_is_built() {
    for query in [
        "sslmode=require",
        "sslmode=verify-ca",
        "sslmode=verify-full",
        "sslrootcert=system",
        "sslmode=prefer&sslrootcert=/a.pem",
    ] {
        let error = PostgresStore::connect(&format!("postgres://a@localhost/b?{query}"));
        assert_eq!(
            error.unwrap_err().kind(),
            StoreErrorKind::Configuration,
            "{query}"
        );
    }
    PostgresStore::connect("postgres://a@localhost/b?sslmode=prefer").unwrap();
    let error = RedisStore::connect("rediss://localhost/").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
}
