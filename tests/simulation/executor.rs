//! Tasks on virtual time, on one thread. The same seed runs the same tasks in the same order.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use gemini_webhooks::testing::Clock;

use crate::rng::Rng;

type Future = Pin<Box<dyn std::future::Future<Output = ()> + Send>>;

/// The tasks that live and die together: those of one run of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group(pub(crate) u64);

/// The tasks of everybody else.
pub(crate) const OUTSIDE: Group = Group(0);

#[derive(Clone)]
pub(crate) struct Executor(Arc<Mutex<Core>>);

struct Core {
    /// Since the beginning.
    now: Duration,
    rng: Rng,
    sequence: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
    tasks: BTreeMap<u64, Task>,
    ready: Arc<Mutex<BTreeSet<u64>>>,
    running: Option<u64>,
    groups: BTreeMap<Group, State>,
    machines: Vec<Machine>,
}

struct Task {
    group: Group,
    /// `None` while it is polled.
    future: Option<Future>,
    /// The number of await points after which it is dropped.
    fuse: Option<u32>,
}

#[derive(Default)]
struct State {
    paused: bool,
    /// The number of await points after which all of it crashes.
    fuse: Option<u32>,
}

struct Machine {
    clock: Clock,
    /// By how many parts in a million its clocks are too fast.
    drift: i64,
    /// The time of its monotonic clock since the beginning.
    elapsed: Duration,
    /// The rest of the drift, in millionths of a nanosecond.
    rest: i128,
}

/// An event of the loop.
pub(crate) enum Step {
    /// A task was polled.
    Polled,
    /// A group came to the end of its fuse, and is gone.
    Crashed(Group),
    /// A task panicked, and is gone.
    Panicked(Box<dyn Any + Send>),
    /// There is nothing left to do before the end.
    End,
}

struct TaskWaker {
    id: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().insert(self.id);
    }
}

