//! The crate's verifier and the plain one give the same answer. The input is an id, a timestamp and
//! a signature, a line each, and a body; signatures that are right are put in where it says `@0`.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuzz::reference;
use gemini_webhooks::{Attempt, PerRequest, Secret, Verifier, keys::KeySet};
use libfuzzer_sys::fuzz_target;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key = reference::signing_key().verifying_key();
    let key = format!("whpk_{}", BASE64_STANDARD.encode(key.as_bytes()));
    let keys = KeySet::from_public_keys([key]).unwrap();
    let builder = fuzz::SECRETS
        .iter()
        .fold(Verifier::builder(), |builder, text| {
            builder.secret(Secret::parse(text).unwrap())
        });
    let any_sender = PerRequest::any_sender(keys);
    builder.per_request(any_sender).build().unwrap()
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let [id, timestamp, signature, body] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let signature = reference::fill_in(signature, id, timestamp, body);
    let Some(expected) = reference::verify(id, timestamp, &signature, body) else {
        return;
    };
    let attempt = Attempt::new(id, timestamp, &signature);
    match VERIFIER.verify_at(attempt, body, fuzz::now()) {
        Ok(delivery) => {
            assert_eq!(expected, "ok");
            assert_eq!((delivery.id().as_bytes(), delivery.payload()), (id, body));
        }
        Err(refusal) => assert_eq!(refusal.code(), expected, "{refusal}"),
    }
});
