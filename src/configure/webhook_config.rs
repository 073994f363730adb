use serde_json::{Map, Value, json};

use super::request_error::RequestError;
use crate::address;
#[cfg(feature = "_per-request")]
use crate::per_request::{JobTokens, keys::MintError};

/// The webhook of a single job, as the job's own request names it (a per-request webhook): the
/// addresses of its deliveries, and the `user_metadata` that they return.
///
/// The APIs spell it in two ways. The body of an interaction, which has to run in the background,
/// takes it in snake case:
///
/// ```
/// # use gemini_webhooks::{JobTokens, configure::WebhookConfig};
/// let tokens = JobTokens::new([7; 32]);
/// let config = WebhookConfig::new("https://example.com/webhook")?.mint(&tokens, "nightly")?;
/// let body = serde_json::json!({
///     "agent": "deep-research-preview",
///     "input": "Which receivers verify Ed25519?",
///     "background": true,
///     "webhook_config": config.to_snake_case(),
/// });
/// assert_eq!(body["webhook_config"]["uris"][0], "https://example.com/webhook");
/// let metadata = &body["webhook_config"]["user_metadata"];
/// assert!(metadata[JobTokens::MEMBER].is_string());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The Batch API takes it in camel case inside `batch`. Users report that it may refuse
/// `userMetadata`: see
/// [googleapis/go-genai issue 779](https://github.com/googleapis/go-genai/issues/779).
///
/// ```
/// # use gemini_webhooks::configure::WebhookConfig;
/// let config = WebhookConfig::new("https://example.com/webhook")?.user_metadata("group", "nightly");
/// let body = serde_json::json!({
///     "batch": {
///         "displayName": "nightly-eval",
///         "inputConfig": {"fileName": "files/123456"},
///         "webhookConfig": config.to_camel_case(),
///     },
/// });
/// let config = &body["batch"]["webhookConfig"];
/// assert_eq!(config["userMetadata"]["group"], "nightly");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A video request takes it in camel case at the top level:
///
/// ```
/// # use gemini_webhooks::configure::WebhookConfig;
/// let config = WebhookConfig::new("https://example.com/webhook")?;
/// let body = serde_json::json!({
///     "instances": [{"prompt": "A receiver that loses nothing"}],
///     "webhookConfig": config.to_camel_case(),
/// });
/// assert_eq!(body["webhookConfig"], serde_json::json!({"uris": ["https://example.com/webhook"]}));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct WebhookConfig {
    uris: Vec<String>,
    user_metadata: Map<String, Value>,
}

impl WebhookConfig {
    /// Sends the job's deliveries to this address: absolute, HTTPS (or HTTP on the loopback
    /// interface, for development), without credentials and without a fragment.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidUri`] if the address has another form, or one that URI parsers read
    /// differently, such as `http://127.1/`.
    pub fn new(uri: impl Into<String>) -> Result<Self, RequestError> {
        let empty = Self {
            uris: Vec::new(),
            user_metadata: Map::new(),
        };
        empty.and_uri(uri)
    }

    /// Sends the deliveries to this address too.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidUri`] as for [`new`](Self::new).
    pub fn and_uri(mut self, uri: impl Into<String>) -> Result<Self, RequestError> {
        let uri = uri.into();
        address::parse(&uri).map_err(RequestError::invalid_uri)?;
        self.uris.push(uri);
        Ok(self)
    }

    /// Adds a member that each delivery returns in its `user_metadata`.
    pub fn user_metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.user_metadata.insert(name.into(), value.into());
        self
    }

    /// Adds a job token that was minted before.
    #[cfg(feature = "_per-request")]
    pub fn job_token(self, token: &str) -> Self {
        self.user_metadata(JobTokens::MEMBER, token)
    }

    /// Mints a job token and adds it. It proves that the deliveries belong to this job: see
    /// [`JobTokens`].
    ///
    /// # Errors
    ///
    /// The same as [`JobTokens::mint_for`].
    #[cfg(feature = "_per-request")]
    pub fn mint(self, tokens: &JobTokens, context: &str) -> Result<Self, MintError> {
        Ok(self.job_token(&tokens.mint_for(context)?))
    }

    /// Returns the value of `webhook_config` in an interaction.
    #[must_use]
    pub fn to_snake_case(&self) -> Value {
        self.spelled("user_metadata")
    }

    /// Returns the value of `webhookConfig` in a batch or a video request.
    #[must_use]
    pub fn to_camel_case(&self) -> Value {
        self.spelled("userMetadata")
    }

    fn spelled(&self, user_metadata: &str) -> Value {
        let mut config = json!({"uris": self.uris});
        if let Some(members) = config.as_object_mut()
            && !self.user_metadata.is_empty()
        {
            let metadata = self.user_metadata.clone().into();
            members.insert(user_metadata.to_owned(), metadata);
        }
        config
    }
}
