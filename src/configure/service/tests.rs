use http::header::CONTENT_TYPE;

use super::*;
use crate::{configure::WebhookState, event::EventType};

fn service() -> WebhookService {
    WebhookService::new("KEY-1").unwrap()
}

#[track_caller]
fn expect(
    request: Result<Request<Vec<u8>>, RequestError>,
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
        "/v1/webhooks",
        Some(&json!({
            "name": "n", "uri": "https://example.com/w",
            "subscribed_events": ["video.generated", "new.type"],
        })),
    );
    expect(
        service().version(ApiVersion::V1Beta).get("wh_1"),
        "GET",
        "/v1beta/webhooks/wh_1",
        None,
    );
    let service = service();
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
        "/v1/webhooks/wh_1",
        Some(&json!({"name": "m", "state": "disabled"})),
    );
    expect(
        service.clone().with_update_mask().update("wh_1", &update),
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
        ("a?b#c", "a%3Fb%23c"),
        ("a:ping", "a%3Aping"),
        ("\u{e9} ", "%C3%A9%20"),
        ("a%2Fb", "a%252Fb"),
        ("webhooks/abc", "abc"),
        ("webhooks/webhooks/abc", "webhooks%2Fabc"),
        ("webhooks", "webhooks"),
        ("v1_ChdVHJ5Q..", "v1_ChdVHJ5Q.."),
        ("..a", "..a"),
        ("%2E%2Ea", "%252E%252Ea"),
        ("%", "%25"),
    ] {
        let path = format!("/v1/webhooks/{path}");
        expect(service().get(id), "GET", &path, None);
    }
    assert!(service().delete(&"a".repeat(70_000)).is_err());
}

#[test]
fn an_id_that_clients_resolve_is_refused() {
    let update = WebhookUpdate::default().name("n");
    for id in [
        "",
        ".",
        "..",
        "...",
        "%2E",
        "%2e%2E",
        ".%2e",
        "%252e.",
        "%25252E%2e",
        "webhooks/",
        "webhooks/..",
        "webhooks/%2E%2E",
    ] {
        let service = service();
        for request in [
            service.get(id),
            service.delete(id),
            service.ping(id),
            service.update(id, &update),
            service.rotate(id, Revocation::AfterH24),
        ] {
            let refused = matches!(request, Err(RequestError::InvalidRequest { .. }));
            assert!(refused, "{id:?}: {request:?}");
        }
    }
}

#[test]
fn what_can_not_be_sent_is_refused() {
    for key in ["", "a b", "a\n", "\u{e9}"] {
        assert!(WebhookService::new(key).is_err(), "{key:?}");
    }
    let nothing = NewWebhook::new("https://example.com").unwrap();
    assert!(service().create(&nothing).is_err());
    assert!(service().update("a", &WebhookUpdate::default()).is_err());
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
    assert_eq!(request.uri(), "http://127.0.0.1:8080/api/v1/webhooks/a");
    assert!(!format!("{local:?}").contains("KEY-1"));
}
