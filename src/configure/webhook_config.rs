use serde_json::{Map, Value, json};

use super::uri;
use crate::error::ConfigError;
#[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
use crate::job_tokens::{JobTokens, MintError};

/// What a job's own request says of its webhook (per-request webhooks): where its deliveries go, and
/// what they bring back in `user_metadata`.
///
/// The APIs spell it in two ways. In the body of an interaction, which has to run in the background:
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
/// Inside `batch` for the Batch API (of which users report that it may refuse `userMetadata`: see
/// [googleapis/go-genai issue 779](https://github.com/googleapis/go-genai/issues/779)):
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
/// And at the top of a request for a video:
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
    /// Sends the job's deliveries to an address: absolute, HTTPS (HTTP on the loopback interface, for
    /// development), without credentials and without a fragment.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidUri`].
    pub fn new(uri: impl Into<String>) -> Result<Self, ConfigError> {
        let empty = Self {
            uris: Vec::new(),
            user_metadata: Map::new(),
        };
        empty.and_uri(uri)
    }

    /// Sends them to another address too.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidUri`].
    pub fn and_uri(mut self, uri: impl Into<String>) -> Result<Self, ConfigError> {
        let uri = uri.into();
        uri::check(&uri)?;
        self.uris.push(uri);
        Ok(self)
    }

    /// Has each delivery bring a member back.
    pub fn user_metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.user_metadata.insert(name.into(), value.into());
        self
    }

    /// Has each delivery bring back a token that was minted before.
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    pub fn job_token(self, token: &str) -> Self {
        self.user_metadata(JobTokens::MEMBER, token)
    }

    /// Mints a token for this job, which proves that its deliveries are ours: see [`JobTokens`].
    ///
    /// # Errors
    ///
    /// Those of [`JobTokens::mint_for`].
    #[cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]
    pub fn mint(self, tokens: &JobTokens, context: &str) -> Result<Self, MintError> {
        Ok(self.job_token(&tokens.mint_for(context)?))
    }

    /// As `webhook_config` of an interaction.
    #[must_use]
    pub fn to_snake_case(&self) -> Value {
        self.spelled("user_metadata")
    }

    /// As `webhookConfig` of a batch or a video.
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
