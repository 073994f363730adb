//! Natural batching: operations that arrive while statements are under way form the next one.
//!
//! An operation that finds nobody under way runs as a single statement in its caller's task, and
//! costs nothing more. Others wait, and a task on the Tokio runtime takes them in batches until none
//! waits. Both hold a [`Slot`], whose end starts the next batch: also where a caller drops its future.

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot::{self, Receiver, Sender},
    time::timeout,
};

use super::{
    failure::{is_refusal, kind},
    pool::{CONNECTIONS, PATIENCE, Shared, runtime},
    statements::{Answer, Request, batch, single},
};
use crate::{
    boxed::{BoxError, BoxFuture},
    clock::Clock,
    inbox::Acceptance,
    store::{ClaimOutcome, StoreError, StoreErrorKind},
};

/// The most rows of a batch.
const LARGEST_BATCH: usize = 256;
/// The payloads in a batch have not much more: PostgreSQL takes a message of 1 GiB at most.
const MOST_BYTES: usize = 4 << 20;
/// The processor time of a row in a batch, about.
const PER_ROW: Duration = Duration::from_micros(15);
/// The time of a sync that makes up for one more statement under way.
const PER_STATEMENT: Duration = Duration::from_micros(300);
/// The time after which a statement is taken to wait for a lock.
const LOCKED: Duration = Duration::from_millis(100);
/// The most batches under way.
const MOST_BATCHES: usize = 8;
/// The most operations that wait or are in a batch. Completions and releases may be twice as many: what
/// was handled would be handled again if they were refused, which feeds an overload.
const CAPACITY: usize = 8192;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The number of operations that have a [`Place`].
    taken: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Operation>,
    /// The number of slots.
    under_way: usize,
    /// The recent time of batches without that of their rows: mostly that of a sync.
    sync: Duration,
    /// The recent number of callers.
    callers: usize,
}

/// An operation and its caller, which may have gone.
struct Operation {
    request: Request,
    answer: Sender<Result<Answer, StoreError>>,
    _place: Place,
}

impl Operation {
    fn new(request: Request, place: Place) -> (Self, Receiver<Result<Answer, StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        let operation = Self {
            request,
            answer,
            _place: place,
        };
        (operation, receiver)
    }
}

/// A place in the bounded queue, until the operation is answered.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The operations of one row, of whom one makes the row.
type Group = Vec<Operation>;

enum Turn {
    Now(Request, Slot, Place),
    Later(Receiver<Result<Answer, StoreError>>),
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, and returns the number of the places that are taken.
    fn place(&self, request: &Request) -> Result<(Place, usize), StoreError> {
        let place = Place(Arc::clone(&self.taken));
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let capacity = match request {
            Request::Claim { .. } | Request::Accept(_) => CAPACITY,
            Request::Complete { .. } | Request::Release(_) => 2 * CAPACITY,
        };
        if taken >= capacity {
            return Err(StoreErrorKind::QueueFull.into());
        }
        Ok((place, taken.saturating_add(1)))
    }
}

impl State {
    /// Returns the most statements under way.
    ///
    /// With no more callers than connections, nobody waits. With more, two while syncs are fast, as more
    /// only share the work in smaller batches; with slow syncs more, as they share the syncs. Measured
    /// with 256 callers and syncs of 0.1 ms: two reach 4.5 times the rate of single statements, eight 3.4,
    /// 16 reach 3.1; with 64 callers and syncs of 4 ms: 2.1, 3.0 and 3.2.
    fn limit(&self) -> usize {
        if self.callers <= CONNECTIONS {
            return CONNECTIONS;
        }
        let limit = self.sync.as_micros().div_euclid(PER_STATEMENT.as_micros());
        usize::try_from(limit)
            .unwrap_or(MOST_BATCHES)
            .clamp(2, MOST_BATCHES)
    }

