use http::StatusCode;
use serde_json::json;

use super::*;
use crate::configure::RotatedSecret;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A value of each kind that JSON has, with forms that are easy to mistake for absence.
fn every_kind() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(7),
        json!(-1.5),
        json!(""),
        json!("text"),
        json!([]),
        json!([null, 7, {}, ["text"]]),
        json!({}),
        json!({"secret": 7}),
    ]
}

fn full() -> Value {
    json!({
        "id": "wh_1", "name": "n", "uri": "https://e.com",
        "subscribed_events": ["batch.failed", "new.type"], "state": "enabled",
        "create_time": "2026-05-04T00:00:00Z", "update_time": "2026-05-05T00:00:00.5Z",
        "signing_secrets": [{"truncated_secret": "whsec_...3frh", "expire_time": "2026-05-06T00:00:00Z"}],
        "new_signing_secret": SECRET, "etag": "x",
    })
}

fn answer(json: &Value) -> Response<String> {
    Response::new(json.to_string())
}

fn webhook(json: &Value) -> Webhook {
    Webhook::from_response(&answer(json)).unwrap()
}

/// The members that were read, by their names.
fn members(webhook: &Webhook) -> Vec<(&'static str, Option<String>)> {
    let events = webhook.subscribed_events.iter().map(EventType::as_str);
    let events = events.collect::<Vec<_>>().join(" ");
    let ends = webhook.signing_secrets.iter();
    let ends = ends.map(|secret| format!("{} {:?}", secret.truncated_secret, secret.expire_time));
    let ends = ends.collect::<String>();
    let time = |time: Option<OffsetDateTime>| time.map(|time| time.to_string());
    let secret = webhook.new_signing_secret.as_ref();
    vec![
        ("id", webhook.id.clone()),
        ("name", webhook.name.clone()),
        ("uri", webhook.uri.clone()),
        ("subscribed_events", Some(events)),
        ("state", webhook.state.as_ref().map(ToString::to_string)),
        ("create_time", time(webhook.create_time)),
        ("update_time", time(webhook.update_time)),
        ("signing_secrets", Some(ends)),
        (
            "new_signing_secret",
            secret.map(|secret| secret.expose().to_owned()),
        ),
    ]
}

#[test]
fn a_webhook_is_read_in_either_spelling() {
    let snake = full().to_string();
    let mut camel = snake.clone();
    for (from, to) in [
        ("subscribed_events", "subscribedEvents"),
        ("create_time", "createTime"),
        ("update_time", "updateTime"),
        ("signing_secrets", "signingSecrets"),
        ("truncated_secret", "truncatedSecret"),
        ("expire_time", "expireTime"),
        ("new_signing_secret", "newSigningSecret"),
    ] {
        camel = camel.replace(from, to);
    }
    let short = snake.replace("new_signing_secret", "secret");
    let marked = format!("\u{feff}{snake}");
    for json in [snake, camel, short, marked] {
        let webhook = Webhook::from_response(&Response::new(json)).unwrap();
        assert_eq!(webhook.id(), Some("wh_1"));
        assert_eq!(webhook.subscribed_events[0], EventType::BatchFailed);
        assert_eq!(webhook.subscribed_events[1].as_str(), "new.type");
        assert_eq!(webhook.state, Some(WebhookState::Enabled));
        assert_eq!(webhook.create_time.unwrap().unix_timestamp(), 1_777_852_800);
        assert!(webhook.signing_secrets[0].expire_time.is_some());
        assert_eq!(Value::from(webhook.other.clone()), json!({"etag": "x"}));
        let secret = webhook.new_signing_secret.clone().unwrap();
        assert_eq!(secret.expose(), SECRET);
        assert!(secret.parse().is_ok());
        assert!(!format!("{webhook:?}").contains("C2FV"));
    }
}

