//! Any answer of Google's API: an object is read whatever its members are, a new secret is never lost,
//! and nothing shows it. An answer that begins with `!` has the status 400.
#![no_main]

use gemini_webhooks::configure::{ApiError, RotatedSecret, Webhook, WebhookPage, acknowledged};
use http::Response;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|answer: &[u8]| {
    let (status, body) = match answer.strip_prefix(b"!") {
        Some(body) => (400, body),
        None => (200, answer),
    };
    let response = Response::builder().status(status).body(body).unwrap();

    let webhook = Webhook::from_response(&response);
    let page = WebhookPage::from_response(&response);
    let rotated = RotatedSecret::from_response(&response);
    let done = acknowledged(&response);
    if status == 400 {
        for error in [
            webhook.unwrap_err(),
            page.unwrap_err(),
            rotated.unwrap_err(),
            done.unwrap_err(),
        ] {
            assert!(matches!(error, ApiError::Refused { .. }), "{error:?}");
            assert!(!error.to_string().is_empty());
        }
        return;
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return;
    };

    let webhook = webhook.unwrap();
    let page = page.unwrap();
    let known = ["new_signing_secret", "newSigningSecret", "secret"];
    let secrets: Vec<&str> = known
        .iter()
        .filter_map(|name| members.get(*name)?.as_str())
        .filter(|secret| !secret.is_empty())
        .collect();
    assert_eq!(webhook.new_signing_secret.is_some(), !secrets.is_empty());
    let rotated = rotated.ok();
    for found in [
        webhook.new_signing_secret.as_ref(),
        rotated.as_ref().map(|rotated| &rotated.secret),
    ] {
        if !secrets.is_empty() {
            assert!(secrets.contains(&found.unwrap().expose()));
        }
    }
    // What is read is not in `other`, and what is not read is.
    for (name, value) in &webhook.other {
        assert!(members.contains_key(name) && value_is_from(value, &members[name]));
    }
    let webhooks = members.get("webhooks").and_then(Value::as_array);
    if let Some(webhooks) = webhooks {
        let objects = webhooks.iter().filter(|webhook| webhook.is_object());
        assert_eq!(page.webhooks.len(), objects.count());
    }
    let shown = format!("{webhook:?} {page:?} {rotated:?}");
    for secret in secrets {
        // Shorter ones are a part of anything, and others may be a name as well.
        let once = body
            .windows(secret.len())
            .filter(|part| *part == secret.as_bytes())
            .count()
            == 1;
        assert!(
            secret.len() < 24 || !once || !shown.contains(secret),
            "{shown}"
        );
    }
});

/// Returns true if this is the member, or the elements of it that could not be read.
fn value_is_from(value: &Value, member: &Value) -> bool {
    match (value, member) {
        (Value::Array(some), Value::Array(all)) => some.iter().all(|element| all.contains(element)),
        _ => value == member,
    }
}
