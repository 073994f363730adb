use std::fmt;

use http::Response;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    api_error::{ApiError, read},
    request_error::RequestError,
};
use crate::{
    address, error::ConfigError, event::EventType, hmac_v1::Secret, redacted::Redacted, rfc3339,
};

/// A project-level webhook to create.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct NewWebhook {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    uri: String,
    subscribed_events: Vec<EventType>,
}

impl NewWebhook {
    /// Sends the deliveries to this address: absolute, HTTPS (or HTTP on the loopback interface,
    /// for development), without credentials and without a fragment.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidUri`] if the address has another form, or one that URI parsers read
    /// differently, such as `http://127.1/`.
    pub fn new(uri: impl Into<String>) -> Result<Self, RequestError> {
        let uri = uri.into();
        address::parse(&uri).map_err(RequestError::invalid_uri)?;
        Ok(Self {
            name: None,
            uri,
            subscribed_events: Vec::new(),
        })
    }

    /// Sets the name, a label for people.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// Subscribes to an event type. [`WebhookService::create`] requires at least one.
    ///
    /// [`WebhookService::create`]: super::WebhookService::create
    pub fn subscribe(mut self, event_type: impl Into<EventType>) -> Self {
        self.subscribed_events.push(event_type.into());
        self
    }

    pub(super) fn validate(&self) -> Result<&Self, RequestError> {
        match self.subscribed_events.as_slice() {
            [] => Err(RequestError::InvalidRequest {
                reason: "the webhook subscribes to no event type, at least one is expected",
            }),
            _ => Ok(self),
        }
    }
}

/// Shows the address without its query.
impl fmt::Debug for NewWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewWebhook")
            .field("name", &self.name.as_ref().map(Redacted))
            .field("uri", &address::shown(&self.uri))
            .field("subscribed_events", &self.subscribed_events)
            .finish()
    }
}

/// Changes to a webhook. Members that are not set stay as they are.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[must_use]
pub struct WebhookUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscribed_events: Option<Vec<EventType>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<WebhookState>,
}

impl WebhookUpdate {
    /// Changes the name.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// Changes the address.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidUri`] as for [`NewWebhook::new`].
    pub fn uri(self, uri: impl Into<String>) -> Result<Self, RequestError> {
        let uri = uri.into();
        address::parse(&uri).map_err(RequestError::invalid_uri)?;
        Ok(Self {
            uri: Some(uri),
            ..self
        })
    }

    /// Replaces the subscribed event types.
    pub fn subscribed_events(self, events: impl IntoIterator<Item = EventType>) -> Self {
        Self {
            subscribed_events: Some(events.into_iter().collect()),
            ..self
        }
    }

    /// Enables or disables the webhook, for example to enable it after the service
    /// [disabled](WebhookState::DisabledDueToFailedDeliveries) it.
    pub fn state(self, state: WebhookState) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    /// Returns the names of the members that are set, for `update_mask`.
    pub(super) fn mask(&self) -> Result<String, RequestError> {
        let members = [
            ("name", self.name.is_some()),
            ("uri", self.uri.is_some()),
            ("subscribed_events", self.subscribed_events.is_some()),
            ("state", self.state.is_some()),
        ];
        let set = members.into_iter().filter(|(_, is_set)| *is_set);
        let set: Vec<&str> = set.map(|(name, _)| name).collect();
        if set.is_empty() {
            return Err(RequestError::InvalidRequest {
                reason: "the update changes nothing",
            });
        }
        Ok(set.join(","))
    }
}

/// Shows the address without its query.
impl fmt::Debug for WebhookUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookUpdate")
            .field("name", &self.name.as_ref().map(Redacted))
            .field("uri", &self.uri.as_deref().map(address::shown))
            .field("subscribed_events", &self.subscribed_events)
            .field("state", &self.state)
            .finish()
    }
}

/// The state of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WebhookState {
    /// It receives deliveries.
    Enabled,
    /// It receives no deliveries, because a user disabled it.
    Disabled,
    /// It receives no deliveries, because too many have failed. Deliveries missed in this state are
    /// not sent later.
    DisabledDueToFailedDeliveries,
    /// A state that this crate does not know.
    Unknown(String),
}

impl WebhookState {
    /// Returns the state's name: in lower case, or as it was received if it is unknown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::DisabledDueToFailedDeliveries => "disabled_due_to_failed_deliveries",
            Self::Unknown(name) => name,
        }
    }
}

impl From<&str> for WebhookState {
    fn from(name: &str) -> Self {
        let known = [
            Self::Enabled,
            Self::Disabled,
            Self::DisabledDueToFailedDeliveries,
        ];
        let mut known = known.into_iter();
        known
            .find(|state| state.as_str().eq_ignore_ascii_case(name))
            .unwrap_or_else(|| Self::Unknown(name.to_owned()))
    }
}

