//! A search for an original whose signature holds, within bounds.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// In bytes: all that a diagnosis hashes, besides the delivery as it is.
pub(super) const MAX_HASHED: usize = 64 << 20;

/// Signatures that a diagnosis checks, each under one key.
pub(super) const MAX_CHECKS: usize = 32 * 1024;

/// In bytes: a body on which changes are tried. One of them hashes it once for each key.
pub(super) const MAX_BODY: usize = 1 << 20;

/// In bytes: a body that is parsed, and written in hundreds of ways.
pub(super) const MAX_PARSED: usize = 64 << 10;

/// In bytes: the id, the time and the two full stops of the signed content are no more.
const HEAD: usize = 256 + 19 + 2;

/// What is left of the bounds.
pub(super) struct Budget {
    bytes: usize,
    checks: usize,
    /// Something was not tried for want of it.
    is_exceeded: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: MAX_HASHED,
            checks: MAX_CHECKS,
            is_exceeded: false,
        }
    }
}

impl Budget {
    /// Takes the cost of checking a body under some keys; false if there is too little left.
    pub(super) fn spend(&mut self, body: usize, checks: usize) -> bool {
        let bytes = body.saturating_add(HEAD).saturating_mul(checks);
        let left = self
            .bytes
            .checked_sub(bytes)
            .zip(self.checks.checked_sub(checks));
        match left {
            Some(left) => (self.bytes, self.checks) = left,
            None => self.is_exceeded = true,
        }
        left.is_some()
    }

    /// Records that something was not tried.
    pub(super) fn exceed(&mut self) {
        self.is_exceeded = true;
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }
}

/// The reason to end a search early.
pub(super) enum Ended {
    /// The original is found: what was done to it.
    Found(String),
    /// The budget is spent.
    Exceeded,
}

/// Tries one body after the other, each once.
pub(super) struct Search<'s> {
    budget: &'s mut Budget,
    /// How many keys check each body.
    checks: usize,
    is_original: &'s dyn Fn(&[u8]) -> bool,
    tried: HashSet<u64>,
}

impl<'s> Search<'s> {
    /// The body as it is was tried before.
    pub(super) fn new(
        body: &[u8],
        budget: &'s mut Budget,
        checks: usize,
        is_original: &'s dyn Fn(&[u8]) -> bool,
    ) -> Self {
        Self {
            budget,
            checks,
            is_original,
            tried: HashSet::from([digest(body)]),
        }
    }

    /// Pays for so many bytes that were written in vain.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Ended> {
        let paid = self.budget.spend(bytes, 1);
        paid.then_some(()).ok_or(Ended::Exceeded)
    }

    /// Ends the search if this is the original, or the budget is spent.
    pub(super) fn attempt(
        &mut self,
        original: &[u8],
        change: impl FnOnce() -> String,
    ) -> Result<(), Ended> {
        // One that was tried before is paid for all the same: it was written again.
        if !self.budget.spend(original.len(), self.checks) {
            return Err(Ended::Exceeded);
        }
        if self.tried.insert(digest(original)) && (self.is_original)(original) {
            return Err(Ended::Found(change()));
        }
        Ok(())
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
