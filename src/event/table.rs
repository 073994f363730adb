//! The table of event types. Everything that depends on a type follows from its row: the variants
//! of [`EventType`] and [`EventData`], the struct of its data, how that is parsed, and the sample.

use std::{fmt, mem};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    ErrorCode,
    form::{self, DataForm, Member, Object},
    member::{Id, read, stand_in},
};
use crate::{json::Strict, redacted::Redacted};

/// The values of the members that a type documents, in the order of its row.
pub(super) type Values = [Option<Strict>; MOST_MEMBERS];

/// The part of a row that the parser uses.
pub(super) struct Row {
    /// The type's name.
    pub(super) name: &'static str,
    /// The names of the members that its data documents, besides `id`.
    pub(super) members: &'static [&'static str],
    pub(super) build: Build,
}

/// Builds the data from its `id`, the values of the documented members and the other members.
type Build = fn(Id, &mut Values, &mut Map<String, Value>) -> EventData;

impl Row {
    /// Finds the row of a type.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }
}

impl EventData {
    /// Returns the members that this crate does not know, if `data` is an object.
    #[cfg(feature = "_per-request")]
    pub(crate) fn other(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Unknown { data, .. } => data.as_object(),
            data => data.typed().map(Object::other),
        }
    }
}

impl Serialize for EventData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self, self.typed()) {
            (Self::Unknown { data, .. }, _) => data.serialize(serializer),
            (_, Some(data)) => form::serialize(data, serializer),
            (_, None) => serializer.serialize_unit(),
        }
    }
}

/// The length of the longest list.
const fn longest(mut lists: &[&[&str]]) -> usize {
    let mut longest = 0;
    while let [list, rest @ ..] = lists {
        if list.len() > longest {
            longest = list.len();
        }
        lists = rest;
    }
    longest
}

/// Returns the value of a row that has the mark.
macro_rules! only_if {
    (subscribable, $value:expr) => {
        $value
    };
}

