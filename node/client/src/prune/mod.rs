//! Giving back room: two phases, and no lock.
//!
//! The first writes the catalog anew without what no snapshot uses, packs what is left of little-used
//! segments together, and marks the segments of which nothing counts any more. The head that names
//! the new catalog is compared and swapped: a device that writes at the same time finds that the
//! catalog was rewritten, makes its index anew and stores again what it missed. So nothing can begin
//! to count on a marked segment. The second, in a later run, releases segments that were marked long
//! enough ago; storage delays that once more, and the words undo it.
//!
//! The releases are signed after a head that says which: a crash in between leaves them marked, and
//! the next prune signs them. Once no holder has a segment, its mark goes.

mod marked;
mod orphans;
mod plan;
mod repack;
mod used;

use std::collections::HashSet;
use std::sync::Arc;

use fincrypt_protocol::{Manifest, SegmentId, UnixTime};
use fincrypt_vault::blob::BlobId;
use fincrypt_vault::head::{CatalogRef, HeadBody, rewriting};
use fincrypt_vault::index::BlobIndex;
use fincrypt_vault::lists::LIST;
use fincrypt_vault::marks::Mark;
use serde::Serialize;

use super::catalog_reader::{Pieces, whole_catalog};
use super::commit::{Run, mark_of};
use super::error::ClientError;
use super::fetch::Fetcher;
use super::head::{HeadError, OpenHead, follow, settle};
use super::home::HomeError;
use super::index_maker::Listed;
use super::mandates;
use super::mediator_client::MediatorClient;
use super::reader::ReadError;
use super::run_journal::RunJournal;
use super::session::{Session, with_vault};
use super::statements::keep;
use super::vault::Vault;
use plan::{Limits, Plan, Segment, stored_bytes};

/// Times the catalog is written anew over another device's head before giving up.
const TRIES: usize = 8;

/// How a prune goes about it.
#[derive(Debug, Clone, Copy)]
pub struct PruneOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Unused bytes that may stay, in permille of the used ones.
    pub max_unused: u64,
    /// Used bytes that are packed anew at most.
    pub max_repack: u64,
    /// Release what is marked at once, however short ago that was.
    pub now: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { dry_run: false, max_unused: 50, max_repack: u64::MAX, now: false }
    }
}

/// What a prune did, or would do.
#[derive(Debug, Default, Serialize)]
pub struct PruneReport {
    /// Segments that stay.
    pub kept: usize,
    /// Blobs packed anew.
    pub repacked: usize,
    /// Their stored bytes.
    pub bytes_repacked: u64,
    /// Segments marked, to be released by a later run.
    pub marked: usize,
    /// Bytes that their shards take.
    pub bytes_marked: u64,
    /// Segments marked before, and not long enough ago.
    pub waiting: usize,
    /// Bytes that their shards take.
    pub bytes_waiting: u64,
    /// Segments released, to be deleted by storage after its delay.
    pub released: usize,
    /// Bytes that their shards take.
    pub bytes_released: u64,
    /// Segments found at the holders that nothing names. They are marked with the others, unless
    /// that is not worth a new catalog.
    pub orphans: usize,
    /// Bytes that their shards take.
    pub bytes_orphans: u64,
    /// Whether releases are refused, because an undo forbids them.
    pub guarded: bool,
}

/// What the catalog is written anew for.
pub(super) struct Task {
    /// Snapshots to leave out.
    pub(super) forget: HashSet<BlobId>,
    /// Whether what no snapshot uses goes, too; how.
    pub(super) prune: Option<PruneOptions>,
}

/// Gives back the room of what no snapshot uses.
///
/// # Errors
/// [`ClientError`] if the trees of all snapshots cannot be read, or the mediator refuses.
pub async fn prune(vault: &Vault, options: PruneOptions) -> Result<PruneReport, ClientError> {
    let task = Task { forget: HashSet::new(), prune: Some(options) };
    with_vault(vault, async |session| rewrite(session, vault, &task).await).await
}

/// Packs small segments together if there are many; how many.
pub(super) async fn merge_small(session: &Session, vault: &Vault) -> Result<usize, ClientError> {
    if !plan::merge_is_due(vault.index.manifests()?.iter()) {
        return Ok(0);
    }
    let report = rewrite(session, vault, &Task { forget: HashSet::new(), prune: None }).await?;
    Ok(report.marked)
}

fn mark(manifest: &Manifest) -> Mark {
    Mark { segment: manifest.id(), time: UnixTime::now(), bytes: stored_bytes(manifest) }
}

