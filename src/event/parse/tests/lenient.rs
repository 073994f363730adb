//! Members of any kind, at any place.

use serde_json::json;

use super::*;
use crate::{
    EventType,
    event::form::{Member, members},
};

/// The event of a JSON object, whichever member comes first.
fn event(json: &Value) -> Event {
    let members = json.as_object().unwrap();
    let mut names: Vec<&String> = members.keys().collect();
    let write = |names: &[&String]| {
        let members = names
            .iter()
            .map(|name| format!("{}:{}", json!(name), members[*name]));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    };
    names.sort_by_key(|name| *name != "type");
    let event = parse(&write(&names));
    names.reverse();
    assert_eq!(parse(&write(&names)), event, "the order of members");
    assert_eq!(
        serde_json::from_value::<Event>(json.clone()).unwrap(),
        event
    );
    event
}

/// An event with every member that its type documents.
fn full(known: &EventType) -> Value {
    let row = Row::named(known.as_str()).unwrap();
    let mut data = json!({"id": "id_1", "later": {"a": [1]}});
    for name in row.members {
        data[name] = format!("the {name}").into();
    }
    json!({
        "type": known, "version": "v1", "timestamp": "2026-01-22T12:00:00Z", "data": data,
        "user_metadata": {"k": "v"}, "trace": "t",
    })
}

/// Values of every kind, and none.
fn kinds() -> Vec<Option<Value>> {
    let mut kinds = vec![None];
    kinds.extend(
        [
            json!(null),
            json!(true),
            json!(7),
            json!(-7),
            json!(u64::MAX),
            json!(1.5),
            json!(1e30),
            json!(""),
            json!("text"),
            json!("2026-01-22T12:00:00"),
            json!("2026-01-22T13:00:00.250+01:00"),
            json!([]),
            json!(["a", null]),
            json!({}),
            json!({"a": {"b": [1, {"c": null}]}}),
            json!({"$serde_json::private::Number": "1"}),
        ]
        .map(Some),
    );
    kinds
}

fn put(object: &mut Value, name: &str, value: Option<&Value>) {
    let object = object.as_object_mut().unwrap();
    match value {
        Some(value) => drop(object.insert(name.to_owned(), value.clone())),
        None => drop(object.remove(name)),
    }
}

/// The members with a meaning that an event's data has.
fn known(event: &Event) -> Vec<(&str, Value)> {
    let data = event.data.typed().unwrap();
    members(data)
        .filter(|(_, member)| !matches!(member, Member::Value(_)))
        .map(|(name, member)| (name, serde_json::to_value(member).unwrap()))
        .collect()
}

#[test]
fn a_member_of_the_top_level_may_be_of_any_kind() {
    for event_type in EventType::KNOWN.iter().chain([&"new.type".into()]) {
        let full = match event_type {
            EventType::Unknown(_) => {
                json!({"type": event_type, "version": "v1", "timestamp": "2026-01-22T12:00:00Z", "data": {"id": "id_1"}, "user_metadata": {"k": "v"}, "trace": "t"})
            }
            known => full(known),
        };
        let expected = event(&full);
        for name in [
            "version",
            "timestamp",
            "user_metadata",
            "userMetadata",
            "trace",
        ] {
            for kind in kinds() {
                let mut json = full.clone();
                put(&mut json, name, kind.as_ref());
                let event = event(&json);
                assert_eq!(event.event_type(), *event_type);
                assert_eq!(event.data, expected.data);
                assert_eq!(serde_json::to_value(&event).unwrap(), json);

                let (mut understood, mut fields) = (false, expected.clone());
                match (name, &kind) {
                    ("version", kind) => {
                        fields.version = kind.as_ref().and_then(Value::as_str).map(Into::into);
                        understood = fields.version.is_some();
                    }
                    ("timestamp", kind) => {
                        let time = kind.as_ref().and_then(Value::as_str);
                        fields.occurred_at = time.and_then(|time| rfc3339::parse(time).ok());
                        understood = fields.occurred_at.is_some();
                    }
                    ("user_metadata", Some(Value::Object(members))) => {
                        fields.user_metadata = members.clone();
                        understood = !members.is_empty();
                    }
                    ("user_metadata", _) => fields.user_metadata = Map::new(),
                    _ => {}
                }
                assert_eq!(event.version, fields.version, "{json}");
                assert_eq!(event.occurred_at, fields.occurred_at, "{json}");
                assert_eq!(event.user_metadata, fields.user_metadata, "{json}");
                let raw = kind.filter(|_| !understood);
                assert_eq!(event.other.get(name), raw.as_ref(), "{json}");
            }
        }
    }
}

