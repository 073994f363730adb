//! What an attacker, or a broken sender, might send: each refused, with the right code.

use gemini_webhooks::{Attempt, Error, Secret, Verifier, testing::Signer};
use time::OffsetDateTime;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NOW: i64 = 1_780_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn secret() -> Secret {
    Secret::parse(SECRET).unwrap()
}

fn verifier() -> Verifier {
    Verifier::builder().secret(secret()).build().unwrap()
}

fn verify(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), Error> {
    let attempt = Attempt::new(id, timestamp, signature)?;
    verifier().verify_at(attempt, body, now()).map(drop)
}

#[track_caller]
fn assert_code(outcome: Result<(), Error>, code: &str) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

#[test]
fn a_body_that_is_not_utf_8_verifies_and_then_fails_to_parse() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), *b"\xff\xfe{\"type\":\0}");
    let verifier = verifier();
    let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
    assert_eq!(delivery.payload(), sent.body);
    let error = delivery.event().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the payload is not an event: not JSON at line 1 column 1"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn two_lines_of_signatures_joined_by_a_proxy_count_one_by_one() {
    let sign = |text: &str| {
        let secret = Secret::parse(text).unwrap();
        Signer::v1(&secret).sign("msg_1", now(), "{}").signature
    };
    let (ours, other) = (sign(SECRET), sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    let verify = |signature: &str| verify("msg_1", &NOW.to_string(), signature, b"{}");
    for joined in [
        format!("{ours}, {other}"),
        format!("{other}, {ours}"),
        format!("{other}, v2,AAAA, {ours},"),
    ] {
        assert_eq!(verify(&joined), Ok(()), "{joined}");
    }
    // A comma anywhere else is not a separator.
    let text = ours.strip_prefix("v1,").unwrap();
    for other in [
        format!("{other}, {other}"),
        format!("{ours},,"),
        format!("v1,,{text}"),
        format!("{other},{ours}"),
        format!("{ours},{other}"),
        format!("v1,{},{}", &text[..20], &text[20..]),
        format!("v1, {text}"),
    ] {
        assert_code(verify(&other), "signature_mismatch");
    }
    for other in [format!("{text},"), format!("v2,{text},")] {
        assert_code(verify(&other), "no_usable_scheme");
    }
}

/// What JSON parsers are known to fall over, each on.
const HOSTILE_JSON: [&[u8]; 14] = [
    b"\xef\xbb\xbf\xef\xbb\xbf{\"type\":\"ping\"}",
    b"{\"type\":\"ping\"}\0",
    b"{\"type\":\"pi\0ng\"}",
    b"{\"type\":\"\\ud800\"}",
    b"{\"type\":\"\\udc00\\ud800\"}",
    b"{\"type\":\"ping\",\"\\ud800\":1}",
    b"{\"type\":\"\xed\xa0\x80\"}",
    b"{\"type\":\"ping\",\"a\":1e400}",
    b"{\"type\":\"ping\",\"a\":-1e999999999999}",
    b"{\"type\":\"ping\",\"a\":01}",
    b"{\"type\":\"ping\",\"a\":NaN}",
    b"{\"type\":\"ping\"}{\"type\":\"ping\"}",
    b"{\"type\":\"ping\",}",
    b"{'type':'ping'}",
];

#[test]
fn a_body_that_is_no_event_verifies_and_then_fails_to_parse() {
    let deep = [
        "[".repeat(1 << 20),
        r#"{"type":"ping","data":"#.to_owned() + &"[".repeat(1 << 20),
        r#"{"a":"#.repeat(1 << 17),
        r#"{"type":"ping","data":"#.to_owned() + &"[".repeat(200) + &"]".repeat(200) + "}",
    ];
    let bodies = deep.iter().map(String::as_bytes).chain(HOSTILE_JSON);
    let verifier = verifier();
    for body in bodies {
        let sent = Signer::v1(&secret()).sign("msg_1", now(), body);
        let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]);
        assert!(delivery.event().is_err(), "{start}");
    }
    // The largest numbers that are still numbers.
    let numbers = format!(
        r#"{{"type":"batch.failed","data":{{"id":"b","error_code":{}}},"a":1e308,"b":-{}}}"#,
        "9".repeat(300),
        u64::MAX
    );
    let sent = Signer::v1(&secret()).sign("msg_1", now(), numbers);
    let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
    assert!(delivery.event().is_ok());
}

/// RFC 8259, section 8.1: a parser may ignore it.
#[test]
fn a_byte_order_mark_is_skipped_and_stays_in_the_payload() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "\u{feff}{\"type\":\"ping\"}");
    let verifier = verifier();
    let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
    assert_eq!(delivery.event().unwrap().event_type().as_str(), "ping");
    assert_eq!(delivery.payload(), sent.body);
    let without = &sent.body["\u{feff}".len()..];
    let outcome = verify(&sent.id, &sent.timestamp, &sent.signature, without);
    assert_code(outcome, "signature_mismatch");
}

