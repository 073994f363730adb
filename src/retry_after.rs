use std::time::Duration;

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// Reads `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. A date counts from the answer's own `Date`, so that only the service's
/// clock matters.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let wait = text(RETRY_AFTER)?;
    if let Ok(seconds) = wait.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = OffsetDateTime::parse(wait, &Rfc2822).ok()?;
    let from = OffsetDateTime::parse(text(DATE)?, &Rfc2822).ok()?;
    let seconds = until.unix_timestamp().saturating_sub(from.unix_timestamp());
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}
