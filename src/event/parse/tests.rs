use serde_json::json;

use super::*;

mod lenient;

fn parse(json: &str) -> Event {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn refuse(json: &str) -> String {
    serde_json::from_str::<Event>(json)
        .expect_err(json)
        .to_string()
}

/// Every order of the members of an object.
fn permutations(members: &[&str]) -> Vec<String> {
    let [first, rest @ ..] = members else {
        return vec![String::new()];
    };
    let mut orders = Vec::new();
    for order in permutations(rest) {
        let parts: Vec<&str> = order.split('|').filter(|part| !part.is_empty()).collect();
        for position in 0..=parts.len() {
            let mut parts = parts.clone();
            parts.insert(position, first);
            orders.push(parts.join("|"));
        }
    }
    orders
}

#[test]
fn the_order_of_members_makes_no_difference() {
    let members = [
        r#""type":"batch.failed""#,
        r#""version":"v1""#,
        r#""timestamp":"2026-01-22T12:00:00.5+01:00""#,
        r#""data":{"id":"b","error_code":13,"new":[1,{"a":null}]}"#,
        r#""user_metadata":{"k":"v"}"#,
    ];
    let expected = parse(&format!("{{{}}}", members.join(",")));
    let EventData::BatchFailed(batch) = &expected.data else {
        panic!("{expected:?}");
    };
    assert_eq!(batch.error_code.as_ref().unwrap().to_string(), "13");
    assert_eq!(batch.other["new"], json!([1, {"a": null}]));
    assert_eq!(
        expected.occurred_at.unwrap().unix_timestamp_nanos(),
        1_769_079_600_500_000_000
    );
    let orders = permutations(&members);
    assert_eq!(orders.len(), 120);
    for order in orders {
        assert_eq!(
            parse(&format!("{{{}}}", order.replace('|', ","))),
            expected,
            "{order}"
        );
    }
}

#[test]
fn serializing_gives_the_wire_format_back() {
    for json in [
        r#"{"type":"batch.succeeded","version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{"id":"b","output_file_uri":"gs://b/r"}}"#,
        r#"{"type":"batch.cancelled","data":{"id":"b"}}"#,
        r#"{"type":"batch.expired","data":{"id":"b"}}"#,
        r#"{"type":"batch.failed","data":{"id":"b","error_code":"INTERNAL","error_message":"m"}}"#,
        r#"{"type":"batch.failed","data":{"id":"b","error_code":13}}"#,
        r#"{"type":"interaction.requires_action","data":{"id":"i"}}"#,
        r#"{"type":"interaction.completed","data":{"id":"i"},"user_metadata":{"a":{"b":[1,2.5,-3]}}}"#,
        r#"{"type":"interaction.failed","data":{"id":"i","error_code":1.5}}"#,
        r#"{"type":"interaction.cancelled","data":{"id":"i","later":{"deep":true}}}"#,
        r#"{"type":"video.generated","data":{"id":"v","output_file_uri":"gs://v","file_name":"files/v"}}"#,
        r#"{"type":"new.type","data":{"z":1,"a":[]},"trace":"t"}"#,
    ] {
        let event = parse(json);
        let back = serde_json::to_value(&event).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(json).unwrap());
        assert_eq!(serde_json::from_value::<Event>(back).unwrap(), event);
    }
}

