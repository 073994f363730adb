use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::KeySet;

/// A handle to a key set that can be replaced while verifiers use it, or that is still to come.
///
/// Clones are handles to the same set. Neither looking at the set nor replacing it waits for the
/// other.
///
/// ```
/// use gemini_webhooks::{PerRequest, Verifier, keys::{KeySet, SharedKeySet}};
///
/// let keys = SharedKeySet::default();
/// let verifier = Verifier::builder()
///     .per_request(PerRequest::with_audience(keys.clone(), "https://example.com/3f9c"))
///     .build()?;
/// // Until this has happened once, per-request deliveries are refused with 503:
/// # let jwks = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// keys.replace(KeySet::from_json(jwks)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SharedKeySet {
    current: Arc<ArcSwapOption<KeySet>>,
}

impl SharedKeySet {
    /// Puts a set in the place of the one that was there. Verifications that have begun end with
    /// the old one.
    pub fn replace(&self, keys: KeySet) {
        self.current.store(Some(Arc::new(keys)));
    }

    /// The current set; `None` until there has been one.
    #[must_use]
    pub fn get(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Returns true if the current set is another one.
    pub(crate) fn replaced_since(&self, used: Option<&Arc<KeySet>>) -> bool {
        match (&*self.current(), used) {
            (Some(current), Some(used)) => !Arc::ptr_eq(current, used),
            (current, used) => current.is_some() != used.is_some(),
        }
    }

    /// The current set without touching its count, which all threads share.
    pub(crate) fn current(&self) -> arc_swap::Guard<Option<Arc<KeySet>>> {
        self.current.load()
    }
}

impl From<KeySet> for SharedKeySet {
    fn from(keys: KeySet) -> Self {
        let shared = Self::default();
        shared.replace(keys);
        shared
    }
}