impl fmt::Display for WebhookState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for WebhookState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for WebhookState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| name.as_str().into())
    }
}

/// A project-level webhook, as the service describes it.
#[derive(Clone, Deserialize)]
#[non_exhaustive]
pub struct Webhook {
    /// The id.
    pub id: String,
    /// The name, a label for people.
    #[serde(default)]
    pub name: Option<String>,
    /// The address that its deliveries are sent to.
    pub uri: String,
    /// The subscribed event types.
    #[serde(default, alias = "subscribedEvents")]
    pub subscribed_events: Vec<EventType>,
    /// The state; `None` if the answer has none.
    #[serde(default)]
    pub state: Option<WebhookState>,
    /// The time of its creation (UTC).
    #[serde(default, alias = "createTime", deserialize_with = "time")]
    pub create_time: Option<OffsetDateTime>,
    /// The time of its last change (UTC).
    #[serde(default, alias = "updateTime", deserialize_with = "time")]
    pub update_time: Option<OffsetDateTime>,
    /// The secrets that sign its deliveries: two during a rotation.
    #[serde(default, alias = "signingSecrets")]
    pub signing_secrets: Vec<SigningSecret>,
    /// The signing secret, only in the answer to the creation.
    #[serde(default, alias = "newSigningSecret")]
    pub new_signing_secret: Option<NewSigningSecret>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Webhook {
    /// Reads the answer to [`create`](super::WebhookService::create),
    /// [`get`](super::WebhookService::get) or [`update`](super::WebhookService::update).
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] if the status is not a 2xx, [`ApiError::Unreadable`] if the answer is
    /// not of the documented form.
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        read(response)
    }
}

/// Shows the address without its query, and of unknown members only the names.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            .field("name", &self.name.as_ref().map(Redacted))
            .field("uri", &address::shown(&self.uri))
            .field("subscribed_events", &self.subscribed_events)
            .field("state", &self.state)
            .field("create_time", &self.create_time)
            .field("update_time", &self.update_time)
            .field("signing_secrets", &self.signing_secrets)
            .field("new_signing_secret", &self.new_signing_secret)
            .field("other", &self.other.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// The public part of a signing secret that the service has shown before.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SigningSecret {
    /// The prefix and the last characters, such as `whsec_...3frh`: enough to recognize the secret,
    /// not enough to sign.
    #[serde(default, alias = "truncatedSecret")]
    pub truncated_secret: String,
    /// The time at which it stops signing (UTC), after a rotation.
    #[serde(default, alias = "expireTime", deserialize_with = "time")]
    pub expire_time: Option<OffsetDateTime>,
}

/// Cuts the secret, should the service not have done so.
impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningSecret")
            .field("truncated_secret", &Redacted(&self.truncated_secret))
            .field("expire_time", &self.expire_time)
            .finish()
    }
}

/// A signing secret that the service shows only once.
///
/// It is zeroized on drop, and `Debug` does not show it.
#[derive(Clone)]
pub struct NewSigningSecret(Zeroizing<String>);

impl NewSigningSecret {
    /// Returns the secret's text (`whsec_...`), to store with your other secrets.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Parses the secret, for a verifier.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSecret`] if the service returned something else.
    pub fn parse(&self) -> Result<Secret, ConfigError> {
        Secret::parse(&self.0)
    }
}

impl fmt::Debug for NewSigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewSigningSecret(..)")
    }
}

impl<'de> Deserialize<'de> for NewSigningSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// One page of the list of webhooks.
#[derive(Clone, Deserialize)]
#[non_exhaustive]
pub struct WebhookPage {
    /// The webhooks of this page.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    /// The token for the next page; `None` on the last one.
    #[serde(default, alias = "nextPageToken", deserialize_with = "not_empty")]
    pub next_page_token: Option<String>,
}

impl WebhookPage {
    /// Reads the answer to [`list`](super::WebhookService::list).
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] if the status is not a 2xx, [`ApiError::Unreadable`] if the answer is
    /// not of the documented form.
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        read(response)
    }
}

/// Leaves the token out.
impl fmt::Debug for WebhookPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookPage")
            .field("webhooks", &self.webhooks)
            .field("next_page_token", &self.next_page_token.is_some())
            .finish()
    }
}

/// The answer to a rotation.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct RotatedSecret {
    /// The new signing secret.
    pub secret: NewSigningSecret,
}

impl RotatedSecret {
    /// Reads the answer to [`rotate`](super::WebhookService::rotate).
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] if the status is not a 2xx, [`ApiError::Unreadable`] if the answer is
    /// not of the documented form.
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        read(response)
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| rfc3339::parse(&text))
        .transpose()
        .map_err(serde::de::Error::custom)
}

/// Reads an empty text as `None`: Google's services write one for an absent value.
fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
