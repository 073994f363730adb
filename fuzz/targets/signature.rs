//! Any value of `webhook-signature`, of whatever scheme: nobody can guess one that is right.
#![no_main]

use gemini_webhooks::Attempt;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let timestamp = fuzz::NOW.to_string();
    let attempt = Attempt::new("msg_1", &timestamp, data);
    let refusal = fuzz::VERIFIER.verify_at(attempt, b"{}", fuzz::now());
    assert!(refusal.is_err());
});
