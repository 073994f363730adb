//! Texts of others as `Debug`, errors and traces may show them: without job tokens, signing secrets,
//! API keys, and the passwords and queries of addresses.

use std::fmt;

use serde_json::{Map, Value};

/// The member of `user_metadata`, and the query parameter, that holds a job token.
const JOB_MEMBER: &str = "gemini_webhooks_job";
/// The texts that every signing secret, every job token and every API key of Google's begin with.
const PREFIXES: [&str; 4] = ["whsec_", JOB_TOKEN, "AIza", "AQ.Ab"];
const JOB_TOKEN: &str = "gwj1_";

const NOTHING: &str = "[redacted]";

/// Cuts signing secrets, job tokens and API keys after their prefix, and addresses before their
/// query, and leaves out users and passwords.
pub(crate) fn text(text: &str) -> String {
    let text = PREFIXES.iter().fold(text.to_owned(), |text, prefix| {
        let mut parts = text.split(prefix);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |shown, part| {
            let rest = part.trim_start_matches(in_secret);
            let cut = if rest.len() < part.len() { ".." } else { "" };
            shown + prefix + cut + rest
        })
    });
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        // A character that no URI has ends it (RFC 3986, section 2).
        let end =
            after.find(|c: char| c.is_whitespace() || c.is_control() || "\"<>\\`".contains(c));
        let (address, after) = after.split_at(end.unwrap_or(after.len()));
        let path = address.find(['/', '?', '#']).unwrap_or(address.len());
        let (authority, path) = address.split_at(path);
        shown.extend([before, "://"]);
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend(["..@", host]),
            None => shown.push_str(authority),
        }
        match path.find(['?', '#']) {
            Some(query) => {
                let (path, query) = path.split_at(query);
                shown.push_str(path);
                shown.extend(query.chars().next());
                // Once redacted, a text stays as it is.
                shown.push_str("..");
            }
            None => shown.push_str(path),
        }
        rest = after;
    }
    shown + rest
}

fn in_secret(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=-_".contains(c)
}

/// Shows a part of a payload: texts as [`text`] returns them, and nothing of those with a job token.
pub(crate) struct Redacted<'v, T: ?Sized>(pub(crate) &'v T);

/// Shows the members of the top level like [`Redacted`], and without the audience, which a JWT's
/// claims hold: it may be a secret address.
pub(crate) struct RedactedClaims<'v>(pub(crate) &'v Map<String, Value>);

impl fmt::Debug for Redacted<'_, str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(JOB_TOKEN) {
            return f.write_str(NOTHING);
        }
        fmt::Debug::fmt(&text(self.0), f)
    }
}

impl fmt::Debug for Redacted<'_, String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Redacted(self.0.as_str()).fmt(f)
    }
}

impl fmt::Debug for Redacted<'_, Value> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => Redacted(text).fmt(f),
            Value::Array(values) => f.debug_list().entries(values.iter().map(Redacted)).finish(),
            Value::Object(members) => Redacted(members).fmt(f),
            Value::Null | Value::Bool(_) | Value::Number(_) => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Redacted<'_, Map<String, Value>> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        members(self.0, JOB_MEMBER, f)
    }
}

impl fmt::Debug for RedactedClaims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        members(self.0, "aud", f)
    }
}

/// Shows an object. The values of two members are left out.
fn members(members: &Map<String, Value>, hidden: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut map = f.debug_map();
    for (name, value) in members {
        map.key(&Redacted(name));
        if name == hidden || name == JOB_MEMBER {
            map.value(&format_args!("{NOTHING}"));
        } else {
            map.value(&Redacted(value));
        }
    }
    map.finish()
}

