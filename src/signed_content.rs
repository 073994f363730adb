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
        let free = put(&mut head, id);
        let free = put(free, b".");
        let free = put(free, timestamp);
        let free = put(free, b".");
        let (start, rest) = body.split_at(body.len().min(free.len()));
        let free = put(free, start).len();
        Self {
            head_length: HEAD.saturating_sub(free),
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

/// Fills the beginning, and gives what is left.
fn put<'h>(free: &'h mut [u8], part: &[u8]) -> &'h mut [u8] {
    let Some((taken, free)) = free.split_at_mut_checked(part.len()) else {
        debug_assert!(false, "`WebhookHeaders` bounds what is put in");
        return &mut [];
    };
    taken.copy_from_slice(part);
    free
}
