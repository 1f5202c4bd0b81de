//! The repair queue, by priority: segments with the fewest good shards above `k` first.

use std::collections::BTreeSet;
use std::sync::Arc;

use fincrypt_protocol::{AccountId, SegmentId};

use super::{Health, Soundness};
use crate::error::{StoreError, blocking};
use crate::stores::{HeldShards, SegmentRecord, SegmentStore};
use crate::upload::OpenSegments;
use fincrypt_accounts::releases::Releases;
use fincrypt_upkeep::repair_priority::{RepairPriority, Urgency};

/// The most segments of one round; the next round finds the others.
const MOST: usize = 4096;
/// Keys read at once.
const PAGE: usize = 1024;

/// A segment to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Job {
    /// One that cannot be rebuilt unless an absent holder returns comes last.
    stuck: bool,
    /// Good shards above `k`.
    spare: i32,
    pub(super) account: AccountId,
    pub(super) segment: SegmentId,
}

/// The most urgent jobs seen.
#[derive(Default)]
struct Worst(BTreeSet<Job>);

impl Worst {
    /// Adds a job; whether it is new.
    fn add(&mut self, job: Job) -> bool {
        let new = self.0.insert(job);
        if self.0.len() > MOST {
            self.0.pop_last();
        }
        new
    }
}

/// Finds the segments to be repaired in the records. Cheap to clone.
#[derive(Clone)]
pub(super) struct WorkFinder {
    pub(super) segments: SegmentStore,
    pub(super) held: HeldShards,
    pub(super) releases: Arc<Releases>,
    pub(super) soundness: Soundness,
    pub(super) open: OpenSegments,
}

impl WorkFinder {
    /// The priority of a segment: which of its shards have a good holder.
    fn priority(&self, record: &SegmentRecord) -> RepairPriority {
        let good = record.holders().filter(|(_, node)| self.soundness.is_good(node)).count();
        let code = record.manifest.code();
        let good = u16::try_from(good).unwrap_or(u16::MAX);
        RepairPriority::new(code.data().into(), code.total().into(), good)
    }

    /// The segments that lack a good holder for some shard, at most 4096, and the health of all.
    pub(super) async fn find(&self) -> Result<(Vec<Job>, Health), StoreError> {
        let this = self.clone();
        blocking(move || {
            let (mut worst, mut health) = (Worst::default(), Health::default());
            let mut consider = |account: AccountId, segment: SegmentId| -> Result<(), StoreError> {
                // What is being stored, or is to be deleted, is not repaired.
                if this.open.contains(account, segment) || this.releases.due(&account, &segment)?.is_some() {
                    return Ok(());
                }
                let Some(record) = this.segments.get(&account, &segment)? else { return Ok(()) };
                // Without enough holders it never counted as stored: its owner comes again.
                if record.receipts().count() == 0 {
                    return Ok(());
                }
                let priority = this.priority(&record);
                let (spare, stuck) = (priority.margin(), priority.urgency() == Urgency::Stuck);
                health.least_spare = Some(health.least_spare.map_or(spare, |least| least.min(spare)));
                health.degraded += u64::from(worst.add(Job { stuck, spare, account, segment }));
                Ok(())
            };
            let mut after = None;
            loop {
                let page = this.segments.lacking(after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(*last);
                page.iter().try_for_each(|(account, segment)| consider(*account, *segment))?;
            }
            for node in this.held.loads().into_keys().filter(|node| !this.soundness.is_good(node)) {
                let mut after = None;
                loop {
                    let page = this.held.of(&node, after.as_ref(), PAGE)?;
                    let Some(last) = page.last() else { break };
                    after = Some(*last);
                    page.iter().try_for_each(|held| consider(held.account, held.segment))?;
                }
            }
            Ok((worst.0.into_iter().collect(), health))
        })
        .await
    }
}
