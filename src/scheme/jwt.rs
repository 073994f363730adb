//! A compact JWT under one of Google's keys, whose claims carry the event (RFC 7515, RFC 7519,
//! with the advice of RFC 8725).

use std::{borrow::Cow, time::Duration};

use memchr::{memchr, memrchr};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    encoding,
    error::Error,
    event::{Event, EventBeside},
    headers::NAMES,
    json::{self, Object},
    keys::{Key, KeySet, PublicKey, clip},
    signature::{Schemes, SignatureEntries, SignatureEntry},
    window::RETRIES,
};

/// In seconds, for clocks that differ (RFC 7519, section 4.1.4).
const LEEWAY: i64 = 60;

/// In seconds: how far ahead `exp` may lie. A token can be sent again until then, and somebody has
/// to remember it for so long. Google's own tokens live for an hour.
const MAX_LIFE: i64 = 30 * 24 * 60 * 60;

/// The event that claims carry, without what the token says of itself.
pub(crate) fn event(claims: &[u8]) -> serde_json::Result<Event> {
    event_beside(&mut RegisteredClaims::default(), claims)
}

fn event_beside(registered: &mut RegisteredClaims, claims: &[u8]) -> serde_json::Result<Event> {
    let event = EventBeside {
        names: &REGISTERED,
        values: registered,
    };
    json::from_slice_seed(event, claims)
}

/// The idempotency key of claims that were verified.
///
/// A retry may carry a new token, with other times, for the same event. Of an event without a
/// time of its own, two may be the same and no retries: then the token's times count, so that
/// rather a retry is taken for new than an event is lost.
pub(crate) fn idempotency_key(claims: &[u8]) -> String {
    let mut hash = Sha256::new();
    if let Ok(Object(mut event)) = json::from_slice(claims) {
        if event.get("timestamp").is_some_and(Value::is_string) {
            for claim in ["exp", "nbf", "iat", "jti"] {
                event.remove(claim);
            }
        }
        // The order of members is the sender's, where some crate in the build enables
        // `serde_json`'s feature `preserve_order`.
        let mut event = Value::Object(event);
        event.sort_all_objects();
        hash.update(event.to_string());
    } else {
        hash.update(claims);
    }
    format!("jwt.{}", encoding::encode_url(&hash.finalize()))
}

/// The claims that RFC 7519 registers.
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// Their values.
type RegisteredClaims = [Option<Value>; REGISTERED.len()];

/// What a token with a genuine signature says.
pub(crate) struct Token {
    /// The event that the claims carry, if they do.
    event: Option<Event>,
    registered: RegisteredClaims,
    /// All claims as they were signed.
    pub(crate) json: Vec<u8>,
}

/// The members of a JOSE header that count. Key material that a token brings along (`jwk`, `jku`,
/// `x5c`, `x5u`) is not read: whoever made the token chose it.
#[derive(Deserialize)]
struct Header<'t> {
    #[serde(borrow)]
    alg: Cow<'t, str>,
    #[serde(borrow)]
    kid: Option<Cow<'t, str>>,
    crit: Option<IgnoredAny>,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Rs256,
    EdDsa,
}

