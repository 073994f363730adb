use std::{fmt, time::Duration};

use http::Response;
use serde::{
    Deserialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

use crate::redacted::{self, Redacted};

/// A failure that the service's answer to a request reports, or an answer that can't be read.
///
/// Neither `Debug`, `Display` nor the source shows a signing secret, a job token, or the query of an
/// address.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The service refused the request (`google.rpc.Status`).
    #[error("the service answers {http_status} {status}: {message}")]
    #[non_exhaustive]
    Refused {
        /// The HTTP status code.
        http_status: u16,
        /// The code in the body of the answer, usually the HTTP status code.
        code: Option<i64>,
        /// The name of the error, such as `INVALID_ARGUMENT`; empty if the answer has none.
        status: String,
        /// The service's message, or the first 200 characters of an answer in another form. Signing
        /// secrets and job tokens are cut after their prefix, and addresses before their query.
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
/// # Errors
///
/// [`ApiError::Refused`] if the status is not a 2xx.
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
    serde_json::from_slice(response.body().as_ref()).map_err(|error| ApiError::Unreadable {
        http_status: response.status().as_u16(),
        source: without_text(error),
    })
}

/// Leaves out the text that `serde_json` found where another type belongs: it may be a signing
/// secret.
fn without_text(error: serde_json::Error) -> serde_json::Error {
    let message = error.to_string();
    // The text is quoted, and its own quotation marks are escaped.
    let Some((before, rest)) = message.split_once('"') else {
        return error;
    };
    let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
    serde_json::Error::custom(format!("{before}\"..\"{after}"))
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
        status: redacted::text(&status),
        // The service may quote the address that it refuses, and a proxy the whole request.
        message: redacted::text(&message),
        details,
        retry_after: crate::retry_after::retry_after(response.headers()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::Webhook;

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

    /// Loggers print an error and then its sources.
    fn chain(error: &dyn std::error::Error) -> Vec<String> {
        let sources = std::iter::successors(Some(error), |error| error.source());
        sources.map(ToString::to_string).collect()
    }

    #[test]
    fn a_chain_of_errors_says_nothing_twice() {
        let unreadable =
            |body: &'static str| read::<Webhook>(&Response::new(body)).expect_err(body);
        for (error, length) in [
            (answer(404, &[], r#"{"error":{"message":"gone"}}"#), 1),
            (answer(502, &[], "<html>"), 1),
            (unreadable(""), 2),
            (unreadable(r#"{"id":7}"#), 2),
            (unreadable(r#"{"id":"wh_1"}"#), 2),
        ] {
            let chain = chain(&error);
            assert_eq!(chain.len(), length, "{chain:?}");
            for (index, said) in chain.iter().enumerate() {
                let others = chain.iter().skip(index + 1);
                assert!(!said.is_empty(), "{chain:?}");
                for other in others {
                    assert!(!said.contains(other) && !other.contains(said), "{chain:?}");
                }
            }
        }
        assert_eq!(
            chain(&unreadable("{\n\"id\":\"wh_1\"}")),
            [
                "the service's answer 200 is not of the documented form",
                "missing field `uri` at line 2 column 12",
            ]
        );
    }

    #[test]
    fn no_error_shows_a_secret() {
        let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let refused = [
            format!("not {secret}, whsec_...3frh or {secret}"),
            format!(
                r#"{{"error":{{"message":"no https://e.com/?job=gwj1_C2FV-_C2FV, {secret}"}}}}"#
            ),
        ];
        let refused = refused.map(|body| answer(400, &[], body.leak()));
        assert!(
            refused[0]
                .to_string()
                .ends_with(": not whsec_.., whsec_...3frh or whsec_..")
        );
        assert!(
            refused[1]
                .to_string()
                .ends_with(": no https://e.com/?.. whsec_..")
        );
        let unreadable = [
            format!("\"{secret}\""),
            format!(r#""\"{secret}\" ""#),
            format!(r#"{{"id":"a","uri":"u","new_signing_secret":["{secret}"]}}"#),
            format!(r#"{{"id":"a","uri":"u","signing_secrets":["{secret}"]}}"#),
            format!(r#"{{"id":"a","uri":"u","signing_secrets":"{secret}"}}"#),
            format!(r#"{{"id":"a","uri":"u","create_time":"{secret}"}}"#),
        ];
        let unreadable = unreadable.map(|body| read::<Webhook>(&Response::new(body)).unwrap_err());
        for error in refused.iter().chain(&unreadable) {
            let shown = format!("{error:?} {:?}", chain(error));
            assert!(!shown.contains("C2FV"), "{shown}");
        }
        let place = chain(&unreadable[0]).remove(1);
        let expected = "invalid type: string \"..\", expected struct Webhook at line 1 column 40";
        assert_eq!(place, expected);
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
