//! What the signing secret may be, if it is not what was configured.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use zeroize::Zeroizing;

use super::headers::unhex;
use crate::{encoding, hmac_v1::Mistake};

/// A key, and a buffer for it.
type Key = Zeroizing<Vec<u8>>;

/// Returns the mistake that turned another secret into the configured text, if that secret matches.
pub(super) fn others(configured: &str, mut matches: impl FnMut(&[u8]) -> bool) -> Option<String> {
    let (mistakes, text) = without_mistakes(configured);
    // The text itself, with what is around it removed.
    if let Some(key) = decoded(&text)
        && matches(&key)
    {
        return Some(if mistakes.is_empty() {
            "its text is right, and the verifier has another secret, or this one not decoded: use `Secret::parse`, not `Secret::from_bytes`"
                .to_owned()
        } else {
            mistakes.join(", and ")
        });
    }
    if several(&text).any(|part| decoded(part).is_some_and(|key| matches(&key))) {
        return Some("one of several in it matches: give several secrets one by one".to_owned());
    }
    if let Some(key) = unhex(&text).map(Key::from)
        && matches(&key)
    {
        return Some(HEXADECIMAL.to_owned());
    }
    let Some(key) = decoded(&text) else {
        return matches(text.as_bytes()).then(|| {
            also(
                "the sender signs with the bytes of its text: use `Secret::from_bytes`",
                &mistakes,
            )
        });
    };
    if let Some(inside) = inside(&key, &mut matches) {
        return Some(inside);
    }
    let padded = Zeroizing::new(BASE64_STANDARD.encode(&*key));
    let bare = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(&*key));
    let with_prefix = Zeroizing::new(format!("whsec_{}", *padded));
    [&padded, &bare, &with_prefix]
        .into_iter()
        .any(|text| matches(text.as_bytes()))
        .then(|| {
            "the sender signed with its base64 text as the key: it was decoded once too often here, or \
             once too little there"
                .to_owned()
        })
}

/// Returns what shows, without any signature, that a text is no signing secret.
pub(super) fn unusable(configured: &str) -> Option<&'static str> {
    let (_, text) = without_mistakes(configured);
    Mistake::find(&text).map(|mistake| mistake.text)
}

const HEXADECIMAL: &str = "it is hexadecimal, and was decoded as base64";

/// Finds the secret in a key that is a text itself.
fn inside(key: &[u8], matches: &mut impl FnMut(&[u8]) -> bool) -> Option<String> {
    let text = str::from_utf8(key).ok()?;
    if text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let (mistakes, inner) = without_mistakes(text);
    if let Some(key) = decoded(&inner)
        && matches(&key)
    {
        let once_more = "it was encoded with base64 once more, and is decoded only once";
        return Some(also(once_more, &mistakes));
    }
    if matches(inner.as_bytes()) {
        return Some(also(
            "what is inside the base64 is not the key alone",
            &mistakes,
        ));
    }
    // The truncated form of a secret.
    let found = Mistake::find(&inner).filter(|_| inner.starts_with("whsec_"));
    found.map(|mistake| mistake.text.to_owned())
}

fn also(text: &str, mistakes: &[&str]) -> String {
    let mut all = vec![text];
    all.extend(mistakes);
    all.join(", and ")
}

/// Removes what is often around a secret, and names it.
fn without_mistakes(text: &str) -> (Vec<&'static str>, Zeroizing<String>) {
    let mut text = Zeroizing::new(text.to_owned());
    let mut mistakes = Vec::new();
    while let Some(mistake) = Mistake::find(&text)
        && let Some(undone) = mistake.undo(&text)
    {
        mistakes.push(mistake.text);
        text = undone;
    }
    (mistakes, text)
}

/// The parts of a text that holds several secrets.
fn several(text: &str) -> impl Iterator<Item = &str> {
    let separates = |c: char| matches!(c, '|' | ',' | ';') || c.is_whitespace();
    let parts = text.split(separates).filter(|part| part.len() > 8);
    parts.filter(move |part| part.len() < text.len())
}

fn decoded(text: &str) -> Option<Key> {
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    let mut buffer = Zeroizing::new([0; 512]);
    encoding::decode(encoded.as_bytes(), buffer.as_mut_slice()).map(|key| key.to_vec().into())
}
