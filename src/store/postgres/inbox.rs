//! The entries of inboxes, beside the deliveries.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::ClientWrapper;
use time::OffsetDateTime;
use tokio_postgres::{Error, Row, types::ToSql};

use super::{
    PostgresStore, mismatch,
    sql::forget,
    statements::{Answer, Request, seconds, states},
};
use crate::{
    inbox::{
        Acceptance, Change, Dead, DeadLetter, Entry, Fate, InboxStore, NewEntry, Round, Stats,
        Taken,
    },
    store::{Claim, ClaimOutcome, StoreError, StoreFuture},
};

/// Stores entries with different keys in one statement, and returns the keys of those that are new.
///
/// `$1` are the keys, `$2` the seconds to remember them, `$3` the namespaces, `$4` the envelopes, `$5` the
/// payloads; of dead letters, `$6` are the causes and `$7` the seconds to keep them (null for others). `$8`
/// is the number of expired keys to remove. As in [`BATCH`](super::sql::BATCH), keys are locked in their
/// order, and a row that stays locked fails the batch soon.
const ACCEPT: &str = concat!(
    "
    WITH clock AS MATERIALIZED (
        SELECT clock_timestamp() AS now, set_config('lock_timeout', '100ms', true)
    ),
    ",
    forget!("$8"),
    ",
    asked AS MATERIALIZED (
        SELECT * FROM unnest(
            $1::text[], $2::float8[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::float8[]
        ) AS asked (key, remembered, namespace, envelope, payload, cause, kept)
    ),
    known AS (
        INSERT INTO gemini_webhook_deliveries AS held
            (key, fencing_token, done, held_until, forget_at)
        SELECT key, (extract(epoch FROM now) * 1000000)::bigint, true, now,
               now + make_interval(secs => remembered)
        FROM asked, clock
        ORDER BY key COLLATE \"C\"
        ON CONFLICT (key) DO UPDATE SET
            fencing_token = greatest(excluded.fencing_token, held.fencing_token + 1),
            done = true,
            held_until = excluded.held_until,
            forget_at = excluded.forget_at
        WHERE held.forget_at <= (SELECT now FROM clock)
            OR (NOT held.done AND held.held_until <= (SELECT now FROM clock))
        RETURNING key, fencing_token
    )
    INSERT INTO gemini_webhook_inbox
        (namespace, key, received_at, fencing_token, due_at, died_at, forget_at, cause, envelope, payload)
    SELECT namespace, key, now, fencing_token,
           CASE WHEN cause IS NULL THEN now END,
           CASE WHEN cause IS NOT NULL THEN now END,
           now + make_interval(secs => kept), cause, envelope, payload
    FROM asked JOIN known USING (key), clock
    RETURNING key
"
);

/// Makes changes, then takes what is due.
///
/// Of the changes, `$1` are the ids, `$2` the fencing tokens, `$3` the fates, `$4` the seconds of these, `$5`
/// the causes. `$6` is the namespace, `$7` the most entries to take, `$8` their lease in seconds. Returns a
/// row for each change that was made (`key` null), each entry, and each change that has to wait (`attempts`
/// zero), and one with the seconds until the next entry is due (`id` null).
///
/// All parts see the same snapshot, so the next one is looked for among those that were not due. No change
/// waits for a handler's own transaction, in which the entry may be removed: else one handler would cost the
/// others their leases. The token of an entry that is put back changes, so that whoever had
/// the claim has it no longer.
const ROUND: &str = "
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
    changes AS MATERIALIZED (
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::float8[], $5::text[])
            AS change (id, token, fate, seconds, cause)
    ),
    free AS MATERIALIZED (
        SELECT id FROM gemini_webhook_inbox
        WHERE id = ANY ($1)
        FOR UPDATE SKIP LOCKED
    ),
    removed AS (
        DELETE FROM gemini_webhook_inbox AS entry USING changes AS change
        WHERE entry.id = change.id AND entry.fencing_token = change.token AND change.fate = 'remove'
            AND entry.id IN (SELECT id FROM free)
        RETURNING entry.id
    ),
    changed AS (
        UPDATE gemini_webhook_inbox AS entry SET
            fencing_token = CASE WHEN change.fate = 'renew' THEN fencing_token ELSE fencing_token + 1 END,
            working = change.fate = 'renew',
            due_at = CASE WHEN change.fate <> 'bury' THEN now + make_interval(secs => seconds) END,
            died_at = CASE WHEN change.fate = 'bury' THEN now END,
            forget_at = CASE WHEN change.fate = 'bury' THEN now + make_interval(secs => seconds) END,
            cause = coalesce(change.cause, entry.cause)
        FROM changes AS change, clock
        WHERE entry.id = change.id AND entry.fencing_token = change.token AND change.fate <> 'remove'
            AND entry.id IN (SELECT id FROM free)
        RETURNING entry.id
    ),
    taken AS (
        UPDATE gemini_webhook_inbox AS entry SET
            fencing_token = greatest((extract(epoch FROM now) * 1000000)::bigint, fencing_token + 1),
            attempts = attempts + 1,
            working = true,
            due_at = now + make_interval(secs => $8)
        FROM clock
        WHERE entry.id = ANY (ARRAY(
            SELECT id FROM gemini_webhook_inbox
            WHERE namespace = $6 AND due_at <= (SELECT now FROM clock) AND id <> ALL ($1)
            ORDER BY due_at LIMIT $7 FOR UPDATE SKIP LOCKED))
        RETURNING id, key, fencing_token, attempts, envelope, payload
    ),
    forgotten AS (
        DELETE FROM gemini_webhook_inbox WHERE id = ANY (ARRAY(
            SELECT id FROM gemini_webhook_inbox
            WHERE forget_at <= (SELECT now FROM clock)
            ORDER BY forget_at LIMIT 8 FOR UPDATE SKIP LOCKED))
    )
    SELECT id, NULL::text AS key, NULL::bigint AS fencing_token, NULL::integer AS attempts,
           NULL::text AS envelope, NULL::bytea AS payload, NULL::float8 AS next
    FROM removed
    UNION ALL SELECT id, NULL, NULL, NULL, NULL, NULL, NULL FROM changed
    UNION ALL SELECT entry.id, NULL, NULL, 0, NULL, NULL, NULL
    FROM gemini_webhook_inbox AS entry JOIN changes AS change USING (id)
    WHERE entry.fencing_token = change.token AND entry.id NOT IN (SELECT id FROM free)
    UNION ALL SELECT id, key, fencing_token, attempts, envelope, payload, NULL FROM taken
    UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, (
        SELECT extract(epoch FROM due_at - now)::float8 FROM gemini_webhook_inbox
        WHERE namespace = $6 AND due_at > (SELECT now FROM clock) ORDER BY due_at LIMIT 1)
    FROM clock