fn sum(marks: &[Mark]) -> u64 {
    marks.iter().map(|mark| mark.bytes).sum()
}

/// Whether releasing these is worth a new catalog, of which the old one is marked in turn.
fn is_worth_it(due: &[Mark], catalog: &[CatalogRef]) -> bool {
    sum(due) > 2 * catalog.iter().map(|reference| mark_of(reference).bytes).sum::<u64>()
}

/// Writes the catalog anew, over whatever other devices make of it meanwhile.
pub(super) async fn rewrite(
    session: &Session,
    vault: &Vault,
    task: &Task,
) -> Result<PruneReport, ClientError> {
    let mediator = session.mediator(vault).await?;
    for _ in 0..TRIES {
        let fetcher = vault.fetcher(&session.net, Some(mediator.clone()))?;
        let Some(head) = vault.current_head(&mediator).await? else { return Ok(PruneReport::default()) };
        follow(vault, &fetcher, &head).await?;
        settle(vault, &mediator).await?;
        let report = Rewriting { vault, mediator: &mediator, fetcher, head, task }.run().await?;
        if let Some(report) = report {
            return Ok(report);
        }
    }
    Err(HeadError::Contended.into())
}

/// One try.
struct Rewriting<'a> {
    vault: &'a Vault,
    mediator: &'a MediatorClient,
    fetcher: Arc<Fetcher>,
    head: OpenHead,
    task: &'a Task,
}

