use std::{fmt, sync::Arc};

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{Random, Signer, SigningScheme};
use crate::{
    encoding::{encode, encode_url},
    per_request::{Ed25519PrivateKey, RsaPrivateKey},
};

/// Private keys as Google keeps them, to sign per-request deliveries with: three Ed25519 keys and
/// one RSA key.
///
/// The RSA key is always the same and known to everybody: it is made for tests alone. Clones share
/// the keys.
#[derive(Clone)]
pub struct SigningKeys {
    keys: Arc<Keys>,
}

struct Keys {
    /// What the ids of the keys begin with.
    name: String,
    ed25519: [Ed25519PrivateKey; 3],
    rsa: RsaPrivateKey,
}

impl SigningKeys {
    /// Makes new Ed25519 keys, and new ids for all keys.
    ///
    /// # Panics
    ///
    /// If the operating system gives no random bytes.
    #[must_use]
    pub fn generate() -> Self {
        Self::generate_from(&Random::default())
    }

    /// Generates the keys that follow from a source of random bytes.
    ///
    /// # Panics
    ///
    /// If the source has none.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a test has nothing better to do than to fail"
    )]
    pub fn generate_from(random: &Random) -> Self {
        let random = || random.bytes::<32>().expect("random bytes");
        let ed25519 = || Ed25519PrivateKey::from_seed(&random());
        let [a, b, c, d, ..] = random();
        let keys = Keys {
            name: format!("{a:02x}{b:02x}{c:02x}{d:02x}"),
            ed25519: [ed25519(), ed25519(), ed25519()],
            rsa: RsaPrivateKey::from_pkcs8(include_bytes!("rsa.pk8")).expect("a fixed key"),
        };
        Self {
            keys: Arc::new(keys),
        }
    }

    /// The public keys as a JSON Web Key Set (RFC 7517), as Google publishes its own.
    #[must_use]
    pub fn jwks(&self) -> String {
        let ed25519 = self.keys.ed25519.iter().enumerate().map(|(number, key)| {
            json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
                "kid": self.ed25519_id(number), "x": encode_url(key.public()),
            })
        });
        let (n, e) = self.keys.rsa.public();
        let rsa = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256",
            "kid": self.rsa_id(), "n": encode_url(&n), "e": encode_url(&e),
        });
        json!({"keys": ed25519.chain([rsa]).collect::<Vec<_>>()}).to_string()
    }

    /// The id (`kid`) of one of the Ed25519 keys, which are numbered from 0 to 2.
    #[must_use]
    pub fn ed25519_id(&self, number: usize) -> String {
        format!("{}-ed-{number}", self.keys.name)
    }

    /// The id (`kid`) of the RSA key.
    #[must_use]
    pub fn rsa_id(&self) -> String {
        format!("{}-rsa", self.keys.name)
    }

    /// Signs a message with the Ed25519 key of that number (RFC 8032): 64 bytes.
    ///
    /// # Panics
    ///
    /// If there is no such key.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a test has nothing better to do than to fail"
    )]
    pub fn sign_ed25519(&self, number: usize, message: &[u8]) -> Vec<u8> {
        let key = self
            .keys
            .ed25519
            .get(number)
            .expect("keys are numbered from 0 to 2");
        key.sign(message)
    }

    /// Makes a compact JWT (RFC 7515) of any header and any claims, honest or not: the header is
    /// written as it is given, and whatever its `alg` says, the signature is EdDSA by the first
    /// Ed25519 key where that is `EdDSA`, else RS256 by the RSA key.
    ///
    /// # Panics
    ///
    /// If the backend can't sign.
    #[must_use]
    pub fn jwt(&self, header: &Value, claims: &Value) -> String {
        self.compact(header, &claims.to_string())
    }

    #[expect(
        clippy::expect_used,
        reason = "a test has nothing better to do than to fail"
    )]
    fn compact(&self, header: &Value, claims: &str) -> String {
        let header_segment = encode_url(header.to_string().as_bytes());
        let signed = format!("{header_segment}.{}", encode_url(claims.as_bytes()));
        let signature = match header.get("alg").and_then(Value::as_str) {
            Some("EdDSA") => self.sign_ed25519(0, signed.as_bytes()),
            _ => self
                .keys
                .rsa
                .sign_rs256(signed.as_bytes())
                .expect("RSA signs any message"),
        };
        format!("{signed}.{}", encode_url(&signature))
    }
}

impl Signer {
    /// Signs as real per-request deliveries are reported to be: with the first Ed25519 key.
    #[must_use]
    pub fn v1a(keys: &SigningKeys) -> Self {
        Self::with(V1a(keys.clone()))
    }

    /// Signs as Google's guide describes per-request deliveries: with an RS256 JWT for the given
    /// audience, whose claims carry the event of the body. It expires 300 s after the attempt.
    #[must_use]
    pub fn jwt(keys: &SigningKeys, audience: impl Into<String>) -> Self {
        Self::with(Jwt {
            keys: keys.clone(),
            audience: audience.into(),
        })
    }
}

struct V1a(SigningKeys);

impl SigningScheme for V1a {
    fn sign(&self, content: &[u8], _: OffsetDateTime, _: &[u8]) -> String {
        format!("v1a,{}", encode(&self.0.sign_ed25519(0, content)))
    }
}

struct Jwt {
    keys: SigningKeys,
    audience: String,
}

impl SigningScheme for Jwt {
    /// Makes a JWT whose claims are the members of the body as they are written, if it is an object,
    /// and those that a token needs.
    fn sign(&self, _: &[u8], attempted_at: OffsetDateTime, body: &[u8]) -> String {
        let issued_at = attempted_at.unix_timestamp();
        let needed = json!({
            "iss": "https://generativelanguage.googleapis.com",
            "aud": self.audience,
            "iat": issued_at,
            "exp": issued_at.saturating_add(300),
        });
        let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let written = str::from_utf8(body).unwrap_or_default().trim_end();
        let needed_text = needed.to_string();
        let claims = match (
            written.strip_suffix('}'),
            needed_text.strip_prefix('{'),
            needed,
        ) {
            (Some(written), Some(needed), Value::Object(names))
                if !members.is_empty() && names.keys().all(|name| !members.contains_key(name)) =>
            {
                format!("{written},{needed}")
            }
            (.., needed) => {
                let mut members = Value::from(members);
                if let (Some(members), Value::Object(needed)) = (members.as_object_mut(), needed) {
                    members.extend(needed);
                }
                members.to_string()
            }
        };
        let header = json!({"alg": "RS256", "kid": self.keys.rsa_id(), "typ": "JWT"});
        self.keys.compact(&header, &claims)
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("name", &self.keys.name)
            .finish_non_exhaustive()
    }
}
