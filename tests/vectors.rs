//! Deliveries signed by other implementations.

use std::time::Duration;

use gemini_webhooks::{Attempt, Error, Event, Scheme, Secret, Verifier};
use serde::Deserialize;
use time::OffsetDateTime;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    secrets: Vec<String>,
    #[cfg(feature = "_per-request")]
    audience: Option<String>,
    id: String,
    timestamp: String,
    signature: String,
    body: String,
    now: i64,
    ok: bool,
    r#type: Option<String>,
    error: Option<String>,
}

impl Case {
    /// Verifies the case and compares the outcome with the one that it names.
    fn run(&self, verifier: &Verifier, scheme: Scheme) {
        let name = &self.name;
        let now = OffsetDateTime::from_unix_timestamp(self.now).unwrap();
        let outcome = Attempt::new(&self.id, &self.timestamp, &self.signature)
            .and_then(|attempt| verifier.verify_at(attempt, self.body.as_bytes(), now));
        match outcome {
            Ok(delivery) => {
                assert!(self.ok, "{name}: accepted");
                assert_eq!(delivery.id(), self.id, "{name}");
                assert_eq!(
                    delivery.attempted_at().unix_timestamp().to_string(),
                    self.timestamp,
                    "{name}"
                );
                assert_eq!(delivery.scheme(), scheme, "{name}");
                if scheme == Scheme::Jwt {
                    assert_ne!(
                        delivery.payload(),
                        self.body.as_bytes(),
                        "{name}: not the claims"
                    );
                } else {
                    assert_eq!(delivery.payload(), self.body.as_bytes(), "{name}");
                }
                let key = delivery.idempotency_key();
                if scheme == Scheme::V1 {
                    assert_eq!(key, self.id, "{name}");
                } else {
                    let hash = key.strip_prefix("event.").expect(name);
                    assert_eq!(hash.len(), 43, "{name}: {key}");
                }
                let least = Duration::from_secs(24 * 60 * 60 + 300 + 300);
                assert!(delivery.retention() >= least, "{name}");
                let event = delivery
                    .event()
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(event, &delivery.json::<Event>().unwrap(), "{name}");
                let body = serde_json::from_str::<Event>(&self.body).unwrap();
                assert_eq!(without_claims(event, &body), body, "{name}");
                if let Some(event_type) = &self.r#type {
                    assert_eq!(event.event_type().as_str(), event_type, "{name}");
                }
            }
            Err(error) => {
                assert!(!self.ok, "{name}: {error}");
                if let Some(code) = &self.error {
                    assert_eq!(error.code(), code, "{name}");
                }
            }
        }
    }
}

/// The event of a JWT, without the claims that the token has beside it (RFC 7519, section 4.1).
fn without_claims(event: &Event, body: &Event) -> Event {
    let mut event = event.clone();
    for claim in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"] {
        if !body.other.contains_key(claim) {
            event.other.remove(claim);
        }
    }
    event
}

#[test]
fn hmac_deliveries_of_the_python_library() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("vectors/v1.json")).unwrap();
    assert_eq!(cases.len(), 36);
    for case in &cases {
        let secrets = case
            .secrets
            .iter()
            .map(|secret| Secret::parse(secret).unwrap());
        let verifier = secrets.fold(Verifier::builder(), |builder, secret| {
            builder.secret(secret)
        });
        case.run(&verifier.build().unwrap(), Scheme::V1);
    }
}

#[cfg(feature = "_per-request")]
mod per_request {
    use gemini_webhooks::{PerRequest, Scheme, Verifier, keys::KeySet};
    use serde_json::Value;

    #[derive(serde::Deserialize)]
    struct Vectors {
        jwks: Value,
        cases: Vec<super::Case>,
    }

    impl Vectors {
        fn keys(&self) -> KeySet {
            let keys = KeySet::from_json(self.jwks.to_string().as_bytes()).unwrap();
            assert!(keys.skipped().is_empty(), "{:?}", keys.skipped());
            keys
        }
    }

    #[test]
    fn ed25519_deliveries_of_the_python_library() {
        let vectors: Vectors = serde_json::from_str(include_str!("vectors/v1a.json")).unwrap();
        assert_eq!(vectors.cases.len(), 19);
        let per_request = PerRequest::any_sender(vectors.keys());
        let verifier = Verifier::builder()
            .per_request(per_request)
            .build()
            .unwrap();
        for case in &vectors.cases {
            case.run(&verifier, Scheme::V1a);
        }
    }

    #[test]
    fn jwt_deliveries_of_the_python_library() {
        let vectors: Vectors = serde_json::from_str(include_str!("vectors/jwt.json")).unwrap();
        assert_eq!(vectors.cases.len(), 23);
        for case in &vectors.cases {
            let audience = case.audience.clone().expect(&case.name);
            let per_request = PerRequest::with_audience(vectors.keys(), audience);
            let verifier = Verifier::builder()
                .per_request(per_request)
                .build()
                .unwrap();
            case.run(&verifier, Scheme::Jwt);
        }
    }
}

/// The example that the official Standard Webhooks libraries share.
#[test]
fn the_vector_of_the_official_libraries() -> Result<(), Error> {
    let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let attempt = Attempt::new(
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "1649367553",
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    )?;
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    let now = OffsetDateTime::from_unix_timestamp(1_649_367_553).unwrap();
    verifier.verify_at(attempt, body, now)?;
    Ok(())
}
