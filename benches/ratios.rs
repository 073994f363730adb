//! What verifying costs, as ratios to what it can't do without: `cargo bench --bench ratios`.
//!
//! The two sides of a ratio are measured in turn, in many short rounds of one run, and the median
//! of the rounds' ratios is printed: what slows the machine down slows both. Prints one line per
//! ratio, `ratio NAME VALUE target T ok|over`; the exit status is 0 whatever the values.

mod support;

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{
    ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use gemini_webhooks::{
    KeySet, PerRequest, Secret, Verifier,
    testing::{SignedDelivery, Signer, SigningKeys},
};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::Sha256;
use time::OffsetDateTime;

use support::{body, headers};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
const ROUNDS: usize = 200;
/// How long a side is measured in each round.
const SLICE: Duration = Duration::from_micros(500);

/// The median, over many rounds, of the time that `a` takes over the time that `b` takes.
fn ratio(mut a: impl FnMut(), mut b: impl FnMut()) -> f64 {
    fn calls_per_slice(work: &mut impl FnMut()) -> u32 {
        let (started, mut calls) = (Instant::now(), 0);
        while started.elapsed() < 10 * SLICE {
            work();
            calls += 1;
        }
        (calls / 10).max(1)
    }
    fn seconds_per_call(work: &mut impl FnMut(), calls: u32) -> f64 {
        let started = Instant::now();
        for _ in 0..calls {
            work();
        }
        started.elapsed().as_secs_f64() / f64::from(calls)
    }
    let (a_calls, b_calls) = (calls_per_slice(&mut a), calls_per_slice(&mut b));
    let rounds =
        (0..ROUNDS).map(|_| seconds_per_call(&mut a, a_calls) / seconds_per_call(&mut b, b_calls));
    let mut rounds: Vec<f64> = rounds.collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn at_most(name: &str, value: f64, target: f64) {
    let verdict = if value <= target { "ok" } else { "over" };
    println!("ratio {name} {value:.3} target {target} {verdict}");
}

fn at_least(name: &str, value: f64, target: f64) {
    let verdict = if value >= target { "ok" } else { "over" };
    println!("ratio {name} {value:.3} target {target} {verdict}");
}

fn content(sent: &SignedDelivery) -> Vec<u8> {
    [
        sent.id.as_bytes(),
        b".",
        sent.timestamp.as_bytes(),
        b".",
        &sent.body,
    ]
    .concat()
}

fn verify(verifier: &Verifier, headers: &HeaderMap, sent: &SignedDelivery) {
    let delivery = verifier
        .verify(black_box(headers), black_box(&sent.body))
        .unwrap();
    black_box(&delivery);
}

fn v1() {
    let secret = Secret::parse(SECRET).unwrap();
    let signer = Signer::v1(&secret);
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let official = standardwebhooks::Webhook::new(SECRET).unwrap();
    let keyed = Hmac::<Sha256>::new_from_slice(b"any key will do: it is not timed").unwrap();

    let sent = signer.sign(ID, OffsetDateTime::now_utc(), body(154));
    let map = headers(&sent);
    let content = content(&sent);
    let tag = keyed.clone().chain_update(&content).finalize().into_bytes();
    let bare = || {
        let mac = keyed.clone().chain_update(black_box(&content));
        mac.verify_slice(black_box(&tag)).unwrap();
    };
    at_most(
        "v1_verify/bare_hmac",
        ratio(|| verify(&verifier, &map, &sent), bare),
        1.6,
    );
    let verify_event = || {
        let delivery = verifier
            .verify(black_box(&map), black_box(&sent.body))
            .unwrap();
        black_box(delivery.event().unwrap());
    };
    at_most("v1_verify_event/bare_hmac", ratio(verify_event, bare), 3.2);

    for length in [154, 2 << 10, 20 << 10, 256 << 10] {
        let sent = signer.sign(ID, OffsetDateTime::now_utc(), body(length));
        let map = headers(&sent);
        let peer = || {
            official
                .verify(black_box(&sent.body), black_box(&map))
                .unwrap();
        };
        let value = ratio(peer, || verify(&verifier, &map, &sent));
        at_least(&format!("standardwebhooks/v1_verify_{length}"), value, 5.0);
    }
    at_least(
        "two_threads/one_thread",
        throughput(2, &verifier, &sent) / throughput(1, &verifier, &sent),
        1.9,
    );
}

/// Verifications per second on so many threads at once: the best of some tries, since another
/// program on the machine can only take away.
fn throughput(threads: usize, verifier: &Verifier, sent: &SignedDelivery) -> f64 {
    let map = headers(sent);
    let measure = || {
        let (stop, total, ready) = (
            AtomicBool::new(false),
            AtomicU64::new(0),
            Barrier::new(threads + 1),
        );
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut count = 0;
                    ready.wait();
                    while !stop.load(Ordering::Relaxed) {
                        verify(verifier, &map, sent);
                        count += 1;
                    }
                    total.fetch_add(count, Ordering::Relaxed);
                });
            }
            ready.wait();
            std::thread::sleep(Duration::from_millis(100));
            stop.store(true, Ordering::Relaxed);
        });
        total.into_inner()
    };
    let best = (0..10).map(|_| measure()).max().unwrap();
    f64::from(u32::try_from(best).unwrap())
}

