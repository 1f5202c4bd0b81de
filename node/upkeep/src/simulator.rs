//! A network of storage nodes under the rules of this module, in epochs of an hour, from a seed.
//!
//! Nodes fail for good (and are replaced by new ones), reboot weekly, have outages of 12 hours, lose
//! packets, lie, and fail with their whole address group. The mediator sees only what audits show it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::repair_priority::{self, RepairPriority, Urgency};
use super::{AuditOutcome, Epoch, NodeState, ProofCounts, Reputation, Rules, probation, sample};

const EPOCH: Duration = Duration::from_secs(3_600);
const YEAR: f64 = 8_760.0;

/// The network that is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Seeds everything random.
    pub seed: u64,
    /// Storage nodes, at least twice `total`.
    pub nodes: usize,
    /// Address groups they are spread over.
    pub groups: usize,
    /// Segments.
    pub segments: usize,
    /// `k`.
    pub data: u16,
    /// `n`.
    pub total: u16,
    /// Bytes of a shard.
    pub shard_len: u64,
    /// Hours.
    pub epochs: u64,
    /// Share of nodes that fail for good in a year.
    pub failures: f64,
    /// Share of groups that fail for good, all nodes at once, in a year.
    pub group_failures: f64,
    /// One node in this many lies; 0: none.
    pub liars: usize,
    /// The share of its shards that a liar drops.
    pub dropped: f64,
    /// Share of challenges that time out.
    pub packet_loss: f64,
    /// Outages of 12 hours per node and year.
    pub outages: f64,
    /// Bytes that routine repairs may move in an epoch.
    pub repair_limit: u64,
}

/// The outcome of a simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Segments of which fewer than `k` shards were left.
    pub lost: usize,
    /// Bytes moved by repairs.
    pub repaired: u64,
    /// Bytes of challenges and their answers.
    pub audited: u64,
    /// Honest nodes that were given up though they had not failed.
    pub wronged: usize,
    /// Dropped shards that were found.
    pub caught: usize,
}

/// A seeded generator (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn chance(&mut self, odds: f64) -> bool {
        ((self.next() >> 11) as f64) < odds * (1u64 << 53) as f64
    }
}

struct Node {
    group: usize,
    gone: bool,
    down_until: u64,
    liar: bool,
    reputation: Reputation,
    state: NodeState,
    holds: Vec<(usize, usize)>,
    dropped: usize,
}

/// The placement of one shard of a segment, and whether its holder really has it.
#[derive(Clone, Copy)]
struct Placement {
    node: Option<usize>,
    kept: bool,
}

struct Network {
    setup: Setup,
    random: Random,
    rules: Rules,
    nodes: Vec<Node>,
    segments: Vec<Vec<Placement>>,
    lacking: BTreeSet<usize>,
    ended: BTreeSet<usize>,
    outcome: Outcome,
}

/// Runs a simulation.
#[must_use]
pub fn run(setup: Setup) -> Outcome {
    let mut network = Network::new(setup);
    for now in 1..=setup.epochs {
        network.break_things(now);
        for node in 0..network.nodes.len() {
            network.audit(node, now);
        }
        network.repair(now);
    }
    network.outcome.lost = network.ended.len();
    network.outcome
}

impl Network {
    fn new(setup: Setup) -> Self {
        let empty = vec![Placement { node: None, kept: false }; usize::from(setup.total)];
        let mut network = Self {
            random: Random(setup.seed),
            rules: Rules::default(),
            nodes: Vec::new(),
            segments: vec![empty; setup.segments],
            lacking: BTreeSet::new(),
            ended: BTreeSet::new(),
            outcome: Outcome::default(),
            setup,
        };
        for index in 0..setup.nodes {
            let liar = setup.liars > 0 && index % setup.liars == 0;
            network.join(index % setup.groups.max(1), liar, 0);
        }
        for segment in 0..setup.segments {
            network.fill(segment, 0, true);
        }
        network
    }

    fn join(&mut self, group: usize, liar: bool, now: u64) {
        self.nodes.push(Node {
            group,
            gone: false,
            down_until: 0,
            liar,
            reputation: Reputation::new(Epoch::new(now)),
            state: NodeState::Sound,
            holds: Vec::new(),
            dropped: 0,
        });
    }

