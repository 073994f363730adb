//! The entries of inboxes, beside the deliveries.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use time::OffsetDateTime;

use super::{
    SqliteStore,
    ledger::{Ledger, of_schema, prepared},
    queue::LAST_CAPACITY,
    sql::{KNOW, STATE},
};
use crate::{
    clock::{Clock, milliseconds},
    inbox::{
        Acceptance, Change, Dead, DeadLetter, Entry, Fate, InboxStore, NewEntry, Round, Stats,
        Taken,
    },
    store::{Claim, StoreError, StoreFuture, bounded},
};

/// The version of the tables that [`CREATE`] makes. A version of the crate that changes them adds a step to
/// [`create`].
const VERSION: i64 = 1;

/// `due_at` is the time at which a worker may take the row: of the next attempt, or the end of the lease
/// where it is `working`; null for a dead letter. Times are in Unix milliseconds.
///
/// The first two indexes lead to what is due and to dead letters, and answer [`STATS`] by themselves: to count,
/// `SQLite` looks for `due_at` in the row where the index does not have it. The last two hold dead letters alone,
/// and cost nothing else anything.
const CREATE: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS main.gemini_webhook_inbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        fencing_token INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        working INTEGER NOT NULL,
        due_at INTEGER,
        died_at INTEGER,
        forget_at INTEGER,
        cause TEXT,
        envelope TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS main.gemini_webhook_inbox_due
        ON gemini_webhook_inbox (namespace, due_at, working, received_at) WHERE due_at IS NOT NULL;
    CREATE INDEX IF NOT EXISTS main.gemini_webhook_inbox_dead
        ON gemini_webhook_inbox (namespace, due_at) WHERE due_at IS NULL;
    CREATE INDEX IF NOT EXISTS main.gemini_webhook_inbox_forget
        ON gemini_webhook_inbox (forget_at) WHERE forget_at IS NOT NULL;
    CREATE TABLE IF NOT EXISTS main.gemini_webhook_schema (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL
    ) STRICT;
    INSERT INTO main.gemini_webhook_schema (name, version) VALUES ('inbox', 1) ON CONFLICT DO NOTHING;
    COMMIT;
";

const HAS_VERSION: &str = "SELECT 1 FROM main.sqlite_schema WHERE name = 'gemini_webhook_schema'";

const SEE_VERSION: &str = "SELECT version FROM main.gemini_webhook_schema WHERE name = 'inbox'";

const INSERT: &str = "\
INSERT INTO main.gemini_webhook_inbox
    (namespace, key, received_at, fencing_token, attempts, working, due_at, died_at, forget_at, cause,
     envelope, payload)
VALUES (?1, ?2, ?3, ?3 * 1000, 0, 0, ?4, ?5, ?6, ?7, ?8, ?9)";

pub(super) const DUE: &str = "\
SELECT id FROM main.gemini_webhook_inbox
WHERE namespace = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3";

pub(super) const TAKE: &str = "\
UPDATE main.gemini_webhook_inbox
SET fencing_token = max(?2 * 1000, fencing_token + 1), attempts = attempts + 1, working = 1, due_at = ?3
WHERE id = ?1
RETURNING key, fencing_token, attempts, envelope, payload";

pub(super) const NEXT: &str = "\
SELECT due_at FROM main.gemini_webhook_inbox
WHERE namespace = ?1 AND due_at IS NOT NULL ORDER BY due_at LIMIT 1";

const REMOVE: &str = "DELETE FROM main.gemini_webhook_inbox WHERE id = ?1 AND fencing_token = ?2";

/// Like [`REMOVE`], over connections of others.
pub(super) const REMOVE_ANYWHERE: &str =
    "DELETE FROM gemini_webhook_inbox WHERE id = ?1 AND fencing_token = ?2";

pub(super) const RENEW: &str =
    "UPDATE main.gemini_webhook_inbox SET due_at = ?3 WHERE id = ?1 AND fencing_token = ?2";

/// The token changes, so that whoever had the claim has it no longer.
pub(super) const PUT_BACK: &str = "\
UPDATE main.gemini_webhook_inbox
SET fencing_token = fencing_token + 1, working = 0, due_at = ?3, died_at = ?4, forget_at = ?5, cause = ?6
WHERE id = ?1 AND fencing_token = ?2";

pub(super) const FORGET: &str = "\
DELETE FROM main.gemini_webhook_inbox WHERE id IN (
    SELECT id FROM main.gemini_webhook_inbox WHERE forget_at <= ?1 ORDER BY forget_at LIMIT 8)";

