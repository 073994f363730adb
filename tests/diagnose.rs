//! Each slip is made, and has to be found; what is forged is not explained away.
#![cfg(feature = "_per-request")]

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gemini_webhooks::{
    EventType, JobTokens, PerRequest, Scheme, Secret, Verifier,
    diagnose::{Clues, Diagnosis, Finding},
    keys::KeySet,
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::json;
use time::OffsetDateTime;

const TEXT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

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
fn clocks_that_differ() {
    for (seconds, side) in [
        (412, "412 s behind"),
        (-412, "412 s ahead"),
        (86_400 * 400, "34560000 s behind"),
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
        assert!(shown.contains(&side[side.len() - 5..]), "{shown}");

        // Late and forged is not a question of clocks.
        let mut forged = sent.clone();
        forged.body.push(b'x');
        let diagnosis = verifier().diagnose_with(&clues, forged.headers(), &forged.body);
        assert_eq!(finding(&diagnosis).0, Finding::Unexplained);
    }
}

#[test]
fn a_timestamp_in_milliseconds() {
    let milliseconds = now().unix_timestamp() * 1000;
    let mut sent = signed("{}");
    sent.timestamp = milliseconds.to_string();
    let diagnosis = diagnose(&verifier(), &sent);
    assert_eq!(
        diagnosis.findings[0],
        Finding::TimestampInMilliseconds,
        "{diagnosis}"
    );
    sent.timestamp = now().unix_timestamp().to_string();
    let diagnosis = diagnose(&verifier(), &sent);
    assert!(
        !diagnosis
            .findings
            .contains(&Finding::TimestampInMilliseconds),
        "{diagnosis}"
    );
}

/// What is signed, what arrives, and a word of what is said.
#[test]
fn a_body_that_was_written_again() {
    let compact = r#"{"type":"batch.failed","version":"v1","data":{"id":"é/<b>","n":[1,-2.50,[],{}],"s":"a\"b\\ , : c"}}"#;
    let pretty = compact
        .replace(
            "{\"", "{
	\"",
        )
        .replace(
            ",\"", ",
	\"",
        );
    let pretty_as_sent = "{\n  \"type\": \"a\",\n  \"data\": {\n    \"id\": [\n      1,\n      2\n    ],\n    \"e\": []\n  }\n}";
    let spaced = compact
        .replace("\":", "\": ")
        .replace(",\"", ", \"")
        .replace("[1,-2.50,[],{}]", "[1, -2.50, [], {}]");
    let ascii = compact.replace('é', "\\u00e9");
    let slashes = compact.replace('/', "\\/");
    let ascii_slashes = ascii.replace('/', "\\/");
    let html = compact.replace('<', "\\u003c").replace('>', "\\u003e");
    let astral = r#"{"type":"a","data":{"id":"\ud83d\ude00"}}"#;
    let twice = serde_json::to_string(compact).unwrap();
    let base64 = BASE64_STANDARD.encode(compact);
    let latin: String = compact.bytes().map(char::from).collect();
    let marked = format!("\u{feff}{compact}");
    let line = format!("{compact}\n");
    let crlf = pretty_as_sent.replace('\n', "\r\n");
    let documented = r#"{"type":"batch.failed","version":"v1","timestamp":"2026-01-22T12:00:00Z","data":{"id":"a","error_code":"b","error_message":"c"}}"#;
    let sorted = r#"{"data":{"error_code":"b","error_message":"c","id":"a"},"timestamp":"2026-01-22T12:00:00Z","type":"batch.failed","version":"v1"}"#;
    for (signed_body, body, word) in [
        (compact, pretty.as_str(), "it had no white space"),
        (compact, spaced.as_str(), "it had no white space"),
        (&spaced, compact, "a space after each comma"),
        (
            pretty_as_sent,
            &pretty_as_sent.replace(['\n', ' '], ""),
            "it was indented",
        ),
        (&ascii, compact, "non-ASCII characters were escaped"),
        (compact, &ascii, "its characters were not escaped"),
        (
            astral,
            "{\"type\":\"a\",\"data\":{\"id\":\"\u{1f600}\"}}",
            "non-ASCII",
        ),
        (&slashes, compact, "its slashes were escaped"),
        (compact, &slashes, "its characters were not escaped"),
        (
            &ascii_slashes,
            compact,
            "its slashes and non-ASCII characters were escaped",
        ),
        (&html, compact, "<, > and & were escaped"),
        (compact, &html, "its characters were not escaped"),
        (
            &ascii,
            &spaced,
            "it had no white space, its non-ASCII characters",
        ),
        (compact, &line, "a line break was added"),
        (&line, compact, "the line break at its end was removed"),
        (compact, &format!("{compact}\r\n"), "a line break was added"),
        (
            compact,
            &format!("  {compact} \n"),
            "white space was added around it",
        ),
        (compact, &marked, "a byte order mark was added"),
        (&marked, compact, "the byte order mark was removed"),
        (pretty_as_sent, &crlf, "CR LF"),
        (&crlf, pretty_as_sent, "LF"),
        (compact, &base64, "base64"),
        (compact, &twice, "JSON string"),
        (compact, &latin, "Latin-1"),
        (documented, sorted, "the order of its members"),
    ] {
        assert_ne!(signed_body, body, "{word}");
        let mut sent = signed(signed_body);
        assert!(diagnose(&verifier(), &sent).findings.is_empty());
        sent.body = body.as_bytes().to_vec();
        let (found, shown) = finding(&diagnose(&verifier(), &sent));
        assert!(
            matches!(found, Finding::BodyChanged { .. }),
            "{word}: {shown}"
        );
        assert!(shown.contains(word), "{word}: {shown}");
    }

    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let per_request = PerRequest::with_job_tokens(keys, JobTokens::new([7; 32]));
    let verifier = Verifier::builder()
        .per_request(per_request)
        .build()
        .unwrap();
    let mut sent = Signer::v1a(&google).sign("msg_1", now(), compact);
    sent.body = pretty.clone().into();
    let (found, shown) = finding(&diagnose(&verifier, &sent));
    assert!(matches!(found, Finding::BodyChanged { .. }), "{shown}");
}

#[test]
fn an_empty_body() {
    let mut sent = signed(sample(&"batch.failed".into()));
    sent.body.clear();
    assert_eq!(finding(&diagnose(&verifier(), &sent)).0, Finding::BodyEmpty);
    assert!(diagnose(&verifier(), &signed("")).findings.is_empty());
}

/// Signed with a key of these bytes.
fn signed_with(key: &[u8]) -> SignedDelivery {
    let text = BASE64_STANDARD.encode(key);
    Signer::v1(&secret(&text)).sign("msg_1", now(), sample(&"batch.failed".into()))
}

#[test]
fn a_secret_that_is_misread() {
    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    let hexadecimal = "0b6155b0140886bb1c0a195020c57e6f9b1262ca686fba03";
    let key = BASE64_STANDARD.decode(&TEXT[6..]).unwrap();
    let bare = &TEXT[6..];
    for (configured_text, sent, word) in [
        // As it stands in a Kubernetes manifest, for instance.
        (encoded(TEXT), signed_with(&key), "once more"),
        (encoded(bare), signed_with(&key), "once more"),
        (
            encoded(&format!("{TEXT}\n")),
            signed_with(&key),
            "a line break at an end",
        ),
        (
            encoded(&format!("\"{TEXT}\"")),
            signed_with(&key),
            "quotation marks",
        ),
        (encoded(&format!("v1,{TEXT}")), signed_with(&key), "`v1,`"),
        (
            encoded(&format!(" 'v1,{TEXT}'\n")),
            signed_with(&key),
            "it has quotation marks: remove them, and it begins with `v1,`",
        ),
        (
            encoded("a plain text of a password\n"),
            signed_with(b"a plain text of a password"),
            "not the key alone, and it has white space",
        ),
        (
            encoded("whsec_...............3frh"),
            signed_with(&key),
            "truncated",
        ),
        (hexadecimal.to_owned(), signed_with(&key), "hexadecimal"),
        (hexadecimal.to_uppercase(), signed_with(&key), "hexadecimal"),
        (
            TEXT.to_owned(),
            signed_with(TEXT.as_bytes()),
            "base64 text as the key",
        ),
        (
            TEXT.to_owned(),
            signed_with(bare.as_bytes()),
            "base64 text as the key",
        ),
    ] {
        let verifier = configured(&configured_text);
        // A secret does not keep its text.
        let (found, shown) = finding(&diagnose(&verifier, &sent));
        assert_eq!(found, Finding::Unexplained, "{word}: {shown}");
        let clues = Clues::default().secret_text(&configured_text);
        let (found, shown) = finding(&verifier.diagnose_with(&clues, sent.headers(), &sent.body));
        assert!(
            matches!(found, Finding::SecretMisread { .. }),
            "{word}: {shown}"
        );
        assert!(shown.contains(word), "{word}: {shown}");
        assert!(!shown.contains(&configured_text), "{shown}");
    }
    // These can't even be configured.
    for (text, word) in [
        (format!("\"{TEXT}\""), "quotation marks"),
        (format!("v1,{TEXT}"), "`v1,`"),
        (format!("{TEXT}\n"), "line break"),
        ("whsec_...3frh".to_owned(), "truncated"),
    ] {
        let error = Secret::parse(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_secret_of_before_the_rotation() {
    let verifier = configured(OTHER);
    let sent = signed(sample(&"batch.failed".into()));
    let diagnose = |clues: Clues| verifier.diagnose_with(&clues, sent.headers(), &sent.body);
    let diagnosis = diagnose(Clues::default().former_secret(secret(TEXT)));
    assert_eq!(finding(&diagnosis).0, Finding::FormerSecret);
    assert_eq!(finding(&diagnose(Clues::default())).0, Finding::Unexplained);
    assert!(
        verifier.verify(&sent, &sent.body).is_err(),
        "it explains, and accepts nothing"
    );
}

#[test]
fn headers_of_svix() {
    for forged in [false, true] {
        let mut sent = signed(sample(&"batch.failed".into()));
        if forged {
            sent.body.push(b'x');
        }
        let headers = sent.headers();
        let renamed = headers.map(|(name, value)| (name.replace("webhook", "Svix"), value));
        let diagnosis = verifier().diagnose(renamed, &sent.body);
        assert_eq!(diagnosis.refusal.as_ref().unwrap().code(), "missing_header");
        let mut expected = vec![Finding::SvixHeaders];
        if forged {
            expected.push(Finding::Unexplained);
        }
        assert_eq!(diagnosis.findings, expected, "{diagnosis}");
    }
    let nothing: [(&str, &str); 0] = [];
    let diagnosis = verifier().diagnose(nothing, b"");
    assert_eq!(diagnosis.refusal.unwrap().code(), "missing_header");
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
    let body = json!({"type": "a", "data": {}}).to_string();
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
    }
}
