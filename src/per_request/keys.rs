//! Google's public keys: a set of them, and a source that keeps it current.

#[cfg(feature = "reqwest")]
mod endpoint;
mod flight;
mod handle;
mod key_set;
mod public_key;
mod refresh;
mod refreshed;
mod shared;
mod source;

pub use super::job_tokens::MintError;
pub use crate::boxed::{BoxError, BoxFuture};
pub use crate::delivery::{JobPlace, JobProof};
#[cfg(feature = "reqwest")]
pub use endpoint::JwksEndpoint;
pub use handle::Keys;
pub use key_set::{KeySet, KeySetError, SkippedKey};
pub use refresh::{Freshness, KeyRefresh};
pub(crate) use refreshed::Newer;
pub use refreshed::RefreshedKeys;
pub use shared::SharedKeySet;
pub use source::{FetchError, Fetched, KeySource, RefreshError};

pub(crate) use key_set::{Key, clip};
pub(crate) use public_key::PublicKey;
