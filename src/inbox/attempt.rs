//! One attempt to handle a delivery.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use futures_util::future::{AbortRegistration, Abortable};

use super::{Change, Dead, Entry, Fate, Worker};
use crate::{
    clock::Clock,
    delivery::Delivery,
    receiver::{HandlerError, Received, catch_panic, chain, span::Span, verdict},
    redacted,
};

/// The end of an attempt.
pub(super) enum Ended {
    /// The handler has removed the entry, in the transaction of its effect, or was aborted because
    /// another may have it.
    Gone,
    /// What is to become of the entry.
    Changed(Change),
}

/// Calls the handler for an entry, in a span.
pub(super) async fn attempt<F, R, E>(
    worker: &Worker,
    clock: &Clock,
    handler: &F,
    entry: Entry,
    registration: AbortRegistration,
) -> Ended
where
    F: Fn(Received<'static>) -> R,
    R: Future<Output = Result<(), E>>,
    E: Into<HandlerError>,
{
    let Entry {
        claim,
        attempt,
        envelope,
        payload,
    } = entry;
    let delivery = Delivery::restore(&envelope, payload);
    let span = Span::attempt(delivery.as_ref(), attempt);
    let Some(delivery) = delivery else {
        let cause = "this version can't read what was stored";
        span.ended("dead", Some(cause));
        let fate = bury(worker, cause.to_owned());
        return Ended::Changed(Change { claim, fate });
    };
    let attempted = async {
        if attempt > worker.max_attempts {
            let error = "the last attempt did not end: its process died, or lost its lease";
            return Err(HandlerError::permanent(error));
        }
        let received = Received::new(delivery, claim.clone());
        // With the conversion of the error, which is the user's too.
        let call = async { handler(received).await.map_err(Into::<HandlerError>::into) };
        let mut call = pin!(catch_panic(call));
        let mut late = pin!(clock.sleep(worker.attempt_timeout));
        let returned = poll_fn(|context| {
            if let Poll::Ready(returned) = call.as_mut().poll(context) {
                return Poll::Ready(Some(returned));
            }
            late.as_mut().poll(context).map(|()| None)
        });
        match returned.await {
            Some(Ok(returned)) => verdict(&claim, returned),
            Some(Err(panic)) => Err(format!("the handler panicked: {}", message(&*panic)).into()),
            None => {
                let limit = worker.attempt_timeout;
                Err(format!("the handler took longer than {limit:?}").into())
            }
        }
    };
    let attempted = Abortable::new(span.around(attempted), registration);
    let Ok(returned) = attempted.await else {
        let removed = claim.is_completed();
        span.ended(if removed { "processed" } else { "lease_lost" }, None);
        return Ended::Gone;
    };
    let error = returned.err().map(|error| {
        let cause = cause(&error);
        (error, cause)
    });
    let fate = match &error {
        _ if claim.is_completed() => None,
        None => Some(Fate::Remove),
        Some((error, cause)) if error.is_permanent() || attempt >= worker.max_attempts => {
            Some(bury(worker, cause.clone()))
        }
        Some((error, cause)) => Some(Fate::Retry {
            wait: error.wait().unwrap_or_else(|| worker.wait(attempt)),
            cause: cause.clone(),
        }),
    };
    let outcome = match &fate {
        Some(Fate::Retry { .. }) => "retried",
        Some(Fate::Bury(_)) => "dead",
        _ => "processed",
    };
    span.ended(outcome, error.as_ref().map(|(_, cause)| &**cause));
    fate.map_or(Ended::Gone, |fate| Ended::Changed(Change { claim, fate }))
}

fn bury(worker: &Worker, cause: String) -> Fate {
    Fate::Bury(Dead {
        cause,
        retention: worker.inbox.0.dead_letter_retention,
    })
}

/// Returns an error with its sources as it may be stored and shown: without passwords, and not too long.
pub(super) fn cause(error: &HandlerError) -> String {
    const LONGEST: usize = 2000;
    let text = || {
        let causes: Vec<String> = chain(error.source()).map(ToString::to_string).collect();
        redacted::text(&causes.join(": "))
    };
    // The error is the user's.
    let text = catch_unwind(AssertUnwindSafe(text));
    let mut text = text.unwrap_or_else(|_| "the text of an error panicked".to_owned());
    // PostgreSQL has no texts with it.
    text.retain(|c| c != '\0');
    let fits = (0..=LONGEST.min(text.len())).rev();
    let end = fits.into_iter().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("with a value that is no text")
}