#[test]
fn data_may_be_of_any_kind() {
    for event_type in EventType::KNOWN {
        for kind in kinds() {
            let mut json = full(event_type);
            put(&mut json, "data", kind.as_ref());
            let event = event(&json);
            assert_eq!(event.event_type(), *event_type);
            assert_eq!(serde_json::to_value(&event).unwrap(), json);
            let data = kind.unwrap_or_default();
            let event_type = event_type.as_str().to_owned();
            assert_eq!(event.data, EventData::Unknown { event_type, data });
            assert_eq!(event.version.as_deref(), Some("v1"));
            assert!(event.occurred_at.is_some());
            assert_eq!(event.user_metadata["k"], "v");
        }
    }
}

#[test]
fn a_member_of_data_may_be_of_any_kind() {
    for event_type in EventType::KNOWN {
        let full = full(event_type);
        let expected = event(&full);
        let row = Row::named(event_type.as_str()).unwrap();
        for name in row
            .members
            .iter()
            .chain(&["user_metadata", "userMetadata", "later"])
        {
            for kind in kinds() {
                let mut json = full.clone();
                put(&mut json["data"], name, kind.as_ref());
                let event = event(&json);
                assert_eq!(event.event_type(), *event_type);
                assert_eq!(event.data.id(), Some("id_1"));
                assert_eq!(serde_json::to_value(&event).unwrap(), json);
                assert_eq!(event.user_metadata, expected.user_metadata);
                // The two names of one member are tested below.
                if *event_type == EventType::VideoGenerated && name.ends_with("_uri") {
                    continue;
                }
                let is_known = match &kind {
                    Some(Value::String(_)) => row.members.contains(name),
                    Some(Value::Number(_)) => *name == "error_code",
                    _ => false,
                };
                let mut members = known(&expected);
                members.retain(|(other, _)| other != name);
                let mut found = known(&event);
                found.retain(|(other, _)| other != name);
                assert_eq!(found, members, "{json}");
                let raw = kind.filter(|_| !is_known);
                let other = event.data.typed().unwrap().other();
                assert_eq!(other.get(*name), raw.as_ref(), "{json}");
            }
        }
    }
}

#[test]
fn data_without_a_usable_id_is_kept_as_it_came() {
    for event_type in EventType::KNOWN {
        for kind in kinds() {
            let mut json = full(event_type);
            json["data"]["user_metadata"] = json!({"k": "inner"});
            put(&mut json["data"], "id", kind.as_ref());
            let event = event(&json);
            assert_eq!(event.event_type(), *event_type);
            assert_eq!(serde_json::to_value(&event).unwrap(), json);
            let id = match &kind {
                Some(Value::String(id)) if !id.is_empty() => Some(id.clone()),
                Some(Value::Number(id)) if !id.is_f64() => Some(id.to_string()),
                _ => None,
            };
            assert_eq!(event.data.id(), id.as_deref());
            match &event.data {
                EventData::Unknown { data, .. } => {
                    assert_eq!(id, None);
                    assert_eq!(*data, json["data"]);
                }
                _ => assert!(id.is_some()),
            }
        }
    }
}

#[test]
fn an_unknown_type_has_an_id_if_its_data_has_a_text() {
    for (data, id) in [
        (json!({"id": "a"}), Some("a")),
        (json!({"id": ""}), None),
        (json!({"id": 1}), None),
        (json!(["id"]), None),
        (json!(null), None),
    ] {
        let event = event(&json!({"type": "new.type", "data": data}));
        assert_eq!(event.data.id(), id);
    }
}

#[test]
fn the_metadata_is_the_first_that_is_not_empty() {
    let places = [
        "/user_metadata",
        "/userMetadata",
        "/data/user_metadata",
        "/data/userMetadata",
    ];
    for event_type in ["batch.expired", "new.type"] {
        // Of each place: absent, null, empty, or metadata.
        for choice in 0..4_usize.pow(4) {
            let mut json = json!({"type": event_type, "data": {"id": "b"}});
            let mut expected = Map::new();
            for (number, place) in places.iter().enumerate() {
                let value = match choice / 4_usize.pow(u32::try_from(number).unwrap()) % 4 {
                    0 => continue,
                    1 => json!(null),
                    2 => json!({}),
                    _ => json!({ "k": number }),
                };
                if let Value::Object(members) = &value
                    && expected.is_empty()
                {
                    expected.clone_from(members);
                }
                let (parent, name) = place.rsplit_once('/').unwrap();
                put(json.pointer_mut(parent).unwrap(), name, Some(&value));
            }
            let event = event(&json);
            assert_eq!(event.user_metadata, expected, "{json}");
            assert_eq!(serde_json::to_value(&event).unwrap(), json);
        }
    }
}

