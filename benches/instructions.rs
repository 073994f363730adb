//! What `.ci/instructions` has callgrind count: `instructions WORK NUMBER` does a piece of work so
//! many times, on fixed deliveries, and `instructions cpu` names what the counts depend on.

mod support;

use std::{
    hint::black_box,
    io::{Error, ErrorKind},
};

use gemini_webhooks::{KeySet, PerRequest, Secret, Verifier, VerifierBuilder};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use serde_json::Value;
use sha2::Sha256;
use time::OffsetDateTime;

/// A delivery of the vectors, with a verifier that takes it.
struct Work {
    verifier: Verifier,
    headers: HeaderMap,
    body: String,
    now: OffsetDateTime,
}

impl Work {
    fn new(builder: VerifierBuilder, case: &Value) -> Self {
        let text = |name: &str| case[name].as_str().unwrap();
        let values = ["id", "timestamp", "signature"].map(text);
        Self {
            verifier: builder.build().unwrap(),
            headers: support::header_map(values),
            body: text("body").to_owned(),
            now: OffsetDateTime::from_unix_timestamp(case["now"].as_i64().unwrap()).unwrap(),
        }
    }

    fn v1() -> Self {
        let cases: Value = serde_json::from_str(include_str!("../tests/vectors/v1.json")).unwrap();
        let secret = Secret::parse(cases[0]["secrets"][0].as_str().unwrap()).unwrap();
        Self::new(Verifier::builder().secret(secret), &cases[0])
    }

    fn per_request(vectors: &str) -> Self {
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let keys = KeySet::from_json(vectors["jwks"].to_string().as_bytes()).unwrap();
        let any_sender = PerRequest::new(keys).accept_any_sender();
        let builder = Verifier::builder().per_request(any_sender);
        Self::new(builder, &vectors["cases"][0])
    }

    fn run(&self, with_event: bool) {
        let headers = black_box(&self.headers);
        let body = black_box(self.body.as_bytes());
        let delivery = self.verifier.verify_at(headers, body, self.now).unwrap();
        if with_event {
            black_box(delivery.event().unwrap());
        }
        black_box(&delivery);
    }
}

fn bare_hmac(body: &str, number: usize) {
    let keyed = Hmac::<Sha256>::new_from_slice(b"any key will do").unwrap();
    // As long as the id and the timestamp before it.
    let content = format!("{}{body}", "x".repeat(48));
    for _ in 0..number {
        let mac = keyed.clone().chain_update(black_box(&content));
        black_box(mac.finalize().into_bytes());
    }
}

fn cpu() -> String {
    let mut cpu = std::env::consts::ARCH.to_owned();
    #[cfg(target_arch = "x86_64")]
    for (name, has) in [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("adx", is_x86_feature_detected!("adx")),
        ("sha", is_x86_feature_detected!("sha")),
    ] {
        if has {
            cpu.extend(["+", name]);
        }
    }
    cpu
}

fn main() -> Result<(), Error> {
    // `cargo bench` adds options of its own.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut arguments = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'));
    let work = arguments.next().map_or("cpu", String::as_str);
    let number = arguments.next().map_or("1", String::as_str);
    let number: usize = number
        .parse()
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
    let repeat = |work: Work, with_event| (0..number).for_each(|_| work.run(with_event));
    match work {
        "cpu" => println!("{}", cpu()),
        "bare_hmac" => bare_hmac(&Work::v1().body, number),
        "v1_verify" => repeat(Work::v1(), false),
        "v1_verify_event" => repeat(Work::v1(), true),
        "v1a_verify" => repeat(
            Work::per_request(include_str!("../tests/vectors/v1a.json")),
            false,
        ),
        "jwt_verify" => repeat(
            Work::per_request(include_str!("../tests/vectors/jwt.json")),
            false,
        ),
        other => return Err(Error::new(ErrorKind::InvalidInput, other.to_owned())),
    }
    Ok(())
}
