use std::fmt;

use zeroize::Zeroizing;

use crate::{encoding, error::ConfigError, hmac::HmacKey};

/// The signing secret of a project-level webhook.
///
/// It can be neither read back, printed nor compared, and is wiped from memory when dropped.
/// Internally it is kept as the HMAC's keyed state (RFC 2104, section 4), so that the key is
/// processed once and not for each delivery; with the feature `diagnose`, the key is kept as well.
#[derive(Clone)]
pub struct Secret {
    /// Boxed, so that moving a secret leaves no copy behind.
    keyed: Box<HmacKey>,
    #[cfg(feature = "diagnose")]
    key: Zeroizing<Vec<u8>>,
}

impl Secret {
    const MIN_BYTES: usize = 24;
    const MAX_BYTES: usize = 64;

    /// Parses the secret as it was shown when the webhook was created: `whsec_` and base64, or
    /// the base64 alone, padded or not, of 24 to 64 bytes (Standard Webhooks 1.0.0).
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSecret`], which tells the usual slips apart: quotation marks, white
    /// space around it, a signature's `v1,` in front, the truncated form that Google shows later,
    /// a public key.
    ///
    /// ```
    /// use gemini_webhooks::Secret;
    ///
    /// let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?;
    /// let slip = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n").unwrap_err();
    /// assert_eq!(
    ///     slip.to_string(),
    ///     "the signing secret can't be used: it has white space or a line break at an end: trim it",
    /// );
    /// # Ok::<(), gemini_webhooks::ConfigError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::key(text).map_err(|reason| ConfigError::InvalidSecret { reason })
    }

    fn key(text: &str) -> Result<Self, &'static str> {
        if let Some(slip) = slip(text) {
            return Err(slip);
        }
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let mut buffer = Zeroizing::new([0; Self::MAX_BYTES + 2]);
        // Longer than any secret, so that what follows means "not base64" and nothing else.
        if encoded.len() > 88 {
            return Err("it is longer than 64 bytes in base64: 24 to 64 bytes are expected");
        }
        let key = encoding::decode(encoded.as_bytes(), buffer.as_mut_slice())
            .ok_or("it is not base64, apart from an optional `whsec_` in front")?;
        match key.len() {
            ..Self::MIN_BYTES => Err("it is shorter than 24 bytes: 24 to 64 bytes are expected"),
            Self::MIN_BYTES..=Self::MAX_BYTES => Ok(Self::new(key)),
            _ => Err("it is longer than 64 bytes: 24 to 64 bytes are expected"),
        }
    }

    pub(crate) fn new(key: &[u8]) -> Self {
        Self {
            keyed: Box::new(HmacKey::new(key)),
            #[cfg(feature = "diagnose")]
            key: Zeroizing::new(key.to_vec()),
        }
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn key_bytes(&self) -> &[u8] {
        &self.key
    }

    /// HMAC-SHA256 of the parts, one after the other.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.keyed.tag(parts)
    }
}

/// The ways in which a secret is usually mangled between the console and the program.
fn slip(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("it is empty")
    } else if text.trim() != text {
        Some("it has white space or a line break at an end: trim it")
    } else if text.contains(['"', '\'', '`']) {
        Some("it has quotation marks: remove them")
    } else if text.starts_with("v1,") {
        Some("it begins with `v1,`, which belongs to signatures: begin with `whsec_`")
    } else if text.contains("...") || text.contains('\u{2026}') {
        Some("it is the truncated form: the whole secret is shown only when it is created")
    } else if text.starts_with("whpk_") {
        Some("it is a public key: it belongs to a key set")
    } else if text.contains(',') {
        Some("it has a comma: give several secrets one by one")
    } else {
        None
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODED: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn reason(text: &str) -> &'static str {
        match Secret::parse(text) {
            Err(ConfigError::InvalidSecret { reason }) => reason,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn tag(text: &str) -> [u8; 32] {
        Secret::parse(text).unwrap().tag(&[b"a.1.body"])
    }

    #[test]
    fn the_prefix_and_the_padding_are_optional() {
        assert_eq!(tag(ENCODED), tag(&format!("whsec_{ENCODED}")));
        let padded = encoding::encode(&[7; 25]);
        assert!(padded.ends_with("=="));
        assert_eq!(tag(&padded), tag(padded.trim_end_matches('=')));
    }

    #[test]
    fn secrets_of_24_to_64_bytes_are_taken() {
        for length in 24..=64 {
            assert!(
                Secret::parse(&encoding::encode(&vec![7; length])).is_ok(),
                "{length}"
            );
        }
        for length in [0, 1, 23, 65, 66, 67, 100, 10_000] {
            let encoded = format!("whsec_{}", encoding::encode(&vec![7; length]));
            let expected = if length < 24 {
                "shorter than 24"
            } else {
                "longer than 64"
            };
            assert!(
                reason(&encoded).contains(expected),
                "{length}: {}",
                reason(&encoded)
            );
        }
    }

    #[test]
    fn each_usual_slip_is_named() {
        let secret = format!("whsec_{ENCODED}");
        for (text, word) in [
            (String::new(), "empty"),
            (format!("{secret}\n"), "line break"),
            (format!(" {secret}"), "white space"),
            (format!("\"{secret}\""), "quotation marks"),
            (format!("'{secret}'"), "quotation marks"),
            (format!("v1,{secret}"), "`v1,`"),
            ("whsec_...3frh".into(), "truncated"),
            ("whsec_\u{2026}3frh".into(), "truncated"),
            (format!("whpk_{ENCODED}"), "public key"),
            (format!("{secret},{secret}"), "one by one"),
            (format!("WHSEC_{ENCODED}"), "not base64"),
            ("not a secret at all, is it".into(), "comma"),
            ("correct horse battery staple".into(), "not base64"),
        ] {
            assert!(reason(&text).contains(word), "{text:?}: {}", reason(&text));
        }
    }

    #[test]
    fn debug_output_and_errors_hold_no_secret() {
        let secret = Secret::parse(ENCODED).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let error = Secret::parse(&format!("v1,{ENCODED}")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("C2FV"));
    }
}
