//! `v1a`: Ed25519 under one of Google's keys (Standard Webhooks 1.0.0, RFC 8032).

use super::keys::{Key, KeySet};
use crate::{
    attempt::{Attempt, SignatureEntry},
    encoding,
    error::Error,
    scheme::Scheme,
};

/// The number of `v1a` entries that are tried. Each costs a verification for each key of the set:
/// an honest sender needs one, or two while its keys change, and a forger gets no more.
const MAX_TRIED: usize = 3;

/// Verifies the `v1a` signatures, and returns the key that made one of them.
pub(super) fn verify<'k>(
    keys: &'k KeySet,
    attempt: &Attempt<'_>,
    body: &[u8],
) -> Result<&'k Key, Error> {
    let mut decoded = entries(attempt)
        .filter_map(encoding::decode_exactly)
        .peekable();
    let mismatch = Error::SignatureMismatch {
        tried: Scheme::V1a.into(),
    };
    // What can't match must not cost a copy of a large body.
    if decoded.peek().is_none() {
        return Err(mismatch);
    }
    let message = attempt.signed_content(body).concat();
    decoded
        .find_map(|signature| {
            keys.find_ed25519(|key| {
                #[cfg(all(test, feature = "diagnose"))]
                crate::hmac_v1::hashed::add(message.len());
                key.verify(&message, &signature)
            })
        })
        .ok_or(mismatch)
}

/// Returns the `v1a` entries that are tried.
pub(super) fn entries<'a>(attempt: &Attempt<'a>) -> impl Iterator<Item = &'a [u8]> {
    let entries = attempt.signatures().iter();
    let ours = entries.filter_map(|entry| match entry {
        SignatureEntry::V1a(signature) => Some(signature),
        _ => None,
    });
    ours.take(MAX_TRIED)
}
