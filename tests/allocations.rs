//! Verifying allocates nothing: a binary of its own, since the allocator counts for all of it.

#[path = "support/counting.rs"]
mod counting;

use counting::allocations;
use gemini_webhooks::{EventType, Secret, Verifier, testing};
use time::OffsetDateTime;

#[test]
fn verifying_allocates_nothing() {
    let (_, counted) = allocations(|| std::hint::black_box(vec![1, 2, 3]));
    assert_eq!(counted, 1, "the counter does not count");

    let old = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    let new = Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let signer = testing::Signer::v1(&new).and_v1(&old);
    let verifier = Verifier::builder().secret(old).secret(new).build().unwrap();
    for length in [0, 154, 2 << 10, 256 << 10] {
        let mut sent = signer.sign("msg_1", OffsetDateTime::now_utc(), vec![b'x'; length]);
        let mut headers = http::HeaderMap::new();
        for (name, value) in sent.headers() {
            headers.insert(name, value.parse().unwrap());
        }
        let (accepted, counted) = allocations(|| verifier.verify(&headers, &sent.body).is_ok());
        assert!(accepted);
        assert_eq!(counted, 0, "{length} bytes");

        sent.body.push(b' ');
        let (accepted, counted) = allocations(|| verifier.verify(&headers, &sent.body).is_ok());
        assert!(!accepted);
        assert_eq!(counted, 0, "{length} bytes, refused");
    }
}

#[test]
fn an_event_allocates_only_the_texts_that_it_holds() {
    let body = testing::sample(&EventType::BatchSucceeded);
    let (event, counted) = allocations(|| serde_json::from_str::<gemini_webhooks::Event>(&body));
    assert!(event.is_ok());
    assert_eq!(counted, 3, "the version, the id and the URI");
}

/// The other backend's RSA allocates its numbers.
#[cfg(feature = "aws-lc-rs")]
#[test]
fn a_jwt_beside_its_body_and_its_event_take_few_allocations() {
    use gemini_webhooks::{PerRequest, keys::KeySet, testing::SigningKeys};

    const AUDIENCE: &str = "https://example.com/webhook";

    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let verifier = Verifier::builder()
        .per_request(PerRequest::with_audience(keys, AUDIENCE))
        .build()
        .unwrap();
    let signer = testing::Signer::jwt(&google, AUDIENCE);
    let body = testing::sample(&EventType::BatchSucceeded);
    let sent = signer.sign("msg_1", OffsetDateTime::now_utc(), body);
    let mut headers = http::HeaderMap::new();
    for (name, value) in sent.headers() {
        headers.insert(name, value.parse().unwrap());
    }
    let (delivery, counted) = allocations(|| {
        let delivery = verifier.verify(&headers, &sent.body).unwrap();
        delivery.event().unwrap();
        delivery
    });
    let event = delivery.event().unwrap();
    assert_eq!(event.event_type(), EventType::BatchSucceeded);
    assert!(counted <= 14, "{counted} allocations");
}
