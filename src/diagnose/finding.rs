use std::{fmt, time::Duration};

use crate::scheme::Schemes;

/// A mistake that explains why a delivery is refused.
///
/// Each was tried out: without it, the signature matches. The exceptions are [`BodyEmpty`],
/// [`KeySetOld`], [`Suspected`], [`NotAllTried`] and [`Unexplained`].
///
/// [`BodyEmpty`]: Self::BodyEmpty
/// [`KeySetOld`]: Self::KeySetOld
/// [`Suspected`]: Self::Suspected
/// [`NotAllTried`]: Self::NotAllTried
/// [`Unexplained`]: Self::Unexplained
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The signature is genuine, and only the time is outside the window, or a JWT's `exp`, `nbf` or
    /// `iat` does not hold.
    ClockOff {
        /// The receiver's clock minus `webhook-timestamp`, in seconds.
        seconds: i64,
    },
    /// A header has another name or another form than expected, such as a signature in hexadecimal.
    HeaderChanged {
        /// What is wrong with it and what is expected.
        change: &'static str,
    },
    /// The body is not the one that was signed.
    BodyChanged {
        /// What was done to it on the way.
        change: String,
    },
    /// The body is empty, and the signature is not of an empty body.
    BodyEmpty,
    /// The signing secret is not what was configured, but is in it.
    SecretMisread {
        /// The position, from 1, among the texts of [`Clues::secret_text`](super::Clues::secret_text).
        position: usize,
        /// What is wrong with what was configured; never a part of it.
        slip: String,
    },
    /// A signing secret is the key for job tokens.
    JobKeyAsSecret,
    /// A secret matches that is no longer accepted:
    /// [`Clues::former_secret`](super::Clues::former_secret).
    FormerSecret,
    /// The signatures are of schemes for which nothing is configured.
    NotConfigured {
        /// The schemes of the delivery.
        offered: Schemes,
        /// The schemes that the verifier can check.
        configured: Schemes,
    },
    /// No key matches, and the key set is old.
    KeySetOld {
        /// Since it was parsed.
        age: Duration,
    },
    /// Something seems to have happened from which the original can't be restored, so that it can't
    /// be tried out.
    Suspected {
        /// What seems to have happened, and what to check.
        suspicion: &'static str,
    },
    /// Nothing explains the refusal, and the body is too large to try everything.
    NotAllTried {
        /// Its length in bytes.
        length: usize,
    },
    /// None of the slips that are known explains the refusal.
    Unexplained,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockOff { seconds } => {
                let side = if *seconds > 0 { "behind" } else { "ahead of" };
                write!(
                    f,
                    "the signature is genuine, and webhook-timestamp is {} {side} the receiver's clock: \
                     the clock is off, or the request was kept and sent again",
                    Span(seconds.unsigned_abs())
                )
            }
            Self::HeaderChanged { change } => f.write_str(change),
            Self::BodyChanged { change } => write!(
                f,
                "the body is not the one that was signed: {change}: verify the bytes as they were received"
            ),
            Self::BodyEmpty => f.write_str(
                "the body is empty, which no delivery of the service is: something may have read it before",
            ),
            Self::SecretMisread { position, slip } => {
                write!(f, "signing secret {position} is not right: {slip}")
            }
            Self::JobKeyAsSecret => f.write_str(
                "a signing secret is the key for job tokens: configure the `whsec_` of the webhook",
            ),
            Self::FormerSecret => f.write_str(
                "it is signed with a former secret: until the rotation's 24 hours are over, configure both",
            ),
            Self::NotConfigured { offered, configured } => write!(
                f,
                "the delivery is signed with {offered}, and only {configured} is configured: v1 needs a signing \
                 secret, v1a and jwt need Google's key set (`per_request`)"
            ),
            Self::KeySetOld { age } => write!(
                f,
                "no key matches, and the key set is {} old: fetch it again (`RefreshedKeys`)",
                Span(age.as_secs())
            ),
            Self::Suspected { suspicion } => {
                write!(f, "suspected: {suspicion}")
            }
            Self::NotAllTried { length } => write!(
                f,
                "the body has {length} bytes, too many to try every known change: reproduce it with a small body"
            ),
            Self::Unexplained => f.write_str(
                "none of the usual slips explains it: it is forged, or signed with a key that is not configured",
            ),
        }
    }
}

/// The secret or the key that made the signature of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignedBy {
    /// A signing secret of the verifier.
    Secret {
        /// Its position, from 1, among those that were configured.
        position: usize,
        /// Its name, if it was given one.
        name: Option<String>,
    },
    /// A secret that is no longer accepted.
    FormerSecret {
        /// Its position, from 1, among those of
        /// [`Clues::former_secret`](super::Clues::former_secret).
        position: usize,
    },
    /// A key of the verifier's key set.
    Key {
        /// Its id (`kid`), if it has one.
        id: Option<String>,
    },
}

/// Never shows a secret's text.
impl fmt::Display for SignedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret {
                position,
                name: None,
            } => write!(f, "secret {position}"),
            Self::Secret {
                position,
                name: Some(name),
            } => write!(f, "secret {position} ({name})"),
            Self::FormerSecret { position } => write!(f, "former secret {position}"),
            Self::Key { id: None } => f.write_str("a key without an id"),
            Self::Key { id: Some(id) } => write!(f, "the key {id:?}"),
        }
    }
}

/// A number of seconds, for people: in its two largest units.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "days"), (3600, "h"), (60, "min"), (1, "s")];
        let mut left = self.0;
        let mut parts = Vec::new();
        for (length, unit) in UNITS {
            let number = left.checked_div(length).unwrap_or_default();
            left = left.checked_rem(length).unwrap_or_default();
            match (number, unit) {
                (0, _) => {}
                (1, "days") => parts.push("1 day".to_owned()),
                _ => parts.push(format!("{number} {unit}")),
            }
        }
        parts.truncate(2);
        match &*parts {
            [] => f.write_str("0 s"),
            parts => f.write_str(&parts.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (192, "3 min 12 s"),
            (3600, "1 h"),
            (3601, "1 h 1 s"),
            (86_400, "1 day"),
            (2 * 86_400, "2 days"),
            (86_400 * 400 + 7260, "400 days 2 h"),
        ] {
            assert_eq!(Span(seconds).to_string(), shown);
        }
    }
}
