//! `v1`: HMAC-SHA256 under a shared secret (Standard Webhooks 1.0.0, RFC 2104).

use subtle::{Choice, ConstantTimeEq};

use crate::{Secret, encoding, signature::SignatureEntry};

/// Whether one of the secrets made one of the `v1` signatures.
///
/// Every secret is tried against every signature, in a time that tells neither which of them
/// matched nor how far a forged signature is right.
pub(crate) fn verify<'a>(
    secrets: &[Secret],
    content: [&[u8]; 5],
    entries: impl Iterator<Item = SignatureEntry<'a>>,
) -> bool {
    let mut tags = [[0; 32]; MAX_TAGS];
    let decoded = entries.filter_map(|entry| match entry {
        SignatureEntry::V1(text) => decode(text),
        _ => None,
    });
    let mut count: usize = 0;
    for (slot, tag) in tags.iter_mut().zip(decoded) {
        *slot = tag;
        count = count.saturating_add(1);
    }
    let tags = tags.get(..count).unwrap_or_default();
    // What can't match must not cost the MAC of a large body.
    if tags.is_empty() {
        return false;
    }
    let mut matched = Choice::from(0);
    for secret in secrets {
        let expected = secret.tag(content);
        for tag in tags {
            matched |= expected.ct_eq(tag);
        }
    }
    matched.into()
}

/// As many as a header can have entries.
const MAX_TAGS: usize = 16;

fn decode(text: &str) -> Option<[u8; 32]> {
    let mut buffer = [0; 34];
    encoding::decode(text, &mut buffer)?.try_into().ok()
}
