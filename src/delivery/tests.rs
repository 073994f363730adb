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
