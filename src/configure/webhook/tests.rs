use super::*;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn webhook(json: &str) -> Result<Webhook, ApiError> {
    Webhook::from_response(&Response::new(json))
}

#[test]
fn a_webhook_is_read_in_either_spelling() {
    let snake = format!(
        r#"{{"id":"wh_1","name":"n","uri":"https://e.com","subscribed_events":["batch.failed","new.type"],
            "state":"enabled","create_time":"2026-05-04T00:00:00Z","update_time":"2026-05-05T00:00:00.5Z",
            "signing_secrets":[{{"truncated_secret":"whsec_...3frh","expire_time":"2026-05-06T00:00:00Z"}}],
            "new_signing_secret":"{SECRET}","etag":"x"}}"#
    );
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
    for json in [snake, camel] {
        let webhook = webhook(&json).unwrap();
        assert_eq!(webhook.id, "wh_1");
        assert_eq!(webhook.subscribed_events[0], EventType::BatchFailed);
        assert_eq!(webhook.subscribed_events[1].as_str(), "new.type");
        assert_eq!(webhook.state, Some(WebhookState::Enabled));
        assert_eq!(webhook.create_time.unwrap().unix_timestamp(), 1_777_852_800);
        assert!(webhook.signing_secrets[0].expire_time.is_some());
        assert_eq!(webhook.other["etag"], "x");
        let secret = webhook.new_signing_secret.clone().unwrap();
        assert_eq!(secret.expose(), SECRET);
        assert!(secret.parse().is_ok());
        assert!(!format!("{webhook:?}").contains("C2FV"));
    }
}

#[test]
fn what_is_new_or_absent_is_no_error() {
    let webhook = webhook(r#"{"id":"a","uri":"u","state":"PAUSED_BY_MOON"}"#).unwrap();
    assert_eq!(webhook.state.unwrap().to_string(), "PAUSED_BY_MOON");
    assert_eq!(WebhookState::from("DISABLED"), WebhookState::Disabled);
    for json in [
        r#"{"uri":"u"}"#,
        "",
        r#"{"id":"a","uri":"u","create_time":"noon"}"#,
    ] {
        let error = super::tests::webhook(json).unwrap_err();
        assert!(matches!(error, ApiError::Unreadable { .. }), "{error}");
    }
}

#[test]
fn pages_end() {
    for (json, count, token) in [
        ("{}", 0, None),
        (
            r#"{"webhooks":[{"id":"a","uri":"u"}],"next_page_token":""}"#,
            1,
            None,
        ),
        (r#"{"webhooks":[],"nextPageToken":"t"}"#, 0, Some("t")),
    ] {
        let page = WebhookPage::from_response(&Response::new(json)).unwrap();
        assert_eq!(
            (page.webhooks.len(), page.next_page_token.as_deref()),
            (count, token)
        );
    }
}

#[test]
fn an_update_names_what_it_changes() {
    assert!(WebhookUpdate::default().mask().is_err());
    let update = WebhookUpdate::default()
        .name("n")
        .state(WebhookState::Enabled);
    assert_eq!(update.mask().unwrap(), "name,state");
    let json = serde_json::to_value(&update).unwrap();
    assert_eq!(json, serde_json::json!({"name": "n", "state": "enabled"}));
    assert!(update.clone().uri("http://example.com").is_err());
    let update = update
        .uri("https://example.com")
        .unwrap()
        .subscribed_events([]);
    assert_eq!(update.mask().unwrap(), "name,uri,subscribed_events,state");
}
