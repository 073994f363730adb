use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    crypto::{Ed25519PublicKey, RsaPublicKey},
    encoding,
    error::ConfigError,
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
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: Option<Arc<str>>,
    pub(crate) public: PublicKey,
}

#[derive(Debug)]
pub(crate) enum PublicKey {
    Ed25519(Ed25519PublicKey),
    Rsa(RsaPublicKey),
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
    /// [`ConfigError::InvalidKeySet`] where the document is no key set or is longer than
    /// [`MAX_DOCUMENT`](Self::MAX_DOCUMENT), or has no usable key.
    ///
    /// ```
    /// use gemini_webhooks::KeySet;
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
    /// # Ok::<(), gemini_webhooks::ConfigError>(())
    /// ```
    pub fn from_json(document: &[u8]) -> Result<Self, ConfigError> {
        if document.len() > Self::MAX_DOCUMENT {
            let reason = "it is longer than 262144 bytes".to_owned();
            return Err(ConfigError::InvalidKeySet { reason });
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|error| ConfigError::InvalidKeySet {
                reason: error.to_string(),
            })?;
        Self::collect(document.keys.into_iter().map(|key| {
            let key_id = key.get("kid").and_then(Value::as_str).map(str::to_owned);
            (key_id, from_jwk(key))
        }))
    }

