use std::fmt;

use http::Response;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use super::{
    api_error::{ApiError, read},
    uri,
};
use crate::{error::ConfigError, event::EventType, secret::Secret};

/// A project-level webhook that is to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct NewWebhook {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    uri: String,
    subscribed_events: Vec<EventType>,
}

impl NewWebhook {
    /// Sends deliveries to an address: absolute, HTTPS (HTTP on the loopback interface, for
    /// development), without credentials and without a fragment.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidUri`].
    pub fn new(uri: impl Into<String>) -> Result<Self, ConfigError> {
        let uri = uri.into();
        uri::check(&uri)?;
        Ok(Self {
            name: None,
            uri,
            subscribed_events: Vec::new(),
        })
    }

    /// Gives it a name, for people.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// Subscribes to a type of event. Without any, [`WebhookService::create`] refuses it.
    ///
    /// [`WebhookService::create`]: super::WebhookService::create
    pub fn subscribe(mut self, event_type: impl Into<EventType>) -> Self {
        self.subscribed_events.push(event_type.into());
        self
    }

    pub(super) fn check(&self) -> Result<&Self, ConfigError> {
        match self.subscribed_events.as_slice() {
            [] => Err(ConfigError::InvalidRequest {
                reason: "a webhook subscribes to one type of event at least",
            }),
            _ => Ok(self),
        }
    }
}

/// What is to change of a webhook: what is not set stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
    /// [`ConfigError::InvalidUri`].
    pub fn uri(self, uri: impl Into<String>) -> Result<Self, ConfigError> {
        let uri = uri.into();
        uri::check(&uri)?;
        Ok(Self {
            uri: Some(uri),
            ..self
        })
    }

    /// Puts other types of events in the place of those that were subscribed.
    pub fn subscribed_events(self, events: impl IntoIterator<Item = EventType>) -> Self {
        Self {
            subscribed_events: Some(events.into_iter().collect()),
            ..self
        }
    }

    /// Enables or disables it, for instance again after it was
    /// [disabled](WebhookState::DisabledDueToFailedDeliveries) for failing.
    pub fn state(self, state: WebhookState) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    /// The members that are set, as `update_mask` names them.
    pub(super) fn mask(&self) -> Result<String, ConfigError> {
        let members = [
            ("name", self.name.is_some()),
            ("uri", self.uri.is_some()),
            ("subscribed_events", self.subscribed_events.is_some()),
            ("state", self.state.is_some()),
        ];
        let set = members.into_iter().filter(|(_, is_set)| *is_set);
        let set: Vec<&str> = set.map(|(name, _)| name).collect();
        if set.is_empty() {
            return Err(ConfigError::InvalidRequest {
                reason: "the update changes nothing",
            });
        }
        Ok(set.join(","))
    }
}

/// Whether a webhook gets deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WebhookState {
    /// It does.
    Enabled,
    /// It does not, since somebody said so.
    Disabled,
    /// It does not, since too many failed. What was lost meanwhile does not come again.
    DisabledDueToFailedDeliveries,
    /// A state that this crate does not know.
    Unknown(String),
}

impl WebhookState {
    /// The state's name, in lower case.
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

/// A project-level webhook, as the service knows it.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Webhook {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    #[serde(default)]
    pub name: Option<String>,
    /// Where its deliveries go.
    pub uri: String,
    /// The types of events that it hears of.
    #[serde(default, alias = "subscribedEvents")]
    pub subscribed_events: Vec<EventType>,
    /// Whether it gets deliveries.
    #[serde(default)]
    pub state: Option<WebhookState>,
    /// When it was created (UTC).
    #[serde(default, alias = "createTime", deserialize_with = "time")]
    pub create_time: Option<OffsetDateTime>,
    /// When it was last changed (UTC).
    #[serde(default, alias = "updateTime", deserialize_with = "time")]
    pub update_time: Option<OffsetDateTime>,
    /// The secrets that sign its deliveries: two, while a rotation is going on.
    #[serde(default, alias = "signingSecrets")]
    pub signing_secrets: Vec<SigningSecret>,
    /// Its signing secret, in the answer to its creation alone.
    #[serde(default, alias = "newSigningSecret")]
    pub new_signing_secret: Option<NewSigningSecret>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Webhook {
    /// Reads the answer to a creation, a look-up or an update.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        read(response)
    }
}

/// What can be known of a signing secret later on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SigningSecret {
    /// Its end, such as `whsec_...3frh`: enough to recognize it, and no secret.
    #[serde(default, alias = "truncatedSecret")]
    pub truncated_secret: String,
    /// When it is no longer used (UTC), after a rotation.
    #[serde(default, alias = "expireTime", deserialize_with = "time")]
    pub expire_time: Option<OffsetDateTime>,
}

/// A signing secret that is shown this once. It is wiped from memory when dropped, and no `Debug`
/// output shows it.
#[derive(Clone)]
pub struct NewSigningSecret(Zeroizing<String>);

