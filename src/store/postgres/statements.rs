//! The operations, one by one and in batches, over one connection.

use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row};

use super::inbox;
use super::sql::{BATCH, CLAIM, COMPLETE, RELEASE, STATE};
use crate::{
    inbox::{Acceptance, NewEntry},
    store::{Claim, ClaimOutcome, KEEP, bounded},
};

/// An operation of the crate's own. Equal ones can be one row of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Claim { key: Arc<str>, lease: Duration },
    Complete { claim: Claim, retention: Duration },
    Release(Claim),
    Accept(Arc<NewEntry>),
}

/// The answer to a [`Request`] of the same name.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Claimed(ClaimOutcome),
    Completed(bool),
    Released,
    Accepted(Acceptance),
}

/// The answer where a claim's row is another's and has gone before it could be read.
const GONE: ClaimOutcome = ClaimOutcome::InFlight {
    remaining: Duration::from_secs(1),
};

impl Request {
    pub(super) fn key(&self) -> &Arc<str> {
        match self {
            Self::Claim { key, .. } => key,
            Self::Complete { claim, .. } | Self::Release(claim) => &claim.key,
            Self::Accept(entry) => &entry.key,
        }
    }

    /// Returns the entry of an operation that has a statement of its own.
    pub(super) fn entry(&self) -> Option<&NewEntry> {
        match self {
            Self::Accept(entry) => Some(entry),
            Self::Claim { .. } | Self::Complete { .. } | Self::Release(_) => None,
        }
    }

    /// Returns true if both can be one row of a batch.
    pub(super) fn joins(&self, other: &Self) -> bool {
        match (self, other) {
            // Their attempts differ.
            (Self::Accept(entry), Self::Accept(other)) => entry.key == other.key,
            _ => self == other,
        }
    }
}

/// Runs one operation.
pub(super) async fn single(client: &ClientWrapper, request: &Request) -> Result<Answer, Error> {
    Ok(match request {
        Request::Claim { key, lease } => {
            let statement = client.prepare_cached(CLAIM).await?;
            let [held, kept] = times(*lease);
            let row = client
                .query_opt(&statement, &[&&**key, &held, &kept])
                .await?;
            Answer::Claimed(outcome(key, row.as_ref())?)
        }
        Request::Complete { claim, retention } => {
            let statement = client.prepare_cached(COMPLETE).await?;
            let changed = client
                .execute(
                    &statement,
                    &[&claim.key(), &claim.fencing_token(), &seconds(*retention)],
                )
                .await?;
            Answer::Completed(changed == 1)
        }
        Request::Release(claim) => {
            let statement = client.prepare_cached(RELEASE).await?;
            client
                .execute(&statement, &[&claim.key(), &claim.fencing_token()])
                .await?;
            Answer::Released
        }
        Request::Accept(entry) => {
            let mut answers = inbox::accept(client, &[entry]).await?;
            match answers.pop() {
                Some(Ok(answer)) => answer,
                // Stored by another; it comes again.
                Some(Err(_)) | None => Answer::Accepted(inbox::GONE),
            }
        }
    })
}

/// Reads the row that [`CLAIM`] returns.
pub(super) fn outcome(key: &Arc<str>, row: Option<&Row>) -> Result<ClaimOutcome, Error> {
    let Some(row) = row else {
        return Ok(GONE);
    };
    if let Some(fencing_token) = row.try_get(0)? {
        return Ok(ClaimOutcome::New(Claim::new(
            Arc::clone(key),
            fencing_token,
        )));
    }
    Ok(present(row.try_get(1)?, row.try_get(2)?))
}

fn present(done: bool, remaining: f64) -> ClaimOutcome {
    if done {
        return ClaimOutcome::Done;
    }
    let remaining = Duration::try_from_secs_f64(remaining).unwrap_or_default();
    ClaimOutcome::InFlight { remaining }
}

