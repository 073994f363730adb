//! Explanations for developers: why a delivery does not verify.

use std::fmt;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{error::Error, hmac_v1::Secret, verifier::Verifier};

mod body;
mod case;
mod finding;
mod headers;
mod search;
mod secret;
mod signatures;

pub use finding::{Finding, SignedBy};

use case::Case;
use search::Budget;

/// The result of [`Verifier::diagnose`].
///
/// Its `Display` is for a developer to read: the refusal, and a line for each finding. It shows no
/// secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Diagnosis {
    /// The reason why the delivery is refused; `None` if it is accepted.
    pub refusal: Option<Error>,
    /// The mistakes that explain it. Empty if the delivery is accepted, and if the refusal says all
    /// there is.
    pub findings: Vec<Finding>,
    /// The secret or the key that signed the delivery, or that signed the original from which it was
    /// made; `None` if that is not known.
    pub signed_by: Option<SignedBy>,
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

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            None => f.write_str("the delivery is accepted")?,
            Some(refusal) => write!(f, "refused: {refusal}")?,
        }
        for finding in &self.findings {
            write!(f, "\n- {finding}")?;
        }
        match &self.signed_by {
            Some(signed_by) => write!(f, "\n- it is signed with {signed_by}"),
            None => Ok(()),
        }
    }
}

impl Verifier {
    /// Explains to a developer why a delivery is refused: as of now, with the secrets and keys that
    /// this verifier has. `headers` are all of the request's, such as an `&http::HeaderMap`.
    ///
    /// This is for development. What it finds is not for the sender to know: never put it into an
    /// answer. No variant of the delivery that it tries makes [`verify`](Self::verify) accept anything.
    ///
    /// Its work is bounded. Besides verifying the delivery as it is a few times, it hashes at most 64 MiB
    /// and checks at most 32,768 signatures. It tries changes of a body of at most 1 MiB, of which it
    /// keeps one copy at a time, and parses a body of at most 64 KiB; an event has a few hundred bytes.
    /// [`Finding::NotAllTried`] says that this was not enough.
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
        let pairs: Vec<(String, &[u8])> = headers
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_ascii_lowercase(), value.as_ref()))
            .collect();
        let case = Case {
            verifier: self,
            clues,
            now: clues.now.unwrap_or_else(|| self.clock().unix_seconds()),
            budget: Budget::default(),
        };
        case.diagnose(&pairs, body)
    }
}

#[cfg(test)]
mod tests;
