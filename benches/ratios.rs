//! What verifying costs, as ratios to what it can't do without: `cargo bench --bench ratios`.
//!
//! The two sides of a ratio are measured in turn, in many short rounds of one run, and the median
//! of the rounds' ratios is printed. Prints one line per ratio, `ratio NAME VALUE target T ok|over`,
//! and the times in nanoseconds and the numbers of allocations that belong to them. The exit status
//! is 0 whatever the values.

#[path = "../tests/support/counting.rs"]
mod counting;
mod support;
#[path = "support/timing.rs"]
mod timing;

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{
    ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use gemini_webhooks::{
    JobTokens, PerRequest, Secret, Verifier, VerifierBuilder,
    keys::KeySet,
    testing::{SignedDelivery, Signer, SigningKeys},
};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use sha2::Sha256;
use time::OffsetDateTime;

use counting::allocations;
use support::{ID, SECRET, SIZES, body, content, headers, verify};
use timing::{pair, time};

const AUDIENCE: &str = "https://example.com/webhook";
/// What a refused request may cost, of an accepted one: as much, and what two runs of the same
/// work differ by.
const NO_MORE: f64 = 1.03;

fn at_most(name: &str, value: f64, target: f64) {
    let verdict = if value <= target { "ok" } else { "over" };
    println!("ratio {name} {value:.3} target {target} {verdict}");
}

fn at_least(name: &str, value: f64, target: f64) {
    let verdict = if value >= target { "ok" } else { "over" };
    println!("ratio {name} {value:.3} target {target} {verdict}");
}

fn verify_event(verifier: &Verifier, headers: &HeaderMap, sent: &SignedDelivery) {
    let delivery = verifier
        .verify(black_box(headers), black_box(&sent.body))
        .unwrap();
    black_box(delivery.event().unwrap());
}

fn refuse(verifier: &Verifier, headers: &HeaderMap, sent: &SignedDelivery, code: &str) {
    let refusal = verifier
        .verify(black_box(headers), black_box(&sent.body))
        .unwrap_err();
    assert_eq!(black_box(&refusal).code(), code);
}

/// Of verifying, and of verifying and parsing the event.
fn count_allocations(
    scheme: &str,
    verifier: &Verifier,
    headers: &HeaderMap,
    sent: &SignedDelivery,
) {
    let ((), count) = allocations(|| verify(verifier, headers, sent));
    println!("allocs {scheme}_verify {count}");
    let ((), count) = allocations(|| verify_event(verifier, headers, sent));
    println!("allocs {scheme}_verify_event {count}");
}

fn secret() -> Secret {
    Secret::parse(SECRET).unwrap()
}

fn other_secret(byte: u8) -> Secret {
    Secret::parse(&BASE64_STANDARD.encode([byte; 24])).unwrap()
}

fn build(builder: VerifierBuilder) -> Verifier {
    builder.build().unwrap()
}

fn sign(signer: &Signer, length: usize) -> (HeaderMap, SignedDelivery) {
    let sent = signer.sign(ID, OffsetDateTime::now_utc(), body(length));
    (headers(&sent), sent)
}

fn v1() {
    let signer = Signer::v1(&secret());
    let verifier = build(Verifier::builder().secret(secret()));
    let official = standardwebhooks::Webhook::new(SECRET).unwrap();
    let keyed = Hmac::<Sha256>::new_from_slice(b"any key will do: it is not timed").unwrap();

    for length in SIZES {
        let (map, sent) = sign(&signer, length);
        let content = content(&sent);
        let tag = keyed.clone().chain_update(&content).finalize().into_bytes();
        let bare = || {
            let mac = keyed.clone().chain_update(black_box(&content));
            mac.verify_slice(black_box(&tag)).unwrap();
        };
        let plain = pair(|| verify(&verifier, &map, &sent), bare);
        let with_event = pair(|| verify_event(&verifier, &map, &sent), bare);
        if length == SIZES[0] {
            at_most("v1_verify/bare_hmac", plain.ratio, 1.8);
            at_most("v1_verify_event/bare_hmac", with_event.ratio, 3.6);
            count_allocations("v1", &verifier, &map, &sent);
        }
        let peer = || {
            official
                .verify(black_box(&sent.body), black_box(&map))
                .unwrap();
        };
        let against = pair(peer, || verify(&verifier, &map, &sent));
        let name = format!("standardwebhooks/v1_verify_{length}");
        at_least(&name, against.ratio, 5.0);
        time(&format!("bare_hmac_{length}"), plain.nanoseconds[1]);
        time(&format!("v1_verify_{length}"), plain.nanoseconds[0]);
        time(
            &format!("v1_verify_event_{length}"),
            with_event.nanoseconds[0],
        );
        time(
            &format!("standardwebhooks_{length}"),
            against.nanoseconds[0],
        );
    }
    let (map, sent) = sign(&signer, SIZES[0]);
    let rates = [1, 2].map(|threads| throughput(threads, &verifier, &map, &sent));
    at_least("two_threads/one_thread", rates[1] / rates[0], 1.9);

    for secrets in 2..=8_u8 {
        let others = (1..secrets).map(other_secret);
        let builder = others.fold(
            Verifier::builder().secret(secret()),
            VerifierBuilder::secret,
        );
        let several = build(builder);
        let cost = pair(
            || verify(&several, &map, &sent),
            || verify(&verifier, &map, &sent),
        );
        if secrets == 2 {
            at_most("two_secrets/one_secret", cost.ratio, 2.0);
        }
        time(&format!("v1_verify_{secrets}_secrets"), cost.nanoseconds[0]);
    }
}

/// Verifications per second on so many threads at once: the best of some tries, since another
/// program on the machine can only take away.
fn throughput(threads: usize, verifier: &Verifier, map: &HeaderMap, sent: &SignedDelivery) -> f64 {
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
                        verify(verifier, map, sent);
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

/// Google's keys, in two sets.
struct Keys {
    google: SigningKeys,
    ed25519: Vec<Value>,
    rsa: Vec<Value>,
}

impl Keys {
    fn generate() -> Self {
        let google = SigningKeys::generate();
        let jwks: Value = serde_json::from_str(&google.jwks()).unwrap();
        let keys = jwks["keys"].as_array().unwrap().iter().cloned();
        let (ed25519, rsa) = keys.partition(|key| key["kty"] == "OKP");
        Self {
            google,
            ed25519,
            rsa,
        }
    }

    fn all(&self) -> Vec<Value> {
        [&*self.ed25519, &self.rsa].concat()
    }
}

fn key_set(keys: &[Value]) -> KeySet {
    let document = json!({"keys": keys}).to_string();
    KeySet::from_json(document.as_bytes()).unwrap()
}

fn any_sender(keys: &[Value]) -> Verifier {
    let per_request = PerRequest::any_sender(key_set(keys));
    build(Verifier::builder().per_request(per_request))
}

fn decode(key: &Value, member: &str) -> Vec<u8> {
    let text = key[member].as_str().unwrap();
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn v1a(keys: &Keys) {
    let bare_key = ParsedPublicKey::new(&ED25519, decode(&keys.ed25519[0], "x")).unwrap();
    let (map, sent) = sign(&Signer::v1a(&keys.google), SIZES[0]);
    let message = content(&sent);
    let signature = keys.google.sign_ed25519(0, &message);
    let bare = || {
        bare_key
            .verify_sig(black_box(&message), black_box(&signature))
            .unwrap();
    };
    let one = any_sender(&keys.ed25519[..1]);
    let cost = pair(|| verify(&one, &map, &sent), bare);
    at_most("v1a_one_key/bare_ed25519", cost.ratio, 1.05);
    time("bare_ed25519", cost.nanoseconds[1]);
    time("v1a_verify", cost.nanoseconds[0]);
    count_allocations("v1a", &one, &map, &sent);

    // The one that signs is the last of them.
    let mut unnamed = keys.ed25519.clone();
    for key in &mut unnamed {
        key.as_object_mut().unwrap().remove("kid");
    }
    unnamed.rotate_left(1);
    let three = any_sender(&unnamed);
    let cost = pair(|| verify(&three, &map, &sent), bare);
    at_most("v1a_three_keys_none_named/bare_ed25519", cost.ratio, 1.05);
}

fn jwt(keys: &Keys) {
    let [key] = &*keys.rsa else { unreachable!() };
    let components = RsaPublicKeyComponents {
        n: decode(key, "n"),
        e: decode(key, "e"),
    };
    let bare_key = components
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .unwrap();
    let (map, mut sent) = sign(&Signer::jwt(&keys.google, AUDIENCE), SIZES[0]);
    let token = sent.signature.clone();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let bare = || {
        bare_key
            .verify_sig(black_box(signed.as_bytes()), black_box(&signature))
            .unwrap();
    };
    let audience = PerRequest::with_audience(key_set(&keys.all()), AUDIENCE);
    let verifier = build(Verifier::builder().per_request(audience));
    let cost = pair(|| verify(&verifier, &map, &sent), bare);
    at_most("jwt/bare_rs256", cost.ratio, 1.12);
    time("bare_rs256", cost.nanoseconds[1]);
    time("jwt_verify", cost.nanoseconds[0]);
    count_allocations("jwt", &verifier, &map, &sent);

    let member = |name: &str| key[name].as_str().unwrap();
    let peer_key = DecodingKey::from_rsa_components(member("n"), member("e")).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[AUDIENCE]);
    let peer = || {
        let decoded = jsonwebtoken::decode::<Value>(black_box(&token), &peer_key, &validation);
        black_box(decoded.unwrap());
    };
    let against = pair(peer, || verify(&verifier, &map, &sent));
    at_least("jsonwebtoken_decode/jwt", against.ratio, 1.19);
    time("jsonwebtoken_decode", against.nanoseconds[0]);

    sent.body.clear();
    let cost = pair(|| verify(&verifier, &map, &sent), bare);
    at_most("jwt_without_body/bare_rs256", cost.ratio, 1.12);
}

fn refusals(keys: &Keys) {
    let tokens = || JobTokens::new([7; 32]);
    let per_request = PerRequest::with_job_tokens(key_set(&keys.all()), tokens());
    let verifier = build(
        Verifier::builder()
            .secret(secret())
            .per_request(per_request),
    );
    let compare = |name: &str, accepted: &SignedDelivery, refused: &SignedDelivery, code: &str| {
        let maps = [headers(accepted), headers(refused)];
        let cost = pair(
            || refuse(&verifier, &maps[1], refused, code),
            || verify(&verifier, &maps[0], accepted),
        );
        at_most(&format!("reject_{name}/accept"), cost.ratio, NO_MORE);
    };
    let changed = |sent: &SignedDelivery, change: fn(&mut SignedDelivery)| {
        let mut changed = sent.clone();
        change(&mut changed);
        changed
    };

    let (map, v1) = sign(&Signer::v1(&secret()), SIZES[0]);
    let mut without = map.clone();
    without.remove("webhook-signature");
    let cost = pair(
        || refuse(&verifier, &without, &v1, "missing_header"),
        || verify(&verifier, &map, &v1),
    );
    at_most("reject_v1_missing_header/accept", cost.ratio, NO_MORE);
    let stale = changed(&v1, |sent| sent.timestamp = "1780000000".into());
    compare("v1_stale", &v1, &stale, "timestamp_too_old");
    let malformed = changed(&v1, |sent| sent.signature = "v1,????".into());
    compare("v1_malformed_entry", &v1, &malformed, "signature_mismatch");
    let mismatch = "signature_mismatch";
    let wrong = changed(&v1, |sent| sent.id.push('2'));
    compare("v1_wrong_signature", &v1, &wrong, mismatch);
    let others = vec![&*wrong.signature; 15].join(" ");
    let mut last = v1.clone();
    last.signature = format!("{others} {}", v1.signature);
    last.id.clone_from(&v1.id);
    let many = changed(&last, |sent| sent.id.push('2'));
    compare("v1_16_entries", &last, &many, mismatch);

    for (scheme, signer) in [
        ("v1a", Signer::v1a(&keys.google)),
        ("jwt", Signer::jwt(&keys.google, AUDIENCE)),
    ] {
        let with_token = |tokens: &JobTokens| {
            let token = tokens.mint_for("nightly-eval").unwrap();
            let mut event: Value = serde_json::from_str(&body(SIZES[0])).unwrap();
            event["user_metadata"] = JobTokens::user_metadata(&token).into();
            signer.sign(ID, OffsetDateTime::now_utc(), event.to_string())
        };
        let ours = with_token(&tokens());
        let foreign = with_token(&JobTokens::new([8; 32]));
        let name = format!("{scheme}_foreign_origin");
        compare(&name, &ours, &foreign, "unknown_origin");
        let stale = changed(&ours, |sent| sent.timestamp = "1780000000".into());
        compare(
            &format!("{scheme}_stale"),
            &ours,
            &stale,
            "timestamp_too_old",
        );
        if scheme == "jwt" {
            let unknown = Signer::jwt(&SigningKeys::generate(), AUDIENCE);
            let unknown = unknown.sign(ID, OffsetDateTime::now_utc(), ours.body.clone());
            compare("jwt_unknown_kid", &ours, &unknown, "unknown_key");
            let mut wrong = ours.clone();
            wrong.signature = ours.signature.replacen(".ey", ".eyI", 1);
            compare("jwt_wrong_signature", &ours, &wrong, mismatch);
        }
    }
    // A forged `v1a` entry names no key, and is checked under each: an accepted one, at worst, too.
    let one = any_sender(&keys.ed25519[..1]);
    let (map, v1a) = sign(&Signer::v1a(&keys.google), SIZES[0]);
    let wrong = changed(&v1a, |sent| sent.id.push('2'));
    let wrong_map = headers(&wrong);
    let cost = pair(
        || refuse(&one, &wrong_map, &wrong, mismatch),
        || verify(&one, &map, &v1a),
    );
    at_most("reject_v1a_wrong_signature/accept", cost.ratio, NO_MORE);
}

/// A forged `v1a` delivery, of which three entries are tried: each costs a verification under each
/// key.
///
/// An accepted delivery usually costs one verification, since the key that matched last is asked first.
/// Here it costs one under each key, which is the worst: deliveries by the last key and by the one
/// before it come in turn, so that the key that matched last is never the next one's, and the next
/// one's is asked after all others. So three is what the number of entries alone allows.
fn floods() {
    let makers: Vec<Keys> = (0..11).map(|_| Keys::generate()).collect();
    let public: Vec<Value> = makers
        .iter()
        .flat_map(|keys| keys.ed25519.clone())
        .collect();
    let stranger = SigningKeys::generate();
    for count in [1_u8, 3, 32] {
        let last = usize::from(count) - 1;
        let verifier = any_sender(&public[..=last]);
        for length in [SIZES[0], SIZES[2], SIZES[3]] {
            let (_, sent) = sign(&Signer::v1a(&stranger), length);
            let message = content(&sent);
            let entry = |keys: &SigningKeys, number| {
                let signature = keys.sign_ed25519(number, &message);
                format!("v1a,{}", BASE64_STANDARD.encode(signature))
            };
            let with = |signature: String| {
                let mut sent = sent.clone();
                sent.signature = signature;
                (headers(&sent), sent)
            };
            let accepted = [last, last.saturating_sub(1)]
                .map(|position| with(entry(&makers[position / 3].google, position % 3)));
            let forged = [0, 1, 2].map(|number| entry(&stranger, number));
            let (map, forged) = with(forged.join(" "));
            let mut turn = accepted.iter().cycle();
            let cost = pair(
                || refuse(&verifier, &map, &forged, "signature_mismatch"),
                || {
                    let (map, sent) = turn.next().unwrap();
                    verify(&verifier, map, sent);
                },
            );
            let name = format!("refused_v1a/accepted_last_key_{count}_keys_{length}");
            at_most(&name, cost.ratio, 3.0 * f64::from(count));
            let [refused, accepted] = cost.nanoseconds;
            time(&format!("refused_v1a_{count}_keys_{length}"), refused);
            time(&format!("accepted_v1a_{count}_keys_{length}"), accepted);
        }
    }
}

fn main() {
    let keys = Keys::generate();
    v1();
    v1a(&keys);
    jwt(&keys);
    refusals(&keys);
    floods();
}
