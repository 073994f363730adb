//! In the place of `per_request.rs` where there is no backend for public keys.

use crate::{
    delivery::{Delivery, Request},
    error::{ConfigError, Error},
    scheme::{Scheme, Schemes},
};

/// Never there.
#[derive(Debug)]
pub(crate) enum PerRequest {}

impl PerRequest {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match *self {}
    }

    pub(crate) fn schemes(&self) -> Schemes {
        match *self {}
    }

    pub(crate) fn verify<'a>(&self, _: Scheme, _: &Request<'_, 'a>) -> Result<Delivery<'a>, Error> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the other one waits for a fetch")]
    pub(crate) async fn refreshing<T>(&self, _: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        match *self {}
    }
}

#[cfg(feature = "diagnose")]
impl PerRequest {
    pub(crate) fn signed_by(
        &self,
        _: &crate::attempt::Attempt<'_>,
        _: &[u8],
    ) -> Result<Option<String>, Error> {
        match *self {}
    }

    pub(crate) fn checks_of(&self, _: &crate::attempt::Attempt<'_>) -> usize {
        match *self {}
    }

    pub(crate) fn has_job_key(&self, _: &crate::Secret) -> bool {
        match *self {}
    }

    pub(crate) fn keys_parsed_at(&self) -> Option<i64> {
        match *self {}
    }
}