/// RFC 9110, section 5.5: bytes from 0x80 on are allowed, line breaks and NUL are not; an old server
/// may pass a folded line (RFC 9112, section 5.2) on.
#[test]
fn header_values_are_taken_as_they_came_or_not_at_all() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    for bad in [
        b"\xe9".as_slice(),
        b"\xc3\xa9",
        b"\xff",
        b"\0",
        b"\t",
        b"\r\n ",
        b"\n",
        b"\x7f",
    ] {
        for (position, name) in ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .into_iter()
            .enumerate()
        {
            for in_front in [true, false] {
                let mut values = sent.headers().map(|(_, value)| value.as_bytes().to_vec());
                let at = if in_front { 0 } else { values[position].len() };
                values[position].splice(at..at, bad.iter().copied());
                let [id, timestamp, signature] = &values;
                let outcome = Attempt::new(id, timestamp, signature)
                    .and_then(|attempt| verifier().verify_at(attempt, b"{}", now()).map(drop));
                let error = outcome.expect_err(name);
                let codes = ["invalid_header", "signature_mismatch", "no_usable_scheme"];
                assert!(codes.contains(&error.code()), "{name} {bad:?}: {error}");
            }
        }
    }
}

#[test]
fn an_empty_body_verifies_if_it_was_signed() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "");
    assert!(
        verifier()
            .verify_at(&sent, &sent.body, now())
            .unwrap()
            .event()
            .is_err()
    );
    let code = verify(&sent.id, &sent.timestamp, &sent.signature, b" ");
    assert_code(code, "signature_mismatch");
}

#[test]
fn extreme_timestamps_are_refused() {
    for (timestamp, code) in [
        ("0", "timestamp_too_old"),
        ("9223372036854775807", "timestamp_too_new"),
        ("-9223372036854775808", "invalid_header"),
        ("9223372036854775808", "invalid_header"),
        ("9999999999999999999999999999999999999999", "invalid_header"),
        ("253402300800", "timestamp_too_new"),
    ] {
        assert_code(verify("msg_1", timestamp, "v1,AAAA", b"{}"), code);
    }
    let message = assert_code(
        verify("msg_1", "1779999588", "v1,AAAA", b"{}"),
        "timestamp_too_old",
    );
    assert_eq!(message, "webhook-timestamp is 412 s old, 300 s are allowed");
}

#[test]
fn a_late_part_of_a_second_does_not_narrow_the_window() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let edge = now() + std::time::Duration::from_millis(300_999);
    assert!(verifier().verify_at(&sent, &sent.body, edge).is_ok());
    let past = now() + std::time::Duration::from_secs(301);
    assert!(verifier().verify_at(&sent, &sent.body, past).is_err());
}

#[test]
fn floods_of_signatures_are_refused_before_any_is_checked() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let entries = |count: usize| vec![sent.signature.as_str(); count].join(" ");
    assert!(verify("msg_1", &sent.timestamp, &entries(16), b"{}").is_ok());
    for flood in [
        entries(17),
        entries(10_000),
        format!("v1,{}", "A".repeat(8 << 10)),
        " ".repeat(8 << 10),
    ] {
        assert_code(
            verify("msg_1", &sent.timestamp, &flood, b"{}"),
            "invalid_header",
        );
    }
}

#[test]
fn the_time_is_checked_before_the_signature() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    assert_code(
        verify("msg_1", "1", &sent.signature, b"{}"),
        "timestamp_too_old",
    );
}

#[test]
fn the_signed_content_can_not_be_split_in_another_way() {
    // Signed: `msg_1.1780000000.1780000000.{}`, by a sender that allows a full stop in ids.
    let sent = Signer::v1(&secret()).sign("msg_1.1780000000", now(), "{}");
    let code = verify(&sent.id, &sent.timestamp, &sent.signature, b"{}");
    assert_code(code, "invalid_header");
}

#[test]
fn a_signature_counts_only_as_what_it_is_offered_as() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let tag = sent.signature.trim_start_matches("v1,");
    for (signature, code) in [
        (tag.to_owned(), "invalid_header"),
        (format!(",{tag}"), "invalid_header"),
        (format!("v1 ,{tag}"), "invalid_header"),
        (format!("V1,{tag}"), "no_usable_scheme"),
        (format!("v1a,{tag}"), "no_usable_scheme"),
        (format!("v2,{tag}"), "no_usable_scheme"),
        (format!("v1,v1,{tag}"), "signature_mismatch"),
        (format!("v1,{tag}A"), "signature_mismatch"),
        (format!("v1,{tag},,"), "signature_mismatch"),
        (format!("v1, {tag}"), "signature_mismatch"),
        (format!("v1,{}", tag.to_lowercase()), "signature_mismatch"),
        (
            format!("v1,{}", &tag[..tag.len() - 2]),
            "signature_mismatch",
        ),
    ] {
        let outcome = verify("msg_1", &sent.timestamp, &signature, b"{}");
        assert_eq!(outcome.unwrap_err().code(), code, "{signature}");
    }
}

#[test]
fn an_unusable_scheme_is_named_with_what_would_be_usable() {
    let message = assert_code(
        verify("msg_1", "1780000000", "v1a,AAAA v9,AAAA", b""),
        "no_usable_scheme",
    );
    assert_eq!(
        message,
        "webhook-signature offers v1a, an unknown scheme, this verifier is configured for v1"
    );
    assert_code(
        verify("msg_1", "1780000000", "eyJh.eyJi.c2ln", b""),
        "no_usable_scheme",
    );
}

#[test]
fn another_secrets_signature_is_refused_whatever_the_number_of_secrets() {
    let other = Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let sent = Signer::v1(&other).sign("msg_1", now(), "{}");
    let mut builder = Verifier::builder();
    for _ in 0..8 {
        builder = builder.secret(secret());
    }
    let verifier = builder.build().unwrap();
    let error = verifier.verify_at(&sent, &sent.body, now()).unwrap_err();
    assert_eq!(error.code(), "signature_mismatch");
}

