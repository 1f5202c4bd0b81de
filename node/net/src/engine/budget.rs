//! What one peer may ask for in a minute. Sans-IO: time comes in.
//!
//! A token bucket each for requests and for payload bytes, both ways: a full bucket is a minute's
//! allowance. Answers are charged when they are sent, so a bucket can be in debt.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fincrypt_protocol::NodeId;

/// Peers whose buckets are remembered; a few dozen bytes each.
const MAX_PEERS: usize = 4096;
const MINUTE: Duration = Duration::from_secs(60);

/// What one peer may ask for in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Requests.
    pub requests: u64,
    /// Payload bytes, both ways.
    pub bytes: u64,
}

impl Budget {
    /// More than one client on the same machine can ask for: 2,000 requests and 1.6 GB a second.
    pub const DEFAULT: Self = Self { requests: 120_000, bytes: 100_000_000_000 };
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    requests: f64,
    bytes: f64,
    at: Instant,
}

/// The buckets of all peers.
#[derive(Debug)]
pub(crate) struct Budgets {
    budget: Budget,
    most: usize,
    peers: HashMap<NodeId, Bucket>,
}

impl Budgets {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, most: MAX_PEERS, peers: HashMap::new() }
    }

    fn bucket(&mut self, peer: NodeId, now: Instant) -> &mut Bucket {
        let (requests, bytes) = (self.budget.requests as f64, self.budget.bytes as f64);
        if self.peers.len() >= self.most && !self.peers.contains_key(&peer) {
            // After a minute without requests a bucket is as good as new.
            self.peers.retain(|_, bucket| now.saturating_duration_since(bucket.at) < MINUTE);
            if self.peers.len() >= self.most {
                let oldest = self.peers.iter().min_by_key(|(_, bucket)| bucket.at).map(|(peer, _)| *peer);
                oldest.map(|peer| self.peers.remove(&peer));
            }
        }
        let bucket = self.peers.entry(peer).or_insert(Bucket { requests, bytes, at: now });
        let minutes = now.saturating_duration_since(bucket.at).as_secs_f64() / MINUTE.as_secs_f64();
        bucket.requests = requests.min(bucket.requests + requests * minutes);
        bucket.bytes = bytes.min(bucket.bytes + bytes * minutes);
        bucket.at = now;
        bucket
    }

    /// Takes a request that brings `bytes`, if the peer's budget is not used up.
    pub(crate) fn admit(&mut self, peer: NodeId, bytes: usize, now: Instant) -> bool {
        let bucket = self.bucket(peer, now);
        let admitted = bucket.requests >= 1.0 && bucket.bytes >= bytes as f64;
        if admitted {
            bucket.requests -= 1.0;
            bucket.bytes -= bytes as f64;
        }
        admitted
    }

    /// Charges an answer of `bytes`.
    pub(crate) fn charge(&mut self, peer: NodeId, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.bucket(peer, now).bytes -= bytes as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([1; 32]);
    const SECOND: Duration = Duration::from_secs(1);
    const MIB: usize = 1 << 20;

    fn admitted(budgets: &mut Budgets, requests: usize, bytes: usize, now: Instant) -> usize {
        (0..requests).filter(|_| budgets.admit(PEER, bytes, now)).count()
    }

    #[test]
    fn a_minutes_requests_pass_and_more_come_with_time() {
        let (mut budgets, start) = (Budgets::new(Budget { requests: 60, bytes: 1 << 40 }), Instant::now());
        assert_eq!(admitted(&mut budgets, 100, 0, start), 60);
        assert_eq!(admitted(&mut budgets, 100, 0, start + 5 * SECOND), 5);
        assert_eq!(admitted(&mut budgets, 100, 0, start + 500 * SECOND), 60, "no more than a minute's");
        assert!(budgets.admit(NodeId::from_bytes([2; 32]), 0, start), "another peer's are its own");
    }

    #[test]
    fn bytes_count_both_ways_and_answers_can_bring_debt() {
        let budget = Budget { requests: 1000, bytes: 60 * MIB as u64 };
        let (mut budgets, start) = (Budgets::new(budget), Instant::now());
        assert_eq!(admitted(&mut budgets, 100, MIB, start), 60);
        assert!(budgets.admit(PEER, 0, start), "small requests go on");
        budgets.charge(PEER, 10 * MIB, start);
        assert!(!budgets.admit(PEER, 0, start + 9 * SECOND), "in debt");
        assert!(budgets.admit(PEER, 0, start + 11 * SECOND));
    }

    #[test]
    fn a_backup_at_250_mb_a_second_is_never_throttled_by_default() {
        let (mut budgets, start) = (Budgets::new(Budget::DEFAULT), Instant::now());
        // Four minutes of shards of 1 MiB, each announced and committed fifteen at a time.
        for second in 0..240 {
            let now = start + second * SECOND;
            assert_eq!(admitted(&mut budgets, 250, MIB, now), 250);
            assert_eq!(admitted(&mut budgets, 40, 0, now), 40);
        }
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let mut budgets = Budgets { most: 10, ..Budgets::new(Budget::DEFAULT) };
        let start = Instant::now();
        for id in 0..100 {
            budgets.admit(NodeId::from_bytes([id; 32]), 0, start);
        }
        assert_eq!(budgets.peers.len(), 10);
    }
}
