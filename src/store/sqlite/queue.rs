//! The operations and transactions that wait for the writer thread.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Transaction;

use super::{guard::Guard, ledger::Ledger};
use crate::store::{StoreError, StoreErrorKind};

/// The most operations and transactions that may wait.
pub(super) const CAPACITY: usize = 4096;
/// The same for what ends a claim. If it were refused, the delivery would be handled twice, and just
/// when there is too much to do.
pub(super) const LAST_CAPACITY: usize = 2 * CAPACITY;

/// A batch from which on it pays to wait for more before the next commit.
const LARGE: usize = 8;
/// The time to wait for the callers of the last batch: they are about to come back, and would
/// otherwise always find a commit under way that holds only the other half of the callers. Measured:
/// at 64 callers it doubles the rate.
const LINGER: Duration = Duration::from_micros(100);

/// An operation of this crate, which may share its commit with others.
pub(super) trait Operation: Send {
    /// Does it inside a transaction. It may be called again after a rollback.
    fn apply(&mut self, ledger: &Ledger<'_>) -> Result<(), StoreError>;

    /// Answers its caller, once the transaction was committed or has failed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// The work of a user in a transaction, which runs alone; it is told why if none can begin.
pub(super) type Work = Box<dyn FnOnce(Result<(Transaction<'_>, &Guard), StoreError>) + Send>;

/// Survives a panic in the conversion of an error or in the drop of what was returned, which are the
/// user's too.
pub(super) fn call(work: Work, begun: Result<(Transaction<'_>, &Guard), StoreError>) {
    let _ = catch_unwind(AssertUnwindSafe(|| work(begun)));
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    pub(super) guard: Arc<Guard>,
}

#[derive(Default)]
struct Waiting {
    operations: VecDeque<Box<dyn Operation>>,
    works: VecDeque<Work>,
    /// The number of operations for which the thread is to be woken.
    wanted: usize,
    closed: bool,
}

/// The next thing to do: all operations in one commit, then one transaction of the user's, so that
/// neither kind can keep the other waiting.
pub(super) struct Turn {
    pub(super) operations: Vec<Box<dyn Operation>>,
    pub(super) work: Option<Work>,
}

impl Queue {
    /// Adds it, unless as many as `capacity` wait.
    pub(super) fn operation(
        &self,
        operation: Box<dyn Operation>,
        capacity: usize,
    ) -> Result<(), StoreError> {
        let mut waiting = self.room(capacity)?;
        waiting.operations.push_back(operation);
        let wake = waiting.operations.len() == waiting.wanted;
        drop(waiting);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    pub(super) fn work(&self, work: Work) -> Result<(), StoreError> {
        self.room(CAPACITY)?.works.push_back(work);
        self.arrived.notify_one();
        Ok(())
    }

    /// Lets the thread end once it has done what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for something to do; `None` once the queue is closed and empty. `last` is the size of the
    /// last batch.
    pub(super) fn next(&self, last: usize) -> Option<Turn> {
        let mut waiting = self.lock();
        while waiting.lengths() == [0, 0] {
            if waiting.closed {
                return None;
            }
            waiting.wanted = 1;
            waiting = self.wait(waiting);
        }
        let now = waiting.operations.len();
        if last.max(now) >= LARGE && waiting.works.is_empty() && !waiting.closed {
            waiting.wanted = last.saturating_add(now);
            let waited = self.arrived.wait_timeout(waiting, LINGER);
            (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        waiting.wanted = 0;
        Some(Turn {
            operations: waiting.operations.drain(..).collect(),
            work: waiting.works.pop_front(),
        })
    }

    /// Returns how many operations and transactions wait.
    pub(super) fn waiting(&self) -> [usize; 2] {
        self.lock().lengths()
    }

    /// Refuses the first that wait: so many operations and so many transactions.
    pub(super) fn refuse(&self, [operations, works]: [usize; 2], error: &StoreError) {
        let mut waiting = self.lock();
        let operations: Vec<_> = waiting.operations.drain(..operations).collect();
        let works: Vec<_> = waiting.works.drain(..works).collect();
        drop(waiting);
        for operation in operations {
            operation.answer(Err(error.copy()));
        }
        for work in works {
            call(work, Err(error.copy()));
        }
    }

    fn room(&self, capacity: usize) -> Result<MutexGuard<'_, Waiting>, StoreError> {
        self.guard.admit()?;
        let waiting = self.lock();
        if waiting.closed {
            return Err(StoreError::new("its thread has ended"));
        }
        let [operations, works] = waiting.lengths();
        if operations.saturating_add(works) >= capacity {
            return Err(StoreErrorKind::QueueFull.into());
        }
        Ok(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No panic can leave it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, waiting: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        let waited = self.arrived.wait(waiting);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn lengths(&self) -> [usize; 2] {
        [self.operations.len(), self.works.len()]
    }
}
