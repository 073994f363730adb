//! The thread that owns the connection.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::{
    guard::Guard,
    ledger::{self, Ledger, Sweep},
    queue::{Operation, Queue, Turn, Work, call},
    sql,
};
use crate::{
    clock::Clock,
    store::{StoreError, StoreErrorKind},
};

/// Opens the database on a thread of its own, which does what comes into the queue.
pub(super) fn start(
    path: PathBuf,
    queue: Arc<Queue>,
    sweep: Arc<Sweep>,
) -> Result<JoinHandle<()>, StoreError> {
    let (opened, is_open) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("gemini-sqlite".to_owned())
        .spawn(move || match open(&path, &queue.guard) {
            Ok(mut connection) => {
                let _ = opened.send(Ok(()));
                run(&mut connection, &queue, &sweep);
            }
            Err(error) => drop(opened.send(Err(error))),
        })
        .map_err(StoreError::new)?;
    match is_open.recv() {
        Ok(opened) => opened.map(|()| thread),
        Err(_) => Err(StoreError::new("its thread has ended")),
    }
}

pub(super) fn open(path: &Path, guard: &Arc<Guard>) -> Result<Connection, StoreError> {
    /// About 5 s.
    const ATTEMPTS: u32 = 500;
    let mut connection = Connection::open(path).map_err(of_opening)?;
    connection.busy_timeout(Duration::ZERO)?;
    // For some locks SQLite does not wait, such as that of the change to a write-ahead log: where
    // several processes open a new file, all but one find it busy.
    let mut attempts = 0..ATTEMPTS;
    let mode = loop {
        match prepare(&connection) {
            Ok(mode) => break mode,
            Err(error) => {
                let busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
                if !busy || attempts.next().is_none() {
                    return Err(of_opening(error));
                }
            }
        }
        thread::sleep(Duration::from_millis(10));
    };
    if !["wal", "memory"].contains(&&*mode) {
        let cause = format!("its journal mode is {mode}, and wal is needed");
        return Err(StoreError::refused(cause));
    }
    // From here on. Before, each of the attempts would wait as long as all of them are to.
    connection.busy_handler(Some(wait_for_others))?;
    super::inbox::create(&connection)?;
    ledger::check(&connection)?;
    guard.install(&mut connection)?;
    Ok(connection)
}

/// A file that can't be opened is a wrong path or a missing right. Later it is a lack of file descriptors.
fn of_opening(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => StoreError::refused(error),
        _ => error.into(),
    }
}

/// Takes back what a user's work may have changed on the connection.
pub(super) fn restore(connection: &mut Connection, guard: &Arc<Guard>) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_for_others))?;
    if guard.is_installed() {
        return Ok(());
    }
    guard.install(connection)
}

/// Returns the journal mode: SQLite keeps another where the file system has no shared memory.
fn prepare(connection: &Connection) -> rusqlite::Result<String> {
    let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "full")?;
    // Without these, the disk of a Mac may keep what was synced in its cache. Elsewhere they do nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    // Random keys touch a page each: those of a large batch fit, and are not written twice.
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.execute_batch(sql::SCHEMA)?;
    Ok(mode)
}

/// Waits at most 5 s for the processes that hold the lock. Often: a process that commits all the time
/// lets go for a fraction of a millisecond between its batches, which the long pauses of SQLite's own
/// handler would miss for seconds.
fn wait_for_others(attempt: i32) -> bool {
    const PATIENCE: Duration = Duration::from_secs(5);
    let now = Clock::default().instant();
    if attempt == 0 {
        WAITING_SINCE.set(Some(now));
    }
    let waited = WAITING_SINCE
        .get()
        .map(|since| now.saturating_duration_since(since));
    if waited.is_none_or(|waited| waited >= PATIENCE) {
        return false;
    }
    OTHERS.set(TURNS);
    thread::sleep(match attempt {
        ..400 => Duration::from_micros(250),
        _ => Duration::from_millis(1),
    });
    true
}