#[test]
fn errors_tell_nothing_that_helps_to_forge() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let error = verify("msg_1", &sent.timestamp, "v1,AAAA", b"{}").unwrap_err();
    let shown = format!("{error} {error:?}");
    let tag = sent.signature.trim_start_matches("v1,");
    assert!(!shown.contains(tag) && !shown.contains("C2FV"), "{shown}");
}

#[test]
fn what_could_not_verify_anything_can_not_be_built() {
    use gemini_webhooks::{ConfigError, ReplayWindow};
    use std::time::Duration;

    assert_eq!(
        Verifier::builder().build().unwrap_err(),
        ConfigError::NothingToVerifyWith
    );
    let nine = (0..9).fold(Verifier::builder(), |builder, _| builder.secret(secret()));
    let error = nine.build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "9 signing secrets are given, 8 are allowed"
    );
    let wide = ReplayWindow::default().back(Duration::from_secs(86_401));
    let error = Verifier::builder()
        .secret(secret())
        .window(wide)
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the replay window spans 86401 s, 86400 s are allowed"
    );
    assert_eq!(ReplayWindow::MAX, Duration::from_secs(86_400));
}

#[test]
fn the_window_is_the_one_that_was_set() {
    let window = gemini_webhooks::ReplayWindow::default().back(std::time::Duration::from_secs(10));
    let verifier = Verifier::builder()
        .secret(secret())
        .window(window)
        .build()
        .unwrap();
    let sent = Signer::v1(&secret()).sign("msg_1", now(), "{}");
    let at = |seconds| now() + std::time::Duration::from_secs(seconds);
    assert!(verifier.verify_at(&sent, &sent.body, at(10)).is_ok());
    let error = verifier.verify_at(&sent, &sent.body, at(11)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "webhook-timestamp is 11 s old, 10 s are allowed"
    );
}

