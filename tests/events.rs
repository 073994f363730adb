//! Whatever an authentic event holds, the rest of it stays readable, under each scheme.
#![cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]

use std::sync::LazyLock;

use gemini_webhooks::{
    Delivery, Event, EventData, EventType, JobTokens, PerRequest, Scheme, Secret, Verifier,
    event::ErrorCode,
    keys::KeySet,
    testing::{SignedDelivery, Signer, SigningKeys},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Number, Value, json};
use time::OffsetDateTime;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const AUDIENCE: &str = "https://example.com/webhook";
/// The claims that a token needs, besides the event.
const CLAIMS: [&str; 4] = ["iss", "aud", "iat", "exp"];

static GOOGLE: LazyLock<SigningKeys> = LazyLock::new(SigningKeys::generate);
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let keys = KeySet::from_json(GOOGLE.jwks().as_bytes()).unwrap();
    Verifier::builder()
        .secret(Secret::parse(SECRET).unwrap())
        .per_request(PerRequest::any_sender(keys))
        .build()
        .unwrap()
});
static SIGNERS: LazyLock<[(Scheme, Signer); 3]> = LazyLock::new(|| {
    [
        (Scheme::V1, Signer::v1(&Secret::parse(SECRET).unwrap())),
        (Scheme::V1a, Signer::v1a(&GOOGLE)),
        (Scheme::Jwt, Signer::jwt(&GOOGLE, AUDIENCE)),
    ]
});

fn sign(signer: &Signer, body: impl Into<Vec<u8>>) -> SignedDelivery {
    signer.sign("msg_1", OffsetDateTime::now_utc(), body)
}

fn verify(sent: &SignedDelivery) -> Delivery<'_> {
    VERIFIER.verify(sent, &sent.body).unwrap()
}

/// Returns the event of each scheme, without what a token adds.
fn events(json: &Value) -> impl Iterator<Item = Event> {
    SIGNERS.iter().map(move |(scheme, signer)| {
        let sent = sign(signer, json.to_string());
        let delivery = verify(&sent);
        assert_eq!(delivery.scheme(), *scheme);
        let mut event = delivery.into_event().unwrap();
        if *scheme == Scheme::Jwt {
            for claim in CLAIMS {
                assert!(event.other.remove(claim).is_some());
            }
        }
        event
    })
}

/// What each type documents of its data, besides `id`.
fn documented(event_type: &EventType) -> &'static [&'static str] {
    match event_type {
        EventType::BatchSucceeded => &["output_file_uri"],
        EventType::BatchFailed | EventType::InteractionFailed => &["error_code", "error_message"],
        EventType::VideoGenerated => &["output_file_uri", "file_name"],
        _ => &[],
    }
}

/// Returns a documented member of an event's data, as JSON.
fn field(data: &EventData, name: &str) -> Option<Value> {
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let code = |code: &Option<ErrorCode>| code.as_ref().map(|code| json!(code));
    match (data, name) {
        (EventData::BatchSucceeded(it), "output_file_uri") => text(&it.output_file_uri),
        (EventData::BatchFailed(it), "error_code") => code(&it.error_code),
        (EventData::BatchFailed(it), "error_message") => text(&it.error_message),
        (EventData::InteractionFailed(it), "error_code") => code(&it.error_code),
        (EventData::InteractionFailed(it), "error_message") => text(&it.error_message),
        (EventData::VideoGenerated(it), "output_file_uri") => text(&it.output_file_uri),
        (EventData::VideoGenerated(it), "file_name") => text(&it.file_name),
        _ => None,
    }
}

fn other(data: &EventData) -> Option<&Map<String, Value>> {
    Some(match data {
        EventData::BatchSucceeded(it) => &it.other,
        EventData::BatchCancelled(it) => &it.other,
        EventData::BatchExpired(it) => &it.other,
        EventData::BatchFailed(it) => &it.other,
        EventData::InteractionRequiresAction(it) => &it.other,
        EventData::InteractionCompleted(it) => &it.other,
        EventData::InteractionFailed(it) => &it.other,
        EventData::InteractionCancelled(it) => &it.other,
        EventData::VideoGenerated(it) => &it.other,
        _ => return None,
    })
}

fn full(event_type: &EventType) -> Value {
    let mut data = json!({"id": "id_1", "new": [1]});
    for name in documented(event_type) {
        data[name] = format!("the {name}").into();
    }
    json!({"type": event_type, "version": "v1", "timestamp": "2026-01-22T12:00:00Z", "data": data, "user_metadata": {"k": "v"}})
}

/// Absent, and a value of each kind.
fn kinds() -> Vec<Option<Value>> {
    let values = [
        json!(null),
        json!(false),
        json!(7),
        json!(-1.5),
        json!(""),
        json!("text"),
        json!("2026-01-22T13:00:00.50+01:00"),
        json!([]),
        json!([{"a": null}]),
        json!({}),
        json!({"a": {"b": [1, "2"]}}),
    ];
    [None].into_iter().chain(values.map(Some)).collect()
}