/// A set of the given members of the published one.
fn subset(google: &SigningKeys, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let jwks: Value = serde_json::from_str(&google.jwks()).unwrap();
    jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| wanted(key))
        .cloned()
        .collect()
}

fn any_sender(keys: &[Value]) -> Verifier {
    let document = json!({"keys": keys}).to_string();
    let keys = KeySet::from_json(document.as_bytes()).unwrap();
    let per_request = PerRequest::new(keys).accept_any_sender();
    Verifier::builder()
        .per_request(per_request)
        .build()
        .unwrap()
}

fn per_request() {
    let google = SigningKeys::generate();
    let decode = |key: &Value, member: &str| {
        BASE64_URL_SAFE_NO_PAD
            .decode(key[member].as_str().unwrap())
            .unwrap()
    };

    let mut ed25519 = subset(&google, |key| key["kty"] == "OKP");
    let bare_key = ParsedPublicKey::new(&ED25519, decode(&ed25519[0], "x")).unwrap();
    let sent = Signer::v1a(&google).sign(ID, OffsetDateTime::now_utc(), body(154));
    let (map, message) = (headers(&sent), content(&sent));
    let signature = google.sign_ed25519(0, &message);
    let bare = || {
        bare_key
            .verify_sig(black_box(&message), black_box(&signature))
            .unwrap();
    };
    let one = any_sender(&ed25519[..1]);
    at_most(
        "v1a_one_key/bare_ed25519",
        ratio(|| verify(&one, &map, &sent), bare),
        1.05,
    );
    for key in &mut ed25519 {
        key.as_object_mut().unwrap().remove("kid");
    }
    // The one that signs is the last of them.
    ed25519.rotate_left(1);
    let three = any_sender(&ed25519);
    at_most(
        "v1a_three_keys_none_named/bare_ed25519",
        ratio(|| verify(&three, &map, &sent), bare),
        1.05,
    );

    let rsa = subset(&google, |key| key["kty"] == "RSA");
    let components = RsaPublicKeyComponents {
        n: decode(&rsa[0], "n"),
        e: decode(&rsa[0], "e"),
    };
    let bare_key = components
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .unwrap();
    let mut sent = Signer::jwt(&google, "https://example.com/webhook").sign(
        ID,
        OffsetDateTime::now_utc(),
        body(154),
    );
    let (signed, signature) = sent.signature.rsplit_once('.').unwrap();
    let (message, signature) = (
        signed.to_owned(),
        BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap(),
    );
    let bare = || {
        bare_key
            .verify_sig(black_box(message.as_bytes()), black_box(&signature))
            .unwrap();
    };
    let all = any_sender(&subset(&google, |_| true));
    let map = headers(&sent);
    at_most(
        "jwt/bare_rs256",
        ratio(|| verify(&all, &map, &sent), bare),
        1.15,
    );
    sent.body.clear();
    at_most(
        "jwt_without_body/bare_rs256",
        ratio(|| verify(&all, &map, &sent), bare),
        1.15,
    );
}

fn main() {
    v1();
    per_request();
}
