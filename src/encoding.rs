//! Base64 and base64url (RFC 4648, sections 4 and 5).

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_URL_SAFE_NO_PAD,
};

use sha2::{Digest as _, Sha256};

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

/// Decodes exactly `N` bytes, at most 64, as [`decode`] does; `None` if the text holds another number
/// of them.
pub(crate) fn decode_exactly<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    // Of two characters of padding there may be both or none.
    if text.ends_with(b"=") && !text.len().is_multiple_of(4) {
        return None;
    }
    let mut buffer = [0; 64 + 2];
    decode(text, &mut buffer)?.try_into().ok()
}

/// Base64url (RFC 4648, section 5) as the JOSE standards use it: without padding.
#[cfg(feature = "_per-request")]
pub(crate) fn decode_url(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes base64url into `buffer`, as [`decode`] does.
#[cfg(feature = "_per-request")]
pub(crate) fn decode_url_into<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, buffer).ok()?;
    buffer.get(..length)
}

pub(crate) fn encode_url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the SHA-256 of the bytes in base64url: 43 characters.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    encode_url(&Sha256::digest(bytes))
}

/// Decodes percent-encoding (RFC 3986, section 2.1). `None` where the text has none, or a `%` that is
/// not followed by two digits.
pub(crate) fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = memchr::memchr(b'%', rest) {
        let (plain, encoded) = rest.split_at_checked(position)?;
        let [_, high, low, after @ ..] = encoded else {
            return None;
        };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let byte = digit(high)?.checked_mul(16)?.checked_add(digit(low)?)?;
        decoded.extend_from_slice(plain);
        decoded.push(u8::try_from(byte).ok()?);
        rest = after;
    }
    decoded.extend_from_slice(rest);
    (decoded.len() < text.len()).then_some(decoded)
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
                prop_assert_eq!(decode_exactly::<32>(text), only(decoded.as_ref()));
                prop_assert_eq!(decode_exactly::<33>(text), only(decoded.as_ref()));
                // Of two characters of padding there may be both or none, and not one.
                if text.len() != 43 || !text.ends_with(b"=") {
                    prop_assert_eq!(decode_exactly::<31>(text), only(decoded.as_ref()));
                }
            }
        }
    }

    #[test]
    fn an_array_has_exactly_as_many_bytes() {
        let decode = |text: &str| decode_exactly::<4>(text.as_bytes());
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
        assert_eq!(decode_exactly::<3>(b"AQID"), Some([1, 2, 3]));
        assert_eq!(decode_exactly::<3>(b"AQID="), None);
        assert_eq!(decode_exactly::<5>(b"AQIDBAU="), Some([1, 2, 3, 4, 5]));
        assert_eq!(decode_exactly::<5>(b"AQIDBAV"), None);
    }

    #[test]
    fn percent_encoding_is_decoded_where_there_is_some() {
        let decode = |text: &str| percent_decode(text.as_bytes());
        assert_eq!(decode("a%2B%2fb%25").unwrap(), b"a+/b%");
        assert_eq!(decode("%00").unwrap(), b"\0");
        for text in ["", "a+b", "%", "a%2", "%2g", "%+2", "%41%"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_longer_text_does_not_overrun() {
        let mut buffer = [0; 6];
        assert_eq!(decode(&[b'A'; 100], &mut buffer), None);
    }
}