    /// Notes the time that a batch of so many rows took. The shortest times count most: longer ones have
    /// waited for a processor.
    fn note_batch(&mut self, took: Duration, rows: usize) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let sync = took.saturating_sub(PER_ROW.saturating_mul(rows));
        let longer = sync.saturating_sub(self.sync).mul_f64(1.0 / 16.0);
        self.sync = self.sync.min(sync).saturating_add(longer);
    }

    /// Notes how many callers there are. The most count longest: when a batch ends, its callers are away
    /// for a moment.
    fn note_callers(&mut self, callers: usize) {
        let before = self.callers.saturating_sub(self.callers.div_ceil(32));
        self.callers = before.max(callers);
    }

    /// Takes operations on different keys that share a statement with the oldest, the oldest first, in the
    /// order of their keys. Nothing is claimed for a caller that has gone.
    fn take(&mut self) -> BTreeMap<Arc<str>, Group> {
        let mut groups: BTreeMap<Arc<str>, Group> = BTreeMap::new();
        let mut later = Vec::new();
        let mut accepts = None;
        let mut bytes = 0_usize;
        while groups.len().max(later.len()) < LARGEST_BATCH
            && bytes < MOST_BYTES
            && let Some(operation) = self.waiting.pop_front()
        {
            if operation.answer.is_closed() && matches!(operation.request, Request::Claim { .. }) {
                continue;
            }
            let accept = operation.request.entry().is_some();
            bytes = bytes.saturating_add(
                operation
                    .request
                    .entry()
                    .map_or(0, |entry| entry.payload.len()),
            );
            if *accepts.get_or_insert(accept) != accept {
                later.push(operation);
                continue;
            }
            let group = groups
                .entry(Arc::clone(operation.request.key()))
                .or_default();
            match group.first() {
                Some(first) if !first.request.joins(&operation.request) => later.push(operation),
                _ => group.push(operation),
            }
        }
        for operation in later.into_iter().rev() {
            self.waiting.push_front(operation);
        }
        groups
    }
}

/// The right to have a statement under way.
struct Slot {
    shared: Arc<Shared>,
    runtime: Handle,
    holder: Holder,
}

#[derive(PartialEq)]
enum Holder {
    /// A caller, with an operation of its own.
    Caller,
    /// A task that takes batches.
    Task,
    /// Nobody any more.
    Nobody,
}

impl Drop for Slot {
    /// Hands the slot of a caller on to a task, if operations wait.
    fn drop(&mut self) {
        if self.holder == Holder::Nobody {
            return;
        }
        let mut state = self.shared.queue.lock();
        if self.holder == Holder::Caller && !state.waiting.is_empty() {
            drop(state);
            self.start(Holder::Nobody);
            return;
        }
        state.under_way = state.under_way.saturating_sub(1);
        // A task ends otherwise only where its runtime shuts down, on which no other could start. The
        // callers of another runtime hear of it at once.
        let lost = if self.holder == Holder::Task && state.under_way == 0 {
            std::mem::take(&mut state.waiting)
        } else {
            VecDeque::new()
        };
        drop(state);
        drop(lost);
    }
}

impl Slot {
    /// Starts a task on the slot.
    fn start(&mut self, left_to: Holder) {
        self.holder = left_to;
        let slot = Self {
            shared: Arc::clone(&self.shared),
            runtime: self.runtime.clone(),
            holder: Holder::Task,
        };
        self.runtime.spawn(slot.work());
    }

    /// Runs batches until no operation waits.
    async fn work(mut self) {
        while let Some(groups) = self.take() {
            let clock = Clock::default();
            let (began, rows) = (clock.instant(), groups.len());
            // On a task of its own, which others need not wait for where it waits for a lock.
            let batch = Arc::clone(&self.shared).run(groups);
            let _ = timeout(LOCKED, tokio::spawn(batch)).await;
            let took = clock.instant().saturating_duration_since(began);
            self.shared.queue.lock().note_batch(took, rows);
        }
    }

    /// Takes a batch, or gives the slot back.
    fn take(&mut self) -> Option<Vec<Group>> {
        let mut state = self.shared.queue.lock();
        if state.under_way <= state.limit() {
            let groups = state.take();
            if !groups.is_empty() {
                return Some(groups.into_values().collect());
            }
        }
        state.under_way = state.under_way.saturating_sub(1);
        self.holder = Holder::Nobody;
        None
    }
}

impl Shared {
    /// Runs an operation: at once where few are under way, or in a batch.
    pub(super) async fn submit(self: &Arc<Self>, request: Request) -> Result<Answer, StoreError> {
        match self.turn(request)? {
            Turn::Now(request, slot, _place) => {
                let mut slot = Some(slot);
                let mut running = pin!(self.with(async |client| single(client, &request).await));
                // It may wait for the lock of a caller's transaction. Others go on meanwhile.
                if let Ok(answer) = timeout(LOCKED, &mut running).await {
                    return answer;
                }
                drop(slot.take());
                running.await
            }
            Turn::Later(answer) => match timeout(PATIENCE.saturating_mul(2), answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(StoreError::new("the runtime of the batch has shut down")),
                Err(_) => Err(StoreErrorKind::TimedOut.into()),
            },
        }
    }

