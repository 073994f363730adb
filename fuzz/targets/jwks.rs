//! Any key set: it is refused, or has 1 to 32 keys, and what is skipped is bounded.
#![no_main]

use gemini_webhooks::keys::KeySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(keys) = KeySet::from_json(data) {
        assert!((1..=32).contains(&keys.len()));
        assert!(keys.skipped().len() <= 65);
        for skipped in keys.skipped() {
            assert!(skipped.to_string().len() < 600);
        }
    }
});
