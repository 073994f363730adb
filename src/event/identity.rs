use serde_json::json;

use super::Event;
use crate::encoding;

/// The claims that RFC 7519 registers (section 4.1).
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

impl Event {
    /// Returns the idempotency key of an event, whatever it was signed with: a hash of its type, its
    /// timestamp, its data, its metadata and the members that this crate does not know, since one of
    /// them may be all that tells two events apart. `None` for an event without a timestamp, of which
    /// two may be alike.
    ///
    /// The claims that RFC 7519 registers are left out: they are the token's, and another token for the
    /// same event has others.
    pub(crate) fn idempotency_key(&self) -> Option<String> {
        let timestamp = self.occurred_at?.unix_timestamp_nanos().to_string();
        let event_type = self.event_type();
        let mut other = self.other.clone();
        other.retain(|name, _| !REGISTERED.contains(&name.as_str()));
        let mut identity = json!([event_type, timestamp, self.data, self.user_metadata, other]);
        // The order of members is the sender's, where some crate in the build enables
        // `serde_json`'s feature `preserve_order`.
        identity.sort_all_objects();
        let hash = encoding::sha256(identity.to_string().as_bytes());
        Some(format!("event.{hash}"))
    }
}
