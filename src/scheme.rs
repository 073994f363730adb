//! The signature schemes, a file each.

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
pub(crate) mod ed25519;
pub(crate) mod hmac;
#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
pub(crate) mod jwt;
