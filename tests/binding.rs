//! A JWT signs its claims and not the body. Each member of the body must be among the claims.
#![cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]

use std::sync::LazyLock;

use gemini_webhooks::{
    PerRequest, Verifier,
    keys::KeySet,
    testing::{SignedDelivery, Signer, SigningKeys},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

static GOOGLE: LazyLock<SigningKeys> = LazyLock::new(SigningKeys::generate);
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let keys = KeySet::from_json(GOOGLE.jwks().as_bytes()).unwrap();
    Verifier::builder()
        .per_request(PerRequest::any_sender(keys))
        .build()
        .unwrap()
});

/// A token that claims the event, beside another body.
fn sent(claims: &Value, body: &str) -> SignedDelivery {
    let signer = Signer::jwt(&GOOGLE, "https://example.com/webhook");
    let mut sent = signer.sign("msg_1", OffsetDateTime::now_utc(), claims.to_string());
    sent.body = body.into();
    sent
}

fn refusal(claims: &Value, body: &str) -> Option<&'static str> {
    let sent = sent(claims, body);
    let refusal = VERIFIER.verify(&sent, &sent.body).err()?;
    Some(refusal.code())
}

fn event() -> Value {
    json!({
        "type": "batch.failed", "version": "v1", "timestamp": "2026-01-22T12:00:00Z",
        "data": {"id": "id_1", "error_code": 13, "new": [1, {"a": null}]},
        "user_metadata": {"k": "v"}, "new": true,
    })
}

#[test]
fn a_body_of_white_space_counts_as_empty() {
    for body in ["", " ", "\r\n\t ", "\u{feff}", "\u{feff}\n"] {
        let sent = sent(&event(), body);
        let delivery = VERIFIER.verify(&sent, &sent.body).unwrap();
        assert_eq!(
            delivery.event().unwrap().data.id(),
            Some("id_1"),
            "{body:?}"
        );
    }
    for body in ["\u{a0}", "\u{feff}\u{feff}", "\u{b}", "null", "[]"] {
        assert_eq!(refusal(&event(), body), Some("body_not_bound"), "{body:?}");
    }
}

#[test]
fn the_body_may_have_less_and_nothing_else() {
    let event = event();
    let text = event.to_string();
    assert_eq!(refusal(&event, &text), None);
    assert_eq!(refusal(&event, &format!("\u{feff} {text}\n")), None);
    let paths = [
        "/type",
        "/version",
        "/timestamp",
        "/data",
        "/data/id",
        "/data/error_code",
        "/data/new",
        "/data/new/1/a",
        "/data/newer",
        "/user_metadata",
        "/user_metadata/k",
        "/userMetadata",
        "/new",
    ];
    let kinds = [
        json!(null),
        json!(false),
        json!(7),
        json!(1.5),
        json!(""),
        json!("text"),
        json!([]),
        json!([1]),
        json!({}),
        json!({"a": {"b": [1, "2"]}}),
    ];
    for path in paths {
        for kind in kinds.iter().map(Some).chain([None]) {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let mut body = event.clone();
            let object = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            match kind {
                Some(value) => drop(object.insert(name.into(), value.clone())),
                None => drop(object.remove(name)),
            }
            // Less, at the top level.
            let is_part = body == event || kind.is_none() && parent.is_empty();
            let expected = (!is_part).then_some("body_not_bound");
            assert_eq!(refusal(&event, &body.to_string()), expected, "{body}");
        }
    }
    let twice = r#"{"new":true,"new":true}"#;
    assert_eq!(refusal(&event, twice), Some("body_not_bound"));
}

#[test]
fn numbers_are_bound_exactly() {
    // The claims are written by `serde_json`, which has no more than 64 bits.
    let claimed = json!({"type": "ping", "n": 10_000_000_000_000_000_u64, "f": 1e22});
    for (body, is_bound) in [
        (r#"{"n":10000000000000000}"#, true),
        (r#"{"n":10000000000000000.0}"#, true),
        (r#"{"n":1e16}"#, true),
        (r#"{"n":10000000000000001}"#, false),
        (r#"{"n":10000000000000000.1}"#, false),
        (r#"{"f":10000000000000000000000}"#, true),
        (r#"{"f":10000000000000000000001}"#, false),
        (
            r#"{"$serde_json::private::Number":"1","type":"ping"}"#,
            false,
        ),
        (
            r#"{"n":{"$serde_json::private::Number":"10000000000000000","more":1}}"#,
            false,
        ),
        (
            r#"{"n":{"$serde_json::private::Number":"10000000000000000"}}"#,
            false,
        ),
    ] {
        let expected = (!is_bound).then_some("body_not_bound");
        assert_eq!(refusal(&claimed, body), expected, "{body}");
    }
}
