//! `v1a`: Ed25519 under one of Google's keys (Standard Webhooks 1.0.0, RFC 8032).

use crate::{
    encoding,
    keys::{Key, KeySet},
    signature::{SignatureEntries, SignatureEntry},
};

/// How many `v1a` entries are checked. Each costs a verification for each key of the set: an
/// honest sender needs one, or two while its keys change, and a forger gets no more.
const MAX_CHECKED: usize = 4;

/// The key that made one of the `v1a` signatures.
pub(crate) fn verify<'k>(
    keys: &'k KeySet,
    content: &[&[u8]],
    signatures: SignatureEntries<'_>,
) -> Option<&'k Key> {
    let mut decoded = signatures
        .iter()
        .filter_map(|entry| match entry {
            SignatureEntry::V1a(signature) => Some(signature),
            _ => None,
        })
        .take(MAX_CHECKED)
        .filter_map(encoding::decode_array)
        .peekable();
    // What can't match must not cost a copy of a large body.
    decoded.peek()?;
    let message = content.concat();
    decoded.find_map(|signature| keys.find_ed25519(|key| key.verify(&message, &signature)))
}