#[test]
fn a_number_of_many_digits_is_read_exactly() {
    for digits in [
        "1.6666666666666667e+70",
        "2.2250738585072011e-308",
        "0.1234567890123456789012345678901234567890",
    ] {
        let event = parse(&format!(r#"{{"type":"ping","a":{digits}}}"#));
        let exact: f64 = digits.parse().unwrap();
        assert_eq!(event.other["a"], json!(exact), "{digits}");
    }
}

#[test]
fn an_unknown_type_is_kept_whole() {
    let event = parse(r#"{"type":"ping"}"#);
    assert_eq!(
        event.data,
        EventData::Unknown {
            event_type: "ping".into(),
            data: Value::Null
        }
    );
    for json in [
        r#"{"type":"a.b","data":[1,"2"]}"#,
        r#"{"data":[1,"2"],"type":"a.b"}"#,
    ] {
        let data = json!([1, "2"]);
        assert_eq!(
            parse(json).data,
            EventData::Unknown {
                event_type: "a.b".into(),
                data
            }
        );
    }
}

#[test]
fn a_name_means_something_only_in_the_types_that_document_it() {
    let event = parse(r#"{"type":"batch.cancelled","data":{"id":"b","error_code":{"a":1}}}"#);
    let EventData::BatchCancelled(batch) = event.data else {
        panic!("{event:?}");
    };
    assert_eq!(batch.other["error_code"], json!({"a": 1}));
}

#[test]
fn user_metadata_is_found_at_the_top_and_inside_data() {
    for json in [
        r#"{"type":"T","data":{"id":"b"},"user_metadata":{"k":"v"}}"#,
        r#"{"user_metadata":{"k":"v"},"data":{"id":"b"},"type":"T"}"#,
        r#"{"type":"T","data":{"id":"b","user_metadata":{"k":"v"}}}"#,
        r#"{"data":{"id":"b","user_metadata":{"k":"v"}},"type":"T"}"#,
        r#"{"type":"T","data":{"id":"b","user_metadata":{"k":"v"}},"user_metadata":null}"#,
        r#"{"type":"T","data":{"id":"b","user_metadata":{"k":"v"}},"user_metadata":{}}"#,
        r#"{"type":"T","data":{"id":"b","user_metadata":{"k":"inner"}},"user_metadata":{"k":"v"}}"#,
    ] {
        for event_type in ["batch.expired", "new.type"] {
            let event = parse(&json.replace('T', event_type));
            assert_eq!(event.user_metadata["k"], "v", "{json}");
            let back = serde_json::to_string(&event).unwrap();
            assert_eq!(parse(&back), event, "{back}");
        }
    }
}

#[test]
fn the_inner_user_metadata_is_kept_beside_an_outer_one() {
    let event = parse(
        r#"{"type":"batch.expired","data":{"id":"b","user_metadata":{"k":1}},"user_metadata":{"k":2}}"#,
    );
    assert_eq!(
        serde_json::to_value(&event).unwrap()["data"]["user_metadata"]["k"],
        1
    );
}

#[test]
fn video_uri_stands_in_for_output_file_uri() {
    for (data, uri) in [
        (r#"{"id":"v","video_uri":"a"}"#, "a"),
        (r#"{"id":"v","video_uri":"a","output_file_uri":null}"#, "a"),
        (r#"{"id":"v","video_uri":"a","output_file_uri":"b"}"#, "b"),
        (r#"{"id":"v","output_file_uri":"b","video_uri":"a"}"#, "b"),
    ] {
        let event = parse(&format!(r#"{{"type":"video.generated","data":{data}}}"#));
        let EventData::VideoGenerated(video) = event.data else {
            panic!("{event:?}");
        };
        assert_eq!(video.output_file_uri.as_deref(), Some(uri), "{data}");
    }
}

#[test]
fn a_member_given_twice_is_refused_wherever_it_stands() {
    for (json, name) in [
        (r#"{"type":"ping","type":"ping"}"#, "type"),
        (r#"{"type":"ping","data":1,"data":1}"#, "data"),
        (r#"{"data":1,"type":"ping","data":1}"#, "data"),
        (
            r#"{"type":"ping","version":null,"version":"v1"}"#,
            "version",
        ),
        (
            r#"{"type":"ping","timestamp":null,"timestamp":null}"#,
            "timestamp",
        ),
        (
            r#"{"type":"ping","user_metadata":{},"user_metadata":null}"#,
            "user_metadata",
        ),
        (r#"{"type":"ping","a":1,"a":1}"#, "a"),
        (r#"{"type":"ping","a":{"b":[{"c":1,"c":2}]}}"#, "c"),
        (r#"{"type":"ping","user_metadata":{"t":1,"t":2}}"#, "t"),
        (r#"{"type":"ping","data":{"c":1,"c":2}}"#, "c"),
        (
            r#"{"type":"batch.failed","data":{"id":"b","id":"b"}}"#,
            "id",
        ),
        (
            r#"{"data":{"id":"b","id":"b"},"type":"batch.failed"}"#,
            "id",
        ),
        (
            r#"{"type":"batch.failed","data":{"id":"b","error_code":1,"error_code":2}}"#,
            "error_code",
        ),
        (
            r#"{"type":"batch.failed","data":{"id":"b","x":1,"\u0078":2}}"#,
            "x",
        ),
    ] {
        let error = refuse(json);
        assert!(
            error.contains(&format!("duplicate member {name:?}")),
            "{json}: {error}"
        );
    }
}

#[test]
fn what_is_not_an_event_is_refused_with_the_reason() {
    for (json, reason) in [
        ("", "EOF"),
        ("[]", "expected an event"),
        ("{}", "no `type`"),
        (r#"{"type":null}"#, "`type` is not a text"),
        (r#"{"type":7}"#, "`type` is not a text"),
        (r#"{"type":["a"]}"#, "`type` is not a text"),
        (r#"{"type":"ping"} {}"#, "trailing characters"),
        ("\u{feff}{}", "expected value"),
    ] {
        let error = refuse(json);
        assert!(error.contains(reason), "{json}: {error}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    for json in ["[".repeat(1 << 20), r#"{"a":"#.repeat(1 << 17)] {
        assert!(serde_json::from_str::<Event>(&json).is_err());
        let inside = format!(r#"{{"type":"ping","data":{json}"#);
        assert!(refuse(&inside).contains("recursion limit"));
    }
}

#[test]
fn nesting_is_limited_to_127_levels() {
    let nested = |levels| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        serde_json::from_str::<Event>(&format!(r#"{{"a":{open}{close},"type":"ping"}}"#))
    };
    // The event itself is one.
    let event = nested(126).unwrap();
    assert_eq!(format!("{event:?}").matches('[').count(), 126);
    assert!(nested(127).is_err());
}

#[cfg(feature = "testing")]
#[test]
fn each_sample_has_all_members_that_its_type_documents() {
    for known in crate::EventType::KNOWN {
        let sample = crate::testing::sample(known);
        let event = parse(&sample);
        assert_eq!(event.event_type(), *known);
        let back = serde_json::to_value(&event).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(&sample).unwrap());

        let row = Row::named(known.as_str()).unwrap();
        for name in row.members.iter().filter(|name| **name != "video_uri") {
            assert!(back["data"].get(name).is_some(), "{sample}: {name}");
        }
    }
}