#[test]
fn no_member_makes_another_unreadable() {
    let whole = members(&webhook(&full()));
    assert!(
        whole
            .iter()
            .all(|(name, value)| value.is_some() && !name.is_empty())
    );
    let names: Vec<String> = full().as_object().unwrap().keys().cloned().collect();
    for name in &names {
        for value in every_kind() {
            let mut json = full();
            json[name] = value.clone();
            let read = webhook(&json);
            for (expected, found) in whole.iter().zip(members(&read)) {
                if expected.0 != name {
                    assert_eq!(*expected, found, "{name}: {value}");
                }
            }
            // What was not read is kept.
            let kept = read.other.get(name);
            let (_, now) = members(&read)
                .into_iter()
                .find(|(member, _)| member == name)
                .unwrap_or_default();
            let is_read = now.is_some_and(|now| !now.is_empty()) || value == json!([]);
            assert!(is_read || kept == Some(&value), "{name}: {value}: {kept:?}");

            json.as_object_mut().unwrap().remove(name);
            webhook(&json);
        }
    }
}

#[test]
fn no_member_of_a_page_makes_another_unreadable() {
    let page = json!({"webhooks": [full(), full()], "next_page_token": "t", "more": 1});
    let read = |json: &Value| WebhookPage::from_response(&answer(json)).unwrap();
    for value in every_kind() {
        for name in ["webhooks", "next_page_token", "more"] {
            let mut json = page.clone();
            json[name] = value.clone();
            let read = read(&json);
            if name != "webhooks" {
                assert_eq!(read.webhooks.len(), 2, "{name}: {value}");
            }
            if name != "next_page_token" {
                assert_eq!(
                    read.next_page_token.as_deref(),
                    Some("t"),
                    "{name}: {value}"
                );
            }
        }
        // An entry of its own, and a member in an entry.
        let mut json = page.clone();
        json["webhooks"][0] = value.clone();
        let entry = read(&json);
        let expected = if value.is_object() { 2 } else { 1 };
        assert_eq!(entry.webhooks.len(), expected, "{value}");
        assert_eq!(entry.other.contains_key("webhooks"), !value.is_object());
        let last = entry.webhooks.last().unwrap();
        assert_eq!(members(last), members(&webhook(&full())), "{value}");
        json = page.clone();
        json["webhooks"][0]["uri"] = value.clone();
        let found = read(&json);
        assert_eq!(found.webhooks.len(), 2, "{value}");
        assert!(
            found
                .webhooks
                .iter()
                .all(|webhook| webhook.new_signing_secret.is_some())
        );
    }
}

#[test]
fn an_element_of_a_list_that_is_broken_is_kept() {
    let mut json = full();
    json["subscribed_events"] = json!(["batch.failed", 7, "", "new.type"]);
    json["signing_secrets"] =
        json!([7, {"expire_time": "noon", "truncated_secret": "whsec_...3frh"}]);
    let read = webhook(&json);
    assert_eq!(read.subscribed_events.len(), 2);
    assert_eq!(read.other["subscribed_events"], json!([7, ""]));
    assert_eq!(read.signing_secrets.len(), 1);
    assert_eq!(read.signing_secrets[0].truncated_secret, "whsec_...3frh");
    assert_eq!(read.signing_secrets[0].other["expire_time"], "noon");
    assert_eq!(read.other["signing_secrets"], json!([7]));
}

#[test]
fn the_id_is_read_from_the_name_where_there_is_none() {
    for (json, id) in [
        (json!({"id": "a", "name": "webhooks/b"}), Some("a")),
        (json!({"id": "webhooks/a"}), Some("a")),
        (json!({"id": 7}), Some("7")),
        (json!({"name": "webhooks/b"}), Some("b")),
        (json!({"id": null, "name": "webhooks/b"}), Some("b")),
        (json!({"id": "", "name": "webhooks/b"}), Some("b")),
        (json!({"id": [], "name": "webhooks/b"}), Some("b")),
        (json!({"name": "nightly"}), None),
        (json!({"name": "webhooks/"}), None),
        (json!({"id": "webhooks/"}), None),
        (json!({"id": 1.5}), None),
        (json!({}), None),
    ] {
        assert_eq!(webhook(&json).id(), id, "{json}");
    }
}

