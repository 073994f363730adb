//! The store that a setting names: `memory`, `sqlite:PATH`, `postgres://..` or `redis://..`.

use std::{fmt, sync::Arc};

use gemini_webhooks::{
    inbox::InboxStore,
    store::{IdempotencyStore, MemoryStore, PostgresStore, RedisStore, SqliteStore, StoreError},
};

use crate::chain::chain;

pub(crate) enum Store {
    /// It remembers keys, and can be an inbox.
    Inbox(Arc<dyn InboxStore>),
    /// It remembers keys.
    Keys(Arc<dyn IdempotencyStore>),
}

pub(crate) enum StoreFault {
    /// None of the four forms. The setting is not shown: there may be a password in it.
    Form,
    Store(StoreError),
}

impl Store {
    pub(crate) fn open(setting: &str) -> Result<Self, StoreFault> {
        let (kind, rest) = setting.split_once(':').unwrap_or((setting, ""));
        Ok(match (kind, rest) {
            ("memory", "") => Self::Inbox(Arc::new(MemoryStore::default())),
            ("sqlite", path) if !path.is_empty() => Self::Inbox(Arc::new(SqliteStore::open(path)?)),
            ("postgres" | "postgresql", _) => {
                Self::Inbox(Arc::new(PostgresStore::connect(setting)?))
            }
            ("redis" | "rediss", _) => Self::Keys(Arc::new(RedisStore::connect(setting)?)),
            _ => return Err(StoreFault::Form),
        })
    }
}

impl From<StoreError> for StoreFault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("none of memory, sqlite:PATH, postgres://.. and redis://.."),
            Self::Store(error) => f.write_str(&chain(error)),
        }
    }
}