    fn break_things(&mut self, now: u64) {
        let hit: Vec<bool> =
            (0..self.setup.groups).map(|_| self.random.chance(self.setup.group_failures / YEAR)).collect();
        for index in 0..self.nodes.len() {
            let group = self.nodes[index].group;
            if self.nodes[index].gone {
                continue;
            }
            let failed = self.random.chance(self.setup.failures / YEAR);
            if failed || hit.get(group).copied().unwrap_or(false) {
                self.nodes[index].gone = true;
                let held = self.nodes[index].holds.clone();
                for (segment, _) in held {
                    self.check(segment);
                }
                self.join(group, false, now);
            } else if self.random.chance(self.setup.outages / YEAR) {
                self.nodes[index].down_until = now + 12;
            } else if (now + index as u64).is_multiple_of(168) {
                self.nodes[index].down_until = self.nodes[index].down_until.max(now + 1);
            }
        }
    }

    /// Records a segment that cannot be read any more.
    fn check(&mut self, segment: usize) {
        let left = self.segments[segment].iter().filter(|placement| self.truly(placement)).count();
        if left < usize::from(self.setup.data) {
            self.ended.insert(segment);
        }
    }

    fn truly(&self, placement: &Placement) -> bool {
        placement.kept && placement.node.is_some_and(|node| !self.nodes[node].gone)
    }

    fn audit(&mut self, index: usize, now: u64) {
        let before = self.nodes[index].state;
        if before == NodeState::Lost {
            return;
        }
        let node = &self.nodes[index];
        let shards = node.holds.len() as u64;
        let watched = node.reputation.watched();
        let outcome = if node.gone || node.down_until > now {
            AuditOutcome::Offline
        } else if self.random.chance(self.setup.packet_loss) {
            AuditOutcome::Timeout
        } else {
            let size = sample::size(shards, shards * self.setup.shard_len, EPOCH, watched);
            self.outcome.audited += size * sample::cost(self.setup.shard_len);
            AuditOutcome::Answered(self.challenge(index, size as usize))
        };
        let node = &mut self.nodes[index];
        node.reputation.record(Epoch::new(now), outcome, &self.rules);
        node.state = node.reputation.state(&self.rules);
        if node.state != before && node.state >= NodeState::Absent {
            let given_up = node.state == NodeState::Lost;
            self.outcome.wronged += usize::from(given_up && !node.gone && !node.liar);
            let held = node.holds.clone();
            self.lacking.extend(held.iter().map(|(segment, _)| *segment));
            for (segment, shard) in held.into_iter().filter(|_| given_up) {
                self.segments[segment][shard].node = None;
            }
        }
    }

    fn challenge(&mut self, index: usize, size: usize) -> ProofCounts {
        let mut counts = ProofCounts { passed: size as u32, ..ProofCounts::default() };
        if self.nodes[index].dropped == 0 {
            return counts;
        }
        // The first places of a shuffle are a sample.
        for at in 0..size {
            let other = at + self.random.below(self.nodes[index].holds.len() - at);
            self.nodes[index].holds.swap(at, other);
        }
        let asked = self.nodes[index].holds[..size].to_vec();
        for (segment, shard) in asked {
            if !self.segments[segment][shard].kept {
                self.take(index, segment, shard);
                self.lacking.insert(segment);
                self.outcome.caught += 1;
                counts.passed -= 1;
                counts.missing += 1;
            }
        }
        counts
    }

    /// A node no longer counts as holder of a place.
    fn take(&mut self, index: usize, segment: usize, shard: usize) {
        let node = &mut self.nodes[index];
        node.holds.retain(|held| *held != (segment, shard));
        node.dropped -= usize::from(!self.segments[segment][shard].kept && node.dropped > 0);
        self.segments[segment][shard] = Placement { node: None, kept: false };
    }

    fn health(&self, segment: usize) -> RepairPriority {
        let counts = |placement: &&Placement| {
            placement.node.is_some_and(|node| self.nodes[node].state < NodeState::Absent)
        };
        let healthy = self.segments[segment].iter().filter(counts).count();
        RepairPriority::new(self.setup.data, self.setup.total, healthy as u16)
    }

    fn repair(&mut self, now: u64) {
        let mut due: Vec<(RepairPriority, usize)> =
            self.lacking.iter().map(|segment| (self.health(*segment), *segment)).collect();
        due.sort_by(|one, other| repair_priority::compare(one.0, other.0).then(one.1.cmp(&other.1)));
        let mut left = self.setup.repair_limit;
        for (health, segment) in due {
            let cost = u64::from(self.setup.data + health.lacking()) * self.setup.shard_len;
            match health.urgency() {
                Urgency::None => drop(self.lacking.remove(&segment)),
                Urgency::Routine if cost > left => continue,
                Urgency::Routine | Urgency::Urgent if !self.ended.contains(&segment) => {
                    left = left.saturating_sub(cost);
                    self.outcome.repaired += cost;
                    self.fill(segment, now, false);
                }
                _ => {}
            }
        }
    }

