use std::{fmt, time::Duration};

use http::Response;
use serde::de::Error as _;
use serde_json::{Map, Value};

use super::answer::{Members, integer, list, text, text_or_integer};
use crate::{
    json,
    redacted::{self, Redacted},
};

/// A failure that the service's answer to a request reports, or an answer that can't be read.
///
/// Neither `Debug`, `Display` nor the source shows a signing secret, a job token, an API key, or the
/// password or the query of an address.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The service refused the request (`google.rpc.Status`), or something before it did.
    #[error("the service answers {http_status}{}", Reason { status, message })]
    #[non_exhaustive]
    Refused {
        /// The HTTP status code. Usually no 2xx, but an error with a 2xx is one as well.
        http_status: u16,
        /// The code in the body of the answer, usually the HTTP status code.
        code: Option<i64>,
        /// The name of the error, such as `INVALID_ARGUMENT`; empty if the answer has none.
        status: String,
        /// The service's message, or the first 200 characters of an answer in another form. Signing
        /// secrets, job tokens and API keys are cut after their prefix, and addresses before their
        /// query.
        message: String,
        /// The details, each an object with a type of its own, as they were received.
        details: Vec<Value>,
        /// The time to wait before the next attempt (`Retry-After`, RFC 9110).
        retry_after: Option<Duration>,
    },
    /// The service accepted the request, but its answer is not of the documented form.
    #[error("the service's answer {http_status} is not of the documented form")]
    #[non_exhaustive]
    Unreadable {
        /// The HTTP status code.
        http_status: u16,
        /// The first fault and its place, without the text that was found there.
        source: serde_json::Error,
    },
}

/// The name and the message of an error, each of which may be empty.
struct Reason<'e> {
    status: &'e str,
    message: &'e str,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (separator, part) in [(" ", self.status), (": ", self.message)] {
            if !part.is_empty() {
                write!(f, "{separator}{part}")?;
            }
        }
        Ok(())
    }
}

/// Shows the details without secrets.
impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                http_status,
                code,
                status,
                message,
                details,
                retry_after,
            } => f
                .debug_struct("Refused")
                .field("http_status", http_status)
                .field("code", code)
                .field("status", status)
                .field("message", message)
                .field("details", &details.iter().map(Redacted).collect::<Vec<_>>())
                .field("retry_after", retry_after)
                .finish(),
            Self::Unreadable {
                http_status,
                source,
            } => f
                .debug_struct("Unreadable")
                .field("http_status", http_status)
                .field("source", source)
                .finish(),
        }
    }
}

/// Reads the answer to a request that returns nothing: a ping or a deletion.
///
/// The service acknowledges a ping even if the webhook's address can't be reached.
///
/// # Errors
///
/// [`ApiError::Refused`] if the service refused the request.
pub fn acknowledged(response: &Response<impl AsRef<[u8]>>) -> Result<(), ApiError> {
    // Nothing is documented of the body, and nothing but an error in it matters.
    check(response, &[]).map(drop)
}

/// Returns the bytes of a file: the body of the answer to
/// [`JobService::download`](super::JobService::download).
///
/// A line of the file that reports an error is the job's, and none of this function.
///
/// # Errors
///
/// [`ApiError::Refused`] if the service refused the request, or redirects it elsewhere.
pub fn downloaded(response: &Response<impl AsRef<[u8]>>) -> Result<&[u8], ApiError> {
    if !response.status().is_success() {
        acknowledged(response)?;
    }
    Ok(response.body().as_ref())
}

/// Reads the members of an answer that is an object.
pub(super) fn read(response: &Response<impl AsRef<[u8]>>) -> Result<Members, ApiError> {
    members(response, &[])
}

/// Reads the members of an answer about a job, where an `error` beside one of these is the job's.
pub(super) fn read_job(response: &Response<impl AsRef<[u8]>>) -> Result<Members, ApiError> {
    let of_job = ["name", "id", "status", "done", "metadata", "response"];
    members(response, &of_job)
}

fn members(response: &Response<impl AsRef<[u8]>>, own: &[&str]) -> Result<Members, ApiError> {
    match check(response, own)?.map(Members::of) {
        Ok(Ok(members)) => Ok(members),
        Ok(Err(_)) => Err(unreadable(response, "an object is expected")),
        Err(source) => Err(ApiError::Unreadable {
            http_status: response.status().as_u16(),
            source,
        }),
    }
}

/// Returns the JSON of an answer unless it is a refusal. A text that is not UTF-8 makes nothing else
/// unreadable. Beside one of the `own` members, an error is that of the resource.
fn check(
    response: &Response<impl AsRef<[u8]>>,
    own: &[&str],
) -> Result<Result<Value, serde_json::Error>, ApiError> {
    let text = String::from_utf8_lossy(json::without_mark(response.body().as_ref()));
    let answer = serde_json::from_str(&text);
    let error = answer.as_ref().ok().and_then(rpc_status);
    let is_own = |answer: &Value| own.iter().any(|name| answer.get(name).is_some());
    let is_refused =
        error.is_some_and(|error| !error.is_empty()) && !answer.as_ref().is_ok_and(is_own);
    if response.status().is_success() && !is_refused {
        return Ok(answer);
    }
    Err(refusal(response, error.cloned(), &text))
}

/// Finds the error in an answer. Some of Google's servers put it into an array.
fn rpc_status(answer: &Value) -> Option<&Map<String, Value>> {
    match answer {
        Value::Array(elements) => elements.iter().find_map(rpc_status),
        answer => answer.get("error")?.as_object(),
    }
}

pub(super) fn unreadable<B>(response: &Response<B>, fault: &str) -> ApiError {
    ApiError::Unreadable {
        http_status: response.status().as_u16(),
        source: serde_json::Error::custom(fault),
    }
}

fn refusal<B>(response: &Response<B>, error: Option<Map<String, Value>>, body: &str) -> ApiError {
    let mut error = Members::from(error.unwrap_or_default());
    // The Interactions API writes the name of the error where others write a number.
    let code = error.take(&["code"], integer);
    let status = error.take(&["status", "code"], text_or_integer);
    // The service may quote the address that it refuses, and a proxy the whole request.
    let message = match error.take(&["message"], text) {
        Some(message) => redacted::text(&message),
        None => beginning(body),
    };
    ApiError::Refused {
        http_status: response.status().as_u16(),
        code,
        status: redacted::text(&status.unwrap_or_default()),
        message,
        details: error.take(&["details"], list).unwrap_or_default(),
        retry_after: crate::retry_after::retry_after(response.headers()),
    }
}

/// Returns the first 200 characters in one line. What is cut is cut after the redaction, which would
/// not recognize the rest.
fn beginning(body: &str) -> String {
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    let beginning: String = body.chars().take(10_000).map(one_line).collect();
    redacted::text(&beginning).chars().take(200).collect()
}

#[cfg(test)]
mod tests;
