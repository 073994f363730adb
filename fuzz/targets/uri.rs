//! Any query of a URI and any event, a line each: a job token proves an origin only if it was minted.
//! Tokens are put in where it says `@0` to `@5`: two that are valid, one that has expired, one under
//! another key, the member's name, and the first character of a token in JSON's other spelling.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuzz::reference;
use gemini_webhooks::{Attempt, JobTokens, PerRequest, Verifier, keys::JobPlace, keys::KeySet};
use http::{HeaderMap, Uri};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const KEY: [u8; 32] = [7; 32];
/// The nonces and contexts of the valid ones.
const VALID: [([u8; 16], &str); 2] = [([1; 16], "nightly"), ([2; 16], "")];
const DAY: u64 = 24 * 60 * 60;

static TOKENS: LazyLock<[String; 4]> = LazyLock::new(|| {
    let now = fuzz::NOW.cast_unsigned();
    let mint = |key, nonce, expiry, context| reference::mint(key, nonce, expiry, context);
    let [first, second] = VALID.map(|(nonce, context)| mint(&KEY, nonce, now + DAY, context));
    let expired = mint(&KEY, [3; 16], now - DAY - 601, "expired");
    let foreign = mint(&[8; 32], [4; 16], now + DAY, "foreign");
    [first, second, expired, foreign]
});

fn verifier(configure: fn(PerRequest) -> PerRequest) -> Verifier {
    let key = reference::signing_key().verifying_key();
    let key = format!("whpk_{}", BASE64_STANDARD.encode(key.as_bytes()));
    let keys = KeySet::from_public_keys([key]).unwrap();
    let per_request = PerRequest::with_job_tokens(keys, JobTokens::new(KEY));
    let builder = Verifier::builder().per_request(configure(per_request));
    builder.build().unwrap()
}

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| verifier(|per_request| per_request));
static STRICT: LazyLock<Verifier> = LazyLock::new(|| verifier(PerRequest::require_uri_token));

fn fill_in(text: &str) -> String {
    let [first, second, expired, foreign] = TOKENS.each_ref().map(String::as_str);
    let escaped = first.replacen('g', "\\u0067", 1);
    let parts = [first, second, expired, foreign, JobTokens::MEMBER, &escaped];
    let mut filled = text.to_owned();
    for (number, part) in parts.iter().enumerate() {
        filled = filled.replace(&format!("@{number}"), part);
    }
    filled
}

/// The texts of all members that may hold a token, wherever they are.
fn members(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(values) => values.iter().flat_map(members).collect(),
        Value::Object(values) => values
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(text) if name == JobTokens::MEMBER => vec![text.as_str()],
                value => members(value),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn parameters(query: &str) -> Vec<&str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let ours = pairs.filter(|(name, _)| *name == JobTokens::MEMBER);
    ours.map(|(_, value)| value).collect()
}

/// The query of a URI, as RFC 3986 has it.
fn query(uri: &str) -> &str {
    let uri = uri.split('#').next().unwrap_or_default();
    uri.split_once('?').map_or("", |(_, query)| query)
}

/// The place and the text of the token that proves the origin, or the code of the refusal.
fn verify(uri: Option<&str>, body: &str) -> Result<(JobPlace, &'static str), &'static str> {
    let timestamp = fuzz::NOW.to_string();
    let entry = reference::fill_in(b"v1a,@2", b"msg_1", timestamp.as_bytes(), body.as_bytes());
    let attempt = Attempt::new("msg_1", &timestamp, &entry).unwrap();
    let attempt = match uri {
        Some(uri) => attempt.with_uri(uri),
        None => attempt,
    };
    let verified = VERIFIER.verify_at(attempt, body.as_bytes(), fuzz::now());
    let strict = STRICT.verify_at(attempt, body.as_bytes(), fuzz::now());
    if strict.is_ok() {
        assert!(verified.is_ok(), "what is required is more");
        let given = parameters(query(uri.unwrap()));
        assert!(!given.is_empty() && given.iter().all(|token| is_valid(token)));
    }
    if let Some(uri) = uri
        && let Ok(parsed) = uri.parse::<Uri>()
    {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", b"msg_1".as_slice()),
            ("webhook-timestamp", timestamp.as_bytes()),
            ("webhook-signature", &entry),
        ] {
            headers.insert(name, value.try_into().unwrap());
        }
        let again = VERIFIER.verify_at((&headers, &parsed), body.as_bytes(), fuzz::now());
        let job = |delivery: &gemini_webhooks::Delivery<'_>| delivery.job().cloned();
        match (&verified, &again) {
            (Ok(one), Ok(other)) => assert_eq!(job(one), job(other)),
            (one, other) => assert_eq!(
                one.as_ref().err().map(gemini_webhooks::Error::code),
                other.as_ref().err().map(gemini_webhooks::Error::code)
            ),
        }
    }
    let delivery = verified.map_err(|refusal| refusal.code())?;
    let job = delivery.job().expect("a token is required");
    let position = VALID
        .iter()
        .position(|(nonce, context)| {
            let nonce = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(nonce);
            (job.nonce.as_str(), job.context.as_str()) == (&nonce, context)
        })
        .expect("it was minted, and has not expired");
    Ok((job.place, &TOKENS[position]))
}

fn is_valid(token: &str) -> bool {
    TOKENS[..2].iter().any(|valid| valid == token)
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (address, body) = text.split_once('\n').unwrap_or((&text, ""));
    let (address, body) = (fill_in(address), fill_in(body));
    let uri = format!("/webhook?{address}");
    let given = parameters(query(&uri));

    for uri in [Some(&*uri), None] {
        match verify(uri, &body) {
            Ok((JobPlace::Uri, token)) => {
                assert!(uri.is_some() && given.contains(&token));
                assert!(given.iter().all(|given| given == &token));
            }
            Ok((_, token)) => {
                let event: Value =
                    serde_json::from_str(body.trim_start_matches('\u{feff}')).unwrap();
                assert!(members(&event).contains(&token));
            }
            Err(code) => {
                assert!(
                    ["unknown_origin", "job_token_expired"].contains(&code),
                    "{code}"
                );
                let says_nothing = !body.contains(JobTokens::MEMBER) && !body.contains('\\');
                let proves = matches!(*given, [token] if is_valid(token));
                assert!(uri.is_none() || !says_nothing || !proves, "{uri:?} {body}");
            }
        }
    }

    for token in &TOKENS[..2] {
        let with = JobTokens::callback_uri(&address, token);
        let given = parameters(query(&with));
        assert_eq!(
            given.iter().filter(|given| *given == token).count(),
            1 + {
                let before = parameters(query(&address));
                before.iter().filter(|before| *before == token).count()
            }
        );
        if given.len() == 1 {
            assert_eq!(
                verify(Some(&with), "{}"),
                Ok((JobPlace::Uri, token.as_str()))
            );
        }
    }

    for text in [&*uri, &body, &text] {
        let redacted = JobTokens::redact(text);
        assert_eq!(JobTokens::redact(&redacted), redacted);
        for (_, rest) in redacted
            .match_indices("gwj1_")
            .map(|(at, _)| redacted.split_at(at + 5))
        {
            let left = rest
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
            assert!(left.count() < 6, "{redacted}");
        }
    }
});
