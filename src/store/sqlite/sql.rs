//! The table and its statements.

/// The statements, once for the code and once for the documentation. The numbers in the first are
/// [`KEEP`](crate::store::KEEP) in milliseconds, and the microseconds of a millisecond. The crate's own
/// name the `schema`: a temporary table of the same name would come first.
macro_rules! claim_sql {
    ($($schema:literal)?) => {
        concat!(
            "INSERT INTO ", $($schema,)? "gemini_webhook_deliveries", " \
(key, fencing_token, done, held_until, forget_at)
VALUES (?1, ?2 * 1000, 0, ?2 + ?3, ?2 + ?3 + 87000000)
ON CONFLICT (key) DO UPDATE SET
    fencing_token = max(excluded.fencing_token, fencing_token + 1),
    done = 0,
    held_until = excluded.held_until,
    forget_at = excluded.forget_at
WHERE forget_at <= ?2 OR (NOT done AND held_until <= ?2)
RETURNING fencing_token"
        )
    };
}

/// Where it completes a claim together with an effect, `own` adds that this claim has not done so before: the
/// effect would happen again.
macro_rules! complete_sql {
    ($($schema:literal)?, $own:literal) => {
        concat!(
            "INSERT INTO ", $($schema,)? "gemini_webhook_deliveries", " \
(key, fencing_token, done, held_until, forget_at)
VALUES (?1, ?2, 1, ?3, ?3 + ?4)
ON CONFLICT (key) DO UPDATE SET
    fencing_token = excluded.fencing_token,
    done = 1,
    forget_at = max(excluded.forget_at, forget_at)
WHERE (fencing_token = excluded.fencing_token", $own, ")
    OR forget_at <= ?3 OR (NOT done AND held_until <= ?3)"
        )
    };
}

/// `held_until` is the end of the lease, `forget_at` that of the retention, in Unix milliseconds. The row
/// of a claim that was not completed outlives its lease, so that the next fencing token is larger even
/// if the clock has stepped back.
///
/// There is no index of `forget_at`: each claim would change a page of it too. [`Sweep`](super::ledger::Sweep) finds the rows
/// to forget.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS main.gemini_webhook_deliveries (
        key TEXT PRIMARY KEY,
        fencing_token INTEGER NOT NULL,
        done INTEGER NOT NULL,
        held_until INTEGER NOT NULL,
        forget_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

pub(super) const CLAIM: &str = claim_sql!("main.");

pub(super) const COMPLETE: &str = complete_sql!("main.", "");

/// [`COMPLETE`] together with an effect.
pub(super) const COMPLETE_ONCE: &str = complete_sql!("main.", " AND NOT done");

/// A claim on a key that has no row.
pub(super) const INSERT: &str = "\
INSERT INTO main.gemini_webhook_deliveries (key, fencing_token, done, held_until, forget_at)
VALUES (?1, ?2 * 1000, 0, ?2 + ?3, ?2 + ?3 + 87000000)
ON CONFLICT (key) DO NOTHING";

/// A completion of a key that has no claim, so that it is remembered.
pub(super) const KNOW: &str = "\
INSERT INTO main.gemini_webhook_deliveries (key, fencing_token, done, held_until, forget_at)
VALUES (?1, ?2 * 1000, 1, ?2, ?2 + ?3)
ON CONFLICT (key) DO UPDATE SET
    fencing_token = max(excluded.fencing_token, fencing_token + 1),
    done = 1,
    held_until = excluded.held_until,
    forget_at = excluded.forget_at
WHERE forget_at <= ?2 OR (NOT done AND held_until <= ?2)";

pub(super) const STATE: &str =
    "SELECT done, held_until FROM main.gemini_webhook_deliveries WHERE key = ?1";

/// The row stays until it is forgotten, so that the next token is larger even where the clock has not
/// moved on. The lease ended long ago, so that it stays ended even if the clock steps back.
pub(super) const RELEASE: &str = "\
UPDATE main.gemini_webhook_deliveries SET held_until = 0
WHERE key = ?1 AND fencing_token = ?2 AND NOT done";

pub(super) const VISIT: &str = "\
SELECT key, forget_at FROM main.gemini_webhook_deliveries WHERE key > ?1 ORDER BY key LIMIT ?2";

pub(super) const FORGET: &str = "DELETE FROM main.gemini_webhook_deliveries WHERE key = ?1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_keep_a_claim_as_long_as_every_store() {
        let keep = crate::clock::milliseconds(crate::store::KEEP);
        for sql in [INSERT, CLAIM] {
            assert!(sql.contains(&format!("?3 + {keep})")), "{sql}");
        }
    }
}
