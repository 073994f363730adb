/// An error in the values that a request is built from.
///
/// No variant holds an API key, or the credentials or the query of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The address of a webhook or of the service is unusable.
    #[error("the address is unusable: {reason}")]
    InvalidUri {
        /// The fault, and the expected form.
        reason: String,
    },
    /// The request is incomplete, or a value does not fit into it.
    #[error("the request can't be built: {reason}")]
    InvalidRequest {
        /// The fault, and the expected form.
        reason: &'static str,
    },
}

impl RequestError {
    pub(super) fn invalid_uri(reason: impl Into<String>) -> Self {
        Self::InvalidUri {
            reason: reason.into(),
        }
    }
}
