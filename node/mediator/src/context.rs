//! The context that every service is handed: the mediator's id and key, clock, randomness and tasks.

use std::sync::Arc;

use fincrypt_protocol::{Clock, Network, NodeId, Nonce, Random, SigningKey, UnixTime};

use super::error::NoRandomness;
use super::tasks::Tasks;

/// Sources of time and of chance.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The time.
    pub clock: Clock,
    /// Chance, for samples and placements. Nonces come from the system.
    pub random: Random,
}

/// The context that services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) network: Network,
    /// This mediator.
    pub(crate) own: NodeId,
    pub(crate) key: SigningKey,
    pub(crate) sources: Sources,
    /// Tasks that requests start and do not wait for.
    pub(crate) tasks: Arc<Tasks>,
}

impl Context {
    pub(crate) fn now(&self) -> UnixTime {
        self.sources.clock.now()
    }

    /// A random number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        below(&self.sources.random, bound)
    }

    /// The same as a function.
    pub(crate) fn chance(&self) -> impl FnMut(u64) -> u64 {
        chance(&self.sources.random)
    }
}

/// A random number below `bound`; 0 for a bound of 0. Off by at most `bound` in 2^64.
fn below(random: &Random, bound: u64) -> u64 {
    u64::from_le_bytes(random.bytes()).checked_rem(bound).unwrap_or(0)
}

/// Random numbers below what is asked for.
pub(crate) fn chance(random: &Random) -> impl FnMut(u64) -> u64 + use<> {
    let random = random.clone();
    move |bound| below(&random, bound)
}

/// A nonce of the system's randomness.
///
/// # Errors
/// [`NoRandomness`] if the system has none.
pub(crate) fn nonce() -> Result<Nonce, NoRandomness> {
    let mut bytes = [0; Nonce::LEN];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(Nonce::from_bytes(bytes))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use zeroize::Zeroizing;

    /// The context of a mediator in a test: a clock that stands still, and a fixed seed.
    pub(crate) fn context() -> Context {
        let key = SigningKey::from_seed(&Zeroizing::new([77; 32]));
        let clock = Clock::manual(UnixTime::from_secs(1_700_000_000));
        let sources = Sources { clock, random: Random::from_seed([1; 32]) };
        Context { network: Network::Local, own: key.node(), key, sources, tasks: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let context = testing::context();
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| context.below(5)).collect();
        assert_eq!(drawn, (0..5).collect());
        assert_eq!(context.below(0), 0);
    }
}
