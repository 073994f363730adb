use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    encoding,
    per_request::crypto::{Ed25519PublicKey, RsaPublicKey},
};

#[derive(Debug)]
pub(crate) enum PublicKey {
    Ed25519(Ed25519PublicKey),
    Rsa(RsaPublicKey),
}

/// Takes a key in the serialization of Standard Webhooks 1.0.0.
pub(super) fn from_whpk(text: &str) -> Result<PublicKey, &'static str> {
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

/// Takes a JSON Web Key (RFC 7517) for signatures: Ed25519 (RFC 8037) or RSA (RFC 7518).
pub(super) fn from_jwk(mut key: Value) -> Result<PublicKey, &'static str> {
    let members = key.as_object_mut().ok_or("it is not an object")?;
    // Some serializers write `null` for a member that is absent.
    members.retain(|_, value| !value.is_null());
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
            let x = unpadded(&pair.x).ok_or("its `x` is not base64url")?;
            let x = x.as_slice().try_into();
            ed25519(x.map_err(|_| "its `x` is not 32 bytes in base64url")?)
        }
        AlgorithmParameters::OctetKeyPair(_) => Err("its `crv` is not `Ed25519`"),
        AlgorithmParameters::RSA(pair) => {
            if !is_for(&["RS256"]) {
                return Err("its `alg` is not `RS256`");
            }
            let n = unpadded(&pair.n).ok_or("its `n` is not base64url")?;
            let e = unpadded(&pair.e).ok_or("its `e` is not base64url")?;
            rsa(&n, &e)
        }
        _ => Err("its `kty` is neither `OKP` nor `RSA`"),
    }
}

/// Decodes base64url, with or without padding: RFC 7518 wants none, and some serializers write it.
fn unpadded(text: &str) -> Option<Vec<u8>> {
    encoding::decode_url(text.trim_end_matches('='))
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
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::per_request::keys) const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    pub(in crate::per_request::keys) fn ed25519_jwk() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "good", "use": "sig", "alg": "EdDSA"})
    }

    pub(in crate::per_request::keys) fn with(name: &str, value: Value) -> Value {
        let mut key = ed25519_jwk();
        key[name] = value;
        key
    }

    fn point(bytes: &[u8]) -> Value {
        with("x", encoding::encode_url(bytes).into())
    }

    fn rsa_jwk(bytes: usize, first: u8, last: u8, exponent: &[u8]) -> Value {
        let mut n = vec![0x5a; bytes];
        n[0] = first;
        n[bytes - 1] = last;
        json!({"kty": "RSA", "n": encoding::encode_url(&n), "e": encoding::encode_url(exponent)})
    }

    #[test]
    fn usable_keys_are_taken() {
        for key in [
            ed25519_jwk(),
            json!({"kty": "OKP", "crv": "Ed25519", "x": X}),
            with("alg", "Ed25519".into()),
            with("alg", Value::Null),
            with("use", Value::Null),
            with("key_ops", Value::Null),
            with("kid", Value::Null),
            with("x", format!("{X}=").into()),
            with("key_ops", json!(["verify"])),
            with("x5c", "text".into()),
            with("x5t", json!([1, 2])),
            with("something_new", json!({"a": 1})),
            rsa_jwk(256, 0x80, 1, &[1, 0, 1]),
            rsa_jwk(1024, 0xff, 1, &[3]),
            rsa_jwk(256, 0x80, 1, &[0xff, 0xff, 0xff, 0xff]),
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
            if let Err(reason) = from_jwk(key.clone()) {
                panic!("{key}: {reason}");
            }
        }
    }

    #[test]
    fn a_bad_key_is_refused_with_a_reason() {
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
            (with("x", format!("{X}=A").into()), "not base64url"),
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
            let found = from_jwk(key.clone()).map(drop).unwrap_err();
            assert!(found.contains(reason), "{key}: {found}");
        }
    }
}
