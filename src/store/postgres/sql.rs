//! The statements. Each is atomic by itself, and judges a row by its latest version, which it locks:
//! the snapshot of a statement may be older (PostgreSQL 15, section 13.2.1).

/// The table and its index, once for the code and once for the documentation.
macro_rules! schema {
    () => {
        "CREATE TABLE IF NOT EXISTS gemini_webhook_deliveries (
    key text PRIMARY KEY,
    fencing_token bigint NOT NULL,
    done boolean NOT NULL,
    held_until timestamptz NOT NULL,
    forget_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS gemini_webhook_deliveries_forget_at
    ON gemini_webhook_deliveries (forget_at);"
    };
}

pub(super) use schema;

/// The tables of inboxes. `due_at` is the time at which a worker may take the row: of the next attempt, or
/// the end of the lease where it is `working`; null for a dead letter. The first index leads to what is due
/// and has all that is counted; the two others hold dead letters alone.
macro_rules! inbox_schema {
    () => {
        "CREATE TABLE IF NOT EXISTS gemini_webhook_inbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    key text NOT NULL,
    received_at timestamptz NOT NULL,
    fencing_token bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    working boolean NOT NULL DEFAULT false,
    due_at timestamptz,
    died_at timestamptz,
    forget_at timestamptz,
    cause text,
    envelope text NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS gemini_webhook_inbox_due
    ON gemini_webhook_inbox (namespace, due_at) INCLUDE (working, received_at)
    WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS gemini_webhook_inbox_dead
    ON gemini_webhook_inbox (namespace, id) WHERE due_at IS NULL;
CREATE INDEX IF NOT EXISTS gemini_webhook_inbox_forget
    ON gemini_webhook_inbox (forget_at) WHERE forget_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS gemini_webhook_schema (
    name text PRIMARY KEY,
    version integer NOT NULL
);
INSERT INTO gemini_webhook_schema (name, version) VALUES ('inbox', 1) ON CONFLICT DO NOTHING;"
    };
}

pub(super) use inbox_schema;

/// The lock lets one of those that find no table create it: `IF NOT EXISTS` looks and creates in
/// two steps.
pub(super) const CREATE: &str = concat!(
    "SELECT pg_advisory_xact_lock(7450291388265126);\n",
    schema!()
);

/// Removes at most so many expired rows. As nothing reads it, PostgreSQL runs it last, when its
/// statement waits for no more locks: so it can't be part of a deadlock.
macro_rules! forget {
    ($limit:literal) => {
        concat!(
            "forgotten AS (
        DELETE FROM gemini_webhook_deliveries WHERE key IN (
            SELECT key FROM gemini_webhook_deliveries
            WHERE forget_at <= (SELECT now FROM clock)
            ORDER BY forget_at LIMIT ",
            $limit,
            " FOR UPDATE SKIP LOCKED)
    )"
        )
    };
}

pub(super) use forget;

/// `present` locks the row, which `claimed` has locked already where it could not claim it, and so
/// reads the version that `claimed` judged. Without the lock it would read that of the snapshot: a
/// key that was done, forgotten and claimed by another since would still be done.
pub(super) const CLAIM: &str = concat!(
    "
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
    ",
    forget!("2"),
    ",
    claimed AS (
        INSERT INTO gemini_webhook_deliveries AS held
            (key, fencing_token, done, held_until, forget_at)
        SELECT $1, (extract(epoch FROM now) * 1000000)::bigint, false,
               now + make_interval(secs => $2), now + make_interval(secs => $3)
        FROM clock
        ON CONFLICT (key) DO UPDATE SET
            fencing_token = greatest(excluded.fencing_token, held.fencing_token + 1),
            done = false,
            held_until = excluded.held_until,
            forget_at = excluded.forget_at
        WHERE held.forget_at <= (SELECT now FROM clock)
            OR (NOT held.done AND held.held_until <= (SELECT now FROM clock))
        RETURNING fencing_token
    ),
    present AS (
        SELECT done, held_until FROM gemini_webhook_deliveries
        WHERE key = $1 AND NOT EXISTS (SELECT FROM claimed)
        FOR UPDATE
    )
    SELECT fencing_token, NULL::boolean AS done, NULL::float8 AS remaining FROM claimed
    UNION ALL
    SELECT NULL, done, extract(epoch FROM held_until - now)::float8 FROM present, clock
"
);

