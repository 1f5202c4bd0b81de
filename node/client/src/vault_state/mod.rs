//! The durable state of a vault on this machine: one record, changed by named transitions only.
//!
//! ```text
//!        begin_commit              commit_succeeded (journal void, head seen)
//!  Idle ───────────────▶ Committing ──────────────────────────────────▶ Idle
//!                         │  │  └──── undo_commit ────────────────────▶ Idle
//!                         │  └─────── finish_commit (journal void) ───▶ Idle
//!                         │ follow: the catalog was rewritten, or everything released
//!                         ▼
//!                      Keeping ────── finish_commit ──────────────────▶ Idle
//! ```
//!
//! Each transition is one durable batch. What follows from it (an index to be emptied, journals to be
//! removed) is named in the record and carried out afterwards; after a crash in between, opening the
//! state carries it out. So a crash leaves the state before a transition or the state after it.
//!
//! Tables: `vault_state` (one entry, CBOR of the record, at most 64 KiB) and `found_runs` are durable;
//! those of [`cache`] are volatile.

mod cache;
mod error;
mod medium;
mod record;
#[cfg(test)]
mod tests;

use fincrypt_protocol::amount::Price;
use fincrypt_protocol::record::{Head, Mandate};
use fincrypt_protocol::{Manifest, NodeId, Rewound, RunId, SegmentId, Signed, UnixTime, Verified};
use fincrypt_state::kv::{Batch, KvError};
use fincrypt_state::table::{Everything, Table};
use fincrypt_vault::head::is_rewriting;
use fincrypt_vault::marks::Mark;
use fincrypt_vault::segment::Directory;
use parking_lot::Mutex;

use cache::{IndexCache, Stamp};
pub use error::VaultStateError;
use medium::Medium;
pub(crate) use medium::{HomeMedium, JournalKind};
use record::{AccountState, Record, VoidJournals};
pub(crate) use record::{IndexOrigin, RunState};

/// The record: a head of 4 KiB, a rewind of 8 KiB, 16 releases, and small things.
const RECORD: Table<(), Record> = Table::new("vault_state", 64 << 10);
/// Runs whose segments a rebuilt index has found: perhaps they were never kept.
const FOUND_RUNS: Table<RunId, ()> = Table::new("found_runs", 1);
/// Found runs written or read at once.
const FOUND_PAGE: usize = 256;

/// Outcome of following a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The index has everything that it had, and perhaps more.
    Grew,
    /// Another device has rewritten the catalog: what nothing used is not in the index any more.
    Rewritten,
    /// Everything known before is forgotten, because the head's writer has released it.
    Released,
}

/// An account that a recovery has found.
pub(crate) struct FoundAccount<'a> {
    pub(crate) index: u32,
    pub(crate) mandate: Option<&'a Mandate>,
    /// The head chosen and the releases that it names.
    pub(crate) head: Option<(&'a Verified<Head>, &'a [[u8; 32]])>,
    /// The newest rewind.
    pub(crate) rewound: Option<Rewound>,
}

/// The state of a vault.
pub(crate) struct VaultState<M: Medium> {
    medium: M,
    cache: IndexCache<M::Kv>,
    /// Held during a transition, which reads the record before it writes it.
    changing: Mutex<()>,
}

impl<M: Medium> VaultState<M> {
    /// Opens the state and carries out what the last transition decided.
    ///
    /// # Errors
    /// [`VaultStateError`] if the database fails or a journal cannot be removed.
    pub(crate) fn open(medium: M) -> Result<Self, VaultStateError> {
        let cache = IndexCache::new(medium.kv().clone());
        let state = Self { medium, cache, changing: Mutex::default() };
        state.carry_out(state.record()?)?;
        Ok(state)
    }

    fn record(&self) -> Result<Record, KvError> {
        Ok(RECORD.get(self.medium.kv(), &())?.unwrap_or_default())
    }