/// Returns an error itself, or, if it shows anything that [`text`] cuts, its text and those of its
/// sources without that.
#[cfg(any(feature = "_per-request", feature = "receiver"))]
pub(crate) fn error(error: crate::boxed::BoxError) -> crate::boxed::BoxError {
    let first: &(dyn std::error::Error + 'static) = &*error;
    let chain: Vec<String> = std::iter::successors(Some(first), |error| error.source())
        .map(ToString::to_string)
        .collect();
    let harmless = |shown: &String| text(shown) == *shown;
    if chain.iter().all(harmless) && harmless(&format!("{error:?}")) {
        return error;
    }
    let link = |source, shown: &String| {
        let message = text(shown);
        Some(Box::new(Shown { message, source }))
    };
    match chain.iter().rev().fold(None, link) {
        Some(shown) => shown,
        None => error,
    }
}

/// The text of an error.
#[cfg(any(feature = "_per-request", feature = "receiver"))]
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Shown {
    message: String,
    source: Option<Box<Shown>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_token_is_left_out_at_any_depth() {
        let value = json!({
            "gemini_webhooks_job": {"any": "kind"},
            "list": [1, null, {"deep": "before gwj1_AAAA"}],
            "gwj1_AAAA": true,
            "kept": "text",
        });
        let Value::Object(members) = &value else {
            panic!("{value}");
        };
        let expected = r#"{"gemini_webhooks_job": [redacted], [redacted]: true, "kept": "text", "list": [1, null, {"deep": [redacted]}]}"#;
        for shown in [
            format!("{:?}", Redacted(&value)),
            format!("{:?}", RedactedClaims(members)),
        ] {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn the_audience_is_left_out_of_claims() {
        let Value::Object(claims) = json!({"aud": "https://example.com/3f9c", "exp": 1}) else {
            panic!("an object");
        };
        let shown = format!("{:?}", RedactedClaims(&claims));
        assert_eq!(shown, r#"{"aud": [redacted], "exp": 1}"#);
    }

    #[test]
    fn an_address_is_shown_without_its_password_and_query() {
        for (given, shown) in [
            ("gs://bucket/object", "gs://bucket/object"),
            ("https://host/a?b=c", "https://host/a?.."),
            ("https://host?b=c", "https://host?.."),
            ("https://host/a#b", "https://host/a#.."),
            ("https://me:pass@host/a?b=c", "https://..@host/a?.."),
            ("https://me:p@ss@host", "https://..@host"),
            ("why? because@noon", "why? because@noon"),
            (
                "can't fetch <https://a/b?c=https://d> from \"http://e?f\"",
                "can't fetch <https://a/b?..> from \"http://e?..\"",
            ),
            ("https://host/a@b", "https://host/a@b"),
            ("", ""),
            ("://", "://"),
        ] {
            assert_eq!(text(given), shown);
            assert_eq!(text(shown), shown);
            assert_eq!(format!("{:?}", Redacted(given)), format!("{shown:?}"));
        }
    }

    #[test]
    fn a_secret_is_cut_after_its_prefix() {
        for (given, shown) in [
            ("whsec_C2FV+/sQ==, or gwj1_AA-_", "whsec_.., or gwj1_.."),
            ("whsec_...3frh", "whsec_...3frh"),
            ("whsec_", "whsec_"),
            ("'api_key:AIzaSyA-b_0' is", "'api_key:AIza..' is"),
        ] {
            assert_eq!(text(given), shown);
            assert_eq!(text(shown), shown);
        }
    }

    #[cfg(any(feature = "_per-request", feature = "receiver"))]
    #[test]
    fn an_error_that_shows_nothing_secret_stays_itself() {
        use std::io;

        let harmless = error(io::Error::other("no disk").into());
        assert!(harmless.is::<io::Error>());

        let inner = io::Error::other("can't reach https://me:pass@host/a?key=hunter2");
        let outer = error(io::Error::other(Box::new(inner)).into());
        let source = outer.source().map(ToString::to_string);
        let shown = "can't reach https://..@host/a?..";
        assert_eq!(outer.to_string(), shown);
        assert!(!format!("{outer:?} {source:?}").contains("hunter2"));
    }

    #[cfg(feature = "_per-request")]
    #[test]
    fn the_member_is_that_of_job_tokens() {
        assert_eq!(JOB_MEMBER, crate::JobTokens::MEMBER);
        let token = crate::JobTokens::new([7; 32]).mint().unwrap();
        assert_eq!(text(&token), "gwj1_..");
    }
}
