//! Proof that a per-request delivery belongs to a job of ours.
#![cfg(feature = "_per-request")]

use std::{sync::Arc, time::Duration};

use gemini_webhooks::{
    Attempt, ConfigError, Delivery, Error, JobTokens, PerRequest, Receiver, ReplayWindow, Scheme,
    Secret, Verifier,
    keys::{KeySet, RefreshedKeys, SharedKeySet},
    store::MemoryStore,
    testing::{Clock, SignedDelivery, Signer, SigningKeys, sample},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

const AUDIENCE: &str = "https://example.com/webhook";
const DAY: Duration = Duration::from_secs(86_400);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

struct World {
    google: SigningKeys,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        Self {
            google: SigningKeys::generate(),
            clock: Clock::manual(now()),
        }
    }

    fn tokens(&self) -> JobTokens {
        JobTokens::new([7; 32]).clock(self.clock.clone())
    }

    fn keys(&self) -> KeySet {
        KeySet::from_json(self.google.jwks().as_bytes()).unwrap()
    }

    fn verifier(&self, per_request: PerRequest) -> Verifier {
        Verifier::builder()
            .per_request(per_request)
            .clock(self.clock.clone())
            .build()
            .unwrap()
    }

    fn with_tokens(&self) -> Verifier {
        self.verifier(PerRequest::with_job_tokens(self.keys(), self.tokens()))
    }

    fn sign(&self, scheme: Scheme, body: &Value) -> SignedDelivery {
        let signer = match scheme {
            Scheme::Jwt => Signer::jwt(&self.google, AUDIENCE),
            _ => Signer::v1a(&self.google),
        };
        signer.sign("msg_1", self.clock.now(), body.to_string())
    }

    fn mint(&self, context: &str) -> String {
        self.tokens().mint_for(context).unwrap()
    }
}

fn event() -> Value {
    serde_json::from_str(&sample(&"batch.succeeded".into())).unwrap()
}

/// Verifies a delivery that came to this URI.
fn at<'a>(
    verifier: &Verifier,
    sent: &'a SignedDelivery,
    uri: &'a str,
) -> Result<Delivery<'a>, Error> {
    let attempt = Attempt::from_pairs(sent.headers()).map(|attempt| attempt.with_uri(uri));
    verifier.verify(attempt, &sent.body)
}