    fn commit(&self, record: &Record, mut batch: Batch) -> Result<(), KvError> {
        RECORD.put(&mut batch, &(), record)?;
        self.medium.commit(&batch)
    }

    /// Carries out what a record decides: it can be repeated, and may be cut off anywhere.
    fn carry_out(&self, mut record: Record) -> Result<Record, VaultStateError> {
        let old = self.cache.stamp()?;
        let stamp = Stamp { generation: record.index.generation, ..old };
        if old.generation != stamp.generation {
            self.cache.clear()?;
        }
        if old != stamp {
            self.cache.set_stamp(&stamp)?;
        }
        if record.void.backup {
            self.medium.remove_journal(JournalKind::Backup)?;
        }
        if record.void.prune {
            self.medium.remove_journal(JournalKind::Prune)?;
        }
        if record.void != VoidJournals::default() {
            record.void = VoidJournals::default();
            self.commit(&record, Batch::default())?;
        }
        Ok(record)
    }

    /// One transition: durable at once or not at all. `batch` becomes durable with it.
    fn change<T>(
        &self,
        batch: Batch,
        change: impl FnOnce(&mut Record) -> Result<T, VaultStateError>,
    ) -> Result<T, VaultStateError> {
        let _changing = self.changing.lock();
        // What an earlier transition could not carry out comes first.
        let before = self.carry_out(self.record()?)?;
        let mut record = before.clone();
        let value = change(&mut record)?;
        if record != before || !batch.is_empty() {
            self.commit(&record, batch)?;
            self.carry_out(record)?;
        }
        Ok(value)
    }

    fn set(&self, change: impl FnOnce(&mut Record)) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            change(record);
            Ok(())
        })
    }

    /// Forgets everything: the home of an earlier vault becomes another one's. No index that was
    /// written before counts, not even if the record was lost.
    pub(crate) fn reset(&self) -> Result<(), VaultStateError> {
        let mut batch = Batch::default();
        FOUND_RUNS.visit(self.medium.kv(), &Everything, |run, ()| {
            FOUND_RUNS.remove(&mut batch, &run);
            Ok::<_, KvError>(())
        })?;
        let stamped = self.cache.stamp()?;
        self.change(batch, |record| {
            let generation = record.index.generation.max(stamped.generation);
            let rebuilds = record.index.rebuilds.max(stamped.rebuilds);
            *record = Record::default();
            (record.index.generation, record.index.rebuilds) = (generation, rebuilds);
            record.forget_stored(&[]);
            Ok(())
        })
    }
}

/// The account and its mediator.
impl<M: Medium> VaultState<M> {
    fn account(&self) -> Result<AccountState, KvError> {
        Ok(self.record()?.account)
    }

    /// Index of the account in use; 0 for a new vault.
    pub(crate) fn account_index(&self) -> Result<u32, KvError> {
        Ok(self.account()?.index)
    }

