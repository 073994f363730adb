//! What an attacker, or a broken sender, might send: each refused, with the right code.

use gemini_webhooks::{Error, Secret, Verifier, WebhookHeaders, testing::Signer};
use time::OffsetDateTime;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NOW: i64 = 1_780_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn secret() -> Secret {
    Secret::parse(SECRET).unwrap()
}

fn verifier() -> Verifier {
    Verifier::builder().secret(secret()).build().unwrap()
}

fn verify(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), Error> {
    let headers = WebhookHeaders::new(id, timestamp, signature)?;
    verifier().verify_at(headers, body, now()).map(drop)
}

#[track_caller]
fn assert_code(outcome: Result<(), Error>, code: &str) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

#[test]
fn a_body_that_is_not_utf_8_verifies_and_then_fails_to_parse() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), *b"\xff\xfe{\"type\":\0}");
    let verifier = verifier();
    let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
    assert_eq!(delivery.payload(), sent.body);
    let error = delivery.event().unwrap_err();
    assert!(error.to_string().contains("authentic"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn an_empty_body_verifies_if_it_was_signed() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "");
    assert!(
        verifier()
            .verify_at(&sent, &sent.body, now())
            .unwrap()
            .event()
            .is_err()
    );
    let code = verify(&sent.id, &sent.timestamp, &sent.signature, b" ");
    assert_code(code, "signature_mismatch");
}

#[test]
fn extreme_timestamps_are_refused() {
    for (timestamp, code) in [
        ("0", "timestamp_too_old"),
        ("9223372036854775807", "timestamp_too_new"),
        ("-9223372036854775808", "invalid_header"),
        ("9223372036854775808", "invalid_header"),
        ("9999999999999999999999999999999999999999", "invalid_header"),
        ("253402300800", "timestamp_too_new"),
    ] {
        assert_code(verify("msg_1", timestamp, "v1,AAAA", b"{}"), code);
    }
    let message = assert_code(
        verify("msg_1", "1779999588", "v1,AAAA", b"{}"),
        "timestamp_too_old",
    );
    assert_eq!(message, "webhook-timestamp is 412 s old, 300 s are allowed");
}

#[test]
fn a_late_part_of_a_second_does_not_narrow_the_window() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let edge = now() + std::time::Duration::from_millis(300_999);
    assert!(verifier().verify_at(&sent, &sent.body, edge).is_ok());
    let past = now() + std::time::Duration::from_secs(301);
    assert!(verifier().verify_at(&sent, &sent.body, past).is_err());
}

#[test]
fn floods_of_signatures_are_refused_before_any_is_checked() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let entries = |count: usize| vec![sent.signature.as_str(); count].join(" ");
    assert!(verify("msg_1", &sent.timestamp, &entries(16), b"{}").is_ok());
    for flood in [
        entries(17),
        entries(10_000),
        format!("v1,{}", "A".repeat(8 << 10)),
        " ".repeat(8 << 10),
    ] {
        assert_code(
            verify("msg_1", &sent.timestamp, &flood, b"{}"),
            "invalid_header",
        );
    }
}

#[test]
fn the_time_is_checked_before_the_signature() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    assert_code(
        verify("msg_1", "1", &sent.signature, b"{}"),
        "timestamp_too_old",
    );
}

#[test]
fn the_signed_content_can_not_be_split_in_another_way() {
    // Signed: `msg_1.1780000000.1780000000.{}`, by a sender that allows a full stop in ids.
    let sent = Signer::v1(&secret()).sign("msg_1.1780000000", now(), "{}");
    let code = verify(&sent.id, &sent.timestamp, &sent.signature, b"{}");
    assert_code(code, "invalid_header");
}

#[test]
fn a_signature_counts_only_as_what_it_is_offered_as() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let tag = sent.signature.trim_start_matches("v1,");
    for (signature, code) in [
        (tag.to_owned(), "invalid_header"),
        (format!(",{tag}"), "invalid_header"),
        (format!("v1 ,{tag}"), "invalid_header"),
        (format!("V1,{tag}"), "no_usable_scheme"),
        (format!("v1a,{tag}"), "no_usable_scheme"),
        (format!("v2,{tag}"), "no_usable_scheme"),
        (format!("v1,v1,{tag}"), "signature_mismatch"),
        (format!("v1,{tag}A"), "signature_mismatch"),
        (format!("v1,{tag},"), "signature_mismatch"),
        (format!("v1, {tag}"), "signature_mismatch"),
        (format!("v1,{}", tag.to_lowercase()), "signature_mismatch"),
        (
            format!("v1,{}", &tag[..tag.len() - 2]),
            "signature_mismatch",
        ),
    ] {
        let outcome = verify("msg_1", &sent.timestamp, &signature, b"{}");
        assert_eq!(outcome.unwrap_err().code(), code, "{signature}");
    }
}

#[test]
fn an_unusable_scheme_is_named_with_what_would_be_usable() {
    let message = assert_code(
        verify("msg_1", "1780000000", "v1a,AAAA v9,AAAA", b""),
        "no_usable_scheme",
    );
    assert_eq!(
        message,
        "webhook-signature offers v1a, an unknown scheme, this verifier is configured for v1"
    );
    assert_code(
        verify("msg_1", "1780000000", "eyJh.eyJi.c2ln", b""),
        "no_usable_scheme",
    );
}

#[test]
fn another_secrets_signature_is_refused_whatever_the_number_of_secrets() {
    let other = Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let sent = Signer::v1(&other).sign("msg_1", now(), "{}");
    let mut builder = Verifier::builder();
    for _ in 0..8 {
        builder = builder.secret(secret());
    }
    let verifier = builder.build().unwrap();
    let error = verifier.verify_at(&sent, &sent.body, now()).unwrap_err();
    assert_eq!(error.code(), "signature_mismatch");
}

#[test]
fn errors_tell_nothing_that_helps_to_forge() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let error = verify("msg_1", &sent.timestamp, "v1,AAAA", b"{}").unwrap_err();
    let shown = format!("{error} {error:?}");
    let tag = sent.signature.trim_start_matches("v1,");
    assert!(!shown.contains(tag) && !shown.contains("C2FV"), "{shown}");
}
