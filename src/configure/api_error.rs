use std::time::Duration;

use http::{
    HeaderMap, HeaderName, Response,
    header::{DATE, RETRY_AFTER},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// Why a request of the configuration side did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The service refused it (`google.rpc.Status`).
    #[error("the service answers {http_status} {status}: {message}")]
    #[non_exhaustive]
    Refused {
        /// The HTTP status code.
        http_status: u16,
        /// The number in the body of the answer, which is the HTTP status code mostly.
        code: Option<i64>,
        /// The name of the error, such as `INVALID_ARGUMENT`; empty where the answer has none.
        status: String,
        /// The service's words, or the beginning of an answer that is not in its form.
        message: String,
        /// More of it, in forms of its own.
        details: Vec<Value>,
        /// How long to wait before the next try (`Retry-After`, RFC 9110).
        retry_after: Option<Duration>,
    },
    /// The answer is not of the form that is documented.
    #[error("the service's answer {http_status} can't be read: {source}")]
    #[non_exhaustive]
    Unreadable {
        /// The HTTP status code.
        http_status: u16,
        /// What was found and what was expected.
        source: serde_json::Error,
    },
}

/// Reads the answer to a request that is answered with nothing: a ping, a deletion.
///
/// # Errors
///
/// [`ApiError::Refused`].
pub fn acknowledged(response: &Response<impl AsRef<[u8]>>) -> Result<(), ApiError> {
    if response.status().is_success() {
        return Ok(());
    }
    Err(refusal(response))
}

pub(super) fn read<T: DeserializeOwned>(
    response: &Response<impl AsRef<[u8]>>,
) -> Result<T, ApiError> {
    acknowledged(response)?;
    serde_json::from_slice(response.body().as_ref()).map_err(|source| ApiError::Unreadable {
        http_status: response.status().as_u16(),
        source,
    })
}

#[derive(Deserialize)]
struct Body {
    error: RpcStatus,
}

#[derive(Deserialize)]
struct RpcStatus {
    code: Option<i64>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Value>,
}

fn refusal(response: &Response<impl AsRef<[u8]>>) -> ApiError {
    let body = response.body().as_ref();
    let RpcStatus {
        code,
        status,
        message,
        details,
    } = serde_json::from_slice(body).map_or_else(
        |_| RpcStatus {
            code: None,
            status: String::new(),
            message: String::from_utf8_lossy(body).chars().take(200).collect(),
            details: Vec::new(),
        },
        |Body { error }| error,
    );
    ApiError::Refused {
        http_status: response.status().as_u16(),
        code,
        status,
        message,
        details,
        retry_after: retry_after(response.headers()),
    }
}

/// Seconds, or a date, which counts from that of the answer: the service's clock on both sides.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let wait = text(RETRY_AFTER)?;
    if let Ok(seconds) = wait.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = OffsetDateTime::parse(wait, &Rfc2822).ok()?;
    let from = OffsetDateTime::parse(text(DATE)?, &Rfc2822).ok()?;
    let seconds = until.unix_timestamp().saturating_sub(from.unix_timestamp());
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> ApiError {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        acknowledged(&response.body(body).unwrap()).unwrap_err()
    }

    #[test]
    fn an_error_of_the_service_is_read_whole() {
        let error = answer(
            429,
            &[("retry-after", "7")],
            r#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED",
                "details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R"}]}}"#,
        );
        assert_eq!(
            error.to_string(),
            "the service answers 429 RESOURCE_EXHAUSTED: Quota exceeded"
        );
        let ApiError::Refused {
            code,
            details,
            retry_after,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((code, &details[0]["reason"]), (Some(429), &"R".into()));
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn an_error_of_anything_else_is_shown_in_part() {
        let page: &'static str = String::leak("<html>".repeat(1000));
        let shown = answer(502, &[], page).to_string();
        assert!(shown.contains("502") && shown.contains("<html>"), "{shown}");
        assert!(shown.len() < 300, "{shown}");
        for body in ["", "{}", "[]", r#"{"error":7}"#, r#"{"error":{}}"#] {
            assert!(answer(500, &[], body).to_string().contains("500"));
        }
    }

    #[test]
    fn the_time_to_wait_is_read_in_both_forms() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let later = ("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT");
        let before = ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT");
        for (headers, expected) in [
            (&[("retry-after", "0")][..], Some(0)),
            (&[date, later], Some(120)),
            (&[date, before], Some(0)),
            (&[later], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[], None),
        ] {
            let ApiError::Refused { retry_after, .. } = answer(503, headers, "") else {
                panic!("it is refused");
            };
            assert_eq!(
                retry_after,
                expected.map(Duration::from_secs),
                "{headers:?}"
            );
        }
    }
}
