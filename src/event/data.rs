use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Number, Value};

use super::EventType;

/// What happened: the event's `data`, by its `type`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventData {
    /// `batch.succeeded`: a batch job ended and has results.
    BatchSucceeded(BatchSucceeded),
    /// `batch.cancelled`: a batch job was cancelled by its user.
    BatchCancelled(BatchCancelled),
    /// `batch.expired`: a batch job was not finished in time.
    BatchExpired(BatchExpired),
    /// `batch.failed`: a batch job failed as a whole.
    BatchFailed(BatchFailed),
    /// `interaction.requires_action`: an interaction waits for its user, who has to answer a
    /// function call.
    InteractionRequiresAction(InteractionRequiresAction),
    /// `interaction.completed`: an interaction ended and has an output.
    InteractionCompleted(InteractionCompleted),
    /// `interaction.failed`: an interaction failed.
    InteractionFailed(InteractionFailed),
    /// `interaction.cancelled`: an interaction was cancelled by its user.
    InteractionCancelled(InteractionCancelled),
    /// `video.generated`: a video is ready.
    VideoGenerated(VideoGenerated),
    /// A type that this crate does not know: acknowledge it, since the service adds types. A
    /// webhook's ping arrives as one.
    Unknown {
        /// The event's `type`.
        event_type: String,
        /// The event's `data`, whole; [`Value::Null`] if there is none.
        data: Value,
    },
}

impl EventData {
    /// The event's type.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Self::BatchSucceeded(_) => EventType::BatchSucceeded,
            Self::BatchCancelled(_) => EventType::BatchCancelled,
            Self::BatchExpired(_) => EventType::BatchExpired,
            Self::BatchFailed(_) => EventType::BatchFailed,
            Self::InteractionRequiresAction(_) => EventType::InteractionRequiresAction,
            Self::InteractionCompleted(_) => EventType::InteractionCompleted,
            Self::InteractionFailed(_) => EventType::InteractionFailed,
            Self::InteractionCancelled(_) => EventType::InteractionCancelled,
            Self::VideoGenerated(_) => EventType::VideoGenerated,
            Self::Unknown { event_type, .. } => EventType::Unknown(event_type.clone()),
        }
    }
}

impl Serialize for EventData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::BatchSucceeded(data) => data.serialize(serializer),
            Self::BatchCancelled(data) => data.serialize(serializer),
            Self::BatchExpired(data) => data.serialize(serializer),
            Self::BatchFailed(data) => data.serialize(serializer),
            Self::InteractionRequiresAction(data) => data.serialize(serializer),
            Self::InteractionCompleted(data) => data.serialize(serializer),
            Self::InteractionFailed(data) => data.serialize(serializer),
            Self::InteractionCancelled(data) => data.serialize(serializer),
            Self::VideoGenerated(data) => data.serialize(serializer),
            Self::Unknown { data, .. } => data.serialize(serializer),
        }
    }
}

/// The data of `batch.succeeded`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchSucceeded {
    /// The batch job's name.
    pub id: String,
    /// Where the results lie; absent for a batch whose requests were given inline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_file_uri: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `batch.cancelled`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchCancelled {
    /// The batch job's name.
    pub id: String,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `batch.expired`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchExpired {
    /// The batch job's name.
    pub id: String,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `batch.failed`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchFailed {
    /// The batch job's name.
    pub id: String,
    /// What kind of failure it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// What went wrong, for people to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `interaction.requires_action`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InteractionRequiresAction {
    /// The interaction's id.
    pub id: String,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `interaction.completed`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InteractionCompleted {
    /// The interaction's id.
    pub id: String,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `interaction.failed`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InteractionFailed {
    /// The interaction's id.
    pub id: String,
    /// What kind of failure it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// What went wrong, for people to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `interaction.cancelled`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InteractionCancelled {
    /// The interaction's id.
    pub id: String,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The data of `video.generated`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VideoGenerated {
    /// The operation's name.
    pub id: String,
    /// Where the video lies. The member `video_uri`, which Google's own sample reads, is taken
    /// for it where `output_file_uri` is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_file_uri: Option<String>,
    /// The video's name in the Files API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What kind of failure it was. The service does not say whether this is a name or a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A name, such as `INVALID_ARGUMENT`.
    Name(String),
    /// A number, such as 13.
    Number(Number),
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
}