/// Checks the signature of the first JWT, and gives the key that made it. The claims are parsed
/// and not checked.
pub(crate) fn verify<'k>(
    keys: &'k KeySet,
    signatures: SignatureEntries<'_>,
    tried: Schemes,
) -> Result<(&'k Key, Token), Error> {
    let mismatch = Error::SignatureMismatch { tried };
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
    let header = encoding::decode_url(header)
        .ok_or_else(|| malformed("the JWT's header is not base64url"))?;
    let header: Header<'_> = json::from_slice(&header)
        .map_err(|_| malformed("the JWT's header is not a JOSE header"))?;
    let algorithm = match &*header.alg {
        "RS256" => Algorithm::Rs256,
        "EdDSA" => Algorithm::EdDsa,
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
    let signature = encoding::decode_url(signature).ok_or_else(|| mismatch.clone())?;
    let key = match header.kid {
        Some(key_id) => {
            let named = keys.find(&key_id).ok_or_else(|| Error::UnknownKey {
                key_id: clip(&key_id),
            })?;
            Some(named).filter(|key| matches(key, algorithm, signed, &signature))
        }
        None => keys
            .iter()
            .find(|key| matches(key, algorithm, signed, &signature)),
    };
    let key = key.ok_or(mismatch)?;

    let json = encoding::decode_url(claims)
        .ok_or_else(|| malformed("the JWT's claims are not base64url"))?;
    let mut registered = RegisteredClaims::default();
    let event = event_beside(&mut registered, &json).ok();
    if event.is_none() {
        let Object(mut claims) = json::from_slice(&json)
            .map_err(|_| malformed("the JWT's claims are not a JSON object without duplicates"))?;
        registered = REGISTERED.map(|claim| claims.remove(claim));
    }
    Ok((
        key,
        Token {
            event,
            registered,
            json,
        },
    ))
}

/// What is signed, and the three segments: header, claims and signature (RFC 7515, section 7.1).
fn segments(token: &[u8]) -> Option<[&[u8]; 4]> {
    let (signed, signature) = token.split_at_checked(memrchr(b'.', token)?)?;
    let (header, claims) = signed.split_at_checked(memchr(b'.', signed)?)?;
    Some([signed, header, claims.get(1..)?, signature.get(1..)?])
}

/// Whether the key made the signature, with the one algorithm that the key is for (RFC 8725,
/// section 3.1): a key used with another one is how tokens get forged.
fn matches(key: &Key, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
    match (&key.public, algorithm) {
        (PublicKey::Rsa(key), Algorithm::Rs256) => key.verify_rs256(signed, signature),
        (PublicKey::Ed25519(key), Algorithm::EdDsa) => signature
            .try_into()
            .is_ok_and(|signature| key.verify(signed, signature)),
        _ => false,
    }
}

impl Token {
    /// Checks `exp`, which must be there, and `nbf` and `iat`, which may be. Gives for how long the
    /// token has to be remembered: a retry may be as late as any, and its token live as long.
    pub(crate) fn check_times(&self, now: i64) -> Result<Duration, Error> {
        let refuse = |claim, problem| Err(Error::TokenClaims { claim, problem });
        let Some(expires) = self.time("exp")? else {
            return refuse("exp", "is absent".to_owned());
        };
        let past = now.saturating_sub(expires);
        if past > LEEWAY {
            return refuse("exp", format!("is {past} s past, {LEEWAY} s are allowed"));
        }
        let life = past.saturating_neg();
        if life > MAX_LIFE {
            return refuse(
                "exp",
                format!("is {life} s ahead, {MAX_LIFE} s are allowed"),
            );
        }
        for claim in ["nbf", "iat"] {
            let ahead = self.time(claim)?.map_or(0, |time| time.saturating_sub(now));
            if ahead > LEEWAY {
                return refuse(claim, format!("is {ahead} s ahead, {LEEWAY} s are allowed"));
            }
        }
        let life = life.saturating_add(LEEWAY).unsigned_abs();
        Ok(RETRIES.saturating_add(Duration::from_secs(life)))
    }

    fn registered(&self, claim: &str) -> Option<&Value> {
        let mut claims = REGISTERED.iter().zip(&self.registered);
        let (_, value) = claims.find(|(name, _)| **name == claim)?;
        value.as_ref()
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

    /// Checks that `aud` is there and has the audience (RFC 7519, section 4.1.3).
    pub(crate) fn check_audience(&self, audience: &str) -> Result<(), Error> {
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

    /// Checks that the claims carry an event, and that the body, if there is one, says nothing
    /// that they do not.
    ///
    /// A JWT signs its claims and not the body: who has seen one could send it with any body.
    pub(crate) fn check_body(&self, body: &[u8]) -> Result<(), Error> {
        let refuse = |reason| Error::BodyNotBound { reason };
        let claimed = self
            .event
            .as_ref()
            .ok_or(refuse("its claims carry no event"))?;
        if body.is_empty() {
            return Ok(());
        }
        let sent: Event = json::from_slice(body).map_err(|_| refuse("the body is not an event"))?;
        let stands_in_claims = |(name, value): (&String, &Value)| {
            let claim = claimed.other.get(name).or_else(|| self.registered(name));
            claim == Some(value)
        };
        let same = claimed.data == sent.data
            && claimed.occurred_at == sent.occurred_at
            && claimed.version == sent.version
            && claimed.user_metadata == sent.user_metadata
            && sent.other.iter().all(stands_in_claims);
        same.then_some(())
            .ok_or_else(|| refuse("its claims carry another event"))
    }
}
