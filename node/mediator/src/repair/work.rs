//! What is to be repaired, the most endangered first.

use std::collections::BTreeSet;
use std::sync::Arc;

use fincrypt_protocol::record::Condition;
use fincrypt_protocol::{AccountId, NodeId, Refusal, SegmentId};

use super::Health;
use crate::MediatorRole;
use crate::records::SegmentRecord;
use fincrypt_net::blocking;
use fincrypt_upkeep::State;
use fincrypt_upkeep::danger::{Health as Danger, Repair};

/// The most segments of one round; the next round finds the others.
const MOST: usize = 4096;
/// Keys read at once.
const PAGE: usize = 1024;

/// A segment to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Job {
    /// One that cannot be rebuilt unless an absent keeper returns comes last.
    stuck: bool,
    /// Good shards above `k`.
    spare: i32,
    pub(super) account: AccountId,
    pub(super) segment: SegmentId,
}

/// The most endangered jobs seen.
#[derive(Default)]
struct Worst(BTreeSet<Job>);

impl Worst {
    /// Whether it is news.
    fn add(&mut self, job: Job) -> bool {
        let new = self.0.insert(job);
        if self.0.len() > MOST {
            self.0.pop_last();
        }
        new
    }
}

impl MediatorRole {
    /// Whether a node is to keep what it has: it is not gone, and does not leave or fail.
    pub(super) fn is_good(&self, node: &NodeId) -> bool {
        self.standings.state(node) < State::Absent && self.directory.condition(node) == Condition::Serving
    }

    /// How endangered a segment is: which of its shards have a good keeper.
    fn danger(&self, record: &SegmentRecord) -> Danger {
        let good = record.holders().filter(|(_, node)| self.is_good(node)).count();
        let code = record.manifest.code();
        Danger::new(code.data().into(), code.total().into(), u16::try_from(good).unwrap_or(u16::MAX))
    }

    /// Looks for what lacks a good keeper.
    pub(super) async fn find_work(self: &Arc<Self>) -> Result<Vec<Job>, Refusal> {
        let role = Arc::clone(self);
        blocking(move || {
            let (mut worst, mut health) = (Worst::default(), Health::default());
            let mut consider = |account: AccountId, segment: SegmentId| -> Result<(), Refusal> {
                // What is being stored, or is to be deleted, is not repaired.
                if role.open.contains(account, segment) || role.releases.due(&account, &segment)?.is_some() {
                    return Ok(());
                }
                let Some(record) = role.records.known(&account, &segment)? else { return Ok(()) };
                // Without enough keepers it never counted as stored: its owner comes again.
                if record.receipts().count() == 0 {
                    return Ok(());
                }
                let danger = role.danger(&record);
                let (spare, stuck) = (danger.margin(), danger.repair() == Repair::Stuck);
                health.least_spare = Some(health.least_spare.map_or(spare, |least| least.min(spare)));
                health.degraded += u64::from(worst.add(Job { stuck, spare, account, segment }));
                Ok(())
            };
            let mut after = None;
            loop {
                let page = role.records.lacking(after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(*last);
                page.iter().try_for_each(|(account, segment)| consider(*account, *segment))?;
            }
            for node in role.records.loads().into_keys().filter(|node| !role.is_good(node)) {
                let mut after: Vec<u8> = Vec::new();
                loop {
                    let page = role.records.held_by(&node, &after, PAGE)?;
                    let Some(last) = page.last() else { break };
                    after = last.rest();
                    page.iter().try_for_each(|held| consider(held.account, held.segment))?;
                }
            }
            role.set_health(health);
            Ok(worst.0.into_iter().collect())
        })
        .await
    }
}
