use std::{
    any::Any,
    fmt,
    future::poll_fn,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use time::OffsetDateTime;

#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
use crate::keys::RefreshedKeys;
use crate::{
    error::Error,
    headers::WebhookHeaders,
    idempotency::{Claim, ClaimOutcome, IdempotencyStore},
    verifier::{Delivery, Verifier},
};

mod reply;
mod span;

pub use reply::{HandlerError, Outcome, Reply};
use span::Span;

/// The whole way of a delivery: verify it, claim it, handle it, complete the claim, and say what to
/// answer.
///
/// Any HTTP server and any async runtime will do: this has no task, no thread and no timer of its
/// own. One `Receiver` is shared by all requests.
///
/// ```
/// use gemini_webhooks::{Receiver, Secret, Verifier, idempotency::MemoryStore};
/// # use gemini_webhooks::{PayloadError, testing::{SignedDelivery, Signer, sample}};
/// # async fn example(sent: SignedDelivery) -> Result<(), gemini_webhooks::ConfigError> {
/// # let (headers, body) = (&sent, &sent.body);
///
/// let verifier = Verifier::builder()
///     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
///     .build()?;
/// let receiver = Receiver::new(verifier).store(MemoryStore::default());
///
/// let reply = receiver
///     .handle(headers, body, |delivery| async move {
///         println!("{}", delivery.event()?.event_type());
///         Ok::<_, PayloadError>(())
///     })
///     .await;
/// // Answer with reply.status and, as the header Retry-After, reply.retry_after.
/// # assert_eq!(reply.status, 200);
/// # Ok(())
/// # }
/// ```
///
/// # The handler
///
/// It runs at most once at a time for each delivery, and again for as long as it fails. The service
/// waits for an answer a few seconds only, so what takes longer belongs into a queue: take the
/// delivery over, answer, and do the work later. `examples/inbox.rs` shows it.
///
/// A handler that panics gives its claim back, and the panic goes on. One whose future is dropped,
/// as servers do when the client goes away, keeps its claim until the end of its lease.
pub struct Receiver {
    verifier: Verifier,
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    keys: Option<Arc<RefreshedKeys>>,
    store: Option<Arc<dyn IdempotencyStore>>,
    namespace: String,
    lease: Duration,
    retention: Duration,
}

impl Receiver {
    /// How long a handler may take by default, before another attempt may be handled: 60 s.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

    /// Receives what this verifier accepts. Without a [`store`](Self::store), a retry or a replay
    /// is handled like a new delivery.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self {
            verifier,
            #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
            keys: None,
            store: None,
            namespace: String::new(),
            lease: Self::DEFAULT_LEASE,
            retention: Duration::ZERO,
        }
    }

    /// Fetches the key set, and verifies again, when a delivery names a key that is not in it. What
    /// fetches it from time to time remains a task of the caller's: see [`RefreshedKeys`].
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    #[must_use]
    pub fn keys(self, keys: impl Into<Arc<RefreshedKeys>>) -> Self {
        Self {
            keys: Some(keys.into()),
            ..self
        }
    }

    /// Remembers in this store which deliveries were handled.
    #[must_use]
    pub fn store(self, store: impl IdempotencyStore) -> Self {
        Self {
            store: Some(Arc::new(store)),
            ..self
        }
    }

    /// Sets what all idempotency keys begin with, up to 200 bytes of visible ASCII: for several
    /// endpoints that share a store, each of which is to handle a delivery that they all get.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            ..self
        }
    }

    /// Sets how long a handler may take before another attempt may be handled, 1 s at least. After
    /// a crash, the delivery waits for as long.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self {
            lease: lease.max(Duration::from_secs(1)),
            ..self
        }
    }

    /// Remembers what was handled for at least so long. The default, and the least, is what
    /// [`Delivery::retention`] says, a little more than a day.
    #[must_use]
    pub fn retention(self, retention: Duration) -> Self {
        Self { retention, ..self }
    }

    /// Receives a delivery: `headers` and `body` as for [`Verifier::verify`].
    ///
    /// The handler is called for a delivery that is authentic and was not handled before. Where it
    /// gives `Ok`, the delivery is acknowledged. See [`Outcome`] for what is answered when.
    pub async fn handle<'a, H, F, R, E>(&self, headers: H, body: &'a [u8], handler: F) -> Reply<'a>
    where
        H: TryInto<WebhookHeaders<'a>>,
        Error: From<H::Error>,
        F: FnOnce(Received<'a>) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<HandlerError>,
    {
        let now = OffsetDateTime::now_utc();
        self.handle_at(headers, body, now, handler).await
    }

    /// [`handle`](Self::handle) as of a given time: for tests, and for callers with a clock of
    /// their own. The store has its own.
    pub async fn handle_at<'a, H, F, R, E>(
        &self,
        headers: H,
        body: &'a [u8],
        now: OffsetDateTime,
        handler: F,
    ) -> Reply<'a>
    where
        H: TryInto<WebhookHeaders<'a>>,
        Error: From<H::Error>,
        F: FnOnce(Received<'a>) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<HandlerError>,
    {
        let span = Span::new();
        let reply = async {
            let headers = match headers.try_into() {
                Ok(headers) => headers,
                Err(malformed) => return Reply::new(Outcome::Refused(malformed.into()), None),
            };
            let delivery = match self.verify(&headers, body, now.unix_timestamp()).await {
                Ok(delivery) => delivery,
                Err(refusal) => return Reply::new(Outcome::Refused(refusal), None),
            };
            span.verified(&delivery);
            let outcome = self.process(&delivery, handler).await;
            Reply::new(outcome, Some(delivery))
        };
        let reply = span.around(reply).await;
        span.answered(&reply);
        reply
    }

    #[cfg_attr(
        not(any(feature = "aws-lc-rs", feature = "rust-crypto")),
        expect(
            clippy::unused_async,
            reason = "without keys there is nothing to wait for"
        )
    )]
    async fn verify<'a>(
        &self,
        headers: &WebhookHeaders<'a>,
        body: &'a [u8],
        now: i64,
    ) -> Result<Delivery<'a>, Error> {
        let verified = self.verifier.check(headers, body, now);
        #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
        if let (Err(refusal), Some(keys)) = (&verified, &self.keys)
            && let Ok(true) = keys.refresh_after(refusal).await
        {
            return self.verifier.check(headers, body, now);
        }
        verified
    }

    /// Claims, handles and completes.
    async fn process<'a, F, R, E>(&self, delivery: &Delivery<'a>, handler: F) -> Outcome
    where
        F: FnOnce(Received<'a>) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<HandlerError>,
    {
        let Some(store) = &self.store else {
            let received = Received {
                delivery: delivery.clone(),
                claim: None,
            };
            return match handler(received).await {
                Ok(()) => Outcome::Processed,
                Err(error) => Outcome::Failed(error.into()),
            };
        };
        let key = format!("{}{}", self.namespace, delivery.idempotency_key());
        let claim = match store.claim(&key, self.lease).await {
            Ok(ClaimOutcome::New(claim)) => claim,
            Ok(ClaimOutcome::Done) => return Outcome::Duplicate,
            Ok(ClaimOutcome::InFlight { remaining }) => return Outcome::InFlight { remaining },
            Err(error) => return Outcome::StoreUnavailable(error),
        };
        let received = Received {
            delivery: delivery.clone(),
            claim: Some(claim.clone()),
        };
        let outcome = match catch_panic(async { handler(received).await }).await {
            Ok(Ok(())) => {
                let retention = self.retention.max(delivery.retention());
                return complete(&**store, &claim, retention).await;
            }
            Ok(Err(error)) => Ok(Outcome::Failed(error.into())),
            Err(panic) => Err(panic),
        };
        // If it fails, the lease ends by itself.
        let _ = store.release(&claim).await;
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

async fn complete(store: &dyn IdempotencyStore, claim: &Claim, retention: Duration) -> Outcome {
    let mut completed = store.complete(claim, retention).await;
    if completed.is_err() {
        // Handled, and not remembered so: worth another try, over a new connection perhaps.
        completed = store.complete(claim, retention).await;
    }
    match completed {
        Ok(true) => Outcome::Processed,
        Ok(false) => Outcome::LeaseLost,
        Err(error) => Outcome::StoreUnavailable(error),
    }
}

/// A panic while the future is polled is given back, and not yet on its way.
async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // The future is not polled again after a panic: nothing can see what it left behind.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("verifier", &self.verifier)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// A delivery that a handler is given: authentic, and claimed where there is a store.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    delivery: Delivery<'a>,
    claim: Option<Claim>,
}

impl Received<'_> {
    /// The claim on this delivery. A handler may complete it itself, in the transaction in which it
    /// records its effect (`SqliteStore::complete_in`, `PostgresStore::complete_in`).
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }
}

impl<'a> Deref for Received<'a> {
    type Target = Delivery<'a>;

    fn deref(&self) -> &Self::Target {
        &self.delivery
    }
}
