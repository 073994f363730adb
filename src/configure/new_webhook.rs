use std::fmt;

use serde::Serialize;

use super::{request_error::RequestError, webhook_state::WebhookState};
use crate::{address, event::EventType, redacted::Redacted};

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
    /// The service accepts the types in [`EventType::SUBSCRIBABLE`], and answers 400 for any other.
    /// This crate does not refuse another one, which the service may accept one day.
    ///
    /// ```
    /// use gemini_webhooks::{EventType, configure::NewWebhook};
    ///
    /// let all = EventType::SUBSCRIBABLE.iter().cloned();
    /// let webhook = all.fold(NewWebhook::new("https://example.com/webhook")?, NewWebhook::subscribe);
    /// # Ok::<(), gemini_webhooks::configure::RequestError>(())
    /// ```
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

    /// Returns the names of the members that are set.
    pub(super) fn members(&self) -> Vec<&'static str> {
        let members = [
            ("name", self.name.is_some()),
            ("uri", self.uri.is_some()),
            ("subscribed_events", self.subscribed_events.is_some()),
            ("state", self.state.is_some()),
        ];
        let set = members.into_iter().filter(|(_, is_set)| *is_set);
        set.map(|(name, _)| name).collect()
    }

    pub(super) fn validate(&self) -> Result<&Self, RequestError> {
        if self.members().is_empty() {
            return Err(RequestError::InvalidRequest {
                reason: "the update changes nothing",
            });
        }
        Ok(self)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_names_what_it_changes() {
        assert!(WebhookUpdate::default().validate().is_err());
        let update = WebhookUpdate::default()
            .name("n")
            .state(WebhookState::Enabled);
        assert_eq!(update.members(), ["name", "state"]);
        let json = serde_json::to_value(&update).unwrap();
        assert_eq!(json, serde_json::json!({"name": "n", "state": "enabled"}));
        assert!(update.clone().uri("http://example.com").is_err());
        let update = update.uri("https://example.com").unwrap();
        let update = update.subscribed_events([]);
        let all = ["name", "uri", "subscribed_events", "state"];
        assert_eq!(update.members(), all);
    }

    #[test]
    fn the_query_of_an_address_is_not_shown() {
        let uri = "https://example.com/webhook?token=hunter2";
        let update = WebhookUpdate::default().uri(uri).unwrap();
        let shown = format!("{:?} {update:?}", NewWebhook::new(uri).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
