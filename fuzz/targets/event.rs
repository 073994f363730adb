//! Any body: it is no event, or is written back as the same one.
#![no_main]

use gemini_webhooks::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(event) = serde_json::from_slice::<Event>(data) {
        // A year that RFC 3339 can't write is the one thing that is read and not written.
        let Ok(written) = serde_json::to_vec(&event) else {
            return;
        };
        let again: Event = serde_json::from_slice(&written).unwrap();
        assert_eq!(again, event);
    }
});
