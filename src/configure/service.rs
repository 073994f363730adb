use std::fmt::Write as _;

use http::{
    HeaderValue, Method, Request,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Value, json};

use super::{
    uri,
    webhook::{NewWebhook, WebhookUpdate},
};
use crate::error::ConfigError;

/// The version of the API, as its addresses begin with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ApiVersion {
    /// `v1`.
    V1,
    /// `v1beta`, which the SDKs use.
    #[default]
    V1Beta,
}

/// The address of a rotation, of which Google's sources name two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RotatePath {
    /// `/webhooks/{id}:rotateSigningSecret`, with the behaviour in lower case: the SDKs'.
    #[default]
    Sdk,
    /// `/webhooks/{id}/rotate_secret`, with the behaviour in upper case: the guide's.
    Guide,
}

/// What becomes of the previous secrets at a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// They sign beside the new one for another 24 hours, in which the receiver gets to know it.
    AfterH24,
    /// They end at once: for a secret that has leaked. What is on its way is refused, and sent again
    /// with the new secret.
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

/// Makes the requests to `WebhookService`, the API of project-level webhooks.
///
/// The API key stands in the header `x-goog-api-key`, never in an address, and is not shown by
/// `Debug`. Ids are encoded, so that one that comes from elsewhere can't name another address.
#[derive(Clone)]
#[must_use]
pub struct WebhookService {
    base: String,
    version: ApiVersion,
    rotate_path: RotatePath,
    api_key: HeaderValue,
}

impl WebhookService {
    /// Where Google's API is.
    pub const GOOGLE: &str = "https://generativelanguage.googleapis.com";

