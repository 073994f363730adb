//! What holds for every delivery, whatever it consists of.

use gemini_webhooks::{Attempt, Event, EventType, Secret, Verifier, testing::Signer};
use proptest::{collection::vec, prelude::*};
use time::OffsetDateTime;

fn encoded_secret() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 24..=64)
}

fn secret(key: &[u8]) -> Secret {
    use base64::Engine as _;
    Secret::parse(&base64::prelude::BASE64_STANDARD.encode(key)).unwrap()
}

fn id() -> impl Strategy<Value = String> {
    "[!-\\-/-~]{1,256}"
}

fn time() -> impl Strategy<Value = OffsetDateTime> {
    (0..253_402_300_800_i64)
        .prop_map(|seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap())
}

fn verifier(key: &[u8]) -> Verifier {
    Verifier::builder().secret(secret(key)).build().unwrap()
}

proptest! {
    #[test]
    fn whatever_is_signed_verifies(
        key in encoded_secret(), id in id(), now in time(), skew in -300..=300_i64, body in vec(any::<u8>(), 0..2000),
    ) {
        let attempted_at = now.unix_timestamp().saturating_add(skew).clamp(0, 253_402_300_799);
        let attempted_at = OffsetDateTime::from_unix_timestamp(attempted_at).unwrap();
        let sent = Signer::v1(&secret(&key)).sign(id.clone(), attempted_at, body.clone());
        let verifier = verifier(&key);
        let delivery = verifier.verify_at(&sent, &sent.body, now).unwrap();
        prop_assert_eq!(delivery.id(), id);
        prop_assert_eq!(delivery.payload(), body);
        prop_assert_eq!(delivery.attempted_at(), attempted_at);
    }

    #[test]
    fn any_changed_bit_is_noticed(
        key in encoded_secret(), id in id(), now in time(), body in vec(any::<u8>(), 1..300), bit in any::<prop::sample::Index>(),
    ) {
        let sent = Signer::v1(&secret(&key)).sign(id, now, body);
        let verifier = verifier(&key);
        let changed = |bytes: &[u8]| {
            let bit = bit.index(bytes.len() * 8);
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        let refused = |id: &[u8], timestamp: &[u8], signature: &[u8], body: &[u8]| {
            Attempt::new(id, timestamp, signature)
                .and_then(|attempt| verifier.verify_at(attempt, body, now).map(drop))
                .is_err()
        };
        let (id, timestamp, signature) = (sent.id.as_bytes(), sent.timestamp.as_bytes(), sent.signature.as_bytes());
        prop_assert!(!refused(id, timestamp, signature, &sent.body));
        prop_assert!(refused(&changed(id), timestamp, signature, &sent.body));
        prop_assert!(refused(id, &changed(timestamp), signature, &sent.body));
        prop_assert!(refused(id, timestamp, signature, &changed(&sent.body)));
        prop_assert!(refused(id, timestamp, &changed(signature), &sent.body));

        let other = Verifier::builder().secret(secret(&changed(&key))).build().unwrap();
        prop_assert!(other.verify_at(&sent, &sent.body, now).is_err());
    }

    #[test]
    fn nothing_that_is_sent_panics(
        id in vec(any::<u8>(), 0..300), timestamp in "[0-9+\\-.]{0,45}", signature in vec(any::<u8>(), 0..300), body in vec(any::<u8>(), 0..300), now in time(),
    ) {
        let verifier = verifier(&[7; 32]);
        for (id, signature) in [(id.as_slice(), signature.as_slice()), (b"msg_1", b"v1,AAAA"), (&id, b"v1,AAAA"), (b"msg_1", &signature)] {
            let accepted = Attempt::new(id, &timestamp, signature)
                .and_then(|attempt| verifier.verify_at(attempt, &body, now).map(drop));
            if let Err(error) = accepted {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!((400..600).contains(&error.status()));
            }
        }
    }

    #[test]
    fn no_text_panics_as_a_secret(text in "(v1,|whsec_|whpk_)?\\PC{0,100}") {
        let _ = Secret::parse(&text);
    }

    #[test]
    fn what_parses_is_written_back_as_the_same_event(
        event_type in prop::sample::select(EventType::KNOWN.to_vec()), id in "\\PC{0,20}", uri in prop::option::of("\\PC{0,20}"),
        name in "[a-z_]{1,12}", number in any::<i64>(),
    ) {
        let mut data = serde_json::json!({"id": id, "output_file_uri": uri, "error_code": number});
        data[name.as_str()] = number.to_string().into();
        let json = serde_json::json!({"type": event_type, "data": data, "user_metadata": {name: number}});
        let event: Event = serde_json::from_value(json).unwrap();
        let back = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(serde_json::from_str::<Event>(&back).unwrap(), event);
    }

    #[test]
    fn no_body_panics_as_an_event(body in vec(any::<u8>(), 0..200), text in "[{}\\[\\]\",:a-z0-9 ]{0,100}") {
        let _ = serde_json::from_slice::<Event>(&body);
        let _ = serde_json::from_str::<Event>(&text);
        let _ = serde_json::from_str::<Event>(&format!(r#"{{"type":"batch.failed","data":{text}}}"#));
    }
}

#[cfg(feature = "_per-request")]
mod per_request {
    use std::sync::LazyLock;

    use gemini_webhooks::{
        Attempt, JobTokens, PerRequest, Scheme, Verifier,
        keys::KeySet,
        testing::{Signer, SigningKeys},
    };
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::{id, time};

    const AUDIENCE: &str = "https://example.com/webhook";

    static GOOGLE: LazyLock<SigningKeys> = LazyLock::new(SigningKeys::generate);
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
        let keys = KeySet::from_json(GOOGLE.jwks().as_bytes()).unwrap();
        let per_request = PerRequest::any_sender(keys).audience(AUDIENCE);
        Verifier::builder()
            .per_request(per_request)
            .build()
            .unwrap()
    });

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_signed_verifies(id in id(), now in time(), body in vec(any::<u8>(), 0..2000), text in "\\PC{0,50}") {
            let sent = Signer::v1a(&GOOGLE).sign(id.clone(), now, body.clone());
            let delivery = VERIFIER.verify_at(&sent, &sent.body, now).unwrap();
            prop_assert_eq!((delivery.id(), delivery.payload(), delivery.scheme()), (&*id, &*body, Scheme::V1a));

            let event = json!({"type": text, "data": {"a": [text]}, "user_metadata": {"b": text}, "c": text});
            let sent = Signer::jwt(&GOOGLE, AUDIENCE).sign(id, now, event.to_string());
            let delivery = VERIFIER.verify_at(&sent, &sent.body, now).unwrap();
            let mut claims = serde_json::to_value(delivery.event().unwrap()).unwrap();
            for of_the_token in ["iss", "aud", "iat", "exp"] {
                prop_assert!(claims.as_object_mut().unwrap().remove(of_the_token).is_some());
            }
            prop_assert_eq!(claims, event);
        }

        #[test]
        fn any_changed_bit_is_noticed(id in id(), now in time(), body in vec(any::<u8>(), 1..300), bit in any::<prop::sample::Index>()) {
            let changed = |bytes: &[u8]| {
                let bit = bit.index(bytes.len() * 8);
                let mut bytes = bytes.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            let accepted = |id: &[u8], timestamp: &[u8], signature: &[u8], body: &[u8]| {
                Attempt::new(id, timestamp, signature)
                    .and_then(|attempt| VERIFIER.verify_at(attempt, body, now).map(drop))
                    .is_ok()
            };
            let sent = Signer::v1a(&GOOGLE).sign(id, now, body);
            let (id, timestamp, signature) = (sent.id.as_bytes(), sent.timestamp.as_bytes(), sent.signature.as_bytes());
            prop_assert!(accepted(id, timestamp, signature, &sent.body));
            prop_assert!(!accepted(&changed(id), timestamp, signature, &sent.body));
            prop_assert!(!accepted(id, &changed(timestamp), signature, &sent.body));
            prop_assert!(!accepted(id, timestamp, signature, &changed(&sent.body)));
            prop_assert!(!accepted(id, timestamp, &changed(signature), &sent.body));

            let event = json!({"type": "batch.expired", "data": {"id": "b"}}).to_string();
            let sent = Signer::jwt(&GOOGLE, AUDIENCE).sign("msg_1", now, event);
            prop_assert!(accepted(b"msg_1", timestamp, sent.signature.as_bytes(), &sent.body));
            prop_assert!(!accepted(b"msg_1", timestamp, &changed(sent.signature.as_bytes()), &sent.body));
        }

        #[test]
        fn nothing_that_is_sent_panics(token in "[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60}\\.[a-zA-Z0-9_-]{0,60}", header in "\\PC{0,40}", now in time()) {
            use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
            let encoded = format!("{}.e30.AAAA", BASE64_URL_SAFE_NO_PAD.encode(header));
            let signed = GOOGLE.jwt(&json!({"alg": "EdDSA"}), &json!({"exp": token, "aud": [token]}));
            let timestamp = now.unix_timestamp().to_string();
            for signature in [&token, &encoded, &signed, &format!("v1a,{token}")] {
                let attempt = Attempt::new("msg_1", &timestamp, signature).unwrap();
                prop_assert!(VERIFIER.verify_at(attempt, token.as_bytes(), now).is_err());
            }
        }

        #[test]
        fn no_document_panics_as_a_key_set(document in vec(any::<u8>(), 0..200), x in "\\PC{0,50}", n in "[a-zA-Z0-9_-]{0,400}") {
            let _ = KeySet::from_json(&document);
            let keys = json!({"keys": [
                {"kty": "OKP", "crv": "Ed25519", "x": x}, {"kty": "RSA", "n": n, "e": x}, {"kty": "RSA", "n": n, "e": "AQAB"}, x,
            ]});
            let _ = KeySet::from_json(keys.to_string().as_bytes());
            let _ = KeySet::from_public_keys([&x, &format!("whpk_{n}")]);
            let _ = JobTokens::parse(&x);
        }
    }
}
