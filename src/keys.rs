//! Google's public keys: a set of them, and how it is kept current.

#[cfg(feature = "reqwest")]
mod endpoint;
mod key_set;
mod public_key;
mod refresh;
mod shared;
mod source;

#[cfg(feature = "reqwest")]
pub use endpoint::JwksEndpoint;
pub use key_set::{KeySet, SkippedKey};
pub use refresh::{Freshness, KeyRefresh};
pub use shared::SharedKeySet;
pub use source::{Fetched, KeySource, RefreshError, RefreshedKeys};

pub(crate) use key_set::{Key, clip};
pub(crate) use public_key::PublicKey;
