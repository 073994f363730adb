use base64::{Engine as _, prelude::*};
use gemini_webhooks::{
    PerRequest, ReplayWindow, Secret, Verifier,
    diagnose::Clues,
    keys::KeySet,
    testing::{Signer, SigningKeys, sample},
};
use serde_json::{Value, json};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{Case, hex, now};
use crate::{NOW, OTHER};

const TIMESTAMP: usize = 1;
const SIGNATURE: usize = 2;

fn good(mistake: &'static str, said: &'static str) -> Case {
    Case::sent(mistake, said, sample(&"batch.failed".into()).as_bytes())
}

/// A change of one of the values.
fn value(
    mistake: &'static str,
    said: &'static str,
    header: usize,
    change: impl FnOnce(&str) -> String,
) -> Case {
    let mut case = good(mistake, said);
    let changed = change(&case.headers[header].1);
    assert_ne!(changed, case.headers[header].1, "{mistake}");
    case.headers[header].1 = changed;
    case
}

/// A change of all the names.
fn renamed(mistake: &'static str, said: &'static str, change: impl Fn(&str) -> String) -> Case {
    let mut case = good(mistake, said);
    for (name, _) in &mut case.headers {
        *name = change(name);
    }
    case
}

/// The signature in base64, without its version.
fn bare(signature: &str) -> &str {
    signature.strip_prefix("v1,").unwrap()
}

/// A delivery whose signature has a `+` and a `/` in base64, and none of the former at its end.
fn with_plus(mistake: &'static str, said: &'static str) -> Case {
    let bodies = (0..).map(|number| format!("{{\"type\":\"a\",\"data\":{{\"id\":\"{number}\"}}}}"));
    let mut cases = bodies.map(|body| Case::sent(mistake, said, body.as_bytes()));
    let suits = |case: &Case| {
        let signature = bare(&case.headers[SIGNATURE].1);
        signature.contains('+') && signature.contains('/')
    };
    cases.find(suits).unwrap()
}

fn to_hex(signature: &str) -> String {
    hex(&BASE64_STANDARD.decode(bare(signature)).unwrap())
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = names();
    cases.extend(timestamps());
    cases.extend(signatures());
    cases.extend(clocks());
    cases
}

fn names() -> Vec<Case> {
    let mut twice = good(
        "a header that a proxy adds again",
        "a header is there twice",
    );
    let id = twice.headers[0].clone();
    twice.headers.push(id);
    let renamed_by = "renamed by a server, a proxy or the sender";
    vec![
        renamed(renamed_by, "named svix-id", |name| {
            name.replace("webhook", "Svix")
        }),
        renamed(renamed_by, "with underscores", |name| {
            name.replace('-', "_")
        }),
        renamed(
            "handed on as variables of CGI",
            "variables of CGI",
            |name| format!("HTTP_{}", name.replace('-', "_").to_uppercase()),
        ),
        renamed("handed on with `X-` in front", "`x-` in front", |name| {
            format!("X-{name}")
        }),
        twice,
    ]
}

fn timestamps() -> Vec<Case> {
    let units = "a timestamp in milliseconds, microseconds or nanoseconds";
    let date = "a timestamp as a date";
    let rfc_2822 = |_: &str| now().format(&Rfc2822).unwrap();
    vec![
        value(units, "counts milliseconds", TIMESTAMP, |text| {
            format!("{text}123")
        }),
        value(units, "counts microseconds", TIMESTAMP, |text| {
            format!("{text}123456")
        }),
        value(units, "counts nanoseconds", TIMESTAMP, |text| {
            format!("{text}123456789")
        }),
        value(
            "a timestamp with a fraction",
            "a fraction",
            TIMESTAMP,
            |text| format!("{text}.5"),
        ),
        value(date, "is a date", TIMESTAMP, |_| {
            "2026-05-28T20:26:40Z".to_owned()
        }),
        value(date, "is a date", TIMESTAMP, |_| {
            "2026-05-28T22:26:40.5+02:00".to_owned()
        }),
        value(date, "is a date", TIMESTAMP, rfc_2822),
        value(
            "white space kept around values",
            "white space",
            TIMESTAMP,
            |text| format!(" {text}\r"),
        ),
    ]
}