pub(super) const STATS: &str = "\
SELECT
    coalesce(sum(due_at <= ?2), 0),
    coalesce(sum(due_at > ?2 AND NOT working), 0),
    coalesce(sum(due_at > ?2 AND working), 0),
    (SELECT count(*) FROM main.gemini_webhook_inbox WHERE namespace = ?1 AND due_at IS NULL),
    min(received_at)
FROM main.gemini_webhook_inbox WHERE namespace = ?1 AND due_at IS NOT NULL";

pub(super) const DEAD_LETTERS: &str = "\
SELECT id, envelope, payload, attempts, received_at, died_at, cause FROM main.gemini_webhook_inbox
WHERE namespace = ?1 AND due_at IS NULL AND id > ?2 ORDER BY id LIMIT ?3";

pub(super) const RETRY: &str = "\
UPDATE main.gemini_webhook_inbox
SET attempts = 0, due_at = ?3, died_at = NULL, forget_at = NULL, cause = NULL
WHERE id = ?1 AND namespace = ?2 AND due_at IS NULL";

const DISCARD: &str =
    "DELETE FROM main.gemini_webhook_inbox WHERE id = ?1 AND namespace = ?2 AND due_at IS NULL";

/// Creates the tables where they are missing, and fails where a later version of the crate has changed
/// them.
pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    // Another part of the crate may have noted the version of its own tables before.
    let exists = connection.prepare(HAS_VERSION)?.exists([])?
        && connection.prepare(SEE_VERSION)?.exists([])?;
    if !exists {
        let begun = connection.execute_batch(CREATE);
        if begun.is_err() && !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        begun?;
    }
    check(connection)
}

/// Fails if the tables are missing, or are another version's.
pub(super) fn check(connection: &Connection) -> Result<(), StoreError> {
    let mut version = connection.prepare(SEE_VERSION).map_err(of_schema)?;
    let version = version
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    if version != Some(VERSION) {
        let version = version.unwrap_or_default();
        return Err(StoreError::refused(format!(
            "its inbox has schema version {version}, and this version of the crate is for version {VERSION}"
        )));
    }
    for sql in [INSERT, TAKE, PUT_BACK] {
        connection.prepare(sql).map_err(of_schema)?;
    }
    Ok(())
}

impl Ledger<'_> {
    fn accept(&self, clock: &Clock, entry: &NewEntry) -> Result<Acceptance, StoreError> {
        let now = now(clock);
        let retention = milliseconds(bounded(entry.retention));
        let known = prepared(self.connection, KNOW)?.execute(params![entry.key, now, retention])?;
        if known == 0 {
            return Ok(self.present(now, &entry.key)?);
        }
        self.owe(clock, &entry.key);
        let dead = entry.dead.as_ref();
        let end = |dead: &Dead| now.saturating_add(milliseconds(bounded(dead.retention)));
        prepared(self.connection, INSERT)?.execute(params![
            entry.namespace,
            entry.key,
            now,
            dead.is_none().then_some(now),
            dead.map(|_| now),
            dead.map(end),
            dead.map(|dead| &dead.cause),
            entry.envelope,
            entry.payload,
        ])?;
        Ok(Acceptance::Stored)
    }

    fn present(&self, now: i64, key: &str) -> rusqlite::Result<Acceptance> {
        prepared(self.connection, STATE)?.query_row([key], |row| {
            if row.get(0)? {
                return Ok(Acceptance::Duplicate);
            }
            let remaining = row.get::<_, i64>(1)?.saturating_sub(now);
            let remaining = Duration::from_millis(remaining.unsigned_abs());
            Ok(Acceptance::InFlight { remaining })
        })
    }

    fn round(&self, clock: &Clock, round: &Round) -> Result<Taken, StoreError> {
        let now = now(clock);
        let until = now.saturating_add(milliseconds(bounded(round.lease)));
        let mut taken = Taken::default();
        for change in &round.changes {
            taken.held.push(Some(self.change(now, until, change)?));
        }
        if round.take == 0 {
            return Ok(taken);
        }
        prepared(self.connection, FORGET)?.execute([now])?;
        let take = i64::try_from(round.take).unwrap_or(i64::MAX);
        let mut due = prepared(self.connection, DUE)?;
        let due = due.query_map(params![round.namespace, now, take], |row| row.get(0))?;
        let due: Vec<i64> = due.collect::<Result<_, _>>()?;
        let mut update = prepared(self.connection, TAKE)?;
        for id in due {
            let entry = update.query_row([id, now, until], |row| {
                Ok(Entry {
                    claim: Claim::of_entry(id, row.get::<_, String>(0)?, row.get(1)?),
                    attempt: row.get(2)?,
                    envelope: row.get(3)?,
                    payload: row.get(4)?,
                })
            });
            taken.entries.push(entry?);
        }
        let next = prepared(self.connection, NEXT)?
            .query_row([&round.namespace], |row| row.get::<_, i64>(0))
            .optional()?;
        taken.next = next.map(|due| since(due, now));
        Ok(taken)
    }

    /// Returns true if the claim of the change is still held.
    fn change(&self, now: i64, until: i64, change: &Change) -> Result<bool, StoreError> {
        let (id, token) = (change.claim.entry(), change.claim.fencing_token());
        let later = |time: Duration| now.saturating_add(milliseconds(bounded(time)));
        let connection = self.connection;
        let changed = match &change.fate {
            Fate::Remove => prepared(connection, REMOVE)?.execute(params![id, token]),
            Fate::Renew => prepared(connection, RENEW)?.execute(params![id, token, until]),
            Fate::Retry { wait, cause } => {
                let nothing = None::<i64>;
                let values = params![id, token, later(*wait), nothing, nothing, cause];
                prepared(connection, PUT_BACK)?.execute(values)
            }
            Fate::Bury(Dead { cause, retention }) => {
                let values = params![id, token, None::<i64>, now, later(*retention), cause];
                prepared(connection, PUT_BACK)?.execute(values)
            }
        };
        Ok(changed? == 1)
    }
}