fn with(mut json: Value, path: &str, value: Option<&Value>) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => drop(parent.insert(name.to_owned(), value.clone())),
        None => drop(parent.remove(name)),
    }
    json
}

#[test]
fn any_member_of_data_may_be_of_any_kind() {
    for event_type in EventType::KNOWN {
        let full = full(event_type);
        for name in documented(event_type).iter().chain(&["new"]) {
            for kind in kinds() {
                let json = with(full.clone(), &format!("/data/{name}"), kind.as_ref());
                for event in events(&json) {
                    assert_eq!(event.event_type(), *event_type);
                    assert_eq!(event.data.id(), Some("id_1"));
                    assert_eq!(event.version.as_deref(), Some("v1"));
                    assert!(event.occurred_at.is_some());
                    assert_eq!(event.user_metadata["k"], "v");
                    let mut raw = kind.clone();
                    for known in documented(event_type) {
                        let value = field(&event.data, known);
                        if known != name {
                            assert_eq!(value, Some(format!("the {known}").into()), "{json}");
                        } else if value.is_some() {
                            assert_eq!(value, raw.take(), "{json}");
                        } else {
                            assert!(!raw.as_ref().is_some_and(Value::is_string), "{json}");
                        }
                    }
                    assert_eq!(other(&event.data).unwrap().get(*name), raw.as_ref());
                    assert_eq!(serde_json::to_value(&event).unwrap(), json);
                }
            }
        }
    }
}

#[test]
fn any_id_and_any_data_is_an_event() {
    for event_type in EventType::KNOWN {
        for path in ["/data/id", "/data"] {
            for kind in kinds() {
                let json = with(full(event_type), path, kind.as_ref());
                for event in events(&json) {
                    assert_eq!(event.event_type(), *event_type);
                    assert_eq!(event.version.as_deref(), Some("v1"));
                    assert!(event.occurred_at.is_some());
                    assert_eq!(event.user_metadata["k"], "v");
                    assert_eq!(serde_json::to_value(&event).unwrap(), json);
                    let id = match (path, &kind) {
                        ("/data/id", Some(Value::String(id))) if !id.is_empty() => Some(&**id),
                        ("/data/id", Some(Value::Number(id))) if id.is_u64() => Some("7"),
                        _ => None,
                    };
                    assert_eq!(event.data.id(), id);
                    match &event.data {
                        EventData::Unknown {
                            event_type: name,
                            data,
                            ..
                        } => {
                            assert_eq!((&**name, id), (event_type.as_str(), None));
                            assert_eq!(Some(data), json.get("data").or(Some(&Value::Null)));
                        }
                        _ => assert!(id.is_some()),
                    }
                }
            }
        }
    }
}

