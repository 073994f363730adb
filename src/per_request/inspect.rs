//! What a diagnosis asks of the keys and the tokens.

use super::{PerRequest, jwt, v1a};
use crate::{attempt::Attempt, error::Error, hmac_v1::Secret, scheme::Scheme};

impl PerRequest {
    /// Returns the id of the key that made one of the signatures, whatever else there is to check.
    pub(crate) fn signed_by(
        &self,
        attempt: &Attempt<'_>,
        body: &[u8],
    ) -> Result<Option<String>, Error> {
        let keys = self.keys.shared.get().ok_or(Error::KeysUnavailable)?;
        let offered = attempt.signatures().offered();
        let key = match v1a::verify(&keys, attempt, body) {
            Err(_) if offered.contains(Scheme::Jwt) && !self.v1a_only => {
                jwt::verify(&keys, attempt.signatures())?.key()
            }
            v1a => v1a?,
        };
        Ok(key.id.as_deref().map(str::to_owned))
    }

    /// Returns the number of `v1a` signatures that are checked for a body, at most.
    pub(crate) fn checks_of(&self, attempt: &Attempt<'_>) -> usize {
        let keys = self.keys.shared.get().map_or(0, |keys| keys.len());
        keys.saturating_mul(v1a::entries(attempt).count())
    }

    /// Returns true if the secret is the key that job tokens are minted under.
    pub(crate) fn has_job_key(&self, secret: &Secret) -> bool {
        let tokens = self.origin.tokens.as_ref();
        tokens.is_some_and(|tokens| tokens.is_under(secret))
    }

    pub(crate) fn keys_parsed_at(&self) -> Option<i64> {
        Some(self.keys.shared.get()?.parsed_at)
    }
}