fn signatures() -> Vec<Case> {
    let other = Secret::parse(OTHER).unwrap();
    let other = Signer::v1(&other).sign("msg_1", now(), "{}").signature;
    let mut quoted = good("values written with `{:?}`", "quotation marks");
    for (_, value) in &mut quoted.headers {
        *value = format!("{value:?}");
    }
    let mut url = with_plus("a signature in base64url", "is in base64url");
    url.headers[SIGNATURE].1 = url.headers[SIGNATURE].1.replace('+', "-").replace('/', "_");
    let mut spaced = with_plus(
        "a `+` that was decoded as a space",
        "spaces where base64 has `+`",
    );
    spaced.headers[SIGNATURE].1 = spaced.headers[SIGNATURE].1.replace('+', " ");
    let mut lines = good("several lines of signatures", "has several lines");
    lines
        .headers
        .push(("webhook-signature".to_owned(), other.clone()));
    let mut split = good(
        "a signature that was split at its commas",
        "split at its commas",
    );
    let (version, text) = split.headers[SIGNATURE].1.split_once(',').unwrap();
    let [version, text] =
        [version, text].map(|part| ("webhook-signature".to_owned(), part.to_owned()));
    split.headers.truncate(SIGNATURE);
    split.headers.extend([version, text]);
    let joined = "signatures joined by commas without spaces";
    let hex = "a signature in hexadecimal";
    let no_version = "a signature without its version";
    vec![
        quoted,
        value(hex, "in hexadecimal", SIGNATURE, to_hex),
        value(hex, "in hexadecimal", SIGNATURE, |it| {
            format!("sha256={}", to_hex(it).to_uppercase())
        }),
        value(hex, "in hexadecimal", SIGNATURE, |it| {
            format!("v1,{}", to_hex(it))
        }),
        url,
        spaced,
        value(joined, "joined by commas", SIGNATURE, |it| {
            format!("{it},{other}")
        }),
        value(joined, "joined by commas", SIGNATURE, |it| {
            format!("{other},{it}")
        }),
        lines,
        split,
        value(no_version, "has no version", SIGNATURE, |it| {
            bare(it).to_owned()
        }),
        value(no_version, "`=` after the version", SIGNATURE, |it| {
            it.replacen(',', "=", 1)
        }),
        value("percent-encoded", "percent-encoded", SIGNATURE, |it| {
            it.replace(',', "%2C")
                .replace('+', "%2B")
                .replace('=', "%3D")
        }),
    ]
}

/// A JWT at its time, and a receiver whose clock and window are given.
fn jwt(mistake: &'static str, said: &'static str, sent: i64, clock: i64, window: u64) -> Case {
    let google = SigningKeys::generate();
    let keys = KeySet::from_json(google.jwks().as_bytes()).unwrap();
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let event: Value = json!({"type": "batch.failed", "data": {"id": "batch_123456"}});
    let by_google = Signer::jwt(&google, "https://example.com");
    let signed = by_google.sign("msg_1", at(NOW), event.to_string());
    let side = Duration::from_secs(window);
    let window = ReplayWindow::default().back(side).ahead(side);
    let case = Case::sent(mistake, said, &signed.body);
    let headers = signed.headers();
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut headers = Vec::from(headers);
    headers[TIMESTAMP].1 = sent.to_string();
    Case {
        verifier: Verifier::builder()
            .per_request(PerRequest::any_sender(keys))
            .window(window)
            .build()
            .unwrap(),
        clues: Clues::default().at(at(clock)),
        headers,
        ..case
    }
}

fn clocks() -> Vec<Case> {
    let clock = |mistake, said, seconds| {
        let case = good(mistake, said);
        let late = OffsetDateTime::from_unix_timestamp(NOW + seconds).unwrap();
        Case {
            clues: Clues::default().at(late),
            ..case
        }
    };
    let slow = "a slow clock, with a JWT";
    let agree = "a JWT that was kept, with a new timestamp beside it";
    vec![
        clock(
            "a fast clock, or a request that was kept",
            "3 h 12 min behind",
            3 * 3600 + 720,
        ),
        clock("a slow clock", "6 min 52 s ahead of", -412),
        jwt(slow, "10 min ahead of", NOW, NOW - 600, 300),
        jwt(slow, "10 min ahead of", NOW, NOW - 600, 3600),
        jwt(agree, "agree neither", NOW - 1200, NOW - 1200, 300),
    ]
}