thread_local! {
    static WAITING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The turns in which other processes are to be expected, because this thread had to wait for one.
    static OTHERS: Cell<u32> = const { Cell::new(0) };
}

const TURNS: u32 = 64;

/// Lets another process have the lock, whose thread looks for it a little more often. With two busy
/// processes, a quarter as many waits take longer than 15 ms, for a tenth of the throughput.
fn give_way() {
    if let Some(left) = OTHERS.get().checked_sub(1) {
        OTHERS.set(left);
        thread::sleep(Duration::from_micros(350));
    }
}

/// Ends once the queue is closed and empty.
pub(super) fn run(connection: &mut Connection, queue: &Queue, sweep: &Sweep) {
    // Whatever ends this thread, nobody waits for it in vain.
    let _closing = Closing(queue);
    let mut last = 0;
    while let Some(Turn { operations, work }) = queue.next(last) {
        last = operations.len();
        let ledger = Ledger {
            connection,
            guard: &queue.guard,
            sweep,
        };
        let waiting = queue.waiting();
        if let Err(locked) = share_commit(&ledger, operations) {
            // Whoever waited before this turn has waited as long for the other process. Each would
            // wait anew by itself.
            queue.refuse(waiting, &locked);
            if let Some(work) = work {
                call(work, Err(locked));
            }
        } else if let Some(work) = work {
            let waiting = queue.waiting();
            if let Err(locked) = run_alone(&ledger, work) {
                queue.refuse(waiting, &locked);
            }
            if restore(connection, &queue.guard).is_err() {
                return;
            }
        }
        give_way();
    }
}

struct Closing<'q>(&'q Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        let error = StoreError::new("its thread has ended");
        self.0.refuse(self.0.waiting(), &error);
    }
}

/// Does all operations in one transaction; if that fails, each in one of its own. Returns an error if
/// another process holds the lock.
fn share_commit(
    ledger: &Ledger<'_>,
    mut operations: Vec<Box<dyn Operation>>,
) -> Result<(), StoreError> {
    if operations.is_empty() {
        return Ok(());
    }
    let mut result = ledger.begin();
    let mut locked = result.as_ref().err().and_then(if_locked);
    if result.is_ok() {
        result = apply(ledger, &mut operations);
    }
    let one_by_one = result.is_err() && locked.is_none() && operations.len() > 1;
    for mut operation in operations {
        if one_by_one && locked.is_none() {
            result = ledger.begin();
            locked = result.as_ref().err().and_then(if_locked);
            if result.is_ok() {
                result = apply(ledger, std::slice::from_mut(&mut operation));
            }
        }
        operation.answer(match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(error.copy()),
        });
    }
    locked.map_or(Ok(()), Err)
}

/// Does the operations and commits, or rolls back.
fn apply(ledger: &Ledger<'_>, operations: &mut [Box<dyn Operation>]) -> Result<(), StoreError> {
    let applied = operations
        .iter_mut()
        .try_for_each(|operation| operation.apply(ledger))
        .and_then(|()| ledger.commit());
    if applied.is_err() {
        ledger.roll_back();
    }
    applied
}

/// Begins a transaction for the work, which commits it. Returns an error if another process holds the
/// lock.
fn run_alone(ledger: &Ledger<'_>, work: Work) -> Result<(), StoreError> {
    ledger.roll_back();
    let behavior = TransactionBehavior::Immediate;
    match Transaction::new_unchecked(ledger.connection, behavior).map_err(StoreError::from) {
        Ok(transaction) => {
            call(work, Ok((transaction, ledger.guard)));
            Ok(())
        }
        Err(error) => {
            let locked = if_locked(&error);
            call(work, Err(error));
            locked.map_or(Ok(()), Err)
        }
    }
}

fn if_locked(error: &StoreError) -> Option<StoreError> {
    (error.kind() == StoreErrorKind::TimedOut).then(|| error.copy())
}
