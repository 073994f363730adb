//! What a verifier's secrets and keys say of a delivery, whatever else there is to check.

use super::SignedBy;
use crate::{attempt::Attempt, hmac_v1, scheme::Scheme, verifier::Verifier};

/// Returns what made one of the signatures, whatever the time and the origin of the delivery.
pub(super) fn signed_by(
    verifier: &Verifier,
    attempt: &Attempt<'_>,
    body: &[u8],
) -> Option<SignedBy> {
    let secrets = verifier.secrets();
    let keys = secrets.iter().map(|named| &named.secret);
    if let Some(position) = hmac_v1::find(keys, attempt, body) {
        let name = secrets.get(position)?.name.as_deref().map(str::to_owned);
        let position = position.saturating_add(1);
        return Some(SignedBy::Secret { position, name });
    }
    let id = verifier.per_request()?.signed_by(attempt, body).ok()?;
    Some(SignedBy::Key { id })
}

/// Returns the number of times that a body is hashed, to check the signatures of `v1` and `v1a`.
pub(super) fn checks_of(verifier: &Verifier, attempt: &Attempt<'_>) -> usize {
    let offered = attempt.signatures().offered();
    let secrets = verifier.secrets().iter();
    let secrets = secrets.filter(|_| offered.contains(Scheme::V1)).count();
    let public = verifier
        .per_request()
        .map(|public| public.checks_of(attempt));
    secrets.saturating_add(public.unwrap_or_default())
}

/// Returns true if a signing secret is the key for job tokens.
pub(super) fn has_job_key(verifier: &Verifier) -> bool {
    let Some(per_request) = verifier.per_request() else {
        return false;
    };
    let mut secrets = verifier.secrets().iter();
    secrets.any(|named| per_request.has_job_key(&named.secret))
}
