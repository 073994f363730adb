//! Whatever is shown, whether by `Debug`, by an error or by a panic, shows no secret. What `tracing`
//! is told has a test of its own (`tests/tracing.rs`).
#![cfg(any(feature = "aws-lc-rs", feature = "rust-crypto"))]

use std::{
    fmt::{Debug, Display},
    panic::{AssertUnwindSafe, catch_unwind},
};

use gemini_webhooks::{
    Error, JobTokens, KeySet, PerRequest, Receiver, Secret, SharedKeySet, Verifier, WebhookHeaders,
    idempotency::MemoryStore,
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const FORMER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const JOB_KEY: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";

/// What must not be shown, not even 12 characters of it.
struct Secrets(Vec<String>);

impl Secrets {
    fn look(&self, what: &str, shown: &str) {
        for secret in &self.0 {
            let pieces = secret.as_bytes().windows(12);
            for piece in pieces.map(|piece| str::from_utf8(piece).unwrap()) {
                assert!(!shown.contains(piece), "{what} shows {piece:?}: {shown}");
            }
        }
    }

    fn debug(&self, value: &impl Debug) {
        self.look("Debug", &format!("{value:?} {value:#?}"));
    }

    fn error(&self, error: &(impl Debug + Display)) {
        self.debug(error);
        self.look("Display", &error.to_string());
    }
}

/// A text in base64 as `Debug` shows its bytes.
fn as_numbers(text: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!("{:?}", BASE64_STANDARD.decode(text).unwrap())
}

fn signed(signer: &Signer, token: &str) -> SignedDelivery {
    let mut event: Value = serde_json::from_str(&sample(&"batch.failed".into())).unwrap();
    event["user_metadata"] = JobTokens::user_metadata(token).into();
    signer.sign("msg_1", OffsetDateTime::now_utc(), event.to_string())
}

#[test]
fn nothing_that_is_shown_shows_a_secret() {
    let secret = || Secret::parse(SECRET).unwrap();
    let tokens = || JobTokens::parse(JOB_KEY).unwrap();
    let token = tokens().mint_for("nightly").unwrap();
    let google = SigningKeys::generate();
    let keys = || KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let signers = [
        Signer::v1(&secret()),
        Signer::v1a(&google),
        Signer::jwt(&google, "https://example.com"),
    ];
    let deliveries = signers.each_ref().map(|signer| signed(signer, &token));
    let mut texts: Vec<String> = [&SECRET[6..], &FORMER[6..], JOB_KEY, &token[5..]]
        .map(Into::into)
        .into();
    texts.extend([&SECRET[6..], &FORMER[6..], JOB_KEY].map(as_numbers));
    for sent in &deliveries {
        // Of a JWT, the header is the same for everybody.
        let signature = sent.signature.rsplit([',', '.']).next().unwrap();
        texts.push(signature.to_owned());
    }
    let secrets = Secrets(texts);

    let builder = || {
        Verifier::builder()
            .secret(secret())
            .former_secret(Secret::parse(FORMER).unwrap())
            .per_request(PerRequest::new(keys()).job_tokens(tokens()))
    };
    secrets.debug(&secret());
    secrets.debug(&tokens());
    secrets.debug(&PerRequest::new(keys()).job_tokens(tokens()));
    secrets.debug(&SharedKeySet::from(keys()));
    secrets.debug(&builder());
    let verifier = builder().build().unwrap();
    secrets.debug(&verifier);
    secrets.debug(&Receiver::new(builder().build().unwrap()).store(MemoryStore::default()));
    secrets.debug(&google);
    for signer in &signers {
        secrets.debug(signer);
    }

    for sent in &deliveries {
        secrets.debug(&WebhookHeaders::try_from(sent).unwrap());
        secrets.debug(&verifier.verify(sent, &sent.body).unwrap());
        let mut wrong = [sent.clone(), sent.clone(), sent.clone()];
        wrong[0].body.push(b'x');
        wrong[1].id.push('.');
        wrong[2].timestamp = "1".into();
        let others = JobTokens::new([8; 32]);
        let foreign = Verifier::builder()
            .per_request(PerRequest::new(keys()).job_tokens(others))
            .build()
            .unwrap();
        for sent in wrong.iter().chain([sent]) {
            for verifier in [&verifier, &foreign] {
                let refusal: Option<Error> = verifier.verify(sent, &sent.body).err();
                if let Some(refusal) = refusal {
                    secrets.error(&refusal);
                }
                let diagnosis = verifier.diagnose(sent.headers(), &sent.body);
                secrets.error(&diagnosis);
            }
        }
    }
}

#[test]
fn what_can_not_be_configured_is_not_shown() {
    let secrets = Secrets(vec![SECRET[6..].into(), JOB_KEY.into()]);
    for slip in [
        format!("\"{SECRET}\""),
        format!("{SECRET}\n"),
        format!("v1,{SECRET}"),
        format!("{SECRET}!"),
        format!("{SECRET},{SECRET}"),
        format!("whpk_{}", &SECRET[6..]),
        SECRET.repeat(10),
        SECRET[..20].into(),
    ] {
        secrets.error(&Secret::parse(&slip).unwrap_err());
        secrets.error(&JobTokens::parse(&slip).unwrap_err());
        secrets.error(&KeySet::from_public_keys([&slip]).unwrap_err());
    }
    for slip in [&JOB_KEY[..20], &format!("{JOB_KEY}\n")] {
        secrets.error(&JobTokens::parse(slip).unwrap_err());
    }
    let long = "x".repeat(200);
    let error = JobTokens::parse(JOB_KEY).unwrap().mint_for(&long);
    secrets.error(&error.unwrap_err());
    // A private key where a public one belongs.
    let private = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "d": JOB_KEY, "x": "short"}]});
    secrets.error(&KeySet::from_json(private.to_string().as_bytes()).unwrap_err());
}

#[test]
fn a_panic_shows_no_secret() {
    let secrets = Secrets(vec![SECRET[6..].into()]);
    let keys = SigningKeys::generate();
    let panics: [Box<dyn Fn()>; 2] = [
        Box::new(|| drop(Secret::parse(&format!("{SECRET} ")).unwrap())),
        Box::new(|| drop(keys.sign_ed25519(3, SECRET.as_bytes()))),
    ];
    for panic in panics {
        let payload = catch_unwind(AssertUnwindSafe(panic)).unwrap_err();
        let shown = payload.downcast_ref::<String>().cloned();
        let shown = shown.or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        });
        secrets.look("a panic", &shown.unwrap());
    }
}
