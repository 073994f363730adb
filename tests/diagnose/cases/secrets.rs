use base64::{Engine as _, prelude::*};
use gemini_webhooks::{
    JobTokens, PerRequest, Secret, Verifier,
    diagnose::Clues,
    keys::KeySet,
    testing::{Signer, SigningKeys, sample},
};

use super::{Case, hex, now};
use crate::{OTHER, TEXT};

/// The text that is configured as it is, the key that the sender has, and words of what is said.
fn case(
    mistake: &'static str,
    said: &'static str,
    configured: Secret,
    text: &str,
    key: &[u8],
) -> Case {
    let signer = Signer::v1(&Secret::from_bytes(key).unwrap());
    let sent = signer.sign("msg_1", now(), sample(&"batch.failed".into()));
    let headers = sent.headers();
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Case {
        verifier: Verifier::builder().secret(configured).build().unwrap(),
        clues: Clues::default().at(now()).secret_text(text),
        headers: headers.into(),
        ..Case::sent(mistake, said, &sent.body)
    }
}

/// A text that is taken as it is, byte for byte: `Secret::parse` refuses these.
fn raw(mistake: &'static str, said: &'static str, text: &str) -> Case {
    assert!(Secret::parse(text).is_err() || text == TEXT, "{text}");
    let configured = Secret::from_bytes(text.as_bytes()).unwrap();
    case(mistake, said, configured, text, &key())
}

/// A text that is parsed.
fn parsed(mistake: &'static str, said: &'static str, text: &str, key: &[u8]) -> Case {
    case(mistake, said, Secret::parse(text).unwrap(), text, key)
}

fn key() -> Vec<u8> {
    BASE64_STANDARD.decode(&TEXT[6..]).unwrap()
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn cases() -> Vec<Case> {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let bare = &TEXT[6..];
    let url = TEXT.replace('+', "-").replace('/', "_");
    let percent = TEXT.replace('+', "%2B").replace('/', "%2F");
    let hexadecimal = hex(&key());
    let twice = "encoded with base64 once more, as in a Kubernetes manifest";
    let around = "the same, with something around it";
    let hex = "in hexadecimal";
    let text_as_key = "a sender whose key is the text itself";
    let assignment = "a whole line of a shell or an `.env` file";
    let several = "several secrets in one text";
    let quotes = "with quotation marks";
    let instead = "something else in its place";
    let invisible = "with invisible characters";
    vec![
        raw(
            "given to `Secret::from_bytes` as text",
            "use `Secret::parse`",
            TEXT,
        ),
        raw(
            "with a line break or spaces",
            "white space or a line break",
            &format!("{TEXT}\n"),
        ),
        raw(quotes, "it has quotation marks", &format!("\"{TEXT}\"")),
        raw(
            quotes,
            "typographic quotation marks",
            &format!("\u{201c}{TEXT}\u{201d}"),
        ),
        raw(
            assignment,
            "a whole assignment",
            &format!("WEBHOOK_SECRET={TEXT}"),
        ),
        raw(
            assignment,
            "a whole assignment",
            &format!("export WEBHOOK_SECRET='{TEXT}'"),
        ),
        raw(invisible, "byte order mark", &format!("\u{feff}{TEXT}")),
        raw(invisible, "invisible character", &format!("{TEXT}\u{200b}")),
        raw("percent-encoded", "percent-encoded", &percent),
        raw("in base64url", "as base64url has", &url),
        raw(
            "with the `v1,` of a signature",
            "begins with `v1,`",
            &format!("v1,{TEXT}"),
        ),
        raw(
            several,
            "several secrets one by one",
            &format!("{OTHER},{TEXT}"),
        ),
        raw(
            several,
            "several secrets one by one",
            &format!("v1,{OTHER}|v1,{TEXT}"),
        ),
        parsed(twice, "once more", &encode(TEXT), &key()),
        parsed(twice, "once more", &encode(bare), &key()),
        parsed(
            around,
            "a line break at an end",
            &encode(&format!("{TEXT}\n")),
            &key(),
        ),
        parsed(
            around,
            "quotation marks",
            &encode(&format!("\"{TEXT}\"")),
            &key(),
        ),
        parsed(
            around,
            "it has quotation marks: remove them, and it begins with `v1,`",
            &encode(&format!(" 'v1,{TEXT}'\n")),
            &key(),
        ),
        parsed(
            "a password in base64, with a line break",
            "not the key alone, and it has white space",
            &encode("a plain text of a password\n"),
            b"a plain text of a password",
        ),
        parsed(hex, "hexadecimal", &hexadecimal, &key()),
        parsed(hex, "hexadecimal", &hexadecimal.to_uppercase(), &key()),
        parsed(text_as_key, "base64 text as the key", TEXT, TEXT.as_bytes()),
        parsed(text_as_key, "base64 text as the key", TEXT, bare.as_bytes()),
        parsed(
            "in its truncated form",
            "truncated",
            &encode("whsec_...............3frh"),
            &key(),
        ),
        raw(
            "in its truncated form",
            "truncated",
            "whsec_...............3frh",
        ),
        raw(instead, "an API key", &format!("AIza{}", "Sy_4b".repeat(7))),
        raw(
            instead,
            "a job token",
            &format!("gwj1_{}", "AbC_".repeat(20)),
        ),
        raw(
            instead,
            "a public key",
            "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        ),
        job_key(),
    ]
}

/// The key for job tokens in the place of the secret.
fn job_key() -> Case {
    let text = BASE64_STANDARD.encode([7; 32]);
    let said = "the key for job tokens";
    let keys = KeySet::from_json(SigningKeys::generate().jwks().as_bytes()).unwrap();
    let tokens = JobTokens::parse(&text).unwrap();
    Case {
        verifier: Verifier::builder()
            .secret(Secret::parse(&text).unwrap())
            .per_request(PerRequest::with_job_tokens(keys, tokens))
            .build()
            .unwrap(),
        clues: Clues::default().at(now()),
        ..parsed("the key for job tokens in its place", said, &text, &key())
    }
}
