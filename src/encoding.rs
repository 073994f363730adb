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
    use super::*;

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

    #[test]
    fn a_longer_text_does_not_overrun() {
        let mut buffer = [0; 6];
        assert_eq!(decode(&[b'A'; 100], &mut buffer), None);
    }
}
