//! A store that remembers nothing.

use std::{
    future::ready,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use gemini_webhooks::store::{Claim, ClaimOutcome, IdempotencyStore, StoreFuture};

/// Every claim is new, with the next token.
#[derive(Default)]
pub(crate) struct Forgetful {
    last_token: AtomicI64,
}

impl IdempotencyStore for Forgetful {
    fn claim<'a>(&'a self, key: &'a str, _: Duration) -> StoreFuture<'a, ClaimOutcome> {
        let fencing_token = self.last_token.fetch_add(1, Ordering::Relaxed) + 1;
        let claim = Claim::new(key, fencing_token);
        Box::pin(ready(Ok(ClaimOutcome::New(claim))))
    }

    fn complete<'a>(&'a self, _: &'a Claim, _: Duration) -> StoreFuture<'a, bool> {
        Box::pin(ready(Ok(true)))
    }

    fn release<'a>(&'a self, _: &'a Claim) -> StoreFuture<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}
