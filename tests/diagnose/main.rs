//! Each slip is made, and has to be found; what is forged is not explained away.
#![cfg(feature = "_per-request")]

mod cases;
mod document;

use std::time::Duration;

use gemini_webhooks::{
    EventType, JobTokens, PerRequest, Scheme, Secret, Verifier,
    diagnose::{Clues, Diagnosis, Finding, SignedBy},
    keys::KeySet,
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use proptest::prelude::*;
use time::OffsetDateTime;

const TEXT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// In Unix seconds: a time at which the cases happen.
const NOW: i64 = 1_780_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

fn verifier() -> Verifier {
    configured(TEXT)
}

fn configured(text: &str) -> Verifier {
    Verifier::builder().secret(secret(text)).build().unwrap()
}

fn signed(body: impl Into<Vec<u8>>) -> SignedDelivery {
    Signer::v1(&secret(TEXT)).sign("msg_1", now(), body.into())
}

fn diagnose(verifier: &Verifier, sent: &SignedDelivery) -> Diagnosis {
    verifier.diagnose(sent.headers(), &sent.body)
}

/// The one finding, and the words that a developer reads.
fn finding(diagnosis: &Diagnosis) -> (Finding, String) {
    let shown = diagnosis.to_string();
    let [finding] = &*diagnosis.findings else {
        panic!("{shown}");
    };
    assert!(diagnosis.refusal.is_some(), "{shown}");
    assert!(
        !shown.contains("C2FV") && !shown.contains("MfKQ"),
        "{shown}"
    );
    (finding.clone(), shown)
}

#[test]
fn a_good_delivery_has_no_finding() {
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let verifier = Verifier::builder()
        .secret(secret(TEXT))
        .per_request(PerRequest::any_sender(keys))
        .build()
        .unwrap();
    let signers = [
        Signer::v1(&secret(TEXT)),
        Signer::v1a(&google),
        Signer::jwt(&google, "https://example.com"),
    ];
    for signer in signers {
        for event_type in EventType::KNOWN {
            let sent = signer.sign("msg_1", now(), sample(event_type));
            let diagnosis = diagnose(&verifier, &sent);
            assert_eq!((diagnosis.refusal, diagnosis.findings), (None, vec![]));
        }
    }
}

#[test]
fn what_is_forged_is_called_so() {
    let clues = Clues::default()
        .former_secret(secret(OTHER))
        .secret_text(TEXT);
    let google = SigningKeys::generate();
    let keys = || KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let verifier = Verifier::builder()
        .secret(secret(TEXT))
        .per_request(PerRequest::any_sender(keys()))
        .build()
        .unwrap();
    let unknown = SigningKeys::generate();
    let body = sample(&"batch.failed".into());
    let signers = [
        Signer::v1(&secret("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        Signer::v1a(&unknown),
        Signer::jwt(&unknown, "https://example.com"),
    ];
    for signer in signers {
        let sent = signer.sign("msg_1", now(), body.clone());
        let (found, shown) = finding(&verifier.diagnose_with(&clues, sent.headers(), &sent.body));
        assert_eq!(found, Finding::Unexplained, "{shown}");
    }
    // One byte of the content is another: no way of writing it brings that back.
    for (from, to) in [
        ("batch_", "match_"),
        ("error", "errer"),
        (":", ": 1, \"a\":"),
    ] {
        let mut sent = signed(body.clone());
        sent.body = body.replacen(from, to, 1).into();
        let (found, _) = finding(&verifier.diagnose_with(&clues, sent.headers(), &sent.body));
        assert_eq!(found, Finding::Unexplained);
    }
}

#[test]
fn the_text_of_a_secret_is_not_known_unless_it_is_given() {
    let verifier = Verifier::builder()
        .secret(Secret::from_bytes(TEXT.as_bytes()).unwrap())
        .build()
        .unwrap();
    let sent = signed(sample(&"batch.failed".into()));
    assert_eq!(finding(&diagnose(&verifier, &sent)).0, Finding::Unexplained);
    let clues = Clues::default().secret_text(OTHER).secret_text(TEXT);
    let (found, shown) = finding(&verifier.diagnose_with(&clues, sent.headers(), &sent.body));
    assert!(shown.contains("signing secret 2 is not right"), "{shown}");
    assert!(
        matches!(found, Finding::SecretMisread { position: 2, .. }),
        "{shown}"
    );
    assert!(
        verifier.verify(&sent, &sent.body).is_err(),
        "it explains, and accepts nothing"
    );
}

#[test]
fn clocks_that_differ() {
    for (seconds, side) in [
        (412, "behind"),
        (-412, "ahead of"),
        (86_400 * 400, "behind"),
    ] {
        let sent = signed(sample(&"batch.failed".into()));
        let late = now() + time::Duration::seconds(seconds);
        let clues = Clues::default().at(late);
        let diagnosis = verifier().diagnose_with(&clues, sent.headers(), &sent.body);
        let (found, shown) = finding(&diagnosis);
        let Finding::ClockOff { seconds: found } = found else {
            panic!("{shown}")
        };
        assert!((found - seconds).abs() <= 2, "{shown}");
        assert!(shown.contains(side), "{shown}");

        // Late and forged is not a question of clocks.
        let mut forged = sent.clone();
        forged.body.push(b'x');
        let diagnosis = verifier().diagnose_with(&clues, forged.headers(), &forged.body);
        assert_eq!(finding(&diagnosis).0, Finding::Unexplained);
    }
}

#[test]
fn each_mistake_is_named() {
    for (part, cases) in cases::all() {
        for case in cases {
            let headers = case.headers.iter().map(|(name, value)| (name, value));
            let diagnosis = case
                .verifier
                .diagnose_with(&case.clues, headers, &case.body);
            let said = diagnosis.to_string();
            let told = (part, case.mistake);
            assert!(diagnosis.refusal.is_some(), "{told:?}: {said}");
            assert!(said.contains(case.said), "{told:?}: {said}");
            let [found] = &*diagnosis.findings else {
                panic!("{told:?}: {said}");
            };
            assert_ne!(*found, Finding::Unexplained, "{told:?}: {said}");
            let secrets = ["C2FV", "MfKQ", "ob7oD", "aLaSw"];
            assert!(
                !secrets.iter().any(|secret| said.contains(secret)),
                "{told:?}: {said}"
            );
            // Only what could be tried out shows who signed it.
            let is_certain = matches!(
                found,
                Finding::BodyChanged { .. }
                    | Finding::HeaderChanged { .. }
                    | Finding::ClockOff { .. }
            );
            if is_certain {
                assert!(diagnosis.signed_by.is_some(), "{told:?}: {said}");
            }
        }
    }
}

#[test]
fn a_changed_body_under_a_public_key() {
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let per_request = PerRequest::with_job_tokens(keys, JobTokens::new([7; 32]));
    let verifier = Verifier::builder()
        .per_request(per_request.require_uri_token())
        .build()
        .unwrap();
    let body = sample(&"batch.failed".into());
    let mut sent = Signer::v1a(&google).sign("msg_1", now(), &*body);
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    sent.body = serde_json::to_vec_pretty(&value).unwrap();
    let (found, shown) = finding(&diagnose(&verifier, &sent));
    assert!(matches!(found, Finding::BodyChanged { .. }), "{shown}");
    assert!(shown.contains("it is signed with the key"), "{shown}");
}

#[test]
fn the_secret_that_signed_is_told_by_its_position_and_name() {
    let verifier = Verifier::builder()
        .secret(secret(OTHER))
        .named_secret("blue", secret(TEXT))
        .build()
        .unwrap();
    let mut sent = signed(sample(&"batch.failed".into()));
    let expected = |diagnosis: Diagnosis| {
        let shown = diagnosis.to_string();
        assert!(
            shown.ends_with("- it is signed with secret 2 (blue)"),
            "{shown}"
        );
        let Some(SignedBy::Secret { position, name }) = diagnosis.signed_by else {
            panic!("{shown}");
        };
        assert_eq!((position, name.as_deref()), (2, Some("blue")));
    };
    expected(diagnose(&verifier, &sent));
    sent.body.push(b'\n');
    expected(diagnose(&verifier, &sent));
}

#[test]
fn what_is_wrong_with_the_headers_and_the_body_is_told_at_once() {
    let mut sent = signed(sample(&"batch.failed".into()));
    sent.body.push(b'\n');
    sent.timestamp += "000";
    let names = ["x-webhook-id", "x-webhook-timestamp", "x-webhook-signature"];
    let values = sent.headers().map(|(_, value)| value);
    let diagnosis = verifier().diagnose(names.into_iter().zip(values), &sent.body);
    assert_eq!(diagnosis.refusal.as_ref().unwrap().code(), "missing_header");
    let shown = diagnosis.to_string();
    for word in [
        "`x-` in front",
        "counts milliseconds",
        "a line break was added",
    ] {
        assert!(shown.contains(word), "{shown}");
    }
    assert_eq!(diagnosis.findings.len(), 3, "{shown}");
}

#[test]
fn an_empty_body() {
    let mut sent = signed(sample(&"batch.failed".into()));
    sent.body.clear();
    assert_eq!(finding(&diagnose(&verifier(), &sent)).0, Finding::BodyEmpty);
    assert!(diagnose(&verifier(), &signed("")).findings.is_empty());
}

#[test]
fn a_secret_of_before_the_rotation() {
    let verifier = configured(OTHER);
    let sent = signed(sample(&"batch.failed".into()));
    let diagnose = |clues: Clues| verifier.diagnose_with(&clues, sent.headers(), &sent.body);
    let diagnosis = diagnose(Clues::default().former_secret(secret(TEXT)));
    let (found, shown) = finding(&diagnosis);
    assert_eq!(found, Finding::FormerSecret);
    assert!(shown.contains("signed with former secret 1"), "{shown}");
    assert_eq!(finding(&diagnose(Clues::default())).0, Finding::Unexplained);
    assert!(
        verifier.verify(&sent, &sent.body).is_err(),
        "it explains, and accepts nothing"
    );
}

#[test]
fn without_the_headers_there_is_nothing_to_explain() {
    let nothing: [(&str, &str); 0] = [];
    let diagnosis = verifier().diagnose(nothing, b"");
    assert_eq!(diagnosis.refusal.unwrap().code(), "missing_header");
    assert!(diagnosis.findings.is_empty());
    // Two values that differ: none of them is better.
    let mut headers = signed("{}")
        .headers()
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec();
    headers.push(("webhook-id", "msg_2".to_owned()));
    let headers = headers.iter().map(|(name, value)| (*name, value));
    let diagnosis = verifier().diagnose(headers, b"{}");
    assert_eq!(diagnosis.refusal.unwrap().code(), "duplicate_header");
    assert!(diagnosis.findings.is_empty());
}

#[test]
fn schemes_for_which_nothing_is_configured() {
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let with_keys = PerRequest::any_sender(keys);
    let with_keys = Verifier::builder().per_request(with_keys).build().unwrap();
    let body = sample(&"batch.failed".into());
    let v1a = Signer::v1a(&google).sign("msg_1", now(), body.clone());
    let jwt = Signer::jwt(&google, "https://example.com").sign("msg_1", now(), body.clone());
    for (verifier, sent, scheme) in [
        (&verifier(), v1a, Scheme::V1a),
        (&verifier(), jwt, Scheme::Jwt),
        (&with_keys, signed(body), Scheme::V1),
    ] {
        let (found, shown) = finding(&diagnose(verifier, &sent));
        let Finding::NotConfigured {
            offered,
            configured,
        } = found
        else {
            panic!("{shown}")
        };
        assert!(
            offered.contains(scheme) && !configured.contains(scheme),
            "{shown}"
        );
    }
}

#[test]
fn a_key_set_that_is_old() {
    let google = SigningKeys::generate();
    let keys = || KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let verifier = Verifier::builder()
        .per_request(PerRequest::any_sender(keys()))
        .build()
        .unwrap();
    let next = SigningKeys::generate();
    let body = r#"{"type":"a","data":{}}"#.to_owned();
    let later = now() + Duration::from_secs(3600);
    for signer in [
        Signer::v1a(&next),
        Signer::jwt(&next, "https://example.com"),
    ] {
        let sent = signer.sign("msg_1", later, body.clone());
        let clues = Clues::default().at(later);
        let diagnosis = verifier.diagnose_with(&clues, sent.headers(), &sent.body);
        let (found, shown) = finding(&diagnosis);
        let Finding::KeySetOld { age } = found else {
            panic!("{shown}")
        };
        assert!((3590..3700).contains(&age.as_secs()), "{shown}");
        assert!(
            shown.contains("key set is 1 h old") || shown.contains("59 min"),
            "{shown}"
        );
    }
    // Their age says nothing about a signing secret.
    let verifier = Verifier::builder()
        .secret(secret(OTHER))
        .per_request(PerRequest::any_sender(keys()))
        .build()
        .unwrap();
    let sent = Signer::v1(&secret(TEXT)).sign("msg_1", later, body);
    let diagnosis = verifier.diagnose_with(&Clues::default().at(later), sent.headers(), &sent.body);
    assert_eq!(finding(&diagnosis).0, Finding::Unexplained);
}

/// Pieces of which most changes are made.
const PIECES: &str = r#"([ -~]|\PC|[0-9]{1,20}|\\\\u[0-9A-F]{0,4}|[\[\]{},:"=%&\\\\]|\r\n|\x00|null|2026-01-22[T ]12:00:00(\.[0-9]{0,12})?|"[a-z/+_-]{0,9}"|v1a?,[a-zA-Z0-9+/=_-]{0,90}){0,24}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_that_is_sent_panics(
        id in PIECES,
        timestamp in prop_oneof![Just("1780000000".to_owned()), PIECES],
        signature in prop_oneof![Just(format!("v1,{}", "A".repeat(43))), PIECES],
        body in PIECES,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        secret in PIECES,
    ) {
        let clues = Clues::default().secret_text(&secret).at(cases::now());
        for id in [&*id, "msg_1"] {
            let headers = [("webhook-id", id), ("webhook-timestamp", &timestamp), ("webhook-signature", &signature)];
            for body in [body.as_bytes(), &bytes, &[body.as_bytes(), &bytes].concat()] {
                let shown = verifier().diagnose_with(&clues, headers, body).to_string();
                prop_assert!(shown.starts_with("refused: "), "{}", shown);
            }
        }
    }
}