impl Rewriting<'_> {
    /// None if another device's head came first.
    async fn run(self) -> Result<Option<PruneReport>, ClientError> {
        let vault = self.vault;
        let code = self.mediator.quote(vault.options.redundancy, mandates::max_price(vault)?).await?.code;
        let dry_run = self.task.prune.is_some_and(|options| options.dry_run);
        let interrupted = self.interrupted()?;
        let mut journal = if dry_run { None } else { Some(self.journal()?) };
        let segments = self.segments(journal.as_ref())?;
        let used = match self.task.prune {
            Some(_) => used::used_blobs(vault, &self.fetcher, &self.task.forget).await?,
            None => plan::everything(&segments, &self.task.forget),
        };
        let limits = Limits {
            max_unused: self.task.prune.map(|options| options.max_unused),
            max_repack: self.task.prune.map_or(0, |options| options.max_repack),
            code,
            redundancy: vault.options.redundancy,
        };
        let plan = plan::plan(&segments, &used, &limits).map_err(ReadError::damaged)?;
        let catalog = whole_catalog(vault, &self.fetcher, &self.head.body.refs).await?;
        let listed = segments.iter().map(|segment| segment.manifest.id());
        let listed = listed.chain(catalog.iter().map(|reference| reference.segment)).collect();
        let (marked, orphans) = self.marked(&listed, &interrupted).await?;
        let mut report = PruneReport {
            kept: plan.keep.len(),
            repacked: plan.repack.len(),
            bytes_repacked: plan.moved,
            marked: plan.release.len(),
            bytes_marked: plan.release.iter().map(stored_bytes).sum(),
            waiting: marked.waiting.len(),
            bytes_waiting: sum(&marked.waiting),
            orphans: orphans.len(),
            bytes_orphans: sum(&orphans),
            ..PruneReport::default()
        };
        if plan.is_empty() && !is_worth_it(&[&*marked.due, &orphans].concat(), &catalog) {
            // What was stored before and is not needed after all lapses by itself.
            (report.waiting, report.bytes_waiting) =
                (report.waiting + marked.due.len(), report.bytes_waiting + sum(&marked.due));
            if let Some(journal) = journal {
                journal.finish(&vault.home.prune_journal())?;
            }
            return Ok(Some(report));
        }
        (report.released, report.bytes_released) = (marked.due.len(), sum(&marked.due));
        let Some(mut journal) = journal.take() else { return Ok(Some(report)) };
        let mut marks = [marked.waiting, marked.released, orphans].concat();
        marks.extend(marked.due.iter().map(|mark| mark.doomed()));
        if !self.write(plan, marks, &catalog, code, &mut journal).await? {
            return Ok(None);
        }
        // The state has removed it.
        drop(journal);
        if !self.release(&marked.due).await? {
            (report.released, report.bytes_released, report.guarded) = (0, 0, true);
        }
        Ok(Some(report))
    }

    /// Segments that interrupted runs of this machine stored: the next ones go on from them.
    fn interrupted(&self) -> Result<HashSet<SegmentId>, ClientError> {
        let (home, now) = (&self.vault.home, UnixTime::now());
        let account = self.vault.keys.root.account(self.vault.slot()?).account();
        let mut segments = HashSet::new();
        for path in [home.run_journal(), home.prune_journal()] {
            segments.extend(RunJournal::noted(&path, &account, now)?);
        }
        Ok(segments)
    }

    fn journal(&self) -> Result<RunJournal, HomeError> {
        let account = self.vault.keys.root.account(self.vault.slot()?).account();
        let pending = BlobIndex::pending(self.vault.state.clone());
        RunJournal::open(&self.vault.home.prune_journal(), &account, UnixTime::now(), &pending)
    }

    /// All segments: those of the index, and those that this prune stored before it was interrupted.
    fn segments(&self, journal: Option<&RunJournal>) -> Result<Vec<Segment>, ClientError> {
        let mut known = HashSet::new();
        let mut segments = Vec::new();
        for (manifest, directory) in self.vault.index.segments()? {
            known.insert(manifest.id());
            segments.push(Segment { manifest, directory, fresh: false });
        }
        // Of these, nothing is left.
        for manifest in self.vault.index.manifests()? {
            if known.insert(manifest.id()) {
                segments.push(Segment { manifest, directory: Default::default(), fresh: false });
            }
        }
        if let Some(journal) = journal {
            let read = journal.segments().read(|manifest, directory| {
                if known.insert(manifest.id()) {
                    let (manifest, directory) = (manifest.clone(), directory.clone());
                    segments.push(Segment { manifest, directory, fresh: true });
                }
                Ok::<(), fincrypt_state::journal::JournalError>(())
            });
            read.map_err(ReadError::damaged)?;
        }
        Ok(segments)
    }

    /// Packs anew what is to be, writes the catalog, and commits both; false if another device's head
    /// came first.
    async fn write(
        &self,
        plan: Plan,
        mut marks: Vec<Mark>,
        catalog: &[CatalogRef],
        code: fincrypt_protocol::Code,
        journal: &mut RunJournal,
    ) -> Result<bool, ClientError> {
        let (vault, mediator) = (self.vault, self.mediator.clone());
        let mut run = Run::new(vault, mediator, Arc::clone(&self.fetcher), code, journal)?;
        let mut segments = plan.keep;
        segments.extend(repack::repack(&mut run, plan.repack, journal).await?);
        marks.extend(plan.release.iter().map(mark));
        marks.extend(catalog.iter().map(mark_of));
        if let Some((_, stored)) = journal.abandoned.take() {
            // A prune of long ago, which was never committed: its segments may be there for good.
            let known: HashSet<_> = segments.iter().map(|(manifest, _)| manifest.id()).collect();
            let known: HashSet<_> = known.into_iter().chain(marks.iter().map(|mark| mark.segment)).collect();
            let lost = stored.into_iter().filter(|segment| !known.contains(segment));
            marks.extend(lost.map(|segment| Mark { segment, time: UnixTime::now(), bytes: 0 }));
        }
        let pieces = Pieces { segments, marks, lists: Vec::new() };
        // Not the lowest level: the next runs' pieces merge among themselves first.
        let levels = catalog.iter().map(|reference| reference.level).filter(|level| *level != LIST);
        let level = levels.max().unwrap_or(0).max(1);
        let refs = run.store_index(Listed::Pieces(pieces.clone()), level).await?;
        let refs = run.list(refs).await?;
        // Before the head: what it refers to must not lapse, whatever happens here.
        self.mediator.keep(keep(vault, journal.run)?).await?;
        run.keep_found().await?;
        let HeadBody { slots, releases, .. } = self.head.body.clone();
        let mut body = HeadBody { refs, slots, time: UnixTime::now(), releases };
        body.name_release(rewriting()?);
        let head = vault.next_head(Some(&self.head), &body)?;
        if !self.mediator.swap_head(Some(self.head.hash()), head.clone()).await? {
            return Ok(false);
        }
        // The head is committed: what follows only makes it known. An index that is cut off half-made
        // is filled from the new catalog.
        let head = vault.open_head(vault.slot()?, &head)?;
        vault.lifecycle.catalog_rewritten(&head.head, &body.releases)?;
        let loaded = body.refs.iter().map(|reference| reference.segment).chain(run.listed);
        vault.lifecycle.cache().take_in(&pieces.segments, &pieces.marks, &loaded.collect::<Vec<_>>())?;
        Ok(true)
    }
}
