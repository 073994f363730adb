//! A compact JWT under one of Google's keys, whose claims carry the event (RFC 7515, RFC 7519,
//! with the advice of RFC 8725).

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use super::{
    binding,
    keys::{Key, KeySet, PublicKey, clip},
};
use crate::{
    attempt::{NAMES, SignatureEntries, SignatureEntry},
    encoding,
    error::Error,
    event::Event,
    json::{self, FromObject, Object},
    scheme::Scheme,
    window::{RETRIES, ReplayWindow},
};

/// The most that clocks may differ by, whatever the replay window (RFC 7519, section 4.1.4).
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// In seconds: how far ahead `exp` may lie. A token can be sent again until then, and somebody has
/// to remember it for so long. Google's own tokens live for an hour.
const MAX_LIFE: i64 = 30 * 24 * 60 * 60;

/// In bytes: of the largest RSA key that is used.
const MAX_SIGNATURE: usize = 8192 / 8;

/// A token with a genuine signature.
pub(super) struct Token<'k> {
    key: &'k Key,
    /// The claims as they were signed.
    json: Vec<u8>,
    claims: Claims,
}

/// The claims, parsed once.
enum Claims {
    Event(Event),
    /// They carry no event.
    Other(Map<String, Value>),
}

/// The members of a JOSE header that count. Key material that a token brings along (`jwk`, `jku`,
/// `x5c`, `x5u`) is not read: whoever made the token chose it.
#[derive(Deserialize)]
struct Header<'t> {
    #[serde(borrow)]
    alg: Cow<'t, str>,
    #[serde(borrow)]
    kid: Option<Text<'t>>,
    crit: Option<IgnoredAny>,
}

/// A text that serde borrows even inside an `Option`.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

#[derive(Clone, Copy)]
enum Algorithm {
    Rs256,
    EdDsa,
}

/// Verifies the signature of the first JWT. The claims are parsed, and not validated.
pub(super) fn verify<'k>(
    keys: &'k KeySet,
    signatures: SignatureEntries<'_>,
) -> Result<Token<'k>, Error> {
    let mismatch = || Error::SignatureMismatch {
        tried: Scheme::Jwt.into(),
    };
    // A second one is not looked at: the service sends one, as the whole value.
    let token = signatures.iter().find_map(|entry| match entry {
        SignatureEntry::Jwt(token) => Some(token),
        _ => None,
    });
    let malformed = |reason| {
        let [_, _, name] = NAMES;
        Error::InvalidHeader { name, reason }
    };
    let [signed, header, claims, signature] = token
        .and_then(segments)
        .ok_or_else(|| malformed("the JWT does not have three segments"))?;
    // A header has some 80 bytes.
    let (mut short, long);
    short = [0; 512];
    let header = if let Some(header) = encoding::decode_url_into(header, &mut short) {
        header
    } else {
        long = encoding::decode_url(header)
            .ok_or_else(|| malformed("the JWT's header is not base64url"))?;
        &long
    };
    let FromObject(header): FromObject<Header<'_>> =
        json::from_slice(header).map_err(|_| malformed("the JWT's header is not a JOSE header"))?;
    let algorithm = match &*header.alg {
        "RS256" => Algorithm::Rs256,
        // RFC 8037 has the one name, RFC 9864 the other.
        "EdDSA" | "Ed25519" => Algorithm::EdDsa,
        _ => {
            return Err(Error::UnusableToken {
                reason: "has another algorithm",
            });
        }
    };
    // An extension that must be understood, and none is (RFC 7515, section 4.1.11).
    if header.crit.is_some() {
        return Err(Error::UnusableToken {
            reason: "demands an extension",
        });
    }
    let mut buffer = [0; MAX_SIGNATURE + 2];
    let signature = encoding::decode_url_into(signature, &mut buffer).ok_or_else(mismatch)?;
    let made_by = |key: &&Key| matches(key, algorithm, signed, signature);
    let key = match header.kid {
        Some(Text(key_id)) => {
            let mut named = keys.named(&key_id).peekable();
            if named.peek().is_none() {
                let key_id = clip(&key_id);
                return Err(Error::UnknownKey { key_id });
            }
            named.find(made_by)
        }
        None => keys.iter().find(made_by),
    };
    let key = key.ok_or_else(mismatch)?;

    let json = encoding::decode_url(claims)
        .ok_or_else(|| malformed("the JWT's claims are not base64url"))?;
    let claims = if let Ok(event) = json::from_slice(&json) {
        Claims::Event(event)
    } else {
        let Object(claims) = json::from_slice(&json)
            .map_err(|_| malformed("the JWT's claims are not a JSON object without duplicates"))?;
        Claims::Other(claims)
    };
    Ok(Token { key, json, claims })
}

