//! The randomness that a service is handed: the system's, or a seeded sequence in a test. It decides
//! samples, placements and delays; keys and nonces come from the system directly.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, TryRng};

/// A source of unpredictable numbers (a ChaCha stream). Clones draw from the same stream.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// A stream with a seed of the system's.
    ///
    /// # Errors
    ///
    /// If the system has no randomness.
    pub fn system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(seed))
    }

    /// The stream that `seed` determines: for tests, which print their seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_seed(seed))))
    }

    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().fill_bytes(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.lock().next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.lock().next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.lock().fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_stream_and_clones_share_it() {
        let (mut one, two) = (Random::from_seed([7; 32]), Random::from_seed([7; 32]));
        assert_eq!(one.bytes::<16>(), two.bytes::<16>());
        let shared = one.clone();
        let first = one.next_u64();
        assert_ne!(first, shared.clone().next_u64());
    }

    #[test]
    fn the_systems_streams_differ() {
        let of = || Random::system().expect("randomness").bytes::<32>();
        assert_ne!(of(), of());
    }
}