    /// Chooses the account of a new vault.
    ///
    /// # Errors
    /// [`VaultStateError::AccountInUse`] if another account has a head already.
    pub(crate) fn choose_account(&self, index: u32) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if record.head.is_some() && record.account.index != index {
                return Err(VaultStateError::AccountInUse { used: record.account.index });
            }
            record.account.index = index;
            Ok(())
        })
    }

    /// Takes over an account that a recovery has found, with its head. Another account's head counts
    /// no longer.
    pub(crate) fn recover_account(&self, found: FoundAccount<'_>) -> Result<(), VaultStateError> {
        self.set(|record| {
            if record.account.index != found.index {
                record.head = None;
                record.account.rewound = None;
            }
            record.account.index = found.index;
            if let Some(mandate) = found.mandate {
                record.account.follow(mandate);
            }
            if let Some((head, releases)) = found.head {
                record.head = Some((head.sequence, head.signed().clone()));
                record.index.releases = releases.to_vec();
                if let Some(rewound) = found.rewound {
                    record.account.rewound = Some(rewound);
                }
            }
        })
    }

    /// The vault's mediator, once it has one.
    pub(crate) fn mediator(&self) -> Result<Option<NodeId>, KvError> {
        Ok(self.account()?.mediator)
    }

    /// Chooses the vault's first mediator.
    pub(crate) fn choose_mediator(&self, node: NodeId) -> Result<(), VaultStateError> {
        self.set(|record| record.account.mediator = Some(node))
    }

    /// The vault has moved to a mediator, under a mandate of this sequence.
    pub(crate) fn moved(&self, node: NodeId, sequence: u64) -> Result<(), VaultStateError> {
        self.set(|record| {
            record.account.mediator = Some(node);
            record.account.mandate_base = sequence;
        })
    }

    /// Follows a mandate that another device has given.
    pub(crate) fn follow_mandate(&self, mandate: &Mandate) -> Result<(), VaultStateError> {
        self.set(|record| record.account.follow(mandate))
    }

    /// Sequence of the newest mandate known of a move or a changed price; 0 if there was none.
    pub(crate) fn mandate_base(&self) -> Result<u64, KvError> {
        Ok(self.account()?.mandate_base)
    }

    /// The limit of the price in the vault's mandates, unless the configured one has changed since this
    /// machine last set it.
    pub(crate) fn price_limit(&self, configured: Option<Price>) -> Result<PriceLimit, KvError> {
        let account = self.account()?;
        if account.price_set == configured {
            return Ok(PriceLimit::Unchanged(account.price_limit));
        }
        Ok(PriceLimit::Changed)
    }

    /// Sets the limit of the price that mandates from this sequence on have.
    pub(crate) fn set_price_limit(&self, limit: Option<Price>, sequence: u64) -> Result<(), VaultStateError> {
        self.set(|record| {
            (record.account.price_set, record.account.price_limit) = (limit, limit);
            record.account.mandate_base = sequence;
        })
    }

    /// Reserves the sequence of the next release: the time, or more if the last one's was not less. No
    /// sequence is returned twice.
    pub(crate) fn reserve_release_sequence(&self, now: UnixTime) -> Result<u64, VaultStateError> {
        self.change(Batch::default(), |record| {
            let next = now.secs().max(record.account.release_sequence.saturating_add(1));
            record.account.release_sequence = next;
            Ok(next)
        })
    }

    /// The rewind under which this machine's head key is the vault's, if there was one.
    pub(crate) fn rewound(&self) -> Result<Option<Rewound>, KvError> {
        Ok(self.account()?.rewound)
    }
}

impl AccountState {
    fn follow(&mut self, mandate: &Mandate) {
        self.price_limit = mandate.max_price;
        self.mandate_base = mandate.sequence;
        self.mediator = Some(mandate.mediator);
    }
}

/// What is known of the limit of the price.
pub(crate) enum PriceLimit {
    /// The limit that holds.
    Unchanged(Option<Price>),
    /// The configured limit differs and has to be set.
    Changed,
}

fn see_head(record: &mut Record, head: &Verified<Head>) -> Result<(), VaultStateError> {
    if let Some((known, _)) = &record.head
        && head.sequence < *known
    {
        return Err(VaultStateError::OlderHead { found: head.sequence, known: *known });
    }
    record.head = Some((head.sequence, head.signed().clone()));
    Ok(())
}

/// Heads, and what they say of the index.
impl<M: Medium> VaultState<M> {
    /// The newest head this machine has seen.
    pub(crate) fn head(&self) -> Result<Option<Signed<Head>>, KvError> {
        Ok(self.record()?.head.map(|(_, head)| head))
    }

