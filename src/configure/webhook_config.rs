use std::fmt;

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
/// let uri = body["webhook_config"]["uris"][0].as_str().unwrap();
/// assert!(uri.starts_with("https://example.com/webhook?gemini_webhooks_job=gwj1_"));
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
/// Until Veo left the Gemini API in October 2026, a video request took it in camel case at the top
/// level:
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
#[derive(Clone, PartialEq)]
#[must_use]
pub struct WebhookConfig {
    uris: Vec<String>,
    user_metadata: Map<String, Value>,
    job_token: Option<String>,
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
            job_token: None,
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

    /// Adds a job token that was minted before: to the query of each address, which works for every
    /// kind of job, and in an interaction also to `user_metadata`, where it is the stronger proof if it
    /// comes back. The Batch API refuses `user_metadata`
    /// ([googleapis/go-genai issue 779](https://github.com/googleapis/go-genai/issues/779)).
    #[cfg(feature = "_per-request")]
    pub fn job_token(self, token: &str) -> Self {
        Self {
            job_token: Some(token.to_owned()),
            ..self
        }
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
        #[cfg(feature = "_per-request")]
        let token = self.job_token.as_deref().map(JobTokens::user_metadata);
        #[cfg(not(feature = "_per-request"))]
        let token = None::<Map<String, Value>>;
        let user_metadata = self.user_metadata.clone().into_iter();
        let user_metadata = user_metadata.chain(token.into_iter().flatten());
        self.spelled("user_metadata", user_metadata.collect())
    }

    /// Returns the value of `webhookConfig` in a batch or a video request.
    #[must_use]
    pub fn to_camel_case(&self) -> Value {
        self.spelled("userMetadata", self.user_metadata.clone())
    }

    fn spelled(&self, name: &str, user_metadata: Map<String, Value>) -> Value {
        let mut config = json!({"uris": self.callback_uris()});
        if let Some(members) = config.as_object_mut()
            && !user_metadata.is_empty()
        {
            members.insert(name.to_owned(), user_metadata.into());
        }
        config
    }

    #[cfg(feature = "_per-request")]
    fn callback_uris(&self) -> Vec<String> {
        let uris = self.uris.iter();
        match &self.job_token {
            Some(token) => uris
                .map(|uri| JobTokens::callback_uri(uri, token))
                .collect(),
            None => uris.cloned().collect(),
        }
    }

    #[cfg(not(feature = "_per-request"))]
    fn callback_uris(&self) -> &[String] {
        &self.uris
    }
}

/// Shows the addresses without their queries, and the names of the metadata.
impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uris: Vec<_> = self.uris.iter().map(|uri| address::shown(uri)).collect();
        let user_metadata: Vec<_> = self.user_metadata.keys().collect();
        f.debug_struct("WebhookConfig")
            .field("uris", &uris)
            .field("user_metadata", &user_metadata)
            .field("job_token", &self.job_token.is_some())
            .finish()
    }
}
