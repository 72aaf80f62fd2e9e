use std::{
    fmt,
    sync::{Arc, Mutex},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// The source of random ids and jitter: the operating system's by default, a seed's in a test that must repeat.
/// Key material never comes from here but from the cryptographic provider.
#[derive(Clone)]
pub struct Entropy(Arc<Mutex<StdRng>>);

impl Entropy {
    /// Returns a generator seeded by the operating system.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads ambient randomness")]
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(rand::make_rng())))
    }

    /// Returns a generator that repeats itself for the same seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Returns 16 random bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        let mut out = [0; 16];
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).fill_bytes(&mut out);
        out
    }

    /// Returns a number below `bound`, which must not be 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes()[..8]);
        // The bias of a 64-bit remainder is far below what jitter and placement notice.
        u64::from_le_bytes(word) % bound
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