    /// Gives every place without a counting holder to a node. The first placement (`young`) has no
    /// proven nodes to prefer.
    fn fill(&mut self, segment: usize, now: u64, young: bool) {
        let (data, total) = (self.setup.data, self.setup.total);
        let per_group = usize::from(((total - data) / 4).max(1));
        for shard in 0..usize::from(total) {
            let holder = self.segments[segment][shard].node;
            if holder.is_some_and(|node| self.nodes[node].state < NodeState::Absent) {
                continue;
            }
            let start = self.random.below(self.nodes.len());
            let count = self.nodes.len();
            let chosen = (0..count).map(|step| (start + step) % count).find(|index| {
                let node = &self.nodes[*index];
                let held = || self.segments[segment].iter().filter_map(|placement| placement.node);
                let unproven = |index: usize| !probation::proven(&self.nodes[index].reputation, EPOCH);
                let tried = young
                    || (node.holds.len() as u64) < probation::most_shards(&node.reputation, EPOCH)
                        && (!unproven(*index)
                            || now < 24 * probation::PROVEN_DAYS
                            || held().filter(|other| unproven(*other)).count()
                                < usize::from(probation::most_of_segment(data, total, count)));
                !node.gone
                    && node.down_until <= now
                    && node.state == NodeState::Sound
                    && held().all(|other| other != *index)
                    && held().filter(|other| self.nodes[*other].group == node.group).count() < per_group
                    && tried
            });
            let Some(chosen) = chosen else { continue };
            if let Some(old) = holder {
                self.take(old, segment, shard);
            }
            let liar = self.nodes[chosen].liar;
            let kept = !(liar && self.random.chance(self.setup.dropped));
            self.segments[segment][shard] = Placement { node: Some(chosen), kept };
            self.nodes[chosen].holds.push((segment, shard));
            self.nodes[chosen].dropped += usize::from(!kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_OF_200: Setup = Setup {
        seed: 1,
        nodes: 200,
        groups: 100,
        segments: 1_000,
        data: 10,
        total: 20,
        shard_len: 1 << 20,
        epochs: 8_760,
        failures: 0.2,
        group_failures: 0.02,
        liars: 20,
        dropped: 0.05,
        packet_loss: 0.02,
        outages: 6.0,
        repair_limit: 2 << 30,
    };

    #[test]
    fn a_year_of_failures_lies_and_absences_loses_no_segment_and_wrongs_no_honest_node() {
        let outcome = run(YEAR_OF_200);
        println!("seed {}: {outcome:?}", YEAR_OF_200.seed);
        assert_eq!((outcome.lost, outcome.wronged), (0, 0));
        assert!(outcome.repaired > 0 && outcome.caught > 0);
    }

    #[test]
    fn without_failures_reboots_outages_and_packet_loss_move_no_byte() {
        let setup = Setup { failures: 0.0, group_failures: 0.0, liars: 0, segments: 200, ..YEAR_OF_200 };
        let outcome = run(setup);
        println!("seed {}: {outcome:?}", setup.seed);
        assert_eq!((outcome.repaired, outcome.wronged, outcome.lost), (0, 0, 0));
    }

    #[test]
    fn a_loss_of_one_percent_is_seen_when_the_odds_say() {
        for size in [300, 60, 30] {
            let epochs = sample::epochs_until_seen(size, 0.01, 0.95).unwrap();
            let caught = (0..1_000u64).filter(|seed| {
                let mut random = Random(*seed);
                (0..epochs).any(|_| {
                    let mut places: Vec<usize> = (0..10_000).collect();
                    (0..size as usize).any(|at| {
                        let other = at + random.below(places.len() - at);
                        places.swap(at, other);
                        places[at] < 100
                    })
                })
            });
            // 950 are expected at least; 20 are three standard deviations.
            let caught = caught.count();
            println!("seeds 0 to 999, sample {size}: {caught} caught within {epochs} epochs");
            assert!(caught >= if size == 300 { 950 } else { 930 });
        }
    }
}
