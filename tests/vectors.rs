//! Deliveries signed by other implementations.

use gemini_webhooks::{Error, Scheme, Secret, Verifier, WebhookHeaders};
use serde::Deserialize;
use time::OffsetDateTime;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    secrets: Vec<String>,
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
        let outcome = WebhookHeaders::new(&self.id, &self.timestamp, &self.signature)
            .and_then(|headers| verifier.verify_at(headers, self.body.as_bytes(), now));
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
                assert_eq!(delivery.payload(), self.body.as_bytes(), "{name}");
                let event = delivery
                    .event()
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
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

/// The example that the official Standard Webhooks libraries share.
#[test]
fn the_vector_of_the_official_libraries() -> Result<(), Error> {
    let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let headers = WebhookHeaders::new(
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "1649367553",
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    )?;
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    let now = OffsetDateTime::from_unix_timestamp(1_649_367_553).unwrap();
    verifier.verify_at(headers, body, now)?;
    Ok(())
}
