//! Whatever is shown, whether by `Debug`, by an error or by a panic, shows no secret. What `tracing`
//! is told has a test of its own (`tests/tracing.rs`).
#![cfg(feature = "_per-request")]

use std::{
    fmt::{Debug, Display},
    panic::{AssertUnwindSafe, catch_unwind},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gemini_webhooks::{
    Error, IntoAttempt, JobTokens, PerRequest, Receiver, Secret, SharedVerifier, Verifier,
    diagnose::Clues,
    keys::{KeySet, SharedKeySet},
    store::MemoryStore,
    testing::{SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const FORMER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const JOB_KEY: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";

/// What must not be shown, in pieces that nothing else has by chance.
struct Secrets(Vec<String>);

impl Secrets {
    /// Any 12 characters of these texts.
    fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let texts = texts.into_iter().map(str::as_bytes);
        let pieces = texts.flat_map(|text| text.windows(12));
        let pieces = pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap());
        Self(pieces.collect())
    }

    /// Any 6 bytes of these texts in base64, as `Debug` shows them. 12 characters would be fewer
    /// than three bytes, and a public key may have the same.
    fn and_bytes_of<'t>(mut self, texts: impl IntoIterator<Item = &'t str>) -> Self {
        for text in texts {
            let bytes = BASE64_STANDARD.decode(text).unwrap();
            let pieces = bytes.windows(6).map(|piece| format!("{piece:?}"));
            let pieces = pieces.map(|piece| piece.trim_matches(['[', ']']).to_owned());
            self.0.extend(pieces);
        }
        self
    }

    fn look(&self, what: &str, shown: &str) {
        for piece in &self.0 {
            assert!(!shown.contains(piece), "{what} shows {piece:?}: {shown}");
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
    let mut texts = vec![&SECRET[6..], &FORMER[6..], JOB_KEY, &token[5..]];
    for sent in &deliveries {
        // Of a JWT, the header is the same for everybody.
        texts.extend(sent.signature.rsplit([',', '.']).next());
    }
    let keys_as_bytes = [&SECRET[6..], &FORMER[6..], JOB_KEY];
    let secrets = Secrets::of(texts).and_bytes_of(keys_as_bytes);

    let builder = || {
        Verifier::builder()
            .secret(secret())
            .named_secret("nightly", secret())
            .per_request(PerRequest::with_job_tokens(keys(), tokens()))
    };
    let clues = Clues::default()
        .secret_text(SECRET)
        .secret_text(FORMER)
        .former_secret(Secret::parse(FORMER).unwrap());
    secrets.debug(&clues);
    secrets.debug(&secret());
    secrets.debug(&tokens());
    secrets.debug(&PerRequest::with_job_tokens(keys(), tokens()));
    secrets.debug(&SharedKeySet::from(keys()));
    secrets.debug(&builder());
    let verifier = builder().build().unwrap();
    secrets.debug(&verifier);
    secrets.debug(&SharedVerifier::from(verifier.clone()));
    let receiver = Receiver::builder(verifier.clone(), MemoryStore::default());
    secrets.debug(&receiver);
    secrets.debug(&receiver.build().unwrap());
    secrets.debug(&google);
    for signer in &signers {
        secrets.debug(signer);
    }

    for sent in &deliveries {
        secrets.debug(&sent.into_attempt().unwrap());
        let uri = format!("/webhook?job={token}");
        secrets.debug(&sent.into_attempt().unwrap().with_uri(&uri));
        secrets.debug(&verifier.verify(sent, &sent.body).unwrap());
        secrets.debug(&verifier.verify(sent, &sent.body).unwrap().into_owned());
        let mut wrong = [sent.clone(), sent.clone(), sent.clone()];
        wrong[0].body.push(b'x');
        wrong[1].id.push('.');
        wrong[2].timestamp = "1".into();
        let others = JobTokens::new([8; 32]);
        let foreign = Verifier::builder()
            .per_request(PerRequest::with_job_tokens(keys(), others))
            .build()
            .unwrap();
        for sent in wrong.iter().chain([sent]) {
            for verifier in [&verifier, &foreign] {
                let refusal: Option<Error> = verifier.verify(sent, &sent.body).err();
                if let Some(refusal) = refusal {
                    secrets.error(&refusal);
                }
                secrets.error(&verifier.diagnose(sent.headers(), &sent.body));
                let diagnosis = verifier.diagnose_with(&clues, sent.headers(), &sent.body);
                secrets.error(&diagnosis);
            }
        }
    }
}

#[test]
fn what_can_not_be_configured_is_not_shown() {
    let secrets = Secrets::of([&SECRET[6..], JOB_KEY]);
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
        secrets.error(&slip.parse::<Secret>().unwrap_err());
        secrets.error(&serde_json::from_value::<Secret>(slip.clone().into()).unwrap_err());
        secrets.error(&JobTokens::parse(&slip).unwrap_err());
        secrets.error(&slip.parse::<JobTokens>().unwrap_err());
        secrets.error(&serde_json::from_value::<JobTokens>(slip.clone().into()).unwrap_err());
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
    let secrets = Secrets::of([&SECRET[6..]]);
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