";

const STATS: &str = "
    SELECT
        count(*) FILTER (WHERE due_at <= now),
        count(*) FILTER (WHERE due_at > now AND NOT working),
        count(*) FILTER (WHERE due_at > now AND working),
        (SELECT count(*) FROM gemini_webhook_inbox WHERE namespace = $1 AND due_at IS NULL),
        extract(epoch FROM max(now - received_at))::float8
    FROM gemini_webhook_inbox, (SELECT clock_timestamp() AS now OFFSET 0) AS clock
    WHERE namespace = $1 AND due_at IS NOT NULL";

const DEAD_LETTERS: &str = "
    SELECT id, envelope, payload, attempts, extract(epoch FROM received_at)::float8,
           extract(epoch FROM died_at)::float8, cause
    FROM gemini_webhook_inbox
    WHERE namespace = $1 AND due_at IS NULL AND id > $2 ORDER BY id LIMIT $3";

const RETRY: &str = "
    UPDATE gemini_webhook_inbox
    SET attempts = 0, due_at = clock_timestamp(), died_at = NULL, forget_at = NULL, cause = NULL
    WHERE id = $1 AND namespace = $2 AND due_at IS NULL";

const DISCARD: &str =
    "DELETE FROM gemini_webhook_inbox WHERE id = $1 AND namespace = $2 AND due_at IS NULL";

