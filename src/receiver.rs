//! Deliveries handled while their sender waits: verified, claimed, handled, completed and answered.
//!
//! # Traces
//!
//! With the feature `tracing`, each delivery has a span `gemini_webhook` at level `INFO`. Whatever the
//! handler traces is inside. When the delivery is answered, the span has one event, `answered`, at level
//! `INFO` for `processed`, `duplicate` and `in_flight`, `WARN` for refusals and `lease_lost`, and `ERROR`
//! for `failed`, `set_aside` and `store_unavailable`.
//!
//! | field | of | value |
//! |---|---|---|
//! | `id` | span | [`Delivery::id`]; only of authentic deliveries |
//! | `scheme` | span | `v1`, `v1a` or `jwt`; only of authentic deliveries |
//! | `type` | span | the event's type, if the payload is an event |
//! | `outcome` | span | [`Outcome::code`], and `refused` for all refusals |
//! | `code` | span | [`Outcome::code`] |
//! | `status` | event | the HTTP status code |
//! | `cause` | event | the refusal, or the error of the handler or of the store, with its sources |

use std::{fmt, panic::resume_unwind, sync::Arc, time::Duration};

use crate::{
    attempt::IntoAttempt,
    clock::Clock,
    delivery::Delivery,
    error::{ConfigError, PayloadError},
    event::Event,
    store::{Claim, ClaimOutcome, IdempotencyStore},
    verifier::SharedVerifier,
};

mod endpoint;
mod handler_error;
mod panics;
mod reply;
pub(crate) mod span;

pub(crate) use endpoint::Endpoint;
pub use handler_error::HandlerError;
#[cfg(feature = "inbox")]
pub(crate) use handler_error::chain;
pub(crate) use panics::catch_panic;
pub use reply::{Outcome, Reply};

/// Takes a delivery through its whole lifecycle: verifies it, claims it, calls the handler,
/// completes the claim, and says what to answer.
///
/// Any HTTP server and any async runtime will do: this has no task, no thread and no timer of its
/// own. Clones are cheap and share the verifier and the store.
///
/// ```
/// use gemini_webhooks::{Receiver, Secret, Verifier, store::MemoryStore};
/// # use gemini_webhooks::{PayloadError, testing::{SignedDelivery, Signer, sample}};
/// # async fn example(sent: SignedDelivery) -> Result<(), gemini_webhooks::ConfigError> {
/// # let (headers, body) = (&sent, &sent.body);
///
/// let verifier = Verifier::builder()
///     .secret(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")?)
///     .build()?;
/// let receiver = Receiver::builder(verifier, MemoryStore::default()).build()?;
///
/// let reply = receiver
///     .handle(headers, body, async |delivery| {
///         println!("{}", delivery.event()?.event_type());
///         Ok::<_, PayloadError>(())
///     })
///     .await;
/// // Answer with reply.response("").
/// # assert_eq!(reply.status, 200);
/// # Ok(())
/// # }
/// ```
///
/// # The handler
///
/// It runs at most once at a time for each delivery within its lease, and again for as long as it
/// fails. A handler that takes longer than the lease may run beside the next attempt's. The service
/// waits for an answer a few seconds only, so what takes longer belongs into an `Inbox` (feature `inbox`),
/// which takes the same handler.
///
/// If a handler panics, its claim is released and the panic goes on. If its future is dropped, as
/// servers do when the client goes away, it stops half-way and its claim ends with the lease. To let
/// it end, give it a task of its own:
///
/// ```
/// # use gemini_webhooks::{Receiver, receiver::HandlerError};
/// # async fn example(receiver: Receiver, parts: http::request::Parts, body: Vec<u8>) -> http::Response<&'static str> {
/// let handled = tokio::spawn(async move {
///     let reply = receiver.handle(&parts, &body, async |delivery| {
///         println!("{}", delivery.event()?.event_type());
///         Ok::<_, HandlerError>(())
///     });
///     reply.await.response("")
/// });
/// // A client that hangs up drops this future, and not the task.
/// handled.await.expect("the handler does not panic")
/// # }
/// ```
#[derive(Clone)]
pub struct Receiver(Arc<Configuration>);

struct Configuration {
    endpoint: Endpoint,
    store: Box<dyn IdempotencyStore>,
    lease: Duration,
}

impl Receiver {
    /// The time that a handler may take by default before another attempt may be handled: 60 s.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

    /// Starts the configuration of a receiver: of what this verifier accepts, with this store to
    /// remember the deliveries that were handled.
    pub fn builder(
        verifier: impl Into<SharedVerifier>,
        store: impl IdempotencyStore,
    ) -> ReceiverBuilder {
        ReceiverBuilder(Configuration {
            endpoint: Endpoint::new(verifier.into(), false),
            store: Box::new(store),
            lease: Self::DEFAULT_LEASE,
        })
    }