/// The columns of [`BATCH`].
#[derive(Default)]
struct Columns<'r> {
    keys: Vec<&'r str>,
    tokens: Vec<Option<i64>>,
    done: Vec<bool>,
    held: Vec<Option<f64>>,
    kept: Vec<f64>,
    claims: i64,
}

impl<'r> Columns<'r> {
    fn push(&mut self, request: &'r Request) {
        let (token, done, held, kept) = match request {
            Request::Claim { lease, .. } => {
                self.claims = self.claims.saturating_add(1);
                let [held, kept] = times(*lease);
                (None, false, Some(held), kept)
            }
            Request::Complete { claim, retention } => (
                Some(claim.fencing_token()),
                true,
                Some(0.0),
                seconds(*retention),
            ),
            Request::Release(claim) => (Some(claim.fencing_token()), false, None, 0.0),
            Request::Accept(_) => return,
        };
        self.keys.push(request.key());
        self.tokens.push(token);
        self.done.push(done);
        self.held.push(held);
        self.kept.push(kept);
    }
}

/// Runs operations on different keys in one statement: only accepts, or none. Their answers are in their
/// order.
pub(super) async fn batch(
    client: &ClientWrapper,
    requests: &[&Request],
) -> Result<Vec<Result<Answer, Arc<Error>>>, Error> {
    let entries: Vec<_> = requests
        .iter()
        .filter_map(|request| request.entry())
        .collect();
    if !entries.is_empty() {
        return inbox::accept(client, &entries).await;
    }
    let mut columns = Columns::default();
    for request in requests {
        columns.push(request);
    }
    let statement = client.prepare_cached(BATCH).await?;
    // As many as the single statements remove.
    let forget = columns.claims.saturating_mul(2);
    let rows = client
        .query(
            &statement,
            &[
                &columns.keys,
                &columns.tokens,
                &columns.done,
                &columns.held,
                &columns.kept,
                &forget,
            ],
        )
        .await?;
    let mut changed = HashMap::with_capacity(rows.len());
    for row in &rows {
        changed.insert(row.try_get::<_, &str>(0)?, row.try_get::<_, i64>(1)?);
    }
    let others = requests.iter().filter_map(|request| match request {
        Request::Claim { key, .. } if !changed.contains_key(&**key) => Some(&**key),
        _ => None,
    });
    let others = others.collect();
    // An error is that of these claims alone: the batch has been committed.
    let others = states(client, others).await.map_err(Arc::new);
    let answers = requests.iter().map(|request| {
        let changed = changed.get(&**request.key());
        Ok(match (request, changed) {
            (Request::Claim { key, .. }, Some(fencing_token)) => Answer::Claimed(
                ClaimOutcome::New(Claim::new(Arc::clone(key), *fencing_token)),
            ),
            (Request::Claim { key, .. }, None) => {
                let states = others.as_ref().map_err(Arc::clone)?;
                Answer::Claimed(states.get(&**key).unwrap_or(&GONE).clone())
            }
            (Request::Complete { .. }, changed) => Answer::Completed(changed.is_some()),
            (Request::Release(_) | Request::Accept(_), _) => Answer::Released,
        })
    });
    Ok(answers.collect())
}

pub(super) async fn states(
    client: &ClientWrapper,
    keys: Vec<&str>,
) -> Result<HashMap<String, ClaimOutcome>, Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = client.prepare_cached(STATE).await?;
    let rows = client.query(&statement, &[&keys]).await?;
    let state = |row: &Row| Ok((row.try_get(0)?, present(row.try_get(1)?, row.try_get(2)?)));
    rows.iter().map(state).collect()
}

/// Returns the lease, and the time to keep the row of a claim that is not completed.
pub(super) fn times(lease: Duration) -> [f64; 2] {
    [lease, lease.saturating_add(KEEP)].map(seconds)
}

pub(super) fn seconds(time: Duration) -> f64 {
    bounded(time).as_secs_f64()
}
