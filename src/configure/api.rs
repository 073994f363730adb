use std::fmt::{self, Write as _};

use http::{
    HeaderValue, Method, Request,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::Value;

use super::request_error::RequestError;
use crate::address;

/// The version of the API, the first segment of its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ApiVersion {
    /// `v1`, which Google's SDKs use since November 2026.
    #[default]
    V1,
    /// `v1beta`, which the REST reference shows.
    V1Beta,
}

impl ApiVersion {
    const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta => "v1beta",
        }
    }
}

/// The parts that all requests to Google's API share: address, version and key.
#[derive(Clone)]
pub(super) struct Api {
    base: String,
    version: ApiVersion,
    key: HeaderValue,
}

impl Api {
    pub(super) const GOOGLE: &str = "https://generativelanguage.googleapis.com";

    pub(super) fn new(api_key: &str) -> Result<Self, RequestError> {
        let unusable = RequestError::InvalidRequest {
            reason: "the API key is empty or has characters other than visible ASCII",
        };
        if api_key.is_empty() || !api_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable);
        }
        let mut key = HeaderValue::from_str(api_key).map_err(|_| unusable)?;
        key.set_sensitive(true);
        Ok(Self {
            base: Self::GOOGLE.to_owned(),
            version: ApiVersion::default(),
            key,
        })
    }

    pub(super) fn base_url(self, base: &str) -> Result<Self, RequestError> {
        let uri = address::parse(base).map_err(RequestError::invalid_uri)?;
        if uri.query().is_some() {
            let reason = "it has a query, and paths are appended to it";
            return Err(RequestError::invalid_uri(reason));
        }
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            ..self
        })
    }

    pub(super) fn version(self, version: ApiVersion) -> Self {
        Self { version, ..self }
    }

    /// Builds a request whose answer is JSON. The path begins after the version.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Request<Vec<u8>>, RequestError> {
        let mut request = Request::builder().header(ACCEPT, "application/json");
        // Some HTTP clients send no length with an empty body, and servers may require one with this
        // method (RFC 9110, section 8.6).
        if method == Method::POST && body.is_none() {
            request = request.header(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let request = request.method(method);
        self.complete(request, "", path, body)
    }

    /// Builds a request whose answer is a file. The path begins after the version.
    pub(super) fn download(&self, path: &str) -> Result<Request<Vec<u8>>, RequestError> {
        let request = Request::builder().header(ACCEPT, "*/*");
        self.complete(request, "/download", path, None)
    }

    fn complete(
        &self,
        request: http::request::Builder,
        prefix: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Request<Vec<u8>>, RequestError> {
        let (base, version) = (&self.base, self.version.as_str());
        let mut request = request
            .uri(format!("{base}{prefix}/{version}{path}"))
            .header("x-goog-api-key", self.key.clone());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string().into_bytes());
        let request = request.body(body.unwrap_or_default());
        request.map_err(|_| RequestError::InvalidRequest {
            reason: "the URI is too long",
        })
    }

    /// Shows a service by its name, without the API key.
    pub(super) fn fmt(&self, service: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(service)
            .field("base", &self.base)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Encodes an id as one segment of a path.
pub(super) fn segment(id: &str) -> Result<String, RequestError> {
    let refused = |reason| Err(RequestError::InvalidRequest { reason });
    if id.is_empty() {
        return refused("the id is empty");
    }
    if is_dots(id) {
        return refused("the id has only full stops, and HTTP clients take it for another path");
    }
    Ok(encode(id))
}

/// Tells whether an id has only full stops, however often they are percent-encoded.
fn is_dots(id: &str) -> bool {
    let mut rest = id;
    while let Some(after) = after_dot(rest) {
        rest = after;
    }
    rest.is_empty()
}

fn after_dot(text: &str) -> Option<&str> {
    text.strip_prefix('.').or_else(|| {
        let digits = text.strip_prefix('%')?.trim_start_matches("25");
        digits.strip_prefix("2e").or(digits.strip_prefix("2E"))
    })
}

/// Percent-encodes everything except the unreserved characters (RFC 3986, section 2.3).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                // Writing to a `String` never fails.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}