#[test]
fn a_stand_in_of_any_kind_is_written_back() {
    for first in kinds() {
        for second in kinds() {
            let mut json = json!({"type": "video.generated", "data": {"id": "v"}});
            put(&mut json["data"], "output_file_uri", first.as_ref());
            put(&mut json["data"], "video_uri", second.as_ref());
            let event = event(&json);
            assert_eq!(serde_json::to_value(&event).unwrap(), json);
            let EventData::VideoGenerated(video) = event.data else {
                panic!("{json}");
            };
            let text =
                |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
            assert_eq!(video.output_file_uri, text(&first).or(text(&second)));
        }
    }
}

#[test]
fn a_timestamp_is_written_back_as_it_came() {
    for (text, is_time) in [
        ("2026-01-22T12:00:00Z", true),
        ("2026-01-22T12:00:00.0Z", true),
        ("2026-01-22T12:00:00.123456789Z", true),
        ("2026-01-22T12:00:00.1234567891Z", true),
        ("2026-01-22T12:00:00+00:00", true),
        ("2026-01-22T13:00:00+01:00", true),
        ("2016-12-31T23:59:60Z", true),
        ("2026-01-22T12:00:00", false),
        ("2026-01-22", false),
        ("", false),
    ] {
        let json = json!({"type": "ping", "timestamp": text});
        let event = event(&json);
        assert_eq!(event.occurred_at.is_some(), is_time, "{text}");
        assert_eq!(event.other.contains_key("timestamp"), !is_time, "{text}");
        assert_eq!(serde_json::to_value(&event).unwrap(), json);
    }
}

#[test]
fn a_field_that_was_changed_is_written_instead_of_what_came() {
    let json = r#"{"type":"video.generated","version":1,"timestamp":"2026-01-22T12:00:00.0Z","data":{"id":7,"video_uri":"a"},"userMetadata":{"a":1}}"#;
    let mut event = parse(json);
    event.version = Some("v1".into());
    event.occurred_at = Some(OffsetDateTime::UNIX_EPOCH);
    event.user_metadata.clear();
    let EventData::VideoGenerated(video) = &mut event.data else {
        panic!("{event:?}");
    };
    video.id = "7a".into();
    video.output_file_uri = Some("b".into());
    video.other.insert("id".into(), json!(8));
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        json!({"type": "video.generated", "version": "v1", "timestamp": "1970-01-01T00:00:00Z", "data": {"id": "7a", "video_uri": "b"}})
    );
}

#[test]
fn debug_shows_no_job_token_and_no_audience() {
    let token =
        "gwj1_AAECAwQFBgcICQoLDA0OD25pZ2h0bHktZXZhbOlXDoa8ulNKdxLpqv9X2iF_1HZEhvaPA6R9hkQo60Qx";
    for event_type in EventType::KNOWN.iter().chain([&"new.type".into()]) {
        let mut json = full_or_unknown(event_type);
        let places = [
            "/version",
            "/timestamp",
            "/data/id",
            "/data/new",
            "/data/error_code",
            "/data/error_message",
            "/data/output_file_uri",
            "/data/video_uri",
            "/data/file_name",
            "/data",
            "/user_metadata",
            "/userMetadata",
            "/new",
        ];
        json["aud"] = "https://example.com/3f9c-secret".into();
        for place in places {
            for value in [
                json!(token),
                json!([format!("https://example.com/?a={token}")]),
                json!({"webhook_config": {"user_metadata": {"gemini_webhooks_job": "3f9c-secret"}}}),
                json!({ token: 1 }),
            ] {
                let mut json = json.clone();
                let (parent, name) = place.rsplit_once('/').unwrap();
                put(json.pointer_mut(parent).unwrap(), name, Some(&value));
                let event = event(&json);
                let shown = format!("{event:?} {event:#?} {:?}", event.data);
                assert!(!shown.contains("AAECAw"), "{shown}");
                assert!(!shown.contains("3f9c-secret"), "{shown}");
            }
        }
    }
    let named = event(&json!({"type": token}));
    assert!(!format!("{named:?}").contains("AAECAw"));
}

fn full_or_unknown(event_type: &EventType) -> Value {
    match event_type {
        EventType::Unknown(_) => json!({"type": event_type, "data": {"id": "id_1"}}),
        known => full(known),
    }
}