/// The answer where a key is another's, and has gone before it could be read.
pub(super) const GONE: Acceptance = Acceptance::InFlight {
    remaining: Duration::from_secs(1),
};

/// Stores entries with different keys. Their answers are in their order.
pub(super) async fn accept(
    client: &ClientWrapper,
    entries: &[&NewEntry],
) -> Result<Vec<Result<Answer, Arc<Error>>>, Error> {
    let keys: Vec<&str> = entries.iter().map(|entry| &*entry.key).collect();
    let remembered: Vec<f64> = entries
        .iter()
        .map(|entry| seconds(entry.retention))
        .collect();
    let namespaces: Vec<&str> = entries.iter().map(|entry| &*entry.namespace).collect();
    let envelopes: Vec<&str> = entries.iter().map(|entry| &*entry.envelope).collect();
    let payloads: Vec<&[u8]> = entries.iter().map(|entry| &*entry.payload).collect();
    let dead = || entries.iter().map(|entry| entry.dead.as_ref());
    let causes: Vec<Option<&str>> = dead().map(|dead| Some(&*dead?.cause)).collect();
    let kept: Vec<Option<f64>> = dead().map(|dead| Some(seconds(dead?.retention))).collect();
    let forget = i64::try_from(entries.len())
        .unwrap_or(i64::MAX)
        .saturating_mul(2);
    let statement = client.prepare_cached(ACCEPT).await?;
    let rows = client
        .query(
            &statement,
            &[
                &keys,
                &remembered,
                &namespaces,
                &envelopes,
                &payloads,
                &causes,
                &kept,
                &forget,
            ],
        )
        .await?;
    let stored = rows.iter().map(|row| row.try_get::<_, &str>(0));
    let stored: HashSet<&str> = stored.collect::<Result<_, _>>()?;
    let others = keys.iter().copied().filter(|key| !stored.contains(key));
    // An error is that of these alone: the batch has been committed.
    let others = states(client, others.collect()).await.map_err(Arc::new);
    let answer = |key: &&str| {
        if stored.contains(key) {
            return Ok(Answer::Accepted(Acceptance::Stored));
        }
        let others = others.as_ref().map_err(Arc::clone)?;
        Ok(Answer::Accepted(match others.get(*key) {
            Some(ClaimOutcome::InFlight { remaining }) => Acceptance::InFlight {
                remaining: *remaining,
            },
            Some(_) => Acceptance::Duplicate,
            None => GONE,
        }))
    };
    Ok(keys.iter().map(answer).collect())
}

/// The columns of the changes in [`ROUND`].
#[derive(Default)]
struct Columns<'c> {
    ids: Vec<i64>,
    tokens: Vec<i64>,
    fates: Vec<&'static str>,
    seconds: Vec<f64>,
    causes: Vec<Option<&'c str>>,
}

impl<'c> Columns<'c> {
    fn of(changes: &'c [Change], lease: f64) -> Self {
        let mut columns = Self::default();
        for Change { claim, fate } in changes {
            let (fate, seconds, cause) = match fate {
                Fate::Renew => ("renew", lease, None),
                Fate::Remove => ("remove", 0.0, None),
                Fate::Retry { wait, cause } => ("retry", seconds(*wait), Some(&**cause)),
                Fate::Bury(Dead { cause, retention }) => {
                    ("bury", seconds(*retention), Some(&**cause))
                }
            };
            columns.ids.push(claim.entry().unwrap_or_default());
            columns.tokens.push(claim.fencing_token());
            columns.fates.push(fate);
            columns.seconds.push(seconds);
            columns.causes.push(cause);
        }
        columns
    }
}

