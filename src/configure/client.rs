use std::{fmt, time::Duration};

use http::{Request, Response};
use reqwest::{Client, redirect::Policy};

use crate::{boxed::BoxError, https};

/// Sends the requests of this module with `reqwest`, in a Tokio runtime.
///
/// A request carries the API key, and an answer may carry a signing secret. So
/// - an address has to be HTTPS, or HTTP on the loopback interface, which is never asked through a
///   proxy;
/// - redirects are not followed: one would take the key to another server, or make a `GET` of a
///   `POST`. The answer is returned, and reads as [`ApiError::Refused`](super::ApiError::Refused);
/// - an exchange takes at most 30 s ([`TIMEOUT`](Self::TIMEOUT)) and reads at most 8 MiB
///   ([`MAX_ANSWER`](Self::MAX_ANSWER)), unless set otherwise;
/// - errors show neither the key nor the address.
///
/// Nothing is sent twice. Clones share their connections.
///
/// ```no_run
/// use gemini_webhooks::configure::{ApiClient, WebhookPage, WebhookService};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let service = WebhookService::new(&std::env::var("GEMINI_API_KEY")?)?;
/// let client = ApiClient::new()?;
/// let response = client.send(service.list(None, None)?).await?;
/// for webhook in WebhookPage::from_response(&response)?.webhooks {
///     println!("{:?}", webhook.id());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ApiClient {
    https: Client,
    loopback: Client,
    timeout: Duration,
    max_answer: usize,
}

impl ApiClient {
    /// The time that an exchange may take by default: 30 s.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// The longest answer that is read by default, in bytes: 8 MiB.
    pub const MAX_ANSWER: usize = 8 << 20;

    /// Sets up a client. For HTTPS it takes the proxies of the environment, as `reqwest` does.
    ///
    /// # Errors
    ///
    /// [`SendError::NoClient`] if the system's TLS can't be set up.
    pub fn new() -> Result<Self, SendError> {
        let client = |scheme| {
            let client = https::client(scheme).redirect(Policy::none()).build();
            client.map_err(|error| SendError::NoClient {
                source: error.into(),
            })
        };
        Ok(Self {
            https: client("https")?,
            loopback: client("http")?,
            timeout: Self::TIMEOUT,
            max_answer: Self::MAX_ANSWER,
        })
    }

    /// Sets the time that an exchange may take, from the connection to the last byte of the answer.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets the longest answer that is read, in bytes. The answer is kept in memory. The status of a
    /// batch may have all of its responses, and a file may be of any length.
    pub fn max_answer(self, bytes: usize) -> Self {
        Self {
            max_answer: bytes,
            ..self
        }
    }

    /// Sends a request, and returns the answer whatever its status is.
    ///
    /// # Errors
    ///
    /// - [`SendError::InvalidRequest`] if the address is neither HTTPS nor on the loopback interface,
    ///   or one that parsers read differently. Nothing was sent.
    /// - [`SendError::TimedOut`], [`SendError::AnswerTooLong`] or [`SendError::Failed`]. The service
    ///   may have done what it was asked to.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, SendError> {
        let invalid = |reason: String| SendError::InvalidRequest { reason };
        let url = https::parse(&request.uri().to_string()).map_err(invalid)?;
        // `reqwest` resolves `..`, and would ask for something else.
        if url.path() != request.uri().path() {
            return Err(invalid("parsers read its path differently".into()));
        }
        let client = match url.scheme() {
            "https" => &self.https,
            _ => &self.loopback,
        };
        let (parts, body) = request.into_parts();
        let answer = client
            .request(parts.method, url)
            .headers(parts.headers)
            .timeout(self.timeout)
            .body(body)
            .send();
        let answer = answer.await.map_err(|error| self.failed(error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = https::read(answer, self.max_answer).await;
        let body = body.map_err(|error| self.failed(error))?;
        let allowed = self.max_answer;
        let mut response = Response::new(body.ok_or(SendError::AnswerTooLong { allowed })?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn failed(&self, error: reqwest::Error) -> SendError {
        if error.is_timeout() {
            return SendError::TimedOut {
                after: self.timeout,
            };
        }
        SendError::Failed {
            source: error.without_url().into(),
        }
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client would show its proxies.
        f.debug_struct("ApiClient")
            .field("timeout", &self.timeout)
            .field("max_answer", &self.max_answer)
            .finish_non_exhaustive()
    }
}

/// A request that [`ApiClient`] could not send, or an answer that it could not read.
///
/// Neither `Debug`, `Display` nor a source shows the API key, nor the path and query of the address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No client can be set up.
    #[error("no HTTPS client can be set up")]
    #[non_exhaustive]
    NoClient {
        /// The error of `reqwest`.
        source: BoxError,
    },
    /// The request's address is not to be asked.
    #[error("the request's address is unusable: {reason}")]
    #[non_exhaustive]
    InvalidRequest {
        /// The fault, and the expected form.
        reason: String,
    },
    /// The exchange took too long.
    #[error("no whole answer within {after:?}")]
    #[non_exhaustive]
    TimedOut {
        /// The time that was allowed.
        after: Duration,
    },
    /// The answer is longer than [`ApiClient::max_answer`] allows.
    #[error("the answer is longer than {allowed} bytes")]
    #[non_exhaustive]
    AnswerTooLong {
        /// The length that was allowed, in bytes.
        allowed: usize,
    },
    /// The connection failed.
    #[error("the exchange with the service failed")]
    #[non_exhaustive]
    Failed {
        /// The error of `reqwest`, without the address.
        source: BoxError,
    },
}
