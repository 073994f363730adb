use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use super::*;
use crate::testing::Signer;

fn secret(byte: u8) -> Secret {
    Secret::from_bytes(&[byte; 32]).unwrap()
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_780_000_000).unwrap()
}

#[test]
fn the_name_of_the_secret_that_matches_is_told() {
    let verifier = Verifier::builder()
        .named_secret("billing", secret(1))
        .named_secret("nightly", secret(2))
        .secret(secret(3))
        .named_secret("nightly", secret(4))
        .build()
        .unwrap();
    for (byte, name) in [
        (1, Some("billing")),
        (2, Some("nightly")),
        (3, None),
        (4, Some("nightly")),
    ] {
        let sent = Signer::v1(&secret(byte)).sign("msg_1", now(), "{}");
        let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
        assert_eq!(delivery.secret_name(), name);
        assert_eq!(delivery.key_id(), None);
        assert_eq!(delivery.into_owned().secret_name(), name);
    }
    let other = Signer::v1(&secret(5)).sign("msg_1", now(), "{}");
    assert!(verifier.verify_at(&other, &other.body, now()).is_err());
}

#[test]
fn a_verifier_goes_by_the_clock_it_was_given() {
    let clock = Clock::manual(now());
    let verifier = Verifier::builder()
        .secret(secret(1))
        .clock(clock.clone())
        .build()
        .unwrap();
    let sent = Signer::v1(&secret(1)).sign("msg_1", now(), "{}");
    let verify = || verifier.verify(&sent, &sent.body).map(drop);
    verify().unwrap();
    clock.advance(Duration::from_secs(300));
    verify().unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(verify().unwrap_err().code(), "timestamp_too_old");
    clock.set(now() - Duration::from_secs(301));
    assert_eq!(verify().unwrap_err().code(), "timestamp_too_new");
    clock.set(now());
    verify().unwrap();
}

#[test]
fn a_malformed_header_is_refused_like_any_other_fault() {
    let verifier = Verifier::builder().secret(secret(1)).build().unwrap();
    let pairs = [("webhook-id", "msg_1")];
    let error = verifier
        .verify(Attempt::from_pairs(pairs), b"")
        .unwrap_err();
    assert_eq!(error.code(), "missing_header");
}

#[test]
fn clones_share_what_they_verify_with() {
    let verifier = Verifier::builder().secret(secret(1)).build().unwrap();
    assert!(Arc::ptr_eq(&verifier.clone().0, &verifier.0));
    let shared = SharedVerifier::from(verifier);
    let other = shared.clone();
    let next = Verifier::builder().secret(secret(2)).build().unwrap();
    shared.replace(next.clone());
    assert!(Arc::ptr_eq(&other.get().0, &next.0));
}

/// A rotation: each delivery is signed with the old and the new secret, and the verifiers have the
/// one, both, and the other.
#[test]
fn replacing_a_verifier_refuses_no_delivery_of_threads_that_verify() {
    let build = |bytes: &[u8]| {
        let secrets = bytes.iter().map(|byte| secret(*byte));
        let builder = secrets.fold(Verifier::builder(), VerifierBuilder::secret);
        builder.build().unwrap()
    };
    let shared = SharedVerifier::from(build(&[1]));
    let signer = Signer::v1(&secret(1)).and_v1(&secret(2));
    let sent = signer.sign("msg_1", OffsetDateTime::now_utc(), "{}");
    let (done, verified) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    shared.verify(&sent, &sent.body).unwrap();
                    verified.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for bytes in [[1, 2].as_slice(), &[2], &[2, 1], &[1], &[2]].repeat(100) {
            let before = verified.load(Ordering::Relaxed);
            shared.replace(build(bytes));
            while verified.load(Ordering::Relaxed) == before {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    // The last one counts.
    let old = Signer::v1(&secret(1)).sign("msg_1", OffsetDateTime::now_utc(), "{}");
    let new = Signer::v1(&secret(2)).sign("msg_1", OffsetDateTime::now_utc(), "{}");
    assert!(shared.verify(&old, &old.body).is_err());
    assert!(shared.verify(&new, &new.body).is_ok());
}
