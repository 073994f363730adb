//! What the signing secret may be, if it is not what was configured.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};

use crate::{encoding, secret::Secret};

/// The slip that made of another secret the one that is configured, if that one matches.
pub(super) fn others(configured: &Secret, matches: impl Fn(&Secret) -> bool) -> Option<String> {
    let key = configured.key_bytes();
    if let Some((slips, inner)) = str::from_utf8(key).ok().and_then(unwrap) {
        if inner.contains("...") || inner.contains('\u{2026}') {
            let slip =
                "it is the truncated form: the whole secret is shown only when it is created";
            return Some(slip.to_owned());
        }
        let encoded = inner.strip_prefix("whsec_").unwrap_or(inner);
        let mut buffer = [0; 128];
        if let Some(decoded) = encoding::decode(encoded.as_bytes(), &mut buffer)
            && matches(&Secret::new(decoded))
        {
            let mut slip =
                "it was encoded with base64 once more, and is decoded only once".to_owned();
            for other in slips {
                slip.push_str(other);
            }
            return Some(slip);
        }
        if matches(&Secret::new(inner.as_bytes())) {
            let slips = slips.concat();
            return Some(format!(
                "what is inside the base64 is not the key alone{slips}"
            ));
        }
    }
    let text = BASE64_STANDARD.encode(key);
    let bare = BASE64_STANDARD_NO_PAD.encode(key);
    if let Some(decoded) = unhex(&bare)
        && matches(&Secret::new(&decoded))
    {
        return Some("it is hexadecimal, and was decoded as base64".to_owned());
    }
    let with_prefix = format!("whsec_{text}");
    [&text, &bare, &with_prefix]
        .into_iter()
        .any(|text| matches(&Secret::new(text.as_bytes())))
        .then(|| {
            "the sender signed with its base64 text as the key: it was decoded once too often here, or \
             once too little there"
                .to_owned()
        })
}

/// Takes away what is often around a secret, and names it.
fn unwrap(text: &str) -> Option<(Vec<&'static str>, &str)> {
    if !text
        .chars()
        .all(|c| c.is_ascii_graphic() || c.is_whitespace() || c == '\u{2026}')
    {
        return None;
    }
    let mut slips = Vec::new();
    let trimmed = text.trim();
    if trimmed != text {
        slips.push(", and there is white space or a line break at an end");
    }
    let unquoted = trimmed.trim_matches(['"', '\'', '`']);
    if unquoted != trimmed {
        slips.push(", and there are quotation marks around it");
    }
    let bare = unquoted.strip_prefix("v1,").unwrap_or(unquoted);
    if bare != unquoted {
        slips.push(", and it begins with `v1,`, which belongs to signatures");
    }
    Some((slips, bare))
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
