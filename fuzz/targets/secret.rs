//! Any text as a secret, a key for job tokens and a public key; and what is said shows none of it.
#![no_main]

use gemini_webhooks::{JobTokens, Secret, keys::KeySet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shown = match Secret::parse(text) {
        Ok(secret) => format!("{secret:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    if text.len() >= 24 {
        assert!(!shown.contains(text));
    }
    let _ = JobTokens::parse(text);
    let _ = KeySet::from_public_keys([text]);
});
