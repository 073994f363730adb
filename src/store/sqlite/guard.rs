//! Protects the crate's transactions from the work of a user's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};

use crate::{
    clock::Clock,
    store::{StoreError, StoreErrorKind},
};

/// While a user's work runs, its statements can neither end its transaction nor change the connection,
/// and are interrupted at its time limit.
#[derive(Default)]
pub(super) struct Guard {
    limit: Mutex<Option<Limit>>,
    rolled_back: AtomicBool,
}

struct Limit {
    thread: ThreadId,
    clock: Clock,
    /// `None` if it is beyond what the clock can represent.
    end: Option<Instant>,
}

/// Instructions of SQLite's virtual machine between two looks at the clock: less than a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// Each holds the guard.
const HOOKS: usize = 4;

impl Guard {
    /// Installs the hooks. All of them stay: setting an authorizer makes SQLite prepare every statement
    /// anew.
    pub(super) fn install(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let watching = Arc::clone(self);
        let authorize = move |context: AuthContext<'_>| {
            if watching.at_work() && is_refused(&context.action) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        };
        connection.authorizer(Some(authorize)).installed()?;
        // `INSERT OR ROLLBACK` ends a transaction too, and what follows would be committed by itself.
        let watching = Arc::clone(self);
        let refuse = move || watching.at_work();
        connection.commit_hook(Some(refuse)).installed()?;
        // After that, a savepoint would begin a transaction of its own.
        let watching = Arc::clone(self);
        let note = move || {
            if watching.at_work() {
                watching.rolled_back.store(true, Ordering::SeqCst);
            }
        };
        connection.rollback_hook(Some(note)).installed()?;
        let watching = Arc::clone(self);
        let interrupt = move || watching.is_over();
        connection
            .progress_handler(INSTRUCTIONS, Some(interrupt))
            .installed()
    }

    /// Returns false if the work has removed or replaced a hook, which older versions of rusqlite allow.
    pub(super) fn is_installed(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > HOOKS
    }

    /// Fails where a call would wait for the work that makes it, or for work that is past its limit.
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        let limit = self.lock();
        let Some(limit) = limit.as_ref() else {
            return Ok(());
        };
        if limit.thread == thread::current().id() {
            let cause = "the work of a transaction waits for its own store";
            return Err(StoreError::refused(cause));
        }
        if limit.is_over() {
            let cause = "a transaction is past its limit, and still at work";
            return Err(StoreError::with_source(StoreErrorKind::TimedOut, cause));
        }
        Ok(())
    }

    pub(super) fn begin(&self, clock: &Clock, limit: Duration) {
        self.rolled_back.store(false, Ordering::SeqCst);
        *self.lock() = Some(Limit {
            thread: thread::current().id(),
            clock: clock.clone(),
            end: clock.instant().checked_add(limit),
        });
    }

    /// Returns true if the work has taken longer than its limit.
    pub(super) fn end(&self) -> bool {
        let over = self.is_over();
        *self.lock() = None;
        over
    }

    /// Returns true if the transaction of the last work was rolled back while it ran.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.rolled_back.load(Ordering::SeqCst)
    }

    fn at_work(&self) -> bool {
        self.lock().is_some()
    }

    fn is_over(&self) -> bool {
        self.lock().as_ref().is_some_and(Limit::is_over)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Limit>> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limit {
    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.clock.instant() >= end)
    }
}

/// Returns true if an action would end the transaction, or outlive it on the crate's connection.
fn is_refused(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Transaction { .. } | AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            true
        }
        AuthAction::Pragma { pragma_name, .. } => !HARMLESS
            .iter()
            .any(|harmless| harmless.eq_ignore_ascii_case(pragma_name)),
        _ => false,
    }
}

/// The pragmas of schema migrations: they are a part of the transaction, end with it, or only read.
const HARMLESS: [&str; 10] = [
    "application_id",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Older versions of rusqlite return nothing where a hook is set, newer ones a result.
trait Installed {
    fn installed(self) -> rusqlite::Result<()>;
}

impl Installed for () {
    fn installed(self) -> rusqlite::Result<()> {
        Ok(())
    }
}

impl Installed for rusqlite::Result<()> {
    fn installed(self) -> rusqlite::Result<()> {
        self
    }
}
