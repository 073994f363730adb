use std::fmt;

use http::{Method, Request};

use super::{
    api::{Api, ApiVersion},
    request_error::RequestError,
    resource::{Collection, Resource},
};

/// Builds the requests that ask about jobs, cancel them, and download their results.
///
/// The API key is sent in the header `x-goog-api-key`, never in a URI, and `Debug` does not show
/// it.
///
/// ```
/// use gemini_webhooks::configure::{JobOutput, JobService, JobState, JobStatus, Resource};
///
/// let service = JobService::new("API_KEY")?;
/// let batch = Resource::batch("123456")?;
/// let request: http::Request<Vec<u8>> = service.get(&batch)?;
/// assert_eq!(
///     request.uri(),
///     "https://generativelanguage.googleapis.com/v1/batches/123456",
/// );
///
/// // Send it, and read the answer:
/// # let response = http::Response::new(br#"{"name":"batches/123456","done":true,
/// #     "metadata":{"state":"BATCH_STATE_SUCCEEDED"},"response":{"responsesFile":"files/abc"}}"#);
/// let status = JobStatus::from_response(&response)?;
/// assert_eq!((status.state, status.succeeded), (JobState::Ended, Some(true)));
/// if let Some(JobOutput::File(file)) = &status.output {
///     let request = service.download(file)?;
/// #   assert_eq!(request.uri().path(), "/download/v1/files/abc:download");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct JobService {
    api: Api,
}

impl JobService {
    /// Builds requests with this API key, to
    /// [`WebhookService::GOOGLE`](super::WebhookService::GOOGLE).
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the key is empty, or has characters other than visible
    /// ASCII.
    pub fn new(api_key: &str) -> Result<Self, RequestError> {
        let api = Api::new(api_key)?;
        Ok(Self { api })
    }

    /// Sends the requests to another server, like
    /// [`WebhookService::base_url`](super::WebhookService::base_url).
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidUri`] if the address is neither HTTPS nor HTTP on the loopback
    /// interface, or has a query, credentials or a fragment.
    pub fn base_url(self, base: &str) -> Result<Self, RequestError> {
        let api = self.api.base_url(base)?;
        Ok(Self { api })
    }

    /// Sets the version of the API. The default is `v1`.
    pub fn version(self, version: ApiVersion) -> Self {
        let api = self.api.version(version);
        Self { api }
    }

    /// Builds the request that returns an interaction or a batch.
    ///
    /// [`JobStatus::from_response`](super::JobStatus::from_response) reads the answer. The answer
    /// about an interaction has its output too, and that about a batch may have all of its responses:
    /// `ApiClient` reads at most 8 MiB unless its `max_answer` is set.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the resource is a file or makes the URI too long.
    pub fn get(&self, job: &Resource) -> Result<Request<Vec<u8>>, RequestError> {
        let path = match job.collection() {
            Collection::Interactions | Collection::Batches => job.path()?,
            Collection::Files => return Err(IS_FILE),
        };
        self.api.request(Method::GET, &path, None)
    }

    /// Builds the request that cancels an interaction that runs in the background, or a batch.
    ///
    /// [`acknowledged`](super::acknowledged) reads the answer. The job may still end in another way:
    /// ask about it.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the resource is a file or makes the URI too long.
    pub fn cancel(&self, job: &Resource) -> Result<Request<Vec<u8>>, RequestError> {
        let verb = match job.collection() {
            Collection::Interactions => "/cancel",
            Collection::Batches => ":cancel",
            Collection::Files => return Err(IS_FILE),
        };
        let path = job.path()? + verb;
        self.api.request(Method::POST, &path, None)
    }

    /// Builds the request that downloads a file: the responses of a batch, one JSON value per line,
    /// in the order of its requests, or a video.
    ///
    /// [`downloaded`](super::downloaded) reads the answer, which may be large: stream it with a client
    /// of your own where it does not fit into memory.
    ///
    /// The path is `/download/{version}/files/{id}:download`. Published code uses it with `v1beta`, and
    /// none was found that uses it with `v1`. Google's SDK for JavaScript leaves out `/download`.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the resource is no file or makes the URI too long.
    pub fn download(&self, file: &Resource) -> Result<Request<Vec<u8>>, RequestError> {
        match file.collection() {
            Collection::Files => {}
            Collection::Interactions | Collection::Batches => {
                return Err(RequestError::InvalidRequest {
                    reason: "only a file can be downloaded: ask about the job to learn its file",
                });
            }
        }
        let path = file.path()? + ":download?alt=media";
        self.api.download(&path)
    }
}

const IS_FILE: RequestError = RequestError::InvalidRequest {
    reason: "a file is no job: it can only be downloaded",
};

/// Omits the API key.
impl fmt::Debug for JobService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.api.fmt("JobService", f)
    }
}

#[cfg(test)]
mod tests;
