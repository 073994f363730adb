#![cfg(all(feature = "testing", feature = "_per-request"))]

use time::OffsetDateTime;

use super::*;
use crate::{
    Attempt, PerRequest, VerifierBuilder,
    diagnose::search::{MAX_BODY, MAX_CHECKS, MAX_HASHED, MAX_PARSED},
    hmac_v1::hashed,
    keys::KeySet,
    testing::{Signer, SigningKeys},
};

/// The delivery as it is, which is verified at its time, at the receiver's, and for who signed it.
const AS_IT_IS: usize = 4;

fn secrets() -> impl Iterator<Item = Secret> {
    (1..=8).map(|number| Secret::from_bytes(&[number; 32]).unwrap())
}

/// A JSON object of this many bytes in which every change makes a difference.
fn object(length: usize) -> Vec<u8> {
    let item = r#""2026-01-22T12:00:00.5Z", "\u00e9/<&='", null, 1.0, "#;
    let mut body =
        r#"{"type": "batch.failed", "data": {"id": "a", "b": null, "list": ["#.to_owned();
    while body.len() + item.len() + 5 < length {
        body.push_str(item);
    }
    body.push_str("0]}}");
    body.extend(std::iter::repeat_n(' ', length.saturating_sub(body.len())));
    body.into()
}

/// Returns what is found, and the bytes hashed for it and how often.
fn work(verifier: &Verifier, signer: &Signer, body: &[u8]) -> (Vec<Finding>, usize, usize) {
    let now = OffsetDateTime::from_unix_timestamp(1_780_000_000).unwrap();
    let sent = signer.sign("msg_1", now, "{}");
    let texts = (0..4).map(|_| "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let clues = texts.fold(Clues::default().at(now), Clues::secret_text);
    hashed::take();
    let diagnosis = verifier.diagnose_with(&clues, sent.headers(), body);
    let (bytes, times) = hashed::take();
    (diagnosis.findings, bytes, times)
}

#[test]
fn the_work_is_bounded_whatever_the_body() {
    let google = SigningKeys::generate();
    let set = google.jwks();
    let many = set.replace("]}", "");
    let (start, keys) = many.split_once('[').unwrap();
    let jwks = format!("{start}[{}]}}", [keys; 5].join(","));
    let keys = KeySet::from_json(jwks.as_bytes()).unwrap();
    assert!(keys.len() >= 15, "{} keys", keys.len());
    let builder =
        Verifier::builder().per_request(PerRequest::any_sender(keys).max_body(usize::MAX));
    let verifier = secrets()
        .fold(builder, VerifierBuilder::secret)
        .build()
        .unwrap();
    let stranger = Secret::from_bytes(&[99; 32]).unwrap();
    let v1 = Signer::v1(&stranger);
    let v1a = Signer::v1a(&SigningKeys::generate());
    let mut most = (0, 0);
    for length in [0, 200, MAX_PARSED, MAX_BODY, 2 * MAX_BODY] {
        let body = if length == 0 {
            Vec::new()
        } else {
            object(length)
        };
        assert_eq!(body.len(), length);
        for (signer, each) in [(&v1, 8), (&v1a, 15)] {
            let (findings, bytes, times) = work(&verifier, signer, &body);
            let [found] = &*findings else {
                panic!("{findings:?}");
            };
            if length > MAX_PARSED {
                assert_eq!(*found, Finding::NotAllTried { length });
            }
            if length == 200 && each == 8 {
                assert_eq!(*found, Finding::Unexplained);
            }
            let as_it_is = AS_IT_IS * each * (length + 300);
            assert!(bytes <= MAX_HASHED + as_it_is, "{length}: {bytes} bytes");
            assert!(
                times <= MAX_CHECKS + AS_IT_IS * each,
                "{length}: {times} times"
            );
            most = (most.0.max(bytes - as_it_is.min(bytes)), most.1.max(times));
        }
    }
    // It is not bounded by trying nothing.
    assert!(most.0 > MAX_HASHED / 2 && most.1 > 1000, "{most:?}");
}

#[test]
fn a_changed_body_is_found_up_to_the_limit_and_the_limit_is_named_beyond() {
    let secret = || Secret::from_bytes(&[1; 32]).unwrap();
    let verifier = Verifier::builder().secret(secret()).build().unwrap();
    for length in [200, MAX_PARSED, MAX_BODY, MAX_BODY + 1] {
        let mut body = object(length - 1);
        let now = OffsetDateTime::now_utc();
        let sent = Signer::v1(&secret()).sign("msg_1", now, body.clone());
        body.push(b'\n');
        let found = &verifier.diagnose(sent.headers(), &body).findings;
        let expected = if length > MAX_BODY {
            Finding::NotAllTried { length }
        } else {
            let change = "a line break was added at its end".to_owned();
            Finding::BodyChanged { change }
        };
        assert_eq!(*found, [expected]);
    }
}

#[test]
fn nothing_that_is_tried_makes_the_verifier_accept_it() {
    let secret = || Secret::from_bytes(&[1; 32]).unwrap();
    let verifier = Verifier::builder().secret(secret()).build().unwrap();
    let sent = Signer::v1(&secret()).sign("msg_1", OffsetDateTime::now_utc(), "{}");
    let body = b"{}\n";
    let diagnosis = verifier.diagnose(sent.headers(), body);
    assert!(diagnosis.signed_by.is_some() && diagnosis.refusal.is_some());
    let attempt = Attempt::from_pairs(sent.headers()).unwrap();
    assert!(verifier.verify(attempt, body).is_err());
}
