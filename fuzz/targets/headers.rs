//! Any headers: lines of `name: value`, as pairs and as a map. Neither panics, both agree.
#![no_main]

use gemini_webhooks::{Attempt, IntoAttempt as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let lines = data.split(|byte| *byte == b'\n');
    let pairs: Vec<(HeaderName, HeaderValue)> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
            Some((name, value))
        })
        .collect();
    let as_pairs = Attempt::from_pairs(
        pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes())),
    );
    let mut map = HeaderMap::new();
    for (name, value) in &pairs {
        map.append(name, value.clone());
    }
    let as_map = (&map).into_attempt();
    match (as_pairs, as_map) {
        (Ok(pairs), Ok(map)) => {
            assert_eq!(pairs.id(), map.id());
            let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
            assert!((1..=256).contains(&map.id().len()) && map.id().bytes().all(visible));
        }
        (Err(pairs), Err(map)) => assert_eq!(pairs.code(), map.code()),
        (pairs, map) => panic!("{pairs:?} and {map:?}"),
    }
});