#[test]
fn the_secret_is_the_first_member_that_has_one() {
    for json in [
        json!({"new_signing_secret": null, "newSigningSecret": SECRET}),
        json!({"new_signing_secret": "", "secret": SECRET}),
        json!({"new_signing_secret": SECRET, "secret": "other"}),
        json!({"newSigningSecret": {}, "secret": SECRET}),
    ] {
        let read = webhook(&json);
        assert_eq!(read.new_signing_secret.unwrap().expose(), SECRET, "{json}");
        assert_eq!(read.other.len(), 1, "{json}");
    }
    // One of an unexpected kind is not lost either, and not shown.
    let read = webhook(&json!({"secret": [SECRET]}));
    assert_eq!(read.other["secret"][0], SECRET);
    assert!(!format!("{read:?}").contains("C2FV"));
}

#[test]
fn a_rotated_secret_is_read_in_each_form() {
    let read = |json: &Value| RotatedSecret::from_response(&answer(json));
    for json in [
        json!({"secret": SECRET}),
        json!({"new_signing_secret": SECRET}),
        json!({"newSigningSecret": SECRET}),
        json!({"secret": "", "newSigningSecret": SECRET}),
        json!({"secret": null, "webhook": {"id": "a", "newSigningSecret": SECRET}}),
        json!({"webhook": {"new_signing_secret": SECRET, "secret": 7}, "other": {}}),
        full(),
    ] {
        let rotated = read(&json).unwrap();
        assert_eq!(rotated.secret.expose(), SECRET, "{json}");
        assert!(!format!("{rotated:?}").contains("C2FV"));
    }
    for json in [
        json!({}),
        json!({"secret": ""}),
        json!({"secret": [SECRET]}),
        json!([SECRET]),
    ] {
        let error = read(&json).unwrap_err();
        assert!(matches!(error, ApiError::Unreadable { .. }), "{json}");
        assert!(!format!("{error:?}").contains("C2FV"));
    }
}

#[test]
fn a_text_that_is_not_utf_8_loses_nothing_else() {
    let mut body = format!(r#"{{"new_signing_secret":"{SECRET}","name":"n"#).into_bytes();
    body.extend(b"\xff\"}");
    let read = Webhook::from_response(&Response::new(body)).unwrap();
    assert_eq!(read.new_signing_secret.unwrap().expose(), SECRET);
}

#[test]
fn what_is_no_object_is_unreadable() {
    for body in ["", "[]", "7", "null", "\"\"", "{", "<html>"] {
        let error = Webhook::from_response(&Response::new(body)).unwrap_err();
        assert!(matches!(error, ApiError::Unreadable { .. }), "{error}");
    }
    let mut response = Response::new("{}");
    *response.status_mut() = StatusCode::FOUND;
    let error = Webhook::from_response(&response).unwrap_err();
    assert!(matches!(error, ApiError::Refused { .. }), "{error}");
}

#[test]
fn pages_end() {
    for (json, count, token) in [
        (json!({}), 0, None),
        (json!({"webhooks": [{}], "next_page_token": ""}), 1, None),
        (json!({"webhooks": null, "nextPageToken": null}), 0, None),
        (json!({"webhooks": [], "nextPageToken": "t"}), 0, Some("t")),
        (json!({"webhooks": {}, "next_page_token": 7}), 0, Some("7")),
    ] {
        let page = WebhookPage::from_response(&answer(&json)).unwrap();
        let found = (page.webhooks.len(), page.next_page_token.as_deref());
        assert_eq!(found, (count, token), "{json}");
    }
}

#[test]
fn a_state_is_read_in_any_case() {
    assert_eq!(WebhookState::from("DISABLED"), WebhookState::Disabled);
    let read = webhook(&json!({"state": "PAUSED_BY_MOON"}));
    assert_eq!(read.state.unwrap().to_string(), "PAUSED_BY_MOON");
}

#[test]
fn nothing_that_is_shown_has_a_query() {
    let read = webhook(&json!({
        "uri": "https://e.com/w?token=hunter2", "name": "https://me:hunter2@e.com",
        "signing_secrets": [{"truncated_secret": SECRET, "hunter": "hunter2"}],
        "more": {"deep": SECRET},
    }));
    let shown = format!("{read:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("C2FV"),
        "{shown}"
    );
    assert!(shown.contains("https://e.com/w?.."), "{shown}");
}
