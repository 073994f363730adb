use std::fmt;

use http::Response;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    answer::{Members, Names, text, text_or_integer, time},
    api_error::{ApiError, read},
    signing_secret::{NewSigningSecret, SigningSecret},
    webhook_state::WebhookState,
};
use crate::{address, event::EventType, redacted::Redacted};

/// A project-level webhook, as the service describes it.
///
/// Every member is optional, as in Google's SDKs. A member of another kind than documented counts as
/// absent, stays in [`other`](Self::other), and makes no other member unreadable.
#[derive(Clone)]
#[non_exhaustive]
pub struct Webhook {
    id: Option<String>,
    /// The name: a label for people, or the resource name `webhooks/{id}`.
    pub name: Option<String>,
    /// The address that its deliveries are sent to.
    pub uri: Option<String>,
    /// The subscribed event types.
    pub subscribed_events: Vec<EventType>,
    /// The state.
    pub state: Option<WebhookState>,
    /// The time of its creation. The service is reported to return none.
    pub create_time: Option<OffsetDateTime>,
    /// The time of its last change. The service is reported to return none.
    pub update_time: Option<OffsetDateTime>,
    /// The secrets that sign its deliveries: two during a rotation.
    pub signing_secrets: Vec<SigningSecret>,
    /// The signing secret, only in the answer to the creation. A member `secret` is read as well.
    pub new_signing_secret: Option<NewSigningSecret>,
    /// Members that this crate does not know, or of another kind than documented. Of a list, the
    /// elements that could not be read.
    pub other: Map<String, Value>,
}

impl Webhook {
    /// Reads the answer to [`create`](super::WebhookService::create),
    /// [`get`](super::WebhookService::get) or [`update`](super::WebhookService::update).
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] if the service refused the request, [`ApiError::Unreadable`] if the
    /// answer is no JSON object.
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        read(response).map(Self::from_members)
    }

    /// Returns the id, for further calls: the member `id`, or else the id in a name of the form
    /// `webhooks/{id}`.
    ///
    /// ```
    /// use gemini_webhooks::configure::Webhook;
    ///
    /// let answer = http::Response::new(r#"{"name":"webhooks/abc","uri":"https://example.com"}"#);
    /// assert_eq!(Webhook::from_response(&answer)?.id(), Some("abc"));
    /// # Ok::<(), gemini_webhooks::configure::ApiError>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let id = match self.id.as_deref() {
            Some(id) => without_collection(id),
            None => self.name.as_deref()?.strip_prefix(COLLECTION)?,
        };
        Some(id).filter(|id| !id.is_empty())
    }

    fn from_members(mut members: Members) -> Self {
        let event_type = |value| text(value).map(|name| name.as_str().into());
        let state = |value| text(value).map(|name| name.as_str().into());
        Self {
            id: members.take(&["id"], text_or_integer),
            name: members.take(&["name"], text),
            uri: members.take(&["uri"], text),
            subscribed_events: members
                .take_list(&["subscribed_events", "subscribedEvents"], event_type),
            state: members.take(&["state"], state),
            create_time: members.take(&["create_time", "createTime"], time),
            update_time: members.take(&["update_time", "updateTime"], time),
            signing_secrets: members.take_list(
                &["signing_secrets", "signingSecrets"],
                SigningSecret::from_value,
            ),
            new_signing_secret: NewSigningSecret::take(&mut members),
            other: members.rest(),
        }
    }
}

/// Shows the address without its query, and of the other members only the names.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id.as_ref().map(Redacted))
            .field("name", &self.name.as_ref().map(Redacted))
            .field("uri", &self.uri.as_deref().map(address::shown))
            .field("subscribed_events", &self.subscribed_events)
            .field("state", &self.state)
            .field("create_time", &self.create_time)
            .field("update_time", &self.update_time)
            .field("signing_secrets", &self.signing_secrets)
            .field("new_signing_secret", &self.new_signing_secret)
            .field("other", &Names(&self.other))
            .finish()
    }
}

/// The beginning of a webhook's resource name.
const COLLECTION: &str = "webhooks/";

/// Returns the id in a resource name `webhooks/{id}`, or an id as it is.
pub(super) fn without_collection(id: &str) -> &str {
    id.strip_prefix(COLLECTION).unwrap_or(id)
}

/// One page of the list of webhooks.
#[derive(Clone)]
#[non_exhaustive]
pub struct WebhookPage {
    /// The webhooks of this page.
    pub webhooks: Vec<Webhook>,
    /// The token for the next page; `None` on the last one.
    pub next_page_token: Option<String>,
    /// Members that this crate does not know, or of another kind than documented. Under `webhooks`,
    /// the elements that are no objects.
    pub other: Map<String, Value>,
}

impl WebhookPage {
    /// Reads the answer to [`list`](super::WebhookService::list).
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] if the service refused the request, [`ApiError::Unreadable`] if the
    /// answer is no JSON object.
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        let mut members = read(response)?;
        let webhook = |value| Members::of(value).map(Webhook::from_members);
        let token = ["next_page_token", "nextPageToken"];
        Ok(Self {
            webhooks: members.take_list(&["webhooks"], webhook),
            next_page_token: members.take(&token, text_or_integer),
            other: members.rest(),
        })
    }
}

/// Leaves the token out.
impl fmt::Debug for WebhookPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookPage")
            .field("webhooks", &self.webhooks)
            .field("next_page_token", &self.next_page_token.is_some())
            .field("other", &Names(&self.other))
            .finish()
    }
}

#[cfg(test)]
mod tests;
