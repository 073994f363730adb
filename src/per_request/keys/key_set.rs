use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use serde::Deserialize;
use serde_json::Value;

use super::public_key::{PublicKey, from_jwk, from_whpk};
use crate::{
    clock::Clock,
    json::{FromObject, without_mark},
    per_request::crypto::Ed25519PublicKey,
};

/// The public keys that per-request deliveries are verified with: at least one, at most 32.
///
/// Google publishes its keys as a JSON Web Key Set (RFC 7517) at
/// `https://generativelanguage.googleapis.com/.well-known/jwks.json`. They are parsed once, into
/// the form that the backend works on.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
    /// The Ed25519 key that matched last. A `v1a` signature names no key, and most are made with
    /// the same one.
    last_match: AtomicUsize,
    /// In Unix seconds.
    usable_until: AtomicI64,
    /// In Unix seconds.
    #[cfg(feature = "diagnose")]
    pub(crate) parsed_at: i64,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: Option<Arc<str>>,
    pub(crate) public: PublicKey,
}

/// The document is not a JSON Web Key Set, or has no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key set can't be used: {reason}")]
pub struct KeySetError {
    reason: String,
}

/// A key of a set that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedKey {
    /// The key's position in the set, from 0.
    pub position: usize,
    /// The key's id (`kid`), cut after 64 characters, where it has one.
    pub key_id: Option<String>,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.position)?;
        if let Some(key_id) = &self.key_id {
            write!(f, " ({key_id:?})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// The longest document that is read: 256 KiB. Google's has some hundred bytes.
    pub const MAX_DOCUMENT: usize = 256 * 1024;
    const MAX_KEYS: usize = 32;

    /// Takes the usable keys of a JSON Web Key Set (RFC 7517): `OKP` keys on Ed25519 (RFC 8037)
    /// and `RSA` keys of 2048 to 8192 bits (RFC 7518), for signatures.
    ///
    /// One bad key never costs the good ones: see [`skipped`](Self::skipped).
    ///
    /// # Errors
    ///
    /// [`KeySetError`] if the document is no key set or is longer than
    /// [`MAX_DOCUMENT`](Self::MAX_DOCUMENT), or has no usable key.
    ///
    /// ```
    /// use gemini_webhooks::keys::KeySet;
    ///
    /// let keys = KeySet::from_json(br#"{"keys":[
    ///     {"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ///     {"kty":"OKP","crv":"Ed25519","kid":"b","x":"dG9vIHNob3J0"}
    /// ]}"#)?;
    /// assert_eq!(keys.len(), 1);
    /// assert_eq!(
    ///     keys.skipped()[0].to_string(),
    ///     r#"key 1 ("b"): its `x` is not 32 bytes in base64url"#,
    /// );
    /// # Ok::<(), gemini_webhooks::keys::KeySetError>(())
    /// ```
    pub fn from_json(document: &[u8]) -> Result<Self, KeySetError> {
        Self::parse(document, &Clock::default())
    }

    pub(super) fn parse(document: &[u8], clock: &Clock) -> Result<Self, KeySetError> {
        if document.len() > Self::MAX_DOCUMENT {
            let reason = format!("it is longer than {} bytes", Self::MAX_DOCUMENT);
            return Err(KeySetError { reason });
        }
        let json = without_mark(document);
        let FromObject(document): FromObject<Document> =
            serde_json::from_slice(json).map_err(|error| KeySetError {
                reason: format!(
                    "it is not a JSON object with an array `keys` (line {}, column {})",
                    error.line(),
                    error.column()
                ),
            })?;
        let keys = document.keys.into_iter().map(|key| {
            let key_id = key.get("kid").and_then(Value::as_str).map(str::to_owned);
            (key_id, from_jwk(key))
        });
        Self::collect(keys, clock)
    }

    /// Takes public keys in the serialization of Standard Webhooks 1.0.0: `whpk_` and the base64
    /// of the 32 bytes of an Ed25519 public key (RFC 8032).
    ///
    /// # Errors
    ///
    /// [`KeySetError`] if there is no usable key.
    pub fn from_public_keys<K: AsRef<str>>(
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, KeySetError> {
        let keys = keys.into_iter().map(|key| (None, from_whpk(key.as_ref())));
        Self::collect(keys, &Clock::default())
    }

    fn collect(
        found: impl Iterator<Item = (Option<String>, Result<PublicKey, &'static str>)>,
        clock: &Clock,
    ) -> Result<Self, KeySetError> {
        let mut set = Self {
            keys: Vec::new(),
            skipped: Vec::new(),
            last_match: AtomicUsize::new(0),
            usable_until: AtomicI64::new(i64::MAX),
            #[cfg(feature = "diagnose")]
            parsed_at: clock.unix_seconds(),
        };
        #[cfg(not(feature = "diagnose"))]
        let _ = clock;
        for (position, (key_id, public)) in found.enumerate() {
            // A set that goes on and on must not fill the memory with reasons.
            if position >= 2 * Self::MAX_KEYS {
                set.skipped.push(SkippedKey {
                    position,
                    key_id: None,
                    reason: "this key and those after it are past the first 64",
                });
                break;
            }
            let reason = match public {
                Err(reason) => reason,
                Ok(_) if set.len() == Self::MAX_KEYS => "there are 32 others",
                Ok(public) => {
                    let id = key_id.map(Arc::from);
                    set.keys.push(Key { id, public });
                    continue;
                }
            };
            set.skipped.push(SkippedKey {
                position,
                key_id: key_id.as_deref().map(clip),
                reason,
            });
        }
        if set.keys.is_empty() {
            let reasons: Vec<String> = set.skipped.iter().map(ToString::to_string).collect();
            let reason = match reasons.as_slice() {
                [] => "it has no keys".to_owned(),
                _ => format!("it has no usable key ({})", reasons.join("; ")),
            };
            return Err(KeySetError { reason });
        }
        Ok(set)
    }

    /// How many usable keys there are: 1 to 32.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that can't be used, to be logged: of a set of more than 64, those of the first 64.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Ends the use of this set at a time in Unix seconds.
    pub(super) fn use_until(&self, time: i64) {
        self.usable_until.store(time, Ordering::Relaxed);
    }

    /// Returns false if the set has been stale for too long. `now` is in Unix seconds.
    pub(crate) fn is_usable(&self, now: i64) -> bool {
        now < self.usable_until.load(Ordering::Relaxed)
    }

    /// Returns the keys of this id. Two may share one, as while a key is replaced (RFC 7517, section
    /// 4.5).
    pub(crate) fn named(&self, key_id: &str) -> impl Iterator<Item = &Key> {
        self.keys
            .iter()
            .filter(move |key| key.id.as_deref() == Some(key_id))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// The first Ed25519 key that the function holds for, asking the one that did last first.
    pub(crate) fn find_ed25519(&self, matches: impl Fn(&Ed25519PublicKey) -> bool) -> Option<&Key> {
        let holds = |key: &&Key| match &key.public {
            PublicKey::Ed25519(public) => matches(public),
            PublicKey::Rsa(_) => false,
        };
        let hint = self.last_match.load(Ordering::Relaxed);
        if let Some(key) = self.keys.get(hint).filter(holds) {
            return Some(key);
        }
        let others = self
            .keys
            .iter()
            .enumerate()
            .filter(|(position, _)| *position != hint);
        let (position, key) = others.into_iter().find(|(_, key)| holds(key))?;
        self.last_match.store(position, Ordering::Relaxed);
        Some(key)
    }
}

/// A `kid` may be as long as the document, and comes from outside.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        encoding,
        per_request::keys::public_key::tests::{X, ed25519_jwk, with},
    };

    fn load(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::from_json(json!({"keys": keys}).to_string().as_bytes())
    }

    #[test]
    fn a_bad_key_is_skipped_with_a_reason_and_costs_no_other() {
        let bad = with("use", "enc".into());
        let keys = load(&[bad.clone(), ed25519_jwk()]).unwrap();
        assert_eq!((keys.len(), keys.skipped().len()), (1, 1));
        let reason = "key 0 (\"good\"): its `use` is not `sig`";
        assert_eq!(keys.skipped()[0].to_string(), reason);
        assert!(load(&[bad]).unwrap_err().to_string().contains(reason));
    }

    #[test]
    fn keys_that_share_an_id_are_all_kept() {
        let keys = load(&[ed25519_jwk(), ed25519_jwk()]).unwrap();
        assert_eq!((keys.len(), keys.named("good").count()), (2, 2));
        assert_eq!(keys.named("bad").count(), 0);
        let unnamed = json!({"kty": "OKP", "crv": "Ed25519", "x": X});
        assert_eq!(load(&[unnamed.clone(), unnamed]).unwrap().len(), 2);
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let document = format!("\u{feff}{}", json!({"keys": [ed25519_jwk()]}));
        assert_eq!(KeySet::from_json(document.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_set_is_bounded() {
        let unnamed = json!({"kty": "OKP", "crv": "Ed25519", "x": X});
        let keys = load(&vec![unnamed.clone(); 33]).unwrap();
        assert_eq!((keys.len(), keys.skipped().len()), (32, 1));
        let many = load(&vec![json!(null); 10_000]).unwrap_err().to_string();
        assert!(many.len() < 4096, "{} bytes of reasons", many.len());
        let late = [vec![json!(null); 64], vec![unnamed]].concat();
        assert!(load(&late).is_err());
        let long = format!(
            "{{\"keys\":[{}],\"a\":\"{}\"}}",
            ed25519_jwk(),
            "a".repeat(256 * 1024)
        );
        assert!(
            KeySet::from_json(long.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("262144")
        );
        let id = "k".repeat(1000);
        let keys = load(&[
            with("use", "enc".into()),
            with("kid", id.into()),
            ed25519_jwk(),
        ])
        .unwrap();
        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for document in [
            "",
            "null",
            "[]",
            "{}",
            "{\"keys\":{}}",
            "{\"keys\":[]}",
            "{\"keys\":null}",
            "{\"keys\":[",
            "<!doctype html><title>500</title>",
            "{\"keys\":[],\"keys\":[]}",
            "[[]]",
            &format!("[[{}]]", ed25519_jwk()),
        ] {
            assert!(
                KeySet::from_json(document.as_bytes()).is_err(),
                "{document}"
            );
        }
        assert!(KeySet::from_json(&[0xff; 100]).is_err());
        assert!(KeySet::from_json("[".repeat(200_000).as_bytes()).is_err());
    }

    #[test]
    fn public_keys_of_standard_webhooks_are_taken() {
        let key = encoding::decode_url(X).unwrap();
        let encoded = format!("whpk_{}", encoding::encode(&key));
        assert_eq!(KeySet::from_public_keys([&encoded]).unwrap().len(), 1);
        let bad = [
            "",
            "whpk_",
            "whsec_AAAA",
            &encoded[5..],
            "whpk_AAAA",
            &format!("{encoded}\n"),
        ];
        for key in bad {
            assert!(KeySet::from_public_keys([key]).is_err(), "{key}");
            let keys = KeySet::from_public_keys([key, &encoded]).unwrap();
            assert_eq!((keys.len(), keys.skipped().len()), (1, 1));
        }
        assert!(KeySet::from_public_keys::<&str>([]).is_err());
    }

    #[test]
    fn the_key_that_matched_last_is_asked_first() {
        use std::cell::Cell;

        let keys = ["a", "b", "c"].map(|kid| with("kid", kid.into()));
        let keys = load(&keys).unwrap();
        let asked = Cell::new(0);
        let find = |wanted: usize| {
            asked.set(0);
            let found = keys.find_ed25519(|_| {
                asked.set(asked.get() + 1);
                asked.get() == wanted
            });
            found.and_then(|key| key.id.clone())
        };
        assert_eq!(find(3).as_deref(), Some("c"));
        assert_eq!(find(1).as_deref(), Some("c"));
        assert_eq!(find(2).as_deref(), Some("a"));
        assert_eq!(find(1).as_deref(), Some("a"));
        assert_eq!(find(9), None);
        assert_eq!(asked.get(), 3);
    }
}
