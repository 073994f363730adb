//! Base64 and base64url (RFC 4648, sections 4 and 5).

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Padding may be left out. Bits past the last byte must be zero: no encoder sets them.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes into `buffer` and returns the part of it that was filled; `None` where the text is not
/// base64 or holds more.
///
/// The buffer must have two bytes to spare: the decoder wants room for whole groups of three.
pub(crate) fn decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = BASE64.decode_slice(text, buffer).ok()?;
    buffer.get(..length)
}

/// Decodes exactly `N` bytes as [`decode`] does; `None` where the text holds another number of them.
///
/// Of so short a text as a signature, a decoder for any length spends most of its time on the ends.
pub(crate) fn decode_array<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let padding: &[u8] = match N % 3 {
        0 => b"",
        1 => b"==",
        _ => b"=",
    };
    let text = text.strip_suffix(padding).unwrap_or(text);
    let mut bytes = [0; N];
    let (digits, last_digits) = text.as_chunks::<4>();
    let (groups, last_bytes) = bytes.as_chunks_mut::<3>();
    if digits.len() != groups.len() {
        return None;
    }
    let word = |digits: [u8; 4]| {
        let values = digits.map(|digit| VALUES.get(usize::from(digit)).map_or(NO_DIGIT, |it| *it));
        values
            .into_iter()
            .fold(0, |word, value| word << 6 | u64::from(value))
    };
    let mut seen = 0;
    for (digits, group) in digits.iter().zip(groups) {
        let word = word(*digits);
        seen |= word;
        let [.., a, b, c] = word.to_be_bytes();
        *group = [a, b, c];
    }
    // What is missing of the last group counts as zeros.
    let word = match (last_digits, last_bytes.len()) {
        ([], 0) => 0,
        (&[a, b], 1) => word([a, b, b'A', b'A']),
        (&[a, b, c], 2) => word([a, b, c, b'A']),
        _ => return None,
    };
    seen |= word;
    let [.., a, b, c] = word.to_be_bytes();
    let group = [a, b, c];
    let (taken, past) = group.split_at_checked(last_bytes.len())?;
    last_bytes.copy_from_slice(taken);
    let past = past.iter().any(|byte| *byte != 0);
    (seen < u64::from(NO_DIGIT) && !past).then_some(bytes)
}

/// Beyond what a group of four digits stands for, wherever in the group it is.
const NO_DIGIT: u32 = 1 << 24;

/// What each character stands for (RFC 4648, section 4).
#[expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "the compiler would notice"
)]
const VALUES: [u32; 256] = {
    let mut values = [NO_DIGIT; 256];
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut value = 0;
    while value < 64 {
        values[digits[value] as usize] = value as u32;
        value += 1;
    }
    values
};

/// Base64url (RFC 4648, section 5) as the JOSE standards use it: without padding.
#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
pub(crate) fn decode_url(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
pub(crate) fn encode_url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(any(test, feature = "testing"))]
pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only<const N: usize>(decoded: Option<&Vec<u8>>) -> Option<[u8; N]> {
        decoded?.as_slice().try_into().ok()
    }

    #[test]
    fn padding_is_optional_and_everything_else_is_strict() {
        let mut buffer = [0; 6];
        for text in ["AQIDBA==", "AQIDBA"] {
            assert_eq!(
                decode(text.as_bytes(), &mut buffer),
                Some(&[1, 2, 3, 4][..])
            );
        }
        for text in [
            "AQIDBB==",
            "AQIDBA===",
            "AQID BA",
            "AQIDB",
            "AQIDBA==\n",
            "-_-_",
            "=",
        ] {
            assert_eq!(decode(text.as_bytes(), &mut buffer), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_exactly_is_what_is_decoded_at_all(
            key in prop::collection::vec(any::<u8>(), 30..=34),
            change in prop::option::of((0..48_usize, "[A-Za-z0-9+/=_ -]{0,2}")),
        ) {
            for text in [encode(&key), encode(&key).trim_end_matches('=').to_owned()] {
                let mut text = text;
                if let Some((at, other)) = &change {
                    let at = (*at).min(text.len() - 1);
                    text.replace_range(at..=at, other);
                }
                let mut buffer = [0; 66];
                let decoded = decode(text.as_bytes(), &mut buffer).map(<[u8]>::to_vec);
                let text = text.as_bytes();
                prop_assert_eq!(decode_array::<32>(text), only(decoded.as_ref()));
                prop_assert_eq!(decode_array::<33>(text), only(decoded.as_ref()));
                // Of two characters of padding there may be both or none, and not one.
                if text.len() != 43 || !text.ends_with(b"=") {
                    prop_assert_eq!(decode_array::<31>(text), only(decoded.as_ref()));
                }
            }
        }
    }

    #[test]
    fn an_array_has_exactly_as_many_bytes() {
        let decode = |text: &str| decode_array::<4>(text.as_bytes());
        for text in ["AQIDBA==", "AQIDBA"] {
            assert_eq!(decode(text), Some([1, 2, 3, 4]));
        }
        for text in [
            "",
            "AQID",
            "AQIDB",
            "AQIDBA=",
            "AQIDBA===",
            "AQIDBAU",
            "AQIDBAUG",
            "AQIDBB==",
            "AQIDBB",
            "AQ-DBA",
            "AQI\u{e9}BA",
            "=QIDBA",
            "AQIDB=",
            "AQID A",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
        assert_eq!(decode_array::<3>(b"AQID"), Some([1, 2, 3]));
        assert_eq!(decode_array::<3>(b"AQID="), None);
        assert_eq!(decode_array::<5>(b"AQIDBAU="), Some([1, 2, 3, 4, 5]));
        assert_eq!(decode_array::<5>(b"AQIDBAV"), None);
    }

    #[test]
    fn a_longer_text_does_not_overrun() {
        let mut buffer = [0; 6];
        assert_eq!(decode(&[b'A'; 100], &mut buffer), None);
    }
}
