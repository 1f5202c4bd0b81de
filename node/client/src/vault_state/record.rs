//! The durable record: everything about a vault that must be changed together.

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::Head;
use fincrypt_protocol::{NodeId, Rewound, RunId, Signed};
use serde::{Deserialize, Serialize};

/// Where the contents of the index come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum IndexOrigin {
    /// The catalog that the head refers to.
    #[default]
    Catalog,
    /// The directories of the segments themselves; the next backup writes the whole catalog.
    Segments,
}

/// What the index stands for. The index itself is volatile; see [`super::cache`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct IndexState {
    /// Raised each time the index has to be emptied. An index of an earlier generation counts for nothing.
    pub(super) generation: u64,
    pub(super) origin: IndexOrigin,
    /// How often the index was read from the segments.
    pub(super) rebuilds: u64,
    /// Hashes of the releases that the index takes into account.
    pub(super) releases: Vec<[u8; 32]>,
}

/// Where the machine's runs stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunState {
    /// No head is under way. The journal, if there is one, is of an interrupted run, which is resumed.
    Idle {
        /// Segments in that journal may have been released meanwhile: they are checked before the run
        /// is resumed.
        recheck: bool,
    },
    /// A head that refers to this run was sent to the mediator, and the outcome is not known.
    Committing {
        /// The run.
        run: RunId,
    },
    /// The run was perhaps committed and is not resumed. Its keep has to be repeated.
    Keeping {
        /// The run.
        run: RunId,
    },
}

impl Default for RunState {
    fn default() -> Self {
        Self::Idle { recheck: false }
    }
}

/// Journals that count for nothing any more and are about to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct VoidJournals {
    pub(super) backup: bool,
    pub(super) prune: bool,
}

/// The account in use, and its mediator.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct AccountState {
    pub(super) index: u32,
    pub(super) mediator: Option<NodeId>,
    /// Sequence of the newest mandate known of a move or a changed price; 0 if there was none.
    pub(super) mandate_base: u64,
    /// The price limit that was configured when `price_limit` was last set by this machine.
    pub(super) price_set: Option<Price>,
    /// The price limit of the mandates.
    pub(super) price_limit: Option<Price>,
    /// Sequence of the last release; 0 if there was none.
    pub(super) release_sequence: u64,
    /// The rewind under which this machine's head key is the vault's.
    pub(super) rewound: Option<Rewound>,
}

/// Everything durable but the list of found runs, which is a table of its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) account: AccountState,
    /// The newest head seen, and its sequence.
    pub(super) head: Option<(u64, Signed<Head>)>,
    pub(super) index: IndexState,
    pub(super) run: RunState,
    pub(super) void: VoidJournals,
}

impl Record {
    /// Empties the index for a head that names these releases.
    pub(super) fn next_generation(&mut self, releases: &[[u8; 32]]) {
        self.index.generation = self.index.generation.saturating_add(1);
        self.index.releases = releases.to_vec();
    }

    /// A run that was perhaps committed is kept and not resumed.
    pub(super) fn keep_unsettled(&mut self) {
        if let RunState::Committing { run } = self.run {
            self.run = RunState::Keeping { run };
            self.void.backup = true;
        }
    }

    /// Nothing counts as stored any more: a release deletes it.
    pub(super) fn forget_stored(&mut self, releases: &[[u8; 32]]) {
        self.keep_unsettled();
        if let RunState::Idle { recheck } = &mut self.run {
            *recheck = false;
        }
        self.void = VoidJournals { backup: true, prune: true };
        self.index.origin = IndexOrigin::Catalog;
        self.next_generation(releases);
    }
}
