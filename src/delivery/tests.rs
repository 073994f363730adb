use serde_json::Value;

use super::*;
use crate::{
    EventType, Secret, Verifier,
    testing::{SignedDelivery, Signer, sample},
};

fn sign(body: impl Into<Vec<u8>>) -> SignedDelivery {
    let secret = Secret::from_bytes(&[7; 32]).unwrap();
    Signer::v1(&secret).sign("msg_1", OffsetDateTime::now_utc(), body)
}

fn verify(sent: &SignedDelivery) -> Delivery<'_> {
    let secret = Secret::from_bytes(&[7; 32]).unwrap();
    let builder = Verifier::builder().named_secret("nightly", secret);
    let verifier = builder.build().unwrap();
    verifier.verify(sent, &sent.body).unwrap()
}

#[test]
fn an_event_is_the_same_one_each_time() {
    let sent = sign(sample(&EventType::BatchSucceeded));
    let delivery = verify(&sent);
    let event = delivery.event().unwrap();
    assert!(std::ptr::eq(event, delivery.event().unwrap()));
    // What is copied is parsed already.
    let copy = delivery.clone();
    assert_eq!(copy.event().unwrap(), event);
}

#[test]
fn threads_that_ask_at_once_get_the_same_event() {
    let sent = sign(sample(&EventType::BatchSucceeded));
    let delivery = verify(&sent);
    let address = || std::ptr::from_ref(delivery.event().unwrap()).addr();
    let addresses = std::thread::scope(|scope| {
        let threads: [_; 8] = std::array::from_fn(|_| scope.spawn(address));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(addresses, [address(); 8]);
}

#[test]
fn an_event_is_taken_whether_it_was_asked_for_before_or_not() {
    let body = sample(&EventType::VideoGenerated);
    let expected: Event = serde_json::from_str(&body).unwrap();
    let sent = sign(body);
    assert_eq!(verify(&sent).into_event().unwrap(), expected);
    let delivery = verify(&sent);
    delivery.event().unwrap();
    assert_eq!(delivery.into_event().unwrap(), expected);
}

#[test]
fn a_payload_that_is_no_event_is_an_error_each_time() {
    let sent = sign(r#"{"type":7,"n":1}"#);
    let delivery = verify(&sent);
    for _ in 0..2 {
        let error = delivery.event().unwrap_err();
        let expected = "the payload is not an event: `type` is not a text at line 1 column 9";
        assert_eq!(error.to_string(), expected);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "`type` is not a text at line 1 column 9");
    }
    // It can be read as something else.
    assert_eq!(delivery.json::<Value>().unwrap()["n"], 1);
    assert!(delivery.into_event().is_err());
}

#[test]
fn an_owned_delivery_outlives_the_request() {
    fn outlive(asked_before: bool) -> Delivery<'static> {
        let sent = sign(sample(&EventType::BatchExpired));
        let delivery = verify(&sent);
        if asked_before {
            delivery.event().unwrap();
        }
        delivery.into_owned()
    }

    for asked_before in [false, true] {
        let owned = outlive(asked_before);
        let owned = std::thread::spawn(move || owned).join().unwrap();
        let sent = sign(sample(&EventType::BatchExpired));
        let borrowed = verify(&sent);
        assert_eq!(owned.id(), borrowed.id());
        assert_eq!(owned.scheme(), borrowed.scheme());
        assert_eq!(owned.secret_name(), Some("nightly"));
        assert_eq!(owned.retention(), borrowed.retention());
        assert_eq!(owned.payload(), borrowed.payload());
        assert_eq!(owned.idempotency_key(), borrowed.idempotency_key());
        let age = OffsetDateTime::now_utc() - owned.attempted_at();
        assert!(age.whole_seconds() < 60, "{age}");
        assert_eq!(owned.event().unwrap(), borrowed.event().unwrap());
        assert_eq!(owned.into_event().unwrap(), borrowed.into_event().unwrap());
    }
}

#[cfg(all(feature = "inbox", feature = "_per-request"))]
mod stored {
    use super::*;
    use crate::{
        JobTokens, PerRequest,
        attempt::IntoAttempt as _,
        keys::KeySet,
        testing::{SigningKeys, sample_with},
    };

    fn restored(delivery: &Delivery<'_>) -> Delivery<'static> {
        let envelope = delivery.envelope().unwrap();
        Delivery::restore(&envelope, delivery.payload().to_vec()).unwrap()
    }

    /// Compares each thing that can be asked of a delivery.
    fn assert_same(one: &Delivery<'_>, other: &Delivery<'_>) {
        assert_eq!(one.id(), other.id());
        assert_eq!(one.attempted_at(), other.attempted_at());
        assert_eq!(one.scheme(), other.scheme());
        assert_eq!(one.key_id(), other.key_id());
        assert_eq!(one.secret_name(), other.secret_name());
        assert!(one.job() == other.job(), "{:?}", other.job());
        assert_eq!(one.idempotency_key(), other.idempotency_key());
        assert_eq!(one.retention(), other.retention());
        assert_eq!(one.payload(), other.payload());
        match (one.event(), other.event()) {
            (Ok(event), Ok(same)) => assert_eq!(event, same),
            (event, same) => assert_eq!(
                event.unwrap_err().to_string(),
                same.unwrap_err().to_string()
            ),
        }
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    #[test]
    fn a_v1_delivery_comes_back_as_it_was() {
        let secret = || Secret::from_bytes(&[7; 32]).unwrap();
        let bodies: [&[u8]; 5] = [
            sample(&EventType::BatchFailed).as_bytes(),
            b"\xef\xbb\xbf{\"type\":\"new\",\"n\":1.50}",
            b"no JSON",
            b"\xff\xfe\0",
            b"",
        ]
        .map(|body| &*Vec::leak(body.to_vec()));
        for builder in [
            Verifier::builder().secret(secret()),
            Verifier::builder().named_secret("a\"b\\c/1", secret()),
        ] {
            let verifier = builder.build().unwrap();
            for body in bodies {
                for id in ["msg_1", "\"\\", &"x".repeat(256)] {
                    let now = OffsetDateTime::now_utc();
                    let sent = Signer::v1(&secret()).sign(id, now, body);
                    let delivery = verifier.verify(&sent, &sent.body).unwrap();
                    assert_same(&delivery, &restored(&delivery));
                    assert_same(&delivery, &restored(&restored(&delivery)));
                }
            }
        }
    }

    #[test]
    fn a_per_request_delivery_comes_back_as_it_was() {
        let google = SigningKeys::generate();
        let keys = || KeySet::from_json(google.jwks().as_bytes()).unwrap();
        let tokens = || JobTokens::new([7; 32]);
        let requires = PerRequest::with_job_tokens(keys(), tokens());
        let requires = Verifier::builder().per_request(requires).build().unwrap();
        let any = PerRequest::any_sender(keys());
        let any = Verifier::builder().per_request(any).build().unwrap();
        let long = "\u{0}\"é\\".repeat(25);
        let signers = [
            (Signer::v1a(&google), Scheme::V1a, google.ed25519_id(0)),
            (Signer::jwt(&google, "us"), Scheme::Jwt, google.rsa_id()),
        ];
        for context in ["", "nightly/42", &long] {
            let token = tokens().mint_for(context).unwrap();
            let uri = JobTokens::callback_uri("/webhook", &token);
            let plain = sample_with(&EventType::VideoGenerated, context);
            let mut with_token: Value = serde_json::from_str(&plain).unwrap();
            with_token["user_metadata"] = JobTokens::user_metadata(&token).into();
            let with_token = with_token.to_string();
            for (signer, scheme, key_id) in &signers {
                for (verifier, body, uri, place) in [
                    (&requires, &with_token, "/", Some(JobPlace::Event)),
                    (&requires, &plain, &uri, Some(JobPlace::Uri)),
                    (&requires, &with_token, &uri, Some(JobPlace::Event)),
                    (&any, &plain, "/", None),
                ] {
                    let sent = signer.sign("msg_1", OffsetDateTime::now_utc(), body.as_bytes());
                    let attempt = (&sent).into_attempt().unwrap().with_uri(uri);
                    let delivery = verifier.verify(attempt, &sent.body).unwrap();
                    assert_eq!(delivery.scheme(), *scheme);
                    assert_eq!(delivery.key_id(), Some(&**key_id));
                    assert_eq!(delivery.job().map(|job| job.place), place);
                    let context = place.map(|_| context);
                    assert_eq!(delivery.job().map(|job| &*job.context), context);
                    assert_same(&delivery, &restored(&delivery));
                }
            }
            // What is no event has its token in the URI.
            let sent = signers[0]
                .0
                .sign("msg_1", OffsetDateTime::now_utc(), "no JSON");
            let attempt = (&sent).into_attempt().unwrap().with_uri(&uri);
            let delivery = requires.verify(attempt, &sent.body).unwrap();
            assert!(delivery.event().is_err());
            assert_same(&delivery, &restored(&delivery));
        }
    }

    #[test]
    fn a_jwt_that_is_remembered_for_longer_comes_back_so() {
        let google = SigningKeys::generate();
        let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
        let verifier = Verifier::builder().per_request(PerRequest::any_sender(keys));
        let verifier = verifier.build().unwrap();
        let now = OffsetDateTime::now_utc();
        let in_ten_days = now.unix_timestamp() + 10 * 24 * 60 * 60;
        let claims = serde_json::json!({
            "type": "batch.failed", "data": {"id": "batches/7"}, "exp": in_ten_days,
        });
        let header = serde_json::json!({"alg": "RS256", "kid": google.rsa_id()});
        let mut sent = Signer::v1a(&google).sign("msg_1", now, "");
        sent.signature = google.jwt(&header, &claims);
        let delivery = verifier.verify(&sent, &sent.body).unwrap();
        assert!(delivery.retention() > Duration::from_secs(10 * 24 * 60 * 60));
        assert_same(&delivery, &restored(&delivery));
    }

    #[test]
    fn a_part_of_a_second_makes_the_retention_no_shorter() {
        let secret = Secret::from_bytes(&[7; 32]).unwrap();
        let window = crate::ReplayWindow::default().back(Duration::from_millis(100_001));
        let sent = Signer::v1(&secret).sign("msg_1", OffsetDateTime::now_utc(), "{}");
        let verifier = Verifier::builder().secret(secret).window(window);
        let verifier = verifier.build().unwrap();
        let delivery = verifier.verify(&sent, &sent.body).unwrap();
        let exact = delivery.retention();
        assert_eq!(exact.subsec_millis(), 1);
        let rounded = Duration::from_secs(exact.as_secs() + 1);
        assert_eq!(restored(&delivery).retention(), rounded);
    }

    #[test]
    fn what_another_version_has_stored_is_not_guessed_at() {
        let sent = sign(sample(&EventType::BatchExpired));
        let envelope = verify(&sent).envelope().unwrap();
        let restore = |envelope: &str| Delivery::restore(envelope, sent.body.clone());
        assert!(restore(&envelope).is_some());
        for (from, to) in [
            ("\"v1\"", "\"v9\""),
            ("\"id\"", "\"name\""),
            ("\"attempted_at\":", "\"attempted_at\":\"\",\"at\":"),
            ("\"retention\":", "\"retention\":-"),
            ("{", ""),
        ] {
            let other = envelope.replacen(from, to, 1);
            assert_ne!(other, envelope);
            assert!(restore(&other).is_none(), "{other}");
        }
        // The claims of a JWT were an event when they were verified.
        let jwt = envelope.replace("\"v1\"", "\"jwt\"");
        assert!(Delivery::restore(&jwt, b"no JSON".to_vec()).is_none());
    }
}
