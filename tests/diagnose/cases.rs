//! Each mistake, made: what a developer does, and what the diagnosis has to say.

mod bodies;
mod envelopes;
mod headers;
mod secrets;

use gemini_webhooks::{Secret, Verifier, diagnose::Clues, testing::Signer};
use time::OffsetDateTime;

use super::{NOW, TEXT};

pub(crate) struct Case {
    /// For the table in `docs/troubleshooting.md`, where cases of one mistake have one row.
    pub(crate) mistake: &'static str,
    /// Words of what is said.
    pub(crate) said: &'static str,
    pub(crate) verifier: Verifier,
    pub(crate) clues: Clues,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Case {
    /// A delivery under `TEXT`, as it was sent.
    fn sent(mistake: &'static str, said: &'static str, body: &[u8]) -> Self {
        let secret = Secret::parse(TEXT).unwrap();
        let sent = Signer::v1(&secret).sign("msg_1", now(), body);
        let headers = sent.headers();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            mistake,
            said,
            verifier: Verifier::builder().secret(secret).build().unwrap(),
            clues: Clues::default().at(now()),
            headers: headers.into(),
            body: sent.body,
        }
    }
}

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

/// By the part of the delivery that is wrong.
pub(crate) fn all() -> [(&'static str, Vec<Case>); 3] {
    [
        ("The body", bodies::cases()),
        ("The headers and the clock", headers::cases()),
        ("The signing secret", secrets::cases()),
    ]
}

/// In hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
