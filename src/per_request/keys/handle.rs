use std::sync::Arc;

use super::{KeySet, RefreshedKeys, SharedKeySet};

/// The keys of a [`PerRequest`](crate::PerRequest): a [`KeySet`], a [`SharedKeySet`] that the caller
/// replaces, or [`RefreshedKeys`] in an [`Arc`], which a receiver also refreshes when a delivery is
/// signed with a key that is not in the set.
#[derive(Debug, Clone)]
pub struct Keys {
    pub(crate) shared: SharedKeySet,
    pub(crate) refreshed: Option<Arc<RefreshedKeys>>,
}

impl From<KeySet> for Keys {
    fn from(keys: KeySet) -> Self {
        SharedKeySet::from(keys).into()
    }
}

impl From<SharedKeySet> for Keys {
    fn from(shared: SharedKeySet) -> Self {
        Self {
            shared,
            refreshed: None,
        }
    }
}

impl From<Arc<RefreshedKeys>> for Keys {
    fn from(refreshed: Arc<RefreshedKeys>) -> Self {
        Self {
            shared: refreshed.keys(),
            refreshed: Some(refreshed),
        }
    }
}
