//! What this machine itself found out about its shards, durably: when a segment's shards were last
//! proved, which were found bad and where, and when the last check was.
//!
//! Tree `shard_checks`: segment id → CBOR of [`Seen`], at most 4 KiB. Tree `checks`: `last` and
//! `mediator` → u64le seconds since 1970, the latter lost in a crash without harm. Tree
//! `test_restores`: snapshot id → u64le seconds since 1970.

use std::collections::BTreeMap;
use std::time::Duration;

use fincrypt_protocol::{NodeId, SegmentId, ShardIndex, UnixTime, cbor};
use fincrypt_state::kv::{Batch, KeyValue, KvError, Tree};
use fincrypt_state::state::State;
use fincrypt_vault::snapshot::SnapshotId;
use serde::{Deserialize, Serialize};

use super::{Finding, Outcome};

const SHARD_CHECKS: Tree = Tree("shard_checks");
const CHECKS: Tree = Tree("checks");
const LAST: &[u8] = b"last";
const MEDIATOR: &[u8] = b"mediator";
const TEST_RESTORES: Tree = Tree("test_restores");
/// The most bytes of a note: 30 bad shards take about 1.2 KiB.
const MAX_SEEN: usize = 4 << 10;

/// What is known of one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// When a shard of it was last proved, in seconds since 1970; 0 if none was.
    pub(crate) proved: u64,
    /// Shards found bad and not proved since, and the nodes that should have had them.
    pub(crate) bad: Vec<(ShardIndex, Option<NodeId>)>,
}

impl Seen {
    fn take_in(&mut self, finding: &Finding, now: UnixTime) {
        let same = (finding.shard.index, finding.node);
        match finding.outcome {
            Outcome::Unreachable => return,
            Outcome::Proved => self.proved = now.secs(),
            _ => {}
        }
        self.bad.retain(|bad| *bad != same && !(finding.outcome == Outcome::Proved && bad.0 == same.0));
        if finding.outcome.is_bad() {
            self.bad.push(same);
            // Older nodes of a shard that was moved matter least.
            let most = fincrypt_protocol::limits::MAX_SHARDS;
            self.bad.drain(..self.bad.len().saturating_sub(most));
        }
    }

    /// Whether a shard was found bad at this node when it was last asked.
    pub(crate) fn is_bad(&self, index: ShardIndex, node: NodeId) -> bool {
        self.bad.contains(&(index, Some(node)))
    }
}

/// The notes of one vault.
#[derive(Clone)]
pub(crate) struct Notes(State);

impl Notes {
    pub(crate) fn new(state: State) -> Self {
        Self(state)
    }

    /// What is known of a segment.
    pub(crate) fn seen(&self, segment: &SegmentId) -> Result<Seen, KvError> {
        let bytes = self.0.get(SHARD_CHECKS, segment.as_bytes())?;
        // A note that cannot be read is worth no more than none.
        Ok(bytes.and_then(|bytes| cbor::decode(&bytes, MAX_SEEN).ok()).unwrap_or_default())
    }

    /// Takes in what was found; `regular` if that was a check of the kind that is due every week.
    pub(crate) fn note(&self, findings: &[Finding], regular: bool) -> Result<(), KvError> {
        let now = UnixTime::now();
        let mut changed: BTreeMap<SegmentId, Seen> = BTreeMap::new();
        for finding in findings {
            let segment = finding.shard.segment;
            let seen = match changed.entry(segment) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => new.insert(self.seen(&segment)?),
            };
            seen.take_in(finding, now);
        }
        let mut batch = Batch::default();
        for (segment, seen) in changed {
            let bytes = cbor::encode(&seen).map_err(|_| KvError::Corrupt { tree: SHARD_CHECKS.0 })?;
            batch.put(SHARD_CHECKS, *segment.as_bytes(), bytes);
        }
        if regular {
            batch.put(CHECKS, LAST, now.secs().to_le_bytes());
        }
        if batch.is_empty() { Ok(()) } else { self.0.commit(&batch) }
    }

    fn time(&self, tree: Tree, key: &[u8]) -> Result<Option<UnixTime>, KvError> {
        let bytes = self.0.get(tree, key)?.and_then(|bytes| bytes.as_slice().try_into().ok());
        Ok(bytes.map(|bytes| UnixTime::from_secs(u64::from_le_bytes(bytes))))
    }

    /// When the last regular check was.
    pub(crate) fn last(&self) -> Result<Option<UnixTime>, KvError> {
        self.time(CHECKS, LAST)
    }

    /// Notes that the mediator has let this machine in.
    pub(crate) fn saw_mediator(&self) -> Result<(), KvError> {
        let mut batch = Batch::default();
        batch.put(CHECKS, MEDIATOR, UnixTime::now().secs().to_le_bytes());
        self.0.commit(&batch)
    }

    /// When the mediator last let this machine in.
    pub(crate) fn mediator_seen(&self) -> Result<Option<UnixTime>, KvError> {
        self.time(CHECKS, MEDIATOR)
    }

    /// Notes that all of a snapshot was restored.
    pub(crate) fn note_restore(&self, snapshot: &SnapshotId) -> Result<(), KvError> {
        let mut batch = Batch::default();
        batch.put(TEST_RESTORES, *snapshot.blob().as_bytes(), UnixTime::now().secs().to_le_bytes());
        self.0.commit(&batch)
    }

    /// When all of a snapshot was last restored.
    pub(crate) fn restored(&self, snapshot: &SnapshotId) -> Result<Option<UnixTime>, KvError> {
        self.time(TEST_RESTORES, snapshot.blob().as_bytes())
    }

    /// How long until the next check is due. A clock that was set back makes it due at once.
    pub(crate) fn due_in(&self, interval: Duration) -> Result<Duration, KvError> {
        let now = UnixTime::now();
        Ok(match self.last()? {
            Some(last) if last <= now => interval.saturating_sub(now.since(last)),
            _ => Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_check::Shard;

    #[test]
    fn notes_survive_a_restart_and_a_proof_clears_what_was_found_bad() {
        let dir = tempfile::tempdir().expect("a folder");
        let (segment, index) = (SegmentId::from_bytes([1; 32]), ShardIndex::new(3).expect("valid"));
        let (one, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let finding = |node, outcome| Finding { shard: Shard { segment, index }, node: Some(node), outcome };
        let open = || Notes::new(State::open(dir.path()).expect("opens").0);
        let week = Duration::from_secs(7 * 24 * 3600);
        assert_eq!(open().due_in(week).expect("reads"), Duration::ZERO, "never checked");
        open().note(&[finding(one, Outcome::Missing)], true).expect("noted");
        let notes = open();
        let seen = notes.seen(&segment).expect("reads");
        assert!(seen.is_bad(index, one) && !seen.is_bad(index, other) && seen.proved == 0);
        assert!(notes.due_in(week).expect("reads") > week - Duration::from_secs(60));
        // Silence says nothing; a proof, even by another node, does.
        notes.note(&[finding(one, Outcome::Unreachable)], false).expect("noted");
        assert!(notes.seen(&segment).expect("reads").is_bad(index, one));
        notes.note(&[finding(other, Outcome::Proved)], false).expect("noted");
        let seen = notes.seen(&segment).expect("reads");
        assert!(seen.bad.is_empty() && seen.proved > 0);
        for node in 0..200 {
            let node = NodeId::from_bytes([node; 32]);
            notes.note(&[finding(node, Outcome::Wrong)], false).expect("noted");
        }
        assert_eq!(notes.seen(&segment).expect("reads").bad.len(), fincrypt_protocol::limits::MAX_SHARDS);
    }
}
