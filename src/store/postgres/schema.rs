//! The version of the tables of inboxes.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use super::{PostgresStore, sql::inbox_schema};
use crate::store::StoreError;

/// The version of the tables that [`CREATE`] makes. A version of the crate that changes them adds a step to
/// [`PostgresStore::prepare_inbox`].
const VERSION: i32 = 1;

const HAS_VERSION: &str = "SELECT to_regclass('gemini_webhook_schema') IS NOT NULL";

const SEE_VERSION: &str = "SELECT version FROM gemini_webhook_schema WHERE name = 'inbox'";

const CREATE: &str = concat!(
    "SELECT pg_advisory_xact_lock(7450291388265126);\n",
    inbox_schema!()
);

/// Returns the version of the tables; `None` where they are missing.
pub(super) async fn version(client: &ClientWrapper) -> Result<Option<i32>, Error> {
    if !client.query_one(HAS_VERSION, &[]).await?.try_get(0)? {
        return Ok(None);
    }
    let row = client.query_opt(SEE_VERSION, &[]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Fails where the tables are another version's.
pub(super) fn of_this_version(version: i32) -> Result<(), StoreError> {
    if version == VERSION {
        return Ok(());
    }
    Err(StoreError::refused(format!(
        "its inbox has schema version {version}, and this version of the crate is for version {VERSION}"
    )))
}

impl PostgresStore {
    /// Creates the tables where they are missing, and fails where they are another version's. The first of
    /// the inbox's operations does so, and [`check`](crate::store::IdempotencyStore::check) does not: a store
    /// without inboxes needs no tables for them.
    pub(super) async fn prepare_inbox(&self) -> Result<(), StoreError> {
        if self.0.inbox_ready.get().is_some() {
            return Ok(());
        }
        let found = self.0.with(async |client| {
            let found = version(client).await?;
            if found.is_none() {
                client.batch_execute(CREATE).await?;
                return version(client).await;
            }
            Ok(found)
        });
        of_this_version(found.await?.unwrap_or_default())?;
        let _ = self.0.inbox_ready.set(());
        Ok(())
    }
}