    /// Makes requests with this API key.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where it is empty, or can't stand in a header.
    pub fn new(api_key: &str) -> Result<Self, ConfigError> {
        let unusable = ConfigError::InvalidRequest {
            reason: "the API key is empty, or has white space or characters that are not ASCII",
        };
        if api_key.is_empty() || !api_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable);
        }
        let mut api_key = HeaderValue::from_str(api_key).map_err(|_| unusable)?;
        api_key.set_sensitive(true);
        Ok(Self {
            base: Self::GOOGLE.to_owned(),
            version: ApiVersion::default(),
            rotate_path: RotatePath::default(),
            api_key,
        })
    }

    /// Asks another server, such as a proxy or a test's: HTTPS, or HTTP on the loopback interface. A
    /// path is kept in front.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidUri`].
    pub fn base_url(self, base: &str) -> Result<Self, ConfigError> {
        if uri::check(base)?.query().is_some() {
            return Err(ConfigError::InvalidUri {
                reason: "it has a query, and paths are appended to it".to_owned(),
            });
        }
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            ..self
        })
    }

    /// Sets the version of the API. The default is `v1beta`.
    pub fn version(self, version: ApiVersion) -> Self {
        Self { version, ..self }
    }

    /// Sets the address of rotations. The default is the SDKs'.
    pub fn rotate_path(self, rotate_path: RotatePath) -> Self {
        Self {
            rotate_path,
            ..self
        }
    }

    /// Creates a webhook. [`Webhook::from_response`](super::Webhook::from_response) reads the answer,
    /// which has the signing secret this once.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where it subscribes to nothing.
    pub fn create(&self, webhook: &NewWebhook) -> Result<Request<Vec<u8>>, ConfigError> {
        self.request(Method::POST, "", Some(to_json(webhook.check()?)?))
    }

    /// Looks a webhook up. [`Webhook::from_response`](super::Webhook::from_response) reads the answer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where the id is empty.
    pub fn get(&self, id: &str) -> Result<Request<Vec<u8>>, ConfigError> {
        self.request(Method::GET, &segment(id)?, None)
    }

    /// Lists webhooks, a page at a time: at most `page_size`, and from where `page_token` says, which
    /// the page before brought. [`WebhookPage::from_response`](super::WebhookPage::from_response)
    /// reads the answer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where the request can't be made of it.
    pub fn list(
        &self,
        page_size: Option<u32>,
        page_token: Option<&str>,
    ) -> Result<Request<Vec<u8>>, ConfigError> {
        let size = page_size.map(|size| format!("page_size={size}"));
        let token = page_token.map(|token| format!("page_token={}", encode(token)));
        let query: Vec<String> = size.into_iter().chain(token).collect();
        let query = match query.join("&") {
            empty if empty.is_empty() => empty,
            query => format!("?{query}"),
        };
        self.request(Method::GET, &query, None)
    }

    /// Changes a webhook. [`Webhook::from_response`](super::Webhook::from_response) reads the answer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where the id is empty, or nothing changes.
    pub fn update(
        &self,
        id: &str,
        update: &WebhookUpdate,
    ) -> Result<Request<Vec<u8>>, ConfigError> {
        let path = format!("{}?update_mask={}", segment(id)?, update.mask()?);
        self.request(Method::PATCH, &path, Some(to_json(update)?))
    }

    /// Deletes a webhook. [`acknowledged`](super::acknowledged) reads the answer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where the id is empty.
    pub fn delete(&self, id: &str) -> Result<Request<Vec<u8>>, ConfigError> {
        self.request(Method::DELETE, &segment(id)?, None)
    }

    /// Has a webhook send a delivery, of a type that is not documented, to see whether it arrives.
    /// [`acknowledged`](super::acknowledged) reads the answer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where the id is empty.
    pub fn ping(&self, id: &str) -> Result<Request<Vec<u8>>, ConfigError> {
        self.request(
            Method::POST,
            &format!("{}:ping", segment(id)?),
            Some(json!({})),
        )
    }

    /// Gives a webhook another signing secret.
    /// [`RotatedSecret::from_response`](super::RotatedSecret::from_response) reads the answer, which
    /// has it this once.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidRequest`] where the id is empty.
    pub fn rotate(
        &self,
        id: &str,
        revocation: Revocation,
    ) -> Result<Request<Vec<u8>>, ConfigError> {
        let id = segment(id)?;
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
    ) -> Result<Request<Vec<u8>>, ConfigError> {
        let version = match self.version {
            ApiVersion::V1 => "v1",
            ApiVersion::V1Beta => "v1beta",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/{version}/webhooks{path}", self.base))
            .header(ACCEPT, "application/json")
            .header("x-goog-api-key", self.api_key.clone());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string().into_bytes());
        let request = request.body(body.unwrap_or_default());
        request.map_err(|_| ConfigError::InvalidRequest {
            reason: "the address is too long",
        })
    }
}

/// Leaves the API key out.
impl std::fmt::Debug for WebhookService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookService")
            .field("base", &self.base)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, ConfigError> {
    serde_json::to_value(value).map_err(|_| ConfigError::InvalidRequest {
        reason: "it can't be written as JSON",
    })
}

/// An id as a segment of a path.
fn segment(id: &str) -> Result<String, ConfigError> {
    if id.is_empty() {
        return Err(ConfigError::InvalidRequest {
            reason: "the id is empty",
        });
    }
    // Segments of dots would lead elsewhere.
    if id.bytes().all(|byte| byte == b'.') {
        return Ok(format!("/{}", id.replace('.', "%2E")));
    }
    Ok(format!("/{}", encode(id)))
}

