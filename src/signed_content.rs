use std::io::Write as _;

/// In bytes: whole blocks of SHA-256, enough for the longest id and the longest timestamp that
/// `WebhookHeaders` takes, each with its full stop.
const HEAD: usize = 5 * 64;

/// What `v1` and `v1a` sign: `{webhook-id}.{webhook-timestamp}.{raw body}` (Standard Webhooks
/// 1.0.0), in two parts.
///
/// The first part takes as much of the body as fits, so that a hash finds whole blocks in both:
/// for a short body that is a sixth of the time.
pub(crate) struct SignedContent<'a> {
    head: [u8; HEAD],
    head_length: usize,
    rest: &'a [u8],
}

impl<'a> SignedContent<'a> {
    pub(crate) fn new(id: &[u8], timestamp: &[u8], body: &'a [u8]) -> Self {
        let mut head = [0; HEAD];
        let mut free = head.as_mut_slice();
        for part in [id, b".", timestamp, b"."] {
            let written = free.write_all(part);
            debug_assert!(written.is_ok(), "`WebhookHeaders` bounds both lengths");
        }
        let (start, rest) = body.split_at(body.len().min(free.len()));
        let written = free.write_all(start);
        debug_assert!(written.is_ok(), "no longer than what is free");
        Self {
            head_length: HEAD.saturating_sub(free.len()),
            head,
            rest,
        }
    }

    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [
            self.head.get(..self.head_length).unwrap_or_default(),
            self.rest,
        ]
    }
}
