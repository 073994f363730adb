use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
