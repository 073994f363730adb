use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_URL_SAFE_NO_PAD,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{NOW, SECRETS};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn content(id: &[u8], timestamp: &[u8], body: &[u8]) -> Vec<u8> {
    [id, b".", timestamp, b".", body].concat()
}

fn tag(secret: &str, content: &[u8]) -> Vec<u8> {
    let key = BASE64.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.chain_update(content).finalize().into_bytes().to_vec()
}

/// Puts signatures that are right where the text says so: `@0` and `@1` are tags of the two secrets,
/// `@2` a signature of the key.
pub fn fill_in(text: &[u8], id: &[u8], timestamp: &[u8], body: &[u8]) -> Vec<u8> {
    let content = content(id, timestamp, body);
    let mut filled = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        let signature = match (first, after) {
            (b'@', [b'0', ..]) => tag(SECRETS[0], &content),
            (b'@', [b'1', ..]) => tag(SECRETS[1], &content),
            (b'@', [b'2', ..]) => signing_key().sign(&content).to_bytes().to_vec(),
            _ => {
                filled.push(*first);
                continue;
            }
        };
        rest = &after[1..];
        filled.extend(BASE64.encode(signature).bytes());
    }
    filled
}

/// A job token, by the format that `JobTokens` documents.
pub fn mint(key: &[u8], nonce: [u8; 16], expiry: u64, context: &str) -> String {
    let signed = [nonce.as_slice(), &expiry.to_be_bytes(), context.as_bytes()].concat();
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    let tag = mac.chain_update(b"gwj1_").chain_update(&signed).finalize();
    let token = [&*signed, &tag.into_bytes()].concat();
    format!("gwj1_{}", BASE64_URL_SAFE_NO_PAD.encode(token))
}

/// The code of the refusal, `ok`, or `None` where this does not know: it knows no JWTs.
pub fn verify(id: &[u8], timestamp: &[u8], signature: &[u8], body: &[u8]) -> Option<&'static str> {
    let visible = |byte: &u8| (0x21..=0x7e).contains(byte) && *byte != b'.';
    if id.is_empty() || id.len() > 256 || !id.iter().all(visible) {
        return Some("invalid_header");
    }
    let canonical = str::from_utf8(timestamp).ok().and_then(|text| {
        let number: i64 = text.parse().ok()?;
        (number >= 0 && number.to_string() == text).then_some(number)
    });
    let Some(seconds) = canonical else {
        return Some("invalid_header");
    };
    let printable = |byte: &u8| (b' '..=b'~').contains(byte);
    if signature.len() > 8192 || !signature.iter().all(printable) {
        return Some("invalid_header");
    }
    let text = str::from_utf8(signature).unwrap();
    let entries: Vec<&str> = text.split(' ').filter(|entry| !entry.is_empty()).collect();
    if entries.len() > 16 {
        return Some("invalid_header");
    }
    let is_jwt = |entry: &str| !entry.contains(',') && entry.matches('.').count() == 2;
    let is_versioned = |entry: &str| entry.find(',').is_some_and(|comma| comma > 0);
    // Of two lines of the header that a proxy joined.
    let one = |entry: &'_ str| -> usize {
        match entry.strip_suffix(',') {
            Some(before) if is_versioned(before) || is_jwt(before) => before.len(),
            _ => entry.len(),
        }
    };
    let entries: Vec<&str> = entries.iter().map(|entry| &entry[..one(entry)]).collect();
    let versioned: Vec<(&str, &str)> = entries
        .iter()
        .filter_map(|entry| entry.split_once(','))
        .filter(|(version, _)| !version.is_empty())
        .collect();
    let has_jwt = entries.iter().any(|entry| is_jwt(entry));
    if versioned.is_empty() && !has_jwt {
        return Some("invalid_header");
    }
    if seconds < NOW - 300 {
        return Some("timestamp_too_old");
    }
    if seconds > NOW + 300 {
        return Some("timestamp_too_new");
    }
    let content = content(id, timestamp, body);
    // Of two characters of padding there may be both or none.
    let decode = |text: &str, length: usize| {
        let half_padded = length == 64 && text.ends_with('=') && !text.ends_with("==");
        let decoded = BASE64.decode(text).ok()?;
        (decoded.len() == length && !half_padded).then_some(decoded)
    };
    let of = |wanted: &'static str| {
        let entries = versioned.iter();
        entries.filter_map(move |(version, text)| (*version == wanted).then_some(*text))
    };
    let tags = SECRETS.map(|secret| tag(secret, &content));
    if of("v1").any(|text| decode(text, 32).is_some_and(|given| tags.contains(&given))) {
        return Some("ok");
    }
    let key = signing_key().verifying_key();
    let verifies = |text| {
        let bytes = decode(text, 64)?.try_into().ok()?;
        key.verify_strict(&content, &Signature::from_bytes(&bytes))
            .ok()
    };
    if of("v1a").take(4).any(|text| verifies(text).is_some()) {
        return Some("ok");
    }
    if has_jwt {
        return None;
    }
    match of("v1").chain(of("v1a")).next() {
        Some(_) => Some("signature_mismatch"),
        None => Some("no_usable_scheme"),
    }
}