    /// Records a head that this machine has seen.
    ///
    /// # Errors
    /// [`VaultStateError::OlderHead`] if a newer one was seen before.
    pub(crate) fn saw_head(&self, head: &Verified<Head>) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| see_head(record, head))
    }

    /// Follows a head that names these releases: what they delete or leave out counts no longer.
    pub(crate) fn follow(&self, releases: &[[u8; 32]]) -> Result<Followed, VaultStateError> {
        self.change(Batch::default(), |record| {
            let known = &record.index.releases;
            let new: Vec<_> = releases.iter().filter(|release| !known.contains(release)).collect();
            if new.is_empty() {
                return Ok(Followed::Grew);
            }
            if !new.into_iter().all(is_rewriting) {
                record.forget_stored(releases);
                return Ok(Followed::Released);
            }
            // Segments of a head that was perhaps committed are perhaps pruned since.
            record.keep_unsettled();
            // Segments of a run that took very long were perhaps taken for orphans.
            if let RunState::Idle { recheck } = &mut record.run {
                *recheck = true;
            }
            record.void.prune = true;
            record.next_generation(releases);
            Ok(Followed::Rewritten)
        })
    }

    /// This machine has put a head that names these releases in the place of another, outside a run.
    ///
    /// # Errors
    /// [`VaultStateError::OlderHead`] if a newer one was seen before.
    pub(crate) fn replaced_head(
        &self,
        head: &Verified<Head>,
        releases: &[[u8; 32]],
    ) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            see_head(record, head)?;
            if releases.iter().all(|release| record.index.releases.contains(release)) {
                record.index.releases = releases.to_vec();
            } else {
                record.forget_stored(releases);
            }
            Ok(())
        })
    }

    /// This machine has rewritten the catalog: the index is empty now, to be filled from the new one.
    ///
    /// # Errors
    /// [`VaultStateError::OlderHead`] if a newer head was seen before, [`VaultStateError::Unsettled`] if
    /// a backup's commit is.
    pub(crate) fn catalog_rewritten(
        &self,
        head: &Verified<Head>,
        releases: &[[u8; 32]],
    ) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if let RunState::Committing { run } | RunState::Keeping { run } = record.run {
                return Err(VaultStateError::Unsettled { run });
            }
            see_head(record, head)?;
            // The rewriting may have released segments of an interrupted backup, which another device had
            // marked as orphans.
            record.run = RunState::Idle { recheck: true };
            record.void.prune = true;
            record.index.origin = IndexOrigin::Catalog;
            record.next_generation(releases);
            Ok(())
        })
    }

    /// Where the contents of the index come from.
    pub(crate) fn index_origin(&self) -> Result<IndexOrigin, KvError> {
        Ok(self.record()?.index.origin)
    }

    /// Whether the index that was read from the segments was lost since, with the database it was in.
    pub(crate) fn is_rebuild_due(&self) -> Result<bool, KvError> {
        let index = self.record()?.index;
        Ok(index.origin == IndexOrigin::Segments && self.cache.stamp()?.rebuilds != index.rebuilds)
    }

    /// The index was read from the segments, which are of these runs.
    pub(crate) fn index_rebuilt(&self, runs: &[RunId]) -> Result<(), VaultStateError> {
        let mut batch = Batch::default();
        for (at, run) in runs.iter().enumerate() {
            FOUND_RUNS.put(&mut batch, run, &())?;
            // To keep a run twice does no harm: pages before the last may be durable alone.
            if at % FOUND_PAGE == FOUND_PAGE - 1 {
                self.medium.commit(&std::mem::take(&mut batch))?;
            }
        }
        let rebuilds = self.change(batch, |record| {
            record.index.origin = IndexOrigin::Segments;
            record.index.rebuilds = record.index.rebuilds.saturating_add(1);
            Ok(record.index.rebuilds)
        })?;
        let stamp = self.cache.stamp()?;
        Ok(self.cache.set_stamp(&Stamp { rebuilds, ..stamp })?)
    }

    /// Some found runs that have to be kept before the next head; none if all are.
    pub(crate) fn found_runs(&self) -> Result<Vec<RunId>, KvError> {
        let runs = FOUND_RUNS.scan(self.medium.kv(), &Everything, None, FOUND_PAGE)?;
        Ok(runs.into_iter().map(|(run, ())| run).collect())
    }

    /// These found runs are kept.
    pub(crate) fn found_runs_kept(&self, runs: &[RunId]) -> Result<(), VaultStateError> {
        let mut batch = Batch::default();
        runs.iter().for_each(|run| FOUND_RUNS.remove(&mut batch, run));
        Ok(self.medium.commit(&batch)?)
    }

    /// Whether the contents of a catalog segment are in the index.
    pub(crate) fn is_loaded(&self, segment: &SegmentId) -> Result<bool, KvError> {
        self.cache.is_loaded(segment)
    }

    /// Segments that wait to be released, as the catalog lists them.
    pub(crate) fn tombstones(&self) -> Result<Vec<Mark>, KvError> {
        self.cache.tombstones()
    }

    /// Takes what the `loaded` catalog segments list into the index.
    pub(crate) fn take_in(
        &self,
        segments: &[(Manifest, Directory)],
        tombstones: &[Mark],
        loaded: &[SegmentId],
    ) -> Result<(), KvError> {
        self.cache.take_in(segments, tombstones, loaded)
    }
}

