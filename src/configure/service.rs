use http::{Method, Request};
use serde_json::{Value, json};

use super::{
    api::{Api, ApiVersion, encode, segment},
    new_webhook::{NewWebhook, WebhookUpdate},
    request_error::RequestError,
    webhook::without_collection,
};

/// The path of a rotation. Google's sources name two, of which the service is known to answer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RotatePath {
    /// The path in the SDKs, which users report to work: `/webhooks/{id}:rotateSigningSecret`, with
    /// the revocation behaviour in lower case.
    #[default]
    Sdk,
    /// The path in the guide, which nobody is known to have used: `/webhooks/{id}/rotate_secret`,
    /// with the revocation behaviour in upper case.
    Guide,
}

/// The time at which a rotation ends the previous secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// They keep signing beside the new secret for 24 hours, so that the receiver can be configured
    /// with it in the meantime.
    AfterH24,
    /// They end at once. Use this for a secret that has leaked. Deliveries under way are refused,
    /// and retried with a signature under the new secret.
    Immediately,
}

impl Revocation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AfterH24 => "revoke_previous_secrets_after_h24",
            Self::Immediately => "revoke_previous_secrets_immediately",
        }
    }
}

/// Builds the requests to `WebhookService`, Google's API for project-level webhooks.
///
/// The API key is sent in the header `x-goog-api-key`, never in a URI, and `Debug` does not show
/// it.
///
/// Each `id` may be bare or a resource name: `webhooks/abc` is the webhook `abc`. Ids are
/// percent-encoded, so that an id from an untrusted source can't change the path. An id of full stops
/// alone is refused, percent-encoded or not: HTTP clients resolve it, which leads to another path
/// (RFC 3986, section 5.2.4).
#[derive(Clone)]
#[must_use]
pub struct WebhookService {
    api: Api,
    rotate_path: RotatePath,
    update_mask: bool,
}

impl WebhookService {
    /// The base address of Google's API.
    pub const GOOGLE: &str = Api::GOOGLE;

    /// Builds requests with this API key, to [`GOOGLE`](Self::GOOGLE).
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the key is empty, or has characters other than visible
    /// ASCII.
    pub fn new(api_key: &str) -> Result<Self, RequestError> {
        Ok(Self {
            api: Api::new(api_key)?,
            rotate_path: RotatePath::default(),
            update_mask: false,
        })
    }

    /// Sends the requests to another server, such as a proxy or the server of a test: HTTPS, or
    /// HTTP on the loopback interface. A path in the address becomes the prefix of each request's
    /// path.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidUri`] as for [`NewWebhook::new`], and if the address has a query.
    pub fn base_url(self, base: &str) -> Result<Self, RequestError> {
        let api = self.api.base_url(base)?;
        Ok(Self { api, ..self })
    }

    /// Sets the version of the API. The default is `v1`.
    pub fn version(self, version: ApiVersion) -> Self {
        let api = self.api.version(version);
        Self { api, ..self }
    }

    /// Sets the path of rotations. The default is the path in the SDKs.
    pub fn rotate_path(self, rotate_path: RotatePath) -> Self {
        Self {
            rotate_path,
            ..self
        }
    }

    /// Sends `update_mask` with an update. By default, none is sent: the service is reported to
    /// ignore it, and to change the members that the body has.
    pub fn with_update_mask(self) -> Self {
        Self {
            update_mask: true,
            ..self
        }
    }

    /// Builds the request that creates a webhook.
    ///
    /// [`Webhook::from_response`](super::Webhook::from_response) reads the answer, the only one
    /// that has the signing secret.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the webhook subscribes to no event type.
    pub fn create(&self, webhook: &NewWebhook) -> Result<Request<Vec<u8>>, RequestError> {
        self.request(Method::POST, "", Some(to_json(webhook.validate()?)?))
    }

    /// Builds the request that returns a webhook.
    ///
    /// [`Webhook::from_response`](super::Webhook::from_response) reads the answer.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the id is empty, has only full stops or makes the URI
    /// too long.
    pub fn get(&self, id: &str) -> Result<Request<Vec<u8>>, RequestError> {
        self.request(Method::GET, &at(id)?, None)
    }

