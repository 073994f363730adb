use std::fmt;

use http::Response;
use serde_json::Value;

use super::{
    answer::{Members, list, text, text_or_integer},
    api_error::{ApiError, read_job},
    resource::Resource,
};
use crate::{event::ErrorCode, redacted::Redacted};

/// A job's state, as far as the service documents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// It waits or runs, or is being cancelled.
    Running,
    /// It waits for its user, who has to answer a function call. It may still end in any way.
    NeedsAction,
    /// It ended and will not change.
    Ended,
    /// Nothing documents that it ended: a state that this crate does not know, one that the service
    /// does not explain, none at all, or statements that contradict each other. Ask again later.
    Unknown,
}

/// The place of a job's output.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum JobOutput {
    /// A file, for [`JobService::download`](super::JobService::download).
    File(Resource),
    /// The responses themselves, in the order of the requests: an answer that has any, and names no
    /// file.
    Inline(Vec<Value>),
    /// A place in another form, as it was received. [`OutputUri`](crate::event::OutputUri) tells
    /// whether it is one of Google's.
    Other(String),
}

/// The status of a job: what the service answers to [`JobService::get`](super::JobService::get).
///
/// | answer | state |
/// |---|---|
/// | interaction: `queued`, `in_progress` | [`Running`](JobState::Running) |
/// | interaction: `requires_action` | [`NeedsAction`](JobState::NeedsAction) |
/// | interaction: `completed` | [`Ended`](JobState::Ended), succeeded |
/// | interaction: `failed`, `cancelled` | [`Ended`](JobState::Ended), not succeeded |
/// | interaction: `incomplete`, `budget_exceeded` | [`Ended`](JobState::Ended); success is not documented |
/// | interaction: `idle`, `requires_continuation`, which nothing explains | [`Unknown`](JobState::Unknown) |
/// | batch: `QUEUED`, `PENDING`, `RUNNING`, `UPDATING`, `CANCELLING` | [`Running`](JobState::Running) |
/// | batch: `SUCCEEDED` | [`Ended`](JobState::Ended), succeeded |
/// | batch: `FAILED`, `CANCELLED`, `EXPIRED` | [`Ended`](JobState::Ended), not succeeded |
/// | batch: `PAUSED`, which can be resumed; `PARTIALLY_SUCCEEDED`, which Google's SDKs do not count among the ends | [`Unknown`](JobState::Unknown) unless it is done |
/// | batch: another state or none, and done | [`Ended`](JobState::Ended); not succeeded with an `error`, succeeded with a `response` and no state |
/// | batch: a state of `Running`, and done | [`Unknown`](JobState::Unknown) |
/// | anything else | [`Unknown`](JobState::Unknown) |
///
/// A batch is done if its answer says so (`done`), or says nothing of it and has an `error` or a
/// `response`. Case does not matter. A batch's state has the prefix `BATCH_STATE_` (the service), `JOB_STATE_`
/// (Google's SDKs) or none.
///
/// ```
/// use gemini_webhooks::configure::{JobState, JobStatus};
///
/// let answer = http::Response::new(r#"{"id":"v1_Chd","status":"incomplete"}"#);
/// let status = JobStatus::from_response(&answer)?;
/// assert_eq!((status.state, status.succeeded), (JobState::Ended, None));
/// assert_eq!(status.raw_state.as_deref(), Some("incomplete"));
/// # Ok::<(), gemini_webhooks::configure::ApiError>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct JobStatus {
    /// The state.
    pub state: JobState,
    /// The state as the service spells it. `None` if the answer has none.
    pub raw_state: Option<String>,
    /// The success of a job that ended. `None` before its end, and where nothing documents whether
    /// such an end is a success.
    pub succeeded: Option<bool>,
    /// The kind of the job's failure.
    pub error_code: Option<ErrorCode>,
    /// A description of the job's failure, for people.
    pub error_message: Option<String>,
    /// The place of a batch's output. `None` if the answer names none: a batch is reported to succeed
    /// a moment before its answer has the place, so ask again.
    ///
    /// Always `None` for an interaction. The answer about one has the output itself: see its body.
    pub output: Option<JobOutput>,
}

