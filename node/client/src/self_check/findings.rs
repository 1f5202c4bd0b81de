//! What a check found, as it is shown and as it is remembered.

use fincrypt_net::peer_of;
use fincrypt_protocol::{NodeId, SegmentId, ShardIndex};
use serde::Serialize;

use fincrypt_shards::answer::ProofVerdict;

/// One shard that a node is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard {
    pub(crate) segment: SegmentId,
    pub(crate) index: ShardIndex,
}

/// What asking for one shard came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The node has it.
    Proved,
    /// What came is not what the client computed.
    Wrong,
    /// The node says that it does not have it, or nobody is said to have it.
    Missing,
    /// The node says that it cannot read it any more.
    Damaged,
    /// The node gave no answer: nothing is known.
    Unreachable,
}

impl From<ProofVerdict> for Outcome {
    fn from(verdict: ProofVerdict) -> Self {
        match verdict {
            ProofVerdict::Proved => Self::Proved,
            ProofVerdict::Wrong => Self::Wrong,
            ProofVerdict::Missing => Self::Missing,
            ProofVerdict::Damaged => Self::Damaged,
        }
    }
}

impl Outcome {
    /// Whether the shard is not there, as far as this answer tells.
    pub(crate) fn is_bad(self) -> bool {
        matches!(self, Self::Wrong | Self::Missing | Self::Damaged)
    }
}

/// One shard, who was asked for it, and what that came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finding {
    pub(crate) shard: Shard,
    pub(crate) node: Option<NodeId>,
    pub(crate) outcome: Outcome,
}

/// A shard that is not where it should be, or not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadShard {
    /// The segment.
    pub segment: String,
    /// The shard's position.
    pub index: u8,
    /// The node that should have it, as its key; none if nobody is said to have it.
    pub node: Option<String>,
    /// The same node as a peer id.
    pub peer: Option<String>,
}

impl BadShard {
    fn new(finding: &Finding) -> Self {
        let peer = finding.node.and_then(|node| peer_of(&node).ok());
        Self {
            segment: finding.shard.segment.to_string(),
            index: finding.shard.index.into(),
            node: finding.node.map(|node| node.to_string()),
            peer: peer.map(|peer| peer.to_string()),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// Segments looked at.
    pub segments: usize,
    /// Shards looked at.
    pub shards: usize,
    /// Shards that are there, and right.
    pub good: usize,
    /// Shards that the node says it does not have, or that nobody is said to have.
    pub missing: Vec<BadShard>,
    /// Shards that are altered.
    pub wrong: Vec<BadShard>,
    /// Shards that the node says it cannot read any more.
    pub damaged: Vec<BadShard>,
    /// Shards whose nodes gave no answer.
    pub unreachable: Vec<BadShard>,
}

impl CheckReport {
    pub(crate) fn new(findings: &[Finding]) -> Self {
        let segments: std::collections::BTreeSet<SegmentId> =
            findings.iter().map(|finding| finding.shard.segment).collect();
        let mut report = Self { segments: segments.len(), shards: findings.len(), ..Self::default() };
        for finding in findings {
            let list = match finding.outcome {
                Outcome::Proved => {
                    report.good += 1;
                    continue;
                }
                Outcome::Wrong => &mut report.wrong,
                Outcome::Missing => &mut report.missing,
                Outcome::Damaged => &mut report.damaged,
                Outcome::Unreachable => &mut report.unreachable,
            };
            list.push(BadShard::new(finding));
        }
        report
    }

    /// Shards that are not good, with what is wrong with them.
    pub fn problems(&self) -> impl Iterator<Item = (&'static str, &BadShard)> {
        let lists = [
            ("missing", &self.missing),
            ("wrong", &self.wrong),
            ("damaged", &self.damaged),
            ("unreachable", &self.unreachable),
        ];
        lists.into_iter().flat_map(|(what, list)| list.iter().map(move |shard| (what, shard)))
    }
}
