//! How each storage node stands with this mediator, durably.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::Duration;

use fincrypt_protocol::{Clock, NodeId, Refusal, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};
use fincrypt_state::state::State;

use fincrypt_accounts::failed;
use fincrypt_upkeep::{Came, Epoch, Rules, Standing, State as Stands};

/// `node` → [`Standing`].
const STANDINGS: Tree = Tree("standings");
/// The most bytes of a standing with its history.
const MAX_STANDING: usize = 16 << 10;

/// What an operator decides about absences.
#[derive(Debug, Clone, Copy)]
pub struct UpkeepTerms {
    /// Length of an epoch.
    pub epoch: Duration,
    /// Epochs without an answer after which a node's shards are rebuilt elsewhere.
    pub absence: u64,
    /// Epochs without an answer after which a node is given up.
    pub loss: u64,
}

/// All standings; in memory, and on disk before anything follows from them.
pub(crate) struct Standings {
    state: State,
    terms: UpkeepTerms,
    rules: Rules,
    clock: Clock,
    known: Mutex<HashMap<NodeId, Standing>>,
}

impl Standings {
    /// Reads what is known. What cannot be read is begun anew.
    pub(crate) fn open(state: State, terms: UpkeepTerms, clock: Clock) -> Self {
        let entries = state.scan(STANDINGS, &[], None, usize::MAX).unwrap_or_else(|error| {
            failed(&error);
            Vec::new()
        });
        let parse = |(key, value): (Vec<u8>, Vec<u8>)| {
            let node = NodeId::from_bytes(key.as_slice().try_into().ok()?);
            Some((node, cbor::decode(&value, MAX_STANDING).ok()?))
        };
        let known = Mutex::new(entries.into_iter().filter_map(parse).collect());
        let rules = Rules { absence: terms.absence, loss: terms.loss, ..Rules::default() };
        Self { state, terms, rules, clock, known }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<NodeId, Standing>> {
        self.known.lock()
    }

    /// The epoch it is now.
    pub(crate) fn now(&self) -> Epoch {
        Epoch::at(self.clock.now(), self.terms.epoch)
    }

    pub(crate) fn terms(&self) -> UpkeepTerms {
        self.terms
    }

    /// What is done with a node. One that was never audited is sound.
    pub(crate) fn state(&self, node: &NodeId) -> Stands {
        self.known().get(node).map_or(Stands::Sound, |standing| standing.state(&self.rules))
    }

    /// A node's standing, to be shown.
    pub(crate) fn of(&self, node: &NodeId) -> Option<Standing> {
        self.known().get(node).cloned()
    }

    /// Nodes that were audited at some time.
    pub(crate) fn known_nodes(&self) -> Vec<NodeId> {
        self.known().keys().copied().collect()
    }

    /// Whether a node was audited in this epoch or a later one.
    pub(crate) fn is_audited(&self, node: &NodeId, epoch: Epoch) -> bool {
        self.known().get(node).and_then(Standing::last).is_some_and(|last| last >= epoch)
    }

    /// Takes in what an epoch came to; the state before and after.
    pub(crate) fn note(&self, node: &NodeId, epoch: Epoch, came: Came) -> Result<(Stands, Stands), Refusal> {
        let mut standing = self.of(node).unwrap_or_else(|| Standing::new(epoch));
        let before = standing.state(&self.rules);
        standing.note(epoch, came, &self.rules);
        let after = standing.state(&self.rules);
        let mut batch = Batch::default();
        batch.put(STANDINGS, *node.as_bytes(), cbor::encode(&standing).map_err(|error| failed(&error))?);
        self.state.commit(&batch).map_err(|error| failed(&error))?;
        self.known().insert(*node, standing);
        Ok((before, after))
    }
}
