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
    let EventData::Unknown {
        event_type, data, ..
    } = &unknown.data
    else {
        panic!("{unknown:?}");
    };
    assert_eq!(event_type, "new.type");
    assert_eq!(data, &serde_json::json!({"n": 12}));
}

/// `serde_json` hands over a number as an object with this one member.
const NUMBER: &str = "$serde_json::private::Number";

#[test]
fn an_object_with_the_member_of_a_number_stays_an_object() {
    for value in [
        format!(r#"{{"{NUMBER}":"12"}}"#),
        format!(r#"{{"{NUMBER}":"12","more":1}}"#),
        format!(r#"{{"{NUMBER}":12}}"#),
        format!(r#"{{"{NUMBER}":{{"{NUMBER}":null}}}}"#),
        r#"{"\u0024serde_json::private::Number":"12"}"#.to_owned(),
    ] {
        for json in [
            format!(r#"{{"type":"ping","a":{value}}}"#),
            format!(r#"{{"type":"batch.failed","data":{value}}}"#),
            format!(r#"{{"data":{value},"type":"batch.failed"}}"#),
            format!(r#"{{"type":"batch.failed","data":{{"id":"b","error_code":{value}}}}}"#),
            format!(r#"{{"type":"ping","user_metadata":{value}}}"#),
            format!(r#"{{"type":"ping","timestamp":{value}}}"#),
        ] {
            let event: Event = serde_json::from_str(&json).unwrap();
            let written = serde_json::to_string(&event).unwrap();
            assert_eq!(
                written.matches(NUMBER).count(),
                json.replace("\\u0024", "$").matches(NUMBER).count(),
                "{json}"
            );
            assert_eq!(serde_json::from_str::<Event>(&written).unwrap(), event);
        }
    }
    // The type itself is no text, and no number either.
    for json in [
        format!(r#"{{"type":{{"{NUMBER}":"12"}}}}"#),
        r#"{"type":12}"#.into(),
    ] {
        assert!(serde_json::from_str::<Event>(&json).is_err());
    }
}

#[test]
fn a_number_in_any_place_is_written_back_digit_by_digit() {
    let number = "12345678901234567890123.450";
    for json in [
        r#"{"type":"ping","version":N,"timestamp":N,"data":N,"user_metadata":N,"a":[N,{"b":N}]}"#,
        r#"{"type":"batch.failed","data":N}"#,
        r#"{"type":"batch.failed","data":{"error_code":N,"error_message":N,"id":N}}"#,
        r#"{"type":"batch.failed","data":{"id":"b","error_code":N,"error_message":N}}"#,
    ] {
        let json = json.replace('N', number);
        let event: Event = serde_json::from_str(&json).unwrap();
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            serde_json::from_str::<serde_json::Value>(&json).unwrap()
        );
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::from_value::<Event>(parsed).unwrap(), event);
        let written = serde_json::to_string(&event).unwrap();
        assert_eq!(
            written.matches(number).count(),
            json.matches(number).count()
        );
    }
    let id = "123456789012345678901234567890";
    let event: Event = serde_json::from_str(&format!(
        r#"{{"type":"batch.expired","data":{{"id":{id}}}}}"#
    ))
    .unwrap();
    assert_eq!(event.data.id(), Some(id));
    assert!(
        serde_json::to_string(&event)
            .unwrap()
            .contains(&format!(r#""id":{id}"#))
    );
}

/// serde reads the whole into a buffer before it tries the variants.
#[test]
fn a_number_stays_one_in_a_buffer() {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Body {
        Event(Event),
    }
    let json = r#"{"type":"ping","data":1.50,"a":[1,{"b":-2e400}]}"#;
    let Body::Event(event) = serde_json::from_str(json).unwrap();
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        serde_json::from_str::<serde_json::Value>(json).unwrap()
    );
    let json = r#"{"type":"batch.failed","data":1.50}"#;
    let Body::Event(event) = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), json);
}

#[test]
fn a_body_is_bound_to_claims_with_the_same_numbers() {
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let verifier = Verifier::builder()
        .per_request(PerRequest::any_sender(keys))
        .build()
        .unwrap();
    let event = |number: &str| format!(r#"{{"type":"ping","a":[{number}]}}"#);
    let object = format!(r#"{{"{NUMBER}":"1"}}"#);
    for (claimed, sent, is_bound) in [
        ("1", "1", true),
        ("1.50", "1.5", true),
        ("1e400", "10e399", true),
        ("10000000000000000000000", "1e22", true),
        ("10000000000000000000000", "10000000000000000000001", false),
        ("1e400", "1e401", false),
        ("1", &object, false),
    ] {
        let signer = Signer::jwt(&google, "a");
        let mut delivery = signer.sign("msg_1", OffsetDateTime::now_utc(), event(claimed));
        delivery.body = event(sent).into();
        assert_eq!(
            verifier.verify(&delivery, &delivery.body).is_ok(),
            is_bound,
            "{claimed} {sent}"
        );
    }
}