/// Inserts or updates the row of a completion, with the rows that `from` selects. Where it completes a claim
/// together with an effect, `own` adds that this claim has not done so before: the effect would happen again.
macro_rules! complete {
    ($from:literal, $own:literal) => {
        concat!(
            "INSERT INTO gemini_webhook_deliveries AS held
        (key, fencing_token, done, held_until, forget_at)
    SELECT $1, $2, true, clock_timestamp(), clock_timestamp() + make_interval(secs => $3)",
            $from,
            "
    ON CONFLICT (key) DO UPDATE SET
        fencing_token = excluded.fencing_token,
        done = true,
        forget_at = greatest(excluded.forget_at, held.forget_at)
    WHERE (held.fencing_token = excluded.fencing_token",
            $own,
            ")
        OR held.forget_at <= clock_timestamp()
        OR (NOT held.done AND held.held_until <= clock_timestamp())
"
        )
    };
}

pub(super) const COMPLETE: &str = complete!("", "");

/// [`COMPLETE`] together with an effect.
pub(super) const COMPLETE_ONCE: &str = complete!("", " AND NOT held.done");

/// The transaction and the table. Compared as a text, so that there is one value.
macro_rules! place {
    ($transaction:literal) => {
        concat!(
            $transaction,
            " || ' ' || to_regclass('gemini_webhook_deliveries')::oid"
        )
    };
}

/// Begins a transaction, and returns its place. The limits are
/// [`PostgresTransaction::LIMIT`](super::PostgresTransaction::LIMIT).
pub(super) const BEGIN: &str = concat!(
    "
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = '60s';
    SET LOCAL plan_cache_mode = auto;
    SET LOCAL enable_seqscan = on;
    SET LOCAL idle_in_transaction_session_timeout = '60s';
    SELECT ",
    place!("txid_current()")
);

/// Returns true in the transaction `$1`.
pub(super) const HERE: &str = "
    SELECT coalesce(txid_current_if_assigned()::text = split_part($1, ' ', 1), false)";

/// Ends everything that a transaction of the caller's may have left in the session, but for the prepared
/// statements.
pub(super) const RESET: &str = "
    SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL;
    CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP";

/// [`COMPLETE_ONCE`] in the place `$4` alone. Nothing is written elsewhere, where a statement of the
/// caller's has ended the transaction, or the `search_path` finds another table.
pub(super) const COMPLETE_HERE: &str = concat!(
    "WITH here AS MATERIALIZED (
        SELECT coalesce(",
    place!("txid_current_if_assigned()"),
    " = $4, false) AS same
    ),
    completed AS (",
    complete!(" FROM here WHERE same", " AND NOT held.done"),
    "RETURNING true)
    SELECT same, EXISTS (SELECT FROM completed) FROM here"
);

/// Completes the claim on an entry of an inbox.
pub(super) const REMOVE: &str =
    "DELETE FROM gemini_webhook_inbox WHERE id = $1 AND fencing_token = $2";

/// [`REMOVE`] in the place `$3` alone.
pub(super) const REMOVE_HERE: &str = concat!(
    "WITH here AS MATERIALIZED (
        SELECT coalesce(",
    place!("txid_current_if_assigned()"),
    " = $3, false) AS same
    ),
    removed AS (
        DELETE FROM gemini_webhook_inbox
        WHERE id = $1 AND fencing_token = $2 AND (SELECT same FROM here)
        RETURNING true
    )
    SELECT same, EXISTS (SELECT FROM removed) FROM here"
);

/// The row stays, so that the next fencing token is larger even if the clock has stepped back. The
/// lease ended long ago, so that it stays ended even then.
pub(super) const RELEASE: &str = "
    UPDATE gemini_webhook_deliveries SET held_until = 'epoch'
    WHERE key = $1 AND fencing_token = $2 AND NOT done
";

/// Claims, completions and releases of different keys in one statement, and returns the keys and
/// fencing tokens of those that succeeded.
///
/// `$1` are the keys, `$2` the tokens (null for a claim), `$3` is true for a completion, `$4` are the
/// leases in seconds (null for a release, 0 for a completion), `$5` the seconds to keep the rows, `$6`
/// is the number of expired rows to remove. The conditions are those of the single statements.
///
/// The rows are locked in the order of their keys, in whatever process, so that no two batches wait
/// for each other. A row that somebody else's transaction keeps locked fails the batch soon, so that
/// the others need not wait for it.
pub(super) const BATCH: &str = concat!(
    "
    WITH clock AS MATERIALIZED (
        SELECT clock_timestamp() AS now, set_config('lock_timeout', '100ms', true)
    ),
    ",
    forget!("$6"),
    "
    INSERT INTO gemini_webhook_deliveries AS held
        (key, fencing_token, done, held_until, forget_at)
    SELECT asked.key, coalesce(asked.token, (extract(epoch FROM now) * 1000000)::bigint), asked.done,
           CASE WHEN asked.held IS NULL THEN 'epoch'
                ELSE now + make_interval(secs => asked.held) END,
           now + make_interval(secs => asked.kept)
    FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::float8[], $5::float8[])
        AS asked (key, token, done, held, kept), clock
    ORDER BY asked.key COLLATE \"C\"
    ON CONFLICT (key) DO UPDATE SET
        fencing_token = CASE WHEN excluded.done OR excluded.held_until = 'epoch'
            THEN excluded.fencing_token
            ELSE greatest(excluded.fencing_token, held.fencing_token + 1) END,
        done = excluded.done,
        held_until = CASE WHEN excluded.done THEN held.held_until ELSE excluded.held_until END,
        forget_at = CASE
            WHEN excluded.done THEN greatest(excluded.forget_at, held.forget_at)
            WHEN excluded.held_until = 'epoch' THEN held.forget_at
            ELSE excluded.forget_at END
    WHERE CASE WHEN excluded.held_until = 'epoch'
        THEN held.fencing_token = excluded.fencing_token AND NOT held.done
        ELSE held.forget_at <= (SELECT now FROM clock)
            OR (NOT held.done AND held.held_until <= (SELECT now FROM clock))
            OR (excluded.done AND held.fencing_token = excluded.fencing_token) END
    RETURNING key, fencing_token
"
);

/// Returns the state of keys. Run after [`BATCH`], so that its snapshot has the versions by which the
/// batch could not claim them, or later ones.
pub(super) const STATE: &str = "
    SELECT key, done, extract(epoch FROM held_until - clock_timestamp())::float8
    FROM gemini_webhook_deliveries WHERE key = ANY($1)
";
