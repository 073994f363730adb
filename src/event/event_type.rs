use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// The type of an event, as webhooks subscribe to it.
///
/// A name that this crate does not know is [`Unknown`](Self::Unknown), and no error: the service
/// adds types.
///
/// ```
/// use gemini_webhooks::EventType;
///
/// assert_eq!("video.generated".parse(), Ok(EventType::VideoGenerated));
/// assert_eq!(EventType::from("ping"), EventType::Unknown("ping".into()));
/// assert_eq!(EventType::BatchFailed.to_string(), "batch.failed");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventType {
    /// `batch.succeeded`
    BatchSucceeded,
    /// `batch.cancelled`
    BatchCancelled,
    /// `batch.expired`
    BatchExpired,
    /// `batch.failed`
    BatchFailed,
    /// `interaction.requires_action`
    InteractionRequiresAction,
    /// `interaction.completed`
    InteractionCompleted,
    /// `interaction.failed`
    InteractionFailed,
    /// `interaction.cancelled`
    InteractionCancelled,
    /// `video.generated`
    VideoGenerated,
    /// A type that this crate does not know, by its name.
    Unknown(String),
}

impl EventType {
    /// All the types that this crate knows.
    pub const KNOWN: [Self; 9] = [
        Self::BatchSucceeded,
        Self::BatchCancelled,
        Self::BatchExpired,
        Self::BatchFailed,
        Self::InteractionRequiresAction,
        Self::InteractionCompleted,
        Self::InteractionFailed,
        Self::InteractionCancelled,
        Self::VideoGenerated,
    ];

    /// The type's name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::BatchSucceeded => "batch.succeeded",
            Self::BatchCancelled => "batch.cancelled",
            Self::BatchExpired => "batch.expired",
            Self::BatchFailed => "batch.failed",
            Self::InteractionRequiresAction => "interaction.requires_action",
            Self::InteractionCompleted => "interaction.completed",
            Self::InteractionFailed => "interaction.failed",
            Self::InteractionCancelled => "interaction.cancelled",
            Self::VideoGenerated => "video.generated",
            Self::Unknown(name) => name,
        }
    }
}

impl From<&str> for EventType {
    fn from(name: &str) -> Self {
        match name {
            "batch.succeeded" => Self::BatchSucceeded,
            "batch.cancelled" => Self::BatchCancelled,
            "batch.expired" => Self::BatchExpired,
            "batch.failed" => Self::BatchFailed,
            "interaction.requires_action" => Self::InteractionRequiresAction,
            "interaction.completed" => Self::InteractionCompleted,
            "interaction.failed" => Self::InteractionFailed,
            "interaction.cancelled" => Self::InteractionCancelled,
            "video.generated" => Self::VideoGenerated,
            _ => Self::Unknown(name.to_owned()),
        }
    }
}

impl FromStr for EventType {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(name.into())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_type_is_found_by_its_name() {
        for known in EventType::KNOWN {
            assert!(!matches!(known, EventType::Unknown(_)));
            assert_eq!(EventType::from(known.as_str()), known);
            let json = serde_json::to_string(&known).unwrap();
            assert_eq!(serde_json::from_str::<EventType>(&json).unwrap(), known);
        }
        assert_eq!(EventType::from("batch"), EventType::Unknown("batch".into()));
    }
}
