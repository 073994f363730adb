//! What the benches send.

use gemini_webhooks::{
    EventType,
    testing::{SignedDelivery, sample},
};
use http::HeaderMap;

/// An event of the documented form, of exactly `length` bytes.
pub(crate) fn body(length: usize) -> String {
    let mut body = sample(&EventType::BatchSucceeded);
    if length > body.len() {
        let metadata = r#","user_metadata":{"note":""}}"#;
        let filler = "x".repeat(length + 1 - body.len() - metadata.len());
        body.truncate(body.len() - 1);
        body += &metadata.replace("\"\"", &format!("\"{filler}\""));
    }
    assert_eq!(body.len(), length);
    body
}

/// The headers of a real request: those of the delivery, and some others.
pub(crate) fn headers(sent: &SignedDelivery) -> HeaderMap {
    let others = [
        ("host", "example.com"),
        ("content-type", "application/json"),
        ("content-length", "154"),
        ("user-agent", "Google"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in others.into_iter().chain(sent.headers()) {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}