    fn turn(self: &Arc<Self>, request: Request) -> Result<Turn, StoreError> {
        let runtime = runtime()?;
        let slot = || Slot {
            shared: Arc::clone(self),
            runtime,
            holder: Holder::Caller,
        };
        let (place, callers) = self.queue.place(&request)?;
        let mut state = self.queue.lock();
        state.note_callers(callers);
        let is_free = state.under_way < state.limit();
        if is_free {
            state.under_way = state.under_way.saturating_add(1);
            if state.waiting.is_empty() {
                drop(state);
                return Ok(Turn::Now(request, slot(), place));
            }
        }
        let (operation, receiver) = Operation::new(request, place);
        state.waiting.push_back(operation);
        drop(state);
        // It starts a task when it is dropped.
        drop(is_free.then(slot));
        Ok(Turn::Later(receiver))
    }

    fn run(self: Arc<Self>, groups: Vec<Group>) -> BoxFuture<'static, ()> {
        Box::pin(self.run_batch(groups))
    }

    async fn run_batch(self: Arc<Self>, mut groups: Vec<Group>) {
        let answers = {
            let requests: Vec<_> = groups.iter().filter_map(|group| group.first()).collect();
            let requests: Vec<_> = requests.iter().map(|first| &first.request).collect();
            match *requests {
                [request] => {
                    let answer = self
                        .with(async |client| single(client, request).await)
                        .await;
                    answer.map(|answer| Ok(vec![Ok(answer)]))
                }
                _ => {
                    self.with(async |client| match batch(client, &requests).await {
                        Err(error) if is_refusal(&error) => Ok(Err(())),
                        answers => answers.map(Ok),
                    })
                    .await
                }
            }
        };
        match answers {
            Ok(Ok(answers)) => {
                for (group, answer) in groups.drain(..).zip(answers) {
                    self.answer(group, answer.map_err(Shareable::from));
                }
            }
            // Nothing has happened: each half by itself, so that in the end only those fail that have to.
            Ok(Err(())) => {
                let half = groups.split_off(groups.len().div_ceil(2));
                for half in [groups, half] {
                    tokio::spawn(Arc::clone(&self).run(half));
                }
            }
            Err(error) => {
                let error = Shareable::from(error);
                for group in groups.drain(..) {
                    self.answer(group, Err(error.clone()));
                }
            }
        }
    }

    /// Answers the callers of a row. Of several that claimed one key, one has it.
    fn answer(self: &Arc<Self>, group: Group, answer: Result<Answer, Shareable>) {
        let mut answer = answer;
        for Operation {
            request,
            answer: caller,
            ..
        } in group
        {
            let sent = caller.send(answer.clone().map_err(StoreError::from));
            match (sent, &request, &mut answer) {
                (Ok(()), Request::Claim { lease, .. }, Ok(Answer::Claimed(outcome)))
                    if matches!(outcome, ClaimOutcome::New(_)) =>
                {
                    *outcome = ClaimOutcome::InFlight { remaining: *lease };
                }
                // Stored, whoever heard of it.
                (_, _, Ok(Answer::Accepted(acceptance @ Acceptance::Stored))) => {
                    *acceptance = Acceptance::Duplicate;
                }
                _ => {}
            }
        }
        // All have gone: the next attempt need not wait for the lease.
        if let Ok(Answer::Claimed(ClaimOutcome::New(claim))) = answer {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.submit(Request::Release(claim)).await });
        }
    }
}

/// An error that several callers get.
#[derive(Clone)]
struct Shareable {
    kind: StoreErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl From<StoreError> for Shareable {
    fn from(error: StoreError) -> Self {
        Self {
            kind: error.kind,
            source: error.source.map(Arc::from),
        }
    }
}

impl From<Arc<tokio_postgres::Error>> for Shareable {
    fn from(error: Arc<tokio_postgres::Error>) -> Self {
        StoreError::with_source(kind(&error), error).into()
    }
}

impl From<Shareable> for StoreError {
    fn from(Shareable { kind, source }: Shareable) -> Self {
        let source = source.map(|source| Box::new(source) as BoxError);
        Self { kind, source }
    }
}