/// Generates everything from rows of this form, where the values are those of the sample:
///
/// ```text
/// /// The meaning of the type.
/// "the.name" => TheName: subscribable {
///     /// The resource that `id` names.
///     id = "id_123456",
///     /// An optional member. Where it has no value, the member `another` stands in for it.
///     member or another: String = "value",
/// }
/// ```
macro_rules! event_types {
    ($(
        $(#[$about:meta])+
        $name:literal => $Type:ident $(: $subscribable:ident)? {
            $(#[$about_id:meta])+
            id = $id:literal,
            $(
                $(#[$about_member:meta])+
                $member:ident $(or $stand_in:ident)?: $kind:ty = $value:literal,
            )*
        }
    )+) => {
        /// The type of an event.
        ///
        /// The variants, their names and [`KNOWN`](Self::KNOWN) come from the table of types that
        /// this crate knows, and so do [`EventData`] and the samples of the feature `testing`. Any
        /// other name is [`Unknown`](Self::Unknown) and no error: the service adds types.
        ///
        /// The service documents nine types. A webhook can subscribe to seven of them
        /// ([`SUBSCRIBABLE`](Self::SUBSCRIBABLE)).
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
            $(
                #[doc = concat!("`", $name, "`")]
                ///
                $(#[$about])+
                $Type,
            )+
            /// A type that this crate does not know, by its name.
            Unknown(String),
        }

        impl EventType {
            /// All types that this crate knows.
            pub const KNOWN: &'static [Self] = &[$(Self::$Type),+];

            /// The types that a project-level webhook can subscribe to: the seven that the service
            /// accepts. It refuses `batch.cancelled` and `interaction.cancelled`.
            pub const SUBSCRIBABLE: &'static [Self] =
                &[$($(only_if!($subscribable, Self::$Type),)?)+];

            /// Returns the type's name in JSON, such as `batch.succeeded`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$Type => $name,)+
                    Self::Unknown(name) => name,
                }
            }

            /// Returns the `id` of the type's sample, and its other members as JSON, with a comma in
            /// front of each.
            #[cfg(feature = "testing")]
            pub(crate) fn sample_data(&self) -> (&'static str, &'static str) {
                match self {
                    $(
                        Self::$Type => (
                            $id,
                            concat!($(r#",""#, stringify!($member), r#"":""#, $value, r#"""#,)*),
                        ),
                    )+
                    Self::Unknown(_) => ("123456", ""),
                }
            }
        }

        impl From<&str> for EventType {
            fn from(name: &str) -> Self {
                match name {
                    $($name => Self::$Type,)+
                    _ => Self::Unknown(name.to_owned()),
                }
            }
        }

        /// An event's `data`, by its `type`.
        ///
        /// `Debug` leaves out job tokens, and passwords and queries of addresses.
        #[derive(Clone, PartialEq)]
        #[non_exhaustive]
        pub enum EventData {
            $(
                #[doc = concat!("`", $name, "`")]
                ///
                $(#[$about])+
                $Type($Type),
            )+
            /// The data of a type that this crate does not know. Acknowledge it: the service adds
            /// types, and the ping of a webhook arrives as one.
            ///
            /// So is the data of a known type that has no usable `id`, which is a text that is not
            /// empty, or an integer. Without one there is nothing to ask the service about.
            #[non_exhaustive]
            Unknown {
                /// The event's `type`.
                event_type: String,
                /// The event's whole `data`; [`Value::Null`] if there is none.
                data: Value,
            },
        }

        impl EventData {
            /// Returns the event's type, which is a known one also where the data has no usable
            /// `id`.
            #[must_use]
            pub fn event_type(&self) -> EventType {
                match self {
                    $(Self::$Type(_) => EventType::$Type,)+
                    Self::Unknown { event_type, .. } => event_type.as_str().into(),
                }
            }

            /// Returns the type's name.
            pub(super) fn type_name(&self) -> &str {
                match self {
                    $(Self::$Type(_) => $name,)+
                    Self::Unknown { event_type, .. } => event_type,
                }
            }

            /// Returns the data of a known type.
            pub(super) fn typed(&self) -> Option<&dyn Object> {
                match self {
                    $(Self::$Type(data) => Some(data),)+
                    Self::Unknown { .. } => None,
                }
            }

            /// Returns the name of the resource that the event is about: the job, in the known
            /// types. `None` if the data has no `id` that is a text and not empty.
            #[must_use]
            pub fn id(&self) -> Option<&str> {
                match self {
                    $(Self::$Type(data) => Some(&data.id),)+
                    Self::Unknown { data, .. } => {
                        data.get("id")?.as_str().filter(|id| !id.is_empty())
                    }
                }
            }
        }

        impl fmt::Debug for EventData {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$Type(data) => {
                        f.debug_tuple(stringify!($Type)).field(data).finish()
                    })+
                    Self::Unknown { event_type, data } => f
                        .debug_struct("Unknown")
                        .field("event_type", &Redacted(event_type))
                        .field("data", &Redacted(data))
                        .finish(),
                }
            }
        }

        $(
            #[doc = concat!("The data of `", $name, "`.")]
            ///
            $(#[$about])+
            #[derive(Clone, PartialEq)]
            #[non_exhaustive]
            pub struct $Type {
                $(#[$about_id])+
                pub id: String,
                $(
                    $(#[$about_member])+
                    pub $member: Option<$kind>,
                )*
                /// Members that this crate does not know, and those whose value is `null` or of
                /// another kind than documented.
                pub other: Map<String, Value>,
                form: DataForm,
            }

            impl Object for $Type {
                fn names(&self) -> &'static [&'static str] {
                    &[
                        "id",
                        $(stringify!($member), $(stringify!($stand_in),)?)*
                        "user_metadata",
                        "userMetadata",
                    ]
                }

                fn known(&self, name: &str) -> Option<Member<'_>> {
                    if name == "id" {
                        return Some(self.form.id(&self.id));
                    }
                    $(
                        let stand_in: &[&str] = &[$(stringify!($stand_in))?];
                        if name == self.form.name(stringify!($member), stand_in) {
                            return self.$member.as_ref().map(Into::into);
                        }
                    )*
                    None
                }

                fn other(&self) -> &Map<String, Value> {
                    &self.other
                }
            }

            impl Serialize for $Type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    form::serialize(self, serializer)
                }
            }

            impl fmt::Debug for $Type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($Type))
                        .field("id", &Redacted(&self.id))
                        $(.field(stringify!($member), &self.$member.as_ref().map(Redacted)))*
                        .field("other", &Redacted(&self.other))
                        .finish_non_exhaustive()
                }
            }
        )+

        const MOST_MEMBERS: usize = longest(&[
            $(&[$(stringify!($member), $(stringify!($stand_in),)?)*]),+
        ]);

        static ROWS: &[Row] = &[$(
            Row {
                name: $name,
                members: &[$(stringify!($member), $(stringify!($stand_in),)?)*],
                build: |Id { text: id, is_number }, values, other| {
                    #[allow(unused_mut, reason = "most types have no stand-in")]
                    let mut form = DataForm { id_is_number: is_number, stood_in: false };
                    let [$($member, $($stand_in,)?)* ..] = values;
                    $(
                        #[allow(unused_mut, reason = "most members have no stand-in")]
                        let mut $member = read(stringify!($member), $member, other);
                        $(
                            let name = stringify!($stand_in);
                            form.stood_in = stand_in(&mut $member, name, $stand_in, other);
                        )?
                    )*
                    EventData::$Type($Type { id, $($member,)* other: mem::take(other), form })
                },
            },
        )+];
    };
}

