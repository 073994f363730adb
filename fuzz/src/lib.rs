//! A verifier of `v1` and `v1a` that is plain and slow, to hold the crate's own against; and what
//! the targets share.

pub mod reference;

use std::sync::LazyLock;

use gemini_webhooks::{JobTokens, PerRequest, Secret, Verifier, keys::KeySet};
use time::OffsetDateTime;

pub const NOW: i64 = 1_780_000_000;
pub const SECRETS: [&str; 2] = [
    "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
];
/// The key set of the vectors of JWTs.
pub static JWKS: LazyLock<String> = LazyLock::new(|| {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/jwt.json")).unwrap();
    vectors["jwks"].to_string()
});

pub fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

/// With secrets, keys and everything that is checked of a token.
pub static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let keys = KeySet::from_json(JWKS.as_bytes()).unwrap();
    let per_request = PerRequest::with_job_tokens(keys, JobTokens::new([7; 32]))
        .audience("https://my-api.com/gemini-webhook-dynamic");
    let builder = SECRETS.iter().fold(Verifier::builder(), |builder, text| {
        builder.secret(Secret::parse(text).unwrap())
    });
    builder.per_request(per_request).build().unwrap()
});
