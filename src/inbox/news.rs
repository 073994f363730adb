//! Tells the workers of a process that there is something to take, on any executor.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

#[derive(Default)]
pub(super) struct News(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number of times that something was told.
    told: u64,
    waiting: Vec<Waker>,
}

impl News {
    pub(super) fn tell(&self) {
        let mut state = self.lock();
        state.told = state.told.wrapping_add(1);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn told(&self) -> u64 {
        self.lock().told
    }

    /// Waits until something is told after `seen`.
    pub(super) fn poll(&self, seen: u64, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.told != seen {
            return Poll::Ready(());
        }
        let waker = context.waker();
        if !state.waiting.iter().any(|other| other.will_wake(waker)) {
            state.waiting.push(waker.clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
