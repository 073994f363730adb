//! The public-key algorithms, on one of two backends with the same functions.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
#[cfg(all(feature = "rust-crypto", not(feature = "aws-lc-rs")))]
mod rust_crypto;
#[cfg(test)]
mod vectors;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        std::array::from_fn(|index| {
            u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap()
        })
    }

    /// 32 bytes, of which the first, those between, and the last are given.
    fn point(first: u8, between: u8, last: u8) -> [u8; 32] {
        let mut point = [between; 32];
        (point[0], point[31]) = (first, last);
        point
    }

    #[test]
    fn points_beyond_the_field_and_points_of_small_order_are_not_sound() {
        for unsound in [
            point(0, 0, 0),
            point(1, 0, 0),
            point(1, 0, 0x80),
            point(0xec, 0xff, 0x7f),
            point(0xec, 0xff, 0xff),
            point(0xed, 0xff, 0x7f),
            point(0xed, 0xff, 0xff),
            point(0xee, 0xff, 0x7f),
            point(0xff, 0xff, 0xff),
            SMALL_ORDER[3],
            SMALL_ORDER[4],
        ] {
            assert!(!is_sound_point(&unsound), "{unsound:02x?}");
            assert!(
                Ed25519PublicKey::parse(&unsound).is_none(),
                "{unsound:02x?}"
            );
        }
        let mut nearly = point(0xff, 0xff, 0x7f);
        nearly[15] = 0xfe;
        for sound in [
            point(2, 0, 0),
            point(0xeb, 0xff, 0x7f),
            point(0xff, 0xff, 0x7e),
            nearly,
        ] {
            assert!(is_sound_point(&sound), "{sound:02x?}");
        }
    }

    /// R is the neutral element and S = H(R, A, M) a: the equation of RFC 8032, section 5.1.7,
    /// holds, and one backend accepts it.
    #[test]
    fn a_signature_with_a_point_of_small_order_is_refused() {
        let key = hex("ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c");
        let signature = hex(
            "0100000000000000000000000000000000000000000000000000000000000000\
             c76d1f3212ecf8da373e21a5de7bcc9145598fd06a18f0723f121fb05d5b9106",
        );
        let key = Ed25519PublicKey::parse(&key).unwrap();
        assert!(!key.verify(b"a message", &signature));
    }
}
