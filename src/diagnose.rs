//! Explanations for developers: why a delivery does not verify.

use std::{fmt, time::Duration};

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    attempt::{Attempt, NAMES},
    error::Error,
    hmac_v1::{self, Secret},
    per_request::PerRequest,
    scheme::Schemes,
    verifier::Verifier,
};

mod body;
mod secret;

/// The result of [`Verifier::diagnose`].
///
/// Its `Display` is for a developer to read: the refusal, and a line for each finding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Diagnosis {
    /// The reason why the delivery is refused; `None` if it is accepted.
    pub refusal: Option<Error>,
    /// The mistakes that explain it. Empty if the delivery is accepted, and if the refusal says all
    /// there is.
    pub findings: Vec<Finding>,
}

/// More to go by than what a [`Verifier`] keeps.
///
/// ```
/// use gemini_webhooks::{Secret, diagnose::Clues};
///
/// let clues = Clues::default()
///     .secret_text("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
///     .former_secret(Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?);
/// # Ok::<(), gemini_webhooks::ConfigError>(())
/// ```
#[derive(Default)]
#[must_use]
pub struct Clues {
    secret_texts: Vec<Zeroizing<String>>,
    former_secrets: Vec<Secret>,
    now: Option<i64>,
}

impl Clues {
    /// Adds the text of a configured secret, so that what was mangled in it can be recognized: a
    /// [`Secret`] does not keep its text. It is wiped from memory when dropped.
    pub fn secret_text(mut self, text: &str) -> Self {
        self.secret_texts.push(text.to_owned().into());
        self
    }

    /// Adds a secret that is no longer accepted, so that it is recognized.
    pub fn former_secret(mut self, secret: Secret) -> Self {
        self.former_secrets.push(secret);
        self
    }

    /// Diagnoses as of a given time, at which the delivery arrived.
    pub fn at(mut self, now: OffsetDateTime) -> Self {
        self.now = Some(now.unix_timestamp());
        self
    }
}

/// Leaves all secrets out.
impl fmt::Debug for Clues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clues").finish_non_exhaustive()
    }
}

/// A mistake that explains why a delivery is refused. Each but the last few was tried out: without
/// it, the signature matches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The signature is genuine, and only the time is outside the window.
    ClockOff {
        /// The receiver's clock minus `webhook-timestamp`, in seconds.
        seconds: i64,
    },
    /// `webhook-timestamp` counts milliseconds, where seconds are expected.
    TimestampInMilliseconds,
    /// The headers are called `svix-id` and so on, where `webhook-id` and so on are expected.
    SvixHeaders,
    /// The body is not the one that was signed.
    BodyChanged {
        /// What was done to it on the way.
        change: String,
    },
    /// The body is empty, and the signature is not of an empty body.
    BodyEmpty,
    /// The signing secret is not what was configured, but is in it.
    SecretMisread {
        /// What is wrong with what was configured; never a part of it.
        slip: String,
    },
    /// A secret matches that is no longer accepted: [`Clues::former_secret`].
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
    /// None of the slips that are known explains the refusal.
    Unexplained,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockOff { seconds } => {
                let (number, side) = (seconds.unsigned_abs(), if *seconds > 0 { "behind" } else { "ahead of" });
                write!(
                    f,
                    "the signature is genuine, and webhook-timestamp is {number} s {side} the receiver's clock: \
                     the clock is off, or the request was kept and sent again"
                )
            }
            Self::TimestampInMilliseconds => f.write_str(
                "webhook-timestamp counts milliseconds: the sender has to send whole seconds",
            ),
            Self::SvixHeaders => f.write_str(
                "the headers are named svix-id, svix-timestamp and svix-signature: the sender has to name \
                 them webhook-id, webhook-timestamp and webhook-signature",
            ),
            Self::BodyChanged { change } => write!(
                f,
                "the body is not the one that was signed: {change}: verify the bytes as they were received"
            ),
            Self::BodyEmpty => f.write_str(
                "the body is empty, which no delivery of the service is: something may have read it before",
            ),
            Self::SecretMisread { slip } => write!(f, "the signing secret is not right: {slip}"),
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
                "no key matches, and the key set is {} s old: fetch it again (`RefreshedKeys`)",
                age.as_secs()
            ),
            Self::Unexplained => f.write_str(
                "none of the usual slips explains it: it is forged, or signed with a key that is not configured",
            ),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            None => f.write_str("the delivery is accepted")?,
            Some(refusal) => write!(f, "refused: {refusal}")?,
        }
        self.findings
            .iter()
            .try_for_each(|finding| write!(f, "\n- {finding}"))
    }
}