impl NewSigningSecret {
    /// The secret (`whsec_...`), to be kept where secrets are kept.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret, for a verifier.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidSecret`].
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

/// A page of the list of webhooks.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct WebhookPage {
    /// The webhooks of this page.
    #[serde(default)]
    pub webhooks: Vec<Webhook>,
    /// What to ask for the next page with; `None` on the last one.
    #[serde(default, alias = "nextPageToken", deserialize_with = "not_empty")]
    pub next_page_token: Option<String>,
}

impl WebhookPage {
    /// Reads the answer to a request for a list.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        read(response)
    }
}

/// What a rotation gives.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct RotatedSecret {
    /// The new signing secret, which is shown this once.
    pub secret: NewSigningSecret,
}

impl RotatedSecret {
    /// Reads the answer to a rotation.
    ///
    /// # Errors
    ///
    /// [`ApiError`].
    pub fn from_response(response: &Response<impl AsRef<[u8]>>) -> Result<Self, ApiError> {
        read(response)
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let parse = |text: String| OffsetDateTime::parse(&text, &Rfc3339);
    text.map(parse)
        .transpose()
        .map_err(serde::de::Error::custom)
}

/// Google's services write an empty text where there is none.
fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn webhook(json: &str) -> Result<Webhook, ApiError> {
        Webhook::from_response(&Response::new(json))
    }

    #[test]
    fn a_webhook_is_read_in_either_spelling() {
        let snake = format!(
            r#"{{"id":"wh_1","name":"n","uri":"https://e.com","subscribed_events":["batch.failed","new.type"],
                "state":"enabled","create_time":"2026-05-04T00:00:00Z","update_time":"2026-05-05T00:00:00.5Z",
                "signing_secrets":[{{"truncated_secret":"whsec_...3frh","expire_time":"2026-05-06T00:00:00Z"}}],
                "new_signing_secret":"{SECRET}","etag":"x"}}"#
        );
        let mut camel = snake.clone();
        for (from, to) in [
            ("subscribed_events", "subscribedEvents"),
            ("create_time", "createTime"),
            ("update_time", "updateTime"),
            ("signing_secrets", "signingSecrets"),
            ("truncated_secret", "truncatedSecret"),
            ("expire_time", "expireTime"),
            ("new_signing_secret", "newSigningSecret"),
        ] {
            camel = camel.replace(from, to);
        }
        for json in [snake, camel] {
            let webhook = webhook(&json).unwrap();
            assert_eq!(webhook.id, "wh_1");
            assert_eq!(webhook.subscribed_events[0], EventType::BatchFailed);
            assert_eq!(webhook.subscribed_events[1].as_str(), "new.type");
            assert_eq!(webhook.state, Some(WebhookState::Enabled));
            assert_eq!(webhook.create_time.unwrap().unix_timestamp(), 1_777_852_800);
            assert!(webhook.signing_secrets[0].expire_time.is_some());
            assert_eq!(webhook.other["etag"], "x");
            let secret = webhook.new_signing_secret.clone().unwrap();
            assert_eq!(secret.expose(), SECRET);
            assert!(secret.parse().is_ok());
            assert!(!format!("{webhook:?}").contains("C2FV"));
        }
    }

    #[test]
    fn what_is_new_or_absent_is_no_error() {
        let webhook = webhook(r#"{"id":"a","uri":"u","state":"PAUSED_BY_MOON"}"#).unwrap();
        assert_eq!(webhook.state.unwrap().to_string(), "PAUSED_BY_MOON");
        assert_eq!(WebhookState::from("DISABLED"), WebhookState::Disabled);
        for json in [
            r#"{"uri":"u"}"#,
            "",
            r#"{"id":"a","uri":"u","create_time":"noon"}"#,
        ] {
            let error = super::tests::webhook(json).unwrap_err();
            assert!(matches!(error, ApiError::Unreadable { .. }), "{error}");
        }
    }

    #[test]
    fn pages_end() {
        for (json, count, token) in [
            ("{}", 0, None),
            (
                r#"{"webhooks":[{"id":"a","uri":"u"}],"next_page_token":""}"#,
                1,
                None,
            ),
            (r#"{"webhooks":[],"nextPageToken":"t"}"#, 0, Some("t")),
        ] {
            let page = WebhookPage::from_response(&Response::new(json)).unwrap();
            assert_eq!(
                (page.webhooks.len(), page.next_page_token.as_deref()),
                (count, token)
            );
        }
    }

    #[test]
    fn an_update_names_what_it_changes() {
        assert!(WebhookUpdate::default().mask().is_err());
        let update = WebhookUpdate::default()
            .name("n")
            .state(WebhookState::Enabled);
        assert_eq!(update.mask().unwrap(), "name,state");
        let json = serde_json::to_value(&update).unwrap();
        assert_eq!(json, serde_json::json!({"name": "n", "state": "enabled"}));
        assert!(update.clone().uri("http://example.com").is_err());
        let update = update
            .uri("https://example.com")
            .unwrap()
            .subscribed_events([]);
        assert_eq!(update.mask().unwrap(), "name,uri,subscribed_events,state");
    }
}
