//! What the signing secret may be, if it is not what was configured.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};

use zeroize::Zeroizing;

use crate::{
    encoding,
    hmac_v1::{Mistake, Secret},
};

/// Returns the mistake that turned another secret into the configured text, if that secret matches.
pub(super) fn others(configured: &str, matches: impl Fn(&Secret) -> bool) -> Option<String> {
    let mut buffer = Zeroizing::new([0; 128]);
    let encoded = configured.strip_prefix("whsec_").unwrap_or(configured);
    let key = encoding::decode(encoded.as_bytes(), buffer.as_mut_slice())?;
    if let Some((mistakes, inner)) = str::from_utf8(key).ok().and_then(unwrap) {
        if Mistake::find(inner) == Some(Mistake::Truncated) {
            return Some(Mistake::Truncated.as_str().to_owned());
        }
        let also = mistakes.iter().fold(String::new(), |also, mistake| {
            also + ", and " + mistake.as_str()
        });
        let encoded = inner.strip_prefix("whsec_").unwrap_or(inner);
        let mut buffer = Zeroizing::new([0; 128]);
        if let Some(decoded) = encoding::decode(encoded.as_bytes(), buffer.as_mut_slice())
            && matches(&Secret::under(decoded))
        {
            return Some(format!(
                "it was encoded with base64 once more, and is decoded only once{also}"
            ));
        }
        if matches(&Secret::under(inner.as_bytes())) {
            return Some(format!(
                "what is inside the base64 is not the key alone{also}"
            ));
        }
    }
    let text = BASE64_STANDARD.encode(key);
    let bare = BASE64_STANDARD_NO_PAD.encode(key);
    if let Some(decoded) = unhex(&bare)
        && matches(&Secret::under(&decoded))
    {
        return Some("it is hexadecimal, and was decoded as base64".to_owned());
    }
    let with_prefix = format!("whsec_{text}");
    [&text, &bare, &with_prefix]
        .into_iter()
        .any(|text| matches(&Secret::under(text.as_bytes())))
        .then(|| {
            "the sender signed with its base64 text as the key: it was decoded once too often here, or \
             once too little there"
                .to_owned()
        })
}

/// Removes what is often around a secret, and names it.
fn unwrap(mut text: &str) -> Option<(Vec<Mistake>, &str)> {
    if !text
        .chars()
        .all(|c| c.is_ascii_graphic() || c.is_whitespace() || c == '\u{2026}')
    {
        return None;
    }
    let mut mistakes = Vec::new();
    while let Some(mistake) = Mistake::find(text)
        && let Some(undone) = mistake.undo(text)
    {
        mistakes.push(mistake);
        text = undone;
    }
    Some((mistakes, text))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| {
        // `from_str_radix` would take a sign.
        let pair = str::from_utf8(pair).ok()?;
        let digits = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        digits.then(|| u8::from_str_radix(pair, 16).ok())?
    };
    pairs.iter().map(byte).collect()
}