/// The time from `now` to `then`, or zero.
fn since(then: i64, now: i64) -> Duration {
    let time = then.saturating_sub(now);
    Duration::from_millis(u64::try_from(time).unwrap_or_default())
}

fn now(clock: &Clock) -> i64 {
    milliseconds(clock.since_epoch())
}

fn date(milliseconds: i64) -> OffsetDateTime {
    let nanoseconds = i128::from(milliseconds).saturating_mul(1_000_000);
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let envelope: String = row.get(1)?;
    let dates = [date(row.get(4)?), date(row.get(5)?)];
    let cause = row.get::<_, Option<String>>(6)?.unwrap_or_default();
    Ok(DeadLetter::new(
        row.get(0)?,
        (&envelope, row.get(2)?),
        row.get(3)?,
        dates,
        cause,
    ))
}

impl InboxStore for SqliteStore {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        let clock = self.clock.clone();
        self.operate(move |ledger| ledger.accept(&clock, &entry))
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        let clock = self.clock.clone();
        self.operate_within(LAST_CAPACITY, move |ledger| ledger.round(&clock, &round))
    }

    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
        let (clock, namespace) = (self.clock.clone(), namespace.to_owned());
        self.operate(move |ledger| {
            let now = now(&clock);
            let mut stats = prepared(ledger.connection, STATS)?;
            let stats = stats.query_row(params![namespace, now], |row| {
                let count = |column| {
                    let count = row.get::<_, i64>(column)?;
                    Ok::<_, rusqlite::Error>(u64::try_from(count).unwrap_or_default())
                };
                let oldest: Option<i64> = row.get(4)?;
                let oldest = oldest.map(|received| since(now, received));
                Ok(Stats::new(
                    [count(0)?, count(1)?, count(2)?, count(3)?],
                    oldest,
                ))
            });
            Ok(stats?)
        })
    }

    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        let namespace = namespace.to_owned();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.operate(move |ledger| {
            let mut letters = prepared(ledger.connection, DEAD_LETTERS)?;
            let letters = letters.query_map(params![namespace, after, limit], dead_letter)?;
            Ok(letters.collect::<Result<_, _>>()?)
        })
    }

    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        let (clock, namespace) = (self.clock.clone(), namespace.to_owned());
        self.operate(move |ledger| {
            let mut retry = prepared(ledger.connection, RETRY)?;
            Ok(retry.execute(params![id, namespace, now(&clock)])? == 1)
        })
    }

    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        let namespace = namespace.to_owned();
        self.operate(move |ledger| {
            let mut discard = prepared(ledger.connection, DISCARD)?;
            Ok(discard.execute(params![id, namespace])? == 1)
        })
    }
}
