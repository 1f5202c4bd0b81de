//! What a vault remembers: small facts, durable, and what its index is worth.

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::{Head, Mandate};
use fincrypt_protocol::{NodeId, RecordError, Rewound, RunId, Signed, UnixTime, cbor};
use fincrypt_state::kv::{Batch, KeyValue, Tree};

use super::Vault;
use crate::error::ClientError;
use crate::home::remove;
use fincrypt_protocol::limits::MAX_REWOUND;

/// Small facts of the vault, durable: its mediator, slot, newest head.
const VAULT: Tree = Tree("vault");
/// `run` → nothing: runs that are to be said to be kept before the next head.
const UNKEPT: Tree = Tree("unkept_runs");
/// Runs read and noted at once.
const UNKEPT_PAGE: usize = 256;
/// What the index beside it is worth. As volatile as the index.
const INDEX: Tree = Tree("index_state");
/// The generation it is of.
const GENERATION: &[u8] = b"generation";
/// Set in an index that was rebuilt from segments.
const REBUILT: &[u8] = b"rebuilt";

/// A price as it is kept; nothing for none.
fn price_bytes(price: Option<Price>) -> Vec<u8> {
    price.map(|price| price.get().to_le_bytes().to_vec()).unwrap_or_default()
}

impl Vault {
    /// Forgets every fact: a home of an earlier vault is to be another's.
    pub(super) fn forget_facts(&self) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        for (key, _) in self.state.scan(VAULT, &[], None, usize::MAX)? {
            batch.remove(VAULT, key);
        }
        Ok(self.state.commit(&batch)?)
    }

    fn fact(&self, name: &str) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.state.get(VAULT, name.as_bytes())?)
    }

    fn set_fact(&self, name: &str, value: Vec<u8>) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        batch.put(VAULT, name.as_bytes(), value);
        Ok(self.state.commit(&batch)?)
    }

    /// The slot in use; 0 for a new vault.
    pub(crate) fn slot(&self) -> Result<u32, ClientError> {
        let bytes = self.fact("slot")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map_or(0, u32::from_le_bytes))
    }

    /// Chooses the slot of a new vault.
    ///
    /// # Errors
    /// [`ClientError`] if the state fails.
    pub fn set_slot(&self, slot: u32) -> Result<(), ClientError> {
        self.set_fact("slot", slot.to_le_bytes().to_vec())
    }

    /// The vault's mediator, once it has one.
    pub(crate) fn mediator(&self) -> Result<Option<NodeId>, ClientError> {
        let bytes = self.fact("mediator")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map(NodeId::from_bytes))
    }

    pub(crate) fn set_mediator(&self, node: NodeId) -> Result<(), ClientError> {
        self.set_fact("mediator", node.as_bytes().to_vec())
    }

    /// The newest head this machine has seen.
    pub(crate) fn head(&self) -> Result<Option<Signed<Head>>, ClientError> {
        self.fact("head")?.map(|bytes| Ok(Signed::from_bytes(&bytes)?)).transpose()
    }

    pub(crate) fn set_head(&self, head: &Signed<Head>) -> Result<(), ClientError> {
        self.set_fact("head", head.to_bytes()?)
    }

    /// Whether the index was rebuilt from segments: the catalog is to be written anew.
    pub(crate) fn is_rebuilt(&self) -> Result<bool, ClientError> {
        Ok(self.fact("rebuilt")?.is_some_and(|value| value == [1]))
    }

    pub(crate) fn set_rebuilt(&self, rebuilt: bool) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        batch.put(INDEX, REBUILT, [rebuilt.into()]);
        self.state.apply(&batch)?;
        self.set_fact("rebuilt", vec![rebuilt.into()])
    }

    /// Notes runs that were perhaps never said to be kept, as their heads are lost.
    pub(crate) fn add_unkept(&self, runs: &[RunId]) -> Result<(), ClientError> {
        for page in runs.chunks(UNKEPT_PAGE) {
            let mut batch = Batch::default();
            page.iter().for_each(|run| batch.put(UNKEPT, *run.as_bytes(), Vec::new()));
            self.state.commit(&batch)?;
        }
        Ok(())
    }

    /// Some runs that are still to be said to be kept.
    pub(crate) fn unkept(&self) -> Result<Vec<RunId>, ClientError> {
        let entries = self.state.scan(UNKEPT, &[], None, UNKEPT_PAGE)?;
        Ok(entries
            .into_iter()
            .filter_map(|(key, _)| key.as_slice().try_into().ok().map(RunId::from_bytes))
            .collect())
    }

    /// Forgets runs that were said to be kept.
    pub(crate) fn remove_unkept(&self, runs: &[RunId]) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        runs.iter().for_each(|run| batch.remove(UNKEPT, *run.as_bytes()));
        Ok(self.state.commit(&batch)?)
    }

    /// Whether the index that was rebuilt has been lost since, with the database it was in.
    pub(crate) fn lost_rebuilt(&self) -> Result<bool, ClientError> {
        Ok(self.is_rebuilt()? && self.state.get(INDEX, REBUILT)?.is_none_or(|value| value != [1]))
    }

    /// Hashes of the releases that the index takes into account.
    pub(crate) fn releases(&self) -> Result<Vec<[u8; 32]>, ClientError> {
        Ok(self.fact("releases")?.map(|bytes| bytes.as_chunks().0.to_vec()).unwrap_or_default())
    }

    pub(crate) fn set_releases(&self, releases: &[[u8; 32]]) -> Result<(), ClientError> {
        self.set_fact("releases", releases.concat())
    }

    /// How often everything stored had to be forgotten.
    fn generation(&self) -> Result<u64, ClientError> {
        let bytes = self.fact("generation")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map_or(0, u64::from_le_bytes))
    }

    /// Forgets what is stored, as these releases are about to delete it: the next backup stores
    /// everything anew, under new segments.
    pub(crate) fn forget_stored(&self, releases: &[[u8; 32]]) -> Result<(), ClientError> {
        // An unfinished run would count what it stored before as stored.
        remove(&self.home.run_journal())?;
        remove(&self.home.prune_journal())?;
        self.set_rebuilt(false)?;
        self.forget_index(releases)
    }

    /// Empties the index, to be filled from the catalog of a head that names these releases. The
    /// decision is durable before anything is forgotten, and an index that did not hear of it is
    /// emptied when the vault is opened. A run that was interrupted still counts: nobody but it knows
    /// its segments.
    pub(crate) fn forget_index(&self, releases: &[[u8; 32]]) -> Result<(), ClientError> {
        // Never one that an index may be marked with, even if the facts were lost.
        let marked = self.state.get(INDEX, GENERATION)?.and_then(|bytes| bytes.as_slice().try_into().ok());
        let generation = self.generation()?.max(marked.map_or(0, u64::from_le_bytes)).saturating_add(1);
        let mut batch = Batch::default();
        batch.put(VAULT, *b"generation", generation.to_le_bytes());
        batch.put(VAULT, *b"releases", releases.concat());
        self.state.commit(&batch)?;
        self.settle_index()
    }

    /// Empties an index of an earlier generation.
    pub(super) fn settle_index(&self) -> Result<(), ClientError> {
        let generation = self.generation()?.to_le_bytes();
        let marked = self.state.get(INDEX, GENERATION)?.unwrap_or_else(|| vec![0; 8]);
        if marked == generation {
            return Ok(());
        }
        self.forget_loaded()?;
        self.index.clear()?;
        let mut batch = Batch::default();
        batch.put(INDEX, GENERATION, generation);
        Ok(self.state.apply(&batch)?)
    }

    /// The rewind under which this machine's head key is the vault's, if there was one.
    pub(crate) fn rewound(&self) -> Result<Option<Rewound>, ClientError> {
        let bytes = self.fact("rewound")?;
        Ok(bytes.map(|bytes| cbor::decode(&bytes, MAX_REWOUND)).transpose().map_err(RecordError::from)?)
    }

    pub(crate) fn set_rewound(&self, rewound: &Rewound) -> Result<(), ClientError> {
        self.set_fact("rewound", cbor::encode(rewound).map_err(RecordError::from)?)
    }

    /// A run whose head was sent off, unless it is known what came of that.
    pub(crate) fn committing(&self) -> Result<Option<RunId>, ClientError> {
        let bytes = self.fact("committing")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map(RunId::from_bytes))
    }

    pub(crate) fn set_committing(&self, run: Option<RunId>) -> Result<(), ClientError> {
        self.set_fact("committing", run.map(|run| run.as_bytes().to_vec()).unwrap_or_default())
    }

    /// Whether what an interrupted run stored is perhaps released by now.
    pub(crate) fn is_doubted(&self) -> Result<bool, ClientError> {
        Ok(self.fact("doubted")?.is_some_and(|value| value == [1]))
    }

    pub(crate) fn set_doubted(&self, doubted: bool) -> Result<(), ClientError> {
        self.set_fact("doubted", vec![doubted.into()])
    }

    /// The next release's sequence: the time, or more if the last one's was not less.
    pub(crate) fn next_release_sequence(&self) -> Result<u64, ClientError> {
        let last = self.fact("release_sequence")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        let last = last.map_or(0, u64::from_le_bytes);
        let next = UnixTime::now().secs().max(last.saturating_add(1));
        self.set_fact("release_sequence", next.to_le_bytes().to_vec())?;
        Ok(next)
    }

    /// The newest mandate's sequence that this machine knows of a move; 0 if there was none.
    pub(crate) fn mandate_base(&self) -> Result<u64, ClientError> {
        let bytes = self.fact("mandate_base")?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map_or(0, u64::from_le_bytes))
    }

    /// The most that storage may take, by the vault's mandates. A setting that was changed on this
    /// machine begins a new mandate; without one, what another device has set holds here, too.
    pub(crate) fn max_price(&self) -> Result<Option<Price>, ClientError> {
        let set = self.options.max_price;
        if set == self.price("price_set")? {
            return self.price("price_limit");
        }
        let sequence = UnixTime::now().secs().max(self.mandate_sequence()?.saturating_add(1));
        let mut batch = Batch::default();
        for name in ["price_set", "price_limit"] {
            batch.put(VAULT, name.as_bytes(), price_bytes(set));
        }
        batch.put(VAULT, *b"mandate_base", sequence.to_le_bytes());
        self.state.commit(&batch)?;
        Ok(set)
    }

    fn price(&self, name: &str) -> Result<Option<Price>, ClientError> {
        let bytes = self.fact(name)?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map(|bytes| Price::new(u64::from_le_bytes(bytes))))
    }

    /// Takes over the mandate that another device has given.
    pub(crate) fn take_mandate(&self, mandate: &Mandate) -> Result<(), ClientError> {
        let mut batch = Batch::default();
        batch.put(VAULT, *b"price_limit", price_bytes(mandate.max_price));
        batch.put(VAULT, *b"mandate_base", mandate.sequence.to_le_bytes());
        batch.put(VAULT, *b"mediator", mandate.mediator.as_bytes().to_vec());
        Ok(self.state.commit(&batch)?)
    }

    pub(crate) fn set_mandate_base(&self, sequence: u64) -> Result<(), ClientError> {
        self.set_fact("mandate_base", sequence.to_le_bytes().to_vec())
    }
}
