use std::fmt;

/// A signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// HMAC-SHA256 under a shared [signing secret](crate::Secret): project-level webhooks
    /// (Standard Webhooks 1.0.0, RFC 2104).
    V1,
    /// Ed25519 under one of Google's keys: per-request webhooks (Standard Webhooks 1.0.0,
    /// RFC 8032).
    V1a,
    /// A compact JWT under one of Google's keys: per-request webhooks (RFC 7515, RFC 7519).
    Jwt,
}

impl Scheme {
    /// In the order in which they are tried: the cheapest first.
    pub(crate) const ALL: [Self; 3] = [Self::V1, Self::V1a, Self::Jwt];

    /// Returns the scheme's name: `v1`, `v1a` or `jwt`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
            Self::Jwt => "jwt",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of signature schemes, as an [`Error`](crate::Error) reports them.
///
/// Displays as names, such as `v1, v1a`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Schemes {
    known: u8,
    unknown: bool,
}

impl Schemes {
    /// Returns true if the scheme is in this set.
    #[must_use]
    pub const fn contains(self, scheme: Scheme) -> bool {
        self.known & (1 << scheme as u8) != 0
    }

    pub(crate) const fn insert(&mut self, scheme: Scheme) {
        self.known |= 1 << scheme as u8;
    }

    /// Records that there is a scheme that this crate does not know.
    pub(crate) const fn insert_unknown(&mut self) {
        self.unknown = true;
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self {
            known: self.known | other.known,
            unknown: self.unknown | other.unknown,
        }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.known == 0 && !self.unknown
    }
}

impl From<Scheme> for Schemes {
    fn from(scheme: Scheme) -> Self {
        let mut schemes = Self::default();
        schemes.insert(scheme);
        schemes
    }
}

impl fmt::Display for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Scheme::ALL
            .into_iter()
            .filter(|scheme| self.contains(*scheme));
        let names = known
            .map(Scheme::as_str)
            .chain(self.unknown.then_some("an unknown scheme"));
        for (position, name) in names.enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schemes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_schemes_reads_as_the_names_in_the_header() {
        let mut schemes = Schemes::default();
        assert!(schemes.is_empty());
        schemes.insert(Scheme::V1a);
        schemes.insert_unknown();
        schemes.insert(Scheme::V1);
        assert_eq!(schemes.to_string(), "v1, v1a, an unknown scheme");
        assert!(schemes.contains(Scheme::V1a) && !schemes.contains(Scheme::Jwt));
        assert_eq!(
            Scheme::ALL.map(|scheme| scheme.to_string()),
            ["v1", "v1a", "jwt"]
        );
    }
}
