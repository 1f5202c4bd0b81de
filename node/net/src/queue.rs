//! Whose request is next. Sans-IO.
//!
//! Peers take turns. One peer has at most a quarter of the slots, and never more than are free, so
//! that a newcomer finds one; what waits is bounded in all and for each peer.

use std::collections::{HashMap, VecDeque};

use fincrypt_protocol::NodeId;

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Requests handled at once.
    pub(super) slots: usize,
    /// Of these, at most for one peer.
    pub(super) slots_per_peer: usize,
    /// Requests that wait.
    pub(super) waiting: usize,
    /// Of these, at most of one peer.
    pub(super) waiting_per_peer: usize,
}

/// Requests that wait, and slots that are taken.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    limits: Limits,
    running: HashMap<NodeId, usize>,
    free: usize,
    waiting: HashMap<NodeId, VecDeque<T>>,
    /// Peers with something waiting, in turn.
    turns: VecDeque<NodeId>,
    length: usize,
}

impl<T> FairQueue<T> {
    pub(super) fn new(limits: Limits) -> Self {
        let (running, waiting) = (HashMap::new(), HashMap::new());
        Self { limits, running, free: limits.slots, waiting, turns: VecDeque::new(), length: 0 }
    }

    /// Queues a request. What comes back is refused: the request, or when the queue is full the
    /// newest of the peer that has most waiting.
    pub(super) fn push(&mut self, peer: NodeId, request: T) -> Option<T> {
        let own = self.waiting.get(&peer).map_or(0, VecDeque::len);
        if own >= self.limits.waiting_per_peer {
            return Some(request);
        }
        let mut refused = None;
        if self.length >= self.limits.waiting {
            let greediest = self.waiting.iter().max_by_key(|(_, waiting)| waiting.len());
            match greediest.map(|(peer, waiting)| (*peer, waiting.len())) {
                Some((greediest, most)) if most > own + 1 => {
                    refused = self.take(greediest, VecDeque::pop_back)
                }
                _ => return Some(request),
            }
        }
        if own == 0 {
            self.turns.push_back(peer);
        }
        self.waiting.entry(peer).or_default().push_back(request);
        self.length += 1;
        refused
    }

    fn take(&mut self, peer: NodeId, which: impl FnOnce(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
        let waiting = self.waiting.get_mut(&peer)?;
        let taken = which(waiting)?;
        self.length -= 1;
        if waiting.is_empty() {
            self.waiting.remove(&peer);
            self.turns.retain(|turn| *turn != peer);
        }
        Some(taken)
    }

    /// The next request to be handled; its slot is taken.
    pub(super) fn next(&mut self) -> Option<(NodeId, T)> {
        let may_run = |peer: &NodeId| match self.running.get(peer) {
            None => self.free > 0,
            Some(running) => *running < self.limits.slots_per_peer.min(self.free),
        };
        let at = self.turns.iter().position(may_run)?;
        let peer = self.turns.remove(at)?;
        self.turns.push_back(peer);
        let request = self.take(peer, VecDeque::pop_front)?;
        self.free -= 1;
        *self.running.entry(peer).or_default() += 1;
        Some((peer, request))
    }

    /// Frees a slot of `peer`.
    pub(super) fn done(&mut self, peer: &NodeId) {
        let Some(running) = self.running.get_mut(peer) else { return };
        *running -= 1;
        if *running == 0 {
            self.running.remove(peer);
        }
        self.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { slots: 8, slots_per_peer: 4, waiting: 12, waiting_per_peer: 8 };

    fn peer(id: u8) -> NodeId {
        NodeId::from_bytes([id; 32])
    }

    fn push(queue: &mut FairQueue<u32>, from: u8, requests: std::ops::Range<u32>) -> Vec<u32> {
        requests.filter_map(|request| queue.push(peer(from), request)).collect()
    }

    fn run(queue: &mut FairQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.next()).map(|(_, request)| request).collect()
    }

    #[test]
    fn one_peer_cannot_take_all_slots_nor_the_whole_queue() {
        let mut queue = FairQueue::new(LIMITS);
        assert_eq!(push(&mut queue, 1, 0..20), (8..20).collect::<Vec<_>>(), "refused");
        assert_eq!(run(&mut queue), [0, 1, 2, 3]);
        assert!(push(&mut queue, 2, 100..102).is_empty());
        assert_eq!(run(&mut queue), [100, 101]);
        queue.done(&peer(1));
        assert_eq!(run(&mut queue), Vec::<u32>::new(), "no more than are free");
        queue.done(&peer(1));
        assert_eq!(run(&mut queue), [4]);
    }

    #[test]
    fn peers_take_turns_however_much_each_has_waiting() {
        let mut queue = FairQueue::new(Limits { slots: 1, ..LIMITS });
        push(&mut queue, 1, 0..6);
        push(&mut queue, 2, 100..102);
        let mut order = Vec::new();
        while let Some((from, request)) = queue.next() {
            order.push(request);
            queue.done(&from);
        }
        assert_eq!(order, [0, 100, 1, 101, 2, 3, 4, 5]);
    }

    #[test]
    fn when_the_queue_is_full_the_greediest_makes_room() {
        let mut queue = FairQueue::new(LIMITS);
        assert!(push(&mut queue, 1, 0..8).is_empty() && push(&mut queue, 2, 100..104).is_empty());
        assert_eq!(push(&mut queue, 3, 200..201), [7]);
        assert_eq!(push(&mut queue, 1, 8..9), [8], "its own fault");
        assert_eq!(queue.length, LIMITS.waiting);
    }

    #[test]
    fn many_greedy_peers_leave_a_slot_to_a_newcomer() {
        let mut queue = FairQueue::new(Limits { slots: 64, slots_per_peer: 16, ..LIMITS });
        for greedy in 1..6 {
            push(&mut queue, greedy, 0..8);
            run(&mut queue);
            push(&mut queue, greedy, 0..8);
            run(&mut queue);
            push(&mut queue, greedy, 0..8);
        }
        push(&mut queue, 9, 900..901);
        assert!(run(&mut queue).contains(&900));
    }

    #[test]
    fn nothing_is_left_behind_when_all_is_done() {
        let mut queue = FairQueue::new(LIMITS);
        for round in 0..50_u32 {
            push(&mut queue, (round % 5) as u8, round..round + 3);
            while let Some((from, _)) = queue.next() {
                queue.done(&from);
            }
        }
        assert!(queue.running.is_empty() && queue.waiting.is_empty() && queue.turns.is_empty());
        assert_eq!((queue.free, queue.length), (LIMITS.slots, 0));
    }
}
