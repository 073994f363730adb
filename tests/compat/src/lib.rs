//! Tests only.
#![cfg(test)]

use gemini_webhooks::{
    Event, EventData, EventType, PerRequest, Verifier,
    event::ErrorCode,
    keys::KeySet,
    testing::{Signer, SigningKeys, sample},
};
use time::OffsetDateTime;

#[test]
fn an_application_still_decodes_its_own_tokens() {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};

    let claims = serde_json::json!({"sub": "somebody", "exp": 4_000_000_000_u64});
    let key = EncodingKey::from_secret(b"a secret of the application");
    let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let key = DecodingKey::from_secret(b"a secret of the application");
    let decoded = decode::<serde_json::Value>(&token, &key, &Validation::new(Algorithm::HS256));
    assert_eq!(decoded.unwrap().claims["sub"], "somebody");
}

#[test]
fn deliveries_verify_beside_it() {
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let per_request = PerRequest::any_sender(keys).audience("a");
    let verifier = Verifier::builder()
        .per_request(per_request)
        .build()
        .unwrap();
    for signer in [Signer::v1a(&google), Signer::jwt(&google, "a")] {
        let body = sample(&EventType::BatchSucceeded);
        let sent = signer.sign("msg_1", OffsetDateTime::now_utc(), body);
        let delivery = verifier.verify(&sent, &sent.body).unwrap();
        assert_eq!(
            delivery.event().unwrap().event_type(),
            EventType::BatchSucceeded
        );
    }
}

#[test]
fn numbers_of_arbitrary_precision_stay_numbers() {
    let json = r#"{"type":"batch.failed","data":{"id":"b","error_code":1.50,"big":123456789012345678901234567890},"user_metadata":{"n":[1,-2,3.25]}}"#;
    let event: Event = serde_json::from_str(json).unwrap();
    let EventData::BatchFailed(batch) = &event.data else {
        panic!("{event:?}");
    };
    assert!(
        matches!(&batch.error_code, Some(ErrorCode::Number(number)) if number.to_string() == "1.50")
    );
    assert_eq!(
        batch.other["big"].to_string(),
        "123456789012345678901234567890"
    );
    assert_eq!(event.user_metadata["n"].to_string(), "[1,-2,3.25]");
    assert_eq!(serde_json::to_string(&event).unwrap(), json);
    assert!(serde_json::from_str::<Event>(r#"{"type":"ping","a":{"b":1,"b":1}}"#).is_err());

    let unknown: Event = serde_json::from_str(r#"{"data":{"n":12},"type":"new.type"}"#).unwrap();
    assert_eq!(
        unknown.data,
        EventData::Unknown {
            event_type: "new.type".into(),
            data: serde_json::json!({"n": 12}),
        }
    );
}
