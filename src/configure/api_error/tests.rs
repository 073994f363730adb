use super::*;
use crate::configure::Webhook;

fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> ApiError {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    acknowledged(&response.body(body).unwrap()).unwrap_err()
}

#[test]
fn an_error_of_the_service_is_read_whole() {
    let error = answer(
        429,
        &[("retry-after", "7")],
        r#"{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED",
            "details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R"}]}}"#,
    );
    assert_eq!(
        error.to_string(),
        "the service answers 429 RESOURCE_EXHAUSTED: Quota exceeded"
    );
    let ApiError::Refused {
        code,
        details,
        retry_after,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((code, &details[0]["reason"]), (Some(429), &"R".into()));
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}

#[test]
fn an_error_of_anything_else_is_shown_in_part() {
    let page: &'static str = String::leak("<html>".repeat(1000));
    let shown = answer(502, &[], page).to_string();
    assert!(shown.contains("502") && shown.contains("<html>"), "{shown}");
    assert!(shown.len() < 300, "{shown}");
    for (body, shown) in [
        ("", ""),
        ("{}", ": {}"),
        ("[]", ": []"),
        (r#"{"error":7}"#, r#": {"error":7}"#),
        (r#"{"error":{}}"#, r#": {"error":{}}"#),
        (
            r#"{"error":{"status":"INTERNAL"}}"#,
            r#" INTERNAL: {"error":{"status":"INTERNAL"}}"#,
        ),
        ("two\nlines\u{1b}[1m", ": two lines [1m"),
    ] {
        let expected = format!("the service answers 500{shown}");
        assert_eq!(answer(500, &[], body).to_string(), expected);
    }
}

#[test]
fn an_error_is_read_in_each_form() {
    let error =
        r#"{"error":{"code":"400","status":"INVALID_ARGUMENT","message":"no","details":7}}"#;
    let array = format!("[{error}]");
    let marked = format!("\u{feff}[{{}},{error}]");
    for body in [error, array.leak(), marked.leak()] {
        // An error is one whatever the HTTP status says.
        for status in [400, 200] {
            let ApiError::Refused {
                http_status,
                code,
                status: name,
                message,
                details,
                ..
            } = answer(status, &[], body)
            else {
                panic!("{body}");
            };
            assert_eq!((http_status, code), (status, Some(400)), "{body}");
            assert_eq!((&*name, &*message), ("INVALID_ARGUMENT", "no"), "{body}");
            assert!(details.is_empty());
        }
    }
}

#[test]
fn no_member_of_an_error_makes_another_unreadable() {
    let error = serde_json::json!({
        "code": 400, "status": "INVALID_ARGUMENT", "message": "no", "details": [{"a": 1}],
    });
    for value in ["null", "true", "-1.5", r#""""#, "[]", "[7]", "{}"] {
        let value: Value = serde_json::from_str(value).unwrap();
        for name in ["code", "status", "message", "details"] {
            let mut changed = error.clone();
            changed[name] = value.clone();
            let body = serde_json::json!({"error": changed}).to_string();
            let ApiError::Refused {
                code,
                status,
                message,
                details,
                ..
            } = answer(400, &[], body.leak())
            else {
                panic!("{changed}");
            };
            assert!(name == "code" || code == Some(400), "{changed}");
            assert!(
                name == "status" || status == "INVALID_ARGUMENT",
                "{changed}"
            );
            assert!(name == "message" || message == "no", "{changed}");
            assert!(name == "details" || details.len() == 1, "{changed}");
        }
    }
}

#[test]
fn a_success_is_acknowledged_whatever_the_body_is() {
    for body in [
        "",
        "{}",
        "<html>",
        "[]",
        r#"{"error":null}"#,
        r#"{"error":{}}"#,
    ] {
        assert!(acknowledged(&Response::new(body)).is_ok(), "{body}");
    }
}

/// Loggers print an error and then its sources.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect()
}

#[test]
fn a_chain_of_errors_says_nothing_twice() {
    let unreadable =
        |body: &'static str| Webhook::from_response(&Response::new(body)).expect_err(body);
    for (error, length) in [
        (answer(404, &[], r#"{"error":{"message":"gone"}}"#), 1),
        (answer(502, &[], "<html>"), 1),
        (unreadable(""), 2),
        (unreadable("[7]"), 2),
    ] {
        let chain = chain(&error);
        assert_eq!(chain.len(), length, "{chain:?}");
        for (index, said) in chain.iter().enumerate() {
            let others = chain.iter().skip(index + 1);
            assert!(!said.is_empty(), "{chain:?}");
            for other in others {
                assert!(!said.contains(other) && !other.contains(said), "{chain:?}");
            }
        }
    }
    assert_eq!(
        chain(&unreadable("{\n\"id\":}")),
        [
            "the service's answer 200 is not of the documented form",
            "expected value at line 2 column 6",
        ]
    );
}

#[test]
fn no_error_shows_a_secret() {
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let refused = [
        (
            format!("not {secret}, whsec_...3frh or {secret}"),
            ": not whsec_.., whsec_...3frh or whsec_..",
        ),
        (
            format!(
                r#"{{"error":{{"status":"{secret}","message":"no https://e.com/w?job=gwj1_C2FV-_C2FV, {secret}",
                    "details":[{{"at":"https://me:C2FV@e.com/?C2FV"}},["{secret}"]]}}}}"#
            ),
            " whsec_..: no https://e.com/w?.. whsec_..",
        ),
        (
            r#"{"error":{"message":"Consumer 'api_key:AIzaSyC2FV' has been suspended."}}"#.into(),
            ": Consumer 'api_key:AIza..' has been suspended.",
        ),
        // Cut after the redaction: the rest of an address would not be recognized as one.
        (
            format!("{}https://me:C2FV@e.com", " ".repeat(185)),
            "https://..@e.co",
        ),
    ];
    let unreadable = [
        format!("\"{secret}\""),
        format!(r#""\"{secret}\" ""#),
        format!("[\"{secret}\"]"),
        format!(r#"{{"secret":"{secret}",}}"#),
        secret.into(),
    ];
    let unreadable =
        unreadable.map(|body| Webhook::from_response(&Response::new(body)).unwrap_err());
    let refused = refused.map(|(body, shown)| {
        let error = answer(400, &[], body.leak());
        assert!(error.to_string().ends_with(shown), "{error}");
        error
    });
    for error in refused.iter().chain(&unreadable) {
        let shown = format!("{error:?} {:?}", chain(error));
        assert!(!shown.contains("C2FV"), "{shown}");
    }
}

#[test]
fn the_time_to_wait_is_read_in_both_forms() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let later = ("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT");
    let before = ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT");
    for (headers, expected) in [
        (&[("retry-after", "0")][..], Some(0)),
        (&[date, later], Some(120)),
        (&[date, before], Some(0)),
        (&[later], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "-1")], None),
        (&[], None),
    ] {
        let ApiError::Refused { retry_after, .. } = answer(503, headers, "") else {
            panic!("it is refused");
        };
        assert_eq!(
            retry_after,
            expected.map(Duration::from_secs),
            "{headers:?}"
        );
    }
}

#[test]
fn the_name_of_an_error_is_read_where_the_interactions_api_writes_it() {
    let body = r#"{"error":{"code":"invalid_request","message":"no such tool"}}"#;
    let error = answer(400, &[], body);
    let shown = "the service answers 400 invalid_request: no such tool";
    assert_eq!(error.to_string(), shown);
    assert!(
        matches!(error, ApiError::Refused { code: None, .. }),
        "{error:?}"
    );
}

#[test]
fn an_error_in_a_file_is_not_that_of_the_download() {
    let line = r#"{"error":{"code":3,"message":"row 7"}}"#;
    assert_eq!(downloaded(&Response::new(line)).unwrap(), line.as_bytes());
    for status in [302, 404, 500] {
        let answer = Response::builder().status(status).body(line).unwrap();
        let error = downloaded(&answer).unwrap_err();
        assert!(error.to_string().ends_with(": row 7"), "{error}");
    }
}