    /// Receives a delivery: `attempt` and `body` as for [`Verifier::verify`](crate::Verifier::verify).
    ///
    /// The handler is called for a delivery that is authentic and was not handled before. If it
    /// returns `Ok`, the delivery is acknowledged. See [`Outcome`] for the answers.
    pub async fn handle<'a, F, R, E>(
        &self,
        attempt: impl IntoAttempt<'a>,
        body: &'a [u8],
        handler: F,
    ) -> Reply<'a>
    where
        F: FnOnce(Received<'a>) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<HandlerError>,
    {
        let process = async |clock: Clock, delivery: Delivery<'a>| {
            let outcome = self.process(&clock, &delivery, handler).await;
            (outcome, delivery)
        };
        self.0.endpoint.receive(attempt, body, process).await
    }

    /// Claims, handles and completes.
    async fn process<'a, F, R, E>(
        &self,
        clock: &Clock,
        delivery: &Delivery<'a>,
        handler: F,
    ) -> Outcome
    where
        F: FnOnce(Received<'a>) -> R,
        R: Future<Output = Result<(), E>>,
        E: Into<HandlerError>,
    {
        let store = &*self.0.store;
        let key = self.0.endpoint.key(delivery);
        let asked = clock.instant();
        let claim = match store.claim(&key, self.0.lease).await {
            Ok(ClaimOutcome::New(claim)) => claim.retain_for(self.0.endpoint.retention(delivery)),
            Ok(ClaimOutcome::Done) => return Outcome::Duplicate,
            Ok(ClaimOutcome::InFlight { remaining }) => return Outcome::InFlight { remaining },
            Err(error) => return Outcome::StoreUnavailable(error),
        };
        // Where the store was slow, or the process stood still, the lease may have ended, and another
        // may have handled the delivery.
        if clock.instant().saturating_duration_since(asked) >= self.0.lease {
            let _ = store.release(&claim).await;
            return Outcome::LeaseLost;
        }
        let received = Received {
            delivery: delivery.clone(),
            claim: claim.clone(),
        };
        match catch_panic(async { handler(received).await }).await {
            Ok(returned) => match verdict(&claim, returned) {
                Ok(()) => complete(store, &claim, None).await,
                Err(error) if error.is_lost_lease() && !claim.is_completed() => {
                    // Released all the same: the lease that was lost may be that of another claim.
                    let _ = store.release(&claim).await;
                    Outcome::LeaseLost
                }
                Err(error) if error.is_permanent() || claim.is_completed() => {
                    complete(store, &claim, Some(error)).await
                }
                Err(error) => {
                    // If it fails, the lease ends by itself.
                    let _ = store.release(&claim).await;
                    Outcome::Failed(error)
                }
            },
            Err(panic) => {
                let _ = store.release(&claim).await;
                resume_unwind(panic)
            }
        }
    }
}

/// Returns the error of a handler, which may have lost its effect and not noticed.
pub(crate) fn verdict<E: Into<HandlerError>>(
    claim: &Claim,
    returned: Result<(), E>,
) -> Result<(), HandlerError> {
    returned.map_err(Into::into)?;
    if claim.is_forgotten() {
        return Err(HandlerError::from(
            "a transaction was begun and dropped: complete it, or roll it back",
        ));
    }
    Ok(())
}

const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// Configures a [`Receiver`].
#[must_use]
#[derive(Debug)]
pub struct ReceiverBuilder(Configuration);

impl ReceiverBuilder {
    /// Sets the namespace of the idempotency keys, at most 128 visible ASCII characters without a slash:
    /// for several endpoints that share a store, each of which is to handle a delivery that they all
    /// get. A key in the store is the namespace, a slash, and the
    /// [`idempotency_key`](Delivery::idempotency_key).
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.0.endpoint.namespace = namespace.into();
        self
    }

    /// Sets the time that a handler may take before another attempt may be handled: 60 s by default, 1 s
    /// to 24 hours. After a crash, the delivery waits for as long.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.0.lease = lease;
        self
    }

    /// Sets the least time to remember what was handled. The default, and the least, is
    /// [`Delivery::retention`], a little more than a day. More than 10 years count as 10 years.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.0.endpoint.retain(retention);
        self
    }

    /// Builds the receiver.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidNamespace`], [`ConfigError::InvalidLease`].
    pub fn build(self) -> Result<Receiver, ConfigError> {
        self.0.endpoint.validate()?;
        if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&self.0.lease) {
            return Err(ConfigError::InvalidLease);
        }
        Ok(Receiver(Arc::new(self.0)))
    }
}

/// Completes a claim: the delivery is handled, or never will be because of `failure`.
async fn complete(
    store: &dyn IdempotencyStore,
    claim: &Claim,
    failure: Option<HandlerError>,
) -> Outcome {
    // The handler may have completed it, in the transaction of its effect.
    let mut completed = Ok(true);
    if !claim.is_completed() {
        completed = store.complete(claim, claim.retention()).await;
        if completed.is_err() {
            // Handled, but not remembered so: worth another try, over a new connection perhaps.
            completed = store.complete(claim, claim.retention()).await;
        }
    }
    match (completed, failure) {
        (Ok(true), None) => Outcome::Processed,
        (Ok(true), Some(failure)) => Outcome::SetAside(failure),
        (Ok(false), _) => Outcome::LeaseLost,
        (Err(error), _) => Outcome::StoreUnavailable(error),
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration")
            .field("endpoint", &self.endpoint)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.0).finish()
    }
}

/// A delivery that a handler is given: authentic, and claimed.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    delivery: Delivery<'a>,
    claim: Claim,
}

impl<'a> Received<'a> {
    #[cfg(feature = "inbox")]
    pub(crate) const fn new(delivery: Delivery<'a>, claim: Claim) -> Self {
        Self { delivery, claim }
    }

    /// Returns the delivery.
    #[must_use]
    pub const fn delivery(&self) -> &Delivery<'a> {
        &self.delivery
    }

    /// Takes the delivery.
    #[must_use]
    pub fn into_delivery(self) -> Delivery<'a> {
        self.delivery
    }

    /// Returns the delivery's event.
    ///
    /// # Errors
    ///
    /// Those of [`Delivery::event`].
    pub fn event(&self) -> Result<&Event, PayloadError> {
        self.delivery.event()
    }

    /// Returns the claim on this delivery. A handler may complete it itself, in the transaction in
    /// which it records its effect (`SqliteStore::complete_with`, or with `PostgresStore`).
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }
}