impl Verifier {
    /// Explains to a developer why a delivery is refused: as of now, with the secrets and keys that
    /// this verifier has. `headers` are all of the request's, such as an `&http::HeaderMap`.
    ///
    /// This is for development. It verifies some hundred variants of the delivery, and what it
    /// finds is not for the sender to know: never put it into an answer. No variant that it tries
    /// makes [`verify`](Self::verify) accept anything.
    ///
    /// ```
    /// use gemini_webhooks::{Secret, Verifier};
    /// # use gemini_webhooks::testing::{Signer, sample};
    /// # let signer = Signer::v1(&Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?);
    /// # let sent = signer.sign("msg_1", time::OffsetDateTime::now_utc(), sample(&"batch.succeeded".into()));
    /// # let headers = sent.headers();
    /// # let parsed: serde_json::Value = serde_json::from_slice(&sent.body)?;
    ///
    /// let verifier = Verifier::builder()
    ///     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
    ///     .build()?;
    /// let body = serde_json::to_vec_pretty(&parsed)?;
    /// let diagnosis = verifier.diagnose(headers, &body);
    /// assert!(diagnosis.to_string().contains("the body is not the one that was signed"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn diagnose<'a, N, V>(
        &self,
        headers: impl IntoIterator<Item = (N, &'a V)>,
        body: &[u8],
    ) -> Diagnosis
    where
        N: AsRef<str>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        self.diagnose_with(&Clues::default(), headers, body)
    }

    /// [`diagnose`](Self::diagnose) with more to go by.
    pub fn diagnose_with<'a, N, V>(
        &self,
        clues: &Clues,
        headers: impl IntoIterator<Item = (N, &'a V)>,
        body: &[u8],
    ) -> Diagnosis
    where
        N: AsRef<str>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        let case = Case {
            verifier: self,
            clues,
            now: clues.now.unwrap_or_else(|| self.clock().unix_seconds()),
        };
        case.diagnose(headers, body)
    }
}

/// A verifier at a time, and more to go by.
struct Case<'v> {
    verifier: &'v Verifier,
    clues: &'v Clues,
    now: i64,
}

