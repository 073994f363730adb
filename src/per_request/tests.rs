use std::{convert::Infallible, sync::Arc};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;
use crate::{
    EventType, SharedVerifier, Verifier,
    json::parsed,
    keys::{KeySet, RefreshedKeys},
    testing::{Clock, SignedDelivery, Signer, SigningKeys, sample},
};

const AUDIENCE: &str = "https://example.com/webhook";

fn keys(google: &SigningKeys) -> KeySet {
    KeySet::from_json(google.jwks().as_bytes()).unwrap()
}

fn tokens() -> JobTokens {
    JobTokens::new([7; 32])
}

fn verifier(google: &SigningKeys) -> Verifier {
    let per_request = PerRequest::with_job_tokens(keys(google), tokens());
    let builder = Verifier::builder().per_request(per_request);
    builder.build().unwrap()
}

/// A delivery of a job of ours.
fn sign(signer: &Signer) -> SignedDelivery {
    let token = tokens().mint_for("nightly").unwrap();
    let mut event: Value = serde_json::from_str(&sample(&EventType::BatchFailed)).unwrap();
    event["user_metadata"] = JobTokens::user_metadata(&token).into();
    signer.sign("msg_1", OffsetDateTime::now_utc(), event.to_string())
}

fn count(documents: &[Vec<u8>], document: &[u8]) -> usize {
    documents.iter().filter(|other| *other == document).count()
}

#[test]
fn the_claims_of_a_jwt_are_parsed_once() {
    let google = SigningKeys::generate();
    let verifier = verifier(&google);
    let mut sent = sign(&Signer::jwt(&google, AUDIENCE));
    // Its header, its claims, and the body if there is one.
    for documents in [3, 2] {
        parsed::take();
        let delivery = verifier.verify(&sent, &sent.body).unwrap();
        assert_eq!(delivery.job().unwrap().context, "nightly");
        assert!(delivery.idempotency_key().starts_with("event."));
        for _ in 0..2 {
            let event = delivery.event().unwrap();
            assert_eq!(event.event_type(), EventType::BatchFailed);
        }
        let claims = delivery.payload().to_vec();
        delivery.clone().into_event().unwrap();
        delivery.into_owned().into_event().unwrap();
        let parsed = parsed::take();
        assert_eq!(count(&parsed, &claims), 1);
        assert_eq!(parsed.len(), documents);
        sent.body.clear();
    }
}

#[test]
fn a_body_that_was_parsed_for_its_job_token_is_not_parsed_again() {
    let google = SigningKeys::generate();
    let verifier = verifier(&google);
    let sent = sign(&Signer::v1a(&google));
    parsed::take();
    let delivery = verifier.verify(&sent, &sent.body).unwrap();
    assert_eq!(delivery.job().unwrap().context, "nightly");
    assert!(delivery.idempotency_key().starts_with("event."));
    delivery.event().unwrap();
    delivery.into_event().unwrap();
    assert_eq!(parsed::take(), [sent.body]);
}

#[cfg(all(feature = "receiver", feature = "tracing"))]
#[tokio::test]
async fn a_receiver_with_a_span_parses_the_claims_of_a_jwt_once() {
    use crate::{Receiver, Secret, receiver::Outcome, store::MemoryStore};

    let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink);
    let _default = tracing::subscriber::set_default(subscriber.finish());

    let google = SigningKeys::generate();
    let secret = Secret::from_bytes(&[7; 32]).unwrap();
    let per_request = PerRequest::with_job_tokens(keys(&google), tokens());
    let verifier = Verifier::builder()
        .secret(secret.clone())
        .per_request(per_request)
        .build()
        .unwrap();
    let receiver = Receiver::builder(verifier, MemoryStore::default());
    let receiver = receiver.build().unwrap();

    // The span is there: it has the event's type, which nothing else asks for.
    let sent = sign(&Signer::v1(&secret));
    parsed::take();
    let handler = async |_| Ok::<_, Infallible>(());
    let reply = receiver.handle(&sent, &sent.body, handler).await;
    assert!(matches!(reply.outcome, Outcome::Processed), "{reply:?}");
    assert_eq!(parsed::take().as_slice(), std::slice::from_ref(&sent.body));

    let sent = sign(&Signer::jwt(&google, AUDIENCE));
    let handler = async |received: crate::receiver::Received<'_>| {
        let event = received.event()?;
        assert_eq!(event.event_type(), EventType::BatchFailed);
        Ok::<_, crate::PayloadError>(())
    };
    let reply = receiver.handle(&sent, &sent.body, handler).await;
    assert!(matches!(reply.outcome, Outcome::Processed), "{reply:?}");
    let delivery = reply.delivery.unwrap();
    delivery.event().unwrap();
    let parsed = parsed::take();
    assert_eq!(count(&parsed, delivery.payload()), 1);
    assert_eq!(parsed.len(), 3);
}