    /// Builds the request that lists webhooks, one page at a time.
    ///
    /// A page has at most `page_size` webhooks. `page_token` is the
    /// [`next_page_token`](super::WebhookPage::next_page_token) of the previous page.
    /// [`WebhookPage::from_response`](super::WebhookPage::from_response) reads the answer.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the token makes the URI too long.
    pub fn list(
        &self,
        page_size: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<Request<Vec<u8>>, RequestError> {
        let size = page_size.map(|size| format!("page_size={size}"));
        let token = page_token.map(|token| format!("page_token={}", encode(token)));
        let query: Vec<String> = size.into_iter().chain(token).collect();
        let query = match query.join("&") {
            empty if empty.is_empty() => empty,
            query => format!("?{query}"),
        };
        self.request(Method::GET, &query, None)
    }

    /// Builds the request that changes a webhook.
    ///
    /// [`Webhook::from_response`](super::Webhook::from_response) reads the answer.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the id is empty, has only full stops or makes the URI
    /// too long, or if the update changes nothing.
    pub fn update(
        &self,
        id: &str,
        update: &WebhookUpdate,
    ) -> Result<Request<Vec<u8>>, RequestError> {
        let body = to_json(update.validate()?)?;
        let mut path = at(id)?;
        if self.update_mask {
            path.push_str("?update_mask=");
            path.push_str(&update.members().join(","));
        }
        self.request(Method::PATCH, &path, Some(body))
    }

    /// Builds the request that deletes a webhook.
    ///
    /// [`acknowledged`](super::acknowledged) reads the answer.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the id is empty, has only full stops or makes the URI
    /// too long.
    pub fn delete(&self, id: &str) -> Result<Request<Vec<u8>>, RequestError> {
        self.request(Method::DELETE, &at(id)?, None)
    }

    /// Builds the request that makes the service send a test delivery, of an undocumented type, to
    /// a webhook.
    ///
    /// [`acknowledged`](super::acknowledged) reads the answer. A success proves nothing: the service
    /// answers `{}` even if the webhook's address can't be reached. Look for the delivery at the
    /// receiver.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the id is empty, has only full stops or makes the URI
    /// too long.
    pub fn ping(&self, id: &str) -> Result<Request<Vec<u8>>, RequestError> {
        self.request(Method::POST, &format!("{}:ping", at(id)?), Some(json!({})))
    }

    /// Builds the request that replaces a webhook's signing secret.
    ///
    /// [`RotatedSecret::from_response`](super::RotatedSecret::from_response) reads the answer, the
    /// only one that has the new secret.
    ///
    /// # Errors
    ///
    /// [`RequestError::InvalidRequest`] if the id is empty, has only full stops or makes the URI
    /// too long.
    pub fn rotate(
        &self,
        id: &str,
        revocation: Revocation,
    ) -> Result<Request<Vec<u8>>, RequestError> {
        let id = at(id)?;
        let behavior = revocation.as_str();
        let (path, behavior) = match self.rotate_path {
            RotatePath::Sdk => (format!("{id}:rotateSigningSecret"), behavior.to_owned()),
            RotatePath::Guide => (format!("{id}/rotate_secret"), behavior.to_ascii_uppercase()),
        };
        let body = json!({"revocation_behavior": behavior});
        self.request(Method::POST, &path, Some(body))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Request<Vec<u8>>, RequestError> {
        self.api.request(method, &format!("/webhooks{path}"), body)
    }
}

/// Omits the API key.
impl std::fmt::Debug for WebhookService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.api.fmt("WebhookService", f)
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, RequestError> {
    serde_json::to_value(value).map_err(|_| RequestError::InvalidRequest {
        reason: "a value can't be written as JSON",
    })
}

/// Encodes an id, or the id in a resource name, as the end of a path.
fn at(id: &str) -> Result<String, RequestError> {
    Ok(format!("/{}", segment(without_collection(id))?))
}

#[cfg(test)]
mod tests;
