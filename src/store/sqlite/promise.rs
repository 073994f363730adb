//! A value that a thread sends once and a future waits for, on any executor.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Returns the two ends.
pub(super) fn promise<T>() -> (Reply<T>, Answer<T>) {
    let slot = Arc::new(Slot(Mutex::new(State {
        value: None,
        waker: None,
        ended: false,
    })));
    (Reply(Arc::clone(&slot)), Answer(slot))
}

/// The end that sends. Dropped, it tells the other end that nothing will come.
pub(super) struct Reply<T>(Arc<Slot<T>>);

/// The future of the value: `None` if its [`Reply`] was dropped.
pub(super) struct Answer<T>(Arc<Slot<T>>);

struct Slot<T>(Mutex<State<T>>);

struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
    ended: bool,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No panic can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Reply<T> {
    pub(super) fn send(self, value: T) {
        self.0.lock().value = Some(value);
        // Dropping it wakes the other end.
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        let waker = state.waker.take();
        // A waker may run anything, and may panic: in the thread that everybody waits for.
        drop(state);
        if let Some(waker) = waker {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.lock();
        if state.ended {
            return Poll::Ready(state.value.take());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    #[test]
    fn a_value_arrives_and_a_dropped_reply_is_noticed() {
        let mut context = Context::from_waker(Waker::noop());
        let (reply, mut answer) = promise();
        assert_eq!(Pin::new(&mut answer).poll(&mut context), Poll::Pending);
        reply.send(7);
        assert_eq!(
            Pin::new(&mut answer).poll(&mut context),
            Poll::Ready(Some(7))
        );
        let (reply, mut answer) = promise::<u8>();
        drop(reply);
        assert_eq!(Pin::new(&mut answer).poll(&mut context), Poll::Ready(None));
    }
}