/// Returns what is signed, and the three segments: header, claims and signature (RFC 7515, section
/// 7.1).
fn segments(token: &[u8]) -> Option<[&[u8]; 4]> {
    let is_dot = |byte: &u8| *byte == b'.';
    let (signed, signature) = token.split_at_checked(token.iter().rposition(is_dot)?)?;
    let (header, claims) = signed.split_at_checked(signed.iter().position(is_dot)?)?;
    Some([signed, header, claims.get(1..)?, signature.get(1..)?])
}

/// Returns true if the key made the signature, with the one algorithm that the key is for (RFC 8725,
/// section 3.1). A key used with another algorithm is how tokens get forged.
fn matches(key: &Key, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
    match (&key.public, algorithm) {
        (PublicKey::Rsa(key), Algorithm::Rs256) => key.verify_rs256(signed, signature),
        (PublicKey::Ed25519(key), Algorithm::EdDsa) => signature
            .try_into()
            .is_ok_and(|signature| key.verify(signed, signature)),
        _ => false,
    }
}

impl<'k> Token<'k> {
    #[cfg(feature = "diagnose")]
    pub(super) fn key(&self) -> &'k Key {
        self.key
    }

    /// Validates `exp`, which is required, and `nbf` and `iat` where they are present. The leeway on
    /// each side is the replay window's, at most 300 s. Returns the time to remember the token: a
    /// retry may be as late as any, and its token live as long.
    pub(super) fn validate_times(&self, now: i64, window: ReplayWindow) -> Result<Duration, Error> {
        let refuse = |claim, problem| Err(Error::TokenClaims { claim, problem });
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let [back, ahead] = window.sides().map(|side| seconds(side.min(MAX_LEEWAY)));
        let Some(expires) = self.time("exp")? else {
            return refuse("exp", "is absent".to_owned());
        };
        let past = now.saturating_sub(expires);
        if past > back {
            return refuse("exp", format!("is {past} s past, {back} s are allowed"));
        }
        let life = past.saturating_neg();
        if life > MAX_LIFE {
            return refuse(
                "exp",
                format!("is {life} s ahead, {MAX_LIFE} s are allowed"),
            );
        }
        for claim in ["nbf", "iat"] {
            let early = self.time(claim)?.map_or(0, |time| time.saturating_sub(now));
            if early > ahead {
                return refuse(claim, format!("is {early} s ahead, {ahead} s are allowed"));
            }
        }
        // `webhook-timestamp` is not signed, so that the window does not bound a token's age. The
        // last retry may carry a token of the first attempt.
        let age = self.time("iat")?.map_or(0, |time| now.saturating_sub(time));
        let oldest = seconds(window.retention());
        if age > oldest {
            return refuse("iat", format!("is {age} s past, {oldest} s are allowed"));
        }
        let life = life.saturating_add(back).unsigned_abs();
        Ok(RETRIES.saturating_add(Duration::from_secs(life)))
    }

    /// Returns a claim that RFC 7519 registers.
    fn registered(&self, claim: &str) -> Option<&Value> {
        match &self.claims {
            Claims::Event(event) => event.other.get(claim),
            Claims::Other(claims) => claims.get(claim),
        }
    }

    /// A `NumericDate` (RFC 7519, section 2) in whole seconds.
    fn time(&self, claim: &'static str) -> Result<Option<i64>, Error> {
        let Some(value) = self.registered(claim) else {
            return Ok(None);
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it saturates, and no time is there"
        )]
        let seconds = value
            .as_i64()
            .or_else(|| value.as_f64().map(|seconds| seconds as i64));
        let problem = || Error::TokenClaims {
            claim,
            problem: "is not a number".to_owned(),
        };
        seconds.ok_or_else(problem).map(Some)
    }

    /// Validates that `aud` is present and has the audience (RFC 7519, section 4.1.3).
    pub(super) fn validate_audience(&self, audience: &str) -> Result<(), Error> {
        let problem = match self.registered("aud") {
            None => "is absent",
            Some(Value::String(one)) if one == audience => return Ok(()),
            Some(Value::Array(several)) if several.iter().any(|one| one == audience) => {
                return Ok(());
            }
            Some(_) => "is another audience",
        };
        Err(Error::TokenClaims {
            claim: "aud",
            problem: problem.to_owned(),
        })
    }

    /// Verifies that the claims carry an event, and that they have each member of the body. Returns
    /// the key, the claims and the event.
    pub(super) fn bind(self, body: &[u8]) -> Result<(&'k Key, Vec<u8>, Event), Error> {
        let refuse = |reason| Error::BodyNotBound { reason };
        let Claims::Event(claimed) = self.claims else {
            return Err(refuse("its claims carry no event"));
        };
        binding::check(&claimed, &self.json, body).map_err(refuse)?;
        Ok((self.key, self.json, claimed))
    }
}
