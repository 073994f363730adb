//! `v1`: HMAC-SHA256 under a shared secret (Standard Webhooks 1.0.0, RFC 2104).

use subtle::{Choice, ConstantTimeEq};

use crate::{
    encoding,
    secret::Secret,
    signature::{SignatureEntries, SignatureEntry},
};

/// Whether one of the secrets made one of the `v1` signatures.
///
/// Every secret is tried against every signature, in a time that tells neither which of them
/// matched nor how far a forged signature is right.
pub(crate) fn verify(
    secrets: &[Secret],
    content: &[&[u8]],
    signatures: SignatureEntries<'_>,
) -> bool {
    let mut tags = signatures.iter().filter_map(|entry| match entry {
        SignatureEntry::V1(signature) => decode(signature),
        _ => None,
    });
    // What can't match must not cost the MAC of a large body.
    let Some(first) = tags.next() else {
        return false;
    };
    let mut matched = Choice::from(0);
    for secret in secrets {
        let expected = words(secret.tag(content));
        matched |= same(expected, first);
        for tag in tags.clone() {
            matched |= same(expected, tag);
        }
    }
    matched.into()
}

/// A MAC in words, which are compared in a fraction of the time that its bytes take.
type Tag = [u64; 4];

/// All words are looked at, and what differs is put together before anything is asked of it.
fn same(expected: Tag, given: Tag) -> Choice {
    let [a, b, c, d] = std::array::from_fn(|word| match (expected.get(word), given.get(word)) {
        (Some(expected), Some(given)) => expected ^ given,
        _ => u64::MAX,
    });
    (a | b | c | d).ct_eq(&0)
}

fn decode(signature: &[u8]) -> Option<Tag> {
    encoding::decode_array(signature).map(words)
}

fn words(tag: [u8; 32]) -> Tag {
    let (bytes, _) = tag.as_chunks();
    let mut words = Tag::default();
    for (word, bytes) in words.iter_mut().zip(bytes) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}
