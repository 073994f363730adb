//! The search for what explains a refusal.

use std::{cell::RefCell, time::Duration};

use super::{
    Clues, Diagnosis, Finding, SignedBy, body,
    headers::Headers,
    search::{Budget, Ended, Search},
    secret, signatures,
};
use crate::{
    attempt::Attempt,
    error::Error,
    hmac_v1::{self, Secret},
    per_request::PerRequest,
    scheme::Scheme,
    verifier::Verifier,
};

/// A delivery's verifier at a time, more to go by, and the work that may still be done.
pub(super) struct Case<'v> {
    pub(super) verifier: &'v Verifier,
    pub(super) clues: &'v Clues,
    pub(super) now: i64,
    pub(super) budget: Budget,
}

impl Case<'_> {
    /// Takes names in lower case.
    pub(super) fn diagnose(mut self, pairs: &[(String, &[u8])], body: &[u8]) -> Diagnosis {
        let received = Attempt::from_pairs(pairs.iter().map(|(name, value)| (name, *value)));
        let refusal = match &received {
            Ok(attempt) => self.refusal(attempt, body, self.now),
            Err(malformed) => Some(malformed.clone()),
        };
        let received = received.ok();
        let signed_by = received.and_then(|it| signatures::signed_by(self.verifier, &it, body));
        let mut diagnosis = Diagnosis {
            refusal,
            findings: Vec::new(),
            signed_by,
        };
        if diagnosis.refusal.is_some() {
            self.explain(received, pairs, body, &mut diagnosis);
        }
        diagnosis
    }

    /// Returns the reason why the verifier refuses a delivery at a time.
    fn refusal(&self, attempt: &Attempt<'_>, body: &[u8], now: i64) -> Option<Error> {
        self.verifier
            .verify_attempt(attempt, body, now, false)
            .err()
    }

    fn explain(
        &mut self,
        received: Option<Attempt<'_>>,
        pairs: &[(String, &[u8])],
        body: &[u8],
        diagnosis: &mut Diagnosis,
    ) {
        let (headers, mut wrong) = Headers::find(pairs);
        let values = headers.repair(&mut wrong);
        let is_as_received = wrong.is_empty();
        let changes = wrong.into_iter();
        diagnosis.findings = changes
            .map(|change| Finding::HeaderChanged { change })
            .collect();
        let repaired = values
            .as_ref()
            .and_then(|[id, timestamp, signature]| Attempt::new(id, timestamp, signature).ok());
        let attempt = match (received, repaired) {
            (Some(received), _) if is_as_received => received,
            (_, Some(repaired)) => repaired,
            _ => return,
        };
        if !is_as_received && diagnosis.signed_by.is_none() {
            diagnosis.signed_by = signatures::signed_by(self.verifier, &attempt, body);
        }
        if diagnosis.signed_by.is_none() {
            let found = self.mismatch(&attempt, body, &mut diagnosis.signed_by);
            diagnosis.findings.extend(found);
        } else if let Some(found) = self.time(&attempt, body) {
            diagnosis.findings.push(found);
        }
    }

    /// Explains a refusal of what has a genuine signature, if the time is the reason.
    fn time(&self, attempt: &Attempt<'_>, body: &[u8]) -> Option<Finding> {
        let sent = attempt.unix_timestamp();
        let clock_off = Finding::ClockOff {
            seconds: self.now.saturating_sub(sent),
        };
        let is_time = |refusal: &Error| {
            let claim = match refusal {
                Error::TokenClaims { claim, .. } => *claim,
                _ => "",
            };
            matches!(claim, "exp" | "iat" | "nbf")
        };
        match self.refusal(attempt, body, self.now)? {
            Error::TimestampTooOld { .. } | Error::TimestampTooNew { .. } => Some(clock_off),
            refusal if is_time(&refusal) => {
                let at_its_time = self.refusal(attempt, body, sent);
                Some(if at_its_time.is_some_and(|refusal| is_time(&refusal)) {
                    Finding::Suspected {
                        suspicion: "the JWT is genuine, and its times agree neither with the receiver's clock \
                                    nor with webhook-timestamp: check the clock, and whether the request was \
                                    kept and sent again",
                    }
                } else {
                    clock_off
                })
            }
            // The others say themselves what is wrong.
            _ => None,
        }
    }

    /// Explains why no signature matches.
    fn mismatch(
        &mut self,
        attempt: &Attempt<'_>,
        body: &[u8],
        signed_by: &mut Option<SignedBy>,
    ) -> Vec<Finding> {
        // As of its own time, so that only the signature counts.
        match self.refusal(attempt, body, attempt.unix_timestamp()) {
            Some(Error::NoUsableScheme {
                offered,
                configured,
            }) => {
                return vec![Finding::NotConfigured {
                    offered,
                    configured,
                }];
            }
            // The last one is that of a token in the URI, before any signature.
            Some(
                Error::SignatureMismatch { .. }
                | Error::UnknownKey { .. }
                | Error::UnknownOrigin { .. },
            ) => {}
            // The others say themselves what is wrong.
            _ => return Vec::new(),
        }
        let certain = self
            .changed_body(attempt, body, signed_by)
            .or_else(|| self.other_secret(attempt, body, signed_by));
        if let Some(certain) = certain {
            return vec![certain];
        }
        // A JWT does not sign the body.
        let of_body = if signatures::checks_of(self.verifier, attempt) == 0 {
            None
        } else if body.is_empty() {
            Some(Finding::BodyEmpty)
        } else {
            body::suspicion(body).map(|suspicion| Finding::Suspected { suspicion })
        };
        let possible: Vec<Finding> = of_body.into_iter().chain(self.old_keys(attempt)).collect();
        if !possible.is_empty() {
            return possible;
        }
        vec![if self.budget.is_exceeded() {
            Finding::NotAllTried { length: body.len() }
        } else {
            Finding::Unexplained
        }]
    }

    fn changed_body(
        &mut self,
        attempt: &Attempt<'_>,
        body: &[u8],
        signed_by: &mut Option<SignedBy>,
    ) -> Option<Finding> {
        let checks = signatures::checks_of(self.verifier, attempt);
        if checks == 0 {
            return None;
        }
        let found = RefCell::new(None);
        let is_original = |original: &[u8]| {
            let by = signatures::signed_by(self.verifier, attempt, original);
            let is_original = by.is_some();
            found.replace(by);
            is_original
        };
        let mut search = Search::new(body, &mut self.budget, checks, &is_original);
        match body::originals(body, &mut search) {
            Err(Ended::Found(change)) => {
                *signed_by = found.into_inner();
                Some(Finding::BodyChanged { change })
            }
            Err(Ended::Exceeded) => {
                self.budget.exceed();
                None
            }
            Ok(()) => None,
        }
    }

    fn other_secret(
        &mut self,
        attempt: &Attempt<'_>,
        body: &[u8],
        signed_by: &mut Option<SignedBy>,
    ) -> Option<Finding> {
        if !attempt.signatures().offered().contains(Scheme::V1) {
            return None;
        }
        let Self {
            clues,
            budget,
            verifier,
            ..
        } = self;
        let mut matches = |secret: &Secret| {
            budget.spend(body.len(), 1)
                && hmac_v1::find(std::iter::once(secret), attempt, body).is_some()
        };
        if let Some(position) = clues.former_secrets.iter().position(&mut matches) {
            let position = position.saturating_add(1);
            *signed_by = Some(SignedBy::FormerSecret { position });
            return Some(Finding::FormerSecret);
        }
        let texts = || clues.secret_texts.iter().zip(1..);
        let misread = |(slip, position): (String, usize)| Finding::SecretMisread { position, slip };
        texts()
            .find_map(|(text, position)| {
                let slip = secret::others(text, |key| matches(&Secret::under(key)))?;
                Some(misread((slip, position)))
            })
            .or_else(|| signatures::has_job_key(verifier).then_some(Finding::JobKeyAsSecret))
            .or_else(|| {
                texts().find_map(|(text, position)| {
                    Some(misread((secret::unusable(text)?.to_owned(), position)))
                })
            })
    }

    fn old_keys(&self, attempt: &Attempt<'_>) -> Option<Finding> {
        let offered = attempt.signatures().offered();
        if !offered.contains(Scheme::V1a) && !offered.contains(Scheme::Jwt) {
            return None;
        }
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