event_types! {
    /// A batch job ended and has results.
    "batch.succeeded" => BatchSucceeded: subscribable {
        /// The name of the batch job.
        id = "batch_123456",
        /// The URI of the results; absent for a batch whose requests were given inline.
        output_file_uri: String = "gs://my-bucket/results.jsonl",
    }
    /// A batch job was cancelled by its user. A webhook cannot subscribe to this type.
    "batch.cancelled" => BatchCancelled {
        /// The name of the batch job.
        id = "batch_123456",
    }
    /// A batch job was not finished in time.
    "batch.expired" => BatchExpired: subscribable {
        /// The name of the batch job.
        id = "batch_123456",
    }
    /// A batch job failed as a whole.
    "batch.failed" => BatchFailed: subscribable {
        /// The name of the batch job.
        id = "batch_123456",
        /// The kind of the failure.
        error_code: ErrorCode = "INVALID_ARGUMENT",
        /// A description of the failure, for people.
        error_message: String = "row 7: bad request",
    }
    /// An interaction waits for its user, who has to answer a function call.
    "interaction.requires_action" => InteractionRequiresAction: subscribable {
        /// The id of the interaction. It may contain full stops, also at its end.
        id = "interaction_123456",
    }
    /// An interaction ended and has an output, which may be a video.
    "interaction.completed" => InteractionCompleted: subscribable {
        /// The id of the interaction. It may contain full stops, also at its end.
        id = "interaction_123456",
    }
    /// An interaction failed.
    "interaction.failed" => InteractionFailed: subscribable {
        /// The id of the interaction. It may contain full stops, also at its end.
        id = "interaction_123456",
        /// The kind of the failure.
        error_code: ErrorCode = "INTERNAL",
        /// A description of the failure, for people.
        error_message: String = "the agent stopped",
    }
    /// An interaction was cancelled by its user. A webhook cannot subscribe to this type.
    "interaction.cancelled" => InteractionCancelled {
        /// The id of the interaction. It may contain full stops, also at its end.
        id = "interaction_123456",
    }
    /// A video is ready.
    ///
    /// Veo sent this type until it left the Gemini API in October 2026. Since then videos are
    /// interactions, which end with `interaction.completed`; whether any of them still sends
    /// `video.generated` is not documented.
    "video.generated" => VideoGenerated: subscribable {
        /// The name of the operation.
        id = "operation_123456",
        /// The URI of the video. If it is absent, this is the value of `video_uri`, the member that
        /// Google's own sample reads.
        output_file_uri or video_uri: String = "gs://my-bucket/video.mp4",
        /// The name of the video in the Files API.
        file_name: String = "files/video_123456",
    }
}
