//! Any token, and a body beside it, after a line break. What verifies is bound to the body.
#![no_main]

use gemini_webhooks::{Attempt, Event};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let cut = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (token, body) = data.split_at(cut);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let timestamp = fuzz::NOW.to_string();
    let attempt = Attempt::new("msg_1", &timestamp, token);
    if let Ok(delivery) = fuzz::VERIFIER.verify_at(attempt, body, fuzz::now()) {
        let event = delivery.event().unwrap();
        if !body.is_empty() {
            let sent: Event = serde_json::from_slice(body).unwrap();
            assert_eq!(
                (&event.data, event.occurred_at),
                (&sent.data, sent.occurred_at)
            );
        }
    }
});
