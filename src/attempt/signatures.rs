use memchr::{memchr, memchr_iter};

use crate::scheme::{Scheme, Schemes};

/// A value of `webhook-signature` with at least one well-formed entry.
#[derive(Clone, Copy)]
pub(crate) struct SignatureEntries<'a> {
    list: &'a [u8],
    /// The schemes of the well-formed entries.
    offered: Schemes,
}

/// One entry of `webhook-signature`; what follows the version is not decoded yet.
#[derive(Clone, Copy)]
pub(crate) enum SignatureEntry<'a> {
    /// `v1,<base64>`
    V1(&'a [u8]),
    /// `v1a,<base64>`
    #[cfg_attr(
        not(feature = "_per-request"),
        expect(dead_code, reason = "only its scheme is reported")
    )]
    V1a(&'a [u8]),
    /// A compact JWT: three segments without a comma.
    #[cfg_attr(
        not(feature = "_per-request"),
        expect(dead_code, reason = "only its scheme is reported")
    )]
    Jwt(&'a [u8]),
    /// A version that this crate does not know. Senders may add some beside the known ones.
    Unknown,
}

impl<'a> SignatureEntries<'a> {
    /// In bytes. A rotation needs some 300, a JWT some 1,500.
    const MAX_LENGTH: usize = 8 * 1024;
    const MAX_ENTRIES: usize = 16;

