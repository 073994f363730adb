use sha2::{Digest as _, Sha256};

use super::Event;
use crate::encoding;

impl Event {
    /// Returns the idempotency key of an event that came as the claims of a JWT.
    ///
    /// A retry may carry a new token, with other times, for the same event. Of an event without a
    /// time of its own, two may be alike and no retries. Then the token's times count, so that a
    /// retry may be mistaken for new and no event is lost.
    pub(crate) fn idempotency_key(&self) -> String {
        let mut event = serde_json::to_value(self).unwrap_or_default();
        if self.occurred_at.is_some()
            && let Some(members) = event.as_object_mut()
        {
            for claim in ["exp", "nbf", "iat", "jti"] {
                members.remove(claim);
            }
        }
        // The order of members is the sender's, where some crate in the build enables
        // `serde_json`'s feature `preserve_order`.
        event.sort_all_objects();
        let hash = Sha256::digest(event.to_string());
        format!("jwt.{}", encoding::encode_url(&hash))
    }
}