/// Two key sets, of which the second comes with the second fetch.
fn rotating(first: &SigningKeys, second: &SigningKeys) -> Arc<RefreshedKeys> {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let documents = [first.jwks(), second.jwks()];
    let fetches = AtomicUsize::new(0);
    Arc::new(RefreshedKeys::new(move || {
        let fetch = fetches.fetch_add(1, Ordering::Relaxed);
        let document = documents[fetch.min(1)].clone();
        async move { Ok::<_, Infallible>(document.into_bytes()) }
    }))
}

#[tokio::test]
async fn a_delivery_under_a_new_key_is_verified_once_the_keys_are_refreshed() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let clock = Clock::manual(OffsetDateTime::now_utc());
    let keys = Arc::into_inner(rotating(&old, &new)).unwrap();
    let keys = Arc::new(keys.clock(clock.clone()));
    let verifier = Verifier::builder()
        .per_request(PerRequest::any_sender(Arc::clone(&keys)))
        .build()
        .unwrap();
    for signer in [Signer::v1a, |keys: &_| Signer::jwt(keys, AUDIENCE)] {
        let sent = sign(&signer(&old));
        let refused = verifier.verify(&sent, &sent.body);
        if keys.keys().get().is_none() {
            assert_eq!(refused.unwrap_err().code(), "keys_unavailable");
            let accepted = verifier.verify_refreshing(&sent, &sent.body).await;
            accepted.unwrap();
            let sent = sign(&signer(&new));
            let early = verifier.verify_refreshing(&sent, &sent.body).await;
            assert_eq!(early.unwrap_err().code(), "signature_mismatch");
            clock.advance(keys::KeyRefresh::COOL_DOWN);
        } else {
            assert_eq!(refused.unwrap_err().code(), "unknown_key");
        }
        let sent = sign(&signer(&new));
        let accepted = verifier.verify_refreshing(&sent, &sent.body).await;
        accepted.unwrap();
    }
}

#[tokio::test]
async fn what_newer_keys_can_not_fix_is_refused_at_once() {
    let (old, new) = (SigningKeys::generate(), SigningKeys::generate());
    let keys = rotating(&old, &new);
    assert!(keys.refresh().await.unwrap());
    let per_request = PerRequest::with_job_tokens(Arc::clone(&keys), JobTokens::new([8; 32]));
    let verifier = Verifier::builder().per_request(per_request);
    let verifier = SharedVerifier::from(verifier.build().unwrap());
    let sent = sign(&Signer::v1a(&old));
    let refused = verifier.get().verify_refreshing(&sent, &sent.body).await;
    assert_eq!(refused.unwrap_err().code(), "unknown_origin");
    // The keys are still the first ones.
    let sent = sign(&Signer::v1a(&new));
    let refused = verifier.verify(&sent, &sent.body);
    assert_eq!(refused.unwrap_err().code(), "signature_mismatch");
}

#[test]
fn a_delivery_names_its_key_and_no_secret() {
    let google = SigningKeys::generate();
    let verifier = verifier(&google);
    for (signer, key_id) in [
        (Signer::v1a(&google), google.ed25519_id(0)),
        (Signer::jwt(&google, AUDIENCE), google.rsa_id()),
    ] {
        let sent = sign(&signer);
        let delivery = verifier.verify(&sent, &sent.body).unwrap();
        assert_eq!(delivery.key_id(), Some(&*key_id));
        assert_eq!(delivery.secret_name(), None);
    }
}

#[test]
fn claims_that_rfc_7519_registers_stay_in_the_event() {
    let google = SigningKeys::generate();
    let sent = sign(&Signer::jwt(&google, AUDIENCE));
    let verifier = verifier(&google);
    let delivery = verifier.verify(&sent, &sent.body).unwrap();
    let event = delivery.event().unwrap();
    assert_eq!(event.other["aud"], json!(AUDIENCE));
    assert_eq!(event, &delivery.json::<Event>().unwrap());
    let payload: Value = delivery.json().unwrap();
    assert_eq!(serde_json::to_value(event).unwrap(), payload);
}