impl JobStatus {
    /// Reads the answer to [`get`](super::JobService::get).
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] if the service refused the request; the failure of a job is none.
    /// [`ApiError::Unreadable`] if the answer is no JSON object.
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        let mut members = read_job(response)?;
        let mut error = members.take(&["error"], filled);
        let mut status = match members.take(&["status"], text_or_integer) {
            Some(raw) => Self::of_interaction(raw),
            None => Self::of_batch(members, error.is_some()),
        };
        if let Some(error) = &mut error {
            status.error_code = error.take(&["code", "status"], error_code);
            status.error_message = error.take(&["message"], text);
        }
        Ok(status)
    }

    fn of_interaction(raw: String) -> Self {
        let (state, succeeded) = known(INTERACTION, &raw).unwrap_or((JobState::Unknown, None));
        Self {
            raw_state: Some(raw),
            ..Self::new(state, succeeded)
        }
    }

    /// Reads a batch, which the service wraps in a long-running operation.
    fn of_batch(mut members: Members, has_error: bool) -> Self {
        let mut metadata = members.take(&["metadata"], Members::of);
        let mut response = members.take(&["response"], filled);
        let done = members.take(&["done"], |value| value.as_bool().ok_or(value));
        // `done` is left out while it is false, and `error` and `response` until it is true
        // (`google.longrunning.Operation`).
        let done = done.unwrap_or(has_error || response.is_some());
        let raw_state = [metadata.as_mut(), Some(&mut members)]
            .into_iter()
            .flatten()
            .find_map(|place| place.take(&["state"], text_or_integer));
        let documented = raw_state.as_deref().and_then(|raw| {
            let name = PREFIXES.iter().find_map(|prefix| after(raw, prefix));
            known(BATCH, name.unwrap_or(raw))
        });
        let (state, succeeded) = match documented {
            Some((JobState::Ended, succeeded)) => (JobState::Ended, succeeded),
            Some(running) if !done => running,
            None if done && has_error => (JobState::Ended, Some(false)),
            // A state that this crate does not know may be a partial success.
            None if done => {
                let succeeded = raw_state.is_none() && response.is_some();
                (JobState::Ended, succeeded.then_some(true))
            }
            _ => (JobState::Unknown, None),
        };
        let output = response.as_mut().and_then(output).or_else(|| {
            let mut nested = metadata.as_mut()?.take(&["output"], Members::of)?;
            output(&mut nested)
        });
        Self {
            raw_state,
            output,
            ..Self::new(state, succeeded)
        }
    }

    const fn new(state: JobState, succeeded: Option<bool>) -> Self {
        Self {
            state,
            raw_state: None,
            succeeded,
            error_code: None,
            error_message: None,
            output: None,
        }
    }
}

/// Names of states, in lower case, and what they say of the job and of its success.
type States = [(&'static str, JobState, Option<bool>)];

const INTERACTION: &States = &[
    ("queued", JobState::Running, None),
    ("in_progress", JobState::Running, None),
    ("requires_action", JobState::NeedsAction, None),
    ("completed", JobState::Ended, Some(true)),
    ("failed", JobState::Ended, Some(false)),
    ("cancelled", JobState::Ended, Some(false)),
    ("incomplete", JobState::Ended, None),
    ("budget_exceeded", JobState::Ended, None),
];

const BATCH: &States = &[
    ("queued", JobState::Running, None),
    ("pending", JobState::Running, None),
    ("running", JobState::Running, None),
    // It goes back to running.
    ("updating", JobState::Running, None),
    // It may still succeed or fail.
    ("cancelling", JobState::Running, None),
    ("succeeded", JobState::Ended, Some(true)),
    ("failed", JobState::Ended, Some(false)),
    ("cancelled", JobState::Ended, Some(false)),
    ("expired", JobState::Ended, Some(false)),
];

const PREFIXES: [&str; 2] = ["BATCH_STATE_", "JOB_STATE_"];

fn known(states: &States, name: &str) -> Option<(JobState, Option<bool>)> {
    let mut states = states.iter();
    let (_, state, succeeded) = states.find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
    Some((*state, *succeeded))
}

/// Returns the text after a prefix in any case.
fn after<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Reads the place of a batch's output. Google's SDKs read it from `metadata`, others from
/// `response`, where the service repeats it.
fn output(members: &mut Members) -> Option<JobOutput> {
    if let Some(place) = members.take(&["responsesFile", "responses_file"], text) {
        let file = Resource::parse(&place).ok();
        let file = file.filter(|_| place.starts_with("files/"));
        return Some(file.map_or(JobOutput::Other(place), JobOutput::File));
    }
    let names = ["inlinedResponses", "inlined_responses"];
    // A list in an object of the same name.
    let responses = members.take(&names, |value| match value {
        Value::Object(_) => Members::of(value).map(|mut inner| inner.take(&names, list)),
        value => list(value).map(Some),
    });
    responses.flatten().map(JobOutput::Inline)
}

/// Reads an object that is not empty: an empty one stands for an absent value.
fn filled(value: Value) -> Result<Members, Value> {
    match value.as_object() {
        Some(members) if !members.is_empty() => Members::of(value),
        _ => Err(value),
    }
}

fn error_code(value: Value) -> Result<ErrorCode, Value> {
    match value {
        Value::Number(number) => Ok(ErrorCode::Number(number)),
        other => text(other).map(ErrorCode::Name),
    }
}

/// Shows no responses, and texts without secrets.
impl fmt::Debug for JobOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
            Self::Inline(responses) => {
                write!(f, "Inline({} responses)", responses.len())
            }
            Self::Other(place) => f.debug_tuple("Other").field(&Redacted(place)).finish(),
        }
    }
}

/// Shows texts without secrets.
impl fmt::Debug for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobStatus")
            .field("state", &self.state)
            .field("raw_state", &self.raw_state.as_ref().map(Redacted))
            .field("succeeded", &self.succeeded)
            .field("error_code", &self.error_code)
            .field("error_message", &self.error_message.as_ref().map(Redacted))
            .field("output", &self.output)
            .finish()
    }
}

#[cfg(test)]
mod tests;
