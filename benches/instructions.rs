//! What `.ci/instructions` has callgrind count: `instructions WORK NUMBER` does a piece of work so
//! many times, on fixed deliveries, and `instructions cpu` names what the counts depend on.

mod support;

use std::{
    hint::black_box,
    io::{Error, ErrorKind},
};

use aws_lc_rs::signature::{
    ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use gemini_webhooks::{PerRequest, Secret, Verifier, VerifierBuilder, keys::KeySet};
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

    fn v1(cases: &Value) -> Self {
        let secret = Secret::parse(cases[0]["secrets"][0].as_str().unwrap()).unwrap();
        Self::new(Verifier::builder().secret(secret), &cases[0])
    }

    fn per_request(vectors: &Value) -> Self {
        let keys = KeySet::from_json(vectors["jwks"].to_string().as_bytes()).unwrap();
        let builder = Verifier::builder().per_request(PerRequest::any_sender(keys));
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

/// The cryptography alone, to be taken away from what verifying counts.
enum Bare {
    Hmac(Hmac<Sha256>, String),
    PublicKey(ParsedPublicKey, Vec<u8>, Vec<u8>),
}

impl Bare {
    fn hmac(case: &Value) -> Self {
        let keyed = Hmac::<Sha256>::new_from_slice(b"any key will do").unwrap();
        Self::Hmac(keyed, content(case))
    }

    fn ed25519(vectors: &Value) -> Self {
        let case = &vectors["cases"][0];
        let signature = case["signature"]
            .as_str()
            .unwrap()
            .trim_start_matches("v1a,");
        let signature = BASE64_STANDARD.decode(signature).unwrap();
        let keys = vectors["jwks"]["keys"].as_array().unwrap().iter();
        let mut made = keys.filter_map(|key| {
            let key = BASE64_URL_SAFE_NO_PAD.decode(key["x"].as_str()?).unwrap();
            let key = ParsedPublicKey::new(&ED25519, key).unwrap();
            let matches = key.verify_sig(content(case).as_bytes(), &signature).is_ok();
            matches.then_some(key)
        });
        let key = made.next().unwrap();
        Self::PublicKey(key, content(case).into(), signature)
    }

    fn rs256(vectors: &Value) -> Self {
        let token = vectors["cases"][0]["signature"].as_str().unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let keys = vectors["jwks"]["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kty"] == "RSA").unwrap();
        let member = |name: &str| {
            let text = key[name].as_str().unwrap();
            BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
        };
        let key = RsaPublicKeyComponents {
            n: member("n"),
            e: member("e"),
        };
        let key = key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        Self::PublicKey(key.unwrap(), signed.into(), signature)
    }

    fn run(&self) {
        match self {
            Self::Hmac(keyed, content) => {
                let mac = keyed.clone().chain_update(black_box(content));
                black_box(mac.finalize().into_bytes());
            }
            Self::PublicKey(key, content, signature) => {
                black_box(key.verify_sig(black_box(content), black_box(signature))).unwrap();
            }
        }
    }
}

fn content(case: &Value) -> String {
    let [id, timestamp, body] =
        ["id", "timestamp", "body"].map(|name| case[name].as_str().unwrap());
    format!("{id}.{timestamp}.{body}")
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
    let repeat_bare = |bare: Bare| (0..number).for_each(|_| bare.run());
    let [v1, v1a, jwt] = [
        include_str!("../tests/vectors/v1.json"),
        include_str!("../tests/vectors/v1a.json"),
        include_str!("../tests/vectors/jwt.json"),
    ]
    .map(|vectors| serde_json::from_str::<Value>(vectors).unwrap());
    match work {
        "cpu" => println!("{}", cpu()),
        "v1_bare" => repeat_bare(Bare::hmac(&v1[0])),
        "v1_verify" => repeat(Work::v1(&v1), false),
        "v1_verify_event" => repeat(Work::v1(&v1), true),
        "v1a_bare" => repeat_bare(Bare::ed25519(&v1a)),
        "v1a_verify" => repeat(Work::per_request(&v1a), false),
        "v1a_verify_event" => repeat(Work::per_request(&v1a), true),
        "jwt_bare" => repeat_bare(Bare::rs256(&jwt)),
        "jwt_verify" => repeat(Work::per_request(&jwt), false),
        "jwt_verify_event" => repeat(Work::per_request(&jwt), true),
        other => return Err(Error::new(ErrorKind::InvalidInput, other.to_owned())),
    }
    Ok(())
}