/// Commits of runs.
impl<M: Medium> VaultState<M> {
    /// Where the machine's runs stand.
    pub(crate) fn run(&self) -> Result<RunState, KvError> {
        Ok(self.record()?.run)
    }

    /// The interrupted run's journal was checked: it lists only what is stored.
    ///
    /// # Errors
    /// [`VaultStateError::Unsettled`] if a commit is.
    pub(crate) fn journal_checked(&self) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| match &mut record.run {
            RunState::Idle { recheck } => {
                *recheck = false;
                Ok(())
            }
            RunState::Committing { run } | RunState::Keeping { run } => {
                Err(VaultStateError::Unsettled { run: *run })
            }
        })
    }

    /// A head that refers to `run` is about to be sent.
    ///
    /// # Errors
    /// [`VaultStateError::Unsettled`] if a commit is, [`VaultStateError::Unchecked`] if the journal has
    /// to be checked first.
    pub(crate) fn begin_commit(&self, run: RunId) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| match record.run {
            RunState::Idle { recheck: false } => {
                record.run = RunState::Committing { run };
                Ok(())
            }
            RunState::Idle { recheck: true } => Err(VaultStateError::Unchecked),
            RunState::Committing { run } | RunState::Keeping { run } => {
                Err(VaultStateError::Unsettled { run })
            }
        })
    }

    /// The mediator did not take the head of `run`, or it is known not to have come to be: the run's
    /// journal still counts.
    ///
    /// # Errors
    /// [`VaultStateError::NotCommitting`].
    pub(crate) fn undo_commit(&self, run: RunId) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if record.run != (RunState::Committing { run }) {
                return Err(VaultStateError::NotCommitting { run });
            }
            record.run = RunState::Idle { recheck: false };
            Ok(())
        })
    }

    /// The mediator took the head of `run`, whose contents are in the index.
    ///
    /// # Errors
    /// [`VaultStateError::NotCommitting`]; [`VaultStateError::OlderHead`].
    pub(crate) fn commit_succeeded(&self, run: RunId, head: &Verified<Head>) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if record.run != (RunState::Committing { run }) {
                return Err(VaultStateError::NotCommitting { run });
            }
            see_head(record, head)?;
            record.run = RunState::Idle { recheck: false };
            record.void.backup = true;
            record.index.origin = IndexOrigin::Catalog;
            Ok(())
        })
    }

    /// A run that was perhaps committed is kept, and is not resumed.
    ///
    /// # Errors
    /// [`VaultStateError::NotCommitting`].
    pub(crate) fn finish_commit(&self, run: RunId) -> Result<(), VaultStateError> {
        self.change(Batch::default(), |record| {
            if record.run != (RunState::Committing { run }) && record.run != (RunState::Keeping { run }) {
                return Err(VaultStateError::NotCommitting { run });
            }
            record.run = RunState::Idle { recheck: false };
            record.void.backup = true;
            Ok(())
        })
    }
}
