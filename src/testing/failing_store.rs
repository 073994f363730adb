use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "inbox")]
use crate::inbox::{Acceptance, DeadLetter, InboxStore, NewEntry, Round, Stats, Taken};
use crate::store::{Claim, ClaimOutcome, IdempotencyStore, StoreError, StoreFuture};

/// A store that fails on demand, to test what a service does while its store is unavailable.
///
/// An operation that fails does not reach the store inside, and returns a [`StoreError`]. Clones
/// share the failures that are left.
///
/// ```
/// use gemini_webhooks::{Receiver, Secret, Verifier, store::MemoryStore};
/// use gemini_webhooks::receiver::{HandlerError, Received};
/// use gemini_webhooks::testing::{FailingStore, Signer, minimal_sample};
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
///
/// let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?;
/// let sent = Signer::v1(&secret).sign(
///     "msg_1",
///     time::OffsetDateTime::now_utc(),
///     minimal_sample(&"batch.failed".into()),
/// );
/// let store = FailingStore::new(MemoryStore::default());
/// let verifier = Verifier::builder().secret(secret).build()?;
/// let receiver = Receiver::builder(verifier, store.clone()).build()?;
///
/// let handle = async |_: Received<'_>| Ok::<(), HandlerError>(());
/// store.fail_claims(1);
/// let reply = receiver.handle(&sent, &sent.body, handle).await;
/// assert_eq!(reply.outcome.code(), "store_unavailable");
/// let retried = receiver.handle(&sent, &sent.body, handle).await;
/// assert_eq!(retried.outcome.code(), "processed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FailingStore<S> {
    store: S,
    failures: Arc<Failures>,
}

/// How many of the next operations of each kind fail.
#[derive(Debug, Default)]
struct Failures {
    claims: AtomicUsize,
    completes: AtomicUsize,
    releases: AtomicUsize,
    #[cfg(feature = "inbox")]
    accepts: AtomicUsize,
    #[cfg(feature = "inbox")]
    rounds: AtomicUsize,
}

impl<S> FailingStore<S> {
    /// Wraps a store. Nothing fails yet.
    pub fn new(store: S) -> Self {
        Self {
            store,
            failures: Arc::default(),
        }
    }

    /// Lets the next `number` calls of [`claim`](IdempotencyStore::claim) fail: 0 for none,
    /// [`usize::MAX`] for all of them.
    pub fn fail_claims(&self, number: usize) {
        self.failures.claims.store(number, Ordering::SeqCst);
    }

    /// Lets the next `number` calls of [`complete`](IdempotencyStore::complete) fail.
    pub fn fail_completes(&self, number: usize) {
        self.failures.completes.store(number, Ordering::SeqCst);
    }

    /// Lets the next `number` calls of [`release`](IdempotencyStore::release) fail.
    pub fn fail_releases(&self, number: usize) {
        self.failures.releases.store(number, Ordering::SeqCst);
    }

    /// Lets the next `number` calls of [`accept`](InboxStore::accept) fail.
    #[cfg(feature = "inbox")]
    pub fn fail_accepts(&self, number: usize) {
        self.failures.accepts.store(number, Ordering::SeqCst);
    }

    /// Lets the next `number` calls of [`round`](InboxStore::round) fail, with which workers take
    /// deliveries and tell what became of them.
    #[cfg(feature = "inbox")]
    pub fn fail_rounds(&self, number: usize) {
        self.failures.rounds.store(number, Ordering::SeqCst);
    }
}

/// Takes one failure off the counter, or calls the operation.
fn unless_failing<'a, T: Send + 'a>(
    left: &AtomicUsize,
    operation: impl FnOnce() -> StoreFuture<'a, T>,
) -> StoreFuture<'a, T> {
    let take = |left: usize| match left {
        // All of them, for as long as the counter stays there.
        usize::MAX => Some(left),
        _ => left.checked_sub(1),
    };
    let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
    if fails.is_ok() {
        return Box::pin(ready(Err(StoreError::new("a test lets it fail"))));
    }
    operation()
}

impl<S: IdempotencyStore> IdempotencyStore for FailingStore<S> {
    fn claim<'a>(&'a self, key: &'a str, lease: Duration) -> StoreFuture<'a, ClaimOutcome> {
        unless_failing(&self.failures.claims, || self.store.claim(key, lease))
    }

    fn complete<'a>(&'a self, claim: &'a Claim, retention: Duration) -> StoreFuture<'a, bool> {
        unless_failing(&self.failures.completes, || {
            self.store.complete(claim, retention)
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> StoreFuture<'a, ()> {
        unless_failing(&self.failures.releases, || self.store.release(claim))
    }

    /// Fails while all claims fail.
    fn check(&self) -> StoreFuture<'_, ()> {
        match self.failures.claims.load(Ordering::SeqCst) {
            usize::MAX => Box::pin(ready(Err(StoreError::new("a test lets it fail")))),
            _ => self.store.check(),
        }
    }
}

#[cfg(feature = "inbox")]
impl<S: InboxStore> InboxStore for FailingStore<S> {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        unless_failing(&self.failures.accepts, || self.store.accept(entry))
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        unless_failing(&self.failures.rounds, || self.store.round(round))
    }

    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
        self.store.stats(namespace)
    }

    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        self.store.dead_letters(namespace, after, limit)
    }

    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        self.store.retry(namespace, id)
    }

    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        self.store.discard(namespace, id)
    }
}
