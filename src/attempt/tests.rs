use super::*;

const SIGNATURE: &str = "v1,AAAA";

fn with_id(id: &str) -> Result<(), String> {
    Attempt::new(id, "1", SIGNATURE)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn with_timestamp(timestamp: &str) -> Result<i64, String> {
    Attempt::new("a", timestamp, SIGNATURE)
        .map(|headers| headers.unix_timestamp())
        .map_err(|error| error.to_string())
}

#[test]
fn an_id_is_visible_ascii_without_a_full_stop() {
    assert!(with_id("msg_0f9c-~!").is_ok());
    assert!(with_id(&"a".repeat(256)).is_ok());
    for (id, reason) in [
        (String::new(), "it is empty"),
        ("a".repeat(257), "it is longer than 256 bytes"),
        (
            "a.b".into(),
            "it has a full stop, which separates the parts of the signed content",
        ),
        ("a b".into(), "it has characters that are not visible ASCII"),
        ("a\n".into(), "it has characters that are not visible ASCII"),
        (
            "a\u{e9}".into(),
            "it has characters that are not visible ASCII",
        ),
    ] {
        let message = format!("the header webhook-id is malformed: {reason}");
        assert_eq!(with_id(&id), Err(message));
    }
}

#[test]
fn a_timestamp_has_only_its_canonical_form() {
    assert_eq!(with_timestamp("0"), Ok(0));
    assert_eq!(with_timestamp("1780000000"), Ok(1_780_000_000));
    assert_eq!(with_timestamp("9223372036854775807"), Ok(i64::MAX));
    for timestamp in [
        "",
        "-1",
        "+1",
        "00",
        "01",
        "1.0",
        " 1",
        "1 ",
        "1e9",
        "0x1",
        "\u{661}",
        "1\0",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551616",
    ] {
        assert!(with_timestamp(timestamp).is_err(), "{timestamp:?}");
    }
    assert!(
        with_timestamp(&"9".repeat(40))
            .unwrap_err()
            .contains("beyond 64 bits")
    );
}

#[test]
fn names_are_found_in_any_case_and_any_order() {
    let pairs = [
        ("WEBHOOK-SIGNATURE", SIGNATURE),
        ("Webhook-Id", "a"),
        ("webhook-timestamp", "1"),
    ];
    assert_eq!(Attempt::from_pairs(pairs).unwrap().id(), "a");
}

#[test]
fn a_header_absent_or_given_twice_is_named() {
    let all = [
        ("webhook-id", "a"),
        ("webhook-timestamp", "1"),
        ("webhook-signature", SIGNATURE),
    ];
    for (position, (name, value)) in all.into_iter().enumerate() {
        let others = all.into_iter().filter(|(other, _)| *other != name);
        let error = Attempt::from_pairs(others).unwrap_err();
        assert_eq!(
            error,
            Error::MissingHeader {
                name: NAMES[position]
            }
        );

        let twice = all.into_iter().chain([(name, value)]);
        let error = Attempt::from_pairs(twice).unwrap_err();
        assert_eq!(
            error,
            Error::DuplicateHeader {
                name: NAMES[position]
            }
        );
    }
}

#[cfg(feature = "http")]
#[test]
fn a_header_map_is_read_like_pairs() {
    let mut map = http::HeaderMap::new();
    for (name, value) in NAMES.into_iter().zip(["a", "1", SIGNATURE]) {
        let error = (&map).into_attempt().unwrap_err();
        assert_eq!(error, Error::MissingHeader { name });
        map.insert(name, value.parse().unwrap());
    }
    assert_eq!((&map).into_attempt().unwrap().id(), "a");
    for name in NAMES {
        let mut twice = map.clone();
        twice.append(name, map[name].clone());
        let error = (&twice).into_attempt().unwrap_err();
        assert_eq!(error, Error::DuplicateHeader { name });
    }
}

#[test]
fn an_attempt_and_the_result_of_its_constructor_are_taken() {
    let attempt = Attempt::new("a", "1", SIGNATURE);
    assert_eq!(attempt.clone().into_attempt().unwrap().id(), "a");
    assert_eq!(attempt.unwrap().into_attempt().unwrap().id(), "a");
    let malformed = Attempt::new("a.b", "1", SIGNATURE);
    let error = malformed.clone().unwrap_err();
    assert_eq!(malformed.into_attempt().unwrap_err(), error);
}

#[test]
fn the_query_of_a_uri_is_what_follows_its_first_question_mark() {
    let attempt = Attempt::new("a", "1", SIGNATURE).unwrap();
    assert_eq!(attempt.query, None);
    for (uri, query) in [
        ("", ""),
        ("/", ""),
        ("/webhook?", ""),
        ("/webhook?a=b&c", "a=b&c"),
        ("/webhook?a=b?c", "a=b?c"),
        ("/webhook?a=b#c?d", "a=b"),
        ("/webhook#a?b", ""),
        ("https://example.com?a=b", "a=b"),
        ("https://example.com:443/?a", "a"),
    ] {
        assert_eq!(attempt.with_uri(uri).query, Some(query), "{uri}");
    }
    let replaced = attempt.with_uri("/?a").with_uri("/?b");
    assert_eq!(replaced.query, Some("b"));
}

#[cfg(feature = "http")]
#[test]
fn a_request_gives_its_uri_beside_its_headers() {
    for (uri, query) in [
        ("/", ""),
        ("/webhook?a=b?c", "a=b?c"),
        ("https://example.com/?a=b", "a=b"),
    ] {
        let mut request = http::Request::get(uri);
        for (name, value) in NAMES.into_iter().zip(["a", "1", SIGNATURE]) {
            request = request.header(name, value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        for attempt in [
            parts.into_attempt(),
            (&parts.headers, &parts.uri).into_attempt(),
        ] {
            let attempt = attempt.unwrap();
            assert_eq!((attempt.id(), attempt.query), ("a", Some(query)), "{uri}");
        }
        let bare = (&parts.headers).into_attempt().unwrap();
        assert_eq!((bare.id(), bare.query), ("a", None));
        assert_eq!(bare.with_uri(uri).query, Some(query));
    }
    let (parts, ()) = http::Request::new(()).into_parts();
    let missing = Error::MissingHeader { name: NAMES[0] };
    assert_eq!(parts.into_attempt().unwrap_err(), missing);
}

#[cfg(feature = "testing")]
#[test]
fn a_delivery_that_was_signed_for_a_test_is_taken() {
    let secret = crate::Secret::from_bytes(&[7; 16]).unwrap();
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let mut sent = crate::testing::Signer::v1(&secret).sign("a", now, "");
    assert_eq!((&sent).into_attempt().unwrap().id(), "a");
    sent.id.clear();
    let error = (&sent).into_attempt().unwrap_err();
    assert_eq!(error.code(), "invalid_header");
}

#[test]
fn debug_output_holds_neither_a_signature_nor_a_query() {
    let headers = Attempt::new("a", "1", "v1,c2VjcmV0").unwrap();
    let shown = format!("{headers:?} {:?}", headers.with_uri("/?job=c2VjcmV0"));
    assert!(
        shown.contains("v1") && !shown.contains("c2VjcmV0"),
        "{shown}"
    );
    assert!(shown.contains("has_uri: true"), "{shown}");
}