impl Case<'_> {
    fn diagnose<'a, N, V>(
        &self,
        headers: impl IntoIterator<Item = (N, &'a V)>,
        body: &[u8],
    ) -> Diagnosis
    where
        N: AsRef<str>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        let pairs = headers.into_iter();
        let pairs: Vec<(String, &[u8])> = pairs
            .map(|(name, value)| (name.as_ref().to_ascii_lowercase(), value.as_ref()))
            .collect();
        let mut findings = Vec::new();
        let refusal = match parse(&pairs) {
            Ok(attempt) => self.refusal(&attempt, body, self.now),
            Err(malformed) => Some(malformed),
        };
        let mut pairs = pairs;
        if let Some(renamed) = without_svix(&pairs) {
            findings.push(Finding::SvixHeaders);
            pairs = renamed;
        }
        if let Ok(attempt) = parse(&pairs)
            && let Some(refused) = self.refusal(&attempt, body, self.now)
        {
            self.explain(&attempt, body, refused, &mut findings);
        }
        Diagnosis { refusal, findings }
    }

    /// Returns the reason why the verifier refuses a delivery at a time.
    fn refusal(&self, attempt: &Attempt<'_>, body: &[u8], now: i64) -> Option<Error> {
        self.verifier.verify_attempt(attempt, body, now).err()
    }

    fn explain(
        &self,
        attempt: &Attempt<'_>,
        body: &[u8],
        refusal: Error,
        findings: &mut Vec<Finding>,
    ) {
        let mut refusal = Some(refusal);
        if let Some(Error::TimestampTooOld { .. } | Error::TimestampTooNew { .. }) = refusal {
            // As of its own time, so that only the signature counts.
            let sent = attempt.unix_timestamp();
            refusal = self.refusal(attempt, body, sent);
            let seconds = self.now.saturating_sub(sent);
            if sent > EARLIEST_MILLISECONDS {
                findings.push(Finding::TimestampInMilliseconds);
            } else if is_genuine(refusal.as_ref()) {
                findings.push(Finding::ClockOff { seconds });
            }
        }
        match refusal {
            Some(Error::NoUsableScheme {
                offered,
                configured,
            }) => {
                findings.push(Finding::NotConfigured {
                    offered,
                    configured,
                });
            }
            Some(Error::SignatureMismatch { .. } | Error::UnknownKey { .. }) => {
                findings.push(
                    self.changed_body(attempt, body)
                        .or_else(|| self.other_secret(attempt, body))
                        .or_else(|| body.is_empty().then_some(Finding::BodyEmpty))
                        .or_else(|| self.old_keys())
                        .unwrap_or(Finding::Unexplained),
                );
            }
            // The others say themselves what is wrong.
            _ => {}
        }
    }

    fn changed_body(&self, attempt: &Attempt<'_>, body: &[u8]) -> Option<Finding> {
        let sent = attempt.unix_timestamp();
        let mut originals = body::originals(body);
        let found = originals
            .find(|(original, _)| is_genuine(self.refusal(attempt, original, sent).as_ref()));
        found.map(|(_, change)| Finding::BodyChanged { change })
    }

    fn other_secret(&self, attempt: &Attempt<'_>, body: &[u8]) -> Option<Finding> {
        let matches =
            |secret: &Secret| hmac_v1::find(std::iter::once(secret), attempt, body).is_some();
        if self.clues.former_secrets.iter().any(matches) {
            return Some(Finding::FormerSecret);
        }
        self.clues.secret_texts.iter().find_map(|text| {
            secret::others(text, matches).map(|slip| Finding::SecretMisread { slip })
        })
    }

    fn old_keys(&self) -> Option<Finding> {
        let parsed_at = self
            .verifier
            .per_request()
            .and_then(PerRequest::keys_parsed_at)?;
        let age = self.now.saturating_sub(parsed_at);
        let age = Duration::from_secs(u64::try_from(age).ok()?);
        (age > OLD_KEYS).then_some(Finding::KeySetOld { age })
    }
}

/// The age that keys reach whose source does not say how long they may be used.
const OLD_KEYS: Duration = Duration::from_secs(10 * 60);

/// In the year 2001 as milliseconds, in the year 33658 as seconds.
const EARLIEST_MILLISECONDS: i64 = 1_000_000_000_000;

/// Whether the signature holds: what is refused after it was checked shows that.
const fn is_genuine(refusal: Option<&Error>) -> bool {
    matches!(
        refusal,
        None | Some(
            Error::UnknownOrigin { .. } | Error::TokenClaims { .. } | Error::BodyNotBound { .. }
        )
    )
}

fn parse<'a>(pairs: &[(String, &'a [u8])]) -> Result<Attempt<'a>, Error> {
    Attempt::from_pairs(pairs.iter().map(|(name, value)| (name, *value)))
}

/// The headers with `webhook-` for `svix-`, where there are some of these and none of those.
fn without_svix<'a>(pairs: &[(String, &'a [u8])]) -> Option<Vec<(String, &'a [u8])>> {
    let has = |prefix: &str| pairs.iter().any(|(name, _)| name.starts_with(prefix));
    if NAMES.iter().any(|name| has(name)) || !has("svix-") {
        return None;
    }
    let renamed = pairs
        .iter()
        .map(|(name, value)| (name.replacen("svix-", "webhook-", 1), *value));
    Some(renamed.collect())
}