async fn work(client: &ClientWrapper, round: &Round) -> Result<Taken, Error> {
    let lease = seconds(round.lease);
    let columns = Columns::of(&round.changes, lease);
    let take = i64::try_from(round.take).unwrap_or(i64::MAX);
    let statement = client.prepare_cached(ROUND).await?;
    let rows = client
        .query(
            &statement,
            &[
                &columns.ids,
                &columns.tokens,
                &columns.fates,
                &columns.seconds,
                &columns.causes,
                &&*round.namespace,
                &take,
                &lease,
            ],
        )
        .await?;
    let mut taken = Taken::default();
    let mut held = HashMap::new();
    for row in &rows {
        let Some(id) = row.try_get::<_, Option<i64>>(0)? else {
            let next: Option<f64> = row.try_get(6)?;
            taken.next = next.map(|next| Duration::try_from_secs_f64(next).unwrap_or_default());
            continue;
        };
        match row.try_get::<_, Option<&str>>(1)? {
            None => drop(held.insert(id, row.try_get::<_, Option<i32>>(3)?.is_none())),
            Some(key) => taken.entries.push(Entry {
                claim: Claim::of_entry(id, key, row.try_get(2)?),
                attempt: u32::try_from(row.try_get::<_, i32>(3)?).unwrap_or_default(),
                envelope: row.try_get(4)?,
                payload: row.try_get(5)?,
            }),
        }
    }
    let results = columns.ids.iter().map(|id| match held.get(id) {
        Some(true) => Some(true),
        Some(false) => None,
        None => Some(false),
    });
    taken.held = results.collect();
    Ok(taken)
}

fn date(seconds: f64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
        .checked_add(time::Duration::saturating_seconds_f64(seconds))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn dead_letter(row: &Row) -> Result<DeadLetter, Error> {
    let attempts = u32::try_from(row.try_get::<_, i32>(3)?).unwrap_or_default();
    let cause: Option<String> = row.try_get(6)?;
    Ok(DeadLetter::new(
        row.try_get(0)?,
        (row.try_get(1)?, row.try_get(2)?),
        attempts,
        [date(row.try_get(4)?), date(row.try_get(5)?)],
        cause.unwrap_or_default(),
    ))
}

fn stats(row: &Row) -> Result<Stats, Error> {
    let count = |column| Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or_default());
    let oldest: Option<f64> = row.try_get(4)?;
    let oldest = oldest.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
    Ok(Stats::new(
        [count(0)?, count(1)?, count(2)?, count(3)?],
        oldest,
    ))
}

impl InboxStore for PostgresStore {
    fn accept(&self, entry: NewEntry) -> StoreFuture<'_, Acceptance> {
        Box::pin(async move {
            self.prepare_inbox().await?;
            match self.0.submit(Request::Accept(Arc::new(entry))).await? {
                Answer::Accepted(acceptance) => Ok(acceptance),
                other => Err(mismatch(&other)),
            }
        })
    }

    fn round(&self, round: Round) -> StoreFuture<'_, Taken> {
        Box::pin(async move {
            self.prepare_inbox().await?;
            self.0.with(async |client| work(client, &round).await).await
        })
    }

    fn stats<'a>(&'a self, namespace: &'a str) -> StoreFuture<'a, Stats> {
        Box::pin(async move {
            self.prepare_inbox().await?;
            let read = async |client: &ClientWrapper| {
                stats(&client.query_one(STATS, &[&namespace]).await?)
            };
            self.0.with(read).await
        })
    }

    fn dead_letters<'a>(
        &'a self,
        namespace: &'a str,
        after: i64,
        limit: usize,
    ) -> StoreFuture<'a, Vec<DeadLetter>> {
        Box::pin(async move {
            self.prepare_inbox().await?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let read = async |client: &ClientWrapper| {
                let values: [&(dyn ToSql + Sync); 3] = [&namespace, &after, &limit];
                let rows = client.query(DEAD_LETTERS, &values).await?;
                rows.iter().map(dead_letter).collect()
            };
            self.0.with(read).await
        })
    }

    fn retry<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        Box::pin(self.change_dead(RETRY, namespace, id))
    }

    fn discard<'a>(&'a self, namespace: &'a str, id: i64) -> StoreFuture<'a, bool> {
        Box::pin(self.change_dead(DISCARD, namespace, id))
    }
}

impl PostgresStore {
    async fn change_dead(&self, sql: &str, namespace: &str, id: i64) -> Result<bool, StoreError> {
        self.prepare_inbox().await?;
        let change = async |client: &ClientWrapper| client.execute(sql, &[&id, &namespace]).await;
        Ok(self.0.with(change).await? == 1)
    }
}