#[test]
fn a_delivery_shows_no_payload() {
    let sent = Signer::v1(&secret()).sign("msg_1", now(), r#"{"private":1}"#);
    let verifier = verifier();
    let shown = format!(
        "{:?}",
        verifier.verify_at(&sent, &sent.body, now()).unwrap()
    );
    assert!(shown.contains("msg_1") && shown.contains("V1"), "{shown}");
    assert!(!shown.contains("private"), "{shown}");
    let shown = format!("{verifier:?}");
    assert!(!shown.contains("C2FV"), "{shown}");
}

#[cfg(feature = "_per-request")]
mod per_request {
    use gemini_webhooks::{
        Attempt, Error, Event, EventType, JobTokens, PerRequest, Scheme, Verifier,
        keys::{KeySet, SharedKeySet},
        testing::{Signer, SigningKeys, sample},
    };
    use serde_json::{Value, json};
    use std::sync::LazyLock;

    use super::{HOSTILE_JSON, NOW, assert_code, now};

    const AUDIENCE: &str = "https://example.com/webhook";
    /// In seconds.
    const DAY: i64 = 24 * 60 * 60;

    static GOOGLE: LazyLock<SigningKeys> = LazyLock::new(SigningKeys::generate);

    fn keys() -> KeySet {
        KeySet::from_json(GOOGLE.jwks().as_bytes()).unwrap()
    }

    fn tokens() -> JobTokens {
        JobTokens::new([7; 32])
    }

    fn verifier(configure: impl FnOnce(KeySet) -> PerRequest) -> Verifier {
        Verifier::builder()
            .per_request(configure(keys()))
            .build()
            .unwrap()
    }

    fn event() -> Value {
        serde_json::from_str(&sample(&EventType::BatchSucceeded)).unwrap()
    }

    /// The claims of an honest token.
    fn claims() -> Value {
        let mut claims = event();
        claims["iss"] = "https://generativelanguage.googleapis.com".into();
        claims["aud"] = AUDIENCE.into();
        claims["iat"] = NOW.into();
        claims["exp"] = (NOW + 300).into();
        claims
    }

    fn header() -> Value {
        json!({"alg": "RS256", "kid": GOOGLE.rsa_id(), "typ": "JWT"})
    }

    fn verify_token(token: &str, body: &[u8]) -> Result<(), Error> {
        let timestamp = NOW.to_string();
        let attempt = Attempt::new("msg_1", &timestamp, token)?;
        let verifier = verifier(|keys| PerRequest::with_audience(keys, AUDIENCE));
        let delivery = verifier.verify_at(attempt, body, now())?;
        assert_eq!(delivery.scheme(), Scheme::Jwt);
        // What the token says of itself is part of the event, as it is part of the payload.
        let event = delivery.event().unwrap();
        assert!(event.other.contains_key("exp"));
        assert_eq!(&delivery.json::<Event>().unwrap(), event);
        Ok(())
    }

    fn verify_claims(claims: &Value) -> Result<(), Error> {
        verify_token(
            &GOOGLE.jwt(&header(), claims),
            event().to_string().as_bytes(),
        )
    }

    /// An honest token with one claim changed, or left out.
    fn with_claim(name: &str, value: Value) -> Result<(), Error> {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        verify_claims(&claims)
    }

    #[test]
    fn only_any_sender_accepts_a_delivery_without_a_proof_of_origin() {
        for (signer, without_audience) in [
            (Signer::v1a(&GOOGLE), "unknown_origin"),
            (Signer::jwt(&GOOGLE, "https://example.org"), "token_claims"),
        ] {
            let sent = signer.sign("msg_1", now(), event().to_string());
            let verify =
                |verifier: Verifier| verifier.verify_at(&sent, &sent.body, now()).map(drop);
            let tokens = verifier(|keys| PerRequest::with_job_tokens(keys, tokens()));
            assert_code(verify(tokens), "unknown_origin");
            let audience = verifier(|keys| PerRequest::with_audience(keys, AUDIENCE));
            assert_code(verify(audience), without_audience);
            verify(verifier(PerRequest::any_sender)).unwrap();
        }
    }

    #[test]
    fn another_customers_delivery_is_refused() {
        for signer in [Signer::v1a(&GOOGLE), Signer::jwt(&GOOGLE, AUDIENCE)] {
            let mut foreign = event();
            let theirs = JobTokens::new([8; 32]).mint_for("ours, honestly").unwrap();
            for metadata in [
                Value::Null,
                json!("text"),
                json!({}),
                json!({JobTokens::MEMBER: ""}),
                json!({JobTokens::MEMBER: 7}),
                json!({JobTokens::MEMBER: "gwj1_"}),
                json!({JobTokens::MEMBER: theirs}),
                json!({JobTokens::MEMBER: tokens().mint().unwrap() + "A"}),
                json!({JobTokens::MEMBER: format!("x{}", tokens().mint().unwrap())}),
                json!({"another_member": tokens().mint().unwrap()}),
            ] {
                foreign["user_metadata"] = metadata;
                let sent = signer.sign("msg_1", now(), foreign.to_string());
                let verifier = verifier(|keys| PerRequest::with_job_tokens(keys, tokens()));
                let outcome = verifier.verify_at(&sent, &sent.body, now()).map(drop);
                assert_code(outcome, "unknown_origin");
            }
        }
    }

    #[test]
    fn our_own_jobs_delivery_is_accepted_wherever_the_token_stands() {
        for signer in [Signer::v1a(&GOOGLE), Signer::jwt(&GOOGLE, AUDIENCE)] {
            let metadata = JobTokens::user_metadata(&tokens().mint_for("nightly").unwrap());
            let mut outer = event();
            outer["user_metadata"] = metadata.clone().into();
            let mut inner = event();
            inner["data"]["user_metadata"] = metadata.into();
            for body in [outer, inner] {
                let sent = signer.sign("msg_1", now(), body.to_string());
                let older = JobTokens::new([9; 32]);
                let accepted = [tokens(), older.clone().or_made_by(tokens())];
                for tokens in accepted {
                    let verifier = verifier(|keys| PerRequest::with_job_tokens(keys, tokens));
                    let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
                    assert_eq!(delivery.job().unwrap().context, "nightly");
                    assert!(delivery.key_id().is_some());
                }
                let verifier = verifier(|keys| PerRequest::with_job_tokens(keys, older));
                assert!(verifier.verify_at(&sent, &sent.body, now()).is_err());
            }
        }
    }

    #[test]
    fn a_token_without_a_context_proves_and_names_nothing() {
        let mut body = event();
        body["user_metadata"] = JobTokens::user_metadata(&tokens().mint().unwrap()).into();
        let sent = Signer::v1a(&GOOGLE).sign("msg_1", now(), body.to_string());
        let verifier = verifier(|keys| PerRequest::with_job_tokens(keys, tokens()));
        let delivery = verifier.verify_at(&sent, &sent.body, now()).unwrap();
        assert_eq!(delivery.job().unwrap().context, "");
    }

    #[test]
    fn a_member_given_twice_can_not_hide_a_token() {
        let token = tokens().mint().unwrap();
        let member = JobTokens::MEMBER;
        let body =
            format!(r#"{{"type":"ping","user_metadata":{{"{member}":"x","{member}":"{token}"}}}}"#);
        let sent = Signer::v1a(&GOOGLE).sign("msg_1", now(), body);
        let verifier = verifier(|keys| PerRequest::with_job_tokens(keys, tokens()));
        assert_code(
            verifier.verify_at(&sent, &sent.body, now()).map(drop),
            "unknown_origin",
        );
    }

    #[test]
    fn an_audience_alone_does_not_prove_the_origin_of_a_v1a_delivery() {
        let sent = Signer::v1a(&GOOGLE).sign("msg_1", now(), event().to_string());
        let audience = verifier(|keys| PerRequest::with_audience(keys, AUDIENCE));
        assert_code(
            audience.verify_at(&sent, &sent.body, now()).map(drop),
            "unknown_origin",
        );
        let any = verifier(|keys| PerRequest::any_sender(keys).audience(AUDIENCE));
        assert!(any.verify_at(&sent, &sent.body, now()).is_ok());
        let foreign =
            Signer::jwt(&GOOGLE, "https://example.org").sign("msg_1", now(), event().to_string());
        assert_code(
            any.verify_at(&foreign, &foreign.body, now()).map(drop),
            "token_claims",
        );
    }

    #[test]
    fn a_jwt_for_our_audience_still_needs_the_token_that_was_asked_for() {
        let sent = Signer::jwt(&GOOGLE, AUDIENCE).sign("msg_1", now(), event().to_string());
        let both = verifier(|keys| PerRequest::with_job_tokens(keys, tokens()).audience(AUDIENCE));
        assert_code(
            both.verify_at(&sent, &sent.body, now()).map(drop),
            "unknown_origin",
        );
    }

    #[test]
    fn a_v1a_signature_is_checked_as_nothing_else() {
        let secret = super::secret();
        let verifier = Verifier::builder()
            .secret(secret.clone())
            .per_request(PerRequest::any_sender(keys()))
            .build()
            .unwrap();
        let refuse = |signature: String, body: &[u8], code: &str| {
            let timestamp = NOW.to_string();
            let attempt = Attempt::new("msg_1", &timestamp, &signature).unwrap();
            assert_code(verifier.verify_at(attempt, body, now()).map(drop), code);
        };
        let v1 = Signer::v1(&secret).sign("msg_1", now(), "{}").signature;
        let v1a = Signer::v1a(&GOOGLE).sign("msg_1", now(), "{}").signature;
        refuse(v1.replace("v1,", "v1a,"), b"{}", "signature_mismatch");
        refuse(v1a.replace("v1a,", "v1,"), b"{}", "signature_mismatch");
        refuse(v1a.replace("v1a,", "v1b,"), b"{}", "no_usable_scheme");
        refuse(v1a.clone(), b"{} ", "signature_mismatch");
        refuse(
            format!("v1a,{}", "A".repeat(86)),
            b"{}",
            "signature_mismatch",
        );
        let stranger = Signer::v1a(&SigningKeys::generate())
            .sign("msg_1", now(), "{}")
            .signature;
        refuse(stranger.clone(), b"{}", "signature_mismatch");

        // Beside a forged entry of the other scheme, a genuine one counts.
        let accept = |signature: String, scheme| {
            let timestamp = NOW.to_string();
            let attempt = Attempt::new("msg_1", &timestamp, &signature).unwrap();
            assert_eq!(
                verifier.verify_at(attempt, b"{}", now()).unwrap().scheme(),
                scheme
            );
        };
        let forged = v1a.replace("v1a,", "v1,");
        accept(format!("{forged} {v1a}"), Scheme::V1a);
        accept(format!("{stranger} {v1}"), Scheme::V1);
        accept(format!("{stranger} {stranger} {v1a}"), Scheme::V1a);
        for (one, another) in [(&stranger, &v1a), (&v1a, &stranger)] {
            accept(format!("{one}, {another}"), Scheme::V1a);
        }
        // Three are tried: each costs a verification for each key.
        refuse(
            format!("{stranger} {stranger} {stranger} {v1a}"),
            b"{}",
            "signature_mismatch",
        );
    }

    #[test]
    fn without_public_keys_their_schemes_are_not_considered() {
        let verifier = super::verifier();
        for signer in [Signer::v1a(&GOOGLE), Signer::jwt(&GOOGLE, AUDIENCE)] {
            let sent = signer.sign("msg_1", now(), event().to_string());
            assert_code(
                verifier.verify_at(&sent, &sent.body, now()).map(drop),
                "no_usable_scheme",
            );
        }
        let sent = Signer::v1(&super::secret()).sign("msg_1", now(), "{}");
        let outcome = super::per_request::verifier(PerRequest::any_sender)
            .verify_at(&sent, &sent.body, now())
            .map(drop);
        let message = assert_code(outcome, "no_usable_scheme");
        assert!(
            message.ends_with("offers v1, this verifier is configured for v1a, jwt"),
            "{message}"
        );
    }

    #[test]
    fn before_the_keys_are_loaded_a_delivery_is_to_come_again() {
        let shared = SharedKeySet::default();
        let per_request = PerRequest::any_sender(shared.clone());
        let verifier = Verifier::builder()
            .per_request(per_request)
            .build()
            .unwrap();
        let sent = Signer::v1a(&GOOGLE).sign("msg_1", now(), "{}");
        let error = verifier.verify_at(&sent, &sent.body, now()).unwrap_err();
        assert_eq!(
            (error.code(), error.status(), error.is_refreshable()),
            ("keys_unavailable", 503, true)
        );
        shared.replace(keys());
        assert!(verifier.verify_at(&sent, &sent.body, now()).is_ok());
    }

    #[test]
    fn an_honest_token_is_accepted_with_its_body_and_without() {
        let token = GOOGLE.jwt(&header(), &claims());
        let body = event();
        verify_token(&token, body.to_string().as_bytes()).unwrap();
        verify_token(
            &token,
            serde_json::to_string_pretty(&body).unwrap().as_bytes(),
        )
        .unwrap();
        verify_token(&token, b"").unwrap();
        let unnamed = json!({"alg": "RS256"});
        verify_token(&GOOGLE.jwt(&unnamed, &claims()), b"").unwrap();
        let eddsa = json!({"alg": "EdDSA", "kid": GOOGLE.ed25519_id(0), "typ": "webhook+jwt"});
        verify_token(&GOOGLE.jwt(&eddsa, &claims()), b"").unwrap();
    }

    #[test]
    fn a_token_beside_another_body_is_refused() {
        let token = GOOGLE.jwt(&header(), &claims());
        for (name, value) in [
            ("type", json!("batch.expired")),
            ("data", json!({"id": "batch_123456"})),
            (
                "data",
                json!({"id": "batch_123456", "output_file_uri": "gs://evil/results.jsonl"}),
            ),
            (
                "data",
                json!({"id": "batch_123456", "output_file_uri": "gs://my-bucket/results.jsonl", "more": 1}),
            ),
            ("timestamp", json!("2026-01-22T12:00:01Z")),
            ("version", json!("v2")),
            ("user_metadata", json!({"a": 1})),
            ("something_new", json!(1)),
        ] {
            let mut body = event();
            body[name] = value;
            assert_code(
                verify_token(&token, body.to_string().as_bytes()),
                "body_not_bound",
            );
        }
        for body in [
            "{",
            "null",
            "[]",
            "\u{feff}null",
            "\u{feff}\u{feff}",
            "\u{a0}",
            "{} {}",
            r#"{"type":null}"#,
            r#"{"exp":1780000301}"#,
            r#"{"exp":"1780000300"}"#,
            r#"{"data":{}}"#,
            r#"{"data":null}"#,
            r#"{"type":"batch.succeeded","type":"batch.succeeded"}"#,
        ] {
            assert_code(verify_token(&token, body.as_bytes()), "body_not_bound");
        }
    }

    /// The claims are the event. A body that says less than they do says nothing else.
    #[test]
    fn a_token_beside_a_part_of_its_claims_is_accepted() {
        let token = GOOGLE.jwt(&header(), &claims());
        for body in [
            "",
            " ",
            "\r\n\t ",
            "\u{feff}",
            "\u{feff} ",
            "{}",
            "\u{feff}{}",
        ] {
            verify_token(&token, body.as_bytes()).unwrap();
        }
        for (name, value) in claims().as_object().unwrap() {
            let body = json!({ name: value }).to_string();
            verify_token(&token, body.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_token_without_an_event_is_refused() {
        let bare = json!({"aud": AUDIENCE, "exp": NOW + 300, "sub": "batch_123456"});
        for body in [event().to_string(), String::new()] {
            let outcome = verify_token(&GOOGLE.jwt(&header(), &bare), body.as_bytes());
            assert_code(outcome, "body_not_bound");
        }
    }

    #[test]
    fn claims_are_required_and_checked_to_the_second() {
        for (name, value) in [
            ("exp", json!(NOW - 300)),
            ("exp", json!(1_780_000_000.5)),
            ("exp", json!(NOW + 30 * DAY)),
            ("nbf", json!(NOW + 300)),
            ("nbf", json!(0)),
            ("iat", json!(NOW + 300)),
            ("iat", Value::Null),
            ("iss", json!("https://example.com")),
            ("aud", json!(["https://example.org", AUDIENCE])),
            ("jti", json!("a")),
            ("a_claim_of_google", json!({"b": 1})),
        ] {
            with_claim(name, value.clone())
                .unwrap_or_else(|error| panic!("{name} {value}: {error}"));
        }
        for (name, value) in [
            ("exp", Value::Null),
            ("exp", json!(NOW - 301)),
            ("exp", json!(NOW + 30 * DAY + 1)),
            ("exp", json!(u64::MAX)),
            ("exp", json!(i64::MIN)),
            ("exp", json!(-1e300)),
            ("exp", json!("1780000300")),
            ("exp", json!([NOW + 300])),
            ("nbf", json!(NOW + 301)),
            ("nbf", json!(u64::MAX)),
            ("nbf", json!(false)),
            ("iat", json!(NOW + 301)),
            ("iat", json!("now")),
            ("aud", Value::Null),
            ("aud", json!("")),
            ("aud", json!([])),
            ("aud", json!("https://example.com/webhook/")),
            ("aud", json!("https://example.com")),
            ("aud", json!([["https://example.com/webhook"]])),
            ("aud", json!({"https://example.com/webhook": 1})),
        ] {
            let message = assert_code(with_claim(name, value), "token_claims");
            assert!(message.contains(&format!("the claim {name} ")), "{message}");
        }
    }

    /// Whoever saw a token can send it again beside any id and time, which it does not cover.
    #[test]
    fn the_same_event_has_the_same_idempotency_key_whatever_stands_beside_it() {
        let verifier = verifier(|keys| PerRequest::with_audience(keys, AUDIENCE));
        let key_of = |id: &str, later: i64, claims: &Value, body: &[u8]| {
            let timestamp = (NOW + later).to_string();
            let token = GOOGLE.jwt(&header(), claims);
            let attempt = Attempt::new(id, &timestamp, &token).unwrap();
            let delivery = verifier.verify_at(attempt, body, now()).unwrap();
            delivery.idempotency_key().into_owned()
        };
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            claims
        };
        let first = key_of("msg_1", 0, &claims(), event().to_string().as_bytes());
        assert_eq!(
            first.len(),
            "event.".len() + 43,
            "no `webhook-id` has a full stop: {first}"
        );
        assert_eq!(first, key_of("msg_2", 60, &claims(), b""));
        let retry = [
            ("exp", json!(NOW + 900)),
            ("iat", json!(NOW - 9)),
            ("jti", json!("b")),
            ("sub", json!("batch_2")),
        ];
        for (name, value) in retry {
            assert_eq!(first, key_of("msg_1", 9, &with(name, value), b""), "{name}");
        }
        let other_data = json!({"id": "batch_2"});
        for (name, value) in [
            ("type", json!("batch.expired")),
            ("data", other_data.clone()),
            ("timestamp", json!("2026-01-22T12:00:01Z")),
            ("user_metadata", json!({"job": 1})),
            ("interaction", json!({"id": "b"})),
        ] {
            assert_ne!(first, key_of("msg_1", 0, &with(name, value), b""), "{name}");
        }

        let mut timeless = claims();
        timeless.as_object_mut().unwrap().remove("timestamp");
        let first = key_of("msg_1", 0, &timeless, b"");
        assert_eq!(first, key_of("msg_2", 0, &timeless, b""), "a replay");
        timeless["iat"] = (NOW + 1).into();
        assert_ne!(first, key_of("msg_1", 0, &timeless, b""), "maybe another");
    }

    #[test]
    fn a_token_is_remembered_until_a_day_after_it_expires() {
        let verifier = verifier(|keys| PerRequest::with_audience(keys, AUDIENCE));
        for (exp, seconds) in [
            (300, DAY + 600),
            (3600, DAY + 3900),
            (30 * DAY, 31 * DAY + 300),
        ] {
            let mut claims = claims();
            claims["exp"] = (NOW + exp).into();
            let timestamp = NOW.to_string();
            let token = GOOGLE.jwt(&header(), &claims);
            let attempt = Attempt::new("msg_1", &timestamp, &token).unwrap();
            let delivery = verifier.verify_at(attempt, b"", now()).unwrap();
            assert_eq!(
                delivery.retention().as_secs(),
                u64::try_from(seconds).unwrap()
            );
        }
    }

    /// RFC 8725, sections 3.1, 3.2 and 3.10.
    #[test]
    fn only_the_algorithm_that_a_key_is_for_is_used() {
        let (rsa, ed) = (GOOGLE.rsa_id(), GOOGLE.ed25519_id(0));
        for (header, code) in [
            (json!({"alg": "none"}), "no_usable_scheme"),
            (json!({"alg": "None"}), "no_usable_scheme"),
            (json!({"alg": "none", "kid": rsa}), "no_usable_scheme"),
            (json!({"alg": "HS256", "kid": rsa}), "no_usable_scheme"),
            (json!({"alg": "RS384", "kid": rsa}), "no_usable_scheme"),
            (json!({"alg": "PS256", "kid": rsa}), "no_usable_scheme"),
            (json!({"alg": "ES256", "kid": rsa}), "no_usable_scheme"),
            (json!({"alg": "rs256", "kid": rsa}), "no_usable_scheme"),
            (json!({"alg": "", "kid": rsa}), "no_usable_scheme"),
            (json!({"alg": "RS256", "kid": ed}), "signature_mismatch"),
            (json!({"alg": "EdDSA", "kid": rsa}), "signature_mismatch"),
            (
                json!({"alg": "EdDSA", "kid": GOOGLE.ed25519_id(1)}),
                "signature_mismatch",
            ),
            (json!({"alg": "RS256", "kid": "rsa-9"}), "unknown_key"),
            (json!({"alg": "RS256", "kid": ""}), "unknown_key"),
            (
                json!({"alg": "RS256", "kid": "../../etc/passwd"}),
                "unknown_key",
            ),
            (
                json!({"alg": "RS256", "kid": rsa, "crit": ["exp"]}),
                "no_usable_scheme",
            ),
            (
                json!({"alg": "RS256", "kid": rsa, "crit": ["b64"], "b64": false}),
                "no_usable_scheme",
            ),
            (json!({"alg": 7}), "invalid_header"),
            (json!({"kid": rsa}), "invalid_header"),
            (json!({"alg": "RS256", "kid": 7}), "invalid_header"),
            (json!(["RS256"]), "invalid_header"),
            (json!(null), "invalid_header"),
        ] {
            let outcome = verify_token(&GOOGLE.jwt(&header, &claims()), b"");
            let error = outcome.expect_err(&header.to_string());
            assert_eq!(error.code(), code, "{header}: {error}");
        }
    }

    #[test]
    fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
        use hmac::{Hmac, KeyInit, Mac};

        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let jwks: Value = serde_json::from_str(&GOOGLE.jwks()).unwrap();
        for key in jwks["keys"].as_array().unwrap() {
            for material in [key["n"].as_str(), key["x"].as_str()].into_iter().flatten() {
                let raw = BASE64_URL_SAFE_NO_PAD.decode(material).unwrap();
                for secret in [
                    raw.as_slice(),
                    material.as_bytes(),
                    key.to_string().as_bytes(),
                ] {
                    for algorithm in ["HS256", "RS256", "EdDSA"] {
                        let header = json!({"alg": algorithm, "kid": key["kid"]});
                        let signed = format!("{}.{}", encode(&header), encode(&claims()));
                        let mac = Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
                        let tag = mac.chain_update(&signed).finalize().into_bytes();
                        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
                        assert!(verify_token(&token, b"").is_err(), "{token}");
                    }
                }
            }
        }
    }

    #[test]
    fn key_material_that_a_token_brings_along_is_not_used() {
        let attacker = SigningKeys::generate();
        let own: Value = serde_json::from_str(&attacker.jwks()).unwrap();
        let own_key = &own["keys"][0];
        for kid in [GOOGLE.ed25519_id(0), attacker.ed25519_id(0)] {
            for (name, value) in [
                ("jwk", own_key.clone()),
                ("jku", json!("http://127.0.0.1:1/jwks.json")),
                ("x5u", json!("http://127.0.0.1:1/cert.pem")),
                ("x5c", json!(["AAAA"])),
                ("x5c", json!("text")),
            ] {
                let mut header = json!({"alg": "EdDSA", "kid": kid});
                header[name] = value;
                let error = verify_token(&attacker.jwt(&header, &claims()), b"").unwrap_err();
                assert!(
                    ["unknown_key", "signature_mismatch"].contains(&error.code()),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_malformed_token_is_refused() {
        let token = GOOGLE.jwt(&header(), &claims());
        let segments: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = segments.as_slice() else {
            panic!("{token}");
        };
        for (token, code) in [
            (format!("{header}.{claims}"), "invalid_header"),
            (
                format!("{header}.{claims}.{signature}.{signature}"),
                "invalid_header",
            ),
            (
                format!("{header}.{claims}.{signature}.{signature}.{signature}"),
                "invalid_header",
            ),
            ("..".into(), "invalid_header"),
            (format!(".{claims}.{signature}"), "invalid_header"),
            (format!("{header}..{signature}"), "signature_mismatch"),
            (format!("{header}.{claims}."), "signature_mismatch"),
            (
                format!("{header}.{claims}.{signature}="),
                "signature_mismatch",
            ),
            (
                format!("{header}.{claims}.{}", &signature[1..]),
                "signature_mismatch",
            ),
            (
                format!("{header}.{claims}A.{signature}"),
                "signature_mismatch",
            ),
            (format!("{header}=.{claims}.{signature}"), "invalid_header"),
            (
                format!("{header}.{claims}.{}", "A".repeat(8 << 10)),
                "invalid_header",
            ),
        ] {
            assert_code(verify_token(&token, b""), code);
        }
        // A second token is not looked at.
        assert_code(
            verify_token(&format!("{header}.{claims}.AAAA {token}"), b""),
            "signature_mismatch",
        );
    }

    /// A token of any bytes, with a genuine signature.
    fn sign(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(header.as_ref()), encode(claims.as_ref()));
        let signature = GOOGLE.sign_ed25519(0, signed.as_bytes());
        format!("{signed}.{}", encode(&signature))
    }

    /// RFC 8725, sections 3.7 and 3.12: what is genuine and no event is of no use here.
    #[test]
    fn a_token_of_hostile_json_is_refused() {
        let honest = json!({"alg": "EdDSA", "kid": GOOGLE.ed25519_id(0)}).to_string();
        let deep = format!("{{\"type\":\"ping\",\"data\":{}", "[".repeat(5000));
        for hostile in HOSTILE_JSON.into_iter().chain([deep.as_bytes()]) {
            let shown = String::from_utf8_lossy(hostile);
            for token in [sign(&honest, hostile), sign(hostile, claims().to_string())] {
                let error = verify_token(&token, b"").expect_err(&shown);
                assert_eq!(error.code(), "invalid_header", "{shown}");
            }
            // Nor does a job token, or the lack of one, depend on what can't be read.
            let sent = Signer::v1a(&GOOGLE).sign("msg_1", now(), hostile);
            let verifier = verifier(|keys| PerRequest::with_job_tokens(keys, tokens()));
            let error = verifier.verify_at(&sent, &sent.body, now()).unwrap_err();
            assert_eq!(error.code(), "unknown_origin", "{shown}");
        }
        for exp in ["1e308", "-1e308", "99999999999999999999", "1.5e-400"] {
            let text = claims().to_string();
            let claims = text.replace(&format!("\"exp\":{}", NOW + 300), &format!("\"exp\":{exp}"));
            assert_ne!(claims, text);
            assert_code(verify_token(&sign(&honest, claims), b""), "token_claims");
        }
    }

    #[test]
    fn a_byte_order_mark_in_a_token_is_skipped() {
        let honest = json!({"alg": "EdDSA", "kid": GOOGLE.ed25519_id(0)});
        let marked = |value: &Value| format!("\u{feff}{value}");
        let token = sign(marked(&honest), marked(&claims()));
        verify_token(&token, event().to_string().as_bytes()).unwrap();
        verify_token(&token, marked(&event()).as_bytes()).unwrap();
    }

    #[test]
    fn duplicate_members_in_a_token_are_refused() {
        // Serialized by hand, since no JSON library writes a member twice.
        let twice = |value: &Value, name: &str| {
            let text = value.to_string();
            format!(
                "{},{}:{}}}",
                &text[..text.len() - 1],
                json!(name),
                value[name]
            )
        };
        let kid = GOOGLE.ed25519_id(0);
        let honest = json!({"alg": "EdDSA", "kid": kid});
        verify_token(&sign(honest.to_string(), claims().to_string()), b"").unwrap();
        for name in ["alg", "kid"] {
            let token = sign(twice(&honest, name), claims().to_string());
            assert_code(verify_token(&token, b""), "invalid_header");
        }
        for name in ["aud", "exp", "type", "data"] {
            let token = sign(honest.to_string(), twice(&claims(), name));
            assert_code(verify_token(&token, b""), "invalid_header");
        }
    }

    #[test]
    fn errors_show_neither_tokens_nor_more_than_a_part_of_a_key_id() {
        let kid = "k".repeat(1000);
        let token = GOOGLE.jwt(&json!({"alg": "RS256", "kid": kid}), &claims());
        let error = verify_token(&token, b"").unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.len() < 300, "{shown}");
        let minted = tokens().mint_for("nightly").unwrap();
        let mut body = event();
        body["user_metadata"] = JobTokens::user_metadata(&minted).into();
        let sent = Signer::v1a(&GOOGLE).sign("msg_1", now(), body.to_string());
        let verifier = verifier(|keys| PerRequest::with_job_tokens(keys, JobTokens::new([8; 32])));
        let error = verifier.verify_at(&sent, &sent.body, now()).unwrap_err();
        let shown = format!("{error} {error:?} {:?} {verifier:?}", tokens());
        assert!(!shown.contains(&minted[5..20]), "{shown}");
    }
}