/// Everything but the unreserved characters (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                // A `String` takes whatever is written.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{configure::WebhookState, event::EventType};

    fn service() -> WebhookService {
        WebhookService::new("KEY-1").unwrap()
    }

    #[track_caller]
    fn expect(
        request: Result<Request<Vec<u8>>, ConfigError>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) {
        let request = request.unwrap();
        assert_eq!(request.method(), method);
        let base = WebhookService::GOOGLE;
        assert_eq!(request.uri().to_string(), format!("{base}{path}"));
        assert_eq!(request.headers()["x-goog-api-key"], "KEY-1");
        assert!(!format!("{request:?}").contains("KEY-1"), "{request:?}");
        let sent: Option<Value> = serde_json::from_slice(request.body()).ok();
        assert_eq!(sent.as_ref(), body);
        let has_type = request.headers().contains_key(CONTENT_TYPE);
        assert_eq!(has_type, body.is_some());
    }

    #[test]
    fn requests_are_those_of_the_reference() {
        let new = NewWebhook::new("https://example.com/w").unwrap().name("n");
        let new = new
            .subscribe(EventType::VideoGenerated)
            .subscribe("new.type");
        expect(
            service().create(&new),
            "POST",
            "/v1beta/webhooks",
            Some(&json!({
                "name": "n", "uri": "https://example.com/w",
                "subscribed_events": ["video.generated", "new.type"],
            })),
        );
        let service = service().version(ApiVersion::V1);
        expect(service.get("wh_1"), "GET", "/v1/webhooks/wh_1", None);
        expect(service.list(None, None), "GET", "/v1/webhooks", None);
        expect(
            service.list(Some(10), Some("a/b=&c")),
            "GET",
            "/v1/webhooks?page_size=10&page_token=a%2Fb%3D%26c",
            None,
        );
        let update = WebhookUpdate::default()
            .state(WebhookState::Disabled)
            .name("m");
        expect(
            service.update("wh_1", &update),
            "PATCH",
            "/v1/webhooks/wh_1?update_mask=name,state",
            Some(&json!({"name": "m", "state": "disabled"})),
        );
        expect(service.delete("wh_1"), "DELETE", "/v1/webhooks/wh_1", None);
        expect(
            service.ping("wh_1"),
            "POST",
            "/v1/webhooks/wh_1:ping",
            Some(&json!({})),
        );
        expect(
            service.rotate("wh_1", Revocation::AfterH24),
            "POST",
            "/v1/webhooks/wh_1:rotateSigningSecret",
            Some(&json!({"revocation_behavior": "revoke_previous_secrets_after_h24"})),
        );
        expect(
            service
                .rotate_path(RotatePath::Guide)
                .rotate("wh_1", Revocation::Immediately),
            "POST",
            "/v1/webhooks/wh_1/rotate_secret",
            Some(&json!({"revocation_behavior": "REVOKE_PREVIOUS_SECRETS_IMMEDIATELY"})),
        );
    }

    #[test]
    fn an_id_names_a_webhook_and_nothing_else() {
        for (id, path) in [
            ("../models", "..%2Fmodels"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("a?b#c", "a%3Fb%23c"),
            ("a:ping", "a%3Aping"),
            ("\u{e9} ", "%C3%A9%20"),
            ("a%2Fb", "a%252Fb"),
        ] {
            expect(
                service().get(id),
                "GET",
                &format!("/v1beta/webhooks/{path}"),
                None,
            );
        }
        assert!(service().get("").is_err());
        assert!(service().delete(&"a".repeat(70_000)).is_err());
    }

    #[test]
    fn what_can_not_be_sent_is_refused() {
        for key in ["", "a b", "a\n", "\u{e9}"] {
            assert!(WebhookService::new(key).is_err(), "{key:?}");
        }
        let nothing = NewWebhook::new("https://example.com").unwrap();
        assert!(service().create(&nothing).is_err());
        for base in [
            "",
            "http://example.com",
            "https://example.com/?a=b",
            "https://a@b.c",
        ] {
            assert!(service().base_url(base).is_err(), "{base}");
        }
        let local = service().base_url("http://127.0.0.1:8080/api/").unwrap();
        let request = local.get("a").unwrap();
        assert_eq!(request.uri(), "http://127.0.0.1:8080/api/v1beta/webhooks/a");
        assert!(!format!("{local:?}").contains("KEY-1"));
    }
}
