//! In the place of `per_request.rs` where there is no backend for public keys.

use crate::{attempt::Attempt, delivery::Proof, error::Error, scheme::Scheme};

/// Never there.
#[derive(Debug)]
pub(crate) enum PerRequest {}

impl PerRequest {
    pub(crate) fn verify<'a>(
        &self,
        _: Scheme,
        _: &Attempt<'a>,
        _: &'a [u8],
        _: i64,
    ) -> Result<Proof<'a>, Error> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one waits for a fetch")]
    pub(crate) async fn refresh_after(&self, _: &Error) -> bool {
        match *self {}
    }

    #[cfg(feature = "diagnose")]
    pub(crate) fn keys_parsed_at(&self) -> Option<i64> {
        match *self {}
    }
}
