//! What the benches send.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::hint::black_box;

use gemini_webhooks::{
    EventType, Verifier,
    testing::{SignedDelivery, sample},
};
use http::HeaderMap;

pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
pub(crate) const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
/// In bytes: a short event, and what metadata may make of it.
pub(crate) const SIZES: [usize; 4] = [154, 2 << 10, 20 << 10, 256 << 10];

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
    header_map(sent.headers().map(|(_, value)| value))
}

pub(crate) fn header_map([id, timestamp, signature]: [&str; 3]) -> HeaderMap {
    let pairs = [
        ("host", "example.com"),
        ("content-type", "application/json"),
        ("content-length", "154"),
        ("user-agent", "Google"),
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}

/// `{webhook-id}.{webhook-timestamp}.{body}`
pub(crate) fn content(sent: &SignedDelivery) -> Vec<u8> {
    let parts = [&*sent.id, ".", &sent.timestamp, "."].map(str::as_bytes);
    [&parts.concat(), &*sent.body].concat()
}

pub(crate) fn verify(verifier: &Verifier, headers: &HeaderMap, sent: &SignedDelivery) {
    let delivery = verifier
        .verify(black_box(headers), black_box(&sent.body))
        .unwrap();
    black_box(&delivery);
}
