//! The only place that reads random numbers.

use std::fmt;
#[cfg(feature = "testing")]
use std::sync::{Arc, Mutex, PoisonError};

/// A source of random bytes: the operating system's, or with the feature `testing` one that follows
/// from a seed. Clones are the same source.
#[derive(Clone, Default)]
#[must_use]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub))]
pub struct Random {
    #[cfg(feature = "testing")]
    seeded: Option<Arc<Mutex<u64>>>,
}

impl Random {
    /// Returns random bytes.
    ///
    /// # Errors
    ///
    /// Those of the operating system, which may have none.
    #[cfg_attr(not(feature = "testing"), expect(clippy::unused_self))]
    pub(crate) fn bytes<const N: usize>(&self) -> Result<[u8; N], getrandom::Error> {
        let mut bytes = [0; N];
        #[cfg(feature = "testing")]
        if let Some(state) = &self.seeded {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            for chunk in bytes.chunks_mut(8) {
                for (byte, random) in chunk.iter_mut().zip(next(&mut state).to_le_bytes()) {
                    *byte = random;
                }
            }
            return Ok(bytes);
        }
        getrandom::fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// Leaves the state out: the bytes that follow can be computed from it.
impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

/// Random bytes for tests.
#[cfg(feature = "testing")]
impl Random {
    /// Returns a source whose bytes follow from a seed, so that a test can be run again. They are no
    /// secret: for tests only.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seeded: Some(Arc::new(Mutex::new(seed))),
        }
    }
}

/// The next number of the generator splitmix64.
#[cfg(feature = "testing")]
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_bytes_and_another_one_makes_others() {
        let bytes = |seed| Random::seeded(seed).bytes::<20>().unwrap();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
        let random = Random::seeded(7);
        assert_eq!(random.clone().bytes::<20>().unwrap(), bytes(7));
        assert_ne!(random.bytes::<20>().unwrap(), bytes(7), "it goes on");
    }

    #[test]
    fn the_operating_system_repeats_nothing() {
        let random = Random::default();
        assert_ne!(random.bytes::<16>().unwrap(), random.bytes::<16>().unwrap());
    }
}
