use std::{fmt, str::FromStr};

use super::{api::segment, request_error::RequestError};
use crate::{
    Event, EventData,
    event::{OutputUri, VideoGenerated},
    redacted::Redacted,
};

/// A resource of Google's API that can be asked about or downloaded: an interaction, a batch or a
/// file.
///
/// Its text is the resource's name: `interactions/{id}`, `batches/{id}` or `files/{id}`. An id is kept
/// as it is, whatever characters it has, and percent-encoded in requests, so that an id from an
/// untrusted source can't change their path. Ids of interactions have full stops, also at their end.
/// An id of full stops alone is refused, because HTTP clients resolve it (RFC 3986, section 5.2.4).
///
/// [`Event::resource`] leads from an event to its resource.
///
/// ```
/// use gemini_webhooks::configure::Resource;
///
/// let batch: Resource = "batches/123456".parse()?;
/// assert_eq!(batch, Resource::batch("123456")?);
/// assert_eq!(batch.id(), "123456");
/// assert_eq!(batch.to_string(), "batches/123456");
/// # Ok::<(), gemini_webhooks::configure::RequestError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    collection: Collection,
    id: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Collection {
    Interactions,
    Batches,
    Files,
}

impl Collection {
    const ALL: [Self; 3] = [Self::Interactions, Self::Batches, Self::Files];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Interactions => "interactions",
            Self::Batches => "batches",
            Self::Files => "files",
        }
    }

    /// Returns the id in the name of a resource of this collection.
    fn id_in(self, name: &str) -> Option<&str> {
        name.strip_prefix(self.as_str())?.strip_prefix('/')
    }

    fn resource(self, id: &str) -> Result<Resource, RequestError> {
        let id = self.id_in(id).unwrap_or(id);
        segment(id)?;
        Ok(Resource {
            collection: self,
            id: id.to_owned(),
        })
    }
}

impl Resource {
    /// Names an interaction by its id, or by its name `interactions/{id}`.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the id is empty or has only full stops, percent-encoded or
    /// not.
    pub fn interaction(id: &str) -> Result<Self, RequestError> {
        Collection::Interactions.resource(id)
    }

    /// Names a batch by its id, or by its name `batches/{id}`.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] as for [`interaction`](Self::interaction).
    pub fn batch(id: &str) -> Result<Self, RequestError> {
        Collection::Batches.resource(id)
    }

    /// Names a file by its id, or by its name `files/{id}`.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] as for [`interaction`](Self::interaction).
    pub fn file(id: &str) -> Result<Self, RequestError> {
        Collection::Files.resource(id)
    }

    /// Parses a name: `interactions/{id}`, `batches/{id}` or `files/{id}`.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the name has another form, or its id is empty or has only
    /// full stops.
    pub fn parse(name: &str) -> Result<Self, RequestError> {
        let mut collections = Collection::ALL.into_iter();
        let found = collections.find_map(|collection| Some((collection, collection.id_in(name)?)));
        let (collection, id) = found.ok_or(RequestError::InvalidRequest {
            reason: "expected a name `interactions/{id}`, `batches/{id}` or `files/{id}`",
        })?;
        segment(id)?;
        Ok(Self {
            collection,
            id: id.to_owned(),
        })
    }

    /// Returns the id: the name without its collection.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn collection(&self) -> Collection {
        self.collection
    }

    /// Returns the end of a path, after the version.
    pub(super) fn path(&self) -> Result<String, RequestError> {
        let (collection, id) = (self.collection.as_str(), segment(&self.id)?);
        Ok(format!("/{collection}/{id}"))
    }
}

impl FromStr for Resource {
    type Err = RequestError;

    fn from_str(name: &str) -> Result<Self, RequestError> {
        Self::parse(name)
    }
}

/// Writes the name, as [`parse`](Resource::parse) reads it. The id is not encoded.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection.as_str(), self.id)
    }
}

/// Leaves out secrets in the id, which may be anybody's text.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_string();
        f.debug_tuple("Resource").field(&Redacted(&name)).finish()
    }
}

impl Event {
    /// Returns the resource to ask about the event's job.
    ///
    /// | event type | resource |
    /// |---|---|
    /// | `batch.` and anything | the batch that the event's `id` names |
    /// | `interaction.` and anything | the interaction that the event's `id` names |
    /// | `video.generated` | the file of the video: its `file_name`, or else its `output_file_uri`, if that is `files/{id}` |
    ///
    /// `None` for other types, without a usable `id`, and for a video that names no file: no source was
    /// found that tells how to ask about the operation that the `id` of `video.generated` names.
    ///
    /// **No source states how the `id` of an event relates to the name of its resource.** Google's
    /// guide shows `batch_123456`, and its API names batches `batches/{id}`. So a text that begins
    /// with `batches/` is read as the name, and any other as the id in it. If the service answers that
    /// there is no such batch, use the name from the answer that created the batch.
    ///
    /// ```
    /// use gemini_webhooks::Event;
    ///
    /// let event: Event = serde_json::from_str(
    ///     r#"{"type":"batch.succeeded","data":{"id":"batch_123456"}}"#,
    /// )?;
    /// assert_eq!(event.resource().unwrap().to_string(), "batches/batch_123456");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn resource(&self) -> Option<Resource> {
        if let EventData::VideoGenerated(video) = &self.data {
            return video_file(video);
        }
        let event_type = self.event_type();
        let collection = match event_type.as_str().split_once('.')? {
            ("batch", _) => Collection::Batches,
            ("interaction", _) => Collection::Interactions,
            _ => return None,
        };
        collection.resource(self.data.id()?).ok()
    }
}

fn video_file(video: &VideoGenerated) -> Option<Resource> {
    let texts = [&video.file_name, &video.output_file_uri];
    let mut files = texts.into_iter().flatten().filter_map(|text| {
        // Narrower than a name: a title such as `files/my video.mp4` is none.
        match OutputUri::parse(text) {
            Ok(OutputUri::File(name)) => Resource::parse(&name).ok(),
            _ => None,
        }
    });
    files.next()
}

#[cfg(test)]
mod tests;