    /// Takes public keys in the serialization of Standard Webhooks 1.0.0: `whpk_` and the base64
    /// of the 32 bytes of an Ed25519 public key (RFC 8032).
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidKeySet`] where there is no usable key.
    pub fn from_public_keys<K: AsRef<str>>(
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Self, ConfigError> {
        Self::collect(keys.into_iter().map(|key| (None, from_whpk(key.as_ref()))))
    }

    fn collect(
        found: impl Iterator<Item = (Option<String>, Result<PublicKey, &'static str>)>,
    ) -> Result<Self, ConfigError> {
        let mut keys: Vec<Key> = Vec::new();
        let mut skipped = Vec::new();
        for (position, (key_id, public)) in found.enumerate() {
            let mut skip = |key_id: Option<String>, reason| {
                let key_id = key_id.map(|id| clip(&id));
                skipped.push(SkippedKey {
                    position,
                    key_id,
                    reason,
                });
            };
            // A set that goes on and on must not fill the memory with reasons.
            if position >= 2 * Self::MAX_KEYS {
                skip(None, "this key and those after it are past the first 64");
                break;
            }
            match public {
                Err(reason) => skip(key_id, reason),
                Ok(_) if keys.len() == Self::MAX_KEYS => skip(key_id, "there are 32 others"),
                Ok(_)
                    if key_id.is_some()
                        && keys
                            .iter()
                            .any(|key| key.id.as_deref() == key_id.as_deref()) =>
                {
                    skip(key_id, "its `kid` is that of a key before it");
                }
                Ok(public) => keys.push(Key {
                    id: key_id.map(Arc::from),
                    public,
                }),
            }
        }
        if keys.is_empty() {
            let reasons: Vec<String> = skipped.iter().map(ToString::to_string).collect();
            let reason = format!("it has no usable key ({})", reasons.join("; "));
            return Err(ConfigError::InvalidKeySet { reason });
        }
        Ok(Self {
            keys,
            skipped,
            last_match: AtomicUsize::new(0),
        })
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

    pub(crate) fn find(&self, key_id: &str) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| key.id.as_deref() == Some(key_id))
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

fn from_whpk(text: &str) -> Result<PublicKey, &'static str> {
    let encoded = text
        .strip_prefix("whpk_")
        .ok_or("it does not begin with `whpk_`")?;
    let mut buffer = [0; 34];
    encoding::decode(encoded.as_bytes(), &mut buffer)
        .and_then(|key| key.try_into().ok())
        .ok_or("it is not 32 bytes in base64")
        .and_then(ed25519)
}

fn ed25519(key: &[u8; 32]) -> Result<PublicKey, &'static str> {
    Ed25519PublicKey::parse(key)
        .map(PublicKey::Ed25519)
        .ok_or("it is not a point that Ed25519 signatures can be verified with")
}

fn from_jwk(mut key: Value) -> Result<PublicKey, &'static str> {
    let members = key.as_object_mut().ok_or("it is not an object")?;
    if members.get("use").is_some_and(|key_use| key_use != "sig") {
        return Err("its `use` is not `sig`");
    }
    let verifies = |operations: &Value| {
        operations
            .as_array()
            .is_some_and(|list| list.iter().any(|operation| operation == "verify"))
    };
    if members
        .get("key_ops")
        .is_some_and(|operations| !verifies(operations))
    {
        return Err("its `key_ops` do not have `verify`");
    }
    let algorithm = members.get("alg").cloned();
    let is_for = |names: &[&str]| {
        algorithm
            .as_ref()
            .is_none_or(|algorithm| names.iter().any(|name| algorithm == name))
    };
    // What is not needed can't make a key unreadable, such as a certificate chain that is a text.
    members.retain(|name, _| ["kty", "crv", "x", "n", "e"].contains(&name.as_str()));
    let key = Jwk::deserialize(key).map_err(|_| "its members are not those of its `kty`")?;
    match key.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            // RFC 8037 has the one name, RFC 9864 the other.
            if !is_for(&["EdDSA", "Ed25519"]) {
                return Err("its `alg` is not `EdDSA`");
            }
            let x = encoding::decode_url(&pair.x).ok_or("its `x` is not base64url")?;
            let x = x.as_slice().try_into();
            ed25519(x.map_err(|_| "its `x` is not 32 bytes in base64url")?)
        }
        AlgorithmParameters::OctetKeyPair(_) => Err("its `crv` is not `Ed25519`"),
        AlgorithmParameters::RSA(pair) => {
            if !is_for(&["RS256"]) {
                return Err("its `alg` is not `RS256`");
            }
            let n = encoding::decode_url(&pair.n).ok_or("its `n` is not base64url")?;
            let e = encoding::decode_url(&pair.e).ok_or("its `e` is not base64url")?;
            rsa(&n, &e)
        }
        _ => Err("its `kty` is neither `OKP` nor `RSA`"),
    }
}

/// The backends disagree on what a key may be, so that this is asked before either of them.
fn rsa(n: &[u8], e: &[u8]) -> Result<PublicKey, &'static str> {
    let n = without_leading_zeros(n);
    let e = without_leading_zeros(e);
    let bits = n.split_first().map_or(0, |(first, rest)| {
        let first = first.checked_ilog2().map_or(0, |log| log.saturating_add(1));
        rest.len().saturating_mul(8).saturating_add(first as usize)
    });
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    match bits {
        ..2048 => Err("it has fewer than 2048 bits"),
        8193.. => Err("it has more than 8192 bits"),
        _ if !odd(n) => Err("its modulus is even"),
        // At most 32 bits: a longer one only makes each verification cost more.
        _ if !odd(e) || e == [1] || e.len() > 4 => {
            Err("its exponent is not an odd number from 3 to 2^32 - 1")
        }
        _ => RsaPublicKey::parse(n, e)
            .map(PublicKey::Rsa)
            .ok_or("the backend refuses it"),
    }
}

fn without_leading_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn ed25519_jwk() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "good", "use": "sig", "alg": "EdDSA"})
    }

    fn rsa_jwk(bytes: usize, first: u8, last: u8, exponent: &[u8]) -> Value {
        let mut n = vec![0x5a; bytes];
        n[0] = first;
        n[bytes - 1] = last;
        json!({"kty": "RSA", "n": encoding::encode_url(&n), "e": encoding::encode_url(exponent)})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut key = ed25519_jwk();
        key[name] = value;
        key
    }

    fn point(bytes: &[u8]) -> Value {
        with("x", encoding::encode_url(bytes).into())
    }

    fn load(keys: &[Value]) -> Result<KeySet, ConfigError> {
        KeySet::from_json(json!({"keys": keys}).to_string().as_bytes())
    }

    #[test]
    fn usable_keys_are_taken() {
        for key in [
            ed25519_jwk(),
            json!({"kty": "OKP", "crv": "Ed25519", "x": X}),
            with("alg", "Ed25519".into()),
            with("key_ops", json!(["verify"])),
            with("x5c", "text".into()),
            with("x5t", json!([1, 2])),
            with("something_new", json!({"a": 1})),
            rsa_jwk(256, 0x80, 1, &[1, 0, 1]),
            rsa_jwk(1024, 0xff, 1, &[3]),
            rsa_jwk(257, 0, 1, &[0, 1, 0, 1])
                .as_object()
                .map(|key| {
                    let mut key = key.clone();
                    let mut n = vec![0x5a; 257];
                    (n[0], n[1], n[256]) = (0, 0x80, 1);
                    key["n"] = encoding::encode_url(&n).into();
                    key.into()
                })
                .unwrap(),
        ] {
            let keys =
                load(std::slice::from_ref(&key)).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!((keys.len(), keys.skipped().len()), (1, 0), "{key}");
        }
    }

    #[test]
    fn a_bad_key_is_skipped_with_a_reason_and_costs_no_other() {
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let mut two_more = minus_one;
        two_more[0] = 0xee;
        for (key, reason) in [
            (json!(null), "not an object"),
            (json!("text"), "not an object"),
            (json!({}), "`kty`"),
            (json!({"kty": "oct", "k": "AAAA"}), "`kty`"),
            (
                json!({"kty": "EC", "crv": "P-256", "x": X, "y": X}),
                "`kty`",
            ),
            (json!({"kty": "new"}), "`kty`"),
            (with("kty", json!(7)), "`kty`"),
            (with("crv", "X25519".into()), "`kty`"),
            (with("crv", "P-256".into()), "`crv`"),
            (with("use", "enc".into()), "`use`"),
            (with("use", json!(["sig"])), "`use`"),
            (with("key_ops", json!(["sign"])), "`key_ops`"),
            (with("key_ops", json!("verify")), "`key_ops`"),
            (with("alg", "RS256".into()), "`alg`"),
            (with("alg", json!(7)), "`alg`"),
            (with("x", json!(7)), "`kty`"),
            (with("x", format!("{X}=").into()), "not base64url"),
            (point(&[7; 31]), "32 bytes"),
            (point(&[7; 33]), "32 bytes"),
            (point(&[]), "32 bytes"),
            (point(&[0; 32]), "point"),
            (point(&minus_one), "point"),
            (point(&two_more), "point"),
            (rsa_jwk(64, 0x80, 1, &[1, 0, 1]), "2048"),
            (rsa_jwk(256, 0x7f, 1, &[1, 0, 1]), "2048"),
            (rsa_jwk(1025, 1, 1, &[1, 0, 1]), "8192"),
            (rsa_jwk(256, 0x80, 2, &[1, 0, 1]), "even"),
            (rsa_jwk(256, 0x80, 1, &[1]), "exponent"),
            (rsa_jwk(256, 0x80, 1, &[]), "exponent"),
            (rsa_jwk(256, 0x80, 1, &[0, 0]), "exponent"),
            (rsa_jwk(256, 0x80, 1, &[1, 0, 0]), "exponent"),
            (rsa_jwk(256, 0x80, 1, &[1, 0, 0, 0, 1]), "exponent"),
            (json!({"kty": "RSA", "n": "", "e": "AQAB"}), "2048"),
            (
                json!({"kty": "RSA", "n": "!", "e": "AQAB"}),
                "not base64url",
            ),
            (json!({"kty": "RSA", "e": "AQAB"}), "`kty`"),
        ] {
            let keys = load(&[key.clone(), ed25519_jwk()]).unwrap();
            assert_eq!(keys.len(), 1, "{key}");
            let [skipped] = keys.skipped() else {
                panic!("{key}: {:?}", keys.skipped());
            };
            assert!(skipped.reason.contains(reason), "{key}: {skipped}");
            assert_eq!(skipped.position, 0);
            assert!(load(&[key]).unwrap_err().to_string().contains(reason));
        }
    }

    #[test]
    fn the_first_of_two_keys_with_one_id_counts() {
        let keys = load(&[ed25519_jwk(), ed25519_jwk()]).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(
            keys.skipped()[0].to_string(),
            "key 1 (\"good\"): its `kid` is that of a key before it"
        );
        let unnamed = json!({"kty": "OKP", "crv": "Ed25519", "x": X});
        assert_eq!(load(&[unnamed.clone(), unnamed]).unwrap().len(), 2);
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