    pub(crate) fn parse(list: &'a [u8]) -> Result<Self, &'static str> {
        if list.len() > Self::MAX_LENGTH {
            return Err("it is longer than 8192 bytes");
        }
        // A line break that a lenient server let through is no separator. Without an early end, the
        // loop takes 16 bytes at a time.
        let printable = |printable, byte: &u8| printable & matches!(byte, b' '..=b'~');
        if !list.iter().fold(true, printable) {
            return Err("it has characters that are not printable ASCII");
        }
        let mut offered = Schemes::default();
        for (position, piece) in pieces(list).enumerate() {
            if position == Self::MAX_ENTRIES {
                return Err("it has more than 16 entries");
            }
            match SignatureEntry::parse(piece) {
                Some(SignatureEntry::V1(_)) => offered.insert(Scheme::V1),
                Some(SignatureEntry::V1a(_)) => offered.insert(Scheme::V1a),
                Some(SignatureEntry::Jwt(_)) => offered.insert(Scheme::Jwt),
                Some(SignatureEntry::Unknown) => offered.insert_unknown(),
                None => {}
            }
        }
        if offered.is_empty() {
            return Err("it has no entry of the form `version,signature`, and is not a JWT");
        }
        Ok(Self { list, offered })
    }

    pub(crate) const fn offered(self) -> Schemes {
        self.offered
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = SignatureEntry<'a>> + Clone {
        pieces(self.list).filter_map(SignatureEntry::parse)
    }
}

/// The entries are separated by spaces (Standard Webhooks 1.0.0).
fn pieces(mut list: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    std::iter::from_fn(move || {
        while let [b' ', rest @ ..] = list {
            list = rest;
        }
        let end = memchr(b' ', list).unwrap_or(list.len());
        let (piece, rest) = list.split_at_checked(end)?;
        list = rest;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

impl<'a> SignatureEntry<'a> {
    /// `None` for what is malformed: it must not cost a delivery the good entries beside it.
    ///
    /// A proxy may join two lines of the header with a comma and a space (RFC 9110, section 5.2), so
    /// that an entry is followed by a comma. No entry contains one at its end by itself: neither
    /// base64 nor base64url has it.
    fn parse(piece: &'a [u8]) -> Option<Self> {
        let before_comma = piece.strip_suffix(b",").and_then(Self::parse_one);
        before_comma.or_else(|| Self::parse_one(piece))
    }

    fn parse_one(piece: &'a [u8]) -> Option<Self> {
        if let Some(signature) = piece.strip_prefix(b"v1,") {
            Some(Self::V1(signature))
        } else if let Some(signature) = piece.strip_prefix(b"v1a,") {
            Some(Self::V1a(signature))
        } else {
            match memchr(b',', piece) {
                Some(0) => None,
                Some(_) => Some(Self::Unknown),
                None => (memchr_iter(b'.', piece).count() == 2).then_some(Self::Jwt(piece)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(value: &str) -> Result<String, &'static str> {
        SignatureEntries::parse(value.as_bytes()).map(|entries| entries.offered().to_string())
    }

    #[test]
    fn entries_of_each_kind_are_told_apart() {
        assert_eq!(offered("v1,AAAA").unwrap(), "v1");
        assert_eq!(offered("v1a,AAAA v1,AAAA").unwrap(), "v1, v1a");
        assert_eq!(offered("eyJh.eyJi.c2ln").unwrap(), "jwt");
        assert_eq!(offered("v2,AAAA").unwrap(), "an unknown scheme");
        assert_eq!(offered("V1,AAAA").unwrap(), "an unknown scheme");
    }

    #[test]
    fn extra_spaces_are_harmless() {
        assert_eq!(
            offered("  v1,AAAA   v9,BBBB ").unwrap(),
            "v1, an unknown scheme"
        );
    }

    #[test]
    fn one_comma_after_an_entry_is_not_a_part_of_it() {
        let entries = |value: &'static str| -> Vec<(char, &'static str)> {
            let list = SignatureEntries::parse(value.as_bytes()).unwrap();
            let entries = list.iter().map(|entry| match entry {
                SignatureEntry::V1(text) => ('1', text),
                SignatureEntry::V1a(text) => ('a', text),
                SignatureEntry::Jwt(text) => ('j', text),
                SignatureEntry::Unknown => ('?', &b""[..]),
            });
            let text = |text: &'static [u8]| str::from_utf8(text).unwrap();
            entries.map(|(kind, bytes)| (kind, text(bytes))).collect()
        };
        assert_eq!(entries("v1,A, v1a,B"), [('1', "A"), ('a', "B")]);
        assert_eq!(entries("a.b.c, v1,A,"), [('j', "a.b.c"), ('1', "A")]);
        // Two, one in front or one inside stay where they are, and are not base64.
        assert_eq!(entries("v1,A,, v1a,,B"), [('1', "A,"), ('a', ",B")]);
        assert_eq!(entries("v1,A,v1,B"), [('1', "A,v1,B")]);
        assert_eq!(entries("v1, v2,"), [('1', ""), ('?', "")]);
        assert_eq!(entries("a.b.c,,"), [('?', "")]);
        assert!(offered(", ,").unwrap_err().contains("no entry"));
    }

    #[test]
    fn a_malformed_entry_does_not_cost_the_good_one_beside_it() {
        assert_eq!(offered("AAAA v1,AAAA ,AAAA").unwrap(), "v1");
    }

    #[test]
    fn a_header_without_a_well_formed_entry_is_refused() {
        for value in ["", " ", "AAAA", ",AAAA", "a.b", "a.b.c.d.e", "v1"] {
            assert!(
                offered(value).unwrap_err().contains("no entry"),
                "{value:?}"
            );
        }
        for value in [
            "v1,\u{e9}",
            "v1,AAAA\r\n v1,AAAA",
            "v1,AAAA\0",
            "v1,AAAA\tv1,AAAA",
        ] {
            assert!(offered(value).unwrap_err().contains("ASCII"), "{value:?}");
        }
        assert!(SignatureEntries::parse(b"v1,\xff").is_err());
    }

    #[test]
    fn the_bounds_are_exact() {
        let entries = |count| vec!["v1,AAAA"; count].join(" ");
        assert!(offered(&entries(16)).is_ok());
        assert!(offered(&entries(17)).unwrap_err().contains("16 entries"));
        let long = |length: usize| format!("v1,{}", "A".repeat(length - 3));
        assert!(offered(&long(8192)).is_ok());
        assert!(offered(&long(8193)).unwrap_err().contains("8192 bytes"));
    }
}