impl Executor {
    pub(crate) fn new(rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(Core {
            now: Duration::ZERO,
            rng,
            sequence: 0,
            timers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ready: Arc::default(),
            running: None,
            groups: BTreeMap::new(),
            machines: Vec::new(),
        })))
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Duration {
        self.core().now
    }

    /// The task that is polled at this moment.
    pub(crate) fn running(&self) -> u64 {
        self.core().running.expect("a task is running")
    }

    /// Adds a machine, whose clock goes on with the virtual time.
    pub(crate) fn add_machine(&self, clock: Clock, drift: i64) {
        self.core().machines.push(Machine {
            clock,
            drift,
            elapsed: Duration::ZERO,
            rest: 0,
        });
    }

    /// The time of the monotonic clock of a machine since the beginning.
    pub(crate) fn elapsed(&self, machine: usize) -> Duration {
        self.core().machines[machine].elapsed
    }

    pub(crate) fn spawn(
        &self,
        group: Group,
        fuse: Option<u32>,
        future: impl std::future::Future<Output = ()> + Send + 'static,
    ) {
        let mut core = self.core();
        core.sequence += 1;
        let id = core.sequence;
        let future: Option<Future> = Some(Box::pin(future));
        let task = Task {
            group,
            future,
            fuse,
        };
        core.tasks.insert(id, task);
        core.ready.lock().unwrap().insert(id);
    }

    pub(crate) fn sleep(&self, time: Duration) -> Sleep {
        let mut core = self.core();
        core.sequence += 1;
        Sleep {
            executor: self.clone(),
            key: (core.now + time, core.sequence),
        }
    }

    /// Sleeps until a time since the beginning.
    pub(crate) fn sleep_until(&self, time: Duration) -> Sleep {
        let now = self.now();
        self.sleep(time.saturating_sub(now))
    }

    pub(crate) fn pause(&self, group: Group, paused: bool) {
        self.core().groups.entry(group).or_default().paused = paused;
    }

    /// Lets a group crash after so many of its await points. Returns false if it already will.
    pub(crate) fn crash_after(&self, group: Group, await_points: u32) -> bool {
        let mut core = self.core();
        let state = core.groups.entry(group).or_default();
        let will = state.fuse.is_some();
        state.fuse.get_or_insert(await_points);
        !will
    }

    /// Some tasks of the group have run, and it has not ended.
    pub(crate) fn is_alive(&self, group: Group) -> bool {
        self.core().groups.contains_key(&group)
    }

    /// Drops all tasks of a group where they stand. Returns true if it was about to crash.
    pub(crate) fn end(&self, group: Group) -> bool {
        let mut dropped = Vec::new();
        let mut core = self.core();
        let state = core.groups.remove(&group);
        core.tasks.retain(|_, task| {
            let stays = task.group != group;
            if !stays {
                dropped.push(task.future.take());
            }
            stays
        });
        // What they drop may come back here.
        drop(core);
        drop(dropped);
        state.is_some_and(|state| state.fuse.is_some())
    }

    /// Drops all tasks.
    pub(crate) fn clear(&self) {
        let tasks = std::mem::take(&mut self.core().tasks);
        drop(tasks);
    }

    /// Polls one of the tasks that are ready, or moves on to the next time at which one is.
    pub(crate) fn step(&self, end: Duration) -> Step {
        loop {
            if let Some(id) = self.next_ready() {
                return self.poll(id);
            }
            if !self.pass(end) {
                return Step::End;
            }
        }
    }

    fn next_ready(&self) -> Option<u64> {
        let mut core = self.core();
        let core = &mut *core;
        let mut ready = core.ready.lock().unwrap();
        ready.retain(|id| core.tasks.contains_key(id));
        let able: Vec<u64> = ready
            .iter()
            .filter(|id| {
                let group = core.tasks[id].group;
                core.groups.get(&group).is_none_or(|it| !it.paused)
            })
            .copied()
            .collect();
        if able.is_empty() {
            return None;
        }
        let id = *core.rng.pick(&able);
        ready.remove(&id);
        Some(id)
    }

    fn poll(&self, id: u64) -> Step {
        let (mut future, group, waker) = {
            let mut core = self.core();
            core.running = Some(id);
            let ready = Arc::clone(&core.ready);
            let waker = Waker::from(Arc::new(TaskWaker { id, ready }));
            let task = core.tasks.get_mut(&id).unwrap();
            (task.future.take().unwrap(), task.group, waker)
        };
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        let mut core = self.core();
        core.running = None;
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => {
                core.tasks.remove(&id);
                drop(core);
                drop(future);
                return Step::Polled;
            }
            Err(panic) => {
                core.tasks.remove(&id);
                drop(core);
                drop(future);
                return Step::Panicked(panic);
            }
        }
        let task = core.tasks.get_mut(&id).unwrap();
        let hangs_up = burn(&mut task.fuse);
        let state = core.groups.entry(group).or_default();
        let crashes = burn(&mut state.fuse);
        if hangs_up {
            core.tasks.remove(&id);
            drop(core);
            drop(future);
        } else {
            core.tasks.get_mut(&id).unwrap().future = Some(future);
            drop(core);
        }
        if crashes {
            self.end(group);
            return Step::Crashed(group);
        }
        Step::Polled
    }

    /// Moves the time to the next event, at most to the end. Returns false at the end.
    fn pass(&self, end: Duration) -> bool {
        let mut core = self.core();
        let timer = core.timers.first_key_value().map(|((time, _), _)| *time);
        let sleepers = core.machines.iter().filter_map(|machine| {
            let wait = machine.clock.time_to_wake()?;
            let rate = u128::try_from(1_000_000 + machine.drift).unwrap();
            let wait = wait.as_nanos() * 1_000_000 / rate;
            // At least one, so that rounding down does not stop the time.
            Some(core.now + Duration::from_nanos(u64::try_from(wait).unwrap() + 1))
        });
        let next = timer.into_iter().chain(sleepers).min();
        let Some(next) = next.filter(|next| *next <= end) else {
            return false;
        };
        let passed = next.saturating_sub(core.now);
        core.now = next;
        let later = core.timers.split_off(&(next, u64::MAX));
        let due = std::mem::replace(&mut core.timers, later);
        let clocks: Vec<(Clock, Duration)> = core
            .machines
            .iter_mut()
            .map(|machine| {
                let nanoseconds = i128::try_from(passed.as_nanos()).unwrap();
                let millionths = nanoseconds * i128::from(1_000_000 + machine.drift) + machine.rest;
                machine.rest = millionths % 1_000_000;
                let by = Duration::from_nanos(u64::try_from(millionths / 1_000_000).unwrap());
                machine.elapsed += by;
                (machine.clock.clone(), by)
            })
            .collect();
        drop(core);
        due.into_values().for_each(Waker::wake);
        for (clock, by) in clocks {
            clock.advance(by);
        }
        true
    }
}

fn burn(fuse: &mut Option<u32>) -> bool {
    match fuse {
        None => false,
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
    }
}

/// A future that ends when the virtual time has come.
pub(crate) struct Sleep {
    executor: Executor,
    key: (Duration, u64),
}

impl std::future::Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut core = self.executor.core();
        if core.now >= self.key.0 {
            return Poll::Ready(());
        }
        core.timers.insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.executor.core().timers.remove(&self.key);
        drop(waker);
    }
}

/// A value that one task sends and another waits for. `None` where the sender is gone.
pub(crate) fn channel<T: Send>() -> (Sender<T>, Waiter<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        value: None,
        closed: false,
        waker: None,
    }));
    (Sender(Arc::clone(&slot)), Waiter(slot))
}

struct Slot<T> {
    value: Option<T>,
    closed: bool,
    waker: Option<Waker>,
}

pub(crate) struct Sender<T>(Arc<Mutex<Slot<T>>>);

pub(crate) struct Waiter<T>(Arc<Mutex<Slot<T>>>);

impl<T> Sender<T> {
    pub(crate) fn send(self, value: T) {
        self.0.lock().unwrap().value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.lock().unwrap();
            slot.closed = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> std::future::Future for Waiter<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.0.lock().unwrap();
        if slot.closed {
            return Poll::Ready(slot.value.take());
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