#[test]
fn any_member_of_the_top_level_may_be_of_any_kind() {
    for event_type in EventType::KNOWN.iter().chain([&"new.type".into()]) {
        let full = full(event_type);
        for name in [
            "version",
            "timestamp",
            "user_metadata",
            "userMetadata",
            "new",
        ] {
            for kind in kinds() {
                let json = with(full.clone(), &format!("/{name}"), kind.as_ref());
                for event in events(&json) {
                    assert_eq!(event.event_type(), *event_type);
                    assert_eq!(event.data.id(), Some("id_1"));
                    for known in documented(event_type) {
                        assert_eq!(
                            field(&event.data, known),
                            Some(format!("the {known}").into())
                        );
                    }
                    assert!(name == "version" || event.version.as_deref() == Some("v1"));
                    assert!(name == "timestamp" || event.occurred_at.is_some());
                    assert!(name == "user_metadata" || event.user_metadata["k"] == "v");
                    let is_understood = match (name, &kind) {
                        ("version", kind) => {
                            event.version.as_deref() == kind.as_ref().and_then(Value::as_str)
                                && event.version.is_some()
                        }
                        ("timestamp", _) => event.occurred_at.is_some(),
                        ("user_metadata", Some(Value::Object(members))) => {
                            event.user_metadata == *members && !members.is_empty()
                        }
                        _ => false,
                    };
                    let raw = kind.as_ref().filter(|_| !is_understood);
                    assert_eq!(event.other.get(name), raw, "{json}");
                    assert_eq!(serde_json::to_value(&event).unwrap(), json);
                }
            }
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_stays_in_the_payload() {
    let json = full(&EventType::BatchExpired).to_string();
    let marked = format!("\u{feff}{json}");
    for (scheme, signer) in &*SIGNERS {
        let mut sent = sign(signer, marked.as_str());
        if *scheme == Scheme::Jwt {
            sent = sign(signer, json.as_str());
            sent.body = marked.clone().into();
        }
        let delivery = verify(&sent);
        assert_eq!(
            delivery.event().unwrap().event_type(),
            EventType::BatchExpired
        );
        assert_eq!(delivery.json::<Value>().unwrap()["data"]["id"], "id_1");
        if *scheme != Scheme::Jwt {
            assert_eq!(delivery.payload(), marked.as_bytes());
        }
    }
}

#[test]
fn claims_may_begin_with_a_byte_order_mark() {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

    let now = OffsetDateTime::now_utc();
    let event = full(&EventType::BatchExpired);
    let claims = with(
        event.clone(),
        "/exp",
        Some(&json!(now.unix_timestamp() + 300)),
    );
    let claims = format!("\u{feff}{claims}");
    let signed = [r#"{"alg":"EdDSA"}"#, &claims]
        .map(|part| BASE64.encode(part))
        .join(".");
    let signature = GOOGLE.sign_ed25519(0, signed.as_bytes());
    let mut sent = SIGNERS[0].1.sign("msg_1", now, event.to_string());
    sent.signature = format!("{signed}.{}", BASE64.encode(signature));
    let delivery = verify(&sent);
    assert_eq!(delivery.payload(), claims.as_bytes());
    assert_eq!(delivery.event().unwrap().data.id(), Some("id_1"));
}

#[test]
fn neither_an_event_nor_an_error_shows_a_job_token() {
    let token = JobTokens::new([7; 32]).mint().unwrap();
    let metadata = json!(JobTokens::user_metadata(&token));
    for path in [
        "/user_metadata",
        "/userMetadata",
        "/data/user_metadata",
        "/data/new",
        "/new",
        "/version",
        "/data",
    ] {
        let json = with(full(&EventType::BatchFailed), path, Some(&metadata));
        let sent = sign(&SIGNERS[0].1, json.to_string());
        let delivery = verify(&sent);
        let event = delivery.event().unwrap();
        assert!(
            !format!("{event:?} {event:#?} {delivery:?}").contains(&token[5..]),
            "{event:?}"
        );

        let error = delivery
            .json::<std::collections::BTreeMap<String, String>>()
            .unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(!format!("{error} {error:?} {source} {source:?}").contains(&token[5..]));
    }
    let sent = sign(&SIGNERS[0].1, json!(token).to_string());
    let delivery = verify(&sent);
    let error = delivery.event().unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(!format!("{error} {error:?} {source} {source:?}").contains(&token[5..]));
    assert!(
        error
            .to_string()
            .starts_with("the payload is not an event: not an object")
    );
}

fn name() -> impl Strategy<Value = String> {
    let known = [
        "version",
        "timestamp",
        "data",
        "user_metadata",
        "userMetadata",
        "id",
        "output_file_uri",
        "video_uri",
        "file_name",
        "error_code",
        "error_message",
        "$serde_json::private::Number",
        "exp",
    ];
    prop_oneof![
        4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(|number| Number::from_f64(number).into()),
        "\\PC{0,12}".prop_map(Value::from),
        "2026-01-2[0-9]T1[0-9]:00:[0-6]0(\\.[0-9]{1,10})?(Z|[+-]0[0-9]:[0-5]0)"
            .prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    let known = EventType::KNOWN
        .iter()
        .map(|known| known.as_str().to_owned());
    let event_type = prop_oneof![
        4 => prop::sample::select(known.collect::<Vec<_>>()),
        1 => "\\PC{0,12}",
    ];
    let members = prop::collection::btree_map(name(), value(), 0..6);
    (event_type, members, prop::option::of("\\PC{1,8}")).prop_map(|(event_type, members, id)| {
        let mut json = json!({ "type": event_type });
        let object = json.as_object_mut().unwrap();
        object.extend(members);
        if let (Some(id), Some(Value::Object(data))) = (id, object.get_mut("data")) {
            data.insert("id".to_owned(), id.into());
        }
        json
    })
}

proptest! {
    #[test]
    fn an_object_with_a_type_is_written_back_as_it_came(json in object()) {
        let text = json.to_string();
        let event: Event = serde_json::from_str(&text).unwrap();
        let event_type = event.event_type();
        prop_assert_eq!(Some(event_type.as_str()), json["type"].as_str());
        prop_assert_eq!(&serde_json::to_value(&event).unwrap(), &json);
        let written = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Value>(&written).unwrap(), &json);
        prop_assert_eq!(serde_json::from_str::<Event>(&written).unwrap(), event);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_object_with_a_type_is_an_event_under_each_scheme(json in object()) {
        // These are the token's.
        prop_assume!(json.get("exp").is_none());
        for event in events(&json) {
            prop_assert_eq!(serde_json::to_value(&event).unwrap(), json.clone());
        }
    }
}