fn reason<T: std::fmt::Debug>(refused: Result<T, Error>) -> &'static str {
    match refused.unwrap_err() {
        Error::UnknownOrigin { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_in_the_uri_is_accepted_and_its_place_is_told() {
    let world = World::new();
    let verifier = world.with_tokens();
    let uri = JobTokens::callback_uri("/webhook?tenant=1", &world.mint("nightly"));
    for scheme in [Scheme::V1a, Scheme::Jwt] {
        let sent = world.sign(scheme, &event());
        let delivery = at(&verifier, &sent, &uri).unwrap();
        let job = delivery.job().unwrap();
        assert_eq!(job.context, "nightly");
        assert_eq!(job.nonce.len(), 22);
        assert_eq!(format!("{:?}", job.place), "Uri");
    }
}

#[cfg(feature = "http")]
#[test]
fn the_uri_is_taken_from_a_request() {
    let world = World::new();
    let verifier = world.with_tokens();
    let uri = JobTokens::callback_uri("https://example.com/webhook", &world.mint("nightly"));
    let sent = world.sign(Scheme::V1a, &event());
    let mut request = http::Request::builder().uri(&uri);
    for (name, value) in sent.headers() {
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    assert!(verifier.verify(&parts, &sent.body).is_ok());
    let pair = (&parts.headers, &parts.uri);
    assert!(verifier.verify(pair, &sent.body).is_ok());
    let refused = reason(verifier.verify(&parts.headers, &sent.body));
    assert!(refused.contains("no URI was given"), "{refused}");
}

#[test]
fn a_token_is_found_at_each_place_of_signed_content() {
    let world = World::new();
    let verifier = world.with_tokens();
    let metadata = Value::from(JobTokens::user_metadata(&world.mint("nightly")));
    let config = json!({"uris": ["https://example.com"], "user_metadata": metadata});
    for scheme in [Scheme::V1a, Scheme::Jwt] {
        for (place, value) in [
            ("/user_metadata", &metadata),
            ("/webhook_config", &config),
            ("/data/user_metadata", &metadata),
            ("/data/webhook_config", &config),
            ("/interaction", &json!({"user_metadata": metadata})),
            ("/interaction", &json!({"webhook_config": config})),
        ] {
            let mut event = event();
            let (parent, name) = place.rsplit_once('/').unwrap();
            event.pointer_mut(parent).unwrap()[name] = value.clone();
            let sent = world.sign(scheme, &event);
            let delivery = at(&verifier, &sent, "/webhook").unwrap();
            let job = delivery.job().unwrap();
            assert_eq!(job.context, "nightly", "{place}");
            assert_eq!(format!("{:?}", job.place), "Event");
        }
        // Anywhere else it proves nothing.
        let mut event = event();
        event["other"] = json!({"user_metadata": metadata});
        let sent = world.sign(scheme, &event);
        assert!(at(&verifier, &sent, "/webhook").is_err());
    }
}

#[test]
fn each_fault_of_a_token_has_its_words() {
    let world = World::new();
    let verifier = world.with_tokens();
    let other_key = JobTokens::new([8; 32]).clock(world.clock.clone());
    let foreign = other_key.mint().unwrap();
    let (mine, second) = (world.mint("a"), world.mint("b"));
    let uri = |token: &str| JobTokens::callback_uri("/webhook", token);
    let with = |token: &str| {
        let mut event = event();
        event["user_metadata"] = JobTokens::user_metadata(token).into();
        event
    };
    for scheme in [Scheme::V1a, Scheme::Jwt] {
        for (event, uri, words) in [
            (
                event(),
                "/webhook".to_owned(),
                "neither its URI nor its user_metadata",
            ),
            (event(), uri(&foreign), "in its URI is not one of ours"),
            (event(), uri("gwj1_AAAA"), "in its URI is not one of ours"),
            (
                with(&foreign),
                "/webhook".into(),
                "in its user_metadata is not one of ours",
            ),
            (
                with(&foreign),
                uri(&mine),
                "in its user_metadata is not one of ours",
            ),
            (with(&mine), uri(&foreign), "in its URI is not one of ours"),
            (with(&mine), uri(&second), "several jobs"),
            (
                event(),
                JobTokens::callback_uri(&uri(&mine), &second),
                "several jobs",
            ),
        ] {
            let sent = world.sign(scheme, &event);
            let refused = reason(at(&verifier, &sent, &uri));
            assert!(refused.contains(words), "{uri}: {refused}");
        }
        // The same one twice is one.
        let twice = JobTokens::callback_uri(&uri(&mine), &mine);
        let sent = world.sign(scheme, &with(&mine));
        assert!(at(&verifier, &sent, &twice).is_ok());
        let many = (0..5).fold("/w".to_owned(), |uri, _| {
            JobTokens::callback_uri(&uri, &mine)
        });
        assert!(reason(at(&verifier, &sent, &many)).contains("more than 4"));
    }
    let unreadable = Signer::v1a(&world.google).sign("msg_1", now(), "no JSON");
    let refused = reason(at(&verifier, &unreadable, "/webhook"));
    assert!(refused.contains("not an event"), "{refused}");
    let by_uri = uri(&mine);
    let readable = at(&verifier, &unreadable, &by_uri).unwrap();
    assert!(readable.event().is_err());
}

#[test]
fn a_token_expires_a_day_and_a_window_after_its_time() {
    let world = World::new();
    let verifier = world.with_tokens();
    let uri = JobTokens::callback_uri("/webhook", &world.mint("nightly"));
    world.clock.advance(31 * DAY + Duration::from_secs(600));
    let sent = world.sign(Scheme::V1a, &event());
    assert!(at(&verifier, &sent, &uri).is_ok());
    world.clock.advance(Duration::from_secs(1));
    let sent = world.sign(Scheme::V1a, &event());
    let expired = at(&verifier, &sent, &uri).unwrap_err();
    assert_eq!(
        (expired.code(), expired.status()),
        ("job_token_expired", 403)
    );
    assert_eq!(
        expired.to_string(),
        "the job token expired 87001 s ago, 87000 s are allowed"
    );
    // Only an authentic delivery is told so.
    let mut forged = sent.clone();
    forged.body.push(b' ');
    assert_eq!(
        at(&verifier, &forged, &uri).unwrap_err().code(),
        "signature_mismatch"
    );
}

#[test]
fn a_bad_token_in_the_uri_is_refused_before_any_work_with_keys() {
    let world = World::new();
    let keys = SharedKeySet::default();
    let verifier = world.verifier(PerRequest::with_job_tokens(keys, world.tokens()));
    let sent = world.sign(Scheme::V1a, &event());
    let foreign = JobTokens::callback_uri("/webhook", "gwj1_AAAA");
    assert_eq!(
        at(&verifier, &sent, &foreign).unwrap_err().code(),
        "unknown_origin"
    );
    let ours = JobTokens::callback_uri("/webhook", &world.mint(""));
    assert_eq!(
        at(&verifier, &sent, &ours).unwrap_err().code(),
        "keys_unavailable"
    );
}

#[tokio::test]
async fn where_a_token_in_the_uri_is_required_nothing_else_causes_a_fetch() {
    let world = World::new();
    let jwks = world.google.jwks();
    let fetches = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&fetches);
    let keys = RefreshedKeys::new(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let jwks = jwks.clone().into_bytes();
        async move { Ok::<_, String>(jwks) }
    });
    let per_request = PerRequest::with_job_tokens(Arc::new(keys), world.tokens());
    let verifier = world.verifier(per_request.require_uri_token());
    let token = world.mint("nightly");
    let mut signed = event();
    signed["user_metadata"] = JobTokens::user_metadata(&token).into();
    let sent = world.sign(Scheme::V1a, &signed);
    for (uri, words) in [
        (None, "no URI was given"),
        (Some("/webhook"), "its URI has no job token"),
        (
            Some("/webhook?gemini_webhooks_job=gwj1_AAAA"),
            "not one of ours",
        ),
    ] {
        let attempt = Attempt::from_pairs(sent.headers()).map(|attempt| match uri {
            Some(uri) => attempt.with_uri(uri),
            None => attempt,
        });
        let refused = reason(verifier.verify_refreshing(attempt, &sent.body).await);
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(fetches.load(std::sync::atomic::Ordering::SeqCst), 0);
    let uri = JobTokens::callback_uri("/webhook", &token);
    let attempt = Attempt::from_pairs(sent.headers()).map(|attempt| attempt.with_uri(&uri));
    assert!(
        verifier
            .verify_refreshing(attempt, &sent.body)
            .await
            .is_ok()
    );
    assert_eq!(fetches.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// Whoever knows a live token can put it beside any delivery that Google signed. The genuine one has
/// another key.
#[test]
fn a_delivery_with_another_jobs_token_does_not_hide_the_genuine_one() {
    let world = World::new();
    let verifier = world.with_tokens();
    let [a, b] = ["a", "b"].map(|job| JobTokens::callback_uri("/w", &world.mint(job)));
    for scheme in [Scheme::V1a, Scheme::Jwt] {
        let sent = world.sign(scheme, &event());
        let key = |uri| {
            at(&verifier, &sent, uri)
                .unwrap()
                .idempotency_key()
                .into_owned()
        };
        assert_ne!(key(&a), key(&b));
        assert_eq!(key(&a), key(&a));
    }
    // A token that is signed leaves no choice: beside it, one in the URI changes nothing.
    let token = world.mint("a");
    let mut signed = event();
    signed["user_metadata"] = JobTokens::user_metadata(&token).into();
    let sent = world.sign(Scheme::V1a, &signed);
    let key = |uri| {
        at(&verifier, &sent, uri)
            .unwrap()
            .idempotency_key()
            .into_owned()
    };
    assert_eq!(key("/w"), key(&JobTokens::callback_uri("/w", &token)));
    // Where no proof is required, a token in the URI counts for nothing.
    let any = PerRequest::any_sender(world.keys()).job_tokens(world.tokens());
    let verifier = world.verifier(any);
    let sent = world.sign(Scheme::V1a, &event());
    let key = |uri| {
        at(&verifier, &sent, uri)
            .unwrap()
            .idempotency_key()
            .into_owned()
    };
    assert_eq!(key(&a), key("/w"));
    assert!(at(&verifier, &sent, &a).unwrap().job().is_none());
    assert!(at(&verifier, &sent, "/w?gemini_webhooks_job=x").is_ok());
}

#[tokio::test]
async fn halves_of_a_mixed_delivery_are_one_delivery() {
    let world = World::new();
    let mixed = world.sign(Scheme::V1a, &event());
    let jwt = world.sign(Scheme::Jwt, &event()).signature;
    let v1a = mixed.signature.clone();
    let halves = [format!("{v1a} {jwt}"), v1a, jwt];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let verifier = world.verifier(PerRequest::any_sender(world.keys()));
        let receiver = Receiver::builder(verifier, MemoryStore::default())
            .build()
            .unwrap();
        let mut codes = Vec::new();
        for half in order {
            let mut sent = mixed.clone();
            sent.signature.clone_from(&halves[half]);
            let reply = receiver.handle(&sent, &sent.body, async |_| Ok::<_, String>(()));
            codes.push(reply.await.outcome.code());
        }
        assert_eq!(codes, ["processed", "duplicate", "duplicate"], "{order:?}");
    }
}

#[test]
fn a_jwt_beside_a_v1_entry_is_malformed() {
    let world = World::new();
    let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    let builder = || Verifier::builder().clock(world.clock.clone());
    let per_request = || PerRequest::any_sender(world.keys());
    let v1 = Signer::v1(&secret).sign("msg_1", now(), event().to_string());
    let jwt = world.sign(Scheme::Jwt, &event()).signature;
    let mut mixed = v1.clone();
    mixed.signature = format!("{} {jwt}", v1.signature);
    let both = builder()
        .secret(secret.clone())
        .per_request(per_request())
        .build()
        .unwrap();
    let refused = both.verify(&mixed, &mixed.body).unwrap_err();
    assert_eq!((refused.code(), refused.status()), ("invalid_header", 400));
    // Where one of them is configured, the other is a scheme like any that is not known.
    for one in [
        builder().secret(secret),
        builder().per_request(per_request()),
    ] {
        assert!(one.build().unwrap().verify(&mixed, &mixed.body).is_ok());
    }
}

#[test]
fn the_age_of_a_token_is_bounded_and_its_leeway_is_the_windows() {
    let world = World::new();
    let token = |claims: Value| {
        let mut all = event();
        let members = all.as_object_mut().unwrap();
        members.extend(claims.as_object().unwrap().clone());
        let header = json!({"alg": "RS256", "kid": world.google.rsa_id()});
        let mut sent = world.sign(Scheme::Jwt, &event());
        sent.signature = world.google.jwt(&header, &all);
        sent.body.clear();
        sent
    };
    let code = |window: ReplayWindow, claims: Value| {
        let verifier = Verifier::builder()
            .per_request(PerRequest::any_sender(world.keys()))
            .window(window)
            .clock(world.clock.clone())
            .build()
            .unwrap();
        let sent = token(claims);
        verifier
            .verify(&sent, &sent.body)
            .map(drop)
            .map_err(|error| error.code())
    };
    let t = now().unix_timestamp();
    let window = ReplayWindow::default();
    let narrow = window
        .back(Duration::from_secs(10))
        .ahead(Duration::from_secs(5));
    let wide = window.back(DAY).ahead(DAY);
    let refused = Err("token_claims");
    for (window, claims, expected) in [
        (window, json!({"exp": t - 300}), Ok(())),
        (window, json!({"exp": t - 301}), refused),
        (narrow, json!({"exp": t - 10}), Ok(())),
        (narrow, json!({"exp": t - 11}), refused),
        (wide, json!({"exp": t - 300}), Ok(())),
        (wide, json!({"exp": t - 301}), refused),
        (window, json!({"exp": t + 9, "iat": t + 300}), Ok(())),
        (window, json!({"exp": t + 9, "iat": t + 301}), refused),
        (narrow, json!({"exp": t + 9, "nbf": t + 5}), Ok(())),
        (narrow, json!({"exp": t + 9, "nbf": t + 6}), refused),
        (window, json!({"exp": t + 9, "iat": t - 87_000}), Ok(())),
        (window, json!({"exp": t + 9, "iat": t - 87_001}), refused),
        (window, json!({"exp": t + 9, "iat": i64::MIN}), refused),
    ] {
        assert_eq!(
            code(window, claims.clone()),
            expected,
            "{window:?} {claims}"
        );
    }
}

#[test]
fn a_token_may_name_its_algorithm_by_either_name() {
    let world = World::new();
    let verifier = world.verifier(PerRequest::any_sender(world.keys()));
    let mut all = event();
    all["exp"] = (now().unix_timestamp() + 60).into();
    // The helper signs with Ed25519 for the one name; the header is signed as it is written.
    let key = world.google.ed25519_id(0);
    let sign = |alg: &str| {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
        let header = BASE64.encode(json!({"alg": alg, "kid": key}).to_string());
        let signed = format!("{header}.{}", BASE64.encode(all.to_string()));
        let signature = world.google.sign_ed25519(0, signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(signature))
    };
    let mut sent = world.sign(Scheme::Jwt, &event());
    for (alg, accepted) in [
        ("EdDSA", true),
        ("Ed25519", true),
        ("ed25519", false),
        ("Ed448", false),
    ] {
        sent.signature = sign(alg);
        assert_eq!(
            verifier.verify(&sent, &sent.body).is_ok(),
            accepted,
            "{alg}"
        );
    }
}

#[test]
fn a_large_body_is_refused_before_any_verification() {
    let world = World::new();
    let keys = SharedKeySet::default();
    let body = |length: usize| {
        let mut sent = world.sign(Scheme::V1a, &event());
        sent.body = vec![b' '; length];
        sent
    };
    let code = |per_request: PerRequest, length: usize| {
        let sent = body(length);
        let error = world
            .verifier(per_request)
            .verify(&sent, &sent.body)
            .unwrap_err();
        (error.code(), error.status())
    };
    let any = || PerRequest::any_sender(keys.clone());
    assert_eq!(code(any(), 256 * 1024 + 1), ("body_too_large", 413));
    assert_eq!(code(any(), 256 * 1024), ("keys_unavailable", 503));
    assert_eq!(code(any().max_body(10), 11), ("body_too_large", 413));
    // A MAC costs little: the limit is the server's.
    let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
    let sent = Signer::v1(&secret).sign("msg_1", now(), vec![b' '; 1 << 20]);
    let both = Verifier::builder().secret(secret).per_request(any());
    let both = both.clock(world.clock.clone()).build().unwrap();
    assert!(both.verify(&sent, &sent.body).is_ok());
}

#[test]
fn no_more_than_three_v1a_entries_are_tried() {
    let world = World::new();
    let verifier = world.verifier(PerRequest::any_sender(world.keys()));
    let sent = world.sign(Scheme::V1a, &event());
    let others = Signer::v1a(&SigningKeys::generate());
    let forged = others.sign("msg_1", now(), event().to_string()).signature;
    for (position, accepted) in [(0, true), (2, true), (3, false)] {
        let mut mixed = sent.clone();
        let mut entries = vec![forged.clone(); 4];
        entries[position].clone_from(&sent.signature);
        mixed.signature = entries.join(" ");
        let outcome = verifier.verify(&mixed, &mixed.body);
        assert_eq!(outcome.is_ok(), accepted, "{position}");
    }
}

#[test]
fn what_can_not_be_meant_does_not_build() {
    let world = World::new();
    let build = |per_request| {
        Verifier::builder()
            .per_request(per_request)
            .build()
            .map(drop)
    };
    let empty = PerRequest::with_audience(world.keys(), "");
    assert_eq!(build(empty), Err(ConfigError::EmptyAudience));
    let also = PerRequest::with_job_tokens(world.keys(), world.tokens()).audience("");
    assert_eq!(build(also), Err(ConfigError::EmptyAudience));
    let without = PerRequest::with_audience(world.keys(), "a").require_uri_token();
    assert_eq!(build(without), Err(ConfigError::NoJobTokens));
    // A `v1a` delivery has no audience, so that nothing would be accepted.
    let neither = PerRequest::with_audience(world.keys(), "a").v1a_only();
    assert_eq!(build(neither.clone()), Err(ConfigError::NoJobTokens));
    assert_eq!(build(neither.job_tokens(world.tokens())), Ok(()));
    let blank = PerRequest::with_audience(world.keys(), " ");
    assert_eq!(build(blank), Err(ConfigError::EmptyAudience));
}

#[test]
fn slips_in_the_key_for_job_tokens_are_named() {
    let key = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    for (text, expected) in [
        (format!("{key}\n"), "line break"),
        (format!("\"{key}\""), "quotation marks"),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".into(),
            "signing secret",
        ),
        (key.replace('8', "-"), "not base64"),
        ("AAAA".into(), "shorter than 32 bytes"),
    ] {
        let refused = JobTokens::parse(&text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(!refused.contains("vASNFZ4"), "{refused}");
    }
}

#[test]
fn jwts_can_be_turned_off() {
    let world = World::new();
    let verifier = world.verifier(PerRequest::any_sender(world.keys()).v1a_only());
    let sent = world.sign(Scheme::Jwt, &event());
    let refused = verifier.verify(&sent, &sent.body).unwrap_err();
    assert_eq!(refused.code(), "no_usable_scheme");
    let sent = world.sign(Scheme::V1a, &event());
    assert!(verifier.verify(&sent, &sent.body).is_ok());
}

#[test]
fn one_webhooks_id_does_not_hide_anothers_event() {
    let secrets = [
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ]
    .map(|secret| Secret::parse(secret).unwrap());
    let verifier = Verifier::builder()
        .named_secret("a", secrets[0].clone())
        .named_secret("b", secrets[1].clone())
        .build()
        .unwrap();
    let keys = secrets.map(|secret| {
        let now = OffsetDateTime::now_utc();
        let sent = Signer::v1(&secret).sign("msg_1", now, event().to_string());
        let delivery = verifier.verify(&sent, &sent.body).unwrap();
        (
            delivery.secret_name().unwrap().to_owned(),
            delivery.idempotency_key().into_owned(),
        )
    });
    assert_eq!((&*keys[0].0, &*keys[1].0), ("a", "b"));
    assert_ne!(keys[0].1, keys[1].1);
    for name in ["", "a.b", "a b", "\u{e9}", &"a".repeat(65)] {
        let secret = Secret::from_bytes(&[7; 32]).unwrap();
        let built = Verifier::builder().named_secret(name, secret).build();
        assert_eq!(
            built.map(drop),
            Err(ConfigError::InvalidSecretName),
            "{name:?}"
        );
    }
}

#[test]
fn namespaces_and_leases_are_validated() {
    let secret = Secret::from_bytes(&[7; 32]).unwrap();
    let verifier = Verifier::builder().secret(secret).build().unwrap();
    let builder = || Receiver::builder(verifier.clone(), MemoryStore::default());
    for namespace in ["a/b", "a b", "\u{e9}", "\n", &"a".repeat(129)] {
        let built = builder().namespace(namespace).build();
        assert_eq!(
            built.map(drop),
            Err(ConfigError::InvalidNamespace),
            "{namespace:?}"
        );
    }
    for (seconds, good) in [
        (0, false),
        (1, true),
        (86_400, true),
        (86_401, false),
        (u64::MAX, false),
    ] {
        let built = builder().lease(Duration::from_secs(seconds)).build();
        assert_eq!(built.is_ok(), good, "{seconds}");
    }
    for good in ["", "shop", &"a".repeat(128)] {
        assert!(
            builder()
                .namespace(good)
                .retention(Duration::MAX)
                .build()
                .is_ok()
        );
    }
}

/// All that tells two events apart may be a member that this crate does not know.
#[test]
fn events_that_differ_in_an_unknown_member_are_two() {
    let world = World::new();
    let verifier = world.verifier(PerRequest::any_sender(world.keys()));
    for scheme in [Scheme::V1a, Scheme::Jwt] {
        let keys = ["a", "b"].map(|id| {
            let mut event = event();
            event["data"] = json!({});
            event["interaction"] = json!({"id": id});
            let sent = world.sign(scheme, &event);
            let delivery = verifier.verify(&sent, &sent.body).unwrap();
            delivery.idempotency_key().into_owned()
        });
        assert_ne!(keys[0], keys[1]);
    }
}

#[test]
fn a_required_token_expires_for_any_sender_too() {
    let world = World::new();
    let any = PerRequest::any_sender(world.keys()).job_tokens(world.tokens());
    let verifier = world.verifier(any.require_uri_token());
    let uri = JobTokens::callback_uri("/webhook", &world.mint("nightly"));
    world.clock.advance(400 * DAY);
    let sent = world.sign(Scheme::V1a, &event());
    let expired = at(&verifier, &sent, &uri).unwrap_err();
    assert_eq!(expired.code(), "job_token_expired");
}
