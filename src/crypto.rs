//! The public-key algorithms, on one of two backends with the same functions.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc-rs")))]
mod rust_crypto;

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs as backend;
#[cfg(not(feature = "aws-lc-rs"))]
use rust_crypto as backend;

#[cfg(feature = "testing")]
pub(crate) use backend::{Ed25519PrivateKey, RsaPrivateKey};
pub(crate) use backend::{Ed25519PublicKey, RsaPublicKey};

/// Whether 32 bytes encode a point canonically (RFC 8032, section 5.1.3), and not one of the eight
/// points of small order, under which a signature proves nothing.
///
/// The backends disagree on such points, so that this is asked before either of them.
fn is_sound_point(encoded: &[u8; 32]) -> bool {
    let [y @ .., last] = encoded;
    let last = last & 0x7f;
    let is = |known: &[u8; 32]| {
        let [known @ .., known_last] = known;
        y == known && last == *known_last
    };
    // 2^255 - 19 and what follows it have a shorter form.
    let [first, middle @ ..] = y;
    let reduced = last != 0x7f || *first < 0xed || middle.iter().any(|byte| *byte != 0xff);
    reduced && !SMALL_ORDER.iter().any(is)
}

/// The y coordinates, without a sign, of the points of small order.
const SMALL_ORDER: [[u8; 32]; 5] = [
    // y = 0, order 4
    [0; 32],
    // y = 1, order 1
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    // y = -1, order 2
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    // The two of order 8.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// Whether the first half of a signature, the point R, is sound.
fn has_sound_point(signature: &[u8; 64]) -> bool {
    signature.first_chunk().is_some_and(is_sound_point)
}
